"""Label very many images, or their stored vectors: plan once, skip the parts that are done, give the others to an engine."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import partial
from itertools import repeat
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from tip_adapter import validation
from tip_adapter.distributed import ENGINES, MAX_ERROR_RATE, PART_ROWS, cluster, local
from tip_adapter.distributed.core import model_digest
from tip_adapter.distributed.inputs import list_photos, require_source
from tip_adapter.distributed.lanes import run_parts
from tip_adapter.distributed.manifests import LABELS, PART, Job, PartManifest, parts_at
from tip_adapter.distributed.plan import PLAN, Plan, part_sizes, write_plan
from tip_adapter.distributed.storage import is_url
from tip_adapter.distributed.vectors import list_vectors
from tip_adapter.errors import NothingReadable, OutputExists, TooManyErrors, warn
from tip_adapter.features.arrow import load_pyarrow
from tip_adapter.images.search import is_skipped_name
from tip_adapter.io.files import lock_folder, make_folder, remove, sweep
from tip_adapter.io.processors import available_processors
from tip_adapter.model.head import load_head
from tip_adapter.text import counted, first_of, percent, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tip_adapter.features.arrow import RecordBatch
    from tip_adapter.features.encode import Progress

#: Photos after which the share of errors says something about the rest.
_ROWS_THAT_COUNT = 100


@dataclass(frozen=True)
class Labelled:
    """What a run did.

    Parameters
    ----------
    n_images : int, rows of the output
    n_errors : int, rows with an error
    n_parts : int, parts of the output
    n_labelled : int, parts that this run labelled
    """

    n_images: int
    n_errors: int
    n_parts: int
    n_labelled: int


def label_images(
    model_dir: str | os.PathLike[str],
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    engine: str = "local",
    workers: int | None = None,
    part_rows: int = PART_ROWS,
    vectors: bool = False,
    max_error_rate: float = MAX_ERROR_RATE,
    address: str | None = None,
    device: str | None = None,
    threads: int = 1,
    progress: Progress | None = None,
) -> Labelled:
    """Label all images of a source; a run that was interrupted is continued by the next, and parts that are done stay.

    Parameters
    ----------
    model_dir : a model folder
    source : as `inputs.list_photos` takes it
    out : folder for the plan and the parts: new, empty, or of an earlier run
    engine : ``local``, processes of this machine, or ``ray``, a cluster; the output is the same
    workers : int, each loads the model; None for one per available processor, or what the cluster has room for
    part_rows : int, images of the largest parts
    vectors : bool, whether rows keep their vector, as float16
    max_error_rate : float, the share of unreadable images above which the run stops
    address : of a Ray cluster; None for one on this machine
    device, threads : of each worker
    progress : called with (images done, images in all)

    Returns
    -------
    Labelled

    Raises
    ------
    FolderError, UsageError, ModelFolderError
        The source, an option or the model cannot be used.
    OutputExists
        `out` has the plan of another source, or labels of another model.
    NotWritable
        With the system's reason; also if another run is writing `out`.
    JobStopped
        And its kinds: an image has changed, a store does not answer, too many are unreadable, workers die. What is finished is
        kept.
    """
    given = os.fspath(source)
    named = given if is_url(given) else os.path.abspath(given)  # noqa: PTH100 # a link stays a link
    most = validation.integer(part_rows, "part_rows", 1)
    job = _job("label", model_dir, out, vectors=vectors, device=device, threads=threads)
    if not job.plan_path.exists():  # a finished job needs its input no more
        require_source(given)
    run = _Run(job, engine, workers, validation.number(max_error_rate, "max_error_rate", 0, 1), address, progress)
    return run.carry_out(named, lambda: list_photos(given), most, part_sizes(most))


def relabel_vectors(
    model_dir: str | os.PathLike[str],
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    workers: int | None = None,
    threads: int = 1,
    progress: Progress | None = None,
) -> Labelled:
    """Label stored vectors by another model of the same encoder; no image is read.

    Parameters
    ----------
    model_dir, out, workers, threads : as in `label_images`
    source : a features folder, or the output of `label_images` with `vectors`
    progress : called with (files done, files in all)

    Raises
    ------
    FeaturesError, WrongEncoder
        As `vectors.list_vectors`. The others as `label_images`.
    """
    place = validation.path(source, "source")
    job = _job("relabel", model_dir, out, vectors=False, device=None, threads=threads)
    run = _Run(job, "local", workers, 1.0, None, progress)
    return run.carry_out(os.path.abspath(place), lambda: list_vectors(place, job.encoder), 1, repeat(1))  # noqa: PTH100


def finished_files(out: str | os.PathLike[str]) -> list[Path]:
    """The Parquet files of an output folder whose part is finished, in the order of their rows."""
    return [folder / manifest.file for folder, manifest in parts_at(Path(out)).items() if manifest]


def _first_error(out: Path) -> str:
    """The error of the first row of an output folder that has one."""
    pa = load_pyarrow()
    for file in finished_files(out):
        for batch in pa.parquet.ParquetFile(file).iter_batches(1024, columns=["error"]):
            if found := next(filter(None, batch.column(0).to_pylist()), None):
                return printable(found)
    return "no image"


def _job(kind: Any, model_dir: str | os.PathLike[str], out: str | os.PathLike[str], **options: Any) -> Job:
    place, folder = validation.path(out, "out"), validation.path(model_dir, "model_dir")
    digest = model_digest(folder)
    _, config = load_head(folder)
    # Absolute: workers may have another working folder.
    return Job(kind, str(place.absolute()), str(folder.absolute()), digest, config["encoder"]["fingerprint"], **options)


@dataclass(eq=False)
class _Run:
    """One run of a job."""

    job: Job
    engine: str
    workers: int | None
    max_error_rate: float
    address: str | None
    progress: Progress | None

    def carry_out(
        self, source: str, find: Callable[[], Iterator[RecordBatch]], part_rows: int, sizes: Iterator[int]
    ) -> Labelled:
        """Plan unless there is a plan, and label the parts that are not done."""
        load_pyarrow()
        validation.require(self.engine in ENGINES, "engine", " or ".join(ENGINES), self.engine)
        if self.engine == "ray":
            cluster.load_ray()
        workers = None if self.workers is None else validation.integer(self.workers, "workers", 1, 1024)
        out = Path(self.job.out)
        self._refuse_foreign(out)
        make_folder(out)
        with lock_folder(out, wait=False):
            sweep(out, age_s=0)
            if not self.job.plan_path.exists():
                write_plan(self.job.plan_path, source, find(), part_rows, sizes)
            plan = Plan.read(self.job.plan_path)
            self._refuse_other_plan(plan, source, part_rows)
            parts = {part: self.job.key(digest) for part, digest in enumerate(plan.header.digests)}
            done = self._done(parts)
            count = _Count(plan, self.max_error_rate, self.progress)
            for manifest in done:
                count.add(manifest)
            count.refuse()
            waiting = sorted(parts.keys() - {manifest.part for manifest in done})
            if waiting:
                self._label(plan, waiting, workers, count)
                sweep(out, age_s=0)  # of workers that died
        if count.errors == count.rows:
            none = f"none of {counted(count.rows, 'image', 'images')} could be read"
            raise NothingReadable(f"{none}; the first: {_first_error(out)}; see the column error")
        return Labelled(count.rows, count.errors, len(parts), len(waiting))

    def _label(self, plan: Plan, parts: Sequence[int], workers: int | None, count: _Count) -> None:
        """Label these parts with an engine."""
        calls: dict[str, Any] = {"report": count.report, "finish": count.finish}
        if self.engine == "local":
            run_parts(
                partial(local.WorkerProcess, self.job), plan, parts, workers=workers or available_processors(), **calls
            )
        else:
            with cluster.connected(self.address, workers, self.job.device) as n_actors:
                run_parts(partial(cluster.ActorWorker, self.job), plan, parts, workers=n_actors, **calls)

    def _refuse_foreign(self, out: Path) -> None:
        """Raise OutputExists unless the place is free, an empty folder, or an output folder."""
        names = [name for name in os.listdir(out) if not is_skipped_name(name)] if out.is_dir() else []
        ours = PLAN in names or all(map(PART.fullmatch, names))
        if (os.path.lexists(out) and not out.is_dir()) or not ours:
            raise OutputExists(f"{printable(out)} holds something else than labels; choose another place")

    def _refuse_other_plan(self, plan: Plan, source: str, part_rows: int) -> None:
        """Raise OutputExists if the folder has the plan of another source or with parts of another size."""
        header = plan.header
        if (header.source, header.part_rows) != (source, part_rows):
            raise OutputExists(
                f"{printable(self.job.out)} holds the plan of {printable(header.source)} in parts of {header.part_rows:,}, given are "
                f"{printable(source)} and {part_rows:,}; choose another place, or remove {PLAN} to plan anew"
            )

    def _done(self, parts: Mapping[int, str]) -> list[PartManifest]:
        """The manifests of the parts that are done; folders that are no part of the plan are removed.

        Raises OutputExists if there are labels of another model, or with other options.
        """
        wanted = {self.job.folder(part, key).name: key for part, key in parts.items()}
        found = parts_at(Path(self.job.out))
        for manifest in filter(None, found.values()):
            if not self.job.made(manifest):
                other = f"of another model ({manifest.model[:12]}…, given is {self.job.model[:12]}…)"
                if manifest.model == self.job.model:
                    stored = f"with{'' if manifest.vectors else 'out'} vectors"
                    other = stored if manifest.kind == self.job.kind else f"that tip-adapter {manifest.kind} made"
                raise OutputExists(f"{printable(self.job.out)} holds labels {other}; choose another place")
        done = {folder: m for folder, m in found.items() if m is not None and wanted.get(folder.name) == m.key}
        damaged = [folder for folder, manifest in found.items() if manifest is None]
        stale = [folder for folder in found if folder not in done and folder not in damaged]
        for folders, what in ((damaged, "damaged and made again"), (stale, "not in the plan any more and removed")):
            if folders:
                warn(f"{counted(len(folders), 'part is', 'parts are')} {what}: {first_of([f.name for f in folders])}")
            for folder in folders:
                remove(folder)
        return list(done.values())


@dataclass(eq=False)
class _Count:
    """Counts rows and errors of parts, and stops the run where too many images are unreadable."""

    plan: Plan
    max_error_rate: float
    progress: Progress | None
    rows: int = 0
    errors: int = 0
    done: int = 0
    _begun: dict[int, int] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def add(self, manifest: PartManifest) -> None:
        """Count a finished part."""
        self.rows += manifest.rows
        self.errors += manifest.errors
        self.done += self.plan.size(manifest.part)

    def report(self, part: int, rows: int) -> None:
        """So many rows of a part are done."""
        with self._lock:
            self._begun[part] = min(rows, self.plan.size(part))
            self._show()

    def finish(self, manifest: PartManifest) -> None:
        """A part is done; raises as `refuse`."""
        with self._lock:
            self._begun.pop(manifest.part, None)
            self.add(manifest)
            self._show()
        self.refuse()

    def refuse(self) -> None:
        """Raise TooManyErrors if the share of unreadable images is above the limit."""
        if self.rows >= _ROWS_THAT_COUNT and self.errors > self.max_error_rate * self.rows:
            raise TooManyErrors(
                f"{self.errors:,} of {self.rows:,} images ({percent(self.errors / self.rows)}) are unreadable, more than "
                f"{percent(self.max_error_rate)}; see the column error of {LABELS}. To go on, pass a higher max_error_rate: "
                "finished parts are kept",
                arguments=("max_error_rate",),
            )

    def _show(self) -> None:
        if self.progress:
            self.progress(self.done + sum(self._begun.values()), self.plan.header.rows)
