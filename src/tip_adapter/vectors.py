"""Vectors and what belongs to them: unit rows, softmax, class embeddings, support sets, seeded draws."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeAlias

import array_api_compat
import numpy as np

from tip_adapter.errors import LabelError, VectorError
from tip_adapter.text import shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: A NumPy array or a torch tensor: the equations are written once, for both.
Array: TypeAlias = Any

#: Rows within so many roundings of unit length are unit rows.
_ROUNDINGS = 8


def unit_rows(rows: Array) -> Array:
    """Scale each row to unit length; a zero row stays zero, and a row of unit length stays as it is, bit by bit.

    Parameters
    ----------
    rows : (n, d) float array, NumPy or torch

    Returns
    -------
    (n, d) array of the same kind, dtype and device
    """
    xp = array_api_compat.array_namespace(rows)
    # Scaled by its largest entry first, so that no length overflows or vanishes.
    largest = xp.max(xp.abs(rows), axis=1, keepdims=True) if rows.shape[1] else rows[:, :1]
    scaled = rows / xp.where(largest > 0, largest, xp.ones_like(largest))
    lengths = xp.sqrt(xp.sum(scaled * scaled, axis=1, keepdims=True))
    lengths = xp.where(lengths > 0, lengths, xp.ones_like(lengths))
    # Normalising again would move last bits: a model that was saved must answer as the one that is loaded.
    is_unit = xp.abs(largest - 1 / lengths) <= _ROUNDINGS * xp.finfo(rows.dtype).eps / lengths
    return xp.where(is_unit, rows, scaled / lengths)


def softmax(logits: Array) -> Array:
    """Probabilities of each row.

    Parameters
    ----------
    logits : (n, n_classes) float array, NumPy or torch

    Returns
    -------
    (n, n_classes) array of the same kind, dtype and device; rows sum to 1
    """
    xp = array_api_compat.array_namespace(logits)
    exponentials = xp.exp(logits - xp.max(logits, axis=1, keepdims=True))
    return exponentials / xp.sum(exponentials, axis=1, keepdims=True)


@dataclass(frozen=True, eq=False)
class ClassEmbeddings:
    """The class names as vectors, aligned by label, never by position.

    Parameters
    ----------
    labels : (n_classes,) unique labels, of the kind used in `y`
    matrix : (n_classes, d) float array, NumPy or torch, or nested lists; finite, one row per label; half
        precision is kept as float32

    Raises
    ------
    VectorError
        `matrix` is no array of numbers, not 2-D, has another number of rows than `labels`, or holds NaN or infinity.
    LabelError
        A label stands twice, is missing, or labels are of several kinds.

    Examples
    --------
    >>> ClassEmbeddings(["dog", "cat"], [[1.0, 0.0], [0.0, 1.0]])
    ClassEmbeddings(2 classes, width 2)
    """

    labels: NDArray[Any]
    matrix: Array

    def __post_init__(self) -> None:
        matrix, labels = _class_matrix(self.matrix), _class_labels(self.labels)
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "matrix", matrix)
        if matrix.ndim != 2 or labels.ndim != 1 or len(labels) != matrix.shape[0]:
            raise VectorError(
                f"class embeddings need one row per label: {labels.shape} labels, matrix {tuple(matrix.shape)}"
            )
        if not len(labels):
            raise VectorError("class embeddings need at least one class")
        require_finite(matrix, "class embeddings")
        _refuse_repeated(labels)

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"ClassEmbeddings({len(self)} classes, width {self.matrix.shape[1]})"

    def sorted_by_label(self) -> ClassEmbeddings:
        """The same embeddings, rows in the order of their sorted labels."""
        order = np.argsort(self.labels, kind="stable")
        return ClassEmbeddings(self.labels[order], self.matrix[order])

    def without(self, label: Any) -> ClassEmbeddings:
        """The same embeddings, that of `label` left out."""
        others = np.flatnonzero(self.labels != label)
        return ClassEmbeddings(self.labels[others], self.matrix[others])


@dataclass(frozen=True, eq=False)
class SupportSet:
    """The labelled photos as vectors.

    Parameters
    ----------
    vectors : (n, d) float32 array, unit rows as encoders give them
    labels : (n,) str array
    ids : (n,) str array

    Raises
    ------
    VectorError
        `vectors` is no array of floats; a vector is zero, NaN or infinite; or the lengths differ.
    """

    vectors: NDArray[np.float32]
    labels: NDArray[np.str_]
    ids: NDArray[np.str_]

    def __post_init__(self) -> None:
        if not isinstance(self.vectors, np.ndarray) or self.vectors.dtype.kind != "f":
            raise VectorError(f"support vectors are a NumPy array of floats, not {shown(self.vectors)}")
        if self.vectors.ndim != 2 or not len(self.vectors) == len(self.labels) == len(self.ids):
            raise VectorError(f"{len(self.labels)} labels and {len(self.ids)} ids for {self.vectors.shape} vectors")
        require_finite(self.vectors, "support vectors")
        zero = np.flatnonzero(~self.vectors.any(axis=1))
        if len(zero):
            raise VectorError(f"the vector of {self.ids[zero[0]]} is zero: the encoder saw nothing in it; remove it")

    def __len__(self) -> int:
        return len(self.labels)

    def with_more(self, others: SupportSet) -> SupportSet:
        """These photos, then others."""
        pairs = [(self.vectors, others.vectors), (self.labels, others.labels), (self.ids, others.ids)]
        return SupportSet(*(np.concatenate(pair) for pair in pairs))

    def take(self, rows: slice | NDArray[Any]) -> SupportSet:
        """These photos only."""
        return SupportSet(self.vectors[rows], self.labels[rows], self.ids[rows])


def require_finite(rows: Array, what: str) -> None:
    """Raise VectorError if `rows` holds NaN or infinity."""
    xp = array_api_compat.array_namespace(rows)
    if not bool(xp.all(xp.isfinite(rows))):
        raise VectorError(f"{what} contain NaN or infinity")


def _class_matrix(matrix: Any) -> Array:
    """An array as it is, half precision as float32, since NumPy has no bfloat16; nested lists as float64."""
    if isinstance(matrix, (list, tuple)):
        try:
            return np.asarray(matrix, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise VectorError(f"class embeddings are no rows of numbers: {error}") from error
    if not (isinstance(matrix, np.ndarray) or array_api_compat.is_torch_array(matrix)):
        raise VectorError(
            f"class embeddings take a NumPy array, a torch tensor or nested lists, not a {type(matrix).__name__}; "
            "turn it into one of these, its rows in the order of the labels"
        )
    xp = array_api_compat.array_namespace(matrix)
    if not xp.isdtype(matrix.dtype, ("real floating", "integral")):
        raise VectorError(f"class embeddings are real numbers, not {matrix.dtype}")
    half = xp.isdtype(matrix.dtype, "real floating") and matrix.dtype.itemsize < 4
    return xp.astype(matrix, xp.float32) if half else matrix


def _class_labels(labels: Any) -> NDArray[Any]:
    """Labels as an array: all of them text, or all of them numbers, none missing."""
    array = np.asarray(labels)
    if array.ndim == 1:  # of what was given: NumPy makes text of numbers beside text
        kinds = {_kind(label) for label in labels}
        if len(kinds) > 1 or None in kinds:
            raise LabelError(
                "labels of class embeddings are of several kinds, or one is missing; "
                "make all of them text, or all of them numbers"
            )
    return array


def _kind(label: Any) -> type | None:
    """Text or number; None for what is neither, NaN included."""
    if isinstance(label, str):
        return str
    return float if isinstance(label, (Real, np.bool_)) and label == label else None


def _refuse_repeated(labels: NDArray[Any]) -> None:
    unique, counts = np.unique(labels, return_counts=True)
    if len(unique) < len(labels):
        raise LabelError(f"label {unique[counts > 1].tolist()[0]!r} has two class embeddings; labels must be unique")
