from __future__ import annotations

import json
import tracemalloc
from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tip_adapter.metrics import (
    KEPT,
    Bin,
    LeaveOneOutResult,
    MetricAccumulator,
    UnknownClass,
    accuracy_interval,
    accuracy_of,
    calibration_of,
    keeping_threshold,
)
from tip_adapter.vectors import SupportSet

TRUTH = np.array(["a"] * 6 + ["b"] * 3 + ["c"])
PREDICTED = np.array(["a"] * 5 + ["b"] + ["b", "a", "c"] + ["d"])  # right: 5 of 6, 1 of 3, 0 of 1


def wilson(n_right: int, n: int) -> tuple[float, float]:
    return wilson_of_share(n_right / n, n)


def wilson_of_share(p: float, n: float) -> tuple[float, float]:
    """Wilson (1927), the closed formula; 1.959964 is the normal's 97.5 % point."""
    z = 1.959963984540054
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


def test_fault_87_with_equal_classes_the_mean_over_them_is_the_accuracy_with_its_interval() -> None:
    result = accuracy_of(np.repeat(["a", "b", "c"], 7), np.array(["a"] * 9 + ["b"] * 12))
    assert (result.mean_per_class, result.mean_interval) == (result.accuracy, result.interval)
    assert result.equal_counts
    assert not accuracy_of(TRUTH, PREDICTED).equal_counts


def test_fault_87_the_interval_of_a_mean_over_classes_contains_the_truth() -> None:
    """Classes of 30, 30, 2 and 2 photos: as uncertain as 15 photos, not as 64."""
    rng, counts = np.random.default_rng(0), [30, 30, 2, 2]
    truth, covered = np.repeat(list("abcd"), counts), 0
    for _ in range(1000):
        result = accuracy_of(truth, np.where(rng.random(len(truth)) < 0.8, truth, "-"))
        low, high = result.mean_interval
        covered += low <= 0.8 <= high
    assert covered >= 940
    low, high = accuracy_of(TRUTH, PREDICTED).mean_interval
    assert (low, high) == pytest.approx(wilson_of_share((5 / 6 + 1 / 3) / 3, 9 / (1 / 6 + 1 / 3 + 1)))


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
    left_out = LeaveOneOutResult.of(np.array(["a", "a", "b", "c"]), PROBABILITIES, CLASSES)
    assert left_out.accuracy == accuracy_of(np.array(["a", "a", "b", "c"]), np.array(["a", "b", "b", "c"]))
    assert (left_out.threshold, left_out.kept) == (0.4, 1.0)


@pytest.mark.parametrize("truth", [["a", "a", "b", "c"], ["c", "c", "c", "c"], ["a", "b", "b", "c"]], ids="".join)
def test_what_a_model_folder_keeps_of_left_out_photos_comes_back(truth: list[str]) -> None:
    left_out = LeaveOneOutResult.of(np.array(truth), PROBABILITIES.astype(np.float32), CLASSES)
    assert LeaveOneOutResult.from_record(json.loads(json.dumps(left_out.to_record()))) == left_out


def test_without_classes_their_mean_accuracy_is_0() -> None:
    record = LeaveOneOutResult.of(np.array(["a"]), PROBABILITIES[:1], CLASSES).to_record()
    assert LeaveOneOutResult.from_record(record | {"per_class": []}).accuracy.mean_per_class == 0.0


def test_the_share_that_reaches_the_threshold_is_counted_not_assumed() -> None:
    probabilities = np.linspace(0.5, 1, 30)[:, None] * [1, 0] + [0, 0.01]
    left_out = LeaveOneOutResult.of(np.array(["a"] * 30), probabilities, np.array(["a", "b"]))
    assert left_out.kept == pytest.approx(29 / 30)
    assert (probabilities.max(axis=1) >= left_out.threshold).mean() == left_out.kept


@given(
    scores=st.lists(st.floats(0, 1, width=32), min_size=1, max_size=70),
    percent=st.sampled_from([0, 1, 50, 90, 95, 99, 100]),
)
def test_the_threshold_is_the_highest_score_that_enough_photos_reach(scores: list[float], percent: int) -> None:
    def enough(threshold: float) -> bool:
        return 100 * sum(score >= threshold for score in scores) >= percent * len(scores)

    threshold = keeping_threshold(np.array(scores), percent / 100)
    assert threshold == max(score for score in scores if enough(score))


@pytest.mark.parametrize(("n", "spared"), [(1, 1), (19, 19), (20, 19), (39, 38), (40, 38), (100, 95)])
def test_nineteen_of_twenty_photos_keep_their_score(n: int, spared: int) -> None:
    scores = np.random.default_rng(0).permutation(n) / n
    assert (scores >= keeping_threshold(scores, KEPT)).sum() == spared


# ---- calibration -----------------------------------------------------------------------------------------------------


