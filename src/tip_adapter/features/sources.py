"""VectorSource: labelled or unlabelled vectors from images, a features folder or a vector file, behind one interface.

Whatever takes a folder or list of images also takes a features folder, which `tip-adapter extract` makes, or a vector file
from another program. Vectors are read in batches, in the order of a source's rows; stored vectors are not encoded again.
"""

from __future__ import annotations

from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from tip_adapter import validation
from tip_adapter.errors import FeaturesError, FolderError, LabelError, NothingReadable, UsageError, warn
from tip_adapter.features.readers import FileReader, FolderReader, ImageReader
from tip_adapter.features.store import is_feature_folder, read_manifest, read_shard
from tip_adapter.features.vector_file import is_vector_file, open_vector_file
from tip_adapter.images.find import Labelled, find_images, find_labelled
from tip_adapter.images.inputs import image_name
from tip_adapter.images.label_doubts import label_doubts
from tip_adapter.images.list_tables import LIST_ENDINGS
from tip_adapter.images.lists import read_labelled_list
from tip_adapter.images.named_files import absent_images
from tip_adapter.images.search import ENDINGS, is_file, sub_folders
from tip_adapter.io.files import is_folder
from tip_adapter.text import first_three, printable
from tip_adapter.vectors import SupportSet

if TYPE_CHECKING:
    import os
    from collections.abc import Generator, Iterable, Sequence

    from numpy.typing import NDArray

    from tip_adapter.encoders import Encoder
    from tip_adapter.features.encode import Progress, VectorBatch
    from tip_adapter.images.decode import ImageLike
    from tip_adapter.images.find import ImageList

    #: Id and label of an image.
    Named = tuple[str, str]


@dataclass(frozen=True, eq=False)
class VectorSource(Labelled):
    """Images that have vectors, or that an encoder gives vectors of.

    Parameters
    ----------
    ids : a name for each image
    labels : one for each image; empty without labels
    classes : all labels in order, also those without an image
    root : where they were found
    reader : reads their vectors
    rows : (n,) int array, which of the reader's images these are, ascending
    notes : what a user should know about how they were found
    encoder_name : the encoder that made stored vectors; None for images, which any encoder reads
    """

    ids: tuple[str, ...]
    labels: tuple[str, ...]
    classes: tuple[str, ...]
    root: Path
    reader: ImageReader | FolderReader | FileReader
    rows: NDArray[np.intp]
    notes: tuple[str, ...] = ()
    encoder_name: str | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def photos(self) -> list[Path]:
        """The paths of image files.

        Raises
        ------
        UsageError
            The source is stored vectors.
        """
        if not isinstance(self.reader, ImageReader):
            raise UsageError(f"{printable(self.root)} holds vectors, and no photos to copy or link; name their folder")
        return [Path(self.reader.images[row]) for row in self.rows]

    def take(self, positions: Iterable[int] | NDArray[Any]) -> Self:
        """These images only; the classes stay."""
        chosen = [int(position) for position in positions]
        ids, labels = tuple(self.ids[row] for row in chosen), tuple(self.labels[row] for row in chosen if self.labels)
        return replace(self, ids=ids, labels=labels, rows=self.rows[chosen])

    def reusing(self, known: SupportSet) -> Self:
        """The same images; a file whose content is among `known` is not decoded, its vector there is used."""
        if not isinstance(self.reader, ImageReader):
            return self
        return replace(self, reader=replace(self.reader, known=known))

    def labelled(self, label: str) -> VectorSource:
        """The same images, all of one class."""
        return replace(self, labels=(label,) * len(self), classes=(label,))

    def stream(self, encoder: Encoder, *, threads: int | None = None) -> Generator[VectorBatch]:
        """Their vectors, batch by batch; positions index `ids`.

        Parameters
        ----------
        encoder : Encoder, that encodes the images, or made the stored vectors
        threads : int, images decoded concurrently; None for one per available processor

        Raises
        ------
        WrongEncoder
            Another encoder made the stored vectors.
        FeaturesError
            Stored vectors cannot be read.
        """
        return self.reader.stream(self.rows, encoder, threads)


