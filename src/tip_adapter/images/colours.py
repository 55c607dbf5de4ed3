"""Pixels of any kind as 8-bit RGB: deep gray keeps its upper 8 bits, what is transparent is white."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

_PHOTOMETRIC = 0x0106
_GRAY_STEPS = {"L;2": 85, "L;4": 17}  # Pillow spreads these values over 0 to 255, but not the transparent one


@dataclass(frozen=True)
class Stored:
    """What a file's header says of its values and Pillow's pixels do not.

    Parameters
    ----------
    raw_mode : Pillow's name for their layout; empty where it is not known
    deep : whether they are gray of more than 8 bits
    white_is_zero : whether a TIFF's gray runs from white to black
    """

    raw_mode: str
    deep: bool
    white_is_zero: bool

    @classmethod
    def of(cls, image: Any) -> Stored:
        """Read it from an image that is not loaded yet: loading forgets."""
        layout = image.tile[0][3] if getattr(image, "tile", None) else ""
        raw_mode = str(layout[0] if isinstance(layout, tuple) else layout)
        deep = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")
        return cls(raw_mode, deep, getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0)


def to_rgb(image: Image.Image, stored: Stored) -> Image.Image:
    """A loaded image, or a part of it, as RGB.

    Raises
    ------
    ValueError
        Its values have no defined colour; the message goes after the photo's name.
    """
    if stored.deep:
        return _deep_gray(image, stored).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError("32-bit values have no defined brightness; convert it to 8 or 16 bits")
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    if stored.raw_mode in _GRAY_STEPS:
        return _shallow_gray(image, _GRAY_STEPS[stored.raw_mode]).convert("RGB")
    if stored.raw_mode.startswith("RGB;16"):
        raise ValueError("of its 16-bit colours one is transparent, which is not supported; convert it to 8 bits")
    return _on_white(image)


def _deep_gray(image: Image.Image, stored: Stored) -> Image.Image:
    values = np.asarray(image)
    shown = (values >> (4 if stored.raw_mode == "I;12" else 8)).astype(np.uint8)
    if stored.white_is_zero:
        shown = 255 - shown
    if "transparency" in image.info:
        shown[values == image.info["transparency"]] = 255
    return Image.fromarray(shown)


def _shallow_gray(image: Image.Image, step: int) -> Image.Image:
    """2 or 4 bits of gray, one value transparent."""
    return image.point([255 if value == step * image.info["transparency"] else value for value in range(256)])


def _on_white(image: Image.Image) -> Image.Image:
    rgba = image if image.mode == "RGBA" else image.convert("RGBA")
    on_white = Image.new("RGB", rgba.size, "white")
    on_white.paste(rgba, mask=rgba.getchannel("A"))
    return on_white
