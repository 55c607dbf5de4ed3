"""A small open_clip model with random weights, exported as ONNX files; the fake hub with a CLIP in it."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fake_hub import FakeHub

SIDE, LENGTH, WIDTH = 32, 77, 48
MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)


@dataclass(frozen=True)
class SmallClip:
    """An open_clip model and its ONNX files: role → content."""

    model: Any
    graphs: dict[str, bytes]

    def images(self, photos: list[Any], **preprocessing: Any) -> np.ndarray:
        """Unit rows of photos as open_clip makes them."""
        import torch
        from open_clip.transform import PreprocessCfg, image_transform_v2

        prepare = image_transform_v2(PreprocessCfg(size=SIDE, mean=MEAN, std=STD, **preprocessing), is_train=False)
        with torch.no_grad():
            return self.model.encode_image(torch.stack([prepare(p) for p in photos]), normalize=True).numpy()

    def texts(self, sentences: list[str], clean: str = "lower") -> np.ndarray:
        """Unit rows of sentences as open_clip makes them."""
        import torch
        from open_clip.tokenizer import SimpleTokenizer

        with torch.no_grad():
            return self.model.encode_text(SimpleTokenizer(clean=clean)(sentences), normalize=True).numpy()


@pytest.fixture(scope="session")
def small_clip(tmp_path_factory: pytest.TempPathFactory) -> SmallClip:
    import torch
    from open_clip.model import CLIP

    torch.manual_seed(0)
    vision = {"image_size": SIDE, "layers": 2, "width": 64, "patch_size": 16}
    text = {"context_length": LENGTH, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
    model = CLIP(embed_dim=WIDTH, vision_cfg=vision, text_cfg=text).eval()
    folder = tmp_path_factory.mktemp("exported")
    photos, tokens = torch.zeros(2, 3, SIDE, SIDE), torch.zeros(2, LENGTH, dtype=torch.int64)
    image = _exported(model, folder / "image.onnx", model.encode_image, photos, "pixel_values", "image_embeds")
    text = _exported(model, folder / "text.onnx", model.encode_text, tokens, "input_ids", "text_embeds")
    graphs = {
        "image_raw": image,
        "text_raw": text,
        "image": normalised(image, _given("image", TensorProto.FLOAT, ["n", 3, SIDE, SIDE]), [_node("Identity")]),
        "image_uint8": normalised(image, _given("image", TensorProto.UINT8, [1, SIDE, SIDE, 3]), _SCALED),
        "text": normalised(
            text, _given("text", TensorProto.INT32, ["n", LENGTH]), [_node("Cast", to=TensorProto.INT64)]
        ),
    }
    return SmallClip(model, {role: graph.SerializeToString() for role, graph in graphs.items()})


def normalised(graph: onnx.ModelProto, given: onnx.ValueInfoProto, first: list[onnx.NodeProto]) -> onnx.ModelProto:
    """A graph that takes another input, does these steps to it first, and gives unit rows."""
    changed = onnx.ModelProto()
    changed.CopyFrom(graph)
    steps = [onnx.NodeProto.FromString(node.SerializeToString()) for node in first]
    names = [given.name, *(f"step{i}" for i in range(1, len(steps))), graph.graph.input[0].name]
    for step, before, after in zip(steps, names[:-1], names[1:], strict=True):
        step.input.insert(0, before)
        step.output.append(after)
    body, rows = changed.graph, changed.graph.output[0].name
    nodes = [*steps, *body.node, helper.make_node("LpNormalization", [rows], ["unit_rows"], axis=-1, p=2)]
    outputs = [_given("unit_rows", TensorProto.FLOAT, [given.type.tensor_type.shape.dim[0].dim_value or "n", WIDTH])]
    for part, values in [(body.node, nodes), (body.input, [given]), (body.output, outputs)]:
        del part[:]
        part.extend(values)
    body.initializer.extend(
        numpy_helper.from_array(np.array(values, np.float32) * 255, name)
        for name, values in [("mean", MEAN), ("std", STD)]
    )
    return changed


def _given(name: str, kind: int, shape: list[Any]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def _node(kind: str, *more: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, more, [], **attributes)


_SCALED = [
    _node("Cast", to=TensorProto.FLOAT),
    _node("Sub", "mean"),
    _node("Div", "std"),
    _node("Transpose", perm=[0, 3, 1, 2]),
]


def _exported(
    model: Any, path: Path, forward: Callable[..., Any], example: Any, given: str, rows: str
) -> onnx.ModelProto:
    """What torch makes of it; it wants another name for what comes out of each graph."""
    import torch

    class Wrapped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: Any) -> Any:
            return forward(x)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Wrapped(),
            (example,),
            path,
            dynamo=True,
            input_names=[given],
            output_names=[rows],
            dynamic_shapes=[{0: torch.export.Dim("n")}],
            external_data=False,
            verbose=False,
        )
    return onnx.load(path)


@pytest.fixture(scope="session")
def clip_tokenizer() -> str:
    """CLIP's tokenizer as a tokenizer.json, from the words and merges that open_clip ships."""
    from open_clip.tokenizer import SimpleTokenizer

    clip = SimpleTokenizer()
    start, end = clip.all_special_ids
    words = dict(clip.encoder.items())
    merges = sorted(clip.bpe_ranks, key=clip.bpe_ranks.__getitem__)
    tokenizer = Tokenizer(models.BPE(vocab=words, merges=merges, end_of_word_suffix="</w>", unk_token="<end_of_text>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    pattern = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(pattern, behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start_of_text> $A <end_of_text>",
        special_tokens=[("<start_of_text>", start), ("<end_of_text>", end)],
    )
    return tokenizer.to_str()


@pytest.fixture(scope="session")
def open_clip_files(small_clip: SmallClip, clip_tokenizer: str) -> dict[str, bytes]:
    """The layout of open_clip's exports: path → content."""
    preprocessing = {"size": [SIDE, SIDE], "mode": "RGB", "mean": MEAN, "std": STD, "interpolation": "bicubic"}
    return {
        "visual/model.onnx": small_clip.graphs["image"],
        "visual/preprocess_cfg.json": _json(preprocessing | {"resize_mode": "shortest", "fill_color": 0}),
        "textual/model.onnx": small_clip.graphs["text"],
        "textual/tokenizer.json": clip_tokenizer.encode(),
        "textual/tokenizer_config.json": _json({"pad_token": "<end_of_text>"}),
        "config.json": _json({"embed_dim": WIDTH, "text_cfg": {"context_length": LENGTH}}),
    }


@pytest.fixture(scope="session")
def transformers_files(small_clip: SmallClip, clip_tokenizer: str) -> dict[str, bytes]:
    """The layout of transformers.js: path → content."""
    preprocessing = {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}, "resample": 3}
    return {
        "onnx/vision_model.onnx": small_clip.graphs["image_raw"],
        "onnx/text_model.onnx": small_clip.graphs["text_raw"],
        "preprocessor_config.json": _json(preprocessing | {"image_mean": MEAN, "image_std": STD}),
        "tokenizer.json": clip_tokenizer.encode(),
        "tokenizer_config.json": _json({"pad_token": {"content": "<end_of_text>"}}),
        "config.json": _json({"text_config": {"max_position_embeddings": LENGTH}}),
    }


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


# ---- the hub ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(hub: FakeHub, tiny_files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    """The fake hub with the tiny CLIP in it, and an empty cache for it in `tmp_path`."""
    hub.hold("someone/clip", tiny_files)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return hub
