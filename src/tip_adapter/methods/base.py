"""Everything scikit-learn wants of a classifier over vectors, once: validation, blocks, and the shapes of answers.

A method stores its arrays in `_fit(keys, labels)`, names those that answering needs in `_arrays`, and gives
`_logits(queries, *arrays)`; all else follows from these.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar, Self

import array_api_compat
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import assert_all_finite
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from tip_adapter.methods.explanation import ClassEvidence, decompose
from tip_adapter.methods.ops import like, to_numpy
from tip_adapter.vectors import ClassEmbeddings, require_finite, softmax, unit_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from tip_adapter.vectors import Array

#: What constructor values may be: kind, lowest, whether that itself is allowed.
_NUMBERS: dict[str, tuple[type[Any], float, bool]] = {
    "alpha": (Real, 0, True),
    "beta": (Real, 0, False),
    "logit_scale": (Real, 0, False),
    "learning_rate": (Real, 0, True),
    "ratio": (Real, 0, True),
    "C": (Real, 0, False),
    "epochs": (Integral, 0, True),
    "reduction": (Integral, 1, True),
    "batch_size": (Integral, 1, True),
    "n_context": (Integral, 1, True),
    "seed": (Integral, 0, True),
}
# Queries are answered in blocks so that a block's affinities (16 MiB) are the largest array there is.
_BLOCK_ENTRIES = 2**22
#: Learned arrays start as unit rows; what is read from a file may not be larger than this.
_LEARNED_BOUND = 1e4


@dataclass(frozen=True)
class Capabilities:
    """What a method can do and needs: declared once in its class body.

    Parameters
    ----------
    needs_images : bool, whether labelled images teach it anything when there are class embeddings
    has_alpha_beta : bool, whether it has alpha and beta to choose
    takes_validation : bool, whether `fit` searches a setting on ``validation=(X_val, y_val)``
    takes_views : bool, whether `fit` trains on augmented ``views=epoch → (n, d) array``
    incremental : bool, whether it has `partial_fit`, `remove` and `remove_class`
    explains : bool, whether it has `explain`
    learned : attributes that training made: what a model folder keeps beside the support
    encoder_parts : constructor values that only an encoder can give, each by its method of the same name
    """

    needs_images: bool = True
    has_alpha_beta: bool = False
    takes_validation: bool = False
    takes_views: bool = False
    incremental: bool = False
    explains: bool = False
    learned: tuple[str, ...] = ()
    encoder_parts: tuple[str, ...] = ()


class VectorClassifier(ClassifierMixin, BaseEstimator, ABC):  # type: ignore[misc]
    """A classifier over vectors of a frozen encoder."""

    #: Attributes that answering needs, moved to the queries' kind, dtype and device and handed to `_logits`.
    _arrays: ClassVar[tuple[str, ...]]

    #: What the method can do and needs; everything above `methods` asks here.
    capabilities: ClassVar[Capabilities] = Capabilities()

    class_embeddings: ClassEmbeddings | None
    logit_scale: float
    weights_: Array
    keys_: Array
    labels_: NDArray[Any]
    ids_: NDArray[np.str_]
    classes_: NDArray[Any]

    @abstractmethod
    def _fit(self, keys: Array, labels: NDArray[Any]) -> None:
        """Store what `keys`, (n, d) unit rows, and `labels`, (n,) positions in `classes_`, teach."""

    @abstractmethod
    def _logits(self, queries: Array, *arrays: Array) -> Array:
        """(m, d) unit rows → (m, n_classes)."""

    def fit(self, X: Array, y: Any, ids: Sequence[str | None] | None = None) -> Self:
        """Learn from labelled vectors.

        Parameters
        ----------
        X : (n, d) float array, NumPy or torch; rows are normalised here, a zero row stays zero; n = 0 only with class
            embeddings
        y : (n,) labels; with class embeddings each must be among theirs
        ids : (n,) str, what each vector is called; a row without one (None) gets a running number

        Returns
        -------
        self

        Raises
        ------
        ValueError
            NaN or infinity, another width than the class embeddings, a label that they do not have, an id that stands
            twice.
        """
        self._fit(*self._support(X, y, ids))
        return self

    def logits(self, X: Array) -> Array:
        """Scores of every class, always (n, n_classes).

        Parameters
        ----------
        X : (n, d) float array, NumPy or torch

        Returns
        -------
        (n, n_classes) float array of the queries' kind, dtype and device; float32 for half precision

        Raises
        ------
        ValueError
            NaN or infinity, or another width than at fit.
        """
        queries = self.unit_queries(X)
        check_settings(self)  # alpha and beta may have been set since `fit`
        arrays = [like(getattr(self, name), queries) for name in self._arrays]
        block = max(1, _BLOCK_ENTRIES // max(len(array) for array in arrays))
        starts = range(0, max(len(queries), 1), block)
        xp = array_api_compat.array_namespace(queries)
        return xp.concat([self._logits(queries[i : i + block], *arrays) for i in starts])

    def decision_function(self, X: Array) -> Array:
        """`logits` in scikit-learn's shape.

        Parameters
        ----------
        X : as in `logits`

        Returns
        -------
        (n, n_classes) float array; with two classes (n,), the second's logit minus the first's

        Raises
        ------
        ValueError
            As `logits`.
        """
        logits = self.logits(X)
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def predict_proba(self, X: Array) -> Array:
        """Softmax of `logits`.

        Parameters
        ----------
        X : as in `logits`

        Returns
        -------
        (n, n_classes) float array, rows sum to 1; columns in the order of `classes_`

        Raises
        ------
        ValueError
            As `logits`.
        """
        return softmax(self.logits(X))

    def predict(self, X: Array) -> NDArray[Any]:
        """The label of the highest logit, the first of equals.

        Parameters
        ----------
        X : as in `logits`

        Returns
        -------
        (n,) NumPy array of labels

        Raises
        ------
        ValueError
            As `logits`.
        """
        winners = to_numpy(self.logits(X)).argmax(axis=1)
        return self.classes_[winners]

    def learned(self) -> dict[str, NDArray[Any]]:
        """Arrays that training made, by attribute: empty for training-free methods."""
        return {name: to_numpy(getattr(self, name)) for name in self.capabilities.learned}

    @property
    def n_parameters(self) -> int:
        """How many numbers training may change."""
        return sum(array.size for array in self.learned().values())

    def training(self) -> dict[str, Any]:
        """What a result says of how it was trained: for most, `epochs` and `papers_epochs`; empty where nothing is."""
        epochs = inspect.signature(type(self)).parameters.get("epochs")
        return {"epochs": self.get_params()["epochs"], "papers_epochs": epochs.default} if epochs else {}

    def settings(self) -> dict[str, Any]:
        """Constructor values that are neither the pair nor the encoder's nor the names."""
        others = ("alpha", "beta", "class_embeddings", "names", "logit_scale", *self.capabilities.encoder_parts)
        return {name: value for name, value in self.get_params(deep=False).items() if name not in others}

    def restore(self, X: Array, y: Any, learned: Mapping[str, Array], ids: Sequence[str] | None = None) -> Self:
        """Take the state that `fit` on X, y and ids left, given what it learned.

        Raises
        ------
        ValueError
            As `fit`; `learned` holds other arrays than this method learns, or NaN or infinity.
        """
        if set(learned) != set(self.capabilities.learned):
            raise ValueError(f"expected learned arrays {sorted(self.capabilities.learned)}, got {sorted(learned)}")
        for name, array in learned.items():
            if not np.abs(to_numpy(array)).max(initial=0) <= _LEARNED_BOUND:
                raise ValueError(f"{name} holds NaN, or values beyond {_LEARNED_BOUND:g}")
        keys, labels = self._support(X, y, ids)
        if self.capabilities.learned:
            self._restore(keys, labels, learned)
        else:
            self._fit(keys, labels)
        return self

    def _restore(self, keys: Array, labels: NDArray[Any], learned: Mapping[str, Array]) -> None:
        """Store what training left, as `_fit` on (n, d) keys and (n,) labels did."""
        for name, array in learned.items():
            setattr(self, name, array)

    def unit_queries(self, X: Array) -> Array:
        """X checked against what was fitted, as unit rows."""
        check_is_fitted(self)
        return unit_rows(self._checked(X, reset=False))

    def _support(self, X: Array, y: Any, ids: Sequence[str | None] | None) -> tuple[Array, NDArray[Any]]:
        """Check all; set `classes_`, `weights_` and `ids_`; → unit rows and positions in `classes_`."""
        check_settings(self)
        X = self._checked(X, reset=True)
        y = checked_labels(y, len(X))
        keys = unit_rows(X)
        self.ids_, self._n_named = named(ids, len(keys), np.array([], dtype=np.str_), 0)
        self._named_by = self.class_embeddings
        if self.class_embeddings is None:
            self.classes_, labels = np.unique(y, return_inverse=True)
            self.weights_ = self._weights_without_names(keys, labels)
        else:
            self.classes_, self.weights_ = self._embedded(self.class_embeddings, keys)
            labels = positions(y, self.classes_)
        return keys, labels

    def _embedded(self, embeddings: ClassEmbeddings, keys: Array) -> tuple[NDArray[Any], Array]:
        """Sorted labels, and their embeddings as unit rows like the keys."""
        embeddings = embeddings.sorted_by_label()
        if embeddings.matrix.shape[1] != keys.shape[1]:
            raise ValueError(f"X has {keys.shape[1]} features, class embeddings have {embeddings.matrix.shape[1]}")
        return embeddings.labels, unit_rows(like(embeddings.matrix, keys))

    def _weights_without_names(self, keys: Array, labels: NDArray[Any]) -> Array:
        """Without class embeddings the names say nothing: (n_classes, d) zeros."""
        return like(np.zeros((len(self.classes_), keys.shape[1])), keys)

    def _checked(self, X: Array, *, reset: bool) -> Array:
        least = 1 if reset and self.class_embeddings is None else 0
        if array_api_compat.is_torch_array(X):
            return self._checked_torch(X, reset=reset, least=least)
        return validate_data(self, X, reset=reset, dtype=[np.float64, np.float32], ensure_min_samples=least)

    def _checked_torch(self, X: Array, *, reset: bool, least: int) -> Array:
        # scikit-learn's own check would turn it into NumPy.
        xp = array_api_compat.array_namespace(X)
        if X.ndim != 2 or not xp.isdtype(X.dtype, "real floating"):
            raise ValueError(f"expected a 2-D tensor of floats, got {X.dtype} of shape {tuple(X.shape)}")
        if len(X) < least:
            raise ValueError(
                f"Found array with {len(X)} sample(s) (shape={tuple(X.shape)}) while a minimum of {least} is required."
            )
        require_finite(X, "the vectors")
        if reset:
            self.n_features_in_ = X.shape[1]
        elif X.shape[1] != self.n_features_in_:
            name = type(self).__name__
            raise ValueError(
                f"X has {X.shape[1]} features, but {name} is expecting {self.n_features_in_} features as input"
            )
        X = X.detach()
        return X if xp.finfo(X.dtype).bits >= 32 else xp.astype(X, xp.float32)  # half precision is for storage


