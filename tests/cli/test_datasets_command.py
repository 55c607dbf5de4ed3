"""`tip-adapter datasets`: which data sets there are, which are here, and whether one is whole."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tip_adapter.cli import datasets as command
from tip_adapter.paper.datasets.records import dataset_record, dataset_records

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Ran


@pytest.fixture(autouse=True)
def no_data_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TIP_ADAPTER_DATA", raising=False)


@pytest.fixture
def data_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data root with an OxfordPets of three photos, whole by a record of such a one, and a EuroSAT without split."""
    pets = replace(dataset_record("oxford_pets"), n_classes=1, n_images=dict.fromkeys(["train", "val", "test"], 1))
    monkeypatch.setattr(command, "dataset_record", lambda name: pets)
    folder = tmp_path / "data" / pets.folder
    (folder / "images").mkdir(parents=True)
    (tmp_path / "data" / "eurosat" / "2750").mkdir(parents=True)
    for part in pets.n_images:
        (folder / "images" / f"{part}.jpg").touch()
    split = {part: [[f"{part}.jpg", 0, "pug"]] for part in pets.n_images}
    (folder / pets.files[0]).write_text(json.dumps(split), encoding="utf-8")
    return tmp_path / "data"


def test_json_is_one_object_with_every_record(run: Callable[..., Ran]) -> None:
    ran = run("datasets", "--json")
    assert (ran.status, ran.err) == (0, "")
    listed = {entry["name"]: entry for entry in json.loads(ran.out)["datasets"]}
    assert list(listed) == list(dataset_records())
    assert listed["dtd"]["n_images"] == {"train": 2820, "val": 1128, "test": 1692}
    assert {"licence", "size_mib", "url", "dead_links", "templates", "epochs", "search"} <= set(listed["dtd"])
    assert {entry["found"] for entry in listed.values()} == {None}


@pytest.mark.parametrize(
    "word", ["1,281,167", "50,889", "CC BY 4.0", "144.0 GiB", "90 MiB", "where", "no longer at http"]
)
def test_people_get_a_table_and_where_to_get_each(word: str, run: Callable[..., Ran]) -> None:
    ran = run("datasets")
    assert (ran.status, ran.err) == (0, "")
    assert word in ran.out
    for record in dataset_records().values():
        assert f"{record.name}: {record.url}" in ran.out


def test_what_is_found_below_the_data_root_is_said(run: Callable[..., Ran], data_root: Path) -> None:
    shown = run("datasets", "--data-root", data_root).out
    rows = [line.split() for line in shown.splitlines() if ":" not in line]
    found = {row[0]: row[-1] for row in rows if row and row[0] in dataset_records()}
    assert (found["oxford_pets"], found["dtd"], found["eurosat"]) == ("yes", "no", "part")
    assert " (not found: eurosat/split_zhou_EuroSAT.json; " in shown
    entries = json.loads(run("datasets", "--data-root", data_root, "--json").out)["datasets"]
    assert {entry["name"]: entry["absent"] for entry in entries if entry["name"] in ("oxford_pets", "eurosat")} == {
        "oxford_pets": [],
        "eurosat": ["eurosat/split_zhou_EuroSAT.json"],
    }


def test_the_data_root_may_stand_in_the_environment(
    run: Callable[..., Ran], data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIP_ADAPTER_DATA", str(data_root))
    assert "OxfordPets is complete: 1 of 1 classes listed." in run("datasets", "check", "oxford_pets").out


def test_a_data_set_that_is_not_whole_is_exit_status_1_and_what_is_missing_is_named(
    run: Callable[..., Ran], data_root: Path
) -> None:
    assert run("datasets", "check", "oxford_pets", "--data-root", data_root).status == 0
    (data_root / "oxford_pets" / "images" / "val.jpg").unlink()
    ran = run("datasets", "check", "oxford_pets", "--data-root", data_root)
    assert (ran.status, ran.err) == (1, "")
    assert "Missing of val: val.jpg\nOxfordPets is not complete" in ran.out
    ran = run("datasets", "check", "oxford_pets", "--data-root", data_root, "--json")
    assert ran.status == 1
    record = json.loads(ran.out)
    assert (record["name"], record["complete"]) == ("oxford_pets", False)
    assert record["parts"][1] == {
        "part": "val",
        "n_published": 1,
        "n_listed": 1,
        "missing": ["val.jpg"],
        "problem": None,
    }


def test_a_flat_imagenet_is_exit_status_1_with_the_way_to_class_folders(
    run: Callable[..., Ran], tmp_path: Path
) -> None:
    for part in ("train", "val"):
        (tmp_path / "imagenet" / "images" / part).mkdir(parents=True)
    (tmp_path / "imagenet" / "images" / "val" / "ILSVRC2012_val_00000001.JPEG").touch()
    ran = run("datasets", "check", "imagenet", "--data-root", tmp_path)
    assert (ran.status, ran.err) == (1, "")
    assert "Cannot list train: 1,000 of 1,000 class folders are not in" in ran.out
    assert "outside class folders: sort them into one folder per class\nImageNet is not" in ran.out


@pytest.mark.parametrize(
    ("args", "status", "message"),
    [
        (["list"], 2, "'list'"),
        (["check"], 2, "needs the name of a data set"),
        (["check", "dtd"], 2, "needs --data-root DIR, or TIP_ADAPTER_DATA"),
        (["check", "dtdd", "--data-root", "."], 2, "did you mean dtd?"),
        (["check", "dtd", "--data-root", "nowhere"], 1, "data root nowhere is no folder"),
        (["--data-root", "nowhere"], 1, "data root nowhere is no folder"),
        (["check", "dtd", "--data-root", "."], 1, "DTD is not whole below .: no dtd; its photos: https://"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(
    args: list[str], status: int, message: str, run: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = run("datasets", *args)
    assert (ran.status, ran.out) == (status, "")
    assert message in ran.err
