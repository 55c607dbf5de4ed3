"""A classifier that is taught: photos and classes come and go, and the result is that of a refit. Toy encoder."""

from __future__ import annotations

import copy
import dataclasses
import os
import pickle
import re
import threading
import unicodedata
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tip_adapter import FewShotClassifier, TipAdapterClassifier, TipAdapterFClassifier, ZeroShotClassifier
from tip_adapter.encoders.prompts import embed_classes, readable
from tip_adapter.encoders.toy import ToyEncoder
from tip_adapter.errors import (
    ImageError,
    LabelError,
    NothingReadable,
    TipAdapterError,
    TipAdapterWarning,
    UnknownName,
    UsageError,
)
from tip_adapter.methods.base import Capabilities
from tip_adapter.model import classifier
from tip_adapter.model.incremental import with_images, without_class, without_images
from tip_adapter.vectors import SupportSet

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image

    from tip_adapter.model.head import Head

    MakePhotos = Callable[..., Path]
    Paint = Callable[..., Image.Image]

LABELS = ["red", "green", "blue"] * 3
GIVEN = {"alpha": 3.0, "beta": 5.0}
METHODS = ["tip-adapter", "tip-adapter-f", "zero-shot", "text-offset"]
SOAK = "TIP_ADAPTER_SOAK" in os.environ
# A model of one class says so, and one with learned keys that they are gone: not what is looked at here.
quietly = pytest.mark.filterwarnings("ignore::tip_adapter.errors.TipAdapterWarning")


@pytest.fixture
def photos(paint: Paint) -> list[Image.Image]:
    """Three photos of each colour, in the order of LABELS."""
    return [paint(label, number) for number, label in enumerate(LABELS)]


@pytest.fixture
def more(paint: Paint) -> list[Image.Image]:
    """Two yellow photos and a red one."""
    return [paint("yellow", 20), paint("yellow", 21), paint("red", 22)]


@pytest.fixture
def queries(paint: Paint) -> list[Image.Image]:
    """Photos that no model has seen."""
    return [paint(label, number) for number, label in enumerate([*LABELS, "yellow"], start=100)]


MORE_LABELS = ["yellow", "yellow", "red"]


def fitted(photos: list[Any], labels: list[str] = LABELS, **options: Any) -> FewShotClassifier:
    return FewShotClassifier("toy", **options).fit(photos, labels)


def assert_same_photos(one: Head, other: Head) -> None:
    """Bit by bit: photos, classes, and what the estimator made of them."""
    assert dict(one.names) == dict(other.names)
    np.testing.assert_array_equal(one.class_embeddings.labels, other.class_embeddings.labels)
    np.testing.assert_array_equal(one.class_embeddings.matrix, other.class_embeddings.matrix)
    for name in ("vectors", "labels", "ids"):
        np.testing.assert_array_equal(getattr(one.support, name), getattr(other.support, name))
    for name in ("keys_", "labels_", "classes_", "weights_", "ids_"):
        if hasattr(other.estimator, name):
            np.testing.assert_array_equal(getattr(one.estimator, name), getattr(other.estimator, name), err_msg=name)


# ---- as a refit ------------------------------------------------------------------------------------------------------


def test_partial_fit_is_a_refit_with_all_photos(photos: Any, more: Any, queries: Any) -> None:
    taught = fitted(photos, **GIVEN).partial_fit(more[:1], MORE_LABELS[:1]).partial_fit(more[1:], MORE_LABELS[1:])
    refit = fitted([*photos, *more], [*LABELS, *MORE_LABELS], **GIVEN)
    assert_same_photos(taught.head_, refit.head_)
    np.testing.assert_array_equal(taught.predict_proba(queries), refit.predict_proba(queries))


def test_fault_60_a_removed_photo_was_never_there(photos: Any, queries: Any) -> None:
    taught = fitted(photos, **GIVEN).remove(["image 8", "image 7"])
    refit = fitted(photos[:7], LABELS[:7], **GIVEN)
    assert_same_photos(taught.head_, refit.head_)
    np.testing.assert_array_equal(taught.predict_proba(queries), refit.predict_proba(queries))


def test_fault_60_a_removed_class_was_never_there(photos: Any, more: Any, queries: Any) -> None:
    everything = fitted([*photos, *more], [*LABELS, *MORE_LABELS], **GIVEN)
    everything.remove_class("yellow").remove(["image 11"])
    refit = fitted(photos, **GIVEN)
    assert_same_photos(everything.head_, refit.head_)
    np.testing.assert_array_equal(everything.predict_proba(queries), refit.predict_proba(queries))


@pytest.mark.slow
def test_with_pocket_too_teaching_a_new_class_is_a_refit(pocket: Any, photos: Any, more: Any, queries: Any) -> None:
    taught = FewShotClassifier(pocket, **GIVEN).fit(photos, LABELS).partial_fit(more, MORE_LABELS)
    refit = FewShotClassifier(pocket, **GIVEN).fit([*photos, *more], [*LABELS, *MORE_LABELS])
    assert_same_photos(taught.head_, refit.head_)
    np.testing.assert_array_equal(taught.predict_proba(queries), refit.predict_proba(queries))
    assert_same_photos(
        taught.remove_class("red").head_,
        FewShotClassifier(pocket, **GIVEN).fit_support(taught.support_, ["green", "blue", "yellow"]).head_,
    )


