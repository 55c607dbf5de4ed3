"""Read the text of a list as a table: encoding, separator, known columns, one record a row; CSV with a header or JSON lines."""

from __future__ import annotations

import codecs
import csv
import io
import json
import mimetypes
import re
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tip_adapter.errors import FolderError
from tip_adapter.images.splits import part_cells, plain_name
from tip_adapter.io.files import LFS_POINTER, read_bounded
from tip_adapter.io.json_schema import unique_keys
from tip_adapter.text import first_of, printable, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

LIST_ENDINGS = frozenset([".csv", ".tsv", ".jsonl"])
_ARCHIVES = frozenset([".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst"])
#: Enough for half a million images.
MAX_BYTES = 64 * 2**20
#: Of a whole number in JSON lines.
_MOST_DIGITS = 1_000
_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
#: The first line of a list that spreadsheets write to name their separator.
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\W*?(?=[\r\n])', re.IGNORECASE)
#: How files begin that are no text, whatever their name ends in.
_NO_TEXT = {
    b"PK\x03\x04": "an Excel workbook or a ZIP archive",
    b"\xd0\xcf\x11\xe0": "an Excel workbook",
    b"\x1f\x8b": "a gzip archive",
    b"%PDF": "a PDF document",
}
#: Known names of the columns, as `plain_name` gives them; the first that a list has is read.
_COLUMNS = {
    "file_name": (
        *("filename", "filepath", "path", "imagepath", "imgpath", "imagefile", "imagefilename", "imagename", "imgname"),
        *("filenames", "filepaths", "fname", "photopath", "photoname"),
        *("file", "image", "images", "img", "photo", "picture", "imageid", "imgid", "imageindex"),
        *("dateiname", "dateipfad", "datei", "bilddatei", "bildname", "bild", "pfad", "foto"),  # German
        *("nomdefichier", "nomdufichier", "fichier", "cheminimage", "chemin"),  # French
        *("nombredearchivo", "archivo", "fichero", "imagen", "ruta"),  # Spanish
        *("nomedoarquivo", "arquivo", "imagem", "caminho", "nomefile", "immagine"),  # Portuguese, Italian
        *("文件名", "文件路径", "文件", "图片名称", "图片名", "图片路径", "图片", "图像", "路径"),  # Chinese
        *("檔名", "檔案名稱", "檔案", "圖片", "圖像"),
        *("ファイル名", "ファイル", "画像名", "画像"),  # Japanese
        *("파일명", "파일이름", "파일", "이미지"),  # Korean
        *("имяфайла", "файл", "изображение", "путь"),  # Russian
        *("idcode", "id", "name"),
    ),
    "label": (
        *("label", "labels", "labelname", "class", "classname", "classlabel", "category", "categoryname"),
        *("classes", "species", "target", "labelid", "classid", "categoryid"),
        *("breed", "diagnosis", "dx", "disease", "groundtruth", "choice", "emotion", "tag"),
        *("klasse", "kategorie", "beschriftung", "etikett"),  # German
        *("classe", "etiquette", "libelle", "categorie", "espece"),  # French
        *("clase", "etiqueta", "categoria", "especie", "rotulo", "etichetta"),  # Spanish, Portuguese, Italian
        *("标签", "类别", "类名", "分类", "標籤", "類別", "分類"),  # Chinese
        *("ラベル", "クラス", "カテゴリ"),  # Japanese
        *("레이블", "라벨", "클래스"),  # Korean
        *("метка", "класс", "категория"),  # Russian
    ),
    "confidence": ("confidence",),
}
#: Columns of data sets for detection: where an object is, and whether a class was found at all.
_BOXES = re.compile(
    r"[xy](min|max|[0-2])|(min|max)[xy]|(roi|bb|b?box|bndbox|boundingbox)([xy]?(min|max|[0-2])?|[xywh]|left|top|right|bottom|width|height)"
)
#: Columns that have the names of classes where the label is a number.
_NAMES_OF_NUMBERS = frozenset(
    {"labeltext", "labelstr", "labeldescription", "labelmetadata", "labelnames", "classdescription"}
    | {"name", "names", "description", "text", "title", "commonname", "scientificname", "speciesname"}
)
#: Names of columns of labels that may be those of a class, too, in a list with a column of 0 and 1 for each.
_CLASS_WORDS = frozenset({"species", "breed", "disease", "choice", "emotion", "tag"})
_WHOLE = re.compile(r"\s*-?\d+(?:\.0+)?\s*")
FLAGS = frozenset(["0", "1", "0.0", "1.0", "true", "false"])


