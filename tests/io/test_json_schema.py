"""Checks of JSON values: what fits passes, what does not is named with its place."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tip_adapter.io.json_schema import (
    ValidationError,
    items,
    mapping,
    matching,
    maybe,
    number,
    one_of,
    positive,
    record,
    row,
    setting,
    text,
    unique_keys,
    whole,
    word,
)

FITS: list[tuple[Any, list[Any]]] = [
    (whole(0, 3), [0, 3]),
    (number(0, 1), [0, 1.0, 0.5]),
    (positive(2), [2, 1e-300]),
    (text, ["", "a\n", "狗 🐕"]),
    (word, ["a b", "x" * 200]),
    (one_of(["a", "b"]), ["a"]),
    (matching("[0-9]{2}", "two digits"), ["12"]),
    (setting, [None, True, 1, -0.5, "", 2**63]),
    (maybe(text), [None, "a"]),
    (items(text, least=1, most=2), [["a"], ["a", "b"]]),
    (row(text, whole(0, 1)), [["a", 1]]),
    (mapping(text), [{}, {"any": "text"}]),
    (record({"a": text, "b": whole(0, 1)}), [{"b": 1, "a": ""}]),
]


@pytest.mark.parametrize(("check", "values"), FITS)
def test_what_fits_passes(check: Any, values: list[Any]) -> None:
    for value in values:
        check(value)


MISFITS: list[tuple[Any, Any, str]] = [
    (whole(0, 3), True, "the whole is True, not a whole number from 0 to 3"),
    (whole(0, 3), 1.0, "the whole is 1.0, not a whole number from 0 to 3"),
    (number(0, 1), float("nan"), "the whole is nan, not a number from 0 to 1"),
    (positive(2), 0, "the whole is 0, not a number above 0, at most 2"),
    (text, "\ud800", r"the whole is '\ud800', not text of whole characters"),
    (word, "a\x1b", r"the whole is 'a\x1b', not a name of 1 to 200 printable characters"),
    (one_of(["a", "b"]), ["a"], "the whole is ['a'], not one of a, b"),
    (matching("[0-9]{2}", "two digits"), "12\n", r"the whole is '12\n', not two digits"),
    (setting, {}, "the whole is {}, not a number from -9.22337e+18 to 9.22337e+18"),
    (items(text), {}, "the whole is {}, not a list"),
    (items(text, least=1), [], "the whole is [], not a list of at least 1"),
    (items(text, least=2, most=2), ["a"], "the whole is ['a'], not a list of at least 2 and at most 2"),
    (row(text, text), ["a"], "the whole is ['a'], not a list of 2"),
    (row(text, text), ["a", 5], "[1] is 5, not text"),
    (items(items(text)), [[], ["a", 5]], "[1][1] is 5, not text"),
    (record({"a": items(record({"b": text}))}), {"a": [{"b": None}]}, "a[0].b is None, not text"),
    (record({"a": text}), {}, "the whole has no key a"),
    (record({"a": text}), {"a": "", "\x1b": 1}, r"the whole has an unknown key '\x1b'"),
    (record({"a": record({})}), {"a": []}, "a is [], not an object"),
    (mapping(text), {"\x1b": 5}, r"\x1b is 5, not text"),
]


@pytest.mark.parametrize(("check", "value", "message"), MISFITS)
def test_what_does_not_fit_is_named_with_its_place(check: Any, value: Any, message: str) -> None:
    with pytest.raises(ValidationError) as refused:
        check(value)
    assert str(refused.value) == message


def test_a_key_that_stands_twice_is_named() -> None:
    assert json.loads('{"a": 1, "b": {"a": 2}}', object_pairs_hook=unique_keys) == {"a": 1, "b": {"a": 2}}
    with pytest.raises(ValueError, match="key 'a' stands twice"):
        json.loads('{"a": 1, "a": 1}', object_pairs_hook=unique_keys)


def test_a_huge_value_makes_a_short_message() -> None:
    for value in (10**4000, "x" * 10**6, ["x"] * 10**6, {"a": "b" * 10**6}):
        with pytest.raises(ValidationError) as refused:
            whole(0, 3)(value)
        assert len(str(refused.value)) < 200
