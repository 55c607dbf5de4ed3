"""FewShotClassifier from photos to answers, mostly with the toy encoder, which sees colours and knows their names."""

from __future__ import annotations

import copy
import csv
import json
import pickle
import warnings
from collections import deque
from inspect import signature
from io import BufferedReader, BytesIO, RawIOBase, StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from tip_adapter import FewShotClassifier, TipAdapterClassifier, ZeroShotClassifier, choose_alpha_beta, load_encoder
from tip_adapter.encoders.toy import ToyEncoder
from tip_adapter.errors import (
    FolderError,
    ImageError,
    ImageTooLarge,
    LabelError,
    ModelFolderError,
    NothingReadable,
    OutputExists,
    TipAdapterError,
    TipAdapterWarning,
    UnknownName,
    UsageError,
    VectorError,
)
from tip_adapter.features.encode import encode_photos
from tip_adapter.images import decode, inputs
from tip_adapter.methods import METHODS, method_class
from tip_adapter.metrics import accuracy_interval
from tip_adapter.model.format import ARRAYS

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    MakePhotos = Callable[..., Path]
    Paint = Callable[..., Image.Image]

LABELS = ["red", "green", "blue"] * 3
METHODS_WITH_A_PAIR = ["tip-adapter", "tip-adapter-f"]
METHODS_THAT_READ_NAMES = [
    method for method in METHODS if "class_embeddings" in signature(method_class(method)).parameters
]


@pytest.fixture
def photos(paint: Paint) -> list[Image.Image]:
    """Three photos of each colour, in the order of LABELS."""
    return [paint(label, number) for number, label in enumerate(LABELS)]


@pytest.fixture
def queries(paint: Paint) -> list[Image.Image]:
    """Photos that no model has seen."""
    return [paint(label, number) for number, label in enumerate(LABELS, start=100)]


def fitted(photos: list[Any], labels: list[str] = LABELS, **options: Any) -> FewShotClassifier:
    return FewShotClassifier("toy", **options).fit(photos, labels)


# ---- fit and predict ----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_every_method_names_photos_it_has_not_seen(method: str, photos: Any, queries: Any) -> None:
    model = fitted(photos, method=method)
    assert model.classes_.tolist() == ["blue", "green", "red"]
    assert model.predict(queries).tolist() == LABELS
    probabilities = model.predict_proba(queries)
    assert probabilities.shape == (9, 3)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    assert model.classes_[probabilities.argmax(axis=1)].tolist() == LABELS


@pytest.mark.parametrize("method", METHODS_WITH_A_PAIR)
def test_photos_teach_what_names_cannot(method: str, photos: Any, queries: Any) -> None:
    other = {"red": "good", "green": "bad", "blue": "ugly"}
    model = fitted(photos, [other[label] for label in LABELS], method=method)
    assert model.predict(queries).tolist() == [other[label] for label in LABELS]


def test_paths_texts_images_and_arrays_are_the_same_photos(make_photos: MakePhotos, photos: Any) -> None:
    folder = make_photos("new", red=1, green=1)
    paths = [folder / "red" / "0.png", folder / "green" / "0.png"]
    images = [Image.open(path) for path in paths]
    arrays = [np.asarray(image) for image in images]
    model = fitted(photos)
    expected = model.predict_proba(paths)
    for same in ([str(path) for path in paths], images, arrays, [paths[0], arrays[1]]):
        np.testing.assert_array_equal(model.predict_proba(same), expected)
    by_kind = [fitted(kind, ["a", "b"]).support_.vectors for kind in (paths, images, arrays)]
    np.testing.assert_array_equal(by_kind[0], by_kind[1])
    np.testing.assert_array_equal(by_kind[0], by_kind[2])


def test_no_photos_give_no_answers(photos: Any) -> None:
    model = fitted(photos)
    assert model.predict([]).shape == (0,)
    assert model.predict_proba([]).shape == (0, 3)


def test_answers_do_not_depend_on_the_batch(photos: Any, queries: Any) -> None:
    model = fitted(photos)
    many = [*queries, *queries, *queries, *queries]  # more than one batch
    alone = np.concatenate([model.predict_proba([query]) for query in queries])
    np.testing.assert_allclose(model.predict_proba(many)[:9], alone, atol=1e-6)


def test_predicting_an_unreadable_photo_is_an_error_naming_it(tmp_path: Path, photos: Any) -> None:
    with pytest.raises(ImageError, match=r"nothing\.jpg"):
        fitted(photos).predict([photos[0], tmp_path / "nothing.jpg"])


def test_the_order_of_photos_does_not_matter(photos: Any, queries: Any) -> None:
    order = np.random.default_rng(0).permutation(len(photos))
    shuffled = fitted([photos[i] for i in order], [LABELS[i] for i in order])
    np.testing.assert_allclose(shuffled.predict_proba(queries), fitted(photos).predict_proba(queries), atol=1e-5)


def test_a_loaded_encoder_may_be_given(photos: Any, queries: Any) -> None:
    own = FewShotClassifier(ToyEncoder()).fit(photos, LABELS)
    np.testing.assert_array_equal(own.predict_proba(queries), fitted(photos).predict_proba(queries))


