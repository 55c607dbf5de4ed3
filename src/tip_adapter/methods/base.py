"""The scikit-learn interface of every method over vectors: validation, block-wise prediction, explanations."""

from __future__ import annotations

import copy
import inspect
from abc import ABC, abstractmethod
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar, Self

import array_api_compat
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from tip_adapter.errors import LabelError, UsageError, VectorError
from tip_adapter.methods.explanation import ClassEvidence, decompose
from tip_adapter.methods.labels import (
    checked_labels,
    embeddings_of_encoded,
    is_encoded,
    label_kind,
    positions,
    warn_of_doubts,
    warn_of_unknown_forms,
    with_ids,
)
from tip_adapter.methods.ops import CLASS_SUMS, like, to_numpy
from tip_adapter.text import shown
from tip_adapter.validation import (
    MAX_CHOSEN_ALPHA,
    MAX_CHOSEN_BETA,
    MAX_LOGIT_SCALE,
    MAX_RATE,
    MAX_SEED,
)
from tip_adapter.vectors import ClassEmbeddings, require_finite, softmax, unit_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from tip_adapter.vectors import Array

#: Constructor values: type, minimum, whether the minimum itself is allowed, maximum. Products of two stay finite in float32.
_NUMBERS: dict[str, tuple[type[Any], float, bool, float]] = {
    "alpha": (Real, 0, True, MAX_CHOSEN_ALPHA),
    "beta": (Real, 0, False, MAX_CHOSEN_BETA),
    "logit_scale": (Real, 0, False, MAX_LOGIT_SCALE),
    "learning_rate": (Real, 0, True, MAX_RATE),
    "ratio": (Real, 0, True, MAX_RATE),
    "penalty": (Real, 1e-30, True, MAX_CHOSEN_ALPHA),
    "text_weight": (Real, 0, True, MAX_CHOSEN_ALPHA),
    "C": (Real, 1e-30, True, MAX_CHOSEN_ALPHA),
    "epochs": (Integral, 0, True, MAX_SEED),
    "reduction": (Integral, 1, True, MAX_SEED),
    "batch_size": (Integral, 1, True, MAX_SEED),
    "n_context": (Integral, 1, True, MAX_SEED),
    "seed": (Integral, 0, True, MAX_SEED),
}
# Queries are processed in blocks, so that no array is larger than a block's widest one (16 MiB).
_BLOCK_ENTRIES = 2**22


@dataclass(frozen=True)
class Capabilities:
    """What a method needs and can do, declared in its class body.

    Parameters
    ----------
    needs_images : bool, whether it uses labelled images even if there are class embeddings
    has_alpha_beta : bool, whether it has alpha and beta
    takes_validation : bool, whether `fit` takes ``validation=(X_val, y_val)`` to search a setting
    takes_views : bool, whether `fit` takes augmented ``views=epoch → (n, d) array``
    incremental : bool, whether it has `partial_fit`, `remove` and `remove_class`
    explains : bool, whether it has `explain`
    leaves_out : bool, whether it has `left_out`, logits of the support images by refits without them
    learned : attributes set by training, saved in a model folder together with the support set
    encoder_parts : constructor arguments that come from the encoder's method of the same name
    """

    needs_images: bool = True
    has_alpha_beta: bool = False
    takes_validation: bool = False
    takes_views: bool = False
    incremental: bool = False
    explains: bool = False
    leaves_out: bool = False
    learned: tuple[str, ...] = ()
    encoder_parts: tuple[str, ...] = ()


