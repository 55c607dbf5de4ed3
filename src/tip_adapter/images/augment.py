"""Augmented views of an image: random crops, resized to a square, half of them mirrored; seeded by the image's content.

The literature resizes crops to the 224 pixels of its networks. Here a view is the same crop as a square of about as many
pixels, and the encoder's own preprocessing resizes that: it cuts nothing off a square, and larger networks lose nothing.
Pixels are therefore resampled twice.
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

#: Area of a crop as a fraction of the image, and its width divided by its height.
_AREA = (0.5, 1.0)
_ASPECT = (3 / 4, 4 / 3)
#: Attempts to draw a crop; an image too narrow for them is cropped at its centre.
_DRAWS = 10
#: No encoder takes more pixels a side.
_LONGEST_SIDE = 768


@dataclass(frozen=True)
class Augmentation:
    """How many augmented views of each image are encoded, and from which seed.

    Parameters
    ----------
    number : int, views of each image; 0 for the image itself
    seed : int
    """

    number: int = 0
    seed: int = 0

    def of(self, image: Image.Image, digest: str) -> Iterator[Image.Image]:
        """The views of an upright RGB image.

        Parameters
        ----------
        image : PIL image
        digest : SHA-256 of its content: the same content has the same views, whatever its path
        """
        rng = np.random.default_rng([self.seed, int(digest, 16)])
        for _ in range(self.number):
            left, top, right, bottom = box = _draw_box(*image.size, rng)
            side = min(max(1, round(math.sqrt((right - left) * (bottom - top)))), _LONGEST_SIDE)
            view = image.resize((side, side), Image.Resampling.BICUBIC, box=box)
            yield view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else view


NO_AUGMENTATION = Augmentation()


def _draw_box(width: int, height: int, rng: np.random.Generator) -> Box:
    """A random crop: its area is uniform, its aspect uniform in the logarithm."""
    for _ in range(_DRAWS):
        pixels = rng.uniform(*_AREA) * width * height
        aspect = math.e ** rng.uniform(math.log(_ASPECT[0]), math.log(_ASPECT[1]))
        w, h = round(math.sqrt(pixels * aspect)), round(math.sqrt(pixels / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return left, top, left + w, top + h
    w = max(1, min(width, round(height * _ASPECT[1])))
    h = max(1, min(height, round(width / _ASPECT[0])))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h