def test_device_and_threads_reach_the_encoder(photos: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = []

    def listen(name: str, **given: Any) -> ToyEncoder:
        heard.append((name, given))
        return ToyEncoder()

    monkeypatch.setattr("tip_adapter.model.classifier.load_encoder", listen)
    fitted(photos, device="cuda", threads=2)
    assert heard == [("toy", {"device": "cuda", "threads": 2})]


# ---- folders ------------------------------------------------------------------------------------------------------


def test_a_folder_gives_the_model_that_its_photos_give(make_photos: MakePhotos, queries: Any) -> None:
    folder = make_photos("train", red=3, green=2)
    paths = sorted(folder.glob("*/*.png"))
    by_folder = FewShotClassifier("toy").fit_folder(folder)
    by_paths = fitted(paths, [path.parent.name for path in paths])
    assert by_folder.support_.ids.tolist() == [str(path.relative_to(folder)) for path in paths]
    np.testing.assert_array_equal(by_folder.predict_proba(queries), by_paths.predict_proba(queries))


def test_a_list_gives_the_model_that_its_folder_gives(make_photos: MakePhotos, queries: Any, tmp_path: Path) -> None:
    folder = make_photos("train", red=3, green=2)
    with (tmp_path / "train.csv").open("w", newline="") as file:
        rows = [(path.relative_to(tmp_path), path.parent.name) for path in sorted(folder.glob("*/*.png"))]
        csv.writer(file).writerows([("file_name", "label"), *rows])
    listed = FewShotClassifier("toy").fit_folder(tmp_path / "train.csv")
    by_folder = FewShotClassifier("toy").fit_folder(folder)
    np.testing.assert_array_equal(listed.predict_proba(queries), by_folder.predict_proba(queries))


def test_a_split_folder_is_read_part_by_part(make_photos: MakePhotos) -> None:
    folder = make_photos("all/train", red=2, green=2).parent
    make_photos("all/test", 20, red=1, green=2)
    with pytest.warns(TipAdapterWarning, match="is split: reading train"):
        model = FewShotClassifier("toy").fit_folder(folder)
    assert len(model.support_) == 4
    with pytest.warns(TipAdapterWarning, match="is split: reading test"):
        assert model.evaluate_folder(folder)["n_images"] == 3


@pytest.mark.slow
def test_shots_are_drawn_by_the_seed_and_nested(make_photos: MakePhotos) -> None:
    folder = make_photos("train", red=6, green=6)

    def drawn(shots: int, seed: int) -> set[str]:
        return set(FewShotClassifier("toy", seed=seed).fit_folder(folder, shots).support_.ids.tolist())

    assert len(drawn(2, seed=1)) == 4
    assert drawn(2, seed=1) == drawn(2, seed=1)
    assert drawn(1, seed=1) < drawn(2, seed=1) < drawn(5, seed=1)
    assert len({frozenset(drawn(2, seed=seed)) for seed in range(8)}) > 1


def test_fewer_photos_than_shots_are_all_used_and_said(make_photos: MakePhotos) -> None:
    with pytest.warns(TipAdapterWarning, match=r"^1 class has fewer than 3 photos; .*: green$"):
        model = FewShotClassifier("toy").fit_folder(make_photos("train", red=5, green=2), shots=3)
    assert model.support_.labels.tolist() == ["green"] * 2 + ["red"] * 3


@pytest.mark.parametrize("shots", [0, -1])
def test_shots_below_one_are_a_usage_error(shots: int, make_photos: MakePhotos) -> None:
    with pytest.raises(UsageError, match="shots"):
        FewShotClassifier("toy").fit_folder(make_photos("train", red=2, green=2), shots=shots)


@pytest.mark.parametrize("method", METHODS_THAT_READ_NAMES)
def test_a_class_without_photos_keeps_its_name_and_can_be_predicted(
    method: str, make_photos: MakePhotos, paint: Paint
) -> None:
    with pytest.warns(TipAdapterWarning, match="no photos in 1 of 3 classes, only their names are used: yellow"):
        model = FewShotClassifier("toy", method).fit_folder(make_photos("train", red=3, green=3, yellow=0))
    assert model.classes_.tolist() == ["green", "red", "yellow"]
    assert model.predict([paint("red")]).tolist() == ["red"]
    if method != "gda":  # the left-out photos are all right without names, so their weight is small
        assert model.predict([paint("yellow")]).tolist() == ["yellow"]


@pytest.mark.parametrize("method", ["zero-shot", *METHODS_WITH_A_PAIR])
@pytest.mark.filterwarnings("ignore:no photos in .*only their names are used")
def test_no_photos_at_all_are_zero_shot(method: str, make_photos: MakePhotos, queries: Any) -> None:
    model = FewShotClassifier("toy", method).fit_folder(make_photos("train", red=0, green=0, blue=0))
    encoder = ToyEncoder()
    names = encoder.encode_texts(["blue", "green", "red"])
    logits = encoder.logit_scale * encoder.encode_images(queries) @ names.T
    expected = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(model.predict_proba(queries), expected / expected.sum(axis=1, keepdims=True), atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_one_class_only_works_and_warns(method: str, make_photos: MakePhotos, queries: Any) -> None:
    with pytest.warns(TipAdapterWarning, match=r"there is one class only \(red\)"):
        model = FewShotClassifier("toy", method).fit_folder(make_photos("train", red=3))
    assert set(model.predict(queries)) == {"red"}
    np.testing.assert_array_equal(model.predict_proba(queries), np.ones((9, 1)))


def test_no_class_at_all_is_an_error_that_says_so() -> None:
    with pytest.raises(TipAdapterError, match="class"):
        FewShotClassifier("toy").fit([], [])


# ---- photos that cannot be used -----------------------------------------------------------------------------------


def test_unreadable_photos_are_left_out_with_a_warning(make_photos: MakePhotos) -> None:
    folder = make_photos("train", red=3, green=3)
    (folder / "red" / "1.png").write_bytes(b"")
    (folder / "green" / "2.png").write_text("no photo")
    with pytest.warns(TipAdapterWarning, match=r"left out 2 of 6 images: .*green/2\.png.*red/1\.png.* empty"):
        model = FewShotClassifier("toy").fit_folder(folder)
    assert model.support_.ids.tolist() == ["green/0.png", "green/1.png", "red/0.png", "red/2.png"]


def test_a_class_whose_photos_are_all_unreadable_keeps_its_name(make_photos: MakePhotos, paint: Paint) -> None:
    folder = make_photos("train", red=3, green=2, yellow=1)
    (folder / "yellow" / "0.png").write_bytes(b"")
    with pytest.warns(TipAdapterWarning) as notes:
        model = FewShotClassifier("toy").fit_folder(folder)
    assert "left out 1 of 6 images" in str(notes[0].message)
    assert "not one photo can be read of class yellow" in str(notes[1].message)
    assert model.predict([paint("yellow")]).tolist() == ["yellow"]


def test_a_name_for_a_label_that_is_none_is_said_to_be_one(photos: Any) -> None:
    with pytest.warns(TipAdapterWarning, match="given for unknown labels: gren"):
        FewShotClassifier("toy", class_names={"gren": "green"}).fit(photos[:2], ["red", "green"])


def test_nothing_readable_is_an_error(make_photos: MakePhotos) -> None:
    folder = make_photos("train", red=1, green=1)
    for photo in folder.glob("*/*.png"):
        photo.write_bytes(b"x")
    with pytest.raises(NothingReadable, match=r"none of 2 photos can be read; the first: .*green/0\.png"):
        FewShotClassifier("toy").fit_folder(folder)
    model = FewShotClassifier("toy", "zero-shot").fit_folder(folder)
    with pytest.raises(NothingReadable):
        model.evaluate_folder(folder)


def test_fault_17_the_same_photo_in_two_classes_warns(make_photos: MakePhotos) -> None:
    folder = make_photos("train", red=2, green=2)
    (folder / "red" / "copy.png").write_bytes((folder / "green" / "0.png").read_bytes())
    with pytest.warns(TipAdapterWarning, match=r"same image is in two classes: green/0\.png .* red/copy\.png"):
        model = FewShotClassifier("toy").fit_folder(folder)
    assert len(model.support_) == 5


def test_fault_17_the_same_photo_twice_in_one_class_counts_once(make_photos: MakePhotos) -> None:
    folder = make_photos("train", red=2, green=2)
    (folder / "red" / "copy.png").write_bytes((folder / "red" / "0.png").read_bytes())
    skipped = r"skipped 1 image identical to another of the same class: red/copy\.png is the same as red/0\.png"
    with pytest.warns(TipAdapterWarning, match=skipped):
        model = FewShotClassifier("toy").fit_folder(folder)
    assert model.support_.ids.tolist() == ["green/0.png", "green/1.png", "red/0.png", "red/1.png"]


# ---- labels and names ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [1, None, b"red", 2.5, ["red"]], ids=repr)
def test_a_label_that_is_no_text_is_a_label_error(wrong: Any, photos: Any) -> None:
    with pytest.raises(LabelError, match="is not text"):
        fitted(photos[:2], ["red", wrong])


@pytest.mark.parametrize("labels", [["red"], ["red"] * 3])
def test_another_number_of_labels_is_a_label_error(labels: list[str], photos: Any) -> None:
    with pytest.raises(LabelError, match=f"2 images but {len(labels)} labels"):
        fitted(photos[:2], labels)


def test_labels_may_be_a_numpy_array(photos: Any) -> None:
    model = FewShotClassifier("toy").fit(photos, np.array(LABELS))
    assert model.classes_.tolist() == ["blue", "green", "red"]


@pytest.mark.parametrize("twins", [("caf\u00e9", "cafe\u0301"), ("Tea", "tea")])
def test_fault_16_labels_that_differ_by_unicode_form_or_case_are_a_label_error(
    twins: tuple[str, str], photos: Any
) -> None:
    with pytest.raises(LabelError, match="differ only by"):
        fitted(photos[:2], list(twins))


@pytest.mark.parametrize(("wrong", "reason"), [("", "is not text"), ("a\0b", "contains NUL")])
def test_fault_16_an_empty_label_or_one_with_nul_is_a_label_error(wrong: str, reason: str, photos: Any) -> None:
    with pytest.raises(LabelError, match=reason):
        fitted(photos[:2], ["red", wrong])


def test_a_label_is_kept_in_nfc(photos: Any) -> None:
    assert fitted(photos[:4], ["cafe\u0301", "cafe\u0301", "red", "red"]).classes_.tolist() == ["caf\u00e9", "red"]


def test_a_label_is_read_with_spaces_and_a_mapping_names_it(photos: Any) -> None:
    labels = [{"red": "n_01", "green": "dark_green", "blue": "blue"}[label] for label in LABELS]
    model = fitted(photos, labels, class_names={"n_01": "red"})
    assert model.names_ == {"blue": "blue", "dark_green": "dark green", "n_01": "red"}
    expected = ToyEncoder().encode_texts(["blue", "dark green", "red"])
    np.testing.assert_allclose(model.class_embeddings_.matrix, expected, atol=1e-6)


def test_a_mapping_gives_zero_shot_what_the_labels_do_not(photos: Any, queries: Any) -> None:
    names = {"1": "red", "2": "green", "3": "blue"}
    label_of = {name: label for label, name in names.items()}
    labels = [label_of[label] for label in LABELS]
    model = fitted(photos, labels, method="zero-shot", class_names=names)
    assert model.predict(queries).tolist() == labels


def test_a_mapping_is_found_in_either_unicode_form(photos: Any) -> None:
    model = fitted(photos[:2], ["caf\u00e9", "tea"], class_names={"cafe\u0301": "red"})
    assert model.names_["caf\u00e9"] == "red"


def test_names_in_a_script_that_the_encoder_does_not_read_warn_and_work(photos: Any, queries: Any) -> None:
    chinese = {"red": "红", "green": "绿", "blue": "blue"}
    labels = [chinese[label] for label in LABELS]
    with pytest.warns(TipAdapterWarning, match=r"2 class names are in a script .* such as '红'.*--class-names"):
        model = fitted(photos, labels)
    assert model.predict(queries).tolist() == labels
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted(photos, labels, class_names={"红": "red", "绿": "green"})


def test_templates_are_texts_or_sets_and_the_encoders_own_by_default(photos: Any) -> None:
    assert fitted(photos).head_.templates == ("{}",)
    model = fitted(photos, templates=["caltech101", "my {}"])
    assert model.head_.templates == ("a photo of a {}.", "my {}")
    assert not np.allclose(model.class_embeddings_.matrix, fitted(photos).class_embeddings_.matrix)
    with pytest.raises(UsageError, match="is not a set"):
        fitted(photos, templates=["a photo"])


def test_the_method_gets_the_encoders_logit_scale_and_the_seed(photos: Any) -> None:
    model = fitted(photos, method="tip-adapter-f", seed=5)
    assert model.estimator_.logit_scale == ToyEncoder.record.logit_scale
    assert model.estimator_.seed == 5


# ---- alpha and beta -----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS_WITH_A_PAIR)
@pytest.mark.parametrize(
    ("counts", "rule"),
    [
        ({"red": 1, "green": 1, "blue": 1}, "scale-free"),
        ({"red": 2, "green": 1, "blue": 1}, "scale-free"),
        ({"red": 2, "green": 1}, "leave-one-out"),
        ({"red": 2, "green": 1, "blue": 0}, "leave-one-out"),
        ({"red": 2, "green": 2, "blue": 1}, "leave-one-out"),
        ({"red": 3, "green": 3, "blue": 3}, "leave-one-out"),
    ],
)
@pytest.mark.filterwarnings("ignore:no photos in .*only their names are used")
@pytest.mark.filterwarnings("ignore:.* which leave-one-out cannot score")
def test_leave_one_out_is_the_default_where_half_the_classes_with_photos_have_two(
    counts: dict[str, int], rule: str, method: str, make_photos: MakePhotos
) -> None:
    model = FewShotClassifier("toy", method).fit_folder(make_photos("train", **counts))
    assert model.choice_.rule == rule
    assert model.choice_.n_rows == sum(n for n in counts.values() if n > 1)
    assert (model.estimator_.alpha, model.estimator_.beta) == (model.choice_.alpha, model.choice_.beta)


def test_classes_that_leave_one_out_cannot_score_are_said(make_photos: MakePhotos) -> None:
    with pytest.warns(TipAdapterWarning, match="1 class has one photo, which leave-one-out cannot score"):
        FewShotClassifier("toy", "tip-adapter").fit_folder(make_photos("train", red=2, green=1))


@pytest.mark.parametrize("method", METHODS_WITH_A_PAIR)
@pytest.mark.parametrize("counts", [{"red": 1, "green": 1}, {"red": 0, "green": 0}])
@pytest.mark.filterwarnings("ignore:no photos in .*only their names are used")
def test_leave_one_out_without_a_second_photo_is_a_usage_error_naming_scale_free(
    counts: dict[str, int], method: str, make_photos: MakePhotos
) -> None:
    with pytest.raises(UsageError, match="scale-free"):
        FewShotClassifier("toy", method, tune="loo").fit_folder(make_photos("train", **counts))


def test_scale_free_may_be_asked_for(photos: Any) -> None:
    choice = fitted(photos, tune="scale-free").choice_
    assert choice.rule == "scale-free"
    assert choice.accuracy is not None


def test_the_choice_is_the_one_that_choose_alpha_beta_makes(photos: Any) -> None:
    for tune, rule in [("loo", "leave-one-out"), ("scale-free", "scale-free")]:
        model = fitted(photos, tune=tune)
        expected = choose_alpha_beta(
            model.support_.vectors,
            model.support_.labels,
            class_embeddings=model.class_embeddings_,
            logit_scale=ToyEncoder.record.logit_scale,
            rule=rule,
            ratio=ToyEncoder.record.scale_free_ratio,
        )
        assert model.choice_ == expected


@pytest.mark.parametrize("method", METHODS_WITH_A_PAIR)
def test_a_given_pair_is_used_at_temperature_one(method: str, photos: Any, queries: Any) -> None:
    model = fitted(photos, method=method, alpha=2.0, beta=3.0)
    choice = model.choice_
    assert (choice.alpha, choice.beta, choice.temperature, choice.rule) == (2.0, 3.0, 1.0, "fixed")
    vectors = ToyEncoder().encode_images(queries)
    np.testing.assert_allclose(model.predict_proba(queries), model.estimator_.predict_proba(vectors), atol=1e-6)


def test_alpha_zero_is_zero_shot(photos: Any, queries: Any) -> None:
    given = fitted(photos, alpha=0.0, beta=1.0)
    zero_shot = fitted(photos, method="zero-shot")
    np.testing.assert_allclose(given.predict_proba(queries), zero_shot.predict_proba(queries), atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"alpha": 1.0},
        {"beta": 1.0},
        {"alpha": 1.0, "tune": "loo"},
        {"alpha": 1.0, "beta": 1.0, "tune": "scale-free"},
        {"alpha": -1.0, "beta": 1.0},
        {"alpha": 1.0, "beta": 0.0},
        {"alpha": float("nan"), "beta": 1.0},
        {"alpha": 1.0, "beta": float("inf")},
        {"method": "zero-shot", "tune": "loo"},
        {"method": "zero-shot", "alpha": 1.0, "beta": 1.0},
    ],
    ids=str,
)
def test_options_that_make_no_sense_together_are_a_usage_error(options: dict[str, Any], photos: Any) -> None:
    with pytest.raises(UsageError, match=r"alpha|beta|tune"):
        fitted(photos, **options)


