"""Support photos are means of augmented views where their encoder's record says so; what is tested is the photo itself."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tip_adapter.paper.material import PhotoStore
from tip_adapter.paper.splits import open_dataset
from tip_adapter.testing import FakeEncoder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tip_adapter.paper.datasets import DatasetRecord


@pytest.fixture
def store(make_dataset: Callable[[str], DatasetRecord], tmp_path: Path) -> Callable[[int], PhotoStore]:
    """store(views) → DTD in small, by an encoder whose support photos are means of so many."""
    record = make_dataset("dtd")
    root = next(path.parent for path in tmp_path.rglob(record.folder))

    def open_store(views: int) -> PhotoStore:
        encoder = FakeEncoder()
        encoder.record = replace(encoder.record, support_views=views)
        return PhotoStore(open_dataset(record, root), encoder, tmp_path / "vectors", frozenset({(1, 0), (2, 0)}))

    return open_store


def test_a_support_photo_is_the_mean_of_its_views_and_a_test_photo_is_itself(
    store: Callable[[int], PhotoStore],
) -> None:
    plain, viewed = store(0), store(3)
    ours, theirs = viewed.support(1, 0), plain.support(1, 0)
    assert ours.ids.tolist() == theirs.ids.tolist()
    assert np.abs(ours.vectors - theirs.vectors).max() > 1e-3
    np.testing.assert_array_equal(viewed.part("test").vectors, plain.part("test").vectors)


def test_both_are_kept_apart_and_encoded_once(store: Callable[[int], PhotoStore]) -> None:
    first = store(3)
    vectors = first.support(2, 0).vectors
    assert first.n_encoded > 0
    again = store(3)
    np.testing.assert_array_equal(again.support(2, 0).vectors, vectors)
    assert again.n_encoded == 0
    assert store(0).support(2, 0).vectors.shape == vectors.shape
