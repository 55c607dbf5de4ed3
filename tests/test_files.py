from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tip_adapter import files
from tip_adapter.errors import NotWritable, OutputExists
from tip_adapter.files import cache_folder, recover_folder, refuse_existing, write_file, write_folder

if TYPE_CHECKING:
    from typing import Any

OLD = {"config.json": b"old", "arrays": b"old arrays"}
NEW = {"config.json": b"new", "arrays": b"new arrays", "README.md": b"new text"}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder that stands there already, alone in its parent."""
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
            monkeypatch.setattr(files, "_exchange", lambda *_: False)
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


def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path):
    write_file(tmp_path / "list.csv", b"old")
    write_file(tmp_path / "list.csv", b"new")
    assert contents(tmp_path) == {"list.csv": b"new"}


@pytest.mark.parametrize(("owner", "name"), [(Path, "open"), (os, "fsync"), (os, "replace")])
def test_a_full_disk_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch, owner, name):
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


def test_what_stands_there_is_refused_and_left_as_it_is(model):
    with pytest.raises(OutputExists, match="--force"):
        write_folder(model, NEW)
    assert contents(model) == OLD
    assert os.listdir(model.parent) == ["model"]


@pytest.mark.parametrize("kind", ["file", "link to a folder", "link to nothing"])
def test_a_file_or_link_that_stands_there_is_refused(tmp_path, kind):
    path = tmp_path / "model"
    if kind == "file":
        path.touch()
    else:
        (tmp_path / "elsewhere").mkdir()
        path.symlink_to(tmp_path / ("elsewhere" if "folder" in kind else "nothing"))
    with pytest.raises(OutputExists):
        refuse_existing(path)
    write_folder(path, NEW, replace=True)
    assert contents(path) == NEW
    assert not path.is_symlink()


def test_replacing_a_folder_leaves_nothing_of_the_old_one(model):
    write_folder(model, {"arrays": b"new"}, replace=True)
    assert contents(model) == {"arrays": b"new"}
    assert os.listdir(model.parent) == ["model"]


@pytest.mark.parametrize("exchange", [True, False], ids=["in one step", "in two renames"])
@pytest.mark.parametrize(("owner", "name"), [(Path, "open"), (Path, "mkdir"), (os, "fsync"), (os, "replace")])
def test_fault_47_a_disk_full_at_any_step_leaves_the_old_folder_whole_and_nothing_beside_it(
    model, owner, name, exchange
):
    for step in count(1):
        failed = writes_onto_a_full_disk(model, owner, name, step, exchange=exchange)
        if not failed:
            break
        assert (contents(model) if model.exists() else None) == OLD, f"{name} number {step} failed"
        assert os.listdir(model.parent) == ["model"], f"{name} number {step} failed"
    assert step > 1 or (exchange and name == "replace")  # one step needs no rename
    assert contents(model) == NEW


@pytest.mark.parametrize("name", ["open", "mkdir"])
def test_a_disk_full_at_the_first_writing_leaves_no_folder(tmp_path, monkeypatch, name):
    full_disk_at(monkeypatch, Path, name, 2)
    with pytest.raises(NotWritable):
        write_folder(tmp_path / "models" / "model", NEW)
    assert os.listdir(tmp_path / "models") == []


@pytest.mark.parametrize("length", [240, 300])
def test_a_name_too_long_for_the_disk_is_said_so(tmp_path, length):
    with pytest.raises(NotWritable, match="File name too long"):
        write_folder(tmp_path / ("x" * length), NEW)
    assert os.listdir(tmp_path) == []


def test_the_current_folder_is_refused_like_any_that_has_something_in_it(model, monkeypatch):
    monkeypatch.chdir(model)
    with pytest.raises(OutputExists):
        write_folder(".", NEW)
    assert contents(model) == OLD


# ---- what a crash leaves


class Crash(BaseException):
    """The machine stops here."""


def test_a_crash_between_the_two_renames_is_undone(model, monkeypatch):
    real, renames = os.replace, count(1)

    def stops(*args: Any) -> None:
        if next(renames) == 2:
            raise Crash
        real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(files, "_exchange", lambda *_: False)
        patch.setattr(os, "replace", stops)
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(Crash):
            write_folder(model, NEW, replace=True)
    assert not model.exists()
    recover_folder(model)
    assert contents(model) == OLD


def test_a_crash_after_the_two_renames_is_finished(model, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(files, "_exchange", lambda *_: False)
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)
        write_folder(model, NEW, replace=True)
    assert os.listdir(model.parent) != ["model"]
    recover_folder(model)
    assert contents(model) == NEW
    assert os.listdir(model.parent) == ["model"]


@pytest.mark.parametrize("path", ["model", "missing"])
def test_where_nothing_crashed_there_is_nothing_to_recover(model, path):
    recover_folder(model.parent / path)
    assert contents(model) == OLD
    assert os.listdir(model.parent) == ["model"]


def test_the_current_folder_can_be_recovered(model, monkeypatch):
    monkeypatch.chdir(model)
    recover_folder(".")
    assert contents(model) == OLD


_WRITER = """
import sys
from itertools import count
from tip_adapter.files import write_folder
for version in count():
    write_folder(sys.argv[1], {name: b"%d" % version * 20_000 for name in "abc"}, replace=True)
    print(version, flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="kill -9 is POSIX")
def test_fault_46_kill_9_at_any_moment_leaves_the_old_or_the_new_folder(tmp_path):
    moments = random.Random(0)
    for run in range(10):
        folder = tmp_path / str(run) / "model"
        with subprocess.Popen([sys.executable, "-c", _WRITER, folder], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"0\n"
            time.sleep(moments.uniform(0, 0.1))
            writer.send_signal(signal.SIGKILL)
            said = writer.stdout.read().split()
        recover_folder(folder)
        found = contents(folder)
        assert set(found) == {"a", "b", "c"}
        assert len(set(found.values())) == 1
        last = int(said[-1]) if said else 0
        assert found["a"] in (b"%d" % last * 20_000, b"%d" % (last + 1) * 20_000)


# ---- the cache folder


def test_the_cache_is_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("TIP_ADAPTER_HOME", str(tmp_path))
    assert cache_folder() == tmp_path


def test_the_cache_is_else_where_the_platform_keeps_caches(monkeypatch):
    monkeypatch.delenv("TIP_ADAPTER_HOME", raising=False)
    monkeypatch.setattr(files.platformdirs, "user_cache_path", lambda name: Path("caches") / name)
    assert cache_folder() == Path("caches") / "tip-adapter"
