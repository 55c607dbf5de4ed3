"""The head: answers of what was learned."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tip_adapter.methods import tuning
from tip_adapter.methods.tuning import TuningData
from tip_adapter.model.fitting import fit_head
from tip_adapter.vectors import ClassEmbeddings, SupportSet, unit_rows

if TYPE_CHECKING:
    from tip_adapter.model.head import Head

LABELS = ["cat", "dog", "owl"]


@pytest.fixture
def support() -> SupportSet:
    labels = np.array(LABELS * 4)
    rows = np.tile(np.eye(3, 8), (4, 1)) + np.random.default_rng(0).normal(0, 0.2, (12, 8))
    return SupportSet(unit_rows(rows.astype(np.float32)), labels, np.arange(12).astype(str))


@pytest.fixture
def all_but_flat(support: SupportSet) -> Head:
    """A linear probe so regularised that in single precision all its probabilities are the same."""
    return fit_head(
        "linear-probe",
        support,
        {label: label for label in LABELS},
        ("{}",),
        ClassEmbeddings(LABELS, np.eye(3, 8, dtype=np.float32)),
        logit_scale=30.0,
        rule=tuning.FIXED,
        calibrate=True,
        given=TuningData(1.0),
        settings={"C": 1e-9},
        offers={},
    )


def test_probabilities_that_round_to_the_same_leave_the_labels_to_the_logits(
    all_but_flat: Head, support: SupportSet
) -> None:
    assert np.ptp(all_but_flat.probabilities(support.vectors), axis=1).max() == 0
    assert all_but_flat.predict(support.vectors).tolist() == support.labels.tolist()
    assert [answer["label"] for answer in all_but_flat.answers(support.vectors, 1, 0.0)] == support.labels.tolist()


def test_the_likeliest_are_listed_by_their_logits(all_but_flat: Head, support: SupportSet) -> None:
    for answer, logits in zip(
        all_but_flat.answers(support.vectors, 3, 0.0), all_but_flat.estimator.logits(support.vectors), strict=True
    ):
        assert [entry["label"] for entry in answer["top"]] == [LABELS[c] for c in np.argsort(-logits)]
