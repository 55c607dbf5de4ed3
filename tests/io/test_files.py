from __future__ import annotations

import errno
import os
import random
import signal
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from io import FileIO
from itertools import count
from pathlib import Path
from threading import Barrier
from typing import TYPE_CHECKING

import pytest

from tip_adapter.errors import NotWritable, OutputExists
from tip_adapter.io import files
from tip_adapter.io.files import (
    append_lines,
    cache_folder,
    folder_writer,
    lock_folder,
    make_folder,
    open_regular,
    read_bounded,
    readable_path,
    refuse_existing,
    write_file,
    write_folder,
)

if TYPE_CHECKING:
    from typing import Any

SOAK = "TIP_ADAPTER_SOAK" in os.environ
OLD = {"config.json": b"old", "arrays": b"old arrays"}
NEW = {"config.json": b"new", "arrays": b"new arrays", "README.md": b"new text"}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """An existing folder, alone in its parent."""
    folder = tmp_path / "models" / "model"
    write_folder(folder, OLD)
    return folder


def full_disk_at(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, nth: int) -> None:
    """Let the nth call of `owner.name` find the disk full."""
    calls, real = count(1), getattr(owner, name)

    def fails(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == nth:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, fails)


def writes_onto_a_full_disk(model: Path, owner: Any, name: str, step: int, *, exchange: bool) -> bool:
    """Whether replacing the folder met the full disk, and said so."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        if not exchange:
            monkeypatch.setattr(files, "_exchange_at_once", lambda *_: False)
        full_disk_at(monkeypatch, owner, name, step)
        try:
            write_folder(model, NEW, replace=True)
        except NotWritable as error:
            return "No space left on device" in str(error)
    return False


# ---- files


def test_a_file_is_written_with_the_folders_above_it(tmp_path):
    write_file(tmp_path / "a" / "b.json", b"{}")
    assert (tmp_path / "a" / "b.json").read_bytes() == b"{}"


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path):
    write_file(tmp_path / "list.csv", b"old")
    write_file(tmp_path / "list.csv", b"new")
    assert contents(tmp_path) == {"list.csv": b"new"}


@pytest.mark.parametrize(("owner", "name"), [(Path, "open"), (os, "fsync"), (os, "replace")])
def test_a_full_disk_leaves_only_the_old_file(tmp_path, monkeypatch, owner, name):
    write_file(tmp_path / "list.csv", b"old")
    full_disk_at(monkeypatch, owner, name, 1)
    with pytest.raises(NotWritable, match="No space left on device"):
        write_file(tmp_path / "list.csv", b"new")
    assert contents(tmp_path) == {"list.csv": b"old"}


def test_a_file_error_says_that_nothing_was_changed_only_where_it_is_so(tmp_path, monkeypatch):
    write_file(tmp_path / "list.csv", b"old")
    full_disk_at(monkeypatch, os, "fsync", 2)
    with pytest.raises(NotWritable) as caught:
        write_file(tmp_path / "list.csv", b"new")
    assert ("nothing was changed" in str(caught.value)) == (contents(tmp_path) == {"list.csv": b"old"})


def test_a_file_cannot_be_written_below_a_file(tmp_path):
    write_file(tmp_path / "file", b"")
    with pytest.raises(NotWritable):
        write_file(tmp_path / "file" / "list.csv", b"")


# ---- folders


def test_a_folder_is_written_with_the_folders_above_it(tmp_path):
    write_folder(tmp_path / "a" / "model", NEW)
    assert contents(tmp_path / "a" / "model") == NEW
    assert os.listdir(tmp_path / "a") == ["model"]


def test_an_empty_folder_may_be_written_into(tmp_path):
    (tmp_path / "model").mkdir()
    write_folder(tmp_path / "model", NEW)
    assert contents(tmp_path / "model") == NEW


def test_what_exists_is_refused_and_left_as_it_is(model):
    with pytest.raises(OutputExists, match="force=True"):
        write_folder(model, NEW)
    assert contents(model) == OLD
    assert os.listdir(model.parent) == ["model"]


def test_an_existing_file_is_refused_or_replaced(tmp_path):
    (tmp_path / "model").touch()
    with pytest.raises(OutputExists):
        write_folder(tmp_path / "model", NEW)
    write_folder(tmp_path / "model", NEW, replace=True)
    assert contents(tmp_path / "model") == NEW


def test_a_link_is_followed_and_stays_a_link(model, tmp_path):
    link = tmp_path / "latest"
    link.symlink_to(model)
    with pytest.raises(OutputExists, match="latest"):
        refuse_existing(link)
    with pytest.raises(OutputExists):
        write_folder(link, NEW)
    write_folder(link, NEW, replace=True)
    assert link.is_symlink()
    assert contents(model) == NEW
    assert sorted(os.listdir(tmp_path)) == ["latest", "models"]
    assert os.listdir(model.parent) == ["model"]


def test_a_link_to_nothing_leads_to_what_was_written(tmp_path):
    (tmp_path / "latest").symlink_to("model")
    write_folder(tmp_path / "latest", NEW)
    assert contents(tmp_path / "model") == NEW
    assert (tmp_path / "latest").is_symlink()


def test_a_link_to_itself_is_refused(tmp_path):
    (tmp_path / "model").symlink_to("model")
    with pytest.raises(OutputExists):
        write_folder(tmp_path / "model", NEW)


def test_a_file_behind_a_link_is_replaced_and_the_link_stays(tmp_path):
    (tmp_path / "latest.csv").symlink_to("list.csv")
    write_file(tmp_path / "latest.csv", b"new")
    assert (tmp_path / "latest.csv").is_symlink()
    assert (tmp_path / "list.csv").read_bytes() == b"new"


def attempts(path: Path, n: int, *, replace: bool) -> list[str]:
    """What `n` writers at once got: "" or the name of the error."""
    start = Barrier(n)

    def write(writer: int) -> str:
        start.wait()
        try:
            write_folder(path, dict.fromkeys("abc", b"%d" % writer), replace=replace)
        except NotWritable as error:
            return type(error).__name__
        return ""

    with ThreadPoolExecutor(n) as pool:
        return list(pool.map(write, range(n)))


@pytest.mark.parametrize("place", ["nothing", "an empty folder"])
def test_fault_48_of_several_writers_that_may_not_replace_one_wins(tmp_path, place):
    for run in range(10):
        folder = tmp_path / str(run) / "model"
        if place == "an empty folder":
            folder.mkdir(parents=True)
        got = attempts(folder, 4, replace=False)
        assert sorted(got) == ["", *["OutputExists"] * 3]
        assert set(contents(folder).values()) == {b"%d" % got.index("")}
        assert os.listdir(folder.parent) == ["model"]


def test_fault_48_of_several_writers_that_may_replace_the_last_stays_whole(tmp_path):
    for run in range(10):
        folder = tmp_path / str(run) / "model"
        assert attempts(folder, 4, replace=True) == [""] * 4
        assert len(set(contents(folder).values())) == 1
        assert os.listdir(folder.parent) == ["model"]


def test_what_appears_while_a_folder_is_written_is_not_replaced(tmp_path, monkeypatch):
    folder = tmp_path / "model"
    real = files._write_synced

    def another_is_faster(path: Path, content: bytes) -> None:
        real(path, content)
        if not folder.exists():
            folder.mkdir()
            (folder / "config.json").write_bytes(b"theirs")

    monkeypatch.setattr(files, "_write_synced", another_is_faster)
    with pytest.raises(OutputExists):
        write_folder(folder, NEW)
    assert contents(folder) == {"config.json": b"theirs"}
    assert os.listdir(tmp_path) == ["model"]


def test_replacing_a_folder_leaves_nothing_of_the_old_one(model):
    write_folder(model, {"arrays": b"new"}, replace=True)
    assert contents(model) == {"arrays": b"new"}
    assert os.listdir(model.parent) == ["model"]


@pytest.mark.parametrize("exchange", [True, False], ids=["in one step", "in two renames"])
@pytest.mark.parametrize(("owner", "name"), [(Path, "open"), (Path, "mkdir"), (os, "fsync"), (os, "replace")])
def test_fault_47_a_disk_full_at_any_step_leaves_only_the_old_folder_and_leaves_it_whole(model, owner, name, exchange):
    for step in count(1):
        failed = writes_onto_a_full_disk(model, owner, name, step, exchange=exchange)
        if not failed:
            break
        assert (contents(model) if model.exists() else None) == OLD, f"{name} number {step} failed"
        assert os.listdir(model.parent) == ["model"], f"{name} number {step} failed"
    assert step > 1
    assert contents(model) == NEW


@pytest.mark.parametrize("name", ["open", "mkdir"])
def test_a_disk_full_at_the_first_writing_leaves_no_folder(tmp_path, monkeypatch, name):
    full_disk_at(monkeypatch, Path, name, 2)
    with pytest.raises(NotWritable):
        write_folder(tmp_path / "models" / "model", NEW)
    assert os.listdir(tmp_path / "models") == []


def test_a_name_as_long_as_the_disk_takes_is_written_and_replaced(tmp_path):
    folder = tmp_path / ("x" * 255)
    write_folder(folder, OLD)
    write_folder(folder, NEW, replace=True)
    assert contents(folder) == NEW
    assert len(os.listdir(tmp_path)) == 1


def test_a_name_too_long_for_the_disk_is_reported(tmp_path):
    with pytest.raises(NotWritable, match="File name too long"):
        write_folder(tmp_path / ("x" * 256), NEW)
    assert os.listdir(tmp_path) == []


def test_the_current_folder_is_refused_like_any_that_has_something_in_it(model, monkeypatch):
    monkeypatch.chdir(model)
    with pytest.raises(OutputExists):
        write_folder(".", NEW)
    assert contents(model) == OLD


# ---- what a crash leaves


class Crash(BaseException):
    """The machine stops here."""


@pytest.fixture
def crashed(model: Path) -> Path:
    """A folder whose replacement in two renames was cut short between them."""
    real, renames = os.replace, count(1)

    def stops(*args: Any) -> None:
        if next(renames) == 3:  # not onto the existing folder, then that aside, and now
            raise Crash
        real(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "_exchange_at_once", lambda *_: False)
        patch.setattr(os, "replace", stops)
        with pytest.raises(Crash):
            write_folder(model, NEW, replace=True)
    assert not model.exists()
    return model


def test_after_a_crash_between_the_two_renames_readers_find_the_old_and_change_nothing(crashed):
    before = sorted(os.listdir(crashed.parent))
    assert contents(readable_path(crashed)) == OLD
    assert sorted(os.listdir(crashed.parent)) == before


@pytest.mark.parametrize("place", ["nothing", "an empty folder"])
def test_after_a_crash_between_the_two_renames_the_next_writer_finds_the_old(crashed, place):
    if place == "an empty folder":
        crashed.mkdir()
    with pytest.raises(OutputExists):
        write_folder(crashed, NEW)
    assert contents(crashed) == OLD
    write_folder(crashed, NEW, replace=True)
    assert contents(crashed) == NEW
    assert os.listdir(crashed.parent) == ["model"]


def test_a_crash_after_the_second_rename_is_finished_by_the_next_writer(model, monkeypatch):
    real, renames = os.replace, count(1)

    def stops(*args: Any) -> None:
        if next(renames) == 4:
            raise Crash
        real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(files, "_exchange_at_once", lambda *_: False)
        patch.setattr(os, "replace", stops)
        with pytest.raises(Crash):
            write_folder(model, OLD | NEW, replace=True)
    assert len(os.listdir(model.parent)) == 2  # the old folder is still there
    assert contents(readable_path(model)) == OLD | NEW
    write_folder(model, NEW, replace=True)
    assert contents(model) == NEW
    assert os.listdir(model.parent) == ["model"]


@pytest.mark.parametrize("path", ["model", "missing", ".", "/"])
def test_without_a_crash_a_folder_is_read_at_its_own_path(model, path, monkeypatch):
    monkeypatch.chdir(model)
    assert readable_path(Path(path)) == Path(path)


def left_by_a_killed_writer(folder: Path, number: int = 0) -> Path:
    """The staging folder of a writer that was killed in the middle."""
    staging = folder / f".tip-adapter-{number:032x}.new"
    staging.mkdir()
    (staging / "arrays").write_bytes(b"half")
    return staging


@pytest.fixture
def a_day_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock is ahead, since the time at which a file's state changed cannot be set."""
    now = time.time
    monkeypatch.setattr(files.time, "time", lambda: now() + 25 * 60 * 60)


