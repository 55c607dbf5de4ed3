"""Photos to vectors, as a stream: the next photos are decoded while the encoder works on these.

Threads prepare them; files are decoded in processes of their own, so that no file can end the program.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from tip_adapter.errors import ImageError
from tip_adapter.images.augment import NO_AUGMENTATION
from tip_adapter.images.decode import open_image
from tip_adapter.images.decoding_pool import DecodingProcesses
from tip_adapter.text import printable
from tip_adapter.vectors import unit_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from numpy.typing import NDArray

    from tip_adapter.encoders import Encoder
    from tip_adapter.images.augment import Augmentation
    from tip_adapter.images.decode import ImageLike

    #: Called with (photos done, photos in all).
    Progress = Callable[[int, int], None]

#: Photos per batch, and how many batches are decoded ahead: bounds what is held in memory.
BATCH = 32
_AHEAD = 3
# Starting a decoding process takes as long as decoding a few photos: for fewer, one more is not worth it.
_PHOTOS_PER_START = 8


class VectorBatch(NamedTuple):
    """The outcome of up to `BATCH` photos.

    Parameters
    ----------
    positions : (m,) int array, which photos could be read
    vectors : (m, d) float32 array, unit rows
    digests : m str, SHA-256 of each photo's content
    errors : position → why that photo could not be read
    """

    positions: NDArray[np.intp]
    vectors: NDArray[np.float32]
    digests: tuple[str, ...]
    errors: dict[int, ImageError]


@dataclass(frozen=True)
class _Prepared:
    pixels: NDArray[Any]
    digest: str


def stream_vectors(
    photos: Sequence[ImageLike], encoder: Encoder, *, views: Augmentation = NO_AUGMENTATION, threads: int | None = None
) -> Generator[VectorBatch]:
    """Encode photos in order, batch by batch; a photo that cannot be read is an entry in `errors`.

    Parameters
    ----------
    photos : paths, PIL images or uint8 arrays
    encoder : Encoder
    views : Views whose mean a photo's vector is; by default the photo itself is encoded
    threads : int, photos decoded at a time; None for one per core

    Yields
    ------
    VectorBatch
    """
    size = max(1, BATCH // max(1, views.number))  # as many prepared pixels are held, with views or without
    starts = range(0, len(photos), size)
    n_threads = min(threads or os.cpu_count() or 1, 1 + len(photos) // _PHOTOS_PER_START)
    with ThreadPoolExecutor(n_threads, thread_name_prefix="decode") as pool, DecodingProcesses() as processes:
        pending: deque[list[Future[_Prepared | ImageError]]] = deque()
        try:
            for start in starts:
                rows = range(start, min(start + size, len(photos)))
                taken = zip(rows, photos[start : start + size], strict=True)
                pending.append([pool.submit(_prepare, photo, row, encoder, views, processes) for row, photo in taken])
                if len(pending) > _AHEAD:
                    yield _encode(pending.popleft(), start - _AHEAD * size, encoder, views, photos)
            for start in starts[len(starts) - len(pending) :]:
                yield _encode(pending.popleft(), start, encoder, views, photos)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def encode_photos(photos: Sequence[ImageLike], encoder: Encoder, *, threads: int | None = None) -> VectorBatch:
    """Encode photos and keep all vectors in memory.

    Parameters
    ----------
    photos, encoder, threads : as in `stream_vectors`

    Returns
    -------
    VectorBatch of the whole; a photo that cannot be read, or that the encoder gives no usable vector of, is an entry in
        `errors`

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.features.encode import encode_photos
    >>> from tip_adapter.testing import FakeEncoder
    >>> batch = encode_photos([np.zeros((8, 8, 3), np.uint8), "no-such.jpg"], FakeEncoder())
    >>> print(len(batch.vectors), *batch.errors)
    1 1
    """
    parts = [VectorBatch(np.zeros(0, np.intp), np.zeros((0, encoder.identity.width), np.float32), (), {})]
    with closing(stream_vectors(photos, encoder, threads=threads)) as stream:
        parts += stream
    return VectorBatch(
        np.concatenate([part.positions for part in parts]),
        np.concatenate([part.vectors for part in parts]),
        tuple(digest for part in parts for digest in part.digests),
        {position: error for part in parts for position, error in part.errors.items()},
    )


def averaging(encoder: Encoder) -> str:
    """What is averaged over a photo's views: ``raw`` vectors where the encoder gives them, else ``unit`` rows."""
    return "raw" if encoder.gives_raw else "unit"