def test_the_order_of_teaching_does_not_matter(photos: Any, more: Any, queries: Any) -> None:
    forwards = fitted(photos, **GIVEN).partial_fit(more, MORE_LABELS)
    backwards = fitted(more[::-1], MORE_LABELS[::-1], **GIVEN).partial_fit(photos[::-1], LABELS[::-1])
    np.testing.assert_allclose(forwards.predict_proba(queries), backwards.predict_proba(queries), atol=1e-6)


def test_a_taught_model_answers_one_photo_as_it_answers_64(photos: Any, more: Any, queries: Any) -> None:
    taught = fitted(photos).partial_fit(more, MORE_LABELS)
    many = taught.predict_proba((queries * 7)[:64])
    alone = np.concatenate([taught.predict_proba([query]) for query in queries])
    np.testing.assert_allclose(many[: len(queries)], alone, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_who_holds_the_head_keeps_it_as_it_was(method: str, photos: Any, more: Any, queries: Any) -> None:
    model = fitted(photos, method=method)
    head, vectors = model.head_, ToyEncoder().encode_images(queries)
    before = head.probabilities(vectors)
    with warnings.catch_warnings(action="ignore"):
        model.partial_fit(more, MORE_LABELS).remove_class("green").retune()
    np.testing.assert_array_equal(head.probabilities(vectors), before)
    assert head.classes.tolist() == ["blue", "green", "red"]


# ---- alpha and beta --------------------------------------------------------------------------------------------------


def test_the_pair_stays_until_retune_chooses_it_again(photos: Any, more: Any) -> None:
    model = fitted(photos, method="tip-adapter")
    chosen = model.choice_
    model.partial_fit(more, MORE_LABELS).remove(["image 0"]).remove_class("blue")
    assert model.choice_ == chosen
    assert model.head_.left_out is None
    model.retune()
    refit = FewShotClassifier("toy", "tip-adapter").fit_support(model.support_, model.classes_)
    assert model.choice_ == refit.choice_ != chosen
    assert model.head_.left_out == refit.head_.left_out is not None


def test_retuning_asks_as_the_model_was_asked(photos: Any, more: Any, make_photos: MakePhotos) -> None:
    validation = make_photos("validation", 50, red=1, green=1, blue=1)
    for options, rule_name in [
        ({"tune": "scale-free"}, "scale-free"),
        ({"tune": validation}, "validation"),
        (GIVEN, "fixed"),
    ]:
        model = fitted(photos, **options).partial_fit(more[2:], ["red"]).retune()
        assert model.choice_.rule == rule_name
    with pytest.raises(UsageError, match="leave-one-out needs a class with two photos"):
        fitted(photos, tune="loo").remove([f"image {row}" for row in range(3, 9)]).retune()


@quietly
@pytest.mark.parametrize("method", ["tip-adapter", "tip-adapter-f"])
def test_the_first_photos_of_a_model_of_names_choose_its_pair(
    method: str, photos: Any, make_photos: MakePhotos
) -> None:
    names = FewShotClassifier("toy", method).fit_folder(make_photos("names", red=0, green=0, blue=0))
    assert names.choice_ is None
    taught, refit = names.partial_fit(photos, LABELS), fitted(photos, method=method)
    assert taught.choice_ == refit.choice_
    assert not taught.needs_finetune_
    assert_same_photos(taught.head_, refit.head_)


def test_without_photos_the_names_answer_and_retuning_leaves_no_pair(photos: Any, queries: Any, tmp_path: Path) -> None:
    model = fitted(photos)
    model.remove(model.support_.ids.tolist())
    assert model.predict(queries[:9]).tolist() == LABELS
    model.save(tmp_path / "model")
    loaded = FewShotClassifier.load(tmp_path / "model").retune()
    assert loaded.choice_ is None
    by_names = fitted(photos, method="zero-shot").predict_proba(queries)
    np.testing.assert_allclose(loaded.predict_proba(queries), by_names, atol=1e-6)


# ---- learned keys ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "teach",
    [
        lambda model, more: model.partial_fit(more, MORE_LABELS),
        lambda model, more: model.remove("image 1"),
        lambda model, more: model.remove_class("red"),
    ],
    ids=["partial_fit", "remove", "remove_class"],
)
def test_learned_keys_fall_back_to_the_photos_own_vectors_and_say_so(
    teach: Any, photos: Any, more: Any, queries: Any, tmp_path: Path
) -> None:
    model = fitted(photos, method="tip-adapter-f")
    chosen = model.choice_
    assert not model.needs_finetune_
    with pytest.warns(TipAdapterWarning, match="tip-adapter-f cannot be updated in place.*retune"):
        teach(model, more)
    assert model.needs_finetune_
    assert isinstance(model.estimator_, TipAdapterClassifier)
    assert model.choice_ == chosen
    free = FewShotClassifier("toy", alpha=chosen.alpha, beta=chosen.beta).fit_support(model.support_, model.classes_)
    assert_same_photos(model.head_, free.head_)
    logits = free.estimator_.logits(free.support_.vectors)
    np.testing.assert_array_equal(model.estimator_.logits(free.support_.vectors), logits)

    model.save(tmp_path / "model")
    loaded = FewShotClassifier.load(tmp_path / "model")
    assert loaded.needs_finetune_
    loaded.partial_fit([np.flipud(more[0])], ["green"]).remove(loaded.support_.ids[-1:])  # says nothing: it was said
    for again in (model.retune(), loaded.retune()):
        refit = FewShotClassifier("toy", "tip-adapter-f").fit_support(free.support_, free.classes_)
        assert not again.needs_finetune_
        assert isinstance(again.estimator_, TipAdapterFClassifier)
        np.testing.assert_array_equal(again.estimator_.keys_, refit.estimator_.keys_)
        np.testing.assert_array_equal(again.predict_proba(queries), refit.predict_proba(queries))


