"""`tip-adapter demo`: the draw, the three methods, and that fit and evaluate say the same."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tip_adapter.cli import demo
from tip_adapter.encoders.toy import ToyEncoder
from tip_adapter.io import files
from tip_adapter.plugins import pip_install

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Ran

METHODS = ("zero-shot", "tip-adapter", "tip-adapter-f")


@pytest.fixture
def run_toy(run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """`run` where the demo's encoder is the toy one."""
    monkeypatch.setattr("tip_adapter.load_encoder", lambda **_: ToyEncoder(), raising=False)
    return run


def record_of(ran: Ran) -> dict[str, Any]:
    """The one object that `--json` prints."""
    assert ran.status == 0
    assert len(ran.out.splitlines()) == 1
    return json.loads(ran.out)


def rows_of(path: Path) -> list[tuple[str, str]]:
    """(name of the photo, label) of each row of a list; every photo exists."""
    with path.open(newline="") as file:
        rows = [(path.parent / row["file_name"], row["label"]) for row in csv.DictReader(file)]
    assert all(photo.is_file() for photo, _ in rows)
    return [("/".join(photo.parts[-2:]), label) for photo, label in rows]


def test_json_is_one_object_with_exactly_the_binding_keys(run_toy: Callable[..., Ran], train: Path) -> None:
    record = record_of(run_toy("demo", train, "--shots", "3", "--seed", "5", "--json"))
    for method in ("zero_shot", "text_offset", "tip_adapter", "tip_adapter_f"):
        outcome = record.pop(method)
        assert {key: type(value) for key, value in outcome.items()} == {"accuracy": float, "seconds": float}
    assert record == {
        "dataset": "train",
        "n_shots": 3,
        "n_test": 3,
        "seed": 5,
        "encoder": "toy",
        "protocol": "leave-one-out",
    }


def test_people_see_the_methods_side_by_side_and_how_to_go_on(run_toy: Callable[..., Ran], train: Path) -> None:
    ran = run_toy("demo", train, "--shots", "3")
    assert (ran.status, ran.err) == (0, "")
    for words in ("zero-shot", "Tip-Adapter", "Tip-Adapter-F", "blue", "95 % interval", "tip-adapter fit photos"):
        assert words in ran.out


def test_photos_that_are_not_drawn_are_the_test(run_toy: Callable[..., Ran], train: Path, tmp_path: Path) -> None:
    assert record_of(run_toy("demo", train, "--shots", "1", "--lists", tmp_path / "lists", "--json"))["n_test"] == 9
    drawn, rest = rows_of(tmp_path / "lists" / "train.csv"), rows_of(tmp_path / "lists" / "test.csv")
    assert [label for _, label in drawn] == ["blue", "green", "red"]
    assert sorted(drawn + rest) == sorted((f"{c}/{n}.png", c) for c in ("blue", "green", "red") for n in range(4))


def test_the_test_has_a_hundred_photos_a_class_at_most(
    run_toy: Callable[..., Ran], make_photos: Callable[..., Path]
) -> None:
    assert record_of(run_toy("demo", make_photos("many", red=103, blue=5), "--shots", "2", "--json"))["n_test"] == 103


def test_the_draw_is_the_seeds(run_toy: Callable[..., Ran], train: Path, tmp_path: Path) -> None:
    lists = []
    for seed, name in ((0, "a"), (0, "b"), (1, "c")):
        run_toy("demo", train, "--shots", "2", "--seed", seed, "--lists", tmp_path / name)
        lists.append((tmp_path / name / "train.csv").read_text())
    assert lists[0] == lists[1] != lists[2]


