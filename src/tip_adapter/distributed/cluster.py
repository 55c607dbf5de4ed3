"""The engine for a cluster: Ray decodes on the processors of every node, and labels with one model in each actor.

Ray's tasks and actors, not Ray Data: its blocks are not our parts, so that rows would have to be sorted and grouped again before
they are written, and a block that is computed twice may be written twice. Here an actor has a whole part; tasks decode the
photos of the part anywhere, 256 at a time, and the actor gets them in order as the uint8 images that its encoder takes.
"""

from __future__ import annotations

import os
import socket
import sys
from collections import deque
from contextlib import contextmanager
from functools import lru_cache
from time import monotonic
from typing import TYPE_CHECKING, Any

import msgspec

from tip_adapter.distributed import lanes
from tip_adapter.distributed.core import label_prepared, prepare_photos
from tip_adapter.distributed.inputs import read_photos
from tip_adapter.distributed.lanes import WorkerDied, reported_error
from tip_adapter.distributed.manifests import Job, PartManifest
from tip_adapter.distributed.parts import PartRunner, load_labeller, without
from tip_adapter.errors import JobStopped, TipAdapterError, UsageError
from tip_adapter.features.arrow import load_pyarrow
from tip_adapter.features.encode import BATCH
from tip_adapter.images.decoding_pool import DecodingPool
from tip_adapter.plugins import require_extra
from tip_adapter.text import counted, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from tip_adapter.encoders import Encoder
    from tip_adapter.features.arrow import RecordBatch

#: Photos that a task decodes: 38 MiB of uint8 images of 224 x 224.
_CHUNK = 8 * BATCH
#: Tasks of an actor that are decoding, or wait for its encoder.
_CHUNKS_AHEAD = 4
_SECONDS_BETWEEN_REPORTS = 1.0
_SECONDS_TO_CONNECT = 10
#: Without progress for so long, the driver looks whether its own node is there.
_SECONDS_UNTIL_CHECKED = 10


