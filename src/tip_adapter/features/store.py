"""A features folder: images as vectors in Parquet shards, and manifest.json. Knows no encoder.

docs/reference/features.md is the format as a contract. A shard is compared with its SHA-256 and checked before it is used;
shards are read one by one.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

import msgspec
from msgspec import Meta

from tip_adapter.errors import DamagedFeatures, FeaturesError
from tip_adapter.features.arrow import ImageTable, read_parquet
from tip_adapter.images.search import is_skipped_name
from tip_adapter.io.files import read_bounded
from tip_adapter.io.json_schema import convert, parse_json
from tip_adapter.text import printable
from tip_adapter.validation import MAX_SEED

if TYPE_CHECKING:
    from collections.abc import Iterator

FORMAT = 1
MANIFEST = "manifest.json"
#: Rows of a shard: with vectors of width 1,280, 5 MiB.
SHARD_ROWS = 1024
SHARD = r"shard-[0-9a-f]{32}\.parquet"
#: Bytes of a shard, and of the manifest: 100 million images, or 10,000 classes, take less.
MAX_SHARD, MAX_MANIFEST = 2**30, 64 * 2**20

Count = Annotated[int, Meta(ge=0, le=2**53)]


class MadeWith(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The identity of the encoder that made vectors."""

    name: Annotated[str, Meta(min_length=1, max_length=4096)]
    fingerprint: Annotated[str, Meta(min_length=1, max_length=200)]
    width: Annotated[int, Meta(ge=1, le=2**20)]

    def __post_init__(self) -> None:
        if not (self.name.isprintable() and self.fingerprint.isprintable()):
            raise ValueError("Expected printable characters")


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How vectors were made: those of one recipe are interchangeable.

    Parameters
    ----------
    encoder : MadeWith, name, fingerprint and width of the encoder
    views : int, augmented views of each image; 0 for none
    seed : int, of the views; 0 without views
    averaging : ``raw`` or ``unit``, what was averaged over the views; None without views
    """

    encoder: MadeWith
    views: Annotated[int, Meta(ge=0, le=2**20)]
    seed: Annotated[int, Meta(ge=0, le=MAX_SEED)]
    averaging: Literal["raw", "unit"] | None

    def note(self) -> str:
        """The recipe as one line of JSON, as shards keep it."""
        stated = {name: msgspec.to_builtins(getattr(self, name)) for name in Recipe.__struct_fields__}
        return json.dumps(stated, sort_keys=True, separators=(",", ":"))

    def key(self) -> tuple[str, int, int, str | None]:
        """What determines the vectors: not the encoder's name."""
        return self.encoder.fingerprint, self.views, self.seed, self.averaging

    def makes(self, note: str) -> bool:
        """Whether a shard with this note has the vectors that this recipe gives; raises ValueError or RecursionError."""
        return self.key() == convert(parse_json(note.encode()), Recipe).key()


