"""JSON from files: parsed strictly, converted without coercion; what does not fit is named with its path."""

from __future__ import annotations

import json
import math
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from tip_adapter.io.json_schema import ValidationError, convert, parse_json, unique_keys

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(value=JSON, ascii_only=st.booleans())
def test_whatever_json_writes_is_parsed_to_the_same_value(value: Any, ascii_only: bool) -> None:
    assert parse_json(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "key 'c' is repeated"),
        (b"[NaN]", "NaN is not a finite number"),
        (b"[-Infinity]", "-Infinity is not a finite number"),
        (b"[1e999]", "1e999 is not a finite number"),
        (b'{"a": ["x", "\\ud800"]}', r"^a\[1\] is '\\ud800', not text of whole characters"),
        (b'{"\\uDFFF": 1}', r"^the whole is '\\udfff', not text of whole characters"),
        (b"\xff", "can't decode byte 0xff"),
        (b"{", "Expecting property name"),
    ],
)
def test_what_readers_could_understand_differently_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_json(content)


def test_unique_keys_keeps_nested_objects() -> None:
    assert json.loads('{"a": 1, "b": {"a": 2}}', object_pairs_hook=unique_keys) == {"a": 1, "b": {"a": 2}}


class Item(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    share: Annotated[float, Meta(gt=0, le=1)] = 1.0


class Whole(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    items: tuple[Item, ...]
    seed: Annotated[int, Meta(ge=0, le=2**32)]
    part: Literal["train", "test"] | None = None


FITTING = {"items": [{"name": "a", "share": 1}, {"name": "b"}], "seed": 3, "part": None}


def test_a_value_that_fits_becomes_its_type() -> None:
    assert convert(FITTING, Whole) == Whole((Item("a"), Item("b")), 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": True}, "seed expected `int`, got `bool`, found True"),
        ({"seed": "3"}, "seed expected `int`, got `str`, found '3'"),
        ({"seed": -1}, "seed expected `int` >= 0, found -1"),
        ({"part": "val"}, "part invalid enum value 'val', found 'val'"),
        ({"items": [{"name": "a"}, {"name": None}]}, "items[1].name expected `str`, got `null`, found None"),
        ({"items": [{"name": "a", "share": 0}]}, "items[0].share expected `float` > 0.0, found 0"),
        ({"items": {}}, "items expected `array`, got `object`, found {}"),
        ({"\x1b": 1}, r"the whole object contains unknown field `\x1b`"),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_its_path(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as refused:
        convert(FITTING | change, Whole)
    assert str(refused.value).startswith(message)


@given(value=JSON)
def test_a_value_of_any_kind_fits_or_is_refused(value: Any) -> None:
    for stated in (value, {**FITTING, "items": value}, {**FITTING, "items": [{"name": "a", "share": value}]}):
        message = ""
        try:
            found = convert(stated, Whole)
        except ValidationError as error:
            message = str(error)
        else:
            assert all(0 < item.share <= 1 and math.isfinite(item.share) for item in found.items)
        assert message.isprintable()


@pytest.mark.parametrize(
    "huge", [10**4000, "x" * 10**6, ["x"] * 10**6, {"x" * 10**6: 1}], ids=lambda v: type(v).__name__
)
def test_a_huge_value_gives_a_short_message(huge: Any) -> None:
    for stated in (huge, FITTING | {"seed": huge}, FITTING | {"items": huge}):
        with pytest.raises(ValidationError) as refused:
            convert(stated, Item if isinstance(huge, dict) else Whole)
        assert len(str(refused.value)) < 500


# ======================================================================================================================
# Combinators: cut with the block of that name in json_schema.py.
# ======================================================================================================================

from tip_adapter.io.json_schema import (  # noqa: E402
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


def test_a_huge_value_makes_a_short_message() -> None:
    for value in (10**4000, "x" * 10**6, ["x"] * 10**6, {"a": "b" * 10**6}):
        with pytest.raises(ValidationError) as refused:
            whole(0, 3)(value)
        assert len(str(refused.value)) < 200