@pytest.mark.usefixtures("a_day_later")
def test_a_day_later_the_next_writer_removes_what_killed_ones_left(model):
    left_by_a_killed_writer(model.parent)
    (model.parent / f".tip-adapter-{1:032x}.new").write_bytes(b"half a file")
    with pytest.raises(OutputExists):
        write_folder(model, NEW)
    assert os.listdir(model.parent) == ["model"]


def test_what_a_running_writer_works_on_stays(model):
    staging = left_by_a_killed_writer(model.parent)
    write_folder(model, NEW, replace=True)
    write_file(model.parent / "list.csv", b"")
    assert (staging / "arrays").read_bytes() == b"half"


def test_a_copy_of_an_old_file_is_not_taken_for_a_leftover(tmp_path, monkeypatch):
    (tmp_path / "old.jpg").write_bytes(b"photo")
    os.utime(tmp_path / "old.jpg", (0, 0))
    real = files._copy_synced

    def another_sweeps(source, new):
        real(source, new)
        files.sweep(tmp_path / "sorted")

    monkeypatch.setattr(files, "_copy_synced", another_sweeps)
    with files.folder_writer(tmp_path / "sorted") as writer, (tmp_path / "old.jpg").open("rb") as source:
        assert writer.copy(source, "new.jpg")
    assert contents(tmp_path / "sorted") == {"new.jpg": b"photo"}
    assert (tmp_path / "sorted" / "new.jpg").stat().st_mtime == 0


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot sync folders")
@pytest.mark.parametrize("link", [False, True])
def test_files_added_to_a_folder_are_synced_with_their_folders_when_the_block_ends(tmp_path, monkeypatch, link):
    """A name is durable once its folder is synced, and a new folder once the one above it is."""
    synced, fsync = [], os.fsync

    def record(handle):
        synced.append(os.fstat(handle).st_ino)
        fsync(handle)

    monkeypatch.setattr(os, "fsync", record)
    (tmp_path / "photo.jpg").write_bytes(b"photo")
    out = tmp_path / "sorted"
    with files.folder_writer(out) as writer:
        for label in ("cat", "dog"):
            with (tmp_path / "photo.jpg").open("rb") as source:
                added = writer.link(source.name, f"{label}/1.jpg") if link else writer.copy(source, f"{label}/1.jpg")
            assert added
            assert (out / label / "1.jpg").read_bytes() == b"photo"
            with (tmp_path / "photo.jpg").open("rb") as source:
                assert not writer.copy(source, f"{label}/1.jpg")
        synced = [
            number for number in synced if number in {(out / name / "1.jpg").stat().st_ino for name in ("cat", "dog")}
        ]
        assert len(synced) == (0 if link else 2)
        synced.clear()
    assert set(synced) == {path.stat().st_ino for path in (out, out / "cat", out / "dog")}


