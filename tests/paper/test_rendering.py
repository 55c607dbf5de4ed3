"""Means, comparisons, tables and pictures of made-up results, against hand calculations."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image

from tip_adapter.paper import figures
from tip_adapter.paper.experiments import experiments
from tip_adapter.paper.figures import render_figure
from tip_adapter.paper.published import Published
from tip_adapter.paper.results import Mean, means, paired
from tip_adapter.paper.tables import marked, render_table

#: A paper of one data set of ten classes and 100 test photos.
PUBLISHED = Published(
    (
        {"dataset": "imagenet", "encoder": "RN50", "method": "zero-shot", "shots": 0, "accuracy": 60.0},
        {"dataset": "imagenet", "encoder": "RN50", "method": "tip-adapter", "shots": 1, "accuracy": 61.0},
        {"dataset": "imagenet", "encoder": "RN101", "method": "tip-adapter", "shots": 1, "accuracy": 65.0},
        {"dataset": "imagenet", "encoder": "DeiT-S", "method": "full training", "shots": None, "accuracy": 79.9},
    ),
    {"imagenet": (10, 100)},
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
        "n_classes": 10,
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
    assert paired([*RESULTS, *others], "coop", "tip-adapter") == {(): Mean(pytest.approx(0.1), None, 1)}
    assert paired(RESULTS, "coop", "tip-adapter") == {}


def test_zero_shot_is_compared_with_every_draw() -> None:
    difference = paired(RESULTS, "zero-shot", "tip-adapter")[()]
    assert (difference.mean, difference.n) == (pytest.approx(-0.02), 3)
    assert paired(RESULTS, "tip-adapter", "zero-shot") == {(): Mean(pytest.approx(0.02), difference.half_width, 3)}


def test_draws_of_one_seed_do_not_pass_for_several() -> None:
    more = [result("tip-adapter", 0.7, shots=2), result("coop", 0.9, shots=2), result("coop", 0.8)]
    found = paired([*RESULTS, *more], "coop", "tip-adapter", ("shots",))
    assert found == {(1,): Mean(pytest.approx(0.2), None, 1), (2,): Mean(pytest.approx(0.2), None, 1)}
    assert "| CoOp (upper bound) − Tip-Adapter (upper bound) | 20.00 | 20.00 |" in table([*RESULTS, *more])


def test_the_published_number_and_the_difference_stand_beside_ours() -> None:
    page = table(RESULTS)
    assert "| Zero-shot CLIP | fixed | 60.00 (60.00, +0.00) |" in page
    assert "| Tip-Adapter | oracle (upper bound) | 62.00 ± 4.97 (61.00, +1.00) |" in page
    assert "| Zero-shot CLIP − Tip-Adapter (upper bound) | -2.00 ± 4.97 (-1.00) |" in page


def test_an_upper_bound_is_marked_where_nothing_else_was_measured() -> None:
    page = table(RESULTS[1:])
    assert "| Tip-Adapter | oracle (upper bound) | 62.00" in page


def test_lines_of_other_numbers_of_seeds_do_not_pass_for_the_same() -> None:
    assert "Means over seeds 1, 2, 3, ±" in table(RESULTS)
    assert "Means over 1 to 3 seeds, ±" in table([*RESULTS, result("coop", 0.7)])
    assert "One seed, so no intervals." in table(RESULTS[:2])


@pytest.mark.parametrize(
    ("changes", "theirs"),
    [
        ({"encoder": "pocket"}, "61.00; not comparable"),
        ({"dataset": "dtd", "target": "dtd"}, "61.00; not comparable"),
        ({"n_test": 99}, "61.00; not comparable"),
        ({"n_classes": 9}, "61.00; not comparable"),
        ({"encoder": "clip-rn101"}, "65.00, -3.00"),
    ],
)
def test_another_encoder_or_data_set_and_fewer_photos_or_classes_are_not_comparable(
    changes: dict[str, Any], theirs: str
) -> None:
    assert f"62.00 ± 4.97 ({theirs})" in table([{**row, **changes} for row in RESULTS])


def test_of_several_published_data_sets_none_stands_for_another() -> None:
    others = Published((*PUBLISHED.rows, {**PUBLISHED.rows[0], "dataset": "dtd"}), PUBLISHED.sizes)
    assert others.row_of(result("tip-adapter", 0.6, dataset="ucf101", target="ucf101")) is None


def test_literature_stands_below() -> None:
    page = table(RESULTS, "table7")
    assert "From the literature, as table7 quotes it:" in page
    assert "| DeiT-S | Full training | 79.90 | – | – |" in page


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
    assert "| 1 shot | 2 shots | tuning gap, 1 shot | tuning gap, 2 shots |" in table(draws)
    assert "| Tip-Adapter | leave-one-out | 70.00 (61.00, +9.00) | 90.00 | – | 5.00 |" in table(draws)


def test_one_key_a_class_is_chosen_for_as_one_shot_is() -> None:
    one_key = {"shots": 16, "settings": {"cache_size": 1}, "variant": "cache size 1"}
    draws = [result("tip-adapter", 0.9, **one_key), result("tip-adapter", 0.8, protocol="scale-free", **one_key)]
    assert [row.get("tuning_gap") for row in marked(draws)] == [None, pytest.approx(0.1)]


def test_a_page_says_what_was_measured_on_but_not_in_which_folder() -> None:
    page = table([{**row, "encoder": "vectors:/data/ada/clip.npz"} for row in RESULTS])
    assert "Measured on imagenet with vectors:clip.npz. Means over seeds 1, 2, 3, ±" in page
    assert "ada" not in page
    assert "One seed, so no intervals." in table(RESULTS[:2])


def test_shots_that_are_no_column_have_lines_of_their_own() -> None:
    page = table([*RESULTS, result("tip-adapter", 0.9, shots=2)], "table7")
    assert "| method | shots | protocol |" in page
    assert "| Tip-Adapter | 1 | oracle (upper bound) | 62.00 ± 4.97" in page
    assert "| Tip-Adapter | 2 | oracle (upper bound) | 90.00" in page


def test_a_number_of_an_encoder_that_the_paper_has_stands_beside_no_other() -> None:
    assert PUBLISHED.row_of(result("zero-shot", 0.6, shots=0, encoder="clip-rn101")) is None
    assert PUBLISHED.row_of(result("zero-shot", 0.6, shots=0, encoder="pocket")) == PUBLISHED.rows[0]


def test_what_depends_on_the_machine_stands_beside_the_papers_without_a_difference() -> None:
    theirs = {**PUBLISHED.rows[1], "training_time": "5min", "inference_ms": 10.42, "learnable_parameters": 6_200_000}
    paper = Published((theirs,), PUBLISHED.sizes)
    ours = {"training_seconds": 12.5, "inference_ms": 3.0, "learnable_parameters": 12_288_000}
    rows = marked([{**row, **ours} for row in RESULTS[1:]])
    assert "| 12.50 (5min) | 3.00 (10.42) |" in render_table(experiments()["table1"], rows, paper)
    assert "| 12,288,000 (6,200,000, +6,088,000) |" in render_table(experiments()["table7"], rows, paper)


def test_words_are_counted_where_seeds_differ() -> None:
    outcomes = ("collapsed", "trained", "collapsed")
    rows = [{**row, "outcome": word, "variant": "keys"} for row, word in zip(RESULTS[1:], outcomes, strict=True)]
    assert "| collapsed × 2, trained × 1 |" in table(rows, "table6")


def test_no_number_is_minus_zero() -> None:
    close = [result("coop", 0.62 - 1e-9), result("tip-adapter", 0.62)]
    assert "| CoOp (upper bound) − Tip-Adapter (upper bound) | 0.00 |" in table(close)


def test_fields_as_columns_show_what_was_reported() -> None:
    rows = [
        {**row, "epochs": 0, "training_seconds": 1.5, "inference_ms": 2.0, "peak_memory_mib": 300.0} for row in RESULTS
    ]
    page = table([{**row, "outcome": None} for row in rows], "table1")
    assert "| Tip-Adapter | oracle (upper bound) | 62.00 ± 4.97 (61.00, +1.00) | 2.00 ± 4.97 | 0 | 1.50 |" in page


def test_a_name_cannot_break_a_table() -> None:
    page = table([{**row, "encoder": encoder} for encoder in ("a|b", "c") for row in RESULTS])
    assert "| a\\|b |" in page


def picture(results: list[dict[str, Any]], name: str, published: Published = PUBLISHED) -> Image.Image:
    image = Image.open(io.BytesIO(render_figure(experiments()[name], marked(results), published)))
    image.load()
    return image


@pytest.mark.slow
@pytest.mark.parametrize("name", ["figure4", "table1", "figure7"])
def test_the_same_results_give_the_same_picture(name: str) -> None:
    points = {"points": [[0.0, 1.0, 0], [1.0, 0.0, 1]], "silhouette": 0.5}
    rows = [{**row, **points} for row in RESULTS]
    first, second = picture(rows, name), picture(rows, name)
    assert first.format == "PNG"
    assert first.tobytes() == second.tobytes()
    assert min(first.size) > 300


@pytest.mark.slow
@pytest.mark.parametrize("name", ["figure4", "figure7"])
def test_a_picture_without_keys_or_shots_is_there(name: str) -> None:
    assert picture([ZERO_SHOT], name).format == "PNG"


def test_keys_of_one_photo_a_class_have_no_silhouette_but_a_picture() -> None:
    rows = [{**row, "points": [[0.0, 1.0, 0], [1.0, 0.0, 1]], "silhouette": None} for row in RESULTS]
    assert picture(rows, "figure7").format == "PNG"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["figure4", "table1"])
def test_published_numbers_are_drawn_where_they_can_be_compared(name: str) -> None:
    nothing = Published((), PUBLISHED.sizes)
    assert picture(RESULTS, name).tobytes() != picture(RESULTS, name, nothing).tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["figure4", "table1"])
@pytest.mark.parametrize(
    "changes", [{"dataset": "dtd", "target": "dtd"}, {"encoder": "pocket"}, {"n_test": 99}, {"n_classes": 9}]
)
def test_published_numbers_of_other_data_are_drawn_only_if_all_are_asked_for(
    name: str, changes: dict[str, Any]
) -> None:
    nothing = Published((), PUBLISHED.sizes)
    every = Published(PUBLISHED.rows, PUBLISHED.sizes, "all")
    others = [{**row, **changes} for row in RESULTS]
    assert picture(others, name).tobytes() == picture(others, name, nothing).tobytes()
    assert picture(others, name, every).tobytes() != picture(others, name, nothing).tobytes()


@pytest.mark.parametrize("name", ["figure4", "table1"])
def test_the_upper_bound_looks_like_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr(figures.Figure, "savefig", lambda self, *_, **__: written.extend(_texts(self)))
    render_figure(experiments()[name], marked(RESULTS), PUBLISHED)
    assert any("upper bound" in text for text in written)


def _texts(figure: Any) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


@pytest.mark.slow
def test_a_name_is_no_formula_and_shows_no_folder() -> None:
    rows = [{**row, "encoder": "vectors:/data/ada/$x^$.npz"} for row in RESULTS]
    short = [{**row, "encoder": "vectors:$x^$.npz"} for row in RESULTS]
    assert picture(rows, "figure4").tobytes() == picture(short, "figure4").tobytes()


def test_a_name_that_the_font_cannot_write_is_no_warning() -> None:
    assert picture([{**row, "dataset": "猫"} for row in RESULTS], "figure4").format == "PNG"


def test_a_published_number_far_from_ours_is_in_the_picture() -> None:
    far = [result("tip-adapter", 0.2, seed=seed) for seed in (1, 2)]
    figure = figures._curves(experiments()["figure4"], far, PUBLISHED)
    low, high = figure.axes[0].get_ylim()
    assert low < 20 < 61 < high