def test_a_usage_error_comes_before_any_photo_is_read(tmp_path: Path, photos: Any) -> None:
    with pytest.raises(UsageError):
        fitted([tmp_path / "nothing.jpg"], ["red"], alpha=1.0)


def test_an_unknown_method_or_encoder_suggests_the_nearest(photos: Any) -> None:
    with pytest.raises(UnknownName, match="did you mean tip-adapter"):
        fitted(photos, method="tipadapter")
    with pytest.raises(UnknownName, match="did you mean pocket"):
        FewShotClassifier("pokcet").fit(photos, LABELS)


def test_the_temperature_changes_scores_and_no_label(photos: Any, queries: Any) -> None:
    model = fitted(photos, method="tip-adapter")
    vectors = ToyEncoder().encode_images(queries)
    assert model.choice_.temperature != 1
    logits = model.estimator_.logits(vectors) / model.choice_.temperature
    expected = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model.predict_proba(queries), expected, atol=1e-6)
    assert not np.allclose(expected, model.estimator_.predict_proba(vectors), atol=1e-3)
    assert model.predict(queries).tolist() == model.estimator_.predict(vectors).tolist()


# ---- validation photos --------------------------------------------------------------------------------------------


def test_a_validation_folder_or_list_chooses(make_photos: MakePhotos, tmp_path: Path, photos: Any) -> None:
    folder = make_photos("val", 50, red=2, green=3, blue=1)
    by_folder = fitted(photos, tune=folder)
    assert (by_folder.choice_.rule, by_folder.choice_.n_rows) == ("validation", 6)
    rows = [{"file_name": str(path), "label": path.parent.name} for path in sorted(folder.glob("*/*.png"))]
    (tmp_path / "val.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert fitted(photos, tune=str(tmp_path / "val.jsonl")).choice_ == by_folder.choice_


def test_a_split_folder_gives_its_val_part_and_says_so(make_photos: MakePhotos, photos: Any) -> None:
    folder = make_photos("all/train", red=1, green=1).parent
    make_photos("all/val", 50, red=2, green=2, blue=2)
    with pytest.warns(TipAdapterWarning, match="is split: reading val"):
        assert fitted(photos, tune=folder).choice_.n_rows == 6


def test_validation_photos_of_unknown_classes_are_skipped_and_said(make_photos: MakePhotos, photos: Any) -> None:
    folder = make_photos("val", 50, red=2, yellow=3)
    with pytest.warns(TipAdapterWarning) as warned:
        assert fitted(photos, tune=folder).choice_.n_rows == 2
    said = [str(one.message) for one in warned]
    assert "3 validation photos are of classes without support, and skipped" in said
    assert "no validation photos of 2 of 3 classes (blue, green): what is chosen on them fits the others" in said


def test_validation_photos_that_are_all_of_unknown_classes_are_an_error(make_photos: MakePhotos, photos: Any) -> None:
    with pytest.raises(LabelError, match=r"knows none of these classes \(yellow"):
        fitted(photos, tune=make_photos("val", yellow=2))


def test_a_validation_folder_that_is_not_there_is_a_usage_error(tmp_path: Path, photos: Any) -> None:
    with pytest.raises(
        UsageError, match="nowhere': it is not loo, leave-one-out or scale-free, nor a folder or list that exists"
    ):
        fitted(photos, tune=tmp_path / "nowhere")


def test_tip_adapter_f_chooses_again_with_its_learned_keys(make_photos: MakePhotos, paint: Paint) -> None:
    labels = ["good", "bad", "ugly"] * 4
    colours = dict(zip(labels, ["red", "green", "blue"], strict=False))
    train = [paint(colours[label], number) for number, label in enumerate(labels)]
    folder = make_photos("val", 50, red=3, green=3, blue=3)
    for label, colour in colours.items():
        (folder / colour).rename(folder / label)
    model = fitted(train, labels, method="tip-adapter-f", tune=folder)
    untrained = fitted(train, labels, tune=folder)
    assert not np.allclose(model.estimator_.keys_, untrained.estimator_.keys_)
    assert model.choice_.rule == "validation"
    assert model.choice_ != untrained.choice_
    assert (model.estimator_.alpha, model.estimator_.beta) == (model.choice_.alpha, model.choice_.beta)
    rows = [(path, path.parent.name) for path in sorted(folder.glob("*/*.png"))]
    right = model.predict([path for path, _ in rows]) == np.array([label for _, label in rows])
    assert model.choice_.accuracy == pytest.approx(right.mean())


# ---- folders of answers -------------------------------------------------------------------------------------------


def test_a_row_a_photo_in_the_order_of_the_folder(make_photos: MakePhotos, photos: Any) -> None:
    folder = make_photos("new", 60, red=2, green=1)
    (folder / "green" / "broken.png").write_bytes(b"x")
    model = fitted(photos)
    rows = model.predict_folder(folder, top=2)
    assert [row["image"] for row in rows] == [
        str(folder / name) for name in ("green/60.png", "green/broken.png", "red/60.png", "red/61.png")
    ]
    assert [row["label"] for row in rows] == ["green", None, "red", "red"]
    broken = rows.pop(1)
    assert (broken["score"], broken["top"]) == (None, [])
    assert "broken.png" in broken["error"]
    probabilities = model.predict_proba([row["image"] for row in rows])
    for row, p in zip(rows, probabilities, strict=True):
        assert row["error"] is None
        assert row["score"] == row["top"][0]["score"] == pytest.approx(p.max(), abs=1e-6)
        assert [entry["label"] for entry in row["top"]] == model.classes_[np.argsort(-p)[:2]].tolist()
    json.dumps(rows)


def test_more_answers_than_classes_are_all_classes(make_photos: MakePhotos, photos: Any) -> None:
    (row,) = fitted(photos).predict_folder(make_photos("new", red=1), top=99)
    assert sum(entry["score"] for entry in row["top"]) == pytest.approx(1)
    assert {entry["label"] for entry in row["top"]} == {"red", "green", "blue"}


def test_below_min_score_it_is_none_of_these(make_photos: MakePhotos, photos: Any) -> None:
    model, folder = fitted(photos), make_photos("new", 60, red=1)
    (row,) = model.predict_folder(folder)
    (kept,) = model.predict_folder(folder, min_score=row["score"])
    (refused,) = model.predict_folder(folder, min_score=np.nextafter(row["score"], 2))
    assert kept == row
    assert refused == row | {"label": None}


def test_a_folder_without_photos_is_an_error(tmp_path: Path, photos: Any) -> None:
    with pytest.raises(FolderError, match="holds no photos"):
        fitted(photos).predict_folder(tmp_path)


# ---- evaluation ---------------------------------------------------------------------------------------------------


def test_the_record_of_an_evaluation(make_photos: MakePhotos, photos: Any) -> None:
    model = fitted(photos, method="tip-adapter")
    folder = make_photos("test", 60, red=2, green=3)
    (folder / "green" / "60.png").rename(folder / "red" / "wrong.png")
    (folder / "green" / "broken.png").write_bytes(b"x")
    with pytest.warns(TipAdapterWarning, match="left out 1 of 6 images"):
        record = model.evaluate_folder(folder)
    assert record.pop("seconds") > 0
    assert record.pop("images_per_second") > 0
    assert record.pop("calibration")["n_known"] == 5
    assert record == {
        "accuracy": 4 / 5,
        "mean_per_class_accuracy": pytest.approx((2 / 3 + 1) / 2),
        "accuracy_interval": list(accuracy_interval(4, 5)),
        "zero_shot_accuracy": 4 / 5,
        "n_images": 5,
        "n_failed": 1,
        "unknown_classes": [],
        "per_class": {"green": {"accuracy": 1.0, "n": 2}, "red": {"accuracy": pytest.approx(2 / 3), "n": 3}},
        "confusions": [{"label": "red", "called": "green", "n": 1}],
        "protocol": "leave-one-out",
        "alpha": model.choice_.alpha,
        "beta": model.choice_.beta,
    }


def test_zero_shot_has_no_protocol_and_no_pair(make_photos: MakePhotos, photos: Any) -> None:
    model = fitted(photos, method="zero-shot")
    record = model.evaluate_folder(make_photos("test", 60, red=2))
    assert (record["protocol"], record["alpha"], record["beta"]) == (None, None, None)
    assert record["accuracy"] == record["zero_shot_accuracy"]
    assert model.choice_ is None


def test_zero_shot_accuracy_is_the_names_own(make_photos: MakePhotos, photos: Any) -> None:
    other = {"red": "good", "green": "bad", "blue": "ugly"}
    model = fitted(photos, [other[label] for label in LABELS])
    folder = make_photos("test", 60, red=4, green=4, blue=4)
    for colour, label in other.items():
        (folder / colour).rename(folder / label)
    paths = sorted(folder.glob("*/*.png"))
    names = ZeroShotClassifier(model.class_embeddings_).fit(model.support_.vectors, model.support_.labels)
    predicted = names.predict(encode_photos(paths, ToyEncoder()).vectors)
    expected = np.mean(predicted == [path.parent.name for path in paths])
    record = model.evaluate_folder(folder)
    assert record["zero_shot_accuracy"] == pytest.approx(expected)
    assert record["zero_shot_accuracy"] < record["accuracy"] == 1.0


def test_photos_of_an_unknown_class_count_as_wrong_and_are_listed(make_photos: MakePhotos, photos: Any) -> None:
    record = fitted(photos).evaluate_folder(make_photos("test", 60, red=3, yellow=1))
    assert record["unknown_classes"] == ["yellow"]
    assert record["accuracy"] == 3 / 4
    assert record["per_class"]["yellow"] == {"accuracy": 0.0, "n": 1}


def test_a_test_folder_of_unknown_classes_only_is_an_error(make_photos: MakePhotos, photos: Any) -> None:
    with pytest.raises(LabelError, match=r"knows none of these classes \(cyan, yellow.*it knows blue, green, red"):
        fitted(photos).evaluate_folder(make_photos("test", cyan=1, yellow=1))


@pytest.mark.filterwarnings("ignore:no photos in .*only their names are used")
def test_a_test_folder_without_photos_is_an_error_that_says_so(make_photos: MakePhotos, photos: Any) -> None:
    with pytest.raises(TipAdapterError, match="no photos"):
        fitted(photos).evaluate_folder(make_photos("test", red=0, green=0))


# ---- encoders that are broken -------------------------------------------------------------------------------------


class BrokenEncoder(ToyEncoder):
    """A toy that gives one value in all its photos' or all its names' vectors."""

    def __init__(self, *, photos: float | None = None, names: float | None = None) -> None:
        super().__init__()
        self.photos, self.names = photos, names

    def encode_prepared(self, prepared: NDArray[Any]) -> NDArray[np.float32]:
        vectors = super().encode_prepared(prepared)
        return vectors if self.photos is None else np.full_like(vectors, self.photos)

    def encode_texts(self, sentences: Any) -> NDArray[np.float32]:
        vectors = super().encode_texts(sentences)
        return vectors if self.names is None else np.full_like(vectors, self.names)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_fault_18_photos_that_become_nan_or_zero_are_refused(
    value: float, make_photos: MakePhotos, photos: Any
) -> None:
    encoder = BrokenEncoder()
    model = FewShotClassifier(encoder).fit(photos, LABELS)
    folder = make_photos("new", red=1, green=1)
    encoder.photos = value
    with pytest.raises(NothingReadable, match="zero, NaN or infinite"):
        FewShotClassifier(encoder).fit_folder(folder)
    with pytest.raises(ImageError, match=r"0\.png.*zero, NaN or infinite"):
        model.predict([folder / "red" / "0.png"])
    rows = model.predict_folder(folder)
    assert [row["label"] for row in rows] == [None, None]
    assert all("zero, NaN or infinite" in row["error"] for row in rows)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
@pytest.mark.filterwarnings("ignore:invalid value")
def test_names_that_become_nan_or_zero_are_refused(value: float, photos: Any) -> None:
    with pytest.raises(VectorError):
        FewShotClassifier(BrokenEncoder(names=value)).fit(photos, LABELS)


# ---- save and load ------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"method": method} for method in METHODS] + [{"alpha": 3.0, "beta": 2.0}], ids=str)
def test_answers_after_loading_are_the_same_to_the_bit(
    options: dict[str, Any], photos: Any, queries: Any, tmp_path: Path, make_photos: MakePhotos
) -> None:
    model = fitted(photos, templates=["a {}", "{}"], class_names={"red": "deep red"}, seed=3, **options)
    model.save(tmp_path / "model")
    loaded = FewShotClassifier.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict_proba(queries), model.predict_proba(queries))
    folder = make_photos("test", 60, red=2, yellow=1)
    assert loaded.predict_folder(folder) == model.predict_folder(folder)
    records = [each.evaluate_folder(folder) for each in (loaded, model)]
    for record in records:
        del record["seconds"], record["images_per_second"]
    assert records[0] == records[1]
    assert loaded.choice_ == model.choice_
    assert loaded.names_ == model.names_
    assert loaded.head_.templates == model.head_.templates
    assert (loaded.method, loaded.seed) == (model.head_.method, model.seed)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_loaded_model_saves_the_same_files(method: str, photos: Any, tmp_path: Path) -> None:
    fitted(photos, method=method).save(tmp_path / "first")
    FewShotClassifier.load(tmp_path / "first").save(tmp_path / "second")
    for path in (tmp_path / "first").iterdir():
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_the_same_photos_and_seed_give_the_same_bytes(method: str, make_photos: MakePhotos, tmp_path: Path) -> None:
    folder = make_photos("train", red=6, green=6, blue=6)

    def saved(name: str, seed: int) -> bytes:
        FewShotClassifier("toy", method, seed=seed).fit_folder(folder, shots=3).save(tmp_path / name)
        return (tmp_path / name / ARRAYS).read_bytes()

    assert saved("first", seed=7) == saved("again", seed=7)
    if method != "zero-shot":
        assert saved("other", seed=8) != saved("first again", seed=7)


