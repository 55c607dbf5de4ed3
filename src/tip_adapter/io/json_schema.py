"""JSON from files: parsed strictly, then converted to a msgspec type, with one error that names path, rule and value.

class Pair(msgspec.Struct, forbid_unknown_fields=True):
    alpha: Annotated[float, msgspec.Meta(ge=0, le=1e12)]

convert(parse_json(b'{"alpha": "x"}'), Pair)      # ValidationError: alpha expected `float`, got `str`, found 'x'
"""

from __future__ import annotations

import json
import math
import re
import reprlib
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import msgspec

from tip_adapter.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

T = TypeVar("T")

_SURROGATE = re.compile("[\ud800-\udfff]")


class ValidationError(ValueError):
    """A parsed value does not fit its type.

    Parameters
    ----------
    fault : str, what is wrong
    where : str, path of the value, such as ``classes[3].name``; empty for the whole
    """

    def __init__(self, fault: str, where: str = "") -> None:
        super().__init__(f"{printable(where.removeprefix('.')) or 'the whole'} {printable(fault)}")
        self.fault = fault
        self.where = where


def parse_json(content: bytes) -> Any:
    """Parse JSON that every reader understands alike: no repeated key, no NaN or infinity, only whole characters.

    Raises
    ------
    ValueError, RecursionError
        It is not that, is not JSON in UTF-8, or is nested too deeply. ValidationError names the path of half a character.
    """
    text = content.decode("utf-8")
    value = json.loads(text, object_pairs_hook=unique_keys, parse_float=_finite, parse_constant=_finite)
    if "\\ud" in text.lower():
        _refuse_surrogates(value, "")
    return value


