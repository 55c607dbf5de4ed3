"""Two encoders as one: names, vectors, and a model of them."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sklearn.base import clone

from image_only import FILES
from tip_adapter import FewShotClassifier, load_encoder
from tip_adapter.encoders.joined import JoinedEncoder, split_name
from tip_adapter.errors import TipAdapterWarning, UnknownName, UsageError
from tip_adapter.features.encode import encode_photos
from tip_adapter.testing import check_encoder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def images_only(clip_folder: Callable[..., Path]) -> str:
    return f"onnx:{clip_folder(files=FILES)}"


# ---- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("clip", [(None, "clip")]),
        ("clip+dinov2", [(None, "clip"), (None, "dinov2")]),
        ("0.3*clip+0.7*onnx:/a/b", [(0.3, "clip"), (0.7, "onnx:/a/b")]),
        ("onnx:/a+b/c++", [(None, "onnx:/a+b/c++")]),
        ("onnx:/a+b+clip", [(None, "onnx:/a+b"), (None, "clip")]),
        ("2*onnx:/a+2*b+1*clip", [(2.0, "onnx:/a+2*b"), (1.0, "clip")]),
        ("clip+dinov3", [(None, "clip"), (None, "dinov3")]),
    ],
)
def test_a_plus_sign_joins_names_and_stays_in_paths(name: str, parts: list[Any]) -> None:
    assert split_name(name, {"clip", "dinov2", "onnx"}.__contains__) == parts


def test_a_folder_that_exists_may_be_called_like_two_encoders(clip_folder: Callable[..., Path], tmp_path: Path) -> None:
    place = clip_folder().rename(tmp_path / "clip+toy")
    assert load_encoder(f"onnx:{place}").identity.name == f"onnx:{place}"


def test_what_joins_no_two_encoders_is_refused(images_only: str) -> None:
    with pytest.raises(UnknownName, match="unknown encoder 'toi': did you mean toy"):
        load_encoder("toy+toi")
    with pytest.raises(UsageError, match="takes one encoder, or two together"):
        load_encoder("toy+toy+toy")
    with pytest.raises(UsageError, match="a weight above 0 for both of two encoders, or for neither"):
        load_encoder(f"0.5*toy+{images_only}")
    with pytest.raises(UsageError, match="a list of two"):
        FewShotClassifier(["toy"]).fit([np.zeros((8, 8, 3), np.uint8)], ["a"])


# ---- vectors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("joined", ["toy+{}", "{}+toy", "0.2*toy+0.8*{}", "3*{}+1*toy", "{0}+{0}", "toy+toy"])
def test_the_kernel_is_the_weighted_sum_and_text_logits_are_the_mean(
    joined: str, images_only: str, paint: Callable[..., Any]
) -> None:
    encoder = load_encoder(joined.format(images_only))
    assert isinstance(encoder, JoinedEncoder)
    check_encoder(encoder)
    assert load_encoder(encoder.identity.name).identity == encoder.identity
    photos = [paint(label) for label in ("red", "green", "blue", "yellow")]
    shares = np.array(encoder.weights or (1, 1)) / sum(encoder.weights or (1, 1))
    rows = [part.encode_images(photos) for part in encoder.parts]
    vectors = encoder.encode_images(photos)
    kernel = sum(share * part @ part.T for share, part in zip(shares, rows, strict=True))
    np.testing.assert_allclose(vectors @ vectors.T, kernel, atol=1e-5)
    for split, part in zip(encoder.split(vectors), rows, strict=True):
        np.testing.assert_allclose(split, part, atol=1e-6)
    if "toy" not in joined:
        assert not encoder.record.reads_names
        return
    texts = ["a red cat", "blue"]
    reading = [(share, p, r) for share, p, r in zip(shares, encoder.parts, rows, strict=True) if p.record.reads_names]
    logits = sum(share * p.logit_scale * r @ p.encode_texts(texts).T for share, p, r in reading) / sum(
        share for share, _, _ in reading
    )
    np.testing.assert_allclose(encoder.logit_scale * vectors @ encoder.encode_texts(texts).T, logits, atol=1e-4)


def test_weights_are_part_of_the_identity(images_only: str) -> None:
    names = [f"toy+{images_only}", f"{images_only}+toy", f"1*toy+2*{images_only}"]
    assert len({load_encoder(name).identity.fingerprint for name in names}) == 3
    assert load_encoder(f"1*toy+1*{images_only}").identity.fingerprint == load_encoder(names[0]).identity.fingerprint


def test_photos_are_streamed_and_augmented_through_both(images_only: str, paint: Callable[..., Any]) -> None:
    encoder = load_encoder(["toy", images_only])
    photos = [np.asarray(paint("red", number)) for number in range(40)]
    np.testing.assert_allclose(encode_photos(photos, encoder).vectors, encoder.encode_images(photos), atol=1e-6)


# ---- a model ---------------------------------------------------------------------------------------------------------


def test_a_model_of_two_is_saved_with_its_weights(
    images_only: str, make_photos: Callable[..., Path], tmp_path: Path
) -> None:
    train, test = make_photos("train", red=3, green=3, blue=3), make_photos("test", 50, red=3, green=3, blue=3)
    model = FewShotClassifier(["toy", images_only]).fit_folder(train)
    assert model.encoder_.weights is not None
    assert sum(model.encoder_.weights) == pytest.approx(1)
    photos = sorted(test.glob("*/*.png"))
    assert model.evaluate_folder(test)["accuracy"] == 1.0
    np.testing.assert_allclose(
        model.encoder_.encode_images([np.asarray(opened(train / "red" / "0.png"))])[0],
        model.support_.vectors[model.support_.ids == "red/0.png"][0],
        atol=1e-5,
    )
    model.save(tmp_path / "model")
    for again in (FewShotClassifier.load(tmp_path / "model"), pickle.loads(pickle.dumps(model))):
        assert again.encoder_.identity == model.encoder_.identity
        assert np.array_equal(again.predict_proba(photos), model.predict_proba(photos))
    assert clone(model).encoder_.weights is None


def test_a_fit_chooses_weights_anew_and_stated_ones_stay(images_only: str, make_photos: Callable[..., Path]) -> None:
    train = make_photos("train", red=3, green=3)
    model = FewShotClassifier(f"toy+{images_only}").fit_folder(train)
    first, vectors = model.encoder_.identity, model.support_.vectors
    model.fit_folder(train)
    assert model.encoder_.identity == first
    np.testing.assert_allclose(model.support_.vectors, vectors, atol=1e-6)
    stated = FewShotClassifier(f"1*toy+4*{images_only}").fit_folder(train)
    assert stated.encoder_.weights == (1.0, 4.0)


def test_one_photo_a_class_leaves_the_weights_equal(images_only: str, make_photos: Callable[..., Path]) -> None:
    model = FewShotClassifier(f"toy+{images_only}").fit_folder(make_photos("train", red=1, green=1))
    assert model.encoder_.weights is None


def test_photos_added_later_have_the_weights_of_the_model(
    images_only: str, make_photos: Callable[..., Path], paint: Callable[..., Any]
) -> None:
    model = FewShotClassifier(f"toy+{images_only}").fit_folder(make_photos("train", red=3, green=3))
    model.partial_fit([paint("yellow", number) for number in range(3)], ["yellow"] * 3)
    assert model.predict(paint("yellow", 9)) == "yellow"
    np.testing.assert_allclose(
        model.support_.vectors[-1], model.encoder_.encode_images([paint("yellow", 2)])[0], atol=1e-6
    )


def test_two_without_names_know_classes_by_photos_alone(images_only: str, make_photos: Callable[..., Path]) -> None:
    train = make_photos("train", red=3, green=3)
    (train / "owl").mkdir()
    with pytest.raises(UsageError, match="no photo to be known by: owl"):
        FewShotClassifier(f"{images_only}+{images_only}").fit_folder(train)
    with pytest.warns(TipAdapterWarning, match="only their names are used: owl"):
        model = FewShotClassifier(f"toy+{images_only}").fit_folder(train)
    assert model.classes_.tolist() == ["green", "owl", "red"]


def opened(path: Path) -> Any:
    from PIL import Image

    return Image.open(path).convert("RGB")
