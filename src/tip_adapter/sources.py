"""Where vectors come from: photos that an encoder reads, or vectors that are stored, in one shape.

Whatever takes a folder or list of photos takes stored vectors in its place: a folder of features, which `tip-adapter
extract` made, or a file of vectors from elsewhere. They are read in batches; nothing is encoded.
"""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tip_adapter.arguments import path_argument
from tip_adapter.encoders.vectors_file import VectorsFileEncoder
from tip_adapter.errors import (
    FeaturesError,
    FolderError,
    NothingReadable,
    PhotoError,
    UsageError,
    WrongEncoder,
    printable,
    warn,
)
from tip_adapter.feature_folder import is_feature_folder, read_manifest, read_shard
from tip_adapter.features import BATCH, VectorBatch, stream_vectors
from tip_adapter.photos.find import find_labelled, find_photos
from tip_adapter.photos.gate import photo_name
from tip_adapter.photos.labels import path_as_text
from tip_adapter.vector_file import is_vector_file, open_vector_file
from tip_adapter.vectors import SupportSet

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from tip_adapter.encoders import Encoder
    from tip_adapter.feature_folder import Manifest, Shard
    from tip_adapter.features import Progress
    from tip_adapter.photos.decode import PhotoLike
    from tip_adapter.photos.find import PhotoList
    from tip_adapter.tables import PhotoTable
    from tip_adapter.vector_file import VectorFile


@dataclass(frozen=True, eq=False)
class VectorSource:
    """Photos that can give vectors.

    Parameters
    ----------
    ids : a name for each photo
    labels : one a photo; empty where they have none
    classes : all labels in order, also those without a photo
    root : where they were found
    reader : what gives their vectors
    rows : (n,) int array, which of the reader's photos these are, ascending
    notes : what a person should know about how they were found
    """

    ids: tuple[str, ...]
    labels: tuple[str, ...]
    classes: tuple[str, ...]
    root: Path
    reader: Reader
    rows: NDArray[np.intp]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def encoder_name(self) -> str | None:
        """The encoder that the vectors were made with; None for photos, which any encoder reads."""
        return self.reader.encoder_name

    @property
    def photos(self) -> list[Path]:
        """Their paths, where they are photos in files.

        Raises
        ------
        UsageError
            They are vectors that are stored.
        """
        if not isinstance(self.reader, PhotoReader):
            raise UsageError(f"{printable(self.root)} holds vectors, and no photos to copy or link; name their folder")
        return [Path(self.reader.photos[row]) for row in self.rows]

    def take(self, positions: Iterable[int] | NDArray[Any]) -> VectorSource:
        """These photos only; the classes stay."""
        chosen = [int(position) for position in positions]
        ids, labels = tuple(self.ids[row] for row in chosen), tuple(self.labels[row] for row in chosen if self.labels)
        return replace(self, ids=ids, labels=labels, rows=self.rows[chosen])

    def labelled(self, label: str) -> VectorSource:
        """The same photos, all of one class."""
        return replace(self, labels=(label,) * len(self), classes=(label,))

    def noted(self, *notes: str) -> VectorSource:
        """The same photos, with more to know about them."""
        return replace(self, notes=(*self.notes, *notes))

    def counts(self) -> dict[str, int]:
        """Label → number of photos."""
        counts = dict.fromkeys(self.classes, 0)
        for label in self.labels:
            counts[label] += 1
        return counts

    def stream(self, encoder: Encoder, *, threads: int | None = None) -> Generator[VectorBatch]:
        """Their vectors, batch by batch; positions are those in `ids`.

        Parameters
        ----------
        encoder : Encoder, that encodes the photos, or made the vectors that are stored
        threads : int, photos decoded at a time; None for one per core

        Raises
        ------
        WrongEncoder
            The stored vectors were made with another one.
        FeaturesError
            What is stored cannot be read.
        """
        return self.reader.stream(self, encoder, threads)


class Reader(ABC):
    """What gives the vectors of a VectorSource."""

    @property
    def encoder_name(self) -> str | None:
        """Name of the encoder that made what is stored; None where nothing is."""
        return None

    @abstractmethod
    def stream(self, source: VectorSource, encoder: Encoder, threads: int | None) -> Generator[VectorBatch]:
        """The vectors of a source that this is the reader of."""


