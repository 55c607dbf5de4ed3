"""A folder of features: photos as vectors in Parquet shards, and manifest.json. Knows no encoder.

docs/reference/features.md is the format as a contract. What is read is compared with its SHA-256 and checked before it is
used; shards are read one at a time.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tip_adapter.errors import DamagedFeatures, FeaturesError
from tip_adapter.features.arrow import ImageTable, read_parquet
from tip_adapter.io.files import open_regular, read_bounded
from tip_adapter.io.json_schema import (
    items,
    matching,
    maybe,
    one_of,
    parse_json,
    positive,
    printable_line,
    record,
    text,
    whole,
    word,
)
from tip_adapter.text import printable
from tip_adapter.validation import MAX_SEED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

FORMAT = 1
MANIFEST = "manifest.json"
#: Photos of a shard: of 1,280 numbers each, 5 MiB.
SHARD_ROWS = 1024
SHARD = r"shard-[0-9a-f]{32}\.parquet"

#: Of a shard and of the manifest: 100 million photos, or 10,000 classes, take less.
_MOST_SHARD, _MOST_MANIFEST = 2**30, 64 * 2**20
_MAKING = {
    "encoder": record({"name": printable_line, "fingerprint": word, "width": whole(1, 2**20)}),
    "views": whole(0, 2**20),
    "seed": whole(0, MAX_SEED),
    "averaging": maybe(one_of(("raw", "unit"))),
}
_RECIPE = record(_MAKING)
_MANIFEST = record(
    {
        "format": whole(FORMAT, FORMAT),
        **_MAKING,
        "logit_scale": positive(1e4),
        "templates": items(text),
        "source": text,
        "split": items(one_of(("train", "val", "test"))),
        "classes": maybe(items(text)),
        "n_images": whole(0, 2**53),
        "n_errors": whole(0, 2**53),
        "shards": items(
            record(
                {
                    "file": matching(SHARD, "the name of a shard"),
                    "rows": whole(1, SHARD_ROWS),
                    "sha256": matching("[0-9a-f]{64}", "a SHA-256 in hexadecimal"),
                }
            )
        ),
    }
)


@dataclass(frozen=True)
class Recipe:
    """How vectors were made: those of one recipe are interchangeable.

    Parameters
    ----------
    encoder : name, fingerprint and width of the encoder
    views : int, augmented views of each photo; 0 for none
    seed : int, of the views; 0 where there are none
    averaging : ``raw`` or ``unit``, what was averaged over the views; None where there are none
    """

    encoder: Mapping[str, Any]
    views: int
    seed: int
    averaging: str | None

    def note(self) -> str:
        """The recipe as one line of JSON, as shards keep it."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    def makes(self, note: str) -> bool:
        """Whether a shard with this note holds vectors that this recipe would give: an encoder may have another name."""
        return _made(asdict(self)) == _made(_recipe_of(note))