# ---- sources from what a user names, or a program passes -------------------------------------------------------------


def is_stored(path: str | os.PathLike[str]) -> bool:
    """Whether it is a features folder or a vector file."""
    return is_feature_folder(path) or is_vector_file(path)


def labelled_source(source: str | os.PathLike[str], *, part: str) -> VectorSource:
    """Labelled images of a folder or list, as `find_labelled`, or labelled stored vectors.

    Parameters
    ----------
    source : path of a folder or list of images, of a features folder, or of a vector file
    part : ``train``, ``val`` or ``test``: the part to read if the source is split

    Raises
    ------
    FolderError, LabelError, UsageError
        As `find_labelled`.
    FeaturesError
        Stored vectors cannot be read, or have no labels.
    """
    path = validation.path(source, "folder")
    if not is_stored(path):
        return found_source(find_labelled(path, part=part))
    stored, parts = _stored_source(path)
    if not stored.labels:
        raise FeaturesError(
            f"{printable(path)} has no labels; `predict` takes it, and photos in class folders have them"
        )
    if not parts:
        return stored
    if part not in parts:
        raise FolderError(f"{printable(path)} is split into {', '.join(sorted(set(parts)))}; it has no part {part}")
    taken = stored.take(np.flatnonzero(np.array(parts) == part))
    ids = tuple(name.removeprefix(f"{part}/") for name in taken.ids)
    return replace(taken, ids=ids).noted(f"{printable(path)} is split: its part {part} is read")


def image_source(source: str | os.PathLike[str]) -> VectorSource:
    """Images to classify, as `find_images`, or stored vectors; labels are optional.

    Raises
    ------
    FolderError, UsageError
        As `find_images`.
    FeaturesError
        Stored vectors cannot be read.
    """
    path = validation.path(source, "folder")
    return _stored_source(path)[0] if is_stored(path) else listed_source(find_images(path), root=path)


def classes_within(source: str | os.PathLike[str]) -> set[str]:
    """What says the classes of the images that `image_source` gives: stored or listed labels, or names of folders."""
    path = validation.path(source, "folder")
    if is_stored(path):
        return set(_stored_source(path)[0].labels)
    if is_folder(path):
        return {path.resolve().name, *(folder.name for folder in sub_folders(path))}
    if path.suffix.lower() in LIST_ENDINGS and is_file(path):
        with suppress(FolderError, LabelError):
            return {name for _, name, _ in read_labelled_list(path, ENDINGS)[0]}
    return set()


def found_source(images: ImageList) -> VectorSource:
    """Labelled images that were found in a folder or list."""
    ids, rows = tuple(images.ids()), np.arange(len(images))
    reader = ImageReader(images.paths, ids, images.root)
    return VectorSource(ids, images.labels, images.classes, images.root, reader, rows, images.notes)


def listed_source(
    images: Sequence[ImageLike],
    labels: Sequence[str] = (),
    ids: Sequence[str] | None = None,
    *,
    root: str | os.PathLike[str] = ".",
) -> VectorSource:
    """Images passed from Python, with or without labels; by default a path's text is the image's id."""
    names = tuple([image_name(image, position) for position, image in enumerate(images)] if ids is None else ids)
    reader, rows = ImageReader(images, names, Path(root)), np.arange(len(images))
    return VectorSource(names, tuple(labels), tuple(sorted(set(labels))), Path(root), reader, rows)


def _stored_source(path: Path) -> tuple[VectorSource, Sequence[str]]:
    """Stored vectors as a source, and the part of each row; no parts if they are not split."""
    if is_feature_folder(path):
        return _folder_source(path)
    file = open_vector_file(path)
    classes = tuple(sorted({*(file.classes.labels if file.classes else ()), *file.labels}))
    rows = np.arange(len(file.ids))
    return VectorSource(
        file.ids, file.labels, classes, path, FileReader(file), rows, tuple(label_doubts(classes)), file.name
    ), file.parts


