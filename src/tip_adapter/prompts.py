"""Class names become sentences, sentences become one vector a class. Knows no encoder, only `encode_texts`."""

from __future__ import annotations

import csv
import io
import json
import tomllib
import unicodedata
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tip_adapter.errors import UnknownName, UsageError, VectorError, printable, suggestion
from tip_adapter.vectors import ClassEmbeddings, unit_rows

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray


@cache
def template_sets() -> dict[str, tuple[str, ...]]:
    """The paper's templates by data set, and their ensemble for ImageNet."""
    text = (files("tip_adapter") / "data" / "templates.toml").read_text(encoding="utf-8")
    return {name: tuple(templates) for name, templates in tomllib.loads(text).items()}


def resolve_templates(templates: Sequence[str]) -> tuple[str, ...]:
    """Texts with ``{}`` for the name, or names of template sets, as texts.

    Raises
    ------
    UnknownName
        One is neither; the nearest set is suggested.
    """
    sets = template_sets()
    unknown = [text for text in templates if "{}" not in text and text not in sets]
    if unknown:
        text, known = unknown[0], ", ".join(sets)
        hint = suggestion(text, sets)
        raise UnknownName(f"template {text!r} has no {{}} for the class name and is no set; {hint}sets are {known}")
    return tuple(template for text in templates for template in (sets[text] if text in sets else (text,)))


def read_class_names(path: str | os.PathLike[str]) -> dict[str, str]:
    """Label → name from a file: a JSON object, or CSV with the columns label and name.

    Raises
    ------
    UsageError
        The file cannot be read as that; the message names it.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        names = json.loads(text) if text.lstrip().startswith(("{", "[")) else _csv_names(text)
        wrong = [label for label, name in names.items() if not label or not _is_text(name)]
    except (OSError, ValueError, AttributeError, RecursionError, csv.Error) as error:
        raise UsageError(
            f"cannot read class names from {printable(path)}: {error}; expected JSON or CSV (label,name)"
        ) from error
    if wrong:
        raise UsageError(f"{printable(path)}: the name of {wrong[0]!r} is not text")
    return {unicodedata.normalize("NFC", label): name for label, name in names.items()}


def _csv_names(text: str) -> dict[str, str]:
    reader = csv.DictReader(io.StringIO(text))
    if not {"label", "name"} <= set(reader.fieldnames or []):
        raise ValueError("its first line names no columns label and name")
    return {row["label"]: row["name"] for row in reader}


def _is_text(name: object) -> bool:
    """Something to read, in whole characters."""
    return isinstance(name, str) and bool(name.strip()) and not any("\ud800" <= c <= "\udfff" for c in name)


def readable(label: str) -> str:
    """A label as the text encoder reads it: underscores are spaces."""
    return label.replace("_", " ")


def embed_classes(
    names: Mapping[str, str], templates: Sequence[str], encode_texts: Callable[[Sequence[str]], NDArray[np.float32]]
) -> ClassEmbeddings:
    """Embed class names: every template, each vector normalised, their mean normalised.

    Parameters
    ----------
    names : label → name
    templates : texts with ``{}`` for the name
    encode_texts : (k,) sentences → (k, d) float array

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
    sentences = [template.replace("{}", name) for name in names.values() for template in templates]
    vectors = unit_rows(encode_texts(sentences)).reshape(len(names), len(templates), -1)
    matrix = unit_rows(vectors.mean(axis=1))
    silent = [name for name, row in zip(names.values(), matrix, strict=True) if not row.any()]
    if silent:
        raise VectorError(f"the text encoder's vector of class name {silent[0]!r} is zero; choose another name")
    return ClassEmbeddings(np.array(list(names)), matrix)
