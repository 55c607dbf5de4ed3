"""What the program says: one line for each mistake, options as typed, examples in each help, tables that fit."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import typer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from tip_adapter.cli import COMMANDS, app
from tip_adapter.cli._output import print_table

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Ran

#: How typer, click and pydantic begin or end what they say.
LIBRARIES = re.compile(r"Usage:|Error:|Invalid value|Input should|No such|Got unexpected|Missing|Traceback|requires an")


# ---- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("fti", "unknown command 'fti': did you mean fit? known are add, check, "),
        ("Predict", "unknown command 'Predict': did you mean predict? "),
        ("frobnicate", "unknown command 'frobnicate': known are "),
        ("fit", "missing TRAIN_DIR; for example: tip-adapter fit photos --out model"),
        ("fit TRAIN", "missing --out MODEL_DIR; for example: tip-adapter fit photos --out model"),
        ("fit TRAIN --out", "--out needs a value, MODEL_DIR; see `tip-adapter fit --help`"),
        ("fit TRAIN -o", "-o needs a value, MODEL_DIR; see `tip-adapter fit --help`"),
        ("fit TRAIN --ouut m", "unknown option --ouut: did you mean --out? see `tip-adapter fit --help`"),
        ("fit TRAIN -x", "unknown option -x: see `tip-adapter fit --help`"),
        ("--ouut fit", "unknown option --ouut: see `tip-adapter --help`"),
        ("fit TRAIN --force=3 --out m", "--force takes no value; see `tip-adapter fit --help`"),
        ("fit TRAIN more --out m", "tip-adapter fit takes no further argument, found 'more'; see "),
        ("doctor now", "tip-adapter doctor takes no further argument, found 'now'; see "),
        ("fit TRAIN --out m --shots x", "--shots takes a whole number of at least 1, not 'x'"),
        ("fit TRAIN --out m -k 0", "--shots takes a whole number of at least 1, not 0"),
        ("fit TRAIN --out m --seed -1", "--seed takes a whole number from 0 to "),
        ("fit TRAIN --out m --epochs 1.5", "--epochs takes a whole number of at least 0, not '1.5'"),
        ("fit TRAIN --out m --alpha x --beta 1", "--alpha takes a number, not 'x'"),
        ("fit TRAIN --out m --alpha 2", "--alpha needs --beta; give both, or neither"),
        ("fit TRAIN --out m --beta 2", "--beta needs --alpha; give both, or neither"),
        (
            "fit TRAIN --out m --alpha 2 --beta 1 --tune loo",
            "--tune chooses --alpha and --beta; leave out --tune, or --alpha and --beta",
        ),
        ("fit TRAIN --out m --alpha 1e9 --beta 1", "--alpha takes a number from 0 to 1,000,000, not 1000000000.0"),
        ("fit TRAIN --out m --alpha 1 --beta 0", "--beta takes a number above 0, to 1,000,000, not 0.0"),
        ("fit TRAIN --out m --logit-scale -1", "--logit-scale takes a number above 0, to 10,000, not -1.0"),
        ("fit TRAIN --out m --epochs 3", "text-offset takes no --epochs; leave out --epochs"),
        (
            "fit TRAIN --out m --method zero-shot --tune loo",
            "zero-shot has no alpha and beta to choose; leave out --tune",
        ),
        ("fit TRAIN --out m --tune tune", "--tune 'tune': it is not loo, leave-one-out or scale-free, nor a folder"),
        ("fit TRAIN --out m --tune leave-one", "--tune 'leave-one': did you mean leave-one-out? it is not "),
        ("fit TRAIN --out m --method tip-adaptr", "unknown method 'tip-adaptr': did you mean tip-adapter? "),
        ("fit TRAIN --out m --encoder pockt", "unknown encoder 'pockt': did you mean pocket? "),
        ("export MODEL", "missing --onnx FILE; for example: tip-adapter export model --onnx model.onnx"),
        ("export MODEL --onnx m --input pixel", "--input takes vectors or pixels, not 'pixel'; did you mean pixels?"),
        ("predict", "missing MODEL_DIR; for example: tip-adapter predict model holiday.jpg"),
        ("predict MODEL", "missing IMAGE_OR_DIR; for example: "),
        ("predict MODEL TRAIN --top abc", "--top takes a whole number of at least 1, not 'abc'"),
        ("predict MODEL TRAIN --min-score 3", "--min-score takes a number from 0 to 1, or auto, not '3'"),
        ("evaluate MODEL TRAIN --min-score nan", "--min-score takes a number from 0 to 1, or auto, not 'nan'"),
        ("remove MODEL --class rad", "the model has no class 'rad'; did you mean red? "),
        ("info MODEL --threads 257", "--threads takes a whole number from 1 to 256, not 257"),
        ("datasets chek", "ACTION takes check, not 'chek'; did you mean check?"),
        ("datasets check caltech", "unknown data set 'caltech': did you mean caltech101? "),
        ("reproduce tabel2", "unknown experiment 'tabel2': did you mean table"),
        ("extract TRAIN --out f --views -1", "--views takes a whole number of at least 0, not -1"),
        ("fit '' --out m", "an argument is empty, ''; is a variable of the shell not set?"),
        ("fit TRAIN --out ''", "an argument is empty, ''; "),
        ("fit https://x.org/photos --out m", "https://x.org/photos is a URL; download it, and give the path "),
        ("predict MODEL HTTP://x.org/a.jpg", "HTTP://x.org/a.jpg is a URL; download it, "),
        ("demo TRAIN --shots 0", "--shots takes a whole number of at least 1, not 0"),
    ],
)
def test_a_mistake_is_answered_in_one_line_of_the_programs_own_words(
    run: Callable[..., Ran], model: Path, train: Path, tmp_path: Path, monkeypatch: Any, line: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    places = {"TRAIN": train, "MODEL": model}
    ran = run(*(places.get(word, word) for word in shlex.split(line)))
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith(f"error: {said}")
    assert ran.err.count("\n") == 1
    assert not LIBRARIES.search(ran.err)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("words", [["--frobnicate"], ["--quiet=1"], ["--threads"], ["--threads", "many"], ["-z"]])
def test_no_command_answers_in_a_librarys_words(run: Callable[..., Ran], command: str, words: list[str]) -> None:
    ran = run(command, *words)
    assert (ran.status, ran.out) == (2, "")
    assert re.fullmatch(r"error: [^\n]+\n", ran.err)
    assert not LIBRARIES.search(ran.err)


@pytest.mark.parametrize("name", ["force", "alpha", "tune"])
def test_a_quoted_value_or_a_path_is_not_taken_for_an_option(
    run: Callable[..., Ran], train: Path, tmp_path: Path, monkeypatch: Any, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    (tmp_path / name / "file").touch()
    ran = run("fit", train, "--out", name, "--encoder", "toy")
    assert ran.err == f"error: {name} exists; choose another place or pass --force to replace it\n"


def test_a_model_that_does_not_exist_is_not_one_without_a_file(run: Callable[..., Ran], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "there is no such folder; `tip-adapter fit` makes one" in run("info", tmp_path / "nothing").err
    assert "it has no config.json; `tip-adapter fit` makes one" in run("info", tmp_path / "empty").err


@pytest.mark.parametrize("rule", ["loo", "leave-one-out"])
def test_tune_takes_the_long_name_and_the_short_one(
    run: Callable[..., Ran], train: Path, tmp_path: Path, rule: str
) -> None:
    assert run("fit", train, "-o", tmp_path / "model", "-e", "toy", "--tune", rule).status == 0
    assert json.loads(run("info", tmp_path / "model", "--json").out)["protocol"] == "leave-one-out"


# ---- help ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_h_is_help_and_fits_80_columns(run: Callable[..., Ran], monkeypatch: Any, command: list[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    short = run(*command, "-h")
    assert short == run(*command, "--help")
    assert max(map(len, short.out.splitlines())) <= 80


@pytest.mark.parametrize("name", COMMANDS)
def test_each_help_ends_with_two_examples_that_the_command_accepts(run: Callable[..., Ran], name: str) -> None:
    examples = run(name, "--help").out.partition("\nExamples:\n")[2].split("\n")
    lines = [line.strip() for line in examples if line]
    assert len(lines) == 2
    for line in lines:
        program, command, *arguments = shlex.split(line)
        assert (program, command) == ("tip-adapter", name)
        table = typer.main.get_command(app)
        with table.make_context("tip-adapter", [name], resilient_parsing=True) as context:
            table.get_command(context, name).make_context(name, arguments)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("tip-adapter fit --method tip", {"tip-adapter", "tip-adapter-f"}),
        ("tip-adapter fit --tune l", {"loo", "leave-one-out"}),
        ("tip-adapter fit --encoder po", {"pocket"}),
        ("tip-adapter reproduce --protocol few", {"few-validation"}),
        ("tip-adapter reproduce --protocol fixed,or", {"fixed,oracle"}),
        ("tip-adapter reproduce table", {f"table{n}" for n in range(1, 8)}),
        ("tip-adapter datasets check cal", {"caltech101"}),
    ],
)
def test_completion_knows_names(
    capsys: pytest.CaptureFixture[str], monkeypatch: Any, words: str, expected: set[str]
) -> None:
    monkeypatch.setenv("_TIP_ADAPTER_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(words.count(" ")))
    with pytest.raises(SystemExit):
        app(prog_name="tip-adapter")
    assert set(capsys.readouterr().out.split()) == expected


# ---- tables ----------------------------------------------------------------------------------------------------------

CELLS = st.text(st.sampled_from("abcdefgh 猫狗犬あé-"), max_size=120).map(str.strip)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(CELLS, CELLS, st.integers(0, 10**6), st.floats(0, 1)), min_size=1, max_size=8))
def test_a_table_fits_80_columns_loses_nothing_and_aligns_numbers_right(
    capsys: pytest.CaptureFixture[str], rows: list[tuple[str, str, int, float]]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "80")
        capsys.readouterr()
        shown = [[first, second, f"{n:,}", f"{100 * share:.1f} %"] for first, second, n, share in rows]
        print_table(["class", "called", "images", "accuracy"], shown)
    out = capsys.readouterr().out
    lines = out.rstrip("\n").split("\n")
    assert max(map(cell_len, lines)) <= 80
    assert not any(line != line.rstrip() for line in lines)
    printed, expected = ("".join(sorted(text)).replace(" ", "") for text in (out, "".join(map("".join, shown))))
    counts = {character: printed.count(character) for character in set(expected)}
    assert all(counts[character] >= expected.count(character) for character in counts)
    ends = {cell_len(line) for line in lines if line.endswith("%")}
    assert ends == {cell_len(lines[0])}, "the last column is one of numbers, which end below its name"


def test_classes_named_by_numbers_are_names(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["class", "images"], [["1", "5"], ["10", "–"]])
    assert capsys.readouterr().out.splitlines()[2:4] == ["1            5", "10           –"]


# ---- what commands print ---------------------------------------------------------------------------------------------


def test_runners_up_without_a_chance_are_left_out(
    run: Callable[..., Ran], train: Path, unseen: Path, tmp_path: Path
) -> None:
    fixed = ("--alpha", "1000", "--beta", "50", "--no-calibrate")
    run("fit", train, "--out", tmp_path / "model", "--encoder", "toy", *fixed)
    lines = run("predict", tmp_path / "model", unseen / "red").out.splitlines()
    assert len(lines) == 3
    assert all(line.endswith(": red 100.0 %") for line in lines)


def test_sorting_ends_with_a_table_by_class(run: Callable[..., Ran], model: Path, unseen: Path, tmp_path: Path) -> None:
    shutil.rmtree(unseen / "green")
    ran = run("predict", model, unseen, "--sort-into", tmp_path / "sorted")
    assert [line.split() for line in ran.out.splitlines()[-4:-1] if "─" not in line] == [["blue", "3"], ["red", "3"]]
    ran = run("predict", model, unseen, "--sort-into", tmp_path / "none", "--min-score", "1", "--top", "1")
    assert ["_none_of_these", "6"] in [line.split() for line in ran.out.splitlines()]
    for machine in ("--json", "--csv"):
        assert "sorted into" not in run("predict", model, unseen, machine, "--sort-into", tmp_path / "sorted").out


# ---- evaluate --------------------------------------------------------------------------------------------------------


@pytest.fixture
def mixed(unseen: Path) -> Path:
    """Test photos with a blue one labelled red, an unreadable one, and one of a class that the model does not have."""
    shutil.move(unseen / "blue" / "100.png", unseen / "red" / "blue.png")
    (unseen / "green" / "100.png").write_bytes(b"")
    (unseen / "yellow").mkdir()
    shutil.copy(unseen / "green" / "101.png", unseen / "yellow" / "1.png")
    return unseen


def test_json_has_the_confusions(run: Callable[..., Ran], model: Path, mixed: Path) -> None:
    record = json.loads(run("evaluate", model, mixed, "--json").out)
    assert record["confusions"] == [
        {"label": "red", "called": "blue", "n": 1},
        {"label": "yellow", "called": "green", "n": 1},
    ]
    assert "none_of_these" not in record


def test_predictions_have_a_row_for_each_photo_as_predict_answers(
    run: Callable[..., Ran], model: Path, mixed: Path, tmp_path: Path
) -> None:
    file = tmp_path / "answers.csv"
    assert run("evaluate", model, mixed, "--predictions", file).status == 0
    with file.open(encoding="utf-8", newline="") as text:
        rows = {row["image"]: row for row in csv.DictReader(text)}
    assert len(rows) == 10
    assert rows["green/100.png"] == {"image": "green/100.png", "label": "green", "predicted": "", "score": ""}
    for line in run("predict", model, mixed, "--json").out.splitlines():
        answer = json.loads(line)
        row = rows["/".join(answer["image"].split("/")[-2:])]
        assert row["label"] == row["image"].split("/")[0]
        assert row["predicted"] == (answer["label"] or "")
        if answer["label"]:
            assert float(row["score"]) == pytest.approx(answer["score"], abs=1e-5)


def test_predictions_replace_a_file_only_by_force(
    run: Callable[..., Ran], model: Path, unseen: Path, tmp_path: Path
) -> None:
    file = tmp_path / "answers.csv"
    file.write_text("mine")
    ran = run("evaluate", model, unseen, "--predictions", file)
    assert (ran.status, file.read_text()) == (1, "mine")
    assert "pass --force" in ran.err
    assert run("evaluate", model, unseen, "--predictions", file, "--force").status == 0
    assert file.read_text().startswith("image,label,predicted,score\n")
    assert "--report and --predictions" in run("evaluate", model, unseen, "--force").err


def test_a_least_score_says_what_is_rejected_and_how_good_the_rest_is(
    run: Callable[..., Ran], model: Path, mixed: Path, tmp_path: Path
) -> None:
    file = tmp_path / "answers.csv"
    options = ("--min-score", "0.9", "--predictions", file, "--force", "--json")
    record = json.loads(run("evaluate", model, mixed, *options).out)
    with file.open(encoding="utf-8", newline="") as text:
        rows = [row for row in csv.DictReader(text) if row["score"]]
    answered = [row for row in rows if row["predicted"]]
    assert all((float(row["score"]) >= 0.9) == bool(row["predicted"]) for row in rows)
    right = sum(row["label"] == row["predicted"] for row in answered)
    assert record["none_of_these"] == {
        "min_score": 0.9,
        "n": len(rows) - len(answered),
        "n_of_unknown_classes": sum(row["label"] == "yellow" and not row["predicted"] for row in rows),
        "n_answered": len(answered),
        "accuracy_of_answered": right / len(answered) if answered else None,
    }
    assert record["accuracy"] == pytest.approx(7 / 9), "the other figures are those without a least score"
    words = run("evaluate", model, mixed, "--min-score", "1").out
    assert "Below a score of 1, 9 images are “none of these”, 1 of them of a class unknown to the model; " in words


def test_a_least_score_may_be_the_models_own(run: Callable[..., Ran], model: Path, unseen: Path) -> None:
    threshold = json.loads(run("info", model, "--json").out)["threshold"]
    record = json.loads(run("evaluate", model, unseen, "--min-score", "auto", "--json").out)
    assert record["none_of_these"]["min_score"] == threshold
