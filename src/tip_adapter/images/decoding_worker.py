"""The program of a decoding process: files from stdin, pixels to stdout, one image after another. `decoding_pool` starts it.

A request is JSON, preceded by its length in four bytes: ``{"path"}``, or ``{"name", "n_bytes"}`` followed by a file's content.
An answer is ``{"shape", "digest"}`` in the same form, followed by upright RGB pixels, or ``{"code", "message"}`` of an error.
The first message says that the process is ready.
Nothing is unpickled on either side. The system limits the memory of an image, an alarm its time.
"""

from __future__ import annotations

import json
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
from PIL import AvifImagePlugin

from tip_adapter.errors import ImageError
from tip_adapter.images.decode import FORMATS, MAX_MEMORY, decode_file
from tip_adapter.plugins import require_extra

if TYPE_CHECKING:
    from tip_adapter.images.decode import FileLike

READY = {"ready": True}
#: Above the pool's time limit: ends a process whose pool no longer waits.
_SECONDS = 15


def main() -> None:
    """Answer requests until none comes for a while or stdin closes, at the latest when the parent ends."""
    seconds_idle = int(sys.argv[1])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # processes run in parallel already, and stacks of threads count as memory
    if "HEIF" in FORMATS:
        require_extra("pillow_heif", "HEIC support", "heic").options.DECODE_THREADS = 1
    _limit_memory()
    answers = sys.stdout.buffer
    with suppress(BrokenPipeError):
        write_message(answers, READY)
        signal.alarm(seconds_idle)
        while length := int.from_bytes(sys.stdin.buffer.read(4), "big"):
            request = json.loads(sys.stdin.buffer.read(length))
            file = request["path"] if "path" in request else sys.stdin.buffer.read(request["n_bytes"])
            signal.alarm(_SECONDS)
            _answer(file, request.get("name", ""), answers)
            signal.alarm(seconds_idle)


def write_message(stream: IO[bytes], value: object) -> None:
    """A value as JSON after its length; paths keep bytes that are not UTF-8."""
    content = json.dumps(value).encode()
    stream.write(len(content).to_bytes(4, "big") + content)
    stream.flush()


def _answer(file: FileLike, name: str, answers: IO[bytes]) -> None:
    try:
        pixels, digest = decode_file(file, name)
    except ImageError as error:
        write_message(answers, {"code": error.code, "message": str(error)})
    else:
        write_message(answers, {"shape": pixels.shape, "digest": digest})
        answers.write(np.ascontiguousarray(pixels).data.cast("B"))
        answers.flush()


def _limit_memory() -> None:
    """Limit memory to that of the idle process plus `MAX_MEMORY`; Linux enforces it, macOS does not."""
    if sys.platform != "linux":
        return
    import resource  # not available on Windows, where this module is imported, too

    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    _, highest = resource.getrlimit(resource.RLIMIT_AS)
    limit = pages * resource.getpagesize() + MAX_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit if highest < 0 else min(limit, highest), highest))


if __name__ == "__main__":
    main()
