"""What a photo will cost to decode, read from the bytes of its file: so that it can be refused before it is paid."""

from __future__ import annotations

import re
from typing import Any

_SCAN = b"\xff\xda"
_MARKER = re.compile(rb"\xff+([^\x00\x01\xff\xd0-\xd7])", re.DOTALL)
_END = b"\xd9"

#: Pillow's WebP decoder holds two canvases, a frame, the image and its copy.
_WEBP_BYTES_PER_PIXEL = 18


def has_more_scans(jpeg: bytes, limit: int) -> bool:
    """Whether the first photo of a JPEG has more scans than that: each goes over the whole photo."""
    return jpeg.count(_SCAN) > limit and _count_scans(jpeg, limit + 1) > limit


def _count_scans(jpeg: bytes, enough: int) -> int:
    """What looks like a scan in the metadata, or follows the photo, does not count."""
    scans, position = 0, 2
    while scans < enough and (marker := _MARKER.search(jpeg, position)) and marker[1] != _END:
        scans += marker[1] == _SCAN[1:]
        position = marker.end() + int.from_bytes(jpeg[marker.end() : marker.end() + 2])
    return scans


def coefficient_bytes(header: Any) -> int:
    """What libjpeg holds until the last scan of a progressive JPEG; 0 for the others.

    Parameters
    ----------
    header : Pillow's JpegImageFile, not loaded yet
    """
    if not header.info.get("progressive"):
        return 0
    samples = [horizontal * vertical for _, horizontal, vertical, _ in header.layer]
    return 2 * int(header.width) * int(header.height) * sum(samples) // max(1, *samples)


def webp_bytes(content: bytes) -> int:
    """What Pillow holds while it decodes a WebP photo; 0 where its size cannot be told, or for any other format."""
    if content[:4] != b"RIFF" or content[8:12] != b"WEBP":
        return 0
    width, height = _WEBP_SIZES.get(content[12:16], lambda _: (0, 0))(content)
    return width * height * _WEBP_BYTES_PER_PIXEL


def _size_of_lossy(content: bytes) -> tuple[int, int]:
    return _number(content[26:28]) & 0x3FFF, _number(content[28:30]) & 0x3FFF


def _size_of_lossless(content: bytes) -> tuple[int, int]:
    bits = _number(content[21:25])
    return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)


def _size_of_extended(content: bytes) -> tuple[int, int]:
    return 1 + _number(content[24:27]), 1 + _number(content[27:30])


_WEBP_SIZES = {b"VP8 ": _size_of_lossy, b"VP8L": _size_of_lossless, b"VP8X": _size_of_extended}


def _number(content: bytes) -> int:
    return int.from_bytes(content, "little")
