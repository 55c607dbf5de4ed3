"""Encode images once: a folder or list of images becomes a features folder.

An image is identified by the SHA-256 of its file. One that was encoded by the same recipe is taken from the existing shards,
even if it was renamed or moved; each shard is written when it is complete, the manifest last. So a killed run is resumed by
the next, and a run over the same images encodes nothing.
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
from tip_adapter.features.arrow import (
    ImageTable,
    RecordBatch,
    image_batch,
    images_of,
    to_batch,
    to_table,
    write_parquet,
)
from tip_adapter.features.encode import averaging, stream_vectors
from tip_adapter.features.file_encoder import VectorsFileEncoder
from tip_adapter.features.store import (
    MANIFEST,
    MAX_MANIFEST,
    SHARD,
    SHARD_ROWS,
    MadeWith,
    Manifest,
    Recipe,
    Rows,
    Shard,
    is_feature_folder,
    load_shard,
    read_manifest,
    shard_name,
)
from tip_adapter.images.augment import Augmentation
from tip_adapter.images.find import find_images, find_labelled, is_split, parts_of
from tip_adapter.images.labels import numbered, path_as_text
from tip_adapter.images.lists import LIST_ENDINGS
from tip_adapter.io.files import (
    file_digest,
    is_folder,
    lock_folder,
    make_folder,
    read_bounded,
    remove_file,
    sweep,
    write_file,
)
from tip_adapter.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from tip_adapter.encoders import Encoder
    from tip_adapter.features.encode import Progress
    from tip_adapter.images.find import ImageList

_MOST_VIEWS = 1000
#: The error of a row that has no vector yet.
_WAITING = "waiting"


@dataclass(frozen=True)
class Extracted:
    """What a run of `extract` did.

    Parameters
    ----------
    n_images : int, rows of the features folder
    n_encoded : int, images that this run encoded
    n_errors : int, images without a vector
    errors : the first few error messages
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
    """Encode images that are listed in Arrow record batches: one batch of vectors for each, in order.

    Independent of features folders and of any engine: whatever makes record batches can call it, on any number of machines.

    Parameters
    ----------
    batches : pyarrow.RecordBatch with columns id, path and label (null without a label); others are ignored
    encoder : Encoder
    root : folder that relative paths start from
    views : int, augmented views whose mean a vector is; 0 for the image itself
    seed : int, of the views
    threads : int, images decoded concurrently; None for one per core

    Yields
    ------
    pyarrow.RecordBatch of `arrow.schema(width)`: id, path, sha256 (of the decoded file), label, vector, error.
        The same images give the same rows, however they are batched.
    """
    drawn = Augmentation(views, seed if views else 0)
    for batch in batches:
        ids, paths, labels = images_of(batch)
        images = [Path(root, path) for path in paths]
        vectors = np.zeros((len(ids), encoder.identity.width), np.float32)
        digests: list[str | None] = [None] * len(ids)
        errors: list[str | None] = [None] * len(ids)
        with closing(stream_vectors(images, encoder, views=drawn, threads=threads)) as stream:
            for part in stream:
                vectors[part.positions] = part.vectors
                for position, digest in zip(part.positions.tolist(), part.digests, strict=True):
                    digests[position] = digest
                for position, error in part.errors.items():
                    # By its path in the batch, so that the same image has the same row wherever the root is.
                    errors[position] = str(error).replace(printable(images[position]), printable(paths[position]))
        yield to_batch(ImageTable(ids, paths, digests, labels, vectors, errors))


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
    """Encode the images of a folder or list into a features folder; those already in it are not encoded again.

    Parameters
    ----------
    source : class folders, a split folder (all its parts), a list; or images without labels
    out : the features folder: new, empty, or of an earlier run
    encoder, views, seed, threads : as in `extract_batches`
    force : bool, whether existing vectors of another recipe, or of other images only, may be replaced
    progress : called with (images done, images in all) after each shard

    Raises
    ------
    FolderError, LabelError
        As `find_labelled`.
    OutputExists
        `out` is not a features folder; or `force` is false, and its vectors were made with another encoder, number of views
        or seed, or are of another folder without any of these images.
    NothingReadable
        No image is readable; the existing features stay.
    NotWritable
        With the system's reason. What was encoded is kept, and so are the existing features.
    UsageError
        `views` or `seed` is out of bounds, or the encoder is a vector file.
    """
    recipe = _recipe(encoder, views, seed)
    found = _find(validation.path(source, "folder"))
    if not found.images:
        raise FolderError(f"{printable(source)} holds no photos in its class folders")
    warn(*found.notes)
    return _extract(found, out, encoder, recipe, force, threads, progress)


