"""Finds photos and their labels: in class folders, in split folders, in CSV or JSONL lists.

The rules. A *class folder* holds the photos of one class, at any depth; its name in Unicode NFC is the label. Hidden
files and folders are skipped, symbolic links are followed, endings may be in upper case (see `ENDINGS`); other files
are skipped, and so are a model and features that lie beside the class folders. A *split folder* has only the sub-folders
train and val and/or test, and train holds class folders. A *list* has the columns file_name and label (CSV, with a
header) or those keys (JSONL); paths are relative to the list.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tip_adapter import validation
from tip_adapter.errors import FolderError
from tip_adapter.images.labels import label_of, numbered, path_as_text, refuse_lookalike_labels
from tip_adapter.images.lists import LIST_ENDINGS, read_labelled_list, read_list
from tip_adapter.io.files import is_folder
from tip_adapter.text import counted, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

ENDINGS = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".jif",
        ".mpo",
        ".png",
        ".apng",
        ".webp",
        ".gif",
        ".bmp",
        ".dib",
        ".tif",
        ".tiff",
        ".avif",
        ".heic",
        ".heif",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
    ]
)
_PARTS = {"train", "val", "test"}
_MODEL_FILES = ("config.json", "adapter.safetensors")
_MANIFEST, _SHARDS = "manifest.json", r"shard-\w+\.parquet"


@dataclass(frozen=True)
class ImageList:
    """Photos and their labels.

    Parameters
    ----------
    paths : one a photo
    labels : one a photo
    classes : all labels in order, also those without a photo
    root : the folder they were found in
    notes : what a person should know about how they were found
    """

    paths: tuple[Path, ...]
    labels: tuple[str, ...]
    classes: tuple[str, ...]
    root: Path
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, positions: Iterable[int] | NDArray[Any]) -> ImageList:
        """These photos only; the classes stay."""
        rows = [int(position) for position in positions]
        paths, labels = tuple(self.paths[row] for row in rows), tuple(self.labels[row] for row in rows)
        return replace(self, paths=paths, labels=labels)

    def noted(self, *notes: str) -> ImageList:
        """The same photos, with more to know about them."""
        return replace(self, notes=(*self.notes, *notes))

    def ids(self) -> list[str]:
        """A name for each photo: its path from the root; one that is listed again gets a number."""
        return numbered(path_as_text(os.path.relpath(path, self.root)) for path in self.paths)

    def counts(self) -> dict[str, int]:
        """Label → number of photos."""
        counts = dict.fromkeys(self.classes, 0)
        for label in self.labels:
            counts[label] += 1
        return counts


def find_labelled(source: str | os.PathLike[str], *, part: str) -> ImageList:
    """Photos and labels of a folder of class folders, a split folder, or a list.

    Parameters
    ----------
    source : path of the folder or list
    part : ``train``, ``val`` or ``test``: which part of a split folder is read

    Returns
    -------
    ImageList, sorted by label and path

    Raises
    ------
    FolderError
        There is no such folder, it has no class folders, or the list cannot be read.
    UsageError
        `source` is no path.
    LabelError
        A label is not UTF-8, is too long, or two labels differ only by case or Unicode form.
    """
    source = validation.path(source, "folder")
    if _is_file(source):
        return _labelled(source.parent, read_labelled_list(source), [], [])
    folder, notes = _choose_part(_existing(source), part)
    classes = [child for child in _children(folder) if is_folder(child) and not _is_made(child)]
    if not classes:
        raise FolderError(
            f"{printable(source)} holds no class folders; put the photos of each class into a folder of its own"
        )
    rows = [(path, child.name) for child in classes for path in walk_images(child)]
    loose = sum(map(_is_image, _children(folder)))
    if loose:
        notes.append(f"{printable(folder)}: photos outside class folders are skipped ({loose})")
    return _labelled(folder, rows, [child.name for child in classes], notes)


def find_images(source: str | os.PathLike[str]) -> list[Path]:
    """Photos to be named: a photo, all photos of a folder at any depth, or those of a list (labels are not needed).

    Raises
    ------
    FolderError
        A folder without photos, or a list that cannot be read. A photo that does not exist is no error here.
    UsageError
        `source` is no path.
    """
    source = validation.path(source, "folder")
    if source.suffix.lower() in LIST_ENDINGS and _is_file(source):
        return read_list(source)
    if not is_folder(source):
        return [source]
    photos = list(walk_images(source))
    if not photos:
        raise FolderError(f"{printable(source)} holds no photos; known endings are {' '.join(sorted(ENDINGS))}")
    return photos


def walk_images(folder: Path) -> Iterator[Path]:
    """Photos below `folder` in order of their paths; symbolic links are followed, but never in circles."""
    yield from _walk(folder, frozenset())


def _existing(source: Path) -> Path:
    """The folder itself.

    Raises
    ------
    FolderError
        There is none.
    """
    if not is_folder(source):
        raise FolderError(
            f"{printable(source)} is neither a folder nor a list (.csv, .jsonl) that exists; check the path"
        )
    return source


def is_split(source: str | os.PathLike[str]) -> bool:
    """Whether a folder's sub-folders are only train with val and/or test, and train holds class folders."""
    folder = Path(source)
    if not is_folder(folder):
        return False
    names = {child.name for child in _children(folder) if is_folder(child)}
    split = "train" in names and len(names) > 1 and names <= _PARTS
    return split and any(is_folder(child) for child in _children(folder / "train"))


