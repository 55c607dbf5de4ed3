"""Readers of the data sets' layouts: one JSON split file, lists of image numbers and classes, class folders.

A reader takes a record and the data set's folder, reads the classes, and returns a function per part that lists its images.
"""

from __future__ import annotations

import gzip
import os
import re
import zlib
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

from msgspec import Meta, Struct

from tip_adapter.encoders.prompts import readable
from tip_adapter.errors import SplitError
from tip_adapter.images.labels import label_of, numbered
from tip_adapter.images.search import ENDINGS
from tip_adapter.io.files import read_bounded
from tip_adapter.io.json_schema import convert, parse_json
from tip_adapter.paper.datasets.records import is_file, is_listed, packed
from tip_adapter.text import first_of, printable, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from tip_adapter.paper.datasets.records import DatasetRecord

#: Path below the photos' folder, and label.
Rows: TypeAlias = "list[tuple[str, str]]"
#: Label → what a text encoder reads, in the order of the classes; and part → what lists it.
Listing: TypeAlias = "tuple[dict[str, str], dict[str, Callable[[], Rows]]]"

#: A split of 101,000 photos, the largest, is less than half of it; lists of nothing would take twenty times the memory.
MAX_BYTES = 16 * 2**20

#: A relative path that stays below its folder, on POSIX and Windows.
_PATH = re.compile(r"(?s)(?!(?:.*[/\\])?\.\.(?:[/\\]|\Z))(?![/\\]|[A-Za-z]:)[^\0\ud800-\udfff]+")
#: Path, number of the class, its name.
_Entries: TypeAlias = list[tuple[str, Annotated[int, Meta(ge=0, le=10**6)], str]]


class _Split(Struct, forbid_unknown_fields=True):
    train: _Entries
    val: _Entries
    test: _Entries


#: Where the literature puts ImageNet's class names.
_NAMES = "classnames.txt"
_WNID = re.compile(r"(n\d{8}) (.+)")


def _split_file(dataset: DatasetRecord, folder: Path) -> Listing:
    """One JSON file: part → a list of path, number of the class, its name."""
    place = folder / dataset.files[0]
    content = _read_text(place)
    try:
        split = convert(parse_json(content.encode()), _Split)
    except RecursionError:
        raise _unreadable(place, "it is nested too deeply") from None
    except ValueError as error:
        raise _unreadable(place, error) from error
    parts = {"train": split.train, "val": split.val, "test": split.test}
    for part, entries in parts.items():
        for row, (path, _, _) in enumerate(entries):
            if not _PATH.fullmatch(path):
                reason = f"{part}[{row}][0] is {shown(path)}, not a path below the images' folder"
                raise _unreadable(place, reason)
    _refuse_repeats(place, (path for entries in parts.values() for path, _, _ in entries))
    labels = _labels_by_number(place, (entry for entries in parts.values() for entry in entries))
    rows = {part: [(path, labels[number]) for path, number, _ in parts[part]] for part in dataset.n_images}
    return _readable(labels.values()), {part: listed.copy for part, listed in rows.items()}


def _labels_by_number(place: Path, entries: Iterable[tuple[str, int, str]]) -> dict[int, str]:
    """Number of a class → its label, in order of the numbers."""
    names: dict[int, str] = {}
    for _, number, name in entries:
        other = names.setdefault(number, name)
        if other != name:
            raise _unreadable(place, f"class {number} has two names, {shown(other)} and {shown(name)}")
    numbers = sorted(names)
    labels = numbered(label_of(names[number], os.fspath(place)) for number in numbers)
    return dict(zip(numbers, labels, strict=True))


def _variant_lists(dataset: DatasetRecord, folder: Path) -> Listing:
    """A list of the classes in order, and per part a list with an image's number and its class on each line."""
    variants, *parts = (folder / name for name in dataset.files)
    labels = [label_of(line, os.fspath(variants)) for line in _lines(variants)]
    _refuse_repeats(variants, labels)
    rows = (partial(_variant_rows, place, set(labels)) for place in parts)
    return _readable(labels), dict(zip(dataset.n_images, rows, strict=True))


def _variant_rows(place: Path, labels: set[str]) -> Rows:
    rows = []
    for line in _lines(place):
        image, _, label = line.partition(" ")
        if label not in labels or not image.isalnum():
            raise _unreadable(place, f"{shown(line)} is not an image's number and a class of variants.txt")
        rows.append((f"{image}.jpg", label))
    return rows


