"""Predict: images become vectors in batches, a head turns each batch into records. Every prediction goes through here."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np

from tip_adapter import validation
from tip_adapter.features.sources import VectorSource, listed_source
from tip_adapter.images.inputs import listed_images
from tip_adapter.model.head import Answer
from tip_adapter.validation import AUTO

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from tip_adapter.encoders import Encoder
    from tip_adapter.features.encode import VectorBatch
    from tip_adapter.images.inputs import ImageInput
    from tip_adapter.model.head import Head


class Prediction(Answer):
    """One photo's row of `predict_folder`, `predict_stream`, `explain` and `explain_stream`: a dict with these keys.

    Attributes
    ----------
    image : str, the photo's path, or ``image`` and its position
    label : str, or None if `score` is below `min_score` or the photo cannot be read
    score : float, the probability of the most likely class; None if the photo cannot be read
    top : list of {label, score}, the most likely classes, likeliest first
    explanation : only where one was asked for, as `explain` describes it
    error : str, why the photo cannot be read; else None
    """

    image: str
    error: str | None


def encode_readable(images: Iterable[ImageInput], encoder: Encoder, *, threads: int | None) -> NDArray[np.float32]:
    """Vectors of images, (n, d) float32 unit rows; ImageError if one cannot be read, UsageError as `listed_images`."""
    vectors = [np.zeros((0, encoder.identity.width), np.float32)]
    with closing(_stream(images, encoder, threads)[1]) as batches:
        for batch in batches:
            for error in batch.errors.values():
                raise error
            vectors.append(batch.vectors)
    return np.concatenate(vectors)


def least_score(min_score: Any, head: Head) -> float:
    """The score below which there is no answer; UsageError if it is no number in [0, 1], or ``auto`` without a threshold."""
    if isinstance(min_score, str) and min_score == AUTO:
        return head.threshold
    return validation.number(min_score, "min_score", 0, 1)


def predictions(
    images: Iterable[ImageInput] | VectorSource,
    head: Head,
    encoder: Encoder,
    *,
    top: int,
    min_score: float | str,
    threads: int | None,
    explain: bool = False,
) -> Iterator[Prediction]:
    """One record per image, as `FewShotClassifier.predict_stream` and, with `explain`, `explain_stream` give them.

    `encoder` is the one that made the head's vectors. Arguments are checked here, before the first record; with `explain`
    the first record raises UsageError if the method cannot explain.
    """
    n_top = validation.integer(top, "top", 1)
    least = least_score(min_score, head)
    ids, batches = _stream(images, encoder, threads)
    return _records(ids, batches, head, n_top, least, explain)


def _records(
    ids: Sequence[str], batches: Generator[VectorBatch], head: Head, top: int, min_score: float, explain: bool
) -> Iterator[Prediction]:
    with closing(batches):
        for batch in batches:
            yield from batch_predictions(ids, batch, head, top=top, min_score=min_score, explain=explain)


def batch_predictions(
    ids: Sequence[str], batch: VectorBatch, head: Head, *, top: int, min_score: float, explain: bool
) -> Iterator[Prediction]:
    """One record per image of a batch, in order; `ids` are those of all images, which the batch's positions index.

    The first raises UsageError with `explain` if the method cannot explain.
    """
    answers = head.explained_answers if explain else head.answers
    unanswered: Answer = {"label": None, "score": None, "top": []}
    if explain:
        unanswered["explanation"] = []
    rows = dict(zip(batch.positions.tolist(), answers(batch.vectors, top, min_score), strict=True))
    errors = {position: str(error) for position, error in batch.errors.items()}
    for position in sorted([*rows, *errors]):
        answer: Answer = rows.get(position, unanswered)
        yield {"image": ids[position], "error": errors.get(position), **answer}


def _stream(
    images: Iterable[ImageInput] | VectorSource, encoder: Encoder, threads: int | None
) -> tuple[Sequence[str], Generator[VectorBatch]]:
    """Ids of the images and their vectors in batches: the one way from images to a head."""
    source = images if isinstance(images, VectorSource) else listed_source(listed_images(images))
    return source.ids, source.stream(encoder, threads=threads)
