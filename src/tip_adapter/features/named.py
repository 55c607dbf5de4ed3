"""Named arrays in one file, whatever its format: what the layouts of vectors are read from."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

#: Of one file.
MOST_ROWS, MOST_WIDTH = 10**8, 2**16


class ArrayFile(ABC):
    """Named arrays in a file."""

    path: Path
    names: list[str]

    @abstractmethod
    def array(self, name: str) -> NDArray[Any]:
        """An array of bounded size, whole."""

    @abstractmethod
    def shape(self, name: str) -> tuple[int, int]:
        """Rows and width of vectors."""

    @abstractmethod
    def blocks(self, name: str) -> Iterator[NDArray[Any]]:
        """Vectors in (m, d) blocks."""

    def texts(self, name: str) -> tuple[str, ...]:
        """An array of texts, or of whole numbers as texts."""
        array = self.array(name)
        if array.ndim != 1 or array.dtype.kind not in "Uiu":
            raise ValueError(f"{name} is no list of texts, but {array.dtype} of shape {array.shape}")
        return tuple(map(str, array.tolist()))

    def matrix(self, name: str) -> NDArray[Any]:
        """A matrix of floats, whole."""
        array = self.array(name)
        if array.ndim != 2 or array.dtype.kind != "f":
            raise ValueError(f"{name} is no matrix of floats, but {array.dtype} of shape {array.shape}")
        return array

    def number(self, name: str, default: float) -> float:
        """A number above 0."""
        if name not in self.names:
            return default
        array = self.array(name)
        value = float(array) if array.ndim == 0 and array.dtype.kind in "fiu" else math.nan
        if not 0 < value <= 1e4:
            raise ValueError(f"{name} is not a number above 0, at most 10,000")
        return value

    def word(self, name: str) -> str | None:
        """A short text; None where there is none."""
        if name not in self.names:
            return None
        array = self.array(name)
        if array.ndim or array.dtype.kind != "U" or not 0 < len(str(array)) <= 200:
            raise ValueError(f"{name} is not a text of 1 to 200 characters")
        return str(array)
