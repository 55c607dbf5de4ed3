from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tip_adapter.images import limits
from tip_adapter.images.decode import MAX_PIXELS, open_image
from tip_adapter.images.limits import reduced, reduction

RNG = np.random.default_rng(0)


def as_it_is(part: Image.Image) -> Image.Image:
    return part


@pytest.mark.parametrize("size", [(1, 1), (4000, 3000), (8000, 4000), (1, 32_768), (32_768, 900)])
def test_what_is_not_huge_is_not_reduced(size: tuple[int, int]) -> None:
    assert reduction(size) == (1, 1)


@pytest.mark.parametrize(
    ("size", "factors"),
    [
        ((8000, 4001), (4, 4)),
        ((9459, 9459), (4, 4)),
        ((2048, 43_690), (4, 4)),
        ((2047, 40_000), (2, 6)),
        ((1023, 80_000), (1, 11)),
        ((1, 32_769), (1, 2)),
        ((1, MAX_PIXELS), (1, 2731)),
    ],
)
def test_a_huge_photo_is_divided_by_whole_numbers(size: tuple[int, int], factors: tuple[int, int]) -> None:
    assert reduction(size) == factors
    assert reduction(size[::-1]) == factors[::-1]


def test_what_is_left_of_a_huge_photo_is_bounded() -> None:
    for width in np.unique(np.geomspace(1, MAX_PIXELS, 2000).astype(int)).tolist():
        size = (width, MAX_PIXELS // width)
        left = [-(-side // factor) for side, factor in zip(size, reduction(size), strict=True)]
        assert left[0] * left[1] <= 8_100_000, f"{size} leaves {left}"
        assert max(left) <= 32_768, f"{size} leaves {left}"
        assert min(left) >= min(*size, 512), f"{size} leaves {left}"


@pytest.mark.parametrize("factors", [(4, 4), (1, 3), (5, 2), (100, 1)])
def test_each_pixel_is_the_mean_of_those_it_stands_for(
    factors: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "_BLOCK", 7)
    photo = Image.fromarray(RNG.integers(0, 256, (90, 131, 3), dtype=np.uint8))
    np.testing.assert_array_equal(reduced(photo, factors, as_it_is), photo.reduce(factors))


@pytest.mark.parametrize("size", [(1, 3_000_000), (3_000_000, 1), (2000, 1500)])
def test_only_small_parts_are_converted_at_a_time(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_HUGE_PIXELS", 1_000_000)
    monkeypatch.setattr(limits, "_BLOCK", 64)
    parts: list[int] = []

    def convert(part: Image.Image) -> Image.Image:
        parts.append(part.width * part.height)
        return part.convert("RGB")

    photo = Image.new("L", size, 7)
    small = reduced(photo, reduction(size), convert)
    assert small.getextrema() == ((7, 7),) * 3
    assert sum(parts) == size[0] * size[1]
    assert max(parts) <= size[0] * size[1] // 20


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("1", 1, (255, 255, 255)),
        ("P", 0, (0, 0, 0)),
        ("LA", (0, 0), (255, 255, 255)),
        ("RGBA", (255, 0, 0, 51), (255, 204, 204)),
        ("CMYK", (0, 255, 255, 0), (255, 0, 0)),
        ("I;16", 0x1234, (0x12, 0x12, 0x12)),
    ],
)
def test_a_huge_photo_of_any_kind_keeps_its_colour(
    mode: str, colour: object, expected: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "_HUGE_PIXELS", 1)
    monkeypatch.setattr(limits, "_SIDE_LEFT", 1)
    photo = open_image(Image.new(mode, (40, 20), colour))
    assert photo.size == (10, 5)
    np.testing.assert_allclose(photo.getpixel((3, 3)), expected, atol=1)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(MAX_PIXELS, 1), (1, MAX_PIXELS)])
def test_fault_07_a_strip_in_memory_is_reduced_too(shape: tuple[int, int]) -> None:
    assert max(open_image(np.full(shape, 9, np.uint8)).size) <= 32_768
