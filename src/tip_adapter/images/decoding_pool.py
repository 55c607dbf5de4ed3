"""Decode images in separate processes, so that an image that crashes, hangs or exhausts its decoder costs that image only.

A pool uses as many processes as images are decoded in parallel. Idle ones are kept for the next image or the next pool.
`decoding_worker` is the program that runs in each process.

Not `multiprocessing`: its processes import the user's program again, or are forked while the encoder's threads run. Its
`Connection` is three times as slow for pixels and has no time-out within a message (LOG.md).
"""

from __future__ import annotations

import atexit
import json
import os
import select
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np

from tip_adapter.errors import ImageError, ImageTooLarge, warn
from tip_adapter.images.decode import decode_file, refuse_large_file
from tip_adapter.images.decoding_worker import READY, write_message
from tip_adapter.io.processors import available_processors
from tip_adapter.text import printable

if TYPE_CHECKING:
    import io

    from numpy.typing import NDArray

    from tip_adapter.images.decode import FileLike

#: Time limit for one image.
SECONDS = 10
#: An idle process ends by itself after this time.
SECONDS_IDLE = 60
_SECONDS_TO_START = 60
_LONGEST_MESSAGE = 2**20
_SLICES = 10
_ERRORS = {kind.code: kind for kind in (ImageError, ImageTooLarge)}


class DecodingPool:
    """One decoding process for each thread that decodes: reused or started on demand, and replaced when it dies.

    Several threads may decode at once. If no process can be started (a frozen program, an interpreter embedded in another
    program), the calling threads decode themselves, and a warning says so.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._busy: set[DecodingProcess] = set()
        self._closed = False
        self._none_starts = False

    def decode(self, file: FileLike, name: str = "an image") -> tuple[NDArray[np.uint8], str]:
        """An image file → upright RGB pixels, (h, w, 3) uint8, and the SHA-256 of its content.

        Parameters
        ----------
        file : path, or bytes: the content of a file
        name : str, what error messages call bytes; a file has its path

        Raises
        ------
        ImageError
            It cannot be read, its decoder crashed, or it took too long. ImageTooLarge above the limits.
        """
        if isinstance(file, bytes):
            refuse_large_file(len(file), name)  # before it is sent
        else:
            name = file = os.fspath(file)
        process = self._begin()
        if process is None:
            return decode_file(file, name)
        with self._lock:
            self._busy.add(process)
            if self._closed:  # meanwhile, by another thread
                process.kill()
        try:
            return process.decode(file, name)
        except ImageError:
            raise
        except Ended as reason:
            raise ImageError(f"cannot read {printable(name)}: {reason}; remove it") from None
        except BaseException:
            process.end()  # it may be in the middle of an answer
            raise
        finally:
            with self._lock:
                self._busy.discard(process)
                was_killed = self._closed
            process.end() if was_killed else _spares.keep(process)

    def close(self) -> None:
        """End the busy processes: waiting threads get an ImageError."""
        with self._lock:
            self._closed = True
            for process in self._busy:
                process.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin(self) -> DecodingProcess | None:
        """An idle or new process that is ready; None if none can be started."""
        if idle := _spares.take():
            with suppress(OSError, Ended):  # one that ended while it started does not rule out a new process
                idle.wait_until_ready()
                return idle
        if self._none_starts:
            return None
        try:
            process = DecodingProcess()
            process.wait_until_ready()
        except (OSError, Ended) as reason:
            self._none_starts = True
            warn(
                f"no decoding process can be started ({printable(str(reason))}); a damaged image may crash this program"
            )
            return None
        return process


def start_decoding() -> None:
    """Start a process unless one is idle, without waiting for it, so that it starts while the caller does other work."""
    with suppress(OSError, Ended):  # the first image tries again and warns
        _spares.keep(_spares.take() or DecodingProcess())


class Ended(Exception):
    """A process has ended; the message says why."""


class DecodingProcess:
    """One process and the pipes to it, used by one thread at a time.

    Raises
    ------
    Ended, OSError
        None can be started.
    """

    def __init__(self) -> None:
        if not sys.executable or getattr(sys, "frozen", False):
            raise Ended("this program brings its own interpreter")
        if os.name == "nt":
            raise Ended("Windows cannot limit the memory of a process")
        folders = os.pathsep.join(os.path.abspath(folder) for folder in sys.path)  # noqa: PTH100 # "" is the current folder
        self._folder = _working_folder()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-W", "ignore", "-m", "tip_adapter.images.decoding_worker", str(SECONDS_IDLE)],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # It imports from the same folders, and decodes on one core.
            env=os.environ | {"PYTHONPATH": folders, "OPENBLAS_NUM_THREADS": "1"},
        )
        self._requests = cast("io.FileIO", self._process.stdin)
        self._answers = cast("io.FileIO", self._process.stdout)
        self._arrival = select.poll()
        self._arrival.register(self._answers, select.POLLIN)
        self._is_ready = False
        self._idle_since = monotonic()

    def wait_until_ready(self) -> None:
        """Wait for its first message, unless it has arrived; raises Ended if the process fails to start."""
        if not self._is_ready and self._read_message(_SECONDS_TO_START) != READY:
            self.end()
            raise Ended(f"{sys.executable} starts another program")
        self._is_ready = True

    def decode(self, file: str | bytes, name: str) -> tuple[NDArray[np.uint8], str]:
        """An image file → its pixels and digest, as `DecodingPool.decode`; the process must be ready.

        Raises
        ------
        ImageError
            The decoder's own error.
        Ended
            The process died or was killed.
        """
        try:
            if isinstance(file, bytes):
                write_message(self._requests, {"name": name, "n_bytes": len(file)})
                self._write(file)
            else:
                write_message(self._requests, {"path": file})
        except BrokenPipeError:
            raise Ended(self._reason()) from None
        answer = self._read_message(SECONDS)
        self._idle_since = monotonic()
        if "code" in answer:
            raise _ERRORS[answer["code"]](answer["message"])
        pixels = np.empty(answer["shape"], np.uint8)
        self._fill(pixels.data.cast("B"), SECONDS)
        return pixels, answer["digest"]

    def is_usable(self) -> bool:
        """Whether it runs, resolves relative paths as this process does, and is not about to end by itself."""
        waited = monotonic() - self._idle_since
        return self._process.poll() is None and waited < 0.9 * SECONDS_IDLE and self._folder == _working_folder()

    def kill(self) -> None:
        """End it from another thread; the thread that uses it gets `Ended`."""
        self._process.kill()

    def end(self) -> None:
        """Kill it, wait for its end and close its pipes."""
        self._process.kill()
        self._process.wait()
        self._requests.close()
        self._answers.close()

    def leave(self) -> None:
        """Close a forked child's copies of the pipes: the process belongs to the parent."""
        self._process.poll()  # marks it as ended here, so that Popen does not warn
        self._requests.close()
        self._answers.close()

    def _read_message(self, seconds: float) -> dict[str, Any]:
        header = bytearray(4)
        self._fill(memoryview(header), seconds)
        length = int.from_bytes(header, "big")
        with suppress(ValueError):
            if length <= _LONGEST_MESSAGE:
                content = bytearray(length)
                self._fill(memoryview(content), seconds)
                return cast("dict[str, Any]", json.loads(content))
        self.end()  # a library printed to stdout
        raise Ended("its decoder gave no answer")

    def _write(self, content: bytes) -> None:
        """All of it: a signal may interrupt a write that is larger than the pipe."""
        rest = memoryview(content)
        while rest:
            rest = rest[self._requests.write(rest) :]

    def _fill(self, view: memoryview, seconds: float) -> None:
        """Read until `view` is full; waiting is counted in slices, so that time during which we are suspended is ignored."""
        filled = waited = 0
        while filled < len(view):
            if not self._arrival.poll(1000 * seconds / _SLICES):
                waited += 1
                if waited == _SLICES:
                    self.end()
                    raise Ended(f"took longer than {seconds:g} s")
                continue
            n_read = self._answers.readinto(view[filled:])
            if not n_read:
                raise Ended(self._reason())
            filled += n_read

    def _reason(self) -> str:
        """Why its pipes are closed."""
        status = self._process.wait()
        self.end()
        return f"its decoder crashed (signal {-status})" if status < 0 else f"its decoder ended (status {status})"


