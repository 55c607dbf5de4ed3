"""Images and their vectors as Arrow tables and Parquet files; imports pyarrow for all packages (extra `features`)."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import IO, TYPE_CHECKING, Any, TypeAlias

import numpy as np

from tip_adapter.features.npz import MOST_ROWS, MOST_WIDTH, ArrayFile
from tip_adapter.plugins import require_extra
from tip_adapter.text import first_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

#: A pyarrow.RecordBatch.
RecordBatch: TypeAlias = Any

#: Most bytes of the texts of one row: an id, a path and an error are a few hundred bytes each.
_MOST_TEXT = 2**16
#: Rows of a vector file that are in memory together.
_ROWS = 1024


@dataclass(frozen=True, eq=False)
class ImageTable:
    """Images and their vectors, one row per image.

    Parameters
    ----------
    ids, paths : n str
    sha256 : n str, of each image file; None if unreadable
    labels : n str; None without a label
    vectors : (n, d) float32 array, unit rows; an image with an error has a zero row
    errors : n str, why an image has no vector; None if it has one
    """

    ids: Sequence[str]
    paths: Sequence[str]
    sha256: list[str | None]
    labels: Sequence[str | None]
    vectors: NDArray[np.float32]
    errors: list[str | None]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Sequence[int]) -> ImageTable:
        """The images of these rows."""
        return ImageTable(
            [self.ids[row] for row in rows],
            [self.paths[row] for row in rows],
            [self.sha256[row] for row in rows],
            [self.labels[row] for row in rows],
            self.vectors[rows],
            [self.errors[row] for row in rows],
        )


def schema(width: int) -> Any:
    """The pyarrow.Schema of a table of vectors: id, path, sha256, label, vector, error."""
    pa = load_pyarrow()
    kinds = dict.fromkeys(("id", "path", "sha256", "label", "vector", "error"), pa.string())
    kinds["vector"] = pa.list_(pa.float32(), width)
    return pa.schema([pa.field(name, kind, nullable=name not in ("id", "path")) for name, kind in kinds.items()])


def to_batch(table: ImageTable) -> RecordBatch:
    """An ImageTable as a RecordBatch of `schema`."""
    pa = load_pyarrow()
    n, width = table.vectors.shape
    without = pa.array([error is not None for error in table.errors], pa.bool_())
    values = pa.array(np.ascontiguousarray(table.vectors, np.float32).reshape(-1))
    vectors = (
        pa.FixedSizeListArray.from_arrays(values, width, mask=without) if n else pa.array([], schema(width)[4].type)
    )
    texts = [pa.array(c, pa.string()) for c in (table.ids, table.paths, table.sha256, table.labels, table.errors)]
    return pa.RecordBatch.from_arrays([*texts[:4], vectors, texts[4]], schema=schema(width))


def to_table(batch: RecordBatch) -> ImageTable:
    """A RecordBatch of `schema` as an ImageTable."""
    vector = batch.column("vector")
    with_vector = vector.is_valid().to_numpy(zero_copy_only=False)
    vectors = np.zeros((len(vector), vector.type.list_size), np.float32)
    vectors[with_vector] = vector.flatten().to_numpy(zero_copy_only=False).reshape(-1, vectors.shape[1])
    columns = {name: batch.column(name).to_pylist() for name in ("id", "path", "sha256", "label", "error")}
    return ImageTable(columns["id"], columns["path"], columns["sha256"], columns["label"], vectors, columns["error"])


def write_parquet(table: ImageTable, note: str) -> bytes:
    """An ImageTable as a Parquet file: the same table gives the same bytes.

    Parameters
    ----------
    table : ImageTable
    note : str, kept in the file under the key ``tip_adapter``
    """
    pa = load_pyarrow()
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
        It is not one, is damaged, states more than its limits, or has a row without a unit vector or an error.
    """
    pa = load_pyarrow()
    try:
        file = pa.parquet.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
        width = _stated_width(file, most_rows)
        rows = file.read(use_threads=False)
        rows.validate(full=True)
        note = (file.schema_arrow.metadata or {}).get(b"tip_adapter", b"").decode()
        table = to_table(rows.combine_chunks().to_batches()[0])
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(error) from error
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


# ---- vector files from other programs --------------------------------------------------------------------------------


