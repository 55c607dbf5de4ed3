"""`open_clip:` with small and large models of random weights: open_clip's own forward pass is what they are held to."""

from __future__ import annotations

import builtins
import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from tip_adapter import FewShotClassifier, load_encoder
from tip_adapter.encoders.open_clip.encoder import find_source
from tip_adapter.errors import (
    CheckpointError,
    DownloadError,
    MissingExtra,
    TipAdapterWarning,
    UnknownName,
    UsageError,
    WrongEncoder,
)
from tip_adapter.testing import check_encoder
from tip_adapter.vectors import unit_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SIGLIP = "ViT-B-16-SigLIP"
#: The paper's smallest and largest convolutional one, a transformer, and one of another family → pixels a side.
LARGE = {"RN50": 224, "RN50x4": 288, "ViT-B-32-quickgelu": 224, SIGLIP: 224}
#: The smallest of open_clip's architectures that needs nothing but torch.
SMALL = "ViT-S-32-alt"
SENTENCES = ["cat", "a photo of a dog.", "", "x" * 500, "naïve café, №5!"]


class Loaded(NamedTuple):
    """Our encoder, and open_clip's own network and preprocessing from the same file."""

    model: str
    encoder: Any
    network: Any
    preprocess: Any
    path: Path


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """On a busy machine, several would wait for each other at every step."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def letters(texts: list[str]) -> torch.Tensor:
    """A stand-in for SigLIP's tokenizer, which has to be downloaded."""
    rows = [[2 + ord(c) % 30_000 for c in text[:63]] for text in texts]
    return torch.tensor([row + [1] * (64 - len(row)) for row in rows])