# ---- names alone -----------------------------------------------------------------------------------------------------


def test_a_zero_shot_model_learns_names_and_no_photos(photos: Any, more: Any, queries: Any) -> None:
    model = fitted(photos, method="zero-shot").partial_fit(more, MORE_LABELS)
    assert model.classes_.tolist() == ["blue", "green", "red", "yellow"]
    assert len(model.support_) == 0
    assert not model.needs_finetune_
    assert model.predict(queries).tolist() == [*LABELS, "yellow"]
    refit = fitted([*photos, *more], [*LABELS, *MORE_LABELS], method="zero-shot")
    assert_same_photos(model.head_, refit.head_)
    np.testing.assert_array_equal(
        model.remove_class("yellow").predict_proba(queries), fitted(photos, method="zero-shot").predict_proba(queries)
    )
    assert model.retune().choice_ is None


def test_a_head_of_names_alone_keeps_no_photos(photos: Any) -> None:
    head = fitted(photos, method="zero-shot").head_
    taught = with_images(head, fitted(photos, **GIVEN).support_)
    assert len(taught.support) == 0
    vectors = fitted(photos, **GIVEN).support_.vectors
    np.testing.assert_array_equal(taught.probabilities(vectors), head.probabilities(vectors))


class OfAnotherPackage(ZeroShotClassifier):
    """A method that takes images and can only be fitted to all of them."""

    capabilities = Capabilities()


def test_a_method_that_cannot_be_updated_is_fitted_again(photos: Any, more: Any) -> None:
    everything = fitted([*photos, *more], [*LABELS, *["red", "green", "blue"]], **GIVEN).support_
    names = fitted(photos, **GIVEN).head_
    first = everything.take(slice(9))
    estimator = OfAnotherPackage(names.class_embeddings).fit(first.vectors, first.labels, ids=first.ids.tolist())
    head = dataclasses.replace(names, support=first, estimator=estimator)

    taught = with_images(head, everything.take(slice(9, None)))
    assert taught.support.ids.tolist() == taught.estimator.ids_.tolist() == everything.ids.tolist()
    fewer = without_images(taught, ["image 10", "image 0"])
    kept = [name for name in everything.ids.tolist() if name not in ("image 0", "image 10")]
    assert fewer.support.ids.tolist() == fewer.estimator.ids_.tolist() == kept
    two = without_class(fewer, "red")
    assert list(two.names) == two.estimator.classes_.tolist() == ["blue", "green"]
    assert two.support.ids.tolist() == [name for name in kept if int(name.removeprefix("image ")) % 3]
    assert list(without_class(two, "blue").names) == ["green"]


# ---- names of classes ------------------------------------------------------------------------------------------------


@quietly
def test_a_new_class_may_be_called_anything(photos: Any, more: Any, queries: Any, tmp_path: Path) -> None:
    model = fitted(photos).partial_fit(more, ["黄色", "黄色", "a_red one"])
    model.save(tmp_path / "model")
    loaded = FewShotClassifier.load(tmp_path / "model")
    assert loaded.names_ == {"a_red one": "a red one", "blue": "blue", "green": "green", "red": "red", "黄色": "黄色"}
    assert loaded.predict(queries[-1:]).tolist() == ["黄色"]
    assert loaded.remove_class("黄色").classes_.tolist() == ["a_red one", "blue", "green", "red"]


def test_a_label_in_another_unicode_form_is_the_class_that_is_there(photos: Any, more: Any) -> None:
    labels = ["café" if label == "red" else label for label in LABELS]
    decomposed = unicodedata.normalize("NFD", "café")
    model = fitted(photos, labels).partial_fit(more[2:], [decomposed])
    assert model.support_.labels.tolist().count("café") == 4
    assert model.classes_.tolist() == ["blue", "café", "green"]
    assert model.remove_class(decomposed).classes_.tolist() == ["blue", "green"]


