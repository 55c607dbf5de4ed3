"""`tip-adapter evaluate`: its record, its words, and test photos that are not as they should be."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from tip_adapter import FewShotClassifier

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Ran

KEYS = {
    "accuracy": float,
    "mean_per_class_accuracy": float,
    "accuracy_interval": list,
    "zero_shot_accuracy": float,
    "n_images": int,
    "n_failed": int,
    "unknown_classes": list,
    "per_class": dict,
    "confusions": list,
    "calibration": dict,
    "protocol": str,
    "alpha": float,
    "beta": float,
    "seconds": float,
    "images_per_second": float,
}


@pytest.fixture
def evaluate(run: Callable[..., Ran], model: Path) -> Callable[..., dict[str, Any]]:
    """evaluate(photos, *options) → the one object that `--json` prints."""

    def call(photos: object, *options: object) -> dict[str, Any]:
        ran = run("evaluate", model, photos, "--json", *options)
        assert ran.status == 0
        assert len(ran.out.splitlines()) == 1
        return json.loads(ran.out)

    return call


def untimed(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in ("seconds", "images_per_second")}


def test_json_is_one_object_with_exactly_the_binding_keys(evaluate: Callable[..., Any], unseen: Path) -> None:
    record = evaluate(unseen)
    assert {key: type(value) for key, value in record.items()} == KEYS
    low, high = record["accuracy_interval"]
    assert 0 <= low <= record["accuracy"] <= high <= 1
    assert record["per_class"] == {label: {"accuracy": 1.0, "n": 3} for label in ("blue", "green", "red")}
    assert (record["n_images"], record["n_failed"], record["unknown_classes"]) == (9, 0, [])
    assert record["images_per_second"] == pytest.approx(9 / record["seconds"])


def test_json_is_the_record_of_the_library(evaluate: Callable[..., Any], model: Path, unseen: Path) -> None:
    expected = FewShotClassifier.load(model).evaluate_folder(unseen)
    assert untimed(evaluate(unseen)) == untimed(expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "protocol"),
    [
        (["--tune", "loo"], "leave-one-out"),
        (["--tune", "scale-free"], "scale-free"),
        (["--tune", "VAL"], "validation"),
        (["--alpha", "2", "--beta", "3.5"], "fixed"),
        (["--method", "tip-adapter-f"], "leave-one-out"),
    ],
)
def test_the_record_says_how_the_pair_was_chosen(
    run: Callable[..., Ran], train: Path, unseen: Path, tmp_path: Path, options: list[str], protocol: str
) -> None:
    options = [str(unseen) if option == "VAL" else option for option in options]
    assert run("fit", train, "--out", tmp_path / "model", "--encoder", "toy", *options).status == 0
    record = json.loads(run("evaluate", tmp_path / "model", unseen, "--json").out)
    assert record["protocol"] == protocol
    assert {type(record["alpha"]), type(record["beta"])} == {float}
    if protocol == "fixed":
        assert (record["alpha"], record["beta"]) == (2, 3.5)


def test_the_record_says_how_far_scores_can_be_trusted(evaluate: Callable[..., Any], unseen: Path) -> None:
    shutil.move(unseen / "blue" / "100.png", unseen / "red" / "blue.png")
    calibration = evaluate(unseen)["calibration"]
    assert set(calibration) == {"temperature", "n_known", "before", "after"}
    assert calibration["n_known"] == 9
    for figures in (calibration["before"], calibration["after"]):
        assert set(figures) == {"ece", "negative_log_likelihood", "curve"}
        assert sum(entry["n"] for entry in figures["curve"]) == 9
    assert calibration["before"] != calibration["after"]


def test_people_get_a_line_on_calibration(
    run: Callable[..., Ran], model: Path, train: Path, unseen: Path, tmp_path: Path
) -> None:
    assert "; without the temperature: ECE" in run("evaluate", model, unseen).out
    run("fit", train, "--out", tmp_path / "model", "--encoder", "toy", "--no-calibrate")
    assert "no temperature was fitted" in run("evaluate", tmp_path / "model", unseen).out


def test_photos_of_unknown_classes_have_no_likelihood_and_count_as_wrong_in_the_bins(
    evaluate: Callable[..., Any], make_photos: Callable[..., Path]
) -> None:
    calibration = evaluate(make_photos("test", 50, red=3, yellow=1))["calibration"]
    assert calibration["n_known"] == 3
    assert sum(entry["n"] for entry in calibration["after"]["curve"]) == 4
    assert sum(entry["n"] * entry["accuracy"] for entry in calibration["after"]["curve"]) == pytest.approx(3)


def test_where_no_photo_of_a_known_class_can_be_read_the_likelihood_is_unknown(
    run: Callable[..., Ran], model: Path, make_photos: Callable[..., Path]
) -> None:
    photos = make_photos("test", 50, red=1, yellow=1)
    (photos / "red" / "50.png").write_bytes(b"")
    ran = run("evaluate", model, photos)
    assert ran.status == 0
    assert "negative log-likelihood unknown" in ran.out


def test_zero_shot_has_no_protocol_and_no_pair(
    run: Callable[..., Ran], train: Path, unseen: Path, tmp_path: Path
) -> None:
    run("fit", train, "--out", tmp_path / "model", "--encoder", "toy", "--method", "zero-shot")
    record = json.loads(run("evaluate", tmp_path / "model", unseen, "--json").out)
    assert set(record) == set(KEYS)
    assert (record["protocol"], record["alpha"], record["beta"]) == (None, None, None)
    assert record["accuracy"] == record["zero_shot_accuracy"]


def test_people_get_a_table_hardest_class_first_and_the_interval(
    run: Callable[..., Ran], model: Path, unseen: Path
) -> None:
    shutil.move(unseen / "blue" / "100.png", unseen / "red" / "blue.png")
    ran = run("evaluate", model, unseen)
    assert (ran.status, ran.err) == (0, "")
    rows = [line.split() for line in ran.out.splitlines() if re.search(r"%\s+\d+\s*$", line)]
    assert [(row[0], row[-1]) for row in rows] == [("red", "4"), ("blue", "2"), ("green", "3")]
    assert "Accuracy: 88.9 % (9 images; 95 % interval" in ran.out
    assert "Zero-shot (class names only):" in ran.out


def test_a_class_that_the_model_does_not_know_counts_as_wrong_and_is_listed(
    run: Callable[..., Ran], model: Path, evaluate: Callable[..., Any], make_photos: Callable[..., Path]
) -> None:
    photos = make_photos("test", 50, red=3, yellow=1)
    record = evaluate(photos)
    assert record["unknown_classes"] == ["yellow"]
    assert record["per_class"]["yellow"] == {"accuracy": 0, "n": 1}
    assert (record["accuracy"], record["n_images"]) == (0.75, 4)
    assert "unknown to the model, counted as wrong: yellow" in run("evaluate", model, photos).out


def test_no_class_that_the_model_knows_is_a_failure(
    run: Callable[..., Ran], model: Path, make_photos: Callable[..., Path]
) -> None:
    ran = run("evaluate", model, make_photos("test", yellow=2), "--json")
    assert (ran.status, ran.out) == (1, "")
    assert "yellow" in ran.err


def test_unreadable_photos_are_counted_apart(
    run: Callable[..., Ran], model: Path, evaluate: Callable[..., Any], unseen: Path
) -> None:
    (unseen / "red" / "100.png").write_bytes(b"")
    (unseen / "blue" / "100.png").write_text("no photo")
    record = evaluate(unseen)
    assert (record["n_images"], record["n_failed"], record["accuracy"]) == (7, 2, 1.0)
    assert record["per_class"]["red"]["n"] == 2
    ran = run("evaluate", model, unseen)
    assert ran.status == 0
    assert "left out 2 of 9 images" in ran.err
    assert "Not counted: 2 unreadable images" in ran.out


def test_a_class_of_unreadable_photos_has_no_accuracy(evaluate: Callable[..., Any], unseen: Path) -> None:
    for photo in (unseen / "red").iterdir():
        photo.write_bytes(b"")
    assert list(evaluate(unseen)["per_class"]) == ["blue", "green"]


def test_nothing_readable_is_a_failure(run: Callable[..., Ran], model: Path, unseen: Path) -> None:
    for photo in unseen.rglob("*.png"):
        photo.write_bytes(b"")
    ran = run("evaluate", model, unseen, "--json")
    assert (ran.status, ran.out) == (1, "")
    assert "none of 9 photos" in ran.err


@pytest.mark.parametrize("content", ["nothing", "empty", "empty classes"])
def test_a_place_without_photos_is_a_failure(
    run: Callable[..., Ran], model: Path, tmp_path: Path, content: str
) -> None:
    if content != "nothing":
        (tmp_path / "test").mkdir()
    if content == "empty classes":
        (tmp_path / "test" / "red").mkdir()
    ran = run("evaluate", model, tmp_path / "test", "--json")
    assert (ran.status, ran.out) == (1, "")
    assert ran.err.splitlines()[-1].startswith("error: ")


def test_a_split_folder_gives_its_test_part_and_says_so(
    run: Callable[..., Ran], model: Path, make_photos: Callable[..., Path]
) -> None:
    make_photos("split/train", red=5, green=5)
    split = make_photos("split/test", 50, red=2, green=1).parent
    ran = run("evaluate", model, split, "--json")
    assert json.loads(ran.out)["n_images"] == 3
    assert "is split: reading test" in ran.err


def test_a_split_folder_without_a_test_part_is_a_failure(
    run: Callable[..., Ran], model: Path, make_photos: Callable[..., Path]
) -> None:
    make_photos("split/train", red=1)
    ran = run("evaluate", model, make_photos("split/val", 50, red=1).parent)
    assert ran.status == 1
    assert "no test folder" in ran.err


def test_a_list_scores_as_its_folder_does(evaluate: Callable[..., Any], unseen: Path) -> None:
    rows = [(str(path.relative_to(unseen)), path.parent.name) for path in sorted(unseen.rglob("*.png"))]
    (unseen / "list.csv").write_text("file_name,label\n" + "".join(f"{name},{label}\n" for name, label in rows))
    lines = (json.dumps({"file_name": name, "label": label}) for name, label in rows)
    (unseen / "list.jsonl").write_text("\n".join(lines))
    expected = untimed(evaluate(unseen))
    assert untimed(evaluate(unseen / "list.csv")) == expected
    assert untimed(evaluate(unseen / "list.jsonl")) == expected


def test_quiet_hides_notes_before_and_after_the_command(run: Callable[..., Ran], model: Path, unseen: Path) -> None:
    (unseen / "red" / "100.png").write_bytes(b"")
    assert run("evaluate", model, unseen, "--json").err != ""
    assert run("evaluate", model, unseen, "--json", "--quiet").err == ""
    assert run("--quiet", "evaluate", model, unseen, "--json").err == ""


def test_threads_do_not_change_the_record(evaluate: Callable[..., Any], unseen: Path) -> None:
    assert untimed(evaluate(unseen, "--threads", "1")) == untimed(evaluate(unseen, "--threads", "3"))


def test_fault_84_predictions_that_another_program_wrote_meanwhile_are_not_replaced(
    run: Callable[..., Ran], model: Path, unseen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate, table = FewShotClassifier.evaluate_folder, tmp_path / "table.csv"

    def meanwhile(*args: Any, **kwargs: Any) -> Any:
        table.write_text("theirs")
        return evaluate(*args, **kwargs)

    monkeypatch.setattr(FewShotClassifier, "evaluate_folder", meanwhile)
    ran = run("evaluate", model, unseen, "--predictions", table)
    assert ran.status == 1
    assert f"{table} exists; choose another place or pass --force" in ran.err
    assert table.read_text() == "theirs"
