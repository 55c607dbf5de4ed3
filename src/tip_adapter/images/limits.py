"""Limit what an image costs: decoding cost read from the header, and huge images reduced.

An image is huge above 32,000,000 pixels or with a side above 32,768. Both sides are divided by 4; a shorter side below
2,048 pixels by 2 or not at all, and then the longer side by what brings the image to 8,000,000 pixels and 32,768 a side.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable

_SCAN = b"\xff\xda"
_MARKER = re.compile(rb"\xff+([^\x00\x01\xff\xd0-\xd7])", re.DOTALL)
_END = b"\xd9"

#: Pillow's WebP decoder allocates two canvases, a frame, the image and its copy.
_WEBP_BYTES_PER_PIXEL = 18

_HUGE_PIXELS = 32_000_000
_LONGEST_SIDE = 32_768
_PIXELS_LEFT = 8_000_000
_SIDE_LEFT = 512  # twice the input size of most encoders
_BLOCK = 512  # side, in reduced pixels, of the part that is converted at once


def has_more_scans(jpeg: bytes, limit: int) -> bool:
    """Whether the first image of a JPEG file has more than `limit` scans; decoding each goes over the whole image."""
    if jpeg.count(_SCAN) <= limit:
        return False
    scans, position = 0, 2  # markers are followed, because metadata and trailing bytes may contain the scan marker
    while scans <= limit and (marker := _MARKER.search(jpeg, position)) and marker[1] != _END:
        scans += marker[1] == _SCAN[1:]
        position = marker.end() + int.from_bytes(jpeg[marker.end() : marker.end() + 2])
    return scans > limit


def coefficient_bytes(header: Any) -> int:
    """Memory that libjpeg needs until the last scan of a progressive JPEG; 0 for other JPEGs.

    Parameters
    ----------
    header : Pillow's JpegImageFile, not loaded yet
    """
    if not header.info.get("progressive"):
        return 0
    samples = [horizontal * vertical for _, horizontal, vertical, _ in header.layer]
    return 2 * int(header.width) * int(header.height) * sum(samples) // max(1, *samples)


def webp_bytes(content: bytes) -> int:
    """Memory that Pillow needs to decode a WebP image; 0 if its size is unknown, and for any other format."""
    if content[:4] != b"RIFF" or content[8:12] != b"WEBP":
        return 0

    def number(start: int, end: int) -> int:
        return int.from_bytes(content[start:end], "little")

    match content[12:16]:
        case b"VP8 ":
            width, height = number(26, 28) & 0x3FFF, number(28, 30) & 0x3FFF
        case b"VP8L":
            width, height = 1 + (number(21, 25) & 0x3FFF), 1 + (number(21, 25) >> 14 & 0x3FFF)
        case b"VP8X":
            width, height = 1 + number(24, 27), 1 + number(27, 30)
        case _:
            return 0
    return width * height * _WEBP_BYTES_PER_PIXEL


def reduction(size: tuple[int, int]) -> tuple[int, int]:
    """Width and height → the whole numbers to divide them by; (1, 1) unless the image is huge."""
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
    convert : a part of the image → that part as RGB
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
