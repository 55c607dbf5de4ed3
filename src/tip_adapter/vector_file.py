"""Vectors from elsewhere in one file, .npz or Parquet: ids, labels, vectors, class embeddings.

docs/reference/vectors.md is the layout as a contract. No pickle: arrays of objects are refused. Sizes are checked before
anything is read, and vectors are read a block at a time.
"""

from __future__ import annotations

import hashlib
import math
import os
import zipfile
from abc import ABC, abstractmethod
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.lib import format as npy

from tip_adapter.errors import FeaturesError, VectorError, printable, shown
from tip_adapter.files import open_regular
from tip_adapter.photos.labels import label_of, numbered, refuse_twins
from tip_adapter.prompts import readable
from tip_adapter.tables import read_columns, vector_blocks
from tip_adapter.vectors import unit_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

PARTS = ("train", "val", "test")
#: What text logits are multiplied by where a file does not say: OpenAI's CLIP.
LOGIT_SCALE = 100.0
ENDINGS = (".npz", ".parquet")

#: Of an array that is read whole, unpacked; and of a block of vectors.
_MOST_ARRAY, _BLOCK_BYTES = 2**28, 2**24
_MOST_ROWS, _MOST_WIDTH, _MOST_ARRAYS = 10**8, 2**16, 256
#: The part of a Parquet row that is a class: its id is the name, its label the label, its vector the class embedding.
_CLASS = "class"


