"""What several seeds say together: means with their intervals, and methods compared draw by draw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import t

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence


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


def means(results: Iterable[dict[str, Any]], axes: Sequence[str], value: str) -> dict[tuple[Hashable, ...], Mean]:
    """The mean of a field over the results that agree in `axes`; results without the field do not count."""
    groups: dict[tuple[Hashable, ...], list[float]] = {}
    for result in results:
        if result.get(value) is not None:
            groups.setdefault(tuple(result.get(axis) for axis in axes), []).append(float(result[value]))
    return {key: Mean.of(values) for key, values in groups.items()}


def paired(results: Iterable[dict[str, Any]], one: str, other: str) -> Mean | None:
    """The mean of `one`'s accuracy minus `other`'s over the draws that both methods were measured on; None without any.

    Zero-shot sees no photos: it is compared with every draw.
    """
    found = list(results)
    ours, theirs = _accuracies(found, one), _accuracies(found, other)
    pairs = [(_on(ours, draw), _on(theirs, draw)) for draw in {**ours, **theirs}]
    differences = [a - b for a, b in pairs if a is not None and b is not None]
    return Mean.of(differences) if differences else None


def _accuracies(results: Iterable[dict[str, Any]], method: str) -> dict[Any, float]:
    """Where and on which draw, None for no photos → a method's accuracy."""
    own = [result for result in results if result["method"] == method and result.get("accuracy") is not None]
    return {(_where(result), _draw(result)): result["accuracy"] for result in own}


def _on(accuracies: dict[Any, float], where_and_draw: tuple[Any, Any]) -> float | None:
    where, _ = where_and_draw
    return accuracies.get(where_and_draw, accuracies.get((where, None)))


def _where(result: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(result.get(axis) for axis in ("dataset", "target", "encoder", "variant"))


def _draw(result: dict[str, Any]) -> tuple[int, int] | None:
    return (result["shots"], result["seed"]) if result["shots"] else None
