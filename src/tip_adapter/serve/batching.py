"""Photos of concurrent requests become predictions: decoded in parallel, encoded in common batches, answered one by one.

Nothing waits for a batch to fill: while the encoder works, the photos that arrive become the next batch. A request's photos
stay together, so that a request alone is the batch that `predict` would make of them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tip_adapter.errors import NothingReadable
from tip_adapter.features.encode import BATCH, encode_batch, prepare_image
from tip_adapter.images.decoding_pool import DecodingPool
from tip_adapter.io.processors import available_processors
from tip_adapter.model.prediction import batch_predictions
from tip_adapter.serve.problems import Problem
from tip_adapter.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tip_adapter.features.encode import Prepared, VectorBatch
    from tip_adapter.model.classifier import FewShotClassifier
    from tip_adapter.model.head import Head
    from tip_adapter.model.prediction import Prediction
    from tip_adapter.serve.settings import Limits
    from tip_adapter.serve.uploads import Photo

#: Seconds after which a client that found the queue full should try again.
_RETRY_AFTER = 1


@dataclass(frozen=True)
class _Request:
    """Photos that wait for the encoder, and what their request asked for."""

    names: Sequence[str]
    prepared: Sequence[Prepared]
    head: Head
    top: int
    min_score: float
    explain: bool
    answer: asyncio.Future[list[Prediction]]

    def predictions(self, batch: VectorBatch) -> list[Prediction]:
        """The records; raises the only photo's error, or NothingReadable if all have one."""
        errors = list(batch.errors.values())
        if len(errors) == len(self.names):
            raise errors[0] if len(errors) == 1 else NothingReadable.among(list(map(str, errors)))
        records = batch_predictions(
            self.names, batch, self.head, top=self.top, min_score=self.min_score, explain=self.explain
        )
        return list(records)


class PhotoQueue:
    """The one queue of a service, bounded in photos and bytes; used by one event loop.

    Parameters
    ----------
    model : FewShotClassifier
    limits : Limits
    """

    def __init__(self, model: FewShotClassifier, limits: Limits) -> None:
        self.model = model
        self.limits = limits
        self.n_photos = 0
        self.n_bytes = 0
        self.n_batches = 0
        self.n_classified = 0
        self._waiting: deque[_Request] = deque()
        self._encoding: asyncio.Task[None] | None = None
        self._decoders = DecodingPool()
        self._decode_threads = ThreadPoolExecutor(model.threads or available_processors(), "decode")
        self._encode_thread = ThreadPoolExecutor(1, "encode")

    @contextmanager
    def place(self, n_photos: int, n_bytes: int) -> Iterator[None]:
        """Count photos and bytes while their request waits; raises Problem at once if there is no room for them."""
        if self.n_photos + n_photos > self.limits.waiting_photos or self.n_bytes + n_bytes > self.limits.waiting_bytes:
            raise Problem(
                "busy",
                f"{self.n_photos:,} photos are waiting; try again in {_RETRY_AFTER} s",
                {"retry-after": str(_RETRY_AFTER)},
            )
        self.n_photos += n_photos
        self.n_bytes += n_bytes
        try:
            yield
        finally:
            self.n_photos -= n_photos
            self.n_bytes -= n_bytes

    async def predict(self, photos: Sequence[Photo], *, top: int, min_score: float, explain: bool) -> list[Prediction]:
        """One record per photo, as `predict_stream` and `explain_stream` give them; cancelling it saves what is not done.

        Raises
        ------
        ImageError, NothingReadable
            The only photo cannot be read, or none of several.
        """
        loop = asyncio.get_running_loop()
        head, encoder = self.model.head_, self.model.encoder_
        prepared = await asyncio.gather(
            *(
                loop.run_in_executor(
                    self._decode_threads, prepare_image, photo.content, printable(photo.name), encoder, self._decoders
                )
                for photo in photos
            )
        )
        answer: asyncio.Future[list[Prediction]] = loop.create_future()
        names = [photo.name for photo in photos]
        self._waiting.append(_Request(names, prepared, head, top, min_score, explain, answer))
        if self._encoding is None:
            self._encoding = loop.create_task(self._encode_waiting())
        return await answer

    async def _encode_waiting(self) -> None:
        """Encode batches until no request waits."""
        loop = asyncio.get_running_loop()
        while requests := self._next_batch():
            try:
                batch = await loop.run_in_executor(self._encode_thread, self._encode, requests)
            except Exception as error:  # of the encoder: these requests fail, the service goes on
                answers: list[list[Prediction] | Exception] = [error] * len(requests)
            else:
                answers = batch
            for request, answered in zip(requests, answers, strict=True):
                if request.answer.done():  # its client went away
                    continue
                if isinstance(answered, Exception):
                    request.answer.set_exception(answered)
                else:
                    request.answer.set_result(answered)
        self._encoding = None

    def _next_batch(self) -> list[_Request]:
        """The requests that have waited longest, together at most one batch, without those whose client went away."""
        requests: list[_Request] = []
        n_photos = 0
        while self._waiting and n_photos + len(self._waiting[0].names) <= BATCH:
            request = self._waiting.popleft()
            if not request.answer.done():
                requests.append(request)
                n_photos += len(request.names)
        return requests

    def _encode(self, requests: Sequence[_Request]) -> list[list[Prediction] | Exception]:
        """In the encoder's thread: each request's records, or what went wrong with it alone."""
        photos = [
            (printable(name), prepared)
            for request in requests
            for name, prepared in zip(request.names, request.prepared, strict=True)
        ]
        batch = encode_batch(photos, self.model.encoder_)
        self.n_batches += 1
        self.n_classified += len(batch.positions)
        answers: list[list[Prediction] | Exception] = []
        start = 0
        for request in requests:
            stop = start + len(request.names)
            try:
                answers.append(request.predictions(batch.part(start, stop)))
            except Exception as error:
                answers.append(error)
            start = stop
        return answers

    def close(self) -> None:
        """End the threads and the decoding processes; what waits is cancelled."""
        self._decoders.close()
        self._decode_threads.shutdown(cancel_futures=True)
        self._encode_thread.shutdown(cancel_futures=True)
