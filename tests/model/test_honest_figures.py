"""What a model says of its own accuracy, calibration and threshold, against photos that it has not seen."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tip_adapter import ClassEmbeddings, FewShotClassifier
from tip_adapter.cli._words import near_repeats_in_words, threshold_in_words
from tip_adapter.methods.text_offset import TextOffsetClassifier
from tip_adapter.metrics import KEPT, LeaveOneOutResult, MetricAccumulator, expected_refused
from tip_adapter.model.head import load_head
from tip_adapter.model.label_issues import check_images, likely_wrong
from tip_adapter.vectors import SupportSet, unit_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tip_adapter.encoders import Encoder
    from tip_adapter.model.head import Head

WIDTH = 49  # of the toy encoder


def clusters(
    n_classes: int, n_each: int, noise: float, seed: int = 0, draw: int = 0
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Vectors around one centre per class, and their labels; draws of one seed have the same centres."""
    centres = np.random.default_rng(seed).standard_normal((n_classes, WIDTH))
    rows = np.repeat(np.arange(n_classes), n_each)
    scattered = centres[rows] + noise * np.random.default_rng([seed, draw, 1]).standard_normal((len(rows), WIDTH))
    return unit_rows(scattered.astype(np.float32)), np.array([f"c{row:02}" for row in rows])


def head_of(vectors: NDArray[Any], labels: NDArray[Any], encoder: Any = "toy", **settings: Any) -> Head:
    ids = np.array([f"{row}.jpg" for row in range(len(labels))])
    with warnings.catch_warnings(action="ignore"):
        model = FewShotClassifier(encoder, "text-offset", **settings)
        return model.fit_support(SupportSet(vectors, labels, ids)).head_


# ---- near-repeats ----------------------------------------------------------------------------------------------------


