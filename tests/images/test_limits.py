from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tip_adapter.errors import ImageError, ImageTooLarge
from tip_adapter.images import decode
from tip_adapter.images.decode import MAX_SCANS, decode_image
from tip_adapter.images.limits import coefficient_bytes, has_more_scans, webp_bytes

NOISE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
SCAN = b"\xff\xda"


def encoded(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(NOISE).convert(mode).save(file, kind, **options)
    return file.getvalue()


def with_scans(n: int) -> bytes:
    """A progressive JPEG whose last scan is there again and again, n scans in all."""
    content = encoded("JPEG", progressive=True)
    has, last = content.count(SCAN), content.rindex(SCAN)
    return content[:last] + content[last:-2] * (n - has + 1) + content[-2:]


def test_fault_14_as_many_scans_as_allowed_are_decoded() -> None:
    assert decode_image(with_scans(MAX_SCANS), name="photo").shape == (48, 64, 3)


@pytest.mark.parametrize("n", [MAX_SCANS + 1, 5_000])
def test_fault_14_more_scans_are_refused_before_they_are_decoded(n: int) -> None:
    with pytest.raises(ImageError, match=r"cannot read photo: more than 100 scans; save it again as a baseline JPEG"):
        decode_image(with_scans(n), name="photo")


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 1}], ids=str)
def test_what_only_looks_like_scans_does_not_count(options: dict[str, Any]) -> None:
    noise = SCAN * 1000
    content = encoded("JPEG", comment=noise, **options) + noise
    assert not has_more_scans(content, MAX_SCANS)
    assert decode_image(content, name="photo").shape == (48, 64, 3)


def test_a_cut_file_has_the_scans_that_are_there() -> None:
    content = with_scans(200)
    assert has_more_scans(content[:-2], 199)
    assert not has_more_scans(content[:-2], 200)


@pytest.mark.parametrize(("subsampling", "per_pixel"), [(0, 6), (1, 4), (2, 3)])
def test_a_progressive_jpeg_is_held_as_coefficients(subsampling: int, per_pixel: int) -> None:
    file = io.BytesIO(encoded("JPEG", progressive=True, subsampling=subsampling))
    assert coefficient_bytes(Image.open(file)) == per_pixel * 64 * 48
    assert coefficient_bytes(Image.open(io.BytesIO(encoded("JPEG")))) == 0


def test_a_progressive_jpeg_with_too_many_coefficients_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "_COEFFICIENT_BYTES", 3 * 64 * 48)
    assert decode_image(encoded("JPEG", progressive=True), name="photo").shape == (48, 64, 3)
    with pytest.raises(ImageTooLarge, match="needs more than 512 MiB to decode; scale it down"):
        decode_image(encoded("JPEG", progressive=True, subsampling=0), name="photo")


@pytest.mark.parametrize(
    ("mode", "options"), [("RGB", {}), ("RGB", {"lossless": True}), ("RGBA", {}), ("RGB", {"exif": b"Exif\0\0"})]
)
def test_a_webp_photo_is_weighed_before_it_is_opened(
    mode: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = encoded("WEBP", mode, **options)
    assert webp_bytes(content) == 18 * 64 * 48
    monkeypatch.setattr(decode, "MAX_MEMORY", 18 * 64 * 48 - 1)
    with pytest.raises(ImageTooLarge, match="scale it down"):
        decode_image(content, name="photo")


@pytest.mark.parametrize("content", [b"", b"RIFF", b"RIFF\0\0\0\0WEBP", b"RIFF\0\0\0\0WEBPjunk", b"\x89PNG"])
def test_what_is_no_webp_photo_weighs_nothing(content: bytes) -> None:
    assert webp_bytes(content) == 0
