"""`tip-adapter reproduce`: what can be reproduced, what a person may ask for, and what comes of it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tip_adapter.paper import measure
from tip_adapter.paper.results import key_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Ran

ELEVEN = [
    "table1",
    "figure4",
    "table3",
    "table4",
    "figure5",
    "figure6",
    "table5",
    "figure7",
    "table6",
    "figure8",
    "table7",
]


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("TIP_ADAPTER_DATA", raising=False)
    monkeypatch.setenv("TIP_ADAPTER_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """A file of vectors: three classes around their names' vectors, with a train, a val and a test part."""
    rng = np.random.default_rng(0)
    labels = np.tile(np.arange(3), 24)
    rows = np.eye(3, 8)[labels] + rng.normal(0, 0.3, (72, 8))
    write_vectors(tmp_path / "three.npz", rows, np.array(["cat", "dog", "owl"])[labels], ["train", "val", "test"])
    return tmp_path / "three.npz"


def write_vectors(path: Path, rows: np.ndarray, labels: np.ndarray, parts: list[str]) -> None:
    """A file of vectors, as many rows a part; the names' vectors point to other classes than their own."""
    classes = np.unique(labels)
    np.savez(
        path,
        ids=np.arange(len(rows)).astype(str),
        vectors=rows.astype(np.float32),
        labels=labels,
        part=np.repeat(parts, len(rows) // len(parts)),
        class_labels=classes,
        class_embeddings=np.roll(np.eye(len(classes), rows.shape[1]), 1, axis=0).astype(np.float32),
        logit_scale=30.0,
    )


def test_the_list_shows_all_eleven_and_the_other_name_of_figure_4(run: Callable[..., Ran]) -> None:
    ran = run("reproduce", "--list")
    assert (ran.status, ran.err) == (0, "")
    assert [line.split()[0] for line in ran.out.splitlines()[2:] if line[:1].strip()] == ELEVEN
    assert "figure4 (= table2)" in ran.out
    assert run("reproduce").out == ran.out


def test_the_list_as_json_holds_every_axis(run: Callable[..., Ran]) -> None:
    listed = json.loads(run("reproduce", "--list", "--json").out)
    assert [entry["name"] for entry in listed["experiments"]] == ELEVEN
    assert listed["aliases"] == {"table2": "figure4"}
    figure5 = listed["experiments"][ELEVEN.index("figure5")]
    assert len(figure5["datasets"]) == 11
    assert (figure5["shots"], figure5["seeds"], len(figure5["methods"])) == ([1, 2, 4, 8, 16], [1, 2, 3], 6)


@pytest.mark.slow
def test_stored_vectors_are_enough(run: Callable[..., Ran], stored: Path, somewhere: Path) -> None:
    asked = (
        "reproduce",
        "table2",
        "--vectors",
        stored,
        "--shots",
        "2",
        "--seeds",
        "1",
        "--methods",
        "zero-shot,tip-adapter",
    )
    ran = run(*asked)
    assert (ran.status, ran.err) == (0, "Measuring: 1 of 3\n")
    assert "| Tip-Adapter | full-validation |" in ran.out
    assert "3 results measured now, 0 images were encoded. Written to results/table2." in ran.out
    place = somewhere / "results" / "table2"
    assert {path.name for path in place.iterdir()} == {"results.jsonl", "table2.md", "table2.png"}
    assert (place / "table2.md").read_text().startswith("# table2: ImageNet by shots")
    again = json.loads(run(*asked, "--json").out)
    assert again["experiment"] == "table2"
    assert {result["experiment"] for result in again["results"]} == {"figure4"}  # one name in every file of results
    other_name = json.loads(run("reproduce", "figure4", *asked[2:], "--out", place, "--json", "--quiet").out)
    assert other_name["results"] == again["results"]
    assert [result["method"] for result in again["results"]] == ["zero-shot", "tip-adapter", "tip-adapter"]
    assert {result["dataset"] for result in again["results"]} == {"three"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("tabel1",), "unknown experiment 'tabel1': did you mean table1?"),
        (("table1",), "no data: give --data-root DIR (or set TIP_ADAPTER_DATA), or --vectors FILE"),
        (("table1", "--data-root", ".", "--shots", "0"), "--shots takes whole numbers from 1 to 10000"),
        (("table1", "--data-root", ".", "--shots", ",,"), "--shots takes values separated by commas, not ',,'"),
        (("table1", "--data-root", ".", "--shots", "1,1e3"), "--shots takes whole numbers from 1 to 10000"),
        (("table1", "--data-root", ".", "--seeds", "-1"), "--seeds takes whole numbers from 0 to 4294967295"),
        (("table1", "--data-root", ".", "--methods", "knn"), "unknown method 'knn'"),
        (("table1", "--data-root", ".", "--protocol", "best"), "unknown protocol 'best'"),
        (("table1", "--data-root", ".", "--datasets", "mnist"), "unknown data set 'mnist'"),
        (("figure8", "--data-root", ".", "--methods", "coop"), "figure8 has none of the methods coop"),
        (
            ("figure8", "--data-root", ".", "--methods", "tip-adapter,coop,clip-adapter"),
            "figure8 has none of the methods coop, clip-adapter; it has zero-shot, tip-adapter, and takes those that",
        ),
        (
            ("table4", "--data-root", ".", "--methods", "tip-adapter,coop"),
            "table4 has none of the methods coop; it has",
        ),
        (("table1", "--data-root", ".", "--published", "some"), "some"),
    ],
)
def test_what_makes_no_sense_is_said_in_a_sentence(
    run: Callable[..., Ran], words: tuple[str, ...], message: str
) -> None:
    ran = run("reproduce", *words)
    assert (ran.status, ran.out) == (2, "")
    assert message in ran.err
    assert not Path("results").exists()


