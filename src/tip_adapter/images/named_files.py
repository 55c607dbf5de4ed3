"""Find the files that a list names, though the names may be written otherwise than those of the files."""

from __future__ import annotations

import os
import re
import unicodedata
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from tip_adapter.text import first_of, printable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence


class NamedFiles:
    """Image files by the names that a list has for them."""

    def __init__(self, folder: Path, endings: Collection[str]) -> None:
        self._folder, self._endings = folder, endings
        self._listings: dict[Path, dict[str, list[str]]] = {}

    def find(self, name: str) -> list[Path]:
        """The file of exactly this name, else of one that is written otherwise, else with an ending.

        Otherwise: with `/` for each backslash, without outer spaces, with %20 for a space, in another Unicode form, or, where one
        file fits, in another case. A name that no file has is returned as it is: it is reported where it is read.
        """
        written = name.strip().replace("\\", "/")
        for text in dict.fromkeys([name, written, unquote(written)]):
            place = self._folder / text
            if os.path.lexists(place) and not place.is_dir():
                return [place]
        similar = (self._similar(self._folder / text) for text in dict.fromkeys([written, unquote(written)]))
        return next(filter(None, similar), [self._folder / written])

    def _similar(self, path: Path) -> list[Path]:
        """The files, in folders of similar names, that have a similar name: one, or several endings of it."""
        folder, missing = path.parent, []
        while not os.path.lexists(folder) and folder.name:
            missing.append(folder.name)
            folder = folder.parent
        for name in reversed(missing):
            found = self._alike(folder, name)
            if len(found) != 1:
                return []
            folder = folder / found[0]
        found = [name for name in self._alike(folder, path.name) if not (folder / name).is_dir()]
        if len(found) != 1:
            found = []
            if path.suffix.lower() not in self._endings:
                found = self._alike(folder, path.name, self._endings)
        return [folder / name for name in found]

    def _alike(self, folder: Path, name: str, endings: Collection[str] = ()) -> list[str]:
        """Entries of a folder of this name, in any Unicode form or else in any case; with one of the endings if there are any."""
        if folder not in self._listings:
            listing = self._listings[folder] = {}
            with suppress(OSError, ValueError):
                for entry in sorted(os.listdir(folder)):
                    for key in {_nfc(entry).casefold(), _nfc(Path(entry).stem).casefold()}:
                        listing.setdefault(key, []).append(entry)
        wanted = _nfc(name)
        known = [
            (_nfc(Path(entry).stem if endings else entry), entry)
            for entry in self._listings[folder].get(wanted.casefold(), [])
            if not endings or Path(entry).suffix.lower() in endings
        ]
        same = [entry for text, entry in known if text == wanted]
        return same or [entry for text, entry in known if text.casefold() == wanted.casefold()]


#: What data sets number their classes by: a position, or an id of WordNet.
_NUMBER = re.compile(r"\s*(\d+|n\d{8})\s*")
#: Files in which data sets and programs list the names of such classes.
_CLASS_FILES = re.compile(
    r"((imagenet|loc)[\W_]?)?(class(es)?|labels?|label[\W_]?map|names|words|categories|synsets?|cat_to_name|idx|index|id)([\W_]?\w+)?\.(txt|names|json|ya?ml|pbtxt|csv)"
    r"|(data|dataset)\.ya?ml|obj\.names|_classes\.csv"
)


def numbered_names(labels: Sequence[str], folders: Iterable[Path], but: str = "") -> list[str]:
    """A note if all labels are numbers, or ids of WordNet, and a file in one of the folders probably has the names of these classes; not the list `but`."""
    if not labels or not all(map(_NUMBER.fullmatch, labels)):
        return []
    kind = "numbers" if labels[0].strip().isdecimal() else "ids of WordNet"
    for folder in folders:
        with suppress(OSError):
            for name in sorted(os.listdir(folder)):
                if name != but and _CLASS_FILES.fullmatch(name.lower()):
                    return [
                        f"classes are {kind} ({first_of(labels)}); if {printable(name)} has their names, give them as "
                        "class names (--class-names, a list of label,name)"
                    ]
    return []


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def absent_images(folder: Path, images: Sequence[Any]) -> str:
    """Where the images of a list were looked for, and which folder has the first, if none exists; else empty."""
    paths = [Path(image) for image in images if isinstance(image, (str, os.PathLike))]
    if not paths or len(paths) < len(images) or any(map(os.path.lexists, paths)):
        return ""
    if all(not path.is_relative_to(folder) for path in paths):
        return f"their paths begin elsewhere ({printable(paths[0])}); write paths that begin in {printable(os.path.realpath(folder))}"
    name = os.path.relpath(paths[0], folder)
    where = f"none is in {printable(os.path.realpath(folder))}, where their paths begin"
    below: list[str] = []
    with suppress(OSError):
        below = [child for child in sorted(os.listdir(folder)) if os.path.lexists(folder / child / name)]
    return f"{where}; write {printable(Path(below[0], name))}, which is there" if below else where
