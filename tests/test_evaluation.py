from __future__ import annotations

import json
from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tip_adapter.evaluation import KEPT, LeftOut, accuracy_interval, accuracy_of, keeping_threshold

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


def test_confusions_are_counted_the_most_frequent_first() -> None:
    truth = np.array(["a", "a", "b", "b", "b", "c", "猫"])
    called = np.array(["a", "b", "a", "a", "c", "a", "狗"])
    expected = (("b", "a", 2), ("a", "b", 1), ("b", "c", 1), ("c", "a", 1), ("猫", "狗", 1))
    assert accuracy_of(truth, called).confusions == expected
    assert accuracy_of(truth, truth).confusions == ()


# ---- photos that were left out ----------------------------------------------------------------------------------------

CLASSES = np.array(["a", "b", "c"])
PROBABILITIES = np.array([[0.9, 0.1, 0.0], [0.4, 0.5, 0.1], [0.2, 0.6, 0.2], [0.3, 0.3, 0.4]])


def test_left_out_photos_are_judged_by_their_likeliest_class() -> None:
    left_out = LeftOut.of(np.array(["a", "a", "b", "c"]), PROBABILITIES, CLASSES)
    assert left_out.accuracy == accuracy_of(np.array(["a", "a", "b", "c"]), np.array(["a", "b", "b", "c"]))
    assert (left_out.threshold, left_out.kept) == (0.4, 1.0)


@pytest.mark.parametrize("truth", [["a", "a", "b", "c"], ["c", "c", "c", "c"], ["a", "b", "b", "c"]], ids="".join)
def test_what_a_model_folder_keeps_of_left_out_photos_comes_back(truth: list[str]) -> None:
    left_out = LeftOut.of(np.array(truth), PROBABILITIES.astype(np.float32), CLASSES)
    assert LeftOut.from_record(json.loads(json.dumps(left_out.to_record()))) == left_out


def test_the_share_that_reaches_the_threshold_is_counted_not_assumed() -> None:
    probabilities = np.linspace(0.5, 1, 30)[:, None] * [1, 0] + [0, 0.01]
    left_out = LeftOut.of(np.array(["a"] * 30), probabilities, np.array(["a", "b"]))
    assert left_out.kept == pytest.approx(29 / 30)
    assert (probabilities.max(axis=1) >= left_out.threshold).mean() == left_out.kept


@given(
    scores=st.lists(st.floats(0, 1, width=32), min_size=1, max_size=70),
    percent=st.sampled_from([0, 1, 50, 90, 95, 99, 100]),
)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_the_threshold_is_the_highest_score_that_enough_photos_reach(scores: list[float], percent: int) -> None:
    def enough(threshold: float) -> bool:
        return 100 * sum(score >= threshold for score in scores) >= percent * len(scores)

    threshold = keeping_threshold(np.array(scores), percent / 100)
    assert threshold == max(score for score in scores if enough(score))


@pytest.mark.parametrize(("n", "spared"), [(1, 1), (19, 19), (20, 19), (39, 38), (40, 38), (100, 95)])
def test_nineteen_of_twenty_photos_keep_their_score(n: int, spared: int) -> None:
    scores = np.random.default_rng(0).permutation(n) / n
    assert (scores >= keeping_threshold(scores, KEPT)).sum() == spared