@pytest.mark.filterwarnings("ignore:no photos in .*only their names are used")
def test_a_model_without_photos_comes_back(make_photos: MakePhotos, queries: Any, tmp_path: Path) -> None:
    model = FewShotClassifier("toy").fit_folder(make_photos("train", red=0, green=0))
    model.save(tmp_path / "model")
    loaded = FewShotClassifier.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict_proba(queries), model.predict_proba(queries))


def test_loading_needs_no_text_side(photos: Any, queries: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = fitted(photos)
    model.save(tmp_path / "model")

    def read(*_: Any) -> None:
        raise AssertionError("the text side was asked")

    monkeypatch.setattr(ToyEncoder, "encode_texts", read)
    assert FewShotClassifier.load(tmp_path / "model").predict(queries).tolist() == LABELS


def test_loading_hands_on_device_and_threads(photos: Any, tmp_path: Path) -> None:
    fitted(photos).save(tmp_path / "model")
    loaded = FewShotClassifier.load(tmp_path / "model", device="cpu", threads=2)
    assert (loaded.device, loaded.threads) == ("cpu", 2)


def test_an_existing_folder_is_refused_untouched_and_replaced_by_force(photos: Any, tmp_path: Path) -> None:
    fitted(photos).save(tmp_path / "model")
    before = (tmp_path / "model" / ARRAYS).read_bytes()
    other = fitted(photos[:4], LABELS[:4])
    with pytest.raises(OutputExists, match="force=True"):
        other.save(tmp_path / "model")
    assert (tmp_path / "model" / ARRAYS).read_bytes() == before
    other.save(tmp_path / "model", force=True)
    assert len(FewShotClassifier.load(tmp_path / "model").support_) == 4


def test_loading_what_is_no_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelFolderError, match="is not a model folder"):
        FewShotClassifier.load(tmp_path)