def repeated(vectors: NDArray[Any], labels: NDArray[Any], times: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Each vector so many times, all but the first with a little noise."""
    rows = np.repeat(np.arange(len(labels)), times)
    noise = 0.02 * np.random.default_rng(5).standard_normal((len(rows), WIDTH))
    noise[::times] = 0
    return unit_rows((vectors[rows] + noise).astype(np.float32)), labels[rows]


@pytest.mark.parametrize("times", [2, 3])
def test_photos_that_are_added_again_do_not_raise_the_accuracy_shown(times: int) -> None:
    plain = clusters(8, 8, 2.5)
    test_vectors, test_labels = clusters(8, 100, 2.5, draw=1)
    alone, again = head_of(*plain), head_of(*repeated(*plain, times))
    assert (alone.left_out.n_near_repeats, again.left_out.n_near_repeats) == (0, 64 * times)
    measured = float((again.predict(test_vectors) == test_labels).mean())
    assert measured < 0.9  # so that 100 % would be wrong
    assert again.left_out.accuracy.interval[0] < measured < again.left_out.accuracy.interval[1] + 0.05
    assert again.left_out.accuracy.accuracy == pytest.approx(alone.left_out.accuracy.accuracy, abs=0.05)


def test_fault_88_near_repeats_are_said_in_a_line_and_none_of_them_in_no_line() -> None:
    plain = clusters(4, 5, 1.5)
    assert near_repeats_in_words(head_of(*plain)) == ""
    vectors, labels = np.concatenate([plain[0], plain[0][:3]]), np.concatenate([plain[1], plain[1][:3]])
    said = near_repeats_in_words(head_of(vectors, labels))
    assert said == "6 images nearly repeat others of their class; they were left out together."


def test_classes_of_repeats_only_have_no_left_out_accuracy_and_no_temperature() -> None:
    head = head_of(*repeated(*clusters(5, 1, 1.0), 3))
    assert (head.left_out, head.choice.accuracy, head.temperature) == (None, None, 1.0)


@pytest.mark.slow
@pytest.mark.data
def test_crops_of_the_support_photos_do_not_raise_the_accuracy_shown(pocket: Encoder) -> None:
    root = Path(os.environ.get("TIP_ADAPTER_DATA", "")) / "caltech-101" / "101_ObjectCategories"
    if "TIP_ADAPTER_DATA" not in os.environ or not root.is_dir():
        pytest.skip("TIP_ADAPTER_DATA names no folder with caltech-101/")
    rng, photos, labels = np.random.default_rng(0), {"support": [], "test": []}, {"support": [], "test": []}
    for folder in sorted(path for path in root.iterdir() if path.is_dir())[:30]:
        for number, path in enumerate(sorted(folder.glob("*.jpg"))[:18]):
            photo = Image.open(path).convert("RGB")
            part = "support" if number < 8 else "test"
            views = [photo, *(lightly_cropped(photo, rng) for _ in range(2))] if part == "support" else [photo]
            photos[part] += [pocket.prepare(view) for view in views]
            labels[part] += [folder.name] * len(views)
    vectors = {part: pocket.encode_prepared(np.stack(prepared)) for part, prepared in photos.items()}
    head = head_of(unit_rows(vectors["support"]), np.array(labels["support"]), pocket)
    measured = float((head.predict(unit_rows(vectors["test"])) == np.array(labels["test"])).mean())
    assert head.left_out.n_near_repeats > 0.95 * len(labels["support"])
    assert head.left_out.accuracy.accuracy == pytest.approx(
        measured, abs=0.04
    )  # 240 photos: two points are their deviation


def lightly_cropped(photo: Image.Image, rng: np.random.Generator) -> Image.Image:
    share, (width, height) = rng.uniform(0.88, 0.97), photo.size
    left, top = rng.uniform(0, width * (1 - share)), rng.uniform(0, height * (1 - share))
    return photo.crop((int(left), int(top), int(left + width * share), int(top + height * share)))


# ---- temperature -----------------------------------------------------------------------------------------------------


@given(n_classes=st.integers(2, 6), n_each=st.integers(2, 8), noise=st.floats(0.2, 6), seed=st.integers(0, 99))
def test_a_temperature_never_makes_the_left_out_calibration_worse(
    n_classes: int, n_each: int, noise: float, seed: int
) -> None:
    head = head_of(*clusters(n_classes, n_each, noise, seed))
    accumulator = MetricAccumulator(head.classes, head.temperature)
    head.count_left_out(accumulator)
    if len(accumulator):
        before, after = accumulator.calibrations()
        assert after.ece <= before.ece


def test_one_photo_of_each_of_many_classes_is_calibrated_too() -> None:
    vectors, labels = clusters(60, 1, 1.0)
    test_vectors, test_labels = clusters(60, 20, 1.0, draw=1)
    head = head_of(vectors, labels)
    assert head.left_out is None
    accumulator = head.new_accumulator()
    head.count(
        SupportSet(test_vectors, test_labels, np.array([str(row) for row in range(len(test_labels))])), accumulator
    )
    before, after = accumulator.calibrations()
    assert after.ece < before.ece / 2
    assert after.negative_log_likelihood < before.negative_log_likelihood
    assert head_of(vectors, labels, calibrate=False).temperature == 1.0


# ---- labels ----------------------------------------------------------------------------------------------------------


def test_flipped_labels_are_listed_and_few_others() -> None:
    vectors, labels = clusters(20, 8, 1.0)
    flipped = np.random.default_rng(0).permutation(len(labels))[:8]
    labels = labels.copy()
    labels[flipped] = [f"c{(int(label[1:]) + 7) % 20:02}" for label in labels[flipped]]
    head = head_of(vectors, labels)
    listed = check_images(head)["likely_wrong"]
    found = {entry["image"] for entry in listed} & {f"{row}.jpg" for row in flipped}
    assert len(found) >= 7
    assert len(found) >= 0.4 * len(listed)
    mistaken = [entry for entry in likely_wrong(head) if entry["called"] != entry["label"]]
    assert {entry["image"] for entry in listed} <= {entry["image"] for entry in mistaken}
    assert [entry["probability"] for entry in listed] == sorted(entry["probability"] for entry in listed)


def test_labels_that_are_nearly_as_likely_as_another_are_not_listed() -> None:
    head = head_of(*clusters(4, 8, 3.0))  # told apart by little
    mistaken = [entry for entry in likely_wrong(head) if entry["called"] != entry["label"]]
    listed = check_images(head)["likely_wrong"]
    assert 0 < len(listed) < len(mistaken)
    assert all(entry["probability"] <= 1 / 3.75 for entry in listed)  # the other label has 2.75 times as much at least


# ---- none of these ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [1.0, 2.0])
def test_the_share_of_unknown_classes_refused_is_about_what_was_expected(noise: float) -> None:
    vectors, labels = clusters(24, 8, noise)
    known = labels < "c12"
    head = head_of(vectors[known], labels[known])
    test_vectors, test_labels = clusters(24, 100, noise, draw=1)
    scores = head.probabilities(test_vectors).max(axis=1)
    unknown = test_labels >= "c12"
    assert head.left_out.refused == pytest.approx((scores[unknown] < head.threshold).mean(), abs=0.2)
    assert head.left_out.kept >= KEPT


def test_classes_are_left_out_with_their_names_and_photos() -> None:
    vectors, labels = clusters(7, 4, 1.5)
    names = ClassEmbeddings(np.unique(labels), clusters(7, 1, 0.5)[0])
    whole = TextOffsetClassifier(names, logit_scale=5.0).fit(vectors, labels)
    groups = whole.left_out_classes()
    assert sorted(np.concatenate([group for group, _ in groups]).tolist()) == list(range(7))
    for group, logits in groups:
        gone = np.isin(labels, whole.classes_[group])
        rest = ClassEmbeddings(np.delete(names.labels, group), np.delete(names.matrix, group, axis=0))
        part = TextOffsetClassifier(rest, 5.0, whole.penalty_, whole.text_weight_).fit(vectors[~gone], labels[~gone])
        assert logits.shape == (gone.sum(), 7 - len(group))
        np.testing.assert_allclose(logits, part.logits(vectors[gone]), atol=0.5)


@pytest.mark.parametrize("n_classes", [1, 2])
def test_with_fewer_than_three_classes_nothing_is_expected(n_classes: int) -> None:
    vectors, labels = clusters(n_classes, 6, 1.0)
    assert TextOffsetClassifier(None).fit(vectors, labels).left_out_classes() == []
    head = head_of(vectors, labels)
    assert head.left_out is None or head.left_out.refused is None


def test_the_expected_share_compares_scores_among_the_same_classes() -> None:
    labels, logits = np.array([0, 1, 2]), np.log([[0.8, 0.1, 0.1], [0.2, 0.6, 0.2], [0.3, 0.3, 0.4]])
    unknown = [(np.array([2]), np.log([[0.7, 0.3], [0.9, 0.1]]))]
    # Without class 2 the known images score 0.8 / 0.9 and 0.6 / 0.8: the threshold is 0.75.
    assert expected_refused(labels, logits, unknown) == 0.5
    assert expected_refused(labels, logits, []) is None


def test_the_threshold_is_said_with_what_it_keeps_and_refuses(tmp_path: Path) -> None:
    ids = np.array([f"{row}.jpg" for row in range(40)])
    model = FewShotClassifier("toy", "text-offset").fit_support(SupportSet(*clusters(5, 8, 1.5), ids))
    left_out = model.head_.left_out
    assert threshold_in_words(model.head_) == (
        f"With --min-score auto, scores below {left_out.threshold:.3f} are “none of these”: it keeps {100 * left_out.kept:.1f} % "
        f"of images of the classes, and is expected to refuse {100 * left_out.refused:.1f} % of images of others."
    )
    model.save(tmp_path / "model")
    assert load_head(tmp_path / "model")[0].left_out == left_out
    expected = f"Of photos of other classes, {100 * left_out.refused:.0f}% are expected to score less."
    assert expected in (tmp_path / "model" / "README.md").read_text("utf-8")


def test_a_model_folder_without_the_share_is_read() -> None:
    record = head_of(*clusters(5, 8, 1.5)).left_out.to_record()
    older = {key: value for key, value in record.items() if key not in ("refused", "near_repeats")}
    result = LeaveOneOutResult.from_record(older)
    assert (result.refused, result.n_near_repeats, result.threshold) == (None, 0, record["threshold"])