class ParquetFile(ArrayFile):
    """A Parquet file of columns id, label, part and vector as named arrays.

    A row whose part is ``class`` is a class: its id is the name, its label the label, its vector the class embedding.
    """

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self.path = path
        self._file = file
        columns, others, kept = self._columns(("id", "label", "part"))
        if "id" not in columns:
            raise ValueError("it has no column id; a vector file has id, label and vector")
        n = len(columns["id"])
        self._is_class = np.array([part == "class" for part in columns.get("part", [None] * n)], bool)
        self._arrays = _named_arrays(columns, kept, self._is_class)
        self.names = [*self._arrays, "vectors", *["class_embeddings"] * bool(self._is_class.any()), *others]

    def array(self, name: str) -> NDArray[Any]:
        """A column without the rows of classes; a ``class_`` array has those rows only."""
        if name == "class_embeddings":
            return np.concatenate([block[is_class] for block, is_class in self._blocks()])
        if name not in self._arrays:
            raise ValueError(f"it has no column {name.removesuffix('s')}")
        return self._arrays[name]

    def shape(self, name: str) -> tuple[int, int]:
        """Number of images, and width of the first vector."""
        first, _ = next(self._blocks(), (np.zeros((0, 1), np.float32), None))
        if not 0 < first.shape[1] <= MOST_WIDTH:
            raise ValueError(f"its vectors have width {first.shape[1]}, not one from 1 to {MOST_WIDTH}")
        return len(self._arrays["ids"]), first.shape[1]

    def blocks(self, name: str) -> Iterator[NDArray[Any]]:
        """Vectors of images in (m, d) blocks."""
        for block, is_class in self._blocks():
            yield block[~is_class]

    def _columns(self, names: Sequence[str]) -> tuple[dict[str, list[Any]], list[str], dict[str, str]]:
        """The text columns of these names that it has, the names of the others, and the texts in its schema's metadata."""
        pa = load_pyarrow()
        try:
            parquet = pa.parquet.ParquetFile(self._file)
            if parquet.metadata.num_rows > MOST_ROWS:
                raise ValueError(f"it has {parquet.metadata.num_rows:,} rows, more than {MOST_ROWS:,}")
            present = parquet.schema_arrow.names
            columns = parquet.read(columns=[name for name in names if name in present]).to_pydict()
            if "vector" not in present:
                raise ValueError(
                    f"it has columns {first_of(present)}, and no vector; a vector file has id, label and vector"
                )
            others = [name for name in present if name not in {*names, "vector"}]
            kept = parquet.schema_arrow.metadata or {}
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(error) from error
        texts = {key.decode("utf-8", "replace"): text.decode("utf-8", "replace") for key, text in kept.items()}
        return columns, others, texts

    def _blocks(self) -> Iterator[tuple[NDArray[Any], NDArray[np.bool_]]]:
        """(m, d) blocks of the column vector, and which of their rows are classes."""
        pa = load_pyarrow()
        start = 0
        try:
            for batch in pa.parquet.ParquetFile(self._file).iter_batches(_ROWS, columns=["vector"]):
                lists = batch.column(0)
                values = lists.flatten().to_numpy(zero_copy_only=False)
                if lists.null_count or len(values) % max(len(lists), 1) or values.dtype.kind != "f":
                    raise ValueError("vector is not a column of lists of floats of one length")
                if len(set(lists.value_lengths().to_pylist())) > 1:
                    raise ValueError("vector has lists of several lengths")
                yield values.reshape(len(lists), -1), self._is_class[start : start + len(lists)]
                start += len(lists)
        except (pa.ArrowException, AttributeError, OSError) as error:
            raise ValueError(f"column vector cannot be read ({str(error).splitlines()[0]})") from error


def _named_arrays(
    columns: Mapping[str, list[Any]], kept: Mapping[str, str], is_class: NDArray[np.bool_]
) -> dict[str, NDArray[Any]]:
    """Columns as the arrays that they would be in an archive."""
    arrays = {}
    for plural, name in [("ids", "id"), ("labels", "label"), ("part", "part")]:
        if name in columns:
            texts = [value for value, skip in zip(columns[name], is_class, strict=True) if not skip]
            if any(text is None for text in texts):
                raise ValueError(f"column {name} has rows without a value")
            arrays[plural] = np.array(texts, dtype=np.str_ if not texts or isinstance(texts[0], str) else None)
    if is_class.any():
        for plural, name in [("class_names", "id"), ("class_labels", "label")]:
            arrays[plural] = np.array([v for v, keep in zip(columns[name], is_class, strict=True) if keep], np.str_)
    if "logit_scale" in kept:
        arrays["logit_scale"] = np.array(float(kept["logit_scale"]))
    if "encoder" in kept:
        arrays["encoder"] = np.array(kept["encoder"])
    return arrays


def _unreadable(error: Exception) -> ValueError:
    return ValueError(f"it is not a readable Parquet file ({str(error).splitlines()[0]})")


def load_pyarrow() -> Any:
    """`pyarrow` with its Parquet module, imported on demand: reading images does not need it."""
    require_extra("pyarrow.parquet", "pyarrow, which reads and writes Parquet files,", "features")
    return import_module("pyarrow")
