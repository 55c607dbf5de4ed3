"""Images to vectors, as a stream: the next images are decoded while the encoder works on these.

Threads preprocess them; files are decoded in separate processes, so that a crashing decoder cannot kill this one.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from PIL import Image

from tip_adapter.errors import ImageError
from tip_adapter.images.augment import NO_AUGMENTATION
from tip_adapter.images.decode import open_image
from tip_adapter.images.decoding_pool import DecodingPool
from tip_adapter.io.processors import available_processors
from tip_adapter.text import printable
from tip_adapter.vectors import unit_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence

    from numpy.typing import NDArray

    from tip_adapter.encoders import Encoder
    from tip_adapter.images.augment import Augmentation
    from tip_adapter.images.decode import ImageLike

    #: Called with (images done, images in all).
    Progress = Callable[[int, int], None]

#: Images per batch, and how many batches are decoded ahead: bounds memory.
BATCH = 32
_AHEAD = 3
# Starting a decoding process takes as long as decoding a few images: for fewer, one more is not worth it.
_IMAGES_PER_START = 8
_OUT_OF_MEMORY = re.compile(
    r"out of memory|failed to allocate memory|CUDA_ERROR_OUT_OF_MEMORY|bad alloc", re.IGNORECASE
)


class VectorBatch(NamedTuple):
    """The outcome of up to `BATCH` images.

    Parameters
    ----------
    positions : (m,) int array, which images are readable
    vectors : (m, d) float32 array, unit rows
    digests : m str, SHA-256 of each image file
    errors : position → why that image has no vector
    """

    positions: NDArray[np.intp]
    vectors: NDArray[np.float32]
    digests: tuple[str, ...]
    errors: dict[int, ImageError]

    def part(self, start: int, stop: int) -> VectorBatch:
        """The outcome of the images from `start` to before `stop`, numbered from 0."""
        first, last = np.searchsorted(self.positions, (start, stop))
        errors = {position - start: error for position, error in self.errors.items() if start <= position < stop}
        rows = slice(first, last)
        return VectorBatch(self.positions[rows] - start, self.vectors[rows], self.digests[rows], errors)


#: An image as the encoder's preprocessing gives it, and the SHA-256 of its content; or why there is none.
Prepared: TypeAlias = "tuple[NDArray[Any], str] | ImageError"


def stream_vectors(
    images: Sequence[ImageLike], encoder: Encoder, *, views: Augmentation = NO_AUGMENTATION, threads: int | None = None
) -> Generator[VectorBatch]:
    """Encode images in order, batch by batch; an unreadable image is an entry in `errors`.

    Parameters
    ----------
    images : paths, bytes (the content of image files), PIL images or uint8 arrays
    encoder : Encoder
    views : Augmentation whose views' mean is an image's vector; by default the image itself is encoded
    threads : int, images decoded concurrently; None for one per available processor

    Yields
    ------
    VectorBatch
    """
    size = max(1, BATCH // max(1, views.number))  # as many prepared pixels in memory with views as without
    batches = (
        [(_name(image, row), image) for row, image in enumerate(images[start : start + size], start)]
        for start in range(0, len(images), size)
    )
    n_threads = min(threads or available_processors(), 1 + len(images) // _IMAGES_PER_START)
    return stream_batches(batches, encoder, views=views, threads=n_threads)


def stream_batches(
    batches: Iterable[Sequence[tuple[str, ImageLike | ImageError]]],
    encoder: Encoder,
    *,
    views: Augmentation = NO_AUGMENTATION,
    threads: int,
) -> Generator[VectorBatch]:
    """`stream_vectors` for images that arrive batch by batch, such as contents of files that another thread reads.

    Parameters
    ----------
    batches : of up to `BATCH` images: what errors call an image, and the image, or why there is none
    encoder, views : as in `stream_vectors`
    threads : int, images decoded concurrently

    Yields
    ------
    VectorBatch for each batch; positions are counted from the first image of the first batch
    """
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool, DecodingPool() as processes:
        pending: deque[list[tuple[str, Future[Prepared]]]] = deque()
        start = 0

        def encoded() -> VectorBatch:
            return encode_batch(
                [(name, future.result()) for name, future in pending[0]], encoder, start=start, views=views
            )

        try:
            for images in batches:
                pending.append(
                    [
                        (name, pool.submit(prepare_image, image, name, encoder, processes, views))
                        for name, image in images
                    ]
                )
                if len(pending) > _AHEAD:
                    yield encoded()
                    start += len(pending.popleft())
            while pending:
                yield encoded()
                start += len(pending.popleft())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def encode_photos(images: Sequence[ImageLike], encoder: Encoder, *, threads: int | None = None) -> VectorBatch:
    """Encode images and keep all vectors in memory.

    Parameters
    ----------
    images, encoder, threads : as in `stream_vectors`

    Returns
    -------
    VectorBatch of all; an image that is unreadable, or that the encoder gives no usable vector of, is an entry in
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
    with closing(stream_vectors(images, encoder, threads=threads)) as stream:
        parts += stream
    return VectorBatch(
        np.concatenate([part.positions for part in parts]),
        np.concatenate([part.vectors for part in parts]),
        tuple(digest for part in parts for digest in part.digests),
        {position: error for part in parts for position, error in part.errors.items()},
    )


