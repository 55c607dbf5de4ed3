"""Photos decoded in processes of our own, so that one that crashes, hangs or bloats its decoder costs that photo only.

A stream of photos holds as many as it decodes photos at a time. Those that are idle when it ends wait for the next one.
"""

from __future__ import annotations

import atexit
import math
import os
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING, Self

from tip_adapter.errors import ImageError, warn
from tip_adapter.images.decode import decode_file
from tip_adapter.images.decoding_process import DecodingProcess, Ended
from tip_adapter.text import printable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class DecodingProcesses:
    """As many decoding processes as photos at a time need: taken or started with the first ones, replaced when they die.

    Several threads may ask at once, each for a photo of its own. Where no process can be started (a frozen program, an
    interpreter inside another program) the asking threads decode for themselves, and a warning says so.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._idle = _IdleProcesses()
        self._busy: set[DecodingProcess] = set()
        self._closed = False
        self._none_starts = False

    def decode(self, path: str | os.PathLike[str]) -> tuple[NDArray[np.uint8], str]:
        """A photo's file → upright RGB pixels, (h, w, 3) uint8, and the SHA-256 of its content.

        Raises
        ------
        ImageError
            It cannot be read, its decoder crashed, or it took too long. ImageTooLarge above the limits.
        """
        process = self._take()
        if process is None:
            return decode_file(path)
        try:
            return process.decode(os.fspath(path))
        except ImageError:
            raise
        except Ended as reason:
            raise ImageError(f"cannot read {printable(path)}: {reason}; remove it") from None
        except BaseException:
            process.end()  # it may be in the middle of an answer
            raise
        finally:
            self._give_back(process)

    def close(self) -> None:
        """Leave the idle processes to the next; end the busy ones: who waits for a photo gets an error."""
        with self._lock:
            self._closed = True
            idle = self._idle.close()
            for process in self._busy:
                process.kill()
        for process in idle:
            _spares.keep(process)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _take(self) -> DecodingProcess | None:
        """The process that was idle last, a spare, or a new one; None where none can be started."""
        process = self._idle.take() or self._begin()
        if process is not None:
            with self._lock:
                self._busy.add(process)
                if self._closed:  # meanwhile
                    process.kill()
        return process

    def _begin(self) -> DecodingProcess | None:
        """A process that is new to this stream, and ready."""
        if self._none_starts:
            return None
        try:
            return self._ready_spare() or _ready(DecodingProcess())
        except (OSError, Ended) as reason:
            self._none_starts = True
            warn(f"no decoding process can be started ({printable(str(reason))}); a photo may end this program")
            return None

    def _ready_spare(self) -> DecodingProcess | None:
        """A spare; one that ended while it got ready is no reason to start none."""
        spare = _spares.take()
        with suppress(OSError, Ended):
            return _ready(spare) if spare else None
        return None

    def _give_back(self, process: DecodingProcess) -> None:
        with self._lock:
            self._busy.discard(process)
        self._idle.keep(process)


def _ready(process: DecodingProcess) -> DecodingProcess:
    process.wait_until_ready()
    return process


def start_decoding() -> None:
    """Start a process, unless one is idle, and do not wait for it: it gets ready while something else is loaded."""
    with suppress(OSError, Ended):  # who needs it then will try again, and say so
        _spares.keep(_spares.take() or DecodingProcess())


class _IdleProcesses:
    """Processes that wait for a photo; the one that waited longest makes room."""

    def __init__(self, room: float = math.inf) -> None:
        self._lock = Lock()
        self._room = room
        self._processes: list[DecodingProcess] = []

    def take(self) -> DecodingProcess | None:
        """The one that came last; those that are of no use any more are cleared away."""
        while True:
            with self._lock:
                if not self._processes:
                    return None
                process = self._processes.pop()
            if process.is_usable():
                return process
            process.end()

    def keep(self, process: DecodingProcess) -> None:
        """Let it wait here, if it is of use and there is room; else it ends."""
        surplus = process
        if process.is_usable():
            with self._lock:
                self._processes.append(process)
                if len(self._processes) <= self._room:
                    return
                surplus = self._processes.pop(0)
        surplus.end()

    def close(self) -> list[DecodingProcess]:
        """All of them, to be ended or kept elsewhere; from now on there is no room."""
        with self._lock:
            self._room = 0
            processes, self._processes = self._processes, []
        return processes

    def forget(self) -> None:
        """Leave them to the parent, in a child of `os.fork`."""
        self._lock = Lock()  # a thread that is not here may have held it
        processes, self._processes = self._processes, []
        for process in processes:
            process.leave()


#: Of the whole program: what one stream leaves, the next one takes.
_spares = _IdleProcesses(room=os.cpu_count() or 1)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_spares.forget)


@atexit.register
def _end_spares() -> None:
    for process in _spares.close():
        process.end()