@pytest.mark.parametrize("labels", [["Red", "red"], ["Red", "Red"], ["yellow", "Yellow"]], ids="-".join)
def test_classes_that_differ_only_by_case_are_refused(labels: list[str], photos: Any, more: Any) -> None:
    model = fitted(photos)
    head = model.head_
    with pytest.raises(LabelError, match="differ only by case; rename or merge them"):
        model.partial_fit(more[:2], labels)
    assert model.head_ is head


@pytest.mark.filterwarnings("error")
def test_a_new_class_has_the_name_that_was_given_for_it(photos: Any, more: Any) -> None:
    names = {"red": "scarlet", "yellow": "sun"}
    with pytest.warns(TipAdapterWarning, match="unknown labels: yellow"):
        model = fitted(photos, class_names=names)
    model.partial_fit(more, MORE_LABELS)
    assert model.names_["yellow"] == "sun"
    assert model.names_["red"] == "scarlet"


# ---- photos and ids --------------------------------------------------------------------------------------------------


def test_paths_are_ids_and_other_photos_get_running_numbers(photos: Any, more: Any, make_photos: MakePhotos) -> None:
    paths = sorted(make_photos("new", red=2).rglob("*.png"))
    model = fitted(photos[:3], LABELS[:3]).partial_fit([*paths, more[0]], ["red"] * 3)
    assert model.support_.ids.tolist()[3:] == [str(paths[0]), str(paths[1]), "image 5"]
    model.remove("image 1").partial_fit(more[1:2], ["red"])
    assert model.support_.ids.tolist()[-1] == "image 6"


def test_a_photo_that_is_in_the_model_is_not_learned_again(make_photos: MakePhotos, photos: Any) -> None:
    path = make_photos("new", red=1) / "red" / "0.png"
    model = fitted(photos).partial_fit([path], ["red"])
    head = model.head_
    assert set(head.support.labels.tolist()) > {"red"}  # the message names the label of this photo, not of the first
    with pytest.raises(UsageError, match=r"0\.png is in the model already, as red; relabel it"):
        model.partial_fit([path], ["yellow"])
    assert model.head_ is head
    assert_same_photos(model.remove([str(path)]).partial_fit([path], ["red"]).head_, head)


def test_unreadable_photos_are_left_out_and_named(photos: Any, more: Any, tmp_path: Path) -> None:
    (tmp_path / "cut.png").write_bytes(b"\x89PNG")
    model = fitted(photos)
    with pytest.warns(TipAdapterWarning, match=r"left out 2 of 4 images: .*cut\.png.*nothing\.jpg"):
        model.partial_fit(
            [more[0], tmp_path / "cut.png", more[2], tmp_path / "nothing.jpg"], ["yellow", "x", "red", "y"]
        )
    assert model.support_.labels.tolist()[9:] == ["yellow", "red"]
    assert model.classes_.tolist() == ["blue", "green", "red", "yellow"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("teach", "error", "reason"),
    [
        (lambda m, more: m.partial_fit(["nothing.jpg"], ["red"]), NothingReadable, r"nothing\.jpg"),
        (lambda m, more: m.partial_fit(more, ["red"]), LabelError, "3 images but 1 labels; give one label per image"),
        (lambda m, more: m.partial_fit(more, ["red", "", "red"]), LabelError, "is not text"),
        (lambda m, more: m.partial_fit(more[0], ["red"]), UsageError, "give a list of images"),
        (lambda m, more: m.partial_fit(more[:1], "red"), UsageError, "labels takes a list of texts"),
        (lambda m, more: m.partial_fit(more[:1], ["\ud800"]), LabelError, "not UTF-8"),
        (lambda m, more: m.add_support(None), UsageError, "photos takes a SupportSet, not None"),
        (
            lambda m, more: m.add_support(dataclasses.replace(m.support_, digests=np.zeros(9, np.str_))),
            UsageError,
            "image 0 is in the model already",
        ),
        (lambda m, more: m.remove(["image 0", "image 99"]), UnknownName, "no photo 'image 99'.*nothing was removed"),
        (lambda m, more: m.remove(["image 0", "image 0"]), UsageError, "'image 0' is given twice; nothing was removed"),
        (lambda m, more: m.remove("imag 0"), UnknownName, "did you mean image 0?"),
        (lambda m, more: m.remove(None), UsageError, "ids takes a list of texts, not None"),
        (lambda m, more: m.remove(5), UsageError, "ids takes a list of texts, not 5"),
        (lambda m, more: m.remove(b"image 0"), UsageError, "ids takes a list of texts"),
        (lambda m, more: m.remove([5]), UsageError, "ids takes a list of texts, not 5"),
        (lambda m, more: m.remove([Path("image 0")]), UsageError, "ids takes a list of texts"),
        (lambda m, more: m.remove_class("rde"), UnknownName, "no class 'rde'; did you mean red?"),
        (lambda m, more: m.remove_class(""), UnknownName, "no class ''"),
        (lambda m, more: m.remove_class(None), UsageError, "label takes a text, not None"),
        (lambda m, more: m.remove_class(["red"]), UsageError, "label takes a text"),
        (lambda m, more: m.remove_class("\x1b[2J"), UnknownName, r"no class '\\\\x1b\[2J'|no class '\\x1b\[2J'"),
    ],
)
def test_what_cannot_be_taught_is_one_sentence_and_changes_nothing(
    teach: Any, error: type[TipAdapterError], reason: str, photos: Any, more: Any
) -> None:
    model = fitted(photos)
    head = model.head_
    with pytest.raises(error, match=reason) as refused:
        teach(model, more)
    assert "\n" not in str(refused.value)
    assert "\x1b" not in str(refused.value)
    assert model.head_ is head