def _prepare(
    photo: ImageLike, position: int, encoder: Encoder, views: Augmentation, processes: DecodingProcesses
) -> _Prepared | ImageError:
    """Decode and crop one photo, in a thread."""
    try:
        image, digest = _open(photo, processes)
        if not views.number:
            return _Prepared(encoder.prepare(image), digest)
        return _Prepared(np.stack([encoder.prepare(view) for view in views.of(image, digest)]), digest)
    except ImageError as error:
        return error
    except Exception as error:  # an encoder of any origin, or the memory is full
        reason = printable(str(error) or type(error).__name__)
        return ImageError(f"cannot use {_name(photo, position)}: {reason}; remove the photo")


def _open(photo: ImageLike, processes: DecodingProcesses) -> tuple[Image.Image, str]:
    """A photo and the SHA-256 of its content."""
    if isinstance(photo, (str, os.PathLike)):
        pixels, digest = processes.decode(photo)
        return Image.fromarray(pixels), digest
    image = open_image(photo)
    return image, hashlib.sha256(b"%d x %d " % image.size + image.tobytes()).hexdigest()


def _encode(
    futures: list[Future[_Prepared | ImageError]],
    start: int,
    encoder: Encoder,
    views: Augmentation,
    photos: Sequence[ImageLike],
) -> VectorBatch:
    outcomes = {start + i: future.result() for i, future in enumerate(futures)}
    errors = {position: outcome for position, outcome in outcomes.items() if isinstance(outcome, ImageError)}
    read = {position: outcome for position, outcome in outcomes.items() if isinstance(outcome, _Prepared)}
    positions = np.array(list(read), dtype=np.intp)
    digests = tuple(outcome.digest for outcome in read.values())
    if not read:
        return VectorBatch(positions, np.zeros((0, encoder.identity.width), np.float32), digests, errors)
    prepared = np.stack([outcome.pixels for outcome in read.values()])
    vectors = _mean_over_views(prepared, encoder) if views.number else encoder.encode_prepared(prepared)
    return _refuse_unusable(VectorBatch(positions, vectors, digests, errors), photos)


def _mean_over_views(prepared: NDArray[Any], encoder: Encoder) -> NDArray[np.float32]:
    """(n, views, …) prepared views → (n, d) float32 unit rows."""
    n, n_views = prepared.shape[:2]
    encode = encoder.encode_raw if encoder.gives_raw else encoder.encode_prepared
    vectors = encode(prepared.reshape(n * n_views, *prepared.shape[2:]))
    means: NDArray[np.float32] = unit_rows(vectors.reshape(n, n_views, -1).mean(axis=1))
    return means


def _refuse_unusable(batch: VectorBatch, photos: Sequence[ImageLike]) -> VectorBatch:
    """A vector that is zero, NaN or infinite is that photo's error."""
    usable = np.logical_and(np.isfinite(batch.vectors).all(axis=1), batch.vectors.any(axis=1))
    if usable.all():
        return batch
    errors = {row: _unusable(photos[row], row) for row in batch.positions[~usable].tolist()}
    digests = tuple(digest for digest, keep in zip(batch.digests, usable.tolist(), strict=True) if keep)
    return VectorBatch(batch.positions[usable], batch.vectors[usable], digests, batch.errors | errors)


def _unusable(photo: ImageLike, position: int) -> ImageError:
    reason = "the encoder's vector is zero, NaN or infinite"
    return ImageError(f"cannot use {_name(photo, position)}: {reason}; remove the photo")


def _name(photo: ImageLike, position: int) -> str:
    return printable(photo) if isinstance(photo, (str, os.PathLike)) else f"photo {position}"
