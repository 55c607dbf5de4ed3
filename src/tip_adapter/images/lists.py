"""Read and write lists of images: file_name and label as CSV with a header or as JSON lines; paths relative to the list."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tip_adapter.errors import FolderError, OutputExists
from tip_adapter.images.labels import label_of
from tip_adapter.io.files import read_bounded, write_file
from tip_adapter.io.json_schema import unique_keys
from tip_adapter.text import printable, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LIST_ENDINGS = frozenset([".csv", ".jsonl"])
#: Enough for half a million images.
MAX_BYTES = 64 * 2**20


def read_labelled_list(path: Path) -> list[tuple[Path, str]]:
    """Images and class names of a list.

    Raises
    ------
    FolderError
        It cannot be read, is above `MAX_BYTES`, or a line lacks file_name or label, repeats a key, or has a label that
        is neither text nor a finite number; the message names the line.
    LabelError
        As `label_of`; the message names the line.
    """
    rows = []
    for line, record in _records(path):
        name = _text(path, line, record, "label")
        label_of(name, f"{path}, line {line}")
        rows.append((_image(path, line, record), name))
    return rows


def read_list(path: Path) -> list[Path]:
    """Images of a list; raises FolderError as `read_labelled_list`, but needs no labels."""
    return [_image(path, line, record) for line, record in _records(path)]


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


def _records(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """Line numbers and records."""
    read = {".csv": _csv_records, ".jsonl": _jsonl_records}.get(path.suffix.lower())
    if read is None:
        raise FolderError(f"{printable(path)} is neither a folder nor a list; lists end in .csv or .jsonl")
    try:
        text = read_bounded(path, MAX_BYTES).decode("utf-8-sig", "surrogateescape")
        records = list(read(text))
    except OSError as error:
        raise FolderError(f"cannot read {printable(path)}: {error.strerror}") from error
    except (ValueError, csv.Error) as error:
        raise FolderError(f"cannot read {printable(path)}: {error}") from error
    if not records:
        raise FolderError(f"{printable(path)} lists no images")
    return records


def _csv_records(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    has_names = False
    with suppress(csv.Error):
        has_names = "file_name" in (reader.fieldnames or [])
    if not has_names:
        raise ValueError("its first line must be file_name,label")
    for record in reader:
        yield reader.line_num, record


def _jsonl_records(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line, object_pairs_hook=unique_keys)  # NaN is allowed in keys that we ignore
        except (ValueError, RecursionError) as error:
            raise ValueError(f"line {number}: not JSON ({error})") from error
        if not isinstance(record, dict):
            raise ValueError(f"line {number}: not an object with file_name and label")
        yield number, record


def _image(path: Path, line: int, record: dict[str, Any]) -> Path:
    name = _text(path, line, record, "file_name")
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        raise FolderError(f"{printable(path)}, line {line}: {printable(name)} is not a file name") from None
    return path.parent / name


def _text(path: Path, line: int, record: dict[str, Any], key: str) -> str:
    """A value as text; numbers are allowed as labels."""
    value = record.get(key)
    if value is None or (isinstance(value, str) and not value.strip()):
        raise FolderError(f"{printable(path)}, line {line}: no {key}; a list has file_name and label")
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not isinstance(value, str) and not number:
        raise FolderError(f"{printable(path)}, line {line}: {key} {shown(value)} is not text; put it in quotes")
    return str(value)
