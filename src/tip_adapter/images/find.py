"""Find images and their labels: in class folders, in split folders, in CSV or JSONL lists.

A *class folder* contains the images of one class, at any depth; its name in Unicode NFC is the label. Hidden files and
folders are skipped, symbolic links are followed, file extensions may be in upper case (see `ENDINGS`); other files are
skipped, and so are model folders and feature folders next to the class folders. A *split folder* has only the
sub-folders train and val and/or test, and train contains class folders. A *list* has the columns file_name and label
(CSV, with a header) or those keys (JSONL); paths are relative to the list.
"""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tip_adapter import validation
from tip_adapter.errors import FolderError
from tip_adapter.images.labels import label_of, numbered, path_as_text, refuse_lookalike_labels
from tip_adapter.images.lists import LIST_ENDINGS, read_labelled_list, read_list
from tip_adapter.io.files import is_folder
from tip_adapter.text import counted, first_of, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

_ENDINGS = (
    ".jpg .jpeg .jpe .jfif .jif .mpo .png .apng .webp .gif .bmp .dib .tif .tiff .avif .heic .heif .ppm .pgm .pbm .pnm"
)
ENDINGS = frozenset(_ENDINGS.split())
_PARTS = {"train", "val", "test"}
_MODEL_FILES = ("config.json", "adapter.safetensors")
_FEATURE_FILES = r"manifest\.json|shard-\w+\.parquet"


class Labelled(ABC):
    """Labelled images or vectors of them: `labels` has one for each, `classes` are all labels in order."""

    labels: tuple[str, ...]
    classes: tuple[str, ...]
    notes: tuple[str, ...]

    @abstractmethod
    def take(self, positions: Iterable[int] | NDArray[Any]) -> Self:
        """Only the images at these positions; the classes stay."""

    def noted(self, *notes: str) -> Self:
        """The same images with more notes."""
        return replace(self, notes=(*self.notes, *notes))  # type: ignore[type-var] # sub-classes are dataclasses

    def counts(self) -> dict[str, int]:
        """Label → number of images."""
        counts = Counter(self.labels)
        return {label: counts[label] for label in self.classes}


@dataclass(frozen=True)
class ImageList(Labelled):
    """Image files and their labels.

    Parameters
    ----------
    paths : one for each image
    labels : one for each image
    classes : all labels, sorted, including those without images
    root : the folder that was searched
    notes : what a user should know about the search
    """

    paths: tuple[Path, ...]
    labels: tuple[str, ...]
    classes: tuple[str, ...]
    root: Path
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, positions: Iterable[int] | NDArray[Any]) -> Self:
        """Only the images at these positions; the classes stay."""
        rows = [int(position) for position in positions]
        paths, labels = tuple(self.paths[row] for row in rows), tuple(self.labels[row] for row in rows)
        return replace(self, paths=paths, labels=labels)

    def ids(self) -> list[str]:
        """A unique id for each image: its path from the root; a repeated path gets a number."""
        return numbered(path_as_text(os.path.relpath(path, self.root)) for path in self.paths)


def find_labelled(source: str | os.PathLike[str], *, part: str) -> ImageList:
    """Images and labels of a folder of class folders, a split folder, or a list.

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
        The folder does not exist, it has no class folders, or the list cannot be read.
    UsageError
        `source` is not a path.
    LabelError
        As `label_of` and `refuse_lookalike_labels`.
    """
    source = validation.path(source, "folder")
    if _is_file(source):
        return _labelled(source.parent, read_labelled_list(source, ENDINGS), [], [])
    if not is_folder(source):
        raise FolderError(
            f"{printable(source)} is neither a folder nor a list (.csv, .jsonl) that exists; check the path"
        )
    folder, notes = source, []
    if is_split(source):
        names = parts_of(source)
        if part not in names:
            raise FolderError(f"{printable(source)} is split into {', '.join(names)}; it has no {part} folder")
        folder = source / part
        notes.append(f"{printable(source)} is split into {', '.join(names)}: its {part} folder is read")
    children = _children(folder)
    classes = [child for child in children if is_folder(child) and not _is_output(child)]
    if not classes:
        raise FolderError(
            f"{printable(source)} holds no class folders; put the photos of each class into a folder of its own"
        )
    rows = [(path, child.name) for child in classes for path in walk_images(child)]
    if loose := sum(map(_is_image, children)):
        notes.append(f"{printable(folder)}: photos outside class folders are skipped ({loose})")
    return _labelled(folder, rows, [child.name for child in classes], notes)


