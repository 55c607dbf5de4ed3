"""Durable writing: a reader sees the old or the new, never half. The only place that writes files.

Everything is written aside, synced, and renamed into place. A folder is replaced by moving the old one aside first;
if the machine stops between the two renames, `recover_folder` (called before a folder is read or written) moves it back.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import platformdirs

from tip_adapter.errors import NotWritable, OutputExists

if TYPE_CHECKING:
    from collections.abc import Mapping


def write_file(path: str | os.PathLike[str], content: bytes) -> None:
    """Write one file durably, replacing what was there.

    Raises
    ------
    NotWritable
        With the system's reason (no space, read-only, …); the old file is untouched.
    """
    path = Path(path)
    aside = path.with_name(f".{path.name}.{uuid4().hex}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_synced(aside, content)
        os.replace(aside, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise _not_writable(path, error) from error
    finally:
        aside.unlink(missing_ok=True)


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
        With the system's reason; what was there before still is.
    """
    path = Path(path)
    recover_folder(path)
    if not replace:
        refuse_existing(path)
    aside = path.with_name(f".{path.name}.{uuid4().hex}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.mkdir()
        for name, content in files.items():
            _write_synced(aside / name, content)
        _sync_folder(aside)
        _swap_in(aside, path)
    except OSError as error:
        raise _not_writable(path, error) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def refuse_existing(path: str | os.PathLike[str]) -> None:
    """Raise OutputExists unless `path` is free or an empty folder."""
    path = Path(path)
    if path.is_dir() and not path.is_symlink() and not any(path.iterdir()):
        return
    if path.exists() or path.is_symlink():
        raise OutputExists(f"{path} exists; choose another place or pass --force (force=True) to replace it")


def recover_folder(path: str | os.PathLike[str]) -> None:
    """Finish or undo a replacement of `path` that was cut short between its two renames."""
    path = Path(path)
    old = _old_aside(path)
    if not old.exists():
        return
    if path.exists():
        shutil.rmtree(old, ignore_errors=True)
    else:
        os.replace(old, path)


def cache_folder() -> Path:
    """Folder for what can be made again: TIP_ADAPTER_HOME, else the platform's own cache folder."""
    return Path(os.environ.get("TIP_ADAPTER_HOME") or platformdirs.user_cache_path("tip-adapter"))


def _swap_in(new: Path, path: Path) -> None:
    # A rename onto a folder with something in it fails, so the old one steps aside first.
    old = _old_aside(path)
    if path.is_dir() and not path.is_symlink():
        os.replace(path, old)
    elif path.exists() or path.is_symlink():
        path.unlink()
    os.replace(new, path)
    _sync_folder(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def _old_aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


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
    return NotWritable(f"cannot write {path}: {error.strerror or error}; nothing was changed")