@pytest.fixture(scope="module")
def save(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Write a model of random weights in half precision → its file."""

    def write(model: str) -> Path:
        torch.manual_seed(0)
        network, _, _ = open_clip.create_model_and_transforms(model, precision="pure_fp16")
        path = tmp_path_factory.mktemp("weights") / "weights.pt"
        torch.save({"epoch": 3, "state_dict": network.state_dict()}, path)
        return path

    return write


@pytest.fixture(scope="module", params=LARGE)
def large(request: pytest.FixtureRequest, save: Callable[[str], Path]) -> Iterator[Loaded]:
    tokenizer_of = open_clip.get_tokenizer
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(open_clip, "get_tokenizer", lambda model: letters if model == SIGLIP else tokenizer_of(model))
        path = save(request.param)
        own = {"mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash", "interpolation": "bicubic"}
        if request.param == SIGLIP:
            (path.parent / "open_clip_config.json").write_text(json.dumps({"preprocess_cfg": own}), encoding="utf-8")
        words = {f"image_{name}": value for name, value in own.items()} if request.param == SIGLIP else {}
        network, _, preprocess = open_clip.create_model_and_transforms(request.param, str(path), **words)
        encoder = load_encoder(f"open_clip:{request.param}/{path}")
        yield Loaded(request.param, encoder, network.eval(), preprocess, path)
        path.unlink()  # up to half a gigabyte


@pytest.fixture(scope="module")
def small(save: Callable[[str], Path]) -> Loaded:
    path = save(SMALL)
    network, _, preprocess = open_clip.create_model_and_transforms(SMALL, str(path))
    return Loaded(SMALL, load_encoder(f"open_clip:{SMALL}/{path}"), network.eval(), preprocess, path)


def photos() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)) for h, w in [(300, 400), (90, 40)]]


# ---- the same as open_clip itself ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_photos_are_prepared_and_encoded_as_open_clip_does(large: Loaded) -> None:
    with torch.inference_mode():
        expected = large.network.encode_image(torch.stack([large.preprocess(photo) for photo in photos()])).numpy()
    raw = large.encoder.encode_images(photos(), normalize=False)
    np.testing.assert_allclose(raw, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(large.encoder.encode_images(photos()), unit_rows(expected), atol=1e-5)


@pytest.mark.slow
def test_texts_are_encoded_as_open_clip_does(large: Loaded) -> None:
    tokens = open_clip.get_tokenizer(large.model)(SENTENCES)
    with torch.inference_mode():
        expected = large.network.encode_text(tokens).numpy()
    np.testing.assert_allclose(large.encoder.encode_texts(SENTENCES), unit_rows(expected), atol=1e-5)


@pytest.mark.slow
def test_a_large_model_keeps_the_contract(large: Loaded) -> None:
    check_encoder(large.encoder)
    assert large.encoder.logit_scale == pytest.approx(large.network.logit_scale.detach().exp().item())
    side = LARGE[large.model]
    assert large.encoder.prepare(photos()[0]).shape == (3, side, side)


def test_a_small_model_keeps_the_contract(small: Loaded) -> None:
    check_encoder(small.encoder)
    record = small.encoder.record
    assert (record.templates, record.languages, record.licence) == (
        ("a photo of a {}.",),
        ("en",),
        "see its model card",
    )
    assert small.encoder.identity.name == f"open_clip:{SMALL}/{small.path}"


def test_a_text_is_bit_for_bit_the_same_whatever_else_is_in_the_batch(small: Loaded) -> None:
    together = small.encoder.encode_texts(SENTENCES)
    assert np.array_equal(small.encoder.encode_texts(SENTENCES[::-1])[::-1], together)
    assert np.array_equal(small.encoder.encode_texts(SENTENCES[1:2]), together[1:2])


def test_fault_07_a_strip_does_not_fill_the_memory(small: Loaded) -> None:
    strip = Image.new("RGB", (32_000, 1), "red")
    assert np.array_equal(small.encoder.prepare(strip), small.encoder.prepare(Image.new("RGB", (16, 1), "red")))


def test_threads_are_torchs_and_left_alone_unless_given(small: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    load_encoder(small.encoder.identity.name)
    assert asked == []
    load_encoder(small.encoder.identity.name, threads=2)
    assert asked == [2]


# ---- which one it is -------------------------------------------------------------------------------------------------


def test_one_changed_weight_is_another_fingerprint(small: Loaded, tmp_path: Path) -> None:
    state = torch.load(small.path, weights_only=True)["state_dict"]
    save_file(state, tmp_path / "same.safetensors")
    state["visual.proj"][0, 0] += 1
    save_file(state, tmp_path / "other.safetensors")
    same, other = (load_encoder(f"open_clip:{SMALL}/{tmp_path}/{name}.safetensors") for name in ("same", "other"))
    assert same.identity.fingerprint == small.encoder.identity.fingerprint
    assert other.identity.fingerprint != small.encoder.identity.fingerprint
    assert other.identity.width == same.identity.width == 256


def test_the_file_beside_the_weights_says_how_photos_are_prepared(small: Loaded, tmp_path: Path) -> None:
    (tmp_path / "weights.pt").symlink_to(small.path)
    cfg = {"mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash", "size": 999}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"preprocess_cfg": cfg}), encoding="utf-8")
    encoder = load_encoder(f"open_clip:{SMALL}/{tmp_path}/weights.pt")
    black = encoder.prepare(Image.new("RGB", (300, 200)))
    assert black.shape == (3, 224, 224)
    assert np.all(black == -1)
    assert encoder.identity.fingerprint != small.encoder.identity.fingerprint


@pytest.mark.parametrize("text", ["{}", "[]", "nothing", '{"preprocess_cfg": 5}', "[" * 10_000])
def test_a_damaged_file_beside_the_weights_is_named(small: Loaded, tmp_path: Path, text: str) -> None:
    (tmp_path / "weights.pt").symlink_to(small.path)
    (tmp_path / "open_clip_config.json").write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"open_clip_config.json: it has no preprocess_cfg"):
        load_encoder(f"open_clip:{SMALL}/{tmp_path}/weights.pt")


@pytest.mark.slow
def test_a_tower_whose_preprocessing_is_unknown_is_loaded_with_a_warning(save: Callable[[str], Path]) -> None:
    with pytest.warns(TipAdapterWarning, match=r"open_clip_config.json states how images are prepared"):
        load_encoder(f"open_clip:{SIGLIP}/{save(SIGLIP)}")


def test_a_relative_path_is_remembered_as_a_full_one(small: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(small.path.parent)
    assert load_encoder(f"open_clip:{SMALL}/weights.pt").identity == small.encoder.identity


@pytest.mark.slow
def test_a_classifier_learns_is_kept_and_refuses_other_weights(
    small: Loaded, make_photos: Callable[..., Path], tmp_path: Path
) -> None:
    weights = tmp_path / "weights.pt"
    weights.write_bytes(small.path.read_bytes())
    model = FewShotClassifier(encoder=f"open_clip:{SMALL}/{weights}").fit_folder(make_photos("photos", red=2, blue=2))
    model.save(tmp_path / "model")
    answers = model.predict_folder(tmp_path / "photos")
    assert FewShotClassifier.load(tmp_path / "model").predict_folder(tmp_path / "photos") == answers
    state = torch.load(small.path, weights_only=True)["state_dict"]
    torch.save({name: tensor * 2 for name, tensor in state.items()}, weights)
    with pytest.raises(WrongEncoder, match="was made with another open_clip:"):
        FewShotClassifier.load(tmp_path / "model")


# ---- names -----------------------------------------------------------------------------------------------------------

PUBLISHED = [("RN50", "openai"), ("RN50", "yfcc15m"), ("RN50-quickgelu", "openai"), ("ViT-B-32", "laion2b_s34b_b79k")]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("ViT-B-32/laion2b_s34b_b79k", "open_clip:ViT-B-32/laion2b_s34b_b79k"),
        ("RN50/openai", "open_clip:RN50-quickgelu/openai"),
        ("hf-hub:somebody/some-clip", "open_clip:hf-hub:somebody/some-clip"),
    ],
)
def test_a_source_has_one_name_with_the_activation_it_was_trained_with(text: str, name: str) -> None:
    assert find_source(text, PUBLISHED).name == name


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("RN5/openai", UnknownName, "unknown open_clip architecture 'RN5': did you mean RN50?"),
        ("RN50/opnai", UnknownName, "did you mean openai?"),
        ("RN50", UsageError, "needs weights: one of openai, yfcc15m, or a file"),
        ("", UnknownName, "unknown open_clip architecture"),
        ("RN50/weights.pt", CheckpointError, "cannot read weights.pt: no such file"),
        ("RN50/../../x", CheckpointError, "cannot read ../../x: no such file"),
    ],
)
def test_what_is_no_source_is_refused_with_the_nearest(text: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=re.escape(said)):
        find_source(text, PUBLISHED)


def test_a_full_path_without_its_own_slash_is_pointed_out(small: Loaded) -> None:
    with pytest.raises(CheckpointError, match=f"two slashes: open_clip:{SMALL}/{small.path}"):
        find_source(f"{SMALL}{small.path}", PUBLISHED)


@pytest.mark.parametrize(
    ("model", "many"), [("xlm-roberta-base-ViT-B-32", True), ("ViT-B-16-SigLIP2", True), ("RN50", False)]
)
def test_a_multilingual_text_side_is_told_by_its_name(tmp_path: Path, model: str, many: bool) -> None:
    (tmp_path / "nllb.pt").touch()
    assert find_source(f"{model}/{tmp_path}/nllb.pt", PUBLISHED).is_multilingual == many


# ---- what is refused -------------------------------------------------------------------------------------------------


class Harm:
    """What a pickle can hold: a call that is made when it is read."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.marker),))


@pytest.mark.parametrize("zipped", [True, False])
def test_fault_38_weights_that_hold_code_are_refused_and_nothing_runs(
    tmp_path: Path, zipped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        open_clip, "create_model_and_transforms", lambda *_, **__: pytest.fail("open_clip saw the file")
    )
    torch.save({"state_dict": Harm(tmp_path / "ran")}, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match="is it a file of tensors"):
        load_encoder(f"open_clip:{SMALL}/{tmp_path}/w.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors", "w.npz", "w"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"\x80\x02}q\x00."], ids=["empty", "zip", "pickle"])
