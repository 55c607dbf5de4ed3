"""A NumPy archive of named arrays, read without NumPy's own reader, which would unpack whatever is stated. No pickle."""

from __future__ import annotations

import math
import zipfile
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as npy

from tip_adapter.features.named import MOST_ROWS, MOST_WIDTH, ArrayFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

#: Of an array that is read whole, unpacked; and of a block of vectors.
_MOST_ARRAY, _BLOCK_BYTES = 2**28, 2**24
_MOST_ARRAYS = 256


class NpzFile(ArrayFile):
    """A NumPy archive."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self.path = path
        self._archive = zipfile.ZipFile(file)
        members = self._archive.infolist()
        if len(members) > _MOST_ARRAYS:
            raise ValueError(f"it holds more than {_MOST_ARRAYS} arrays")
        self._members = {member.filename.removesuffix(".npy"): member for member in members}
        if len(self._members) < len(members):
            raise ValueError("an array stands twice")
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
                raise ValueError(f"{name} are no vectors, but {dtype} of shape {shape}")
            if is_fortran and min(shape) > 1:
                raise ValueError(f"{name} lie column by column; save np.ascontiguousarray of them")
            return shape[0], shape[1]

    def blocks(self, name: str) -> Iterator[NDArray[Any]]:
        """Vectors in (m, d) blocks, unpacked as they are asked for."""
        with self._stream(name) as (stream, (n, width), _, dtype):
            size = max(1, _BLOCK_BYTES // (width * dtype.itemsize))
            for start in range(0, n, size):
                rows = min(size, n - start)
                yield np.frombuffer(stream.read(rows * width * dtype.itemsize), dtype).reshape(rows, width)

    @contextmanager
    def _stream(self, name: str) -> Iterator[tuple[IO[bytes], tuple[int, ...], bool, np.dtype[Any]]]:
        """A member after its header, and what that states: as many bytes as the archive says there are."""
        if name not in self._members:
            raise ValueError(f"it holds no array {name}")
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
            f"{name} is an array of {dtype}, which is not read; save numbers, or texts as np.array(x, str)"
        )
    return shape, is_fortran, dtype