class VectorClassifier(ClassifierMixin, BaseEstimator, ABC):  # type: ignore[misc]
    """A classifier over vectors of a frozen encoder.

    A method declares its `capabilities` and gives

    - to fit, settings as constructor arguments and `_fit`, which stores arrays. Arguments called `class_embeddings`,
      `logit_scale`, `alpha`, `beta`, `seed`, `epochs`, `prior` and `names` are passed by `FewShotClassifier`;
    - to predict, `_arrays`, the names of the arrays that it needs, and `_logits`;
    - to choose alpha and beta by leave-one-out, `keys_` and `labels_`: `leave_one_out.Cache` applies equation 4 to them;
    - to be saved, `capabilities.learned`, the arrays that training sets, and `_restore`, which checks their shapes; without
      any, a model folder stores the support, and loading calls `_fit`;
    - to be exported, a function in `model/onnx_export.py` that writes `_logits` as a graph.
    """

    #: Attributes that prediction needs: converted to the queries' kind, dtype and device and passed to `_logits`.
    _arrays: ClassVar[tuple[str, ...]]
    #: Larger values of learned arrays in a model folder are damage: most start as unit rows.
    _learned_bound: ClassVar[float] = 1e4

    #: Settings that are one of several texts, or None where that is the default.
    _choices: ClassVar[Mapping[str, Sequence[str]]] = {"class_sums": CLASS_SUMS}

    capabilities: ClassVar[Capabilities] = Capabilities()

    class_embeddings: ClassEmbeddings | None
    logit_scale: float
    #: How leave-one-out sums over a class's keys, where the method has no such argument.
    class_sums: str = "balanced"
    weights_: Array
    keys_: Array
    labels_: NDArray[Any]
    ids_: NDArray[np.str_]
    classes_: NDArray[Any]

    @abstractmethod
    def _fit(self, keys: Array, labels: NDArray[Any]) -> None:
        """Fit to `keys`, (n, d) unit rows, and `labels`, (n,) positions in `classes_`."""

    @abstractmethod
    def _logits(self, queries: Array, *arrays: Array) -> Array:
        """(m, d) unit rows → (m, n_classes)."""

    def fit(self, X: Array, y: Any, ids: Sequence[str | None] | None = None) -> Self:
        """Fit to labelled vectors.

        Parameters
        ----------
        X : (n, d) float array, NumPy or torch; rows are normalised here, a zero row stays zero; n = 0 only with class
            embeddings
        y : (n,) labels; with class embeddings each must be among theirs. Integers that are none of theirs but lie in
            0..N-1, as scikit-learn's meta-estimators encode labels, stand for their sorted labels if N-1 occurs (where some are
            labels, if all of 0..N-1 occur). Else, and with -1 and 1, they may be numbered otherwise: the images alone are used,
            with a warning
        ids : (n,) str, image ids; a row without one (None) gets a running number

        Returns
        -------
        self

        Raises
        ------
        ValueError
            NaN or infinity; width differs from the class embeddings; a label without class embedding; a repeated id.
        """
        self._fit(*self._support(X, y, ids))
        if self.class_embeddings is None:
            warn_of_doubts(self.classes_)
        return self

    def logits(self, X: Array) -> Array:
        """Logits of every class.

        Parameters
        ----------
        X : (n, d) float array, NumPy or torch

        Returns
        -------
        (n, n_classes) float array of the queries' kind, dtype and device; float32 for half precision

        Raises
        ------
        ValueError
            NaN or infinity, the width differs from that at fit, or the logits overflow.
        """
        state = copy.copy(self)  # another thread may change this one meanwhile
        X, arrays = state._checked_and_arrays(X)
        block = max(1, _BLOCK_ENTRIES // max(X.shape[1], state._n_columns(X, *arrays)))
        xp = array_api_compat.array_namespace(X)
        logits = xp.empty((len(X), len(state.classes_)), dtype=X.dtype, device=array_api_compat.device(X))
        with np.errstate(over="ignore", invalid="ignore"):  # reported below
            for first in range(0, len(X), block):
                logits[first : first + block] = state._logits(unit_rows(X[first : first + block]), *arrays)
        if not bool(xp.all(xp.isfinite(logits))):
            given = state.get_params(deep=False)
            settings = ", ".join(
                f"{name} {shown(given[name])}" for name in ("alpha", "beta", "logit_scale") if name in given
            )
            raise VectorError(f"logits overflow {logits.dtype} ({settings}); choose smaller values")
        return logits

    def _n_columns(self, queries: Array, *arrays: Array) -> int:
        """Columns of the widest array that `_logits` makes of these."""
        return max(len(array) for array in arrays)

    def decision_function(self, X: Array) -> Array:
        """`logits` in scikit-learn's shape: with two classes (n,), the second's logit minus the first's; raises likewise."""
        logits = self.logits(X)
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def predict_proba(self, X: Array) -> Array:
        """Softmax of `logits`: (n, n_classes), columns in the order of `classes_`; raises likewise."""
        return softmax(self.logits(X))

    def predict_log_proba(self, X: Array) -> Array:
        """Natural logarithm of `predict_proba`, minus infinity where that is 0; raises likewise."""
        probabilities = self.predict_proba(X)
        with np.errstate(divide="ignore"):
            return array_api_compat.array_namespace(probabilities).log(probabilities)

    def predict(self, X: Array) -> NDArray[Any]:
        """(n,) NumPy labels of the highest logits, ties to the first class; raises as `logits`."""
        state = copy.copy(self)  # as in `logits`
        winners = to_numpy(state.logits(X)).argmax(axis=1)
        return state.classes_[winners]

    def score(self, X: Array, y: Any, sample_weight: Any = None) -> float:
        """Accuracy of `predict` on (n,) labels y, in [0, 1]; raises as `fit`, warns of labels that differ from a class by case or the like."""
        from sklearn.metrics import accuracy_score  # slow to import, and a program that predicts does not need it

        predicted = self.predict(X)
        y, known = checked_labels(y, len(predicted)), self.classes_[:1].tolist()[0]
        first = y[:1].tolist()
        if first and label_kind(first[0]) is not label_kind(known):
            raise LabelError(f"label {first[0]!r} is of another kind than the classes, such as {known!r}")
        warn_of_unknown_forms(y, self.classes_)
        return float(accuracy_score(y, predicted, sample_weight=sample_weight))

    def learned(self) -> dict[str, NDArray[Any]]:
        """The arrays set by training, by attribute; empty for training-free methods."""
        return {name: to_numpy(getattr(self, name)) for name in self.capabilities.learned}

    @property
    def n_parameters(self) -> int:
        """Number of trained parameters."""
        return sum(array.size for array in self.learned().values())

    def training(self) -> dict[str, Any]:
        """How it was trained, for reports: usually `epochs` and `papers_epochs`; empty for training-free methods."""
        epochs = inspect.signature(type(self)).parameters.get("epochs")
        return {"epochs": self.get_params()["epochs"], "papers_epochs": epochs.default} if epochs else {}

    def settings(self) -> dict[str, Any]:
        """Constructor arguments except (alpha, beta), class names and what comes from the encoder."""
        others = ("alpha", "beta", "class_embeddings", "names", "logit_scale", *self.capabilities.encoder_parts)
        return {name: value for name, value in self.get_params(deep=False).items() if name not in others}

    def restore(self, X: Array, y: Any, learned: Mapping[str, Array], ids: Sequence[str] | None = None) -> Self:
        """Restore the state after `fit` on X, y and ids from the arrays of `learned`.

        Raises
        ------
        ValueError
            As `fit`; `learned` has other names than this method's, NaN, infinity or values that are too large.
        """
        if set(learned) != set(self.capabilities.learned):
            raise ValueError(f"expected learned arrays {sorted(self.capabilities.learned)}, got {sorted(learned)}")
        for name, array in learned.items():
            if not np.abs(to_numpy(array)).max(initial=0) <= self._learned_bound:
                raise ValueError(f"{name} contains NaN, or values beyond {self._learned_bound:g}")
        keys, labels = self._support(X, y, ids)
        if self.capabilities.learned:
            self._restore(keys, labels, learned)
        else:
            self._fit(keys, labels)
        return self

    def _restore(self, keys: Array, labels: NDArray[Any], learned: Mapping[str, Array]) -> None:
        """Store the learned arrays, as `_fit` on (n, d) keys and (n,) labels did."""
        for name, array in learned.items():
            setattr(self, name, array)

    def unit_queries(self, X: Array) -> Array:
        """X as unit rows; raises as `logits`."""
        check_is_fitted(self)
        return unit_rows(self._checked(X, reset=False))

    def _checked_and_arrays(self, X: Array) -> tuple[Array, list[Array]]:
        """X as validated rows, and `_arrays` of its kind, dtype and device."""
        check_is_fitted(self)
        X = self._checked(X, reset=False)
        check_settings(self)  # alpha and beta may have been set since `fit`
        return X, [like(getattr(self, name), X) for name in self._arrays]

    def _support(self, X: Array, y: Any, ids: Sequence[str | None] | None) -> tuple[Array, NDArray[Any]]:
        """Validate; set `classes_`, `weights_` and `ids_`; return unit rows and positions in `classes_`."""
        check_settings(self)
        X = self._checked(X, reset=True)
        y = checked_labels(y, len(X))
        keys = unit_rows(X)
        self.ids_, self._n_numbered = with_ids(ids, len(keys), np.array([], dtype=np.str_), 0)
        self._weights_from = self.class_embeddings
        given = embeddings = self.class_embeddings
        self._encoded = given is not None and is_encoded(y, given)
        if given is not None and self._encoded:
            embeddings = embeddings_of_encoded(y, given)
        if given is None or embeddings is None:
            self.classes_, labels = np.unique(y, return_inverse=True)
            self.weights_ = self._weights_without_names(keys, labels)
            self._name_labels = self.classes_
        else:
            self.classes_, self.weights_ = self._embedded(embeddings, keys)
            self._name_labels = np.sort(given.labels)  # what `classes_` are called if they are encoded
            labels = positions(y, self.classes_)
        return keys, labels

    def _embedded(self, embeddings: ClassEmbeddings, keys: Array) -> tuple[NDArray[Any], Array]:
        """Sorted labels and their embeddings as unit rows of the keys' kind, dtype and device."""
        embeddings = embeddings.sorted_by_label()
        if embeddings.matrix.shape[1] != keys.shape[1]:
            raise ValueError(f"X has {keys.shape[1]} features, class embeddings have {embeddings.matrix.shape[1]}")
        return embeddings.labels, unit_rows(like(embeddings.matrix, keys))

    def _weights_without_names(self, keys: Array, labels: NDArray[Any]) -> Array:
        """`weights_` without class embeddings: (n_classes, d) zeros, so that text logits are 0."""
        return like(np.zeros((len(self.classes_), keys.shape[1])), keys)

    def _checked(self, X: Array, *, reset: bool) -> Array:
        """Validated rows; with `reset` sets `n_features_in_`, else compares with it."""
        least = 1 if reset and self.class_embeddings is None else 0
        if np.ma.is_masked(X):  # which scikit-learn reads as if they were not masked
            raise VectorError("the vectors hold masked values, which are missing; leave these rows out")
        if not array_api_compat.is_torch_array(X):
            if isinstance(X, np.ndarray) and X.dtype.name in ("float16", "bfloat16"):
                X = X.astype(np.float32)  # half precision is for storage
            try:
                return validate_data(self, X, reset=reset, dtype=[np.float64, np.float32], ensure_min_samples=least)
            except ValueError as error:
                if "setting an array element with a sequence" not in str(error):
                    raise
                raise VectorError(
                    "the vectors are a column of arrays, or of different lengths; give a table of numbers: np.stack(column)"
                ) from error
        return self._checked_tensor(X, least, reset=reset)

    def _checked_tensor(self, X: Array, least: int, *, reset: bool) -> Array:
        """`_checked` for a torch tensor, which scikit-learn would turn into NumPy; at least `least` rows."""
        xp = array_api_compat.array_namespace(X)
        if X.is_nested or X.is_meta or str(X.layout) != "torch.strided":
            kind = "nested" if X.is_nested else "meta" if X.is_meta else str(X.layout).removeprefix("torch.")
            raise VectorError(f"expected a dense tensor of numbers, got a {kind} one; convert it")
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
            raise ValueError(
                f"X has {X.shape[1]} features, but {type(self).__name__} is expecting {self.n_features_in_} features "
                "as input"
            )
        X = X.detach()
        return X if xp.finfo(X.dtype).bits >= 32 else xp.astype(X, xp.float32)  # half precision is for storage


class ExplainedClassifier(VectorClassifier):
    """A classifier whose logits are sums of a text logit and one term per key."""

    @abstractmethod
    def _parts(self, queries: Array, *arrays: Array) -> tuple[Array, Array]:
        """(m, d) unit rows → (m, n_classes) text logits and (m, n) terms of the keys in their class's logit."""

    def explain(self, X: Array) -> list[tuple[ClassEvidence, ...]]:
        """Decompose the logits of each query.

        Parameters
        ----------
        X : (n, d) float array, NumPy or torch

        Returns
        -------
        for each query a ClassEvidence for every class, highest logit first; text + images + others is the logit

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
        state = copy.copy(self)  # as in `logits`
        X, arrays = state._checked_and_arrays(X)
        queries = unit_rows(X)
        explained = []
        for i in range(len(queries)):
            text, parts = (to_numpy(a)[0].astype(np.float64) for a in state._parts(queries[i : i + 1], *arrays))
            explained.append(decompose(text, parts, state.labels_, state.ids_, state.classes_))
        return explained


def check_settings(classifier: VectorClassifier) -> None:
    """Validate constructor arguments.

    Raises
    ------
    ValueError
        A number has another type, is not finite or out of bounds, or `class_embeddings` or one of `_choices` is something else.
    """
    defaults = inspect.signature(type(classifier)).parameters
    for name, value in classifier.get_params(deep=False).items():
        if name not in _NUMBERS or (value is None and defaults[name].default is None):
            continue
        kind, lowest, inclusive, highest = _NUMBERS[name]
        is_number = isinstance(value, kind) and not isinstance(value, (bool, np.timedelta64))
        found = value.item() if isinstance(value, np.generic) else value  # in half precision the bounds are infinite
        if not is_number or not (lowest < found <= highest or (inclusive and found == lowest)):
            number = "a whole number" if kind is Integral else "a finite number"
            bounds = f"{'at least' if inclusive else 'above'} {lowest} and at most {highest:g}"
            raise UsageError(f"{name} must be {number} {bounds}, not {shown(value)}", arguments=(name,))
    if not isinstance(classifier.class_embeddings, ClassEmbeddings | None):
        found = type(classifier.class_embeddings).__name__
        raise ValueError(f"class_embeddings takes ClassEmbeddings(labels, vectors) or None, not a {found}")
    for name, known in classifier._choices.items():
        value = getattr(classifier, name)
        if value not in known and not (value is None and defaults[name].default is None):
            raise UsageError(f"unknown {name} {shown(value)}; choose one of {', '.join(known)}", arguments=(name,))
