"""Files are written durably, so that a reader sees the old content or the new, never half; and read within limits.

Only this module writes files; readers never do.

New content is written to a staging path in the same folder, synced, and renamed into place; a symbolic link is followed. A
folder is exchanged with the one that it replaces in a single step where the system can (Linux, macOS), else by renames. If
the machine stops between two of these, `readable_path` finds the old folder, and the next writer moves it back. What a
killed writer leaves is removed once it is a day old.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import re
import shutil
import stat
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from uuid import uuid4

import platformdirs

from tip_adapter.errors import FolderError, NotWritable, OutputExists
from tip_adapter.text import printable

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from io import BufferedReader

#: How a file begins whose content Git LFS has not downloaded.
LFS_POINTER = b"version https://git-lfs"
_PREFIX = ".tip-adapter-"
#: Names of staging paths.
STAGING = re.compile(re.escape(_PREFIX) + r"[0-9a-f]{32}\.new")
#: Age at which a staging path belongs to a killed writer: a running one changes its own every few seconds.
_LEFTOVER_S = 24 * 60 * 60
#: Errors of a file system without hard links.
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
#: Errors of renaming a folder to a path that is not free and not an empty folder.
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EISDIR)


def write_file(path: str | os.PathLike[str], content: bytes, *, replace: bool = True) -> None:
    """Write one file durably.

    Parameters
    ----------
    path : path of the file; a link is followed
    content : bytes
    replace : whether what is there may be replaced. Of several concurrent writers without it, one succeeds.

    Raises
    ------
    OutputExists
        Something is at `path`, and `replace` is false.
    NotWritable
        With the system's reason.
    """
    with _staging(path) as (place, new):
        _write_synced(new, content)
        if replace:
            _keep_mode(place, new)
            os.replace(new, place)
        elif not _move_if_free(new, place):
            raise _output_exists(path)
        _sync_folder(place.parent)


def write_folder(
    path: str | os.PathLike[str],
    files: Mapping[str, bytes],
    *,
    replace: bool = False,
    kept: Callable[[str], bool] | None = None,
) -> None:
    """Write a folder of files durably, whole or not at all.

    Parameters
    ----------
    path : path of the folder; a link is followed
    files : file name → content
    replace : bool
        Whether an existing folder (or file) may be replaced. Of several concurrent writers without it, one succeeds.
    kept : function of a name, whether a file or folder of that name in a replaced folder is moved to the new one; None for none

    Raises
    ------
    OutputExists
        `path` is not an empty folder, and `replace` is false.
    NotWritable
        With the system's reason.
    """
    with writing_folder(path, replace=replace, kept=kept) as folder:
        for name, content in files.items():
            _write_synced(folder / name, content)


@contextmanager
def writing_file(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Write one file durably from a stream, replacing what was there when the block ends; raises NotWritable."""
    with _staging(path) as (place, new):
        with new.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, place)
        _sync_folder(place.parent)


@contextmanager
def writing_folder(
    path: str | os.PathLike[str], *, replace: bool = False, kept: Callable[[str], bool] | None = None
) -> Iterator[Path]:
    """A new folder, which becomes `path` when the block ends; arguments and errors as `write_folder`.

    Files in it are written by `write_file` or `writing_file`.
    """
    with _staging(path) as (place, new):
        _recover(place)
        if not replace:
            refuse_existing(place)
        new.mkdir()
        yield new
        _sync_folder(new)
        _move_in(new, place, replace=replace, kept=kept)