def test_what_a_head_does_not_have_is_named_and_so_is_what_it_has_already(photos: Any) -> None:
    head = fitted(photos, **GIVEN).head_
    for change, error, reason in [
        (lambda: without_images(head, ["image 0", "image 99"]), UnknownName, "the model has no photo 'image 99'"),
        (lambda: without_images(head, ["image 1", "image 1"]), UsageError, "photo 'image 1' is given twice"),
        (lambda: without_class(head, "rde"), UnknownName, "the model has no class 'rde'; did you mean red?"),
        (
            lambda: with_images(head, head.support.take(slice(1))),
            UsageError,
            f"photo image 0 is in the model already, as {head.support.labels[0]}; relabel it",
        ),
    ]:
        with pytest.raises(error, match=re.escape(reason)):
            change()


def test_a_suggested_name_cannot_steer_a_terminal(photos: Any) -> None:
    model = fitted(photos, ["re\x1b[2Jd" if label == "red" else label for label in LABELS])
    with pytest.raises(UnknownName, match="did you mean") as refused:
        model.remove_class("re[2Jd")
    assert "\x1b" not in str(refused.value)


@quietly
@pytest.mark.parametrize("method", METHODS)
def test_the_only_class_stays(method: str, photos: Any) -> None:
    model = fitted(photos[:3], ["red"] * 3, method=method)
    with pytest.raises(UsageError, match="'red' is the only class; a classifier needs one"):
        model.remove_class("red")
    assert model.classes_.tolist() == ["red"]


@pytest.mark.parametrize(
    "teach",
    [
        lambda model: model.partial_fit(["a.png"], ["red"]),
        lambda model: model.remove("image 0"),
        lambda model: model.remove_class("red"),
        lambda model: model.retune(),
        lambda model: model.needs_finetune_,
    ],
)
def test_what_has_learned_nothing_cannot_be_taught(teach: Any) -> None:
    from sklearn.exceptions import NotFittedError

    with pytest.raises(NotFittedError, match="call fit"):
        teach(FewShotClassifier("toy"))


# ---- why -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["tip-adapter", "tip-adapter-f"])
def test_an_explanation_adds_up_to_the_logits_of_the_answer_and_the_runner_up(
    method: str, photos: Any, queries: Any, paint: Paint
) -> None:
    model = fitted([*photos, paint("red", 9), paint("red", 10)], [*LABELS, "red", "red"], method=method)
    vectors = ToyEncoder().encode_images(queries)
    for query, logits in zip(queries, model.estimator_.logits(vectors), strict=True):
        record = model.explain(query)
        explanation = record["explanation"]
        assert [part["label"] for part in explanation] == [entry["label"] for entry in record["top"][:2]]
        for part, entry in zip(explanation, record["top"], strict=False):
            whole = part["text"] + sum(photo["part"] for photo in part["images"]) + part["others"]
            assert part["logit"] == pytest.approx(whole, abs=1e-4)
            assert part["logit"] == pytest.approx(logits[model.classes_.tolist().index(part["label"])], abs=1e-4)
            assert part["score"] == entry["score"]
            assert part["name"] == part["label"]
            assert (len(part["images"]), part["n_others"]) == (3, 2 if part["label"] == "red" else 0)
            of_its_class = model.support_.ids[model.support_.labels == part["label"]].tolist()
            assert {photo["id"] for photo in part["images"]} <= set(of_its_class)


def test_an_explanation_is_the_prediction_and_more(photos: Any, make_photos: MakePhotos) -> None:
    folder, model = make_photos("new", 50, red=1, blue=1), fitted(photos)
    explained = list(model.explain_stream(sorted(folder.rglob("*.png"))))
    assert [{**record, "explanation": None} for record in explained] == [
        {**record, "explanation": None} for record in model.predict_folder(folder)
    ]
    alone = folder / "red" / "50.png"
    assert [model.explain(alone)] == list(model.explain_stream([alone]))
    assert set(explained[0]) == {"image", "label", "score", "top", "error", "explanation"}


def test_the_answer_is_explained_first_also_where_two_classes_all_but_tie(paint: Paint) -> None:
    """The same photos in another order: single and double precision may see another class ahead."""
    photos = [paint("red", number) for number in range(6)]
    for seed in range(20):
        shuffled = [photos[row] for row in np.random.default_rng(seed).permutation(6)]
        model = FewShotClassifier("toy", class_names={"a": "red", "b": "red"}, alpha=1.0 + seed, beta=1.0 + seed)
        with warnings.catch_warnings(action="ignore"):
            model.fit([*photos, *shuffled], ["a"] * 6 + ["b"] * 6)
        for number in range(3):
            record = model.explain(paint("red", 100 + number))
            assert [part["label"] for part in record["explanation"]] == [entry["label"] for entry in record["top"]]


