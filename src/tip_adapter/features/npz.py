"""Named arrays in one file: their interface, and NumPy archives.

An archive is read without NumPy's own reader, which would unpack as much as a header states. No pickle.
"""

from __future__ import annotations

import math
import zipfile
from abc import ABC, abstractmethod
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as npy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

#: Limits of one file.
MOST_ROWS, MOST_WIDTH = 10**8, 2**16
#: Unpacked bytes of an array that is read whole, and of a block of vectors.
_MOST_ARRAY, _BLOCK_BYTES = 2**28, 2**24
_MOST_ARRAYS = 256


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
            raise ValueError(f"{name} is not a list of texts, but {array.dtype} of shape {array.shape}")
        return tuple(map(str, array.tolist()))

    def matrix(self, name: str) -> NDArray[Any]:
        """A matrix of floats, whole."""
        array = self.array(name)
        if array.ndim != 2 or array.dtype.kind != "f":
            raise ValueError(f"{name} is not a matrix of floats, but {array.dtype} of shape {array.shape}")
        return array

    def number(self, name: str, default: float) -> float:
        """A number above 0; `default` if absent."""
        if name not in self.names:
            return default
        array = self.array(name)
        value = float(array) if array.ndim == 0 and array.dtype.kind in "fiu" else math.nan
        if not 0 < value <= 1e4:
            raise ValueError(f"{name} is not a number above 0, at most 10,000")
        return value

    def word(self, name: str) -> str | None:
        """A short text; None if absent."""
        if name not in self.names:
            return None
        array = self.array(name)
        if array.ndim or array.dtype.kind != "U" or not 0 < len(str(array)) <= 200:
            raise ValueError(f"{name} is not a text of 1 to 200 characters")
        return str(array)


class NpzFile(ArrayFile):
    """A NumPy archive."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self.path = path
        self._archive = zipfile.ZipFile(file)
        members = self._archive.infolist()
        if len(members) > _MOST_ARRAYS:
            raise ValueError(f"it has more than {_MOST_ARRAYS} arrays")
        self._members = {member.filename.removesuffix(".npy"): member for member in members}
        if len(self._members) < len(members):
            raise ValueError("an array is repeated")
        self.names = list(self._members)

    def array(self, name: str) -> NDArray[Any]:
        """An array of bounded size, whole."""
        with self._stream(name) as (stream, shape, is_fortran, dtype):
            n_bytes = math.prod(shape) * dtype.itemsize
            if n_bytes > _MOST_ARRAY:
                raise ValueError(f"{name} takes {n_bytes:,} bytes, more than {_MOST_ARRAY:,}")
            array = np.frombuffer(stream.read(n_bytes), dtype)
            return array.reshape(shape, order="F" if is_fortran else "C")

    def shape(self, name: str) -> tuple[int, int]:
        """Rows and width of vectors, from their header."""
        with self._stream(name) as (_, shape, is_fortran, dtype):
            if len(shape) != 2 or dtype.kind != "f" or not (0 < shape[1] <= MOST_WIDTH) or shape[0] > MOST_ROWS:
                raise ValueError(f"{name} is not a matrix of vectors, but {dtype} of shape {shape}")
            if is_fortran and min(shape) > 1:
                raise ValueError(f"{name} is stored column by column; save np.ascontiguousarray of it")
            return shape[0], shape[1]

    def blocks(self, name: str) -> Iterator[NDArray[Any]]:
        """Vectors in (m, d) blocks, unpacked on demand."""
        with self._stream(name) as (stream, (n, width), _, dtype):
            size = max(1, _BLOCK_BYTES // (width * dtype.itemsize))
            for start in range(0, n, size):
                rows = min(size, n - start)
                yield np.frombuffer(stream.read(rows * width * dtype.itemsize), dtype).reshape(rows, width)

    @contextmanager
    def _stream(self, name: str) -> Iterator[tuple[IO[bytes], tuple[int, ...], bool, np.dtype[Any]]]:
        """A member after its header, and what that states, which is compared with the member's size."""
        if name not in self._members:
            raise ValueError(f"it has no array {name}")
        member = self._members[name]
        with self._archive.open(member) as stream:
            shape, is_fortran, dtype = _npy_header(stream, name)
            if math.prod(shape) * dtype.itemsize != member.file_size - stream.tell():
                raise ValueError(f"{name} is not as long as its header states")
            yield stream, shape, is_fortran, dtype


def _npy_header(stream: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and dtype of an array; objects, which would be a pickle, are refused."""
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    version = npy.read_magic(stream)
    if version not in readers:
        raise ValueError(f"{name} is of an unknown version {version} of NumPy's format")
    shape, is_fortran, dtype = readers[version](stream)
    if dtype.hasobject or dtype.kind not in "fiuUb" or dtype.itemsize == 0:
        raise ValueError(
            f"{name} is an array of {dtype}, which is not supported; save numbers, or texts as np.array(x, str)"
        )
    return shape, is_fortran, dtype
