"""Find images and their labels: in class folders, in split folders, in CSV or JSONL lists.

A *class folder* contains the images of one class, at any depth; its name in Unicode NFC is the label. Hidden files and
folders and those that systems create (`SYSTEM_FOLDERS`) are skipped, file extensions may be in upper case (see
`ENDINGS`); other files are skipped, and so are model folders and feature folders next to the class folders. Symbolic
links are followed, except to a folder above or within the searched one, whose images are found there already. A *split
folder* has sub-folders under the usual names of training, validation and test parts (`SPLIT_WORDS`), whose training
part contains class folders. If one folder contains all others, the search begins in it. A *list* has the columns file_name and label
(CSV, with a header) or those keys (JSONL), and may have a column split; paths are relative to the list. Notes report what is
skipped.
"""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tip_adapter import validation
from tip_adapter.errors import FolderError
from tip_adapter.images.labels import is_missing, label_of, numbered, path_as_text, refuse_lookalike_labels
from tip_adapter.images.lists import LIST_ENDINGS, read_labelled_list, read_list
from tip_adapter.images.splits import SPLIT_WORDS, is_split, part_of, part_within, without_shared_words
from tip_adapter.io.files import is_folder
from tip_adapter.text import counted, first_of, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

_ENDINGS = (
    ".jpg .jpeg .jpe .jfif .jif .mpo .png .apng .webp .gif .bmp .dib .tif .tiff .avif .heic .heif .ppm .pgm .pbm .pnm"
)
ENDINGS = frozenset(_ENDINGS.split())
#: Names of folders that data sets for detection and segmentation have where this program expects class folders.
_NO_CLASSES = frozenset(
    {"image", "images", "img", "imgs", "label", "labels", "annotation", "annotations", "mask", "masks"}
    | {"jpegimages", "imagesets", "segmentationclass", "segmentationobject", "bboxes", "thumbnails"}
)
#: Names of folders for photos without a class.
_NO_LABEL = re.compile(r"(no|without|missing)[\W_]*labels?|unlabell?ed", re.IGNORECASE)
#: Folders that operating systems and network storage create, in lower case; no words that could name a class.
SYSTEM_FOLDERS = frozenset(
    {"__macosx", "@eadir", "@tmp", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "$recycle.bin"}
    | {"@__thumb", "@synoresource", "@sharebin", "@appstore", "@database", "~snapshot", "$extend", "$winreagent"}
    | {"system volume information", "lost+found", "lost.dir", "__pycache__", "_gsdata_", "onedrivetemp"}
    | {"network trash folder", "temporary items", "thevolumesettingsfolder"}
    | {"recycler", "windowsimagebackup", "node_modules", "ipod photo cache", "_thumbs", "_thumbnails"}
    | {f"found.{number:03}" for number in range(10)}
)
#: Names of folders for smaller copies of the photos around them.
_PREVIEWS = frozenset({"thumb", "thumbs", "thumbnail", "thumbnails", "preview", "previews"})
#: Endings of folders in which photo programs keep their libraries and previews.
_LIBRARIES = (".photoslibrary", ".photolibrary", ".aplibrary", ".lrdata", ".lrlibrary", ".cocatalog")
_OF_SYSTEMS = SYSTEM_FOLDERS | {"thumbs.db", "ehthumbs.db", "desktop.ini"}
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
    if _is_file(source):
        listed, notes = _listed_part(source, part)
        return _labelled(source.parent, listed, [], notes)
    if not is_folder(source):
        raise FolderError(
            f"{printable(source)} is neither a folder nor a list (.csv, .jsonl) that exists; check the path"
        )
    folder, parts, notes = _class_folders_at(source, part)
    search = _Search(folder)
    children = search.children(folder)
    classes = [child for child in children if search.enters(child) and not _is_output(child)]
    if not classes:
        raise _no_class_folders(folder)
    rows = [(path, child.name) for child in classes for path in search.images(child)]
    if not rows and (skipped := search.skipped_files()):  # without any file, the folders give the names of the classes
        names = first_of([child.name for child in classes])
        raise FolderError(
            f"no photos in {counted(len(classes), 'class folder', 'class folders')} of {printable(folder)} ({names}); "
            f"{skipped}; known endings are {' '.join(sorted(ENDINGS))}"
        )
    if parts:
        found = f"{counted(len(classes), 'class', 'classes')}, {counted(len(rows), 'image', 'images')}"
        others = [other.name for name, other in parts.items() if name != part]
        unread = [child.name for child in _folders(parts[part].parent) if child not in parts.values()]
        notes.append(_split_note(source, part, f"{parts[part].name} ({found})", others, unread))
    notes += _doubts(folder, rows, classes)
    if unnamed := [child.name for child in classes if is_missing(child.name) or _NO_LABEL.fullmatch(child.name)]:
        notes.append(
            f"{printable(folder)}: {first_of(unnamed)} is read as a class, though programs write that where a label is missing; "
            "if these photos have none, move them elsewhere"
        )
    for place in (folder, *folder.parents):
        if place != source and source not in place.parents:
            break
        if loose := sum(map(_is_image, _Search(place).children(place))):
            notes.append(f"{printable(place)}: photos outside class folders are skipped ({loose:,})")
    return _labelled(folder, rows, [child.name for child in classes], [*notes, *search.notes()])


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
    search = _Search(source)
    images = list(search.images(source))
    if not images:
        found = f"; {skipped}" if (skipped := search.skipped_files()) else ""
        raise FolderError(f"{printable(source)} holds no photos{found}; known endings are {' '.join(sorted(ENDINGS))}")
    return images


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
    if len(named) > len(parts):
        twice = next(part for part, child in named if parts[part] != child)
        both = " and ".join(child.name for part, child in named if part == twice)
        raise FolderError(f"{printable(folder)} has two {twice} folders, {both}; keep one, or name the one to read")
    if "train" in parts and not _folders(parts["train"]):
        raise _no_class_folders(parts["train"])
    return parts


