"""The work of every engine: give each worker a part, replace workers that crash, and find the photos that crash them."""

from __future__ import annotations

from collections import deque
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Protocol, TypeVar

from tip_adapter.errors import JobStopped, TipAdapterError, warn
from tip_adapter.features.encode import BATCH

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tip_adapter.distributed.manifests import PartManifest
    from tip_adapter.distributed.plan import Plan

T = TypeVar("T")

#: A worker that gives no sign of progress for so long is killed: a batch takes seconds, loading a model a minute.
SECONDS_WITHOUT_PROGRESS = 600
#: How often a part is begun; a worker may die for reasons that pass, such as another program's use of memory.
_ATTEMPTS = 5
#: Batches that may be decoded or encoded when a worker dies.
_IN_FLIGHT = 8
#: How often a photo has to end a worker before it is excluded.
_CONFIRMATIONS = 2
#: Photos of one part that may be excluded before it is the machine that is at fault.
_MOST_EXCLUDED = 20


class WorkerDied(Exception):
    """A worker ended, or gave no sign of progress; the message says which."""


class Worker(Protocol):
    """One process or actor with the model; used by one thread, but for `kill`."""

    def wait_until_ready(self) -> None:
        """Wait until it has loaded the model; raises WorkerDied, or as `PartRunner.load`."""

    def run(self, part: int, excluded: Sequence[int], report: Callable[[int], object]) -> PartManifest:
        """Have a part labelled and written; raises WorkerDied, or as `PartRunner.run`."""

    def probe(self, part: int, start: int, stop: int, excluded: Sequence[int]) -> None:
        """Have these rows of a part labelled without writing them; raises as `run`."""

    def kill(self) -> None:
        """End it; its thread gets WorkerDied."""

    def close(self) -> None:
        """End it and free what it used."""


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

    start: Callable[[], Worker]
    plan: Plan
    waiting: deque[int]
    report: Callable[[int, int], object]
    finish: Callable[[PartManifest], object]
    workers: set[Worker] = field(default_factory=set)
    stopped: bool = False
    lock: Lock = field(default_factory=Lock)

    def next(self) -> int | None:
        """The next part; None if none waits."""
        with self.lock:
            return self.waiting.popleft() if self.waiting and not self.stopped else None

    def add(self, worker: Worker) -> None:
        """A worker was started."""
        with self.lock:
            self.workers.add(worker)
            if self.stopped:
                worker.kill()

    def discard(self, worker: Worker) -> None:
        """End a worker."""
        with self.lock:
            self.workers.discard(worker)
        worker.close()

    def stop(self) -> None:
        """Let no further part begin, and end the workers."""
        with self.lock:
            self.stopped = True
            for worker in self.workers:
                worker.kill()


class _Lane:
    """One thread of a run: labels parts with one worker, and the next one when that dies."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._worker: Worker | None = None

    def work(self) -> None:
        """Label parts until none waits."""
        try:
            while (part := self._run.next()) is not None:
                manifest = self._part(part)
                with self._run.lock:
                    self._run.finish(manifest)
        finally:
            self._end_worker()

    def _part(self, part: int) -> PartManifest:
        """Label a part; if workers die of it again and again, their photos are found and excluded."""
        excluded: list[int] = []
        attempt = reached = 0

        def report(rows: int) -> None:
            nonlocal reached
            reached = rows
            self._run.report(part, rows)

        while True:
            try:
                return self._ask(lambda worker: worker.run(part, excluded, report))
            except WorkerDied as reason:
                attempt += 1
                died = f"a worker of part {part} died at row {reached:,} ({reason})"
                if self._run.stopped:
                    raise
                if attempt == _ATTEMPTS or len(excluded) == _MOST_EXCLUDED:
                    raise JobStopped(
                        f"{died}, as others did before; free memory, or use fewer workers, and start again: finished parts are "
                        "kept"
                    ) from None
            warn(f"{died}; the part is begun again")
            if attempt > 1 and (row := self._fatal_row(part, reached, excluded)) is not None:
                excluded.append(row)
                attempt = 1
            report(0)

    def _fatal_row(self, part: int, start: int, excluded: Sequence[int]) -> int | None:
        """The first row from `start` on that ends a worker, found by bisection; None if all of them pass now."""
        stop = min(start + _IN_FLIGHT * BATCH, self._run.plan.size(part))
        if self._passes(part, start, stop, excluded):
            return None
        while stop - start > 1:
            middle = (start + stop) // 2
            if self._passes(part, start, middle, excluded):
                start = middle
            else:
                stop = middle
        # Once more, alone: a worker that something else ended meanwhile says nothing about a photo.
        confirmed = not any(self._passes(part, start, start + 1, excluded) for _ in range(_CONFIRMATIONS))
        return start if confirmed else None

    def _passes(self, part: int, start: int, stop: int, excluded: Sequence[int]) -> bool:
        try:
            self._ask(lambda worker: worker.probe(part, start, stop, excluded))
        except WorkerDied:
            return False
        return True

    def _ask(self, ask: Callable[[Worker], T]) -> T:
        """What a worker answers, the one that runs or a new one; one that dies is discarded."""
        try:
            if self._worker is None:
                self._worker = self._run.start()
                self._run.add(self._worker)
                self._worker.wait_until_ready()
            return ask(self._worker)
        except WorkerDied:
            self._end_worker()
            raise

    def _end_worker(self) -> None:
        if self._worker is not None:
            self._run.discard(self._worker)
            self._worker = None


def run_parts(
    start: Callable[[], Worker],
    plan: Plan,
    parts: Sequence[int],
    *,
    workers: int,
    report: Callable[[int, int], object],
    finish: Callable[[PartManifest], object],
) -> None:
    """Label parts with workers.

    Parameters
    ----------
    start : makes a new worker, without waiting for it
    plan : Plan
    parts : numbers of the parts
    workers : int, how many work at once
    report : called with (part, rows done) from several threads
    finish : called with the PartManifest of each part, by one thread at a time; what it raises stops the run

    Raises
    ------
    JobStopped
        Workers die again and again. Errors of the workers as `PartRunner.load` and `PartRunner.run` raise them.
    """
    run = _Run(start, plan, deque(parts), report, finish)
    n_threads = min(workers, len(parts))
    with ThreadPoolExecutor(n_threads, "worker") as pool:
        try:
            working = [pool.submit(_Lane(run).work) for _ in range(n_threads)]
            done, _ = wait(working, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
        finally:
            run.stop()