@dataclass(frozen=True)
class Table:
    """What a list says: a record for each row, and what was found, for messages.

    Parameters
    ----------
    records : number of the line, and its cells of the known columns (file_name, label, confidence), of those that may say its part
        (parts), and of others with names of images (named)
    """

    records: list[tuple[int, dict[str, Any]]]
    found: str
    flags: list[str] = field(default_factory=list)
    """Columns of CSV that are 0 or 1, or yes or no, in each row: without labels, they may be the classes if they are most columns."""
    boxes: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    """Columns that could be the label as well as the one that is read."""
    n_comments: int = 0
    """Skipped lines that begin with #, though they have as many cells as the header."""


def read_table(path: Path) -> Table:
    """The table of a list; raises FolderError if it cannot be read, lacks a column of file names, or has no rows."""
    ending = path.suffix.lower()
    if ending not in LIST_ENDINGS:
        archive = ending in _ARCHIVES
        found = (
            "an archive; unpack it and give the folder"
            if archive
            else "neither a folder nor a list; lists end in .csv, .tsv or .jsonl"
        )
        raise FolderError(f"{printable(path)} is {found}")
    read = _jsonl_table if ending == ".jsonl" else _csv_table
    try:
        text, encoding = decoded(read_bounded(path, MAX_BYTES))
        table = read(text, encoding)
    except OSError as error:
        raise FolderError(f"cannot read {printable(path)}: {error.strerror}") from error
    except (ValueError, csv.Error) as error:
        raise FolderError(f"cannot read {printable(path)}: {error}") from error
    if not table.records:
        raise FolderError(f"{printable(path)} lists no images; found {table.found}")
    return table


def decoded(content: bytes) -> tuple[str, str]:
    """The text of a list, and its encoding for messages; bytes that are not UTF-8 become surrogates, as in file names."""
    if content.startswith(LFS_POINTER):
        raise ValueError("it is a Git LFS pointer instead of the list; run git lfs pull")
    for start, what in _NO_TEXT.items():
        if content.startswith(start):
            raise ValueError(f"it is {what}; save the list as CSV in UTF-8")
    if content.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return content.decode("utf-32"), "UTF-32"
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16"), "UTF-16"
    # Without a mark: each separator and line end has a NUL next to it. A stray NUL in UTF-8 is reported where it is.
    if content.count(b"\0") >= max(1, len(re.findall(rb"[\n,;\t|]", content))):
        for encoding in ("utf-16-le", "utf-16-be"):
            with suppress(UnicodeDecodeError):
                text = content.decode(encoding)
                if "\0" not in text and "\n" in text.strip():
                    return text, encoding.upper()
    # lists that were joined have a mark within
    text = re.sub(r"^\ufeff+", "", content.decode("utf-8", "surrogateescape"), flags=re.MULTILINE)
    if not (strange := not_utf8(text)):
        return text, "UTF-8"
    return text, f"bytes that are not UTF-8 in line {text.count(chr(10), 0, strange.start()) + 1}"


def not_utf8(text: str) -> re.Match[str] | None:
    """Where a text has bytes that are not UTF-8."""
    return re.search("[\udc80-\udcff]", text)


