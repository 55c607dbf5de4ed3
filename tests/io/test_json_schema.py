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
        (b"{", "^it is not JSON .Expecting property name"),
        (b" \n", "^it is empty"),
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
