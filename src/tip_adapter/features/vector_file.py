"""A vector file from another program, .npz or Parquet: ids, labels, vectors, class embeddings.

docs/reference/vectors.md is the layout as a contract. No pickle: arrays of objects are refused. Sizes are checked before
anything is read, and vectors are read block by block.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tip_adapter.encoders.prompts import readable
from tip_adapter.errors import FeaturesError, TipAdapterError, VectorError
from tip_adapter.features.arrow import ParquetFile
from tip_adapter.features.npz import NpzFile
from tip_adapter.images.labels import label_of, numbered, refuse_lookalike_labels
from tip_adapter.images.splits import may_say_part, parts_of_paths
from tip_adapter.io.files import file_digest, open_regular
from tip_adapter.text import printable, shown
from tip_adapter.validation import is_missing
from tip_adapter.vectors import unit_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from tip_adapter.features.npz import ArrayFile

PARTS = ("train", "val", "test")
#: The logit scale if a file states none: that of OpenAI's CLIP.
LOGIT_SCALE = 100.0
#: File extension → the class that reads its arrays.
_READERS: dict[str, type[NpzFile] | type[ParquetFile]] = {".npz": NpzFile, ".parquet": ParquetFile}


@dataclass(frozen=True, eq=False)
class ClassRows:
    """The class embeddings of a file.

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
    """The content of a vector file; the vectors themselves are read in blocks.

    Parameters
    ----------
    path : of the file
    ids : a name for each vector, unique
    labels : one for each vector; empty without labels
    parts : ``train``, ``val`` or ``test`` of each vector; empty if it is not split
    columns : the arrays or columns with the vectors, in order
    width : int, length of a vector
    classes : ClassRows, or None
    logit_scale : float
    encoder : name of the encoder that made the vectors, or None if the file does not say
    fingerprint : SHA-256 of that name, else of the file: vectors of different fingerprints never mix
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
        """The file as the name of an encoder, with its absolute path."""
        return f"vectors:{self.path.absolute()}"

    def blocks(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Number of the first row and (m, d) float32 unit rows, block by block.

        Raises
        ------
        VectorError
            A vector is NaN, infinite or zero; the message names its row.
        FeaturesError
            The file has become unreadable.
        """
        start = 0
        with _opened(self.path) as file:
            for column in self.columns:
                for block in file.blocks(column):
                    yield start, _usable(block, self.ids[start:], self.path)
                    start += len(block)


def is_vector_file(path: str | os.PathLike[str]) -> bool:
    """Whether it is a file with the extension of a vector file."""
    try:
        return Path(path).suffix.lower() in _READERS and Path(path).is_file()
    except (OSError, ValueError):
        return False


def open_vector_file(path: str | os.PathLike[str]) -> VectorFile:
    """Read a vector file except for its vectors.

    Raises
    ------
    FeaturesError
        It cannot be read, has an unknown layout, states sizes above the limits, or its arrays do not fit together.
    LabelError
        As `label_of` and `refuse_lookalike_labels`.
    MissingExtra
        It is a Parquet file, and pyarrow is not installed.
    """
    with _opened(Path(path)) as file:
        for needs, read in LAYOUTS:
            if set(needs) <= set(file.names):
                return read(file)
        wanted = " or ".join(", ".join(needs) for needs, _ in LAYOUTS)
        raise ValueError(f"it holds {', '.join(map(printable, file.names[:8])) or 'nothing'}, not {wanted}")


# ---- layouts ---------------------------------------------------------------------------------------------------------


def _read_ours(file: ArrayFile) -> VectorFile:
    n, width = file.shape("vectors")
    if "part" not in file.names and (others := list(filter(may_say_part, file.names))):
        raise ValueError(
            f"its {printable(others[0])} may say the part of each vector, which is read from part; rename or remove it"
        )
    classes = None
    if "class_embeddings" in file.names:
        known = _labels(file.texts("class_labels"), file.path)
        names = file.texts("class_names") if "class_names" in file.names else tuple(map(readable, known))
        classes = _class_rows(known, names, file.matrix("class_embeddings"), width, file.path)
    ids = file.texts("ids")
    labels = _labels(file.texts("labels"), file.path) if "labels" in file.names else ()
    parts = file.texts("part") if "part" in file.names else ()
    if labels and not parts:  # as in lists, the folders of the ids may say the part
        named, _ = parts_of_paths([(name.split("/")[:-1], label) for name, label in zip(ids, labels, strict=False)])
        parts = tuple(named) if any(named) else ()
    return _vector_file(file, (n, width), ids, labels, parts, ("vectors",), classes)


#: Prefix of the arrays of a part in the cache of few-shot scripts → the part.
_CACHE_PARTS = {"train": "train", "val": "val", "test": "test", "query": "test"}


