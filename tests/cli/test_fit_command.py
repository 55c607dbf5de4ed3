"""`tip-adapter fit`: its options, its words, and what it does with folders that are not as they should be."""

from __future__ import annotations

import errno
import json
import os
import shutil
import unicodedata
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tip_adapter import FewShotClassifier
from tip_adapter.encoders.toy import ToyEncoder
from tip_adapter.io import files
from tip_adapter.methods import METHODS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Ran


@pytest.fixture
def fit(run: Callable[..., Ran], tmp_path: Path) -> Callable[..., Ran]:
    """fit(train, *options): with the toy encoder, into `tmp_path / "model"`."""

    def call(train: object, *options: object) -> Ran:
        encoder = () if "--encoder" in options else ("--encoder", "toy")
        return run("fit", train, "--out", tmp_path / "model", *encoder, *options)

    return call


@pytest.fixture
def info(run: Callable[..., Ran], tmp_path: Path) -> Callable[[], dict[str, Any]]:
    """info() → what `info --json` says of the model that `fit` made."""
    return lambda: json.loads(run("info", tmp_path / "model", "--json").out)


@pytest.fixture
def images_of(tmp_path: Path) -> Callable[[], list[str]]:
    """images_of() → the photos that the model was made from."""
    return lambda: json.loads((tmp_path / "model" / "config.json").read_text(encoding="utf-8"))["images"]


def refused(ran: Ran, status: int, *words: str) -> None:
    """One sentence on stderr that says these words; nothing on stdout."""
    assert (ran.status, ran.out) == (status, "")
    assert "error: " in ran.err.lower()
    for word in words:
        assert word in ran.err


# ---- what it says ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_red", "said"),
    [
        (4, "Leave-one-out accuracy: 100.0 % (12 images)"),
        (2, "Leave-one-out accuracy, mean over classes: 100.0 % (10 images)"),
        (1, "Leave-one-out accuracy, mean over 2 of 3 classes: 100.0 % (8 images)"),
    ],
)
def test_fault_87_fit_says_where_the_accuracy_is_a_mean_over_classes(
    n_red: int, said: str, fit: Callable[..., Ran], train: Path
) -> None:
    for number in range(n_red, 4):
        (train / "red" / f"{number}.png").unlink()
    ran = fit(train, "--method", "tip-adapter")
    assert ran.status == 0
    assert said in ran.out


def test_fit_says_the_pair_how_it_was_chosen_and_the_left_out_accuracy(
    fit: Callable[..., Ran], info: Callable[[], dict[str, Any]], train: Path, tmp_path: Path
) -> None:
    ran = fit(train, "--method", "tip-adapter")
    record = info()
    assert (ran.status, ran.err) == (0, "")
    assert "3 classes, 12 images" in ran.out
    assert f"alpha {record['alpha']:.4g}, beta {record['beta']:.4g}" in ran.out
    assert "chosen by leave-one-out" in ran.out
    assert f"{100 * record['left_out_accuracy']:.1f} %" in ran.out
    assert f"tip-adapter predict {tmp_path / 'model'}" in ran.out


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_every_method_learns_and_answers(
    fit: Callable[..., Ran],
    run: Callable[..., Ran],
    info: Callable[[], dict[str, Any]],
    train: Path,
    tmp_path: Path,
    method: str,
) -> None:
    ran = fit(train, "--method", method)
    assert ran.status == 0
    assert ran.out.startswith(method)
    assert info()["method"] == method
    assert ": red " in run("predict", tmp_path / "model", train / "red" / "0.png").out


def test_help_lists_the_methods(run: Callable[..., Ran]) -> None:
    words = " ".join(run("fit", "--help").out.split()).replace("- ", "-")  # lines break within names, too
    assert [method for method in METHODS if method not in words] == []