def ece_by_hand(confidence: list[float], right: list[bool]) -> float:
    """Guo et al. (2017), equation 3: bins ((m − 1) / 15, m / 15]."""
    total = 0.0
    for m in range(1, 16):
        inside = [i for i, c in enumerate(confidence) if (m - 1) / 15 < c <= m / 15]
        if inside:
            accuracy = sum(right[i] for i in inside) / len(inside)
            total += len(inside) * abs(accuracy - sum(confidence[i] for i in inside) / len(inside))
    return total / len(confidence)


@given(st.lists(st.tuples(st.floats(0.001, 1), st.booleans()), min_size=1, max_size=60))
def test_the_calibration_error_is_that_of_the_paper(photos: list[tuple[float, bool]]) -> None:
    confidence, right = [c for c, _ in photos], [r for _, r in photos]
    result = calibration_of(np.array(confidence), np.array(right), np.zeros(len(photos)))
    assert result.ece == pytest.approx(ece_by_hand(confidence, right), abs=1e-9)
    assert sum(entry.n for entry in result.curve) == len(photos)


def test_the_curve_holds_the_bins_that_hold_photos_by_confidence() -> None:
    confidence = np.array([0.9, 0.31, 0.92, 0.33])
    result = calibration_of(confidence, np.array([True, False, False, True]), np.log(confidence))
    assert result.curve == (Bin(0.32, 0.5, 2), Bin(0.91, 0.5, 2))
    assert result.ece == pytest.approx((0.18 + 0.41) / 2)


def test_confidence_below_a_fifteenth_is_in_a_bin_of_its_own() -> None:
    confidence = np.array([0.05, 1 / 15, 0.1])
    result = calibration_of(confidence, np.array([True, True, False]), np.log(confidence))
    assert [entry.n for entry in result.curve] == [2, 1]


def test_the_likelihood_of_what_is_certain_is_zero_without_a_sign() -> None:
    result = calibration_of(np.array([1.0]), np.array([True]), np.array([0.0]))
    assert str(result.negative_log_likelihood) == "0.0"


def test_without_a_photo_of_a_known_class_there_is_no_likelihood() -> None:
    result = calibration_of(np.array([0.9]), np.array([False]), np.array([np.nan]))
    assert (result.negative_log_likelihood, result.n_known, result.ece) == (None, 0, 0.9)


# ---- the accumulator -------------------------------------------------------------------------------------------------------


def images_of(labels: list[str], n_before: int = 0) -> SupportSet:
    rows = np.arange(n_before, n_before + len(labels))
    vectors = np.stack([np.cos(rows), np.sin(rows)], axis=1).astype(np.float32)
    return SupportSet(vectors, np.array(labels), np.array([f"{row}.jpg" for row in rows]))


def accumulated(
    labels: list[str], logits: list[list[float]], batch: int, temperature: float = 2.0, **options: int
) -> MetricAccumulator:
    """An accumulator of photos that came `batch` at a time; the names alone call all of them the first class."""
    accumulator = MetricAccumulator(CLASSES, temperature, **options)
    for first in range(0, len(labels), batch):
        rows = np.array(logits[first : first + batch], dtype=np.float32)
        accumulator.add(images_of(labels[first : first + batch], first), rows, np.zeros_like(rows))
    return accumulator


LABELS = ["a", "b", "c", "z", "a"]
LOGITS = [[3, 0, 0], [2, 0, 0], [0, 5, 0], [0, 0, 9], [1, 0.5, 0]]


def test_a_tally_counts_as_if_all_photos_had_come_at_once() -> None:
    one, five = accumulated(LABELS, LOGITS, 1), accumulated(LABELS, LOGITS, 5)
    truth, called = np.array(LABELS), np.array(["a", "a", "b", "c", "a"])
    assert len(one) == len(five) == 5
    assert one.accuracy() == five.accuracy() == accuracy_of(truth, called)
    assert one.zero_shot() == accuracy_of(truth, np.array(["a"] * 5))
    assert one.calibrations() == five.calibrations()
    assert one.unknown_classes() == ["z"]


def test_calibration_before_and_after_is_that_of_the_two_softmaxes() -> None:
    known = [row for row, label in enumerate(LABELS) if label in CLASSES]
    for t, result in zip((1.0, 2.0), accumulated(LABELS, LOGITS, 2).calibrations(), strict=True):
        exponentials = np.exp(np.array(LOGITS) / t)
        scores = exponentials / exponentials.sum(axis=1, keepdims=True)
        own = [scores[row, "abc".index(LABELS[row])] for row in known]
        assert result.negative_log_likelihood == pytest.approx(-np.log(own).mean())
        assert result.ece == pytest.approx(ece_by_hand(scores.max(axis=1).tolist(), [True, False, False, False, True]))


def test_a_score_too_small_for_a_float_has_a_likelihood() -> None:
    accumulator = accumulated(["a"], [[0, 5000, 0]], 1, temperature=1.0)
    assert accumulator.calibrations()[1].negative_log_likelihood == pytest.approx(5000)