def test_a_linked_file_is_found_after_both_folders_moved_together(tmp_path):
    (tmp_path / "here" / "photos").mkdir(parents=True)
    (tmp_path / "here" / "photos" / "1.jpg").write_bytes(b"photo")
    with files.folder_writer(tmp_path / "here" / "sorted" / "all") as writer:
        assert writer.link(tmp_path / "here" / "photos" / "1.jpg", "cat/1.jpg")
        assert not writer.link(tmp_path / "here" / "photos" / "1.jpg", "cat/1.jpg")
    (tmp_path / "here").rename(tmp_path / "there")
    assert (tmp_path / "there" / "sorted" / "all" / "cat" / "1.jpg").read_bytes() == b"photo"


def test_a_folder_is_made_with_those_above_it_and_an_existing_one_stays(tmp_path):
    files.make_folder(tmp_path / "a" / "b" / "c")
    (tmp_path / "a" / "b" / "c" / "file").write_bytes(b"mine")
    files.make_folder(tmp_path / "a" / "b" / "c")
    assert contents(tmp_path / "a" / "b" / "c") == {"file": b"mine"}
    with pytest.raises(NotWritable, match=r"cannot write .*file"):
        files.make_folder(tmp_path / "a" / "b" / "c" / "file")


@pytest.mark.parametrize("kind", ["file", "folder", "link", "nothing"])
def test_what_is_not_needed_is_removed_or_stays_where_that_fails(tmp_path, monkeypatch, kind):
    def fails(*_args, **_options):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_bytes(b"mine")
    place = tmp_path / "place"
    if kind == "file":
        place.write_bytes(b"")
    elif kind == "folder":
        write_folder(place, NEW)
    elif kind == "link":
        place.symlink_to(tmp_path / "kept")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", fails)
        patch.setattr(os, "unlink", fails)
        files.remove(place)
        assert os.path.lexists(place) == (kind != "nothing")
    files.remove(place)
    assert os.listdir(tmp_path) == ["kept"]
    assert contents(tmp_path / "kept") == {"file": b"mine"}