@dataclass(frozen=True, eq=False)
class PhotoReader(Reader):
    """Photos that are decoded and encoded; or, where the encoder is a file of vectors, looked up by their ids."""

    photos: Sequence[PhotoLike]

    def stream(self, source: VectorSource, encoder: Encoder, threads: int | None) -> Generator[VectorBatch]:
        """Vectors by the encoder."""
        if isinstance(encoder, VectorsFileEncoder):
            return _looked_up(source, self.photos, encoder.file)
        return stream_vectors([self.photos[row] for row in source.rows], encoder, threads=threads)


@dataclass(frozen=True, eq=False)
class FolderReader(Reader):
    """A folder of features, a shard at a time."""

    folder: Path
    manifest: Manifest

    @property
    def encoder_name(self) -> str:
        """Name of the encoder that made it."""
        return str(self.manifest.recipe.encoder["name"])

    def stream(self, source: VectorSource, encoder: Encoder, threads: int | None) -> Generator[VectorBatch]:
        """Vectors as they are stored; a photo without one is an entry in `errors`."""
        made_with = self.manifest.recipe.encoder
        _require_encoder(encoder, made_with["fingerprint"], made_with["name"], self.folder)
        for start, shard in self._starts():
            first, last = np.searchsorted(source.rows, [start, start + shard.rows])
            if last > first:
                table = read_shard(self.folder, shard, made_with["width"])
                yield _batch_of(table, np.arange(first, last), source.rows[first:last] - start)

    def tables(self) -> Iterator[PhotoTable]:
        """Each shard."""
        for _, shard in self._starts():
            yield read_shard(self.folder, shard, self.manifest.recipe.encoder["width"])

    def _starts(self) -> Iterator[tuple[int, Shard]]:
        """Number of the first row of each shard, and it."""
        start = 0
        for shard in self.manifest.shards:
            yield start, shard
            start += shard.rows


@dataclass(frozen=True, eq=False)
class FileReader(Reader):
    """A file of vectors, a block at a time."""

    file: VectorFile

    @property
    def encoder_name(self) -> str:
        """The file as an encoder."""
        return self.file.name

    def stream(self, source: VectorSource, encoder: Encoder, threads: int | None) -> Generator[VectorBatch]:
        """Vectors as they are stored, as unit rows."""
        _require_encoder(encoder, self.file.fingerprint, self.file.encoder, self.file.path)
        return _blocks_of(self.file, source.rows)


# ---- what a user names -----------------------------------------------------------------------------------------------


def labelled_source(source: str | os.PathLike[str], *, part: str) -> VectorSource:
    """Photos and labels of a folder or list, as `find_labelled`, or of stored vectors.

    Parameters
    ----------
    source : path of a folder or list of photos, of a folder of features, or of a file of vectors
    part : ``train``, ``val`` or ``test``: which part is read of what is split

    Raises
    ------
    FolderError, LabelError, UsageError
        As `find_labelled`.
    FeaturesError
        Stored vectors cannot be read, or have no labels.
    """
    path = path_argument(source, "folder")
    if is_feature_folder(path):
        return _part_of(*_of_folder(path), part)
    if is_vector_file(path):
        return _part_of(*_of_file(path), part)
    return found_source(find_labelled(path, part=part))


def found_source(photos: PhotoList) -> VectorSource:
    """Labelled photos that were found."""
    ids, rows = tuple(photos.ids()), np.arange(len(photos))
    return VectorSource(ids, photos.labels, photos.classes, photos.root, PhotoReader(photos.paths), rows, photos.notes)


def is_stored(path: str | os.PathLike[str]) -> bool:
    """Whether it is a folder of features or a file of vectors."""
    return is_feature_folder(path) or is_vector_file(path)


def photo_source(source: str | os.PathLike[str]) -> VectorSource:
    """Photos to be named, as `find_photos`, or stored vectors; labels are not needed, and not kept.

    Raises
    ------
    FolderError, UsageError
        As `find_photos`.
    FeaturesError
        Stored vectors cannot be read.
    """
    path = path_argument(source, "folder")
    if is_feature_folder(path):
        return _of_folder(path)[0]
    if is_vector_file(path):
        return _of_file(path)[0]
    return listed_source(find_photos(path), root=path)


def listed_source(
    photos: Sequence[PhotoLike],
    labels: Sequence[str] = (),
    ids: Sequence[str] | None = None,
    *,
    root: str | os.PathLike[str] = ".",
) -> VectorSource:
    """Photos that a program hands over, with or without labels; by default a path's text is the photo's id."""
    names = [photo_name(photo, position) for position, photo in enumerate(photos)] if ids is None else ids
    rows = np.arange(len(photos))
    return VectorSource(tuple(names), tuple(labels), tuple(sorted(set(labels))), Path(root), PhotoReader(photos), rows)