def test_without_photos_the_name_explains_everything(photos: Any, queries: Any) -> None:
    model = fitted(photos)
    best, second = model.remove(model.support_.ids.tolist()).explain(queries[0])["explanation"]
    assert best["label"] == "red"
    for part in (best, second):
        assert (part["images"], part["n_others"]) == ([], 0)
        assert part["others"] == pytest.approx(0, abs=1e-5)
        assert part["logit"] == pytest.approx(part["text"], abs=1e-5)


@quietly
def test_a_model_of_one_class_has_no_runner_up(photos: Any) -> None:
    (only,) = fitted(photos[:2], ["red", "red"]).explain(photos[0])["explanation"]
    assert only["label"] == "red"


def test_an_unreadable_photo_has_an_error_and_nothing_to_explain(photos: Any, tmp_path: Path) -> None:
    model = fitted(photos)
    with pytest.raises(ImageError, match=r"nothing\.png"):
        model.explain(tmp_path / "nothing.png")
    bad, good = model.explain_stream([tmp_path / "nothing.png", photos[0]])
    assert bad["explanation"] == []
    assert bad["error"]
    assert bad.keys() == good.keys()


def test_names_alone_have_no_photos_to_explain_by(photos: Any) -> None:
    with pytest.raises(UsageError, match="zero-shot has no photos to explain an answer by"):
        fitted(photos, method="zero-shot").explain(photos[0])


@pytest.mark.parametrize("wrong", [None, 5, ["a.png"], {}], ids=repr)
def test_only_a_photo_is_explained(wrong: Any, photos: Any) -> None:
    with pytest.raises(UsageError, match="takes a path, bytes, a file, a PIL image or a uint8 array"):
        fitted(photos).explain(wrong)


# ---- none of these ---------------------------------------------------------------------------------------------------


def test_auto_is_the_models_own_threshold(photos: Any, make_photos: MakePhotos) -> None:
    model = fitted(photos, method="tip-adapter")
    grey = make_photos("grey", other=2, red=1)
    rows = model.predict_folder(grey, min_score="auto")
    assert rows == model.predict_folder(grey, min_score=model.head_.threshold)
    assert [row["label"] for row in rows] == [None, None, "red"]
    assert [row["label"] is None for row in model.predict_folder(grey)] == [False] * 3


def test_a_model_without_left_out_photos_has_no_threshold(photos: Any, more: Any, make_photos: MakePhotos) -> None:
    folder, taught = make_photos("new", red=1), fitted(photos, method="tip-adapter").partial_fit(more, MORE_LABELS)
    for model in (taught, fitted(photos[:3], LABELS[:3]), fitted(photos), fitted(photos, method="zero-shot")):
        with pytest.raises(UsageError, match=r"no threshold of its own.*retune.*give min_score a number"):
            model.predict_folder(folder, min_score="auto")
    assert taught.retune().predict_folder(folder, min_score="auto")


# ---- against a plain model -------------------------------------------------------------------------------------------


