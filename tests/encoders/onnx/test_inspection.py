"""ONNX files from anywhere: what leads out of their folder or brings code of its own is refused before it is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from tip_adapter.encoders import load_encoder
from tip_adapter.encoders.onnx.inspection import read_graph
from tip_adapter.encoders.onnx.tower import provider
from tip_adapter.errors import CheckpointError
from tip_adapter.testing import check_encoder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

IMAGE = "visual/model.onnx"


@pytest.fixture(autouse=True)
def no_session_for_what_is_refused(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "refused" in request.node.name:
        monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_, **__: pytest.fail("it was opened"))


@pytest.fixture
def image_graph(tiny_files: dict[str, bytes]) -> onnx.ModelProto:
    return onnx.ModelProto.FromString(tiny_files[IMAGE])


def stored_elsewhere(graph: onnx.ModelProto, place: str) -> bytes:
    """The graph with its weights in a file beside it."""
    (weights,) = graph.graph.initializer
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value=place)
    return graph.SerializeToString()


@pytest.mark.parametrize("place", ["../weights", "/etc/hostname", "a/../../../weights", "..\\weights", "link"])
def test_fault_45_data_outside_the_folder_are_refused(
    place: str, image_graph: onnx.ModelProto, clip_folder: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "weights").write_bytes(bytes(96))
    folder = clip_folder({IMAGE: stored_elsewhere(image_graph, place)})
    (folder / "visual" / "link").symlink_to(tmp_path / "weights")
    with pytest.raises(CheckpointError, match=r"model\.onnx is not opened: its weights are outside its folder"):
        load_encoder(f"onnx:{folder}")


def test_data_beside_the_graph_are_read_and_part_of_the_fingerprint(
    image_graph: onnx.ModelProto, clip_folder: Callable[..., Path], tiny_files: dict[str, bytes]
) -> None:
    plain = load_encoder(f"onnx:{clip_folder()}")
    photo = np.full((8, 8, 3), 200, np.uint8)
    vectors = plain.encode_images([photo])
    weights = image_graph.graph.initializer[0].raw_data
    folder = clip_folder({IMAGE: stored_elsewhere(image_graph, "model.onnx.data"), "visual/model.onnx.data": weights})
    split = load_encoder(f"onnx:{folder}")
    np.testing.assert_array_equal(split.encode_images([photo]), vectors)
    (folder / "visual" / "model.onnx.data").write_bytes(weights[::-1])
    assert (
        len(
            {
                plain.identity.fingerprint,
                split.identity.fingerprint,
                load_encoder(f"onnx:{folder}").identity.fingerprint,
            }
        )
        == 3
    )


def test_fault_45_data_that_are_missing_are_refused(
    image_graph: onnx.ModelProto, clip_folder: Callable[..., Path]
) -> None:
    folder = clip_folder({IMAGE: stored_elsewhere(image_graph, "weights.bin")})
    with pytest.raises(CheckpointError, match=r"its weights, weights\.bin, are missing"):
        load_encoder(f"onnx:{folder}")


def inside_a_branch(node: onnx.NodeProto) -> onnx.NodeProto:
    branch = helper.make_graph([node], "branch", [], [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)])
    return helper.make_node("If", ["yes"], ["out"], then_branch=branch, else_branch=branch)


@pytest.mark.parametrize("hidden", [False, True], ids=["plain", "inside a branch"])
def test_fault_45_operators_of_others_are_refused(
    hidden: bool, image_graph: onnx.ModelProto, clip_folder: Callable[..., Path]
) -> None:
    node = helper.make_node("Run", ["image"], ["out"], domain="com.evil")
    image_graph.graph.node.insert(0, inside_a_branch(node) if hidden else node)
    with pytest.raises(CheckpointError, match=r"operator com\.evil\.Run, which is not ONNX Runtime's own"):
        load_encoder(f"onnx:{clip_folder({IMAGE: image_graph.SerializeToString()})}")


def test_fault_45_functions_are_refused(image_graph: onnx.ModelProto, clip_folder: Callable[..., Path]) -> None:
    image_graph.functions.add(name="f", domain="mine")
    with pytest.raises(CheckpointError, match="functions of its own"):
        load_encoder(f"onnx:{clip_folder({IMAGE: image_graph.SerializeToString()})}")


def test_fault_45_the_text_graph_is_looked_at_too_and_refused(
    tiny_files: dict[str, bytes], clip_folder: Callable[..., Path]
) -> None:
    text = onnx.ModelProto.FromString(tiny_files["textual/model.onnx"])
    text.graph.node.add(op_type="Run", domain="com.evil")
    with pytest.raises(CheckpointError, match=r"textual.model\.onnx is not opened"):
        load_encoder(f"onnx:{clip_folder({'textual/model.onnx': text.SerializeToString()})}")


@pytest.mark.parametrize("cut", [0.1, 0.5, 0.99])
def test_fault_56_a_graph_that_was_cut_off_is_refused(
    cut: float, tiny_files: dict[str, bytes], clip_folder: Callable[..., Path]
) -> None:
    content = tiny_files[IMAGE]
    with pytest.raises(CheckpointError, match=r"is not an ONNX file, or is truncated"):
        load_encoder(f"onnx:{clip_folder({IMAGE: content[: int(cut * len(content))]})}")


def test_what_a_graph_takes_and_gives_is_read_without_running_it(clip_folder: Callable[..., Path]) -> None:
    folder = clip_folder()
    graph = read_graph(folder / "visual" / "model.onnx", folder)
    assert [(t.name, t.dtype, t.shape) for t in graph.inputs] == [("image", "FLOAT", (None, 3, 8, 8))]
    assert [(t.name, t.dtype, t.shape) for t in graph.outputs] == [("rows", "FLOAT", (None, 8))]


def test_a_width_that_the_graph_does_not_state_is_found_by_a_trial(
    image_graph: onnx.ModelProto, clip_folder: Callable[..., Path]
) -> None:
    image_graph.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "width"
    encoder = load_encoder(f"onnx:{clip_folder({IMAGE: image_graph.SerializeToString()})}")
    assert encoder.identity.width == 8
    check_encoder(encoder)


def test_the_named_rows_of_several_outputs_are_taken_and_a_mask_is_given(
    tiny_files: dict[str, bytes], image_graph: onnx.ModelProto, clip_folder: Callable[..., Path]
) -> None:
    image_graph.graph.output[0].name = "image_embeds"
    image_graph.graph.node[-1].output[0] = "image_embeds"
    for other, dim in [("photos", 4), ("colour", 2)]:
        shape = [None] * dim
        image_graph.graph.output.insert(0, helper.make_tensor_value_info(other, TensorProto.FLOAT, shape))
    image_graph.graph.node.append(helper.make_node("Identity", ["image"], ["photos"]))
    files = {
        "onnx/vision_model.onnx": image_graph.SerializeToString(),
        "onnx/text_model.onnx": text_graph_with_mask(),
        "preprocessor_config.json": b'{"size": 8, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}',
        "tokenizer.json": tiny_files["textual/tokenizer.json"],
        "tokenizer_config.json": b'{"pad_token": "<end>"}',
        "config.json": b'{"text_config": {"max_position_embeddings": 5}}',
    }
    encoder = load_encoder(f"onnx:{clip_folder(files=files)}")
    check_encoder(encoder)
    words = np.eye(9, 8, dtype=np.float32)
    np.testing.assert_allclose(encoder.encode_texts(["a red"]), (words[[2]] + words[[5]]) / 2**0.5, atol=1e-6)


def text_graph_with_mask() -> bytes:
    """The sum of those words that the mask counts, and the mask itself; a sentence may have any length."""
    steps = [
        helper.make_node("Gather", ["table", "input_ids"], ["words"]),
        helper.make_node("Cast", ["attention_mask"], ["counts"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["counts", "last"], ["counted"]),
        helper.make_node("Mul", ["words", "counted"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "middle"], ["sums"], keepdims=0),
        helper.make_node("Add", ["sums", "little"], ["text_embeds"]),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "length"])
        for name in ("input_ids", "attention_mask")
    ]
    outputs = [helper.make_tensor_value_info("text_embeds", TensorProto.FLOAT, ["n", 8])]
    weights = {
        "table": np.eye(9, 8, dtype=np.float32),
        "little": np.full(8, 1e-9, np.float32),  # so that no sentence is zero
        "last": np.array([-1]),
        "middle": np.array([1]),
    }
    tensors = [numpy_helper.from_array(values, name) for name, values in weights.items()]
    graph = helper.make_graph(steps, "text", inputs, outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


@pytest.mark.parametrize(
    ("name", "given", "sentence"),
    [
        (IMAGE, ("image", TensorProto.INT8, ["n", 3, 8, 8]), "does not take photos: one input of four dimensions"),
        (IMAGE, ("image", TensorProto.FLOAT, [4, 3, 8, 8]), "photos one by one or in any number, but 4 at once"),
        (
            "textual/model.onnx",
            ("text", TensorProto.FLOAT, ["n", 9]),
            "does not take texts: inputs of two dimensions",
        ),
        ("textual/model.onnx", ("text", TensorProto.INT32, [7, 9]), "does not take texts one by one"),
    ],
)
def test_a_graph_that_takes_something_else_is_told(
    name: str,
    given: tuple[str, int, list[Any]],
    sentence: str,
    tiny_files: dict[str, bytes],
    clip_folder: Callable[..., Path],
) -> None:
    graph = onnx.ModelProto.FromString(tiny_files[name])
    graph.graph.input[0].CopyFrom(helper.make_tensor_value_info(*given))
    with pytest.raises(CheckpointError, match=sentence):
        load_encoder(f"onnx:{clip_folder({name: graph.SerializeToString()})}").encode_texts(["a"])


def test_towers_of_different_widths_are_refused(tiny_files: dict[str, bytes], clip_folder: Callable[..., Path]) -> None:
    text = onnx.ModelProto.FromString(tiny_files["textual/model.onnx"])
    text.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 7
    with pytest.raises(CheckpointError, match="the width of photos, 8"):
        load_encoder(f"onnx:{clip_folder({'textual/model.onnx': text.SerializeToString()})}")


def test_what_onnx_runtime_cannot_run_is_told(image_graph: onnx.ModelProto, clip_folder: Callable[..., Path]) -> None:
    image_graph.graph.node[0].op_type = "NoSuchThing"
    encoder = load_encoder(f"onnx:{clip_folder({IMAGE: image_graph.SerializeToString()})}")
    with pytest.raises(CheckpointError, match=r"model\.onnx (does not run|cannot be opened)"):
        encoder.encode_images([np.zeros((8, 8, 3), np.uint8)])


def test_cuda_is_onnx_runtimes_provider_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    assert provider("cuda") == "CUDAExecutionProvider"
    assert provider(None) == "CPUExecutionProvider"