def extract_listed(
    images: ImageList,
    out: str | os.PathLike[str],
    encoder: Encoder,
    *,
    views: int = 0,
    seed: int = 0,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Extracted:
    """`extract` for images that are already listed, at least one."""
    return _extract(_Found.of(images), out, encoder, _recipe(encoder, views, seed), False, threads, progress)


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
        sweep(place, age_s=0)
        if not force:
            _refuse_other_recipe(place, recipe)
        known = _KnownVectors.of(place, recipe)
        if not force:
            _refuse_other_images(place, found, known)
        run = _Run(place, found.root, encoder, recipe, known, threads)
        shards, errors, done = [], [], 0
        for rows in found.planned():
            shard, failed = run.shard_of(rows)
            shards.append(shard)
            errors += failed
            done += shard.rows
            if progress:
                progress(done, len(found.images))
        if len(errors) == done:
            raise NothingReadable.among(errors)
        manifest = Manifest(
            encoder=recipe.encoder,
            views=recipe.views,
            seed=recipe.seed,
            averaging=recipe.averaging,
            logit_scale=float(encoder.logit_scale),
            templates=tuple(encoder.record.templates),
            source=path_as_text(found.root.resolve()),
            split=found.split,
            classes=found.classes,
            n_images=done,
            n_errors=len(errors),
            shards=tuple(shards),
        )
        _finish(place, manifest)
    return Extracted(done, run.n_encoded, len(errors), tuple(errors[:3]))


def _recipe(encoder: Encoder, views: int, seed: int) -> Recipe:
    if isinstance(encoder, VectorsFileEncoder):
        path = printable(encoder.file.path)
        raise UsageError(
            f"{path} holds vectors already and encodes no photos; `tip-adapter fit` takes the file as it is"
        )
    n_views, drawn_by = validation.integer(views, "views", 0, _MOST_VIEWS), validation.seed(seed)
    averaged: Any = averaging(encoder) if n_views else None
    return Recipe(MadeWith(**asdict(encoder.identity)), n_views, drawn_by if n_views else 0, averaged)


# ---- what there is to encode -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Found:
    """Images to encode, in the order of their rows."""

    root: Path
    images: Sequence[Path]
    ids: Sequence[str]
    labels: Sequence[str | None]
    split: tuple[Any, ...]
    classes: tuple[str, ...] | None
    notes: tuple[str, ...]

    @classmethod
    def of(cls, images: ImageList) -> Self:
        """Labelled images without a split."""
        return cls(images.root, images.paths, images.ids(), images.labels, (), images.classes, images.notes)

    def planned(self) -> Iterator[Rows]:
        """The rows of each shard; files are read for their SHA-256 just before."""
        paths = [path_as_text(os.path.relpath(image, self.root)) for image in self.images]
        with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="hash") as pool:
            for start in range(0, len(self.images), SHARD_ROWS):
                rows = slice(start, start + SHARD_ROWS)
                digests = list(pool.map(_digest, self.images[rows]))
                yield Rows(self.ids[rows], paths[rows], digests, self.labels[rows])


