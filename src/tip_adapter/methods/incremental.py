"""Incremental learning: add and remove images and classes; the result equals a refit, bit for bit if nothing is trained.

Arrays are replaced, never changed in place, so that copies of the old state stay consistent.
"""

from __future__ import annotations

import copy
import threading
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

import array_api_compat
import numpy as np
from sklearn.utils.validation import check_is_fitted

from tip_adapter.errors import LabelError
from tip_adapter.methods.base import VectorClassifier, check_settings
from tip_adapter.methods.labels import checked_labels, label_kind, positions, warn_of_doubts, with_ids
from tip_adapter.methods.ops import like
from tip_adapter.vectors import label_array, plain, unit_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from tip_adapter.vectors import Array

P = ParamSpec("P")
Changed = TypeVar("Changed", bound="IncrementalClassifier")

#: One for all classifiers: a lock in a classifier could be neither copied nor pickled with it.
_CHANGING = threading.RLock()


def _in_one_step(change: Callable[Concatenate[Changed, P], Changed]) -> Callable[Concatenate[Changed, P], Changed]:
    """Changes of several threads run one after the other; a thread that predicts sees the state before or after, never between."""

    @wraps(change)
    def changed(classifier: Changed, /, *args: P.args, **kwargs: P.kwargs) -> Changed:
        with _CHANGING:
            before, after = classifier.__dict__.copy(), copy.copy(classifier)
            change(after, *args, **kwargs)
            # Only what changed: another thread may set a constructor value meanwhile.
            new = {name: value for name, value in after.__dict__.items() if before.get(name, ...) is not value}
            classifier.__dict__.update(new)
        return classifier

    return changed


