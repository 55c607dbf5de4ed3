"""Photos and their vectors as Arrow tables and Parquet files; the only code that imports pyarrow (extra `features`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, TypeAlias

import numpy as np

from tip_adapter.errors import MissingExtra

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

#: A pyarrow.RecordBatch.
RecordBatch: TypeAlias = Any

#: What the texts of one row may take: an id, a path and an error are a few hundred bytes each.
_MOST_TEXT = 2**16
#: Rows of a Parquet file of vectors from elsewhere that are held at a time.
_ROWS = 1024


@dataclass(frozen=True, eq=False)
class ImageTable:
    """Photos and their vectors, a row a photo.

    Parameters
    ----------
    ids, paths : n str
    sha256 : n str, of each photo's content; None where it could not be read
    labels : n str, or None where a photo has none
    vectors : (n, d) float32 array, unit rows; a photo with an error has a zero row
    errors : n str, why a photo has no vector; None where it has one
    """

    ids: Sequence[str]
    paths: Sequence[str]
    sha256: Sequence[str | None]
    labels: Sequence[str | None]
    vectors: NDArray[np.float32]
    errors: Sequence[str | None]

    def __len__(self) -> int:
        return len(self.ids)


def schema(width: int) -> Any:
    """The pyarrow.Schema of a table of vectors: id, path, sha256, label, vector, error."""
    pa = _pyarrow()
    text, vector = pa.string(), pa.list_(pa.float32(), width)
    return pa.schema(
        [
            pa.field("id", text, nullable=False),
            pa.field("path", text, nullable=False),
            pa.field("sha256", text),
            pa.field("label", text),
            pa.field("vector", vector),
            pa.field("error", text),
        ]
    )


def image_batch(ids: Sequence[str], paths: Sequence[str], labels: Sequence[str | None]) -> RecordBatch:
    """Photos to be encoded, as a RecordBatch of id, path and label."""
    pa = _pyarrow()
    text = pa.string()
    return pa.RecordBatch.from_arrays(
        [pa.array(column, text) for column in (ids, paths, labels)], names=["id", "path", "label"]
    )


def images_of(batch: RecordBatch) -> tuple[list[str], list[str], list[str | None]]:
    """Ids, paths and labels of a RecordBatch that has these columns."""
    ids, paths, labels = (batch.column(name).to_pylist() for name in ("id", "path", "label"))
    return ids, paths, labels


def to_batch(table: ImageTable) -> RecordBatch:
    """A ImageTable as a RecordBatch of `schema`."""
    pa = _pyarrow()
    n, width = table.vectors.shape
    without = pa.array([error is not None for error in table.errors], pa.bool_())
    values = pa.array(np.ascontiguousarray(table.vectors, np.float32).reshape(-1))
    vectors = (
        pa.FixedSizeListArray.from_arrays(values, width, mask=without) if n else pa.array([], schema(width)[4].type)
    )
    texts = [pa.array(c, pa.string()) for c in (table.ids, table.paths, table.sha256, table.labels, table.errors)]
    return pa.RecordBatch.from_arrays([*texts[:4], vectors, texts[4]], schema=schema(width))


def to_table(batch: RecordBatch) -> ImageTable:
    """A RecordBatch of `schema` as a ImageTable."""
    vector = batch.column("vector")
    with_vector = vector.is_valid().to_numpy(zero_copy_only=False)
    vectors = np.zeros((len(vector), vector.type.list_size), np.float32)
    vectors[with_vector] = vector.flatten().to_numpy(zero_copy_only=False).reshape(-1, vectors.shape[1])
    columns = {name: batch.column(name).to_pylist() for name in ("id", "path", "sha256", "label", "error")}
    return ImageTable(columns["id"], columns["path"], columns["sha256"], columns["label"], vectors, columns["error"])


def write_parquet(table: ImageTable, note: str) -> bytes:
    """A ImageTable as a Parquet file: the same table gives the same bytes.

    Parameters
    ----------
    table : ImageTable
    note : str, kept in the file under the key ``tip_adapter``
    """
    pa = _pyarrow()
    rows = pa.Table.from_batches([to_batch(table)]).replace_schema_metadata({"tip_adapter": note})
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(
        rows, sink, compression="zstd", use_dictionary=["label"], write_page_checksum=True, store_schema=True
    )
    content: bytes = sink.getvalue().to_pybytes()
    return content


def read_parquet(content: bytes, most_rows: int) -> tuple[ImageTable, str]:
    """A Parquet file of `write_parquet`: the table and its note.

    Raises
    ------
    ValueError
        It is none, is damaged, states more than it may hold, or holds what is no vector.
    """
    pa = _pyarrow()
    try:
        file = pa.parquet.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
        width = _stated_width(file, most_rows)
        rows = file.read(use_threads=False)
        rows.validate(full=True)
        note = (file.schema_arrow.metadata or {}).get(b"tip_adapter", b"").decode()
        table = to_table(rows.combine_chunks().to_batches()[0])
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"it is no Parquet file that can be read ({str(error).splitlines()[0]})") from error
    _check(table, width)
    return table, note


def _stated_width(file: Any, most_rows: int) -> int:
    """Width of the vectors of a Parquet file whose header states a table of ours, of a size that it may have."""
    found = file.schema_arrow
    position = found.get_field_index("vector")
    width = getattr(found.field(position).type, "list_size", 0) if position >= 0 else 0
    if width < 1 or not found.equals(schema(width), check_metadata=False):
        raise ValueError(f"its columns are {', '.join(found.names)}, not {', '.join(schema(1).names)} of their types")
    parts = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
    if not 0 < sum(part.num_rows for part in parts) <= most_rows:
        raise ValueError(f"it states no rows, or more than {most_rows}")
    if sum(part.total_byte_size for part in parts) > most_rows * (4 * width + _MOST_TEXT):
        raise ValueError("it unpacks to more than its rows can take")
    return int(width)


def _check(table: ImageTable, width: int) -> None:
    """Raise ValueError unless each row has a unit vector and a digest, or an error."""
    squares = np.einsum("ij,ij->i", table.vectors, table.vectors, dtype=np.float64)
    for row, (digest, error) in enumerate(zip(table.sha256, table.errors, strict=True)):
        if error is None and not (digest and abs(squares[row] - 1) < 1e-3):
            raise ValueError(f"row {row} has neither an error nor a unit vector of width {width} and a SHA-256")


# ---- vectors from elsewhere ------------------------------------------------------------------------------------------


def read_columns(
    file: IO[bytes], names: Sequence[str], most_rows: int
) -> tuple[dict[str, list[Any]], Mapping[str, str]]:
    """Columns of texts of a Parquet file by name, those that it has, and the texts that are kept with its schema.

    Raises
    ------
    ValueError
        It is no Parquet file, or one of more rows.
    """
    pa = _pyarrow()
    try:
        parquet = pa.parquet.ParquetFile(file)
        if parquet.metadata.num_rows > most_rows:
            raise ValueError(f"it has {parquet.metadata.num_rows:,} rows, more than {most_rows:,}")
        found = [name for name in names if name in parquet.schema_arrow.names]
        columns = parquet.read(columns=found).to_pydict()
        kept = parquet.schema_arrow.metadata or {}
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"it is no Parquet file that can be read ({str(error).splitlines()[0]})") from error
    return columns, {key.decode("utf-8", "replace"): value.decode("utf-8", "replace") for key, value in kept.items()}


def vector_blocks(file: IO[bytes], column: str) -> Iterator[NDArray[Any]]:
    """The lists of a column of a Parquet file as (m, d) arrays, a block of rows at a time.

    Raises
    ------
    ValueError
        They are no lists of numbers of one length.
    """
    pa = _pyarrow()
    try:
        for batch in pa.parquet.ParquetFile(file).iter_batches(_ROWS, columns=[column]):
            lists = batch.column(0)
            values = lists.flatten().to_numpy(zero_copy_only=False)
            if lists.null_count or len(values) % max(len(lists), 1) or values.dtype.kind != "f":
                raise ValueError(f"{column} is no column of lists of floats that are equally long")
            if len(set(lists.value_lengths().to_pylist())) > 1:
                raise ValueError(f"{column} holds lists of several lengths")
            yield values.reshape(len(lists), -1)
    except (pa.ArrowException, AttributeError, OSError) as error:
        raise ValueError(f"{column} cannot be read ({str(error).splitlines()[0]})") from error


def _pyarrow() -> Any:
    """`pyarrow` with its Parquet part, imported when it is needed: reading photos needs none."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra.of("pyarrow, which reads and writes Parquet files,", "features") from error
    return pyarrow
