"""Linear-probe CLIP: logistic regression on the image vectors, without the class names.

The inverse regularisation strength C is searched in two stages: coarsely over twelve orders of magnitude, then by bisection
around the peak; scored by accuracy on validation images, or by cross-validated likelihood on the support.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from tip_adapter.io.processors import one_blas_thread
from tip_adapter.methods.base import Capabilities, VectorClassifier
from tip_adapter.methods.folds import held_out_parts
from tip_adapter.methods.labels import checked_labels, positions, warn_of_doubts
from tip_adapter.methods.lbfgs import minimise, summed_cross_entropy
from tip_adapter.methods.ops import like, to_numpy
from tip_adapter.vectors import unit_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from tip_adapter.vectors import Array

#: log10 of the values of C that are tried first, and the number of bisection steps around the best of them.
_COARSE = (-6.0, -4.0, -2.0, 0.0, 2.0, 4.0, 6.0)
_STEPS = 8
#: C if nothing can be held out.
_UNSEARCHED = 1.0
#: Norm of the gradient of the loss summed over images at which the solver stops; a mean over images would stop it far from
#: the optimum. Above this C it falls with 1 / √C, since the loss is then as flat as 1 / C in some directions.
_TOLERANCE, _FLAT = 1e-4, 1e4
#: Solutions of the nearest C that the start of another is extrapolated from.
_NEAREST = 3
#: Multiplications per gradient above which several threads are faster.
_WORTH_THREADS = 2**24


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
        warn_of_doubts(self.classes_)
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
        vectors = to_numpy(keys).astype(np.float64)
        with one_blas_thread if vectors.size * len(self.classes_) < _WORTH_THREADS else nullcontext():
            axes = _Axes.of(vectors)
            inputs, n_classes = axes.inputs(vectors), len(self.classes_)
            self.C_, self.searched_by_ = self._strength(axes, _Path(inputs, labels, n_classes), validation)
            # Not from the path of the search, which depends on what C was searched on.
            coef, intercept = axes.as_probe(_Path(inputs, labels, n_classes).in_steps_to(self.C_))
        self.coef_, self.intercept_ = like(coef, keys), like(intercept[None], keys)

    def _strength(
        self, axes: _Axes, whole: _Path, validation: tuple[NDArray[Any], NDArray[Any]] | None
    ) -> tuple[float, str]:
        """C and how it was found."""
        if self.C is not None:
            return float(self.C), "given"
        if len(self.classes_) == 1:
            return _UNSEARCHED, "nothing"
        if validation is not None:
            queries, truth = axes.inputs(validation[0]), validation[1]
            return best_strength(
                lambda C: float((whole.logits(C, queries).argmax(axis=1) == truth).mean())
            ), "validation"
        parts = [(whole.without(part), part) for part in held_out_parts(whole.labels, self.seed)]
        if not parts:
            return _UNSEARCHED, "nothing"

        def likelihood(C: float) -> float:
            """Of each image under a probe that is fitted without its part, summed logarithms."""
            return -sum(
                summed_cross_entropy(path.logits(C, whole.inputs[part]), whole.labels[part])[0] for path, part in parts
            )

        return best_strength(likelihood), "cross-validation"

    def _logits(self, queries: Array, coef: Array, intercept: Array) -> Array:
        return queries @ coef.T + intercept  # (m, n_classes)


def best_strength(score: Callable[[float], float]) -> float:
    """The C of the highest score: a coarse grid, ties to the larger, then bisection towards the better end, ties to the smaller.

    So does the public code of few-shot papers, which tries the coarse values from the largest down and keeps the first best.
    """

    @cache
    def at(exponent: float) -> float:
        return score(10.0**exponent)

    for exponent in _COARSE:  # from the smallest C up, each fit starts near the one before
        at(exponent)
    peak = max(reversed(_COARSE), key=at)
    low, high = peak - 1.0, peak + 1.0
    for _ in range(_STEPS):
        better, middle = high if at(low) < at(high) else low, (low + high) / 2
        low, high = (middle, high) if better == high else (low, middle)
    return float(10.0**better)


# ---- the solver ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Axes:
    """Coordinates in which L-BFGS needs fewer iterations: vectors minus their mean, along their principal axes.

    The same regression: a rotation leaves the L2 penalty as it is, and the intercept, which has none, takes the mean.

    Parameters
    ----------
    mean : (d,) array
    axes : (r, d) array, orthonormal rows that span the centred vectors
    """

    mean: NDArray[np.float64]
    axes: NDArray[np.float64]

    @classmethod
    def of(cls, vectors: NDArray[np.float64]) -> _Axes:
        """Those of (n, d) vectors."""
        mean = vectors.mean(axis=0)
        _, lengths, axes = np.linalg.svd(vectors - mean, full_matrices=False)
        return cls(mean, axes[lengths > max(vectors.shape) * np.finfo(np.float64).eps])

    def inputs(self, vectors: NDArray[Any]) -> NDArray[np.float64]:
        """(m, d) vectors → (m, r + 1) coordinates; the last is 1, for the intercept."""
        return np.column_stack([(vectors - self.mean) @ self.axes.T, np.ones(len(vectors))])

    def as_probe(self, weights: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(n_classes, r + 1) weights → (n_classes, d) of vectors, and (n_classes,) intercepts."""
        coef = weights[:, :-1] @ self.axes
        return coef, weights[:, -1] - coef @ self.mean


