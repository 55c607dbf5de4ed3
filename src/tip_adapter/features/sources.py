"""What gives vectors: photos that an encoder reads, or vectors that are stored, in one shape.

Vectors are read in batches, in the order of a source's rows; of what is stored, nothing is encoded.
"""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tip_adapter.errors import ImageError, UsageError, WrongEncoder
from tip_adapter.features.encode import BATCH, VectorBatch, stream_vectors
from tip_adapter.features.file_encoder import VectorsFileEncoder
from tip_adapter.features.store import read_shard
from tip_adapter.images.labels import path_as_text
from tip_adapter.text import printable

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from tip_adapter.encoders import Encoder
    from tip_adapter.features.arrow import ImageTable
    from tip_adapter.features.store import Manifest, Shard
    from tip_adapter.features.vector_file import VectorFile
    from tip_adapter.images.decode import ImageLike


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
        if not isinstance(self.reader, ImageReader):
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
class ImageReader(Reader):
    """Photos that are decoded and encoded; or, where the encoder is a file of vectors, looked up by their ids."""

    photos: Sequence[ImageLike]

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

    def tables(self) -> Iterator[ImageTable]:
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


# ---- batches of what is stored ---------------------------------------------------------------------------------------


def _require_encoder(encoder: Encoder, fingerprint: str, name: str | None, where: Path) -> None:
    """Raise WrongEncoder unless these vectors are the encoder's."""
    ours = encoder.identity
    if ours.fingerprint != fingerprint:
        raise WrongEncoder(
            f"{printable(where)} holds vectors of {printable(name or 'an encoder that it does not name')} (fingerprint "
            f"{printable(fingerprint[:12])}…), wanted are those of {ours.name} ({ours.fingerprint[:12]}…); give photos, or vectors of "
            f"the same encoder"
        )


def _batch_of(table: ImageTable, positions: NDArray[np.intp], rows: NDArray[np.intp]) -> VectorBatch:
    """Rows of a shard as a batch: where each stands in the source, and which row it is."""
    failed = {
        position: ImageError(table.errors[row])
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


def _looked_up(source: VectorSource, photos: Sequence[ImageLike], file: VectorFile) -> Generator[VectorBatch]:
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


def _below(root: Path, photo: ImageLike) -> str:
    """A photo's path from the root; another photo has none."""
    return path_as_text(os.path.relpath(photo, root)) if isinstance(photo, (str, os.PathLike)) else ""


def _not_stored(name: str, file: VectorFile) -> ImageError:
    return ImageError(
        f"cannot use {printable(name)}: {printable(file.path)} holds no vector of that id; add it, or remove the photo"
    )
