"""Class names, prompt templates, and one vector per class. Independent of encoders but for `encode_texts`."""

from __future__ import annotations

import csv
import io
import json
import tomllib
import unicodedata
from collections import Counter
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

from tip_adapter.errors import UnknownName, UsageError, VectorError, warn
from tip_adapter.io.files import read_bounded
from tip_adapter.text import counted, first_of, printable, shown, suggestion
from tip_adapter.validation import BLANKS, MAX_TEXT, is_missing, is_whole_text, require
from tip_adapter.vectors import ClassEmbeddings, unit_rows

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray


#: Bytes of a file of class names: enough for some hundred thousand classes.
_MAX_BYTES = 16 * 2**20


@cache
def template_sets() -> dict[str, tuple[str, ...]]:
    """The paper's templates by data set, and their ensemble for ImageNet."""
    text = (files("tip_adapter.encoders") / "templates.toml").read_text(encoding="utf-8")
    return {name: tuple(templates) for name, templates in tomllib.loads(text).items()}


def resolve_templates(templates: Sequence[str]) -> tuple[str, ...]:
    """Texts with ``{}`` for the name, or names of template sets, as texts.

    Raises
    ------
    UnknownName
        A text is neither; the nearest set is suggested.
    UsageError
        A template is not text, or longer than `MAX_TEXT`.
    """
    for text in templates:
        require(is_whole_text(text), "templates", "texts", text)
        _refuse_long(text, "templates: one of them")
    sets = template_sets()
    unknown = [text for text in templates if "{}" not in text and text not in sets]
    if unknown:
        text, known = unknown[0], ", ".join(sets)
        hint = suggestion(text, sets)
        raise UnknownName(f"template {text!r} has no {{}} for the class name and is not a set; {hint}sets are {known}")
    return tuple(template for text in templates for template in (sets[text] if text in sets else (text,)))


def read_class_names(path: str | os.PathLike[str]) -> dict[str, str]:
    """Label → name from a file: a JSON object, or CSV with the columns label and name, separated by commas, semicolons or tabs.

    Raises
    ------
    UsageError
        The file cannot be read as either, or as raised by `checked_names`; the message names it.
    """
    try:
        content = read_bounded(path, _MAX_BYTES)
        pairs = _label_name_pairs(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UsageError(
            f"cannot read class names from {printable(path)}: line {line} is not UTF-8; save the file as UTF-8"
        ) from error
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"cannot read class names from {printable(path)}: {reason}; expected JSON or CSV (label,name)"
        ) from error
    return checked_names(pairs, printable(path))


def checked_names(pairs: Iterable[tuple[Any, Any]], where: str) -> dict[str, str]:
    """Label in Unicode NFC, without white space around it → name, from pairs of a file or parameter, which `where` names in messages.

    Raises
    ------
    UsageError
        A label or name is not text, a name has several lines or is longer than `MAX_TEXT`, or a label has two names; the message names it.
    """
    names: dict[str, str] = {}
    for label, name in pairs:
        if not is_whole_text(label) or not label.strip(BLANKS):
            raise UsageError(f"{where}: label {shown(label)} is not text")
        if not is_whole_text(name) or not name.strip():
            raise UsageError(f"{where}: the name of {shown(label)} is not text: {shown(name)}")
        if len(name.strip().splitlines()) > 1:
            raise UsageError(
                f"{where}: the name of {shown(label)} has several lines, {shown(name)}; write one, close its quotes"
            )
        _refuse_long(name, f"{where}: the name of {shown(label)}")
        normal = unicodedata.normalize("NFC", label).strip(BLANKS)
        other = names.setdefault(normal, name)
        if other != name:
            raise UsageError(f"{where}: {shown(normal)} has two names, {shown(other)} and {shown(name)}; keep one")
    return names


def _refuse_long(text: str, what: str) -> None:
    if len(text) > MAX_TEXT:
        raise UsageError(f"{what} has {len(text):,} characters; shorten it to {MAX_TEXT:,}")


class _Pairs(list[tuple[Any, Any]]):
    """A JSON object with its repeated keys; distinguishes it from a JSON list."""