class ExplainedClassifier(VectorClassifier):
    """A classifier whose logits are sums over named keys and the text."""

    @abstractmethod
    def _parts(self, queries: Array, *arrays: Array) -> tuple[Array, Array]:
        """(m, d) unit rows → (m, n_classes) text logits and (m, n) each key's part in its class's logit."""

    def explain(self, X: Array) -> list[tuple[ClassEvidence, ...]]:
        """Take the logits of each query apart.

        Parameters
        ----------
        X : (n, d) float array, NumPy or torch

        Returns
        -------
        one tuple a query: a ClassEvidence for every class, the likeliest first; text + photos + others is the logit

        Raises
        ------
        ValueError
            As `logits`.

        Examples
        --------
        >>> from tip_adapter import TipAdapterClassifier
        >>> clf = TipAdapterClassifier().fit([[1.0, 0.0], [0.0, 1.0]], ["cat", "dog"], ids=["a.jpg", "b.jpg"])
        >>> best, *_ = clf.explain([[0.9, 0.2]])[0]
        >>> print(best.label, best.images[0].id)
        cat a.jpg
        """
        queries = self.unit_queries(X)
        check_settings(self)
        arrays = [like(getattr(self, name), queries) for name in self._arrays]
        return [self._evidence(queries[i : i + 1], arrays) for i in range(len(queries))]

    def _evidence(self, query: Array, arrays: Sequence[Array]) -> tuple[ClassEvidence, ...]:
        text, parts = (to_numpy(array)[0].astype(np.float64) for array in self._parts(query, *arrays))
        return decompose(text, parts, self.labels_, self.ids_, self.classes_)


