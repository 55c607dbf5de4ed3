"""The records: every name in them is one, what they expand to, and the published numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from tip_adapter.encoders.prompts import resolve_templates
from tip_adapter.errors import UnknownName, UsageError
from tip_adapter.methods import METHODS, method_class
from tip_adapter.paper.datasets.records import dataset_records
from tip_adapter.paper.experiments import ALIASES, Task, experiment, experiments, papers_encoder, published, tasks
from tip_adapter.paper.figures import _PICTURES
from tip_adapter.paper.protocols import PROTOCOLS, protocols_for
from tip_adapter.paper.published import Published
from tip_adapter.paper.reproduce import parse_request

#: Settings that the runner reads; all others are a method's own.
OF_THE_RUNNER = {"cache_size", "templates", "trained", "learn"}
PARTS = {"keys", "values", "visual encoder", "text encoder"}


def expanded(name: str, **words: str) -> list[Task]:
    """What is measured where every data set has a validation split."""
    return list(
        tasks(
            parse_request(name, words), lambda _, __, keys: ("full-validation", "leave-one-out") if keys else ("fixed",)
        )
    )


def test_there_are_eleven_in_the_order_of_the_paper() -> None:
    assert " ".join(experiments()) == (
        "table1 figure4 table3 table4 figure5 figure6 table5 figure7 table6 figure8 table7"
    )
    assert experiment("table2") == replace(experiment("figure4"), name="table2")
    as_figure, as_table = (list(tasks(experiment(name), lambda *_: ("fixed",))) for name in ("figure4", "table2"))
    assert as_figure == as_table
    assert set(ALIASES.values()) <= set(experiments())


@pytest.mark.parametrize("name", experiments())
def test_every_name_in_a_record_is_one(name: str) -> None:
    chosen = experiments()[name]
    assert chosen.picture in _PICTURES
    for block in chosen.blocks:
        assert {*block.datasets, *block.targets} <= set(dataset_records())
        assert set(block.methods) <= set(METHODS)
        assert set(block.protocols) <= set(PROTOCOLS)
        assert all(papers_encoder(encoder) for encoder in block.encoders)
        for method in block.methods:
            for settings in block.variants.values():
                check_settings(method, settings)


def check_settings(method: str, settings: Any) -> None:
    others = set(settings) - OF_THE_RUNNER
    assert others <= set(method_class(method)().get_params())
    assert set(settings.get("learn", ())) <= PARTS
    assert resolve_templates(settings.get("templates", ["clip"]))


@pytest.mark.parametrize(
    ("name", "n"),
    [
        ("table1", 1 + 3 * (3 * 2 + 2)),  # seeds × (three methods by two protocols, CoOp and CLIP-Adapter)
        ("figure4", 1 + 5 * 3 * 8),
        ("table3", 5 * (1 + 3 * (2 * 2 + 2))),
        ("table5", 3 * (1 + 3 * 8)),
        ("table4", 3 * 12 + 5 * (1 + 4 * 2 + 4 * 2 * 2)),  # pairs; sizes 0 and 1 to 8; four shots by two methods
        ("figure5", 11 * (1 + 5 * 3 * 8)),
        ("figure7", 3),
        ("table6", 3 * 2 * 7),
        ("figure8", 11 * (1 + 3 * 2)),
        ("table7", 3 * 2 * 2),
    ],
)
def test_an_experiment_expands_to_so_many_results(name: str, n: int) -> None:
    every = {"linear-probe", "tip-adapter", "tip-adapter-f"}

    def protocols(method: str, _: str, keys: int) -> tuple[str, ...]:
        return protocols_for(chooses=method in every, shots=keys, has_validation=True)

    assert len(list(tasks(experiments()[name], protocols))) == n


def test_targets_belong_to_their_source() -> None:
    whole = {(task.dataset, task.target) for task in expanded("table5")}
    assert whole == {("imagenet", target) for target in ("imagenet", "imagenet_v2", "imagenet_sketch")}
    assert {task.target for task in expanded("table5", datasets="imagenet")} == {target for _, target in whole}
    assert {task.target for task in expanded("table5", datasets="caltech101")} == {"caltech101"}


def test_what_a_person_asks_for_takes_the_place_of_the_papers() -> None:
    found = expanded(
        "figure5", datasets="dtd, eurosat", shots="2,1,2", seeds="7", methods="tip-adapter", encoders="toy"
    )
    assert Counter((t.dataset, t.encoder, t.method, t.shots, t.seed) for t in found) == Counter(
        {(dataset, "toy", "tip-adapter", shots, 7): 2 for dataset in ("dtd", "eurosat") for shots in (1, 2)}
    )


def test_a_protocol_that_is_asked_for_leaves_those_that_make_the_experiment() -> None:
    assert parse_request("table4", {"protocols": "oracle"}).protocols == ("oracle",)
    assert {task.protocol for task in expanded("table4", protocols="oracle") if task.variant == "alpha 2"} == {"fixed"}


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("table22", {}, "unknown experiment 'table22': did you mean table2?"),
        ("table1", {"datasets": "caltech"}, "unknown data set 'caltech': did you mean caltech101?"),
        ("table1", {"methods": "tip-adaptor"}, "unknown method 'tip-adaptor': did you mean tip-adapter?"),
        ("table1", {"protocols": "leave-one"}, "unknown protocol 'leave-one': did you mean leave-one-out?"),
    ],
)
def test_an_unknown_name_is_said_with_the_nearest(name: str, words: dict[str, str], message: str) -> None:
    with pytest.raises(UnknownName) as refused:
        parse_request(name, words)
    assert message in str(refused.value)


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "one", "1,,x", "10001", "9" * 5000, "²", "", ","])
def test_shots_are_whole_numbers_in_bounds(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--shots takes"):
        parse_request("table1", {"shots": text})


@pytest.mark.parametrize("text", ["-1", "4294967296", "x"])
def test_seeds_are_whole_numbers_in_bounds(text: str) -> None:
    with pytest.raises(UsageError, match="--seeds takes whole numbers from 0 to 4294967295, separated by commas, not"):
        parse_request("table1", {"seeds": text})
    assert parse_request("table1", {"seeds": "0,4294967295"}).blocks[0].seeds == (0, 4294967295)


def test_a_method_that_the_experiment_has_not_is_said() -> None:
    with pytest.raises(UsageError, match="figure8 has none of the methods coop"):
        parse_request("figure8", {"methods": "coop"})


# ---- published


def of(**axes: Any) -> list[dict[str, Any]]:
    return [row for row in published() if all(row.get(axis) == value for axis, value in axes.items())]


def test_published_numbers_are_those_of_the_paper() -> None:
    assert len(published()) == 298
    row = {"dataset": "imagenet", "encoder": "RN50"}
    spots = [
        ({"experiment": "table2", "method": "tip-adapter-f", "shots": 16, **row}, 65.51),
        ({"experiment": "table2", "method": "linear-probe", "shots": 1, **row}, 22.17),
        ({"experiment": "table1", "method": "zero-shot", **row}, 60.33),
        ({"experiment": "table3", "method": "tip-adapter-f", "encoder": "RN50x16"}, 75.81),
        ({"experiment": "table4", "variant": "beta 11.5"}, 61.40),
        ({"experiment": "table4", "method": "tip-adapter-f", "shots": 128}, 69.74),
        ({"experiment": "table4", "method": "tip-adapter", "variant": "cache size 16", "shots": 16}, 62.03),
        ({"experiment": "table5", "method": "zero-shot", "target": "imagenet_v2"}, 53.27),
        ({"experiment": "figure5", "dataset": "eurosat", "method": "clip-adapter", "shots": 1}, 61.40),
        ({"experiment": "figure5", "dataset": "eurosat", "method": "tip-adapter-f", "shots": 1}, 59.53),
    ]
    for axes, accuracy in spots:
        assert [found["accuracy"] for found in of(**axes)] == [accuracy], axes


def test_every_published_row_fits_an_experiment_of_ours() -> None:
    names = {chosen.published for chosen in experiments().values()}
    assert {row["experiment"] for row in published()} <= names
    assert {row["method"] for row in published()} <= {*METHODS, "full training"}
    assert {row["dataset"] for row in published()} <= set(dataset_records())


def test_no_two_published_rows_say_the_same() -> None:
    axes = ("experiment", "dataset", "target", "encoder", "method", "shots", "variant")
    assert max(Counter(tuple(row.get(axis) for axis in axes) for row in published()).values()) == 1


def test_published_costs_are_those_of_the_paper() -> None:
    (trained,) = of(experiment="table7", method="tip-adapter-f")
    assert (trained["learnable_parameters"], trained["training_time"]) == (6_200_000, "6min")
    (collapsed,) = of(experiment="table6", variant="keys + values")
    assert (collapsed["outcome"], collapsed.get("accuracy")) == ("collapsed", None)


@pytest.mark.slow
@pytest.mark.parametrize("name", experiments())
def test_every_published_number_is_beside_a_result_of_the_experiment(name: str) -> None:
    """Its axes are those of a task: a misspelt variant or encoder would stand beside nothing."""
    chosen = experiments()[name]
    numbers = Published.of(chosen)
    beside = [numbers.row_of(task.axes()) for task in expanded(name)]
    assert [row for row in numbers.rows if row not in beside and row["method"] in METHODS] == []