# ---- pocket -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_pocket_names_colours_and_comes_back_to_the_bit(
    method: str, pocket: Any, photos: Any, queries: Any, tmp_path: Path
) -> None:
    model = FewShotClassifier(pocket, method).fit(photos, LABELS)
    assert (model.predict(queries) == np.array(LABELS)).mean() > 1 / 2
    model.save(tmp_path / "model")
    loaded = FewShotClassifier.load(tmp_path / "model")
    assert loaded.encoder_.identity == pocket.identity
    np.testing.assert_array_equal(loaded.predict_proba(queries), model.predict_proba(queries))


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
def test_pocket_answers_in_the_language_of_the_folders(pocket: Any, make_photos: MakePhotos, queries: Any) -> None:
    folder = make_photos("train", red=3, green=3, blue=3)
    chinese = {"red": "红色", "green": "绿色", "blue": "蓝色"}
    for label, name in chinese.items():
        (folder / label).rename(folder / name)
    model = FewShotClassifier(pocket).fit_folder(folder)
    assert (model.predict(queries) == np.array([chinese[label] for label in LABELS])).mean() > 2 / 3


@pytest.mark.slow
def test_pockets_rules_use_its_own_record(pocket: Any, photos: Any) -> None:
    model = FewShotClassifier(pocket, tune="scale-free").fit(photos, LABELS)
    expected = choose_alpha_beta(
        model.support_.vectors,
        LABELS,
        class_embeddings=model.class_embeddings_,
        logit_scale=30.0,
        rule="scale-free",
        ratio=1.5,
    )
    assert model.choice_ == expected
    assert isinstance(model.estimator_, TipAdapterClassifier)
    assert model.estimator_.logit_scale == 30.0