@dataclass(eq=False)
class _Path:
    """The regressions of one training set over C: each starts from where the nearest of those before point to.

    Parameters
    ----------
    inputs : (n, r + 1) array, as `_Axes` gives it
    labels : (n,) positions of classes; each class has an image
    n_classes : int
    """

    inputs: NDArray[np.float64]
    labels: NDArray[Any]
    n_classes: int
    _solved: dict[float, NDArray[np.float64]] = field(default_factory=dict)

    def without(self, rows: NDArray[np.intp]) -> _Path:
        """That of the other rows."""
        return _Path(np.delete(self.inputs, rows, axis=0), np.delete(self.labels, rows), self.n_classes)

    def logits(self, C: float, inputs: NDArray[np.float64]) -> NDArray[np.float64]:
        """(m, n_classes) logits of (m, r + 1) inputs."""
        logits: NDArray[np.float64] = inputs @ self.at(C).T
        return logits

    def in_steps_to(self, C: float) -> NDArray[np.float64]:
        """`at`, after the coarse values between 1 and C, which take fewer iterations together than C alone does."""
        for exponent in _COARSE:
            if 0 <= exponent < np.log10(C):
                self.at(10.0**exponent)
        return self.at(C)

    def at(self, C: float) -> NDArray[np.float64]:
        """(n_classes, r + 1) weights."""
        exponent = float(np.log10(C))
        if exponent not in self._solved:
            self._solved[exponent] = self._solve(C, self._towards(exponent))
        return self._solved[exponent]

    def _towards(self, exponent: float) -> NDArray[np.float64]:
        """Where to start: the polynomial in log C through the nearest solutions."""
        nearest = sorted(self._solved, key=lambda known: abs(known - exponent))[:_NEAREST]
        start = np.zeros((self.n_classes, self.inputs.shape[1]))
        for known in nearest:
            share = np.prod([(exponent - other) / (known - other) for other in nearest if other != known])
            start += share * self._solved[known]
        return start

    def _solve(self, C: float, start: NDArray[np.float64]) -> NDArray[np.float64]:
        """Minimise the summed cross-entropy plus |coefficients|² / 2C from `start`, by L-BFGS with a diagonal preconditioner."""
        penalty = np.full(self.inputs.shape[1], 1 / C)
        penalty[-1] = 0
        if self.n_classes == 2:  # scikit-learn penalises the difference of the two once
            penalty *= 2
        # The curvature by class and axis, were each image as sure of it as all are on average at the start.
        _, probabilities = summed_cross_entropy(self.inputs @ start.T, self.labels)
        spread = np.maximum((probabilities * (1 - probabilities)).mean(axis=0), np.finfo(np.float64).eps)
        scale = 1 / (spread[:, None] * (self.inputs**2).sum(axis=0) + penalty)
        tolerance = _TOLERANCE * min(1.0, (_FLAT / C) ** 0.5)
        return minimise(lambda weights: self._loss_and_gradient(weights, penalty), start, scale, tolerance)

    def _loss_and_gradient(
        self, weights: NDArray[np.float64], penalty: NDArray[np.float64]
    ) -> tuple[float, NDArray[np.float64]]:
        """The penalised loss and its gradient by the weights."""
        loss, errors = summed_cross_entropy(self.inputs @ weights.T, self.labels)
        errors[np.arange(len(errors)), self.labels] -= 1  # probabilities minus one-hot labels
        shrinkage = penalty * weights
        return loss + 0.5 * float(np.vdot(shrinkage, weights)), errors.T @ self.inputs + shrinkage
