"""A model on a CLIP stored as ONNX files leaves as one file from pixels to probabilities."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxconverter_common.float16 import convert_float_to_float16

from tip_adapter import FewShotClassifier
from tip_adapter.encoders import load_encoder
from tip_adapter.encoders.onnx import encoder as onnx_encoder
from tip_adapter.errors import CheckpointError, ExportError
from tip_adapter.model.onnx_export import export_pixels
from tip_adapter.testing import check_encoder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

IMAGE = "visual/model.onnx"
LABELS = ["red", "green", "blue"] * 2


@pytest.fixture
def image_graph(tiny_files: dict[str, bytes]) -> onnx.ModelProto:
    return onnx.ModelProto.FromString(tiny_files[IMAGE])


def exported(folder: Path, paint: Callable[..., Any], path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of three photos by the file, and by Python."""
    photos = [paint(label, n) for n, label in enumerate(LABELS)]
    model = FewShotClassifier(f"onnx:{folder}", logit_scale=20).fit(photos, LABELS)
    assert export_pixels(model.head_, model.encoder_, path) < 1e-5
    session = onnxruntime.InferenceSession(path)
    pixels = [model.encoder_.prepare(photo)[None] for photo in photos[:3]]
    taken = pixels if session.get_inputs()[0].shape[0] == 1 else [np.concatenate(pixels)]
    found = [session.run(["probabilities"], {"pixels": some})[0] for some in taken]
    return np.concatenate(found), model.predict_proba(photos[:3])


def test_the_file_answers_photos_as_python_does(
    clip_folder: Callable[..., Path], paint: Callable[..., Any], tmp_path: Path
) -> None:
    found, wanted = exported(clip_folder(), paint, tmp_path / "photos.onnx")
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)
    facts = {entry.key: entry.value for entry in onnx.load(tmp_path / "photos.onnx").metadata_props}
    assert facts["preprocessing"].startswith("pixels are (n, 8, 8, 3) uint8")
    assert "8 x 8, its aspect not kept, by Pillow's bicubic filter" in facts["preprocessing"]
    assert json.loads(facts["classes"]) == ["blue", "green", "red"]


def taking_bytes(graph: onnx.ModelProto) -> onnx.ModelProto:
    """The graph for one photo at a time, channels last, that scales it itself, called by names that ours have, too."""
    scale = numpy_helper.from_array(np.array(255, np.float32), "vectors")
    graph.graph.initializer.append(scale)
    steps = [
        helper.make_node("Cast", ["pixels"], ["prepare/cast_1"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["prepare/cast_1"], ["channels"], perm=[0, 3, 1, 2]),
        helper.make_node("Div", ["channels", "vectors"], ["image"]),
        *graph.graph.node,
    ]
    given = helper.make_tensor_value_info("pixels", TensorProto.UINT8, [1, 8, 8, 3])
    for part, values in [(graph.graph.node, steps), (graph.graph.input, [given])]:
        del part[:]
        part.extend(values)
    graph.metadata_props.add(key="preprocessing", value="of others")
    return graph


def test_a_graph_for_bytes_and_one_photo_keeps_to_it_whatever_its_names(
    image_graph: onnx.ModelProto, clip_folder: Callable[..., Path], paint: Callable[..., Any], tmp_path: Path
) -> None:
    folder = clip_folder({IMAGE: taking_bytes(image_graph).SerializeToString()})
    check_encoder(load_encoder(f"onnx:{folder}"))
    found, wanted = exported(folder, paint, tmp_path / "photos.onnx")
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)
    stated = [
        entry.value for entry in onnx.load(tmp_path / "photos.onnx").metadata_props if entry.key == "preprocessing"
    ]
    assert [text[:10] for text in stated] == ["pixels are"]


def with_data_beside(graph: onnx.ModelProto) -> dict[str, bytes]:
    """The graph with its weights in a file beside it, behind other bytes."""
    (weights,) = graph.graph.initializer
    data = weights.raw_data
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    for key, value in [("location", "weights.bin"), ("offset", "16"), ("length", str(len(data)))]:
        weights.external_data.add(key=key, value=value)
    return {IMAGE: graph.SerializeToString(), "visual/weights.bin": bytes(16) + data + bytes(16)}


def test_weights_beside_the_graph_come_into_the_file(
    image_graph: onnx.ModelProto, clip_folder: Callable[..., Path], paint: Callable[..., Any], tmp_path: Path
) -> None:
    folder = clip_folder(with_data_beside(image_graph))
    found, wanted = exported(folder, paint, tmp_path / "photos.onnx")
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)
    assert {tensor.data_location for tensor in onnx.load(tmp_path / "photos.onnx").graph.initializer} == {0}


def test_a_graph_that_was_exchanged_for_one_with_other_data_is_refused(
    image_graph: onnx.ModelProto, clip_folder: Callable[..., Path], tmp_path: Path
) -> None:
    folder = clip_folder()
    encoder = load_encoder(f"onnx:{folder}")
    (tmp_path / "secret").write_bytes(bytes(96))
    content = with_data_beside(image_graph)[IMAGE].replace(b"weights.bin", b"../../etc/x")
    (folder / IMAGE).write_bytes(content)
    with pytest.raises(CheckpointError, match="it has changed since it was opened"):
        encoder.image_graph()


def test_an_image_side_above_two_gib_is_told_what_can_be_exported(
    clip_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = load_encoder(f"onnx:{clip_folder()}")
    monkeypatch.setattr(onnx_encoder, "MOST_BYTES", 100)
    with pytest.raises(ExportError, match=r"does not fit into an ONNX file, .* --input vectors"):
        encoder.image_graph()


def test_a_file_in_half_precision_answers_alike(
    clip_folder: Callable[..., Path], paint: Callable[..., Any], tmp_path: Path
) -> None:
    _, wanted = exported(clip_folder(), paint, tmp_path / "photos.onnx")
    half = convert_float_to_float16(onnx.load(tmp_path / "photos.onnx"), keep_io_types=True)
    pixels = [load_encoder(f"onnx:{clip_folder()}").prepare(paint(label, n)) for n, label in enumerate(LABELS[:3])]
    session = onnxruntime.InferenceSession(half.SerializeToString())
    (found,) = session.run(["probabilities"], {"pixels": np.stack(pixels)})
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-2)


def test_nodes_without_a_name_get_one(
    image_graph: onnx.ModelProto, clip_folder: Callable[..., Path], paint: Callable[..., Any], tmp_path: Path
) -> None:
    (last,) = (node for node in image_graph.graph.node if image_graph.graph.output[0].name in node.output)
    name, last.output[0] = last.output[0], "either"
    branch = helper.make_graph(
        [helper.make_node("Identity", ["either"], ["same"])],
        "branch",
        [],
        [helper.make_tensor_value_info("same", TensorProto.FLOAT, None)],
    )
    image_graph.graph.initializer.append(numpy_helper.from_array(np.array(True), "always"))
    image_graph.graph.node.append(helper.make_node("If", ["always"], [name], then_branch=branch, else_branch=branch))
    for node in image_graph.graph.node:
        node.ClearField("name")
    found, wanted = exported(clip_folder({IMAGE: image_graph.SerializeToString()}), paint, tmp_path / "photos.onnx")
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)
    nodes = onnx.load(tmp_path / "photos.onnx").graph.node
    assert all(node.name for node in nodes)
    assert len({node.name for node in nodes}) == len(nodes)
    assert all(inner.name for node in nodes if node.op_type == "If" for part in node.attribute for inner in part.g.node)
