"""Preparation of images for a network: resized, cropped or padded to a size, then scaled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from tip_adapter.encoders.base import centre_crop_sides

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tip_adapter.encoders.onnx.writer import GraphWriter

#: (height, width).
Sides = tuple[int, int]


@dataclass(frozen=True)
class Preprocessing:
    """How an encoder's images are prepared.

    Parameters
    ----------
    size : (height, width) of the network's input
    target : (height, width) that the image is resized to, before it is cropped to `size`
    mode : ``shortest`` covers the target, ``longest`` fits into it, ``squash`` changes the aspect
    resample : interpolation
    mean, std : of red, green and blue in [0, 1]
    fill : value of the padding around an image that is smaller than `size`
    """

    size: Sides
    target: Sides
    mode: str
    resample: Image.Resampling
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    fill: int = 0

    def pixels(self, image: Image.Image) -> NDArray[np.uint8]:
        """An upright RGB image → (height, width, 3) uint8."""
        if self.mode == "shortest":
            image = centre_crop_sides(image)
        height, width = self._resized((image.height, image.width))
        resized = image.resize((max(width, 1), max(height, 1)), self.resample)
        # The middle; padded where the image is smaller.
        canvas = Image.new("RGB", self.size[::-1], (self.fill, self.fill, self.fill))
        over = (resized.width - canvas.width, resized.height - canvas.height)
        left, top = (round(extra / 2) if extra >= 0 else -(-extra // 2) for extra in over)  # as open_clip rounds
        canvas.paste(resized, (-left, -top))
        return np.asarray(canvas)

    def _resized(self, sides: Sides) -> Sides:
        """(height, width) that an image of these sides is resized to."""
        if self.mode == "squash":
            return self.target
        if self.mode == "shortest" and self.target[0] == self.target[1]:  # the long side is rounded down
            return self.target[0] * sides[0] // min(sides), self.target[0] * sides[1] // min(sides)
        ratios = [side / wanted for side, wanted in zip(sides, self.target, strict=True)]
        ratio = min(ratios) if self.mode == "shortest" else max(ratios)
        return round(sides[0] / ratio), round(sides[1] / ratio)

    def scaled(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(n, height, width, 3) uint8 → (n, 3, height, width) float32, by mean and std."""
        channels = pixels.transpose(0, 3, 1, 2).astype(np.float32) / 255
        mean, std = (np.array(values, np.float32).reshape(1, 3, 1, 1) for values in (self.mean, self.std))
        return np.ascontiguousarray((channels - mean) / std)

    def write_scaled(self, graph: GraphWriter, pixels: str) -> str:
        """`scaled` as nodes of a graph."""
        shares = graph.node("Div", graph.to_float(pixels), graph.constant(255.0))
        mean, std = (graph.constant(np.array(values, np.float32)) for values in (self.mean, self.std))
        return graph.node("Transpose", graph.node("Div", graph.node("Sub", shares, mean), std), perm=[0, 3, 1, 2])

    def in_words(self) -> str:
        """`pixels` in words, for users of an exported graph."""
        height, width = self.size
        target = f"{self.target[0]} x {self.target[1]}"
        return (
            f"pixels are (n, {height}, {width}, 3) uint8: photos upright, RGB, channels last. Each is resized to "
            f"{_FITS_IN_WORDS[self.mode].format(target)}, by Pillow's {self.resample.name.lower()} filter; then the middle "
            f"{height} x {width} (height x width) is taken, with {self.fill} in every channel around a photo that is smaller. No mean or "
            "deviation is taken off."
        )


#: Mode → how an image is resized to a size.
_FITS_IN_WORDS = {
    "shortest": "just cover {}, its aspect kept (the long side rounded down)",
    "longest": "just fit into {}, its aspect kept",
    "squash": "{}, its aspect not kept",
}