def test_a_shortened_training_says_so(
    fit: Callable[..., Ran], run: Callable[..., Ran], info: Callable[[], dict[str, Any]], train: Path, tmp_path: Path
) -> None:
    said = "Trained for 3 epochs (paper: 100). The learned context is in the toy encoder's text tower"
    ran = fit(train, "--method", "coop", "--epochs", 3)
    assert said in ran.out
    assert said in run("info", tmp_path / "model").out
    assert said in run("evaluate", tmp_path / "model", train).out
    assert info()["training"].items() >= {"epochs": 3, "papers_epochs": 100}.items()


def test_the_linear_probe_says_its_c_and_what_it_was_searched_by(
    fit: Callable[..., Ran], run: Callable[..., Ran], train: Path, unseen: Path, tmp_path: Path
) -> None:
    ran = fit(train, "--method", "linear-probe", "--tune", unseen)
    assert "chosen on the validation images." in ran.out
    assert "chosen on the validation images." in run("info", tmp_path / "model").out


def test_epochs_of_what_is_not_trained_are_a_usage_error(fit: Callable[..., Ran], train: Path) -> None:
    ran = fit(train, "--epochs", 3)
    assert ran.status == 2
    assert "text-offset takes no --epochs; leave out --epochs" in ran.err


def test_fine_tuning_says_that_the_accuracy_is_from_before(fit: Callable[..., Ran], train: Path) -> None:
    assert "before the keys were fine-tuned" in fit(train, "--method", "tip-adapter-f").out


@pytest.mark.slow
def test_pocket_is_the_encoder_if_none_is_named(
    run: Callable[..., Ran], info: Callable[[], dict[str, Any]], train: Path, tmp_path: Path
) -> None:
    assert run("fit", train, "--out", tmp_path / "model").status == 0
    assert info()["encoder"]["name"] == "pocket"


@pytest.mark.parametrize(
    ("option", "typed", "meant"),
    [
        ("--encoder", "poket", "pocket"),
        ("--encoder", "tyo", "toy"),
        ("--method", "tipadapter", "tip-adapter"),
        ("--method", "zeroshot", "zero-shot"),
        ("--template", "imagnet", "imagenet"),
    ],
)
def test_for_an_unknown_name_the_nearest_is_suggested(
    fit: Callable[..., Ran], train: Path, option: str, typed: str, meant: str
) -> None:
    refused(fit(train, option, typed), 2, typed, f"did you mean {meant}?")


# ---- choosing the pair -----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "protocol"),
    [
        ([], "support"),
        (["--method", "tip-adapter"], "leave-one-out"),
        (["--tune", "loo"], "leave-one-out"),
        (["--tune", "scale-free"], "scale-free"),
        (["--tune", "VAL"], "validation"),
        (["--alpha", "2", "--beta", "3.5"], "fixed"),
        (["--method", "tip-adapter", "--shots", "1"], "scale-free"),
        (["--method", "zero-shot"], None),
    ],
)
def test_the_protocol_is_the_one_asked_for(
    fit: Callable[..., Ran],
    info: Callable[[], dict[str, Any]],
    make_photos: Callable[..., Path],
    train: Path,
    options: list[str],
    protocol: str | None,
) -> None:
    val = make_photos("val", 50, red=2, green=2, blue=2)
    assert fit(train, *[val if option == "VAL" else option for option in options]).status == 0
    assert info()["protocol"] == protocol


def test_a_given_pair_is_used_as_it_is(
    fit: Callable[..., Ran], info: Callable[[], dict[str, Any]], train: Path
) -> None:
    assert "given" in fit(train, "--alpha", "2", "--beta", "3.5").out
    assert (info()["alpha"], info()["beta"], info()["temperature"]) == (2, 3.5, 1)


def test_validation_photos_may_be_a_list(fit: Callable[..., Ran], train: Path, tmp_path: Path) -> None:
    (tmp_path / "val.csv").write_text("file_name,label\ntrain/red/0.png,red\ntrain/blue/0.png,blue\n")
    ran = fit(train, "--tune", tmp_path / "val.csv")
    assert (ran.status, ran.err.count("\n")) == (0, 2)
    assert "2 of 2 images are those that the model learns from" in ran.err
    assert "no validation photos of 1 of 3 classes (green): what is chosen on them fits the others" in ran.err
    assert "Validation accuracy: 100.0 % (2 images)" in ran.out


