"""Find images and their labels: in class folders, in split folders, in CSV or JSONL lists.

A *class folder* contains the images of one class, at any depth; its name in Unicode NFC is the label. `search` says which
files and folders are skipped, such as model folders and feature folders next to the class folders. A *split folder* has
sub-folders under the usual names of training, validation and test parts (`splits`), whose training part contains class
folders. If one folder contains all others, the search begins in it. A *list* (`lists`) has the columns file_name and label, as
CSV with a header or as JSON lines, and may say the part of each image. Notes report what is skipped and what is doubtful.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from tip_adapter import validation
from tip_adapter.errors import FolderError, warn
from tip_adapter.images.folder_doubts import folder_doubts
from tip_adapter.images.label_doubts import label_doubts
from tip_adapter.images.labels import label_of, numbered, path_as_text, refuse_lookalike_labels
from tip_adapter.images.list_tables import LIST_ENDINGS
from tip_adapter.images.lists import read_labelled_list, read_list
from tip_adapter.images.named_files import numbered_names
from tip_adapter.images.search import (
    ENDINGS,
    Search,
    is_file,
    is_image,
    is_output,
    kind_of,
    sub_folders,
)
from tip_adapter.images.sorting import labels_of_folders
from tip_adapter.images.splits import SPLIT_WORDS, is_split, part_of, part_within, without_shared_words
from tip_adapter.io.files import is_folder
from tip_adapter.text import counted, first_of, printable
from tip_adapter.validation import is_missing

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

#: How names of folders begin that systems create for themselves.
_SYSTEM_SIGNS = ("@", "#", "$", "~")


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
    part : ``train``, ``val`` or ``test``: which part of a split folder or list is read

    Returns
    -------
    ImageList, sorted by label and path

    Raises
    ------
    FolderError
        The folder does not exist, it has no class folders or no images, it looks like a split folder but is none, or
        the list cannot be read.
    UsageError
        `source` is not a path.
    LabelError
        As `label_of` and `refuse_lookalike_labels`.
    """
    source = validation.path(source, "folder")
    if is_file(source):
        listed, notes = _listed_part(source, part)
        return _labelled(source.parent, listed, [], notes)
    if not is_folder(source):
        raise FolderError(
            f"{printable(source)} is neither a folder nor a list (.csv, .tsv, .jsonl) that exists; check the path"
        )
    folder, parts, notes = _class_folders_at(source, part)
    search = Search(folder, [other for name, other in parts.items() if name != part])
    children = search.children(folder)
    classes = [child for child in children if search.enters(child) and not is_output(child)]
    if not classes:
        raise _no_class_folders(folder)
    if len(classes) == 1 and part_of(classes[0].name) and not parts:  # not even folders in it: no split, and no class
        raise _no_class_folders(classes[0], folder)
    around = [place for place in folder.parents if place == source or source in place.parents]
    search.skip_files([*children, *(child for place in around for child in search.children(place))])
    rows = [(path, child.name) for child in classes for path in search.images(child)]
    if not rows:
        _refuse_skipped(folder, classes, children, search)
    if parts:
        size = f"{counted(len(classes), 'class', 'classes')}, {counted(len(rows), 'image', 'images')}"
        others = [other.name for name, other in parts.items() if name != part]
        unread = [child.name for child in sub_folders(parts[part].parent) if child not in parts.values()]
        notes.append(_split_note(source, part, f"{parts[part].name} ({size})", others, unread))
    notes += [*folder_doubts(folder, rows, classes), *_unlabelled([folder, *around], [child.name for child in classes])]
    if outputs := [child.name for child in children if is_folder(child) and is_output(child)]:
        notes.append(f"{printable(folder)}: folders that this program wrote are skipped: {first_of(outputs)}")
    labels = labels_of_folders(folder)
    found = [(path, labels.get(name, name)) for path, name in rows]
    return _labelled(
        folder, found, [labels.get(child.name, child.name) for child in classes], [*notes, *search.notes()]
    )


def find_images(source: str | os.PathLike[str]) -> list[Path]:
    """Images without labels: a file, all images of a folder at any depth, or those of a list; warns of what is skipped.

    Raises
    ------
    FolderError
        A folder without images, or a list that cannot be read. An image that does not exist is not an error here.
    UsageError
        `source` is not a path.
    """
    source = validation.path(source, "folder")
    if source.suffix.lower() in LIST_ENDINGS and is_file(source):
        return read_list(source, ENDINGS)
    if not is_folder(source):
        return [source]
    images, notes = images_below(source)
    warn(*notes)
    return images


