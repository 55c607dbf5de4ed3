from __future__ import annotations

import hashlib

import numpy as np
import pytest
from PIL import Image

from tip_adapter.images.augment import NO_AUGMENTATION, Augmentation, _draw_box

DIGEST = hashlib.sha256(b"a photo").hexdigest()


def gradient(width: int, height: int) -> Image.Image:
    """Red grows to the right, green downwards: a view tells what part of the photo it shows."""
    across, down = np.linspace(0, 255, width), np.linspace(0, 255, height)
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = across, down[:, None]
    return Image.fromarray(pixels)


def views_of(image: Image.Image, number: int = 4, seed: int = 0, digest: str = DIGEST) -> list[np.ndarray]:
    return [np.asarray(view) for view in Augmentation(number, seed).of(image, digest)]


def same(some: list[np.ndarray], others: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(some, others, strict=True))


def test_the_same_content_has_the_same_views_and_other_content_or_another_seed_has_others() -> None:
    photo = gradient(120, 90)
    assert same(views_of(photo), views_of(photo))
    assert not same(views_of(photo), views_of(photo, seed=1))
    assert not same(views_of(photo), views_of(photo, digest=hashlib.sha256(b"another").hexdigest()))


def test_more_views_begin_with_the_same_ones() -> None:
    assert same(views_of(gradient(60, 60), 2), views_of(gradient(60, 60), 5)[:2])


def test_no_views_are_none() -> None:
    assert list(NO_AUGMENTATION.of(gradient(9, 9), DIGEST)) == []


def test_parts_are_half_to_all_of_the_photo_and_three_to_four_at_most() -> None:
    rng = np.random.default_rng(0)
    boxes = np.array([_draw_box(400, 300, rng) for _ in range(2000)])
    widths, heights = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    shares, aspects = widths * heights / (400 * 300), widths / heights
    assert (boxes >= 0).all()
    assert (boxes[:, 2] <= 400).all()
    assert (boxes[:, 3] <= 300).all()
    assert 0.49 < shares.min() < 0.52
    assert 0.9 < shares.max() <= 1
    assert 0.74 < aspects.min() < 0.8
    assert 1.25 < aspects.max() < 1.35


@pytest.mark.parametrize(("size", "shown"), [((10, 1000), (10, 13)), ((1000, 10), (13, 10)), ((1, 1), (1, 1))])
def test_a_photo_too_narrow_for_any_part_shows_its_middle(size: tuple[int, int], shown: tuple[int, int]) -> None:
    left, top, right, bottom = _draw_box(*size, np.random.default_rng(0))
    assert (right - left, bottom - top) == shown
    assert abs((left + right) - size[0]) <= 1
    assert abs((top + bottom) - size[1]) <= 1


def test_a_view_is_a_square_of_about_as_many_pixels_as_its_part_and_of_bounded_size() -> None:
    sides = {view.shape[:2] for view in views_of(gradient(200, 100), 8)}
    assert all(w == h and 100 <= w <= 142 for w, h in sides)
    assert {view.shape for view in views_of(gradient(3000, 2500), 2)} == {(768, 768, 3)}


def test_half_of_the_views_are_mirrored() -> None:
    mirrored = [bool(view[0, 0, 0] > view[0, -1, 0]) for view in views_of(gradient(80, 80), 400)]
    assert 160 < sum(mirrored) < 240