@pytest.mark.parametrize(
    "options",
    [
        ["--alpha", "1"],
        ["--beta", "1"],
        ["--alpha", "1", "--beta", "1", "--tune", "loo"],
        ["--alpha", "1", "--beta", "1", "--tune", "scale-free"],
        ["--alpha", "1", "--tune", "loo"],
        ["--alpha", "-1", "--beta", "1"],
        ["--alpha", "1", "--beta", "0"],
        ["--alpha", "nan", "--beta", "1"],
        ["--alpha", "1", "--beta", "inf"],
        ["--alpha", "much", "--beta", "1"],
        ["--method", "zero-shot", "--tune", "loo"],
        ["--method", "zero-shot", "--alpha", "1", "--beta", "1"],
        ["--shots", "0"],
        ["--shots", "few"],
        ["--seed", "-1"],
    ],
    ids=" ".join,
)
def test_options_that_make_no_sense_are_usage_errors(
    fit: Callable[..., Ran], train: Path, tmp_path: Path, options: list[str]
) -> None:
    refused(fit(train, *options), 2)
    assert not (tmp_path / "model").exists()


def test_leave_one_out_without_two_photos_of_a_class_names_the_rule_that_works(
    fit: Callable[..., Ran], make_photos: Callable[..., Path]
) -> None:
    refused(fit(make_photos("train", red=1, green=1), "--tune", "loo"), 2, "scale-free")


def test_classes_that_leave_one_out_cannot_score_are_mentioned(
    fit: Callable[..., Ran], make_photos: Callable[..., Path], info: Callable[[], dict[str, Any]]
) -> None:
    ran = fit(make_photos("train", red=1, green=2), "--method", "tip-adapter")
    assert (ran.status, info()["protocol"]) == (0, "leave-one-out")
    assert "note: 1 class has one photo" in ran.err


# ---- what it learns from ---------------------------------------------------------------------------------------------


def test_shots_are_drawn_by_the_seed_and_nested(
    fit: Callable[..., Ran], images_of: Callable[[], list[str]], train: Path
) -> None:
    drawn = []
    for options in (["--shots", "2"], ["--shots", "2", "--force"], ["--shots", "3"], ["--shots", "2", "--seed", "1"]):
        assert fit(train, *options, "--force").status == 0
        drawn.append(images_of())
    first, again, more, other = drawn
    assert first == again
    assert len(first) == 6
    assert set(first) < set(more)
    assert set(first) != set(other)


def test_fewer_photos_than_shots_are_all_used_and_a_note_says_so(
    fit: Callable[..., Ran], images_of: Callable[[], list[str]], make_photos: Callable[..., Path]
) -> None:
    ran = fit(make_photos("train", red=3, green=8), "--shots", "5")
    assert ran.status == 0
    assert len(images_of()) == 8
    assert "fewer than 5 photos" in ran.err
    assert "red" in ran.err


def test_a_split_folder_gives_its_train_part_and_says_so(
    fit: Callable[..., Ran], images_of: Callable[[], list[str]], make_photos: Callable[..., Path]
) -> None:
    for part, count in (("train", 3), ("val", 2), ("test", 4)):
        split = make_photos(f"split/{part}", 10 * count, red=count, green=count).parent
    ran = fit(split, "--tune", split)
    assert ran.status == 0
    assert "is split: reading train" in ran.err
    assert len(images_of()) == 6
    assert "(4 images)" in ran.out


def test_a_list_teaches_what_its_folder_does(
    fit: Callable[..., Ran], info: Callable[[], dict[str, Any]], train: Path, tmp_path: Path
) -> None:
    rows = [(f"train/{path.parent.name}/{path.name}", path.parent.name) for path in sorted(train.rglob("*.png"))]
    (tmp_path / "list.csv").write_text("file_name,label\n" + "".join(f"{name},{label}\n" for name, label in rows))
    lines = (json.dumps({"label": label, "file_name": name, "more": 1}) for name, label in rows)
    (tmp_path / "list.jsonl").write_text("\n".join(lines))
    records = []
    for source in (train, tmp_path / "list.csv", tmp_path / "list.jsonl"):
        ran = fit(source, "--force")
        assert (ran.status, ran.err) == (0, "")
        records.append(info())
    assert records[0] == records[1] == records[2]


