"""Photos decoded in processes of our own, so that one that crashes, hangs or bloats its decoder costs that photo only.

Not `multiprocessing`: its processes import the user's program again, or are forked beside the encoder's threads.
"""

from __future__ import annotations

import io
import json
import os
import select
import subprocess
import sys
from threading import Lock
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np

from tip_adapter.errors import PhotoError, PhotoTooLarge, printable, warn
from tip_adapter.photos.decode import decode_file
from tip_adapter.photos.worker import READY, write_line

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: How long a photo may take.
SECONDS = 10
_SECONDS_TO_START = 60
_LONGEST_LINE = 2**20
_ERRORS = {kind.code: kind for kind in (PhotoError, PhotoTooLarge)}


class DecodingProcesses:
    """As many decoding processes as photos at a time need: started with the first ones, replaced when they die.

    Several threads may ask at once, each for a photo of its own. Where no process can be started (a frozen program, an
    interpreter inside another program) the asking threads decode for themselves, and a warning says so.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._idle: list[_DecodingProcess] = []
        self._busy: set[_DecodingProcess] = set()
        self._closed = False
        self._none_starts = False

    def decode(self, path: str | os.PathLike[str]) -> tuple[NDArray[np.uint8], str]:
        """A photo's file → upright RGB pixels, (h, w, 3) uint8, and the SHA-256 of its content.

        Raises
        ------
        PhotoError
            It cannot be read, its decoder crashed, or it took more than `SECONDS`. PhotoTooLarge above the limits.
        """
        process = self._take()
        if process is None:
            return decode_file(path)
        try:
            return process.decode(os.fspath(path))
        except PhotoError:
            raise
        except _Ended as reason:
            raise PhotoError(f"cannot read {printable(path)}: {reason}; remove it") from None
        except BaseException:
            process.end()  # it may be in the middle of an answer
            raise
        finally:
            self._give_back(process)

    def close(self) -> None:
        """End all processes; who waits for a photo gets an error."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            for process in self._busy:
                process.kill()
        for process in idle:
            process.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _take(self) -> _DecodingProcess | None:
        """The process that was idle last, or a new one; None where none can be started."""
        process = self._living() or self._start()
        if process is not None:
            with self._lock:
                self._busy.add(process)
                if self._closed:  # meanwhile
                    process.kill()
        return process

    def _living(self) -> _DecodingProcess | None:
        """An idle process; those that were ended from outside are cleared away."""
        while True:
            with self._lock:
                if not self._idle:
                    return None
                process = self._idle.pop()
            if process.is_alive():
                return process
            process.end()

    def _start(self) -> _DecodingProcess | None:
        if self._none_starts:
            return None
        try:
            return _DecodingProcess()
        except (OSError, _Ended) as reason:
            self._none_starts = True
            warn(f"no decoding process can be started ({printable(str(reason))}); a photo may end this program")
            return None

    def _give_back(self, process: _DecodingProcess) -> None:
        with self._lock:
            self._busy.discard(process)
            if process.is_alive() and not self._closed:
                self._idle.append(process)
                return
        process.end()


class _Ended(Exception):
    """A process has ended, and why."""


class _DecodingProcess:
    """One process and its pipes; used by one thread at a time."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            _command(),
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
        )
        self._requests = cast("io.FileIO", self._process.stdin)
        self._answers = io.BufferedReader(cast("io.FileIO", self._process.stdout))
        self._arrival = select.poll()
        self._arrival.register(self._answers, select.POLLIN)
        if self._read_line(_SECONDS_TO_START) != READY:
            self.end()
            raise _Ended(f"{sys.executable} starts something else")

    def decode(self, path: str) -> tuple[NDArray[np.uint8], str]:
        try:
            write_line(self._requests, path)
        except BrokenPipeError:
            raise _Ended(self._reason()) from None
        answer = self._read_line(SECONDS)
        if "code" in answer:
            raise _ERRORS[answer["code"]](answer["message"])
        return self._read_pixels(answer["shape"]), answer["digest"]

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> None:
        """Kill it, it has nothing to lose, and leave nothing of it behind."""
        self._process.kill()
        self._process.wait()
        self._requests.close()
        self._answers.close()

    def _read_line(self, seconds: float) -> dict[str, Any]:
        if not self._arrival.poll(1000 * seconds):
            self.end()
            raise _Ended(f"took longer than {seconds:g} s")
        line = self._answers.readline(_LONGEST_LINE)
        if not line:
            raise _Ended(self._reason())
        try:
            return json.loads(line)
        except ValueError:  # a library that prints
            self.end()
            raise _Ended("its decoder gave no answer") from None

    def _read_pixels(self, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
        pixels = np.empty(shape, np.uint8)
        if self._answers.readinto(pixels.data.cast("B")) < pixels.size:
            raise _Ended(self._reason())
        return pixels

    def _reason(self) -> str:
        """Why its pipes are closed."""
        status = self._process.wait()
        self.end()
        return f"its decoder crashed (signal {-status})" if status < 0 else f"its decoder ended (status {status})"


def _command() -> list[str]:
    if not sys.executable or getattr(sys, "frozen", False):
        raise _Ended("this program brings its own interpreter")
    return [sys.executable, "-P", "-W", "ignore", "-m", "tip_adapter.photos.worker"]


def _environment() -> dict[str, str]:
    """It imports from where we import, and decodes on one core."""
    places = os.pathsep.join(os.path.abspath(place) for place in sys.path)  # noqa: PTH100 # "" is the current folder
    return os.environ | {"PYTHONPATH": places, "OPENBLAS_NUM_THREADS": "1"}
