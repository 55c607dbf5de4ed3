"""Linear-probe CLIP: logistic regression on the image vectors, without the class names.

The inverse regularisation strength C is searched in two stages: coarsely over twelve orders of magnitude, then by bisection
around the peak; scored by accuracy on validation images, or by cross-validated likelihood on the support.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from tip_adapter.methods.base import Capabilities, VectorClassifier, checked_labels, positions
from tip_adapter.methods.ops import cross_entropy, like, to_numpy
from tip_adapter.vectors import unit_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from tip_adapter.vectors import Array

#: log10 of the values of C that are tried first, and the number of bisection steps around the best of them.
_COARSE = (-6.0, -4.0, -2.0, 0.0, 2.0, 4.0, 6.0)
_STEPS = 8
#: C if nothing can be held out.
_UNSEARCHED = 1.0
_FOLDS = 5
_MOST_ITERATIONS = 1000
#: Gradient tolerance for the loss summed over images, as in the original solver. Today's scikit-learn takes the mean and
#: would stop far from the optimum if C is large.
_TOLERANCE = 1e-4
#: Multiplications per gradient above which several threads are faster.
_WORTH_THREADS = 2**26


@dataclass(eq=False, repr=False)
class LinearProbeClassifier(VectorClassifier):
    """Linear-probe CLIP: multinomial logistic regression on unit vectors, L2, by L-BFGS.

    It uses no class names and cannot predict classes without images.

    Parameters
    ----------
    C : float, inverse regularisation strength; None to search for it
    seed : int, of the cross-validation folds, used without validation images

    Attributes
    ----------
    classes_ : (n_classes,) sorted labels
    C_ : float, the C that was used
    searched_by_ : ``given``, ``validation``, ``cross-validation``, ``nothing`` (fewer than two classes have an image
        to hold out, so C is 1), or ``saved`` (restored)
    coef_ : (n_classes, d) array, learned
    intercept_ : (1, n_classes) array, learned

    Examples
    --------
    >>> from tip_adapter import LinearProbeClassifier
    >>> clf = LinearProbeClassifier().fit([[0.9, 0.1], [0.2, 0.8]], ["cat", "dog"])
    >>> print(clf.predict([[0.8, 0.3]])[0], clf.C_, clf.searched_by_)
    cat 1.0 nothing

    Notes
    -----
    CLIP (Radford et al., 2021), section 3.2 and appendix A.3; with the search over C that few-shot papers use.
    """

    _arrays = ("coef_", "intercept_")
    capabilities = Capabilities(takes_validation=True, learned=("coef_", "intercept_"))

    class_embeddings = None
    C: float | None = None
    seed: int = 0

    def fit(
        self,
        X: Array,
        y: Any,
        ids: Sequence[str | None] | None = None,
        validation: tuple[Array, Any] | None = None,
    ) -> Self:
        """Fit to labelled vectors.

        Parameters
        ----------
        X, y, ids : as in TipAdapterClassifier.fit
        validation : (X_val, y_val), images to search C on; None for cross-validation on X

        Raises
        ------
        ValueError
            As TipAdapterClassifier.fit; there are no validation images, or a validation label is not in y.
        """
        keys, labels = self._support(X, y, ids)
        held_out = None
        if validation is not None:
            queries = to_numpy(unit_rows(self._checked(validation[0], reset=False)))
            if not len(queries):
                raise ValueError(
                    "there are no validation images to search C on; omit validation to use cross-validation"
                )
            held_out = queries, positions(checked_labels(validation[1], len(queries)), self.classes_)
        self._fit(keys, labels, held_out)
        return self

    def training(self) -> dict[str, Any]:
        """C and how it was found."""
        return {"C": self.C_, "searched_by": self.searched_by_}

    def settings(self) -> dict[str, Any]:
        """Arguments that fit the same model again, with the C that was found."""
        return {**super().settings(), "C": getattr(self, "C_", self.C)}

    def _restore(self, keys: Array, labels: NDArray[Any], learned: Mapping[str, Array]) -> None:
        n_classes, width = len(self.classes_), keys.shape[1]
        shapes = [learned[name].shape for name in self.capabilities.learned]
        if self.C is None or shapes != [(n_classes, width), (1, n_classes)]:
            raise ValueError(
                f"C {self.C} and arrays of shapes {shapes} do not fit {n_classes} classes and vectors of width {width}"
            )
        super()._restore(keys, labels, learned)
        self.C_, self.searched_by_ = float(self.C), "saved"

    def _fit(
        self, keys: Array, labels: NDArray[Any], validation: tuple[NDArray[Any], NDArray[Any]] | None = None
    ) -> None:
        vectors = to_numpy(keys)
        self.C_, self.searched_by_ = self._strength(vectors, labels, validation)
        coef, intercept = _regress(vectors, labels, self.C_)
        self.coef_, self.intercept_ = like(coef, keys), like(intercept[None], keys)

    def _strength(
        self,
        vectors: NDArray[Any],
        labels: NDArray[Any],
        validation: tuple[NDArray[Any], NDArray[Any]] | None,
    ) -> tuple[float, str]:
        """C and how it was found."""
        if self.C is not None:
            return float(self.C), "given"
        if len(self.classes_) == 1:
            return _UNSEARCHED, "nothing"
        if validation is not None:
            queries, truth = validation

            def accuracy(C: float) -> float:
                coef, intercept = _regress(vectors, labels, C)
                return float(((queries @ coef.T + intercept).argmax(axis=1) == truth).mean())

            return best_strength(accuracy), "validation"
        parts = list(held_out_parts(labels, self.seed))
        if not parts:
            return _UNSEARCHED, "nothing"
        return best_strength(lambda C: _left_out_likelihood(vectors, labels, parts, C)), "cross-validation"

    def _logits(self, queries: Array, coef: Array, intercept: Array) -> Array:
        return queries @ coef.T + intercept  # (m, n_classes)


def best_strength(score: Callable[[float], float]) -> float:
    """The C of the highest score, ties to the smaller: a coarse grid, then bisection towards the better end."""

    @cache
    def at(exponent: float) -> float:
        return score(10.0**exponent)

    peak = max(_COARSE, key=at)
    low, high = peak - 1.0, peak + 1.0
    for _ in range(_STEPS):
        better, middle = high if at(low) < at(high) else low, (low + high) / 2
        low, high = (middle, high) if better == high else (low, middle)
    return float(10.0**better)


def held_out_parts(labels: NDArray[Any], seed: int) -> Iterator[NDArray[np.intp]]:
    """Rows of at most five cross-validation folds of (n,) labels; the only image of a class is never held out.

    No folds if fewer than two classes have a second image: the likeliest probe would always predict that class.
    (scikit-learn's StratifiedKFold rejects classes with fewer images than folds.)
    """
    rng = np.random.default_rng(seed)
    part = np.full(len(labels), -1)
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        if len(own) > 1:
            part[rng.permutation(own)] = np.arange(len(own)) % _FOLDS
    if len(np.unique(labels[part >= 0])) < 2:
        return
    for number in range(part.max(initial=-1) + 1):
        yield np.flatnonzero(part == number)


def _regress(vectors: NDArray[Any], labels: NDArray[Any], C: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """(n_classes, d) weights and (n_classes,) biases; every class 0 … n_classes − 1 must have an image."""
    n_classes = int(labels.max()) + 1
    if n_classes == 1:
        return np.zeros((1, vectors.shape[1])), np.zeros(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 1,000 iterations, as in the original recipe
        warnings.filterwarnings("ignore", "The number of unique classes")  # usual with few shots
        solver = LogisticRegression(C=C, max_iter=_MOST_ITERATIONS, tol=_TOLERANCE / len(labels))
        with threadpool_limits(1 if vectors.size * n_classes < _WORTH_THREADS else None):
            fitted = solver.fit(vectors, labels)
    if n_classes == 2:  # scikit-learn gives one row: second class against first
        return np.concatenate([-fitted.coef_, fitted.coef_]) / 2, np.array([-1, 1]) * fitted.intercept_ / 2
    return fitted.coef_, fitted.intercept_


def _left_out_likelihood(
    vectors: NDArray[Any], labels: NDArray[Any], parts: Sequence[NDArray[np.intp]], C: float
) -> float:
    """Sum over the folds of the log-likelihood under a probe fitted without the fold."""
    total = 0.0
    for part in parts:
        kept = np.delete(np.arange(len(labels)), part)
        coef, intercept = _regress(vectors[kept], labels[kept], C)
        loss, _ = cross_entropy(vectors[part] @ coef.T + intercept, labels[part])
        total -= loss * len(part)
    return total
