"""FewShotClassifier as a scikit-learn estimator."""

from __future__ import annotations

import copy
import io
import pickle
from enum import Enum

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from PIL import Image
from sklearn.base import clone, is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.utils.validation import check_is_fitted

from tip_adapter import FewShotClassifier, SupportSet
from tip_adapter.encoders.toy import ToyEncoder
from tip_adapter.errors import ImageError, LabelError, TipAdapterWarning, UsageError

COLOURS = {"blue": (0, 0, 200), "red": (200, 0, 0)}


def photos(n=4):
    """n photos of each colour, and their labels."""
    images = [np.full((16, 16, 3), rgb, np.uint8) + np.uint8(i) for rgb in COLOURS.values() for i in range(n)]
    return images, np.repeat(list(COLOURS), n).tolist()


def fitted(**settings):
    return FewShotClassifier("toy", **settings).fit(*photos())


def test_fault_81_get_params_has_every_constructor_value():
    model = FewShotClassifier("toy", alpha=2.0, beta=3.0, class_names={"red": "deep red"})
    params = model.get_params()
    assert params["alpha"] == 2.0
    assert params["class_names"] == {"red": "deep red"}
    assert FewShotClassifier(**params).get_params() == params
    assert is_classifier(model)


def test_fault_81_set_params_sets_what_the_next_fit_uses():
    model = fitted()
    assert model.set_params(alpha=2.0, beta=3.0) is model
    choice = model.fit(*photos()).choice_
    assert (choice.alpha, choice.beta) == (2.0, 3.0)
    assert model.set_params().get_params()["alpha"] == 2.0


def test_fault_81_set_params_refuses_an_unknown_name_and_sets_nothing():
    model = FewShotClassifier("toy")
    with pytest.raises(ValueError, match=r"no parameter 'alhpa'; it has alpha, beta"):
        model.set_params(seed=5, alhpa=1.0)
    assert model.seed == 0


def test_fault_81_another_encoder_forgets_what_was_learned():
    model = fitted()
    other = ToyEncoder()
    model.set_params(encoder=other)
    with pytest.raises(NotFittedError):
        model.predict(photos()[0])
    assert model.fit(*photos()).encoder_ is other
    model.set_params(encoder=other)
    assert model.score(*photos()) == 1


def test_fault_81_another_device_or_number_of_threads_loads_the_encoder_anew_and_keeps_what_was_learned():
    model = fitted()
    before = model.encoder_
    model.set_params(threads=1)
    assert model.encoder_ is not before
    assert model.score(*photos()) == 1


@pytest.mark.parametrize("encoder", ["toy", ToyEncoder()], ids=["name", "loaded"])
def test_fault_81_clone_has_the_same_values_and_has_learned_nothing(encoder):
    model = FewShotClassifier(encoder, class_names={"red": "deep red"}).fit(*photos())
    twin = clone(model)
    assert twin.get_params() == model.get_params()
    assert twin.encoder is encoder
    assert twin.class_names is not model.class_names
    check_is_fitted(model)
    with pytest.raises(NotFittedError):
        check_is_fitted(twin)
    np.testing.assert_array_equal(twin.fit(*photos()).predict_proba(photos()[0]), model.predict_proba(photos()[0]))


def test_fault_81_a_loaded_encoder_alone_is_no_fit():
    model = FewShotClassifier("toy")
    assert model.encoder_
    with pytest.raises(NotFittedError):
        check_is_fitted(model)


def test_fault_81_score_is_the_accuracy_on_photos():
    model, (images, labels) = fitted(), photos()
    assert model.score(images, labels) == 1
    assert model.score(images, [labels[-1], *labels[1:]]) == 7 / 8
    assert model.score(iter(images), np.array(labels)) == 1
    assert model.score(images, [labels[-1], *labels[1:]], sample_weight=[3, *[1] * 7]) == 7 / 10
    with pytest.raises(ValueError, match="weights"):
        model.score(images, labels, sample_weight=[1])
    with pytest.raises(ZeroDivisionError, match="sum to zero"):
        model.score(images, labels, sample_weight=[0] * 8)
    with pytest.raises(LabelError, match="8 images but 7 labels"):
        model.score(images, labels[1:])
    with pytest.raises(UsageError, match="at least one photo"):
        model.score([], [])


def test_fault_79_labels_in_a_table_are_named_as_such():
    images, labels = photos()
    with pytest.raises(
        LabelError, match=r"labels takes a list of texts, not a table of shape \(8, 1\); give its column"
    ):
        FewShotClassifier("toy").fit(images, pd.DataFrame({"label": labels}))


def test_a_closed_pillow_image_says_so(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "1.png")
    with Image.open(tmp_path / "1.png") as closed:
        pass
    with pytest.raises(ImageError, match="its file is closed; call load\\(\\) before, or give the path"):
        fitted().predict(closed)


def test_fault_78_score_refuses_labels_that_look_like_classes_and_warns_of_unknown_ones():
    model, (images, labels) = fitted(), photos()
    with pytest.raises(LabelError, match="differ only by case; rename or merge them"):
        model.score(images, [label.upper() for label in labels])
    with pytest.warns(TipAdapterWarning, match="labels unknown to the model, counted as wrong: zebra$"):
        assert model.score(images, ["zebra", *labels[1:]]) == 7 / 8


