"""Looking over labelled photos: planted mistakes are found, and nothing else is said."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tip_adapter import FewShotClassifier
from tip_adapter.errors import UsageError
from tip_adapter.model.label_issues import MOST_PAIRS, NEAR, check_images, likely_wrong
from tip_adapter.vectors import SupportSet, unit_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image

    Paint = Callable[..., Image.Image]

LABELS = ["red", "green", "blue"] * 4
KEYS = {
    "n_images",
    "n_checked",
    "accuracy",
    "accuracy_interval",
    "likely_wrong",
    "near_duplicates",
    "need_images",
}


@pytest.fixture
def photos(paint: Paint) -> list[Image.Image]:
    """Four photos of each colour, in the order of LABELS."""
    return [paint(label, number) for number, label in enumerate(LABELS)]


def fitted(photos: list[Any], labels: list[str], method: str = "tip-adapter") -> FewShotClassifier:
    with warnings.catch_warnings(action="ignore"):  # of the same photo in two classes, of classes with one photo
        return FewShotClassifier("toy", method).fit(photos, labels)


def scattered(counts: dict[str, int], seed: int = 0) -> FewShotClassifier:
    """A model of vectors without any order: its classes are told apart by chance only."""
    labels = np.array([label for label, count in counts.items() for _ in range(count)], dtype=np.str_)
    vectors = unit_rows(np.random.default_rng(seed).standard_normal((len(labels), 49)).astype(np.float32))
    ids = np.array([f"{row}.jpg" for row in range(len(labels))], dtype=np.str_)
    with warnings.catch_warnings(action="ignore"):
        return FewShotClassifier("toy").fit_support(SupportSet(vectors, labels, ids), list(counts))


def test_photos_in_order_have_nothing_to_look_at(photos: Any) -> None:
    model = fitted(photos, LABELS)
    record = check_images(model.head_)
    assert set(record) == KEYS
    assert (record["n_images"], record["n_checked"], record["accuracy"]) == (12, 12, 1.0)
    assert record["accuracy_interval"] == list(model.head_.left_out.accuracy.interval)
    assert (record["likely_wrong"], record["near_duplicates"], record["need_images"]) == ([], [], [])


# ---- labels that are likely wrong ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["tip-adapter", "tip-adapter-f"])
@pytest.mark.parametrize("row", [0, 4, 11])
def test_a_planted_wrong_label_comes_first(method: str, row: int, photos: Any) -> None:
    labels = ["green" if number == row and label != "green" else label for number, label in enumerate(LABELS)]
    labels[row] = "green" if LABELS[row] != "green" else "red"
    first = check_images(fitted(photos, labels, method).head_)["likely_wrong"][0]
    assert (first["image"], first["label"], first["called"]) == (f"image {row}", labels[row], LABELS[row])
    assert 0 <= first["probability"] < 1 / 2


def test_every_photo_that_can_be_left_out_is_ranked_by_the_probability_of_its_own_label() -> None:
    head = scattered({"a": 5, "b": 7, "c": 3}).head_
    entries = likely_wrong(head)
    assert [entry["probability"] for entry in entries] == sorted(entry["probability"] for entry in entries)
    labels = dict(zip(head.support.ids.tolist(), head.support.labels.tolist(), strict=True))
    assert {entry["image"]: entry["label"] for entry in entries} == labels
    assert len(entries) == 15
    for entry in entries:
        assert 0 <= entry["probability"] <= 1
        assert entry["called"] == entry["label"] or entry["probability"] <= 1 / 2
    mistaken = [entry for entry in entries if entry["called"] != entry["label"]]
    assert all(entry in mistaken for entry in check_images(head)["likely_wrong"])


def test_a_photo_that_is_alone_in_its_class_is_not_judged() -> None:
    record = check_images(scattered({"a": 3, "b": 3, "c": 1, "d": 0}).head_)
    assert (record["n_images"], record["n_checked"]) == (7, 6)
    assert "c" not in {entry["label"] for entry in record["likely_wrong"]}


def test_where_no_photo_can_be_left_out_nothing_is_said_of_labels() -> None:
    record = check_images(scattered({"a": 1, "b": 1}).head_)
    assert (record["n_checked"], record["accuracy"], record["accuracy_interval"]) == (0, None, None)
    assert record["likely_wrong"] == []
    assert record["need_images"] == [
        {"label": "a", "n_images": 1, "accuracy": None},
        {"label": "b", "n_images": 1, "accuracy": None},
    ]


def test_a_taught_model_is_checked_with_the_photos_that_it_has_now(photos: Any, paint: Paint) -> None:
    taught = fitted(photos[:9], LABELS[:9]).partial_fit([paint("blue", 50), *photos[9:]], ["red", *LABELS[9:]])
    assert taught.head_.left_out is None
    record = check_images(taught.head_)
    assert (record["n_images"], record["n_checked"]) == (13, 13)
    assert record["likely_wrong"][0]["image"] == "image 9"
    assert record["accuracy"] == pytest.approx(np.mean([4 / 5, 1, 1]))  # of 5, 4 and 4 photos
    low, high = record["accuracy_interval"]
    assert low < record["accuracy"] < high
    assert [entry["label"] for entry in record["need_images"]] == ["red"]


# ---- near-duplicates -------------------------------------------------------------------------------------------------


def test_the_same_photo_in_two_classes_is_a_near_duplicate(photos: Any) -> None:
    head = fitted([*photos, photos[0]], [*LABELS, "blue"]).head_
    pairs = check_images(head)["near_duplicates"]
    assert pairs[0]["images"] == ["image 0", "image 12"]
    assert pairs[0]["labels"] == ["red", "blue"]
    assert pairs[0]["similarity"] == pytest.approx(1, abs=1e-6)


def test_the_same_photo_twice_in_its_class_is_none(photos: Any) -> None:
    assert check_images(fitted([*photos, photos[0]], [*LABELS, "red"]).head_)["near_duplicates"] == []


@pytest.mark.parametrize("block", [1, 7, 2**22])
def test_near_duplicates_are_all_pairs_across_classes_the_most_alike_first(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tip_adapter.model.label_issues._BLOCK_ENTRIES", block)
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((6, 49))
    vectors = unit_rows((centres[rng.integers(0, 6, 40)] + 0.25 * rng.standard_normal((40, 49))).astype(np.float32))
    labels, ids = rng.choice(["a", "b", "c"], 40), np.array([f"{row}.jpg" for row in range(40)])
    pairs = check_images(FewShotClassifier("toy").fit_support(SupportSet(vectors, labels, ids)).head_)[
        "near_duplicates"
    ]
    expected = {
        (f"{a}.jpg", f"{b}.jpg"): float(vectors[a] @ vectors[b])
        for a in range(40)
        for b in range(a + 1, 40)
        if labels[a] != labels[b] and vectors[a] @ vectors[b] >= NEAR
    }
    assert 5 < len(expected) < 300
    assert {tuple(pair["images"]): pair["similarity"] for pair in pairs} == pytest.approx(expected, abs=1e-5)
    assert [pair["similarity"] for pair in pairs] == sorted((pair["similarity"] for pair in pairs), reverse=True)
    assert all(pair["labels"][0] != pair["labels"][1] for pair in pairs)


# ---- classes that need photos ----------------------------------------------------------------------------------------


def test_classes_that_need_photos_are_those_with_fewer_than_two_and_those_below_the_mean() -> None:
    head = scattered({"a": 9, "b": 9, "c": 9, "d": 1, "e": 0}).head_
    record = check_images(head)
    shares = {label: share for label, (share, _) in head.left_out.accuracy.per_class.items()}
    weak = sorted(label for label in "abc" if shares[label] < head.left_out.accuracy.mean_per_class)
    assert [entry["label"] for entry in record["need_images"][:2]] == ["e", "d"]
    assert sorted(entry["label"] for entry in record["need_images"][2:]) == weak != []
    assert [entry["n_images"] for entry in record["need_images"]] == [0, 1] + [9] * len(weak)
    accuracies = [entry["accuracy"] for entry in record["need_images"][2:]]
    assert accuracies == sorted(accuracies)
    assert accuracies == [shares[entry["label"]] for entry in record["need_images"][2:]]


# ---- what cannot be checked ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["zero-shot", "tip-adapter"])
def test_a_model_without_photos_cannot_be_checked(method: str, photos: Any) -> None:
    model = fitted(photos, LABELS, method)
    if len(model.support_):
        model.remove(model.support_.ids)
    with pytest.raises(UsageError, match="the model has no photos to check; "):
        check_images(model.head_)


def test_checking_changes_nothing_and_does_not_depend_on_the_order(photos: Any) -> None:
    labels = ["green", *LABELS[1:]]
    forwards, backwards = fitted(photos, labels), fitted(photos[::-1], labels[::-1])
    head = forwards.head_
    one, other = check_images(head), check_images(backwards.head_)
    assert forwards.head_ is head
    assert one["accuracy"] == other["accuracy"]
    assert one["need_images"] == other["need_images"]
    first, same = one["likely_wrong"][0], other["likely_wrong"][0]
    assert (first["label"], first["called"]) == (same["label"], same["called"])
    assert first["probability"] == pytest.approx(same["probability"], rel=1e-3)


def test_as_many_pairs_are_named_as_a_person_may_look_at() -> None:
    """300 photos of two classes, all nearly the same: 22,500 pairs."""
    rng = np.random.default_rng(0)
    alike = unit_rows(np.ones((300, 49)) + 1e-3 * rng.standard_normal((300, 49))).astype(np.float32)
    labels, ids = np.repeat(["a", "b"], 150), np.array([f"{row}.jpg" for row in range(300)])
    with warnings.catch_warnings(action="ignore"):
        head = FewShotClassifier("toy").fit_support(SupportSet(alike, labels, ids)).head_
    pairs = check_images(head)["near_duplicates"]
    assert len(pairs) == MOST_PAIRS
    similar = [pair["similarity"] for pair in pairs]
    assert similar == sorted(similar, reverse=True)
