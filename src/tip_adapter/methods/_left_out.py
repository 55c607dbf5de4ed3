"""Scores of photos by a cache that has not seen them: support photos without their own key, or other photos."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from tip_adapter.methods._kernels import (
    keep_own_key,
    leave_out_own_key,
    sharpen,
    sum_by_class,
    text_logits,
    to_numpy,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from tip_adapter.methods._base import VectorClassifier
    from tip_adapter.vectors import Array

# Affinities are formed in blocks of this many entries.
_BLOCK_ENTRIES = 2**22


@dataclass(frozen=True)
class SupportCache:
    """The support as a cache, and as queries to it; taken as it is: learned keys are not normalised.

    Parameters
    ----------
    queries : (n, d) float array, plain views of the support photos, unit rows
    keys : (n, d) float array
    labels : (n,) int array, class index of each
    weights : (n_classes, d) float array, class embeddings; zeros where there are none
    logit_scale : float
    """

    queries: NDArray[Any]
    keys: NDArray[Any]
    labels: NDArray[Any]
    weights: NDArray[Any]
    logit_scale: float

    @classmethod
    def of(cls, classifier: VectorClassifier, queries: Array) -> SupportCache:
        """The support of a fitted classifier, and plain views of its photos.

        Raises
        ------
        ValueError
            There is not one query a key.
        """
        keys = classifier.keys_
        if queries.shape != keys.shape:
            raise ValueError(f"queries are views of X's photos: {tuple(queries.shape)} is not {tuple(keys.shape)}")
        weights, scale = to_numpy(classifier.weights_), float(classifier.logit_scale)
        return cls(to_numpy(queries), to_numpy(keys), classifier.labels_, weights, scale)

    @cached_property
    def sigma(self) -> float | None:
        """Standard deviation of the cosines between photos of different classes; None where it means nothing."""
        count, total, squares = 0, 0.0, 0.0
        for rows in _blocks(len(self.queries), len(self.keys)):
            cosines = self.queries[rows] @ self.keys.T
            cosines = cosines[self.labels[rows, None] != self.labels].astype(np.float64)
            count, total, squares = count + len(cosines), total + cosines.sum(), squares + (cosines**2).sum()
        if count < 4:  # two pairs, each seen from both sides
            return None
        sigma = float(np.sqrt(max(squares / count - (total / count) ** 2, 0)))
        return sigma if sigma >= 1e-6 else None

    def left_out(self, betas: Sequence[float]) -> HeldOutScores:
        """Every support photo, scored by the cache without it; those alone in their class do not count."""
        scored = np.bincount(self.labels, minlength=1)[self.labels] > 1
        return self._rows(self.queries, self.labels, scored, betas, leave_out_own_key)

    def unseen(self, queries: NDArray[Any], labels: NDArray[Any], betas: Sequence[float]) -> HeldOutScores:
        """Other photos, scored by the whole cache."""
        return self._rows(queries, labels, np.ones(len(labels), np.bool_), betas, keep_own_key)

    def _rows(
        self,
        queries: NDArray[Any],
        labels: NDArray[Any],
        scored: NDArray[np.bool_],
        betas: Sequence[float],
        own_key: Callable[..., tuple[Array, Array | float]],
    ) -> HeldOutScores:
        n_classes = len(self.weights)
        cache = np.empty((len(betas), len(queries), n_classes), queries.dtype)
        for rows in _blocks(len(queries), len(self.keys)):
            cosines = queries[rows] @ self.keys.T
            for sums, beta in zip(cache, betas, strict=True):
                affinities, rescale = own_key(sharpen(cosines.copy(), beta), rows, self.labels, n_classes)
                sums[rows] = sum_by_class(affinities, self.labels, n_classes) * rescale
        return HeldOutScores(text_logits(queries, self.weights, self.logit_scale), cache, labels, scored, tuple(betas))


@dataclass(frozen=True)
class HeldOutScores:
    """What names and cache say about photos that the cache has not seen.

    Parameters
    ----------
    text : (n, n_classes) float array, text logits
    cache : (n_betas, n, n_classes) float array, cache logits at each beta
    labels : (n,) int array
    scored : (n,) bool array, rows that count in accuracy and likelihood; all rows count in the units
    betas : (n_betas,) floats
    """

    text: NDArray[Any]
    cache: NDArray[Any]
    labels: NDArray[Any]
    scored: NDArray[np.bool_]
    betas: tuple[float, ...]

    @property
    def n_scored(self) -> int:
        """How many rows count."""
        return int(self.scored.sum())

    @property
    def scored_labels(self) -> NDArray[Any]:
        """(n_scored,) int array."""
        return self.labels[self.scored]

    def logits(self, b: int, alpha: float) -> NDArray[Any]:
        """(n_scored, n_classes) logits of the rows that count, at beta number `b`."""
        return (self.text + alpha * self.cache[b])[self.scored]

    def alpha_unit(self, b: int) -> float | None:
        """The alpha at which the cache's spread is the text's, at beta number `b`; None where a spread is 0."""
        text, cache = _spread(self.text), _spread(self.cache[b])
        return text / cache if text > 0 and cache > 0 else None


def _spread(logits: NDArray[Any]) -> float:
    """How far a row's classes lie apart, in the mean over rows; rounding is no spread."""
    spread = float(logits.std(axis=1, dtype=np.float64).mean()) if len(logits) else 0.0
    return spread if spread > 1e-12 * np.abs(logits).max(initial=0) else 0.0


def _blocks(n_rows: int, n_columns: int) -> list[NDArray[np.intp]]:
    """Row numbers in blocks of bounded area."""
    block = max(1, _BLOCK_ENTRIES // max(n_columns, 1))
    return [np.arange(first, min(first + block, n_rows)) for first in range(0, n_rows, block)]