def encode_labelled(
    source: VectorSource, encoder: Encoder, *, threads: int | None = None, progress: Progress | None = None
) -> tuple[SupportSet, int]:
    """All vectors of labelled photos at once; warns and raises as `stream_labelled`.

    Returns
    -------
    support : SupportSet of the photos that can be read
    n_failed : int, how many cannot
    """
    width = encoder.identity.width
    parts = [SupportSet(np.zeros((0, width), np.float32), np.zeros(0, np.str_), np.zeros(0, np.str_))]
    parts += stream_labelled(source, encoder, threads=threads, progress=progress)
    columns = ([getattr(part, name) for part in parts] for name in ("vectors", "labels", "ids"))
    support = SupportSet(*map(np.concatenate, columns))
    return support, len(source) - len(support)


def stream_labelled(
    source: VectorSource, encoder: Encoder, *, threads: int | None = None, progress: Progress | None = None
) -> Generator[SupportSet]:
    """The vectors of labelled photos, batch by batch; warns of photos that cannot be read, or that are in two classes.

    Parameters
    ----------
    source : VectorSource, with labels
    encoder, threads : as in `VectorSource.stream`
    progress : called with (photos done, photos in all) after each batch

    Yields
    ------
    SupportSet of the photos of a batch that can be read

    Raises
    ------
    NothingReadable
        There are photos, and not one can be read.
    WrongEncoder, FeaturesError, VectorError
        As `VectorSource.stream`.
    """
    failed: list[str] = []
    first: dict[bytes, int] = {}
    twins: list[str] = []
    done = 0
    with closing(source.stream(encoder, threads=threads)) as stream:
        for batch in stream:
            failed += map(str, batch.errors.values())
            rows = batch.positions.tolist()
            texts, names = [source.labels[row] for row in rows], [source.ids[row] for row in rows]
            twins += _twins(batch.digests, rows, source, first)
            done += len(rows) + len(batch.errors)
            if progress:
                progress(done, len(source))
            yield SupportSet(batch.vectors, np.array(texts, dtype=np.str_), np.array(names, dtype=np.str_))
    if failed and len(failed) == len(source):
        raise NothingReadable.among(failed)
    if failed:
        warn(f"{len(failed)} of {len(source)} photos are left out: {_first_three(failed)}")
    if twins:
        warn(f"the same photo is in two classes: {_first_three(twins)}; remove one")


def _first_three(texts: Sequence[str]) -> str:
    more = f" (and {len(texts) - 3} more)" if len(texts) > 3 else ""
    return f"{'; '.join(texts[:3])}{more}"


def _twins(digests: Sequence[str], rows: Sequence[int], source: VectorSource, first: dict[bytes, int]) -> list[str]:
    """Pairs of the same photo with different labels: one of them must be wrong. `first` remembers, by half a digest."""
    keys = [bytes.fromhex(digest)[:16] for digest in digests]
    pairs = [(first.setdefault(key, row), row) for key, row in zip(keys, rows, strict=True)]
    labels = source.labels
    return [f"{_in_class(source, a)} and {_in_class(source, b)}" for a, b in pairs if labels[a] != labels[b]]


def _in_class(source: VectorSource, row: int) -> str:
    return f"{printable(source.ids[row])} ({printable(source.labels[row])})"


# ---- stored vectors --------------------------------------------------------------------------------------------------


def _of_folder(path: Path) -> tuple[VectorSource, Sequence[str]]:
    """A folder of features as a source, and the part of each photo; without parts where it is not split."""
    manifest = read_manifest(path)
    reader = FolderReader(path, manifest)
    ids: list[str] = []
    labels: list[str] = []
    for table in reader.tables():
        ids += table.ids
        labels += [label for label in table.labels if label is not None]
    if len(set(ids)) < len(ids) or len(labels) not in (0, len(ids)):
        raise FeaturesError(
            f"{printable(path)} lists a photo twice, or labels for some photos only; run `tip-adapter extract` again"
        )
    classes = tuple(sorted({*(manifest.classes or ()), *labels}))
    rows = np.arange(len(ids))
    source = VectorSource(tuple(ids), tuple(labels), classes, path, reader, rows)
    return source, [photo.partition("/")[0] for photo in ids] if manifest.split else ()