def _class_folders(dataset: DatasetRecord, folder: Path) -> Listing:
    """ImageNet's classes, sorted, from the data set's classnames.txt or the copy in this package.

    Each is in a folder named by its WordNet identifier, or by its index among all 1,000, also if fewer are listed.
    """
    own, copy = folder / _NAMES, files("tip_adapter.encoders.pocket") / "imagenet_classnames.txt"
    known = _wnids_and_names(Path(copy.name), copy.read_text(encoding="utf-8").splitlines())
    names = _wnids_and_names(own, _lines(own)) if is_listed(own) else known
    folders = {wnid: wnid for wnid in names}
    if dataset.layout == "numbered-folders":
        numbers = {wnid: str(number) for number, wnid in enumerate(known)}
        strange = [wnid for wnid in names if wnid not in numbers]
        if strange:
            raise _unreadable(own, f"{first_of(strange)} is none of ImageNet's classes, which number the folders")
        folders = {wnid: numbers[wnid] for wnid in names}
    return names, {part: partial(_listed_rows, folder / under, folders) for part, under in dataset.photos_under.items()}


#: Layout → what reads it.
LAYOUTS: dict[str, Callable[[DatasetRecord, Path], Listing]] = {
    "split-file": _split_file,
    "variant-lists": _variant_lists,
    "wnid-folders": _class_folders,
    "numbered-folders": _class_folders,
}


def _readable(labels: Iterable[str]) -> dict[str, str]:
    return {label: readable(label) for label in labels}


# ---- class folders ---------------------------------------------------------------------------------------------------


def _wnids_and_names(place: Path, lines: Iterable[str]) -> dict[str, str]:
    found = [(line, _WNID.fullmatch(line)) for line in lines]
    for line, match in found:
        if not match:
            raise _unreadable(place, f"{shown(line)} is not a WordNet identifier and a class name")
    pairs = [(match[1], match[2]) for _, match in found if match]
    _refuse_repeats(place, (wnid for wnid, _ in pairs))
    return dict(sorted(pairs))


def _listed_rows(root: Path, folders: Mapping[str, str]) -> Rows:
    """Images of class folders in order; `folders` is label → its folder."""
    there = set(_listed(root))
    absent = [name for name in folders.values() if name not in there]
    if absent:
        raise SplitError(
            f"{len(absent):,} of {len(folders):,} class folders are not in {printable(root)}: {first_of(absent)}; "
            f"{_way_to_class_folders(there, absent)}"
        )
    # By name alone: there may be a million images.
    return [
        (f"{name}/{file}", label) for label, name in folders.items() for file in _listed(root / name) if _is_image(file)
    ]


def _way_to_class_folders(there: set[str], absent: Iterable[str]) -> str:
    """What to do about missing class folders: ImageNet is distributed without any."""
    if any(f"{name}.tar" in there for name in absent):
        return "unpack the archive of each class into a folder of the same name"
    if any(map(_is_image, there)):
        return "its images are outside class folders: sort them into one folder per class"
    return "unpack the data set again"


def _is_image(name: str) -> bool:
    return f".{name.rpartition('.')[2].lower()}" in ENDINGS and name[0] != "."


def _listed(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise SplitError(
            f"cannot read folder {printable(folder)}: {error.strerror}; check it and its permissions"
        ) from error


# ---- lists -----------------------------------------------------------------------------------------------------------


def _lines(place: Path) -> list[str]:
    return [line.strip() for line in _read_text(place).splitlines() if line.strip()]


def _read_text(place: Path) -> str:
    """Text of a list, plain or packed."""
    try:
        content = read_bounded(place, MAX_BYTES) if is_file(place) else _unpacked(place)
        return content.decode("utf-8-sig")
    except PermissionError as error:
        raise _unreadable(place, error.strerror, "make it readable") from error
    except OSError as error:
        raise _unreadable(place, error.strerror or error) from error
    except (EOFError, ValueError, zlib.error) as error:
        raise _unreadable(place, error) from error


def _unpacked(place: Path) -> bytes:
    with gzip.open(packed(place)) as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"it is above the limit of {MAX_BYTES // 2**20} MiB")
    return content


def _refuse_repeats(place: Path, entries: Iterable[str]) -> None:
    """Refuse a repeated entry: an image could be both trained and tested on."""
    seen: set[str] = set()
    for entry in entries:
        if entry in seen:
            raise _unreadable(place, f"{shown(entry)} is listed twice")
        seen.add(entry)


def _unreadable(place: Path, reason: object, way_out: str = "get it again") -> SplitError:
    return SplitError(f"cannot read {printable(place)}: {printable(str(reason))}; {way_out}")
