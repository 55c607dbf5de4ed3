from __future__ import annotations

import numpy as np
import pytest

from tip_adapter.encoders.toy import ToyEncoder
from tip_adapter.testing import FakeEncoder, check_encoder


def test_toy_keeps_the_contract_and_is_what_testing_ships() -> None:
    check_encoder(ToyEncoder())
    assert FakeEncoder is ToyEncoder


@pytest.mark.parametrize("colour", ["red", "green", "blue", "yellow"])
def test_a_photo_of_a_colour_is_nearest_to_its_name(colour: str, paint) -> None:
    encoder = ToyEncoder()
    names = ["red", "green", "blue", "yellow", "black", "white"]
    cosines = encoder.encode_images([paint(colour)]) @ encoder.encode_texts(names).T
    assert names[cosines.argmax()] == colour


def test_case_spaces_and_a_full_stop_do_not_matter_and_words_do() -> None:
    vectors = ToyEncoder().encode_texts(["a red dog", " A  RED dog. ", "a red cat"])
    np.testing.assert_array_equal(vectors[0], vectors[1])
    assert not np.array_equal(vectors[0], vectors[2])


def test_two_loads_give_the_same_vectors(paint) -> None:
    first, second = ToyEncoder(), ToyEncoder(device="cpu", threads=1)
    assert first.identity == second.identity
    np.testing.assert_array_equal(first.encode_images([paint("red")]), second.encode_images([paint("red")]))
    np.testing.assert_array_equal(first.encode_texts(["zebra"]), second.encode_texts(["zebra"]))
