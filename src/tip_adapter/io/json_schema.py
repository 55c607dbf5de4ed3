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
from collections import Counter
from typing import Any, TypeVar

import msgspec

from tip_adapter.text import printable

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
        It is not that, is empty, is not JSON in UTF-8, or is nested too deeply. ValidationError names the path of half a character.
    """
    text = content.decode("utf-8")
    if not text.strip():
        raise ValueError("it is empty")
    try:
        value = json.loads(text, object_pairs_hook=unique_keys, parse_float=_finite, parse_constant=_finite)
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON ({error})") from error
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
