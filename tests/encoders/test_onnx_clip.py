"""CLIPs stored as ONNX files give open_clip's own vectors, from a folder and from a hub, in each layout."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tip_adapter.encoders import load_encoder
from tip_adapter.errors import TipAdapterWarning, UsageError
from tip_adapter.testing import check_encoder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fake_hub import FakeHub, SmallClip

pytestmark = pytest.mark.slow  # exporting takes some seconds

SENTENCES = [
    "a photo of a cat.",
    "A  Photo, of a DOG!",
    "café crème brûlée à Zürich",
    "it's 3 o'clock (at 21.5 °C) — isn't it?",
    " ".join(f"word{n}" for n in range(80)),
    "",
]
LAYOUTS = {"open_clip": "open_clip_files", "transformers.js": "transformers_files"}


@pytest.fixture(scope="session")
def photos(paint: Callable[..., Any]) -> list[Any]:
    return [paint("red").resize(size) for size in [(48, 40), (33, 90), (200, 71), (20, 20), (1, 7)]]


@pytest.mark.parametrize("files", LAYOUTS.values(), ids=LAYOUTS)
def test_vectors_of_a_folder_are_open_clips_own(
    files: str, clip_folder: Callable[..., Path], small_clip: SmallClip, photos: list[Any], request: Any
) -> None:
    encoder = load_encoder(f"onnx:{clip_folder(files=request.getfixturevalue(files))}")
    np.testing.assert_allclose(encoder.encode_images(photos), small_clip.images(photos), atol=1e-4)
    np.testing.assert_allclose(encoder.encode_texts(SENTENCES), small_clip.texts(SENTENCES), atol=1e-4)
    check_encoder(encoder)


@pytest.mark.parametrize("files", LAYOUTS.values(), ids=LAYOUTS)
def test_vectors_from_the_hub_are_open_clips_own(
    files: str, hub: FakeHub, small_clip: SmallClip, photos: list[Any], request: Any
) -> None:
    hub.hold("someone/clip", request.getfixturevalue(files))
    with pytest.warns(TipAdapterWarning, match="downloading"):
        encoder = load_encoder("onnx:someone/clip")
    np.testing.assert_allclose(encoder.encode_images(photos), small_clip.images(photos), atol=1e-4)
    np.testing.assert_allclose(encoder.encode_texts(SENTENCES), small_clip.texts(SENTENCES), atol=1e-4)


def test_a_graph_that_scales_pixels_itself_and_takes_one_photo_gives_the_same(
    clip_folder: Callable[..., Path],
    open_clip_files: dict[str, bytes],
    small_clip: SmallClip,
    photos: list[Any],
) -> None:
    files = open_clip_files | {"visual/model.onnx": small_clip.graphs["image_uint8"]}
    encoder = load_encoder(f"onnx:{clip_folder(files=files)}")
    np.testing.assert_allclose(encoder.encode_images(photos), small_clip.images(photos), atol=1e-4)
    check_encoder(encoder)


def test_settings_of_siglip_are_those_of_open_clip(
    clip_folder: Callable[..., Path], open_clip_files: dict[str, bytes], small_clip: SmallClip, photos: list[Any]
) -> None:
    pixels = json.loads(open_clip_files["visual/preprocess_cfg.json"]) | {"resize_mode": "squash"}
    text = {"context_length": 77, "tokenizer_kwargs": {"clean": "canonicalize"}}
    settings = {"visual/preprocess_cfg.json": pixels, "config.json": {"text_cfg": text}}
    changed = {name: json.dumps(value).encode() for name, value in settings.items()}
    encoder = load_encoder(f"onnx:{clip_folder(changed, open_clip_files)}")
    np.testing.assert_allclose(
        encoder.encode_images(photos), small_clip.images(photos, resize_mode="squash"), atol=1e-4
    )
    sentences = [*SENTENCES, "snake_case, too (really)!"]
    np.testing.assert_allclose(encoder.encode_texts(sentences), small_clip.texts(sentences, "canonicalize"), atol=1e-4)
    check_encoder(encoder)


@pytest.mark.parametrize(
    "stated",
    [
        {"resize_mode": "longest", "fill_color": 7},
        {"interpolation": "bilinear"},
        {"resize_mode": "squash", "interpolation": "bilinear"},
    ],
    ids=lambda stated: "-".join(map(str, stated.values())),
)
def test_each_way_of_resizing_is_open_clips(
    stated: dict[str, Any],
    clip_folder: Callable[..., Path],
    open_clip_files: dict[str, bytes],
    small_clip: SmallClip,
    photos: list[Any],
) -> None:
    pixels = json.dumps(json.loads(open_clip_files["visual/preprocess_cfg.json"]) | stated).encode()
    encoder = load_encoder(f"onnx:{clip_folder({'visual/preprocess_cfg.json': pixels}, open_clip_files)}")
    np.testing.assert_allclose(encoder.encode_images(photos[:4]), small_clip.images(photos[:4], **stated), atol=1e-4)


def test_vectors_before_they_are_normalised_are_given_where_the_graph_gives_them(
    clip_folder: Callable[..., Path],
    open_clip_files: dict[str, bytes],
    transformers_files: dict[str, bytes],
    photos: list[Any],
) -> None:
    raw = load_encoder(f"onnx:{clip_folder(files=transformers_files)}")
    assert raw.gives_raw
    assert not np.allclose(np.square(raw.encode_images(photos, normalize=False)).sum(axis=1), 1)
    unit = load_encoder(f"onnx:{clip_folder(files=open_clip_files)}")
    assert not unit.gives_raw
    with pytest.raises(UsageError, match="gives unit rows only"):
        unit.encode_images(photos, normalize=False)


def test_a_sentences_vector_does_not_depend_on_the_others(
    clip_folder: Callable[..., Path], open_clip_files: dict[str, bytes]
) -> None:
    encoder = load_encoder(f"onnx:{clip_folder(files=open_clip_files)}")
    alone = np.concatenate([encoder.encode_texts([sentence]) for sentence in SENTENCES])
    np.testing.assert_array_equal(encoder.encode_texts(SENTENCES), alone)
