"""`tip-adapter check`: planted mistakes are shown, of a model and of photos, to people and to programs."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from tip_adapter.model.head import load_head
from tip_adapter.model.label_issues import check_images

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Ran


@pytest.fixture
def mistaken(train: Path) -> Path:
    """Four photos each of red, green and blue; one of blue lies in green, and one of red in blue, too."""
    (train / "blue" / "3.png").rename(train / "green" / "wrong.png")
    shutil.copy(train / "red" / "0.png", train / "blue" / "copy.png")
    return train


@pytest.fixture
def model_of_mistaken(run: Callable[..., Ran], mistaken: Path, tmp_path: Path) -> Path:
    assert run("fit", mistaken, "--out", tmp_path / "model", "--encoder", "toy", "--quiet").status == 0
    return tmp_path / "model"


def test_people_see_what_to_look_at(run: Callable[..., Ran], mistaken: Path) -> None:
    ran = run("check", mistaken, "--encoder", "toy")
    assert ran.status == 0
    assert ran.err.startswith("note: the same image is in two classes")
    text = ran.out
    wrong, duplicates = (
        text.index("Possibly mislabelled ("),
        text.index("Near-duplicates in different classes ("),
    )
    assert wrong < text.index("green/wrong.png") < duplicates
    assert wrong < text.index("blue/copy.png") < duplicates
    assert duplicates < text.index("1.000") < text.index("Classes that need images (")
    assert text.splitlines()[-1].startswith("Leave-one-out accuracy, mean over classes: ")
    assert " (9 images; 95 % interval " in text.splitlines()[-1]


def test_json_is_what_the_library_says(run: Callable[..., Ran], model_of_mistaken: Path) -> None:
    ran = run("check", model_of_mistaken, "--json")
    assert (ran.status, ran.err) == (0, "")
    record = json.loads(ran.out)
    assert record == check_images(load_head(model_of_mistaken)[0])
    assert {entry["image"] for entry in record["likely_wrong"]} >= {"green/wrong.png", "blue/copy.png"}
    assert record["near_duplicates"][0]["images"] == ["blue/copy.png", "red/0.png"]
    assert "red" not in [entry["label"] for entry in record["need_images"]]


def test_a_model_and_its_photos_say_the_same(run: Callable[..., Ran], mistaken: Path, model_of_mistaken: Path) -> None:
    before = {path.name: path.read_bytes() for path in model_of_mistaken.iterdir()}
    of_model, of_photos = run("check", model_of_mistaken), run("check", mistaken, "--encoder", "toy", "--quiet")
    assert of_model == of_photos
    assert of_model.err == ""
    assert {path.name: path.read_bytes() for path in model_of_mistaken.iterdir()} == before


def test_photos_without_mistakes_are_said_to_be_so(run: Callable[..., Ran], model: Path) -> None:
    ran = run("check", model)
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        "No label looks wrong.",
        "No near-duplicates in different classes.",
        "Leave-one-out accuracy: 100.0 % (12 images; 95 % interval 75.8 % to 100.0 %).",
    ]


def test_what_was_added_is_checked_before_it_is_tuned(
    run: Callable[..., Ran], model: Path, unseen: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(model, tmp_path / "model")
    run("add", copy, "red", unseen / "blue" / "100.png")
    ran = run("check", copy)
    assert "Possibly mislabelled (1), most suspicious first" in ran.out
    assert " (13 images; 95 % interval " in ran.out


def test_photos_alone_in_their_class_need_others(run: Callable[..., Ran], make_photos: Callable[..., Path]) -> None:
    ran = run("check", make_photos("singles", red=1, green=1, blue=0), "--encoder", "toy")
    assert ran.status == 0
    assert "Classes that need images (3), hardest first" in ran.out
    assert ran.out.count("unknown") == 4  # the last line, too
    assert ran.out.splitlines()[-1] == "Leave-one-out accuracy: unknown, no class has two images."


def test_people_see_the_first_twenty_and_programs_all(run: Callable[..., Ran], train: Path) -> None:
    content = (train / "red" / "0.png").read_bytes()
    for number in range(30):  # identical ones count once
        (train / "blue" / f"copy{number}.png").write_bytes(content + bytes([number]))
    ran = run("check", train, "--encoder", "toy", "--quiet")
    n_pairs = len(json.loads(run("check", train, "--encoder", "toy", "--quiet", "--json").out)["near_duplicates"])
    assert n_pairs >= 30
    assert f"Near-duplicates in different classes ({n_pairs}, the first 20 shown), most similar first" in ran.out


def test_fault_16_names_cannot_steer_a_terminal(run: Callable[..., Ran], train: Path) -> None:
    (train / "red").rename(train / "re\x1b[2Jd")
    shutil.copy(train / "blue" / "0.png", train / "re\x1b[2Jd" / "a\nb\x1b[2J.png")
    ran = run("check", train, "--encoder", "toy")
    assert ran.status == 0
    assert "\x1b" not in ran.out + ran.err
    record = json.loads(run("check", train, "--encoder", "toy", "--json").out)
    assert "re\x1b[2Jd/a\nb\x1b[2J.png" in {entry["image"] for entry in record["likely_wrong"]}


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("nothing", "nothing is neither a folder nor a list"),
        ("empty", "empty holds no class folders"),
        ("x" * 300, "is neither a folder nor a list"),
    ],
    ids=["missing", "empty", "long"],
)
@pytest.mark.parametrize("options", [[], ["--json"]], ids=["text", "json"])
def test_a_source_that_is_none_is_one_sentence(
    run: Callable[..., Ran],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    named: str,
    options: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    ran = run("check", source, "--encoder", "toy", *options)
    assert (ran.status, ran.out) == (1, "")
    assert named in ran.err
    assert len(ran.err.splitlines()) == 1


def test_fault_42_a_damaged_model_is_a_failure(run: Callable[..., Ran], model_of_mistaken: Path) -> None:
    (model_of_mistaken / "adapter.safetensors").write_bytes(b"cut")
    ran = run("check", model_of_mistaken)
    assert (ran.status, ran.out) == (1, "")
    assert "is damaged" in ran.err


def test_a_model_without_photos_is_a_usage_error(run: Callable[..., Ran], train: Path, tmp_path: Path) -> None:
    run("fit", train, "--out", tmp_path / "names", "--encoder", "toy", "--method", "zero-shot")
    ran = run("check", tmp_path / "names")
    assert (ran.status, ran.out) == (2, "")
    assert (
        ran.err
        == "error: the model has no photos to check; fit it with photos and a method that uses them, such as text-offset\n"
    )
