"""`tip-adapter export`: a model folder becomes an ONNX file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import pytest

from tip_adapter import FewShotClassifier

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Ran


def test_a_model_is_exported_from_vectors_and_says_so(run: Callable[..., Ran], model: Path, tmp_path: Path) -> None:
    ran = run("export", model, "--onnx", tmp_path / "m.onnx")
    assert (ran.status, ran.err) == (0, "")
    assert "Vectors to probabilities of 3 classes" in ran.out
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == ["blue", "green", "red"]
    head = FewShotClassifier.load(model).head_
    (found,) = session.run(None, {"vectors": head.support.vectors})
    np.testing.assert_allclose(found, head.probabilities(head.support.vectors), rtol=0, atol=1e-5)


def test_pixels_are_refused_where_the_encoder_has_no_graph(
    run: Callable[..., Ran], model: Path, tmp_path: Path
) -> None:
    ran = run("export", model, "--onnx", tmp_path / "m.onnx", "--input", "pixels")
    assert (ran.status, ran.out) == (1, "")
    assert "encoder toy has no ONNX graph" in ran.err
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_replaced_with_force_only(run: Callable[..., Ran], model: Path, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"precious")
    ran = run("export", model, "--onnx", tmp_path / "m.onnx")
    assert (ran.status, "--force" in ran.err) == (1, True)
    assert (tmp_path / "m.onnx").read_bytes() == b"precious"
    assert run("export", model, "--onnx", tmp_path / "m.onnx", "--force").status == 0


@pytest.mark.parametrize("wrong", [["--input", "text"], []])
def test_wrong_usage_is_told(run: Callable[..., Ran], model: Path, tmp_path: Path, wrong: list[str]) -> None:
    ran = run("export", model, *wrong, *(["--onnx", tmp_path / "m.onnx"] if wrong else []))
    assert ran.status == 2
    assert "vectors" in ran.err or "--onnx" in ran.err


def test_what_is_no_model_is_told(run: Callable[..., Ran], tmp_path: Path) -> None:
    ran = run("export", tmp_path, "--onnx", tmp_path / "m.onnx")
    assert (ran.status, "not a model folder" in ran.err) == (1, True)
