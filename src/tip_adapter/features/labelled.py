"""What a user names, as a source of vectors: a folder or list of photos, or stored vectors in their place.

Whatever takes a folder or list of photos takes a folder of features, which `tip-adapter extract` made, or a file of vectors
from elsewhere.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tip_adapter import validation
from tip_adapter.errors import FeaturesError, FolderError, NothingReadable, warn
from tip_adapter.features.sources import FileReader, FolderReader, ImageReader, VectorSource
from tip_adapter.features.store import is_feature_folder, read_manifest
from tip_adapter.features.vector_file import is_vector_file, open_vector_file
from tip_adapter.images.find import find_images, find_labelled
from tip_adapter.images.inputs import image_name
from tip_adapter.text import printable
from tip_adapter.vectors import SupportSet

if TYPE_CHECKING:
    import os
    from collections.abc import Generator, Sequence

    from tip_adapter.encoders import Encoder
    from tip_adapter.features.encode import Progress
    from tip_adapter.images.decode import ImageLike
    from tip_adapter.images.find import ImageList


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
    path = validation.path(source, "folder")
    if is_feature_folder(path):
        return _part_of(*_of_folder(path), part)
    if is_vector_file(path):
        return _part_of(*_of_file(path), part)
    return found_source(find_labelled(path, part=part))


def found_source(photos: ImageList) -> VectorSource:
    """Labelled photos that were found."""
    ids, rows = tuple(photos.ids()), np.arange(len(photos))
    return VectorSource(ids, photos.labels, photos.classes, photos.root, ImageReader(photos.paths), rows, photos.notes)


def is_stored(path: str | os.PathLike[str]) -> bool:
    """Whether it is a folder of features or a file of vectors."""
    return is_feature_folder(path) or is_vector_file(path)


def image_source(source: str | os.PathLike[str]) -> VectorSource:
    """Photos to be named, as `find_images`, or stored vectors; labels are not needed, and not kept.

    Raises
    ------
    FolderError, UsageError
        As `find_images`.
    FeaturesError
        Stored vectors cannot be read.
    """
    path = validation.path(source, "folder")
    if is_feature_folder(path):
        return _of_folder(path)[0]
    if is_vector_file(path):
        return _of_file(path)[0]
    return listed_source(find_images(path), root=path)


def listed_source(
    photos: Sequence[ImageLike],
    labels: Sequence[str] = (),
    ids: Sequence[str] | None = None,
    *,
    root: str | os.PathLike[str] = ".",
) -> VectorSource:
    """Photos that a program hands over, with or without labels; by default a path's text is the photo's id."""
    names = [image_name(photo, position) for position, photo in enumerate(photos)] if ids is None else ids
    rows = np.arange(len(photos))
    return VectorSource(tuple(names), tuple(labels), tuple(sorted(set(labels))), Path(root), ImageReader(photos), rows)


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
