"""The Gaussian baseline against its formula, and its left-out logits against refits."""

from __future__ import annotations

import numpy as np
import pytest

from tip_adapter import ClassEmbeddings
from tip_adapter.methods.gda import GaussianClassifier, _Gaussians
from tip_adapter.vectors import unit_rows


def example(counts=(4, 3, 2), width=6, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    centres = unit_rows(rng.standard_normal((len(counts), width)))
    return unit_rows(centres[labels] + 0.3 * rng.standard_normal((len(labels), width))), labels, centres


def formula(X, labels):
    """Weights μ P and biases −½ μ P μᵀ with P = d ((n − 1) Σ + tr(Σ) I)⁻¹, (n − 1) Σ the scatter about the class means."""
    means = np.stack([X[labels == c].mean(axis=0) for c in np.unique(labels)])
    centred = X - means[np.searchsorted(np.unique(labels), labels)]
    scatter = centred.T @ centred
    precision = X.shape[1] * np.linalg.inv(scatter + np.trace(scatter) / (len(X) - 1) * np.eye(X.shape[1]))
    return means @ precision, -0.5 * np.einsum("cd,de,ce->c", means, precision, means)


def test_logits_are_the_names_plus_the_weighted_gaussians():
    X, labels, centres = example()
    clf = GaussianClassifier(ClassEmbeddings(np.arange(3), centres), logit_scale=20.0).fit(X, labels)
    coef, bias = formula(X, labels)
    expected = 20 * X @ centres.T + clf.weight_ * (X @ coef.T + bias)
    np.testing.assert_allclose(clf.logits(X), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("counts", [(4, 3, 2), (2, 2), (5, 1, 3)])
def test_left_out_logits_are_those_of_a_refit_without_the_image(counts):
    X, labels, _ = example(counts)
    rows, logits = _Gaussians.of(X, labels).left_out()
    assert rows.tolist() == np.flatnonzero(np.array(counts)[labels] > 1).tolist()
    for row, logit in zip(rows, logits, strict=True):
        others = np.arange(len(X)) != row
        coef, bias = _Gaussians.of(X[others], labels[others]).linear()
        np.testing.assert_allclose(logit, X[row] @ coef.T + bias, rtol=1e-8, atol=1e-8)


def test_names_that_are_wrong_get_less_weight_than_right_ones():
    X, labels, centres = example((8, 8, 8), width=16)
    right, wrong = (
        GaussianClassifier(ClassEmbeddings(np.arange(3), names), logit_scale=20.0).fit(X, labels)
        for names in (centres, centres[[1, 2, 0]])
    )
    assert wrong.weight_ > right.weight_  # of the images
