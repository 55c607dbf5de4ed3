"""Encode images once: a folder or list of images becomes a features folder.

An image is identified by the SHA-256 of its file. One that was encoded by the same recipe is taken from the existing shards,
even if it was renamed or moved. Each batch is written as a small shard when it is encoded, a shard of many replaces those when
it is complete, and the manifest comes last. So a killed run is resumed by the next, which encodes one batch again at most, and a
run over the same images encodes nothing.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from tip_adapter import validation
from tip_adapter.errors import FeaturesError, FolderError, NothingReadable, OutputExists, UsageError, warn
from tip_adapter.features.arrow import ImageTable, RecordBatch, to_batch, write_parquet
from tip_adapter.features.encode import averaging, stream_vectors
from tip_adapter.features.file_encoder import VectorsFileEncoder
from tip_adapter.features.sources import found_source, listed_source
from tip_adapter.features.store import (
    MANIFEST,
    SHARD,
    SHARD_ROWS,
    MadeWith,
    Manifest,
    Recipe,
    Shard,
    is_feature_folder,
    load_shard,
    read_manifest,
    shard_name,
)
from tip_adapter.images.augment import Augmentation
from tip_adapter.images.find import find_images, find_labelled, split_folders
from tip_adapter.images.labels import numbered, path_as_text
from tip_adapter.images.list_tables import LIST_ENDINGS
from tip_adapter.images.search import is_skipped_name
from tip_adapter.io.files import file_digest, is_folder, lock_folder, make_folder, remove, sweep, write_file
from tip_adapter.io.processors import available_processors
from tip_adapter.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from tip_adapter.encoders import Encoder
    from tip_adapter.features.encode import Progress
    from tip_adapter.features.sources import VectorSource
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
    threads : int, images decoded concurrently; None for one per available processor

    Yields
    ------
    pyarrow.RecordBatch of `arrow.schema(width)`: id, path, sha256 (of the decoded file), label, vector, error.
        The same images give the same rows, however they are batched.
    """
    drawn = Augmentation(views, seed if views else 0)
    for batch in batches:
        ids, paths, labels = (batch.column(name).to_pylist() for name in ("id", "path", "label"))
        vectors = np.zeros((len(ids), encoder.identity.width), np.float32)
        table = ImageTable(ids, paths, [None] * len(ids), labels, vectors, [None] * len(ids))
        for _ in _encoded(table, range(len(ids)), encoder, Path(root), drawn, threads):
            pass
        yield to_batch(table)


