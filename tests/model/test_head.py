"""The head: answers of what was learned."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tip_adapter import choose_alpha_beta
from tip_adapter.methods import tuning
from tip_adapter.methods.tuning import TuningData
from tip_adapter.model import head as head_module
from tip_adapter.model.fitting import fit_head
from tip_adapter.model.head import Head, TrainingData
from tip_adapter.model.incremental import with_classes, with_images
from tip_adapter.vectors import ClassEmbeddings, SupportSet, unit_rows

LABELS = ["cat", "dog", "owl"]


@pytest.fixture
def support() -> SupportSet:
    labels = np.array(LABELS * 4)
    rows = np.tile(np.eye(3, 8), (4, 1)) + np.random.default_rng(0).normal(0, 0.2, (12, 8))
    return SupportSet(unit_rows(rows.astype(np.float32)), labels, np.array([f"{number}.jpg" for number in range(12)]))


def fitted(method: str, support: SupportSet, given: TuningData | None = None, **settings: Any) -> Head:
    """By leave-one-out, or with the pair that is given."""
    return fit_head(
        method,
        TrainingData(
            support,
            {label: f"a {label}" for label in LABELS},
            ("{}", "a photo of {}"),
            ClassEmbeddings(LABELS, np.eye(3, 8, dtype=np.float32)),
            30.0,
        ),
        rule=tuning.FIXED if given else tuning.LEAVE_ONE_OUT,
        calibrate=True,
        given=given or TuningData(1.0),
        settings=settings,
        offers={},
    )


@pytest.fixture
def all_but_flat(support: SupportSet) -> Head:
    """A linear probe so regularised that in single precision all its probabilities are the same."""
    return fitted("linear-probe", support, TuningData(1.0), C=1e-9)


def test_probabilities_that_round_to_the_same_leave_the_labels_to_the_logits(
    all_but_flat: Head, support: SupportSet
) -> None:
    assert np.ptp(all_but_flat.probabilities(support.vectors), axis=1).max() == 0
    assert all_but_flat.predict(support.vectors).tolist() == support.labels.tolist()
    assert [answer["label"] for answer in all_but_flat.answers(support.vectors, 1, 0.0)] == support.labels.tolist()


def test_the_likeliest_are_listed_by_their_logits(all_but_flat: Head, support: SupportSet) -> None:
    for answer, logits in zip(
        all_but_flat.answers(support.vectors, 3, 0.0), all_but_flat.estimator.logits(support.vectors), strict=True
    ):
        assert [entry["label"] for entry in answer["top"]] == [LABELS[c] for c in np.argsort(-logits)]


@pytest.mark.filterwarnings("ignore::tip_adapter.errors.TipAdapterWarning")
def test_a_class_that_the_method_cannot_predict_has_probability_0(support: SupportSet) -> None:
    """A linear probe learns from images alone: without owls it knows two classes."""
    head = fitted("linear-probe", support.take(np.flatnonzero(support.labels != "owl")), TuningData(1.0))
    probabilities = head.probabilities(support.vectors)
    assert probabilities[:, 2].tolist() == [0.0] * len(support)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    assert set(head.predict(support.vectors)) == {"cat", "dog"}


# ---- saved and restored ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "settings"),
    [("tip-adapter", {}), ("tip-adapter-f", {"epochs": 2}), ("zero-shot", {}), ("linear-probe", {"C": 0.5})],
)
def test_a_head_comes_back_from_its_record(method: str, settings: dict[str, Any], support: SupportSet) -> None:
    head = fitted(method, support, **settings)
    if method == "tip-adapter":
        head = replace(head, finetune_with="tip-adapter-f")
    config, arrays = head.to_record()
    again = Head.from_record(config, arrays)
    for name in ("method", "names", "templates", "choice", "logit_scale", "left_out", "finetune_with", "training"):
        assert getattr(again, name) == getattr(head, name), name
    assert again.estimator.settings() == head.estimator.settings()
    for name in ("vectors", "labels", "ids"):
        one, other = getattr(again.support, name), getattr(head.support, name)
        np.testing.assert_array_equal(one, other)
        assert one.dtype.kind == other.dtype.kind
    if hasattr(head.estimator, "ids_"):
        np.testing.assert_array_equal(again.estimator.ids_, head.estimator.ids_)
    np.testing.assert_array_equal(again.probabilities(support.vectors), head.probabilities(support.vectors))
    written, repeated = again.to_record()
    assert written == config
    assert {name: array.tobytes() for name, array in repeated.items()} == {n: a.tobytes() for n, a in arrays.items()}


def test_contents_that_are_known_of_some_photos_only_come_back(support: SupportSet) -> None:
    known = replace(support, digests=np.array(["", "ab" * 32, "cd" * 32] * 4))
    again = Head.from_record(*fitted("tip-adapter", known).to_record())
    assert again.support.digests.tolist() == known.digests.tolist()


def test_classes_without_embeddings_are_added_to_a_head_with_some(support: SupportSet) -> None:
    head = fitted("tip-adapter", support)
    more = with_classes(head, {"fox": "a fox"}, None)
    assert more.names == {**head.names, "fox": "a fox"}
    assert more.class_embeddings is head.class_embeddings


@pytest.mark.parametrize("method", ["tip-adapter", "tip-adapter-f"])
def test_fault_87_a_model_saved_before_sums_were_balanced_answers_as_it_did(method: str, support: SupportSet) -> None:
    unequal = support.take(np.array([0, 1, 2, 3, 4, 5, 6, 9]))
    raw, balanced = (fitted(method, unequal, epochs=2, class_sums=sums) for sums in ("raw", "balanced"))
    config, arrays = raw.to_record()
    earlier = {name: value for name, value in config["parameters"].items() if name != "class_sums"}
    loaded = Head.from_record({**config, "parameters": earlier, "format": 2}, arrays)
    np.testing.assert_array_equal(loaded.probabilities(support.vectors), raw.probabilities(support.vectors))
    assert np.abs(raw.probabilities(support.vectors) - balanced.probabilities(support.vectors)).max() > 1e-4
    taught = with_images(loaded, support.take(np.array([11])))  # -F falls back to tip-adapter
    assert taught.estimator.class_sums == taught.cache.class_sums == "raw"
    with pytest.raises(ValueError, match="parameters of tip-adapter"):
        Head.from_record({**config, "parameters": earlier, "format": 3}, arrays)


@pytest.mark.parametrize("class_sums", ["raw", "balanced"])
def test_fault_87_a_head_is_chosen_scored_and_saved_with_its_own_sums(class_sums: str, support: SupportSet) -> None:
    unequal = support.take(np.array([0, 1, 2, 3, 4, 5, 6, 9]))
    head = fitted("tip-adapter", unequal, class_sums=class_sums)
    names = head.class_embeddings
    choice = choose_alpha_beta(unequal.vectors, unequal.labels, names, 30.0, class_sums=class_sums)
    assert (head.choice, head.cache.class_sums) == (choice, class_sums)
    assert head.left_out is not None
    assert choice.accuracy == pytest.approx(head.left_out.accuracy.mean_per_class)
    assert Head.from_record(*head.to_record()).estimator.settings() == {"class_sums": class_sums}


def test_a_head_without_images_comes_back_and_its_ids_are_texts(support: SupportSet) -> None:
    head = Head.from_record(
        *fitted("tip-adapter", support.take(slice(0)), TuningData(alpha_beta=(1.0, 1.0))).to_record()
    )
    assert (head.support.ids.dtype.kind, head.support.labels.dtype.kind) == ("U", "U")
    assert head.predict(np.eye(3, 8, dtype=np.float32)).tolist() == LABELS


@pytest.mark.parametrize(
    ("alpha", "exponent", "refused"), [(100.0, 80.0, False), (100.0, 88.0, True), (1.0, 86.0, False), (1.0, 86.5, True)]
)
def test_learned_keys_whose_logits_would_overflow_are_refused(
    alpha: float, exponent: float, refused: bool, support: SupportSet
) -> None:
    """alpha · n · exp(beta (|key| − 1)): 12 is exp(2.5), 100 · 12 exp(7.1), the largest float32 exp(88.7)."""
    config, arrays = fitted("tip-adapter-f", support, TuningData(alpha_beta=(alpha, 10.0)), epochs=1).to_record()
    arrays["learned.keys_"] = arrays["support_vectors"] * np.float32(1 + exponent / 10)
    if refused:
        with pytest.raises(ValueError, match=rf"alpha {alpha:g} and beta 10 overflow with keys as long as 9\."):
            Head.from_record(config, arrays)
    else:
        assert np.isfinite(Head.from_record(config, arrays).probabilities(support.vectors)).all()


@pytest.mark.parametrize(
    ("method", "donor", "reason"),
    [
        ("tip-adapter", "zero-shot", "choice is missing, but tip-adapter has an alpha and beta"),
        ("zero-shot", "tip-adapter", "choice is given, but zero-shot has no alpha and beta"),
    ],
)
def test_a_choice_that_contradicts_the_method_is_refused(
    method: str, donor: str, reason: str, support: SupportSet
) -> None:
    config, arrays = fitted(method, support).to_record()
    other, _ = fitted(donor, support).to_record()
    with pytest.raises(ValueError, match=reason):
        Head.from_record(config | {"choice": other["choice"]}, arrays)


# ---- answers and counts ----------------------------------------------------------------------------------------------


def test_answers_are_the_likeliest_and_none_below_the_score(support: SupportSet) -> None:
    head = fitted("tip-adapter", support)
    scores = head.probabilities(support.vectors)
    least = float(np.sort(scores.max(axis=1))[6])
    for top in (0, 1, 2, 5):
        for answer, row in zip(head.answers(support.vectors, top, least), scores, strict=True):
            best = np.argsort(-row)[:top]
            assert answer["label"] == (LABELS[row.argmax()] if row.max() >= least else None)
            assert answer["score"] == row.max()
            assert answer["top"] == [{"label": LABELS[c], "score": row[c]} for c in best]


def test_an_explained_answer_is_the_answer_and_evidence_for_it_and_the_runner_up(support: SupportSet) -> None:
    head = fitted("tip-adapter", support)
    answers = head.answers(support.vectors, 2, 0.5)
    for vector, answer, explained in zip(
        support.vectors, answers, head.explained_answers(support.vectors, 2, 0.5), strict=True
    ):
        evidence = explained.pop("explanation")
        assert explained == answer
        assert [(e["label"], e["score"]) for e in evidence] == [(e["label"], e["score"]) for e in answer["top"]]
        assert [e["name"] for e in evidence] == [f"a {entry['label']}" for entry in answer["top"]]
        alone = head.explained_classes(vector, [entry["label"] for entry in answer["top"]])
        assert [e.pop("score") for e in alone] == pytest.approx([e.pop("score") for e in evidence], rel=1e-5)
        assert alone == evidence


@pytest.mark.parametrize("block", [1, 5, 1024])
def test_photos_are_counted_in_blocks_as_if_at_once(
    block: int, support: SupportSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = fitted("tip-adapter", support)
    truth = np.roll(support.labels, 1)  # all wrong, but for those that the model takes for another
    photos = SupportSet(support.vectors, truth, support.ids)
    monkeypatch.setattr(head_module, "_BLOCK", block)
    accumulator = head.new_accumulator(n_mistakes=3)
    head.count(photos, accumulator)
    assert len(accumulator) == len(photos)
    record = head.evaluated(accumulator)
    assert record["accuracy"] == np.mean(head.predict(photos.vectors) == truth)
    assert record["zero_shot_accuracy"] == np.mean(head.zero_shot.predict(photos.vectors) == truth)
    worst = np.sort(head.probabilities(photos.vectors).max(axis=1)[head.predict(photos.vectors) != truth])[::-1][:3]
    np.testing.assert_allclose([mistake.score for mistake in accumulator.mistakes()], worst, rtol=1e-5)


def test_left_out_photos_are_counted_as_the_head_says_of_itself(support: SupportSet) -> None:
    head = fitted("tip-adapter", support)
    accumulator = head.new_accumulator()
    head.count_left_out(accumulator)
    assert head.left_out is not None
    assert accumulator.accuracy() == head.left_out.accuracy
    assert accumulator.zero_shot().accuracy == np.mean(head.zero_shot.predict(support.vectors) == support.labels)