def convert(value: Any, kind: type[T]) -> T:
    """A parsed JSON value as a msgspec type; nothing is coerced.

    Raises
    ------
    ValidationError
        It does not fit; the message names the path (``classes[3].name``), what is expected and the value found.
    """
    try:
        return msgspec.convert(value, kind, strict=True)
    except msgspec.ValidationError as error:
        fault, _, place = str(error).partition(" - at `")
        path = place.rstrip("`").removeprefix("$")
        found = value  # or the value around it, where the path ends in a placeholder
        for key, index in re.findall(r"\.(\w+)|\[(\d+)\]", path):
            try:
                found = found[int(index)] if index else found[key]
            except (KeyError, IndexError, TypeError):
                break
        raise ValidationError(f"{fault[:1].lower()}{fault[1:300]}, found {_short(found)}", path) from error


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, for `json.loads`; a repeated key is a ValueError."""
    found = dict(pairs)
    if len(found) < len(pairs):
        repeated = next(key for key, n in Counter(key for key, _ in pairs).items() if n > 1)
        raise ValueError(f"key {_short(repeated)} is repeated")
    return found


def _refuse_surrogates(value: Any, where: str) -> None:
    """Raise ValidationError for half a surrogate pair, which an escape can write and UTF-8 cannot."""
    if isinstance(value, str) and _SURROGATE.search(value):
        raise ValidationError(f"is {_short(value)}, not text of whole characters", where)
    if isinstance(value, list):
        for position, item in enumerate(value):
            _refuse_surrogates(item, f"{where}[{position}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            _refuse_surrogates(key, where)
            _refuse_surrogates(item, f"{where}.{key[:100]}")


def _finite(number_text: str) -> float:
    value = float(number_text)
    if not math.isfinite(value):
        raise ValueError(f"{number_text} is not a finite number")
    return value


def _short(value: Any) -> str:
    return printable(reprlib.repr(value))


# ======================================================================================================================
# Combinators, until their last callers use `convert`.
# ======================================================================================================================

#: Returns nothing, or raises ValidationError.
Check: TypeAlias = "Callable[[Any], None]"


def whole(least: int, most: int) -> Check:
    """A whole number in bounds; true and false are none."""
    return _is(lambda value: type(value) is int and least <= value <= most, f"a whole number from {least} to {most}")


def number(least: float, most: float) -> Check:
    """A number in bounds, both included."""
    return _is(lambda value: _counts(value) and least <= value <= most, f"a number from {least:g} to {most:g}")


def positive(most: float) -> Check:
    """A number above 0."""
    return _is(lambda value: _counts(value) and 0 < value <= most, f"a number above 0, at most {most:g}")


def text(value: Any) -> None:
    """Any text of whole characters."""
    if not isinstance(value, str):
        raise _misfit(value, "text")
    if _SURROGATE.search(value):
        raise _misfit(value, "text of whole characters")


def word(value: Any) -> None:
    """A short text that can be shown as it is: a name of something of ours."""
    _require_printable(value, 200)


def printable_line(value: Any) -> None:
    """A text that can be shown as it is, as long as a path may be."""
    _require_printable(value, 4096)


def one_of(known: Collection[str]) -> Check:
    """One of these texts."""
    return _is(lambda value: isinstance(value, str) and value in known, f"one of {', '.join(known)}")


def matching(pattern: str, what: str) -> Check:
    """A text that a regular expression matches as a whole."""
    return _is(lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None, what)


def setting(value: Any) -> None:
    """Null, true, false, a text or a number."""
    if isinstance(value, str):
        text(value)
    elif value is not None and not isinstance(value, bool):
        number(-(2**63), 2**63)(value)


def maybe(check: Check) -> Check:
    """Null, or what `check` wants."""

    def check_unless_null(value: Any) -> None:
        if value is not None:
            check(value)

    return check_unless_null


def items(check: Check, least: int = 0, most: int = sys.maxsize) -> Check:
    """A list of so many values that `check` wants."""
    bounds = [f"at least {least}"] * (least > 0) + [f"at most {most}"] * (most < sys.maxsize)

    def check_items(value: Any) -> None:
        if not isinstance(value, list) or not least <= len(value) <= most:
            raise _misfit(value, " of ".join(["a list", " and ".join(bounds)]) if bounds else "a list")
        for position, item in enumerate(value):
            _check_inside(check, item, f"[{position}]")

    return check_items


def row(*checks: Check) -> Check:
    """A list of exactly so many values, each what its own check wants."""

    def check_row(value: Any) -> None:
        if not isinstance(value, list) or len(value) != len(checks):
            raise _misfit(value, f"a list of {len(checks)}")
        for position, (check, item) in enumerate(zip(checks, value, strict=True)):
            _check_inside(check, item, f"[{position}]")

    return check_row


def mapping(check: Check) -> Check:
    """An object of any keys, with values that `check` wants."""

    def check_values(value: Any) -> None:
        _require_object(value)
        for key, item in value.items():
            text(key)
            _check_inside(check, item, f".{key[:100]}")

    return check_values


def record(fields: Mapping[str, Check]) -> Check:
    """An object of exactly these keys."""

    def check_fields(value: Any) -> None:
        _require_object(value)
        if value.keys() != fields.keys():
            raise _other_keys(value, fields)
        for key, check in fields.items():
            _check_inside(check, value[key], f".{key}")

    return check_fields


def _require_printable(value: Any, most: int) -> None:
    if not isinstance(value, str) or not value.isprintable() or not 0 < len(value) <= most:
        raise _misfit(value, f"a name of 1 to {most} printable characters")


def _check_inside(check: Check, value: Any, where: str) -> None:
    try:
        check(value)
    except ValidationError as misfit:
        raise ValidationError(misfit.fault, where + misfit.where) from None


def _require_object(value: Any) -> None:
    if not isinstance(value, dict):
        raise _misfit(value, "an object")


def _other_keys(value: Mapping[str, Any], fields: Mapping[str, Check]) -> ValidationError:
    missing = [key for key in fields if key not in value]
    unknown = [key for key in value if key not in fields]
    return ValidationError(f"has no key {missing[0]}" if missing else f"has an unknown key {_short(unknown[0])}")


def _is(fits: Callable[[Any], bool], what: str) -> Check:
    def check(value: Any) -> None:
        if not fits(value):
            raise _misfit(value, what)

    return check


def _counts(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _misfit(value: Any, what: str) -> ValidationError:
    return ValidationError(f"is {_short(value)}, not {what}")
