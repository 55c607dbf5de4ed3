"""Read and write lists of images: file_name and label as CSV with a header or as JSON lines; paths relative to the list.

Lists from other programs are read too: columns under common names, other separators, UTF-16, names without endings.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import math
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tip_adapter.errors import FolderError, OutputExists
from tip_adapter.images.labels import label_of
from tip_adapter.io.files import read_bounded, write_file
from tip_adapter.io.json_schema import unique_keys
from tip_adapter.text import first_of, printable, shown

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

LIST_ENDINGS = frozenset([".csv", ".jsonl"])
#: Enough for half a million images.
MAX_BYTES = 64 * 2**20
_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab"}
#: Known names of the columns, in lower case and without spaces and punctuation; the first that a list has is read.
_COLUMNS = {
    "file_name": (
        *("filename", "filepath", "path", "imagepath", "imgpath", "imagefile", "imagefilename", "imagename", "imgname"),
        *("filenames", "filepaths", "fname", "photopath", "photoname"),
        *("file", "image", "images", "img", "photo", "picture", "imageid", "imgid", "id"),
    ),
    "label": (
        *("label", "labels", "labelname", "class", "classname", "classlabel", "category", "categoryname"),
        *("classes", "species", "target", "labelid", "classid", "categoryid"),
    ),
    "split": ("split", "splits", "datasplit", "subset", "partition", "set", "part"),
}
#: What spreadsheets and programs write for a missing value or a failed formula, in lower case. NA only in capitals: "na" may be a name.
_MISSING = frozenset(
    {r"\n", "nan", "-nan", "+nan", "nat", "none", "null", "(null)", "<null>", "[null]", "(blank)"}
    | {"n/a", "#n/a", "<na>", "#null!", "#div/0!", "#value!", "#ref!", "#name?", "#num!"}
)
_URL = re.compile(r"\s*(?:[a-z][a-z0-9+.-]*://|data:)", re.IGNORECASE)


@dataclass(frozen=True)
class _Table:
    """Line numbers and records of a list, by file_name, label and split; and what was found, for messages."""

    records: list[tuple[int, dict[str, Any]]]
    found: str


def read_labelled_list(path: Path, endings: Collection[str]) -> list[tuple[Path, str, str]]:
    """Images, class names and parts of a list; `endings` are tried for an image that is listed without one.

    The part is what the list has in a column such as split, or empty.

    Raises
    ------
    FolderError
        It cannot be read, is above `MAX_BYTES`, or a line lacks an image or a label, repeats a key, names a URL, or has
        a label that is neither text nor a finite number; the message names the line and what was found.
    LabelError
        As `label_of`; the message names the line.
    """
    table, images = _table(path), _Images(path.parent, endings)
    rows = []
    for line, record in table.records:
        where = f"{path}, line {line}"
        name = _label(record, where, table.found)
        label_of(name, f"{where}; found {table.found}")
        rows.append((_image(record, where, table.found, images), name, str(record.get("split") or "")))
    return rows


def read_list(path: Path, endings: Collection[str]) -> list[Path]:
    """Images of a list; raises FolderError as `read_labelled_list`, but needs no labels."""
    table, images = _table(path), _Images(path.parent, endings)
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


def _table(path: Path) -> _Table:
    read = {".csv": _csv_table, ".jsonl": _jsonl_table}.get(path.suffix.lower())
    if read is None:
        raise FolderError(f"{printable(path)} is neither a folder nor a list; lists end in .csv or .jsonl")
    try:
        content = read_bounded(path, MAX_BYTES)
        encoding = _encoding(content)
        text = content.decode(encoding, "surrogateescape" if encoding == "utf-8-sig" else "strict")
        table = read(text, "UTF-8" if encoding == "utf-8-sig" else encoding.upper())
    except OSError as error:
        raise FolderError(f"cannot read {printable(path)}: {error.strerror}") from error
    except (ValueError, csv.Error) as error:
        raise FolderError(f"cannot read {printable(path)}: {error}") from error
    if not table.records:
        raise FolderError(f"{printable(path)} lists no images; found {table.found}")
    return table


def _encoding(content: bytes) -> str:
    """UTF-16 or UTF-32 by their byte-order mark or, for UTF-16, by the zero bytes of an ASCII header; else UTF-8."""
    if content.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    even, odd = content[0:64:2], content[1:64:2]
    if odd and not any(odd) and all(even):
        return "utf-16-le"
    return "utf-16-be" if odd and not any(even) and all(odd) else "utf-8-sig"


def _csv_table(text: str, encoding: str) -> _Table:
    tried = {}
    for separator in _SEPARATORS:
        # quotes count only at the start of a cell: skip the spaces before them, but keep those of file names
        spaced = bool(re.search(separator + ' +"', text))
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=spaced)
        header: list[str] = []
        try:
            header = next((row for row in reader if row), [])
        except csv.Error as error:
            raise ValueError(f"{error}; its first line must be file_name,label; found {encoding}") from error
        tried[separator] = (_columns(header), header, reader)
    # max takes the first of equals: the comma
    separator = max(tried, key=lambda mark: ("file_name" in tried[mark][0], len(tried[mark][0]), len(tried[mark][1])))
    columns, header, reader = tried[separator]
    mark = f"separator {_SEPARATORS[separator]}" if len(header) > 1 else "no separator"
    found = f"{encoding}, {mark}, columns {_named(header)}"
    if "file_name" not in columns:
        raise ValueError(
            f"its first line must be file_name,label or similar (filename, image, path, id); found {found}"
        )
    if doubled := [name for name in columns.values() if header.count(name) > 1]:
        raise ValueError(f"its column {doubled[0]!r} is there more than once; rename or remove one; found {found}")
    records = []
    try:
        for row in reader:
            if row:
                # spreadsheets end rows with empty cells; other cells beyond the header are parts of an unquoted cell
                if any(cell.strip() for cell in row[len(header) :]):
                    raise ValueError(
                        f"line {reader.line_num}: {len(row)} cells for {len(header)} columns; "
                        f"quote a cell that contains the separator; found {found}"
                    )
                cells = dict(zip(header, row, strict=False))  # a short row lacks its last cells
                records.append((reader.line_num, {key: cells.get(name) for key, name in columns.items()}))
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}; found {found}") from error
    return _Table(records, found)


def _jsonl_table(text: str, encoding: str) -> _Table:
    records, keys = [], dict[str, None]()
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line, object_pairs_hook=unique_keys)  # NaN is allowed in keys that we ignore
        except (ValueError, RecursionError) as error:
            raise ValueError(f"line {number}: not JSON ({error}); found {encoding}") from error
        if not isinstance(record, dict):
            raise ValueError(
                f"line {number}: not an object with file_name and label; found {encoding}, {shown(record)}"
            )
        keys.update(dict.fromkeys(record))
        records.append((number, {key: record[name] for key, name in _columns(record).items()}))
    return _Table(records, f"{encoding}, JSON lines, keys {_named(list(keys))}")


def _columns(names: Iterable[str]) -> dict[str, str]:
    """file_name, label and split → the column that has each: one of that name, else the first known name in any case."""
    names = list(names)
    plain: dict[str, str] = {}
    for name in names:
        plain.setdefault(re.sub(r"[\W_]", "", name).casefold(), name)
    columns = {}
    for key, known in _COLUMNS.items():
        if key in names:
            columns[key] = key
        elif matches := [plain[other] for other in known if other in plain]:
            columns[key] = matches[0]
    return columns


def _named(names: Sequence[str]) -> str:
    """The first names of columns, shortened, for messages."""
    return first_of([name if len(name) <= 40 else f"{name[:40]}…" for name in names]) or "none"


class _Images:
    """Image files by the names that a list has for them."""

    def __init__(self, folder: Path, endings: Collection[str]) -> None:
        self._folder, self._endings = folder, endings
        self._by_stem: dict[Path, dict[str, list[Path]]] = {}

    def find(self, name: str) -> list[Path]:
        """The file of exactly this name, else that with `/` for each backslash and without outer spaces, else with an ending.

        A name that no file has is returned as it is: an image that does not exist is reported where it is read.
        """
        exact = self._folder / name
        if os.path.lexists(exact):
            return [exact]
        path = self._folder / name.strip().replace("\\", "/")
        if path.suffix.lower() in self._endings or os.path.lexists(path):
            return [path]
        if path.parent not in self._by_stem:
            files: dict[str, list[Path]] = {}
            with suppress(OSError, ValueError):
                for child in sorted(os.listdir(path.parent)):
                    if Path(child).suffix.lower() in self._endings:
                        files.setdefault(Path(child).stem, []).append(path.parent / child)
            self._by_stem[path.parent] = files
        return self._by_stem[path.parent].get(path.name, [path])


def _image(record: dict[str, Any], where: str, found: str, images: _Images) -> Path:
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
    paths = images.find(name)
    if len(paths) > 1:
        files = first_of([path.name for path in paths])
        raise FolderError(
            f"{printable(where)}: {printable(name)} could be any of {files}; write the ending; found {found}"
        )
    return paths[0]


def _label(record: dict[str, Any], where: str, found: str) -> str:
    """A label as text; numbers are allowed, and whole ones have no decimals, whichever program wrote the list."""
    value = record.get("label")
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        value = str(value)
    text = _text(value, "label", where, found)
    if text.strip().casefold() in _MISSING or text.strip() == "NA":
        raise FolderError(
            f"{printable(where)}: no label but {shown(text)}; label the photo or remove the line; found {found}"
        )
    if number := re.fullmatch(r"\s*(-?(?:0|[1-9][0-9]*))\.0+\s*", text):
        return "0" if number[1] == "-0" else number[1]
    return text


def _text(value: Any, key: str, where: str, found: str) -> str:
    if value is None or (isinstance(value, str) and not value.strip()):
        raise FolderError(f"{printable(where)}: no {key}; a list has file_name and label; found {found}")
    if not isinstance(value, str):
        raise FolderError(f"{printable(where)}: {key} {shown(value)} is not text; put it in quotes; found {found}")
    return value