def test_templates_add_up(fit: Callable[..., Ran], info: Callable[[], dict[str, Any]], train: Path) -> None:
    assert fit(train, "--template", "a {} wall", "--template", "{}, plainly", "--template", "dtd").status == 0
    assert info()["templates"] == ["a {} wall", "{}, plainly", "{} texture."]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("names.json", '{"red": "green", "white": "no class"}'),
        ("names.csv", "label,name\nred,green\n"),
        ("bom.csv", "\ufefflabel,name\nred,green\n"),
        ("turned.csv", "name,label,remark\ngreen,red,hm\n"),
    ],
)
def test_class_names_are_what_the_text_encoder_reads(
    fit: Callable[..., Ran], run: Callable[..., Ran], train: Path, tmp_path: Path, name: str, content: str
) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert fit(train, "--class-names", tmp_path / name, "--method", "zero-shot", "--force").status == 0
    classes = json.loads(run("info", tmp_path / "model", "--json").out)["classes"]
    assert {entry["label"]: entry["name"] for entry in classes} == {"red": "green", "green": "green", "blue": "blue"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("absent.json", None),
        ("list.json", b'["red"]'),
        ("number.json", b'{"red": 3}'),
        ("cut.json", b'{"red": "gr'),
        ("deep.json", b'{"a":' * 100_000),
        ("other.csv", b"a,b\n1,2\n"),
        ("empty-name.csv", b"label,name\nred,\n"),
        ("short.csv", b"name,label\nred\n"),
        ("long.csv", b"label,name\nred," + b"x" * 200_000 + b"\n"),
        ("latin1.csv", b"label,name\nred,gr\xfcn\n"),
    ],
)
def test_class_names_that_cannot_be_read_are_a_usage_error(
    fit: Callable[..., Ran], train: Path, tmp_path: Path, name: str, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    refused(fit(train, "--class-names", tmp_path / name), 2, name)


def test_names_in_a_script_that_the_encoder_does_not_read_are_used_and_mentioned(
    fit: Callable[..., Ran], info: Callable[[], dict[str, Any]], make_photos: Callable[..., Path]
) -> None:
    ran = fit(make_photos("train", 猫=2, dog_house=2))
    assert ran.status == 0
    assert "'猫'" in ran.err
    assert "--class-names" in ran.err
    assert {entry["label"]: entry["name"] for entry in info()["classes"]} == {"猫": "猫", "dog_house": "dog house"}


# ---- where it goes ---------------------------------------------------------------------------------------------------


def test_existing_output_is_refused_and_untouched_without_force(
    fit: Callable[..., Ran], train: Path, tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.txt").write_text("mine")
    refused(fit(train), 1, "exists", "--force")
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["mine.txt"]


def test_an_empty_folder_is_no_obstacle(fit: Callable[..., Ran], train: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    assert fit(train).status == 0


def test_force_replaces_a_model(fit: Callable[..., Ran], info: Callable[[], dict[str, Any]], train: Path) -> None:
    fit(train)
    assert fit(train, "--method", "zero-shot", "--force").status == 0
    assert info()["method"] == "zero-shot"


def test_force_never_replaces_the_photos_themselves(fit: Callable[..., Ran], train: Path, tmp_path: Path) -> None:
    shutil.move(train, tmp_path / "model")
    ran = fit(tmp_path / "model", "--force")
    assert len(list((tmp_path / "model").rglob("*.png"))) == 12
    assert ran.status != 0


def test_a_fit_that_fails_leaves_the_old_model(fit: Callable[..., Ran], train: Path, tmp_path: Path) -> None:
    fit(train)
    before = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    for photo in train.rglob("*.png"):
        photo.write_bytes(b"")
    refused(fit(train, "--force"), 1, "none of 12 photos can be read")
    assert {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()} == before


def test_a_full_disk_is_a_failure_that_changes_nothing(
    fit: Callable[..., Ran], train: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(train)
    before = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files, "_write_synced", full)
    refused(fit(train, "--force"), 1, "cannot write", "No space left")
    assert {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "train"]


def test_an_output_inside_a_file_is_a_failure(run: Callable[..., Ran], train: Path, unseen: Path) -> None:
    refused(run("fit", train, "--out", unseen / "red" / "100.png" / "model", "--encoder", "toy"), 1, "cannot write")


# ---- everywhere ------------------------------------------------------------------------------------------------------


def test_quiet_hides_notes_before_and_after_the_command(
    fit: Callable[..., Ran], run: Callable[..., Ran], make_photos: Callable[..., Path], tmp_path: Path
) -> None:
    train = make_photos("train", red=1)
    assert fit(train).err != ""
    assert fit(train, "--force", "--quiet").err == ""
    assert run("--quiet", "fit", train, "--out", tmp_path / "model", "--encoder", "toy", "--force").err == ""


def test_threads_do_not_change_the_model(fit: Callable[..., Ran], train: Path, tmp_path: Path) -> None:
    contents = []
    for threads in (1, 3):
        assert fit(train, "--threads", threads, "--force").status == 0
        contents.append((tmp_path / "model" / "adapter.safetensors").read_bytes())
    assert contents[0] == contents[1]


@pytest.mark.parametrize("device", ["cuda", "quantum"])
def test_a_device_that_is_not_here_is_refused_with_a_sentence(
    fit: Callable[..., Ran], train: Path, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    refused(fit(train, "--encoder", "pocket", "--device", device), 2, device)


# ---- bad input -------------------------------------------------------------------------------------------------------


def _missing(train: Path) -> None:
    shutil.rmtree(train)


def _no_class_folders(train: Path) -> None:
    for photo in train.rglob("*.png"):
        photo.rename(train / f"{photo.parent.name}{photo.name}")
    for folder in train.iterdir():
        if folder.is_dir():
            folder.rmdir()


def _nothing_in_it(train: Path) -> None:
    shutil.rmtree(train)
    train.mkdir()


def _a_text_file(train: Path) -> None:
    shutil.rmtree(train)
    train.write_text("red")


def _nothing_readable(train: Path) -> None:
    for photo in train.rglob("*.png"):
        photo.write_text("no photo")


def _twins_by_case(train: Path) -> None:
    shutil.copytree(train / "red", train / "Red")


def _twins_by_unicode_form(train: Path) -> None:
    for form in ("NFC", "NFD"):
        shutil.copytree(train / "red", train / unicodedata.normalize(form, "café"))


def _class_name_not_utf8(train: Path) -> None:
    (train / "red").rename(train / os.fsdecode(b"r\xffd"))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_missing, ["train", "check the path"]),
        (_nothing_in_it, ["no class folders"]),
        (_no_class_folders, ["no class folders"]),
        (_a_text_file, ["lists end in .csv, .tsv or .jsonl"]),
        (_nothing_readable, ["none of 12 photos"]),
        (_twins_by_case, ["'Red'", "'red'", "case"]),
        (_twins_by_unicode_form, ["Unicode form"]),
        (_class_name_not_utf8, ["r\\xffd", "not UTF-8"]),
    ],
)
def test_a_folder_that_cannot_teach_is_a_failure_with_the_reason(
    fit: Callable[..., Ran], train: Path, tmp_path: Path, spoil: Callable[[Path], None], words: list[str]
) -> None:
    spoil(train)
    refused(fit(train), 1, *words)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", b"", ["file_name,label"]),
        ("a.csv", b"file_name,label\n", ["lists no images"]),
        ("a.csv", b"picked,class\nx.png,red\n", ["file_name,label"]),
        ("a.csv", b"file_name\nx.png\n", ["label"]),
        ("a.csv", b"file_name,label\nx.png\n", ["line 2", "label"]),
        ("a.csv", b"file_name,label\nx.png," + b"x" * 200_000, ["a.csv"]),
        ("a.jsonl", b'{"file_name": "x.png"}\n', ["line 1", "label"]),
        ("a.jsonl", b'{"file_name": "x.png", "label"\n', ["line 1", "JSON"]),
        ("a.jsonl", b'["x.png", "red"]\n', ["line 1"]),
        ("a.jsonl", b"[" * 100_000, ["line 1"]),
        ("a.jsonl", b'{"file_name": "\\u0000.png", "label": "red"}\n', ["it is the only photo"]),
        ("a.csv", b"file_name,label\n" + b"n" * 5000 + b".png,red\n", ["it is the only photo"]),
        ("a.csv", b"file_name,label\nx.png,r\xffd\n", ["not UTF-8"]),
    ],
)
def test_a_list_that_cannot_teach_is_a_failure_with_the_line(
    fit: Callable[..., Ran], tmp_path: Path, name: str, content: bytes, words: list[str]
) -> None:
    (tmp_path / name).write_bytes(content)
    refused(fit(tmp_path / name), 1, *words)