def _csv_table(text: str, encoding: str) -> Table:
    separator, columns, header, reader = _csv_header(text, encoding)
    mark = f"separator {_SEPARATORS.get(separator, separator)}" if len(header) > 1 else "no separator"
    found = f"{encoding}, {mark}, columns {shown_columns(header)}"
    _check_header(header, columns, found)
    records, excluded, n_comments = [], set[str](), 0
    sure = {name for key, name in columns.items() if key != "label" or plain_name(name) not in _CLASS_WORDS}
    flags = [name for name in header if name.strip() and name not in sure]
    try:
        for row in reader:
            if _filled(row) and row != header:  # repeated where lists were joined
                # spreadsheets end rows with empty cells; other cells beyond the header are parts of an unquoted cell
                if any(cell.strip() for cell in row[len(header) :]):
                    raise ValueError(
                        f"line {reader.line_num}: {len(row)} cells for {len(header)} columns; "
                        f"quote a cell that contains the separator, or give each column a name; found {found}"
                    )
                cells = dict(zip(header, row, strict=False))  # a short row lacks its last cells
                if joined := next((name for name in columns.values() if _joins_rows(cells.get(name), separator)), None):
                    raise ValueError(
                        f"line {reader.line_num}: quotes join lines into one cell, {joined} {shown(cells[joined])}; close the "
                        f"quotes or remove them; found {found}"
                    )
                records.append((reader.line_num, _record(cells, columns, excluded)))
                flags = [name for name in flags if cells.get(name, "").strip().lower() in FLAGS]
            n_comments += _is_comment(row) and 1 < len(header) == sum(bool(cell.strip()) for cell in row)
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}; found {found}") from error
    flags = flags if 2 * len(flags) > len(header) - 1 else []
    if len(flags) > 1 and columns.get("label") in flags:  # one of the classes
        for _, record in records:
            record["label"] = None
    return Table(
        records,
        found,
        flags,
        _box_columns(header),
        _other_labels(header, columns, records),
        n_comments,
    )


def _csv_header(text: str, encoding: str) -> tuple[str, dict[str, str], list[str], Any]:
    """The separator, the known columns, all columns, and the reader of the rows below them."""
    separators = list(_SEPARATORS)
    if named := _SEPARATOR_LINE.match(text):
        separators = [named[1]]
        text = text[named.end() :]  # without the end of the line, so that the numbers of lines stay
    first = re.match(r"#\s*([^\r\n]*)", text)
    if first and {"file_name", "label"} <= _columns(re.split(r"[,;\t|]", first[1])).keys():
        text = text[first.start(1) :]  # NumPy and others begin the header so
    tried = []
    for separator in separators:
        # quotes count only at the start of a cell: skip the spaces before them, but keep those of file names
        spaced = bool(re.search(re.escape(separator) + ' +"', text))
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=spaced, strict=True)
        try:
            header = next(filter(_filled, reader), [])
        except csv.Error as error:  # in "a","b" the first quote of another separator is closed too early
            refused = error
        else:
            tried.append((separator, _columns(header), header, reader))
    if not tried:
        raise ValueError(f"{refused}; its first line must be file_name,label; found {encoding}")
    # max takes the first of equals: the comma
    return max(tried, key=lambda one: ("file_name" in one[1], len(one[1]), len(one[2])))


def _check_header(header: Sequence[str], columns: Mapping[str, str], found: str) -> None:
    """Raise ValueError without a known column of file names, or if a known column is there twice or has a separator in its name."""
    if "file_name" not in columns:
        if not_utf8("".join(header)):
            way_out = "save it as UTF-8"
        elif any(map(is_image_name, header)):
            way_out = "it names an image, so write those names above it"
        else:
            way_out = "filename, image, path, id"
        raise ValueError(f"its first line must be file_name,label or similar ({way_out}); found {found}")
    if doubled := [name for name in columns.values() if header.count(name) > 1]:
        raise ValueError(f"its column {doubled[0]!r} is there more than once; rename or remove one; found {found}")
    if mixed := [name for name in columns.values() if any(mark in name for mark in _SEPARATORS)]:
        raise ValueError(f"its column {mixed[0]!r} has a separator in its name; use one separator; found {found}")


