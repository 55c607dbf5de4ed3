"""Photos to answers: a head and an encoder say what each photo is, or how right they are, batch by batch."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from tip_adapter import validation
from tip_adapter.features.sources import VectorSource, listed_source, stream_labelled
from tip_adapter.images.inputs import listed_images
from tip_adapter.validation import AUTO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from tip_adapter.encoders import Encoder
    from tip_adapter.features.encode import Progress
    from tip_adapter.images.decode import ImageLike
    from tip_adapter.metrics import MetricAccumulator
    from tip_adapter.model.head import Head

#: (n, d) vectors, top, min_score → one record a vector.
Answers: TypeAlias = "Callable[[NDArray[np.float32], int, float], list[dict[str, Any]]]"

#: The record of an image that cannot be read, without its error.
_UNANSWERED: dict[str, Any] = {"label": None, "score": None, "top": []}
_UNEXPLAINED: dict[str, Any] = {**_UNANSWERED, "explanation": []}


def encode_readable(images: Iterable[ImageLike], encoder: Encoder, *, threads: int | None) -> NDArray[np.float32]:
    """Vectors of images all of which must be readable, (n, d) float32 unit rows.

    Raises
    ------
    ImageError
        One cannot be read.
    UsageError
        As `listed_images`.
    """
    vectors = [np.zeros((0, encoder.identity.width), np.float32)]
    with closing(_source(images).stream(encoder, threads=threads)) as stream:
        for batch in stream:
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
) -> Iterator[dict[str, Any]]:
    """One record a photo, in order, as soon as its batch is done; an unreadable photo is one with `error`.

    Parameters
    ----------
    images : as `listed_images` takes them, or a VectorSource
    head : Head
    encoder : Encoder, that made the head's vectors
    top : int, how many of the likeliest classes a record lists
    min_score : float in [0, 1], below which the label is None; or ``auto``, the head's own threshold
    threads : int, photos decoded at a time; None for one per core

    Raises
    ------
    UsageError
        `images` is one photo, `top` or `min_score` is out of bounds, or the head has no threshold: before the first record.
    """
    n_top, least = validation.integer(top, "top", 1), _least_score(min_score, head)
    return _records(_source(images), head.answers, _UNANSWERED, n_top, least, encoder, threads)


def explanations(
    images: Iterable[ImageLike] | VectorSource,
    head: Head,
    encoder: Encoder,
    *,
    top: int,
    min_score: float | str,
    threads: int | None,
) -> Iterator[dict[str, Any]]:
    """As `predictions`, each with its `explanation`; UsageError at the first record if the method has no photos to name."""
    n_top, least = validation.integer(top, "top", 1), _least_score(min_score, head)
    return _records(_source(images), head.explained_answers, _UNEXPLAINED, n_top, least, encoder, threads)


def count_source(
    photos: VectorSource,
    head: Head,
    encoder: Encoder,
    tally: MetricAccumulator,
    *,
    threads: int | None,
    progress: Progress | None,
) -> None:
    """Score the labelled photos of a source and add them to a tally; warns and raises as `stream_labelled`."""
    with closing(stream_labelled(photos, encoder, threads=threads, progress=progress)) as stream:
        for batch in stream:
            head.count(batch, tally)


def _source(images: Iterable[ImageLike] | VectorSource) -> VectorSource:
    return images if isinstance(images, VectorSource) else listed_source(listed_images(images))


def _least_score(min_score: float | str, head: Head) -> float:
    return head.threshold if min_score == AUTO else validation.number(min_score, "min_score", 0, 1)


def _records(
    photos: VectorSource,
    answers: Answers,
    unanswered: dict[str, Any],
    top: int,
    min_score: float,
    encoder: Encoder,
    threads: int | None,
) -> Iterator[dict[str, Any]]:
    with closing(photos.stream(encoder, threads=threads)) as stream:
        for batch in stream:
            rows = dict(zip(batch.positions.tolist(), answers(batch.vectors, top, min_score), strict=True))
            rows |= {position: {**unanswered, "error": str(error)} for position, error in batch.errors.items()}
            for position in sorted(rows):
                yield {"image": photos.ids[position], "error": None, **rows[position]}
