"""Photos sorted into class folders by a classifier's answers: copied or linked, never moved, never overwritten.

A photo goes to ``DIR/<label>/<its name>``; one that is "none of these" to ``DIR/_none_of_these/``; one that cannot be read
nowhere. The same content is there once; another photo of the same name gets `` (2)``. ``DIR/sorted.csv`` says for every
photo where it went and why, so that a run may be repeated, also one that was interrupted.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import unicodedata
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tip_adapter import validation
from tip_adapter.errors import ImageError, NotWritable, OutputExists
from tip_adapter.images.labels import path_as_text
from tip_adapter.images.lists import csv_cell, csv_line
from tip_adapter.io.files import FolderWriter, folder_writer, open_regular, write_file
from tip_adapter.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from io import BufferedReader

NONE_OF_THESE = "_none_of_these"
TABLE = "sorted.csv"
COLUMNS = ["image", "sorted_to", "label", "score", "reason", "error"]

#: Bytes of a name, which is what most file systems take.
_LONGEST_NAME = 255
_FORBIDDEN = frozenset('/\\:*?"<>|')
#: Control characters, marks that turn text around, line ends.
_FORBIDDEN_KINDS = ("Cc", "Cf", "Zl", "Zp")
#: Of these kinds, but letters' neighbours in Persian, Hindi and emoji.
_JOINERS = "\u200c\u200d"
#: Names that Windows keeps for devices, whatever their ending; and ours.
_RESERVED = frozenset(
    ["con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10)), NONE_OF_THESE, "sorted"]
)


@contextmanager
def sorting(folder: str | os.PathLike[str], *, link: bool = False) -> Iterator[ImageSorter]:
    """Sort photos into class folders below `folder`, and keep ``sorted.csv`` there, also of a run that is cut short.

    Parameters
    ----------
    folder : path; made if it is not there
    link : relative symbolic links in the place of copies

    Raises
    ------
    UsageError
        `folder` is no path.
    OutputExists
        A ``sorted.csv`` stands there that is none of ours.
    NotWritable
        With the system's reason; nothing half-written stays.
    """
    path = validation.path(folder, "sort_into")
    earlier = _read_table(path / TABLE)
    with folder_writer(path) as target:
        sorter = ImageSorter(target, earlier, link=link)
        try:
            yield sorter
        except BaseException:
            with suppress(NotWritable):
                sorter.write_table()
            raise
        sorter.write_table()


class ImageSorter:
    """Puts photos where their answers say; made by `sorting`.

    Parameters
    ----------
    target : the folder
    earlier : image → its row of ``sorted.csv``, of earlier runs
    link : bool
    """

    def __init__(self, target: FolderWriter, earlier: dict[str, list[str]], *, link: bool) -> None:
        self.n_placed = self.n_present = 0
        self._target = target
        self._rows = dict(earlier)
        self._link = link
        self._shelves: dict[str, dict[str, str]] = {}

    def put(self, photo: str | os.PathLike[str], record: dict[str, Any]) -> str | None:
        """Copy or link a photo by its answer.

        Parameters
        ----------
        photo : its path
        record : a record of `predict_stream` or `explain_stream`

        Returns
        -------
        its path below the folder, also if it was there already; None if it cannot be read

        Raises
        ------
        NotWritable
            With the system's reason.
        """
        place, error = None, record["error"]
        if error is None:
            try:
                place = self._place(Path(photo), folder_name(record["label"]))
            except ImageError as unreadable:
                error = str(unreadable)
        where = None if place is None else path_as_text(place)
        row = [record["image"], where, record["label"], record["score"], strongest_reason(record), error]
        self._rows[csv_cell(record["image"])] = [csv_cell(value) for value in row]
        return place

    def write_table(self) -> None:
        """Write ``sorted.csv``: the photos of earlier runs, then those of this one; nothing where there are none."""
        if self._rows:
            lines = [csv_line(row) for row in [COLUMNS, *self._rows.values()]]
            write_file(self._target.folder / TABLE, "".join(f"{line}\n" for line in lines).encode())

    def _place(self, photo: Path, folder: str) -> str:
        """Where the photo is below the folder, once it is there."""
        with _opened(photo) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            shelf = self._shelf(f"{folder}/{photo.name}")
            if digest in shelf:
                self.n_present += 1
                return shelf[digest]
            file.seek(0)
            for name in _numbered(folder, photo.name, len(shelf) + 1):
                if self._target.link(photo, name) if self._link else self._target.copy(file, name):
                    self.n_placed += 1
                    shelf[digest] = name
                    return name
                file.seek(0)
        raise AssertionError("numbers do not end")

    def _shelf(self, name: str) -> dict[str, str]:
        """Digest of what is there already by this name, numbered or not → where."""
        if name not in self._shelves:
            folder, _, own = name.partition("/")
            taken = self._taken(folder, own)
            self._shelves[name] = {_digest(self._target.folder / place) or place: place for place in taken}
        return self._shelves[name]

    def _taken(self, folder: str, name: str) -> Iterator[str]:
        for place in _numbered(folder, name, 1):
            if not os.path.lexists(self._target.folder / place):
                return
            yield place


def outside(photos: Sequence[Path], folder: str | os.PathLike[str]) -> list[int]:
    """Positions of the photos that do not lie in the folder: what is sorted already is not sorted again into itself."""
    root = Path(os.path.realpath(validation.path(folder, "sort_into")))
    return [row for row, photo in enumerate(photos) if not Path(os.path.realpath(photo.parent)).is_relative_to(root)]


def folder_name(label: str | None) -> str:
    """The folder of a label: the label as it stands, or where that is no safe name, a safe one with eight digits of its own.

    Examples
    --------
    >>> folder_name("tabby cat"), folder_name(None)
    ('tabby cat', '_none_of_these')
    >>> folder_name("../secret")
    '__secret~a6b09678'
    """
    if label is None:
        return NONE_OF_THESE
    safe = "".join("_" if _is_forbidden(c) else c for c in label)
    if safe[0] in ". " or safe.split(".")[0].rstrip().lower() in _RESERVED:
        safe = f"_{safe.lstrip('. ')}"
    safe = _cut(safe.rstrip(". "), _LONGEST_NAME)
    return safe if safe == label else _with_digits(safe, label)


def strongest_reason(record: dict[str, Any]) -> str | None:
    """The photo, or the name, that weighed most for the answer; None where the record has no explanation."""
    if not record.get("explanation"):
        return None
    side = record["explanation"][0]
    parts = [(photo["part"], f"looks like {photo['id']}") for photo in side["images"]]
    return max([*parts, (side["text"], f"the name {side['name']}")])[1]


def _numbered(folder: str, name: str, first: int) -> Iterator[str]:
    """``folder/name``, then ``folder/stem (2).ending``, … from the number `first` on; cut to what a name may have."""
    stem, ending = Path(name).stem, Path(name).suffix
    for number in count(first):
        tail = ending if number == 1 else f" ({number}){ending}"
        yield f"{folder}/{_cut(stem, _LONGEST_NAME - len(os.fsencode(tail)))}{tail}"


def _is_forbidden(character: str) -> bool:
    kind = unicodedata.category(character)
    return character in _FORBIDDEN or (kind in _FORBIDDEN_KINDS and character not in _JOINERS)


def _with_digits(safe: str, label: str) -> str:
    """So that two labels do not share a folder because they became the same name."""
    tail = f"~{hashlib.sha256(label.encode()).hexdigest()[:8]}"
    return _cut(safe, _LONGEST_NAME - len(tail)) + tail


@contextmanager
def _opened(photo: Path) -> Iterator[BufferedReader]:
    """A photo's file; what the system says against opening it is ImageError."""
    with ExitStack() as stack:
        try:
            file = stack.enter_context(open_regular(photo))
        except OSError as error:
            raise ImageError(f"cannot read {printable(photo)}: {error.strerror}") from error
        yield file


def _digest(path: Path) -> str | None:
    """SHA-256 of what stands there; None where that cannot be read."""
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _read_table(path: Path) -> dict[str, list[str]]:
    """Image → its row, of an earlier run; empty where there was none."""
    if not os.path.lexists(path):
        return {}
    try:
        rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))
    except (OSError, ValueError, csv.Error):
        rows = []
    if not rows or rows[0] != COLUMNS or any(len(row) != len(COLUMNS) for row in rows):
        raise OutputExists(
            f"{printable(path)} exists and says nothing of sorted photos; move it or choose another folder"
        )
    return {row[0]: row for row in rows[1:]}


def _cut(text: str, n_bytes: int) -> str:
    while len(os.fsencode(text)) > n_bytes:
        text = text[:-1]
    return text