def test_a_class_that_is_never_answered_counts_as_wrong_and_has_no_likelihood() -> None:
    """Its logit is −infinity: a likelihood would be infinite, whatever the other images are."""
    logits = [[3.0, 0.0, -np.inf], [1.0, 0.0, -np.inf]]
    for result in accumulated(["a", "c"], logits, 2, temperature=1.0).calibrations():
        assert result.n_known == 1
        assert result.negative_log_likelihood == pytest.approx(np.log(1 + np.exp(-3)))
    assert accumulated(["a", "c"], logits, 2).accuracy().accuracy == 0.5
    assert accumulated(["a", "c"], logits, 2).unknown_classes() == []


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_the_most_confident_mistakes_are_kept_whole(batch: int) -> None:
    accumulator = accumulated(LABELS, LOGITS, batch, n_mistakes=2)
    worst, unknown = accumulator.mistakes(), accumulator.unknown_images()
    assert [(m.id, m.label, m.called) for m in worst] == [("2.jpg", "c", "b"), ("1.jpg", "b", "a")]
    assert [(m.id, m.label, m.called) for m in unknown] == [("3.jpg", "z", "c")]
    assert unknown[0].score == pytest.approx(np.exp(4.5) / (np.exp(4.5) + 2))
    np.testing.assert_array_equal(unknown[0].vector, images_of(LABELS).vectors[3])
    without = accumulated(LABELS, LOGITS, batch)
    assert without.mistakes() == without.unknown_images() == []


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_classes_that_the_model_does_not_have_are_counted_apart(batch: int) -> None:
    labels, logits = ["z", "y", "a", "z", "z", "b", "z"], [[0, 0, 9], [1, 0, 0], [9, 0, 0], [0, 3, 0], [1, 0, 0]]
    accumulator = accumulated(labels, [*logits, [0, 0, 1], [0, 0, 8]], batch, temperature=1.0)
    # The score of a logit of 1 next to two of 0 is e / (e + 2), 0.58; the others are above 0.9.
    assert accumulator.unknown(0.6) == [
        UnknownClass("y", 1, (("a", 1),), 1),
        UnknownClass("z", 4, (("c", 2), ("a", 1), ("b", 1)), 1),
    ]
    assert accumulator.n_known_refused(0.6) == 1
    assert accumulator.n_known_refused(0.0) == sum(each.n_refused for each in accumulator.unknown(0.0)) == 0
    assert accumulator.accuracy_of_known() == accuracy_of(np.array(["a", "b"]), np.array(["a", "c"]))
    assert accumulator.accuracy().accuracy == pytest.approx(1 / 7)


def test_without_an_image_of_a_known_class_they_have_no_accuracy() -> None:
    assert accumulated(["z"], [[1, 0, 0]], 1).accuracy_of_known() is None


def test_of_equal_mistakes_the_first_is_kept() -> None:
    worst = accumulated(["b"] * 4, [[1, 0, 0]] * 4, 3, n_mistakes=2).mistakes()
    assert [mistake.id for mistake in worst] == ["0.jpg", "1.jpg"]


def test_a_tally_keeps_a_few_numbers_a_photo_not_its_scores() -> None:
    classes = np.array([f"class {number:04}" for number in range(1000)])
    accumulator = MetricAccumulator(classes, 2.0, n_mistakes=5)
    logits, rng = np.zeros((1000, 1000), np.float32), np.random.default_rng(0)
    logits[np.arange(1000), rng.integers(0, 1000, 1000)] = 3
    photos = SupportSet(np.ones((1000, 4), np.float32), classes, np.arange(1000).astype(np.str_))
    accumulator.add(photos, logits, logits)
    tracemalloc.start()
    for _ in range(10):
        accumulator.add(photos, logits, logits)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 10_000 * 100  # bytes a photo, where a row of scores would take 4,000


@given(st.integers(1, 10**6))
def test_an_interval_of_none_or_all_ends_exactly_there(n):
    assert accuracy_interval(0, n)[0] == 0.0
    assert accuracy_interval(n, n)[1] == 1.0
    assert 0 < accuracy_interval(0, n)[1] <= 1
    assert 0 <= accuracy_interval(n, n)[0] < 1


def test_answers_are_ids_classes_labels_and_scores():
    accumulator = MetricAccumulator(np.array(["cat", "dog"]), 1.0)
    photos = SupportSet(np.eye(2, dtype=np.float32), np.array(["cat", "dog"]), np.array(["a.jpg", "b.jpg"]))
    accumulator.add(photos, np.log([[0.9, 0.1], [0.6, 0.4]]), np.zeros((2, 2)))
    accumulator.add_unreadable(["a.jpg", "c.jpg"], ["cat", "dog"])
    rows = [(*row[:3], row[3] and round(row[3], 6)) for row in accumulator.answers(0.7)]
    assert rows == [("a.jpg", "cat", "cat", 0.9), ("b.jpg", "dog", None, 0.6), ("c.jpg", "dog", None, None)]
    assert [row[2] for row in accumulator.answers()] == ["cat", "cat", None]