def test_some_unreadable_photos_are_left_out_and_counted(
    fit: Callable[..., Ran], images_of: Callable[[], list[str]], train: Path
) -> None:
    (train / "red" / "0.png").write_bytes(b"")
    (train / "red" / "1.png").write_text("no photo")
    (train / "blue" / "0.png").write_bytes((train / "blue" / "0.png").read_bytes()[:300])
    ran = fit(train)
    assert ran.status == 0
    assert "left out 3 of 12 images" in ran.err
    assert str(train / "red" / "0.png") in ran.err
    assert len(images_of()) == 9


def test_a_class_folder_without_photos_is_kept_as_a_name(
    fit: Callable[..., Ran], info: Callable[[], dict[str, Any]], train: Path
) -> None:
    (train / "yellow").mkdir()
    (train / "yellow" / "notes.txt").write_text("none yet")
    ran = fit(train)
    assert ran.status == 0
    assert "no photos in 1 of 4 classes, only their names are used: yellow" in ran.err
    assert {"label": "yellow", "name": "yellow", "n_images": 0} in info()["classes"]


def test_class_folders_that_are_all_empty_are_zero_shot(
    fit: Callable[..., Ran], run: Callable[..., Ran], train: Path, tmp_path: Path
) -> None:
    for name in ("red", "blue"):
        (tmp_path / "names" / name).mkdir(parents=True)
    assert fit(tmp_path / "names").status == 0
    assert ": blue " in run("predict", tmp_path / "model", train / "blue" / "0.png").out


