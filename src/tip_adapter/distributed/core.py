"""The core, independent of any engine: record batches of photos, or of vectors, become record batches of labels.

Photos are decoded and encoded by the functions that `predict` and `extract` use, in batches of the same size, so labels and
scores are theirs.
"""

from __future__ import annotations

from collections import deque
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from threadpoolctl import ThreadpoolController

from tip_adapter.errors import DamagedModelFolder, ImageError, ModelFolderError
from tip_adapter.features.arrow import RecordBatch, load_pyarrow
from tip_adapter.features.encode import BATCH, VectorBatch, encode_batch, prepare_image, stream_batches
from tip_adapter.io.files import file_digest, readable_path
from tip_adapter.model.classifier import FewShotClassifier
from tip_adapter.text import printable
from tip_adapter.vectors import unit_rows

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from tip_adapter.encoders import Encoder
    from tip_adapter.features.encode import Prepared
    from tip_adapter.images.decoding_pool import DecodingPool
    from tip_adapter.model.head import Answer, Head

#: How many of the most likely classes a row lists.
TOP = 5


def photo_schema() -> Any:
    """The pyarrow.Schema of photos: id, uri, content (null if it cannot be read), and the reason why not."""
    pa = load_pyarrow()
    return pa.schema(
        [("id", pa.string()), ("uri", pa.string()), ("content", pa.large_binary()), ("error", pa.string())]
    )


def label_schema(width: int | None) -> Any:
    """The pyarrow.Schema of labels; with a vector of this width, or without vectors."""
    pa = load_pyarrow()
    top = pa.list_(pa.struct([("label", pa.string()), ("score", pa.float32())]))
    columns = {"id": pa.string(), "uri": pa.string(), "label": pa.string(), "score": pa.float32()}
    columns |= {"margin": pa.float32(), "top5": top, "error": pa.string()}
    if width is not None:
        columns["vector"] = pa.list_(pa.float16(), width)
    columns |= {"model": pa.string(), "encoder": pa.string()}
    given = ("id", "uri", "model", "encoder")
    fields = [pa.field(name, kind, nullable=name not in given) for name, kind in columns.items()]
    return pa.schema(fields)


@dataclass(frozen=True, eq=False)
class Labeller:
    """A model as the core uses it.

    Parameters
    ----------
    head : Head
    encoder : Encoder
    model : str, `model_digest` of its folder
    vectors : bool, whether rows keep their vector, as float16
    """

    head: Head
    encoder: Encoder
    model: str
    vectors: bool = False

    @classmethod
    def load(
        cls,
        model_dir: str | os.PathLike[str],
        *,
        vectors: bool = False,
        device: str | None = None,
        threads: int | None = None,
    ) -> Self:
        """Read a model folder; raises as `FewShotClassifier.load`."""
        digest = model_digest(model_dir)
        model = FewShotClassifier.load(model_dir, device=device, threads=threads)
        if model_digest(model_dir) != digest:
            raise ModelFolderError(f"{printable(model_dir)} was replaced while it was read; start again")
        return cls(model.head_, model.encoder_, digest, vectors)

    @cached_property
    def _libraries(self) -> ThreadpoolController:
        return ThreadpoolController()

    @cached_property
    def schema(self) -> Any:
        """The pyarrow.Schema of its rows."""
        return label_schema(self.encoder.identity.width if self.vectors else None)

    def rows(self, ids: Sequence[str], uris: Sequence[str], batch: VectorBatch) -> RecordBatch:
        """The labels of a batch, a RecordBatch of `schema`: one row for each id; positions of `batch` are counted from 0."""
        # One thread: the order of sums, and so the last bit of a score, must not depend on the machine.
        with self._libraries.limit(limits=1, user_api="blas"):
            answered = self.head.answers(batch.vectors, TOP, 0.0)
        answers: list[Answer | None] = [None] * len(ids)
        for position, answer in zip(batch.positions.tolist(), answered, strict=True):
            answers[position] = answer
        errors = [str(batch.errors[row]) if row in batch.errors else None for row in range(len(ids))]
        columns = {"id": ids, "uri": uris, **_answer_columns(answers), "error": errors}
        if self.vectors:
            columns["vector"] = _half_vectors(batch, len(ids), self.encoder.identity.width)
        columns["model"] = [self.model] * len(ids)
        columns["encoder"] = [self.encoder.identity.fingerprint] * len(ids)
        return load_pyarrow().RecordBatch.from_pydict(columns, schema=self.schema)


def model_digest(model_dir: str | os.PathLike[str]) -> str:
    """SHA-256 of a model's config.json, which has those of its other files; raises DamagedModelFolder without it."""
    try:
        return file_digest(readable_path(model_dir) / "config.json")
    except OSError as error:
        reason = f"{printable(model_dir)} holds no readable model ({error.strerror}); `tip-adapter fit` makes one"
        raise DamagedModelFolder(reason) from error


