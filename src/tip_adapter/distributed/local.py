"""The local engine: worker processes of this machine.

Plain processes, each started from scratch, not forked or `multiprocessing`: see `images.decoding_pool`.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from typing import TYPE_CHECKING, Any, cast

import msgspec

from tip_adapter.distributed import lanes
from tip_adapter.distributed.lanes import WorkerDied, reported_error
from tip_adapter.distributed.manifests import PartManifest

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Sequence

    from tip_adapter.distributed.manifests import Job


class WorkerProcess:
    """One worker and the pipes to it, used by one thread; `kill` may be called by another."""

    def __init__(self, job: Job) -> None:
        folders = os.pathsep.join(os.path.abspath(folder) for folder in sys.path)  # noqa: PTH100 # "" is the current folder
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-W", "ignore", "-m", "tip_adapter.distributed.worker"],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": folders, "OPENBLAS_NUM_THREADS": "1"},
        )
        self._answers = cast("io.FileIO", self._process.stdout)
        self._arrival = select.poll()
        self._arrival.register(self._answers, select.POLLIN)
        self._received = b""
        self._job = job

    def wait_until_ready(self) -> None:
        """Wait until it has loaded the model; raises as `PartRunner.load`, or WorkerDied."""
        self._send(msgspec.to_builtins(self._job))
        self._receive()

    def run(self, part: int, excluded: Sequence[int], report: Callable[[int], object]) -> PartManifest:
        """Have a part labelled; raises WorkerDied, or the error that the worker reports."""
        self._send({"part": part, "excluded": list(excluded)})
        while "done" not in (answer := self._receive()):
            report(answer["rows"])
        return msgspec.convert(answer["done"], PartManifest)

    def probe(self, part: int, start: int, stop: int, excluded: Sequence[int]) -> None:
        """Have these rows of a part labelled without writing them; raises as `run`."""
        self._send({"part": part, "start": start, "stop": stop, "excluded": list(excluded)})
        self._receive()

    def kill(self) -> None:
        """End it; its thread gets WorkerDied."""
        self._process.kill()

    def close(self) -> None:
        """End it and close its pipes."""
        self._process.kill()
        self._process.wait()
        cast("io.FileIO", self._process.stdin).close()
        self._answers.close()

    def _send(self, record: dict[str, Any]) -> None:
        try:
            cast("io.FileIO", self._process.stdin).write(json.dumps(record).encode() + b"\n")
        except BrokenPipeError:
            raise WorkerDied(self._reason()) from None

    def _receive(self) -> dict[str, Any]:
        while b"\n" not in self._received:
            if not self._arrival.poll(1000 * lanes.SECONDS_WITHOUT_PROGRESS):
                self.kill()
                raise WorkerDied(f"no progress for {lanes.SECONDS_WITHOUT_PROGRESS} s")
            arrived = os.read(self._answers.fileno(), 2**16)
            if not arrived:
                raise WorkerDied(self._reason())
            self._received += arrived
        line, _, self._received = self._received.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise reported_error(answer["code"], answer["error"])
        return answer

    def _reason(self) -> str:
        status = self._process.wait()
        return f"killed by signal {-status}" if status < 0 else f"ended with status {status}"
