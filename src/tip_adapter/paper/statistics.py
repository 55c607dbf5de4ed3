"""What several seeds say together: means with their intervals, and methods compared draw by draw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import t

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True)
class Mean:
    """The mean over seeds.

    Parameters
    ----------
    mean : float
    half_width : float, of Student's 95 % interval of the mean; None from a single seed
    n : int, seeds
    """

    mean: float
    half_width: float | None
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Mean:
        """From one value a seed, at least one."""
        n = len(values)
        spread = float(np.std(values, ddof=1)) if n > 1 else None
        half = None if spread is None else float(t.ppf(0.975, n - 1)) * spread / n**0.5
        return cls(float(np.mean(values)), half, n)


def means(results: Iterable[dict[str, Any]], axes: Sequence[str], value: str) -> dict[tuple[Any, ...], Mean]:
    """The mean of a field over the results that agree in `axes`; results without the field do not count."""
    groups: dict[tuple[Any, ...], list[float]] = {}
    for result in results:
        if result.get(value) is not None:
            groups.setdefault(tuple(result.get(axis) for axis in axes), []).append(float(result[value]))
    return {key: Mean.of(values) for key, values in groups.items()}


def paired(
    results: Iterable[dict[str, Any]], one: str, other: str, axes: Sequence[str] = ()
) -> dict[tuple[Any, ...], Mean]:
    """The mean of `one`'s accuracy minus `other`'s over the draws that both were measured on, for those that agree in `axes`.

    Zero-shot sees no photos: it is compared with every draw. Seeds are what a mean goes over; so that draws of one seed,
    which hold each other's photos, do not pass for several, `axes` should name the shots.
    """
    found = list(results)
    ours, theirs = _accuracies(found, one), _accuracies(found, other)
    groups: dict[tuple[Any, ...], list[float]] = {}
    for draw in dict.fromkeys([*theirs, *ours]):
        a, b = _on(ours, draw), _on(theirs, draw)
        if a is not None and b is not None:
            groups.setdefault(tuple(dict(draw)[axis] for axis in axes), []).append(a - b)
    return {key: Mean.of(differences) for key, differences in groups.items()}


#: Where and on which photos something was measured, as pairs of axis and value.
_Draw = tuple[tuple[str, Any], ...]


def _accuracies(results: Iterable[dict[str, Any]], method: str) -> dict[_Draw, float]:
    own = [result for result in results if result["method"] == method and result.get("accuracy") is not None]
    return {_draw(result): result["accuracy"] for result in own}


def _on(accuracies: dict[_Draw, float], draw: _Draw) -> float | None:
    """On a draw, or by what sees no photos."""
    return accuracies.get(draw, accuracies.get(_draw({**dict(draw), "shots": 0})))


def _draw(result: dict[str, Any]) -> _Draw:
    where = tuple((axis, result.get(axis)) for axis in ("dataset", "target", "encoder", "variant"))
    return (*where, ("shots", result["shots"]), ("seed", result["seed"] if result["shots"] else None))