class IncrementalClassifier(VectorClassifier):
    """A classifier whose state is its keys, labels and ids, and what `_changed` makes of them.

    Threads may share it: those that call `partial_fit`, `remove` and `remove_class` wait for each other, others do not.
    """

    @_in_one_step
    def partial_fit(self, X: Array, y: Any, classes: Any = None, ids: Sequence[str | None] | None = None) -> Self:
        """Add vectors: as `fit` on the earlier ones followed by these.

        Parameters
        ----------
        X : (n, d) float array, NumPy or torch; converted to the kind and dtype of the earlier ones
        y : (n,) labels; new ones add classes. With class embeddings, first set `class_embeddings` to ones that include them
        classes : all permitted labels, only checked; None permits any
        ids : (n,) str, as in `fit`

        Returns
        -------
        self

        Raises
        ------
        ValueError
            As `fit`; a label is not among `classes`; an id exists already. Nothing is added then.
        """
        if not hasattr(self, "keys_"):
            _refuse_others(checked_labels(y, len(X)), classes)
            return self.fit(X, y, ids=ids)
        check_settings(self)
        keys = unit_rows(like(self._checked(X, reset=False), self.keys_))
        y = checked_labels(y, len(keys)) if len(keys) else self.classes_[:0]  # no labels have no kind
        known, weights = self._classes_with(y)
        _refuse_others(np.unique(y), classes)
        earlier = self.labels_
        if known is not self.classes_:  # they may lack classes without vectors
            present, earlier = np.unique(earlier, return_inverse=True)
            earlier = positions(self.classes_[present], known)[earlier]
        added = positions(y, known)
        if self.class_embeddings is None:
            warn_of_doubts(known, self.classes_)
        names, self._n_numbered = with_ids(ids, len(keys), self.ids_, self._n_numbered)
        xp = array_api_compat.array_namespace(self.keys_)
        self.classes_, self.weights_, self._weights_from = known, weights, self.class_embeddings
        self.keys_ = xp.concat([self.keys_, keys])
        self.labels_ = np.concatenate([earlier, added])
        self.ids_ = np.concatenate([self.ids_, names])
        self._changed()
        return self

    @_in_one_step
    def remove(self, ids: Iterable[str]) -> Self:
        """Remove vectors. Without class embeddings a class is removed with its last vector.

        Raises
        ------
        ValueError
            An id does not exist or is given twice, or no class would be left. Nothing is removed then.
        """
        check_is_fitted(self)
        rows = {name: row for row, name in enumerate(self.ids_.tolist())}
        gone = []
        for name in [ids] if isinstance(ids, str) else ids:
            if name not in rows:
                reason = "is given twice" if name in self.ids_.tolist() else "is not there"
                raise ValueError(f"id {name!r} {reason}; nothing was removed")
            gone.append(rows.pop(name))
        kept = np.delete(np.arange(len(self.ids_)), gone)
        if self.class_embeddings is None and not len(kept):
            raise ValueError("no class would be left; nothing was removed")
        return self._keep(kept)

    @_in_one_step
    def remove_class(self, label: Any) -> Self:
        """Remove a class: its vectors and its class embedding.

        Raises
        ------
        ValueError
            The class does not exist, or is the only one. Nothing is removed then.
        """
        check_is_fitted(self)
        gone = np.flatnonzero(self.classes_ == plain(label))
        if not len(gone):
            raise ValueError(f"there is no class {label!r}; nothing was removed")
        if len(self.classes_) == 1:
            raise ValueError(f"{label!r} is the only class; nothing was removed")
        if self._encoded:
            raise ValueError(
                f"class {label!r} is a number for one of the class embeddings' labels, and without it the others would be "
                "numbered anew; nothing was removed. Fit with the labels themselves"
            )
        kept = np.flatnonzero(self.labels_ != gone[0])
        if self.class_embeddings is not None:
            self.class_embeddings = self._weights_from = self.class_embeddings.without(label)
            self.classes_, self.weights_ = self._embedded(self.class_embeddings, self.keys_)
            self.labels_ = self.labels_ - (self.labels_ > gone[0])
        return self._keep(kept)

    def _classes_with(self, y: NDArray[Any]) -> tuple[NDArray[Any], Array]:
        """Sorted labels and weights after adding `y`."""
        if self.class_embeddings is not None:
            unchanged = self.class_embeddings is self._weights_from
            return (self.classes_, self.weights_) if unchanged else self._embedded(self.class_embeddings, self.keys_)
        first = y[:1].tolist()
        if first and label_kind(first[0]) is not label_kind(self.classes_[:1].tolist()[0]):
            raise ValueError(f"label {first[0]!r} is of another kind than the earlier ones")
        if self.classes_.dtype.kind in "iu" and y.dtype.kind == "f" and np.all(abs(y) < 2**53):
            y = y.astype(self.classes_.dtype)  # whole, as checked
        classes = np.unique(np.concatenate([self.classes_, y]))
        if len(classes) > len(self.classes_):
            label_array(classes, "labels (y) and earlier ones")
        if classes.tolist() != sorted({*self.classes_.tolist(), *y.tolist()}):
            raise LabelError("labels (y) and earlier ones do not stay exact in one array; make all of them text")
        return classes, like(np.zeros((len(classes), self.keys_.shape[1])), self.keys_)

    def _keep(self, rows: NDArray[np.intp]) -> Self:
        """Keep these rows, and without class embeddings only their classes."""
        labels = self.labels_[rows]
        if self.class_embeddings is None:
            present, labels = np.unique(labels, return_inverse=True)
            self.classes_, self.weights_ = self.classes_[present], self.weights_[present]
        self.keys_, self.labels_, self.ids_ = self.keys_[rows], labels, self.ids_[rows]
        self._changed()
        return self

    def _changed(self) -> None:
        """What else follows from the keys, labels and weights: nothing, unless a method learns from them."""


def _refuse_others(labels: NDArray[Any], classes: Any) -> None:
    """Raise ValueError if one of the labels is not among `classes`."""
    if classes is None:
        return
    permitted = label_array(classes, "classes").tolist()
    if others := sorted(set(labels.tolist()) - set(permitted), key=str):
        raise ValueError(f"label {others[0]!r} is not among the classes given")
