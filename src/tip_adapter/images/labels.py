"""Labels: class names in Unicode NFC; and ids made unique."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from typing import TYPE_CHECKING

from tip_adapter.errors import LabelError
from tip_adapter.text import printable
from tip_adapter.validation import MAX_TEXT

if TYPE_CHECKING:
    from collections.abc import Iterable


def label_of(text: str, where: str) -> str:
    """The label of a class name found at `where`: Unicode NFC.

    Raises
    ------
    LabelError
        It is empty, longer than `MAX_TEXT`, not UTF-8, or contains NUL.
    """
    if len(text) > MAX_TEXT:
        raise LabelError(
            f"class name '{printable(text[:40])}…' ({printable(where)}) has {len(text):,} characters; "
            f"shorten it to {MAX_TEXT:,}"
        )
    label = unicodedata.normalize("NFC", text)
    try:
        label.encode("utf-8")
    except UnicodeEncodeError:
        raise LabelError(f"class name {printable(text)} ({printable(where)}) is not UTF-8; rename it") from None
    if not label.strip() or "\0" in label:
        raise LabelError(f"class name '{printable(text)}' ({printable(where)}) is empty or contains NUL; rename it")
    return label


def refuse_lookalike_labels(names: Iterable[str]) -> None:
    """Refuse class names that differ only by case or Unicode form.

    Raises
    ------
    LabelError
        The message names the first two.
    """
    seen: dict[str, str] = {}
    for name in dict.fromkeys(names):
        normal = unicodedata.normalize("NFC", name)
        other = seen.setdefault(normal.casefold(), name)
        if other != name:
            how, both = "case", f"'{printable(other)}' and '{printable(name)}'"
            if unicodedata.normalize("NFC", other) == normal:
                how, both = "Unicode form", f"{other!a} and {name!a}"
            raise LabelError(f"classes {both} differ only by {how}; rename or merge them")


def path_as_text(path: str | os.PathLike[str]) -> str:
    """A path as text that can be stored: bytes that are not UTF-8 as escapes."""
    try:
        content = os.fsencode(path)
    except UnicodeEncodeError:  # unpaired surrogates: no file has them, but a program may pass them
        content = os.fsdecode(path).encode("utf-8", "backslashreplace")
    return content.decode("utf-8", "backslashreplace")


def numbered(names: Iterable[str]) -> list[str]:
    """The same names, made unique: a repeated one gets a number."""
    names = list(names)
    taken, times, unique = set(names), Counter[str](), []
    for name in names:
        times[name] += 1
        candidate = name
        while times[name] > 1 and candidate in taken:
            candidate = f"{name}#{times[name]}"
            times[name] += candidate in taken
        taken.add(candidate)
        unique.append(candidate)
    return unique