def test_sweeping_a_folder_that_is_not_there_does_nothing(tmp_path):
    files.sweep(tmp_path / "nothing", age_s=0)
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(sys.platform != "linux", reason="RENAME_EXCHANGE is Linux's")
def test_linux_exchanges_two_folders_in_one_step(tmp_path):
    write_folder(tmp_path / "one", OLD)
    write_folder(tmp_path / "other", NEW)
    assert files._exchange_at_once(tmp_path / "one", tmp_path / "other")
    assert (contents(tmp_path / "one"), contents(tmp_path / "other")) == (NEW, OLD)
    assert not files._exchange_at_once(tmp_path / "one", tmp_path / "nothing")


def test_with_the_folder_locked_leftovers_of_any_age_are_removed(model):
    left_by_a_killed_writer(model)
    with lock_folder(model):
        files.sweep(model, age_s=0)
    assert contents(model) == OLD


@pytest.mark.usefixtures("a_day_later")
def test_only_our_own_names_are_swept(model):
    others = [
        model.parent / ".tip-adapter-mine.new",
        model.parent / f".tip-adapter-{0:032x}.new.mine",
        model.parent / f".tip-adapter-{1:032x}.new",
    ]
    for other in others[:2]:
        other.mkdir()
    others[2].symlink_to(others[0])
    write_folder(model, NEW, replace=True)
    assert all(os.path.lexists(other) for other in others)


