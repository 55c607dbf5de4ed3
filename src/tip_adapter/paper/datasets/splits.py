"""Reads a data set in place: its classes in order, and the photos and labels of a part when they are needed.

No photo is opened, and none is looked for except by `check_dataset` and `require_images`: a split names its photos, and
class folders are listed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tip_adapter.errors import MissingDataset, SplitError, UsageError
from tip_adapter.images.find import ImageList
from tip_adapter.paper.datasets.layouts import LAYOUTS
from tip_adapter.paper.datasets.records import SPLITS_URL, absent_pieces, existing_root, is_file
from tip_adapter.text import counted, first_of, printable, shown

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tip_adapter.paper.datasets.layouts import Rows
    from tip_adapter.paper.datasets.records import DatasetRecord


@dataclass(frozen=True)
class DatasetSplits:
    """A data set below a data root.

    Parameters
    ----------
    record : what it is
    folder : where it lies
    names : label → what a text encoder reads, in the order of the classes. Labels are unique, names need not be:
        two pairs of ImageNet's classes share theirs
    rows : part → what lists its photos
    """

    record: DatasetRecord
    folder: Path
    names: Mapping[str, str]
    rows: Mapping[str, Callable[[], Rows]]

    @property
    def parts(self) -> tuple[str, ...]:
        """``train``, ``val``, ``test``, as far as it has them."""
        return tuple(self.rows)

    def photos(self, part: str) -> ImageList:
        """Photos and labels of a part, in the split's order.

        Parameters
        ----------
        part : one of `parts`

        Returns
        -------
        ImageList, its classes in the order of `names`, its root the folder that the split's paths are relative to

        Raises
        ------
        UsageError
            There is no such part.
        SplitError
            A list or folder of it cannot be read.
        """
        if part not in self.rows:
            raise UsageError(f"{self.record.name} has no part {shown(part)}; its parts are {', '.join(self.parts)}")
        rows, root = self.rows[part](), self.folder / self.record.photos_under[part]
        paths, labels = tuple(root / path for path, _ in rows), tuple(label for _, label in rows)
        return ImageList(paths, labels, tuple(self.names), root)


def open_dataset(dataset: DatasetRecord, data_root: str | os.PathLike[str]) -> DatasetSplits:
    """A data set below a data root, its classes read.

    Raises
    ------
    MissingDataset
        It is not there, or not whole; the message names what is missing and where to get it.
    FolderError
        `data_root` is no folder.
    SplitError
        The list of its classes cannot be read, or is not what it should be.
    LabelError
        A class name is no label.
    """
    absent = absent_pieces(dataset, data_root)
    if absent:
        raise MissingDataset(
            f"{dataset.title} is not whole below {printable(data_root)}: no {', no '.join(absent)}; "
            f"its photos: {dataset.url}, layout and splits: {SPLITS_URL}"
        )
    folder = existing_root(data_root) / dataset.folder
    names, rows = LAYOUTS[dataset.layout](dataset, folder)
    return DatasetSplits(dataset, folder, names, rows)


# ---- do the photos match the split? ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class PartCheck:
    """What is there of a part.

    Parameters
    ----------
    part : its name
    n_published : int, photos as the literature counts them
    n_listed : int, photos that the split names or the class folders hold
    missing : paths of those that are no files, relative to the part's folder
    problem : why its photos cannot be listed; None where they can
    """

    part: str
    n_published: int
    n_listed: int
    missing: tuple[str, ...]
    problem: str | None = None

    @property
    def complete(self) -> bool:
        """Whether every photo of the published split is there."""
        return self.n_listed == self.n_published and not self.missing and self.problem is None


@dataclass(frozen=True)
class DatasetCheck:
    """What is there of a data set.

    Parameters
    ----------
    n_published : int, classes as the literature counts them
    n_listed : int, classes that the split names
    parts : one a part
    """

    n_published: int
    n_listed: int
    parts: tuple[PartCheck, ...]

    @property
    def complete(self) -> bool:
        """Whether every class and photo of the published split is there."""
        return self.n_listed == self.n_published and all(part.complete for part in self.parts)


def check_dataset(splits: DatasetSplits) -> DatasetCheck:
    """Count a data set's files against its split; looks for every photo, opens none.

    A part whose list or folders cannot be read hinders no other: it says so itself.
    """
    parts = []
    for part in splits.parts:
        n_published = splits.record.n_images[part]
        try:
            photos = splits.photos(part)
            parts.append(PartCheck(part, n_published, len(photos), _missing(photos)))
        except SplitError as error:
            parts.append(PartCheck(part, n_published, 0, (), str(error)))
    return DatasetCheck(splits.record.n_classes, len(splits.names), tuple(parts))


def require_images(photos: ImageList) -> None:
    """Refuse photos of a split that are not there.

    Raises
    ------
    SplitError
        With their number and the first of them.
    """
    missing = _missing(photos)
    if missing:
        raise SplitError(
            f"{len(missing):,} of {counted(len(photos), 'photo', 'photos')} of the split are not below "
            f"{printable(photos.root)}: {first_of(missing)}; get them, or the split that belongs to these photos"
        )


def _missing(photos: ImageList) -> tuple[str, ...]:
    absent = [place for place, path in enumerate(photos.paths) if not is_file(path)]
    return tuple(photos.take(absent).ids())
