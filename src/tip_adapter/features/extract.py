"""Photos are encoded once: a folder of photos becomes a folder of features.

A photo is known by the SHA-256 of its content. One that was encoded by the same recipe is taken from the shards that are
there, whatever it is called now; shards are written as they are done, the manifest last. So a run that was killed goes on
where it was, and a run over the same photos encodes nothing.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from tip_adapter import validation
from tip_adapter.errors import FeaturesError, FolderError, NothingReadable, OutputExists, UsageError, warn
from tip_adapter.features.arrow import ImageTable, RecordBatch, image_batch, images_of, read_parquet, to_batch, to_table
from tip_adapter.features.arrow import write_parquet as parquet_of
from tip_adapter.features.encode import averaging, stream_vectors
from tip_adapter.features.file_encoder import VectorsFileEncoder
from tip_adapter.features.store import (
    MANIFEST,
    SHARD,
    SHARD_ROWS,
    Manifest,
    Recipe,
    Rows,
    Shard,
    is_feature_folder,
    read_content,
    read_manifest,
    shard_name,
)
from tip_adapter.images.augment import Augmentation
from tip_adapter.images.find import find_images, find_labelled, is_split, parts_of
from tip_adapter.images.labels import numbered, path_as_text
from tip_adapter.images.lists import LIST_ENDINGS
from tip_adapter.io.files import file_digest, is_folder, lock_folder, make_folder, remove_file, sweep, write_file
from tip_adapter.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from tip_adapter.encoders import Encoder
    from tip_adapter.features.encode import Progress, VectorBatch
    from tip_adapter.images.find import ImageList

_MOST_VIEWS = 1000


@dataclass(frozen=True)
class Extracted:
    """What a run of `extract` did.

    Parameters
    ----------
    n_images : int, rows of the folder of features
    n_encoded : int, photos that went through the encoder in this run
    n_errors : int, photos without a vector
    errors : the first few of these, as sentences
    """

    n_images: int
    n_encoded: int
    n_errors: int
    errors: tuple[str, ...]


def extract_batches(
    batches: Iterable[RecordBatch],
    encoder: Encoder,
    *,
    root: str | os.PathLike[str] = ".",
    views: int = 0,
    seed: int = 0,
    threads: int | None = None,
) -> Iterator[RecordBatch]:
    """Encode photos that are listed in Arrow record batches: one batch of vectors for each, in order.

    Knows no folder of features and no engine: whatever makes record batches can call it, on as many machines as there are.

    Parameters
    ----------
    batches : pyarrow.RecordBatch with columns id, path and label (null where there is none); others are ignored
    encoder : Encoder
    root : folder that relative paths start from
    views : int, augmented views whose mean a vector is; 0 for the photo itself
    seed : int, of the views
    threads : int, photos decoded at a time; None for one per core

    Yields
    ------
    pyarrow.RecordBatch of `tables.schema(width)`: id, path, sha256 (of the content that was decoded), label, vector, error.
        The same photos give the same batches, whatever batches they came in.
    """
    drawn = Augmentation(views, seed if views else 0)
    for batch in batches:
        ids, paths, labels = images_of(batch)
        photos = [Path(root, path) for path in paths]
        table = ImageTable(ids, paths, [None] * len(ids), labels, _no_vectors(len(ids), encoder), [None] * len(ids))
        with closing(stream_vectors(photos, encoder, views=drawn, threads=threads)) as stream:
            yield to_batch(_with_vectors(table, stream, photos))


def extract(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    encoder: Encoder,
    *,
    views: int = 0,
    seed: int = 0,
    force: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Extracted:
    """Encode the photos of a folder or list into a folder of features; those that are in it already are not encoded again.

    Parameters
    ----------
    source : class folders, a split folder (all its parts), a list; or photos without labels
    out : the folder of features, new, empty, or of an earlier run
    encoder, views, seed, threads : as in `extract_batches`
    force : bool, whether vectors of another recipe, or of other photos only, that are there may be replaced
    progress : called with (photos done, photos in all) after each shard

    Raises
    ------
    FolderError, LabelError
        As `find_labelled`.
    OutputExists
        Something else stands at `out`, or vectors of another encoder, number of views or seed, or of none of these photos
        and another folder, and `force` is false.
    NothingReadable
        Not one photo can be read; the features that were there before still are.
    NotWritable
        With the system's reason. What was encoded is kept, and the features that were there before, too.
    UsageError
        `views` or `seed` is out of bounds, or the encoder is a file of vectors.
    """
    recipe = _recipe(encoder, views, seed)
    found = _find(validation.path(source, "folder"))
    if not found.photos:
        raise FolderError(f"{printable(source)} holds no photos in its class folders")
    warn(*found.notes)
    return _extract(found, out, encoder, recipe, force, threads, progress)


def extract_listed(
    photos: ImageList,
    out: str | os.PathLike[str],
    encoder: Encoder,
    *,
    views: int = 0,
    seed: int = 0,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Extracted:
    """`extract` for photos that are listed already, at least one."""
    found = _Found(photos.root, photos.paths, photos.ids(), photos.labels, (), photos.classes, photos.notes)
    return _extract(found, out, encoder, _recipe(encoder, views, seed), False, threads, progress)


def _extract(
    found: _Found,
    out: str | os.PathLike[str],
    encoder: Encoder,
    recipe: Recipe,
    force: bool,
    threads: int | None,
    progress: Progress | None,
) -> Extracted:
    place = validation.path(out, "out")
    _refuse_foreign(place)
    make_folder(place)
    with lock_folder(place):
        sweep(place)
        if not force:
            _refuse_other_recipe(place, recipe)
        known = _KnownVectors.of(place, recipe)
        if not force:
            _refuse_other_photos(place, found, known)
        run = _Run(place, found.root, encoder, recipe, known, threads)
        shards, errors, done = [], [], 0
        for rows in found.planned():
            shard, failed = run.shard_of(rows)
            shards.append(shard)
            errors += failed
            done += shard.rows
            if progress:
                progress(done, len(found.photos))
        if len(errors) == done:
            raise NothingReadable.among(errors)
        _finish(place, _manifest(recipe, encoder, found, shards, len(errors)))
    return Extracted(done, run.n_encoded, len(errors), tuple(errors[:3]))


# ---- what there is to encode -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Found:
    """Photos to be encoded, in the order of their rows."""

    root: Path
    photos: Sequence[Path]
    ids: Sequence[str]
    labels: Sequence[str | None]
    split: tuple[str, ...]
    classes: tuple[str, ...] | None
    notes: tuple[str, ...]

    def planned(self) -> Iterator[Rows]:
        """The rows of one shard after the other; contents are read for their SHA-256 just before."""
        paths = [path_as_text(os.path.relpath(photo, self.root)) for photo in self.photos]
        with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="hash") as pool:
            for start in range(0, len(self.photos), SHARD_ROWS):
                rows = slice(start, start + SHARD_ROWS)
                digests = list(pool.map(_digest, self.photos[rows]))
                yield Rows(self.ids[rows], paths[rows], digests, self.labels[rows])


def _find(source: Path) -> _Found:
    """Photos with labels where the source has them: class folders, split folders and lists; else all that are there."""
    if is_split(source):
        return _find_parts(source)
    try:
        found = find_labelled(source, part="train")
    except FolderError as error:
        is_list = source.suffix.lower() in LIST_ENDINGS and source.is_file()
        if not is_folder(source) and not is_list:
            raise
        return _find_unlabelled(source, f"its photos are kept without labels: {error}")
    return _Found(found.root, found.paths, found.ids(), found.labels, (), found.classes, found.notes)


def _find_parts(source: Path) -> _Found:
    names = parts_of(source)
    parts = [find_labelled(source, part=name) for name in names]
    return _Found(
        root=source,
        photos=[path for part in parts for path in part.paths],
        ids=[f"{name}/{photo}" for name, part in zip(names, parts, strict=True) for photo in part.ids()],
        labels=[label for part in parts for label in part.labels],
        split=names,
        classes=tuple(sorted({label for part in parts for label in part.classes})),
        notes=(),
    )


def _find_unlabelled(source: Path, note: str) -> _Found:
    photos = find_images(source)
    root = source if source.is_dir() else source.parent
    ids = numbered(path_as_text(os.path.relpath(photo, root)) for photo in photos)
    return _Found(root, photos, ids, [None] * len(photos), (), None, (note,))


def _digest(path: Path) -> str | None:
    """SHA-256 of a file's content; None where it cannot be read: decoding will say why."""
    with suppress(OSError, ValueError):
        return file_digest(path)
    return None


