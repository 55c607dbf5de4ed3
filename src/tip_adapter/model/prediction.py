"""Predict: images become vectors in batches, a head turns each batch into records. Every prediction goes through here."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np

from tip_adapter import validation
from tip_adapter.features.sources import VectorSource, listed_source
from tip_adapter.images.inputs import listed_images
from tip_adapter.validation import AUTO

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from tip_adapter.encoders import Encoder
    from tip_adapter.features.encode import VectorBatch
    from tip_adapter.images.decode import ImageLike
    from tip_adapter.model.head import Head


def encode_readable(images: Iterable[ImageLike], encoder: Encoder, *, threads: int | None) -> NDArray[np.float32]:
    """Vectors of images, (n, d) float32 unit rows; ImageError if one cannot be read, UsageError as `listed_images`."""
    vectors = [np.zeros((0, encoder.identity.width), np.float32)]
    with closing(_stream(images, encoder, threads)[1]) as batches:
        for batch in batches:
            for error in batch.errors.values():
                raise error
            vectors.append(batch.vectors)
    return np.concatenate(vectors)


def predictions(
    images: Iterable[ImageLike] | VectorSource,
    head: Head,
    encoder: Encoder,
    *,
    top: int,
    min_score: float | str,
    threads: int | None,
    explain: bool = False,
) -> Iterator[dict[str, Any]]:
    """One record per image, as `FewShotClassifier.predict_stream` and, with `explain`, `explain_stream` give them.

    `encoder` is the one that made the head's vectors. Arguments are checked here, before the first record; with `explain`
    the first record raises UsageError if the method cannot explain.
    """
    n_top = validation.integer(top, "top", 1)
    least = head.threshold if min_score == AUTO else validation.number(min_score, "min_score", 0, 1)
    ids, batches = _stream(images, encoder, threads)
    return _records(ids, batches, head, n_top, least, explain)


def _records(
    ids: Sequence[str], batches: Generator[VectorBatch], head: Head, top: int, min_score: float, explain: bool
) -> Iterator[dict[str, Any]]:
    answers = head.explained_answers if explain else head.answers
    unanswered: dict[str, Any] = {"label": None, "score": None, "top": [], **({"explanation": []} if explain else {})}
    with closing(batches):
        for batch in batches:
            rows = dict(zip(batch.positions.tolist(), answers(batch.vectors, top, min_score), strict=True))
            rows |= {position: {**unanswered, "error": str(error)} for position, error in batch.errors.items()}
            for position in sorted(rows):
                yield {"image": ids[position], "error": None, **rows[position]}


def _stream(
    images: Iterable[ImageLike] | VectorSource, encoder: Encoder, threads: int | None
) -> tuple[Sequence[str], Generator[VectorBatch]]:
    """Ids of the images and their vectors in batches: the one way from images to a head."""
    source = images if isinstance(images, VectorSource) else listed_source(listed_images(images))
    return source.ids, source.stream(encoder, threads=threads)
