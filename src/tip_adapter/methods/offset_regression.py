"""The convex problem of the default method: its solution, its intercepts, and the choice of λ and v; `text_offset` has the formula."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from tip_adapter.methods.folds import N_FOLDS, folds_of_repeats
from tip_adapter.methods.lbfgs import minimise
from tip_adapter.methods.ops import text_logits
from tip_adapter.methods.tuning import fit_temperature
from tip_adapter.vectors import softmax

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: λ and the share of the names' likeliest scale, from what suits few classes to what suits many.
PATH = ((0.01, 0.5), (0.03, 0.625), (0.1, 0.75))
#: By how many standard errors the next step of the path must be likelier on left-out images.
_STANDARD_ERRORS = 2.0
#: Norm of the gradient at which the solver stops while λ is chosen, relative to √n.
_ROUGH = 1e-2
#: Folds of left-out images: many up to `_FEW` logits, since each then leaves more to learn from.
_FEW, _FOLDS_OF_FEW = 2**13, 20
#: λ is chosen on the first folds that have so many images together.
_ENOUGH = 200
#: The cosine that is assumed between two images of a class, about the mean of all.
COSINE_IN_CLASS = 0.4
#: λ of the intercepts b.
_INTERCEPT_PENALTY = 0.1
#: With more logits than this the support is fitted in single precision, whose rounding is below the tolerance.
_SINGLE_PRECISION = 2**15


@dataclass(frozen=True, eq=False)
class OffsetRegression:
    """The convex problem of one support, over the classes that have images.

    Parameters
    ----------
    vectors : (n, d) float array
    labels : (n,) positions in `present`
    text : (n, P) float array, logits of the names of the classes that have images
    present : (P,) positions of those among all classes
    n_classes : int
    mean : (d,) float array m, the mean of the class means
    inputs : (n, d) float array, vectors − mean
    weights : (n,) float array u
    log_prior : (n_classes,) float array
    """

    vectors: NDArray[Any]
    labels: NDArray[Any]
    text: NDArray[Any]
    present: NDArray[np.intp]
    n_classes: int
    mean: NDArray[Any]
    inputs: NDArray[Any]
    weights: NDArray[Any]
    log_prior: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        vectors: NDArray[Any],
        labels: NDArray[Any],
        embeddings: NDArray[Any],
        logit_scale: float,
        *,
        by_count: bool,
    ) -> OffsetRegression:
        """That of (n, d) vectors, (n,) positions of their classes, and (n_classes, d) class embeddings."""
        present, positions = np.unique(labels, return_inverse=True)
        single = len(labels) * len(present) > _SINGLE_PRECISION
        vectors = vectors.astype(np.float32 if single else np.float64)
        counts = np.bincount(positions, minlength=1)
        means = np.zeros((len(counts), vectors.shape[1]), vectors.dtype)
        np.add.at(means, positions, vectors)
        mean = (means / np.maximum(counts, 1)[:, None]).mean(axis=0).astype(vectors.dtype)
        text = text_logits(vectors, embeddings[present].astype(vectors.dtype), logit_scale)
        log_prior = np.zeros(len(embeddings))
        if by_count:
            frequency = np.bincount(labels, minlength=len(embeddings)) + 1
            log_prior = np.log(frequency / frequency.sum())
        weights = _balanced(positions).astype(vectors.dtype)
        return cls(vectors, positions, text, present, len(embeddings), mean, vectors - mean, weights, log_prior)

    def without(self, rows: NDArray[np.intp]) -> OffsetRegression:
        """That of the other images, about the same mean and with the same prior; each class keeps an image."""
        kept = np.delete(np.arange(len(self.labels)), rows)
        return replace(
            self,
            vectors=self.vectors[kept],
            labels=self.labels[kept],
            text=self.text[kept],
            inputs=self.inputs[kept],
            weights=_balanced(self.labels[kept]).astype(self.weights.dtype),
        )

    # ---- the solution ------------------------------------------------------------------------------------------------

    def solve(
        self, text_weight: float, penalty: float, tolerance: float, start: NDArray[Any] | None = None
    ) -> NDArray[Any]:
        """B of the classes that have images at the minimum, (P, d), from `start` or 0."""
        start = np.zeros((len(self.present), len(self.mean)), self.inputs.dtype) if start is None else start
        if len(self.present) < 2:
            return start
        offset = text_weight * self.text

        def loss_and_gradient(coef: NDArray[Any]) -> tuple[float, NDArray[Any]]:
            losses, errors = _losses_and_errors(offset + self.inputs @ coef.T, self.labels)
            errors *= self.weights[:, None]
            loss = float(self.weights @ losses) + penalty / 2 * float(np.vdot(coef, coef))
            return loss, errors.T @ self.inputs + penalty * coef

        # The curvature by class and coordinate, were each image as sure of a class as all are on average before the fit.
        probabilities = softmax(offset)
        spread = np.average(probabilities * (1 - probabilities), axis=0, weights=self.weights)
        scale = 1 / (np.outer(spread, self.weights @ self.inputs**2) + penalty)
        return minimise(loss_and_gradient, start, scale.astype(start.dtype), tolerance * len(self.labels) ** 0.5)

    def as_linear(
        self, solution: NDArray[Any], text_weight: float, penalty: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(P, d) solution → B of all classes, (n_classes, d), and their intercepts b − m Bᵀ, (n_classes,)."""
        coef, intercept = np.zeros((self.n_classes, len(self.mean))), self.log_prior.copy()
        coef[self.present] = solution
        intercept[self.present] += self.intercepts(solution, text_weight, penalty)
        return coef, intercept - coef @ self.mean

    def solution_of(self, coef: NDArray[Any]) -> NDArray[Any]:
        """The inverse of `as_linear`: B of all classes → (P, d)."""
        return coef[self.present].astype(self.inputs.dtype)

    def values(self, coef: NDArray[Any], text_weight: float, penalty: float) -> NDArray[np.float64]:
        """(n, n_classes) array A = u (L − softmax) / λ, by which B is a sum over the images; 0 for classes without images."""
        values = np.zeros((len(self.labels), self.n_classes))
        values[:, self.present] = self._errors(self.solution_of(coef), text_weight)[1] / penalty
        return values

    def intercepts(self, solution: NDArray[Any], text_weight: float, penalty: float) -> NDArray[Any]:
        """(P,) array b.

        Each image is scored as if it were another one of its class, at the cosine `COSINE_IN_CLASS` to itself, so that its own
        term in the logits counts that much only. b makes the labels likeliest then, every class with the same weight. It counts
        by how unequal the classes are: 1 − harmonic mean / mean of their numbers of images.
        """
        counts = np.bincount(self.labels, minlength=len(self.present))
        n_present = len(self.present)
        inequality = 1 - n_present / (1 / counts).sum() / counts.mean() if n_present > 1 else 0
        if inequality < 1e-9:
            return np.zeros(n_present)
        logits = self._as_another(solution, text_weight, penalty)
        shares = 1 / counts[self.labels]

        def loss_and_gradient(b: NDArray[Any]) -> tuple[float, NDArray[Any]]:
            losses, errors = _losses_and_errors(logits + b, self.labels)
            return float(shares @ losses) + _INTERCEPT_PENALTY / 2 * float(
                b @ b
            ), shares @ errors + _INTERCEPT_PENALTY * b

        b = minimise(loss_and_gradient, np.zeros(n_present), np.ones(n_present), 1e-6)
        return inequality * b

    def _as_another(self, solution: NDArray[Any], text_weight: float, penalty: float) -> NDArray[Any]:
        """(n, P) logits of each image as if it were another of its class."""
        logits, values = self._errors(solution, text_weight)
        own_term = (self.inputs**2).sum(axis=1, keepdims=True) * values / penalty
        return logits - (1 - COSINE_IN_CLASS) * own_term

    def _errors(self, solution: NDArray[Any], text_weight: float) -> tuple[NDArray[Any], NDArray[Any]]:
        """(n, P) logits of the images and u (L − softmax)."""
        logits = text_weight * self.text + self.inputs @ solution.T
        return logits, -self.weights[:, None] * _losses_and_errors(logits, self.labels)[1]

    # ---- the choice --------------------------------------------------------------------------------------------------

    def chosen(self, penalty: float | None, text_weight: float | None) -> tuple[float, float, NDArray[Any] | None]:
        """λ and v, those given where they are, and a (P, d) B to start from; with one class or no image the names alone decide."""
        if len(self.present) < 2:
            return PATH[0][0] if penalty is None else penalty, 1.0 if text_weight is None else text_weight, None
        scale = 0.0
        if text_weight is None and np.ptp(self.text) > 0:
            scale = 1 / fit_temperature(self.text, self.labels, self.weights)
        path = [(step, scale * share if text_weight is None else text_weight) for step, share in PATH]
        if penalty is not None:
            return penalty, path[0][1], None
        best, *others = path
        losses, solutions = self._left_out_losses(*best, [])
        for other in others:
            less, starts = self._left_out_losses(*other, solutions)
            gain = losses - less
            if gain.mean() <= _STANDARD_ERRORS * gain.std() / max(len(gain) - 1, 1) ** 0.5:
                break
            best, losses, solutions = other, less, starts
        return *best, solutions[0]

    def _left_out_losses(
        self, penalty: float, text_weight: float, starts: list[NDArray[Any]]
    ) -> tuple[NDArray[Any], list[NDArray[Any]]]:
        """Cross-entropy of images that are left out, at their best temperature, and the B of each fold, found from `starts` if any.

        If none can be left out, each is scored as another of its class.
        """
        folds = self.folds
        sizes = np.cumsum([len(rows) for rows in folds])
        used = folds[: int(np.searchsorted(sizes, _ENOUGH)) + 1]
        parts = [self.without(rows) for rows in used] or [self]
        begin: list[NDArray[Any] | None] = [*starts] or [None for _ in parts]
        solutions = [part.solve(text_weight, penalty, _ROUGH, b) for part, b in zip(parts, begin, strict=True)]
        if used:
            labels = self.labels[np.concatenate(used)]
            rows_of = zip(used, solutions, strict=True)
            logits = np.concatenate([text_weight * self.text[rows] + self.inputs[rows] @ b.T for rows, b in rows_of])
        else:
            labels, logits = self.labels, self._as_another(solutions[0], text_weight, penalty)
        return _losses_and_errors(logits / fit_temperature(logits, labels), labels)[0], solutions

    @cached_property
    def folds(self) -> list[NDArray[np.intp]]:
        """`folds_of_repeats` of its images."""
        return folds_of_repeats(self.vectors, self.labels, _FOLDS_OF_FEW if self.text.size <= _FEW else N_FOLDS)


def class_weights(counts: NDArray[np.intp]) -> NDArray[np.float64]:
    """What each image of a class weighs, u, by (N,) numbers of images, all > 0: (N,) float array.

    Each class has the same total, the harmonic mean of the numbers; 1 where they are equal.
    """
    weights: NDArray[np.float64] = len(counts) / (1 / counts).sum() / counts
    return np.where(np.abs(weights - 1) < 1e-12, 1.0, weights)


def _balanced(labels: NDArray[Any]) -> NDArray[np.float64]:
    """(n,) `class_weights` of images with these labels."""
    present, positions, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return class_weights(counts)[positions] if len(present) else np.zeros(0)


def _losses_and_errors(logits: NDArray[Any], labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Cross-entropy of each of (m, P) logits for (m,) labels, and its gradient: softmax minus one-hot."""
    logits = logits - logits.max(axis=1, keepdims=True, initial=-np.inf)  # without images there are no columns
    own = np.arange(len(labels)), labels
    behind = logits[own]
    errors = np.exp(logits, out=logits)
    sums = errors.sum(axis=1, keepdims=True)
    errors /= sums
    errors[own] -= 1
    return np.log(sums[:, 0]) - behind, errors
