"""A decoding process: paths in on stdin, pixels out on stdout, one photo at a time. `process.py` starts it.

A request is a path as JSON after its length in four bytes. An answer is ``{"shape", "digest"}`` in the same form with that
many bytes of upright RGB pixels after it, or ``{"code", "message"}`` of an error. The first message says that the process
is ready. Nothing is unpickled on either side. What a photo may cost is limited here: memory by the system, time by an alarm.
"""

from __future__ import annotations

import json
import signal
import sys
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
from PIL import AvifImagePlugin

from tip_adapter.errors import ImageError
from tip_adapter.images.decode import MAX_MEMORY, decode_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

READY = {"ready": True}
#: Who waits for an answer gives up first; this ends a process that nobody waits for any more.
_LAST_SECOND = 15


def main() -> None:
    """Answer until no photo comes, or stdin closes: at the latest when the parent ends, however it ends."""
    seconds_idle = int(sys.argv[1])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's affair
    _decode_on_one_core()
    _limit_memory()
    answers = sys.stdout.buffer
    with suppress(BrokenPipeError):
        write_message(answers, READY)
        signal.alarm(seconds_idle)
        while length := int.from_bytes(sys.stdin.buffer.read(4), "big"):
            path = json.loads(sys.stdin.buffer.read(length))
            signal.alarm(_LAST_SECOND)
            _answer(path, answers)
            signal.alarm(seconds_idle)


def write_message(stream: IO[bytes], value: object) -> None:
    """A value as JSON after its length; paths keep bytes that are not UTF-8."""
    content = json.dumps(value).encode()
    stream.write(len(content).to_bytes(4, "big") + content)
    stream.flush()


def _answer(path: str, answers: IO[bytes]) -> None:
    try:
        pixels, digest = decode_file(path)
    except ImageError as error:
        write_message(answers, {"code": error.code, "message": str(error)})
    else:
        _write_pixels(answers, pixels, digest)


def _write_pixels(answers: IO[bytes], pixels: NDArray[np.uint8], digest: str) -> None:
    write_message(answers, {"shape": pixels.shape, "digest": digest})
    answers.write(np.ascontiguousarray(pixels).data.cast("B"))
    answers.flush()


def _decode_on_one_core() -> None:
    """Photos are decoded side by side already, and each thread's stack would count as memory."""
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    if find_spec("pillow_heif"):
        import_module("pillow_heif").options.DECODE_THREADS = 1


def _limit_memory() -> None:
    """The idle process and `MAX_MEMORY`; Linux enforces it, macOS does not."""
    if sys.platform != "linux":
        return
    import resource  # Windows has none, and this module is imported there, too

    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    _, highest = resource.getrlimit(resource.RLIMIT_AS)
    limit = pages * resource.getpagesize() + MAX_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit if highest < 0 else min(limit, highest), highest))


if __name__ == "__main__":
    main()