def _recipe(encoder: Encoder, views: int, seed: int) -> Recipe:
    _refuse_vectors(encoder)
    n_views, drawn_by = validation.integer(views, "views", 0, _MOST_VIEWS), validation.seed(seed)
    averaged = averaging(encoder) if n_views else None
    return Recipe(asdict(encoder.identity), n_views, drawn_by if n_views else 0, averaged)


# ---- encoding --------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class _KnownVectors:
    """The vectors that a folder holds already; more of them with each shard that is written.

    Parameters
    ----------
    place : the folder
    files : SHA-256 of a photo's content → the shard that holds its vector
    done : name → shards that need nothing more
    """

    place: Path
    files: dict[str, str]
    done: dict[str, Shard]

    @classmethod
    def of(cls, place: Path, recipe: Recipe) -> Self:
        """Look into every shard of this recipe, also those of a run that was killed; a damaged one is left aside."""
        known = cls(place, {}, {})
        listed = _listed_digests(place)
        for name in _shards_at(place):
            try:
                known.look_into(name, recipe, listed.get(name))
            except (OSError, ValueError, RecursionError) as error:
                warn(f"{printable(place / name)} cannot be used and is made again: {printable(str(error))}")
        return known

    def look_into(self, name: str, recipe: Recipe, listed: str | None) -> None:
        """Know what a shard holds; raises OSError or ValueError where it is not what it should be."""
        content = read_content(self.place / name)
        digest = hashlib.sha256(content).hexdigest()
        if digest != (listed or digest):
            raise ValueError("it is not the file that was saved (another SHA-256)")
        table, note = read_parquet(content, SHARD_ROWS)
        if not recipe.makes(note):
            return
        self.add(name, table)
        if not any(table.errors) and shard_name(recipe, table) == name:  # what failed may be readable by now
            self.done[name] = Shard(name, len(table), digest)

    def add(self, name: str, table: ImageTable) -> None:
        """Know the vectors of a shard."""
        columns = zip(table.sha256, table.errors, strict=True)
        self.files.update((digest, name) for digest, error in columns if digest and error is None)

    def take(self, digests: Sequence[str | None]) -> dict[str, NDArray[np.float32]]:
        """SHA-256 → vector of those that are known; each shard is read once."""
        wanted: dict[str, set[str]] = defaultdict(set)
        for digest in digests:
            if digest in self.files:
                wanted[self.files[digest]].add(digest)
        taken: dict[str, NDArray[np.float32]] = {}
        for name, here in wanted.items():
            with suppress(OSError, ValueError):  # it was readable a moment ago; else its photos are encoded again
                table, _ = read_parquet(read_content(self.place / name), SHARD_ROWS)
                taken |= _vectors_by_digest(table, here)
        return taken


