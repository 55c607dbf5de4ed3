"""One photo from bytes to upright RGB pixels, within limits.

What a file is, its content says, never its ending. Formats: see `FORMATS`. JPEGs go through simplejpeg and fall back
to Pillow, which decodes the others; both give the same pixels. Defined here: EXIF orientation is applied; of an
animation the first frame counts; transparency is laid on white; 16-bit gray keeps its upper 8 bits.
"""

from __future__ import annotations

import io
import os
import stat
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError

from tip_adapter.errors import PhotoError, PhotoTooLarge, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

PhotoLike: TypeAlias = "str | os.PathLike[str] | Image.Image | NDArray[np.uint8]"

MAX_PIXELS = 89_478_485
MAX_BYTES = 256 * 2**20
FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM"]

_HEIC_MARKS = (b"ftypheic", b"ftypheix", b"ftyphevc", b"ftypmif1", b"ftypheim", b"ftypheis", b"ftypmsf1")
_HAS_HEIC = find_spec("pillow_heif") is not None
if _HAS_HEIC:
    pillow_heif = import_module("pillow_heif")
    pillow_heif.register_heif_opener()
    FORMATS.append("HEIF")

# Larger photos take the path that holds them in memory once.
_SIMPLEJPEG_PIXELS = 32_000_000
_ORIENTATION = 0x0112


def open_photo(photo: PhotoLike) -> Image.Image:
    """A path, a PIL image or a (h, w), (h, w, 1), (h, w, 3) or (h, w, 4) uint8 array → upright RGB image.

    Raises
    ------
    PhotoError
        It cannot be read; the message names it. PhotoTooLarge above the limits.
    """
    if isinstance(photo, Image.Image):
        with _decoding("an image"):
            return _upright_rgb(photo, "an image")
    if isinstance(photo, np.ndarray):
        return _from_array(photo)
    return decode_photo(read_photo(photo), name=os.fspath(photo))


def read_photo(path: str | os.PathLike[str]) -> bytes:
    """Content of a photo's file.

    Raises
    ------
    PhotoError
        It cannot be read, is no regular file, or is empty. PhotoTooLarge above `MAX_BYTES`.
    """
    name = os.fspath(path)
    try:
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):
            what = "a directory" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise PhotoError(_message(name, what))
        if status.st_size > MAX_BYTES:
            size = f"{status.st_size / 2**20:.0f} MiB"
            raise PhotoTooLarge(_message(name, f"{size} is above the limit of {MAX_BYTES // 2**20} MiB; scale it down"))
        content = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        if isinstance(error, PhotoError):
            raise
        raise PhotoError(_message(name, getattr(error, "strerror", None) or str(error))) from error
    if not content:
        raise PhotoError(_message(name, "the file is empty"))
    return content


def decode_photo(content: bytes, *, name: str) -> Image.Image:
    """Bytes of a photo's file → upright RGB image.

    Parameters
    ----------
    content : bytes
    name : str, what error messages call it

    Raises
    ------
    PhotoError
        Not a photo in a known format, or damaged. PhotoTooLarge above `MAX_PIXELS`.
    """
    with _decoding(name):
        if content[4:12] in _HEIC_MARKS and not _HAS_HEIC:
            raise PhotoError(_message(name, "HEIC photos need pip install 'tip-adapter[heic]'"))
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            return _fast_jpeg(content, image, name) or _upright_rgb(image, name)


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    """Whatever a damaged photo makes a decoder trip over is a PhotoError that names it."""
    try:
        yield
    except PhotoError:
        raise
    except UnidentifiedImageError as error:
        raise PhotoError(_message(name, f"not a photo in a known format ({', '.join(FORMATS)})")) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PhotoTooLarge(_message(name, f"above the limit of {MAX_PIXELS:,} pixels; scale it down")) from error
    except Exception as error:
        raise PhotoError(_message(name, str(error) or type(error).__name__)) from error


def _fast_jpeg(content: bytes, header: Image.Image, name: str) -> Image.Image | None:
    """The fast way for plain JPEGs; None where Pillow has to do it (CMYK, huge, damaged, other formats)."""
    _refuse_large(header, name)
    if header.format not in ("JPEG", "MPO") or header.mode not in ("RGB", "L"):
        return None
    if header.width * header.height > _SIMPLEJPEG_PIXELS:
        return None
    try:
        pixels = simplejpeg.decode_jpeg(content, "RGB", strict=True)
    except ValueError:
        return None
    return _upright(Image.fromarray(pixels), _orientation(header))


def _upright_rgb(image: Image.Image, name: str) -> Image.Image:
    _refuse_large(image, name)
    image.load()
    orientation = _orientation(image)  # after loading: TIFF turns itself and drops the tag
    return _upright(_to_rgb(image, name), orientation)


def _refuse_large(image: Image.Image, name: str) -> None:
    size = f"{image.width} x {image.height}"
    if image.width * image.height > MAX_PIXELS:
        raise PhotoTooLarge(_message(name, f"{size} is above the limit of {MAX_PIXELS:,} pixels; scale it down"))
    if image.width * image.height == 0:
        raise PhotoError(_message(name, f"{size} has no pixels"))


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.has_transparency_data:
        rgba = image if image.mode == "RGBA" else image.convert("RGBA")
        on_white = Image.new("RGB", rgba.size, "white")
        on_white.paste(rgba, mask=rgba.getchannel("A"))
        return on_white
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise PhotoError(_message(name, "32-bit values have no defined brightness; convert it to 8 or 16 bits"))
    return image.convert("RGB")


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


def _from_array(pixels: NDArray[np.uint8]) -> Image.Image:
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (1, 3, 4)):
        raise PhotoError(
            f"an array photo is uint8 of shape (h, w), (h, w, 3) or (h, w, 4), not {pixels.dtype} {pixels.shape}"
        )
    if 0 in pixels.shape:
        raise PhotoError(f"an array photo of shape {pixels.shape} has no pixels")
    return _upright_rgb(Image.fromarray(pixels.squeeze(2) if pixels.shape[2:] == (1,) else pixels), "an array")


def _message(name: str, reason: str) -> str:
    return f"cannot read {printable(name)}: {reason}"