class FolderWriter:
    """Adds files to a folder, given by its real path: each whole or not at all, never replacing an existing one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.changed: set[Path] = set()

    def copy(self, source: IO[bytes], name: str) -> bool:
        """Add a copy of an open file, with its time of change; False if `name` exists.

        Raises NotWritable, also if the source cannot be read to its end; nothing half-written stays.
        """
        new = self.folder / f"{_PREFIX}{uuid4().hex}.new"
        with self._adding(name) as place:
            try:
                _copy_synced(source, new)
                return _move_if_free(new, place)
            finally:
                new.unlink(missing_ok=True)

    def link(self, source: str | os.PathLike[str], name: str) -> bool:
        """Add a symbolic link, relative, so that both may move together; False if `name` exists."""
        with self._adding(name) as place:
            try:
                place.symlink_to(os.path.relpath(_real(source), _real(place.parent)))
            except FileExistsError:
                return False
            return True

    @contextmanager
    def _adding(self, name: str) -> Iterator[Path]:
        place = self.folder / name
        with _as_not_writable(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            self.changed.update((place.parent, place.parent.parent))
            yield place


@contextmanager
def folder_writer(folder: str | os.PathLike[str]) -> Iterator[FolderWriter]:
    """Create a folder if there is none, and add files to it, which are durable when the block ends; raises NotWritable."""
    place = _real(folder)
    with _as_not_writable(folder):
        place.mkdir(parents=True, exist_ok=True)
    sweep(place)
    writer = FolderWriter(place)
    yield writer
    for changed in writer.changed:
        with _as_not_writable(changed):
            _sync_folder(changed)


def make_folder(path: str | os.PathLike[str]) -> None:
    """Create a folder and its parents durably; an existing one stays as it is. Raises NotWritable, also for a file."""
    place = _real(path)
    with _as_not_writable(path):
        place.mkdir(parents=True, exist_ok=True)
        _sync_folder(place.parent)


@contextmanager
def append_lines(path: str | os.PathLike[str]) -> Iterator[Callable[[bytes], None]]:
    """Append to a file as its only writer, by a function of one line without its end; each is whole and synced, or absent.

    Half a line that an interrupted writer left is removed. Raises NotWritable, also if another process is writing the file, or has removed
    or replaced it.
    """
    place = _real(path)
    with ExitStack() as stack:
        with _as_not_writable(path):
            place.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(place.open("a+b", buffering=0))
            if sys.platform != "win32":
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError as error:
                    raise _used_by_another(path) from error
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)

        def append(line: bytes) -> None:
            if not _is_open_at(place, file):
                raise NotWritable(
                    f"{printable(path)} was removed or replaced by another program; restore it, and run this again"
                )
            end = file.seek(0, os.SEEK_END)
            try:
                _write_whole(file, line + b"\n")
                os.fsync(file.fileno())
            except OSError as error:
                with suppress(OSError):
                    file.truncate(end)
                raise not_writable(path, error) from error

        yield append


def _is_open_at(place: Path, file: IO[bytes]) -> bool:
    """Whether the file at a path is this one."""
    with suppress(OSError):
        return os.path.samestat(place.stat(), os.fstat(file.fileno()))
    return False


def _write_whole(file: IO[bytes], content: bytes) -> None:
    """Write without a buffer, which could reach the disk after an error; one write may take only a part."""
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]


@contextmanager
def lock_folder(path: str | os.PathLike[str], *, wait: bool = True) -> Iterator[None]:
    """Lock a folder that is read, changed and replaced: other writers that lock it wait, readers do not.

    Without a folder, or on a file system without locks, nothing is locked. No lock file is written. Raises NotWritable if
    another writer has locked it and `wait` is false.
    """
    handle = None if sys.platform == "win32" else _locked(_real(path), wait=wait)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


def claim_folder(path: str | os.PathLike[str]) -> int | None:
    """A descriptor that has a folder to itself until it is closed, by this process or its end; None if another one has it.

    On a file system without locks every process gets one.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    except OSError:  # no locks here
        pass
    return handle


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for files that are needed for a moment; it is removed with them."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def _locked(place: Path, *, wait: bool) -> int | None:
    """A locked descriptor of the folder that is at `place` once the lock is acquired."""
    while True:
        try:
            handle = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(handle), place.stat()):
                return handle
        except BlockingIOError as error:
            os.close(handle)
            raise _used_by_another(place) from error
        except OSError:  # no locks here, or the folder is gone
            return handle
        os.close(handle)  # another writer has replaced the folder meanwhile


def _used_by_another(path: str | os.PathLike[str]) -> NotWritable:
    return NotWritable(f"{printable(path)} is being written by another run; wait for it, or use another folder")


