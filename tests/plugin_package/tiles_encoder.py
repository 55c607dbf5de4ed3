"""Encoders for tip-adapter: `thumbnail`, and `tiles:SIDE` with any number of tiles."""

from __future__ import annotations

import hashlib

import numpy as np
from PIL import Image

from tip_adapter.encoders import Encoder, EncoderIdentity, EncoderRecord
from tip_adapter.errors import UsageError
from tip_adapter.vectors import unit_rows


def record_of(side: int) -> EncoderRecord:
    return EncoderRecord(
        description=f"colours of {side} x {side} tiles",
        width=side * side * 3 + 1,
        logit_scale=20.0,
        templates=("{}",),
        scale_free_ratio=1.0,
        languages=("en",),
        licence="MIT",
        size_mib=0,
    )


class TilesEncoder(Encoder):
    """A family, since it states no `record` before it has a source: `tiles:8`."""

    gives_raw = True

    def __init__(self, source: str, *, device: str | None = None, threads: int | None = None) -> None:
        if not source.isdecimal() or not 1 <= int(source) <= 64:
            raise UsageError(f"tiles takes a number from 1 to 64, such as tiles:8, not {source!r}")
        self.side = int(source)
        self.record = record_of(self.side)
        self.logit_scale = self.record.logit_scale
        name = f"tiles:{self.side}"
        definition = f"tiles 1: {self.side}"  # with weights, their SHA-256 as well
        self.identity = EncoderIdentity(name, hashlib.sha256(definition.encode()).hexdigest(), self.record.width)

    def prepare(self, image: Image.Image) -> np.ndarray:
        """One photo → (side, side, 3) uint8. Runs in worker threads."""
        return np.asarray(image.resize((self.side, self.side), Image.Resampling.BOX))

    def encode_raw(self, prepared: np.ndarray) -> np.ndarray:
        """(n, side, side, 3) uint8 → (n, width) float32: the colours, and a small constant, so that none is zero."""
        colours = prepared.reshape(len(prepared), -1).astype(np.float32) / 127.5 - 1
        return np.concatenate([colours, np.full((len(prepared), 1), 0.1, np.float32)], axis=1)

    def encode_prepared(self, prepared: np.ndarray) -> np.ndarray:
        """(n, side, side, 3) uint8 → (n, width) float32 unit rows."""
        return unit_rows(self.encode_raw(prepared))

    def encode_texts(self, sentences: list[str]) -> np.ndarray:
        """(n, width) float32 unit rows; random here; a real text tower is trained."""
        rows = [np.random.default_rng([*sentence.encode()]).normal(size=self.record.width) for sentence in sentences]
        return unit_rows(np.array(rows, np.float32).reshape(len(rows), self.record.width))


class ThumbnailEncoder(TilesEncoder):
    """A single encoder, since its class has a `record`: `thumbnail`."""

    record = record_of(4)

    def __init__(self, *, device: str | None = None, threads: int | None = None) -> None:
        super().__init__("4", device=device, threads=threads)
        self.identity = EncoderIdentity("thumbnail", self.identity.fingerprint, self.identity.width)