def _if_split(folders: Sequence[Path], parts: Sequence[str | None]) -> list[tuple[str, Path]]:
    """The part that each folder is by its name, without those that are none; empty if classes may have these names."""
    named = [(part, child) for child, part in zip(folders, parts, strict=True) if part]
    found, others = {part for part, _ in named}, len(folders) - len(named)
    nested = {part for part, child in named if _folders(child)}
    if "train" in nested:
        is_split = len(found) > 1 or not others
    else:
        # Only where all folders have such names, and there are several, is it a split.
        is_split = bool(named) and not others and (len(named) > 1 or nested == found)
    return named if is_split else []


class _Search:
    """A search for images below `root` that remembers what it skips."""

    def __init__(self, root: Path) -> None:
        real = Path(os.path.realpath(root))
        self._name, self._root, self._above = printable(root), real, {real, *real.parents}
        self._files: Counter[str] = Counter()
        self._folders: Counter[str] = Counter()
        self._links: list[str] = []

    def children(self, folder: Path) -> list[Path]:
        """What is in a folder, sorted, without what is hidden or a system's own."""
        try:
            names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
        except OSError as error:
            raise FolderError(f"cannot read folder {printable(folder)}: {error.strerror}") from error
        own = {name for name in names if name.strip().lower() in _OF_SYSTEMS or name.lower().endswith(_LIBRARIES)}
        self._folders.update(name for name in own if is_folder(folder / name))
        return [folder / name for name in names if name not in own and name != "Icon\r"]

    def enters(self, folder: Path) -> bool:
        """Whether it is a folder that is searched: not a link to one above or within the root."""
        if not is_folder(folder):
            return False
        if folder.is_symlink():
            real = Path(os.path.realpath(folder))
            # What a link finds in a hidden folder is found nowhere else.
            within = self._root in real.parents and not re.search(r"/\.", f"/{real.relative_to(self._root).as_posix()}")
            if real in self._above or within:
                self._links.append(printable(folder))
                return False
        return True

    def images(self, folder: Path, above: frozenset[str] = frozenset()) -> Iterator[Path]:
        """Images below `folder` in order of their paths; a link to a folder in `above` is not followed."""
        real = os.path.realpath(folder)
        if real in above:
            return
        children = self.children(folder)
        for child in children:
            if is_folder(child):
                if _is_preview(child, children):
                    self._folders[child.name] += 1
                elif self.enters(child):
                    yield from self.images(child, above | {real})
            elif child.suffix.lower() in ENDINGS:
                yield child
            else:
                self._files[child.suffix.lower() or "no ending"] += 1

    def skipped_files(self) -> str:
        """How many files are no images, by their endings; empty if there are none."""
        if not self._files:
            return ""
        kinds = ", ".join(f"{kind} {number:,}" for kind, number in self._files.most_common(6))
        total = counted(self._files.total(), "file that is no photo is", "files that are no photos are")
        return f"{total} skipped: {kinds}"

    def notes(self) -> list[str]:
        """What was skipped, a line for each reason."""
        skipped = self.skipped_files()
        notes = [f"{self._name}: {skipped}"] if skipped else []
        if self._folders:
            notes.append(f"system folders and previews are skipped: {first_of(sorted(self._folders))}")
        if self._links:
            notes.append(f"links to folders that are searched anyway are skipped: {first_of(self._links)}")
        return notes


def _folders(folder: Path) -> list[Path]:
    """Sub-folders that may be classes or parts."""
    search = _Search(folder)
    return [child for child in search.children(folder) if search.enters(child) and not _is_output(child)]


def _is_preview(folder: Path, around: Sequence[Path]) -> bool:
    """Whether a folder has smaller copies of the photos around it: the name says so, and all its photos have their names."""
    if folder.name.strip("._ ").lower() not in _PREVIEWS:
        return False
    stems = {path.stem for path in around if _is_image(path)}
    return bool(stems) and all(path.stem in stems for path in _Search(folder).children(folder))


def _have_same_folders(folders: Sequence[Path]) -> bool:
    """Whether each folder has sub-folders of the same names, at least two."""
    inner = [{child.name for child in _folders(folder)} for folder in folders]
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


