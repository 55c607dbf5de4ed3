"""What several rooms' tests share: photos that they make for themselves, and encoders that are loaded once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from hypothesis import settings
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from tip_adapter import load_encoder
from tip_adapter.images import decoding_pool
from tip_adapter.images.decode import decode_file
from tip_adapter.images.decoding_pool import DecodingPool

sys.path.insert(0, str(Path(__file__).parent))

from fake_hub import TOKEN, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fake_hub import FakeHub
    from tip_adapter.encoders import Encoder

#: No deadline: no test asserts a time. The same examples each run: one seed, written down.
settings.register_profile("check", deadline=None, derandomize=True, max_examples=15)
settings.register_profile("soak", settings.get_profile("check"), max_examples=1000)
settings.load_profile("soak" if "TIP_ADAPTER_SOAK" in os.environ else "check")

_COLOURS = {"red": (230, 30, 20), "green": (20, 220, 40), "blue": (30, 20, 230), "yellow": (230, 220, 20)}


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Groups and slow tests first, so that no process is left with a long one at the end.

    What imports open_clip is a group: the import, and the small model that is exported with it, take each process half a minute.
    """
    for item in items:
        if "small_clip" in getattr(item, "fixturenames", ()) or item.path.name.startswith("test_open_clip"):
            item.add_marker(pytest.mark.xdist_group("open_clip"))
    items.sort(
        key=lambda item: (item.get_closest_marker("xdist_group") is None, item.get_closest_marker("slow") is None)
    )


def _paint(label: str, number: int = 0) -> Image.Image:
    """A noisy photo of a colour, grey for any other label; the same label and number give the same photo."""
    rng = np.random.default_rng([number, *label.encode()])
    pixels = np.array(_COLOURS.get(label, (120, 120, 120))) + rng.normal(0, 40, (48, 40, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


@pytest.fixture(autouse=True)
def decoded_in_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """No: hundreds of tests fit on a handful of photos. Those about files that do harm override this, and the programs
    that tests start are as they are.
    """
    monkeypatch.setattr(DecodingPool, "decode", staticmethod(decode_file))
    monkeypatch.setattr(decoding_pool, "start_decoding", lambda: None)


@pytest.fixture(scope="session")
def paint() -> Callable[..., Image.Image]:
    """paint(label, number) → a photo; see `_paint`."""
    return _paint


@pytest.fixture
def make_photos(tmp_path: Path) -> Callable[..., Path]:
    """Write class folders: make_photos("train", red=3, green=2) → their folder; `first` numbers the first photo."""

    def make(name: str, first: int = 0, /, **counts: int) -> Path:
        for label, count in counts.items():
            (tmp_path / name / label).mkdir(parents=True)
            for number in range(first, first + count):
                _paint(label, number).save(tmp_path / name / label / f"{number}.png")
        return tmp_path / name

    return make


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """installed(folder) → a folder with the package of that folder installed in it, as pip does, offline."""

    def install(package: Path) -> Path:
        root = tmp_path_factory.mktemp(package.name)
        source = root / "source"  # setuptools writes into the folder that it builds
        source.mkdir()
        for path in (package / "pyproject.toml", *package.glob("*.py")):
            (source / path.name).write_bytes(path.read_bytes())
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index"]
        command = [*pip, "--no-deps", "--no-build-isolation", "--target", root / "site", source]
        subprocess.run(list(map(str, command)), check=True, capture_output=True)
        return root / "site"

    return install


@pytest.fixture(scope="session")
def pocket() -> Encoder:
    return load_encoder("pocket")


@pytest.fixture
def hub(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub on loopback in the place of Hugging Face's, an empty cache, and a stored token."""
    from huggingface_hub import constants

    with serving() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path_factory.mktemp("hub")))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
        yield hub


# ---- a CLIP as ONNX files ----------------------------------------------------------------------------------------------


@pytest.fixture
def clip_folder(tmp_path: Path, tiny_files: dict[str, bytes]) -> Callable[..., Path]:
    """clip_folder({"config.json": b"…"}) → a folder of the tiny CLIP, or of others, with these files instead (None: not)."""

    def make(changed: dict[str, Any] | None = None, files: dict[str, bytes] = tiny_files) -> Path:
        wanted = {**files, **(changed or {})}
        return write_files(tmp_path / "clip", wanted)

    return make


def write_files(folder: Path, files: dict[str, bytes | None]) -> Path:
    for name, content in files.items():
        if content is not None:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="session")
def tiny_files() -> dict[str, bytes]:
    """A CLIP made by hand in open_clip's layout, for tests that need no real one: colours, and a few words."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {"": 0, "<end>": 1, "a": 2, "photo": 3, "of": 4, "red": 5, "green": 6, "blue": 7, "?": 8}
    rng = np.random.default_rng(0)
    mixed = rng.standard_normal((3, 8))
    table = rng.standard_normal((len(words), 8)) / 10
    table[5:8] = mixed
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    preprocessing = {"size": 8, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "resize_mode": "squash"}
    return {
        "visual/model.onnx": tiny_image_graph(mixed),
        "visual/preprocess_cfg.json": _as_json(preprocessing),
        "textual/model.onnx": tiny_text_graph(table),
        "textual/tokenizer.json": tokenizer.to_str().encode(),
        "textual/tokenizer_config.json": _as_json({}),
        "config.json": _as_json({}),
    }


def tiny_image_graph(mixed: np.ndarray) -> bytes:
    """The mean colour, mixed."""
    steps = [
        helper.make_node("GlobalAveragePool", ["image"], ["mean_colour"]),
        helper.make_node("Flatten", ["mean_colour"], ["colour"]),
        helper.make_node("MatMul", ["colour", "mixed"], ["rows"]),
    ]
    return _tiny_graph(steps, _tensor("image", TensorProto.FLOAT, ["n", 3, 8, 8]), mixed=mixed)


def tiny_text_graph(table: np.ndarray) -> bytes:
    """The mean of the words' vectors."""
    steps = [
        helper.make_node("Gather", ["table", "text"], ["words"]),
        helper.make_node("ReduceMean", ["words"], ["rows"], axes=[1], keepdims=0),
    ]
    return _tiny_graph(steps, _tensor("text", TensorProto.INT32, ["n", 9]), table=table)


def _tiny_graph(steps: list[onnx.NodeProto], given: onnx.ValueInfoProto, **weights: np.ndarray) -> bytes:
    tensors = [numpy_helper.from_array(values.astype(np.float32), name) for name, values in weights.items()]
    graph = helper.make_graph(steps, "tiny", [given], [_tensor("rows", TensorProto.FLOAT, ["n", 8])], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def _tensor(name: str, kind: int, shape: list[Any]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def _as_json(value: Any) -> bytes:
    return json.dumps(value).encode()
