"""One photo from bytes to upright RGB pixels, within limits.

What a file is, its content says, never its ending. Formats: see `FORMATS`. JPEGs go through simplejpeg and fall back
to Pillow, which decodes the others; both give the same pixels. Defined here: EXIF orientation is applied; of an
animation the first frame counts; transparency is laid on white; 16-bit gray keeps its upper 8 bits; huge photos are
reduced. What a crash, an endless photo or one that fills the memory costs is bounded elsewhere: see `processes.py`.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError

from tip_adapter.errors import ImageError, ImageTooLarge
from tip_adapter.images.colours import Stored, to_rgb
from tip_adapter.images.limits import coefficient_bytes, has_more_scans, webp_bytes
from tip_adapter.images.reduce import reduced, reduction
from tip_adapter.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

ImageLike: TypeAlias = "str | os.PathLike[str] | Image.Image | NDArray[np.uint8]"

MAX_PIXELS = 89_478_485
MAX_BYTES = 256 * 2**20
#: What decoding one photo may take above the idle process.
MAX_MEMORY = 512 * 2**20
#: Cameras and programs write 1 to about 10; every further one costs as much as the first.
MAX_SCANS = 100
FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM"]

_HEIC_MARKS = (b"ftypheic", b"ftypheix", b"ftyphevc", b"ftypmif1", b"ftypheim", b"ftypheis", b"ftypmsf1")
_HAS_HEIC = find_spec("pillow_heif") is not None
if _HAS_HEIC:
    pillow_heif = import_module("pillow_heif")
    pillow_heif.register_heif_opener()
    FORMATS.append("HEIF")

_COEFFICIENT_BYTES = 448 * 2**20  # of MAX_MEMORY, so that the file and the reduced pixels find room
_ORIENTATION = 0x0112


def open_image(photo: ImageLike) -> Image.Image:
    """A path, a PIL image or a (h, w), (h, w, 1), (h, w, 3) or (h, w, 4) uint8 array → upright RGB image.

    Raises
    ------
    ImageError
        It cannot be read; the message names it. ImageTooLarge above the limits.
    """
    if isinstance(photo, Image.Image):
        with _decoding("an image"):
            _refuse_large(photo, "an image")
            return _upright_rgb(photo, reduction(photo.size), "an image")
    if isinstance(photo, np.ndarray):
        return _from_array(photo)
    return decode_image(read_image(photo), name=os.fspath(photo))


def read_image(path: str | os.PathLike[str]) -> bytes:
    """Content of a photo's file.

    Raises
    ------
    ImageError
        It cannot be read, is no regular file, or is empty. ImageTooLarge above `MAX_BYTES`.
    """
    name = os.fspath(path)
    try:
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):
            what = "a directory" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise ImageError(_message(name, what))
        if status.st_size > MAX_BYTES:
            size = f"{status.st_size / 2**20:.0f} MiB"
            raise ImageTooLarge(_message(name, f"{size} is above the limit of {MAX_BYTES // 2**20} MiB; scale it down"))
        content = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(_message(name, getattr(error, "strerror", None) or printable(str(error)))) from error
    if not content:
        raise ImageError(_message(name, "the file is empty"))
    return content


def decode_file(path: str | os.PathLike[str]) -> tuple[NDArray[np.uint8], str]:
    """A photo's file → upright RGB pixels, (h, w, 3) uint8, and the SHA-256 of its content.

    Raises
    ------
    ImageError
        As `read_image` and `decode_image`.
    """
    content = read_image(path)
    return _decode(content, os.fspath(path)), hashlib.sha256(content).hexdigest()


def decode_image(content: bytes, *, name: str) -> Image.Image:
    """Bytes of a photo's file → upright RGB image.

    Parameters
    ----------
    content : bytes
    name : str, what error messages call it

    Raises
    ------
    ImageError
        Not a photo in a known format, or damaged. ImageTooLarge above `MAX_PIXELS`, or where decoding takes too much
        memory.
    """
    return Image.fromarray(_decode(content, name))


def _decode(content: bytes, name: str) -> NDArray[np.uint8]:
    with _decoding(name):
        if content[4:12] in _HEIC_MARKS and not _HAS_HEIC:
            raise ImageError(_message(name, "HEIC photos need pip install 'tip-adapter[heic]'"))
        if webp_bytes(content) > MAX_MEMORY:  # opening one allocates already
            raise _too_much_memory(name)
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            _refuse_large(image, name)
            if image.format in ("JPEG", "MPO"):
                _refuse_costly_jpeg(content, image, name)
                return _decode_jpeg(content, image, name)
            return np.asarray(_upright_rgb(image, reduction(image.size), name))


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    """Whatever a damaged photo makes a decoder trip over is a ImageError that names it."""
    try:
        yield
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(_message(name, f"not a photo in a known format ({', '.join(FORMATS)})")) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLarge(_message(name, f"above the limit of {MAX_PIXELS:,} pixels; scale it down")) from error
    except MemoryError as error:
        raise _too_much_memory(name) from error
    except Exception as error:
        raise ImageError(_message(name, printable(str(error) or type(error).__name__))) from error


def _refuse_large(image: Image.Image, name: str) -> None:
    size = f"{image.width} x {image.height}"
    if image.width * image.height > MAX_PIXELS:
        raise ImageTooLarge(_message(name, f"{size} is above the limit of {MAX_PIXELS:,} pixels; scale it down"))
    if image.width * image.height == 0:
        raise ImageError(_message(name, f"{size} has no pixels"))


# ---- JPEG


def _refuse_costly_jpeg(content: bytes, header: Any, name: str) -> None:
    if has_more_scans(content, MAX_SCANS):
        raise ImageError(_message(name, f"more than {MAX_SCANS} scans; save it again as a baseline JPEG"))
    if coefficient_bytes(header) > _COEFFICIENT_BYTES:
        raise _too_much_memory(name)


def _decode_jpeg(content: bytes, image: Any, name: str) -> NDArray[np.uint8]:
    """By simplejpeg where it can; by Pillow what is huge, CMYK or damaged."""
    across, down = reduction(image.size)
    if (across, down) != (1, 1):
        scale = min(across, down)  # libjpeg's share: it decodes to 1/1, 1/2 or 1/4 at once
        image.draft(None, (image.width // scale, image.height // scale))
        return np.asarray(_upright_rgb(image, (-(-across // scale), -(-down // scale)), name))
    if image.mode in ("RGB", "L"):
        with suppress(ValueError):
            return _upright_pixels(simplejpeg.decode_jpeg(content, "RGB", strict=True), _orientation(image))
    return np.asarray(_upright_rgb(image, (1, 1), name))


# ---- any image → upright RGB


def _upright_rgb(image: Image.Image, factors: tuple[int, int], name: str) -> Image.Image:
    """Decode, convert and reduce, turn: in this order, so that a huge photo is held once."""
    stored = Stored.of(image)
    image.load()
    orientation = _orientation(image)  # after loading: TIFF turns itself and drops the tag
    return _upright(reduced(image, factors, lambda part: to_rgb(part, stored)), orientation)


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation; 1, upright, where there is none or it is damaged."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # a damaged tag must not cost a good photo
        return 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def _upright_pixels(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    return np.asarray(_upright(Image.fromarray(pixels), orientation)) if orientation in _TURNS else pixels


def _from_array(pixels: NDArray[np.uint8]) -> Image.Image:
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (1, 3, 4)):
        raise ImageError(
            f"an array photo is uint8 of shape (h, w), (h, w, 3) or (h, w, 4), not {pixels.dtype} {pixels.shape}"
        )
    if 0 in pixels.shape:
        raise ImageError(f"an array photo of shape {pixels.shape} has no pixels")
    with _decoding("an array"):
        image = Image.fromarray(pixels.squeeze(2) if pixels.shape[2:] == (1,) else pixels)
        _refuse_large(image, "an array")
        return _upright_rgb(image, reduction(image.size), "an array")


def _too_much_memory(name: str) -> ImageTooLarge:
    return ImageTooLarge(_message(name, f"needs more than {MAX_MEMORY // 2**20} MiB to decode; scale it down"))


def _message(name: str, reason: str) -> str:
    return f"cannot read {printable(name)}: {reason}"
