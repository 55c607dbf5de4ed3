"""Records of the output folder: the job, and the manifest of each part.

A part's key is the SHA-256 of its inputs, the model, the encoder and the options. A part with a manifest of its key is done;
without one it is done again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal, Self

import msgspec
from msgspec import Meta

from tip_adapter.distributed.plan import PLAN, Count, Digest
from tip_adapter.io.files import read_bounded
from tip_adapter.io.json_schema import convert, parse_json

LABELS: Literal["labels.parquet"] = "labels.parquet"
MANIFEST = "_manifest.json"
#: Names of the folders of parts.
PART = re.compile(r"part-\d{6,}-[0-9a-f]{16}")
#: Version of the columns and of the manifests; a part of each key.
FORMAT = 1
_MOST_MANIFEST = 2**16


class Job(msgspec.Struct, frozen=True):
    """What workers need to know of a job.

    Parameters
    ----------
    kind : ``label`` photos, or ``relabel`` vectors
    out : the output folder, as workers see it
    model_dir : the model folder, as workers see it
    model, encoder : SHA-256 of the model's config.json, and fingerprint of its encoder
    vectors : bool, whether rows keep their vector
    device, threads : of each worker
    """

    kind: Literal["label", "relabel"]
    out: str
    model_dir: str
    model: str
    encoder: str
    vectors: bool = False
    device: str | None = None
    threads: int = 1

    @property
    def plan_path(self) -> Path:
        """Where its plan is."""
        return Path(self.out) / PLAN

    def key(self, digest: str) -> str:
        """The key of a part whose rows in the plan have this digest."""
        stated = [FORMAT, self.kind, digest, self.model, self.encoder, self.vectors]
        return hashlib.sha256(json.dumps(stated).encode()).hexdigest()

    def made(self, manifest: PartManifest) -> bool:
        """Whether a part was made with this model and these options."""
        stated = manifest.kind, manifest.model, manifest.encoder, manifest.vectors
        return stated == (self.kind, self.model, self.encoder, self.vectors)

    def folder(self, part: int, key: str) -> Path:
        """The folder of a part."""
        return Path(self.out) / f"part-{part:06d}-{key[:16]}"


class PartManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a finished part contains.

    Parameters
    ----------
    kind : as in Job
    part, key : its number, and its key
    rows, errors : rows, and those that have an error
    file, n_bytes, sha256 : its Parquet file
    model, encoder, vectors : as in Job
    """

    kind: Literal["label", "relabel"]
    part: Count
    key: Digest
    rows: Count
    errors: Count
    file: Literal["labels.parquet"]
    n_bytes: Count
    sha256: Digest
    model: Digest
    encoder: Annotated[str, Meta(max_length=200)]
    vectors: bool

    def to_json(self) -> bytes:
        """The content of _manifest.json."""
        return (json.dumps({"format": FORMAT, **msgspec.to_builtins(self)}, indent=1) + "\n").encode()

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """The manifest of a part's folder; None if there is none, it is damaged, or its file is not as long as it says."""
        with suppress(OSError, ValueError, RecursionError):
            stated = parse_json(read_bounded(folder / MANIFEST, _MOST_MANIFEST))
            if isinstance(stated, dict) and stated.pop("format", None) == FORMAT:
                manifest = convert(stated, cls)
                if (folder / manifest.file).stat().st_size == manifest.n_bytes:
                    return manifest
        return None


def parts_at(out: Path) -> dict[Path, PartManifest | None]:
    """The folders of parts of an output folder, in order, and their manifests; None for one that is not finished."""
    names = sorted(filter(PART.fullmatch, os.listdir(out)), key=lambda name: (len(name), name)) if out.is_dir() else []
    return {out / name: PartManifest.read(out / name) for name in names}
