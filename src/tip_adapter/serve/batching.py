"""Photos of concurrent requests become vectors: decoded in parallel, encoded in common batches, answered one by one.

Nothing waits for a batch to fill: while the encoder works, the photos that arrive become the next batch. A request's photos
stay together, so that a request alone is the batch that `predict` would make of them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from tip_adapter.errors import ImageError, NothingReadable
from tip_adapter.features.encode import BATCH, encode_batch, prepare_image
from tip_adapter.images.decoding_pool import DecodingPool
from tip_adapter.images.thumbnails import small_jpeg
from tip_adapter.io.processors import available_processors
from tip_adapter.model.prediction import batch_predictions
from tip_adapter.serve.problems import Problem
from tip_adapter.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from tip_adapter.encoders import Encoder
    from tip_adapter.features.encode import Prepared, VectorBatch
    from tip_adapter.model.head import Head
    from tip_adapter.model.prediction import Prediction
    from tip_adapter.serve.settings import Limits
    from tip_adapter.serve.uploads import Photo

#: Seconds after which a client that found the queue full should try again.
RETRY_AFTER = 1
#: Longer side of a thumbnail in pixels.
_THUMBNAIL = 160


class EncodedPhoto(NamedTuple):
    """What is kept of a photo: (d,) float32 unit vector, SHA-256 of its content in hexadecimal, a small JPEG."""

    vector: NDArray[np.float32]
    digest: str
    thumbnail: bytes


@dataclass(frozen=True)
class _Request:
    """Photos that wait for the encoder."""

    names: Sequence[str]
    prepared: Sequence[Prepared]
    answer: asyncio.Future[VectorBatch]


class PhotoQueue:
    """The one queue of an encoder, bounded in photos and bytes; used by one event loop.

    Parameters
    ----------
    encoder : Encoder
    limits : Limits
    threads : int, photos decoded at once; None for one per available processor
    """

    def __init__(self, encoder: Encoder, limits: Limits, threads: int | None = None) -> None:
        self.encoder = encoder
        self.limits = limits
        self.n_photos = 0
        self.n_bytes = 0
        self.n_batches = 0
        self.n_encoded = 0
        self._waiting: deque[_Request] = deque()
        self._encoding: asyncio.Task[None] | None = None
        self._decoders = DecodingPool()
        self._threads = ThreadPoolExecutor(threads or available_processors(), "photos")
        self._encode_thread = ThreadPoolExecutor(1, "encode")

    @contextmanager
    def place(self, n_photos: int, n_bytes: int) -> Iterator[None]:
        """Count photos and bytes while their request waits; raises Problem at once if there is no room for them."""
        if self.n_photos + n_photos > self.limits.waiting_photos or self.n_bytes + n_bytes > self.limits.waiting_bytes:
            raise Problem(
                "busy",
                f"{self.n_photos:,} photos are waiting; try again in {RETRY_AFTER} s",
                {"retry-after": str(RETRY_AFTER)},
            )
        self.n_photos += n_photos
        self.n_bytes += n_bytes
        try:
            yield
        finally:
            self.n_photos -= n_photos
            self.n_bytes -= n_bytes

    async def predict(
        self, head: Head, photos: Sequence[Photo], *, top: int, min_score: float, explain: bool
    ) -> list[Prediction]:
        """One record per photo, as `predict_stream` and `explain_stream` give them; cancelling it saves what is not done.

        Raises
        ------
        ImageError, NothingReadable
            The only photo cannot be read, or none of several.
        """
        batch = await self._encode(photos, [None] * len(photos))
        errors = list(batch.errors.values())
        if len(errors) == len(photos):
            raise errors[0] if len(errors) == 1 else NothingReadable.among(list(map(str, errors)))
        names = [photo.name for photo in photos]
        answers = partial(batch_predictions, names, batch, head, top=top, min_score=min_score, explain=explain)
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: list(answers()))

    async def encode(self, photos: Sequence[Photo]) -> list[EncodedPhoto | ImageError]:
        """What is kept of each photo, or why it cannot be used; cancelling it saves what is not done."""
        small = [_Thumbnail(self.encoder) for _ in photos]
        batch = await self._encode(photos, small)
        kept = zip(batch.vectors, batch.digests, strict=True)
        rows = {
            n: EncodedPhoto(vector, digest, small[n].jpeg)
            for n, (vector, digest) in zip(batch.positions.tolist(), kept, strict=True)
        }
        return [rows.get(n) or batch.errors[n] for n in range(len(photos))]

    async def _encode(self, photos: Sequence[Photo], small: Sequence[_Thumbnail | None]) -> VectorBatch:
        loop = asyncio.get_running_loop()
        names = [printable(photo.name) for photo in photos]
        prepared = await asyncio.gather(
            *(
                loop.run_in_executor(
                    self._threads, prepare_image, photo.content, name, thumbnail or self.encoder, self._decoders
                )
                for photo, name, thumbnail in zip(photos, names, small, strict=True)
            )
        )
        answer: asyncio.Future[VectorBatch] = loop.create_future()
        self._waiting.append(_Request(names, prepared, answer))
        if self._encoding is None:
            self._encoding = loop.create_task(self._encode_waiting())
        return await answer

    async def _encode_waiting(self) -> None:
        """Encode batches until no request waits."""
        loop = asyncio.get_running_loop()
        while requests := self._next_batch():
            photos = [pair for request in requests for pair in zip(request.names, request.prepared, strict=True)]
            try:
                batch = await loop.run_in_executor(self._encode_thread, encode_batch, photos, self.encoder)
            except Exception as error:  # of the encoder: these requests fail, the service goes on
                for request in requests:
                    if not request.answer.done():
                        request.answer.set_exception(error)
                continue
            self.n_batches += 1
            self.n_encoded += len(batch.positions)
            start = 0
            for request in requests:
                stop = start + len(request.names)
                if not request.answer.done():  # else its client went away
                    request.answer.set_result(batch.part(start, stop))
                start = stop
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

    def close(self) -> None:
        """End the threads and the decoding processes; what waits is cancelled."""
        self._decoders.close()
        self._threads.shutdown(cancel_futures=True)
        self._encode_thread.shutdown(cancel_futures=True)


class _Thumbnail:
    """An encoder's preprocessing, which keeps a small picture of the photo."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.jpeg = b""

    def prepare(self, image: Image.Image) -> NDArray[np.float32]:
        """As the encoder's."""
        self.jpeg = small_jpeg(image, _THUMBNAIL)
        return self._encoder.prepare(image)
