"""One image more or less for the default method, in a millisecond at any number of images.

An image that is added counts at once by a step of dual coordinate ascent: its own term in the coefficients is found exactly, the
terms of the other images stay. A fit to all images corrects the difference that is left.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np

from tip_adapter.methods.offset_regression import class_weights
from tip_adapter.methods.ops import sum_by_class, to_numpy
from tip_adapter.vectors import softmax

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tip_adapter.methods.text_offset import TextOffsetClassifier

_NEWTON_STEPS = 30
#: Newton's decrement below which the step has converged.
_CONVERGED = 1e-9


@dataclass(frozen=True, eq=False)
class TextOffsetStep:
    """A fitted classifier of NumPy arrays that takes images one at a time.

    Parameters
    ----------
    estimator : TextOffsetClassifier; its `keys_` and `explain` are those of the last fit to all images
    counts : (n_classes,) int array, images of each class now
    mean : (d,) float array, the mean of the class means at that fit, about which it learns
    """

    estimator: TextOffsetClassifier
    counts: NDArray[np.intp]
    mean: NDArray[np.float64]

    @classmethod
    def of(cls, estimator: TextOffsetClassifier) -> Self:
        """The classifier as it was fitted."""
        n_classes, keys = len(estimator.classes_), to_numpy(estimator.keys_).astype(np.float64)
        counts = np.bincount(estimator.labels_, minlength=n_classes)
        present = counts > 0
        sums = sum_by_class(keys.T, estimator.labels_, n_classes).T[present] if present.any() else keys[:0]
        mean = (sums / counts[present, None]).mean(axis=0) if len(sums) else np.zeros(keys.shape[1])
        return cls(estimator, counts, mean)

    def with_image(self, vector: NDArray[np.float32], position: int) -> Self:
        """Learned from one more image too: a (d,) unit vector of the class at a position in `classes_`."""
        return self._moved(vector, position, added=True)

    def without_image(self, vector: NDArray[np.float32], position: int) -> Self:
        """Without the term of one of the images; arguments as in `with_image`."""
        return self._moved(vector, position, added=False)

    def _moved(self, vector: NDArray[np.float32], position: int, *, added: bool) -> Self:
        counts = self.counts.copy()
        counts[position] += 1 if added else -1
        counted = counts if added else self.counts
        present = np.flatnonzero(counted)
        own = int(np.searchsorted(present, position))
        estimator, inputs = self.estimator, vector - self.mean
        strength = float(class_weights(counted[present])[own]) / estimator.penalty_
        logits = (estimator.coef_[present] @ vector + estimator.intercept_[0, present]).astype(np.float64)
        term = _own_term(logits, own, strength, float(inputs @ inputs)) if added else -strength * _pull(logits, own)
        moved = copy.copy(estimator)
        moved.coef_, moved.intercept_ = estimator.coef_.copy(), estimator.intercept_.copy()
        moved.coef_[present] += np.outer(term, inputs).astype(moved.coef_.dtype)
        moved.intercept_[0, present] -= (term * float(inputs @ self.mean)).astype(moved.coef_.dtype)
        return replace(self, estimator=moved, counts=counts)


def _pull(logits: NDArray[np.float64], own: int) -> NDArray[np.float64]:
    """One-hot label minus softmax of (P,) logits."""
    errors: NDArray[np.float64] = -softmax(logits[None])[0]
    errors[own] += 1
    return errors


def _own_term(logits: NDArray[np.float64], own: int, strength: float, length: float) -> NDArray[np.float64]:
    """(P,) a with a = strength · (L − softmax(logits + length · a)): the image's term once it has been learned, by Newton's method.

    It is the minimum of the convex strength · cross-entropy(logits + length · a) + length / 2 · |a|², times 1 / length.
    """
    if not length:
        return _pull(logits, own) * strength

    def loss(term: NDArray[np.float64]) -> float:
        moved = logits + length * term
        top = moved.max()
        cross_entropy = top + np.log(np.exp(moved - top).sum()) - moved[own]
        return float(strength * cross_entropy + length / 2 * term @ term)

    term = np.zeros_like(logits)
    for _ in range(_NEWTON_STEPS):
        pull = _pull(logits + length * term, own)
        gradient = length * (term - strength * pull)
        shares = -pull
        shares[own] += 1
        # The Hessian is diagonal plus rank one.
        diagonal = length * (strength * length * shares + 1)
        step, along = gradient / diagonal, shares / diagonal
        factor = strength * length**2
        step += factor * along * (shares @ step) / (1 - factor * (shares @ along))
        decrease = float(gradient @ step)
        if decrease < _CONVERGED:
            break
        size, before = 1.0, loss(term)
        while loss(term - size * step) > before - 0.25 * size * decrease and size > 1e-6:
            size /= 2
        term = term - size * step
    return term