def _doubts(folder: Path, rows: Sequence[tuple[Path, str]], classes: Sequence[Path]) -> list[str]:
    """A note if the class folders nearly look like something else: parts of a split, or folders around parts or classes."""
    names = [child.name for child in classes]
    inner = _inner_folders(rows, classes)
    full = [name for name, found in inner.items() if found]
    usual = [name for name in names if name.lower() in _NO_CLASSES]
    previews = [name for name in names if name.strip("._ ").lower() in _PREVIEWS]
    shared = sorted(set.intersection(*inner.values())) if all("" not in found for found in inner.values()) else []
    if named := [name for name in names if part_of(name)]:
        doubt = f"{first_of(named)} is read as a class; a split folder has train and val or test"
    elif len(names) > 1 and len(shared) > 1:
        doubt = (
            f"{first_of(names)} are read as the classes, though each has the folders {first_of(shared)}; if those are the "
            "classes, choose one of the former"
        )
    elif split := [name for name in full if is_split({part_of(found) for found in inner[name]})]:
        doubt = (
            f"{first_of(split)} is read as a class, though all its photos are in a training, validation or test folder; if it "
            "contains the class folders, name it instead"
        )
    elif copies := [name for name in full if len(inner[name].intersection(names)) > 1]:
        doubt = (
            f"{first_of(copies)} is read as a class, though it has folders of the same names as other classes; remove it if "
            "it is a copy"
        )
    elif len(full) == 1 and (folders := sorted(inner[full[0]] - {""})):
        doubt = (
            f"{printable(full[0])} is read as a class and is the only one with photos, though it has the folders "
            f"{first_of(folders)}; if it contains the class folders, name it instead"
        )
    elif previews and len(names) > 1:
        doubt = f"{first_of(previews)} is read as a class; if it contains smaller copies of photos, move it elsewhere"
    elif usual == names or len(usual) > 1:
        doubt = (
            f"read as classes: {first_of(usual)}; if the photos are not in a folder for each class, write a list of their "
            "names and labels"
        )
    else:
        return []
    return [f"{printable(folder)}: {doubt}"]


def _class_folders_at(source: Path, part: str) -> tuple[Path, dict[str, Path], list[str]]:
    """The folder that contains the class folders, the parts if `source` is split, and a note if a wrapper was skipped."""
    parts = split_folders(source)
    if parts and part not in parts:
        found = ", ".join(sorted(folder.name for folder in parts.values()))
        raise FolderError(f"{printable(source)} is split into {found}; it has no {part} folder")
    around = parts[part] if parts else source
    folder, _ = _without_wrapper(around, within_part=bool(parts))
    inner = printable(folder.relative_to(around).as_posix())
    notes = [f"{printable(around)}: its only folder {inner} is read"] if folder != around else []
    return folder, parts, notes


def _without_wrapper(folder: Path, *, within_part: bool = False) -> tuple[Path, list[Path]]:
    """The folder that contains the classes or parts, `folder` or the only one in it, at any depth, and its sub-folders.

    The only folder is a wrapper if it contains a split, or several folders or a part and no image itself: else it is a class.
    """
    folders = _folders(folder)
    if len(folders) != 1 or (part_of(folders[0].name) and not within_part):
        return folder, folders
    inner, inside = _without_wrapper(folders[0])
    wraps = len(inside) > 1 or (inside and (within_part or part_of(inside[0].name)))
    parts = {part_of(child.name) for child in inside}
    if wraps and (is_split(parts) or not any(map(_is_image, _Search(folders[0]).children(folders[0])))):
        return inner, inside
    return folder, folders


def _inner_folders(rows: Iterable[tuple[Path, str]], classes: Sequence[Path]) -> dict[str, set[str]]:
    """Name of a class → its folders that contain photos; an empty name for photos outside such folders."""
    inner: dict[str, set[str]] = {child.name: set() for child in classes}
    depth = len(classes[0].parts)
    for path, name in rows:
        inner[name].add(path.parts[depth] if len(path.parts) > depth + 1 else "")
    return inner


def _no_class_folders(folder: Path) -> FolderError:
    """The error, with what the folder contains instead."""
    children = _Search(folder).children(folder)
    images = sum(map(_is_image, children))
    others = counted(len(children) - images, "other entry", "other entries")
    found = f"found {counted(images, 'photo', 'photos')} and {others}" if children else "it is empty"
    return FolderError(
        f"{printable(folder)} holds no class folders ({found}); put the photos of each class into a folder of its own"
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


def _is_output(folder: Path) -> bool:
    """Whether it is a model or feature folder: `tip-adapter fit . --out model` can be run again."""
    if all(_is_file(folder / name) for name in _MODEL_FILES):
        return True
    found = False
    with suppress(OSError), os.scandir(folder) as entries:  # not listdir: a class may have very many images
        for entry in entries:
            if not entry.name.startswith("."):
                if not re.fullmatch(_FEATURE_FILES, entry.name):
                    return False
                found = True
    return found


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in ENDINGS and not is_folder(path)