def check_settings(classifier: BaseEstimator) -> None:
    """Refuse constructor values that make no sense.

    Raises
    ------
    ValueError
        A number is none, is not finite or is out of bounds; class embeddings are something else; the name is given.
    """
    defaults = inspect.signature(type(classifier)).parameters
    for name, value in classifier.get_params(deep=False).items():
        left_open = value is None and defaults[name].default is None
        if name in _NUMBERS and not left_open and not _is_number(value, *_NUMBERS[name]):
            kind, lowest, inclusive = _NUMBERS[name]
            number = "a whole number" if kind is Integral else "a finite number"
            raise ValueError(f"{name} must be {number} {'at least' if inclusive else 'above'} {lowest}, not {value!r}")
    if not isinstance(classifier.class_embeddings, ClassEmbeddings | None):
        raise ValueError(f"class_embeddings must be ClassEmbeddings or None, not {type(classifier.class_embeddings)}")


def _is_number(value: Any, kind: type[Any], lowest: float, inclusive: bool) -> bool:
    if not isinstance(value, kind) or isinstance(value, bool):
        return False
    return lowest < value < np.inf or (inclusive and value == lowest)


def checked_labels(y: Any, n: int) -> NDArray[Any]:
    """Labels of `n` vectors as a NumPy array.

    Raises
    ------
    ValueError
        There is another number of them, they are no names or whole numbers, or of several kinds.
    """
    if y is None:
        raise ValueError("requires y to be passed, but the target y is None")
    y = column_or_1d(to_numpy(y), warn=True)
    if y.dtype.kind == "O" and not all(isinstance(label, (str, bool, np.bool_, Real)) for label in y):
        raise ValueError("y holds a label that is neither text nor a number, or is missing (NaN)")
    assert_all_finite(y, input_name="y")
    if len(y) != n:
        raise ValueError(f"Found input variables with inconsistent numbers of samples: [{n}, {len(y)}]")
    # Not scikit-learn's own check: that one warns of every class with one photo.
    if y.dtype.kind == "f" and np.any(y != np.floor(y)):
        raise ValueError("Unknown label type: continuous; labels are names or whole numbers")
    if y.dtype.kind == "O" and len({isinstance(label, str) for label in y}) > 1:
        raise ValueError(
            "Unknown label type: labels are of several kinds; make all of them text, or all of them numbers"
        )
    return y