def test_one_class_only_works_and_is_mentioned(fit: Callable[..., Ran], make_photos: Callable[..., Path]) -> None:
    ran = fit(make_photos("train", red=3))
    assert ran.status == 0
    assert "one class only" in ran.err


def test_the_same_photo_in_two_classes_is_mentioned(fit: Callable[..., Ran], train: Path) -> None:
    shutil.copy(train / "red" / "0.png", train / "blue" / "copy.png")
    ran = fit(train)
    assert ran.status == 0
    assert "the same image is in two classes" in ran.err


def test_photos_outside_class_folders_are_mentioned(fit: Callable[..., Ran], train: Path) -> None:
    shutil.copy(train / "red" / "0.png", train / "loose.png")
    ran = fit(train)
    assert ran.status == 0
    assert "outside class folders are skipped (1)" in ran.err


def test_photo_names_that_are_not_utf8_are_fine(
    fit: Callable[..., Ran], images_of: Callable[[], list[str]], train: Path
) -> None:
    (train / "red" / "0.png").rename(train / "red" / os.fsdecode(b"\xff.png"))
    assert fit(train).status == 0
    assert "red/\\xff.png" in images_of()


def test_a_photo_that_is_no_file_is_left_out(fit: Callable[..., Ran], train: Path) -> None:
    (train / "red" / "broken.png").symlink_to("nowhere.png")
    ran = fit(train)
    assert ran.status == 0
    assert "left out 1 of 13 images" in ran.err