def find_images(source: str | os.PathLike[str]) -> list[Path]:
    """Images without labels: a file, all images of a folder at any depth, or those of a list.

    Raises
    ------
    FolderError
        A folder without images, or a list that cannot be read. An image that does not exist is not an error here.
    UsageError
        `source` is not a path.
    """
    source = validation.path(source, "folder")
    if source.suffix.lower() in LIST_ENDINGS and _is_file(source):
        return read_list(source, ENDINGS)
    if not is_folder(source):
        return [source]
    images = list(walk_images(source))
    if not images:
        raise FolderError(f"{printable(source)} holds no photos; known endings are {' '.join(sorted(ENDINGS))}")
    return images


def walk_images(folder: Path, above: frozenset[str] = frozenset()) -> Iterator[Path]:
    """Images below `folder` in order of their paths; symbolic links are followed, except to a folder in `above`."""
    real = os.path.realpath(folder)
    if real in above:
        return
    for child in _children(folder):
        if is_folder(child):
            yield from walk_images(child, above | {real})
        elif _is_image(child):
            yield child


def is_split(source: str | os.PathLike[str]) -> bool:
    """Whether a folder's sub-folders are only train with val and/or test, and train contains class folders."""
    folder = Path(source)
    if not is_folder(folder):
        return False
    names = parts_of(folder)
    split = "train" in names and len(names) > 1 and _PARTS.issuperset(names)
    return split and any(is_folder(child) for child in _children(folder / "train"))


def parts_of(folder: Path) -> tuple[str, ...]:
    """The parts of a split folder."""
    return tuple(sorted(child.name for child in _children(folder) if is_folder(child)))


def _labelled(root: Path, found: Sequence[tuple[Path, str]], names: Sequence[str], notes: list[str]) -> ImageList:
    """Images with the names of their classes → images with their labels, sorted."""
    names = [*names, *(name for _, name in found)]
    refuse_lookalike_labels(names)
    labels = {name: label_of(name, os.fspath(root)) for name in dict.fromkeys(names)}
    rows = sorted(((path, labels[name]) for path, name in found), key=lambda row: (row[1], os.fspath(row[0])))
    classes = tuple(sorted(set(labels.values())))
    if empty := sorted(set(classes) - {label for _, label in rows}):
        of_all = counted(len(classes), "class", "classes")
        notes = [*notes, f"no photos in {len(empty)} of {of_all}, only their names are used: {first_of(empty)}"]
    return ImageList(tuple(path for path, _ in rows), tuple(label for _, label in rows), classes, root, tuple(notes))


def _children(folder: Path) -> list[Path]:
    try:
        names = sorted(name for name in os.listdir(folder) if not name.startswith(".") and name != "__MACOSX")
    except OSError as error:
        raise FolderError(f"cannot read folder {printable(folder)}: {error.strerror}") from error
    return [folder / name for name in names]


def _is_output(folder: Path) -> bool:
    """Whether it is a model or feature folder: `tip-adapter fit . --out model` can be run again."""
    if all(_is_file(folder / name) for name in _MODEL_FILES):
        return True
    children = _children(folder)
    return bool(children) and all(re.fullmatch(_FEATURE_FILES, child.name) for child in children)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in ENDINGS and not is_folder(path)
