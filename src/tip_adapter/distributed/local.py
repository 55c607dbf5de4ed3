"""The local engine: parts are labelled by worker processes of this machine, which are replaced when they die.

Plain processes that are started anew, not forked or `multiprocessing`: see `images.decoding_pool`.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections import deque
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any, cast

import msgspec

from tip_adapter.distributed.manifests import PartManifest
from tip_adapter.errors import JobStopped, TipAdapterError, warn
from tip_adapter.features.encode import BATCH

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Sequence

    from tip_adapter.distributed.manifests import Job
    from tip_adapter.distributed.plan import Plan

#: A worker that gives no sign of progress for so long is killed: a batch takes seconds, loading a model a minute.
SECONDS_WITHOUT_PROGRESS = 600
#: How often a part is begun; a worker may die for reasons that pass, such as another program's use of memory.
_ATTEMPTS = 5
#: Batches that may be decoded or encoded when a worker dies.
_IN_FLIGHT = 8
#: Photos of one part that may be excluded before it is the machine that is at fault.
_MOST_EXCLUDED = 20


class WorkerDied(Exception):
    """A worker process ended, or gave no sign of progress; the message says which."""


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
        self._send(msgspec.to_builtins(job))
        self._receive()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

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
            if not self._arrival.poll(1000 * SECONDS_WITHOUT_PROGRESS):
                self.kill()
                raise WorkerDied(f"no progress for {SECONDS_WITHOUT_PROGRESS} s")
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


def reported_error(code: str, message: str) -> TipAdapterError:
    """The error of this package that has a code, as a worker reported it."""
    kinds = [TipAdapterError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    kind = next((kind for kind in kinds if kind.code == code), TipAdapterError)
    return (JobStopped if kind is TipAdapterError else kind)(message)


@dataclass(eq=False)
class _Run:
    """One run of `run_parts`: what its threads share."""

    job: Job
    plan: Plan
    waiting: deque[int]
    report: Callable[[int, int], object]
    finish: Callable[[PartManifest], object]
    workers: set[WorkerProcess] = field(default_factory=set)
    stopped: bool = False
    lock: Lock = field(default_factory=Lock)

    def work(self) -> None:
        """Label waiting parts with one process after the other, until none waits."""
        worker: WorkerProcess | None = None
        try:
            while (part := self._next()) is not None:
                worker, manifest = self._part(part, worker)
                with self.lock:
                    self.finish(manifest)
        finally:
            if worker is not None:
                self._discard(worker)

    def stop(self) -> None:
        """Let no further part begin, and end the workers."""
        with self.lock:
            self.stopped = True
            for worker in self.workers:
                worker.kill()

    def _next(self) -> int | None:
        with self.lock:
            return self.waiting.popleft() if self.waiting and not self.stopped else None

    def _part(self, part: int, worker: WorkerProcess | None) -> tuple[WorkerProcess, PartManifest]:
        """Label a part; if workers die of it again and again, their photos are found and excluded."""
        excluded: list[int] = []
        attempt = 0
        while True:
            reached = 0

            def report(rows: int) -> None:
                nonlocal reached
                reached = rows
                self.report(part, rows)

            try:
                worker = worker or self._started()
                return worker, worker.run(part, excluded, report)
            except WorkerDied as reason:
                attempt += 1
                if worker is not None:
                    self._discard(worker)
                worker = None
                if self.stopped:
                    raise
                self.report(part, 0)
                warn(f"a worker of part {part} died at row {reached:,} ({reason}); the part is begun again")
                if attempt > 1 and (row := self._fatal_row(part, reached, excluded)) is not None:
                    excluded.append(row)
                    attempt = 1
                if attempt == _ATTEMPTS or len(excluded) > _MOST_EXCLUDED:
                    raise JobStopped(
                        f"workers of part {part} died {attempt} times, the last at row {reached:,} ({reason}); free memory, or use "
                        "fewer workers, and start again: finished parts are kept"
                    ) from None

    def _fatal_row(self, part: int, start: int, excluded: Sequence[int]) -> int | None:
        """The first row from `start` on that ends a worker, found by bisection; None if all of them pass now."""
        stop = min(start + _IN_FLIGHT * BATCH, self.plan.size(part))
        if self._passes(part, start, stop, excluded):
            return None
        while stop - start > 1:
            middle = (start + stop) // 2
            if self._passes(part, start, middle, excluded):
                start = middle
            else:
                stop = middle
        return start

    def _passes(self, part: int, start: int, stop: int, excluded: Sequence[int]) -> bool:
        worker = self._started()
        try:
            worker.probe(part, start, stop, excluded)
        except WorkerDied:
            return False
        finally:
            self._discard(worker)
        return True

    def _started(self) -> WorkerProcess:
        worker = WorkerProcess(self.job)
        with self.lock:
            self.workers.add(worker)
            if self.stopped:
                worker.kill()
        return worker

    def _discard(self, worker: WorkerProcess) -> None:
        with self.lock:
            self.workers.discard(worker)
        worker.close()


def run_parts(
    job: Job,
    plan: Plan,
    parts: Sequence[int],
    *,
    workers: int,
    report: Callable[[int, int], object],
    finish: Callable[[PartManifest], object],
) -> None:
    """Label parts with worker processes.

    Parameters
    ----------
    job, plan : Job and its Plan
    parts : numbers of the parts
    workers : int, processes
    report : called with (part, rows done) from several threads
    finish : called with the PartManifest of each part, by one thread at a time; what it raises stops the run

    Raises
    ------
    JobStopped
        Workers die again and again. Errors of the workers as `PartRunner.load` and `PartRunner.run` raise them.
    """
    run = _Run(job, plan, deque(parts), report, finish)
    n_threads = min(workers, len(parts))
    with ThreadPoolExecutor(n_threads, "worker") as pool:
        try:
            working = [pool.submit(run.work) for _ in range(n_threads)]
            done, _ = wait(working, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
        finally:
            run.stop()
