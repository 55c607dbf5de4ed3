"""Unit rows, softmax, class embeddings and support sets."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeAlias

import array_api_compat
import numpy as np

from tip_adapter.errors import LabelError, VectorError
from tip_adapter.text import counted, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

#: A NumPy array or a torch tensor.
Array: TypeAlias = Any

#: Rows whose length differs from 1 by at most this many roundings count as unit rows.
_ROUNDINGS = 8


def unit_rows(rows: Array) -> Array:
    """Scale each row to unit length; zero rows stay zero, unit rows stay bit-identical.

    Parameters
    ----------
    rows : (n, d) float array, NumPy or torch

    Returns
    -------
    (n, d) array of the same kind, dtype and device
    """
    xp = array_api_compat.array_namespace(rows)
    # Scaled by the largest entry first, so that lengths neither overflow nor underflow.
    largest = xp.max(xp.abs(rows), axis=1, keepdims=True) if rows.shape[1] else rows[:, :1]
    scaled = rows / xp.where(largest > 0, largest, xp.ones_like(largest))
    lengths = xp.sqrt(xp.sum(scaled * scaled, axis=1, keepdims=True))
    lengths = xp.where(lengths > 0, lengths, xp.ones_like(lengths))
    # Normalising twice would change last bits; a loaded model must give the same logits as the saved one.
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


@dataclass(frozen=True, eq=False, init=False)
class ClassEmbeddings:
    """Vectors of the class names, aligned by label, never by position.

    Parameters
    ----------
    labels : (n_classes,) unique labels, of the kind used in `y`
    matrix : (n_classes, d) float array, NumPy or torch, or nested lists; finite, one row per label; half precision becomes
        float32

    Raises
    ------
    VectorError
        `matrix` is not a 2-D array of numbers with one row per label, or contains NaN or infinity.
    LabelError
        A label is repeated, blank or missing, or labels mix text and numbers.

    Examples
    --------
    >>> ClassEmbeddings(["dog", "cat"], [[1.0, 0.0], [0.0, 1.0]])
    ClassEmbeddings(2 classes, width 2)
    """

    labels: NDArray[Any]
    matrix: Array

    def __init__(self, labels: ArrayLike, matrix: Array) -> None:
        matrix, labels = _class_matrix(matrix), label_array(labels, "labels of class embeddings")
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "matrix", matrix)
        if matrix.ndim != 2 or labels.ndim != 1 or len(labels) != matrix.shape[0]:
            raise VectorError(
                f"class embeddings need one row per label: {labels.shape} labels, matrix {tuple(matrix.shape)}"
            )
        if not len(labels):
            raise VectorError("class embeddings need at least one class")
        require_finite(matrix, "class embeddings")
        unique, counts = np.unique(labels, return_counts=True)
        if len(unique) < len(labels):
            raise LabelError(
                f"label {unique[counts > 1].tolist()[0]!r} has two class embeddings; labels must be unique"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"ClassEmbeddings({counted(len(self), 'class', 'classes')}, width {self.matrix.shape[1]})"

    def sorted_by_label(self) -> ClassEmbeddings:
        """The same embeddings, rows in the order of their sorted labels."""
        order = np.argsort(self.labels, kind="stable")
        return ClassEmbeddings(self.labels[order], self.matrix[order])

    def without(self, label: Any) -> ClassEmbeddings:
        """The same embeddings except that of `label`."""
        others = np.flatnonzero(self.labels != plain(label))
        return ClassEmbeddings(self.labels[others], self.matrix[others])


@dataclass(frozen=True, eq=False)
class SupportSet:
    """Vectors of the labelled images.

    Parameters
    ----------
    vectors : (n, d) float array, stored as float32; unit rows, or rows that FewShotClassifier makes so
    labels : (n,) str array or list
    ids : (n,) str array or list
    digests : (n,) str array or list, SHA-256 of each image's content in hexadecimal; empty where unknown, by default everywhere

    Raises
    ------
    VectorError
        `vectors` is not an array of floats; a vector is zero, NaN or infinite; or the lengths differ.
    LabelError
        A label or an id is not text, or contains NUL; a label is blank.
    """

    vectors: NDArray[np.float32]
    labels: NDArray[np.str_]
    ids: NDArray[np.str_]
    digests: NDArray[np.str_] = field(default_factory=lambda: np.zeros(0, np.str_))

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", _texts(label_array(self.labels, "labels of a support set"), "label"))
        object.__setattr__(self, "ids", _texts(plain_array(self.ids, "ids of a support set"), "id"))
        digests = self.digests if len(self.digests) else np.zeros(len(self.ids), np.str_)
        object.__setattr__(self, "digests", np.asarray(digests, dtype=np.str_))
        if not isinstance(self.vectors, np.ndarray) or self.vectors.dtype.kind != "f":
            raise VectorError(f"support vectors must be a NumPy array of floats, not {shown(self.vectors)}")
        with np.errstate(over="ignore"):  # infinity is refused below
            object.__setattr__(self, "vectors", self.vectors.astype(np.float32, copy=False))
        lengths = {len(column) for column in (self.labels, self.ids, self.digests)}
        if self.vectors.ndim != 2 or lengths != {len(self.vectors)}:
            raise VectorError(f"{len(self.labels)} labels and {len(self.ids)} ids for {self.vectors.shape} vectors")
        require_finite(self.vectors, "support vectors")
        zero = np.flatnonzero(~self.vectors.any(axis=1))
        if len(zero):
            raise VectorError(f"the encoder gave a zero vector for {self.ids[zero[0]]}; remove this image")

    def __len__(self) -> int:
        return len(self.labels)

    def with_more(self, others: SupportSet) -> SupportSet:
        """These images, then others."""
        return SupportSet.joined([self, others])

    @classmethod
    def joined(cls, parts: Sequence[SupportSet]) -> SupportSet:
        """The images of several support sets of one width, at least one, in order."""
        columns = {
            column.name: np.concatenate([getattr(part, column.name) for part in parts]) for column in fields(cls)
        }
        label_array(list(dict.fromkeys(columns["labels"].tolist())), "labels of a support set")  # of all parts together
        return cls._of_checked(columns)

    def take(self, rows: slice | NDArray[Any]) -> SupportSet:
        """The images of these rows."""
        return self._of_checked({column.name: getattr(self, column.name)[rows] for column in fields(self)})

    @classmethod
    def _of_checked(cls, columns: dict[str, NDArray[Any]]) -> SupportSet:
        """Without the checks of a new one, which take longer than to add a photo to many."""
        support = object.__new__(cls)
        for name, column in columns.items():
            object.__setattr__(support, name, column)
        return support


def require_finite(rows: Array, what: str) -> None:
    """Raise VectorError if `rows` holds NaN or infinity."""
    xp = array_api_compat.array_namespace(rows)
    if not bool(xp.all(xp.isfinite(rows))):
        raise VectorError(f"{what} contain NaN or infinity")


def _class_matrix(matrix: Any) -> Array:
    """Nested lists as float64; half precision as float32, since NumPy has no bfloat16."""
    if isinstance(matrix, (list, tuple)):
        try:
            return np.asarray(matrix, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise VectorError(f"class embeddings are not rows of numbers: {error}") from error
    if not (isinstance(matrix, np.ndarray) or array_api_compat.is_torch_array(matrix)):
        raise VectorError(
            f"class embeddings take a NumPy array, a torch tensor or nested lists, not a {type(matrix).__name__}; "
            "convert it, with rows in the order of the labels"
        )
    xp = array_api_compat.array_namespace(matrix)
    if not xp.isdtype(matrix.dtype, ("real floating", "integral")):
        raise VectorError(f"class embeddings are real numbers, not {matrix.dtype}")
    half = xp.isdtype(matrix.dtype, "real floating") and matrix.dtype.itemsize < 4
    return xp.astype(matrix, xp.float32) if half else matrix


def _texts(given: NDArray[Any], one: str) -> NDArray[np.str_]:
    """The labels or ids of a support set, at least 1-D; LabelError if one is not text."""
    texts = np.atleast_1d(given)
    first = texts[:1].tolist()
    if first and not isinstance(first[0], str):
        raise LabelError(f"{one} {shown(first[0])} of a support set is not text; pass str({one})")
    return texts if len(texts) else np.zeros(0, np.str_)


def label_array(labels: Any, what: str) -> NDArray[Any]:
    """Labels as an array, as `plain_array`; LabelError also if one is blank, or two differ only by white space."""
    array = plain_array(labels, what)
    texts = array.astype(np.str_) if array.dtype == object else array
    if texts.dtype.kind == "U" and (blank := np.flatnonzero(np.char.strip(texts) == "")).size:
        found = shown(texts.ravel()[blank[0]].item())
        raise LabelError(f"{what} hold {found}, a label that is missing; remove it or give it a name")
    if texts.dtype.kind == "U":
        seen: dict[str, str] = {}
        for text in dict.fromkeys(texts.ravel().tolist()):
            if (other := seen.setdefault(" ".join(text.split()), text)) != text:
                raise LabelError(
                    f"{what} hold {shown(other)} and {shown(text)}, which differ only by white space; merge them"
                )
    return array


def plain_array(values: Any, what: str) -> NDArray[Any]:
    """Labels or ids as an array: all text, all truth values or all numbers.

    They are checked, and sub-classes of text become text, before NumPy sees them. It makes text of numbers, 1 of True, "a"
    of "a" and NUL, a value of what is masked, and cuts a text that has a `__str__` of its own.

    Raises
    ------
    LabelError
        They are not of one kind; one is missing, contains NUL, or is a number that NumPy changes.
    """
    if np.ma.is_masked(values):
        raise LabelError(f"{what} hold masked values, which are missing; leave these rows out (array.compressed())")
    if isinstance(values, np.ndarray) and values.dtype.kind in "Ubiu":
        return np.asarray(values)  # of one kind, and as NumPy holds them
    objects = np.asarray(values, dtype=object)
    given = [plain(value) for value in objects.ravel().tolist()]
    kinds: dict[type, Any] = {}
    for value in given:
        kind = next((kind for kind in (str, bool, Real) if isinstance(value, kind)), None)
        if kind is None or value != value:
            raise LabelError(
                f"{what} hold {shown(value)}, which is neither text nor a number, or is missing (NaN); "
                "remove it or give it a name"
            )
        if kind is str and "\0" in value:
            raise LabelError(f"{what} hold {shown(value)}, which contains NUL; rename it")
        kinds.setdefault(kind, value)
    if len(kinds) > 1:
        one, other, *_ = kinds.values()
        raise LabelError(
            f"{what} are of several kinds: {shown(one)} and {shown(other)}; make all of them text, or all of them numbers"
        )
    array = np.asarray(values)
    if str in kinds:
        texts = np.array(given, dtype=object).reshape(objects.shape)
        # an array of objects, such as a column of pandas, stays one
        return texts if array.dtype == object else texts.astype(np.str_)
    if Real in kinds and array.dtype != object and array.ravel().tolist() != given:
        raise LabelError(f"{what} hold numbers that do not stay exact in one array; make all of them text")
    return array


def plain(value: Any) -> Any:
    """A number of NumPy as one of Python, and text of a sub-class, such as a member of an Enum, as text."""
    if isinstance(value, str):
        return str.__str__(value)
    return value.item() if hasattr(value, "item") and value is not np.ma.masked else value
