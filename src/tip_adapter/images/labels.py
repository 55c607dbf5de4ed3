"""Labels: class names in Unicode NFC, without white space around them; and ids made unique."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

from tip_adapter.errors import LabelError
from tip_adapter.lookalikes import forms, look
from tip_adapter.text import printable, shown
from tip_adapter.validation import BLANKS, MAX_TEXT, is_missing

if TYPE_CHECKING:
    from collections.abc import Iterable


def label_of(text: str, where: str) -> str:
    """The label of a class name found at `where`: Unicode NFC, without white space around it.

    Raises
    ------
    LabelError
        It is empty, longer than `MAX_TEXT`, not UTF-8, contains NUL, or shows nothing.
    """
    if len(text) > MAX_TEXT:
        raise LabelError(
            f"class name '{printable(text[:40])}…' ({printable(where)}) has {len(text):,} characters; "
            f"shorten it to {MAX_TEXT:,}"
        )
    with suppress(UnicodeError):  # where the system's encoding is not UTF-8, the name of a folder may be
        text = os.fsencode(text).decode("utf-8")
    label = unicodedata.normalize("NFC", text).strip(BLANKS)
    try:
        label.encode("utf-8")
    except UnicodeEncodeError:
        raise LabelError(f"class name {printable(text)} ({printable(where)}) is not UTF-8; rename it") from None
    if not label or "\0" in label:
        raise LabelError(f"class name '{printable(text)}' ({printable(where)}) is empty or contains NUL; rename it")
    if not look(label).strip():
        raise LabelError(f"class name {label!a} ({printable(where)}) has only characters that show nothing; rename it")
    return label


def refuse_missing_labels(labels: Iterable[str]) -> None:
    """Raise LabelError, naming the first, if a label is what programs write for a missing one, such as nan."""
    if missing := next(filter(is_missing, labels), None):
        raise LabelError(
            f"the label {shown(missing)} is what programs write where a label is missing; leave out what has it, or call the class "
            "something else"
        )


def refuse_case_duplicates(names: Iterable[str]) -> None:
    """Refuse class names of an existing model that differ only by case or Unicode form: it may be older than the other rules.

    Raises
    ------
    LabelError
        The message names the first two.
    """
    seen: dict[str, str] = {}
    for name in dict.fromkeys(names):
        other = seen.setdefault(forms(name)[0][1], name)
        if other != name:
            raise _duplicates(other, name, "case")


def refuse_lookalike_labels(names: Iterable[str], known: Iterable[str] = ()) -> None:
    """Refuse class names that differ only by case, Unicode form, white space, hyphens, letters that look alike or how a number is written.

    White space around a name is ignored, as in `label_of`.

    Parameters
    ----------
    names : new class names
    known : names of existing classes, which new ones may not look like

    Raises
    ------
    LabelError
        The message names the first two.
    """
    seen: dict[tuple[str, str], str] = {}
    for name in known:
        for key in forms(name):
            seen.setdefault(key, name)
    for name in dict.fromkeys(text.strip(BLANKS) for text in names):
        for key in forms(name):
            other = seen.setdefault(key, name)
            if other != name:
                raise _duplicates(other, name, key[0])


def _duplicates(one: str, other: str, how: str) -> LabelError:
    if unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other):
        how = "Unicode form"
    both = f"'{printable(one)}' and '{printable(other)}'" if how == "case" else f"{one!a} and {other!a}"
    return LabelError(f"classes {both} differ only by {how}; rename or merge them")


def folded(text: str) -> str:
    """Text without case and accents, full-width letters as usual ones, to compare names of folders and columns."""
    letters = unicodedata.normalize("NFKD", text)
    return "".join(letter for letter in letters if not unicodedata.combining(letter)).casefold()


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