def test_a_split_folder_gives_shots_from_train_and_the_rest_from_test(
    run_toy: Callable[..., Ran], make_photos: Callable[..., Path], tmp_path: Path
) -> None:
    make_photos("split/train", 0, red=4, blue=4)
    make_photos("split/val", 40, red=1, blue=1)
    split = make_photos("split/test", 50, red=3, blue=3).parent
    record = record_of(run_toy("demo", split, "--shots", "2", "--lists", tmp_path / "lists", "--json"))
    assert (record["dataset"], record["n_test"]) == ("split", 6)
    assert {int(name.split("/")[1][:-4]) // 10 for name, _ in rows_of(tmp_path / "lists" / "train.csv")} == {0}
    assert {int(name.split("/")[1][:-4]) // 10 for name, _ in rows_of(tmp_path / "lists" / "test.csv")} == {5}


def test_a_list_gives_what_its_folder_does(run_toy: Callable[..., Ran], train: Path) -> None:
    rows = (f"{path.relative_to(train)},{path.parent.name}\n" for path in train.rglob("*.png"))
    (train / "all.csv").write_text("file_name,label\n" + "".join(rows))
    folder, listed = (
        record_of(run_toy("demo", place, "--shots", "3", "--json")) for place in (train, train / "all.csv")
    )
    for method in ("zero_shot", "text_offset", "tip_adapter", "tip_adapter_f"):
        assert folder[method]["accuracy"] == listed[method]["accuracy"]


def _fit_and_evaluate(run: Callable[..., Ran], lists: Path, method: str, encoder: str, seed: int) -> float:
    model = lists / method
    fitted = run("fit", lists / "train.csv", "--out", model, "--method", method, "--encoder", encoder, "--seed", seed)
    assert fitted.status == 0
    return json.loads(run("evaluate", model, lists / "test.csv", "--json").out)["accuracy"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_demo_agrees_with_fit_and_evaluate_on_its_lists(
    run_toy: Callable[..., Ran], make_photos: Callable[..., Path], tmp_path: Path, seed: int
) -> None:
    photos = make_photos("photos", **dict.fromkeys(("red", "green", "yellow", "grey", "gray", "ash"), 9))
    lists = tmp_path / "lists"
    record = record_of(run_toy("demo", photos, "--shots", "3", "--seed", seed, "--lists", lists, "--json"))
    for method in METHODS:
        assert record[method.replace("-", "_")]["accuracy"] == _fit_and_evaluate(run_toy, lists, method, "toy", seed)


@pytest.mark.slow
def test_demo_agrees_with_fit_and_evaluate_on_its_lists_with_pocket(
    program: Callable[..., Ran], make_photos: Callable[..., Path], tmp_path: Path
) -> None:
    photos = make_photos("photos", **dict.fromkeys(("red", "grey", "gray", "ash"), 6))
    record = record_of(program("demo", photos, "--shots", "3", "--lists", tmp_path / "lists", "--json"))
    assert record["encoder"] == "pocket"
    accuracy = _fit_and_evaluate(program, tmp_path / "lists", "tip-adapter-f", "pocket", 0)
    assert record["tip_adapter_f"]["accuracy"] == accuracy


@pytest.mark.slow
def test_the_demo_photos_are_learnt_from_sixteen_a_class(program: Callable[..., Ran], tmp_path: Path) -> None:
    ran = program("demo", "--json", "--lists", tmp_path / "lists")
    record = record_of(ran)
    assert (record["n_shots"], record["n_test"], record["seed"]) == (16, 300, 0)
    assert {label for _, label in rows_of(tmp_path / "lists" / "train.csv")} == {"nominal", "local", "global"}
    # .33 and .69 in the package's own documentation of these photos with this encoder.
    assert record["zero_shot"]["accuracy"] < 0.5
    assert record["tip_adapter"]["accuracy"] > 0.6
    assert abs(record["tip_adapter_f"]["accuracy"] - record["tip_adapter"]["accuracy"]) <= 0.06


def test_without_a_folder_the_demo_says_that_local_defects_are_hard(
    run_toy: Callable[..., Ran], train: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "_textile_photos", lambda: train)
    assert "Local defects" in run_toy("demo", "--shots", "2").out


def test_without_a_folder_the_demo_shows_everyday_objects_first_and_what_is_measured_now_as_a_hard_case(
    run_toy: Callable[..., Ran], train: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "_textile_photos", lambda: train)
    out = run_toy("demo", "--shots", "2").out
    first, _, second = out.partition("A hard case, run now")
    measured = json.loads((Path(demo.__file__).parent / "caltech101.json").read_text())
    for method, name in demo.METHODS.items():
        row = next(line for line in first.splitlines() if line.startswith(f"{name} "))
        assert row.split()[1::2] == [f"{100 * share:.1f}" for share in measured["accuracy"][method].values()]
    assert measured["command"] in first
    assert measured["date"] in first
    assert "2 training images per class" in second


def test_with_a_folder_the_demo_shows_its_photos_only(run_toy: Callable[..., Ran], train: Path) -> None:
    out = run_toy("demo", train, "--shots", "2").out
    assert out.startswith("train, 2 training images per class, 6 test images\n")
    assert "Caltech101" not in out


def test_without_its_photos_the_demo_prints_the_pip_line(
    run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "conformal_clip_data", None)  # as if it were not installed
    ran = run("demo", "--json")
    assert (ran.status, ran.out) == (1, "")
    assert pip_install("demo") in ran.err


def test_with_a_folder_the_demo_needs_no_extra(
    run_toy: Callable[..., Ran], train: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "conformal_clip_data", None)  # as if it were not installed
    assert run_toy("demo", train, "--shots", "1").status == 0


def test_the_data_set_has_a_name_wherever_one_stands(
    run_toy: Callable[..., Ran], train: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(train)
    assert record_of(run_toy("demo", ".", "--shots", "2", "--json"))["dataset"] == "train"


def test_a_class_with_no_photo_left_for_the_test_is_an_error_naming_it(
    run_toy: Callable[..., Ran], make_photos: Callable[..., Path], tmp_path: Path
) -> None:
    photos = make_photos("photos", red=5, green=2, blue=5)
    ran = run_toy("demo", photos, "--shots", "2", "--lists", tmp_path / "lists")
    assert (ran.status, ran.out) == (1, "")
    assert "class green has no photo left" in ran.err
    assert not (tmp_path / "lists").exists()


def test_a_class_without_any_photo_is_an_error_naming_it(run_toy: Callable[..., Ran], train: Path) -> None:
    (train / "yellow").mkdir()
    ran = run_toy("demo", train, "--shots", "1")
    assert (ran.status, ran.out) == (1, "")
    assert "class yellow has no photo left" in ran.err


def test_a_class_that_a_split_folder_does_not_test_is_an_error_naming_it(
    run_toy: Callable[..., Ran], make_photos: Callable[..., Path]
) -> None:
    make_photos("split/train", red=2, blue=2)
    ran = run_toy("demo", make_photos("split/test", 50, red=2).parent, "--shots", "1")
    assert ran.status == 1
    assert "class blue has no photo left" in ran.err


def test_fewer_photos_than_shots_are_all_used_and_a_note_says_so(
    run_toy: Callable[..., Ran], make_photos: Callable[..., Path]
) -> None:
    make_photos("split/train", red=2, blue=5)
    split = make_photos("split/test", 50, red=2, blue=2).parent
    ran = run_toy("demo", split, "--shots", "4")
    assert ran.status == 0
    assert "fewer than 4 photos" in ran.err
    assert "is split: reading train" in ran.err
    assert run_toy("demo", split, "--shots", "4", "--quiet").err == ""


def test_unreadable_photos_are_left_out_and_counted(run_toy: Callable[..., Ran], train: Path) -> None:
    (train / "red" / "0.png").write_bytes(b"")
    ran = run_toy("demo", train, "--shots", "2", "--json")
    assert ran.status == 0
    assert "1 of " in ran.err


@pytest.mark.parametrize("options", [["--shots", "0"], ["--seed", "-1"], ["--encoder", "toy"]])
def test_options_that_make_no_sense_are_usage_errors(run: Callable[..., Ran], train: Path, options: list[str]) -> None:
    ran = run("demo", train, *options)
    assert (ran.status, ran.out) == (2, "")


def test_a_folder_that_is_not_there_is_a_failure(run: Callable[..., Ran], tmp_path: Path) -> None:
    ran = run("demo", tmp_path / "absent")
    assert (ran.status, ran.out) == (1, "")
    assert "absent" in ran.err


def test_lists_inside_a_file_are_a_failure(run_toy: Callable[..., Ran], train: Path, unseen: Path) -> None:
    ran = run_toy("demo", train, "--shots", "1", "--lists", unseen / "red" / "100.png" / "lists")
    assert (ran.status, ran.out) == (1, "")
    assert "cannot write" in ran.err


def test_ctrl_c_while_a_list_is_written_leaves_no_half_of_it(
    run_toy: Callable[..., Ran], train: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(path: Path, content: bytes) -> None:
        path.write_bytes(content[:3])
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "_write_synced", interrupted)
    ran = run_toy("demo", train, "--shots", "1", "--lists", tmp_path / "lists")
    assert (ran.status, ran.out) == (130, "")
    assert list((tmp_path / "lists").iterdir()) == []


def test_an_unknown_device_is_a_usage_error(run: Callable[..., Ran], train: Path) -> None:
    ran = run("demo", train, "--shots", "1", "--device", "quantum")
    assert (ran.status, ran.out) == (2, "")
    assert "quantum" in ran.err


def test_fault_16_no_class_name_steers_a_terminal(run_toy: Callable[..., Ran], train: Path) -> None:
    (train / "blue").rename(train / "b\x1b[31mlue")
    ran = run_toy("demo", train.rename(train.with_name("tr\x07ain")), "--shots", "1")
    assert ran.status == 0
    assert all(c.isprintable() or c == "\n" for c in ran.out + ran.err)