def images_below(folder: Path) -> tuple[list[Path], list[str]]:
    """All images of a folder at any depth, and notes on what is skipped; FolderError without an image."""
    search = Search(folder)
    images = list(search.images(folder))
    if not images:
        found = f"; {skipped}" if (skipped := search.skipped_files()) else ""
        raise FolderError(f"{printable(folder)} holds no photos{found}; known endings are {' '.join(sorted(ENDINGS))}")
    return images, search.notes()


def split_folders(source: str | os.PathLike[str]) -> dict[str, Path]:
    """Part → its folder, in the order train, val, test; empty if `source` is not a split folder.

    Raises
    ------
    FolderError
        Two folders are the same part, or all folders are named like parts but train has no class folders.
    """
    source = validation.path(source, "folder")
    if not is_folder(source):
        return {}
    folder, folders = _without_wrapper(source)
    names = without_shared_words([child.name for child in folders])
    named = _if_split(folders, [part_of(name) for name in names])
    if not named and _have_same_folders(folders):  # then a word of a name is enough
        named = _if_split(folders, [part_within(name) for name in names])
    parts = {part: child for wanted in SPLIT_WORDS for part, child in named if part == wanted}
    if len(named) > len(parts) and ("train" not in parts or len(parts) == 1):
        return {}  # dev1, dev2 and steam_train, toy_train are classes
    if len(named) > len(parts):
        twice = next(part for part, child in named if parts[part] != child)
        both = " and ".join(child.name for part, child in named if part == twice)
        raise FolderError(
            f"{printable(folder)} has two {twice} folders, {both}; keep one, name the one to read, or write a list with a column split"
        )
    if "train" in parts and not sub_folders(parts["train"]):
        raise _no_class_folders(parts["train"], folder)
    return parts


def _if_split(folders: Sequence[Path], parts: Sequence[str | None]) -> list[tuple[str, Path]]:
    """The part that each folder is by its name, without those that are none; empty if classes may have these names."""
    named = [(part, child) for child, part in zip(folders, parts, strict=True) if part]
    found, others = {part for part, _ in named}, len(folders) - len(named)
    nested = {part for part, child in named if sub_folders(child)}
    if "train" in nested:
        is_split = len(found) > 1 or not others
    else:
        # Only where all folders have such names, and there are several, is it a split.
        is_split = bool(named) and not others and (len(named) > 1 or nested == found)
    return named if is_split else []


def _have_same_folders(folders: Sequence[Path]) -> bool:
    """Whether each folder has sub-folders of the same names, at least two."""
    inner = [{child.name for child in sub_folders(folder)} for folder in folders]
    return len(inner) > 1 and len(set.intersection(*inner)) > 1


def _listed_part(source: Path, part: str) -> tuple[list[tuple[Path, str]], list[str]]:
    """Images and class names of a list, only those of `part` if its columns name several parts, and notes."""
    listed, notes = read_labelled_list(source, ENDINGS)
    counts = Counter(named for *_, named in listed)
    if len(counts) == 1:  # the list is one part, whichever is asked for, or does not say
        return [(path, name) for path, name, _ in listed], notes
    found = {wanted: counted(counts[wanted], "image", "images") for wanted in SPLIT_WORDS if counts[wanted]}
    if part not in found:
        raise FolderError(f"{printable(source)} is split into {', '.join(found)}; it has no {part} rows")
    note = _split_note(
        source, part, f"{part} ({found[part]})", [f"{name} ({n})" for name, n in found.items() if name != part]
    )
    return [(path, name) for path, name, named in listed if named == part], [*notes, note]


def _split_note(source: Path, part: str, reading: str, others: Sequence[str], unread: Sequence[str] = ()) -> str:
    """What is read of a split source, and what happens to its other parts."""
    left = "left for --tune and evaluate" if part == "train" else "not read"
    also = f"; {' and '.join(others)}: {left}" if others else ""
    rest = f"; {first_of(unread)}: no part, not read" if unread else ""
    return f"{printable(source)} is split: reading {reading}{also}{rest}"


def _unlabelled(around: Sequence[Path], names: Sequence[str]) -> list[str]:
    """Notes on names of classes that are probably none, and on photos outside class folders: in the folder that has them, the
    first, or around it.
    """
    folder = around[0]
    notes = [f"{printable(folder)}: {note}" for note in [*label_doubts(names), *numbered_names(names, around)]]
    own = [name for name in names if name.startswith(_SYSTEM_SIGNS) and not is_missing(name)]
    if own and len(own) < len(names):
        notes.append(
            f"{printable(folder)}: {first_of(own)} is read as a class, though systems name their own folders so; if it is one, "
            "move it elsewhere"
        )
    loose = [(place, sum(map(is_image, Search(place).children(place)))) for place in around]
    notes += [f"{printable(place)}: photos outside class folders are skipped ({n:,})" for place, n in loose if n]
    return notes


