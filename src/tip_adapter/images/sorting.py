"""Sort images into class folders by their predictions: copied or linked, never moved, never overwritten.

An image goes to ``DIR/<label>/<its name>``, or to ``DIR/_none_of_these/`` if it was rejected; an unreadable one is skipped.
The same content is placed once; another image of the same name gets `` (2)``. ``DIR/sorted.csv`` records where every image
went and why, so that a run can be repeated, also after an interruption. Several runs may sort into one folder at once.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import unicodedata
from contextlib import ExitStack, contextmanager, suppress
from itertools import count, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tip_adapter import validation
from tip_adapter.errors import NotWritable, OutputExists
from tip_adapter.images.labels import path_as_text
from tip_adapter.images.lists import cell_text, csv_cell, csv_line
from tip_adapter.images.search import NONE_OF_THESE, SORTED_TABLE
from tip_adapter.io.files import FolderWriter, file_digest, folder_writer, lock_folder, open_regular, write_file
from tip_adapter.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from io import BufferedReader

COLUMNS = ["image", "sorted_to", "label", "score", "reason", "error"]

#: Bytes; the limit of most file systems.
_LONGEST_NAME = 255
_FORBIDDEN = frozenset('/\\:*?"<>|')
#: Control characters, marks of text direction, line ends.
_FORBIDDEN_KINDS = ("Cc", "Cf", "Zl", "Zp")
#: Of these kinds, but needed within words in Persian and Hindi, and in emoji.
_JOINERS = "\u200c\u200d"
#: Windows reserves these names for devices, with any extension; the last two are used here.
_RESERVED = frozenset(
    ["con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10)), NONE_OF_THESE, "sorted"]
)


@contextmanager
def sorting(folder: str | os.PathLike[str], *, link: bool = False) -> Iterator[ImageSorter]:
    """Sort images into class folders below `folder`, and write ``sorted.csv`` there, also if the run is interrupted.

    Parameters
    ----------
    folder : path; created if it does not exist
    link : make relative symbolic links instead of copies

    Raises
    ------
    UsageError
        `folder` is not a path.
    OutputExists
        It contains a ``sorted.csv`` of other content, or does so when the run ends; the images stay where they were placed.
    NotWritable
        With the reason of the operating system; no partial file remains.
    """
    path = validation.path(folder, "sort_into")
    _read_table(path / SORTED_TABLE)
    with folder_writer(path) as target:
        sorter = ImageSorter(target, link=link)
        try:
            yield sorter
        except BaseException:
            with suppress(NotWritable, OutputExists):
                sorter.write_table()
            raise
        sorter.write_table()


class ImageSorter:
    """Places images by their predictions; created by `sorting`.

    Parameters
    ----------
    target : writes into the folder
    link : bool
    """

    def __init__(self, target: FolderWriter, *, link: bool) -> None:
        self.n_placed = self.n_present = 0
        self._target = target
        self._rows: dict[tuple[str, str], list[str]] = {}
        self._link = link
        self._present: dict[str, dict[str, str]] = {}

    def put(self, image: str | os.PathLike[str], record: Mapping[str, Any]) -> str | None:
        """Copy or link an image by its prediction.

        Parameters
        ----------
        image : its path
        record : a record of `predict_stream` or `explain_stream`

        Returns
        -------
        its path below the folder, also if it was present already; None if it cannot be read

        Raises
        ------
        NotWritable
            With the reason of the operating system.
        """
        path, place, digest, error = Path(image), None, "", record["error"]
        with ExitStack() as stack:
            if error is None:
                try:
                    file = stack.enter_context(open_regular(path))
                except OSError as reason:
                    error = f"cannot read {printable(path)}: {reason.strerror}"
                else:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                    place = self._place(file, digest, path.name, folder_name(record["label"]))
        where = None if place is None else path_as_text(place)
        row = [record["image"], where, record["label"], record["score"], strongest_reason(record), error]
        cells = [csv_cell(value) for value in row]
        self._rows[cells[0], digest] = cells
        return place

    def write_table(self) -> None:
        """Add the images of this run to ``sorted.csv``, after those that other runs have written there, if there are any.

        A row of another run gives way to that of the same image: the same name, and the same content where it was placed.
        """
        if self._rows:
            path = self._target.folder / SORTED_TABLE
            with lock_folder(path.parent):  # read only now: another run may have ended meanwhile
                rows = {}
                images = {image for image, _ in self._rows}
                for row in _read_table(path):
                    image, place = row[:2]
                    if place or image not in images:  # what could not be read may have been read now
                        rows[image, self._digest(cell_text(place)) if image in images else place] = row
                lines = [csv_line(row) for row in [COLUMNS, *(rows | self._rows).values()]]
                write_file(path, "".join(f"{line}\n" for line in lines).encode())

    def _place(self, file: BufferedReader, digest: str, name: str, folder: str) -> str:
        """Path below the folder where the image is, once it is there."""
        present = self._present_as(folder, name)
        if digest in present:
            self.n_present += 1
            return present[digest]
        for place in _numbered(folder, name, len(present) + 1):
            file.seek(0)
            if self._target.link(file.name, place) if self._link else self._target.copy(file, place):
                self.n_placed += 1
                present[digest] = place
                break
            present[self._digest(place)] = place  # another run has created it meanwhile, maybe from the same content
            if digest in present:
                self.n_present += 1
                break
        return present[digest]

    def _present_as(self, folder: str, name: str) -> dict[str, str]:
        """Digest of each file that has this name already, numbered or not → its path."""
        key = f"{folder}/{name}"
        if key not in self._present:
            root = self._target.folder
            found = self._present[key] = {}
            for place in takewhile(lambda place: os.path.lexists(root / place), _numbered(folder, name, 1)):
                found[self._digest(place)] = place
        return self._present[key]

    def _digest(self, place: str) -> str:
        """Digest of a file below the folder; its path if it cannot be read."""
        try:
            return file_digest(self._target.folder / place)
        except OSError:
            return place


def outside(images: Sequence[Path], folder: str | os.PathLike[str]) -> list[int]:
    """Positions of the images outside the folder: images that are sorted already are not sorted again."""
    root = Path(os.path.realpath(validation.path(folder, "sort_into")))
    return [row for row, image in enumerate(images) if not Path(os.path.realpath(image.parent)).is_relative_to(root)]


def folder_name(label: str | None) -> str:
    """The folder of a label: the label itself if it is a safe file name, else a safe form with eight digits of its hash.

    Examples
    --------
    >>> folder_name("tabby cat"), folder_name(None)
    ('tabby cat', '_none_of_these')
    >>> folder_name("../secret")
    '__secret~a6b09678'
    """
    if label is None:
        return NONE_OF_THESE
    kinds = map(unicodedata.category, label)
    safe = "".join(
        "_" if c in _FORBIDDEN or (kind in _FORBIDDEN_KINDS and c not in _JOINERS) else c
        for c, kind in zip(label, kinds, strict=True)
    )
    if safe[0] in ". " or safe.split(".")[0].rstrip().lower() in _RESERVED:
        safe = f"_{safe.lstrip('. ')}"
    safe = _cut(safe.rstrip(". "), _LONGEST_NAME)
    if safe == label:
        return label
    tail = f"~{hashlib.sha256(label.encode()).hexdigest()[:8]}"  # labels with the same safe form get different folders
    return _cut(safe, _LONGEST_NAME - len(tail)) + tail


def labels_of_folders(folder: Path) -> dict[str, str]:
    """The labels of sorted photos by their folders, where `folder_name` changed them; empty if there is no ``sorted.csv``."""
    try:
        labels = {cell_text(row[2]) for row in _read_table(folder / SORTED_TABLE) if row[2]}
    except OutputExists:
        return {}
    return {name: label for label in labels if (name := folder_name(label)) != label}


def strongest_reason(record: Mapping[str, Any]) -> str | None:
    """The training image or class name with the largest part of the score; None if the record has no explanation."""
    if not record.get("explanation"):
        return None
    side = record["explanation"][0]
    parts = [(image["part"], f"looks like {image['id']}") for image in side["images"]]
    return max([*parts, (side["text"], f"the name {side['name']}")])[1]


def _numbered(folder: str, name: str, first: int) -> Iterator[str]:
    """``folder/name``, then ``folder/stem (2).ending``, … from the number `first` on; cut to the longest allowed name."""
    stem, ending = Path(name).stem, Path(name).suffix
    for number in count(first):
        tail = ending if number == 1 else f" ({number}){ending}"
        yield f"{folder}/{_cut(stem, _LONGEST_NAME - len(os.fsencode(tail)))}{tail}"


def _read_table(path: Path) -> list[list[str]]:
    """The rows of earlier runs, if there were any."""
    if not os.path.lexists(path):
        return []
    try:
        rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))
    except (OSError, ValueError, csv.Error):
        rows = []
    if not rows or rows[0] != COLUMNS or any(len(row) != len(COLUMNS) for row in rows):
        raise OutputExists(
            f"{printable(path)} exists and is not a table of sorted images; move it or choose another folder"
        )
    return rows[1:]


def _cut(text: str, n_bytes: int) -> str:
    while len(os.fsencode(text)) > n_bytes:
        text = text[:-1]
    return text