def parts_of(folder: Path) -> tuple[str, ...]:
    """The parts of a split folder."""
    return tuple(sorted(child.name for child in _children(folder) if is_folder(child)))


def _choose_part(folder: Path, part: str) -> tuple[Path, list[str]]:
    """The part of a split folder, or the folder itself if it is not split."""
    if not is_split(folder):
        return folder, []
    names = parts_of(folder)
    if part not in names:
        raise FolderError(f"{printable(folder)} is split into {', '.join(names)}; it has no {part} folder")
    return folder / part, [f"{printable(folder)} is split into {', '.join(names)}: its {part} folder is read"]


def _labelled(root: Path, found: Sequence[tuple[Path, str]], names: Sequence[str], notes: list[str]) -> ImageList:
    """Photos with their class names → photos with their labels, in order."""
    names = [*names, *(name for _, name in found)]
    refuse_lookalike_labels(names)
    labels = {name: label_of(name, os.fspath(root)) for name in dict.fromkeys(names)}
    rows = sorted(((path, labels[name]) for path, name in found), key=lambda row: (row[1], os.fspath(row[0])))
    named = {label for _, label in rows}
    classes = tuple(sorted(set(labels.values())))
    empty = [printable(label) for label in classes if label not in named]
    if empty:
        listed = f"{', '.join(empty[:5])}{', …' if len(empty) > 5 else ''}"
        all_of_them = counted(len(classes), "class", "classes")
        notes = [*notes, f"no photos in {len(empty)} of {all_of_them}, only their names are used: {listed}"]
    return ImageList(tuple(path for path, _ in rows), tuple(label for _, label in rows), classes, root, tuple(notes))


def _walk(folder: Path, above: frozenset[str]) -> Iterator[Path]:
    real = os.path.realpath(folder)
    if real in above:
        return
    for child in _children(folder):
        if is_folder(child):
            yield from _walk(child, above | {real})
        elif _is_image(child):
            yield child


def _children(folder: Path) -> list[Path]:
    try:
        names = sorted(name for name in os.listdir(folder) if not name.startswith(".") and name != "__MACOSX")
    except OSError as error:
        raise FolderError(f"cannot read folder {printable(folder)}: {error.strerror}") from error
    return [folder / name for name in names]


def _is_made(folder: Path) -> bool:
    """A model or features that lie beside the class folders: `tip-adapter fit . --out model` may be run again."""
    if all(_is_file(folder / name) for name in _MODEL_FILES):
        return True
    names = [child.name for child in _children(folder)]
    return bool(names) and all(name == _MANIFEST or re.fullmatch(_SHARDS, name) for name in names)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in ENDINGS and not is_folder(path)
