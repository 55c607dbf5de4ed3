"""Names and numbers as people read them."""

from __future__ import annotations

import os
from contextlib import suppress
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def printable(name: str | os.PathLike[str]) -> str:
    """A name as it can be shown: bytes that are not UTF-8, control characters and the like as escapes."""
    text = os.fspath(name)
    with suppress(UnicodeEncodeError):
        text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shown(value: object) -> str:
    """Any value as a message can show it: printable, and no longer than a line."""
    try:
        text = printable(repr(value))
    except Exception:  # another package's repr, or a number with too many digits
        return f"a {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:80]}…"


def counted(n: int, one: str, many: str) -> str:
    """A number and its noun."""
    return f"{n} {one if n == 1 else many}"


def percent(fraction: float) -> str:
    """A fraction as a person reads it."""
    return f"{100 * fraction:.1f} %"


def first_of(names: Sequence[str]) -> str:
    """The first five of some names."""
    return ", ".join([*map(printable, names[:5]), *["…"] * (len(names) > 5)])


def suggestion(name: str, known: Iterable[str]) -> str:
    """Ask whether the nearest of `known` was meant; empty where none is near."""
    nearest = get_close_matches(name, sorted(known), n=1, cutoff=0.5)
    return f"did you mean {printable(nearest[0])}? " if nearest else ""
