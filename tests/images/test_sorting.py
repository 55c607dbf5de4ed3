"""Photos sorted into folders: names that do harm, runs that are repeated or cut short, disks that are full."""

from __future__ import annotations

import csv
import errno
import os
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from tip_adapter.errors import NotWritable, OutputExists, UsageError
from tip_adapter.images.sorting import COLUMNS, folder_name, outside, sorting
from tip_adapter.io import files

HOSTILE = [
    *("../../x", "..", ".", "/etc/passwd", "a/b", "a\\b", "C:\\x", ".hidden", "cat ", " cat", "cat.", "...", " . "),
    *("CON", "con.jpg", "Aux", "nul .x", "COM7", "lpt0", "_none_of_these", "_NONE_OF_THESE", "sorted.csv", "Sorted"),
    *("a\nb", "a\rb", "\x1b[2J", "a\u202egnp.exe", "a\u2028b", "what?", "a:b", "a|b", '"', "<script>", "*", "x" * 1000),
    *("猫" * 300, "\x7f"),
]


def record(photo: Path, label: str | None, **more: Any) -> dict[str, Any]:
    return {"image": str(photo), "label": label, "score": 0.75, "top": [], "error": None, **more}


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "sorted.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below the folder but its table, hidden ones too → content."""
    found = [path for path in folder.rglob("*") if not path.is_dir() and path.name != "sorted.csv"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "sorted"


@pytest.fixture
def photo(tmp_path: Path):
    """photo("a/1.jpg", b"content") → its path; what is sorted is not decoded, so that any content does."""

    def write(name: str, content: bytes = b"one") -> Path:
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    return write


# ---- where a photo goes ----------------------------------------------------------------------------------------------


def test_a_photo_is_copied_into_the_folder_of_its_label_and_stays_where_it_was(out: Path, photo) -> None:
    one = photo("1.jpg")
    os.utime(one, (1_000_000_000, 1_000_000_000))
    with sorting(out) as sorter:
        assert sorter.put(one, record(one, "tabby cat")) == "tabby cat/1.jpg"
    assert tree(out) == {"tabby cat/1.jpg": b"one"}
    assert one.read_bytes() == b"one"
    assert (out / "tabby cat" / "1.jpg").stat().st_mtime == 1_000_000_000
    assert table(out) == [
        {
            "image": str(one),
            "sorted_to": "tabby cat/1.jpg",
            "label": "tabby cat",
            "score": "0.75",
            "reason": "",
            "error": "",
        }
    ]


def test_none_of_these_has_a_folder_and_what_cannot_be_read_has_none(out: Path, photo) -> None:
    one, bad, gone = photo("1.jpg"), photo("bad.jpg"), out / "gone.jpg"
    with sorting(out) as sorter:
        assert sorter.put(one, record(one, None)) == "_none_of_these/1.jpg"
        assert sorter.put(bad, record(bad, None, score=None, error="cannot read bad.jpg: no photo")) is None
        assert sorter.put(gone, record(gone, "cat")) is None
    assert tree(out) == {"_none_of_these/1.jpg": b"one"}
    assert [row["error"] for row in table(out)] == [
        "",
        "cannot read bad.jpg: no photo",
        f"cannot read {gone}: No such file or directory",
    ]


def test_the_same_content_is_there_once_and_another_of_the_same_name_gets_a_number(out: Path, photo) -> None:
    photos = [photo("a/1.jpg", b"one"), photo("b/1.jpg", b"two"), photo("c/1.jpg", b"one"), photo("d/1.jpg", b"three")]
    expected = ["cat/1.jpg", "cat/1 (2).jpg", "cat/1.jpg", "cat/1 (3).jpg"]
    for n_placed, n_present in [(3, 1), (0, 4)]:
        with sorting(out) as sorter:
            assert [sorter.put(path, record(path, "cat")) for path in photos] == expected
        assert (sorter.n_placed, sorter.n_present) == (n_placed, n_present)
        assert tree(out) == {"cat/1.jpg": b"one", "cat/1 (2).jpg": b"two", "cat/1 (3).jpg": b"three"}
    assert [row["sorted_to"] for row in table(out)] == expected


def test_what_stands_there_is_never_overwritten(out: Path, photo) -> None:
    (out / "cat").mkdir(parents=True)
    (out / "cat" / "1.jpg").write_bytes(b"mine")
    (out / "cat" / "1 (2).jpg").symlink_to("nowhere")
    (out / "cat" / "1 (3).jpg").mkdir()
    one = photo("1.jpg")
    with sorting(out) as sorter:
        assert sorter.put(one, record(one, "cat")) == "cat/1 (4).jpg"
    assert (out / "cat" / "1.jpg").read_bytes() == b"mine"
    assert not (out / "cat" / "nowhere").exists()


def test_another_program_that_takes_the_name_meanwhile_keeps_it(
    out: Path, photo, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = files._copy_synced

    def another_is_faster(source: Any, new: Path) -> None:
        real(source, new)
        (out / "cat" / "1.jpg").write_bytes(b"theirs")

    one = photo("1.jpg")
    monkeypatch.setattr(files, "_copy_synced", another_is_faster)
    with sorting(out) as sorter:
        assert sorter.put(one, record(one, "cat")) == "cat/1 (2).jpg"
    assert tree(out) == {"cat/1.jpg": b"theirs", "cat/1 (2).jpg": b"one"}


@pytest.mark.parametrize("taken", [False, True])
def test_a_disk_without_hard_links_is_no_hindrance(
    out: Path, photo, monkeypatch: pytest.MonkeyPatch, taken: bool
) -> None:
    def unsupported(*_: Any) -> None:
        raise OSError(errno.EPERM, "not here")

    monkeypatch.setattr(os, "link", unsupported)
    photos = [photo("a/1.jpg", b"one"), *([photo("b/1.jpg", b"two")] if taken else [])]
    with sorting(out) as sorter:
        placed = [sorter.put(path, record(path, "cat")) for path in photos]
    assert placed == ["cat/1.jpg", "cat/1 (2).jpg"][: len(photos)]
    assert sorted(tree(out).values()) == [b"one", b"two"][: len(photos)]


def test_fault_47_without_hard_links_a_name_that_was_taken_is_given_back(
    out: Path, photo, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: Any) -> None:
        raise OSError(errno.EPERM, "not here")

    one = photo("1.jpg")
    monkeypatch.setattr(os, "link", unsupported)
    monkeypatch.setattr(os, "replace", unsupported)
    with pytest.raises(NotWritable, match="cannot write"), sorting(out) as sorter:
        sorter.put(one, record(one, "cat"))
    assert tree(out) == {}


def test_links_are_relative_and_survive_a_move_of_both(out: Path, photo, tmp_path: Path) -> None:
    one, other = photo("a/1.jpg"), photo("b/1.jpg", b"two")
    for _ in range(2):
        with sorting(out, link=True) as sorter:
            assert sorter.put(one, record(one, "cat")) == "cat/1.jpg"
            assert sorter.put(other, record(other, "cat")) == "cat/1 (2).jpg"
    assert (out / "cat" / "1.jpg").readlink() == Path("../../photos/a/1.jpg")
    (tmp_path / "moved").mkdir()
    for name in ("photos", "sorted"):
        (tmp_path / name).rename(tmp_path / "moved" / name)
    assert tree(tmp_path / "moved" / "sorted") == {"cat/1.jpg": b"one", "cat/1 (2).jpg": b"two"}


def test_what_lies_in_the_folder_already_is_left_out(out: Path, photo, tmp_path: Path) -> None:
    one = photo("1.jpg")
    with sorting(out, link=True) as sorter:
        sorter.put(one, record(one, "cat"))
    (tmp_path / "other way").symlink_to(out)
    inside = [out / "cat" / "1.jpg", tmp_path / "other way" / "cat" / "1.jpg", out / ".." / "sorted" / "2.jpg"]
    assert outside([one, *inside, tmp_path / "sorted 2" / "1.jpg"], out) == [0, 1 + len(inside)]


# ---- the table -------------------------------------------------------------------------------------------------------


def test_the_strongest_reason_is_a_photo_or_the_name(out: Path, photo) -> None:
    one = photo("1.jpg")
    side = {"label": "cat", "name": "tabby", "text": 3.0, "images": [{"id": "cat/7.jpg", "part": 4.0}], "others": 9.0}
    with sorting(out) as sorter:
        sorter.put(one, record(one, "cat", explanation=[side, side]))
    assert table(out)[0]["reason"] == "looks like cat/7.jpg"
    with sorting(out) as sorter:
        sorter.put(one, record(one, "cat", explanation=[side | {"text": 5.0}]))
    assert [row["reason"] for row in table(out)] == ["the name tabby"]


def test_photos_of_earlier_runs_stay_in_the_table(out: Path, photo) -> None:
    one, other = photo("1.jpg"), photo("2.jpg")
    for path, label in [(one, "cat"), (other, "dog"), (one, "dog")]:
        with sorting(out) as sorter:
            sorter.put(path, record(path, label))
    assert [(row["image"], row["sorted_to"]) for row in table(out)] == [
        (str(one), "dog/1.jpg"),
        (str(other), "dog/2.jpg"),
    ]


def test_fault_16_cells_are_no_formulas_also_when_written_again(out: Path, photo) -> None:
    one = photo("=1.jpg")
    for _ in range(3):
        with sorting(out) as sorter:
            sorter.put(one, record(Path("=1.jpg"), "@SUM(A1)"))
    (row,) = table(out)
    assert (row["image"], row["label"], row["sorted_to"]) == ("'=1.jpg", "'@SUM(A1)", "'@SUM(A1)/=1.jpg")


@pytest.mark.parametrize("content", [b"file_name,label\n1.jpg,cat\n", b"", b"\xff\xfe", b'"'])
def test_a_table_of_something_else_is_not_overwritten(out: Path, content: bytes) -> None:
    out.mkdir()
    (out / "sorted.csv").write_bytes(content)
    with pytest.raises(OutputExists, match="is not a table of sorted images"), sorting(out):
        pass
    assert (out / "sorted.csv").read_bytes() == content


def test_a_run_that_ends_early_keeps_its_table_and_is_finished_by_the_next(out: Path, photo) -> None:
    photos = [photo(f"{n}.jpg", b"%d" % n) for n in range(4)]

    def stopped(first: list[Path]) -> None:
        with sorting(out) as sorter:
            for path in first:
                sorter.put(path, record(path, "cat"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped(photos[:2])
    assert len(table(out)) == 2
    with sorting(out) as sorter:
        for path in photos:
            sorter.put(path, record(path, "cat"))
    assert (sorter.n_placed, sorter.n_present, len(table(out))) == (2, 2, 4)
    assert sorted(os.listdir(out)) == ["cat", "sorted.csv"]


def test_an_error_of_the_caller_is_not_taken_for_one_of_writing(out: Path) -> None:
    with pytest.raises(BrokenPipeError), sorting(out):
        raise BrokenPipeError(errno.EPIPE, "nobody reads")
    assert os.listdir(out) == []


# ---- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", HOSTILE, ids=ascii)
def test_fault_16_a_label_that_is_no_safe_name_gets_one(label: str) -> None:
    name = folder_name(label)
    assert name != label
    assert len(name.encode()) <= 255
    assert not set(name) & set('/\\:*?"<>|\0')
    assert name[0] not in ". "
    assert name[-1] not in ". "
    assert all(unicodedata.category(c)[0] != "C" for c in name)
    assert name.split(".")[0].lower() not in ("con", "aux", "nul", "com7", "lpt0", "_none_of_these", "sorted")


def test_fault_16_two_labels_never_share_a_folder() -> None:
    labels = [*HOSTILE, "a_b", "cat", "_", "x" * 255, "x" * 256, "x" * 257]
    assert len({folder_name(label).casefold() for label in labels}) == len(set(labels))


@pytest.mark.parametrize(
    "label", ["tabby cat", "naïve", "猫", "🐈", "👩\u200d🌾", "a.b", "-x", "~", "=cmd()", "console", "x" * 255, "'"]
)
def test_a_label_that_is_a_safe_name_stands_as_it_is(label: str) -> None:
    assert folder_name(label) == label


@pytest.mark.parametrize("label", HOSTILE, ids=ascii)
def test_fault_16_nothing_is_written_outside_the_folder(out: Path, photo, tmp_path: Path, label: str) -> None:
    one = photo("1.jpg")
    with sorting(out) as sorter:
        place = sorter.put(one, record(one, label))
    assert tree(out) == {place: b"one"}
    assert sorted(os.listdir(tmp_path)) == ["photos", "sorted"]


@pytest.mark.parametrize("name", [b"\xff.jpg", b"a\nb.jpg", b"x" * 251 + b".jpg", "猫".encode() * 83 + b".jpg", b"-rf"])
def test_fault_16_a_photos_own_name_is_kept_or_cut(out: Path, photo, name: bytes) -> None:
    photos = [photo(f"{n}/{os.fsdecode(name)}", b"%d" % n) for n in range(2)]
    with sorting(out) as sorter:
        first, second = [sorter.put(path, record(Path(f"{n}.jpg"), "cat")) for n, path in enumerate(photos)]
    assert os.fsencode(first) == b"cat/" + name
    assert second.endswith(f" (2){photos[0].suffix}")
    assert sorted(tree(out).values()) == [b"0", b"1"]


# ---- several runs into one folder ------------------------------------------------------------------------------------

SORT = """
import sys
from pathlib import Path
from tip_adapter.images.sorting import sorting

folder, photos, link = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "link"
with sorting(folder, link=link) as sorter:
    print("begun", flush=True)
    sys.stdin.readline()
    for path in sorted(photos.iterdir()):
        record = {"image": str(path), "label": "cat", "score": 0.75, "top": [], "error": None}
        sorter.put(path, record)
"""


@pytest.mark.parametrize("kind", ["copy", "link"])
def test_fault_84_two_processes_that_sort_into_one_folder_keep_each_others_rows_and_files(
    out: Path, photo, kind: str
) -> None:
    # Of the same name: ten of the same content in both, ten of different content.
    every = [photo(f"{run}/{n}.jpg", f"{n} {run if n % 2 else ''}".encode()) for run in "ab" for n in range(20)]
    before = photo("before.jpg", b"before")
    with sorting(out) as sorter:
        sorter.put(before, record(before, "dog"))
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", SORT, out, every[0].parents[1] / name, kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for name in "ab"
    ]
    for run in runs:
        run.stdout.readline()  # both have read the table
    for run in runs:
        run.stdin.write(b"\n")
        run.stdin.flush()
    for run in runs:
        run.communicate(timeout=120)
        assert run.returncode == 0
    rows = {row["image"]: row["sorted_to"] for row in table(out)}
    assert rows.keys() == set(map(str, [before, *every]))
    for image, place in rows.items():
        assert (out / place).read_bytes() == Path(image).read_bytes()
    assert sorted(tree(out)) == sorted(set(rows.values()))
    assert len(tree(out)) == 31  # the same content is placed once


def test_fault_84_an_interrupted_run_keeps_the_rows_of_another(out: Path, photo) -> None:
    one, other = photo("1.jpg", b"1"), photo("2.jpg", b"2")

    def interrupted() -> None:
        with sorting(out) as sorter:
            sorter.put(one, record(one, "cat"))
            with sorting(out) as second:
                second.put(other, record(other, "dog"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [row["image"] for row in table(out)] == [str(other), str(one)]


def test_fault_84_another_photo_of_the_same_name_as_typed_keeps_the_row_of_the_first(
    out: Path, photo, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, content in (("a", b"one"), ("b", b"two"), ("a", b"one")):
        photo(f"{folder}/1.jpg", content)
        monkeypatch.chdir(out.parent / "photos" / folder)
        with sorting(out) as sorter:
            sorter.put("1.jpg", record(Path("1.jpg"), "cat"))
    assert [(row["image"], row["sorted_to"]) for row in table(out)] == [
        ("1.jpg", "cat/1.jpg"),
        ("1.jpg", "cat/1 (2).jpg"),
    ]


def test_fault_84_a_photo_that_can_be_read_now_loses_its_error_and_never_its_place(out: Path, photo) -> None:
    image = photo("1.jpg")
    for error in ("damaged", None, "damaged"):
        with sorting(out) as sorter:
            sorter.put(image, record(image, None if error else "cat", error=error))
        assert [row["sorted_to"] for row in table(out)].count("cat/1.jpg") == (error is None or len(table(out)) == 2)
    assert [row["error"] for row in table(out)] == ["", "damaged"]


def test_fault_84_a_table_that_became_something_else_meanwhile_is_not_replaced(out: Path, photo) -> None:
    one = photo("1.jpg")

    def sort() -> None:
        with sorting(out) as sorter:
            sorter.put(one, record(one, "cat"))
            (out / "sorted.csv").write_text("mine")

    with pytest.raises(OutputExists, match=r"sorted\.csv exists and is not a table of sorted images"):
        sort()
    assert (out / "sorted.csv").read_text() == "mine"
    assert tree(out) == {"cat/1.jpg": b"one"}


# ---- disks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("owner", "step"),
    [(shutil, "copyfileobj"), (os, "fsync"), (os, "link"), (Path, "symlink_to"), (os, "utime")],
    ids=lambda thing: thing if isinstance(thing, str) else thing.__name__,
)
def test_fault_47_a_full_disk_is_a_sentence_and_nothing_half_written_stays(
    out: Path, photo, monkeypatch: pytest.MonkeyPatch, owner: Any, step: str
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def sort(path: Path) -> None:
        with sorting(out, link=step == "symlink_to") as sorter:
            monkeypatch.setattr(owner, step, full)
            sorter.put(path, record(path, "cat"))

    with pytest.raises(NotWritable, match=r"cannot write .*cat/1.jpg: No space left on device; free space"):
        sort(photo("1.jpg"))
    assert tree(out) == {}
    assert os.listdir(out) == ["cat"]


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotWritable, match="cannot write"), sorting(tmp_path / place):
        pass


def test_a_file_in_the_place_of_a_class_folder_is_a_sentence(out: Path, photo) -> None:
    out.mkdir()
    (out / "cat").write_bytes(b"mine")
    one = photo("1.jpg")
    with pytest.raises(NotWritable, match=r"cannot write .*cat/1.jpg"), sorting(out) as sorter:
        sorter.put(one, record(one, "cat"))
    assert tree(out) == {"cat": b"mine"}


def test_fault_46_what_a_killed_run_left_half_written_is_removed_by_one_a_day_later(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out.mkdir()
    left = out / f".tip-adapter-{'0' * 32}.new"
    left.write_bytes(b"half")
    with sorting(out):
        assert left.exists()
    now = files.time.time()
    monkeypatch.setattr(files.time, "time", lambda: now + 25 * 60 * 60)
    with sorting(out):
        assert not left.exists()
    assert os.listdir(out) == []


@pytest.mark.parametrize("folder", [None, 5, ""])
def test_what_is_no_path_is_a_usage_error(folder: Any) -> None:
    with pytest.raises(UsageError, match="sort_into takes a path"), sorting(folder):
        pass


def test_the_table_has_exactly_these_columns() -> None:
    assert COLUMNS == ["image", "sorted_to", "label", "score", "reason", "error"]
