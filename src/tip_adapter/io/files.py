"""Durable files: a reader sees the old or the new, never half. The only place that writes files; readers never do.

Everything is made in a folder beside its place, synced, and moved there; a link is followed. A folder changes places
with the old one in a single step where the system can do that (Linux, macOS). Elsewhere the old one steps aside first;
if the machine stops in between, `standing` finds it there, and the next writer moves it back.
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
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING
from uuid import uuid4

import platformdirs

from tip_adapter.errors import FolderError, NotWritable, OutputExists
from tip_adapter.text import printable

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from io import BufferedReader

#: What the names of all that is written aside begin with.
_PREFIX = ".tip-adapter-"
#: What a file system says that has no hard links.
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
#: What a rename of a folder says where something stands that is not an empty folder.
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EISDIR)


def write_file(path: str | os.PathLike[str], content: bytes) -> None:
    """Write one file durably, replacing what was there.

    Raises
    ------
    NotWritable
        With the system's reason (no space, read-only, …).
    """
    with _workshop(path) as (place, workshop):
        _write_synced(workshop / "new", content)
        os.replace(workshop / "new", place)
        _sync_folder(place.parent)


def write_folder(path: str | os.PathLike[str], files: Mapping[str, bytes], *, replace: bool = False) -> None:
    """Write a folder of files durably, whole or not at all.

    Parameters
    ----------
    path : path of the folder; a link is followed
    files : file name → content
    replace : bool
        Whether a folder (or file) that stands there may be replaced. Of several that write without it at once, one wins.

    Raises
    ------
    OutputExists
        Something that is not an empty folder stands at `path` and `replace` is false.
    NotWritable
        With the system's reason.
    """
    with _workshop(path) as (place, workshop):
        _recover(place)
        if not replace:
            refuse_existing(place)
        new = workshop / "new"
        new.mkdir()
        for name, content in files.items():
            _write_synced(new / name, content)
        _sync_folder(new)
        _settle(place, _replace(new, place) if replace else _move_in(new, place))


class FolderWriter:
    """A folder that files are added to: each whole or not at all, and never in the place of what is there.

    Parameters
    ----------
    folder : its real path
    workshop : a folder in it, where files are made
    """

    def __init__(self, folder: Path, workshop: Path) -> None:
        self.folder = folder
        self._workshop = workshop
        self._changed: set[Path] = set()

    def copy(self, source: IO[bytes], name: str) -> bool:
        """Add a copy of an open file; False where something stands at `name`.

        Raises
        ------
        NotWritable
            With the system's reason, also where the source cannot be read to its end; nothing half-written stays.
        """
        new = self._workshop / "new"
        with self._adding(name) as place:
            try:
                _copy_synced(source, new)
                return _move_onto_nothing(new, place)
            finally:
                new.unlink(missing_ok=True)

    def link(self, source: str | os.PathLike[str], name: str) -> bool:
        """Add a symbolic link, relative, so that both may move together; False where something stands at `name`."""
        with self._adding(name) as place:
            try:
                place.symlink_to(os.path.relpath(_real(source), _real(place.parent)))
            except FileExistsError:
                return False
            return True

    @contextmanager
    def _adding(self, name: str) -> Iterator[Path]:
        place = self.folder / name
        with _reasons(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            self._changed.update((place.parent, place.parent.parent))
            yield place

    def sync(self) -> None:
        """Make what was added last."""
        for folder in self._changed:
            with _reasons(folder):
                _sync_folder(folder)


@contextmanager
def filling(folder: str | os.PathLike[str]) -> Iterator[FolderWriter]:
    """Make a folder if there is none, and add files to it; all of them last when the block ends.

    Raises
    ------
    NotWritable
        With the system's reason.
    """
    place = _real(folder) / "filling"
    with _reasons(folder):
        place.parent.mkdir(parents=True, exist_ok=True)
        _sweep(place)
        workshop, lock = _set_up(place)
    target = FolderWriter(place.parent, workshop)
    try:
        with lock:
            yield target
        target.sync()
    finally:
        _remove(workshop)


def make_folder(path: str | os.PathLike[str]) -> None:
    """Make a folder, and those above it, durably; one that is there stays as it is.

    Raises
    ------
    NotWritable
        With the system's reason, also where a file stands there.
    """
    place = _real(path)
    with _reasons(path):
        place.mkdir(parents=True, exist_ok=True)
        _sync_folder(place.parent)


def remove_file(path: str | os.PathLike[str]) -> None:
    """Remove a file that nothing needs any more; where that fails, it stays."""
    with suppress(OSError):
        Path(path).unlink()


def sweep(folder: str | os.PathLike[str]) -> None:
    """Remove what killed writers left in a folder, of files that may never be written again."""
    _sweep_those_of(re.escape(_PREFIX) + "[0-9a-f]{16}", _real(folder))


def refuse_existing(path: str | os.PathLike[str]) -> None:
    """Raise OutputExists unless `path` is free or an empty folder."""
    try:
        taken = _is_taken(_real(path))
    except OSError as error:
        raise not_writable(path, error) from error
    if taken:
        raise _output_exists(path)


def readable_path(path: str | os.PathLike[str]) -> Path:
    """Where to read what belongs at `path`: there, or beside it if its replacement was cut short between two renames."""
    place = _real(path)
    old = _old(place)
    return old if os.path.lexists(old) and not os.path.lexists(place) else Path(path)


@contextmanager
def lock_folder(path: str | os.PathLike[str]) -> Iterator[None]:
    """Hold a folder that is read, changed and replaced: others that hold it wait for their turn, readers do not.

    Nothing is written for it. Where there is no folder, or no lock to be had, nobody waits.
    """
    place = _real(path)
    while True:
        with _locked(place) as lock:
            if lock is None or _stands(lock, place):
                yield
                return


@contextmanager
def append_lines(path: str | os.PathLike[str]) -> Iterator[Callable[[bytes], None]]:
    """Append to a file of lines, one writer at a time; each line is whole and synced, or not there.

    Yields
    ------
    a function that appends one line, given without its end

    Raises
    ------
    NotWritable
        Another process is writing it, or with the system's reason. What was there stays.
    """
    with _reasons(path):
        file = _open_journal(_real(path))
    with file:
        yield partial(_append, path, file)


def _open_journal(path: Path) -> IO[bytes]:
    """Open, for one writer, at the end of the last whole line: whoever wrote half a line was stopped."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+b", buffering=0)
    try:
        if sys.platform != "win32" and not _seize(file):
            raise NotWritable(f"{printable(path)} is being written by another run; wait for it, or use another folder")
        file.truncate(_end_of_whole_lines(file))
    except OSError:
        file.close()
        raise
    return file