def averaging(encoder: Encoder) -> str:
    """What is averaged over an image's views: ``raw`` vectors if the encoder gives them, else ``unit`` rows."""
    return "raw" if encoder.gives_raw else "unit"


class Prepares(Protocol):
    """The part of an encoder that `prepare_image` uses."""

    def prepare(self, image: Image.Image) -> NDArray[Any]:
        """One upright RGB image → an array."""
        ...


def prepare_image(
    image: ImageLike | ImageError,
    name: str,
    encoder: Prepares,
    processes: DecodingPool,
    views: Augmentation = NO_AUGMENTATION,
) -> Prepared:
    """Decode one image in `processes` and preprocess it; threads may do so at once. `name` is what errors call it."""
    if isinstance(image, ImageError):
        return image
    try:
        if isinstance(image, (str, os.PathLike, bytes)):
            pixels, digest = processes.decode(image, name)
            decoded = Image.fromarray(pixels)
        else:
            decoded = open_image(image)
            digest = hashlib.sha256(b"%d x %d " % decoded.size + decoded.tobytes()).hexdigest()
        if not views.number:
            return encoder.prepare(decoded), digest
        return np.stack([encoder.prepare(view) for view in views.of(decoded, digest)]), digest
    except ImageError as error:
        return error
    except Exception as error:  # any encoder plug-in, or out of memory
        reason = printable(str(error) or type(error).__name__)
        return ImageError(f"cannot use {name}: {reason}; remove the photo")


def encode_batch(
    images: Sequence[tuple[str, Prepared]],
    encoder: Encoder,
    *,
    start: int = 0,
    views: Augmentation = NO_AUGMENTATION,
) -> VectorBatch:
    """Encode up to `BATCH` images that are prepared, in one batch.

    Parameters
    ----------
    images : name, for messages, and what `prepare_image` returned
    encoder, views : as in `stream_vectors`
    start : position of the first

    Returns
    -------
    VectorBatch; a vector that is zero, NaN or infinite is its image's error
    """
    errors: dict[int, ImageError] = {}
    read: dict[int, tuple[NDArray[Any], str]] = {}
    for position, (_, outcome) in enumerate(images, start):
        if isinstance(outcome, ImageError):
            errors[position] = outcome
        else:
            read[position] = outcome
    positions = np.array(list(read), dtype=np.intp)
    if not read:
        return VectorBatch(positions, np.zeros((0, encoder.identity.width), np.float32), (), errors)
    prepared = np.stack([pixels for pixels, _ in read.values()])
    vectors = _within_memory(
        partial(_mean_over_views, encoder=encoder) if views.number else encoder.encode_prepared, prepared
    )
    usable = np.isfinite(vectors).all(axis=1) & vectors.any(axis=1)
    for row in positions[~usable].tolist():
        reason = "the encoder's vector is zero, NaN or infinite; remove the photo"
        errors[row] = ImageError(f"cannot use {images[row - start][0]}: {reason}")
        del read[row]
    return VectorBatch(positions[usable], vectors[usable], tuple(digest for _, digest in read.values()), errors)


def _within_memory(
    encode: Callable[[NDArray[Any]], NDArray[np.float32]], prepared: NDArray[Any]
) -> NDArray[np.float32]:
    """Vectors of a stack of images, in halves where the memory of the device is too small for all of them."""
    try:
        return encode(prepared)
    except Exception as error:  # each library has its own: CUDA's of torch and of ONNX Runtime are RuntimeErrors
        if len(prepared) == 1 or not (isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(str(error))):
            raise
    half = len(prepared) // 2
    return np.concatenate([_within_memory(encode, part) for part in (prepared[:half], prepared[half:])])


def _mean_over_views(prepared: NDArray[Any], encoder: Encoder) -> NDArray[np.float32]:
    """(n, views, …) prepared views → (n, d) float32 unit rows."""
    n, n_views = prepared.shape[:2]
    encode = encoder.encode_raw if encoder.gives_raw else encoder.encode_prepared
    vectors = encode(prepared.reshape(n * n_views, *prepared.shape[2:]))
    means: NDArray[np.float32] = unit_rows(vectors.reshape(n, n_views, -1).mean(axis=1))
    return means


def _name(image: ImageLike, position: int) -> str:
    return printable(image) if isinstance(image, (str, os.PathLike)) else f"photo {position}"