@dataclass
class _Run:
    """One run of `extract`: how a shard comes about, and how many photos went through the encoder."""

    place: Path
    root: Path
    encoder: Encoder
    recipe: Recipe
    known: _KnownVectors
    threads: int | None
    n_encoded: int = 0

    def shard_of(self, rows: Rows) -> tuple[Shard, list[str]]:
        """The shard of these photos, and what failed: the one that is there, or a new one, written."""
        name = shard_name(self.recipe, rows)
        if name in self.known.done:
            return self.known.done[name], []
        table = self._encoded(rows)
        content = parquet_of(table, self.recipe.note())
        write_file(self.place / name, content)
        self.known.add(name, table)
        failed = [error for error in table.errors if error]
        return Shard(name, len(table), hashlib.sha256(content).hexdigest()), failed

    def _encoded(self, rows: Rows) -> ImageTable:
        """Vectors of these photos: known ones, and the others through the encoder, each content once."""
        taken = self.known.take(rows.sha256)
        table = _filled(_waiting(rows, self.encoder), taken)
        first = {digest: row for row, digest in reversed(list(enumerate(rows.sha256)))}
        fresh = [row for row, digest in enumerate(rows.sha256) if digest not in taken]
        table = self._encode_rows(table, [row for row in fresh if (d := rows.sha256[row]) is None or first[d] == row])
        table = _filled(table, _vectors_by_digest(table, set(rows.sha256)))
        # Twins of a photo that cannot be read, or that changed meanwhile, are read for themselves.
        return self._encode_rows(table, [row for row in fresh if table.errors[row] == _WAITING])

    def _encode_rows(self, table: ImageTable, chosen: list[int]) -> ImageTable:
        """The table with these rows encoded."""
        if not chosen:
            return table
        ids, paths = ([column[row] for row in chosen] for column in (table.ids, table.paths))
        asked = image_batch(ids, paths, [table.labels[row] for row in chosen])
        views, seed = self.recipe.views, self.recipe.seed
        (batch,) = extract_batches([asked], self.encoder, root=self.root, views=views, seed=seed, threads=self.threads)
        fresh = to_table(batch)
        self.n_encoded += sum(error is None for error in fresh.errors)
        vectors, digests, errors = table.vectors.copy(), list(table.sha256), list(table.errors)
        for row, vector, digest, error in zip(chosen, fresh.vectors, fresh.sha256, fresh.errors, strict=True):
            vectors[row], errors[row] = vector, error
            digests[row] = digest if error is None else digests[row]
        return replace(table, vectors=vectors, sha256=digests, errors=errors)