def test_fault_81_repr_is_short_and_says_what_was_given_and_learned():
    assert repr(FewShotClassifier()) == "<FewShotClassifier(), not fitted>"
    assert repr(fitted(seed=3)) == "<FewShotClassifier(encoder='toy', seed=3), 2 classes, 8 photos>"
    many = {f"label {i}": f"name {i}" for i in range(1000)}
    assert len(repr(FewShotClassifier(ToyEncoder(), class_names=many))) < 300


def test_fault_81_scikit_learns_searches_take_photos():
    images, labels = photos()
    model = FewShotClassifier("toy", alpha=1.0, beta=5.5)
    assert cross_val_score(model, images, labels, cv=2).tolist() == [1, 1]
    search = GridSearchCV(model, {"alpha": [0.5, 2.0]}, cv=2).fit(images, labels)
    assert search.best_params_["alpha"] == 0.5
    assert search.predict(images).tolist() == labels


def test_scikit_learn_calibrates_it():
    images, labels = photos()
    calibrated = CalibratedClassifierCV(FewShotClassifier("toy"), cv=2).fit(images, labels)
    assert calibrated.predict(images).tolist() == labels


def test_scikit_learns_searches_take_the_content_of_files():
    images, labels = photos()
    contents = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        contents.append(file.getvalue())
    assert cross_val_score(FewShotClassifier("toy"), contents, labels, cv=2).tolist() == [1, 1]


def test_fault_81_copies_and_pickles_keep_what_was_learned():
    model, (images, labels) = fitted(), photos()
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert twin.score(images, labels) == 1
        assert repr(twin) == repr(model)


@pytest.mark.parametrize("method", ["predict", "predict_proba", "fit", "predict_stream"])
@pytest.mark.parametrize("table", [np.array([["a.png"], ["b.png"]]), pd.DataFrame({"file": ["a.png", "b.png"]})])
def test_a_table_of_paths_is_refused_with_the_way_out(method, table):
    arguments = (table, ["red", "blue"]) if method == "fit" else (table,)
    with pytest.raises(UsageError, match=r"a table of shape \(2, 1\); give its column of paths"):
        getattr(fitted(), method)(*arguments)


def test_an_empty_path_is_an_unreadable_photo():
    model = fitted()
    with pytest.raises(ImageError, match="cannot read '': the path is empty"):
        model.predict("")
    assert next(model.predict_stream([""]))["error"] == "cannot read '': the path is empty"


def test_fault_81_tools_that_number_the_labels_are_refused_with_the_reason():
    vote = VotingClassifier([("one", FewShotClassifier("toy"))])
    with pytest.raises(LabelError, match=r"label np\.int64\(\d\) is not text.*that number the labels"):
        vote.fit(*photos())


def test_fault_82_epochs_as_a_numpy_integer_are_saved(tmp_path):
    images, labels = photos()
    settings = {"encoder": "toy", "method": "tip-adapter-f"}
    model = FewShotClassifier(**settings, epochs=np.uint8(3)).fit(images, labels)
    model.save(tmp_path / "model")
    expected = FewShotClassifier(**settings, epochs=3).fit(images, labels).predict_proba(images)
    np.testing.assert_array_equal(FewShotClassifier.load(tmp_path / "model").predict_proba(images), expected)


@pytest.mark.parametrize("digest", ["x", "F" * 64, "0" * 63])
def test_fault_85_a_digest_that_is_no_sha256_is_refused_before_anything_is_learned(digest):
    model = fitted()
    support = SupportSet(model.support_.vectors[:1], ["red"], ["new.jpg"], [digest])
    for learn in (model.add_support, model.fit_support, model.evaluate_support):
        with pytest.raises(UsageError, match="takes digests that are a SHA-256 in hexadecimal, or empty, not"):
            learn(support)
    assert len(model.support_) == 8


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_support_vectors_of_any_length_and_precision_are_saved_as_they_are_used(dtype, tmp_path):
    model = fitted()
    rows = (3 * model.support_.vectors[:2]).astype(dtype)
    model.add_support(SupportSet(rows, ["red", "blue"], ["one", "other"])).save(tmp_path / "model")
    assert model.support_.vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(model.support_.vectors, axis=1), 1, rtol=1e-5)
    loaded = FewShotClassifier.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict_proba(photos()[0]), model.predict_proba(photos()[0]))


def test_fault_80_labels_of_pyarrow_are_texts():
    images, labels = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")], ["red", "blue"]
    assert FewShotClassifier("toy").fit(images, pa.array(labels)).classes_.tolist() == ["blue", "red"]
    with pytest.raises(LabelError, match="label None is missing"):
        FewShotClassifier("toy").fit(images, pa.array(["red", None]))


class Animal(Enum):
    CAT = 1


@pytest.mark.parametrize(
    ("label", "way_out"),
    [
        (torch.tensor(0), r"pass str\(label\.item\(\)\)"),
        (b"cat", r"pass label\.decode\(\)"),
        (Animal.CAT, "pass label.name"),
        (["cat"], "give one label for each image"),
        (None, "give it the name of its class"),
    ],
)
def test_fault_80_a_label_of_another_kind_is_refused_with_the_way_out(label, way_out):
    with pytest.raises(LabelError, match=f"is missing or is not text; leave the image out, or {way_out}; labels"):
        FewShotClassifier("toy").fit([photos()[0][0]], [label])