def remove(path: Path) -> None:
    """Remove a file, a link or a folder that is not needed any more; if that fails, it stays."""
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def sweep(folder: str | os.PathLike[str], *, age_s: float = _LEFTOVER_S) -> None:
    """Remove the staging paths of killed writers in a folder: those unchanged for `age_s` seconds.

    Who has locked the folder for all its writers may pass 0.
    """
    place = _real(folder)
    with suppress(OSError):
        for name in filter(STAGING.fullmatch, os.listdir(place)):
            # Not st_mtime, which `FolderWriter.copy` sets to that of the source.
            status = (place / name).lstat()
            if not stat.S_ISLNK(status.st_mode) and time.time() - status.st_ctime >= age_s:
                remove(place / name)


def refuse_existing(path: str | os.PathLike[str]) -> None:
    """Raise OutputExists unless `path` is free or an empty folder."""
    with _as_not_writable(path):
        if _is_taken(_real(path)):
            raise _output_exists(path)


def not_writable(path: str | os.PathLike[str], error: OSError) -> NotWritable:
    """The system's error as NotWritable, with its reason."""
    if isinstance(error, (FileExistsError, NotADirectoryError)):
        for above in (Path(path), *Path(path).parents):
            if os.path.lexists(above) and not above.is_dir():
                return NotWritable(
                    f"cannot write {printable(path)}: {printable(above)} is no folder; move it or choose another place"
                )
    return NotWritable(f"cannot write {printable(path)}: {error.strerror or error}; free space or choose another place")


# ---- reading ---------------------------------------------------------------------------------------------------------


def readable_path(path: str | os.PathLike[str]) -> Path:
    """Where to read the folder that belongs at `path`: there, or aside if its replacement was cut short."""
    place = _real(path)
    old = _old(place)
    return old if os.path.lexists(old) and not os.path.lexists(place) else Path(path)


def read_bounded(path: str | os.PathLike[str], limit: int) -> bytes:
    """Content of a regular file of at most `limit` bytes; raises OSError as `open_regular`, or ValueError if it is larger."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            most = f"{limit // 2**20} MiB" if limit >= 2**20 else f"{limit:,} bytes"
            raise ValueError(f"it is above the limit of {most}")
        return file.read(size)


@contextmanager
def open_regular(path: str | os.PathLike[str]) -> Iterator[BufferedReader]:
    """Open a file to read; raises OSError, for a pipe or a device at once, without waiting for it."""
    without_waiting = getattr(os, "O_NONBLOCK", 0)  # opening a pipe to read would otherwise wait for a writer
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | without_waiting)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        yield file


def is_folder(path: Path) -> bool:
    """Whether `path` is a folder; False also for a name that is too long; raises FolderError if access is denied."""
    try:
        return path.is_dir()
    except PermissionError as error:
        raise FolderError(f"cannot read {printable(path)}: {error.strerror}") from error
    except (OSError, ValueError):
        return False


def file_digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a regular file's content, in hexadecimal; raises OSError as `open_regular`."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder() -> Path:
    """Folder for what can be downloaded or computed again: TIP_ADAPTER_HOME, else the platform's cache folder."""
    return Path(os.environ.get("TIP_ADAPTER_HOME") or platformdirs.user_cache_path("tip-adapter"))


# ---- staging and moving into place -----------------------------------------------------------------------------------