@pytest.mark.skipif(os.name == "nt", reason="locks are POSIX")
def test_who_locks_a_folder_waits_and_then_locks_the_one_that_is_there(model):
    seen = []

    def add(version):
        with lock_folder(model):
            seen.append(contents(model).get("version"))
            write_folder(model, NEW | {"version": version}, replace=True)

    others = [threading.Thread(target=add, args=(b"%d" % number,)) for number in range(8)]
    with lock_folder(model):
        for other in others:
            other.start()
        write_folder(model, NEW | {"version": b"first"}, replace=True)
        assert seen == []
    for other in others:
        other.join()
    last = contents(model)["version"]
    assert seen[0] == b"first"
    assert sorted([*seen[1:], last]) == [b"%d" % number for number in range(8)]
    assert os.listdir(model.parent) == ["model"]


@pytest.mark.skipif(os.name == "nt", reason="locks are POSIX")
def test_a_file_is_not_locked_as_a_folder(tmp_path):
    (tmp_path / "file").touch()
    assert files._locked(tmp_path / "file", wait=True) is None


def test_a_name_too_long_or_impossible_is_no_folder(tmp_path):
    assert files.is_folder(tmp_path)
    for name in ("nothing", "x" * 5000, "a\0b"):
        assert not files.is_folder(tmp_path / name)


def test_without_a_folder_there_is_no_lock_to_wait_for(tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path / "missing", tmp_path / "file", tmp_path / "missing" / "x"):
        with lock_folder(place), lock_folder(place):
            pass
    assert os.listdir(tmp_path) == ["file"]


