"""The README's picture: the board of a report folder, photographed at double resolution.

Usage: ``python docs/make_picture.py REPORT_FOLDER [PNG]``; needs playwright and /usr/bin/chromium.
"""

import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

CHROMIUM = "/usr/bin/chromium"


def take(report: Path, picture: Path) -> None:
    """Photograph the section ``#board`` of a report, 1180 pixels wide."""
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1180, "height": 900}, device_scale_factor=2, color_scheme="light")
        page.goto((report / "index.html").resolve().as_uri())
        page.locator("#board").screenshot(path=str(picture))
        browser.close()
    with Image.open(picture) as shown:  # few colours: a palette takes a third of the bytes
        small = shown.convert("RGB").quantize(256)
    small.save(picture, optimize=True)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(f"usage: {sys.argv[0]} REPORT_FOLDER [PNG]")
    default = Path(__file__).with_name("board.png")
    take(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) == 3 else default)
