"""Durable writing: a reader sees the old or the new, never half. The only place that writes files.

Everything is written aside, synced, and moved into place. A folder changes places with the old one in a single step
where the system can do that (Linux, macOS); elsewhere the old one steps aside first, and if the machine stops in
between, `recover_folder` moves it back.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import platformdirs

from tip_adapter.errors import NotWritable, OutputExists, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def write_file(path: str | os.PathLike[str], content: bytes) -> None:
    """Write one file durably, replacing what was there.

    Raises
    ------
    NotWritable
        With the system's reason (no space, read-only, …).
    """
    path = Path(path).absolute()
    aside = _aside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_synced(aside, content)
        os.replace(aside, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise _not_writable(path, error) from error
    finally:
        _remove(aside)


def write_folder(path: str | os.PathLike[str], files: Mapping[str, bytes], *, replace: bool = False) -> None:
    """Write a folder of files durably, whole or not at all.

    Parameters
    ----------
    path : path of the folder
    files : file name → content
    replace : bool
        Whether a folder (or file) that stands there may be replaced.

    Raises
    ------
    OutputExists
        Something that is not an empty folder stands at `path` and `replace` is false.
    NotWritable
        With the system's reason.
    """
    path = Path(path).absolute()
    aside = _aside(path)
    try:
        recover_folder(path)
        if not replace:
            refuse_existing(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.mkdir()
        for name, content in files.items():
            _write_synced(aside / name, content)
        _sync_folder(aside)
        _put_in_place(aside, path)
    except OutputExists:
        raise
    except OSError as error:
        raise _not_writable(path, error) from error
    finally:
        _remove(aside)  # nothing, the old one after an exchange, or the new one after a failure


def refuse_existing(path: str | os.PathLike[str]) -> None:
    """Raise OutputExists unless `path` is free or an empty folder."""
    path = Path(path)
    try:
        empty = path.is_dir() and not path.is_symlink() and not any(path.iterdir())
        taken = not empty and (path.exists() or path.is_symlink())
    except OSError as error:
        raise _not_writable(path, error) from error
    if taken:
        raise OutputExists(f"{printable(path)} exists; choose another place or pass --force (force=True) to replace it")


def recover_folder(path: str | os.PathLike[str]) -> None:
    """Finish or undo a replacement of `path` that was cut short between its two renames."""
    path = Path(path).absolute()
    old = _old(path)
    if not os.path.lexists(old):
        return
    if path.exists():
        _remove(old)
    else:
        os.replace(old, path)


def cache_folder() -> Path:
    """Folder for what can be made again: TIP_ADAPTER_HOME, else the platform's own cache folder."""
    return Path(os.environ.get("TIP_ADAPTER_HOME") or platformdirs.user_cache_path("tip-adapter"))


def _put_in_place(new: Path, path: Path) -> None:
    """Let `new` become `path`; if that cannot be made to last, all is as before."""
    undo: Callable[[], object]
    if not (path.exists() or path.is_symlink()):
        os.replace(new, path)
        undo = lambda: os.replace(path, new)  # noqa: E731
    elif _exchange(new, path):
        undo = lambda: _exchange(new, path)  # noqa: E731
    else:
        undo = _step_aside_and_in(new, path)
    try:
        _sync_folder(path.parent)
    except OSError:
        undo()
        raise
    _remove(_old(path))


def _step_aside_and_in(new: Path, path: Path) -> Callable[[], None]:
    """Two renames; returns how to undo them."""

    def move_back() -> None:
        os.replace(_old(path), path)

    def undo() -> None:
        os.replace(path, new)
        move_back()

    os.replace(path, _old(path))
    try:
        os.replace(new, path)
    except OSError:
        move_back()
        raise
    return undo


def _exchange(one: Path, other: Path) -> bool:
    """Let two paths change places in one step; False where the system or file system cannot."""
    names = os.fsencode(one), os.fsencode(other)
    at_current_folder, swap = -100, 2  # AT_FDCWD; RENAME_EXCHANGE and macOS's RENAME_SWAP are both 2
    if sys.platform not in ("linux", "darwin"):
        return False
    library = ctypes.CDLL(None)
    if hasattr(library, "renameat2"):
        return library.renameat2(at_current_folder, names[0], at_current_folder, names[1], swap) == 0
    if hasattr(library, "renamex_np"):
        return library.renamex_np(*names, swap) == 0
    return False


def _remove(path: Path) -> None:
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid4().hex}.new")


def _old(path: Path) -> Path:
    return path.with_name(f".{path.name}.tip-adapter-old")


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    # Windows cannot open folders; there the rename itself is all that can be had.
    if os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _not_writable(path: Path, error: OSError) -> NotWritable:
    return NotWritable(f"cannot write {printable(path)}: {error.strerror or error}; free space or choose another place")
