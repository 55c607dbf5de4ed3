"""Doubts about class folders: whether they are rather the parts of a split, groups of classes, or folders of something else."""

from __future__ import annotations

import re
from itertools import takewhile
from typing import TYPE_CHECKING

from tip_adapter.images.list_tables import LIST_ENDINGS
from tip_adapter.images.search import Search, is_preview_name
from tip_adapter.images.splits import is_split, part_of, part_within
from tip_adapter.text import first_of, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

#: Names of folders that data sets for detection and segmentation have where this program expects class folders.
_NO_CLASSES = frozenset(
    {"image", "images", "img", "imgs", "label", "labels", "annotation", "annotations", "mask", "masks"}
    | {"jpegimages", "imagesets", "segmentationclass", "segmentationobject", "bboxes", "thumbnails"}
    | {"data", "metadata", "fields", "annots", "labelmap", "xml", "xmls"}
)


def folder_doubts(folder: Path, rows: Sequence[tuple[Path, str]], classes: Sequence[Path]) -> list[str]:
    """A note if the class folders nearly look like something else; empty without doubt.

    Parameters
    ----------
    folder : the folder that contains the class folders
    rows : each photo and the name of its class folder
    classes : the class folders
    """
    names = [child.name for child in classes]
    doubt = (
        _as_parts(names) or _as_groups(rows, classes, folder) or _as_other_folders(names) or _as_numbered(names, folder)
    )
    return [f"{printable(folder)}: {doubt}"] if doubt else []


def _as_parts(names: Sequence[str]) -> str:
    """The doubt that classes are parts of a split, by their names."""
    within = {name: part for name in names if (part := part_within(name))}
    if named := [name for name in names if part_of(name)]:
        if is_split({part_of(name) for name in named}):
            return (
                f"{first_of(named)} are read as classes, as no class folders are in them; if they are the parts of a split, write a "
                "list of their photos and labels"
            )
        return f"{first_of(named)} is read as a class; a split folder has train and val or test"
    if (is_split(set(within.values())) and (len(within) == len(names) or _parts_of_one(within))) or _parts_of_others(
        within, names
    ):
        return (
            f"{first_of(list(within))} are read as classes, though their names have the words of a split; if they are its parts, "
            "put the class folders of each part into a folder train, val or test, or write a list with a column split"
        )
    return ""


def _parts_of_one(parts: Mapping[str, str]) -> bool:
    """Whether two names of several parts are the same but for the words: cats_train and cats_val, not bullet_train and test_tube."""
    without = {name: _words_but_parts(name) for name in parts}
    return len({(rest, parts[name]) for name, rest in without.items()}) > len(set(without.values()))


def _parts_of_others(parts: Mapping[str, str], names: Sequence[str]) -> bool:
    """Whether the words of all such names are, but for those of a part, those of other classes: cats and cats_test."""
    others = {_words_but_parts(name) for name in names if name not in parts}
    return bool(parts) and all(_words_but_parts(name) in others for name in parts)


def _words_but_parts(name: str) -> tuple[str, ...]:
    return tuple(word for word in re.findall(r"[^\W_]+", name) if not part_within(word))


def _as_groups(rows: Sequence[tuple[Path, str]], classes: Sequence[Path], folder: Path) -> str:
    """The doubt that classes contain the class folders, by the folders in them."""
    inner = _inner_folders(rows, classes)
    full = [name for name, found in inner.items() if found]
    grouped = [name for name in full if "" not in inner[name]]
    around, shared = _shared_folders([row for row in rows if row[1] in grouped], folder)
    if len(grouped) > 1 and is_split({part_of(found) for found in shared}):
        return (
            f"{first_of(grouped)} are read as the classes with all photos of {first_of(shared)}; to keep these parts apart, make folders "
            "train and test with the class folders in them, or write a list with a column split"
        )
    if len(grouped) > 1 and len(shared) > 1:
        return (
            f"{first_of(grouped)} are read as the classes, though each has the folders {first_of(shared)}; if those are the "
            "classes, choose one of the former"
        )
    if len(full) > 1 and grouped == full and (around or any(len(inner[name]) > 1 for name in full)):
        folders = sorted(set[str]().union(*inner.values()))
        places = f"folders of its only folder {printable(around)}" if around else f"the folders {first_of(folders)}"
        return (
            f"{first_of(full)} are read as the classes, though the photos of each are in {places}; if those are the classes, move "
            "them into one folder"
        )
    if split := [name for name in full if is_split({part_of(found) for found in inner[name]})]:
        return (
            f"{first_of(split)} is read as a class, though all its photos are in a training, validation or test folder; if it "
            "contains the class folders, name it instead"
        )
    if copies := {name: found for name in full if (found := inner[name].intersection(inner) - {name})}:
        return (
            f"{first_of(list(copies))} is read as a class, though it has folders of the same names as other classes "
            f"({first_of(sorted(set[str]().union(*copies.values())))}); remove it if it is a copy, or move these folders"
        )
    if groups := [name for name in grouped if _is_group(name, inner)]:
        folders = sorted(set[str]().union(*(inner[name] for name in groups)))
        return (
            f"{first_of(groups)} is read as one class, though all its photos are in the folders {first_of(folders)}; if those are "
            "classes, move them next to the other classes"
        )
    if len(full) == 1 and (folders := sorted(inner[full[0]] - {""})):
        return (
            f"{printable(full[0])} is read as a class and is the only one with photos, though it has the folders "
            f"{first_of(folders)}; if it contains the class folders, name it instead"
        )
    return ""


