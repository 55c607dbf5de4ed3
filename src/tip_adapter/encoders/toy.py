"""`toy`, a deterministic encoder for tests: images by colours and coarse layout, texts by hashed words.

It knows the names of eight colours, so that zero-shot classification has meaningful results.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from tip_adapter.encoders.base import Encoder, EncoderIdentity, EncoderRecord, rows_of
from tip_adapter.plugins import require_extra
from tip_adapter.vectors import unit_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tip_adapter.encoders.toy_torch import ToyPromptTower, ToyTowers

_SIDE = 4
_WIDTH = _SIDE * _SIDE * 3 + 1
_COLOURS = {
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "cyan": (0, 255, 255),
    "magenta": (255, 0, 255),
}


class ToyEncoder(Encoder):
    """A deterministic encoder for tests; `device` and `threads` are ignored."""

    record = EncoderRecord(
        description="deterministic colours and hashed words, for tests",
        width=_WIDTH,
        logit_scale=20.0,
        templates=("{}",),
        keeps_templates=True,
        support_views=0,
        scale_free_ratio=1.0,
        languages=("en",),
        licence="MIT",
        size_mib=0,
    )

    def __init__(self, *, device: str | None = None, threads: int | None = None) -> None:
        self.logit_scale = self.record.logit_scale
        self.identity = EncoderIdentity("toy", hashlib.sha256(b"toy 1").hexdigest(), _WIDTH)

    def prepare(self, image: Image.Image) -> NDArray[np.uint8]:
        """(4, 4, 3) uint8: the image at a low resolution."""
        return np.asarray(image.resize((_SIDE, _SIDE), Image.Resampling.BOX))

    def encode_prepared(self, prepared: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(n, 4, 4, 3) uint8 → (n, 49) float32 unit rows."""
        centred = prepared.reshape(len(prepared), -1).astype(np.float32) / 127.5 - 1
        return unit_rows(np.concatenate([centred, np.full((len(prepared), 1), 0.1, np.float32)], axis=1))

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, 49) float32 unit rows: the mean over words, a colour as an image of that colour, others by their hash."""
        sentences = [text.lower().strip(" .").split() or [""] for text in texts]
        means = [np.stack([self._word(word) for word in words]).mean(axis=0, keepdims=True) for words in sentences]
        return unit_rows(rows_of(means, _WIDTH))

    def prompt_tower(self) -> ToyPromptTower:
        """The text tower with a learnable context, for CoOp; needs torch."""
        tower: ToyPromptTower = require_extra("tip_adapter.encoders.toy_torch", "torch", "torch").ToyPromptTower(
            self.encode_texts, _WIDTH
        )
        return tower

    def towers(self) -> ToyTowers:
        """Both towers as torch modules, new at each call; needs torch."""
        towers: ToyTowers = require_extra("tip_adapter.encoders.toy_torch", "torch", "torch").ToyTowers(
            self.encode_texts, _WIDTH
        )
        return towers

    def _word(self, word: str) -> NDArray[np.float32]:
        if word in _COLOURS:
            return self.encode_prepared(np.full((1, _SIDE, _SIDE, 3), _COLOURS[word], np.uint8))[0]
        seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "little")
        vector = np.random.default_rng(seed).standard_normal(_WIDTH).astype(np.float32)
        return unit_rows(vector[None])[0] / 4