#: The error of a row that no vector was found for yet.
_WAITING = "waiting"


def _waiting(rows: Rows, encoder: Encoder) -> ImageTable:
    """The rows without vectors."""
    n = len(rows.ids)
    return ImageTable(rows.ids, rows.paths, rows.sha256, rows.labels, _no_vectors(n, encoder), [_WAITING] * n)


def _filled(table: ImageTable, vectors: dict[str, NDArray[np.float32]]) -> ImageTable:
    """The table with these vectors in the rows that wait for them."""
    filled, errors = table.vectors.copy(), list(table.errors)
    for row, digest in enumerate(table.sha256):
        if errors[row] == _WAITING and digest in vectors:
            filled[row], errors[row] = vectors[digest], None
    return replace(table, vectors=filled, errors=errors)


def _vectors_by_digest(table: ImageTable, wanted: set[Any]) -> dict[str, NDArray[np.float32]]:
    columns = zip(table.sha256, table.vectors, table.errors, strict=True)
    return {digest: vector for digest, vector, error in columns if error is None and digest and digest in wanted}


def _no_vectors(n: int, encoder: Encoder) -> NDArray[np.float32]:
    return np.zeros((n, encoder.identity.width), np.float32)


def _with_vectors(table: ImageTable, stream: Iterable[VectorBatch], photos: Sequence[Path]) -> ImageTable:
    """The table with what a stream of its photos gives; errors name a photo by its path in the table."""
    vectors, digests, errors = table.vectors, list(table.sha256), list(table.errors)
    for batch in stream:
        vectors[batch.positions] = batch.vectors
        for position, digest in zip(batch.positions.tolist(), batch.digests, strict=True):
            digests[position] = digest
        for position, error in batch.errors.items():
            errors[position] = str(error).replace(printable(photos[position]), printable(table.paths[position]))
    return replace(table, sha256=digests, errors=errors)


