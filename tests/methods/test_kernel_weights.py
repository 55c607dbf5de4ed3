"""Weights of two kernels: what tells the classes apart gets more."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tip_adapter.methods.kernel_weights import kernel_weights
from tip_adapter.methods.tip_adapter import TipAdapterClassifier
from tip_adapter.vectors import unit_rows


def drawn(rng: np.random.Generator, classes: np.ndarray, noise: float, width: int = 16) -> np.ndarray:
    """Unit rows around a centre of each class."""
    centres = rng.standard_normal((classes.max() + 1, width))
    return unit_rows((centres[classes] + noise * rng.standard_normal((len(classes), width))).astype(np.float32))


@given(st.integers(0, 2**16), st.booleans())
def test_a_kernel_of_noise_gets_the_smaller_weight(seed: int, noise_first: bool) -> None:
    rng, labels = np.random.default_rng(seed), np.arange(40) % 4
    parts = [drawn(rng, labels, 1.0), unit_rows(rng.standard_normal((40, 9)).astype(np.float32))]
    weights = kernel_weights(parts[::-1] if noise_first else parts, labels.astype(str))
    assert weights is not None
    assert sum(weights) == pytest.approx(1)
    assert weights[noise_first] > 0.5


def test_two_kernels_that_tell_different_classes_apart_are_better_together() -> None:
    rng, labels = np.random.default_rng(0), np.arange(400) % 4
    parts = [drawn(rng, labels // 2, 2.0), drawn(rng, labels % 2, 2.0)]
    weights = kernel_weights([part[:80] for part in parts], labels[:80].astype(str))
    assert weights is not None
    assert 0.3 <= weights[0] <= 0.7

    def accuracy(first: float, second: float) -> float:
        rows = np.concatenate([first**0.5 * parts[0], second**0.5 * parts[1]], axis=1)
        return TipAdapterClassifier().fit(rows[:80], labels[:80]).score(rows[80:], labels[80:])

    assert accuracy(*weights) > max(accuracy(1, 0), accuracy(0, 1)) + 0.1


def test_equal_kernels_have_equal_weights() -> None:
    labels = np.arange(12) % 3
    part = drawn(np.random.default_rng(0), labels, 1.0)
    assert kernel_weights([part, part], labels.astype(str)) == (0.5, 0.5)


def test_without_two_photos_of_a_class_there_are_no_weights() -> None:
    part = drawn(np.random.default_rng(0), np.arange(3), 1.0)
    assert kernel_weights([part, part], np.array(["a", "b", "c"])) is None


def test_many_images_are_decided_by_some_of_every_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tip_adapter.methods.kernel_weights._MOST_IMAGES", 40)
    rng, labels = np.random.default_rng(0), np.arange(400) % 4
    parts = [drawn(rng, labels, 1.0), unit_rows(rng.standard_normal((400, 9)).astype(np.float32))]
    weights = kernel_weights(parts, labels.astype(str))
    assert weights is not None
    assert weights[0] > 0.5
