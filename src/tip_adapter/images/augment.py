"""Augmented views of a photo: a random part of it, squeezed to a square, every other one mirrored; seeded by its content.

The literature crops to the 224 pixels that its networks take. Here a view is the same part, squeezed to a square of about
as many pixels as it has, and the encoder's own preprocessing brings that to the size it takes: nothing of a square is cut
off, and networks of 288 pixels lose nothing. What differs is that pixels are resampled twice, not once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterator

#: left, top, right, bottom.
Box: TypeAlias = "tuple[int, int, int, int]"

#: Share of the photo's pixels that a view shows, and its width by its height.
_SHARE = (0.5, 1.0)
_ASPECT = (3 / 4, 4 / 3)
#: Parts are drawn so often at most; a photo that is too narrow for them shows its middle.
_DRAWS = 10
# No encoder takes more; beyond, a view would cost memory for nothing.
_MOST_PIXELS = 768


@dataclass(frozen=True)
class Augmentation:
    """So many views of each photo.

    Parameters
    ----------
    number : int; 0 for none: the photo itself
    seed : int
    """

    number: int = 0
    seed: int = 0

    def of(self, image: Image.Image, digest: str) -> Iterator[Image.Image]:
        """The views of an upright RGB photo.

        Parameters
        ----------
        image : PIL image
        digest : SHA-256 of its content: the same photo has the same views, whatever it is called and wherever it lies
        """
        rng = np.random.default_rng([self.seed, int(digest, 16)])
        for _ in range(self.number):
            view = _squeezed(image, _draw_box(*image.size, rng))
            yield view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else view


NO_AUGMENTATION = Augmentation()


def _draw_box(width: int, height: int, rng: np.random.Generator) -> Box:
    """A random part: its share of the pixels is uniform, its aspect uniform in the logarithm."""
    for _ in range(_DRAWS):
        pixels = rng.uniform(*_SHARE) * width * height
        aspect = math.e ** rng.uniform(math.log(_ASPECT[0]), math.log(_ASPECT[1]))
        w, h = round(math.sqrt(pixels * aspect)), round(math.sqrt(pixels / aspect))
        if 0 < w <= width and 0 < h <= height:
            return _box(w, h, int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1)))
    return _middle(width, height)


def _middle(width: int, height: int) -> Box:
    """The middle of a photo that is narrower than any view: as much as the aspects allow."""
    w = max(1, min(width, round(height * _ASPECT[1])))
    h = max(1, min(height, round(width / _ASPECT[0])))
    return _box(w, h, (width - w) // 2, (height - h) // 2)


def _box(w: int, h: int, left: int, top: int) -> Box:
    return left, top, left + w, top + h


def _squeezed(image: Image.Image, box: Box) -> Image.Image:
    """A part of the photo as a square."""
    left, top, right, bottom = box
    side = min(max(1, round(math.sqrt((right - left) * (bottom - top)))), _MOST_PIXELS)
    return image.resize((side, side), Image.Resampling.BICUBIC, box=box)
