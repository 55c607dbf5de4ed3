"""The plan of a job: every photo once, in order, cut into parts; plan.parquet, one row group for each part."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Self

import msgspec
from msgspec import Meta

from tip_adapter.distributed.inputs import plan_schema
from tip_adapter.errors import JobStopped
from tip_adapter.features.arrow import RecordBatch, load_pyarrow
from tip_adapter.features.encode import BATCH
from tip_adapter.io.files import writing_file
from tip_adapter.io.json_schema import convert, parse_json
from tip_adapter.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

PLAN = "plan.parquet"
FORMAT = 1
#: Parts of each size before the size doubles, and the first size. So the last parts are a small share of the whole, however
#: many photos there are: workers end together, and an interruption costs little.
_OF_EACH_SIZE, _FIRST_SIZE = 64, 1024
_NOTE = b"tip_adapter"

Count = Annotated[int, Meta(ge=0, le=2**53)]
Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The metadata of a plan.

    Parameters
    ----------
    source : str, the input as it was given, a local path made absolute
    part_rows : int, photos of the largest parts
    rows : int, of all parts
    digests : SHA-256 of the rows of each part
    """

    source: str
    part_rows: Annotated[int, Meta(ge=1)]
    rows: Count
    digests: tuple[Digest, ...]


@dataclass(frozen=True, eq=False)
class Plan:
    """A plan that was written.

    Parameters
    ----------
    header : Header
    file : pyarrow.parquet.ParquetFile
    """

    header: Header
    file: Any

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a plan's header; its rows are read part by part. Raises JobStopped if it is damaged."""
        pa = load_pyarrow()
        try:
            file = pa.parquet.ParquetFile(path, page_checksum_verification=True)
            stated = parse_json((file.schema_arrow.metadata or file.metadata.metadata or {}).get(_NOTE, b""))
            if not isinstance(stated, dict) or stated.pop("format", None) != FORMAT:
                raise ValueError("it is of another format")
            header = convert(stated, Header)
            if (file.num_row_groups, file.metadata.num_rows) != (len(header.digests), header.rows):
                raise ValueError("it has another number of parts or rows than it states")
        except (pa.ArrowException, OSError, ValueError, RecursionError) as error:
            raise JobStopped(
                f"{printable(path)} is damaged: {printable(str(error))}; remove it and start again"
            ) from error
        return cls(header, file)

    def size(self, part: int) -> int:
        """Rows of a part."""
        return int(self.file.metadata.row_group(part).num_rows)

    def rows(self, part: int) -> RecordBatch:
        """The rows of a part, a pyarrow.Table of `inputs.plan_schema`."""
        return self.file.read_row_group(part, use_threads=False)


def part_sizes(most: int) -> Iterator[int]:
    """Sizes of the parts one after the other: 64 of 1,024 photos, 64 of twice as many, and so on, up to `most`.

    Multiples of a batch, so that a photo is in the same batch of 32 as in `predict`, unless `most` is smaller.
    """
    largest = -(-most // BATCH) * BATCH
    size = min(_FIRST_SIZE, largest)
    while True:
        yield from (size for _ in range(_OF_EACH_SIZE))
        size = min(2 * size, largest)


def write_plan(path: Path, source: str, batches: Iterable[RecordBatch], part_rows: int, sizes: Iterator[int]) -> None:
    """Write a plan; its rows are in memory one part at a time.

    Parameters
    ----------
    path : Path
    source, part_rows : as in Header
    batches : pyarrow.RecordBatch of `plan_schema`, in order
    sizes : of the parts
    """
    pa = load_pyarrow()
    digests = []
    n_rows = 0
    with (
        writing_file(path) as file,
        pa.parquet.ParquetWriter(
            file, plan_schema(), compression="zstd", use_dictionary=["uri", "etag"], write_page_checksum=True
        ) as writer,
    ):
        for part in _cut(batches, sizes):
            digests.append(hashlib.sha256(msgspec.json.encode(part.to_pydict())).hexdigest())
            n_rows += len(part)
            writer.write_table(part, row_group_size=len(part))
        header = msgspec.to_builtins(Header(source, part_rows, n_rows, tuple(digests)))
        writer.add_key_value_metadata({_NOTE.decode(): json.dumps({"format": FORMAT, **header})})


def _cut(batches: Iterable[RecordBatch], sizes: Iterator[int]) -> Iterator[Any]:
    """Tables of these sizes; the last may be smaller."""
    pa = load_pyarrow()
    size, kept, n_kept = next(sizes), [], 0
    for batch in batches:
        while n_kept + len(batch) >= size:
            kept.append(batch.slice(0, size - n_kept))
            batch = batch.slice(size - n_kept)
            yield pa.Table.from_batches(kept)
            size, kept, n_kept = next(sizes), [], 0
        if len(batch):
            kept.append(batch)
            n_kept += len(batch)
    if kept:
        yield pa.Table.from_batches(kept)