def _find(source: Path) -> _Found:
    """Labelled images of class folders, split folders and lists; else all images without labels."""
    if is_split(source):
        return _find_parts(source)
    try:
        return _Found.of(find_labelled(source, part="train"))
    except FolderError as error:
        is_list = source.suffix.lower() in LIST_ENDINGS and source.is_file()
        if not is_folder(source) and not is_list:
            raise
        note = f"its photos are kept without labels: {error}"
    images = find_images(source)
    root = source if source.is_dir() else source.parent
    ids = numbered(path_as_text(os.path.relpath(image, root)) for image in images)
    return _Found(root, images, ids, [None] * len(images), (), None, (note,))


def _find_parts(source: Path) -> _Found:
    names = parts_of(source)
    parts = [find_labelled(source, part=name) for name in names]
    return _Found(
        root=source,
        images=[path for part in parts for path in part.paths],
        ids=[f"{name}/{image}" for name, part in zip(names, parts, strict=True) for image in part.ids()],
        labels=[label for part in parts for label in part.labels],
        split=names,
        classes=tuple(sorted({label for part in parts for label in part.classes})),
        notes=(),
    )


def _digest(path: Path) -> str | None:
    """SHA-256 of a file; None if it is unreadable, for which decoding gives the reason."""
    with suppress(OSError, ValueError):
        return file_digest(path)
    return None


# ---- encoding --------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class _KnownVectors:
    """The vectors in a folder, including the shards that this run writes.

    Parameters
    ----------
    place : the folder
    files : SHA-256 of an image file → the shard that has its vector
    done : name → complete shard
    """

    place: Path
    files: dict[str, str]
    done: dict[str, Shard]

    @classmethod
    def of(cls, place: Path, recipe: Recipe) -> Self:
        """Look into every shard of this recipe, also those of a killed run; a damaged one is ignored."""
        known = cls(place, {}, {})
        manifest = _manifest_at(place)
        listed = {shard.file: shard.sha256 for shard in manifest.shards} if manifest else {}
        for name in _shards_at(place):
            try:
                table, note, digest = load_shard(place / name, listed.get(name))
                if recipe.makes(note):
                    known.add(name, table)
                    if not any(table.errors) and shard_name(recipe, table) == name:  # what failed may be readable now
                        known.done[name] = Shard(name, len(table), digest)
            except (OSError, ValueError, RecursionError) as error:
                warn(f"{printable(place / name)} cannot be used and is made again: {printable(str(error))}")
        return known

    def add(self, name: str, table: ImageTable) -> None:
        """Add the vectors of a shard."""
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
            with suppress(OSError, ValueError):  # damaged since it was looked into: its images are encoded again
                taken |= _vectors_by_digest(load_shard(self.place / name)[0], here)
        return taken


