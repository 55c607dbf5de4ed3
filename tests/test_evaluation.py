from __future__ import annotations

from math import sqrt

import numpy as np
import pytest

from tip_adapter.evaluation import accuracy_interval, accuracy_of

TRUTH = np.array(["a"] * 6 + ["b"] * 3 + ["c"])
PREDICTED = np.array(["a"] * 5 + ["b"] + ["b", "a", "c"] + ["d"])  # right: 5 of 6, 1 of 3, 0 of 1


def wilson(n_right: int, n: int) -> tuple[float, float]:
    """Wilson (1927), the closed formula; 1.959964 is the normal's 97.5 % point."""
    z, p = 1.959963984540054, n_right / n
    centre, half = p + z * z / (2 * n), z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max((centre - half) / (1 + z * z / n), 0.0), min((centre + half) / (1 + z * z / n), 1.0)


@pytest.mark.parametrize(("n_right", "n"), [(0, 1), (1, 1), (0, 40), (40, 40), (7, 10), (170, 300), (9_999, 10_000)])
def test_the_interval_is_wilsons(n_right: int, n: int) -> None:
    assert accuracy_interval(n_right, n) == pytest.approx(wilson(n_right, n), abs=1e-12)


def test_accuracy_counts_photos_and_the_mean_counts_classes() -> None:
    result = accuracy_of(TRUTH, PREDICTED)
    assert result.n == 10
    assert result.accuracy == pytest.approx(6 / 10)
    assert result.mean_per_class == pytest.approx((5 / 6 + 1 / 3 + 0) / 3)
    assert result.interval == accuracy_interval(6, 10)


def test_per_class_holds_the_classes_of_the_truth_only() -> None:
    assert accuracy_of(TRUTH, PREDICTED).per_class == {"a": (5 / 6, 6), "b": (1 / 3, 3), "c": (0.0, 1)}


def test_the_order_of_photos_does_not_matter() -> None:
    order = np.random.default_rng(0).permutation(len(TRUTH))
    assert accuracy_of(TRUTH[order], PREDICTED[order]) == accuracy_of(TRUTH, PREDICTED)
