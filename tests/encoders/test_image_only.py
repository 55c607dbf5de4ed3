"""Encoders without a text tower, such as DINOv2: from the files of a folder to a model that answers by photos alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from tip_adapter import FewShotClassifier, TipAdapterClassifier
from tip_adapter.encoders import load_encoder
from tip_adapter.errors import CheckpointError, TipAdapterWarning, UsageError
from tip_adapter.model.saving import read_model_folder, write_model_folder
from tip_adapter.testing import check_encoder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

from image_only import FILES, MIXED, POOLED, PREPROCESSING, TOKENS, WIDTH, transformer


@pytest.fixture
def folder(clip_folder: Callable[..., Path]) -> Path:
    return clip_folder(files=FILES)


@pytest.fixture
def model(folder: Path, make_photos: Callable[..., Path]) -> FewShotClassifier:
    return FewShotClassifier(f"onnx:{folder}", "tip-adapter").fit_folder(make_photos("train", red=3, green=3, blue=3))


# ---- files to vectors ------------------------------------------------------------------------------------------------


def test_the_vector_is_the_class_token_normalised(folder: Path, paint: Callable[..., Any]) -> None:
    encoder = load_encoder(f"onnx:{folder}")
    check_encoder(encoder)
    assert not encoder.record.reads_names
    assert encoder.identity.width == WIDTH
    pixels = np.asarray(paint("red").resize((10, 12), 3).crop((1, 2, 9, 10)), np.float64) / 255
    colour = ((pixels - PREPROCESSING["image_mean"]) / PREPROCESSING["image_std"]).mean(axis=(0, 1)) @ MIXED
    np.testing.assert_allclose(encoder.encode_images([paint("red")], normalize=False)[0], colour, atol=1e-4)
    np.testing.assert_allclose(encoder.encode_images([paint("red")])[0], colour / np.linalg.norm(colour), atol=1e-5)


def test_an_output_of_vectors_is_preferred_to_one_of_tokens(
    folder: Path, clip_folder: Callable[..., Path], paint: Callable[..., Any]
) -> None:
    by_token = load_encoder(f"onnx:{folder}").encode_images([paint("red")])
    both = clip_folder({"onnx/model.onnx": transformer([TOKENS, POOLED])}, FILES)
    encoder = load_encoder(f"onnx:{both}")
    assert encoder._image.output.name == "pooler_output"
    np.testing.assert_allclose(encoder.encode_images([paint("red")]), by_token, atol=1e-6)


def test_an_encoder_of_images_refuses_texts(folder: Path) -> None:
    with pytest.raises(UsageError, match="encodes photos only: it has no text tower"):
        load_encoder(f"onnx:{folder}").encode_texts(["cat"])


def test_the_text_side_of_a_layout_may_be_missing_but_not_in_part(
    clip_folder: Callable[..., Path], tiny_files: dict[str, bytes], paint: Callable[..., Any]
) -> None:
    whole = load_encoder(f"onnx:{clip_folder()}")
    no_tower = clip_folder()
    (no_tower / "textual" / "model.onnx").unlink()
    with pytest.raises(CheckpointError, match=r"the layout of open_clip lacks textual/model\.onnx"):
        load_encoder(f"onnx:{no_tower}")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (no_tower / "textual" / name).unlink()
    encoder = load_encoder(f"onnx:{no_tower}")
    assert not encoder.record.reads_names
    assert encoder.identity.fingerprint != whole.identity.fingerprint
    assert np.array_equal(encoder.encode_images([paint("red")]), whole.encode_images([paint("red")]))


@pytest.mark.parametrize("name", FILES)
def test_a_folder_without_one_of_its_files_says_which(name: str, clip_folder: Callable[..., Path]) -> None:
    with pytest.raises(CheckpointError, match=f"lacks .*{name}"):
        load_encoder(f"onnx:{clip_folder({name: None}, FILES)}")


def test_an_output_of_another_shape_is_refused_with_what_was_found(clip_folder: Callable[..., Path]) -> None:
    grid = helper.make_tensor_value_info("patches", TensorProto.FLOAT, ["n", 3, 2, 2])
    with pytest.raises(CheckpointError, match=r"none of its outputs has two dimensions \(patches of 4\)"):
        load_encoder(f"onnx:{clip_folder({'onnx/model.onnx': transformer([grid])}, FILES)}")


# ---- photos to a model -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["text-offset", "tip-adapter", "tip-adapter-f", "linear-probe", "clip-adapter"])
def test_a_model_answers_by_photos_alone_and_is_the_same_after_saving(
    method: str, folder: Path, make_photos: Callable[..., Path], tmp_path: Path
) -> None:
    train, test = make_photos("train", red=3, green=3, blue=3), make_photos("test", 50, red=4, green=4, blue=4)
    epochs = {"epochs": 3} if method in ("tip-adapter-f", "clip-adapter") else {}
    model = FewShotClassifier(f"onnx:{folder}", method, **epochs).fit_folder(train)
    record = model.evaluate_folder(test)
    assert (record["accuracy"], record["zero_shot_accuracy"]) == (1.0, None)
    assert model.class_embeddings_ is None
    model.save(tmp_path / "model")
    again = FewShotClassifier.load(tmp_path / "model")
    photos = sorted(test.glob("*/*.png"))
    assert np.array_equal(again.predict_proba(photos), model.predict_proba(photos))
    config, arrays = read_model_folder(tmp_path / "model")
    assert config["format"] == 3
    assert "class_embeddings" not in arrays


def test_it_is_the_cache_of_the_photos_vectors(model: FewShotClassifier, paint: Callable[..., Any]) -> None:
    support, choice = model.support_, model.choice_
    assert choice is not None
    clf = TipAdapterClassifier(alpha=choice.alpha, beta=choice.beta).fit(support.vectors, support.labels)
    queries = model.encoder_.encode_images([paint(label, 70) for label in ("red", "green", "blue", "yellow")])
    np.testing.assert_allclose(model.estimator_.logits(queries), clf.logits(queries), rtol=1e-6)


def test_photos_and_classes_come_and_go_as_if_fitted_so(
    model: FewShotClassifier, folder: Path, paint: Callable[..., Any]
) -> None:
    fixed = {"alpha": 1.0, "beta": 5.5}
    photos = {label: [paint(label, number) for number in range(3)] for label in ("red", "green", "yellow")}
    model.set_params(**fixed).retune()
    model.partial_fit(photos["yellow"], ["yellow"] * 3).remove_class("blue")
    fresh = FewShotClassifier(f"onnx:{folder}", **fixed)
    fresh.fit([photo for each in photos.values() for photo in each], [label for label in photos for _ in range(3)])
    queries = [paint(label, 80) for label in photos]
    assert model.classes_.tolist() == ["green", "red", "yellow"]
    np.testing.assert_allclose(model.predict_proba(queries), fresh.predict_proba(queries), rtol=1e-5)


def test_the_last_photo_of_a_class_stays_until_the_class_goes(model: FewShotClassifier) -> None:
    last = model.support_.ids[model.support_.labels == "red"].tolist()
    with pytest.raises(UsageError, match="the last photo of 'red' cannot leave it: the encoder reads no names"):
        model.remove(last)
    model.remove(last[:-1])
    with pytest.raises(UsageError, match="remove the class instead"):
        model.relabel(last[-1], "green")
    assert model.remove_class("red").classes_.tolist() == ["blue", "green"]


@pytest.mark.parametrize("method", ["zero-shot", "coop"])
def test_a_method_of_names_says_that_the_encoder_reads_none(
    method: str, folder: Path, make_photos: Callable[..., Path]
) -> None:
    with pytest.raises(UsageError, match=f"{method} .*reads no names"):
        FewShotClassifier(f"onnx:{folder}", method).fit_folder(make_photos("train", red=2, green=2))


def test_a_class_without_photos_is_an_error_that_names_it(folder: Path, make_photos: Callable[..., Path]) -> None:
    train = make_photos("train", red=2, green=2)
    (train / "owl").mkdir()
    with pytest.raises(UsageError, match="1 class has no photo to be known by: owl; give each a photo"):
        FewShotClassifier(f"onnx:{folder}").fit_folder(train)
    (train / "owl" / "broken.jpg").write_bytes(b"no photo")
    with pytest.warns(TipAdapterWarning), pytest.raises(UsageError, match="no photo to be known by: owl"):
        FewShotClassifier(f"onnx:{folder}").fit_folder(train)


def test_names_and_templates_that_are_not_read_are_warned_of(folder: Path, make_photos: Callable[..., Path]) -> None:
    model = FewShotClassifier(f"onnx:{folder}", templates=["a {}"], class_names={"red": "赤"})
    with pytest.warns(
        TipAdapterWarning, match="reads no names: templates are not used, and class names are only shown"
    ):
        model.fit_folder(make_photos("train", red=2, green=2))
    assert model.names_["red"] == "赤"
    assert model.head_.templates == ()


def test_an_explanation_has_no_class_name(model: FewShotClassifier, paint: Callable[..., Any]) -> None:
    for evidence in model.explain(paint("red", 60))["explanation"]:
        assert (evidence["name"], evidence["text"]) == (None, 0.0)
        assert evidence["logit"] == pytest.approx(sum(image["part"] for image in evidence["images"]))


def test_a_folder_of_a_model_without_names_and_a_class_without_photos_is_damaged(
    model: FewShotClassifier, tmp_path: Path
) -> None:
    model.save(tmp_path / "model")
    config, arrays = read_model_folder(tmp_path / "model")
    stated = {name: value for name, value in config.items() if name not in ("format", "files")}
    stated["classes"] = [*stated["classes"], {"label": "zebra", "name": "zebra", "n_images": 0}]
    with pytest.raises(Exception, match="class_embeddings are missing, and so are photos of a class"):
        write_model_folder(tmp_path / "other", stated, arrays)
