"""Every command on a model of an encoder that reads no names."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from image_only import FILES
from tip_adapter import load_encoder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Ran


@pytest.fixture
def encoder(clip_folder: Callable[..., Path]) -> str:
    return f"onnx:{clip_folder(files=FILES)}"


@pytest.fixture
def model(encoder: str, run: Callable[..., Ran], make_photos: Callable[..., Path], tmp_path: Path) -> Path:
    ran = run("fit", make_photos("train", red=3, green=3), "--encoder", encoder, "--out", tmp_path / "model")
    assert ran.status == 0, ran.err
    return tmp_path / "model"


def test_info_and_show_say_that_it_reads_no_names(run: Callable[..., Ran], model: Path, tmp_path: Path) -> None:
    assert "which reads no names" in run("info", model).out
    assert run("show", model, "--out", tmp_path / "shown").status == 0
    page = (tmp_path / "shown" / "index.html").read_text()
    assert "class names only" not in page
    assert "templates" not in page
    assert "none: the encoder reads no names" in (model / "README.md").read_text()


def test_an_evaluation_has_no_zero_shot_accuracy(
    run: Callable[..., Ran], model: Path, make_photos: Callable[..., Path], tmp_path: Path
) -> None:
    test = make_photos("test", 50, red=2, green=2)
    (test / "red" / "52.png").write_bytes((test / "green" / "50.png").read_bytes())  # a mistake, for the page
    ran = run("evaluate", model, test, "--report", tmp_path / "report")
    assert ran.status == 0, ran.err
    assert "Zero-shot (class names only): none, the encoder reads no names." in ran.out
    page = (tmp_path / "report" / "index.html").read_text()
    assert "class names only" not in page
    assert "<span>class name" not in page


def test_an_explanation_is_of_photos_alone(
    run: Callable[..., Ran], model: Path, make_photos: Callable[..., Path]
) -> None:
    ran = run("predict", model, make_photos("test", 50, red=1) / "red" / "50.png", "--explain")
    assert "because" in ran.out
    assert "red/2.png" in ran.out
    assert "class name" not in ran.out


def test_it_is_exported_with_its_image_side(
    run: Callable[..., Ran], model: Path, encoder: str, make_photos: Callable[..., Path], tmp_path: Path
) -> None:
    photos = sorted(make_photos("test", 50, red=2, green=2).glob("*/*.png"))
    assert run("export", model, "--onnx", tmp_path / "m.onnx", "--input", "pixels").status == 0
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    pixels = np.stack([load_encoder(encoder).prepare(Image.open(photo)) for photo in photos])
    (found,) = session.run(None, {"pixels": pixels})
    assert found.argmax(axis=1).tolist() == [0, 0, 1, 1]


def test_a_features_folder_of_it_serves_as_photos(
    run: Callable[..., Ran], encoder: str, make_photos: Callable[..., Path], tmp_path: Path
) -> None:
    train = make_photos("train", red=3, green=3)
    assert run("extract", train, "--encoder", encoder, "--out", tmp_path / "features").status == 0
    ran = run("fit", tmp_path / "features", "--encoder", encoder, "--out", tmp_path / "by-features")
    assert ran.status == 0, ran.err
    assert run("check", tmp_path / "by-features").status == 0


def test_two_encoders_at_once_are_named_with_their_weights(
    run: Callable[..., Ran], encoder: str, make_photos: Callable[..., Path], tmp_path: Path
) -> None:
    train, pair = make_photos("train", red=3, green=3), f"toy+{encoder}"
    ran = run("fit", train, "--encoder", pair, "--out", tmp_path / "model")
    assert ran.status == 0, ran.err
    (line,) = [line for line in ran.out.splitlines() if line.startswith("Encoders with their weights: ")]
    name = line.partition(": ")[2].rstrip(".")
    assert re.fullmatch(r"0\.\d\*toy\+0\.\d\*onnx:.*clip", name)
    assert f"Encoder {name} " in run("info", tmp_path / "model").out
    assert "red" in run("predict", tmp_path / "model", train / "red" / "0.png").out
    assert run("extract", train, "--encoder", name, "--out", tmp_path / "features").status == 0
    evaluated = run("evaluate", tmp_path / "model", tmp_path / "features")
    assert (evaluated.status, "Accuracy: 100.0" in evaluated.out) == (0, True)


def test_a_class_without_photos_is_refused(
    run: Callable[..., Ran], encoder: str, make_photos: Callable[..., Path], tmp_path: Path
) -> None:
    train = make_photos("train", red=3, green=3)
    (train / "owl").mkdir()
    ran = run("fit", train, "--encoder", encoder, "--out", tmp_path / "model")
    assert ran.status == 2
    assert ran.err.startswith("error: the encoder reads no names, and 1 class has no photo to be known by: owl;")
    assert not (tmp_path / "model").exists()


def test_fit_in_half_precision_names_it_and_refuses_what_has_none(
    run: Callable[..., Ran], clip_folder: Callable[..., Path], make_photos: Callable[..., Path], tmp_path: Path
) -> None:
    # A stand-in: which file is read is what matters here.
    encoder = f"onnx:{clip_folder(files={**FILES, 'onnx/model_fp16.onnx': FILES['onnx/model.onnx']})}"
    train = make_photos("train", red=3, green=3)
    ran = run("fit", train, "--encoder", encoder, "--precision", "half", "--out", tmp_path / "model")
    assert ran.status == 0, ran.err
    assert json.loads(run("info", tmp_path / "model", "--json").out)["encoder"]["name"] == f"{encoder}@half"
    assert run("predict", tmp_path / "model", train / "red" / "0.png").status == 0
    refused = run("fit", train, "--precision", "half", "--out", tmp_path / "other")
    assert (refused.status, "encoder pocket is not offered in half precision; these are: clip," in refused.err) == (
        2,
        True,
    )