# ---- the folder ------------------------------------------------------------------------------------------------------


def _shards_at(place: Path) -> list[str]:
    return sorted(name for name in os.listdir(place) if re.fullmatch(SHARD, name))


def _listed_digests(place: Path) -> dict[str, str]:
    """Shard → its SHA-256, as far as a manifest that can be read lists them."""
    with suppress(FeaturesError):
        return {shard.file: shard.sha256 for shard in read_manifest(place).shards}
    return {}


def _refuse_foreign(place: Path) -> None:
    """Raise OutputExists where something stands that is no folder of features, finished or not, nor an empty folder."""
    visible = place.is_dir() and any(not name.startswith(".") for name in os.listdir(place))
    if (visible and not is_feature_folder(place)) or (os.path.lexists(place) and not place.is_dir()):
        raise OutputExists(f"{printable(place)} holds something else than features; choose another place")


def _refuse_vectors(encoder: Encoder) -> None:
    """Raise UsageError where the encoder has vectors and encodes nothing."""
    if isinstance(encoder, VectorsFileEncoder):
        path = printable(encoder.file.path)
        raise UsageError(
            f"{path} holds vectors already and encodes no photos; `tip-adapter fit` takes the file as it is"
        )


def _refuse_other_photos(place: Path, found: _Found, known: _KnownVectors) -> None:
    """Raise OutputExists where finished features of another folder are, and none is of these photos: a slip of the hand."""
    source = _source_at(place)
    if source in (None, path_as_text(found.root.resolve())) or not known.files:
        return
    if not any(digest in known.files for rows in found.planned() for digest in rows.sha256):
        raise OutputExists(
            f"{printable(place)} holds features of other photos, those of {printable(str(source))}; choose another place, or pass "
            "--force (force=True) to replace them"
        )


def _source_at(place: Path) -> str | None:
    """Where the photos of finished features lay; None where there are none that can be read."""
    with suppress(FeaturesError):
        return read_manifest(place).source
    return None


def _refuse_other_recipe(place: Path, recipe: Recipe) -> None:
    """Raise OutputExists where the vectors that are there, also of a run that was killed, were made in another way."""
    for note in _notes_at(place):
        if not recipe.makes(note):
            raise OutputExists(
                f"{printable(place)} holds features of another encoder, number of views or seed; "
                "choose another place, or pass --force (force=True) to replace them"
            )


def _notes_at(place: Path) -> Iterator[str]:
    """How the vectors that are there were made: by the manifest, else by a shard."""
    if (place / MANIFEST).exists():
        with suppress(FeaturesError):  # a damaged manifest is written anew
            yield read_manifest(place).recipe.note()
            return
    for name in _shards_at(place):
        with suppress(OSError, ValueError, RecursionError):
            yield read_parquet(read_content(place / name), SHARD_ROWS)[1]
            return


def _manifest(recipe: Recipe, encoder: Encoder, found: _Found, shards: Sequence[Shard], n_errors: int) -> Manifest:
    return Manifest(
        recipe=recipe,
        logit_scale=float(encoder.logit_scale),
        templates=tuple(encoder.record.templates),
        source=path_as_text(found.root.resolve()),
        split=found.split,
        classes=found.classes,
        n_images=len(found.photos),
        n_errors=n_errors,
        shards=tuple(shards),
    )


def _finish(place: Path, manifest: Manifest) -> None:
    """Write the manifest, unless it is there already, and then remove the shards that it does not list."""
    content = manifest.to_json()
    try:
        stands = read_content(place / MANIFEST) == content
    except (OSError, ValueError):
        stands = False
    if not stands:
        write_file(place / MANIFEST, content)
    for name in set(_shards_at(place)) - {shard.file for shard in manifest.shards}:
        remove_file(place / name)