def named(
    ids: Sequence[str | None] | None, n: int, taken: NDArray[np.str_], n_named: int
) -> tuple[NDArray[np.str_], int]:
    """Ids of `n` new rows, running numbers for those without; → them and how many numbers were given by now.

    Raises
    ------
    ValueError
        There is another number of them, one is no text, or one is taken or stands twice.
    """
    given: list[Any] = [None] * n if ids is None else list(ids)
    if len(given) != n:
        raise ValueError(f"got {len(given)} ids for {n} rows")
    texts = [name for name in given if name is not None]
    for name, times in Counter(texts).items():
        if not isinstance(name, str):
            raise ValueError(f"id {name!r} is not text")
        if times > 1 or np.any(taken == name):
            raise ValueError(f"id {name!r} is there already")
    known = set(texts)
    for row, name in enumerate(given):
        if name is None:
            while str(n_named) in known or np.any(taken == str(n_named)):
                n_named += 1
            given[row], n_named = str(n_named), n_named + 1
    return np.array(given, dtype=np.str_), n_named


def positions(y: NDArray[Any], classes: NDArray[Any]) -> NDArray[Any]:
    """Positions of `y` in the sorted `classes`.

    Raises
    ------
    ValueError
        A label is not among them, or of another kind; it is named.
    """
    known, kind = set(classes.tolist()), label_kind(classes)
    for label in np.unique(y).tolist():
        if label not in known or _kind_of(label) is not kind:
            listed = ", ".join(map(repr, classes[:5].tolist())) + (", …" if len(classes) > 5 else "")
            raise ValueError(f"label {label!r} has no class embedding; known are {listed}")
    return np.searchsorted(classes, y)


def label_kind(labels: NDArray[Any]) -> type:
    """Text, truth value or number."""
    return _kind_of(labels.tolist()[0])


def _kind_of(label: Any) -> type:
    return next((kind for kind in (str, bool) if isinstance(label, kind)), float)