def test_fault_38_what_is_no_file_of_weights_is_an_error(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot load open_clip:"):
        load_encoder(f"open_clip:{SMALL}/{tmp_path}/{name}")


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_fault_38_a_program_saved_by_torch_is_refused(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="is it a file of tensors"):
        load_encoder(f"open_clip:{SMALL}/{tmp_path}/w.pt")


def test_weights_of_another_architecture_are_refused(small: Loaded) -> None:
    with pytest.raises(CheckpointError, match=r"is it a file of tensors, of ViT-S-16-alt\?"):
        load_encoder(f"open_clip:ViT-S-16-alt/{small.path}")


def test_an_architecture_that_open_clip_does_not_have_is_an_error(small: Loaded) -> None:
    with pytest.raises(UnknownName, match="unknown open_clip architecture 'RN5': did you mean RN50"):
        load_encoder(f"open_clip:RN5/{small.path}")


def test_a_download_that_fails_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("open_clip.pretrained.hf_hub_download", offline)
    with pytest.raises(DownloadError, match=r"cannot load open_clip:RN50-quickgelu/openai: .* connect once, or pass a"):
        load_encoder("open_clip:RN50/openai")


@pytest.mark.slow
def test_offline_the_program_says_one_sentence(make_photos: Callable[..., Path], tmp_path: Path) -> None:
    fit = [
        "fit",
        make_photos("photos", red=2, blue=2),
        "--out",
        tmp_path / "model",
        "--encoder",
        "open_clip:RN50/openai",
    ]
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "tip_adapter", *map(str, fit)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"error: cannot load open_clip:RN50-quickgelu/openai: .*\n", done.stderr)