def _encoded(
    table: ImageTable, rows: Sequence[int], encoder: Encoder, root: Path, views: Augmentation, threads: int | None
) -> Iterator[list[int]]:
    """Encode these rows of a table in place; yields those of each batch that have a vector now, the others have an error."""
    paths = [table.paths[row] for row in rows]
    images = [root / path for path in paths]
    with closing(stream_vectors(images, encoder, views=views, threads=threads)) as stream:
        for part in stream:
            readable = [rows[position] for position in part.positions.tolist()]
            table.vectors[readable] = part.vectors
            for row, digest in zip(readable, part.digests, strict=True):
                table.sha256[row], table.errors[row] = digest, None
            for position, error in part.errors.items():
                # By its path below the root, so that the same image has the same row wherever the root is.
                text = str(error).replace(printable(images[position]), printable(paths[position]))
                table.errors[rows[position]] = text
            yield readable


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
    progress : called with (images done, images in all), first with none done, then after each batch

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
        `views` or `seed` is out of bounds, or the encoder is a name or a vector file.
    """
    recipe = _recipe(encoder, views, seed)
    found, split = _find(validation.path(source, "folder"))
    if not len(found):
        raise FolderError(f"{printable(source)} holds no photos in its class folders")
    warn(*found.notes)
    run = _Run(validation.path(out, "out"), found, encoder, recipe, threads, progress)
    return run.carry_out(split, force=force)


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
    recipe, place = _recipe(encoder, views, seed), validation.path(out, "out")
    return _Run(place, found_source(images), encoder, recipe, threads, progress).carry_out((), force=False)


def _recipe(encoder: Encoder, views: int, seed: int) -> Recipe:
    validation.require(hasattr(encoder, "identity"), "encoder", "a loaded one, such as load_encoder('pocket')", encoder)
    if isinstance(encoder, VectorsFileEncoder):
        path = printable(encoder.file.path)
        raise UsageError(
            f"{path} holds vectors already and encodes no photos; `tip-adapter fit` takes the file as it is"
        )
    n_views, drawn_by = validation.integer(views, "views", 0, _MOST_VIEWS), validation.seed(seed)
    averaged: Any = averaging(encoder) if n_views else None
    return Recipe(MadeWith(**asdict(encoder.identity)), n_views, drawn_by if n_views else 0, averaged)


# ---- what there is to encode -----------------------------------------------------------------------------------------


def _find(source: Path) -> tuple[VectorSource, tuple[str, ...]]:
    """Labelled images of class folders, split folders and lists, else all images without labels; and the parts."""
    if names := tuple(split_folders(source)):
        parts = [found_source(find_labelled(source, part=name)) for name in names]
        images = [path for part in parts for path in part.photos]
        labels = [label for part in parts for label in part.labels]
        ids = [f"{name}/{image}" for name, part in zip(names, parts, strict=True) for image in part.ids]
        classes = tuple(sorted({label for part in parts for label in part.classes}))
        return replace(listed_source(images, labels, ids, root=source), classes=classes), names
    try:
        return found_source(find_labelled(source, part="train")), ()
    except FolderError as error:
        is_list = source.suffix.lower() in LIST_ENDINGS and source.is_file()
        if not is_folder(source) and not is_list:
            raise
        note = f"its photos are kept without labels: {error}"
    images = find_images(source)
    root = source if source.is_dir() else source.parent
    ids = numbered(path_as_text(os.path.relpath(image, root)) for image in images)
    return listed_source(images, ids=ids, root=root).noted(note), ()


def _planned(found: VectorSource, width: int) -> Iterator[ImageTable]:
    """The table of each shard, without vectors; files are read for their SHA-256 just before."""
    images = found.photos
    paths = [path_as_text(os.path.relpath(image, found.root)) for image in images]
    labels = found.labels or [None] * len(images)
    with ThreadPoolExecutor(available_processors(), thread_name_prefix="hash") as pool:
        for start in range(0, len(images), SHARD_ROWS):
            rows = slice(start, start + SHARD_ROWS)
            digests = list(pool.map(_digest, images[rows]))
            waiting: list[str | None] = [_WAITING] * len(digests)
            vectors = np.zeros((len(digests), width), np.float32)
            yield ImageTable(found.ids[rows], paths[rows], digests, labels[rows], vectors, waiting)


def _digest(path: Path) -> str | None:
    """SHA-256 of a file; None if it is unreadable, for which decoding gives the reason."""
    with suppress(OSError, ValueError):
        return file_digest(path)
    return None


# ---- encoding --------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class _Run:
    """One run of `extract`: makes the shards and the manifest, and takes known vectors from the shards in the folder.

    Parameters
    ----------
    place : the folder
    found : the images
    encoder, recipe, threads, progress : as in `extract`
    files : SHA-256 of an image file → the shard that has its vector, including the shards of this run
    done : name → complete shard of earlier runs
    n_encoded : int, images encoded by this run
    n_before : int, images of the shards before the current one
    """

    place: Path
    found: VectorSource
    encoder: Encoder
    recipe: Recipe
    threads: int | None
    progress: Progress | None
    files: dict[str, str] = field(default_factory=dict)
    done: dict[str, Shard] = field(default_factory=dict)
    n_encoded: int = 0
    n_before: int = 0

    def carry_out(self, split: tuple[Any, ...], *, force: bool) -> Extracted:
        """Make the shards and the manifest, as `extract` says; `split` names the parts of the images."""
        self._refuse_foreign()
        make_folder(self.place)
        with lock_folder(self.place):
            sweep(self.place, age_s=0)
            earlier: Manifest | None = None
            with suppress(FeaturesError):
                earlier = read_manifest(self.place)
            if not force:
                self._refuse_other_recipe(earlier)
            self._report()
            self._look_into_shards(earlier)
            if not force:
                self._refuse_other_images(earlier)
            shards, errors = [], []
            for table in _planned(self.found, self.recipe.encoder.width):
                shard, failed = self._shard_of(table)
                shards.append(shard)
                errors += failed
            if len(errors) == len(self.found):
                raise NothingReadable.among(errors)
            manifest = Manifest(
                **msgspec.structs.asdict(self.recipe),
                logit_scale=float(self.encoder.logit_scale),
                templates=tuple(self.encoder.record.templates),
                source=path_as_text(self.found.root.resolve()),
                split=split,
                classes=self.found.classes if self.found.labels else None,
                n_images=len(self.found),
                n_errors=len(errors),
                shards=tuple(shards),
            )
            if manifest != earlier:
                write_file(self.place / MANIFEST, manifest.to_json())
            for name in set(_shards_at(self.place)) - {shard.file for shard in shards}:
                remove(self.place / name)
        return Extracted(len(self.found), self.n_encoded, len(errors), tuple(errors[:3]))

    def _refuse_foreign(self) -> None:
        """Raise OutputExists unless the place is free, an empty folder, or a features folder, finished or not."""
        place = self.place
        used = place.is_dir() and not all(map(is_skipped_name, os.listdir(place)))
        if (used and not is_feature_folder(place)) or (os.path.lexists(place) and not place.is_dir()):
            raise OutputExists(f"{printable(place)} holds something else than features; choose another place")

    def _refuse_other_recipe(self, manifest: Manifest | None) -> None:
        """Raise OutputExists if the existing vectors, also those of a killed run, were made with another recipe."""
        same = manifest is None or manifest.key() == self.recipe.key()
        for name in _shards_at(self.place) if manifest is None else ():
            with suppress(OSError, ValueError, RecursionError):
                same = self.recipe.makes(load_shard(self.place / name)[1])
                break
        if not same:
            raise OutputExists(
                f"{printable(self.place)} holds features of another encoder, number of views or seed; "
                "choose another place, or pass force=True to replace them",
                arguments=("force=True",),
            )

    def _refuse_other_images(self, manifest: Manifest | None) -> None:
        """Raise OutputExists if finished features of another folder have none of these images: probably a wrong path."""
        if manifest is None or manifest.source == path_as_text(self.found.root.resolve()) or not self.files:
            return
        if not any(digest in self.files for table in _planned(self.found, 0) for digest in table.sha256):
            raise OutputExists(
                f"{printable(self.place)} holds features of other photos, those of {printable(manifest.source)}; choose another "
                "place, or pass force=True to replace them",
                arguments=("force=True",),
            )

    def _report(self, n_here: int = 0) -> None:
        """Report the images of the shards before, and so many of the current one, as done."""
        if self.progress:
            self.progress(self.n_before + n_here, len(self.found))

    def _look_into_shards(self, manifest: Manifest | None) -> None:
        """Look into every shard of this recipe, also those of a killed run; a damaged one is ignored."""
        listed = {shard.file: shard.sha256 for shard in manifest.shards} if manifest else {}
        for name in _shards_at(self.place):
            try:
                table, note, digest = load_shard(self.place / name, listed.get(name))
                if self.recipe.makes(note):
                    self._add(name, table)
                    # What failed may be readable now.
                    if not any(table.errors) and shard_name(self.recipe, table) == name:
                        self.done[name] = Shard(name, len(table), digest)
            except (OSError, ValueError, RecursionError) as error:
                warn(f"{printable(self.place / name)} cannot be used and is made again: {printable(str(error))}")

    def _shard_of(self, table: ImageTable) -> tuple[Shard, list[str]]:
        """The shard of these images, an existing or a new one, and their errors; the table is filled."""
        name, failed = shard_name(self.recipe, table), []
        if name in self.done:
            shard = self.done[name]
        else:
            batches = self._complete(table)
            shard = Shard(name, len(table), self._write(name, table))
            for batch in batches:
                remove(self.place / batch)
            failed = [error for error in table.errors if error]
        self.n_before += len(table)
        self._report()
        return shard, failed

    def _write(self, name: str, table: ImageTable) -> str:
        """Write a shard, and return its SHA-256."""
        content = write_parquet(table, self.recipe.note())
        write_file(self.place / name, content)
        self._add(name, table)
        return hashlib.sha256(content).hexdigest()

    def _add(self, name: str, table: ImageTable) -> None:
        """Add the vectors of a shard to the known ones."""
        self.files.update(dict.fromkeys(_vectors_by_digest(table), name))

    def _complete(self, table: ImageTable) -> list[str]:
        """Fill in the vectors of these images: known ones, and the others through the encoder, each file once.

        Returns the shards that hold a batch each.
        """
        digests = table.sha256
        first = {digest: row for row, digest in reversed(list(enumerate(digests)))}
        waiting = _fill(table, self._known(digests))
        batches = self._encode(table, [row for row in waiting if (d := digests[row]) is None or first[d] == row])
        # Copies of an image that is unreadable, or that has changed meanwhile, are read one by one.
        return batches + self._encode(table, _fill(table, _vectors_by_digest(table)))

    def _known(self, digests: Sequence[str | None]) -> dict[str, NDArray[np.float32]]:
        """SHA-256 → vector of those that are known; each shard is read once."""
        wanted: dict[str, set[str]] = defaultdict(set)
        for digest in digests:
            if digest in self.files:
                wanted[self.files[digest]].add(digest)
        known: dict[str, NDArray[np.float32]] = {}
        for name, here in wanted.items():
            with suppress(OSError, ValueError):  # damaged since it was looked into: its images are encoded again
                found = _vectors_by_digest(load_shard(self.place / name)[0])
                known |= {digest: found[digest] for digest in here & found.keys()}
        return known

    def _encode(self, table: ImageTable, rows: list[int]) -> list[str]:
        """Encode these rows of the table, in place; returns the names of the shards that keep each batch meanwhile."""
        batches = []
        views = Augmentation(self.recipe.views, self.recipe.seed)
        for encoded in _encoded(table, rows, self.encoder, self.found.root, views, self.threads):
            self.n_encoded += len(encoded)
            if 0 < len(encoded) < len(table):  # else it is the shard itself, which is written next
                batch = table.take(encoded)
                batches.append(shard_name(self.recipe, batch))
                self._write(batches[-1], batch)
                self._report(sum(error != _WAITING for error in table.errors))
        return batches


def _fill(table: ImageTable, vectors: dict[str, NDArray[np.float32]]) -> list[int]:
    """Fill these vectors into the rows that wait for them, in place; returns the rows that still wait."""
    for row, digest in enumerate(table.sha256):
        if table.errors[row] == _WAITING and digest in vectors:
            table.vectors[row], table.errors[row] = vectors[digest], None
    return [row for row, error in enumerate(table.errors) if error == _WAITING]


def _vectors_by_digest(table: ImageTable) -> dict[str, NDArray[np.float32]]:
    columns = zip(table.sha256, table.vectors, table.errors, strict=True)
    return {digest: vector for digest, vector, error in columns if error is None and digest}


def _shards_at(place: Path) -> list[str]:
    return sorted(name for name in os.listdir(place) if re.fullmatch(SHARD, name))