@contextmanager
def _staging(path: str | os.PathLike[str]) -> Iterator[tuple[Path, Path]]:
    """The real path, and a staging path in the same folder, removed afterwards; OSError becomes NotWritable."""
    with _as_not_writable(path):
        place = _real(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        sweep(place.parent)
        new = place.parent / f"{_PREFIX}{uuid4().hex}.new"
        try:
            yield place, new
        finally:
            remove(new)  # after an exchange it is the old content


@contextmanager
def _as_not_writable(path: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except NotWritable:
        raise
    except OSError as error:
        raise not_writable(path, error) from error


def _move_in(new: Path, place: Path, *, replace: bool, kept: Callable[[str], bool] | None) -> None:
    """Rename a folder to `place` durably, or leave everything as it was."""
    try:
        os.replace(new, place)  # onto nothing or an empty folder: of several writers, one succeeds
        undo: Callable[[Path, Path], None] = os.replace
    except OSError as error:
        if error.errno not in _TAKEN:
            raise
        if not replace:
            raise _output_exists(place) from error
        _keep_mode(place, new)
        _exchange(place, new)
        undo = _exchange
    try:
        if undo is _exchange and kept:
            _move_kept(new, place, kept)
        _sync_folder(place.parent)
    except OSError:
        if undo is _exchange and kept:
            _move_kept(place, new, kept)
        undo(place, new)
        raise


def _move_kept(old: Path, place: Path, kept: Callable[[str], bool]) -> None:
    """Move what is kept of one folder into another, unless a file of the same name is there."""
    for name in filter(kept, os.listdir(old) if old.is_dir() else ()):
        if not os.path.lexists(place / name):
            os.replace(old / name, place / name)


def _keep_mode(place: Path, new: Path) -> None:
    """Give a new path, and the files in it, the permissions of what it replaces: who may not read that may not read this."""
    with suppress(OSError):
        for name in os.listdir(new) if new.is_dir() else ():
            with suppress(OSError):
                shutil.copymode(place / name, new / name)
        shutil.copymode(place, new)


def _exchange(place: Path, new: Path) -> None:
    """Exchange two paths: in one step, else by three renames, after each of which `_recover` finds what was at `place`."""
    if _exchange_at_once(place, new):
        return
    old = _old(place)
    os.replace(place, old)
    try:
        os.replace(new, place)
        os.replace(old, new)
    except OSError:
        if not os.path.lexists(new):
            os.replace(place, new)
        os.replace(old, place)
        raise


def _exchange_at_once(one: Path, other: Path) -> bool:
    """Exchange two paths in one step; False if the system or file system cannot."""
    library: Any = ctypes.CDLL(None) if sys.platform in ("linux", "darwin") else None
    names = os.fsencode(one), os.fsencode(other)
    current_folder, exchange = -100, 2  # AT_FDCWD; RENAME_EXCHANGE of Linux and RENAME_SWAP of macOS are both 2
    if hasattr(library, "renameat2"):
        return bool(library.renameat2(current_folder, names[0], current_folder, names[1], exchange) == 0)
    return hasattr(library, "renamex_np") and bool(library.renamex_np(*names, exchange) == 0)


def _recover(place: Path) -> None:
    """Undo or finish a replacement of `place` that was cut short between its renames."""
    old = _old(place)
    if os.path.lexists(old):
        if _is_taken(place):
            remove(old)
        else:
            os.replace(old, place)


def _old(place: Path) -> Path:
    """Where the old folder is during a replacement by renames; short, however long the folder's own name is."""
    return place.parent / f"{_PREFIX}{hashlib.sha256(os.fsencode(place.name)).hexdigest()[:16]}.old"


def _move_if_free(new: Path, place: Path) -> bool:
    """Rename a file unless its new name exists."""
    try:
        os.link(new, place)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        try:  # such as on a camera's memory card: an empty file claims the name first
            place.open("xb").close()
        except FileExistsError:
            return False
        try:
            os.replace(new, place)
        except OSError:
            remove(place)
            raise
    return True


# ---- steps -----------------------------------------------------------------------------------------------------------


def _real(path: str | os.PathLike[str]) -> Path:
    return Path(os.path.realpath(path))


def _is_taken(place: Path) -> bool:
    """Whether `place` is anything but an empty folder; raises OSError if that is unknown."""
    try:
        place.lstat()
    except FileNotFoundError:
        return False
    return place.is_symlink() or not place.is_dir() or any(place.iterdir())


def _output_exists(path: str | os.PathLike[str]) -> OutputExists:
    message = f"{printable(path)} exists; choose another place or pass force=True to replace it"
    return OutputExists(message, arguments=("force=True",))


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _copy_synced(source: IO[bytes], path: Path) -> None:
    with path.open("xb") as file:
        shutil.copyfileobj(source, file)
        file.flush()
        os.fsync(file.fileno())
    status = os.fstat(source.fileno())
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _sync_folder(path: Path) -> None:
    if os.name == "nt":  # Windows cannot open folders; the rename is all that can be done
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
