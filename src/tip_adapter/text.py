"""Format names and numbers for messages."""

from __future__ import annotations

import os
from contextlib import suppress
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def printable(name: str | os.PathLike[str]) -> str:
    """A name with escapes for bytes that are not UTF-8 and for characters that cannot be printed."""
    text = os.fspath(name)
    with suppress(UnicodeEncodeError):
        text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shown(value: object) -> str:
    """The repr of any value, printable and at most 81 characters long."""
    try:
        text = printable(repr(value))
    except Exception:  # another package's repr, or a number with too many digits
        return f"a {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:80]}…"


def counted(n: int, one: str, many: str) -> str:
    """A number, its thousands separated, and its noun, singular or plural."""
    return f"{n:,} {one if n == 1 else many}"


def percent(fraction: float) -> str:
    """A fraction in per cent, one decimal."""
    return f"{100 * fraction:.1f} %"


def first_of(names: Sequence[str]) -> str:
    """The first five names, for messages that list many."""
    return ", ".join([*map(printable, names[:5]), *["…"] * (len(names) > 5)])


def first_three(texts: Sequence[str]) -> str:
    """The first three texts, for messages that list many."""
    return "; ".join(texts[:3]) + (f" (and {len(texts) - 3} more)" if len(texts) > 3 else "")


def suggestion(name: str, known: Iterable[str]) -> str:
    """A question that suggests the nearest of `known`; empty if none is similar."""
    nearest = get_close_matches(name, sorted(known), n=1, cutoff=0.6)
    return f"did you mean {printable(nearest[0])}? " if nearest else ""