def test_a_usage_error_is_told_before_any_photo_is_read(
    fit: Callable[..., Ran], train: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tip_adapter.features.encode.DecodingPool", partial(pytest.fail, "a photo was read first"))
    for options in (["--template", "no place"], ["--tune", "nowhere"], ["--alpha", "1"], ["--method", "tip"]):
        assert fit(train, *options).status in (1, 2)


# ---- told before any photo is read -----------------------------------------------------------------------------------


def test_a_model_among_the_photos_is_not_learned_from(run: Callable[..., Ran], train: Path) -> None:
    for force in ([], ["--force"]):
        ran = run("fit", train, "--out", train / "model", "--encoder", "toy", *force)
        assert "3 classes" in ran.out, ran


def test_leave_one_out_without_a_second_photo_is_told_before_any_photo_is_read(
    fit: Callable[..., Ran], make_photos: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ToyEncoder, "prepare", lambda *_: pytest.fail("a photo was read"))
    refused(fit(make_photos("train", red=1, green=1), "--tune", "loo"), 2, "--tune scale-free")


@pytest.mark.parametrize("threads", ["0", "-1", "257", "1000000000", "1.5", "two"])
def test_threads_out_of_bounds_are_a_usage_error(fit: Callable[..., Ran], train: Path, threads: str) -> None:
    refused(fit(train, "--threads", threads), 2, "--threads")


def test_one_class_and_one_photo_are_counted_as_such(
    fit: Callable[..., Ran], make_photos: Callable[..., Path], tmp_path: Path
) -> None:
    ran = fit(make_photos("train", red=1))
    assert ran.out.startswith("text-offset, 1 class, 1 image.")
    assert "classifier of 1 class\n" in (tmp_path / "model" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("names", ["/dev/zero", "FIFO"])
def test_class_names_that_never_end_are_a_usage_error(
    fit: Callable[..., Ran], train: Path, tmp_path: Path, names: str
) -> None:
    os.mkfifo(tmp_path / "FIFO")
    refused(fit(train, "--class-names", tmp_path / names), 2, "not a regular file")


@pytest.mark.parametrize("names", [{"red": "\x1b[2Jred"}, {"red": "r\x07d", "gre\x07n": "x"}])
def test_fault_16_no_name_or_template_steers_a_terminal(
    fit: Callable[..., Ran], run: Callable[..., Ran], train: Path, unseen: Path, tmp_path: Path, names: dict[str, str]
) -> None:
    (train / "blue").rename(train / "b\x1b[31mlue")
    (tmp_path / "names.json").write_text(json.dumps(names), encoding="utf-8")
    ran = fit(train, "--class-names", tmp_path / "names.json", "--template", "\x1b]0;title\x07 {}")
    shown = [ran, run("info", tmp_path / "model"), run("evaluate", tmp_path / "model", unseen)]
    assert [each.status for each in shown] == [0, 0, 0]
    for each in shown:
        assert all(c.isprintable() or c == "\n" for c in each.out + each.err)
    assert r"b\x1b[31mlue" in shown[1].out
    record = json.loads(run("info", tmp_path / "model", "--json").out)
    assert "b\x1b[31mlue" in [entry["label"] for entry in record["classes"]]  # for machines it is as it is


def test_no_calibrate_leaves_the_temperature_at_one_and_every_label_as_it_is(
    run: Callable[..., Ran], train: Path, unseen: Path, tmp_path: Path
) -> None:
    options = ("--encoder", "toy", "--method", "tip-adapter")
    plain = run("fit", train, "--out", tmp_path / "plain", *options, "--no-calibrate")
    assert plain.status == 0
    run("fit", train, "--out", tmp_path / "calibrated", *options)
    models = {name: FewShotClassifier.load(tmp_path / name) for name in ("plain", "calibrated")}
    assert models["plain"].choice_.temperature == 1 != models["calibrated"].choice_.temperature
    rows = {name: model.predict_folder(unseen) for name, model in models.items()}
    assert [row["label"] for row in rows["plain"]] == [row["label"] for row in rows["calibrated"]]
    assert rows["plain"] != rows["calibrated"]
