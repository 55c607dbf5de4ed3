"""One decoding process, and the pipes to it: started, asked, ended. What runs in it: see `worker.py`.

Not `multiprocessing`: its processes import the user's program again, or are forked beside the encoder's threads.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from tip_adapter.errors import ImageError, ImageTooLarge
from tip_adapter.images.decoding_worker import READY, write_message

if TYPE_CHECKING:
    import io

    from numpy.typing import NDArray

#: How long a photo may take.
SECONDS = 10
#: How long a process waits for a photo before it ends by itself.
SECONDS_IDLE = 60
_SECONDS_TO_START = 60
_LONGEST_MESSAGE = 2**20
_SLICES = 10
_ERRORS = {kind.code: kind for kind in (ImageError, ImageTooLarge)}


class Ended(Exception):
    """A process has ended, and why."""


class DecodingProcess:
    """One process, starting; used by one thread at a time.

    Raises
    ------
    Ended, OSError
        None can be started.
    """

    def __init__(self) -> None:
        self._folder = _working_folder()
        self._process = subprocess.Popen(
            _command(),
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
        )
        self._requests = cast("io.FileIO", self._process.stdin)
        self._answers = cast("io.FileIO", self._process.stdout)
        self._arrival = select.poll()
        self._arrival.register(self._answers, select.POLLIN)
        self._is_ready = False
        self._idle_since = monotonic()

    def wait_until_ready(self) -> None:
        """Wait for its first message, unless that has come.

        Raises
        ------
        Ended
            It came to nothing, or something else was started.
        """
        if not self._is_ready and self._read_message(_SECONDS_TO_START) != READY:
            self.end()
            raise Ended(f"{sys.executable} starts something else")
        self._is_ready = True

    def decode(self, path: str) -> tuple[NDArray[np.uint8], str]:
        """A photo's file → its pixels and digest, as `DecodingProcesses.decode`; the process is ready.

        Raises
        ------
        ImageError
            What the decoder says about the photo.
        Ended
            The decoder did not survive it.
        """
        try:
            write_message(self._requests, path)
        except BrokenPipeError:
            raise Ended(self._reason()) from None
        answer = self._read_message(SECONDS)
        self._idle_since = monotonic()
        if "code" in answer:
            raise _ERRORS[answer["code"]](answer["message"])
        return self._read_pixels(answer["shape"]), answer["digest"]

    def is_usable(self) -> bool:
        """Whether it runs, finds the files that we find, and is not about to end by itself."""
        waited = monotonic() - self._idle_since
        return self._process.poll() is None and waited < 0.9 * SECONDS_IDLE and self._folder == _working_folder()

    def kill(self) -> None:
        """End it from another thread; the one that uses it learns of it."""
        self._process.kill()

    def end(self) -> None:
        """Kill it, it has nothing to lose, and leave nothing of it behind."""
        self._process.kill()
        self._process.wait()
        self._close_pipes()

    def leave(self) -> None:
        """Let go of it without harm, in a child of `os.fork`: it is the parent's."""
        self._process.poll()  # none of ours: nobody waits for it here
        self._close_pipes()

    def _close_pipes(self) -> None:
        self._requests.close()
        self._answers.close()

    def _read_message(self, seconds: float) -> dict[str, Any]:
        length = int.from_bytes(self._read(4, seconds), "big")
        try:
            return json.loads(self._read(length, seconds)) if length <= _LONGEST_MESSAGE else self._refuse()
        except ValueError:
            return self._refuse()

    def _refuse(self) -> dict[str, Any]:
        """What came is no answer: a library that prints."""
        self.end()
        raise Ended("its decoder gave no answer")

    def _read_pixels(self, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
        pixels = np.empty(shape, np.uint8)
        self._fill(pixels.data.cast("B"), SECONDS)
        return pixels

    def _read(self, length: int, seconds: float) -> bytes:
        content = bytearray(length)
        self._fill(memoryview(content), seconds)
        return bytes(content)

    def _fill(self, view: memoryview, seconds: float) -> None:
        """Read until `view` is full; waiting is counted in slices, so that time in which we were stopped does not count."""
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


def _command() -> list[str]:
    if not sys.executable or getattr(sys, "frozen", False):
        raise Ended("this program brings its own interpreter")
    if os.name == "nt":
        raise Ended("Windows cannot limit what they may take")
    return [sys.executable, "-P", "-W", "ignore", "-m", "tip_adapter.images.decoding_worker", str(SECONDS_IDLE)]


def _environment() -> dict[str, str]:
    """It imports from where we import, and decodes on one core."""
    places = os.pathsep.join(os.path.abspath(place) for place in sys.path)  # noqa: PTH100 # "" is the current folder
    return os.environ | {"PYTHONPATH": places, "OPENBLAS_NUM_THREADS": "1"}


def _working_folder() -> tuple[int, int] | None:
    """Where relative paths begin. Not its name: a folder may be made anew under the same one."""
    with suppress(OSError):  # it may not be entered: then no relative path leads anywhere
        folder = Path().stat()
        return folder.st_dev, folder.st_ino
    return None