def _end_of_whole_lines(file: IO[bytes]) -> int:
    file.seek(0)
    return file.read().rfind(b"\n") + 1


def _append(path: str | os.PathLike[str], file: IO[bytes], line: bytes) -> None:
    """Write a line, whole or not at all."""
    end = file.seek(0, os.SEEK_END)
    try:
        _write_whole(file, line + b"\n")
        os.fsync(file.fileno())
    except OSError as error:
        with suppress(OSError):
            file.truncate(end)
        raise not_writable(path, error) from error


def _write_whole(file: IO[bytes], content: bytes) -> None:
    """Without a buffer: what the disk does not take now must not come later. One write may take a part only."""
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]


def read_bounded(path: str | os.PathLike[str], limit: int) -> bytes:
    """Content of a regular file of at most `limit` bytes.

    Raises
    ------
    OSError
        It cannot be read.
    ValueError
        It is no regular file, such as a pipe that would never end, or larger; the message gives the reason only.
    """
    if not stat.S_ISREG(Path(path).stat().st_mode):
        raise ValueError("not a regular file")
    with Path(path).open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"it is above the limit of {limit // 2**20} MiB; split it")
    return content


@contextmanager
def open_regular(path: str | os.PathLike[str]) -> Iterator[BufferedReader]:
    """Open a file to read; a pipe or a device is refused at once, without waiting for it.

    Raises
    ------
    OSError
        The system's, or that it is no regular file.
    """
    with open(path, "rb", opener=_without_waiting) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        yield file


