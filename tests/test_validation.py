from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from tip_adapter import validation
from tip_adapter.errors import UsageError
from tip_adapter.io.files import read_bounded
from tip_adapter.text import shown
from tip_adapter.validation import is_whole_text


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3)])
def test_a_whole_number_of_any_kind_is_an_int(value):
    assert type(validation.integer(value, "top", 1)) is int


@pytest.mark.parametrize("value", [0, -1, True, np.True_, 1.0, np.float64(1), "1", None, [1], 4])
def test_what_is_no_whole_number_within_bounds_is_refused(value):
    with pytest.raises(UsageError, match=r"^top takes a whole number from 1 to 3, not "):
        validation.integer(value, "top", 1, 3)


@pytest.mark.parametrize("value", [0, 1, 0.5, np.float32(0.5), np.int8(1), Fraction(1, 3)])
def test_a_number_of_any_kind_is_a_float(value):
    assert type(validation.number(value, "alpha", 0, 1)) is float


@pytest.mark.parametrize("value", [-1e-9, 1.1, 10**400, float("nan"), float("inf"), "1", None, True, 1j])
def test_what_is_no_number_within_bounds_is_refused(value):
    with pytest.raises(UsageError, match=r"^alpha takes a number from 0 to 1, not "):
        validation.number(value, "alpha", 0, 1)


def test_a_bound_may_be_outside():
    with pytest.raises(UsageError, match="beta takes a number above 0, to 1,000, not 0"):
        validation.number(0, "beta", 0, 1000, above=True)


def test_no_thread_count_is_one_per_core():
    assert validation.threads(None) is None


def test_an_empty_path_is_not_the_current_folder():
    with pytest.raises(UsageError, match="folder takes a path, not ''"):
        validation.path("", "folder")


def test_halves_of_surrogate_pairs_are_no_text():
    assert [is_whole_text(text) for text in ("", "猫 🐈", "\ud83d", b"cat", None)] == [True, True, False, False, False]


def test_a_small_file_may_have_as_many_bytes_as_the_limit(tmp_path):
    (tmp_path / "names").write_bytes(b"abc")
    assert read_bounded(tmp_path / "names", 3) == b"abc"
    with pytest.raises(ValueError, match="above the limit"):
        read_bounded(tmp_path / "names", 2)


class Rude:
    def __repr__(self):
        raise RuntimeError


@pytest.mark.parametrize(
    "value", ["x" * 10**6, "\x1b[31m\n", 10**5000, Rude(), np.zeros(1000)], ids=lambda v: type(v).__name__
)
def test_any_value_can_be_shown_on_a_line(value):
    assert shown(value).isprintable()
    assert len(shown(value)) <= 81