class Teaching(RuleBasedStateMachine):
    """A classifier that is taught, saved and loaded, against a plain list of photos fitted anew."""

    def __init__(self, paint: Paint, folder: Path) -> None:
        super().__init__()
        self.paint, self.folder = paint, folder
        self.photos: dict[str, tuple[Any, str]] = {}
        self.number = 0

    def paint_some(self, labels: list[str]) -> list[Any]:
        self.number += len(labels)
        return [self.paint(label, self.number - row) for row, label in enumerate(labels)]

    def vectors(self, images: list[Any]) -> Any:
        encoder = self.model.encoder_
        return np.concatenate([np.zeros((0, 49), np.float32), *(encoder.encode_images([image]) for image in images)])

    @initialize(
        method=st.sampled_from(METHODS),
        labels=st.lists(st.sampled_from(["red", "green", "猫"]), min_size=1, max_size=6),
    )
    def begin(self, method: str, labels: list[str]) -> None:
        images = self.paint_some(labels)
        self.model = FewShotClassifier("toy", method).fit(images, labels)
        self.method, self.classes, self.choice = method, set(labels), self.model.choice_
        self.remember(images, labels)

    def remember(self, images: list[Any], labels: list[str]) -> None:
        if self.method != "zero-shot":
            ids = self.model.support_.ids.tolist()[len(self.photos) :]
            self.photos |= dict(zip(ids, zip(images, labels, strict=True), strict=True))

    @rule(labels=st.lists(st.sampled_from(["red", "green", "blue", "猫", "yellow"]), min_size=1, max_size=3))
    def add(self, labels: list[str]) -> None:
        images, unchosen = self.paint_some(labels), self.choice is None
        self.model.partial_fit(images, labels)
        self.classes |= set(labels)
        self.remember(images, labels)
        if unchosen:
            self.choice = self.model.choice_
            self.it_is_tuned()

    @rule(data=st.data())
    def remove(self, data: Any) -> None:
        if self.photos:
            gone = data.draw(st.lists(st.sampled_from(sorted(self.photos)), unique=True, min_size=1, max_size=3))
            self.model.remove(gone)
            self.photos = {name: photo for name, photo in self.photos.items() if name not in gone}

    @rule(data=st.data())
    def remove_class(self, data: Any) -> None:
        label = data.draw(st.sampled_from(sorted(self.classes)))
        if len(self.classes) > 1:
            self.model.remove_class(label)
            self.classes.remove(label)
            self.photos = {name: photo for name, photo in self.photos.items() if photo[1] != label}

    @rule()
    def retune(self) -> None:
        self.model.retune()
        self.choice = self.model.choice_
        self.it_is_tuned()

    @rule()
    def save_and_load(self) -> None:
        before = self.model.head_
        self.model.save(self.folder / "model", force=True)
        self.model = FewShotClassifier.load(self.folder / "model")
        assert (self.model.head_.left_out, self.model.head_.finetune_with) == (before.left_out, before.finetune_with)

    @rule(data=st.data())
    def ask_for_nonsense(self, data: Any) -> None:
        head = self.model.head_
        nonsense = [
            lambda: self.model.partial_fit(
                self.paint_some(["red"]), [min(self.classes - {"猫"}, default="x").upper() + "\0"]
            ),
            lambda: self.model.remove([*sorted(self.photos)[:1], "nothing"]),
            lambda: self.model.remove_class("nothing"),
        ]
        if self.method != "zero-shot":  # which reads no photos
            nonsense.append(lambda: self.model.partial_fit(["nothing.png"], ["red"]))
        with pytest.raises(TipAdapterError):
            data.draw(st.sampled_from(nonsense))()
        assert self.model.head_ is head

    def plain(self) -> tuple[SupportSet, Any]:
        labels = np.array([label for _, label in self.photos.values()], dtype=np.str_)
        vectors = self.vectors([image for image, _ in self.photos.values()])
        names = {label: readable(label) for label in sorted(self.classes)}
        embeddings = embed_classes(names, ("{}",), self.model.encoder_.encode_texts)
        return SupportSet(vectors, labels, np.array(list(self.photos), dtype=np.str_)), embeddings

    def it_is_tuned(self) -> None:
        """Chosen and fitted anew, it is what it would have been with these photos from the beginning."""
        support, _ = self.plain()
        fresh = FewShotClassifier("toy", self.method).fit_support(support, sorted(self.classes)).head_
        head = self.model.head_
        assert (head.choice, head.left_out, head.method) == (fresh.choice, fresh.left_out, fresh.method)
        assert_same_photos(head, fresh)
        assert not self.model.needs_finetune_

    @invariant()
    def it_is_a_refit(self) -> None:
        head = self.model.head_
        support, embeddings = self.plain()
        assert head.choice == self.choice
        assert head.classes.tolist() == sorted(self.classes)
        np.testing.assert_array_equal(head.class_embeddings.matrix, embeddings.matrix)
        for name in ("vectors", "labels", "ids"):
            np.testing.assert_array_equal(getattr(head.support, name), getattr(support, name))
        assert self.model.needs_finetune_ == (self.method != head.method)
        if isinstance(head.estimator, TipAdapterClassifier):
            pair = {"alpha": self.choice.alpha, "beta": self.choice.beta} if self.choice else {}
            refit = TipAdapterClassifier(class_embeddings=embeddings, logit_scale=head.logit_scale, **pair)
            refit.fit(support.vectors, support.labels, ids=support.ids.tolist())
            queries = self.vectors([self.paint("red", 999), self.paint("blue", 998)])
            np.testing.assert_array_equal(head.estimator.logits(queries), refit.logits(queries))

    @invariant()
    def explanations_add_up_and_a_batch_changes_nothing(self) -> None:
        queries = self.vectors([self.paint("red", 999), self.paint("blue", 998)])
        together = self.model.estimator_.logits(queries)
        alone = np.concatenate([self.model.estimator_.logits(query[None]) for query in queries])
        np.testing.assert_allclose(together, alone, atol=1e-4, rtol=1e-4)  # single precision, times beta
        if self.method == "zero-shot":
            return
        for row, evidences in zip(
            self.model.estimator_.logits(queries), self.model.estimator_.explain(queries), strict=True
        ):
            for evidence in evidences:
                whole = evidence.text + sum(photo.part for photo in evidence.images) + evidence.others
                assert row[self.model.classes_.tolist().index(evidence.label)] == pytest.approx(
                    whole, abs=1e-4, rel=1e-4
                )


@pytest.mark.slow
@quietly
def test_teaching_equals_a_plain_list_of_photos_fitted_anew(paint: Paint, tmp_path: Path) -> None:
    run_state_machine_as_test(
        lambda: Teaching(paint, tmp_path),
        settings=settings(
            max_examples=300 if SOAK else 25,
            stateful_step_count=15,
            suppress_health_check=list(HealthCheck),
        ),
    )


