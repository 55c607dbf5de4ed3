"""Makes the picture of the page, docs/pictures/page.webp: `python docs/screenshot.py`.

It draws pictures of three kinds of objects, starts the service, adds the pictures in Chromium as a person does, and asks about
another one.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from playwright.sync_api import FilePayload

CHROMIUM = "/usr/bin/chromium"
PICTURE = Path(__file__).parent / "pictures" / "page.webp"
N_PHOTOS, ASKED = 8, ("mug", 20)
SIZE = 480


def main() -> None:
    """Write the picture."""
    with tempfile.TemporaryDirectory() as data:
        command = [sys.executable, "-m", "tip_adapter", "serve", "--port", "0", "--data", data]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as service:
            assert service.stderr is not None
            try:
                url = next(found[0] for line in service.stderr if (found := re.search(r"http://[\d.:]+", line)))
                Image.open(io.BytesIO(picture(url))).save(PICTURE, quality=82, method=6)
            finally:
                service.terminate()


def picture(url: str) -> bytes:
    """A PNG of the page after it was used."""
    with sync_playwright() as program:
        browser = program.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900}, device_scale_factor=1.5)
        page.goto(url)
        for label in DRAWN:
            add(page, label, [drawing(label, number) for number in range(N_PHOTOS)])
        page.locator(".answer input[type=file]").set_input_files([drawing(*ASKED)])
        page.locator(".legend").wait_for()  # the threshold is chosen in the background
        page.locator(".bars").first.evaluate(
            "bars => Promise.all(bars.getAnimations({subtree: true}).map(a => a.finished))"
        )
        page.locator("body").evaluate("() => document.activeElement.blur()")
        return page.screenshot()


def add(page: Any, label: str, photos: list[FilePayload]) -> None:
    """A class, and its photos."""
    page.fill("#new-label", label)
    page.press("#new-label", "Enter")
    page.locator(f"article[aria-label='{label}'] input[type=file]").set_input_files(photos)
    page.locator(f"article[aria-label='{label}'] .photo").nth(len(photos) - 1).wait_for()


# ---- drawings --------------------------------------------------------------------------------------------------------


def drawing(label: str, number: int) -> FilePayload:
    """An object in front of a wall, with a colour, size, angle and light of its own, as Playwright takes a file."""
    rng = np.random.default_rng([list(DRAWN).index(label), number])
    wall, floor = (rng.integers(*bounds, size=3) for bounds in ((165, 245), (90, 170)))
    slope = np.linspace(1.05, 0.75, SIZE)[:, None, None]
    room = np.where(np.arange(SIZE)[:, None, None] < rng.integers(300, 400), wall, floor) * slope
    light = 1.1 - 0.4 * np.linspace(0, 1, SIZE)[None, :, None] ** rng.uniform(0.7, 2)
    scene = Image.fromarray((room * light + rng.normal(0, 3, (SIZE, SIZE, 3))).clip(0, 255).astype(np.uint8))
    layer = Image.new("RGBA", (SIZE, SIZE))
    DRAWN[label](ImageDraw.Draw(layer), rng)
    side = int(SIZE * rng.uniform(0.75, 1.05))
    layer = layer.rotate(rng.uniform(-18, 18), Image.Resampling.BICUBIC).resize((side, side), Image.Resampling.LANCZOS)
    left, top = (int(value) for value in (SIZE - side) / 2 + rng.uniform(-40, 40, 2))
    shadow = Image.new("RGBA", layer.size, (20, 20, 30, 255))
    shadow.putalpha(layer.getchannel("A").filter(ImageFilter.GaussianBlur(14)).point(lambda alpha: alpha * 0.45))
    scene.paste(shadow, (left + 18, top + 22), shadow)
    scene.paste(layer, (left, top), layer)
    file = io.BytesIO()
    scene.filter(ImageFilter.GaussianBlur(0.8)).save(file, "PNG")
    return {"name": f"{label}-{number}.png", "mimeType": "image/png", "buffer": file.getvalue()}


def colour(rng: np.random.Generator, low: tuple[int, int, int], high: tuple[int, int, int]) -> tuple[int, int, int]:
    """A random colour between two."""
    red, green, blue = rng.integers(low, high)
    return int(red), int(green), int(blue)


def mug(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    """A cup with a handle and a band."""
    body, band = colour(rng, (40, 40, 40), (240, 240, 240)), colour(rng, (40, 40, 40), (240, 240, 240))
    draw.ellipse((285, 190, 395, 330), outline=body, width=26)
    draw.rounded_rectangle((135, 145, 320, 375), 28, fill=body)
    draw.rectangle((135, 225, 320, 275), fill=band)
    draw.ellipse((135, 122, 320, 172), fill=tuple(int(0.8 * value) for value in body))
    draw.ellipse((152, 130, 303, 166), fill=(66, 40, 24))


def leaf(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    """A pointed leaf with veins."""
    green = colour(rng, (40, 110, 20), (150, 190, 70))
    t = np.linspace(0, np.pi, 60)
    width = 95 * np.sin(t) ** 1.3
    y = 80 + 290 * t / np.pi
    outline = [*zip(240 + width, y, strict=True), *reversed([*zip(240 - width, y, strict=True)])]
    draw.polygon([(float(a), float(b)) for a, b in outline], fill=green)
    vein = tuple(int(0.65 * value) for value in green)
    draw.line((240, 80, 240, 425), fill=vein, width=7)
    for start in range(140, 340, 38):
        reach = 80 * np.sin(np.pi * (start - 80) / 290) ** 1.3
        draw.line((240, start + 26, 240 + reach, start - 8), fill=vein, width=4)
        draw.line((240, start + 26, 240 - reach, start - 8), fill=vein, width=4)


def key(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    """A key with a ring and two teeth."""
    metal = colour(rng, (130, 110, 60), (225, 205, 170))
    draw.ellipse((165, 65, 315, 215), outline=metal, width=34)
    draw.rectangle((226, 205, 254, 420), fill=metal)
    draw.rectangle((254, 330, 310, 354), fill=metal)
    draw.rectangle((254, 380, 325, 406), fill=metal)


#: Label → what draws it.
DRAWN = {"mug": mug, "leaf": leaf, "key": key}


if __name__ == "__main__":
    main()
