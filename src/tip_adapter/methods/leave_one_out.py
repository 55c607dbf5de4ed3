"""Logits of queries that the cache does not contain: support images without their own key, or other images.

`accuracy_curves` gives the accuracy over all alphas at many betas; the cosines are computed once. Support images say how
accurate the classifier is on each class, so classes count the same, however many images they have; other images count as
they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from tip_adapter.methods.alpha_search import AccuracyCurve, correct_between
from tip_adapter.methods.ops import class_balance, class_matrix, in_threads, row_weights, text_logits, to_numpy
from tip_adapter.methods.tip_adapter import sharpen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tip_adapter.methods.base import VectorClassifier
    from tip_adapter.vectors import Array

# Affinities are computed in blocks of this many entries: they stay near a processor, and Python takes little of the time.
_BLOCK_ENTRIES = 2**20
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
        weights = self.row_weights
        n_pairs = len(self.labels) ** 2 - np.square(self.counts).sum()  # each pair of images counts in both directions
        if n_pairs < 4:
            return None
        # Around the mean of all cosines, so that rounding does not matter; of the same class are then taken out.
        mean = float(np.average(self.queries, 0, weights) @ np.average(self.keys, 0, weights))
        columns = weights.astype(self.keys.dtype)

        def moments(rows: NDArray[np.intp]) -> NDArray[np.float64]:
            deviations = self.queries[rows] @ self.keys.T
            deviations -= mean
            deviations *= self.labels[rows][:, None] != self.labels
            total = deviations @ columns
            return np.array([weights[rows] @ total, weights[rows] @ (np.square(deviations, out=deviations) @ columns)])

        blocks = _blocks(len(self.queries), len(self.keys))
        total, squares = np.sum([*in_threads(moments, blocks)], axis=0)
        own = np.bincount(self.labels, weights)
        weight = own.sum() ** 2 - np.square(own).sum()
        sigma = float(np.sqrt(max(squares / weight - (total / weight) ** 2, 0)))
        return sigma if sigma >= 1e-6 else None

    @property
    def row_weights(self) -> NDArray[np.float64]:
        """What each support image counts, so that classes count the same: (n,), 1 where all have equally many."""
        return row_weights(self.labels, len(self.weights))

    @cached_property
    def class_matrix(self) -> Any:
        """Lᵀ, the transposed one-hot labels, sparse: (n_classes, n)."""
        return class_matrix(self.labels, len(self.weights), self.keys.dtype)

    @cached_property
    def counts(self) -> NDArray[np.intp]:
        """The number of images of each class, (n_classes,)."""
        return np.bincount(self.labels, minlength=len(self.weights))

    @cached_property
    def balance(self) -> NDArray[Any] | None:
        """What each class's sum is multiplied by, (n_classes,); None for nothing."""
        balance = class_balance(self.labels, len(self.weights)) if self.class_sums == "balanced" else None
        return None if balance is None else balance.astype(self.keys.dtype)

    @property
    def left_out(self) -> HeldOutQueries:
        """Every support image, scored without its own key; the only image of a class does not count."""
        scored = self.counts[self.labels] > 1
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
        for rows in self._row_blocks:
            text, closeness = self._block(rows)
            cache = self._without_ties(self._sums(closeness, rows, beta, out=closeness), rows)
            block = (text + alpha * cache)[self.scored[rows]]
            logits[first : first + len(block)] = block
            first += len(block)
        return logits

    def accuracy_curves(self, betas: Sequence[float]) -> list[AccuracyCurve]:
        """Accuracy as a function of alpha, for each beta in ascending order."""
        betas = sorted(betas)
        between = np.empty((len(betas), 2, len(self.labels)), self.queries.dtype)

        def search(rows: NDArray[np.intp]) -> list[NDArray[np.float64]]:
            """Fill in `between` for these rows; `_spread` of their text logits, then of their cache logits at each beta."""
            weights, own = self.row_weights[rows], self.labels[rows]
            text, closeness = self._block(rows)
            spreads = [_spread(text, weights)]
            behind = text - text[np.arange(len(rows)), own][:, None]
            affinities = np.empty_like(closeness)
            for b, beta in enumerate(betas):
                cache = self._sums(closeness, rows, beta, out=affinities)
                spreads.append(_spread(cache, weights))
                between[b][:, rows] = correct_between(behind, self._without_ties(cache, rows), own)
            return spreads

        found = np.array([*in_threads(search, self._row_blocks)]).reshape(-1, 1 + len(betas), 2)
        spreads = found[..., 0].sum(axis=0) / (self.row_weights.sum() or 1.0)
        spreads[spreads <= 1e-12 * found[..., 1].max(axis=0, initial=0)] = 0  # within rounding
        text_spread = spreads[0]
        units = [float(text_spread / spread) if text_spread > 0 and spread > 0 else None for spread in spreads[1:]]
        return [
            AccuracyCurve.of(between[b][:, self.scored], beta, unit, self.scored_weights)
            for b, (beta, unit) in enumerate(zip(betas, units, strict=True))
        ]

    @property
    def _row_blocks(self) -> list[NDArray[np.intp]]:
        """Row numbers, in blocks of bounded area."""
        return _blocks(len(self.queries), max(len(self.cache.keys), len(self.cache.weights)))

    def _block(self, rows: NDArray[np.intp]) -> tuple[NDArray[Any], NDArray[Any]]:
        """The text logits of these rows, and their closeness to the keys, f Fᵀ − 1."""
        queries = self.queries[rows]
        # Column-major, so that sums by class and loops over classes read contiguous memory.
        closeness = (self.cache.keys @ queries.T).T
        closeness -= 1
        return np.asfortranarray(text_logits(queries, self.cache.weights, self.cache.logit_scale)), closeness

    def _sums(self, closeness: NDArray[Any], rows: NDArray[np.intp], beta: float, *, out: NDArray[Any]) -> NDArray[Any]:
        """Cache logits of a block, as `sum_affinities` gives them; its affinities are written to `out`."""
        affinities = sharpen(closeness, beta, None if self.own_rows is None else self.own_rows[rows], out=out)
        cache = self.cache
        sums: NDArray[Any] = (cache.class_matrix @ affinities.T).T
        if cache.balance is not None:
            sums *= cache.balance
        if self.own_rows is not None:
            own = self.labels[rows]
            counts = cache.counts[own]
            sums[np.arange(len(rows)), own] *= (counts / np.maximum(counts - 1, 1)).astype(sums.dtype)
        return sums

    def _without_ties(self, cache: NDArray[Any], rows: NDArray[np.intp]) -> NDArray[Any]:
        """Shrink the own-class logits of left-out queries, in place."""
        if self.own_rows is not None:
            cache[np.arange(len(rows)), self.labels[rows]] *= _OWN_CLASS_FACTOR
        return cache


def _spread(logits: NDArray[Any], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum of weight · standard deviation over classes, and the largest logit, of (m, n_classes) logits and (m,) weights."""
    share = np.full(logits.shape[1], 1 / logits.shape[1], logits.dtype)
    deviations = logits - logits[:, :1]  # exactly 0 where all logits of a row are equal
    deviations -= (deviations @ share)[:, None]
    spreads = np.sqrt(np.square(deviations, out=deviations) @ share)
    return np.array([weights @ spreads, max(logits.max(), -logits.min())])


def _blocks(n_rows: int, n_columns: int) -> list[NDArray[np.intp]]:
    """Row numbers in blocks of bounded area."""
    block = max(1, _BLOCK_ENTRIES // max(n_columns, 1))
    return [np.arange(first, min(first + block, n_rows)) for first in range(0, n_rows, block)]
