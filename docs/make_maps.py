"""The picture of docs/attribution.md: every method's map of a patch and of a natural-feature trojan, beside the mask.

Usage: ``python docs/make_maps.py [PNG] [--suite emoji] [--seed 0] [--set KEY=VALUE ...] [--trojans smiley doughnut]``,
with GIFTHORSE_HOME at a home where ``gifthorse plant`` has finished that suite. Nothing is chosen by hand: it is the
first triggered picture of each trojan. Red speaks for the target, blue against it; each map has a scale of its own,
cut at the 99.5th percentile of its sizes.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gifthorse import registry
from gifthorse.bench.changes import Changes
from gifthorse.bench.executors import prepare_process
from gifthorse.bench.plan import Cell, make_plan
from gifthorse.bench.stages import key_of, load_answers, subject_of
from gifthorse.bench.suite import load_suite
from gifthorse.errors import ToolError
from gifthorse.rng import child_seed
from gifthorse.store import Store, default_home
from gifthorse.types import Need

COLUMNS, SCALE, GAP, LABEL = 10, 2, 6, 16
PICTURES = 8  # explained together, for methods that swap parts of pictures
BLIND = ("edge",)
NEEDS = frozenset({Need.TRIGGERED, Need.CLEAN, Need.GRADIENTS})
Array = np.ndarray[Any, Any]


def methods() -> list[str]:
    """The edge detector, and every attribution method in the order of the catalogue."""
    named = registry.names("tool")
    found = [n for n in named if registry.load("tool", n).family == "attribution"]
    return [*BLIND, *found]


def colours(found: Array) -> Array:
    """A map ``(h, w)`` in red and blue on white, ``(h, w, 3)`` uint8."""
    top = np.percentile(np.abs(found), 99.5) or np.abs(found).max() or 1.0
    share = np.clip(found / top, -1, 1)[..., None]
    red, blue = np.array([178, 24, 43]), np.array([33, 102, 172])
    ink = np.where(share > 0, red, blue)
    return np.asarray(255 + np.abs(share) * (ink - 255), np.uint8)


def sheet(rows: list[list[Array]], labels: list[str]) -> Image.Image:
    """Rows of pictures in bands of `COLUMNS`, a label over each column of a band."""
    side = rows[0][0].shape[0] * SCALE
    bands = [range(i, min(i + COLUMNS, len(labels))) for i in range(0, len(labels), COLUMNS)]
    tall = LABEL + len(rows) * (side + GAP)
    out = Image.new("RGB", (COLUMNS * (side + GAP) + GAP, len(bands) * (tall + GAP)), "white")
    draw, font = ImageDraw.Draw(out), ImageFont.load_default(11)
    for band, columns in enumerate(bands):
        for x, column in enumerate(columns):
            left, top = GAP + x * (side + GAP), band * (tall + GAP)
            draw.text((left, top + 1), labels[column], "black", font)
            for y, row in enumerate(rows):
                picture = Image.fromarray(row[column]).resize((side, side), Image.Resampling.NEAREST)
                draw.rectangle((left - 1, top + LABEL + y * (side + GAP) - 1,
                                left + side, top + LABEL + y * (side + GAP) + side), outline="#999999")  # fmt: skip
                out.paste(picture, (left, top + LABEL + y * (side + GAP)))
    return out


def shown(subject: Any, masks: Any, names: list[str], seed: int) -> tuple[list[list[Array]], list[str]]:
    """For each task its picture, mask and maps; and the columns' labels. Methods that refuse are left out, told."""
    rows = [[subject.triggered[t.id][0]] for t in subject.tasks]
    for row, task in zip(rows, subject.tasks, strict=True):
        row.append(np.repeat(masks[task.id][0][..., None], 3, 2).astype(np.uint8) * 255)
    labels = ["picture", "true mask"]
    for name in names:
        try:
            found = registry.build("tool", name).run(subject, 1, child_seed(seed, "tool", name))
        except ToolError as refusal:
            sys.stderr.write(f"left out: {refusal}\n")
            continue
        for row, evidence in zip(rows, found, strict=True):
            row.append(colours(evidence.heatmaps[0]))
        labels.append(name)
    return rows, labels


def main() -> None:
    """Make the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("png", nargs="?", type=Path, default=Path(__file__).with_name("attribution.png"))
    parser.add_argument("--suite", default="emoji")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--trojans", nargs="+", default=["smiley", "doughnut"])
    asked = parser.parse_args()
    prepare_process()
    store = Store(default_home())
    (line,) = make_plan(load_suite(asked.suite, seeds=(asked.seed,), changes=Changes(tuple(asked.set)))).lineages
    names = {trojan.name: task for task, trojan in key_of(store, line.trojaned.digest).trojans.items()}
    spec = {"data": line.exhibits.spec["data"], "subject": "suspect"}
    inputs = {"trojaned": line.trojaned.digest, "twin": line.twin.digest, "exhibits": line.exhibits.digest}
    whole = subject_of(Cell("run", "maps", asked.seed, spec, inputs), store, NEEDS)
    subject = dataclasses.replace(
        whole,
        tasks=tuple(t for n in asked.trojans for t in whole.tasks if t.id == names[n]),
        triggered={task: pictures[:PICTURES] for task, pictures in whole.triggered.items()},
    )
    rows, labels = shown(subject, load_answers(store, line.exhibits.digest)[1], methods(), asked.seed)
    sheet(rows, labels).quantize(128).save(asked.png, optimize=True)
    sys.stdout.write(f"{asked.png}: {asked.png.stat().st_size} bytes, {len(labels)} columns\n")


if __name__ == "__main__":
    main()