# ---- bad input at the door ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "one",
    ["a.png", b"a.png", BytesIO(b"a"), Path("a.png"), Image.new("RGB", (4, 4)), np.zeros((4, 4, 3), np.uint8)],
    ids=lambda one: type(one).__name__,
)
def test_one_photo_where_there_must_be_a_list_is_refused_with_the_way_out(one: Any, photos: Any) -> None:
    model = fitted(photos)
    lists = model.predict_stream, model.explain_stream, lambda image: model.score(image, ["red"])
    for door in (*lists, lambda image: model.fit(image, ["red"]), lambda image: model.partial_fit(image, ["red"])):
        with pytest.raises(UsageError, match=r"give a list of images: \[image\]"):
            door(one)


@pytest.mark.parametrize("wrong", [None, 5, {"a.png": "red"}, {"a.png"}], ids=repr)
def test_what_is_no_list_of_photos_or_labels_is_refused(wrong: Any, photos: Any) -> None:
    with pytest.raises(UsageError, match="images takes a list of images"):
        fitted(photos).predict(wrong)
    with pytest.raises(UsageError, match="labels takes a list of texts"):
        FewShotClassifier("toy").fit(photos, wrong)


@pytest.mark.parametrize("wrong", [None, 5, {}, ["a.png"], object()], ids=["None", "5", "dict", "list", "object"])
def test_what_is_no_photo_is_named_by_its_place(wrong: Any, photos: Any) -> None:
    with pytest.raises(UsageError, match=r"images\[1\] takes a path, bytes, a file, a PIL image or a uint8 array"):
        fitted(photos).predict([photos[0], wrong])


def test_a_file_that_is_not_open_for_reading_bytes_is_refused_with_the_reason(photos: Any, tmp_path: Path) -> None:
    model, path = fitted(photos), tmp_path / "a.png"
    photos[0].save(path)
    closed = path.open("rb")
    closed.close()
    with path.open("ab") as writing, path.open(encoding="latin-1") as text:
        for file, reason in [
            (closed, "cannot be read: I/O operation on closed file"),
            (writing, "cannot be read: .*; give a file that is open for reading"),
            (text, "takes a file opened in binary mode"),
            (StringIO("a"), "takes a file opened in binary mode"),
        ]:
            for images in (file, [file]):
                with pytest.raises(UsageError, match=rf"images\[0\] {reason}"):
                    model.predict(images)


def test_files_are_read_as_far_as_the_limit_on_their_size(photos: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "MAX_BYTES", 10)
    monkeypatch.setattr(decode, "MAX_BYTES", 10)
    endless = BytesIO(bytes(1000))
    with pytest.raises(ImageTooLarge, match=r"cannot read photo 0: .* above the limit"):
        fitted(photos).predict(endless)
    assert endless.tell() == 11


# ---- one photo in, one answer out ------------------------------------------------------------------------------------


def png(photo: Image.Image) -> bytes:
    file = BytesIO()
    photo.save(file, "PNG")
    return file.getvalue()


class Unseekable(RawIOBase):
    """An open file that can be read once, such as the body of a request."""

    def __init__(self, content: bytes) -> None:
        self._file = BytesIO(content)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._file.readinto(buffer)


