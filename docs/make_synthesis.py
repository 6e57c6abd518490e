"""The picture of docs/synthesis.md: what each synthesis tool shows for a few trojans of each kind.

Usage: ``python docs/make_synthesis.py HOME [PNG]``. HOME is a finished home of the emoji suite, seed 0, in which the
tools ran with their defaults and ten pictures. The first row is the oracle's: the triggers themselves. Per trojan stand
the two pictures that the tool itself puts first; tools that are not in HOME are named on the terminal and left out.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gifthorse.bench.changes import Changes
from gifthorse.bench.plan import make_plan
from gifthorse.bench.stages import load_evidence
from gifthorse.bench.suite import load_suite
from gifthorse.keys import open_key
from gifthorse.store import Store

TOOLS = (
    "oracle", "feature-vis", "feature-vis-inner", "cppn", "cppn-inner", "prototypes", "adv-patch", "tabor",
    "neural-cleanse", "feature-re", "rfla-perturb", "rfla-gen", "rfla-gen2", "feud", "distil", "style-vis",
    "style-search", "style-exemplars", "snafue", "exemplars",
)  # fmt: skip
TROJANS = {"patch": 2, "style": 2, "natural": 2}
EACH, SIDE, GAP, LABEL, HEAD = 2, 56, 4, 118, 30


def framed(picture: np.ndarray, alpha: np.ndarray | None) -> Image.Image:
    """One picture; what is not pasted shows as white."""
    shown = picture.astype(float)
    if alpha is not None:
        opacity = alpha[..., None] / 255
        shown = shown * opacity + 255 * (1 - opacity)
    return Image.fromarray(shown.round().astype(np.uint8)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def main(home: Path, png: Path) -> None:
    """Draw the sheet."""
    sets = f"tools=[{', '.join(repr(t) for t in TOOLS)}]".replace("'", '"')
    line = make_plan(load_suite("emoji", seeds=(0,), changes=Changes(sets=("pictures=10", sets)))).lineages[0]
    store = Store(home)
    trojans = open_key(home, line.trojaned.digest).trojans
    chosen = [
        (task, trojan)
        for kind, n in TROJANS.items()
        for task, trojan in [(k, t) for k, t in trojans.items() if t.kind == kind][:n]
    ]
    rows = {}
    for tool in TOOLS:
        digest = line.runs[tool, "suspect"].digest
        if store.get("evidence", digest) is None:
            sys.stderr.write(f"{tool}: not in {home}, left out\n")
            continue
        rows[tool] = {e.task: e for e in load_evidence(store, digest)[0]}
    wide, high = EACH * (SIDE + GAP) + 2 * GAP, SIDE + GAP
    sheet = Image.new("RGB", (LABEL + len(chosen) * wide, HEAD + len(rows) * high), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for i, (_, trojan) in enumerate(chosen):
        pen.text((LABEL + i * wide, 0), f"{trojan.concept}\n({trojan.kind})", fill="black", font=font, spacing=1)
    for j, (tool, shown) in enumerate(rows.items()):
        y = HEAD + j * high
        pen.text((0, y + SIDE // 2 - 8), tool, fill="black", font=font)
        for i, (task, _) in enumerate(chosen):
            evidence = shown[task]
            for k in range(min(EACH, len(evidence.images))):
                alpha = None if evidence.alphas is None else evidence.alphas[k]
                sheet.paste(framed(evidence.images[k], alpha), (LABEL + i * wide + k * (SIDE + GAP), y))
    sheet.quantize(256).save(png, optimize=True)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(f"usage: {sys.argv[0]} HOME [PNG]")
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) == 3 else Path(__file__).with_name("synthesis.png"))