def _folder_source(path: Path) -> tuple[VectorSource, Sequence[str]]:
    manifest = read_manifest(path)
    reader = FolderReader(path, manifest)
    ids: list[str] = []
    labels: list[str] = []
    for shard in manifest.shards:
        table = read_shard(path, shard, manifest.encoder.width)
        ids += table.ids
        labels += [label for label in table.labels if label is not None]
    if len(set(ids)) < len(ids) or len(labels) not in (0, len(ids)):
        raise FeaturesError(
            f"{printable(path)} lists an image twice, or labels for some images only; run `tip-adapter extract` again"
        )
    classes = tuple(sorted({*(manifest.classes or ()), *labels}))
    rows, made_by = np.arange(len(ids)), manifest.encoder.name
    source = VectorSource(tuple(ids), tuple(labels), classes, path, reader, rows, (), made_by)
    return source, [name.partition("/")[0] for name in ids] if manifest.split else ()


# ---- vectors of labelled images --------------------------------------------------------------------------------------


def encode_labelled(
    source: VectorSource, encoder: Encoder, *, threads: int | None = None, progress: Progress | None = None
) -> tuple[SupportSet, int]:
    """All vectors of labelled images in memory; warns and raises as `stream_labelled`.

    Returns
    -------
    support : SupportSet of the readable images
    n_failed : int, number of unreadable images
    """
    width = encoder.identity.width
    parts = [SupportSet(np.zeros((0, width), np.float32), np.zeros(0, np.str_), np.zeros(0, np.str_))]
    parts += stream_labelled(source, encoder, threads=threads, progress=progress)
    support = SupportSet.joined(parts)
    return support, len(source) - len(support)


def stream_labelled(
    source: VectorSource, encoder: Encoder, *, threads: int | None = None, progress: Progress | None = None
) -> Generator[SupportSet]:
    """The vectors of labelled images, batch by batch; warns of unreadable images, and of one image with two labels.

    Parameters
    ----------
    source : VectorSource, with labels
    encoder, threads : as in `VectorSource.stream`
    progress : called with (images done, images in all) after each batch

    Yields
    ------
    SupportSet of the readable images of a batch

    Raises
    ------
    NothingReadable
        There are images, and none of them is readable.
    WrongEncoder, FeaturesError, VectorError
        As `VectorSource.stream`.
    """
    failed: list[str] = []
    first: dict[bytes, int] = {}  # half a digest → the first row with it
    conflicts: list[tuple[Named, Named]] = []
    done = 0
    with closing(source.stream(encoder, threads=threads)) as stream:
        for batch in stream:
            failed += map(str, batch.errors.values())
            rows = batch.positions.tolist()
            for digest, row in zip(batch.digests, rows, strict=True):
                earlier = first.setdefault(bytes.fromhex(digest)[:16], row)
                if source.labels[earlier] != source.labels[row]:
                    both = [(source.ids[index], source.labels[index]) for index in (earlier, row)]
                    conflicts.append((both[0], both[1]))
            done += len(rows) + len(batch.errors)
            if progress:
                progress(done, len(source))
            labels, ids = ([column[row] for row in rows] for column in (source.labels, source.ids))
            yield SupportSet(batch.vectors, *(np.array(column, np.str_) for column in (labels, ids, batch.digests)))
    if failed and len(failed) == len(source):
        images = source.reader.images if isinstance(source.reader, ImageReader) else ()
        raise NothingReadable.among(failed, absent_images(source.root, images))
    if failed:
        warn(f"left out {len(failed):,} of {len(source):,} images: {first_three(failed)}")
    warn_of_conflicts(conflicts, "remove one")


def warn_of_conflicts(conflicts: Sequence[tuple[Named, Named]], advice: str) -> None:
    """Warn of images that are in two classes, if there are any: of each, both ids with their labels."""
    if conflicts:
        pairs = [" and ".join(f"{printable(name)} ({printable(label)})" for name, label in both) for both in conflicts]
        warn(f"the same image is in two classes: {first_three(pairs)}; {advice}")
