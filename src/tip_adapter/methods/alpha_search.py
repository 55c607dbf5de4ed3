"""Accuracy as a piecewise-constant function of alpha: exact, without a grid.

A row's logits are linear in alpha, text + alpha · cache, so the row is correct on one interval of alphas: where its own
class's line is on top. Sorting the ends of all intervals gives the accuracy at every alpha.

On a few hundred rows, accuracy has wide steps and many ties, so the single best step is mostly noise. All (alpha, beta)
within two standard errors of the best form a plateau. If the rows are the support images themselves, the plateau's centre
is chosen, since a peak overfits them. On validation images the best step nearest to that centre is chosen; on few of them
the alpha and beta within one standard error of the best that are nearest to the support's own choice.

Rows may have weights, so that classes of different sizes count the same. Their sum is the effective number of rows: then
the standard error is that of as many rows of weight 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

#: The plateau is searched for alphas from 1/64 to 64 times the beta's unit.
_REACH = 64.0
#: Narrower steps (in log alpha) are within rounding.
_NARROWEST = 1e-5
_STANDARD_ERRORS = 2.0
#: Sums of weights are rounded, so that steps that tie do so exactly.
_DECIMALS = 9
#: Minimum distance (in log alpha) from the edge of the plateau, where rounding decides.
_INSET = 0.01


def correct_between(behind: NDArray[Any], cache: NDArray[Any], labels: NDArray[Any]) -> NDArray[Any]:
    """The interval of alphas in which each row is classified correctly.

    Parameters
    ----------
    behind : (m, n_classes) float array, each class's text logit minus the own class's
    cache : (m, n_classes) float array, cache logits
    labels : (m,) int array

    Returns
    -------
    (2, m) float array, lowest and highest alpha >= 0 of each row; never correct where lowest >= highest
    """
    ahead = cache[np.arange(len(labels)), labels][:, None] - cache  # (m, N)  alpha · ahead must exceed `behind`
    gains, loses = ahead > 0, ahead < 0
    n_parallel = behind.size - np.count_nonzero(gains) - np.count_nonzero(loses)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        crossings = np.divide(behind, ahead, out=ahead)  # (m, N)  alphas at which a class's line crosses the own one's
    lowest = np.where(gains, crossings, 0).max(axis=1)
    highest = np.where(loses, crossings, np.inf).min(axis=1)
    if n_parallel > len(labels):  # other than each row's own line: they never cross; ties go to the lower class
        above = (behind > 0) | ((behind == 0) & (np.arange(behind.shape[1]) < labels[:, None]))
        lowest[(above & ~gains & ~loses).any(axis=1)] = np.inf
    return np.stack([lowest, highest])


@dataclass(frozen=True, eq=False)
class AccuracyCurve:
    """The number of correct rows as a function of alpha >= 0, at one beta; with weights, their sum.

    Parameters
    ----------
    beta : float
    unit : float, the alpha at which cache and text logits have the same spread; None if a spread is 0
    ends : (s + 1,) float array, ends of the steps, from 0 to infinity
    n_correct : (s,) float array, correct rows within each step
    """

    beta: float
    unit: float | None
    ends: NDArray[np.float64]
    n_correct: NDArray[np.float64]

    @classmethod
    def of(
        cls, between: NDArray[Any], beta: float, unit: float | None, weights: NDArray[np.float64] | None = None
    ) -> AccuracyCurve:
        """From the (2, m) intervals of `correct_between`, and what each row counts: (m,), None for 1."""
        ever = between[0] < between[1]
        lowest, highest = between[:, ever].astype(np.float64)
        weights = np.ones(len(lowest)) if weights is None else weights[ever]
        ends = np.unique(np.concatenate([[0.0, np.inf], lowest, highest]))
        begun = np.bincount(np.searchsorted(ends, lowest), weights, minlength=len(ends))
        ended = np.bincount(np.searchsorted(ends, highest), weights, minlength=len(ends))
        return cls(beta, unit, ends, np.cumsum(begun - ended)[:-1].round(_DECIMALS))

    @property
    def best(self) -> float:
        """The largest number of correct rows at any alpha."""
        low, high = self._log_ends()
        return float(self.n_correct[high - low > _NARROWEST].max())

    def where(self, n_correct: float) -> NDArray[np.float64]:
        """Where at least `n_correct` rows are correct: (k, 2) ends as log(alpha / unit)."""
        low, high = self._log_ends()
        enough = np.concatenate([[False], (self.n_correct >= n_correct) & (high - low > _NARROWEST), [False]])
        changes = np.flatnonzero(enough[1:] != enough[:-1])
        return np.stack([low[changes[::2]], high[changes[1::2] - 1]], axis=1)

    def _log_ends(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Low and high end of each step, (s,) log(alpha / unit), or log(alpha) without a unit.

        The first step starts at 0 and the last is unbounded: both are cut at `_REACH`, or at half or twice their other end.
        """
        low, high = self.ends[:-1] / (self.unit or 1.0), self.ends[1:] / (self.unit or 1.0)
        low, high = np.maximum(low, np.minimum(1 / _REACH, high / 2)), np.minimum(high, np.maximum(_REACH, 2 * low))
        return np.log(low), np.log(high)


