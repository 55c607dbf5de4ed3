"""Read and write lists of images: file_name and label as CSV with a header or as JSON lines; paths relative to the list.

Lists from other programs are read too: columns under common names, other separators, UTF-16, names without endings.
"""

from __future__ import annotations

import csv
import io
import math
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tip_adapter.errors import FolderError, LabelError, OutputExists
from tip_adapter.images.label_doubts import label_doubts
from tip_adapter.images.labels import label_of
from tip_adapter.images.list_tables import FLAGS, MAX_BYTES, Table, is_image_name, not_utf8, read_table, shown_columns
from tip_adapter.images.named_files import NamedFiles, numbered_names
from tip_adapter.images.splits import divided, parts_of_paths
from tip_adapter.io.files import read_bounded, write_file
from tip_adapter.text import counted, first_of, printable, shown
from tip_adapter.validation import is_missing

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

#: Of more images a list rarely has one of each class.
_FEW = 5
_DRIVE = re.compile(r"[a-z]:[\\/]|\\\\\w", re.IGNORECASE)
_URL = re.compile(r"\s*(?:[a-z][a-z0-9+.-]*://|data:)", re.IGNORECASE)


def read_labelled_list(path: Path, endings: Collection[str]) -> tuple[list[tuple[Path, str, str]], list[str]]:
    """Images, class names and parts of a list, and notes; `endings` are tried for an image that is listed without one.

    The part is as `divided`, or as `parts_of_paths` if no column says it. Rows of confidence 0, if all are 0 or 1, name a
    class that the photo does not show: they are skipped.

    Raises
    ------
    FolderError
        It cannot be read, is above `MAX_BYTES`, its columns of parts contradict each other, or a line lacks an image or a label, repeats a key, names a URL, or has
        a label that is neither text nor a finite number; the message names the line and what was found.
    LabelError
        As `label_of`; the message names the line.
    """
    table, images = read_table(path), NamedFiles(path.parent, endings)
    by_name = _read_existing_names(path, table, images)
    if len(table.flags) > 1 and not any(record.get("label") for _, record in table.records):
        raise FolderError(
            f"{printable(path)}: no column label, but {shown_columns([name.strip() for name in table.flags])} hold 0 and 1 or true and false, as if each were a class; write the "
            f"name of each image's class into a column label; found {table.found}"
        )
    rows, cells, absent = [], [], 0
    sure = all(str(record.get("confidence")).strip() in FLAGS - {"true", "false"} for _, record in table.records)
    for line, record in table.records:
        if sure and float(record["confidence"]) == 0:
            absent += 1
            continue
        where = f"{path}, line {line}"
        name = _label(record, where, table.found)
        if not_utf8(name):
            raise LabelError(
                f"{printable(where)}: the label {printable(name)} is not UTF-8; save the list as UTF-8; found {table.found}"
            )
        label_of(name, f"{where}; found {table.found}")
        rows.append((_image(record, where, table.found, images), name))
        cells.append((line, record["parts"]))
    if not rows:
        raise FolderError(f"{printable(path)}: all rows have confidence 0; found {table.found}")
    try:
        parts, notes = divided(cells)
    except ValueError as error:
        raise FolderError(f"{printable(path)}, {error}; found {table.found}") from error
    if not any(parts):
        depth = len(path.parent.parts)
        parts, doubts = parts_of_paths(
            [(image.parts[depth if image.is_relative_to(path.parent) else 0 : -1], name) for image, name in rows]
        )
        notes += doubts
    notes += [f"{counted(absent, 'row', 'rows')} of confidence 0: skipped"] if absent else []
    notes += [*by_name, *_table_doubts(table)]
    names = list(dict.fromkeys(name for _, name in rows))
    if len(names) == len(rows) > _FEW:
        notes.append(
            f"each of its {len(rows):,} images is of a class of its own; if that is not its label, rename the columns; found {table.found}"
        )
    notes += [*label_doubts(names), *numbered_names(names, [path.parent], but=path.name)]
    listed = [(*row, part) for row, part in zip(rows, parts, strict=True)]
    return listed, [f"{printable(path)}: {note}" for note in notes]


def _table_doubts(table: Table) -> list[str]:
    """Notes on columns and lines that are not read."""
    notes = []
    if table.n_comments:
        lines = counted(table.n_comments, "line that begins", "lines that begin")
        notes.append(f"{lines} with # skipped as comments; if they name photos, write the endings of these")
    if table.boxes:
        notes.append(f"its columns {shown_columns(table.boxes)} are boxes around objects; whole photos are read")
    if table.others:
        notes.append(f"not read as the label: {shown_columns(table.others)}; rename the columns if it should be")
    return notes


def read_list(path: Path, endings: Collection[str]) -> list[Path]:
    """Images of a list; raises FolderError as `read_labelled_list`, but needs no labels."""
    table, images = read_table(path), NamedFiles(path.parent, endings)
    _read_existing_names(path, table, images)
    return [_image(record, f"{path}, line {line}", table.found, images) for line, record in table.records]