@dataclass(frozen=True)
class Shard:
    """One file of the folder: its name, how many rows it has, and its SHA-256."""

    file: str
    rows: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a folder of features holds.

    Parameters
    ----------
    recipe : Recipe
    logit_scale, templates : the encoder's
    source : where the photos lay
    split : the parts of a split folder; empty where the photos were in none
    classes : all labels in order; None where photos have none
    n_images, n_errors : rows, and those that have an error
    shards : in the order of their rows
    """

    recipe: Recipe
    logit_scale: float
    templates: tuple[str, ...]
    source: str
    split: tuple[str, ...]
    classes: tuple[str, ...] | None
    n_images: int
    n_errors: int
    shards: tuple[Shard, ...]

    def to_json(self) -> bytes:
        """The content of manifest.json."""
        fields = asdict(self)
        recipe = fields.pop("recipe")
        stated = {"format": FORMAT, **recipe, **fields}
        return (json.dumps(stated, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()

    @classmethod
    def from_json(cls, content: bytes) -> Self:
        """What `to_json` gave; raises ValueError for all else."""
        stated = parse_json(content)
        if isinstance(stated, dict) and type(stated.get("format")) is int and stated["format"] > FORMAT:
            raise _Future(stated["format"])
        _MANIFEST(stated)
        shards = tuple(Shard(**shard) for shard in stated["shards"])
        if sum(shard.rows for shard in shards) != stated["n_images"]:
            raise ValueError("its shards have another number of rows than it has photos")
        classes = stated["classes"]
        return cls(
            recipe=Recipe(**{name: stated[name] for name in _MAKING}),
            logit_scale=float(stated["logit_scale"]),
            templates=tuple(stated["templates"]),
            source=stated["source"],
            split=tuple(stated["split"]),
            classes=None if classes is None else tuple(classes),
            n_images=stated["n_images"],
            n_errors=stated["n_errors"],
            shards=shards,
        )


class _Future(ValueError):
    """A format that a later version wrote."""


def is_feature_folder(path: str | os.PathLike[str]) -> bool:
    """Whether it is a folder of features, or one that is not finished: with our files, and without folders to be seen."""
    try:
        entries = [entry for entry in os.scandir(path) if not entry.name.startswith(".")]
    except (OSError, ValueError):
        return False
    ours = any(entry.name == MANIFEST or re.fullmatch(SHARD, entry.name) for entry in entries)
    return ours and not any(entry.is_dir() for entry in entries)


def shard_name(recipe: Recipe, table: ImageTable | Rows) -> str:
    """The name of the shard that holds the vectors of these photos by this recipe."""
    rows = zip(table.ids, table.paths, table.sha256, table.labels, strict=True)
    stated = json.dumps([_made(asdict(recipe)), list(rows)], separators=(",", ":"))
    return f"shard-{hashlib.sha256(stated.encode()).hexdigest()[:32]}.parquet"


@dataclass(frozen=True)
class Rows:
    """The photos of a shard before they are encoded: ids, paths, the SHA-256 of their contents, labels."""

    ids: Sequence[str]
    paths: Sequence[str]
    sha256: Sequence[str | None]
    labels: Sequence[str | None]


def read_manifest(folder: str | os.PathLike[str]) -> Manifest:
    """The manifest of a folder of features, checked.

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
        return Manifest.from_json(read_bounded(path, _MOST_MANIFEST))


def read_shard(folder: str | os.PathLike[str], shard: Shard, width: int) -> ImageTable:
    """The rows of a shard, compared with its SHA-256 and checked.

    Raises
    ------
    DamagedFeatures
        It is missing, changed, or not what features.md says.
    """
    path = Path(folder) / shard.file
    with _reading(path):
        content = read_content(path)
        if hashlib.sha256(content).hexdigest() != shard.sha256:
            raise ValueError("it is not the file that was saved (another SHA-256)")
        table, _ = read_parquet(content, SHARD_ROWS)
        if len(table) != shard.rows or table.vectors.shape[1] != width:
            raise ValueError(f"it has {table.vectors.shape} vectors, not {(shard.rows, width)}")
    return table


def read_content(path: Path) -> bytes:
    """All bytes of a shard; raises OSError or ValueError."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > _MOST_SHARD:
            raise ValueError(f"it is larger than {_MOST_SHARD // 2**20} MiB")
        return file.read(size)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Whatever is wrong with a file becomes an error that names it and the way out."""
    way_out = "restore it, or run `tip-adapter extract` again"
    try:
        yield
    except _Future as error:
        raise FeaturesError(
            f"{printable(path)} is of format {error}, this version reads format {FORMAT}; upgrade tip-adapter"
        ) from error
    except OSError as error:
        raise DamagedFeatures(f"cannot read {printable(path)}: {error.strerror or error}; {way_out}") from error
    except (ValueError, RecursionError) as error:
        raise DamagedFeatures(f"{printable(path)} is damaged: {printable(str(error))}; {way_out}") from error


def _recipe_of(note: str) -> dict[str, Any]:
    stated: dict[str, Any] = parse_json(note.encode())
    _RECIPE(stated)
    return stated


def _made(recipe: Mapping[str, Any]) -> list[Any]:
    """What of a recipe decides about the vectors: not the encoder's name."""
    return [recipe["encoder"]["fingerprint"], recipe["views"], recipe["seed"], recipe["averaging"]]