@contextmanager
def connected(address: str | None, workers: int | None, device: str | None) -> Iterator[int]:
    """A connection to Ray at an address, or to a Ray of this machine without one: how many actors label.

    A connection that the program has already is used and kept.

    Parameters
    ----------
    address : of a cluster, as `ray.init` takes it
    workers : int, actors that are asked for; None for one for each GPU if they use it, else for half the processors
    device : of each actor

    Raises
    ------
    MissingExtra
        Ray is not installed.
    UsageError
        There is no cluster at the address, or it has fewer than two processors, or fewer GPUs than actors that need one.
    """
    ray = load_ray()
    ours = not ray.is_initialized()
    if ours:
        folders = os.pathsep.join(os.path.abspath(folder) for folder in sys.path)  # noqa: PTH100 # "" is the current folder
        environment = {"OPENBLAS_NUM_THREADS": "1"} if address else {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": folders}
        # "local": without an address Ray would join any cluster that it finds on this machine.
        options: dict[str, Any] = {"address": address} if address else {"address": "local", "include_dashboard": False}
        try:
            _require_listener(address or "")
            ray.init(**options, runtime_env={"env_vars": environment}, log_to_driver=False, logging_level="ERROR")
        # RuntimeError: a cluster of another version. SystemExit: one that has ended, after minutes.
        except (OSError, ValueError, OverflowError, RuntimeError, SystemExit) as error:
            raise UsageError(
                f"no Ray answers at {printable(address or 'this machine')}: {printable(str(error))}"
            ) from error
    try:
        processors, gpus = (int(ray.cluster_resources().get(kind, 0)) for kind in ("CPU", "GPU"))
        if processors < 2:
            raise UsageError(
                f"Ray has {counted(processors, 'processor', 'processors')} here; it needs two, one to decode and one to label: "
                "add a node, or use --engine local"
            )
        if _gpus(device) * (workers or 1) > gpus:  # such an actor would never start
            raise UsageError(
                f"Ray has {counted(gpus, 'GPU', 'GPUs')} here, and {counted(workers or 1, 'worker', 'workers')} of the device "
                f"{printable(str(device))} need one each: add a node, or take fewer workers or another device"
            )
        yield workers or (gpus if _gpus(device) else processors // 2)
    finally:
        if ours:
            ray.shutdown()


def _require_listener(address: str) -> None:
    """Raise OSError, ValueError or OverflowError if an address is a host and a port where nothing listens.

    Ray would try for seven minutes, and then end the program.
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS_TO_CONNECT).close()


def _require_own_node() -> None:
    """Raise JobStopped if the node that this program is connected to has ended: actors would be waited for in vain."""
    ray = load_ray()
    own = ray.get_runtime_context().get_node_id()
    if not any(node["Alive"] and node["NodeID"] == own for node in ray.nodes()):
        raise JobStopped("Ray has ended on this machine; start it and the job again: finished parts are kept")


def _gpus(device: str | None) -> int:
    """How many GPUs an actor needs."""
    return int(device is not None and device.startswith("cuda"))


class ActorWorker:
    """One actor: a `lanes.Worker`."""

    def __init__(self, job: Job) -> None:
        self._errors = load_ray().exceptions
        # An actor reserves no processor: if nodes are lost, those that are left must not be all actors' that wait for tasks.
        needs = {"num_cpus": 0, "num_gpus": _gpus(job.device)}
        remote = load_ray().remote(**needs, max_concurrency=2, max_restarts=0, scheduling_strategy="SPREAD")(_Actor)
        self._actor = remote.remote(msgspec.to_builtins(job))

    def wait_until_ready(self) -> None:
        """As `lanes.Worker`."""
        self._answer(self._actor.load.remote(), None)

    def run(self, part: int, excluded: Sequence[int], report: Callable[[int], object]) -> PartManifest:
        """As `lanes.Worker`."""
        return msgspec.convert(self._answer(self._actor.run.remote(part, list(excluded)), report), PartManifest)

    def probe(self, part: int, start: int, stop: int, excluded: Sequence[int]) -> None:
        """As `lanes.Worker`."""
        self._answer(self._actor.probe.remote(part, start, stop, list(excluded)), None)

    def kill(self) -> None:
        """As `lanes.Worker`."""
        load_ray().kill(self._actor, no_restart=True)

    def close(self) -> None:
        """As `lanes.Worker`."""
        self.kill()

    def _answer(self, reference: Any, report: Callable[[int], object] | None) -> Any:
        """What a call of the actor gives; its progress is asked for meanwhile."""
        ray, rows, since = load_ray(), -1, monotonic()
        try:
            while not ray.wait([reference], timeout=_SECONDS_BETWEEN_REPORTS)[0]:
                if report and (done := ray.get(self._actor.progress.remote(), timeout=60)) != rows:
                    rows, since = done, monotonic()
                    report(rows)
                if monotonic() - since > _SECONDS_UNTIL_CHECKED:
                    _require_own_node()
                if monotonic() - since > lanes.SECONDS_WITHOUT_PROGRESS:
                    self.kill()
                    raise WorkerDied(f"no progress for {lanes.SECONDS_WITHOUT_PROGRESS} s")
            answer = ray.get(reference)
        except (self._errors.RayError, TimeoutError) as error:
            raise WorkerDied(printable(_reason(error))) from error
        if isinstance(answer, dict) and "error" in answer:
            raise reported_error(answer["code"], answer["error"])
        return answer


class _Actor:
    """What runs in an actor: answers are JSON values, an error of ours is its code and message."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._job = msgspec.convert(job, Job)
        self._rows = 0

    def progress(self) -> int:
        """Rows done of the part."""
        return self._rows

    def load(self) -> Any:
        """Load the model."""
        return _reported(self._load)

    def run(self, part: int, excluded: list[int]) -> Any:
        """Label a part and write it."""
        self._rows = 0
        return _reported(lambda: msgspec.to_builtins(self._runner.run(part, self._count, excluded)))

    def probe(self, part: int, start: int, stop: int, excluded: list[int]) -> Any:
        """Label rows of a part."""
        rows = self._runner.plan.rows(part).slice(start, stop - start)
        return _reported(lambda: sum(map(len, self._runner.labels(rows, [row - start for row in excluded]))))

    def _load(self) -> None:
        self._runner = _ClusterRunner.load(self._job)

    def _count(self, rows: int) -> None:
        self._rows = rows


class _ClusterRunner(PartRunner):
    """A PartRunner whose photos are decoded by tasks on any node."""

    def labels(self, rows: Any, excluded: Collection[int] = ()) -> Iterator[RecordBatch]:
        """As `PartRunner.labels`."""
        decode = load_ray().remote(num_cpus=1)(_decode)
        pending: deque[tuple[Any, Any]] = deque()
        for start in range(0, len(rows), _CHUNK):
            # Copied: a slice would be sent with the whole part.
            chunk = rows.take(load_pyarrow().array(range(start, min(start + _CHUNK, len(rows)))))
            here = [row - start for row in excluded if start <= row < start + _CHUNK]
            pending.append((chunk, decode.remote(msgspec.to_builtins(self.job), chunk, here)))
            if len(pending) > _CHUNKS_AHEAD:
                yield from self._labelled(*pending.popleft())
        while pending:
            yield from self._labelled(*pending.popleft())

    def _labelled(self, chunk: Any, reference: Any) -> Iterator[RecordBatch]:
        photos = load_ray().get(reference)
        if isinstance(photos, dict):
            raise reported_error(photos["code"], photos["error"])
        ids, uris = (chunk.column(name).to_pylist() for name in ("id", "uri"))
        yield from label_prepared(ids, uris, photos, self.labeller)


def _decode(job: dict[str, Any], rows: Any, excluded: Collection[int]) -> Any:
    """A task: read and decode planned photos; what `prepare_photos` gives, or an error as `_Actor` answers it."""

    def decoded() -> list[Any]:
        encoder = _encoder(msgspec.convert(job, Job))
        with DecodingPool() as processes:
            batches = without(read_photos(rows), excluded)
            return [photo for batch in batches for photo in prepare_photos(batch, encoder, processes)]

    return _reported(decoded)


@lru_cache(maxsize=1)
def _encoder(job: Job) -> Encoder:
    """The encoder of a job's model, for its preprocessing."""
    return load_labeller(msgspec.structs.replace(job, device=None, threads=1)).encoder


def _reported(call: Callable[[], Any]) -> Any:
    """What a call gives, or the code and message of its error; errors of Ray are raised, since another attempt may succeed."""
    try:
        return call()
    except load_ray().exceptions.RayError:
        raise
    except TipAdapterError as error:
        return {"code": error.code, "error": str(error)}
    except Exception as error:  # as in worker.py: an engine's answer to a defect must not differ from the other's
        return {"code": "error", "error": f"{type(error).__name__}: {error}"}


def _reason(error: Exception) -> str:
    """Why a worker died; of an error that Ray passes on from a task, its own message, which is in the last line."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1 if isinstance(error, load_ray().exceptions.RayTaskError) else 0]


def load_ray() -> Any:
    """`ray`; raises MissingExtra if it is not installed."""
    return require_extra("ray", "Ray, which runs a cluster,", "ray")
