"""Means, comparisons, tables and pictures of made-up results, against hand calculations."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image

from tip_adapter.paper.experiments import experiments
from tip_adapter.paper.figures import render_figure
from tip_adapter.paper.statistics import Mean, means, paired
from tip_adapter.paper.tables import Published, marked, render_table

#: A paper of one data set of 100 test photos.
PUBLISHED = Published(
    (
        {"dataset": "imagenet", "encoder": "RN50", "method": "zero-shot", "shots": 0, "accuracy": 60.0},
        {"dataset": "imagenet", "encoder": "RN50", "method": "tip-adapter", "shots": 1, "accuracy": 61.0},
        {"dataset": "imagenet", "encoder": "RN101", "method": "tip-adapter", "shots": 1, "accuracy": 65.0},
        {"dataset": "imagenet", "encoder": "DeiT-S", "method": "full training", "shots": None, "accuracy": 79.9},
    ),
    {"imagenet": 100},
)


def result(method: str, accuracy: float, shots: int = 1, seed: int = 1, **others: Any) -> dict[str, Any]:
    return {
        "experiment": "figure4",
        "dataset": "imagenet",
        "target": "imagenet",
        "encoder": "clip-rn50",
        "method": method,
        "shots": shots,
        "seed": seed,
        "protocol": "oracle" if shots else "fixed",
        "variant": "",
        "accuracy": accuracy,
        "gain": accuracy - 0.6,
        "n_test": 100,
        "notes": [],
        **others,
    }


ZERO_SHOT = result("zero-shot", 0.6, shots=0)
RESULTS = [
    ZERO_SHOT,
    *(result("tip-adapter", accuracy, seed=seed) for seed, accuracy in ((1, 0.6), (2, 0.62), (3, 0.64))),
]


def table(results: list[dict[str, Any]], name: str = "figure4") -> str:
    return render_table(experiments()[name], marked(results), PUBLISHED)


def test_a_mean_has_half_of_students_interval() -> None:
    mean = Mean.of([0.6, 0.62, 0.64])
    assert mean.mean == pytest.approx(0.62)
    assert mean.half_width == pytest.approx(4.302653 * 0.02 / 3**0.5)  # t(0.975, 2) from a printed table
    assert Mean.of([0.6]) == Mean(0.6, None, 1)


def test_results_without_the_field_do_not_count() -> None:
    rows = [{"method": "a", "x": 1.0}, {"method": "a", "x": None}, {"method": "a"}]
    assert means(rows, ["method"], "x") == {("a",): Mean(1.0, None, 1)}


def test_methods_are_compared_on_the_same_draws_only() -> None:
    others = [result("coop", 0.7, seed=1), result("coop", 0.9, seed=9)]
    assert paired([*RESULTS, *others], "coop", "tip-adapter") == Mean(pytest.approx(0.1), None, 1)
    assert paired(RESULTS, "coop", "tip-adapter") is None


def test_zero_shot_is_compared_with_every_draw() -> None:
    difference = paired(RESULTS, "zero-shot", "tip-adapter")
    assert difference is not None
    assert (difference.mean, difference.n) == (pytest.approx(-0.02), 3)
    assert paired(RESULTS, "tip-adapter", "zero-shot") == Mean(pytest.approx(0.02), difference.half_width, 3)


def test_the_published_number_and_the_difference_stand_beside_ours() -> None:
    page = table(RESULTS)
    assert "| Zero-shot CLIP | fixed | 60.00 (60.0, +0.00) |" in page
    assert "| Tip-Adapter | oracle (upper bound) | 62.00 ± 4.97 (61.0, +1.00) |" in page
    assert "| Zero-shot CLIP − Tip-Adapter | -2.00 ± 4.97 | 3 |" in page


@pytest.mark.parametrize(
    ("changes", "theirs"),
    [
        ({"encoder": "pocket"}, "61.0; not comparable"),
        ({"dataset": "dtd", "target": "dtd"}, "61.0; not comparable"),
        ({"n_test": 99}, "61.0; not comparable"),
        ({"encoder": "clip-rn101"}, "65.0, -3.00"),
    ],
)
def test_another_encoder_data_set_or_fewer_photos_are_not_comparable(changes: dict[str, Any], theirs: str) -> None:
    assert f"62.00 ± 4.97 ({theirs})" in table([{**row, **changes} for row in RESULTS])


def test_of_several_published_data_sets_none_stands_for_another() -> None:
    others = Published((*PUBLISHED.rows, {**PUBLISHED.rows[0], "dataset": "dtd"}), PUBLISHED.n_test)
    assert others.row_of(result("tip-adapter", 0.6, dataset="ucf101", target="ucf101")) is None


def test_literature_stands_below() -> None:
    assert "From the literature, as figure4 quotes it:" in table(RESULTS)
    assert "| DeiT-S | Full training | 79.9 |" in table(RESULTS)


def test_the_tuning_gap_is_the_upper_bound_minus_what_needs_no_other_photo() -> None:
    draws = [
        result("tip-adapter", 0.9),
        result("tip-adapter", 0.8, protocol="scale-free"),
        result("tip-adapter", 0.7, protocol="leave-one-out"),
        result("tip-adapter", 0.95, shots=2),
        result("tip-adapter", 0.9, shots=2, protocol="leave-one-out"),
    ]
    gaps = [row.get("tuning_gap") for row in marked(draws)]
    assert gaps == [None, pytest.approx(0.1), None, None, pytest.approx(0.05)]
    assert "| Tip-Adapter | scale-free | 80.00" in table(draws)
    assert "| tuning gap |" in table(draws)


def test_fields_as_columns_show_what_was_reported() -> None:
    rows = [
        {**row, "epochs": 0, "training_seconds": 1.5, "inference_ms": 2.0, "peak_memory_mib": 300.0} for row in RESULTS
    ]
    page = table([{**row, "outcome": None} for row in rows], "table1")
    assert "| Tip-Adapter | oracle (upper bound) | 62.00 ± 4.97 (61.0, +1.00) | 2.00 ± 4.97 | 0 | 1.5 |" in page


def test_a_name_cannot_break_a_table() -> None:
    page = table([{**row, "encoder": encoder} for encoder in ("a|b", "c") for row in RESULTS])
    assert "| a\\|b |" in page


@pytest.mark.parametrize("picture", ["figure4", "table1", "figure7"])
def test_the_same_results_give_the_same_bytes(picture: str) -> None:
    points = {"points": [[0.0, 1.0, 0], [1.0, 0.0, 1]], "silhouette": 0.5}
    rows = marked([{**row, **points} for row in RESULTS])
    first, second = (render_figure(experiments()[picture], rows) for _ in range(2))
    assert first == second
    with Image.open(io.BytesIO(first)) as image:
        image.load()
        assert image.format == "PNG"
        assert min(image.size) > 300


def test_a_picture_of_keys_that_no_result_has_is_empty_but_there() -> None:
    assert render_figure(experiments()["figure7"], RESULTS).startswith(b"\x89PNG")
