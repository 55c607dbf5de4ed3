"""What several rooms' tests share: photos that they make for themselves, and encoders that are loaded once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from tip_adapter import load_encoder
from tip_adapter.photos import processes
from tip_adapter.photos.decode import decode_file
from tip_adapter.photos.processes import DecodingProcesses

sys.path.insert(0, str(Path(__file__).parent))

from fake_hub import TOKEN, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fake_hub import FakeHub
    from tip_adapter.encoders import Encoder

_COLOURS = {"red": (230, 30, 20), "green": (20, 220, 40), "blue": (30, 20, 230), "yellow": (230, 220, 20)}


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
    monkeypatch.setattr(DecodingProcesses, "decode", staticmethod(decode_file))
    monkeypatch.setattr(processes, "start_decoding", lambda: None)


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