class Shard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of the folder: its name, its number of rows, and its SHA-256."""

    file: Annotated[str, Meta(pattern=rf"^{SHARD}\Z")]
    rows: Annotated[int, Meta(ge=1, le=SHARD_ROWS)]
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class Manifest(Recipe, frozen=True, forbid_unknown_fields=True):
    """What a features folder contains: its recipe and these.

    Parameters
    ----------
    logit_scale, templates : the encoder's
    source : folder or list that the images were in
    split : the parts of a split folder; empty if it is not split
    classes : all labels in order; None for images without labels
    n_images, n_errors : rows, and those that have an error
    shards : in the order of their rows
    """

    logit_scale: Annotated[float, Meta(gt=0, le=1e4)]
    templates: tuple[str, ...]
    source: str
    split: tuple[Literal["train", "val", "test"], ...]
    classes: tuple[str, ...] | None
    n_images: Count
    n_errors: Count
    shards: tuple[Shard, ...]

    def to_json(self) -> bytes:
        """The content of manifest.json."""
        stated = {"format": FORMAT, **msgspec.to_builtins(self)}
        return (json.dumps(stated, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()

    @classmethod
    def from_json(cls, content: bytes) -> Self:
        """Inverse of `to_json`; raises ValueError or RecursionError for anything else."""
        stated = parse_json(content)
        if isinstance(stated, dict):
            number = stated.pop("format", None)
            if type(number) is int and number > FORMAT:
                raise _LaterFormat(number)
            if type(number) is not int or number != FORMAT:
                raise ValueError(f"format is {number!r:.80}, not {FORMAT}")
        manifest = convert(stated, cls)
        if sum(shard.rows for shard in manifest.shards) != manifest.n_images:
            raise ValueError("the number of rows of its shards is not its number of images")
        return manifest


class _LaterFormat(ValueError):
    """A format that a later version wrote."""


def is_feature_folder(path: str | os.PathLike[str]) -> bool:
    """Whether it is a features folder, finished or not: it has a manifest or a shard, and no folders but those that are skipped."""
    try:
        entries = [entry for entry in os.scandir(path) if not is_skipped_name(entry.name)]
    except (OSError, ValueError):
        return False
    ours = any(entry.name == MANIFEST or re.fullmatch(SHARD, entry.name) for entry in entries)
    return ours and not any(entry.is_dir() for entry in entries)


def shard_name(recipe: Recipe, table: ImageTable) -> str:
    """The name of the shard with the vectors of these images by this recipe."""
    rows = zip(table.ids, table.paths, table.sha256, table.labels, strict=True)
    stated = json.dumps([recipe.key(), list(rows)], separators=(",", ":"))
    return f"shard-{hashlib.sha256(stated.encode()).hexdigest()[:32]}.parquet"


def read_manifest(folder: str | os.PathLike[str]) -> Manifest:
    """The manifest of a features folder, checked.

    Raises
    ------
    FeaturesError
        There is none, or it is of a later format. DamagedFeatures if it is not what features.md says.
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise FeaturesError(
            f"{printable(folder)} holds no finished features: it has no {MANIFEST}; run `tip-adapter extract` to its end"
        )
    with _reading(path):
        return Manifest.from_json(read_bounded(path, MAX_MANIFEST))


def read_shard(folder: str | os.PathLike[str], shard: Shard, width: int) -> ImageTable:
    """The rows of a shard that a manifest lists, compared with its SHA-256 and checked.

    Raises
    ------
    DamagedFeatures
        It is missing, changed, or not what features.md says.
    """
    path = Path(folder) / shard.file
    with _reading(path):
        table, _, _ = load_shard(path, shard.sha256)
        if len(table) != shard.rows or table.vectors.shape[1] != width:
            raise ValueError(f"it has {table.vectors.shape} vectors, not {(shard.rows, width)}")
    return table


def load_shard(path: Path, sha256: str | None = None) -> tuple[ImageTable, str, str]:
    """The rows, the note and the SHA-256 of a shard; raises OSError or ValueError, also if it has another SHA-256."""
    content = read_bounded(path, MAX_SHARD)
    digest = hashlib.sha256(content).hexdigest()
    if sha256 not in (None, digest):
        raise ValueError("it is not the file that was saved (another SHA-256)")
    return *read_parquet(content, SHARD_ROWS), digest


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Any problem with a file becomes an error that names it and says what to do."""
    way_out = "restore it, or run `tip-adapter extract` again"
    try:
        yield
    except _LaterFormat as error:
        raise FeaturesError(
            f"{printable(path)} is of format {error}, this version reads format {FORMAT}; upgrade tip-adapter"
        ) from error
    except OSError as error:
        raise DamagedFeatures(f"cannot read {printable(path)}: {error.strerror or error}; {way_out}") from error
    except (ValueError, RecursionError) as error:
        raise DamagedFeatures(f"{printable(path)} is damaged: {printable(str(error))}; {way_out}") from error