def write_list(path: str | os.PathLike[str], images: Sequence[Path], labels: Sequence[str]) -> None:
    """Write a CSV list that `read_labelled_list` reads.

    Raises
    ------
    OutputExists
        The path exists, with other content.
    NotWritable
        With the reason of the operating system.
    """
    folder = os.path.realpath(Path(path).parent)
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["file_name", "label"])
    for image, label in zip(images, labels, strict=True):
        writer.writerow([os.path.relpath(os.path.realpath(image.parent) + os.sep + image.name, folder), label])
    content = text.getvalue().encode("utf-8", "surrogateescape")
    if os.path.lexists(path):
        present = None
        with suppress(OSError, ValueError):
            present = read_bounded(path, MAX_BYTES)
        if present != content:
            raise OutputExists(f"{printable(path)} exists and is another list; choose another path or remove it")
    write_file(path, content)


def csv_line(cells: Sequence[Any]) -> str:
    """Values as one line of CSV, without the line end."""
    row = io.StringIO()
    csv.writer(row).writerow(map(csv_cell, cells))  # the default line end, so that a lone \r in a name is quoted
    return row.getvalue().removesuffix("\r\n")


def csv_cell(value: Any) -> str:
    """A value as text; a ' is prepended to text that a spreadsheet could run as a formula, such as a file name."""
    risky = isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{value}" if risky else "" if value is None else str(value)


def cell_text(cell: str) -> str:
    """The text of a cell that `csv_cell` has written."""
    return cell[1:] if csv_cell(cell[1:]) == cell else cell


def _read_existing_names(path: Path, table: Table, images: NamedFiles) -> list[str]:
    """Replace the names of files, if none is of an image that exists, by those of the only column whose names all are; a note if so.

    An id may fit a file by accident: the rows of a data base are numbered, and photos often are, too.
    """

    def exists(name: Any) -> bool:
        return isinstance(name, str) and is_image_name(name) and os.path.lexists(images.find(name)[0])

    columns = set.intersection(*(set(record["named"]) for _, record in table.records))
    if not columns or any(exists(record.get("file_name")) for _, record in table.records):
        return []
    named = sorted(name for name in columns if all(exists(record["named"][name]) for _, record in table.records))
    if len(named) > 1:
        raise FolderError(
            f"{printable(path)}: its columns {shown_columns(named)} name images; call the one to read file_name; found {table.found}"
        )
    for _, record in table.records if named else ():
        record["file_name"] = record["named"][named[0]]
    return [f"the images are those that its column {shown_columns(named)} names"] if named else []


def _image(record: dict[str, Any], where: str, found: str, images: NamedFiles) -> Path:
    value = record.get("file_name")
    number = isinstance(value, int) and not isinstance(value, bool)  # an id
    name = str(value) if number else _text(value, "file_name", where, found)
    if _URL.match(name):
        raise FolderError(
            f"{printable(where)}: {printable(name[:80])} is a URL; download the photo and list its path; found {found}"
        )
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        raise FolderError(f"{printable(where)}: {printable(name)} is not a file name; found {found}") from None
    if _DRIVE.match(name) and not os.path.lexists(name) and os.name != "nt":
        raise FolderError(
            f"{printable(where)}: {printable(name)} is a path of a Windows computer; write paths that begin in the list's folder; "
            f"found {found}"
        )
    paths = images.find(name)
    if not os.path.lexists(paths[0]) and (unmarked := cell_text(name)) != name:  # as this program writes CSV
        paths = images.find(unmarked)
    if not_utf8(name) and not os.path.lexists(paths[0]):
        raise FolderError(
            f"{printable(where)}: no file is called {printable(name)}, which is not UTF-8; save the list as UTF-8; found {found}"
        )
    if len(paths) > 1:
        files = first_of([path.name for path in paths])
        raise FolderError(
            f"{printable(where)}: {printable(name)} could be any of {files}; write the ending; found {found}"
        )
    return paths[0]


def _label(record: dict[str, Any], where: str, found: str) -> str:
    """A label as text; numbers are allowed, and whole ones have no decimals, whichever program wrote the list.

    Three zeros are no decimals: 1,000 may be a thousand.
    """
    value = record.get("label")
    if isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isinf(value):
        value = str(value)
    text = cell_text(_text(value, "label", where, found))  # as this program writes CSV
    if is_missing(text):
        or_rename = ", or call the class something else" if text.strip() == "NA" else ""
        raise FolderError(
            f"{printable(where)}: no label but {shown(text)}; label the photo or remove the line{or_rename}; found {found}"
        )
    if number := re.fullmatch(r"\s*(-?(?:0|[1-9][0-9]*))[.,]00?\s*", text):
        return "0" if number[1] == "-0" else number[1]
    return text


def _text(value: Any, key: str, where: str, found: str) -> str:
    if value is None or (isinstance(value, str) and not value.strip()):
        raise FolderError(f"{printable(where)}: no {key}; a list has file_name and label; found {found}")
    if not isinstance(value, str):
        way_out = "write one text instead" if isinstance(value, (list, dict)) else "put it in quotes"
        raise FolderError(f"{printable(where)}: {key} {shown(value)} is not text; {way_out}; found {found}")
    return value
