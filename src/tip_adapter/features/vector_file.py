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
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tip_adapter.encoders.prompts import readable
from tip_adapter.errors import FeaturesError, VectorError
from tip_adapter.features.arrow import ParquetFile
from tip_adapter.features.npz import NpzFile
from tip_adapter.images.labels import label_of, numbered, refuse_twins
from tip_adapter.io.files import file_digest, open_regular
from tip_adapter.text import printable, shown
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
        As `label_of` and `refuse_twins`.
    MissingExtra
        It is a Parquet file, and pyarrow is not installed.
    """
    place = Path(path)
    with _opened(place) as file:
        known = [layout for layout in LAYOUTS if set(layout.needs) <= set(file.names)]
        if not known:
            wanted = " or ".join(", ".join(layout.needs) for layout in LAYOUTS)
            raise ValueError(f"it holds {', '.join(map(printable, file.names[:8])) or 'nothing'}, not {wanted}")
        content = known[0].read(file)
        _require_fit(content)
        fields = content._asdict()
        del fields["n_vectors"]
        stated = content.encoder
        fingerprint = hashlib.sha256(f"vectors of {stated}".encode()).hexdigest() if stated else file_digest(place)
        return VectorFile(path=place, **fields, fingerprint=fingerprint)


# ---- layouts ---------------------------------------------------------------------------------------------------------


class Content(NamedTuple):
    """What a layout found in a file: fields of VectorFile, and the number of vectors."""

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
    """A layout of arrays: the names that identify it, and the function that reads it."""

    needs: tuple[str, ...]
    read: Callable[[ArrayFile], Content]


def _read_ours(file: ArrayFile) -> Content:
    ids = file.texts("ids")
    n, width = file.shape("vectors")
    return Content(
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


def _classes_of_ours(file: ArrayFile, width: int) -> ClassRows | None:
    if "class_embeddings" not in file.names:
        return None
    labels = _labels(file.texts("class_labels"), file.path)
    names = file.texts("class_names") if "class_names" in file.names else tuple(map(readable, labels))
    return _class_rows(labels, names, file.matrix("class_embeddings"), width, file.path)


def _read_cache(file: ArrayFile) -> Content:
    """The cache of few-shot scripts: features and class numbers of each part, and the class names."""
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
    return Content(
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


#: Prefix of the arrays of a part → the part.
_CACHE_PARTS = {"train": "train", "val": "val", "test": "test", "query": "test"}


def _cache_ids(file: ArrayFile, name: str, n: int) -> list[str]:
    if f"{name}_paths" in file.names:
        return list(file.texts(f"{name}_paths"))
    return [f"{name}/{number}" for number in range(n)]


def _cache_labels(file: ArrayFile, name: str, labels: Sequence[str]) -> list[str]:
    numbers = file.array(f"{name}_labels")
    if numbers.dtype.kind not in "iu" or numbers.ndim != 1 or not np.isin(numbers, np.arange(len(labels))).all():
        raise ValueError(f"{name}_labels are not indices into classnames, from 0 to {len(labels) - 1}")
    return [labels[number] for number in numbers.tolist()]


#: The first that fits is taken.
LAYOUTS = (
    Layout(("ids", "vectors"), _read_ours),
    Layout(("train_features", "train_labels", "text_weights", "classnames"), _read_cache),
)


def _labels(texts: Sequence[str], path: Path) -> tuple[str, ...]:
    distinct = dict.fromkeys(texts)
    refuse_twins(distinct)
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


def _require_fit(content: Content) -> None:
    """Raise ValueError unless ids, labels and parts are as many as the vectors, ids are unique and parts known."""
    n = content.n_vectors
    for what, column in [("ids", content.ids), ("labels", content.labels), ("parts", content.parts)]:
        if len(column) not in ((n,) if what == "ids" else (0, n)):
            raise ValueError(f"it has {len(column)} {what} for {n} vectors")
    _refuse_repeated(content.ids, "id")
    for part in set(content.parts) - set(PARTS):
        raise ValueError(f"part {shown(part)} is not one of {', '.join(PARTS)}")


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
