"""Logits of queries that the cache does not contain: support images without their own key, or other images.

`accuracy_curves` gives the accuracy over all alphas at many betas; the cosines are computed once. Support images say how
accurate the classifier is on each class, so classes count the same, however many images they have; other images count as
they are.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from tip_adapter.io.processors import available_processors
from tip_adapter.methods.alpha_search import AccuracyCurve, correct_between
from tip_adapter.methods.ops import row_weights, text_logits, to_numpy
from tip_adapter.methods.tip_adapter import sharpen, sum_affinities

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from tip_adapter.methods.base import VectorClassifier
    from tip_adapter.vectors import Array

# Affinities are computed in blocks of this many entries.
_BLOCK_ENTRIES = 2**22
# Betas are searched in parallel; more threads would wait for memory.
_THREADS = min(available_processors(), 4)
# Rescaling a left-out query's own class by K_c / (K_c − 1) rounds. If other classes contain the same vectors, the logits
# should tie; shrink the own-class logit by more than rounding so that it cannot win such a tie.
_OWN_CLASS_FACTOR = 1 - 1e-5


@dataclass(frozen=True)
class Cache:
    """The support set as keys and as queries. Arrays are used as they are: learned keys are not normalised.

    Parameters
    ----------
    queries : (n, d) float array, unaugmented views of the support images, unit rows
    keys : (n, d) float array
    labels : (n,) int array, class index of each
    weights : (n_classes, d) float array, class embeddings; zeros if there are none
    logit_scale : float
    class_sums : as in TipAdapterClassifier
    """

    queries: NDArray[Any]
    keys: NDArray[Any]
    labels: NDArray[Any]
    weights: NDArray[Any]
    logit_scale: float
    class_sums: str = "balanced"

    @classmethod
    def of(cls, classifier: VectorClassifier, queries: Array) -> Cache:
        """The support of a fitted classifier, with unaugmented views of its images as queries.

        Raises
        ------
        ValueError
            The number or width of queries and keys differ.
        """
        keys = classifier.keys_
        if queries.shape != keys.shape:
            raise ValueError(
                f"queries must be views of the images in X: expected shape {tuple(keys.shape)}, "
                f"found {tuple(queries.shape)}"
            )
        weights, scale = to_numpy(classifier.weights_), float(classifier.logit_scale)
        return cls(to_numpy(queries), to_numpy(keys), classifier.labels_, weights, scale, classifier.class_sums)

    @cached_property
    def sigma(self) -> float | None:
        """Standard deviation of the cosines between images of different classes; None if too few or all equal.

        Every pair of classes counts the same.
        """
        counts, weights = np.bincount(self.labels), self.row_weights
        if len(self.labels) ** 2 - np.square(counts).sum() < 4:  # two pairs of images, each counted in both directions
            return None
        sums = np.zeros(3)
        for rows in _blocks(len(self.queries), len(self.keys)):
            sums += _moments(self.queries[rows] @ self.keys.T, weights[rows], weights)
        for own in np.split(np.argsort(self.labels, kind="stable"), np.cumsum(counts)[:-1]):
            sums -= _moments(self.queries[own] @ self.keys[own].T, weights[own], weights[own])
        weight, total, squares = sums
        sigma = float(np.sqrt(max(squares / weight - (total / weight) ** 2, 0)))
        return sigma if sigma >= 1e-6 else None

    @property
    def row_weights(self) -> NDArray[np.float64]:
        """What each support image counts, so that classes count the same: (n,), 1 where all have equally many."""
        return row_weights(self.labels, len(self.weights))

    @property
    def left_out(self) -> HeldOutQueries:
        """Every support image, scored without its own key; the only image of a class does not count."""
        scored = np.bincount(self.labels, minlength=1)[self.labels] > 1
        return HeldOutQueries(self, self.queries, self.labels, scored, np.arange(len(self.labels)), self.row_weights)

    def held_out(self, queries: NDArray[Any], labels: NDArray[Any]) -> HeldOutQueries:
        """Other images, (m, d) unit rows and (m,) class indices, scored by the whole cache."""
        weights = np.ones(len(labels))
        return HeldOutQueries(self, queries, labels, weights > 0, None, weights)


@dataclass(frozen=True)
class HeldOutQueries:
    """Labelled queries that the cache does not contain.

    Parameters
    ----------
    cache : Cache
    queries : (m, d) float array, unit rows
    labels : (m,) int array
    scored : (m,) bool array, rows that count in accuracy and likelihood; all rows count in the unit of alpha
    own_rows : (m,) int array, the key that each query leaves out, or None
    row_weights : (m,) float array, what each row counts relative to the others
    """

    cache: Cache
    queries: NDArray[Any]
    labels: NDArray[Any]
    scored: NDArray[np.bool_]
    own_rows: NDArray[np.intp] | None
    row_weights: NDArray[np.float64]

    @property
    def n_scored(self) -> int:
        """How many rows count."""
        return int(self.scored.sum())

    @property
    def scored_labels(self) -> NDArray[Any]:
        """(n_scored,) int array."""
        return self.labels[self.scored]

    @property
    def scored_weights(self) -> NDArray[np.float64]:
        """(n_scored,) float array, whose sum is Kish's effective number of rows, (Σ w)² / Σ w²."""
        weights = self.row_weights[self.scored]
        return weights * (weights.sum() / (np.square(weights).sum() or 1.0))

    def logits(self, alpha: float, beta: float) -> NDArray[Any]:
        """(n_scored, n_classes) logits of the rows that count."""
        logits = np.empty((self.n_scored, len(self.cache.weights)), self.queries.dtype)
        first = 0
        for rows, text, closeness in self._blocks():
            cache = self._without_ties(self._sums(closeness, rows, beta, out=closeness), rows)
            block = (text + alpha * cache)[self.scored[rows]]
            logits[first : first + len(block)] = block
            first += len(block)
        return logits

    def accuracy_curves(self, betas: Sequence[float]) -> list[AccuracyCurve]:
        """Accuracy as a function of alpha, for each beta in ascending order; every thread takes a part of the betas."""
        n_threads = min(_THREADS, len(betas))
        with ThreadPoolExecutor(n_threads, thread_name_prefix="curves") as pool:
            found = list(pool.map(self._curves, [betas[thread::n_threads] for thread in range(n_threads)]))
        return sorted((curve for part in found for curve in part), key=lambda curve: curve.beta)

    def _curves(self, betas: Sequence[float]) -> list[AccuracyCurve]:
        """`accuracy_curves` of one thread."""
        weights = self.row_weights
        between = np.empty((len(betas), 2, len(self.labels)), self.queries.dtype)
        spreads = [_Spread() for _ in range(len(betas) + 1)]
        for rows, text, closeness in self._blocks():
            spreads[-1].add(text, weights[rows])
            behind = text - text[np.arange(len(rows)), self.labels[rows]][:, None]
            affinities = np.empty_like(closeness)
            for b, beta in enumerate(betas):
                cache = self._sums(closeness, rows, beta, out=affinities)
                spreads[b].add(cache, weights[rows])
                between[b][:, rows] = correct_between(behind, self._without_ties(cache, rows), self.labels[rows])
        text_spread = spreads[-1].mean
        units = [text_spread / s.mean if text_spread > 0 and s.mean > 0 else None for s in spreads[:-1]]
        return [
            AccuracyCurve.of(between[b][:, self.scored], beta, unit, self.scored_weights)
            for b, (beta, unit) in enumerate(zip(betas, units, strict=True))
        ]

    def _blocks(self) -> Iterator[tuple[NDArray[np.intp], NDArray[Any], NDArray[Any]]]:
        """Row numbers, their text logits and their closeness to the keys, f Fᵀ − 1."""
        cache = self.cache
        for rows in _blocks(len(self.queries), max(len(cache.keys), len(cache.weights))):
            queries = self.queries[rows]
            # Column-major, so that sums by class and loops over classes read contiguous memory.
            closeness = (cache.keys @ queries.T).T
            closeness -= 1
            text = np.asfortranarray(text_logits(queries, cache.weights, cache.logit_scale))
            yield rows, text, closeness

    def _sums(self, closeness: NDArray[Any], rows: NDArray[np.intp], beta: float, *, out: NDArray[Any]) -> NDArray[Any]:
        """Cache logits of a block; its affinities are written to `out`."""
        own_rows = None if self.own_rows is None else self.own_rows[rows]
        affinities = sharpen(closeness, beta, own_rows, out=out)
        cache = self.cache
        logits: NDArray[Any] = sum_affinities(affinities, cache.labels, len(cache.weights), own_rows, cache.class_sums)
        return logits

    def _without_ties(self, cache: NDArray[Any], rows: NDArray[np.intp]) -> NDArray[Any]:
        """Shrink the own-class logits of left-out queries, in place."""
        if self.own_rows is not None:
            cache[np.arange(len(rows)), self.labels[rows]] *= _OWN_CLASS_FACTOR
        return cache


