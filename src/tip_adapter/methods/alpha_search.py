"""Accuracy as a staircase in alpha: exact, without a grid.

A row's logits are straight lines in alpha, text + alpha · cache, so it is right between two alphas: where its own class's
line is on top. Sorting these ends gives the accuracy at every alpha there is.

Accuracy on a few hundred rows has wide steps and many ties, so the best step says little by itself. The pairs that these
rows cannot tell from the best, within two standard errors, form a plateau. Where the rows are the cache's own photos its
centre is taken: a peak is theirs, not the next photo's. On other photos it is the best step nearest to that centre.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

#: How far the plateau is looked at: alphas from 1/64 to 64 of the beta's unit.
_REACH = 64.0
#: Narrower steps (in the logarithm of alpha) are within rounding.
_NARROWEST = 1e-5
_STANDARD_ERRORS = 2.0
#: How far inside the plateau (in the logarithm of alpha) a pair lies at least: on its edge, rounding decides.
_INSET = 0.01


def right_between(behind: NDArray[Any], cache: NDArray[Any], labels: NDArray[Any]) -> NDArray[Any]:
    """For which alphas each row is right.

    Parameters
    ----------
    behind : (m, n_classes) float array, how far the own class's text logit lies below each class's
    cache : (m, n_classes) float array, cache logits
    labels : (m,) int array

    Returns
    -------
    (2, m) float array, lowest and highest alpha >= 0 of each row; never right where lowest >= highest
    """
    ahead = (
        cache[np.arange(len(labels)), labels][:, None] - cache
    )  # (m, N)  alpha times this must make good for `behind`
    gains, loses = ahead > 0, ahead < 0
    n_parallel = behind.size - np.count_nonzero(gains) - np.count_nonzero(loses)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        crossings = np.divide(behind, ahead, out=ahead)  # (m, N)  alphas at which a class's line crosses the own one's
    lowest = np.where(gains, crossings, 0).max(axis=1)
    highest = np.where(loses, crossings, np.inf).min(axis=1)
    if n_parallel > len(labels):  # not the own lines only: these never cross, a tie is the lower class's
        above = (behind > 0) | ((behind == 0) & (np.arange(behind.shape[1]) < labels[:, None]))
        lowest[(above & ~gains & ~loses).any(axis=1)] = np.inf
    return np.stack([lowest, highest])


@dataclass(frozen=True, eq=False)
class AccuracyCurve:
    """How many rows are right as alpha rises from 0, at one beta.

    Parameters
    ----------
    beta : float
    unit : float, the alpha at which the cache's spread is the text's; None where a spread is 0
    ends : (s + 1,) float array, where steps begin and end: from 0 to infinity
    n_right : (s,) int array, rows that are right within each step
    """

    beta: float
    unit: float | None
    ends: NDArray[np.float64]
    n_right: NDArray[np.intp]

    @classmethod
    def of(cls, between: NDArray[Any], beta: float, unit: float | None) -> AccuracyCurve:
        """Sort the ends of `right_between`'s (2, m) alphas."""
        lowest, highest = between[:, between[0] < between[1]].astype(np.float64)
        ends = np.unique(np.concatenate([[0.0, np.inf], lowest, highest]))
        begun = np.bincount(np.searchsorted(ends, lowest), minlength=len(ends))
        ended = np.bincount(np.searchsorted(ends, highest), minlength=len(ends))
        return cls(beta, unit, ends, np.cumsum(begun - ended)[:-1])

    @property
    def best(self) -> int:
        """The most rows that are right at any alpha."""
        low, high = self._logarithms()
        return int(self.n_right[high - low > _NARROWEST].max())

    def where(self, n_right: float) -> NDArray[np.float64]:
        """Where at least so many rows are right: (k, 2) ends of alpha / unit, as logarithms."""
        low, high = self._logarithms()
        enough = np.concatenate([[False], (self.n_right >= n_right) & (high - low > _NARROWEST), [False]])
        changes = np.flatnonzero(enough[1:] != enough[:-1])
        return np.stack([low[changes[::2]], high[changes[1::2] - 1]], axis=1)

    def _logarithms(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Low and high end of each step, (s,) logarithms of alpha / unit (of alpha where there is none).

        The first begins at 0, the last has no end: they are cut at `_REACH`, or at half or twice their only end.
        """
        low, high = self.ends[:-1] / (self.unit or 1.0), self.ends[1:] / (self.unit or 1.0)
        low, high = np.maximum(low, np.minimum(1 / _REACH, high / 2)), np.minimum(high, np.maximum(_REACH, 2 * low))
        return np.log(low), np.log(high)


def central_pair(stairs: Sequence[AccuracyCurve], n_rows: int) -> tuple[float, float]:
    """The pair of the plateau that is nearest to its centre.

    Parameters
    ----------
    stairs : one a beta; the betas are evenly spaced in their logarithm
    n_rows : int, how many rows there are

    Returns
    -------
    float, float : alpha and beta
    """
    plateau, centre = _plateau(stairs, n_rows)
    inset = np.minimum(_INSET, (plateau[:, 2] - plateau[:, 1]) / 2)
    points = _points(plateau, stairs, np.clip(centre[1], plateau[:, 1] + inset, plateau[:, 2] - inset))
    return _nearest(plateau, points, centre, stairs)


def best_pair(stairs: Sequence[AccuracyCurve], n_rows: int) -> tuple[float, float]:
    """Of all steps with the most rows right, the middle of the one nearest to the plateau's centre; as `central_pair`."""
    _, centre = _plateau(stairs, n_rows)
    peaks = _regions(stairs, _best(stairs))
    return _nearest(peaks, _points(peaks, stairs, _middles(peaks)), centre, stairs)


def _plateau(stairs: Sequence[AccuracyCurve], n_rows: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Regions as good as the best within the standard errors, and their centre: logarithms of beta and alpha / unit."""
    best = _best(stairs)
    regions = _regions(stairs, best - _STANDARD_ERRORS * np.sqrt(best * (1 - best / n_rows)) - 1e-9)
    within = np.column_stack([regions[:, 0], regions[:, 1:].clip(-np.log(_REACH), np.log(_REACH))])
    within = within[within[:, 2] > within[:, 1]]
    plateau = within if len(within) else regions  # all of it may be out of reach
    widths = plateau[:, 2] - plateau[:, 1]
    return plateau, np.average(_points(plateau, stairs, _middles(plateau)), axis=0, weights=widths)


def _best(stairs: Sequence[AccuracyCurve]) -> int:
    return max(steps.best for steps in stairs)


def _regions(stairs: Sequence[AccuracyCurve], n_right: float) -> NDArray[np.float64]:
    """Where at least so many rows are right, over all betas: (k, 3) number of the beta, low and high end."""
    found = [np.insert(steps.where(n_right), 0, b, axis=1) for b, steps in enumerate(stairs)]
    return np.concatenate(found)


def _middles(regions: NDArray[np.float64]) -> NDArray[np.float64]:
    return regions[:, 1:].mean(axis=1)


def _points(
    regions: NDArray[np.float64], stairs: Sequence[AccuracyCurve], ratios: NDArray[np.float64]
) -> NDArray[np.float64]:
    """One point a region at these (k,) logarithms of alpha / unit: (k, 2), the logarithm of beta before it."""
    betas = np.log([steps.beta for steps in stairs])
    return np.stack([betas[regions[:, 0].astype(np.intp)], ratios], axis=1)


def _nearest(
    regions: NDArray[np.float64],
    points: NDArray[np.float64],
    centre: NDArray[np.float64],
    stairs: Sequence[AccuracyCurve],
) -> tuple[float, float]:
    """The point nearest to the centre, as alpha and beta."""
    nearest = np.square(points - centre).sum(axis=1).argmin()
    steps = stairs[int(regions[nearest, 0])]
    return (steps.unit or 1.0) * float(np.exp(points[nearest, 1])), steps.beta