@dataclass
class _Run:
    """One run of `extract`: makes shards, and counts the images that were encoded."""

    place: Path
    root: Path
    encoder: Encoder
    recipe: Recipe
    known: _KnownVectors
    threads: int | None
    n_encoded: int = 0

    def shard_of(self, rows: Rows) -> tuple[Shard, list[str]]:
        """The shard of these images, an existing or a new one, and their errors."""
        name = shard_name(self.recipe, rows)
        if name in self.known.done:
            return self.known.done[name], []
        table = self._encoded(rows)
        content = write_parquet(table, self.recipe.note())
        write_file(self.place / name, content)
        self.known.add(name, table)
        failed = [error for error in table.errors if error]
        return Shard(name, len(table), hashlib.sha256(content).hexdigest()), failed

    def _encoded(self, rows: Rows) -> ImageTable:
        """Vectors of these images: known ones, and the others through the encoder, each file once."""
        n = len(rows.ids)
        no_vectors = np.zeros((n, self.encoder.identity.width), np.float32)
        waiting = ImageTable(rows.ids, rows.paths, rows.sha256, rows.labels, no_vectors, [_WAITING] * n)
        taken = self.known.take(rows.sha256)
        table = _filled(waiting, taken)
        first = {digest: row for row, digest in reversed(list(enumerate(rows.sha256)))}
        fresh = [row for row, digest in enumerate(rows.sha256) if digest not in taken]
        table = self._encode_rows(table, [row for row in fresh if (d := rows.sha256[row]) is None or first[d] == row])
        table = _filled(table, _vectors_by_digest(table, set(rows.sha256)))
        # Copies of an image that is unreadable, or that has changed meanwhile, are read one by one.
        return self._encode_rows(table, [row for row in fresh if table.errors[row] == _WAITING])

    def _encode_rows(self, table: ImageTable, chosen: list[int]) -> ImageTable:
        """The table with these rows encoded."""
        if not chosen:
            return table
        ids, paths = ([column[row] for row in chosen] for column in (table.ids, table.paths))
        batches = [image_batch(ids, paths, [table.labels[row] for row in chosen])]
        views, seed = self.recipe.views, self.recipe.seed
        (batch,) = extract_batches(batches, self.encoder, root=self.root, views=views, seed=seed, threads=self.threads)
        fresh = to_table(batch)
        self.n_encoded += sum(error is None for error in fresh.errors)
        vectors, digests, errors = table.vectors.copy(), list(table.sha256), list(table.errors)
        for row, vector, digest, error in zip(chosen, fresh.vectors, fresh.sha256, fresh.errors, strict=True):
            vectors[row], errors[row] = vector, error
            digests[row] = digest if error is None else digests[row]
        return replace(table, vectors=vectors, sha256=digests, errors=errors)


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


# ---- the folder ------------------------------------------------------------------------------------------------------


def _shards_at(place: Path) -> list[str]:
    return sorted(name for name in os.listdir(place) if re.fullmatch(SHARD, name))


def _manifest_at(place: Path) -> Manifest | None:
    """The manifest of finished features; None if there is none that is readable."""
    with suppress(FeaturesError):
        return read_manifest(place)
    return None


def _refuse_foreign(place: Path) -> None:
    """Raise OutputExists unless `place` is free, an empty folder, or a features folder, finished or not."""
    visible = place.is_dir() and any(not name.startswith(".") for name in os.listdir(place))
    if (visible and not is_feature_folder(place)) or (os.path.lexists(place) and not place.is_dir()):
        raise OutputExists(f"{printable(place)} holds something else than features; choose another place")


def _refuse_other_recipe(place: Path, recipe: Recipe) -> None:
    """Raise OutputExists if the existing vectors, also those of a killed run, were made with another recipe."""
    manifest = _manifest_at(place)
    same = manifest is None or manifest.key() == recipe.key()
    for name in _shards_at(place) if manifest is None else ():
        with suppress(OSError, ValueError, RecursionError):
            same = recipe.makes(load_shard(place / name)[1])
            break
    if not same:
        raise OutputExists(
            f"{printable(place)} holds features of another encoder, number of views or seed; "
            "choose another place, or pass --force (force=True) to replace them"
        )


def _refuse_other_images(place: Path, found: _Found, known: _KnownVectors) -> None:
    """Raise OutputExists if finished features of another folder have none of these images: probably a wrong path."""
    manifest = _manifest_at(place)
    if manifest is None or manifest.source == path_as_text(found.root.resolve()) or not known.files:
        return
    if not any(digest in known.files for rows in found.planned() for digest in rows.sha256):
        raise OutputExists(
            f"{printable(place)} holds features of other photos, those of {printable(manifest.source)}; choose another "
            "place, or pass --force (force=True) to replace them"
        )


def _finish(place: Path, manifest: Manifest) -> None:
    """Write the manifest unless it exists already, and then remove the shards that it does not list."""
    content = manifest.to_json()
    try:
        is_written = read_bounded(place / MANIFEST, MAX_MANIFEST) == content
    except (OSError, ValueError):
        is_written = False
    if not is_written:
        write_file(place / MANIFEST, content)
    for name in set(_shards_at(place)) - {shard.file for shard in manifest.shards}:
        remove_file(place / name)
