"""Validate arguments of public functions: numbers, paths, texts."""

from __future__ import annotations

import operator
import os
import re
from contextlib import suppress
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from tip_adapter.errors import UsageError
from tip_adapter.text import shown

#: Characters of a class name or template: the memory of a text encoder grows with them.
MAX_TEXT = 1_000
MAX_THREADS = 256
#: Files store a seed in 64 bits.
MAX_SEED = 2**63 - 1
#: The largest values that users may set; each is 0 or more (alpha) or above 0 (beta, logit_scale).
MAX_ALPHA = 1e6
MAX_BETA = 1e6
MAX_LOGIT_SCALE = 1e4
#: The largest values that a search may choose: alpha is huge if no image resembles one of another class, and beta is at
#: most 3.2 / sigma with a sigma of at least 1e-6. Logits stay finite in float32.
MAX_CHOSEN_ALPHA = 1e30
MAX_CHOSEN_BETA = 1e7
MAX_TEMPERATURE = 1e6
#: Of a learning rate and of the ratio of a blend.
MAX_RATE = 1e6
#: `min_score`: use the model's own threshold.
AUTO = "auto"
#: Removed around a class name: white space, also that without a break, and characters without width.
BLANKS = "".join(filter(str.isspace, map(chr, range(0x3001)))) + "\u200b\u2060\ufeff"
#: What programs and spreadsheets in any language write for a missing value or a failed formula, in lower case.
_MISSING = re.compile(
    r"|\\n|null|none|nat|undefined|n/a|[-+]?nan(\(.*\))?"
    r"|[<(\[](null|none|nan|nat|na|n/a|blank|undefined|empty|leer|vide|vuoto|vazio|en blanco|空白)[>)\]]"
    r"|#.*[!?]|#(nv|n/?d|n/?a( n/a)?|н/д|n/disp|brak|getting_data|loading\W*)|err:\d{3}|[-+]?\d\.?#(q?nan|snan|ind|inf)\d*"
    r"|-{2,}|\[\s*\]|\{\s*\}|nil|n\.a\.|k\.\s?a\.|na_(character|integer|real|complex)_|(?P<quote>[\"']+)(null|none|nan|nat|na|n/a)?(?P=quote)"
    r"|tensor\(nan\b.*\)|((np|numpy|pd|pandas|math|torch)\.)(na|nan|nat)|float\(\W*nan\W*\)"
)


def require(fits: bool, name: str, wanted: str, value: object) -> None:
    """Raise UsageError with the argument, what it takes and the value found, unless the value fits."""
    if not fits:
        raise UsageError(f"{name} takes {wanted}, not {shown(value)}", arguments=(name,))


def integer(value: Any, name: str, least: int, most: int | None = None) -> int:
    """A whole number within bounds, also a NumPy one, as int; raises UsageError for anything else, also for True."""
    wanted = f"a whole number of at least {least}" if most is None else f"a whole number from {least} to {most}"
    require(isinstance(value, Integral) and not isinstance(value, bool), name, wanted, value)
    try:
        number = operator.index(value)
    except TypeError:  # a time span of NumPy counts as a whole number
        raise UsageError(f"{name} takes {wanted}, not {shown(value)}", arguments=(name,)) from None
    require(least <= number and (most is None or number <= most), name, wanted, value)
    return number


def number(value: Any, name: str, least: float, most: float, *, above: bool = False) -> float:
    """A number within bounds, also a NumPy one, as float; `above` excludes `least`. Raises UsageError for anything else."""
    wanted = f"a number {f'above {least:g}, to' if above else f'from {least:g} to'} {most:,.0f}"
    require(isinstance(value, Real) and not isinstance(value, bool), name, wanted, value)
    number = float("inf")
    with suppress(OverflowError, TypeError):
        number = float(value)
    require(least <= number <= most and not (above and number == least), name, wanted, value)
    return number


def seed(seed: Any) -> int:
    """A seed as int; raises UsageError for anything else."""
    return integer(seed, "seed", 0, MAX_SEED)


def threads(threads: Any) -> int | None:
    """A number of threads, None for one per available processor; raises UsageError for anything else."""
    return None if threads is None else integer(threads, "threads", 1, MAX_THREADS)


def path(value: Any, name: str) -> Path:
    """A path; raises UsageError for anything else, also for empty text, which would be the current folder."""
    require(isinstance(value, (str, os.PathLike)) and str(value) != "", name, "a path", value)
    return Path(value)


def is_whole_text(text: object) -> bool:
    """Whether it is a text without unpaired surrogates."""
    return isinstance(text, str) and not any("\ud800" <= c <= "\udfff" for c in text)


def is_missing(text: str) -> bool:
    """Whether a label is empty or what programs write for a missing value; NA only in capitals: "na" may be a name."""
    text = text.strip(BLANKS)
    return text == "NA" or bool(_MISSING.fullmatch(text.casefold()))