def _of_file(path: Path) -> tuple[VectorSource, Sequence[str]]:
    """A file of vectors as a source, and the part of each; without parts where it is not split."""
    file = open_vector_file(path)
    named = file.classes.labels if file.classes else ()
    classes = tuple(sorted({*named, *file.labels}))
    return VectorSource(file.ids, file.labels, classes, path, FileReader(file), np.arange(len(file.ids))), file.parts


def _part_of(source: VectorSource, parts: Sequence[str], part: str) -> VectorSource:
    """The labelled photos of one part; all where they are not split."""
    if not source.labels:
        raise FeaturesError(
            f"{printable(source.root)} has no labels; `predict` takes it, and photos in class folders have them"
        )
    if not parts:
        return source
    if part not in parts:
        raise FolderError(
            f"{printable(source.root)} is split into {', '.join(sorted(set(parts)))}; it has no part {part}"
        )
    taken = source.take(np.flatnonzero(np.array(parts) == part))
    prefix = f"{part}/"
    ids = tuple(name.removeprefix(prefix) for name in taken.ids)
    return replace(taken, ids=ids).noted(f"{printable(source.root)} is split: its part {part} is read")


def _require_encoder(encoder: Encoder, fingerprint: str, name: str | None, where: Path) -> None:
    """Raise WrongEncoder unless these vectors are the encoder's."""
    ours = encoder.identity
    if ours.fingerprint != fingerprint:
        raise WrongEncoder(
            f"{printable(where)} holds vectors of {printable(name or 'an encoder that it does not name')} (fingerprint "
            f"{printable(fingerprint[:12])}…), wanted are those of {ours.name} ({ours.fingerprint[:12]}…); give photos, or vectors of "
            f"the same encoder"
        )


def _batch_of(table: PhotoTable, positions: NDArray[np.intp], rows: NDArray[np.intp]) -> VectorBatch:
    """Rows of a shard as a batch: where each stands in the source, and which row it is."""
    failed = {
        position: PhotoError(table.errors[row])
        for position, row in zip(positions.tolist(), rows.tolist(), strict=True)
        if table.errors[row] is not None
    }
    usable = np.array([position not in failed for position in positions.tolist()], dtype=bool)
    digests = tuple(str(table.sha256[row]) for row in rows[usable].tolist())
    return VectorBatch(positions[usable], table.vectors[rows[usable]], digests, failed)


def _blocks_of(file: VectorFile, rows: NDArray[np.intp]) -> Generator[VectorBatch]:
    """These rows of a file, in ascending order."""
    for start, block in file.blocks():
        first, last = np.searchsorted(rows, [start, start + len(block)])
        vectors = block[rows[first:last] - start]
        if len(vectors):
            yield VectorBatch(np.arange(first, last), vectors, _digests(vectors), {})


def _looked_up(source: VectorSource, photos: Sequence[PhotoLike], file: VectorFile) -> Generator[VectorBatch]:
    """Vectors of photos by their ids, or by their paths from the source's root; a missing one is that photo's error.

    The file has an order of its own: vectors are held until they are given in that of the photos.
    """
    known = {name: row for row, name in enumerate(file.ids)}
    paths = [_below(source.root, photos[row]) for row in source.rows]
    found = np.array([known.get(i, known.get(path, -1)) for i, path in zip(source.ids, paths, strict=True)], np.intp)
    rows = np.unique(found[found >= 0])
    vectors = np.concatenate([np.zeros((0, file.width), np.float32), *(b.vectors for b in _blocks_of(file, rows))])
    for start in range(0, len(found), BATCH):
        here = np.arange(start, min(start + BATCH, len(found)))
        there, missing = here[found[here] >= 0], here[found[here] < 0]
        taken = vectors[np.searchsorted(rows, found[there])]
        errors = {position: _not_stored(source.ids[position], file) for position in missing.tolist()}
        yield VectorBatch(there, taken, _digests(taken), errors)


def _digests(vectors: NDArray[np.float32]) -> tuple[str, ...]:
    """What tells vectors apart whose photos are not known."""
    return tuple(hashlib.sha256(vector.tobytes()).hexdigest() for vector in vectors)


def _below(root: Path, photo: PhotoLike) -> str:
    """A photo's path from the root; another photo has none."""
    return path_as_text(os.path.relpath(photo, root)) if isinstance(photo, (str, os.PathLike)) else ""


def _not_stored(name: str, file: VectorFile) -> PhotoError:
    return PhotoError(
        f"cannot use {printable(name)}: {printable(file.path)} holds no vector of that id; add it, or remove the photo"
    )
