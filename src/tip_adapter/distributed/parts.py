"""Label a part and write it: a folder of one Parquet file and a manifest, which appears at once when it is complete."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from tip_adapter.distributed.core import Labeller, label_photos, label_vectors
from tip_adapter.distributed.inputs import read_photos
from tip_adapter.distributed.manifests import LABELS, MANIFEST, PartManifest
from tip_adapter.distributed.plan import Plan
from tip_adapter.distributed.vectors import read_vectors
from tip_adapter.errors import ModelFolderError, OutputExists
from tip_adapter.features.arrow import RecordBatch, load_pyarrow
from tip_adapter.io.files import file_digest, write_file, writing_file, writing_folder
from tip_adapter.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from tip_adapter.distributed.manifests import Job

#: Rows of a row group: with float16 vectors of width 1,280, 40 MiB.
_GROUP_ROWS = 16_384


@dataclass(frozen=True, eq=False)
class PartRunner:
    """What labels parts: the model of a job, loaded once in each worker.

    Parameters
    ----------
    job : Job
    plan : Plan
    labeller : Labeller
    """

    job: Job
    plan: Plan
    labeller: Labeller

    @classmethod
    def load(cls, job: Job) -> Self:
        """Load the model and the plan of a job; raises as `load_labeller`."""
        return cls(job, Plan.read(job.plan_path), load_labeller(job))

    def run(self, part: int, report: Callable[[int], object], excluded: Collection[int] = ()) -> PartManifest:
        """Label a part and write it.

        Parameters
        ----------
        part : int
        report : called with the number of rows done after each batch
        excluded : rows whose photo ended a worker: they are rows with an error

        Raises
        ------
        InputChanged, InputUnavailable, FolderError, NotWritable
            The part cannot be done.
        """
        key = self.job.key(self.plan.header.digests[part])
        rows = self._reported(self.labels(self.plan.rows(part), excluded), report)
        return write_part(self.job, part, key, rows, self.labeller.schema)

    def labels(self, rows: Any, excluded: Collection[int] = ()) -> Iterator[RecordBatch]:
        """Labels of planned rows, in order."""
        if self.job.kind == "relabel":
            return label_vectors(read_vectors(rows), self.labeller)
        photos = without(read_photos(rows), excluded)
        return label_photos(photos, self.labeller, threads=self.job.threads)

    @staticmethod
    def _reported(batches: Iterator[RecordBatch], report: Callable[[int], object]) -> Iterator[RecordBatch]:
        done = 0
        for batch in batches:
            yield batch
            done += len(batch)
            report(done)


def load_labeller(job: Job) -> Labeller:
    """Load the model of a job; raises ModelFolderError if it is not the one that the job began with."""
    labeller = Labeller.load(job.model_dir, vectors=job.vectors, device=job.device, threads=job.threads)
    if (labeller.model, labeller.encoder.identity.fingerprint) != (job.model, job.encoder):
        raise ModelFolderError(
            f"{printable(job.model_dir)} was replaced by another model after the job had begun; restore it, or choose "
            "another output folder"
        )
    return labeller


def without(batches: Iterable[RecordBatch], excluded: Collection[int]) -> Iterator[RecordBatch]:
    """Photos, those of the excluded rows with an error instead of their content."""
    start = 0
    for batch in batches:
        here = [row - start for row in excluded if start <= row < start + len(batch)]
        start += len(batch)
        if here:
            columns = batch.to_pydict()
            for row in here:
                columns["content"][row] = None
                columns["error"][row] = f"cannot use {printable(columns['id'][row])}: it ends the program that reads it"
            batch = load_pyarrow().RecordBatch.from_pydict(columns, schema=batch.schema)
        yield batch


# ---- writing ---------------------------------------------------------------------------------------------------------


def write_part(job: Job, part: int, key: str, batches: Iterable[RecordBatch], schema: Any) -> PartManifest:
    """Write a part, which appears when it is complete; if another worker was faster, its part stays.

    Parameters
    ----------
    job, part, key : the part
    batches : pyarrow.RecordBatch of `schema`, in order
    schema : as `core.label_schema`

    Returns
    -------
    PartManifest of the part that is there now
    """
    place = job.folder(part, key)
    try:
        with writing_folder(place) as folder:
            with writing_file(folder / LABELS) as file:
                n_rows, n_errors = _write_labels(file, batches, schema)
            size, digest = (folder / LABELS).stat().st_size, file_digest(folder / LABELS)
            manifest = PartManifest(
                job.kind, part, key, n_rows, n_errors, LABELS, size, digest, job.model, job.encoder, job.vectors
            )
            write_file(folder / MANIFEST, manifest.to_json())
    except OutputExists:
        if (other := PartManifest.read(place)) is None:
            raise
        return other
    return manifest


def _write_labels(file: Any, batches: Iterable[RecordBatch], schema: Any) -> tuple[int, int]:
    """Write rows as a Parquet file; returns the numbers of rows and of errors. The same rows give the same bytes."""
    pa = load_pyarrow()
    n_rows = n_errors = 0
    texts = [name for name in schema.names if name != "vector"]
    with pa.parquet.ParquetWriter(
        file, schema, compression="zstd", use_dictionary=texts, write_page_checksum=True
    ) as writer:
        for group in _groups(batches):
            writer.write_table(pa.Table.from_batches(group, schema), row_group_size=_GROUP_ROWS)
            n_rows += sum(map(len, group))
            n_errors += sum(len(batch) - batch.column("error").null_count for batch in group)
    return n_rows, n_errors


def _groups(batches: Iterable[RecordBatch]) -> Iterator[list[RecordBatch]]:
    """Batches of one row group each."""
    kept: list[RecordBatch] = []
    n_kept = 0
    for batch in batches:
        while n_kept + len(batch) >= _GROUP_ROWS:
            kept.append(batch.slice(0, _GROUP_ROWS - n_kept))
            batch = batch.slice(_GROUP_ROWS - n_kept)
            yield kept
            kept, n_kept = [], 0
        if len(batch):
            kept.append(batch)
            n_kept += len(batch)
    if kept:
        yield kept