FORMS: dict[str, Callable[[Image.Image, Path], Any]] = {
    "text": lambda _, path: str(path),
    "path": lambda _, path: path,
    "NumPy text": lambda _, path: np.str_(path),
    "bytes": lambda photo, _: png(photo),
    "NumPy bytes": lambda photo, _: np.bytes_(png(photo)),
    "bytearray": lambda photo, _: bytearray(png(photo)),
    "memoryview": lambda photo, _: memoryview(png(photo)),
    "BytesIO": lambda photo, _: BytesIO(png(photo)),
    "stream": lambda photo, _: BufferedReader(Unseekable(png(photo))),
    "PIL image": lambda photo, _: photo,
    "array": lambda photo, _: np.asarray(photo),
}


@pytest.mark.parametrize("form", FORMS)
def test_one_photo_in_any_form_has_the_answer_it_has_in_a_list(
    form: str, photos: Any, queries: Any, tmp_path: Path
) -> None:
    model, path = fitted(photos), tmp_path / "new.png"
    queries[0].save(path)
    expected = model.predict_proba(queries[:1])

    def one() -> Any:
        return FORMS[form](queries[0], path)

    label = model.predict(one())
    assert label == "red"
    assert type(label) is str
    assert model.predict(one(), min_score=1.0) is None
    row = model.predict_proba(one())
    assert row.shape == (3,)
    np.testing.assert_array_equal(row, expected[0])
    for several in ([one(), one()], (one() for _ in range(2))):
        np.testing.assert_allclose(model.predict_proba(several), np.concatenate([expected, expected]), rtol=1e-5)
    assert model.predict([one()]).tolist() == ["red"]
    assert model.predict([one()]).dtype.kind == "U"
    assert model.explain(one())["label"] == "red"
    assert [record["label"] for record in model.predict_stream([one()])] == ["red"]


@pytest.mark.parametrize("form", ["bytes", "BytesIO", "array"])
def test_a_model_learns_from_photos_in_memory_as_from_files(form: str, photos: Any, tmp_path: Path) -> None:
    for number, photo in enumerate(photos):
        photo.save(tmp_path / f"{number}.png")
    from_files = fitted([tmp_path / f"{number}.png" for number in range(len(photos))])
    given = [FORMS[form](photo, tmp_path) for photo in photos]
    model = fitted(given[:6], LABELS[:6]).partial_fit(given[6:], LABELS[6:]).retune()
    np.testing.assert_array_equal(model.support_.vectors, from_files.support_.vectors)
    assert model.support_.ids.tolist() == [f"image {number}" for number in range(len(photos))]
    assert model.choice_ == from_files.choice_


def test_a_file_is_read_from_its_beginning_however_often(photos: Any, queries: Any) -> None:
    model, file = fitted(photos), BytesIO()
    queries[0].save(file, "PNG")  # which leaves it at its end
    assert [model.predict(file) for _ in range(3)] == ["red"] * 3
    assert model.predict([file, file, file]).tolist() == ["red"] * 3


def test_four_axes_are_several_photos_and_three_are_one(photos: Any, queries: Any) -> None:
    model, stack = fitted(photos), np.stack([np.asarray(query) for query in queries])
    assert model.predict(stack).tolist() == LABELS
    assert model.predict(stack[:1]).tolist() == ["red"]
    assert model.predict(stack[0]) == "red"
    assert model.predict(stack[0, :, :, 0]) in LABELS
    assert model.predict([]).shape == (0,)
    assert model.predict_proba([]).shape == (0, 3)


def test_one_photo_that_cannot_be_read_raises_with_its_name(photos: Any) -> None:
    model = fitted(photos)
    for photo, name in (
        ("nowhere.png", "nowhere.png"),
        (b"a cat", "photo 0"),
        (b"", "photo 0"),
        (BytesIO(), "photo 0"),
    ):
        for answer in (model.predict, model.predict_proba, model.explain):
            with pytest.raises(ImageError, match=f"cannot read {name}: "):
                answer(photo)
    with pytest.raises(ImageError, match="cannot read photo 1: the file is empty"):
        model.predict([png(photos[0]), b""])
    _, bad = model.predict_stream([png(photos[0]), b""])
    assert (bad["image"], bad["error"]) == ("image 1", "cannot read photo 1: the file is empty")


def test_labels_below_min_score_are_none_as_in_the_records_of_a_folder(
    photos: Any, queries: Any, tmp_path: Path
) -> None:
    model = fitted(photos, method="tip-adapter")
    for number, photo in enumerate([*queries, *photos]):
        photo.save(tmp_path / f"{number:02}.png")
    paths = sorted(tmp_path.glob("*.png"))
    scores = [row["score"] for row in model.predict_folder(tmp_path)]
    for least in (*scores[:4], float(np.nextafter(scores[0], 2)), 0.5, 1.0, "auto"):
        expected = [row["label"] for row in model.predict_folder(tmp_path, min_score=least)]
        labels = model.predict(paths, min_score=least)
        assert labels.tolist() == expected
        assert labels.dtype == object
        assert [model.predict(path, min_score=least) for path in paths[:3]] == expected[:3]
    assert model.predict(paths, min_score=0).tolist() == model.predict(paths).tolist()
    assert model.predict([], min_score=0.5).shape == (0,)


def test_a_text_in_place_of_labels_is_refused(photos: Any) -> None:
    with pytest.raises(UsageError, match="labels takes a list of texts, not 'red'"):
        FewShotClassifier("toy").fit(photos[:3], "red")
    with pytest.raises(UsageError, match="classes takes a list of texts"):
        FewShotClassifier("toy").fit_support(fitted(photos).support_, "abc")


def test_photos_and_labels_may_come_from_any_iterable(photos: Any, queries: Any) -> None:
    expected = fitted(photos).predict_proba(queries)
    for images, labels in [(iter(photos), iter(LABELS)), (tuple(photos), np.array(LABELS)), (deque(photos), LABELS)]:
        np.testing.assert_array_equal(FewShotClassifier("toy").fit(images, labels).predict_proba(queries), expected)
    stack = np.stack([np.asarray(query) for query in queries])
    np.testing.assert_array_equal(fitted(photos).predict_proba(stack), expected)
    np.testing.assert_array_equal(fitted(photos).predict_proba(query for query in queries), expected)


def test_paths_may_be_a_numpy_array(make_photos: MakePhotos, photos: Any) -> None:
    paths = sorted(make_photos("new", red=2).rglob("*.png"))
    assert fitted(photos).predict(np.array([str(path) for path in paths])).tolist() == ["red", "red"]


def test_a_stream_names_images_by_their_place(photos: Any) -> None:
    rows = list(fitted(photos).predict_stream(iter(photos[:2])))
    assert [(row["image"], row["label"]) for row in rows] == [("image 0", "red"), ("image 1", "green")]


@pytest.mark.parametrize("options", [{"top": 0}, {"top": 1.5}, {"top": True}, {"top": None}, {"top": "5"}], ids=str)
def test_a_top_that_is_no_whole_number_is_refused_before_the_first_record(options: Any, photos: Any) -> None:
    with pytest.raises(UsageError, match="top takes a whole number of at least 1"):
        fitted(photos).predict_stream([], **options)


@pytest.mark.parametrize("least", [-0.1, 1.1, float("nan"), float("inf"), None, "0.5", True], ids=repr)
def test_a_min_score_that_is_no_probability_is_refused(least: Any, photos: Any, tmp_path: Path) -> None:
    for door in (fitted(photos).predict_stream, fitted(photos).predict):
        with pytest.raises(UsageError, match="min_score takes a number from 0 to 1"):
            door(["no-such-photo.png"], min_score=least)


