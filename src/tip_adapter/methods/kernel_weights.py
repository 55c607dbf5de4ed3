"""Weights of two linear kernels that are added, by the likelihood of left-out images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tip_adapter.methods import tuning
from tip_adapter.methods.leave_one_out import Cache
from tip_adapter.methods.tip_adapter import TipAdapterClassifier
from tip_adapter.vectors import softmax, unit_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

#: The first kernel's weight in tenths, those near equal ones first: they win ties.
_TENTHS = (5, 4, 6, 3, 7, 2, 8, 1, 9)
#: Digits of a log-likelihood: a smaller difference is rounding.
_DIGITS = 5
#: Images that decide: their kernel is computed once for each weight.
_MOST_IMAGES = 4000


def kernel_weights(parts: Sequence[NDArray[np.float32]], labels: NDArray[np.str_]) -> tuple[float, float] | None:
    """Choose the weights of two kernels that are added, each of one encoder's vectors of the same images.

    Every image is scored by Tip-Adapter's cache without it and without class names, with alpha and beta by the scale-free rule
    and a fitted temperature; the weights with the highest likelihood of the labels are chosen, in steps of a tenth.

    Parameters
    ----------
    parts : two (n, d) float32 arrays, unit rows; d may differ
    labels : (n,) str array

    Returns
    -------
    two numbers above 0 that sum to 1; None if no class has two images, so that none can be left out

    Examples
    --------
    >>> telling = np.float32([[1, 0], [0.9, 0.436], [0, 1], [0.436, 0.9]])
    >>> the_same = np.float32([[1, 0], [0, 1], [1, 0], [0, 1]])
    >>> kernel_weights([telling, the_same], np.array(["cat", "cat", "dog", "dog"]))
    (0.9, 0.1)
    """
    rows = np.arange(len(labels))
    if len(rows) > _MOST_IMAGES:  # evenly over the classes
        rows = np.argsort(labels, kind="stable")[np.linspace(0, len(labels) - 1, _MOST_IMAGES).astype(np.intp)]
    first, second = (unit_rows(part[rows]) for part in parts)
    likelihoods = [round(_log_likelihood(tenth / 10, first, second, labels[rows]), _DIGITS) for tenth in _TENTHS]
    if likelihoods[0] == -np.inf:
        return None
    best = _TENTHS[int(np.argmax(likelihoods))]
    return best / 10, (10 - best) / 10


def _log_likelihood(
    weight: float, first: NDArray[np.float32], second: NDArray[np.float32], labels: NDArray[np.str_]
) -> float:
    """Mean log-likelihood of the labels of left-out images under the sum of both kernels; −infinity without any."""
    vectors = np.concatenate([np.sqrt(weight) * first, np.sqrt(1 - weight) * second], axis=1).astype(np.float32)
    cache = Cache.of(TipAdapterClassifier().fit(vectors, labels), vectors)
    photos = cache.left_out
    if not photos.n_scored:
        return -np.inf
    choice = tuning.scale_free(cache, tuning.TuningData())
    probabilities = softmax(photos.logits(*choice.alpha_beta).astype(np.float64) / choice.temperature)
    own = probabilities[np.arange(photos.n_scored), photos.scored_labels]
    return float(np.log(np.maximum(own, np.finfo(np.float64).tiny)).mean())
