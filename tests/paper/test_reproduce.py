"""Every table and figure end to end: toy encoder, a data set of four shades whose names mean nothing to it."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from tip_adapter.paper.experiments import experiments
from tip_adapter.paper.protocols import PROTOCOLS
from tip_adapter.paper.providers import ImageProvider
from tip_adapter.paper.reproduce import Reproduction, parse_request, reproduce

if TYPE_CHECKING:
    from collections.abc import Callable

    Results = list[dict[str, Any]]

#: What keeps each quick; the others are as in the paper.
QUICK = {
    "table1": {"shots": "4"},
    "figure4": {"shots": "1,4"},
    "table3": {"shots": "4", "methods": "zero-shot,clip-adapter,tip-adapter,tip-adapter-f"},
    "figure5": {"shots": "1,4", "methods": "zero-shot,linear-probe,clip-adapter,tip-adapter,tip-adapter-f"},
    "figure6": {"shots": "4"},
}
NAMES = tuple(experiments())
AXES = {"dataset", "encoder", "method", "shots", "seed", "protocol", "accuracy"}


@pytest.fixture(scope="module")
def reproduced(shades: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Reproduction, Path]]:
    """reproduced("table1") → what came of it, and its folder; done once."""

    @cache
    def run(name: str) -> tuple[Reproduction, Path]:
        home, place = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp(name)
        said: list[str] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TIP_ADAPTER_HOME", str(home))
            words = {"datasets": "caltech101", "encoders": "toy", "seeds": "1", **QUICK.get(name, {})}
            done = reproduce(parse_request(name, words), ImageProvider(shades), place, say=said.append)
        absent = ("32 shots", "64 shots", "128 shots") if name == "table4" else ()
        assert said == [
            f"caltech101 has at most 16 photos of a class to learn from; {shots} are left out" for shots in absent
        ]
        return done, place

    return run


def of(results: Results, **axes: Any) -> Results:
    return [result for result in results if all(result[axis] == value for axis, value in axes.items())]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::tip_adapter.errors.TipAdapterWarning")  # said to a person; results carry notes
@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_runs_to_results_a_table_and_a_picture(
    name: str, reproduced: Callable[[str], tuple[Reproduction, Path]]
) -> None:
    done, place = reproduced(name)
    lines = [json.loads(line) for line in (place / "results.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [{key: line[key] for key in line if key != "format"} for line in lines] == done.results
    assert {line["format"] for line in lines} == {1}
    assert all(set(line) >= AXES for line in lines)
    assert {result["method"] for result in done.results} <= {m for b in experiments()[name].blocks for m in b.methods}
    assert (place / f"{name}.md").read_text(encoding="utf-8") == done.table
    assert done.table.startswith(f"# {name}: {experiments()[name].title}")
    with Image.open(place / f"{name}.png") as picture:
        picture.verify()
        assert picture.format == "PNG"


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_what_is_trained_learns_and_beats_the_names_alone(
    name: str, reproduced: Callable[[str], tuple[Reproduction, Path]]
) -> None:
    trained = [result for result in reproduced(name)[0].results if len(result["losses"]) > 1]
    learning = [result for result in trained if result["losses"][0] > 1e-3]
    for result in learning:
        assert result["losses"][-1] < result["losses"][0], result["method"]
        own_pair = result["alpha"] is None or result["protocol"] != "fixed"  # the paper's is for CLIP
        if own_pair and result["shots"] >= 4:  # fewer may mislead
            assert result["accuracy"] > result["zero_shot_accuracy"], result["method"]
    assert {result["method"] for result in learning} == {result["method"] for result in trained}
    for result in trained:
        assert (result in learning) != any("nothing is learned" in note for note in result["notes"])


@pytest.mark.slow
def test_all_six_methods_are_compared_and_every_one_learns(
    reproduced: Callable[[str], tuple[Reproduction, Path]],
) -> None:
    results = reproduced("table1")[0].results
    zero_shot, *others = results
    assert (zero_shot["method"], zero_shot["shots"], zero_shot["protocol"]) == ("zero-shot", 0, "fixed")
    assert {r["method"] for r in others} == {"linear-probe", "coop", "clip-adapter", "tip-adapter", "tip-adapter-f"}
    assert all(result["accuracy"] > zero_shot["accuracy"] for result in others)
    assert all(
        result[name] > 0 for result in results for name in ("training_seconds", "inference_ms", "peak_memory_mib")
    )
    (coop,) = of(others, method="coop")
    assert coop["learnable_parameters"] == 16 * 49  # context vectors, and how wide the toy's are
    assert all(r["epochs"] == r["training"]["papers_epochs"] for r in results if "papers_epochs" in r["training"])


@pytest.mark.slow
def test_alpha_0_and_an_empty_cache_are_zero_shot(reproduced: Callable[[str], tuple[Reproduction, Path]]) -> None:
    results = reproduced("table4")[0].results
    for variant in ("alpha 0", "cache size 0"):
        found = of(results, variant=variant)
        assert found
        assert all(result["accuracy"] == result["zero_shot_accuracy"] for result in found)


@pytest.mark.slow
def test_shots_that_the_data_do_not_have_are_not_in_the_table(
    reproduced: Callable[[str], tuple[Reproduction, Path]],
) -> None:
    done, _ = reproduced("table4")
    assert {result["shots"] for result in done.results} == {16}


@pytest.mark.slow
def test_prompts_change_the_sentences_and_stand_in_the_results(
    reproduced: Callable[[str], tuple[Reproduction, Path]],
) -> None:
    results = reproduced("figure6")[0].results
    (single,) = {tuple(result["templates"]) for result in of(results, variant="single prompt")}
    (ensemble,) = {tuple(result["templates"]) for result in of(results, variant="ensemble")}
    assert single == ("a photo of a {}.",)
    assert len(ensemble) == 7
    assert of(results, variant="learned prompt")


@pytest.mark.slow
def test_keys_in_the_plane_have_a_silhouette_before_during_and_after(
    reproduced: Callable[[str], tuple[Reproduction, Path]],
) -> None:
    results = {result["variant"]: result for result in reproduced("figure7")[0].results}
    assert list(results) == ["before", "during", "after"]
    assert [len(result["points"]) for result in results.values()] == [64] * 3
    assert [result["epochs"] for result in results.values()] == [20] * 3  # stages of one training
    silhouettes = [result["silhouette"] for result in results.values()]
    assert -1 < min(silhouettes) < max(silhouettes) < 1
    assert len(set(silhouettes)) == 3


@pytest.mark.slow
def test_a_row_says_what_learned_and_whether_it_collapsed(
    reproduced: Callable[[str], tuple[Reproduction, Path]],
) -> None:
    results = reproduced("table6")[0].results
    assert {result["outcome"] for result in of(results, variant="nothing")} == {"training-free"}
    learned = [result for result in results if result["variant"] != "nothing"]
    assert {result["outcome"] for result in learned} <= {"trained", "collapsed"}
    assert len({result["variant"] for result in results}) == 7


@pytest.mark.slow
def test_literature_stands_below_the_table(reproduced: Callable[[str], tuple[Reproduction, Path]]) -> None:
    assert "| DeiT-S | Full training | 79.90 | 22,100,000 | >1 day |" in reproduced("table7")[0].table


@pytest.mark.slow
def test_gains_stand_beside_the_chosen_alpha(reproduced: Callable[[str], tuple[Reproduction, Path]]) -> None:
    done, _ = reproduced("figure8")
    assert "| dataset | method | protocol | gain over zero-shot, points | alpha | beta |" in done.table
    for result in of(done.results, method="tip-adapter"):
        assert result["gain"] == result["accuracy"] - result["zero_shot_accuracy"]
        assert result["alpha"] > 0


# ---- protocols


@pytest.fixture(scope="module")
def by_every_protocol(shades: Path, tmp_path_factory: pytest.TempPathFactory) -> Reproduction:
    """One method, trained or not, by all six protocols, two draws."""
    words = {
        "datasets": "caltech101",
        "encoders": "toy",
        "seeds": "1,2",
        "shots": "1,4",
        "methods": "zero-shot,linear-probe,tip-adapter,tip-adapter-f",
        "protocols": ",".join(PROTOCOLS),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIP_ADAPTER_HOME", str(tmp_path_factory.mktemp("home")))
        return reproduce(
            parse_request("figure4", words), ImageProvider(shades), tmp_path_factory.mktemp("out"), say=lambda _: None
        )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::tip_adapter.errors.TipAdapterWarning")
def test_the_upper_bound_is_one(by_every_protocol: Reproduction) -> None:
    results = by_every_protocol.results
    bounds = of(results, protocol="oracle")
    assert len(bounds) == 3 * 2 * 2
    for bound in bounds:
        draw = {axis: bound[axis] for axis in ("method", "shots", "seed")}
        assert bound["accuracy"] >= max(result["accuracy"] for result in of(results, **draw))


@pytest.mark.slow
def test_the_upper_bound_is_marked_and_the_gap_to_it_is_a_column(by_every_protocol: Reproduction) -> None:
    table = by_every_protocol.table
    assert "oracle (upper bound)" in table
    assert "| oracle |" not in table
    assert "tuning gap" in table
    header, _, *lines = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")]
    rows = [dict(zip(header, line, strict=True)) for line in lines if len(line) == len(header)]
    gaps = {row["protocol"]: (row["tuning gap, 1 shot"], row["tuning gap, 4 shots"]) for row in rows}
    assert {protocol for protocol, gap in gaps.items() if gap != ("–", "–")} == {"leave-one-out", "scale-free"}
    assert (gaps["leave-one-out"][0], gaps["scale-free"][1]) == ("–", "–")


@pytest.mark.slow
def test_one_photo_a_class_teaches_no_keys_and_the_result_says_so(by_every_protocol: Reproduction) -> None:
    for result in of(by_every_protocol.results, method="tip-adapter-f", shots=1):
        assert result["protocol"] == "fixed" or any("nothing is learned" in note for note in result["notes"])


@pytest.mark.slow
def test_a_protocol_sees_what_it_may_and_names_itself(by_every_protocol: Reproduction) -> None:
    results = by_every_protocol.results
    assert {(r["shots"], r["protocol"]) for r in of(results, method="zero-shot")} == {(0, "fixed")}
    fixed = of(results, method="tip-adapter", protocol="fixed")
    assert {(result["alpha"], result["beta"]) for result in fixed} == {(1.0, 5.5)}
    assert not of(results, method="tip-adapter", protocol="leave-one-out", shots=1)  # it needs two photos of a class


@pytest.mark.slow
def test_draws_are_nested_and_seeded(by_every_protocol: Reproduction) -> None:
    drawn = {
        (r["seed"], r["shots"]): set(r["support_ids"]) for r in of(by_every_protocol.results, method="tip-adapter")
    }
    for seed in (1, 2):
        assert drawn[seed, 1] < drawn[seed, 4]
        assert len(drawn[seed, 4]) == 16
    assert drawn[1, 4] != drawn[2, 4]


@pytest.mark.slow
def test_keys_learn_for_as_many_epochs_as_the_public_code_gives_the_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lay_out: Callable[..., None]
) -> None:
    monkeypatch.setenv("TIP_ADAPTER_HOME", str(tmp_path / "home"))
    words = {"encoders": "toy", "seeds": "1", "shots": "2", "methods": "tip-adapter-f", "protocols": "fixed"}
    for name in ("eurosat", "dtd"):
        lay_out(tmp_path / "data", name, train=2, val=1, test=2)
    wanted = parse_request("figure5", {**words, "datasets": "eurosat,dtd"})
    done = reproduce(wanted, ImageProvider(tmp_path / "data"), tmp_path / "out", say=pytest.fail)
    assert {result["dataset"]: result["epochs"] for result in done.results} == {"eurosat": 100, "dtd": 20}


@pytest.mark.slow
def test_what_is_learned_on_imagenet_is_tested_on_its_shifts(
    make_dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIP_ADAPTER_HOME", str(tmp_path / "home"))
    targets = ("imagenet", "imagenet_v2", "imagenet_sketch")
    for name in targets:
        make_dataset(name)
    words = {
        "encoders": "toy",
        "seeds": "1",
        "shots": "2",
        "methods": "zero-shot,linear-probe,tip-adapter,tip-adapter-f",
    }
    done = reproduce(
        parse_request("table5", words), ImageProvider(make_dataset.root), tmp_path / "out", say=pytest.fail
    )
    assert done.n_encoded == 4 * 6  # what was learned from, and three test parts
    assert "| method | protocol | imagenet | imagenet_v2 | imagenet_sketch |" in done.table
    assert "(53.27; not comparable)" in done.table  # zero-shot on ImageNet-V2
    support = {target: [r["support_ids"] for r in of(done.results, target=target)] for target in targets}
    assert support["imagenet"] == support["imagenet_v2"] == support["imagenet_sketch"]
    assert {result["dataset"] for result in done.results} == {"imagenet"}


@pytest.mark.slow
def test_the_reference_explains_every_experiment_field_and_protocol(
    reproduced: Callable[[str], tuple[Reproduction, Path]],
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "experiments.md").read_text(encoding="utf-8")
    explained = set(re.findall(r"`([\w-]+)`", page)) | set(re.findall(r"`reproduce (\w+)`", page))
    fields = {
        field for name in ("table1", "table6", "figure7") for result in reproduced(name)[0].results for field in result
    }
    assert {*experiments(), *PROTOCOLS, *fields, "format"} - explained == set()
