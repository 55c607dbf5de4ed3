"""Encoders in half precision: small ONNX files whose weights, or whose inputs and outputs too, are float16."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnxconverter_common.float16 import convert_float_to_float16

from image_only import FILES
from tip_adapter import FewShotClassifier, load_encoder
from tip_adapter.encoders import in_half, refuse_unasked_download
from tip_adapter.encoders.onnx.catalogue import named_clips
from tip_adapter.encoders.onnx.tower import open_session
from tip_adapter.errors import CheckpointError, DownloadError, TipAdapterWarning, UnaskedDownload, UsageError
from tip_adapter.testing import check_encoder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fake_hub import FakeHub

pytestmark = pytest.mark.filterwarnings("ignore:the float32 number:UserWarning")

GRAPHS = {"onnx/vision_model.onnx": "visual/model.onnx", "onnx/text_model.onnx": "textual/model.onnx"}
TOKENIZER = {name: f"textual/{name}" for name in ("tokenizer.json", "tokenizer_config.json")}


def halved(graph: bytes, keep_io_types: bool = True) -> bytes:
    model = onnx.ModelProto.FromString(graph)
    for number, node in enumerate(model.graph.node):  # the converter names its own nodes after these
        node.name = f"node_{number}"
    return convert_float_to_float16(model, keep_io_types=keep_io_types).SerializeToString()


def with_halves(files: dict[str, bytes], **settings: Any) -> dict[str, bytes]:
    """The files, and those of each graph in half precision."""
    graphs = {name: content for name, content in files.items() if name.endswith(".onnx")}
    halves = {name.replace(".onnx", "_fp16.onnx"): halved(content, **settings) for name, content in graphs.items()}
    return {**files, **halves}


def without_full(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: content for name, content in files.items() if not name.endswith("model.onnx")}


@pytest.fixture(scope="session")
def clip_files(tiny_files: dict[str, bytes]) -> dict[str, bytes]:
    """The tiny CLIP in the layout of transformers.js."""
    moved = {name: tiny_files[place] for name, place in {**GRAPHS, **TOKENIZER, "config.json": "config.json"}.items()}
    return {**moved, "preprocessor_config.json": FILES["preprocessor_config.json"]}


@pytest.mark.parametrize("keep_io_types", [True, False], ids=["float32 in and out", "float16 in and out"])
def test_half_precision_gives_nearly_the_vectors_of_full_precision(
    keep_io_types: bool, clip_folder: Callable[..., Path], paint: Callable[..., Any]
) -> None:
    folder = clip_folder(files=with_halves(FILES, keep_io_types=keep_io_types))
    full, half = load_encoder(f"onnx:{folder}"), load_encoder(f"onnx:{folder}@half")
    if keep_io_types:  # else ONNX Runtime rounds pixels in Python, but not within a whole graph
        check_encoder(half)
    assert half.identity.name == f"{full.identity.name}@half"
    assert half.identity.fingerprint != full.identity.fingerprint
    assert half.gives_raw == full.gives_raw
    photos = [paint("red"), paint("blue")]
    gap = np.abs(half.encode_images(photos) - full.encode_images(photos)).max()
    assert 0 < gap < 2e-3


@pytest.mark.parametrize("keep_io_types", [True, False], ids=["float32 in and out", "float16 in and out"])
def test_the_image_graph_in_half_precision_gives_the_vectors_of_python(
    keep_io_types: bool, clip_folder: Callable[..., Path], paint: Callable[..., Any]
) -> None:
    encoder = load_encoder(f"onnx:{clip_folder(files=with_halves(FILES, keep_io_types=keep_io_types))}@half")
    prepared = np.stack([encoder.prepare(paint("red")), encoder.prepare(paint("green"))])
    session = open_session(encoder.image_graph().SerializeToString(), device=None, threads=1)
    (rows,) = session.run(None, {"pixels": prepared})
    assert rows.dtype == np.float32
    np.testing.assert_allclose(
        rows / np.linalg.norm(rows, axis=1, keepdims=True), encoder.encode_prepared(prepared), atol=1e-3
    )


def test_both_towers_of_a_clip_are_those_in_half_precision(
    clip_files: dict[str, bytes], clip_folder: Callable[..., Path]
) -> None:
    folder = clip_folder(files=with_halves(clip_files))
    full, half = load_encoder(f"onnx:{folder}"), load_encoder(f"onnx:{folder}@half")
    gap = np.abs(half.encode_texts(["a red photo"]) - full.encode_texts(["a red photo"])).max()
    assert 0 < gap < 2e-3
    (folder / "onnx/text_model_fp16.onnx").unlink()
    with pytest.raises(CheckpointError, match=r"transformers\.js@half lacks onnx/text_model_fp16\.onnx"):
        load_encoder(f"onnx:{folder}@half")


def test_a_folder_of_half_precision_alone_says_so_in_its_name(
    clip_folder: Callable[..., Path], make_photos: Callable[..., Path], tmp_path: Path
) -> None:
    folder = clip_folder(files=without_full(with_halves(FILES)))
    model = FewShotClassifier(f"onnx:{folder}").fit_folder(make_photos("train", red=3, green=3))
    assert model.encoder_.identity.name == f"onnx:{folder}@half"
    (folder / "onnx/model.onnx").write_bytes(FILES["onnx/model.onnx"])  # its name chooses what it was fitted with
    model.save(tmp_path / "model")
    again = FewShotClassifier.load(tmp_path / "model")
    assert again.encoder_.identity == model.encoder_.identity
    assert load_encoder(f"onnx:{folder}").identity != model.encoder_.identity


def test_a_folder_may_be_called_like_half_precision(clip_folder: Callable[..., Path], tmp_path: Path) -> None:
    place = clip_folder(files=with_halves(FILES)).rename(tmp_path / "a+b@half")
    for name in (f"onnx:{place}", f"onnx:{place}@half"):
        encoder = load_encoder(name)
        assert encoder.identity.name == name
        assert load_encoder(encoder.identity.name).identity == encoder.identity


def test_files_of_full_precision_alone_are_no_half_precision(clip_folder: Callable[..., Path]) -> None:
    with pytest.raises(CheckpointError, match=r"lacks onnx/model_fp16\.onnx"):
        load_encoder(f"onnx:{clip_folder(files=FILES)}@half")


# ---- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "half"),
    [
        ("dinov2", "dinov2@half"),
        ("siglip2@half", "siglip2@half"),
        ("clip+dinov2", "clip@half+dinov2@half"),
        ("0.25*clip+0.75*onnx:a/b", "0.25*clip@half+0.75*onnx:a/b@half"),
    ],
)
def test_a_name_in_half_precision(name: str, half: str) -> None:
    assert in_half(name) == half


@pytest.mark.parametrize("name", ["pocket", "clip-rn50", "dinov2+toy", "open_clip:RN50/openai"])
def test_what_has_no_half_precision_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"is not offered in half precision; these are: clip, .*dinov2, and onnx:"):
        in_half(name)


def test_records_in_half_precision_have_the_repository_and_licence_of_full_precision() -> None:
    known = named_clips()
    halves = {name.removesuffix("@half"): clip for name, clip in known.items() if clip.half}
    assert {"clip", "clip-vit-b-16", "siglip2", "dinov2"} <= set(halves)
    for name, half in halves.items():
        full = known[name]
        assert (half.repository, half.revision, half.record.licence) == (
            full.repository,
            full.revision,
            full.record.licence,
        )
        assert 0.45 * full.record.size_mib < half.record.size_mib < 0.55 * full.record.size_mib
        assert "in half precision" in half.record.description
    assert known["siglip2@half"].record.size_mib == 751


# ---- the hub ---------------------------------------------------------------------------------------------------------


def test_only_the_files_in_half_precision_are_downloaded(
    hub: FakeHub, clip_files: dict[str, bytes], tmp_path: Path
) -> None:
    hub.hold("someone/halves", with_halves(clip_files))
    name = "onnx:someone/halves@half"
    with pytest.raises(UnaskedDownload, match="needs encoder onnx:someone/halves@half"):
        refuse_unasked_download(name, tmp_path)
    with pytest.warns(TipAdapterWarning, match="downloading someone/halves"):
        encoder = load_encoder(name)
    assert encoder.identity.name == name
    snapshot = next((tmp_path / "hub").glob("models--someone--halves/snapshots/*"))
    graphs = {path.name for path in snapshot.rglob("*.onnx")}
    assert graphs == {"vision_model_fp16.onnx", "text_model_fp16.onnx"}
    hub.requests.clear()
    refuse_unasked_download(name, tmp_path)
    assert load_encoder(name).identity == encoder.identity
    assert not hub.requests
    with pytest.warns(TipAdapterWarning, match="downloading someone/halves"):
        assert load_encoder("onnx:someone/halves").identity.fingerprint != encoder.identity.fingerprint


def test_a_repository_without_half_precision_says_what_it_lacks(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, clip_files: dict[str, bytes]
) -> None:
    hub.hold("someone/full", clip_files)
    with pytest.raises(
        CheckpointError, match=r"no CLIP as ONNX files in half precision: onnx/vision_model_fp16\.onnx, "
    ):
        load_encoder("onnx:someone/full@half")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DownloadError, match=r"hf download Xenova/dinov2-small onnx/model_fp16\.onnx preprocessor"):
        load_encoder("dinov2@half")
