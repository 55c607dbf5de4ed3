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

from tip_adapter.errors import NothingReadable, PhotoError, printable, warn
from tip_adapter.photos.decode import open_photo
from tip_adapter.photos.processes import DecodingProcesses
from tip_adapter.vectors import SupportSet

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from numpy.typing import NDArray

    from tip_adapter.encoders import Encoder
    from tip_adapter.photos.decode import PhotoLike

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
    errors: dict[int, PhotoError]


@dataclass(frozen=True)
class _Prepared:
    pixels: NDArray[Any]
    digest: str


def stream_vectors(
    photos: Sequence[PhotoLike], encoder: Encoder, *, threads: int | None = None
) -> Generator[VectorBatch]:
    """Encode photos in order, batch by batch; a photo that cannot be read is an entry in `errors`.

    Parameters
    ----------
    photos : paths, PIL images or uint8 arrays
    encoder : Encoder
    threads : int, photos decoded at a time; None for one per core

    Yields
    ------
    VectorBatch
    """
    starts = range(0, len(photos), BATCH)
    n_threads = min(threads or os.cpu_count() or 1, 1 + len(photos) // _PHOTOS_PER_START)
    with ThreadPoolExecutor(n_threads, thread_name_prefix="decode") as pool, DecodingProcesses() as processes:
        pending: deque[list[Future[_Prepared | PhotoError]]] = deque()
        try:
            for start in starts:
                rows = range(start, min(start + BATCH, len(photos)))
                taken = zip(rows, photos[start : start + BATCH], strict=True)
                pending.append([pool.submit(_prepare, photo, row, encoder, processes) for row, photo in taken])
                if len(pending) > _AHEAD:
                    yield _encode(pending.popleft(), start - _AHEAD * BATCH, encoder, photos)
            for start in starts[len(starts) - len(pending) :]:
                yield _encode(pending.popleft(), start, encoder, photos)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def encode_photos(
    photos: Sequence[PhotoLike],
    encoder: Encoder,
    *,
    threads: int | None = None,
    progress: Progress | None = None,
) -> VectorBatch:
    """Encode photos and keep all vectors: one VectorBatch of the whole.

    Parameters
    ----------
    photos, encoder, threads : as in `stream_vectors`
    progress : called with (photos done, photos in all) after each batch
    """
    batches = []
    with closing(stream_vectors(photos, encoder, threads=threads)) as stream:
        for batch in stream:
            batches.append(batch)
            if progress:
                progress(min(len(batches) * BATCH, len(photos)), len(photos))
    empty = VectorBatch(np.zeros(0, np.intp), np.zeros((0, encoder.identity.width), np.float32), (), {})
    parts = [empty, *batches]
    return VectorBatch(
        np.concatenate([part.positions for part in parts]),
        np.concatenate([part.vectors for part in parts]),
        tuple(digest for part in parts for digest in part.digests),
        {position: error for part in parts for position, error in part.errors.items()},
    )


def encode_labelled(
    photos: Sequence[PhotoLike],
    labels: Sequence[str],
    ids: Sequence[str],
    encoder: Encoder,
    *,
    threads: int | None = None,
    progress: Progress | None = None,
) -> tuple[SupportSet, int]:
    """Encode labelled photos and keep all vectors; warns and raises as `stream_labelled`.

    Parameters
    ----------
    photos, labels, ids, encoder, threads, progress : as in `stream_labelled`

    Returns
    -------
    support : SupportSet of the photos that can be read
    n_failed : int, how many cannot
    """
    width = encoder.identity.width
    parts = [SupportSet(np.zeros((0, width), np.float32), np.zeros(0, np.str_), np.zeros(0, np.str_))]
    parts += stream_labelled(photos, labels, ids, encoder, threads=threads, progress=progress)
    columns = ([getattr(part, name) for part in parts] for name in ("vectors", "labels", "ids"))
    support = SupportSet(*map(np.concatenate, columns))
    return support, len(photos) - len(support)


def stream_labelled(
    photos: Sequence[PhotoLike],
    labels: Sequence[str],
    ids: Sequence[str],
    encoder: Encoder,
    *,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Generator[SupportSet]:
    """Encode labelled photos, batch by batch; warns of photos that cannot be read, and of a photo that is in two classes.

    Parameters
    ----------
    photos, encoder, threads : as in `stream_vectors`
    labels, ids : one a photo
    progress : called with (photos done, photos in all) after each batch

    Yields
    ------
    SupportSet of the photos of a batch that can be read

    Raises
    ------
    NothingReadable
        There are photos, and not one can be read.
    """
    failed: list[str] = []
    first: dict[str, tuple[str, str]] = {}
    twins: list[str] = []
    done = 0
    with closing(stream_vectors(photos, encoder, threads=threads)) as stream:
        for batch in stream:
            failed += map(str, batch.errors.values())
            rows = batch.positions.tolist()
            texts, names = [labels[row] for row in rows], [ids[row] for row in rows]
            twins += _twins(batch.digests, texts, names, first)
            done += len(rows) + len(batch.errors)
            if progress:
                progress(done, len(photos))
            yield SupportSet(batch.vectors, np.array(texts, dtype=np.str_), np.array(names, dtype=np.str_))
    if failed and len(failed) == len(photos):
        raise NothingReadable.among(failed)
    if failed:
        warn(f"{len(failed)} of {len(photos)} photos are left out: {_first_three(failed)}")
    if twins:
        warn(f"the same photo is in two classes: {_first_three(twins)}; remove one")


def _first_three(texts: Sequence[str]) -> str:
    more = f" (and {len(texts) - 3} more)" if len(texts) > 3 else ""
    return f"{'; '.join(texts[:3])}{more}"


def _twins(
    digests: Sequence[str], labels: Sequence[str], ids: Sequence[str], first: dict[str, tuple[str, str]]
) -> list[str]:
    """Pairs of the same photo with different labels: one of them must be wrong. `first` remembers, by digest."""
    photos = list(zip(ids, labels, strict=True))
    pairs = [(first.setdefault(digest, photo), photo) for digest, photo in zip(digests, photos, strict=True)]
    return [f"{_in_class(*a)} and {_in_class(*b)}" for a, b in pairs if a[1] != b[1]]


def _in_class(name: str, label: str) -> str:
    return f"{printable(name)} ({printable(label)})"


def _prepare(photo: PhotoLike, position: int, encoder: Encoder, processes: DecodingProcesses) -> _Prepared | PhotoError:
    """Decode and crop one photo, in a thread."""
    try:
        image, digest = _open(photo, processes)
        return _Prepared(encoder.prepare(image), digest)
    except PhotoError as error:
        return error
    except Exception as error:  # an encoder of any origin, or the memory is full
        reason = printable(str(error) or type(error).__name__)
        return PhotoError(f"cannot use {_name(photo, position)}: {reason}; remove the photo")


def _open(photo: PhotoLike, processes: DecodingProcesses) -> tuple[Image.Image, str]:
    """A photo and the SHA-256 of its content."""
    if isinstance(photo, (str, os.PathLike)):
        pixels, digest = processes.decode(photo)
        return Image.fromarray(pixels), digest
    image = open_photo(photo)
    return image, hashlib.sha256(b"%d x %d " % image.size + image.tobytes()).hexdigest()


def _encode(
    futures: list[Future[_Prepared | PhotoError]], start: int, encoder: Encoder, photos: Sequence[PhotoLike]
) -> VectorBatch:
    outcomes = {start + i: future.result() for i, future in enumerate(futures)}
    errors = {position: outcome for position, outcome in outcomes.items() if isinstance(outcome, PhotoError)}
    read = {position: outcome for position, outcome in outcomes.items() if isinstance(outcome, _Prepared)}
    positions = np.array(list(read), dtype=np.intp)
    digests = tuple(outcome.digest for outcome in read.values())
    if not read:
        return VectorBatch(positions, np.zeros((0, encoder.identity.width), np.float32), digests, errors)
    vectors = encoder.encode_prepared(np.stack([outcome.pixels for outcome in read.values()]))
    return _refuse_unusable(VectorBatch(positions, vectors, digests, errors), photos)


def _refuse_unusable(batch: VectorBatch, photos: Sequence[PhotoLike]) -> VectorBatch:
    """A vector that is zero, NaN or infinite is that photo's error."""
    usable = np.logical_and(np.isfinite(batch.vectors).all(axis=1), batch.vectors.any(axis=1))
    if usable.all():
        return batch
    errors = {row: _unusable(photos[row], row) for row in batch.positions[~usable].tolist()}
    digests = tuple(digest for digest, keep in zip(batch.digests, usable.tolist(), strict=True) if keep)
    return VectorBatch(batch.positions[usable], batch.vectors[usable], digests, batch.errors | errors)


def _unusable(photo: PhotoLike, position: int) -> PhotoError:
    reason = "the encoder's vector is zero, NaN or infinite"
    return PhotoError(f"cannot use {_name(photo, position)}: {reason}; remove the photo")


def _name(photo: PhotoLike, position: int) -> str:
    return printable(photo) if isinstance(photo, (str, os.PathLike)) else f"photo {position}"
