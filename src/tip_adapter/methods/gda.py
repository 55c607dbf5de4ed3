"""Gaussian discriminant analysis: a Gaussian for each class, all of one shrunk covariance, added to the names' logits.

    logits = s · f Wᵀ + weight · (f P μᵀ − ½ diag(μ P μᵀ))          class means μ, precision P

With S the scatter of the n support images about their class means, P = d (S + tr(S) / (n − 1) · I)⁻¹ for vectors of width d. Where
no class has two images, S is 0 and P is d · I: the nearest class mean. Source: Wang, Liang, Sheng, He, Wang, Tan: A hard-to-beat
baseline for training-free CLIP-based adaptation, ICLR 2024. It chooses the weight on validation images, here it is that at which
left-out support images are likeliest, at the best temperature.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import log_softmax

from tip_adapter.methods.base import VectorClassifier
from tip_adapter.methods.ops import like, sum_by_class, text_logits, to_numpy
from tip_adapter.methods.tuning import fit_temperature

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tip_adapter.vectors import Array, ClassEmbeddings

#: The paper's range of weights.
WEIGHTS = np.geomspace(1e-4, 1e2, 25)


@dataclass(eq=False, repr=False)
class GaussianClassifier(VectorClassifier):
    """Gaussian discriminant analysis on the image vectors plus the logits of the class names.

    Parameters
    ----------
    class_embeddings : ClassEmbeddings, or None for the images alone
    logit_scale : float, the encoder's own; 100 for CLIP

    Attributes
    ----------
    classes_ : (n_classes,) sorted labels
    weight_ : float, of the image logits, by the likelihood of left-out images; where no class has two images it is
        `logit_scale` / d, so that means of images count as names do
    coef_ : (n_classes, d) array, weight · μ P; for a class without images the mean of the others
    intercept_ : (1, n_classes) array, −½ weight · diag(μ P μᵀ)
    keys_ : (n, d) array, unit rows
    labels_ : (n,) int array, positions in `classes_`

    Examples
    --------
    >>> from tip_adapter import ClassEmbeddings
    >>> from tip_adapter.methods.gda import GaussianClassifier
    >>> names = ClassEmbeddings(["cat", "dog"], [[1.0, 0.0], [0.0, 1.0]])
    >>> X, y = [[0.9, 0.1], [0.8, 0.3], [0.2, 0.8], [0.1, 0.7]], ["cat", "cat", "dog", "dog"]
    >>> print(GaussianClassifier(names).fit(X, y).predict([[0.8, 0.3]])[0])
    cat
    """

    _arrays = ("weights_", "coef_", "intercept_")

    class_embeddings: ClassEmbeddings | None = None
    logit_scale: float = 100.0
    weight_: float = field(init=False)

    def _fit(self, keys: Array, labels: NDArray[Any]) -> None:
        vectors, n_classes = to_numpy(keys).astype(np.float64), len(self.classes_)
        gaussians = _Gaussians.of(vectors, labels)
        rows, own_logits = gaussians.left_out()
        self.keys_, self.labels_ = keys, labels
        self.weight_ = float(self.logit_scale) / keys.shape[1]
        if len(rows) and n_classes > 1:
            names = to_numpy(self.weights_).astype(np.float64)[gaussians.present]
            text = text_logits(vectors[rows], names, float(self.logit_scale))
            likelihoods = [_likelihood(text + weight * own_logits, gaussians.labels[rows]) for weight in WEIGHTS]
            self.weight_ = float(WEIGHTS[int(np.argmax(likelihoods))])
        coef, intercept = np.zeros((n_classes, keys.shape[1])), np.zeros(n_classes)
        if len(gaussians.present):
            learned = gaussians.linear()
            for array, values in zip((coef, intercept), learned, strict=True):
                array[:] = values.mean(axis=0)
                array[gaussians.present] = values
        self.coef_ = like(self.weight_ * coef, keys)
        self.intercept_ = like(self.weight_ * intercept[None], keys)

    def _logits(self, queries: Array, weights: Array, coef: Array, intercept: Array) -> Array:
        return text_logits(queries, weights, self.logit_scale) + queries @ coef.T + intercept  # (m, n_classes)


@dataclass(frozen=True, eq=False)
class _Gaussians:
    """Means of the classes that have images, and the eigenvectors of the scatter about them.

    Parameters
    ----------
    vectors : (n, d) float array
    labels : (n,) positions in `present`
    present : (P,) positions of those among all classes
    means : (P, d) float array
    axes : (r, d) float array, unit rows, eigenvectors of S
    variances : (r,) float array, eigenvalues of S
    """

    vectors: NDArray[Any]
    labels: NDArray[np.intp]
    present: NDArray[np.intp]
    means: NDArray[Any]
    axes: NDArray[Any]
    variances: NDArray[Any]

    @classmethod
    def of(cls, vectors: NDArray[Any], labels: NDArray[Any]) -> _Gaussians:
        """Those of (n, d) vectors and (n,) positions of their classes."""
        present, positions = np.unique(labels, return_inverse=True)
        means = sum_by_class(vectors.T, positions, len(present)).T / np.bincount(positions)[:, None]
        _, roots, axes = np.linalg.svd(vectors - means[positions], full_matrices=False)
        return cls(vectors, positions, present, means, axes, roots**2)

    def linear(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """(P, d) array μ P and (P,) array −½ diag(μ P μᵀ)."""
        shrinkage = _shrinkage(self.variances.sum(), len(self.labels))
        width = self.means.shape[1]
        inner = self.means @ self.axes.T * (1 / (self.variances + shrinkage) - 1 / shrinkage)
        coef = width * (inner @ self.axes + self.means / shrinkage)
        return coef, -0.5 * (coef * self.means).sum(axis=1)

    def left_out(self) -> tuple[NDArray[np.intp], NDArray[Any]]:
        """Rows that have another of their class, and the logits (m, P) of each without it: exact, by a change of rank one.

        Without image x of a class of k, its mean moves by −e / (k − 1) and S changes by −k / (k − 1) e eᵀ, where e = x − mean.
        """
        counts = np.bincount(self.labels, minlength=1)
        rows = np.flatnonzero(counts[self.labels] > 1)
        logits = np.zeros((len(rows), len(self.present)))
        points, centres = self.vectors @ self.axes.T, self.means @ self.axes.T
        for logit, row in zip(logits, rows, strict=True):
            label, k = self.labels[row], counts[self.labels[row]]
            without = np.vstack([self.vectors[row], self.vectors[row] - self.means[label], self.means])
            along = np.vstack([points[row], points[row] - centres[label], centres])
            for rows_of in (without, along):
                rows_of[2 + label] -= rows_of[1] / (k - 1)
            factor = k / (k - 1)
            shrinkage = _shrinkage(self.variances.sum() - factor * without[1] @ without[1], len(self.labels) - 1)
            scales = 1 / (self.variances + shrinkage) - 1 / shrinkage
            from_x, from_e = along[:2] * scales @ along.T + without[:2] @ without.T / shrinkage  # (P + 2,) each
            squares = along[2:] ** 2 @ scales + (without[2:] ** 2).sum(axis=1) / shrinkage
            correction = factor / (1 - factor * from_e[1])  # Sherman and Morrison
            to_x = from_x[2:] + correction * from_x[1] * from_e[2:]
            logit[:] = self.means.shape[1] * (to_x - 0.5 * (squares + correction * from_e[2:] ** 2))
        return rows, logits


def _likelihood(logits: NDArray[Any], labels: NDArray[np.intp]) -> float:
    """Mean log-likelihood of (m,) labels at the best temperature: the Gaussians are over-confident in many dimensions."""
    cooled = log_softmax(logits / fit_temperature(logits, labels), axis=1)
    return float(cooled[np.arange(len(labels)), labels].mean())


def _shrinkage(trace: float, n: int) -> float:
    """tr(S) / (n − 1) of n images; 1 where S is 0, since no class has two different images."""
    return trace / (n - 1) if n > 1 and trace > 1e-9 * n else 1.0
