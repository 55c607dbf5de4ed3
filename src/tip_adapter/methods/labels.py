"""Labels and ids of the vectors that are learned: validated, as positions in the classes, and as scikit-learn encodes them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import array_api_compat
import numpy as np
from sklearn.utils import assert_all_finite
from sklearn.utils.validation import column_or_1d

from tip_adapter.errors import LabelError, warn
from tip_adapter.lookalikes import forms
from tip_adapter.methods.ops import to_numpy
from tip_adapter.text import shown
from tip_adapter.validation import is_missing
from tip_adapter.vectors import ClassEmbeddings, label_array, plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

#: What scikit-learn's OutputCodeClassifier calls a group of classes and the others.
_SIDES = {-1, 1}


def checked_labels(y: Any, n: int) -> NDArray[Any]:
    """Labels of `n` vectors as a NumPy array.

    Raises
    ------
    ValueError
        Their number is not `n`. LabelError: they are neither text nor whole numbers, or as `label_array`.
    """
    if y is None:
        raise ValueError("requires y to be passed, but the target y is None")
    array = to_numpy(y)
    column = column_or_1d(array.astype(object) if array.dtype.kind == "T" else array, warn=True)
    try:
        assert_all_finite(column, input_name="y")
    except TypeError:
        pass  # pandas' NA is neither true nor false; it is refused below
    except ValueError as error:
        raise LabelError(str(error)) from None
    y = label_array(column if array_api_compat.is_torch_array(y) else y, "labels (y)").ravel()
    if len(y) != n:
        raise ValueError(f"Found input variables with inconsistent numbers of samples: [{n}, {len(y)}]")
    # Not scikit-learn's type_of_target: it warns if many classes have one image.
    if y.dtype.kind == "f" and np.any(y != np.floor(y)):
        raise LabelError("Unknown label type: continuous; labels are names or whole numbers")
    return y


def warn_of_doubts(labels: NDArray[Any], known: NDArray[Any] | None = None) -> None:
    """Warn of new labels that are what programs write for a missing one, such as the text nan or -1, or that look like another.

    They are not refused: models and projects of earlier versions may have them.

    Parameters
    ----------
    labels : those of the classes, each once
    known : those that were there before, of which nothing is said
    """
    old = set(known.tolist()) if known is not None else set()
    if old.issuperset(labels.tolist()):  # as for nearly every photo that is added
        return
    texts = [label for label in labels.tolist() if isinstance(label, str)]
    missing = [label for label in texts if is_missing(label) and label not in old]
    if missing:
        warn(
            f"labels (y) hold {shown(missing[0])}, which is written where a label is missing, and is a class now; if it is none, leave "
            "these rows out"
        )
    seen: dict[tuple[str, str], str] = {}
    for label in sorted(texts, key=lambda label: label not in old):
        alike = [(form[0], other) for form in forms(label) if (other := seen.setdefault(form, label)) != label]
        if alike and label not in old:
            how, other = alike[0]
            warn(
                f"labels (y) hold {other!a} and {label!a}, which differ only by {how} and are two classes; merge them if they are one"
            )
    numbers = labels.tolist() if labels.dtype.kind in "if" else []
    if -1 in numbers and -1 not in old and min(numbers) == -1 and len(numbers) > 3:  # not a scale of -1, 0 and 1
        warn(
            "labels (y) hold -1, which is written where a label is missing, and is a class now; if it is none, leave these rows out"
        )


def warn_of_unknown_forms(labels: NDArray[Any], known: NDArray[Any]) -> None:
    """Warn of labels that are no classes but differ from one only by case, white space or the like: they count as wrong."""
    classes = {form: label for label in known.tolist() if isinstance(label, str) for form in forms(label)}
    for label in sorted({label for label in labels.tolist() if isinstance(label, str)}.difference(known.tolist())):
        if found := next(((form[0], classes[form]) for form in forms(label) if form in classes), None):
            warn(f"the label {label!a} counts as wrong: it differs from the class {found[1]!a} by {found[0]}")


def with_ids(
    ids: Sequence[str | None] | None, n: int, taken: NDArray[np.str_], n_numbered: int
) -> tuple[NDArray[np.str_], int]:
    """Ids of `n` new rows, running numbers for those without; → (n,) ids and the next number.

    Raises
    ------
    ValueError
        Their number is not `n`; one is not text or contains NUL; or one is in `taken` or repeated.
    """
    given: list[Any] = [None] * n if ids is None else list(ids)
    if len(given) != n:
        raise ValueError(f"got {len(given)} ids for {n} rows")
    counts = Counter(name for name in given if name is not None)
    for name, times in counts.items():
        if not isinstance(name, str):
            raise ValueError(f"id {name!r} is not text")
        if "\0" in name:
            raise ValueError(f"id {name!r} contains NUL")
        if times > 1 or np.any(taken == name):
            raise ValueError(f"id {name!r} is there already")
    for row, name in enumerate(given):
        if name is None:
            while str(n_numbered) in counts or np.any(taken == str(n_numbered)):
                n_numbered += 1
            given[row], n_numbered = str(n_numbered), n_numbered + 1
    return np.array(list(map(plain, given)), dtype=np.str_), n_numbered


def positions(y: NDArray[Any], classes: NDArray[Any]) -> NDArray[Any]:
    """Positions of `y` in the sorted `classes`.

    Raises
    ------
    ValueError
        A label is not among them, or of another type.
    """
    known, kind = set(classes.tolist()), label_kind(classes.tolist()[0])
    for label in np.unique(y).tolist():
        if label not in known or label_kind(label) is not kind:
            listed = ", ".join(map(repr, classes[:5].tolist())) + (", …" if len(classes) > 5 else "")
            raise ValueError(f"label {label!r} has no class embedding; known are {listed}")
    return np.searchsorted(classes, y)


def is_encoded(y: NDArray[Any], embeddings: ClassEmbeddings) -> bool:
    """Whether (n,) `y` holds positions among the N labels in order, as scikit-learn's meta-estimators encode.

    These are integers in 0..N-1, or -1 and 1, that are none of the labels; or all of 0..N-1 where not all of these are
    (integer) labels.
    """
    if y.dtype.kind not in "iu" or not len(y):
        return False
    labels = {label for label in embeddings.labels.tolist() if not isinstance(label, bool)}  # True is no 1
    numbers = set(np.unique(y).tolist())
    if numbers != _SIDES and not 0 <= min(numbers) <= max(numbers) < len(embeddings):
        return False
    if not {*numbers, *map(str, numbers)} & labels:
        return True
    # The label "1" is not meant by 1, nor by a position.
    return embeddings.labels.dtype.kind in "iu" and numbers == set(range(len(embeddings))) and not numbers <= labels


def embeddings_of_encoded(y: NDArray[Any], embeddings: ClassEmbeddings) -> ClassEmbeddings | None:
    """The embeddings, (N, d), by position among their sorted labels; None, with a warning, where (n,) `y` may be numbered otherwise.

    Labels that are encoded with fewer classes than there are embeddings (a class against the rest, or some classes only) do
    not say which classes they are. If the last position occurs, there are as many classes as embeddings. Some classes
    against the others, -1 and 1, may be any.
    """
    n, ordered = len(embeddings), embeddings.sorted_by_label()
    if np.max(y) < n - 1 or np.min(y) < 0:
        warn(
            f"y holds integers from {np.min(y)} to {np.max(y)} that are not among the labels of the {n} class embeddings: the classes they "
            "stand for are unknown, so the images alone are used; to use the class names, give their labels as y"
        )
        return None
    also_labels = embeddings.labels.dtype.kind in "iu" and np.isin(y, embeddings.labels).any()
    if n <= 2 or also_labels or not np.array_equal(ordered.labels, embeddings.labels):
        order = ", ".join(f"{i} is {label!r}" for i, label in enumerate(ordered.labels[:5].tolist()))
        warn(
            f"y holds integers that are not all among the labels of the class embeddings: they are read as positions among the "
            f"sorted labels ({order}{', …' if n > 5 else ''}); if they mean something else, give the labels themselves"
        )
    return ClassEmbeddings(np.arange(n), ordered.matrix)


def label_kind(label: Any) -> type:
    """str, bool or float (any number) of a Python value."""
    return next((kind for kind in (str, bool) if isinstance(label, kind)), float)