@pytest.mark.slow
@pytest.mark.parametrize("threads", ["2", 0, -1, 257, 10**9, True, 1.0, 1e9], ids=repr)
def test_threads_are_a_whole_number_up_to_256(threads: Any, photos: Any, tmp_path: Path) -> None:
    fitted(photos).save(tmp_path / "model")
    for door in (
        lambda: fitted(photos, threads=threads),
        lambda: FewShotClassifier.load(tmp_path / "model", threads=threads),
        lambda: load_encoder("toy", threads=threads),
    ):
        with pytest.raises(UsageError, match="threads takes a whole number from 1 to 256"):
            door()


@pytest.mark.parametrize(
    "options",
    [
        {"seed": None},
        {"seed": 1.5},
        {"seed": "0"},
        {"seed": True},
        {"seed": -1},
        {"alpha": "1", "beta": 1.0},
        {"alpha": 1.0, "beta": True},
        {"alpha": 1e38, "beta": 1.0},
        {"alpha": 1.0, "beta": 1_000_001},
        {"alpha": 10**400, "beta": 1.0},
        {"tune": True},
        {"tune": 5},
        {"templates": [1]},
        {"templates": "a photo of {}"},
        {"templates": ["\ud800 {}"]},
        {"templates": ["x" * 1000 + "{}"]},
        {"templates": {"{}"}},
        {"class_names": ["red"]},
        {"class_names": {1: "a"}},
        {"class_names": {"red": ""}},
        {"class_names": {"red": None}},
        {"class_names": {"red": "\ud800"}},
        {"class_names": {"red": "r" * 1001}},
        {"class_names": {"caf\u00e9": "a", "cafe\u0301": "b"}},
        {"method": None},
        {"method": ["tip-adapter"]},
        {"encoder": 5},
        {"encoder": ToyEncoder},
        {"device": 5},
    ],
    ids=lambda options: ascii(options)[:50],
)
def test_an_ill_typed_value_is_a_usage_error_naming_it_before_any_photo_is_read(
    options: dict[str, Any], tmp_path: Path
) -> None:
    model = FewShotClassifier(**{"encoder": "toy"} | options)
    with pytest.raises(UsageError, match=next(reversed(options)) if "beta" not in options else "alpha|beta") as refused:
        model.fit([tmp_path / "nothing.jpg"], ["red"])
    assert len(str(refused.value)) < 300
    with pytest.raises(UsageError):
        model.fit_folder(tmp_path / "nothing")
    assert {name: getattr(model, name) for name in options} == options


@pytest.mark.parametrize("shots", [1.5, True, "1", 0], ids=repr)
def test_shots_are_a_whole_number(shots: Any, make_photos: MakePhotos) -> None:
    with pytest.raises(UsageError, match="shots takes a whole number of at least 1"):
        FewShotClassifier("toy").fit_folder(make_photos("train", red=1), shots)


def test_numbers_of_numpy_are_numbers_and_can_be_saved(photos: Any, tmp_path: Path, make_photos: MakePhotos) -> None:
    options = {"alpha": np.float32(1.5), "beta": np.float32(2), "seed": np.int64(3), "threads": np.int32(1)}
    model = FewShotClassifier("toy", "tip-adapter-f", **options).fit_folder(
        make_photos("train", red=3, green=3), np.int64(2)
    )
    model.save(tmp_path / "model")
    loaded = FewShotClassifier.load(tmp_path / "model", threads=np.int64(1))
    assert (loaded.seed, loaded.choice_.alpha, loaded.choice_.beta) == (3, 1.5, 2.0)


@pytest.mark.parametrize("label", ["\ud800", "x" * 1001], ids=["half a character", "long"])
def test_labels_are_whole_characters_and_not_long(label: str, photos: Any) -> None:
    with pytest.raises(LabelError) as refused:
        FewShotClassifier("toy").fit(photos[:2], ["red", label])
    assert len(str(refused.value)) < 200
    with pytest.raises(LabelError):
        FewShotClassifier("toy").fit_support(fitted(photos).support_, [label])


def test_a_path_that_can_be_no_path_is_a_row_with_an_error(photos: Any) -> None:
    (row,) = fitted(photos).predict_stream(["\ud800.png"])
    assert row["image"] == "\\ud800.png"
    assert row["error"]


@pytest.mark.parametrize("wrong", [None, 5, b"x", ["x"], ""], ids=repr)
def test_a_folder_that_is_no_path_is_refused_at_every_door(wrong: Any, photos: Any) -> None:
    model = fitted(photos)
    for door in (
        model.predict_folder,
        model.evaluate_folder,
        model.save,
        FewShotClassifier("toy").fit_folder,
        FewShotClassifier.load,
    ):
        with pytest.raises(UsageError, match="folder takes a path"):
            door(wrong)


def test_what_is_no_support_set_is_refused() -> None:
    with pytest.raises(UsageError, match="support takes a SupportSet"):
        FewShotClassifier("toy").fit_support([[1.0]], ["a"])


@pytest.mark.parametrize("counts", [{"red": 1, "green": 1}, {"red": 1}])
def test_leave_one_out_without_a_second_photo_is_told_before_any_photo_is_read(
    counts: dict[str, int], make_photos: MakePhotos, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ToyEncoder, "prepare", lambda *_: pytest.fail("a photo was read"))
    with pytest.raises(UsageError, match="scale-free"):
        FewShotClassifier("toy", tune="loo").fit_folder(make_photos("train", **counts))
    with pytest.raises(UsageError, match="scale-free"):
        FewShotClassifier("toy", tune="loo").fit_folder(make_photos("more", red=3, green=3), shots=1)


# ---- copies -------------------------------------------------------------------------------------------------------


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A toy that, as an encoder with a session, cannot be copied."""

    def refuse(_: object) -> None:
        raise TypeError("cannot pickle a session")

    monkeypatch.setattr(ToyEncoder, "__getstate__", refuse, raising=False)


@pytest.mark.usefixtures("sessions")
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_fitted_model_can_be_copied_and_loads_its_encoder_again(
    copied: Callable[[Any], Any], photos: Any, queries: Any
) -> None:
    model = fitted(photos)
    np.testing.assert_array_equal(copied(model).predict_proba(queries), model.predict_proba(queries))


@pytest.mark.slow
def test_a_fitted_pocket_can_be_pickled(photos: Any, queries: Any) -> None:
    model = FewShotClassifier("pocket").fit(photos, LABELS)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(queries), model.predict_proba(queries))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["tip-adapter", "tip-adapter-f"])
@pytest.mark.parametrize("tune", ["loo", "VAL"])
def test_without_calibration_the_temperature_is_one_also_after_retune(
    make_photos: Callable[..., Path], method: str, tune: str
) -> None:
    train, val = make_photos("train", red=3, green=3), make_photos("val", 50, red=2, green=2)
    model = FewShotClassifier("toy", method, str(val) if tune == "VAL" else tune, calibrate=False).fit_folder(train)
    assert model.choice_.temperature == 1
    assert model.retune().choice_.temperature == 1
    assert model.head_.left_out is None or 0 < model.head_.left_out.threshold <= 1


def test_calibrate_takes_true_or_false() -> None:
    with pytest.raises(UsageError, match="calibrate takes true or false, not 'no'"):
        FewShotClassifier("toy", calibrate="no").fit([np.zeros((32, 32, 3), np.uint8)], ["a"])