def is_folder(path: Path) -> bool:
    """False also where the system will not say, such as for names that are too long."""
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
    """Folder for what can be made again: TIP_ADAPTER_HOME, else the platform's own cache folder."""
    return Path(os.environ.get("TIP_ADAPTER_HOME") or platformdirs.user_cache_path("tip-adapter"))


def not_writable(path: str | os.PathLike[str], error: OSError) -> NotWritable:
    """The system's reason as an error of ours."""
    return NotWritable(f"cannot write {printable(path)}: {error.strerror or error}; free space or choose another place")


# ---- the workshop: a folder beside the place, on the same disk -------------------------------------------------------


@contextmanager
def _workshop(path: str | os.PathLike[str]) -> Iterator[tuple[Path, Path]]:
    """Where `path` really is, and a folder beside it that is gone afterwards; the system's errors become ours."""
    with _reasons(path):
        place = _real(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        _sweep(place)
        workshop, lock = _set_up(place)
        try:
            with lock:
                yield place, workshop
        finally:
            _remove(workshop)  # with the old in it after an exchange, with the new after a failure


@contextmanager
def _reasons(path: str | os.PathLike[str]) -> Iterator[None]:
    """Within, what the system says against writing `path` is NotWritable."""
    try:
        yield
    except NotWritable:
        raise
    except OSError as error:
        raise not_writable(path, error) from error


def _set_up(place: Path) -> tuple[Path, IO[bytes]]:
    """Make a workshop and hold its lock, which the system lets go of when this process ends, however it ends."""
    while True:
        workshop = place.parent / f"{_stem(place)}.{uuid4().hex}.new"
        workshop.mkdir()
        lock = _claim(workshop)
        if lock is not None:
            return workshop, lock


def _claim(workshop: Path) -> IO[bytes] | None:
    """The lock of a new workshop; None where another writer took it for a dead one's before it was held."""
    try:
        lock = (workshop / "lock").open("ab")
    except FileNotFoundError:
        return None
    except OSError:
        _remove(workshop)
        raise
    _hold(lock)
    if _still_there(lock, workshop):
        return lock
    lock.close()
    return None


def _still_there(lock: IO[bytes], workshop: Path) -> bool:
    """Whether an open lock is the workshop's, and not one that a sweeper removed before another was made."""
    try:
        return os.path.samestat(os.fstat(lock.fileno()), (workshop / "lock").stat())
    except OSError:
        return False


def _sweep(place: Path) -> None:
    """Remove the workshops of writers of this place that were killed."""
    _sweep_those_of(re.escape(_stem(place)), place.parent)


def _sweep_those_of(stem: str, folder: Path) -> None:
    """Remove dead workshops in a folder whose names begin with what a pattern fits."""
    ours = re.compile(stem + r"\.[0-9a-f]{32}\.new")
    with suppress(OSError):
        for name in filter(ours.fullmatch, os.listdir(folder)):
            _remove_if_dead(folder / name)


def _remove_if_dead(workshop: Path) -> None:
    # A lock that is free is a dead writer's, whichever machine or container it ran in.
    if workshop.is_symlink():
        return
    with suppress(OSError), (workshop / "lock").open("ab") as lock:
        if _seize(lock) and _still_there(lock, workshop):
            _remove(workshop)


def _hold(lock: IO[bytes]) -> None:
    """Wait until the lock is ours; where the file system has no locks, nobody sweeps either."""
    if sys.platform != "win32":
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)


def _seize(lock: IO[bytes]) -> bool:
    """Take the lock if it is free."""
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextmanager
def _locked(folder: Path) -> Iterator[int | None]:
    """The descriptor of a folder once its lock is ours; None where it has none."""
    if sys.platform == "win32":
        yield None
        return
    with ExitStack() as stack:
        lock = None
        with suppress(OSError):
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            stack.callback(os.close, handle)
            fcntl.flock(handle, fcntl.LOCK_EX)
            lock = handle
        yield lock


