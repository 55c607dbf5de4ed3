"""Readers give the vectors of chosen rows, in ascending order, from image files, a features folder or a vector file."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tip_adapter.errors import ImageError, WrongEncoder
from tip_adapter.features.encode import BATCH, VectorBatch, stream_vectors
from tip_adapter.features.file_encoder import VectorsFileEncoder
from tip_adapter.features.store import read_shard
from tip_adapter.images.decode import image_digest
from tip_adapter.images.labels import path_as_text
from tip_adapter.io.processors import available_processors
from tip_adapter.text import printable

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from tip_adapter.encoders import Encoder
    from tip_adapter.features.store import Manifest
    from tip_adapter.features.vector_file import VectorFile
    from tip_adapter.images.decode import ImageLike
    from tip_adapter.vectors import SupportSet


@dataclass(frozen=True, eq=False)
class ImageReader:
    """Images that are decoded and encoded, except files of `known` content; or, if the encoder is a vector file, looked up by their ids."""

    images: Sequence[ImageLike]
    ids: Sequence[str]
    root: Path
    known: SupportSet | None = None

    def stream(self, rows: NDArray[np.intp], encoder: Encoder, threads: int | None) -> Generator[VectorBatch]:
        """Vectors by the encoder."""
        chosen = [self.images[row] for row in rows]
        if isinstance(encoder, VectorsFileEncoder):
            return _looked_up(chosen, [self.ids[row] for row in rows], self.root, encoder.file)
        if self.known is not None:
            return _reused(chosen, self.known, encoder, threads)
        return stream_vectors(chosen, encoder, threads=threads)


@dataclass(frozen=True, eq=False)
class FolderReader:
    """A features folder, read shard by shard."""

    folder: Path
    manifest: Manifest

    def stream(self, rows: NDArray[np.intp], encoder: Encoder, threads: int | None) -> Generator[VectorBatch]:
        """The stored vectors; an image without one is an entry in `errors`."""
        made_with = self.manifest.encoder
        _require_encoder(encoder, made_with.fingerprint, made_with.name, self.folder)
        start = 0
        for shard in self.manifest.shards:
            first, last = np.searchsorted(rows, [start, start + shard.rows])
            positions, here = np.arange(first, last), rows[first:last] - start
            start += shard.rows
            if not len(here):
                continue
            table = read_shard(self.folder, shard, made_with.width)
            errors = [table.errors[row] for row in here.tolist()]
            failed = {
                int(row): ImageError(error) for row, error in zip(positions, errors, strict=True) if error is not None
            }
            usable = np.array([error is None for error in errors], dtype=bool)
            digests = tuple(str(table.sha256[row]) for row in here[usable].tolist())
            yield VectorBatch(positions[usable], table.vectors[here[usable]], digests, failed)


@dataclass(frozen=True, eq=False)
class FileReader:
    """A vector file, read block by block."""

    file: VectorFile

    def stream(self, rows: NDArray[np.intp], encoder: Encoder, threads: int | None) -> Generator[VectorBatch]:
        """The stored vectors, as unit rows."""
        _require_encoder(encoder, self.file.fingerprint, self.file.encoder, self.file.path)
        return _blocks_of(self.file, rows)


def _require_encoder(encoder: Encoder, fingerprint: str, name: str | None, where: Path) -> None:
    """Raise WrongEncoder unless the encoder made these vectors."""
    ours = encoder.identity
    if ours.fingerprint != fingerprint:
        raise WrongEncoder(
            f"{printable(where)} holds vectors of {printable(name or 'an encoder that it does not name')} (fingerprint "
            f"{printable(fingerprint[:12])}…), wanted are those of {ours.name} ({ours.fingerprint[:12]}…); give photos, or vectors of "
            f"the same encoder"
        )


def _blocks_of(file: VectorFile, rows: NDArray[np.intp]) -> Generator[VectorBatch]:
    """These rows of a vector file, in ascending order."""
    for start, block in file.blocks():
        first, last = np.searchsorted(rows, [start, start + len(block)])
        vectors = block[rows[first:last] - start]
        if len(vectors):
            yield VectorBatch(np.arange(first, last), vectors, _digests(vectors), {})


def _reused(
    images: Sequence[ImageLike], known: SupportSet, encoder: Encoder, threads: int | None
) -> Generator[VectorBatch]:
    """Vectors of image files in order: those of `known` for a content that is there, else by the encoder."""
    rows = {digest: row for row, digest in enumerate(known.digests.tolist()) if digest}
    with ThreadPoolExecutor(threads or available_processors(), thread_name_prefix="hash") as pool:
        digests = [digest or "" for digest in pool.map(image_digest, images)]
    new = [position for position, digest in enumerate(digests) if digest not in rows]
    vectors = {position: (known.vectors[rows[d]], d) for position, d in enumerate(digests) if d in rows}
    errors: dict[int, ImageError] = {}
    with closing(stream_vectors([images[position] for position in new], encoder, threads=threads)) as stream:
        n_encoded = 0
        for start in range(0, len(images), BATCH):
            here = range(start, min(start + BATCH, len(images)))
            while n_encoded < len(new) and new[n_encoded] in here:
                batch = next(stream)
                read = [new[position] for position in batch.positions.tolist()]
                vectors |= zip(read, zip(batch.vectors, batch.digests, strict=True), strict=True)
                errors |= {new[position]: error for position, error in batch.errors.items()}
                n_encoded += len(read) + len(batch.errors)
            positions = [position for position in here if position in vectors]
            yield VectorBatch(
                np.array(positions, np.intp),
                np.array([vectors[p][0] for p in positions], np.float32).reshape(-1, encoder.identity.width),
                tuple(vectors[p][1] for p in positions),
                {position: errors[position] for position in here if position in errors},
            )


def _looked_up(images: Sequence[ImageLike], ids: Sequence[str], root: Path, file: VectorFile) -> Generator[VectorBatch]:
    """Vectors of images by their ids, or by their paths from `root`; a missing one is that image's error.

    The file has its own order, so all vectors are kept in memory until they are given in that of the images.
    """
    known = {name: row for row, name in enumerate(file.ids)}
    paths = [
        path_as_text(os.path.relpath(image, root)) if isinstance(image, (str, os.PathLike)) else "" for image in images
    ]
    found = np.array([known.get(i, known.get(path, -1)) for i, path in zip(ids, paths, strict=True)], np.intp)
    rows = np.unique(found[found >= 0])
    vectors = np.concatenate([np.zeros((0, file.width), np.float32), *(b.vectors for b in _blocks_of(file, rows))])
    for start in range(0, len(found), BATCH):
        here = np.arange(start, min(start + BATCH, len(found)))
        there, missing = here[found[here] >= 0], here[found[here] < 0]
        taken = vectors[np.searchsorted(rows, found[there])]
        errors = {
            position: ImageError(
                f"cannot use {printable(ids[position])}: {printable(file.path)} holds no vector of that id; "
                "add it, or remove the photo"
            )
            for position in missing.tolist()
        }
        yield VectorBatch(there, taken, _digests(taken), errors)


def _digests(vectors: NDArray[np.float32]) -> tuple[str, ...]:
    """Digests of vectors, where those of the images are unknown."""
    return tuple(hashlib.sha256(vector.tobytes()).hexdigest() for vector in vectors)
