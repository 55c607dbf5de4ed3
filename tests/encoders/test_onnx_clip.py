"""CLIPs stored as ONNX files give open_clip's own vectors, from a folder and from a hub, in each layout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tip_adapter.encoders import load_encoder
from tip_adapter.testing import check_encoder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import SmallClip

pytestmark = pytest.mark.slow  # exporting takes some seconds

SENTENCES = [
    "a photo of a cat.",
    "A  Photo, of a DOG!",
    "café crème brûlée à Zürich",
    "it's 3 o'clock (at 21.5 °C) — isn't it?",
    " ".join(f"word{n}" for n in range(80)),
    "",
]


@pytest.fixture(scope="session")
def photos(paint: Callable[..., Any]) -> list[Any]:
    return [paint("red").resize(size) for size in [(48, 40), (33, 90), (200, 71), (20, 20), (1, 7)]]


def layouts() -> dict[str, str]:
    return {"open_clip": "open_clip_files", "transformers.js": "transformers_files"}


@pytest.mark.parametrize("files", layouts().values(), ids=layouts())
def test_vectors_of_a_folder_are_open_clips_own(
    files: str, clip_folder: Callable[..., Path], small_clip: SmallClip, photos: list[Any], request: Any
) -> None:
    encoder = load_encoder(f"onnx:{clip_folder(files=request.getfixturevalue(files))}")
    np.testing.assert_allclose(encoder.encode_images(photos), small_clip.images(photos), atol=1e-4)
    np.testing.assert_allclose(encoder.encode_texts(SENTENCES), small_clip.texts(SENTENCES), atol=1e-4)
    check_encoder(encoder)