def _filled(row: Sequence[str]) -> bool:
    """Whether a row is not empty: spreadsheets write empty rows as separators alone, and programs comments after a #."""
    return not _is_comment(row) and any(cell.strip() for cell in row)


def _is_comment(row: Sequence[str]) -> bool:
    return bool(row) and row[0].startswith("#") and not any(map(is_image_name, row))


def _joins_rows(cell: str | None, separator: str) -> bool:
    """Whether a cell contains the end of a line and a separator: a quote was not closed, and the next one ends it."""
    return bool(re.search(r"[\r\n]", (cell or "").strip())) and separator in (cell or "")


def is_image_name(cell: str) -> bool:
    """Whether a text is the name of an image file by its ending."""
    return "." in cell and str(mimetypes.guess_type(cell)[0]).startswith("image/")


def _jsonl_table(text: str, encoding: str) -> Table:
    records, keys, excluded = [], dict[str, None](), set[str]()
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(
                line, object_pairs_hook=unique_keys, parse_int=_whole
            )  # NaN is allowed in keys that we ignore
        except (ValueError, RecursionError) as error:
            raise ValueError(f"line {number}: not JSON ({error}); found {encoding}") from error
        if not isinstance(record, dict):
            raise ValueError(
                f"line {number}: not an object with file_name and label; found {encoding}, {shown(record)}"
            )
        keys.update(dict.fromkeys(record))
        records.append((number, _record(record, _columns(record), excluded)))
    found = f"{encoding}, JSON lines, keys {shown_columns(list(keys))}"
    return Table(records, found, boxes=_box_columns(keys), others=_other_labels(keys, _columns(keys), records))


def _whole(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"a number of {len(digits):,} digits; put it in quotes")
    return int(digits)


def _columns(names: Iterable[str]) -> dict[str, str]:
    """file_name, label and confidence → the column that has each: one of that name, else the first known name in any case."""
    names = list(names)
    plain: dict[str, str] = {}
    for name in names:
        plain.setdefault(plain_name(name), name)
    columns = {}
    for key, known in _COLUMNS.items():
        if key in names:
            columns[key] = key
        elif matches := [plain[other] for other in map(plain_name, known) if other in plain]:
            columns[key] = matches[0]
    return columns


def _record(cells: Mapping[str, Any], columns: Mapping[str, str], excluded: set[str]) -> dict[str, Any]:
    """What a row has in the known columns, what may say its part, as `part_cells`, and the other columns with names of images."""
    others = {name: value for name, value in cells.items() if name not in columns.values()}
    record = {key: cells.get(name) for key, name in columns.items()}
    named = {name: value for name, value in others.items() if isinstance(value, str) and is_image_name(value)}
    return record | {"parts": part_cells(others, excluded), "named": named}


def _other_labels(
    names: Iterable[str], columns: Mapping[str, str], records: Iterable[tuple[int, Mapping[str, Any]]]
) -> list[str]:
    """Columns under known names of the label, or of class names if all labels are numbers, that are not read, as another was chosen."""
    known = {*_COLUMNS["label"]}
    if all(_WHOLE.fullmatch(str(record.get("label"))) for _, record in records):
        known |= _NAMES_OF_NUMBERS
    return [name for name in names if plain_name(name) in known and name not in columns.values()]


def _box_columns(names: Iterable[str]) -> list[str]:
    """Columns that say where an object is; one alone may mean something else."""
    found = [name for name in names if _BOXES.fullmatch(plain_name(name))]
    return found if len(found) > 1 or any("b" in plain_name(name) for name in found) else []


def shown_columns(names: Sequence[str]) -> str:
    """The first names of columns, shortened, for messages."""
    return first_of([name if len(name) <= 40 else f"{name[:40]}…" for name in names]) or "none"
