"""From a photo to the pixels that a network takes: resized, cut or padded to a size, and later scaled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto
from PIL import Image

from tip_adapter.encoders.base import centre_crop_sides

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from tip_adapter.encoders.onnx.writer import GraphWriter

#: (height, width).
Sides = tuple[int, int]


@dataclass(frozen=True)
class Preprocessing:
    """How an encoder wants its photos.

    Parameters
    ----------
    size : (height, width) of what the network takes
    target : (height, width) that the photo is resized to, before it is cut to `size`
    mode : key of `FITS`
    resample : how it is resized
    mean, std : of red, green and blue in [0, 1]
    fill : value of the pixels around a photo that is smaller than `size`
    """

    size: Sides
    target: Sides
    mode: str
    resample: Image.Resampling
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fill: int = 0

    def pixels(self, image: Image.Image) -> NDArray[np.uint8]:
        """An upright RGB photo → (height, width, 3) uint8."""
        if self.mode == "shortest":
            image = centre_crop_sides(image, 16 * min(image.size))
        height, width = FITS[self.mode]((image.height, image.width), self.target)
        resized = image.resize((max(width, 1), max(height, 1)), self.resample)
        return np.asarray(_centred(resized, self.size, self.fill))

    def scaled(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(n, height, width, 3) uint8 → (n, 3, height, width) float32, by mean and std."""
        channels = pixels.transpose(0, 3, 1, 2).astype(np.float32) / 255
        mean, std = (np.array(values, np.float32).reshape(1, 3, 1, 1) for values in (self.mean, self.std))
        return np.ascontiguousarray((channels - mean) / std)

    def write_scaled(self, graph: GraphWriter, pixels: str) -> str:
        """`scaled` as steps of a graph."""
        shares = graph.node("Div", graph.node("Cast", pixels, to=TensorProto.FLOAT), graph.constant(255.0))
        mean, std = (graph.constant(np.array(values, np.float32)) for values in (self.mean, self.std))
        return graph.node("Transpose", graph.node("Div", graph.node("Sub", shares, mean), std), perm=[0, 3, 1, 2])

    def in_words(self) -> str:
        """`pixels`, for those who have the graph alone."""
        height, width = self.size
        target = f"{self.target[0]} x {self.target[1]}"
        return (
            f"pixels are (n, {height}, {width}, 3) uint8: photos upright, RGB, channels last. Each is resized to "
            f"{_FITS_IN_WORDS[self.mode].format(target)}, by Pillow's {self.resample.name.lower()} filter; then the middle "
            f"{height} x {width} (height x width) is taken, with {self.fill} in every channel around a photo that is smaller. No mean or "
            "deviation is taken off."
        )


def _cover(sides: Sides, target: Sides) -> Sides:
    """The short side is the target's, the other one is cut off after the point."""
    if target[0] != target[1]:
        ratio = min(side / wanted for side, wanted in zip(sides, target, strict=True))
        return round(sides[0] / ratio), round(sides[1] / ratio)
    short = min(sides)
    return target[0] * sides[0] // short, target[0] * sides[1] // short


def _contain(sides: Sides, target: Sides) -> Sides:
    """The whole photo fits into the target."""
    ratio = max(side / wanted for side, wanted in zip(sides, target, strict=True))
    return round(sides[0] / ratio), round(sides[1] / ratio)


def _squash(sides: Sides, target: Sides) -> Sides:
    return target


#: Mode → sides of a photo and of a target → the sides that the photo is resized to.
FITS: dict[str, Callable[[Sides, Sides], Sides]] = {"shortest": _cover, "longest": _contain, "squash": _squash}

#: The same, for a person.
_FITS_IN_WORDS = {
    "shortest": "just cover {}, its aspect kept (the long side rounded down)",
    "longest": "just fit into {}, its aspect kept",
    "squash": "{}, its aspect not kept",
}


def _centred(image: Image.Image, size: Sides, fill: int) -> Image.Image:
    """The middle of a photo, with a frame where it is smaller."""
    height, width = size
    left, top = (_offset(side, wanted) for side, wanted in [(image.width, width), (image.height, height)])
    canvas = Image.new("RGB", (width, height), (fill, fill, fill))
    canvas.paste(image, (-left, -top))
    return canvas


def _offset(side: int, wanted: int) -> int:
    return round((side - wanted) / 2) if side >= wanted else -((wanted - side) // 2)