def label_photos(batches: Iterable[RecordBatch], labeller: Labeller, *, threads: int = 1) -> Iterator[RecordBatch]:
    """Label photos: the next ones are decoded, in separate processes, while the encoder works on these.

    Parameters
    ----------
    batches : pyarrow.RecordBatch with columns id, uri, content (the bytes of an image file) and, optionally, error
    labeller : Labeller
    threads : int, images decoded concurrently

    Yields
    ------
    pyarrow.RecordBatch of `Labeller.schema`, one row for each photo in order; a photo that cannot be read has an `error`.
        Batches of 32 give the scores of `predict` bit for bit; others may differ in the last bit of float32.
    """
    pending: deque[RecordBatch] = deque()

    def photos() -> Iterator[list[tuple[str, bytes | ImageError]]]:
        for batch in batches:
            for start in range(0, len(batch), BATCH):
                pending.append(batch.slice(start, BATCH))
                yield _photos(pending[-1])

    start = 0
    with closing(stream_batches(photos(), labeller.encoder, threads=threads)) as stream:
        for encoded in stream:
            batch = pending.popleft()
            stop = start + len(batch)
            yield labeller.rows(*_named(batch), encoded.part(start, stop))
            start = stop


def prepare_photos(batch: RecordBatch, encoder: Encoder, processes: DecodingPool) -> list[tuple[str, Prepared]]:
    """The first half of `label_photos`, for engines that decode elsewhere: photos as the encoder's preprocessing gives them."""
    return [(name, prepare_image(photo, name, encoder, processes)) for name, photo in _photos(batch)]


def label_prepared(
    ids: Sequence[str], uris: Sequence[str], photos: Sequence[tuple[str, Prepared]], labeller: Labeller
) -> Iterator[RecordBatch]:
    """The second half: encode and label what `prepare_photos` gave, in batches of 32."""
    for start in range(0, len(photos), BATCH):
        rows = slice(start, start + BATCH)
        yield labeller.rows(ids[rows], uris[rows], encode_batch(photos[rows], labeller.encoder))


def label_vectors(batches: Iterable[RecordBatch], labeller: Labeller) -> Iterator[RecordBatch]:
    """Label vectors that are stored: no photo is read.

    Parameters
    ----------
    batches : pyarrow.RecordBatch with columns id, uri, vector (a list of floats, null where there is an error) and error
    labeller : Labeller of the encoder that made them

    Yields
    ------
    pyarrow.RecordBatch of `Labeller.schema`
    """
    for batch in batches:
        vector, errors = batch.column("vector"), batch.column("error").to_pylist()
        there = np.flatnonzero(vector.is_valid().to_numpy(zero_copy_only=False))
        width = labeller.encoder.identity.width
        values = vector.drop_null().flatten().to_numpy(zero_copy_only=False).astype(np.float32).reshape(-1, width)
        if len(values) and vector.type.value_type.bit_width < 32:
            values = unit_rows(values)  # rounding to float16 changed their lengths
        failed = {row: ImageError(error) for row, error in enumerate(errors) if error is not None}
        encoded = VectorBatch(there, values, ("",) * len(there), failed)
        yield labeller.rows(*_named(batch), encoded)


def _photos(batch: RecordBatch) -> list[tuple[str, bytes | ImageError]]:
    """What errors call each photo of a batch, and its content, or why there is none."""
    ids, contents = (batch.column(name).to_pylist() for name in ("id", "content"))
    errors = batch.column("error").to_pylist() if "error" in batch.schema.names else [None] * len(ids)
    return [
        (printable(name), ImageError(error or f"cannot read {printable(name)}: it has no content") if c is None else c)
        for name, c, error in zip(ids, contents, errors, strict=True)
    ]


def _named(batch: RecordBatch) -> tuple[list[str], list[str]]:
    """Its ids and addresses."""
    return batch.column("id").to_pylist(), batch.column("uri").to_pylist()


def _answer_columns(answers: Sequence[Answer | None]) -> dict[str, list[Any]]:
    """Label, score, margin (the score's lead over the second class) and the top classes; None where there is no answer."""
    columns: dict[str, list[Any]] = {name: [] for name in ("label", "score", "margin", "top5")}
    for answer in answers:
        top = answer["top"] if answer else None
        columns["label"].append(answer and answer["label"])
        columns["score"].append(answer and answer["score"])
        columns["margin"].append(top and top[0]["score"] - (top[1]["score"] if len(top) > 1 else 0.0))
        columns["top5"].append(top)
    return columns


def _half_vectors(batch: VectorBatch, n: int, width: int) -> Any:
    """The vectors of a batch as an Arrow array of n lists of float16; null where there is none."""
    pa = load_pyarrow()
    values: NDArray[np.float16] = np.zeros((n, width), np.float16)
    values[batch.positions] = batch.vectors
    missing = np.ones(n, bool)
    missing[batch.positions] = False
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), width, mask=pa.array(missing))