def test_what_is_missing_is_a_note_and_nothing_at_all_is_an_error(run: Callable[..., Ran], somewhere: Path) -> None:
    (somewhere / "data").mkdir()
    ran = run("reproduce", "table1", "--data-root", "data", "--encoder", "toy")
    assert ran.status == 2
    assert ran.err.count("ImageNet is not whole below data: no imagenet; its photos:") == 1
    assert "nothing of table1 could be measured; the notes above say what is missing" in ran.err


def test_with_quiet_the_error_alone_says_what_is_missing(run: Callable[..., Ran], somewhere: Path) -> None:
    (somewhere / "data").mkdir()
    ran = run("reproduce", "table1", "--data-root", "data", "--encoder", "toy", "--quiet")
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith("error: nothing of table1 could be measured; ImageNet is not whole below data")
    assert ran.err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("quiet", [[], ["--quiet"]])
def test_a_part_that_is_missing_is_said_and_listed_in_the_json(
    run: Callable[..., Ran], stored: Path, quiet: list[str]
) -> None:
    methods = ("--methods", "zero-shot,coop", "--shots", "1", "--seeds", "1")
    ran = run("reproduce", "figure4", "--vectors", stored, *methods, "--json", *quiet)
    answer = json.loads(ran.out)
    assert [result["method"] for result in answer["results"]] == ["zero-shot"]
    assert len(answer["missing"]) == 1
    assert "coop needs a prompt tower" in answer["missing"][0]
    assert ran.err == ("" if quiet else f"Measuring: 1 of 2\nnote: {answer['missing'][0]}\n")


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_measured_and_says_how_to_go_on(
    run: Callable[..., Ran], stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("reproduce", "figure4", "--vectors", stored, "--methods", "zero-shot,tip-adapter", "--seeds", "1")
    original, left = measure.measure, iter([True] * 3)

    def interrupted(*args: Any) -> Any:
        if not next(left, False):
            raise KeyboardInterrupt
        return original(*args)

    with monkeypatch.context() as patch:
        patch.setattr(measure, "measure", interrupted)
        ran = run(*asked)
    assert (ran.status, ran.out) == (130, "")
    stopped = "stopped; finished results are in results/figure4, run the same command again to resume"
    assert ran.err.splitlines()[-1] == stopped
    assert len(Path("results/figure4/results.jsonl").read_text().splitlines()) == 3
    assert " results measured now" in run(*asked).out
    keys = [key_of(json.loads(line)) for line in Path("results/figure4/results.jsonl").read_text().splitlines()]
    assert len(keys) == len(set(keys)) > 3


def test_options_that_stored_vectors_answer_are_a_note(run: Callable[..., Ran], stored: Path) -> None:
    ran = run("reproduce", "figure4", "--vectors", stored, "--encoder", "clip", "--methods", "zero-shot")
    assert ran.status == 0
    assert "note: --vectors determines the data set and the encoder; --encoder and --datasets are ignored" in ran.err


def test_shots_that_a_file_does_not_have_are_left_out_and_one_draw_is_measured_once(
    run: Callable[..., Ran], stored: Path
) -> None:
    """The file has eight photos a class to learn from: 16 shots are not there, and of 8 there is one draw."""
    asked = ("reproduce", "table2", "--vectors", stored, "--methods", "tip-adapter", "--protocol", "fixed")
    ran = run(*asked, "--shots", "2,8,16,32", "--seeds", "1,2,3", "--json")
    answer = json.loads(ran.out)
    drawn = [(result["shots"], result["seed"]) for result in answer["results"]]
    assert drawn == [(2, 1), (2, 2), (2, 3), (8, 1)]
    assert answer["missing"] == [
        "three: other seeds draw the same photos at 8 shots a class; they are measured once, without an interval",
        "three has at most 8 photos of a class to learn from; 16 shots are left out",
        "three has at most 8 photos of a class to learn from; 32 shots are left out",
    ]
    table = Path("results/table2/table2.md").read_text()
    assert "| 2 shots | 8 shots |" in table
    assert re.search(r"\| Tip-Adapter \| [\d.]+ ± [^|]+ \| [\d.]+ [^|±]*\|", table)
    again = json.loads(run(*asked, "--shots", "2,8,16,32", "--seeds", "1,2,3", "--json").out)["results"]
    assert list(map(key_of, again)) == list(map(key_of, answer["results"]))
    nothing = run("reproduce", "table2", "--vectors", stored, "--methods", "tip-adapter", "--shots", "9", "--out", "x")
    assert nothing.status == 2
    assert "three has at most 8 photos of a class to learn from; 9 shots are left out" in nothing.err


def test_results_of_an_earlier_version_that_repeat_a_draw_are_not_averaged_over(
    run: Callable[..., Ran], stored: Path
) -> None:
    asked = ("reproduce", "table2", "--vectors", stored, "--methods", "tip-adapter", "--protocol", "fixed", "--json")
    run(*asked, "--shots", "8", "--seeds", "1")
    lines = Path("results/table2/results.jsonl")
    first = lines.read_text()
    lines.write_text(first + first.replace('"seed": 1,', '"seed": 2,') + first.replace('"shots": 8,', '"shots": 16,'))
    results = json.loads(run(*asked, "--shots", "8,16", "--seeds", "1,2").out)["results"]
    assert [(result["shots"], result["seed"]) for result in results] == [(8, 1)]


@pytest.fixture
def plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package that offers the method `nearest`."""
    record = tmp_path / "orchard-1.0.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: orchard\nVersion: 1.0\n")
    (record / "entry_points.txt").write_text("[tip_adapter.methods]\nnearest = tip_adapter:TipAdapterClassifier\n")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("plug_in")
def test_a_method_of_another_package_is_measured_where_methods_are_compared(
    run: Callable[..., Ran], stored: Path
) -> None:
    asked = ("--vectors", stored, "--shots", "2", "--seeds", "1", "--protocol", "fixed", "--methods")
    ran = run("reproduce", "figure8", *asked, "zero-shot,nearest,tip-adapter", "--json")
    accuracy = {result["method"]: result["accuracy"] for result in json.loads(ran.out)["results"]}
    assert accuracy.keys() == {"zero-shot", "nearest", "tip-adapter"}
    assert accuracy["nearest"] == accuracy["tip-adapter"]
    assert "| nearest |" in Path("results/figure8/figure8.md").read_text()
    refused = run("reproduce", "table4", *asked, "nearest")
    assert refused.status == 2
    assert "table4 has none of the methods nearest; it has tip-adapter, tip-adapter-f\n" in refused.err


@pytest.mark.slow
def test_without_a_validation_part_the_upper_bound_stands_in_marked(run: Callable[..., Ran], somewhere: Path) -> None:
    rows = np.tile(np.eye(2, 4), (8, 1)) + np.random.default_rng(0).normal(0, 0.1, (16, 4))
    write_vectors(somewhere / "two.npz", rows, np.array(["cat", "dog"] * 8), ["train", "test"])
    ran = run("reproduce", "figure8", "--vectors", "two.npz", "--shots", "2", "--seeds", "1")
    assert ran.status == 0
    assert "| Tip-Adapter | oracle (upper bound) |" in ran.out
    assert "| Tip-Adapter | leave-one-out |" in ran.out


def test_a_file_without_test_photos_is_said(run: Callable[..., Ran], somewhere: Path) -> None:
    write_vectors(somewhere / "train.npz", np.eye(2, 4), np.array(["cat", "dog"]), ["train"])
    ran = run("reproduce", "figure4", "--vectors", "train.npz")
    assert ran.status == 2
    assert "train.npz has no part test; it has to say which vectors are for training and which for the test" in ran.err


def test_what_to_fine_tune_needs_photos(run: Callable[..., Ran], stored: Path) -> None:
    ran = run("reproduce", "table6", "--vectors", stored, "--shots", "2", "--seeds", "1", "--protocol", "fixed")
    assert ran.status == 2
    assert "what to fine-tune (table6) needs photos, not vectors; give --data-root instead of --vectors" in ran.err
