"""Makes the picture of the page, docs/pictures/page.webp: `TIP_ADAPTER_DATA=… python docs/screenshot.py`.

It starts the service, adds three classes of Caltech101 in Chromium as a person does, and asks about a photo of one of them.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

CHROMIUM = "/usr/bin/chromium"
PICTURE = Path(__file__).parent / "pictures" / "page.webp"
CLASSES = {"pagoda": 8, "sunflower": 8, "butterfly": 8}
ASKED = ("pagoda", 20)


def main() -> None:
    """Write the picture."""
    photos = Path(os.environ["TIP_ADAPTER_DATA"]) / "caltech-101" / "101_ObjectCategories"
    with tempfile.TemporaryDirectory() as data:
        command = [sys.executable, "-m", "tip_adapter", "serve", "--port", "0", "--data", data]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as service:
            assert service.stderr is not None
            try:
                url = next(found[0] for line in service.stderr if (found := re.search(r"http://[\d.:]+", line)))
                Image.open(io.BytesIO(picture(url, photos))).save(PICTURE, quality=82, method=6)
            finally:
                service.terminate()


def picture(url: str, photos: Path) -> bytes:
    """A PNG of the page after it was used."""

    def files(label: str, first: int, n: int) -> list[Path]:
        return sorted((photos / label).glob("*.jpg"))[first : first + n]

    with sync_playwright() as program:
        browser = program.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900}, device_scale_factor=1.5)
        page.goto(url)
        for label, n in CLASSES.items():
            add(page, label, files(label, 0, n))
        page.locator(".answer input[type=file]").set_input_files(files(*ASKED, 1))
        page.locator(".legend").wait_for()  # the threshold is chosen in the background
        page.locator(".bars").first.evaluate(
            "bars => Promise.all(bars.getAnimations({subtree: true}).map(a => a.finished))"
        )
        page.locator("body").evaluate("() => document.activeElement.blur()")
        return page.screenshot()


def add(page: Any, label: str, photos: list[Path]) -> None:
    """A class, and its photos."""
    page.fill("#new-label", label)
    page.press("#new-label", "Enter")
    page.locator(f"article[aria-label='{label}'] input[type=file]").set_input_files(photos)
    page.locator(f"article[aria-label='{label}'] .photo").nth(len(photos) - 1).wait_for()


if __name__ == "__main__":
    main()
