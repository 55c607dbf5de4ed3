"""Photos that the cache has not seen: support photos without their own key, or other photos.

Their logits at a pair, and for which alphas each of them is right.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from tip_adapter.methods.alpha_search import AccuracyCurve, right_between
from tip_adapter.methods.ops import keep_own_key, leave_out_own_key, sharpen, sum_by_class, text_logits, to_numpy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from tip_adapter.methods.base import VectorClassifier
    from tip_adapter.vectors import Array

# Affinities are formed in blocks of this many entries.
_BLOCK_ENTRIES = 2**22
# Betas are looked at side by side; more threads would wait for the memory.
_THREADS = min(os.cpu_count() or 1, 4)
# A left-out photo's class is rescaled by K_c/(K_c−1), which rounds. Where other classes hold the same vectors the logits
# should tie, and rounding must not tell which class is the photo's own: it gives up this share, more than rounding takes.
_OWN_CLASS_SHARE = 1 - 1e-5


@dataclass(frozen=True)
class Cache:
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
    def of(cls, classifier: VectorClassifier, queries: Array) -> Cache:
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
        sums = np.zeros(3)
        for rows in _blocks(len(self.queries), len(self.keys)):
            sums += _moments(self.queries[rows] @ self.keys.T)
        for own in np.split(np.argsort(self.labels, kind="stable"), np.cumsum(np.bincount(self.labels))[:-1]):
            sums -= _moments(self.queries[own] @ self.keys[own].T)
        count, total, squares = sums
        if count < 4:  # two pairs, each seen from both sides
            return None
        sigma = float(np.sqrt(max(squares / count - (total / count) ** 2, 0)))
        return sigma if sigma >= 1e-6 else None

    @property
    def left_out(self) -> HeldOutQueries:
        """Every support photo, scored by the cache without it; those alone in their class do not count."""
        scored = np.bincount(self.labels, minlength=1)[self.labels] > 1
        return HeldOutQueries(self, self.queries, self.labels, scored, leave_out_own_key, _OWN_CLASS_SHARE)

    def unseen(self, queries: NDArray[Any], labels: NDArray[Any]) -> HeldOutQueries:
        """Other photos, (m, d) unit rows and (m,) class indices, scored by the whole cache."""
        return HeldOutQueries(self, queries, labels, np.ones(len(labels), np.bool_), keep_own_key, 1.0)


@dataclass(frozen=True)
class HeldOutQueries:
    """Photos that the cache has not seen.

    Parameters
    ----------
    support : Cache
    queries : (m, d) float array, unit rows
    labels : (m,) int array
    scored : (m,) bool array, rows that count in accuracy and likelihood; all rows count in the units
    own_key : what a query does about its own key, a step of `_kernels`
    own_share : float, what is kept of the own class's cache logit so that its rounding does not tell the label
    """

    support: Cache
    queries: NDArray[Any]
    labels: NDArray[Any]
    scored: NDArray[np.bool_]
    own_key: Callable[..., tuple[Array, Array | float]]
    own_share: float

    @property
    def n_scored(self) -> int:
        """How many rows count."""
        return int(self.scored.sum())

    @property
    def scored_labels(self) -> NDArray[Any]:
        """(n_scored,) int array."""
        return self.labels[self.scored]

    def logits(self, alpha: float, beta: float) -> NDArray[Any]:
        """(n_scored, n_classes) logits of the rows that count."""
        logits = np.empty((self.n_scored, len(self.support.weights)), self.queries.dtype)
        first = 0
        for rows, text, closeness in self._blocks():
            cache = self._unrounded(self._cache(closeness, rows, beta, out=closeness), rows)
            block = (text + alpha * cache)[self.scored[rows]]
            logits[first : first + len(block)] = block
            first += len(block)
        return logits

    def stairs(self, betas: Sequence[float]) -> list[AccuracyCurve]:
        """Accuracy as alpha rises, at each beta in ascending order; some betas at a time, each thread with its own blocks."""
        n_threads = min(_THREADS, len(betas))
        with ThreadPoolExecutor(n_threads, thread_name_prefix="stairs") as pool:
            found = list(pool.map(self._stairs, [betas[thread::n_threads] for thread in range(n_threads)]))
        return sorted((steps for share in found for steps in share), key=lambda steps: steps.beta)

    def _stairs(self, betas: Sequence[float]) -> list[AccuracyCurve]:
        """Accuracy as alpha rises, at each beta; cosines are computed once."""
        between = np.empty((len(betas), 2, len(self.labels)), self.queries.dtype)
        spreads = [_Spread() for _ in range(len(betas) + 1)]
        for rows, text, closeness in self._blocks():
            spreads[-1].add(text)
            behind = text - text[np.arange(len(rows)), self.labels[rows]][:, None]
            affinities = np.empty_like(closeness)
            for b, beta in enumerate(betas):
                cache = self._cache(closeness, rows, beta, out=affinities)
                spreads[b].add(cache)
                between[b][:, rows] = right_between(behind, self._unrounded(cache, rows), self.labels[rows])
        return [
            AccuracyCurve.of(between[b][:, self.scored], beta, _unit(spreads[-1].mean, spreads[b].mean))
            for b, beta in enumerate(betas)
        ]

    def _blocks(self) -> Iterator[tuple[NDArray[np.intp], NDArray[Any], NDArray[Any]]]:
        """Row numbers, their text logits and their closeness to the keys, −(1 − f Fᵀ)."""
        support = self.support
        for rows in _blocks(len(self.queries), max(len(support.keys), len(support.weights))):
            queries = self.queries[rows]
            # Laid out column by column: sums by class, and steps over classes, then go along memory.
            closeness = (support.keys @ queries.T).T
            closeness -= 1
            text = np.asfortranarray(text_logits(queries, support.weights, support.logit_scale))
            yield rows, text, closeness

    def _cache(
        self, closeness: NDArray[Any], rows: NDArray[np.intp], beta: float, *, out: NDArray[Any]
    ) -> NDArray[Any]:
        """Cache logits of a block; its affinities are written to `out`."""
        n_classes = len(self.support.weights)
        affinities, rescale = self.own_key(sharpen(closeness, beta, out=out), rows, self.support.labels, n_classes)
        cache: NDArray[Any] = sum_by_class(affinities, self.support.labels, n_classes) * rescale
        return cache

    def _unrounded(self, cache: NDArray[Any], rows: NDArray[np.intp]) -> NDArray[Any]:
        """Cache logits, in place, without what rounding may have added to the own class."""
        cache[np.arange(len(rows)), self.labels[rows]] *= self.own_share
        return cache


def _moments(cosines: NDArray[Any]) -> NDArray[np.float64]:
    """How many there are, their sum, and the sum of their squares; they are used up."""
    total = cosines.sum(dtype=np.float64)
    return np.array([cosines.size, total, np.square(cosines, out=cosines).sum(dtype=np.float64)])


class _Spread:
    """How far a row's classes lie apart, in the mean over rows, block by block."""

    def __init__(self) -> None:
        self._total, self._n, self._largest = 0.0, 0, 0.0

    def add(self, logits: NDArray[Any]) -> None:
        self._total += float(logits.std(axis=1, dtype=np.float64).sum())
        self._n += len(logits)
        self._largest = max(self._largest, float(np.abs(logits).max(initial=0)))

    @property
    def mean(self) -> float:
        """Rounding is no spread: 0 then."""
        mean = self._total / self._n if self._n else 0.0
        return mean if mean > 1e-12 * self._largest else 0.0


def _unit(text: float, cache: float) -> float | None:
    """The alpha at which the cache's spread is the text's; None where a spread is 0."""
    return text / cache if text > 0 and cache > 0 else None


def _blocks(n_rows: int, n_columns: int) -> list[NDArray[np.intp]]:
    """Row numbers in blocks of bounded area."""
    block = max(1, _BLOCK_ENTRIES // max(n_columns, 1))
    return [np.arange(first, min(first + block, n_rows)) for first in range(0, n_rows, block)]
