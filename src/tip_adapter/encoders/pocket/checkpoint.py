"""Reads torch's old pickled checkpoint layout without torch, and without running code of the file.

The layout: three small pickles (magic number, protocol version, system information), the tree of tensors as a pickle
with persistent ids, the list of storage keys as a pickle, then for each key an int64 count and the raw values.
The file's SHA-256 is checked first; the unpickler allows four names and refuses all others.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from tip_adapter.errors import CheckpointError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001


def read_checkpoint(path: str | os.PathLike[str], *, sha256: str) -> dict[str, NDArray[Any]]:
    """Read the tensors of a checkpoint.

    Parameters
    ----------
    path : the ``.pth`` file
    sha256 : str, expected hexadecimal digest

    Returns
    -------
    name → array (float32 or int64), in the order of the file

    Raises
    ------
    CheckpointError
        The file has another digest, asks for a name that is not allowed, or is truncated.
    """
    content = read_trusted(path, sha256=sha256)
    try:
        return _read_tensors(io.BytesIO(content))
    except (
        pickle.UnpicklingError,
        EOFError,
        ArithmeticError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
    ) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error


def read_trusted(path: str | os.PathLike[str], *, sha256: str) -> bytes:
    """Content of a third-party file; raises CheckpointError if it is missing or has another SHA-256."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}; reinstall the package it belongs to") from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise CheckpointError(
            f"{path} was changed: its SHA-256 is {found[:12]}…, not {sha256[:12]}…; reinstall the package it belongs to"
        )
    return content


@dataclass(frozen=True)
class _Storage:
    """A flat run of values that tensors are views of; its values come after the pickles."""

    key: str
    dtype: np.dtype[Any]
    size: int


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def view(self, values: NDArray[Any]) -> NDArray[Any]:
        last = self.offset + sum((n - 1) * stride for n, stride in zip(self.shape, self.strides, strict=True))
        if min(self.offset, *self.shape, *self.strides, 0) < 0 or max(last, prod(self.shape) - 1) >= len(values):
            raise ValueError(f"a tensor of shape {self.shape} reaches beyond its storage")
        strides = [stride * values.itemsize for stride in self.strides]
        return np.ascontiguousarray(as_strided(values[self.offset :], self.shape, strides, writeable=False))


def _rebuild_tensor(storage: _Storage, offset: int, shape: Sequence[int], strides: Sequence[int], *_: Any) -> _Tensor:
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


_ALLOWED: dict[tuple[str, str], Callable[[], Any]] = {
    ("collections", "OrderedDict"): lambda: OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): lambda: partial(_rebuild_tensor),
    ("torch", "FloatStorage"): lambda: np.dtype("<f4"),
    ("torch", "LongStorage"): lambda: np.dtype("<i8"),
}


class _Unpickler(pickle.Unpickler):
    """Allows four names; all others are refused before anything is imported."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no tensor needs; refused")
        return _ALLOWED[module, name]()  # new at each call: a pickle may set attributes of it

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _device, size, _view = pid
        if kind != "storage" or not isinstance(dtype, np.dtype):
            raise pickle.UnpicklingError(f"unknown kind of storage {kind!r}")
        return _Storage(str(key), dtype, int(size))


def _read_tensors(file: io.BytesIO) -> dict[str, NDArray[Any]]:
    if _Unpickler(file).load() != _MAGIC or _Unpickler(file).load() != _VERSION:
        raise ValueError("not a checkpoint in torch's old layout")
    if not _Unpickler(file).load()["little_endian"]:
        raise ValueError("its values are big-endian")
    tensors: dict[str, _Tensor] = _Unpickler(file).load()
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    values = {key: _read_storage(file, storages[key]) for key in _Unpickler(file).load()}
    return {name: tensor.view(values[tensor.storage.key]) for name, tensor in tensors.items()}


def _read_storage(file: io.BytesIO, storage: _Storage) -> NDArray[Any]:
    count = int.from_bytes(file.read(8), "little")
    if count != storage.size:
        raise ValueError(f"storage {storage.key} is of {count} values, not {storage.size}")
    content = file.read(storage.size * storage.dtype.itemsize)
    if len(content) < storage.size * storage.dtype.itemsize:
        raise EOFError(f"the file ends in the middle of storage {storage.key}")
    return np.frombuffer(content, storage.dtype)
