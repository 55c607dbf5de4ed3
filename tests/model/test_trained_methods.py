"""Methods that are trained, behind FewShotClassifier: fitted, shortened, taught, kept. Toy encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tip_adapter import FewShotClassifier, TipAdapterClassifier, load_encoder
from tip_adapter.encoders.toy import ToyEncoder
from tip_adapter.errors import TipAdapterWarning, UsageError
from tip_adapter.vectors import SupportSet

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from PIL import Image

    Paint = Callable[..., Image.Image]

LABELS = ["red", "green", "blue"] * 3
#: Method → constructor values that make it quick.
TRAINED: dict[str, dict[str, Any]] = {
    "tip-adapter-f": {},
    "linear-probe": {},
    "clip-adapter": {"epochs": 20},
    "coop": {"epochs": 20},
}
WITHOUT_PAIR = [method for method in TRAINED if method != "tip-adapter-f"]


@pytest.fixture
def photos(paint: Paint) -> list[Image.Image]:
    """Three photos of each colour, in the order of LABELS."""
    return [paint(label, number) for number, label in enumerate(LABELS)]


@pytest.fixture
def queries(paint: Paint) -> list[Image.Image]:
    """Photos that no model has seen."""
    return [paint(label, number) for number, label in enumerate(LABELS, start=100)]


def fitted(method: str, photos: list[Any], labels: list[str] = LABELS, **options: Any) -> FewShotClassifier:
    return FewShotClassifier("toy", method, **{**TRAINED[method], **options}).fit(photos, labels)


@pytest.mark.slow
@pytest.mark.parametrize("method", TRAINED)
def test_it_answers_and_a_saved_model_answers_the_same(method: str, photos: Any, queries: Any, tmp_path: Path) -> None:
    model = fitted(method, photos)
    assert model.predict(queries).tolist() == LABELS
    model.save(tmp_path / "model")
    loaded = FewShotClassifier.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict_proba(queries), model.predict_proba(queries))
    assert loaded.evaluate_support(model.support_)["accuracy"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("method", ["clip-adapter", "coop"])
def test_names_that_say_nothing_are_learned_around(method: str, photos: Any, queries: Any) -> None:
    """The toy does not know these words: zero-shot is chance."""
    names = {"red": "dusk", "green": "dawn", "blue": "moss"}
    settings: dict[str, Any] = {"class_names": names, "epochs": None}
    model = fitted(method, photos, **settings)
    record = model.evaluate_support(fitted("linear-probe", queries).support_)
    assert model.estimator_.losses_[-1] < model.estimator_.losses_[0]
    assert record["accuracy"] > record["zero_shot_accuracy"]


@pytest.mark.parametrize("method", [m for m in TRAINED if m != "linear-probe"])
def test_epochs_shorten_the_training_and_are_kept(method: str, photos: Any, tmp_path: Path) -> None:
    model = fitted(method, photos, epochs=2)
    assert model.estimator_.training()["epochs"] == 2 < model.estimator_.training()["papers_epochs"]
    model.save(tmp_path / "model")
    again = FewShotClassifier.load(tmp_path / "model").retune()
    assert again.estimator_.training()["epochs"] == 2
    np.testing.assert_array_equal(
        again.estimator_.logits(model.support_.vectors), model.estimator_.logits(model.support_.vectors)
    )


@pytest.mark.parametrize("method", ["zero-shot", "tip-adapter", "linear-probe"])
def test_epochs_of_what_is_not_trained_in_epochs_are_refused(method: str, photos: Any) -> None:
    with pytest.raises(UsageError, match=f"{method} takes no epochs; leave out epochs"):
        FewShotClassifier("toy", method, epochs=3).fit(photos, LABELS)


@pytest.mark.parametrize("epochs", [-1, 1.5, "3", True])
def test_epochs_that_are_no_number_of_them_are_refused(epochs: Any, photos: Any) -> None:
    with pytest.raises(UsageError, match="epochs"):
        FewShotClassifier("toy", "coop", epochs=epochs).fit(photos, LABELS)


# ---- a class without photos ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_class_without_photos_has_probability_0_under_the_linear_probe(photos: Any, queries: Any) -> None:
    support = fitted("linear-probe", photos).support_
    with pytest.warns(
        TipAdapterWarning, match="1 class without photos is never predicted, because linear-probe .*: moss"
    ):
        model = FewShotClassifier("toy", "linear-probe").fit_support(support, ["moss"])
    probabilities = model.predict_proba(queries)
    assert model.classes_.tolist() == ["blue", "green", "moss", "red"]
    assert probabilities.shape == (len(queries), 4)
    assert not probabilities[:, 2].any()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    assert model.predict(queries).tolist() == LABELS
    assert [row["label"] for row in model.predict_stream(queries, top=4)] == LABELS


@pytest.mark.parametrize("method", ["clip-adapter", "coop"])
def test_a_class_without_photos_is_known_by_its_name(method: str, photos: Any, paint: Paint) -> None:
    support = fitted(method, photos).support_
    model = FewShotClassifier("toy", method, **TRAINED[method]).fit_support(support, ["yellow"])
    assert model.predict([paint("yellow", 5)]).tolist() == ["yellow"]


@pytest.mark.parametrize("method", WITHOUT_PAIR)
def test_names_alone_are_nothing_to_train_on(method: str) -> None:
    nothing = SupportSet(np.zeros((0, 49), np.float32), *[np.zeros(0, np.str_)] * 2)
    with pytest.raises(UsageError, match=f"{method} learns from photos, and there are none"):
        FewShotClassifier("toy", method).fit_support(nothing, ["red", "blue"])


# ---- validation photos -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_validation_photos_search_the_probes_c(photos: Any, make_photos: Callable[..., Path]) -> None:
    folder = make_photos("val", 50, red=2, green=2, blue=2)
    model = fitted("linear-probe", photos, tune=folder)
    assert model.estimator_.training()["searched_by"] == "validation"
    assert fitted("linear-probe", photos).estimator_.training()["searched_by"] == "cross-validation"


@pytest.mark.parametrize(("method", "tune"), [("linear-probe", "loo"), ("coop", "."), ("clip-adapter", "scale-free")])
def test_tune_where_there_is_nothing_to_choose_by_it_is_refused(method: str, tune: str, photos: Any) -> None:
    with pytest.raises(UsageError, match=f"{method} has no alpha and beta to choose; leave out tune"):
        fitted(method, photos, tune=tune)


# ---- being taught ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("method", WITHOUT_PAIR)
@pytest.mark.parametrize(
    "teach",
    [
        lambda model, photos: model.partial_fit(photos, ["yellow", "yellow"]),
        lambda model, photos: model.remove(["image 0"]),
        lambda model, photos: model.remove_class("red"),
    ],
    ids=["partial_fit", "remove", "remove_class"],
)
def test_what_was_trained_falls_back_to_tip_adapter_at_a_pair_that_is_chosen_then(
    method: str, teach: Any, photos: Any, queries: Any, paint: Paint, tmp_path: Path
) -> None:
    model = fitted(method, photos)
    with pytest.warns(TipAdapterWarning, match=f"{method} cannot be updated in place.*retune"):
        teach(model, [paint("yellow", 30), paint("yellow", 31)])
    free = FewShotClassifier("toy", "tip-adapter").fit_support(model.support_, model.classes_)
    assert model.needs_finetune_
    assert isinstance(model.estimator_, TipAdapterClassifier)
    assert (model.choice_, model.head_.left_out) == (free.choice_, free.head_.left_out)
    np.testing.assert_array_equal(model.predict_proba(queries), free.predict_proba(queries))
    model.save(tmp_path / "model")
    again = FewShotClassifier.load(tmp_path / "model").retune()
    assert not again.needs_finetune_
    assert again.head_.method == method
    assert again.choice_ is None


# ---- what a method needs ---------------------------------------------------------------------------------------------


class WithoutTower(ToyEncoder):
    """An encoder that offers no prompt tower."""

    prompt_tower = property()  # type: ignore[assignment]


def test_an_encoder_that_lacks_what_a_method_needs_is_told_before_any_photo_is_read() -> None:
    with pytest.raises(UsageError, match="coop needs a prompt tower, which toy does not offer; use another encoder"):
        FewShotClassifier(WithoutTower(), "coop").fit(["nothing.png"], ["red"])


def test_a_model_that_has_learned_carries_no_tower(photos: Any) -> None:
    assert fitted("coop", photos).estimator_.prompt_tower is None


@pytest.mark.slow
def test_pocket_learns_by_coop_and_says_where_the_context_stands(pocket: Any, photos: Any) -> None:
    model = FewShotClassifier(pocket, "coop", epochs=2).fit(photos, LABELS)
    assert "pocket has no tower that reads words" in model.estimator_.training()["prompt_tower"]
    assert load_encoder("pocket").prompt_tower().width == 512


@pytest.mark.slow
@pytest.mark.parametrize("method", WITHOUT_PAIR)
def test_what_weighs_no_photos_explains_nothing(method: str, photos: Any, queries: Any) -> None:
    with pytest.raises(UsageError, match=f"{method} has no photos to explain an answer by"):
        fitted(method, photos).explain(queries[0])