def _moments(cosines: NDArray[Any], rows: NDArray[np.float64], columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Number, sum and sum of squares of the cosines, weighted by those of their rows and columns; overwrites them."""
    weights = [rows.astype(cosines.dtype)[:, None], columns.astype(cosines.dtype)]
    for factor in weights:
        cosines *= factor
    total = cosines.sum(dtype=np.float64)
    np.square(cosines, out=cosines)
    for factor in weights:
        cosines /= factor
    return np.array([rows.sum() * columns.sum(), total, cosines.sum(dtype=np.float64)])


class _Spread:
    """Weighted mean over rows of the standard deviation over classes, block by block."""

    def __init__(self) -> None:
        self._total, self._weight, self._largest = 0.0, 0.0, 0.0

    def add(self, logits: NDArray[Any], weights: NDArray[np.float64]) -> None:
        self._total += float((weights * logits.std(axis=1, dtype=np.float64)).sum())
        self._weight += float(weights.sum())
        self._largest = max(self._largest, float(np.abs(logits).max(initial=0)))

    @property
    def mean(self) -> float:
        """0 if the spread is within rounding."""
        mean = self._total / self._weight if self._weight else 0.0
        return mean if mean > 1e-12 * self._largest else 0.0


def _blocks(n_rows: int, n_columns: int) -> list[NDArray[np.intp]]:
    """Row numbers in blocks of bounded area."""
    block = max(1, _BLOCK_ENTRIES // max(n_columns, 1))
    return [np.arange(first, min(first + block, n_rows)) for first in range(0, n_rows, block)]