def _stands(handle: int, place: Path) -> bool:
    """Whether that folder is still the one at `place`: while its lock was waited for, another may have replaced it."""
    try:
        return os.path.samestat(os.fstat(handle), place.stat())
    except OSError:
        return True  # it is gone, and nobody is left to wait for


def _stem(place: Path) -> str:
    """What names beside a place start with: short, however long its own name is."""
    return f"{_PREFIX}{hashlib.sha256(os.fsencode(place.name)).hexdigest()[:16]}"


def _old(place: Path) -> Path:
    return place.parent / f"{_stem(place)}.old"


def _real(path: str | os.PathLike[str]) -> Path:
    return Path(os.path.realpath(path))


# ---- moving into place -----------------------------------------------------------------------------------------------


def _recover(place: Path) -> None:
    """Finish or undo a replacement of `place` that was cut short between its two renames."""
    old = _old(place)
    if not os.path.lexists(old):
        return
    if _is_taken(place):
        _remove(old)
    else:
        os.replace(old, place)


def _settle(place: Path, undo: Callable[[], object]) -> None:
    """Make a move into `place` last, or undo it."""
    try:
        _sync_folder(place.parent)
    except OSError:
        undo()
        raise
    _remove(_old(place))


def _move_in(new: Path, place: Path) -> Callable[[], object]:
    """One rename onto nothing or an empty folder, which of several writers one can do; returns how to undo it."""
    try:
        os.replace(new, place)
    except OSError as error:
        if error.errno in _TAKEN:
            raise _output_exists(place) from error
        raise
    return lambda: os.replace(place, new)


def _replace(new: Path, place: Path) -> Callable[[], object]:
    """Let `new` become `place`, whatever stands there; returns how to undo it."""
    try:
        return _move_in(new, place)
    except OutputExists:
        if _exchange(new, place):
            return lambda: _exchange(new, place)
        return _step_aside_and_in(new, place)


def _step_aside_and_in(new: Path, place: Path) -> Callable[[], object]:
    """Two renames; returns how to undo them."""

    def move_back() -> None:
        os.replace(_old(place), place)

    def undo() -> None:
        os.replace(place, new)
        move_back()

    os.replace(place, _old(place))
    try:
        os.replace(new, place)
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


# ---- steps -----------------------------------------------------------------------------------------------------------


def _is_taken(place: Path) -> bool:
    """Whether anything but an empty folder stands there; raises OSError where that cannot be seen."""
    try:
        place.lstat()
    except FileNotFoundError:
        return False
    return place.is_symlink() or not place.is_dir() or any(place.iterdir())


def _output_exists(path: str | os.PathLike[str]) -> OutputExists:
    return OutputExists(f"{printable(path)} exists; choose another place or pass --force (force=True) to replace it")


def _remove(path: Path) -> None:
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _copy_synced(source: IO[bytes], path: Path) -> None:
    """Copy content and time of change, a piece at a time."""
    with path.open("xb") as file:
        shutil.copyfileobj(source, file)
        file.flush()
        os.fsync(file.fileno())
    status = os.fstat(source.fileno())
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _move_onto_nothing(new: Path, place: Path) -> bool:
    """Give a file its name unless that is taken."""
    try:
        os.link(new, place)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _claim_and_move(new, place)
    return True


def _claim_and_move(new: Path, place: Path) -> bool:
    """As above, where the file system has no links, such as a camera's card: an empty file takes the name first."""
    try:
        place.open("xb").close()
    except FileExistsError:
        return False
    try:
        os.replace(new, place)
    except OSError:
        _remove(place)
        raise
    return True


def _sync_folder(path: Path) -> None:
    # Windows cannot open folders; there the rename itself is all that can be had.
    if os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _without_waiting(path: str, flags: int) -> int:
    # Opened to read, a pipe without a writer would wait for one for ever.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
