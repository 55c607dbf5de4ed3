"""`tip-adapter predict --sort-into`: photos copied or linked into class folders."""

from __future__ import annotations

import csv
import errno
import os
from typing import TYPE_CHECKING

import pytest

from tip_adapter.io import files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Ran


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "sorted.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


SORTED = {f"{label}/{n}.png" for label in ("red", "green", "blue") for n in (100, 101, 102)}


def test_photos_are_copied_and_the_answers_printed_as_ever(
    run: Callable[..., Ran], model: Path, unseen: Path, tmp_path: Path
) -> None:
    out = tmp_path / "sorted"
    plain = run("predict", model, unseen, "--json")
    ran = run("predict", model, unseen, "--json", "--sort-into", out)
    assert (ran.status, ran.out) == (0, plain.out)
    assert ran.err == f"note: 9 images copied, 0 there already; see {out / 'sorted.csv'}\n"
    assert names(out) == SORTED | {"sorted.csv"}
    assert names(unseen) == SORTED
    assert {(row["sorted_to"].split("/")[0], row["reason"]) for row in table(out)} == {
        ("red", ""),
        ("green", ""),
        ("blue", ""),
    }
    again = run("predict", model, unseen, "--quiet", "--sort-into", out)
    assert (again.status, again.err, names(out)) == (0, "", SORTED | {"sorted.csv"})


def test_one_sorted_image_is_counted_in_the_singular(
    run: Callable[..., Ran], model: Path, unseen: Path, tmp_path: Path
) -> None:
    ran = run("predict", model, unseen / "red" / "100.png", "--sort-into", tmp_path / "sorted")
    assert ran.err.startswith("note: 1 image copied, 0 there already; ")


def test_links_and_reasons(run: Callable[..., Ran], model: Path, unseen: Path, tmp_path: Path) -> None:
    ran = run("predict", model, unseen, "--sort-into", tmp_path / "sorted", "--link", "--explain")
    assert ran.status == 0
    assert "9 images linked" in ran.err
    for row in table(tmp_path / "sorted"):
        assert (tmp_path / "sorted" / row["sorted_to"]).readlink().name == row["sorted_to"].split("/")[1]
        assert row["reason"].startswith(("looks like ", "the name "))


def test_none_of_these_and_unreadable_photos(
    run: Callable[..., Ran], model: Path, unseen: Path, tmp_path: Path
) -> None:
    (unseen / "red" / "bad.png").write_bytes(b"no photo")
    ran = run("predict", model, unseen / "red", "--sort-into", tmp_path / "sorted", "--min-score", "1")
    assert ran.status == 0
    assert names(tmp_path / "sorted") == {"sorted.csv", *(f"_none_of_these/{n}.png" for n in (100, 101, 102))}
    (bad,) = [row for row in table(tmp_path / "sorted") if row["error"]]
    assert (bad["sorted_to"], bad["label"]) == ("", "")


@pytest.mark.parametrize("link", [[], ["--link"]])
def test_a_folder_inside_the_photos_is_not_sorted_into_itself(
    run: Callable[..., Ran], model: Path, unseen: Path, link: list[str]
) -> None:
    for note in ("", "9 of 18 images are in"):
        ran = run("predict", model, unseen, "--sort-into", unseen / "sorted", *link)
        assert ran.status == 0
        assert note in ran.err
        assert names(unseen / "sorted") == SORTED | {"sorted.csv"}
    ran = run("predict", model, unseen / "sorted", "--sort-into", unseen / "sorted")
    assert ran.status == 2
    assert "choose another folder" in ran.err


def test_link_without_a_folder_is_a_usage_error(run: Callable[..., Ran], model: Path, unseen: Path) -> None:
    ran = run("predict", model, unseen, "--link")
    assert (ran.status, ran.out) == (2, "")
    assert "--sort-into" in ran.err


def test_fault_47_a_full_disk_is_a_sentence(
    run: Callable[..., Ran], model: Path, unseen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files, "_copy_synced", full)
    ran = run("predict", model, unseen, "--sort-into", tmp_path / "sorted")
    assert ran.status == 1
    assert "No space left on device; free space" in ran.err
    assert names(tmp_path / "sorted") == set()


def test_a_file_in_the_place_of_the_folder_is_a_sentence(
    run: Callable[..., Ran], model: Path, unseen: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    ran = run("predict", model, unseen, "--sort-into", tmp_path / "file")
    assert ran.status == 1
    assert ran.err.startswith("error: cannot write")
    assert (tmp_path / "file").read_bytes() == b"mine"


def test_fault_16_a_hostile_label_stays_inside_the_folder(
    run: Callable[..., Ran], make_photos: Callable[..., Path], tmp_path: Path
) -> None:
    photos = make_photos("photos", CON=2, red=2)
    assert run("fit", photos, "--out", tmp_path / "model", "--encoder", "toy").status == 0
    assert run("predict", tmp_path / "model", photos, "--sort-into", tmp_path / "sorted").status == 0
    assert {name.split("/")[0] for name in names(tmp_path / "sorted")} == {"_CON~a3dbc4b6", "red", "sorted.csv"}