@dataclass(frozen=True, eq=False)
class ClassRows:
    """The class names that a file has vectors of.

    Parameters
    ----------
    labels : n_classes str
    names : n_classes str
    matrix : (n_classes, d) float32 array, unit rows
    """

    labels: tuple[str, ...]
    names: tuple[str, ...]
    matrix: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class VectorFile:
    """What a file of vectors holds; the vectors themselves are read in blocks.

    Parameters
    ----------
    path : of the file
    ids : a name for each vector, unique
    labels : one a vector; empty where the file has none
    parts : ``train``, ``val`` or ``test`` of each vector; empty where it is not split
    columns : the arrays or columns that hold the vectors, one after the other
    width : int, length of a vector
    classes : ClassRows, or None
    logit_scale : float
    encoder : what made the vectors, or None where the file does not say
    fingerprint : SHA-256 of that, or of the file where it does not say: vectors of different fingerprints never mix
    """

    path: Path
    ids: tuple[str, ...]
    labels: tuple[str, ...]
    parts: tuple[str, ...]
    columns: tuple[str, ...]
    width: int
    classes: ClassRows | None
    logit_scale: float
    encoder: str | None
    fingerprint: str

    @property
    def name(self) -> str:
        """The file as the name of an encoder, wherever it is loaded from."""
        return f"vectors:{self.path.absolute()}"

    def blocks(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Number of the first row and (m, d) float32 unit rows, block by block.

        Raises
        ------
        VectorError
            A vector is NaN, infinite or zero; the message names its row.
        FeaturesError
            The file cannot be read any more.
        """
        start = 0
        with _opened(self.path) as file:
            for column in self.columns:
                for block in file.blocks(column):
                    yield start, _usable(block, self.ids[start:], self.path)
                    start += len(block)


def is_vector_file(path: str | os.PathLike[str]) -> bool:
    """Whether it is a file that is called like one of vectors."""
    try:
        return Path(path).suffix.lower() in ENDINGS and Path(path).is_file()
    except (OSError, ValueError):
        return False


def open_vector_file(path: str | os.PathLike[str]) -> VectorFile:
    """Read all of a file but its vectors.

    Raises
    ------
    FeaturesError
        It cannot be read, is of no known layout, states sizes above the limits, or what it holds does not fit together.
    LabelError
        As `label_of` and `refuse_twins`.
    MissingExtra
        A Parquet file, and pyarrow is not installed.
    """
    place = Path(path)
    with _opened(place) as file:
        known = [layout for layout in LAYOUTS if set(layout.needs) <= set(file.names)]
        if not known:
            wanted = " or ".join(", ".join(layout.needs) for layout in LAYOUTS)
            raise ValueError(f"it holds {', '.join(map(printable, file.names[:8])) or 'nothing'}, not {wanted}")
        held = known[0].read(file)
        _require_fit(held)
        stated = held.encoder
        return VectorFile(
            place,
            held.ids,
            held.labels,
            held.parts,
            held.columns,
            held.width,
            held.classes,
            held.logit_scale,
            stated,
            hashlib.sha256(f"vectors of {stated}".encode()).hexdigest() if stated else _digest(place),
        )


# ---- layouts ---------------------------------------------------------------------------------------------------------


class Held(NamedTuple):
    """What a layout found in a file; the fields are those of VectorFile."""

    ids: tuple[str, ...]
    labels: tuple[str, ...]
    parts: tuple[str, ...]
    columns: tuple[str, ...]
    width: int
    n_vectors: int
    classes: ClassRows | None
    logit_scale: float
    encoder: str | None


class Layout(NamedTuple):
    """A layout of arrays: the names that tell it, and how it is read."""

    needs: tuple[str, ...]
    read: Callable[[_File], Held]


def _read_ours(file: _File) -> Held:
    ids = file.texts("ids")
    n, width = file.shape("vectors")
    return Held(
        ids=ids,
        labels=_labels(file.texts("labels"), file.path) if "labels" in file.names else (),
        parts=file.texts("part") if "part" in file.names else (),
        columns=("vectors",),
        width=width,
        n_vectors=n,
        classes=_classes_of_ours(file, width),
        logit_scale=file.number("logit_scale", LOGIT_SCALE),
        encoder=file.word("encoder"),
    )


def _classes_of_ours(file: _File, width: int) -> ClassRows | None:
    if "class_embeddings" not in file.names:
        return None
    labels = _labels(file.texts("class_labels"), file.path)
    names = file.texts("class_names") if "class_names" in file.names else tuple(map(readable, labels))
    return _class_rows(labels, names, file.matrix("class_embeddings"), width, file.path)


def _read_cache(file: _File) -> Held:
    """What few-shot research keeps: features and class numbers of each part, and the class names."""
    names = file.texts("classnames")
    labels = tuple(numbered(label_of(name, os.fspath(file.path)) for name in names))  # ImageNet has names twice
    stored = [(part, name) for name, part in _CACHE_PARTS.items() if f"{name}_features" in file.names]
    shapes = [file.shape(f"{name}_features") for _, name in stored]
    widths = {width for _, width in shapes}
    if len(widths) > 1:
        raise ValueError(f"its features are of several widths, {', '.join(map(str, sorted(widths)))}")
    matrix = file.matrix("text_weights")
    width = widths.pop()
    if matrix.shape == (width, len(names)) != (len(names), width):
        matrix = matrix.T
    return Held(
        ids=tuple(
            photo for (_, name), (n, _) in zip(stored, shapes, strict=True) for photo in _cache_ids(file, name, n)
        ),
        labels=tuple(label for _, name in stored for label in _cache_labels(file, name, labels)),
        parts=tuple(part for (part, _), (n, _) in zip(stored, shapes, strict=True) for _ in range(n)),
        columns=tuple(f"{name}_features" for _, name in stored),
        width=width,
        n_vectors=sum(n for n, _ in shapes),
        classes=_class_rows(labels, names, matrix, width, file.path),
        logit_scale=file.number("logit_scale", LOGIT_SCALE),
        encoder=file.word("encoder"),
    )


#: What the arrays of a part are called there → the part.
_CACHE_PARTS = {"train": "train", "val": "val", "test": "test", "query": "test"}


def _cache_ids(file: _File, name: str, n: int) -> list[str]:
    if f"{name}_paths" in file.names:
        return list(file.texts(f"{name}_paths"))
    return [f"{name}/{number}" for number in range(n)]


def _cache_labels(file: _File, name: str, labels: Sequence[str]) -> list[str]:
    numbers = file.array(f"{name}_labels")
    if numbers.dtype.kind not in "iu" or numbers.ndim != 1 or not np.isin(numbers, np.arange(len(labels))).all():
        raise ValueError(f"{name}_labels are not numbers of classnames, from 0 to {len(labels) - 1}")
    return [labels[number] for number in numbers.tolist()]


#: The first that fits is taken.
LAYOUTS = (
    Layout(("ids", "vectors"), _read_ours),
    Layout(("train_features", "train_labels", "text_weights", "classnames"), _read_cache),
)


def _labels(texts: Sequence[str], path: Path) -> tuple[str, ...]:
    distinct = dict.fromkeys(texts)
    refuse_twins(distinct)
    known = {text: label_of(text, os.fspath(path)) for text in distinct}  # one text for all the rows of a class
    return tuple(known[text] for text in texts)


def _class_rows(
    labels: tuple[str, ...], names: tuple[str, ...], matrix: NDArray[Any], width: int, path: Path
) -> ClassRows:
    if matrix.shape != (len(labels), width) or len(names) != len(labels):
        raise ValueError(
            f"class embeddings of shape {matrix.shape} for {len(labels)} labels and {len(names)} names, "
            f"not {(len(labels), width)}"
        )
    _refuse_repeated(labels, "class label")
    return ClassRows(labels, names, _usable(matrix, names, path))


def _require_fit(held: Held) -> None:
    """Raise ValueError unless there are as many ids, labels and parts as vectors, each id once, each part a known one."""
    n = held.n_vectors
    for what, column in [("ids", held.ids), ("labels", held.labels), ("parts", held.parts)]:
        if len(column) not in ((n,) if what == "ids" else (0, n)):
            raise ValueError(f"it has {len(column)} {what} for {n} vectors")
    _refuse_repeated(held.ids, "id")
    for part in set(held.parts) - set(PARTS):
        raise ValueError(f"part {shown(part)} is none of {', '.join(PARTS)}")


def _refuse_repeated(texts: Sequence[str], what: str) -> None:
    if len(set(texts)) < len(texts):
        twice = Counter(texts).most_common(1)[0][0]
        raise ValueError(f"{what} {shown(twice)} stands twice")


def _usable(rows: NDArray[Any], names: Sequence[str], path: Path) -> NDArray[np.float32]:
    """Float32 unit rows; raises VectorError naming the first that is NaN, infinite or zero."""
    with np.errstate(over="ignore"):
        vectors = np.asarray(rows, dtype=np.float32)
    bad = np.flatnonzero(~(np.isfinite(vectors).all(axis=1) & vectors.any(axis=1)))
    if len(bad):
        name = printable(names[bad[0]])
        raise VectorError(
            f"the vector of {name} in {printable(path)} is zero, NaN or infinite; leave it out of the file"
        )
    units: NDArray[np.float32] = unit_rows(vectors)
    return units


# ---- files -----------------------------------------------------------------------------------------------------------


class _File(ABC):
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


class _Npz(_File):
    """A NumPy archive, read without NumPy's own reader, which would unpack whatever is stated."""

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
        with self._stream(name) as (stream, shape, is_fortran, dtype):
            n_bytes = math.prod(shape) * dtype.itemsize
            if n_bytes > _MOST_ARRAY:
                raise ValueError(f"{name} takes {n_bytes:,} bytes, more than {_MOST_ARRAY:,}")
            array = np.frombuffer(stream.read(n_bytes), dtype)
            return array.reshape(shape, order="F" if is_fortran else "C")

    def shape(self, name: str) -> tuple[int, int]:
        with self._stream(name) as (_, shape, is_fortran, dtype):
            if len(shape) != 2 or dtype.kind != "f" or not (0 < shape[1] <= _MOST_WIDTH) or shape[0] > _MOST_ROWS:
                raise ValueError(f"{name} are no vectors, but {dtype} of shape {shape}")
            if is_fortran and min(shape) > 1:
                raise ValueError(f"{name} lie column by column; save np.ascontiguousarray of them")
            return shape[0], shape[1]

    def blocks(self, name: str) -> Iterator[NDArray[Any]]:
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


class _Parquet(_File):
    """A Parquet file of columns id, label, part and vector; a row whose part is ``class`` is a class."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self.path = path
        self._file = file
        columns, kept = read_columns(file, ("id", "label", "part"), _MOST_ROWS)
        parts = columns.get("part", [])
        self._is_class = np.array([part == _CLASS for part in parts], bool)
        self._arrays = _parquet_arrays(columns, kept, self._is_class)
        self.names = [*self._arrays, "vectors"]
        if self._is_class.any():
            self.names.append("class_embeddings")

    def array(self, name: str) -> NDArray[Any]:
        if name == "class_embeddings":
            return np.concatenate([block[chosen] for block, chosen in self._chosen(of_classes=True)])
        if name not in self._arrays:
            raise ValueError(f"it holds no column {name.removesuffix('s')}")
        return self._arrays[name]

    def shape(self, name: str) -> tuple[int, int]:
        first = next(iter(vector_blocks(self._file, "vector")), np.zeros((0, 1), np.float32))
        if not 0 < first.shape[1] <= _MOST_WIDTH:
            raise ValueError(f"its vectors have width {first.shape[1]}, not one from 1 to {_MOST_WIDTH}")
        return len(self._arrays["ids"]), first.shape[1]

    def blocks(self, name: str) -> Iterator[NDArray[Any]]:
        for block, chosen in self._chosen(of_classes=False):
            yield block[chosen]

    def _chosen(self, *, of_classes: bool) -> Iterator[tuple[NDArray[Any], NDArray[np.bool_]]]:
        """Blocks, and which of their rows are classes, or photos."""
        start = 0
        for block in vector_blocks(self._file, "vector"):
            here = self._is_class[start : start + len(block)] if len(self._is_class) else np.zeros(len(block), bool)
            yield block, here if of_classes else ~here
            start += len(block)


def _parquet_arrays(
    columns: Mapping[str, list[Any]], kept: Mapping[str, str], is_class: NDArray[np.bool_]
) -> dict[str, NDArray[Any]]:
    """Columns as the arrays that they would be in an archive."""
    if "id" not in columns:
        raise ValueError("it has no column id; a file of vectors has id, label and vector")
    is_class = is_class if len(is_class) else np.zeros(len(columns["id"]), bool)
    arrays = {}
    for plural, name in [("ids", "id"), ("labels", "label"), ("part", "part")]:
        if name in columns:
            texts = [value for value, skip in zip(columns[name], is_class, strict=True) if not skip]
            if any(text is None for text in texts):
                raise ValueError(f"column {name} has rows without a value")
            arrays[plural] = np.array(texts, dtype=np.str_ if not texts or isinstance(texts[0], str) else None)
    if is_class.any():
        for plural, name in [("class_names", "id"), ("class_labels", "label")]:
            arrays[plural] = np.array([v for v, keep in zip(columns[name], is_class, strict=True) if keep], np.str_)
    if "logit_scale" in kept:
        arrays["logit_scale"] = np.array(float(kept["logit_scale"]))
    if "encoder" in kept:
        arrays["encoder"] = np.array(kept["encoder"])
    return arrays


@contextmanager
def _opened(path: Path) -> Iterator[_File]:
    """The arrays of a file; whatever is wrong with it becomes an error that names it."""
    try:
        with open_regular(path) as file:
            yield _Npz(file, path) if path.suffix.lower() == ".npz" else _Parquet(file, path)
    except (FeaturesError, VectorError):
        raise
    except OSError as error:
        raise FeaturesError(f"cannot read {printable(path)}: {error.strerror or error}; check the path") from error
    except (ValueError, KeyError, zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError) as error:
        if isinstance(error, (FeaturesError, VectorError)) or hasattr(error, "code"):
            raise
        reason = printable(str(error) or type(error).__name__)
        raise FeaturesError(
            f"cannot use the vectors in {printable(path)}: {reason}; see docs/reference/vectors.md"
        ) from error


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
