"""Huge photos, made smaller while they are converted, so that nothing of their full size is held a second time.

Huge is what has more than 32,000,000 pixels or a side above 32,768. Both sides are divided by 4; a shorter side below
2,048 pixels by 2 or not at all, and then the longer side by what brings the photo to 8,000,000 pixels and 32,768 a side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable

_HUGE_PIXELS = 32_000_000
_LONGEST_SIDE = 32_768
_PIXELS_LEFT = 8_000_000
_SIDE_LEFT = 512  # twice what encoders look at

_BLOCK = 512  # pixels a side of the reduced photo: what is converted at a time


def reduction(size: tuple[int, int]) -> tuple[int, int]:
    """Width and height → the whole numbers they are divided by; (1, 1) for what is not huge."""
    pixels, (shorter, longer) = size[0] * size[1], sorted(size)
    if pixels <= _HUGE_PIXELS and longer <= _LONGEST_SIDE:
        return 1, 1
    of_shorter = next((factor for factor in (4, 2) if shorter >= factor * _SIDE_LEFT), 1)
    of_longer = max(of_shorter, _ceil(pixels, of_shorter * _PIXELS_LEFT), _ceil(longer, _LONGEST_SIDE))
    return (of_shorter, of_longer) if size[0] == shorter else (of_longer, of_shorter)


def reduced(image: Image.Image, factors: tuple[int, int], convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """Convert an image to RGB and replace each `factors[0]` x `factors[1]` pixels by their mean.

    Parameters
    ----------
    image : of any mode, loaded
    factors : as `reduction` gives them
    convert : any part of the image → that part as RGB
    """
    if factors == (1, 1):
        return convert(image)
    across, down = factors
    small = Image.new("RGB", (_ceil(image.width, across), _ceil(image.height, down)))
    for top in range(0, small.height, _BLOCK):
        for left in range(0, small.width, _BLOCK):
            right, bottom = min((left + _BLOCK) * across, image.width), min((top + _BLOCK) * down, image.height)
            block = convert(image.crop((left * across, top * down, right, bottom)))
            small.paste(block.reduce(factors), (left, top))
    return small


def _ceil(whole: int, part: int) -> int:
    return -(-whole // part)
