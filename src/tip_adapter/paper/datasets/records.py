"""The paper's data sets as records: what each contains, its folder below a data root, and where to get it.

The layouts are those of the few-shot literature, so that existing copies of the data need no moving. `splits.py` reads them.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping  # noqa: TC003 - msgspec reads the annotations
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

import msgspec

from tip_adapter import validation
from tip_adapter.errors import FolderError
from tip_adapter.plugins import unknown_name
from tip_adapter.text import printable
from tip_adapter.validation import require

if TYPE_CHECKING:
    from pathlib import Path

#: Where the few-shot literature keeps its split files, and says how to lay out each data set.
SPLITS_URL = "https://github.com/KaiyangZhou/CoOp/blob/main/DATASETS.md"


@dataclass(frozen=True)
class PublicSearch:
    """Where the authors' public code begins on a data set, and how far it looks.

    Parameters
    ----------
    beta_most, alpha_most : float, upper ends of its grid
    beta, alpha : float, those that it trains with
    """

    beta_most: float
    alpha_most: float
    beta: float
    alpha: float


@dataclass(frozen=True)
class DatasetRecord:
    """One data set.

    Parameters
    ----------
    name : what it is called here, such as ``caltech101``
    title : what the paper calls it
    layout : how photos and labels are found, a name of `splits.LAYOUTS`
    folder : below the data root
    files : what tells parts and labels, below `folder`; empty where folders do
    photos_under : part → the folder below `folder` that its paths are relative to
    holds : further folders below `folder` without which it is not there: those that its paths begin with
    n_classes : int, as published
    n_images : part → number of photos, as published; a part that is not here does not exist
    templates : name of a template set
    size_mib : int, of the published archives
    licence : of the photos, in a few words
    url : where to get it
    dead_links : where it can no longer be had, though papers and scripts still say so
    advice : what to know when getting it
    source : of a target under distribution shift, the data set whose classes it tests; else None
    epochs : method → passes over the photos, as the public code has them; empty for a target
    search : the public code's, None for a target
    """

    name: str
    title: str
    layout: str
    folder: str
    files: tuple[str, ...]
    photos_under: Mapping[str, str]
    n_classes: int
    n_images: Mapping[str, int]
    templates: str
    size_mib: int
    licence: str
    url: str
    holds: tuple[str, ...] = ()
    dead_links: tuple[str, ...] = ()
    advice: str | None = None
    source: str | None = None
    epochs: Mapping[str, int] = field(default_factory=dict)
    search: PublicSearch | None = None


@cache
def dataset_records() -> dict[str, DatasetRecord]:
    """Name → record of every data set, in the order of the paper."""
    text = (files("tip_adapter.paper.datasets") / "datasets.toml").read_text(encoding="utf-8")
    records = {}
    for name, entry in tomllib.loads(text).items():
        under = entry["photos_under"]
        folders = dict.fromkeys(entry["n_images"], under) if isinstance(under, str) else under
        records[name] = msgspec.convert({**entry, "name": name, "photos_under": folders}, DatasetRecord)
    return records


def dataset_record(name: str) -> DatasetRecord:
    """The record of one data set.

    Raises
    ------
    UnknownName
        There is none of that name; the nearest is suggested.
    UsageError
        It is no name.
    """
    require(isinstance(name, str), "data set", "a name", name)
    records = dataset_records()
    if name not in records:
        raise unknown_name("data set", name, records)
    return records[name]


def absent_pieces(record: DatasetRecord, data_root: str | os.PathLike[str]) -> tuple[str, ...]:
    """What of a data set is not below a data root: its folder, or files and folders in it; empty if it is all there.

    Looks at folders and lists only, at no photo.

    Raises
    ------
    FolderError
        `data_root` is no folder.
    """
    folder = existing_root(data_root) / record.folder
    if not _is_folder(folder):
        return (record.folder,)
    lists = [name for name in record.files if not is_listed(folder / name)]
    wanted = dict.fromkeys([*record.photos_under.values(), *record.holds])
    folders = [name for name in wanted if not _is_folder(folder / name)]
    return tuple(f"{record.folder}/{name}" for name in [*lists, *folders])


def existing_root(data_root: str | os.PathLike[str]) -> Path:
    """The data root as a path.

    Raises
    ------
    FolderError
        It is no folder.
    UsageError
        It is no path.
    """
    root = validation.path(data_root, "data root")
    if not _is_folder(root):
        raise FolderError(
            f"data root {printable(root)} is no folder; name the folder that holds the data sets' folders"
        )
    return root


def is_listed(path: Path) -> bool:
    """Whether a list is there, plain or packed."""
    return is_file(path) or is_file(packed(path))


def packed(path: Path) -> Path:
    """Where a list lies if it is packed."""
    return path.with_name(f"{path.name}.gz")


def is_file(path: Path) -> bool:
    """Whether a file is there; False also where the system will not say, such as for names that are too long."""
    return os.path.isfile(path)  # noqa: PTH113 - Path.is_file raises, and takes twice the time


def _is_folder(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 - likewise
