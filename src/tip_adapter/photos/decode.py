"""One photo from bytes to upright RGB pixels, within limits.

What a file is, its content says, never its ending. Formats: see `FORMATS`. JPEGs go through simplejpeg and fall back
to Pillow, which decodes the others; both give the same pixels. Defined here: EXIF orientation is applied; of an
animation the first frame counts; transparency is laid on white; 16-bit gray keeps its upper 8 bits.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError

from tip_adapter.errors import PhotoError, PhotoTooLarge

if TYPE_CHECKING:
    from numpy.typing import NDArray

PhotoLike: TypeAlias = "str | os.PathLike[str] | Image.Image | NDArray[np.uint8]"

MAX_PIXELS = 89_478_485
MAX_BYTES = 256 * 2**20
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")

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
        return _checked(photo, "an image")
    if isinstance(photo, np.ndarray):
        return _from_array(photo)
    return decode_photo(read_photo(photo), name=os.fspath(photo))


def read_photo(path: str | os.PathLike[str]) -> bytes:
    """Content of a photo's file.

    Raises
    ------
    PhotoError
        It cannot be read, or is empty. PhotoTooLarge above `MAX_BYTES`.
    """
    name = os.fspath(path)
    try:
        size = Path(path).stat().st_size
        if size > MAX_BYTES:
            raise PhotoTooLarge(_message(name, f"{size / 2**20:.0f} MiB, above the limit of {MAX_BYTES // 2**20} MiB"))
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
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            return _decode_jpeg(content, image, name) or _checked(image, name)
    except PhotoError:
        raise
    except UnidentifiedImageError as error:
        raise PhotoError(_message(name, f"not a photo in a known format ({', '.join(FORMATS)})")) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PhotoTooLarge(_message(name, f"above the limit of {MAX_PIXELS:,} pixels")) from error
    except Exception as error:  # decoders raise whatever a damaged file makes them trip over
        raise PhotoError(_message(name, str(error) or type(error).__name__)) from error


def _decode_jpeg(content: bytes, header: Image.Image, name: str) -> Image.Image | None:
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
    return _upright(Image.fromarray(pixels), header.getexif().get(_ORIENTATION, 1))


def _checked(image: Image.Image, name: str) -> Image.Image:
    _refuse_large(image, name)
    image.load()
    orientation = image.getexif().get(_ORIENTATION, 1)  # after loading: TIFF turns itself and drops the tag
    return _upright(_to_rgb(image, name), orientation)


def _refuse_large(image: Image.Image, name: str) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise PhotoTooLarge(
            _message(name, f"{image.width} x {image.height} is above the limit of {MAX_PIXELS:,} pixels; scale it down")
        )
    if image.width * image.height == 0:
        raise PhotoError(_message(name, f"{image.width} x {image.height} has no pixels"))


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise PhotoError(_message(name, "32-bit values have no defined brightness; convert it to 8 or 16 bits"))
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
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


def _upright(image: Image.Image, orientation: object) -> Image.Image:
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def _from_array(pixels: NDArray[np.uint8]) -> Image.Image:
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (1, 3, 4)):
        raise PhotoError(
            f"an array photo is uint8 of shape (h, w), (h, w, 3) or (h, w, 4), not {pixels.dtype} {pixels.shape}"
        )
    if 0 in pixels.shape:
        raise PhotoError(f"an array photo of shape {pixels.shape} has no pixels")
    return _checked(Image.fromarray(pixels.squeeze(2) if pixels.shape[2:] == (1,) else pixels), "an array")


def _message(name: str, reason: str) -> str:
    return f"cannot read {printable(name)}: {reason}"


def printable(name: str) -> str:
    """A file name as it can be printed: bytes that are not UTF-8 and control characters as escapes."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