def _as_other_folders(names: Sequence[str]) -> str:
    """The doubt that classes are no classes at all, by the usual names of such folders."""
    previews = [name for name in names if is_preview_name(name)]
    if previews and len(names) > 1:
        return f"{first_of(previews)} is read as a class; if it contains smaller copies of photos, move it elsewhere"
    usual = [name for name in names if name.lower() in _NO_CLASSES]
    if usual == list(names) or len(usual) > 1:
        return (
            f"read as classes: {first_of(usual)}; if the photos are not in a folder for each class, write a list of their "
            "names and labels"
        )
    return ""


def _as_numbered(names: Sequence[str], folder: Path) -> str:
    """The doubt that classes are parts of one set of photos, by numbers in their names alone, if a list next to them may have the labels."""
    stems = {re.sub(r"\d+", "", name) for name in names}
    lists = [child.name for child in Search(folder).children(folder) if child.suffix.lower() in LIST_ENDINGS]
    if len(names) < 2 or len(stems) > 1 or not any(map(str.isalpha, stems.pop())) or not lists:
        return ""
    return f"{first_of(names)} are read as the classes; if {printable(lists[0])} has the labels of their photos, give it instead"


def _shared_folders(rows: Sequence[tuple[Path, str]], folder: Path) -> tuple[str, list[str]]:
    """The only folder around all photos of each class with photos, if it has no photos itself, and the folders in it of all.

    Both are empty if a class has photos outside such folders.
    """
    depth = len(folder.parts) + 1
    places = {name: set[tuple[str, ...]]() for _, name in rows}
    for path, name in rows:
        places[name].add(path.parts[depth:-1])
    columns = zip(*set[tuple[str, ...]]().union(*places.values()), strict=False)
    around = [first for first, *_ in takewhile(lambda column: len(set(column)) == 1, columns)]
    inner = [{"/".join(place[len(around) :][:1]) for place in found} for found in places.values()]
    if not inner or "" in set.union(*inner):
        return "", []
    below = set.intersection(*map(_below_only_folders, places.values()))  # rps/rps/…, rps-test/rps-test/…
    return "/".join(around), sorted(set.intersection(*inner) or below)


def _below_only_folders(places: set[tuple[str, ...]]) -> set[str]:
    """The first folders of these paths that are not the same in all."""
    depth = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*places, strict=False)))
    return {"/".join(place[depth : depth + 1]) for place in places} - {""}


def _inner_folders(rows: Iterable[tuple[Path, str]], classes: Sequence[Path]) -> dict[str, set[str]]:
    """Name of a class → its folders that contain photos; an empty name for photos outside such folders."""
    inner: dict[str, set[str]] = {child.name: set() for child in classes}
    depth = len(classes[0].parts)
    for path, name in rows:
        inner[name].add(path.parts[depth] if len(path.parts) > depth + 1 else "")
    return inner


def _is_group(name: str, inner: Mapping[str, set[str]]) -> bool:
    """Whether a class may be a group of classes (animals/cat and animals/dog next to car): it alone has these folders, with
    letters in their names, and all its photos are in them, while other classes have photos without such folders.
    """
    folders, others = inner[name], set[str]().union(*(found for other, found in inner.items() if other != name))
    named = all(any(map(str.isalpha, folder)) for folder in folders)
    return len(folders) > 1 and named and "" in others and folders.isdisjoint(others)