# ---- threads ---------------------------------------------------------------------------------------------------------


def in_threads(calls: list[Callable[[], object]]) -> list[BaseException]:
    """Run all calls at once, one thread each; what they raised."""
    together, raised = threading.Barrier(len(calls)), []

    def run(call: Callable[[], object]) -> None:
        together.wait()
        try:
            call()
        except BaseException as error:  # handed to the test
            raised.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


@quietly
@pytest.mark.parametrize("method", METHODS[:2])
def test_fault_83_each_of_24_threads_adds_its_photo(method: str, paint: Paint) -> None:
    model = FewShotClassifier("toy", method, epochs=1 if method == "tip-adapter-f" else None, **GIVEN)
    model.fit([paint("red", 0)], ["red"]).remove(["image 0"])
    labels = [["red", "green", "blue"][number % 3] for number in range(24)]
    calls = [partial(model.partial_fit, [paint(label, n)], [label]) for n, label in enumerate(labels)]
    assert in_threads(calls) == []
    assert sorted(model.support_.labels.tolist()) == sorted(labels)
    assert len(set(model.support_.ids.tolist())) == 24
    assert model.classes_.tolist() == ["blue", "green", "red"]


@quietly
def test_fault_83_threads_that_add_and_remove_lose_nothing(photos: Any, paint: Paint) -> None:
    model = fitted([*photos, paint("yellow", 20)], [*LABELS, "yellow"])
    encoded = [SupportSet(model.support_.vectors[:1], np.array(["red"]), np.array([f"encoded {n}"])) for n in range(6)]
    calls: list[Callable[[], object]] = [
        *(partial(model.add_support, support) for support in encoded),
        *(partial(model.remove, [f"image {n}"]) for n in range(6)),
        partial(model.remove_class, "yellow"),
        *[model.retune] * 3,
        *(partial(model.partial_fit, [paint("pink", n)], ["pink"]) for n in range(6)),
    ]
    assert in_threads(calls) == []
    ids = model.support_.ids.tolist()
    assert {"image 6", "image 7", "image 8", *(f"encoded {n}" for n in range(6))} <= set(ids)
    assert len(ids) == 15
    assert model.classes_.tolist() == ["blue", "green", "pink", "red"]


@quietly
def test_fault_83_a_reader_sees_the_model_before_or_after_a_change(photos: Any, paint: Paint) -> None:
    model, query, done = fitted(photos, **GIVEN), paint("red", 100), threading.Event()
    expected = {len(model.support_): model.predict_proba([query]).tobytes()}
    changes = [partial(model.partial_fit, [paint("pink", 30)], ["pink"]), partial(model.remove_class, "pink")]
    changes[0]()
    expected[len(model.support_)] = model.predict_proba([query]).tobytes()

    def change() -> None:
        try:
            for number in range(40):
                changes[(number + 1) % 2]()
        finally:
            done.set()

    def read() -> None:
        while not done.is_set():
            assert model.predict_proba([query]).tobytes() in expected.values()
            head = pickle.loads(pickle.dumps(model)).head_
            assert len(head.names) == len(head.class_embeddings.labels) == (3 if len(head.support) == 9 else 4)

    assert in_threads([change, read, read]) == []


def test_fault_83_a_reader_does_not_wait_for_a_change(photos: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = fitted(photos)
    begun, go_on = threading.Event(), threading.Event()

    def slowly(*_: object) -> None:
        begun.set()
        go_on.wait(60)
        raise UsageError("stopped")

    monkeypatch.setattr("tip_adapter.model.learning.fit_by_settings", lambda *_, **__: slowly())
    raised: list[BaseException] = []
    thread = threading.Thread(target=lambda: raised.extend(in_threads([model.retune])))
    thread.start()
    assert begun.wait(60)
    head = model.head_
    assert model.predict(photos[:1]).tolist() == LABELS[:1]
    go_on.set()
    thread.join()
    assert [str(error) for error in raised] == ["stopped"]
    model.remove(["image 0"])  # a failed change releases the lock
    assert len(model.support_) == len(head.support) - 1


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model)), dataclasses.replace]
)
def test_fault_83_a_copy_may_be_changed_while_the_original_is(
    copied: Callable[[Any], Any], photos: Any, more: Any
) -> None:
    model = fitted(photos)
    other: list[FewShotClassifier] = []

    def change(*_: object) -> None:
        # In a thread of its own: it would wait for ever for a lock that the two shared.
        other.append(copied(model))
        thread = threading.Thread(target=other[0].fit, args=(photos[:6], LABELS[:6]), daemon=True)
        thread.start()
        thread.join(60)
        assert not thread.is_alive()

    with pytest.MonkeyPatch.context() as patched:
        encode = classifier.encode_labelled
        patched.setattr(classifier, "encode_labelled", lambda *a, **k: (other or change(), encode(*a, **k))[1])
        model.partial_fit(more[:1], ["red"])
    assert (len(model.support_), len(other[0].support_)) == (10, 6)
    assert "RLock" not in repr(dataclasses.asdict(FewShotClassifier("toy")))
