"""A CLIP in a folder from fitting to predicting: what is told, kept, refused, and not imported."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from PIL import Image

from tip_adapter import FewShotClassifier
from tip_adapter.encoders import load_encoder
from tip_adapter.encoders.onnx.tower import open_session
from tip_adapter.errors import CheckpointError, TipAdapterWarning, UsageError, WrongEncoder
from tip_adapter.testing import check_encoder

if TYPE_CHECKING:
    from collections.abc import Callable

ASSUMED = "the logit scale of onnx:.* is assumed"


def fitted(folder: Path, photos: Path, **settings: Any) -> FewShotClassifier:
    return FewShotClassifier(encoder=f"onnx:{folder}", **settings).fit_folder(photos)


@pytest.mark.filterwarnings("ignore:.* those that the model learns from")
def test_a_model_keeps_the_folders_place_and_answers_from_there(
    clip_folder: Callable[..., Path],
    make_photos: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, photos = clip_folder(), make_photos("train", red=2, green=2, blue=2)
    monkeypatch.chdir(tmp_path)
    with pytest.warns(TipAdapterWarning, match=f"{ASSUMED}, that of OpenAI's"):
        model = fitted(Path("clip"), photos)
    check_encoder(model.encoder_)
    model.save(tmp_path / "model")
    monkeypatch.chdir("/")
    again = FewShotClassifier.load(tmp_path / "model")
    assert again.encoder_.identity.name == f"onnx:{folder}"
    assert again.evaluate_folder(photos)["accuracy"] == 1
    assert again.head_.logit_scale == 100


def test_a_given_logit_scale_is_used_kept_and_not_warned_of(
    clip_folder: Callable[..., Path], make_photos: Callable[..., Path], tmp_path: Path
) -> None:
    photos = make_photos("train", red=2, blue=2)
    model = fitted(clip_folder(), photos, logit_scale=30)
    model.save(tmp_path / "model")
    assert FewShotClassifier.load(tmp_path / "model").head_.logit_scale == 30
    assert FewShotClassifier.load(tmp_path / "model").retune().head_.logit_scale == 30


@pytest.mark.parametrize("scale", [0, -1, "much", True, float("nan"), 10_001], ids=repr)
def test_a_logit_scale_that_is_none_is_refused(scale: Any) -> None:
    with pytest.raises(UsageError, match="logit_scale takes a number above 0"):
        FewShotClassifier(encoder="toy", logit_scale=scale).fit([np.zeros((8, 8, 3), np.uint8)], ["a"])


@pytest.mark.filterwarnings("ignore:.* those that the model learns from")
def test_a_folder_that_was_moved_is_told_and_its_new_place_taken(
    clip_folder: Callable[..., Path], make_photos: Callable[..., Path], tmp_path: Path
) -> None:
    folder, photos = clip_folder(), make_photos("train", red=2, blue=2)
    fitted(folder, photos, logit_scale=30).save(tmp_path / "model")
    folder.rename(tmp_path / "moved")
    with pytest.raises(
        CheckpointError, match=r"there is no folder .*clip; if it was moved, .*load\(MODEL_DIR, encoder="
    ):
        FewShotClassifier.load(tmp_path / "model")
    by_name = FewShotClassifier.load(tmp_path / "model", encoder=f"onnx:{tmp_path / 'moved'}")
    loaded = FewShotClassifier.load(tmp_path / "model", encoder=by_name.encoder_)
    for model in (by_name, loaded):
        assert model.evaluate_folder(photos)["accuracy"] == 1
    with pytest.raises(WrongEncoder, match=r"than the one loaded \(toy"):
        FewShotClassifier.load(tmp_path / "model", encoder="toy")
    with pytest.raises(UsageError, match="encoder takes the name of an encoder"):
        FewShotClassifier.load(tmp_path / "model", encoder=5)


@pytest.mark.parametrize(
    "name", ["visual/model.onnx", "textual/tokenizer.json", "config.json", "visual/preprocess_cfg.json"]
)
def test_every_file_is_part_of_the_fingerprint(
    name: str, clip_folder: Callable[..., Path], tiny_files: dict[str, bytes]
) -> None:
    before = load_encoder(f"onnx:{clip_folder()}").identity
    other = tiny_files[name] + b" " if name.endswith("json") else renamed_producer(tiny_files[name])
    after = load_encoder(f"onnx:{clip_folder({name: other})}").identity
    assert before.fingerprint != after.fingerprint


def test_a_siglip_of_transformers_reads_texts_as_it_was_trained_on_them(
    clip_folder: Callable[..., Path], tiny_files: dict[str, bytes], tmp_path: Path
) -> None:
    """Its files state neither the cleaning nor the length, 64 tokens."""
    places = {
        "onnx/vision_model.onnx": "visual/model.onnx",
        "onnx/text_model.onnx": "textual/model.onnx",
        "tokenizer.json": "textual/tokenizer.json",
        "tokenizer_config.json": "textual/tokenizer_config.json",
        "config.json": "config.json",
    }
    pixels = {"size": {"height": 8, "width": 8}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    files = {name: tiny_files[place] for name, place in places.items()}
    text = onnx.ModelProto.FromString(files["onnx/text_model.onnx"])
    text.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "tokens"
    files |= {"preprocessor_config.json": json.dumps(pixels).encode(), "onnx/text_model.onnx": text.SerializeToString()}
    encoders = []
    for kind in ("clip", "siglip"):
        changed = {"config.json": json.dumps({"model_type": kind}).encode()}
        encoders.append(load_encoder(f"onnx:{clip_folder(changed, files)}"))
        lengths = [encoders[-1]._tokenizer("a red photo")[0].shape[1]]
        assert lengths == [77 if kind == "clip" else 64]
    clip, siglip = encoders
    assert siglip.identity.fingerprint != clip.identity.fingerprint
    assert np.array_equal(siglip.encode_texts(["A RED, photo."]), siglip.encode_texts(["a red photo"]))
    assert not np.array_equal(clip.encode_texts(["A RED, photo."]), clip.encode_texts(["a red photo"]))


def renamed_producer(content: bytes) -> bytes:
    graph = onnx.ModelProto.FromString(content)
    graph.producer_name = "another"
    return graph.SerializeToString()


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("config.json", None, r"the layout of open_clip lacks config\.json"),
        ("config.json", b"[1]", r"cannot use .*config\.json: the whole expected `object`, got `array`"),
        ("config.json", b'{"text_cfg": {"context_length": -1}}', None),
        ("visual/preprocess_cfg.json", b"{", r"cannot use .*preprocess_cfg\.json"),
        ("visual/preprocess_cfg.json", b"{}", r"preprocess_cfg\.json: .*missing required field `size`"),
        ("visual/preprocess_cfg.json", b'{"size": 8, "mean": [0, 0, 0], "std": [0, 1, 1]}', r"std\[0\] expected `float` > 0\.0, found 0"),
        ("visual/preprocess_cfg.json", b'{"size": 0, "mean": [0, 0, 0], "std": [1, 1, 1]}', r"size expected `int` >= 1, found 0"),
        ("visual/preprocess_cfg.json", b'{"size": 8, "resize_mode": "melt"}', "resize_mode invalid enum value 'melt'"),
        ("textual/tokenizer.json", b"{}", r"cannot use .*tokenizer\.json"),
    ],
)  # fmt: skip
def test_a_folder_that_is_no_clip_is_refused_naming_the_file(
    name: str, content: bytes | None, sentence: str | None, clip_folder: Callable[..., Path]
) -> None:
    folder = clip_folder({name: content})
    if sentence is None:  # the graph states a length itself
        assert load_encoder(f"onnx:{folder}").encode_texts(["a"]).shape == (1, 8)
        return
    with pytest.raises(CheckpointError, match=sentence):
        load_encoder(f"onnx:{folder}").encode_texts(["a"])


def test_a_strip_is_read_without_filling_the_memory(
    clip_folder: Callable[..., Path], tiny_files: dict[str, bytes]
) -> None:
    stated = json.loads(tiny_files["visual/preprocess_cfg.json"]) | {"resize_mode": "shortest"}
    encoder = load_encoder(f"onnx:{clip_folder({'visual/preprocess_cfg.json': json.dumps(stated).encode()})}")
    strip = Image.new("RGB", (1, 65_500), (9, 99, 199))
    np.testing.assert_allclose(
        encoder.encode_images([strip]), encoder.encode_images([Image.new("RGB", (8, 8), (9, 99, 199))]), atol=1e-5
    )


def test_a_device_that_is_not_there_is_told_before_anything_is_downloaded(clip_folder: Callable[..., Path]) -> None:
    for name in ("clip", f"onnx:{clip_folder()}"):
        with pytest.raises(UsageError, match="unknown device 'tpu'"):
            load_encoder(name, device="tpu")


def test_predicting_opens_no_text_graph(
    clip_folder: Callable[..., Path], make_photos: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = make_photos("train", red=2, blue=2)
    fitted(clip_folder(), photos, logit_scale=30).save(tmp_path / "model")
    opened = []

    def watched(graph: Path, **settings: Any) -> Any:
        opened.append(graph.parent.name)
        return open_session(graph, **settings)

    monkeypatch.setattr("tip_adapter.encoders.onnx.tower.open_session", watched)
    assert len(FewShotClassifier.load(tmp_path / "model").predict_folder(photos)) == 4
    assert opened == ["visual"]


#: A program in which torch cannot be imported.
WITHOUT_TORCH = """
import sys
class Without:
    def find_spec(self, name, *_):
        if name in ("torch", "torchvision", "open_clip", "timm", "transformers"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Without())
from tip_adapter.cli import main
main()
"""


@pytest.mark.slow
def test_fit_and_predict_on_the_command_line_without_torch(
    clip_folder: Callable[..., Path], make_photos: Callable[..., Path], tmp_path: Path
) -> None:
    clip_folder()
    make_photos("photos", red=3, green=3, blue=3)

    def program(*args: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", WITHOUT_TORCH, *args]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True, timeout=200)

    fit = program("fit", "photos", "--encoder", "onnx:clip", "--out", "model")
    assert "note: the logit scale of onnx:" in fit.stderr
    assert "--logit-scale" in fit.stderr
    shutil.rmtree(tmp_path / "model")
    quiet = program("fit", "photos", "--encoder", "onnx:clip", "--out", "model", "--logit-scale", "20")
    assert quiet.stderr == ""
    predicted = [json.loads(line) for line in program("predict", "model", "photos", "--json").stdout.splitlines()]
    assert [row["label"] for row in predicted] == [Path(row["image"]).parent.name for row in predicted]
    assert json.loads(program("info", "model", "--json").stdout)["logit_scale"] == 20