def test_a_repository_without_weights_is_never_a_model_of_random_ones(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "open_clip_config.json"
    cfg = {"embed_dim": 8, "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16}}
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1}
    config.write_text(json.dumps({"model_cfg": cfg | {"text_cfg": text}, "preprocess_cfg": {}}), encoding="utf-8")

    def download(repo_id: str, filename: str, **_: Any) -> str:
        return str(config) if filename == config.name else offline()

    monkeypatch.setattr("open_clip.pretrained.hf_hub_download", download)
    with pytest.raises(CheckpointError, match="cannot load open_clip:hf-hub:somebody/some-clip"):
        load_encoder("open_clip:hf-hub:somebody/some-clip")


def offline(*_: Any, **__: Any) -> str:
    raise ConnectionError("there is no network")


def test_a_tokenizer_that_needs_another_package_names_it(small: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> None:
        raise ModuleNotFoundError("No module named 'transformers'", name="transformers")

    encoder = load_encoder(small.encoder.identity.name)
    monkeypatch.setattr(open_clip, "get_tokenizer", missing)
    assert encoder.encode_images(photos()).shape == (2, 256)
    with pytest.raises(MissingExtra, match="pip install transformers"):
        encoder.encode_texts(["cat"])


# ---- what is installed -----------------------------------------------------------------------------------------------


@pytest.fixture
def importing(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Exception], None]:
    """importing("torch", error): its import fails with that."""
    real = builtins.__import__

    def pretend(package: str, error: Exception) -> None:
        def fail(name: str, *rest: Any, **named: Any) -> Any:
            if name.partition(".")[0] == package:
                raise error
            return real(name, *rest, **named)

        monkeypatch.delitem(sys.modules, "tip_adapter.encoders.open_clip.towers", raising=False)
        monkeypatch.setattr(builtins, "__import__", fail)

    return pretend


@pytest.mark.parametrize("package", ["torch", "open_clip"])
def test_without_torch_the_line_to_type_is_named(importing: Callable[..., None], package: str) -> None:
    importing(package, ModuleNotFoundError(f"No module named '{package}'", name=package))
    with pytest.raises(MissingExtra, match=r'pip install "open-clip-torch>=3\.2" "torch>=2\.6"'):
        load_encoder("open_clip:RN50/openai")


@pytest.mark.parametrize(
    "error",
    [RuntimeError("operator torchvision::nms does not exist"), ImportError("undefined symbol"), OSError("libc10")],
)
def test_a_torchvision_that_does_not_fit_torch_is_one_sentence(
    importing: Callable[..., None], error: Exception
) -> None:
    importing("open_clip", error)
    with pytest.raises(MissingExtra, match=r"do not fit each other \(.*pip install --upgrade torch torchvision"):
        load_encoder("open_clip:RN50/openai")


def test_a_device_that_is_not_there_is_refused(small: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="device cuda is not available in this torch"):
        load_encoder(small.encoder.identity.name, device="cuda")
    with pytest.raises(UsageError, match="unknown device 'tpu': known are cpu, cuda"):
        load_encoder(small.encoder.identity.name, device="tpu")


@pytest.mark.slow
def test_naming_the_family_imports_no_torch() -> None:
    code = (
        "import sys, tip_adapter.encoders as e; e.resolve('', '', 'open_clip', {'open_clip': e.FAMILIES['open_clip'].make}); "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")
def test_on_cuda_vectors_are_those_of_the_processor_in_half_precision(small: Loaded) -> None:
    encoder = load_encoder(small.encoder.identity.name, device="cuda")
    np.testing.assert_allclose(encoder.encode_images(photos()), small.encoder.encode_images(photos()), atol=5e-3)
    np.testing.assert_allclose(encoder.encode_texts(SENTENCES), small.encoder.encode_texts(SENTENCES), atol=5e-3)