def _label_name_pairs(text: str) -> list[tuple[Any, Any]]:
    """The pairs of a JSON object or of CSV; ValueError for anything else."""
    if text.lstrip().startswith(("{", "[")):
        pairs = json.loads(text, object_pairs_hook=_Pairs)
        if not isinstance(pairs, _Pairs):
            raise ValueError("it is a JSON list, not an object label → name")
        return pairs
    separator = max(",;\t", key=text.partition("\n")[0].count)
    reader = csv.DictReader(io.StringIO(text), strict=True, delimiter=separator)
    columns = reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or []]
    if columns.count("label") != 1 or columns.count("name") != 1:
        raise ValueError(f"its first line has {first_of(columns) or 'nothing'}, not one column label and one name")
    pairs = []
    for row in reader:
        if None in row:  # cells without a column
            n_columns = len(columns)
            raise ValueError(
                f"line {reader.line_num} has {len(row[None]) + n_columns} cells for {n_columns} columns; quote a name that contains a comma"
            )
        pairs.append((row["label"], row["name"]))
    return pairs


def readable(label: str) -> str:
    """A label for the text encoder: underscores as spaces."""
    return label.replace("_", " ")


def name_classes(
    labels: Sequence[str], given: Mapping[str, str], reads: Callable[[str], bool], known: Iterable[str] = ()
) -> dict[str, str]:
    """Label → the name that a text encoder reads: the given one, else the label with spaces.

    Warns of names for unknown labels, and of names in a script that the encoder does not support.

    Parameters
    ----------
    labels : labels of the classes
    given : label → name
    reads : name → whether the encoder's text tower supports its script
    known : labels of classes that have names already

    Raises
    ------
    UsageError
        As `checked_names`.
    """
    checked = checked_names(given.items(), "class_names")
    names = {label: checked.get(label, readable(label)) for label in labels}
    unknown = [printable(label) for label in checked if label not in {*known, *labels}]
    if unknown:
        warn(f"class names are given for unknown labels: {', '.join(unknown[:5])}")
    same = [
        " and ".join(map(printable, (label for label in names if names[label] == name)))
        for name, times in Counter(names.values()).items()
        if times > 1
    ]
    if same:
        warn(f"classes of the same name, which text cannot tell apart: {first_of(same)}; give each a name of its own")
    missing = [f"{printable(name)} for {printable(label)}" for label, name in checked.items() if is_missing(name)]
    if missing:
        warn(f"used as class names, though written where a name is missing: {', '.join(missing[:5])}")
    foreign = [name for name in names.values() if not reads(name)]
    if foreign:
        which = counted(len(foreign), "class name is", "class names are")
        warn(
            f"{which} in a script that the encoder's text side does not support, such as {shown(foreign[0])}; "
            "used unchanged; translate with class names (--class-names)"
        )
    return names


def embed_classes(
    names: Mapping[str, str], templates: Sequence[str], encode_texts: Callable[[Sequence[str]], NDArray[np.float32]]
) -> ClassEmbeddings:
    """Embed class names: the normalised mean over the templates of normalised vectors.

    Parameters
    ----------
    names : label → name
    templates : texts with ``{}`` for the name
    encode_texts : (k,) texts → (k, d) float array

    Returns
    -------
    ClassEmbeddings : (n_classes, d), unit rows

    Raises
    ------
    VectorError
        A name's vector is zero, NaN or infinite.

    Notes
    -----
    CLIP (Radford et al., 2021), section 3.1.4: prompt ensembling in embedding space.
    """
    texts = [template.replace("{}", name) for name in names.values() for template in templates]
    vectors = unit_rows(encode_texts(texts)).reshape(len(names), len(templates), -1)
    matrix = unit_rows(vectors.mean(axis=1))
    zero = [name for name, row in zip(names.values(), matrix, strict=True) if not row.any()]
    if zero:
        raise VectorError(f"the text encoder's vector of class name {zero[0]!r} is zero; choose another name")
    return ClassEmbeddings(np.array(list(names)), matrix)