def central_alpha_beta(curves: Sequence[AccuracyCurve], n_rows: float) -> tuple[float, float]:
    """The (alpha, beta) of the plateau that is nearest to its centre.

    `curves` are of betas evenly spaced in their logarithm; `n_rows` is the number of rows that they count, or the sum of
    their weights.
    """
    plateau, centre = _plateau(curves, n_rows)
    inset = np.minimum(_INSET, (plateau[:, 2] - plateau[:, 1]) / 2)
    return _nearest(plateau, curves, np.clip(centre[1], plateau[:, 1] + inset, plateau[:, 2] - inset), centre)


def best_alpha_beta(curves: Sequence[AccuracyCurve], n_rows: float) -> tuple[float, float]:
    """The middle of the most accurate step nearest to the plateau's centre; parameters as in `central_alpha_beta`."""
    _, centre = _plateau(curves, n_rows)
    peaks = _regions(curves, max(curve.best for curve in curves))
    return _nearest(peaks, curves, peaks[:, 1:].mean(axis=1), centre)


def nearest_alpha_beta(
    curves: Sequence[AccuracyCurve], n_rows: float, start: tuple[float, float]
) -> tuple[float, float]:
    """Of all (alpha, beta) within one standard error of the best, the nearest to `start`; parameters as in `central_alpha_beta`."""
    alpha, beta = start
    near = min(curves, key=lambda curve: abs(np.log(curve.beta / beta)))
    aim = np.array([np.log(beta), np.log(max(alpha / (near.unit or 1.0), 1 / _REACH))])
    regions = _regions(curves, _enough(curves, n_rows, 1.0))
    inset = np.minimum(_INSET, (regions[:, 2] - regions[:, 1]) / 2)
    return _nearest(regions, curves, np.clip(aim[1], regions[:, 1] + inset, regions[:, 2] - inset), aim)


def _enough(curves: Sequence[AccuracyCurve], n_rows: float, standard_errors: float) -> float:
    """The number of correct rows that is so many standard errors below the best, and rounding."""
    best = max(curve.best for curve in curves)
    return best - standard_errors * float(np.sqrt(best * max(1 - best / n_rows, 0))) - 1e-9


def _plateau(curves: Sequence[AccuracyCurve], n_rows: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Regions within the standard errors of the best, and their centre (log beta, log(alpha / unit))."""
    regions = _regions(curves, _enough(curves, n_rows, _STANDARD_ERRORS))
    within = np.column_stack([regions[:, 0], regions[:, 1:].clip(-np.log(_REACH), np.log(_REACH))])
    within = within[within[:, 2] > within[:, 1]]
    plateau = within if len(within) else regions  # all of it may be out of reach
    widths = plateau[:, 2] - plateau[:, 1]
    return plateau, np.average(_points(plateau, curves, plateau[:, 1:].mean(axis=1)), axis=0, weights=widths)


def _regions(curves: Sequence[AccuracyCurve], n_correct: float) -> NDArray[np.float64]:
    """Where at least `n_correct` rows are correct, over all betas: (k, 3) index of the beta, low and high end."""
    return np.concatenate([np.insert(curve.where(n_correct), 0, b, axis=1) for b, curve in enumerate(curves)])


def _points(
    regions: NDArray[np.float64], curves: Sequence[AccuracyCurve], log_ratios: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(k, 2) log beta of each region and its (k,) log(alpha / unit)."""
    betas = np.log([curve.beta for curve in curves])
    return np.stack([betas[regions[:, 0].astype(np.intp)], log_ratios], axis=1)


def _nearest(
    regions: NDArray[np.float64], curves: Sequence[AccuracyCurve], log_ratios: Any, centre: NDArray[np.float64]
) -> tuple[float, float]:
    """Of one point in each region, at its (k,) log(alpha / unit), the one nearest to the centre, as (alpha, beta)."""
    points = _points(regions, curves, log_ratios)
    nearest = np.square(points - centre).sum(axis=1).argmin()
    curve = curves[int(regions[nearest, 0])]
    return (curve.unit or 1.0) * float(np.exp(points[nearest, 1])), curve.beta