def _class_folders_at(source: Path, part: str) -> tuple[Path, dict[str, Path], list[str]]:
    """The folder that contains the class folders, the parts if `source` is split, and a note if a wrapper was skipped."""
    parts = split_folders(source)
    if parts and part not in parts:
        found = ", ".join(sorted(folder.name for folder in parts.values()))
        links = [
            child.name
            for child in Search(source).children(source)
            if child.is_symlink() and part_of(child.name) == part
        ]
        but = f" but {links[0]}, a link to a folder that is read already; copy it instead" if links else ""
        raise FolderError(f"{printable(source)} is split into {found}; it has no {part} folder{but}")
    around = parts[part] if parts else source
    folder, _ = _without_wrapper(around, within_part=bool(parts))
    inner = printable(folder.relative_to(around).as_posix())
    notes = [f"{printable(around)}: its only folder {inner} is read"] if folder != around else []
    return folder, parts, notes


def _without_wrapper(folder: Path, *, within_part: bool = False) -> tuple[Path, list[Path]]:
    """The folder that contains the classes or parts, `folder` or the only one in it, at any depth, and its sub-folders.

    The only folder is a wrapper if it contains a split, or several folders or a part and no image itself: else it is a class.
    """
    folders = sub_folders(folder)
    if len(folders) != 1 or (part_of(folders[0].name) and not within_part):
        return folder, folders
    inner, inside = _without_wrapper(folders[0])
    wraps = len(inside) > 1 or (inside and (within_part or part_of(inside[0].name)))
    parts = {part_of(child.name) for child in inside}
    if wraps and (is_split(parts) or not any(map(is_image, Search(folders[0]).children(folders[0])))):
        return inner, inside
    return folder, folders


def _refuse_skipped(folder: Path, classes: Sequence[Path], children: Sequence[Path], search: Search) -> None:
    """Raise FolderError if class folders without photos have anything that is skipped; without any file, they give the names of classes."""
    loose = sum(map(is_image, children))
    outside = f"{counted(loose, 'photo is', 'photos are')} outside the class folders" if loose else ""
    if skipped := "; ".join(filter(None, [search.skipped_files(), search.skipped_folders(), outside])):
        names = first_of([child.name for child in classes])
        raise FolderError(
            f"no photos in {counted(len(classes), 'class folder', 'class folders')} of {printable(folder)} ({names}); "
            f"{skipped}; known endings are {' '.join(sorted(ENDINGS))}"
        )


def _no_class_folders(folder: Path, around: Path | None = None) -> FolderError:
    """The error, with what the folder contains instead; a list there, or else in the folder `around` it, may have the labels."""
    children = Search(folder).children(folder)
    images = sum(map(is_image, children))
    kinds = Counter("folders" if is_folder(child) else kind_of(child) for child in children if not is_image(child))
    named = "".join(
        f"{', ' if n else ': '}{printable(kind)} {number:,}" for n, (kind, number) in enumerate(kinds.most_common(6))
    )
    others = f"{counted(kinds.total(), 'other entry', 'other entries')}{named}"
    found = f"found {counted(images, 'photo', 'photos')} and {others}" if children else "it is empty"
    lists = [child for child in children if child.suffix.lower() in LIST_ENDINGS]
    if not lists and around:
        found_around = [child for child in Search(around).children(around) if child.suffix.lower() in LIST_ENDINGS]
        lists = sorted(found_around, key=lambda child: part_within(child.stem) != part_of(folder.name))
    give = f"; if {lists[0].name} has their labels, give it instead: {printable(lists[0])}" if lists else ""
    return FolderError(
        f"{printable(folder)} holds no class folders ({found}); put the photos of each class into a folder of its own{give}"
    )


def _labelled(root: Path, found: Sequence[tuple[Path, str]], names: Sequence[str], notes: list[str]) -> ImageList:
    """Images with the names of their classes → images with their labels, sorted."""
    names = [*names, *(name for _, name in found)]
    refuse_lookalike_labels(names)
    labels = {name: label_of(name, os.fspath(root)) for name in dict.fromkeys(names)}
    rows = sorted(((path, labels[name]) for path, name in found), key=lambda row: (row[1], os.fspath(row[0])))
    classes = tuple(sorted(set(labels.values())))
    if empty := sorted(set(classes) - {label for _, label in rows}):
        of_all = counted(len(classes), "class", "classes")
        notes = [*notes, f"no photos in {len(empty):,} of {of_all}, only their names are used: {first_of(empty)}"]
    return ImageList(tuple(path for path, _ in rows), tuple(label for _, label in rows), classes, root, tuple(notes))