def _read_cache(file: ArrayFile) -> VectorFile:
    """The cache of few-shot scripts: features and class numbers of each part, and the class names."""
    names = file.texts("classnames")
    known = tuple(numbered(label_of(name, os.fspath(file.path)) for name in names))  # ImageNet has names twice
    stored = [prefix for prefix in _CACHE_PARTS if f"{prefix}_features" in file.names]
    shapes = [file.shape(f"{prefix}_features") for prefix in stored]
    widths = {width for _, width in shapes}
    if len(widths) > 1:
        raise ValueError(f"its features are of several widths, {', '.join(map(str, sorted(widths)))}")
    width = widths.pop()
    matrix = file.matrix("text_weights")
    if matrix.shape == (width, len(names)) != (len(names), width):
        matrix = matrix.T
    ids: list[str] = []
    labels: list[str] = []
    parts: list[str] = []
    for prefix, (n, _) in zip(stored, shapes, strict=True):
        paths = f"{prefix}_paths"
        ids += file.texts(paths) if paths in file.names else [f"{prefix}/{number}" for number in range(n)]
        numbers = file.array(f"{prefix}_labels")
        if numbers.dtype.kind not in "iu" or numbers.ndim != 1 or not np.isin(numbers, np.arange(len(known))).all():
            raise ValueError(f"{prefix}_labels are not indices into classnames, from 0 to {len(known) - 1}")
        labels += [known[number] for number in numbers.tolist()]
        parts += [_CACHE_PARTS[prefix]] * n
    columns = tuple(f"{prefix}_features" for prefix in stored)
    classes = _class_rows(known, names, matrix, width, file.path)
    return _vector_file(file, (len(parts), width), tuple(ids), tuple(labels), tuple(parts), columns, classes)


#: Arrays that identify a layout, and the function that reads it; the first match is used.
LAYOUTS: tuple[tuple[tuple[str, ...], Callable[[ArrayFile], VectorFile]], ...] = (
    (("ids", "vectors"), _read_ours),
    (("train_features", "train_labels", "text_weights", "classnames"), _read_cache),
)


def _vector_file(
    file: ArrayFile,
    shape: tuple[int, int],
    ids: tuple[str, ...],
    labels: tuple[str, ...],
    parts: tuple[str, ...],
    columns: tuple[str, ...],
    classes: ClassRows | None,
) -> VectorFile:
    """A VectorFile, checked: as many ids, labels and parts as vectors, ids unique, parts known."""
    n_vectors, width = shape
    for what, column in [("ids", ids), ("labels", labels), ("parts", parts)]:
        if len(column) not in ((n_vectors,) if what == "ids" else (0, n_vectors)):
            raise ValueError(f"it has {len(column)} {what} for {n_vectors} vectors")
    _refuse_repeated(ids, "id")
    for part in set(parts) - set(PARTS):
        raise ValueError(f"part {shown(part)} is not one of {', '.join(PARTS)}")
    encoder = file.word("encoder")
    fingerprint = hashlib.sha256(f"vectors of {encoder}".encode()).hexdigest() if encoder else file_digest(file.path)
    logit_scale = file.number("logit_scale", LOGIT_SCALE)
    return VectorFile(file.path, ids, labels, parts, columns, width, classes, logit_scale, encoder, fingerprint)


def _labels(texts: Sequence[str], path: Path) -> tuple[str, ...]:
    distinct = dict.fromkeys(texts)
    refuse_lookalike_labels(distinct)
    if missing := next((text for text in distinct if text.strip() and is_missing(text)), None):
        raise ValueError(
            f"the label {shown(missing)} is what programs write where a label is missing; leave these rows out"
        )
    known = {text: label_of(text, os.fspath(path)) for text in distinct}  # one str object for all rows of a class
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


def _refuse_repeated(texts: Sequence[str], what: str) -> None:
    if len(set(texts)) < len(texts):
        twice = Counter(texts).most_common(1)[0][0]
        raise ValueError(f"{what} {shown(twice)} is repeated")


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


@contextmanager
def _opened(path: Path) -> Iterator[ArrayFile]:
    """The arrays of a file; any problem with it becomes an error that names it."""
    try:
        with open_regular(path) as file:
            yield _READERS.get(path.suffix.lower(), ParquetFile)(file, path)
    except TipAdapterError:
        raise
    except OSError as error:
        raise FeaturesError(f"cannot read {printable(path)}: {error.strerror or error}; check the path") from error
    except (ValueError, KeyError, zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError) as error:
        reason = printable(str(error) or type(error).__name__)
        raise FeaturesError(
            f"cannot use the vectors in {printable(path)}: {reason}; see docs/reference/vectors.md"
        ) from error