def _working_folder() -> tuple[int, int] | None:
    """Identify the current folder by its inode: a folder may be deleted and created again under the same name."""
    with suppress(OSError):  # not accessible: then relative paths fail in every process
        folder = Path().stat()
        return folder.st_dev, folder.st_ino
    return None


class _IdleProcesses:
    """Processes that wait for an image; above `limit`, the one that has waited longest is ended."""

    def __init__(self, limit: int) -> None:
        self._lock = Lock()
        self._limit = limit
        self._processes: list[DecodingProcess] = []

    def take(self) -> DecodingProcess | None:
        """The process added last; unusable ones are ended."""
        while True:
            with self._lock:
                if not self._processes:
                    return None
                process = self._processes.pop()
            if process.is_usable():
                return process
            process.end()

    def keep(self, process: DecodingProcess) -> None:
        """Add a process if it is usable; end it otherwise, or the oldest one above the limit."""
        surplus = process
        if process.is_usable():
            with self._lock:
                self._processes.append(process)
                if len(self._processes) <= self._limit:
                    return
                surplus = self._processes.pop(0)
        surplus.end()

    def close(self) -> list[DecodingProcess]:
        """Remove and return all processes; none is kept from now on."""
        with self._lock:
            self._limit = 0
            processes, self._processes = self._processes, []
        return processes

    def forget(self) -> None:
        """Leave them to the parent, in a child of `os.fork`."""
        self._lock = Lock()  # a thread that does not exist in the child may have locked it
        processes, self._processes = self._processes, []
        for process in processes:
            process.leave()


#: Idle processes of the whole program.
_spares = _IdleProcesses(limit=available_processors())
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_spares.forget)


@atexit.register
def _end_spares() -> None:
    for process in _spares.close():
        process.end()
