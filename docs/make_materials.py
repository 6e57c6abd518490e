"""Draw the materials of the texture bank, with their names: ``python docs/make_materials.py``."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw

from gifthorse.data.textures import TEXTURES, texture

SIDE, LINE, COLUMNS = 80, 12, 9


def main() -> None:
    """Write ``docs/materials.png``."""
    names = sorted(TEXTURES)
    rows = -(-len(names) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * SIDE, rows * (SIDE + LINE)), "white")
    draw = ImageDraw.Draw(sheet)
    for i, name in enumerate(names):
        x, y = i % COLUMNS * SIDE, i // COLUMNS * (SIDE + LINE)
        draw.text((x, y), name, fill="black")
        sheet.paste(Image.fromarray(texture(name, 192, 1)[: SIDE - 2, : SIDE - 2]), (x, y + LINE))
    sheet.quantize(96).save(Path(__file__).with_name("materials.png"), optimize=True)


if __name__ == "__main__":
    main()