_WRITER = """
import sys
from itertools import count
from tip_adapter.io.files import write_folder
for version in count():
    write_folder(sys.argv[1], {name: b"%d" % version * 20_000 for name in "abc"}, replace=True)
    print(version, flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="kill -9 is POSIX")
def test_fault_46_kill_9_at_any_moment_leaves_the_old_or_the_new_folder_and_its_leftovers_are_swept(
    tmp_path, monkeypatch
):
    moments, now = random.Random(0), time.time()
    for run in range(1000 if SOAK else 20):
        folder = tmp_path / str(run) / "model"
        with subprocess.Popen([sys.executable, "-c", _WRITER, folder], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"0\n"
            time.sleep(moments.uniform(0, 0.1))
            writer.send_signal(signal.SIGKILL)
            said = writer.stdout.read().split()
        found = contents(readable_path(folder))
        assert set(found) == {"a", "b", "c"}
        assert len(set(found.values())) == 1
        last = int(said[-1]) if said else 0
        assert found["a"] in (b"%d" % last * 20_000, b"%d" % (last + 1) * 20_000)
        write_folder(folder, NEW, replace=True)
        with monkeypatch.context() as patch:
            patch.setattr(files.time, "time", lambda: now + 25 * 60 * 60)
            files.sweep(folder.parent)
        assert os.listdir(folder.parent) == ["model"]
        assert contents(folder) == NEW


# ---- reading


def test_a_file_is_opened_to_read(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    with open_regular(tmp_path / "file") as file:
        assert file.read() == b"content"


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_file_is_refused_at_once(tmp_path, kind):
    path = Path("/dev/zero") if kind == "device" else tmp_path / kind
    if kind != "device":
        os.mkfifo(path) if kind == "pipe" else path.mkdir()
    with pytest.raises(OSError, match=r"not a regular file|Is a directory"), open_regular(path):
        pass


def test_a_file_is_read_up_to_the_limit(tmp_path):
    (tmp_path / "file").write_bytes(b"x" * 2**20)
    assert len(read_bounded(tmp_path / "file", 2**20)) == 2**20
    with pytest.raises(ValueError, match="above the limit of 1,000 bytes"):
        read_bounded(tmp_path / "file", 1000)
    (tmp_path / "file").write_bytes(b"x" * (2**20 + 1))
    with pytest.raises(ValueError, match="above the limit of 1 MiB"):
        read_bounded(tmp_path / "file", 2**20)


@pytest.mark.parametrize(("limit", "words"), [(2**20, "1 MiB"), (2**20 - 1, "1,048,575 bytes"), (3 * 2**20, "3 MiB")])
def test_a_limit_is_stated_in_its_own_unit(tmp_path, limit, words):
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", limit + 1)
    with pytest.raises(ValueError, match=f"it is above the limit of {words}$"):
        read_bounded(tmp_path / "large", limit)


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_only_regular_files_are_read(tmp_path, kind):
    path = Path("/dev/zero") if kind == "device" else tmp_path / kind
    if kind != "device":
        os.mkfifo(path) if kind == "pipe" else path.mkdir()
    with pytest.raises(OSError, match=r"not a regular file|Is a directory"):
        read_bounded(path, 10)


# ---- the cache folder


def test_the_cache_is_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("TIP_ADAPTER_HOME", str(tmp_path))
    assert cache_folder() == tmp_path


def test_the_cache_is_else_where_the_platform_keeps_caches(monkeypatch):
    monkeypatch.delenv("TIP_ADAPTER_HOME", raising=False)
    monkeypatch.setattr(files.platformdirs, "user_cache_path", lambda name: Path("caches") / name)
    assert cache_folder() == Path("caches") / "tip-adapter"


# ---- lines


def test_appending_starts_after_the_last_whole_line(tmp_path):
    place = tmp_path / "new" / "lines"
    with append_lines(place) as append:
        append(b"one")
        append(b"two")
    place.write_bytes(place.read_bytes() + b"thr")
    with append_lines(place) as append:
        append(b"four")
    assert place.read_bytes() == b"one\ntwo\nfour\n"


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_was_removed_or_replaced_meanwhile_takes_no_more_lines(tmp_path, replaced):
    place = tmp_path / "lines"
    with append_lines(place) as append:
        append(b"one")
        place.unlink()
        if replaced:
            place.write_bytes(b"theirs\n")
        with pytest.raises(NotWritable, match="was removed or replaced by another program; restore it"):
            append(b"two")
    assert not place.exists() or place.read_bytes() == b"theirs\n"


def test_opening_without_appending_keeps_whole_lines(tmp_path):
    place = tmp_path / "lines"
    place.write_bytes(b"half a line")
    with append_lines(place):
        pass
    assert place.read_bytes() == b""
    place.write_bytes(b"one\n")
    with append_lines(place):
        pass
    assert place.read_bytes() == b"one\n"


def test_fault_48_a_file_of_lines_has_one_writer_and_is_released(tmp_path):
    with append_lines(tmp_path / "lines") as append:
        append(b"one")
        with pytest.raises(NotWritable, match="being written by another run"), append_lines(tmp_path / "lines"):
            pass
        append(b"two")
    with append_lines(tmp_path / "lines") as append:
        append(b"three")
    assert (tmp_path / "lines").read_bytes() == b"one\ntwo\nthree\n"


def test_fault_47_a_line_that_the_disk_takes_by_half_is_taken_back(tmp_path, monkeypatch):
    def half(file, content):
        file.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with append_lines(tmp_path / "lines") as append:
        append(b"one")
        with monkeypatch.context() as patch:
            patch.setattr(files, "_write_whole", half)
            with pytest.raises(NotWritable, match="No space left"):
                append(b"two")
        append(b"three")
    assert (tmp_path / "lines").read_bytes() == b"one\nthree\n"


@pytest.mark.parametrize("most", [1, 2, 5])
def test_a_line_is_whole_where_one_write_takes_only_a_part(tmp_path, monkeypatch, most):
    class Slow(FileIO):
        def write(self, content):
            return super().write(content[:most])

    monkeypatch.setattr(Path, "open", lambda path, mode, **_: Slow(path, mode.replace("b", "")))
    with append_lines(tmp_path / "lines") as append:
        append(b"one")
        append("zwölf".encode())
    assert (tmp_path / "lines").read_bytes() == "one\nzwölf\n".encode()


def test_a_folder_that_cannot_be_made_is_reported(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotWritable), append_lines(tmp_path / "file" / "lines"):
        pass


def test_an_error_inside_the_block_is_not_changed(tmp_path):
    with pytest.raises(FileNotFoundError), append_lines(tmp_path / "lines"):
        (tmp_path / "nothing").read_bytes()


def test_a_folder_that_is_claimed_is_claimed_once(tmp_path):
    first = files.claim_folder(tmp_path)
    assert first is not None
    assert files.claim_folder(tmp_path) is None
    os.close(first)
    again = files.claim_folder(tmp_path)
    assert again is not None
    os.close(again)


def test_a_failure_to_write_is_reported_in_the_systems_words_alone(tmp_path, monkeypatch):
    full_disk_at(monkeypatch, os, "fsync", 1)
    with pytest.raises(NotWritable, match=r"file: No space left on device; free space or choose another place$"):
        write_file(tmp_path / "file", b"new")


def test_fault_84_of_several_writers_of_a_file_that_may_not_replace_one_wins(tmp_path):
    place = tmp_path / "file"
    write_file(place, b"first", replace=False)
    with pytest.raises(OutputExists, match="file exists"):
        write_file(place, b"second", replace=False)
    assert (place.read_bytes(), os.listdir(tmp_path)) == (b"first", ["file"])


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_what_is_replaced_keeps_its_permissions(model):
    model.chmod(0o700)
    (model / "config.json").chmod(0o640)
    write_folder(model, {"config.json": b"{}"}, replace=True)
    write_file(model / "config.json", b"{ }")
    assert [stat.S_IMODE(path.stat().st_mode) for path in (model, model / "config.json")] == [0o700, 0o640]


def test_fault_79_a_file_where_a_folder_is_needed_is_named(tmp_path):
    (tmp_path / "cat").touch()
    with pytest.raises(NotWritable, match=f"{tmp_path / 'cat'} is no folder; move it"), folder_writer(tmp_path) as to:
        to.link(tmp_path / "cat", "cat/1.png")
    with pytest.raises(NotWritable, match=f"write {tmp_path / 'cat'}: {tmp_path / 'cat'} is no folder"):
        make_folder(tmp_path / "cat")


def test_without_hard_links_a_name_that_is_taken_is_not_taken_again(tmp_path, monkeypatch):
    def unsupported(*_args):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", unsupported)
    new, place = tmp_path / "new", tmp_path / "place"
    new.write_text("new")
    place.write_text("there before")
    assert not files._move_if_free(new, place)
    assert (new.read_text(), place.read_text()) == ("new", "there before")
    place.unlink()
    assert files._move_if_free(new, place)
    assert (new.exists(), place.read_text()) == (False, "new")
