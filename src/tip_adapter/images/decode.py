"""Decode one image: bytes to RGB pixels, upright by EXIF orientation, within limits.

The format is detected from the content, not from the file extension; see `FORMATS`. simplejpeg decodes JPEGs and falls
back to Pillow, which decodes all other formats; both give the same pixels. EXIF orientation is applied, the first frame
of an animation is used, transparency is blended with white, 16-bit gray keeps its upper 8 bits, and huge images are
reduced. `decoding_pool` limits the cost of crashes, endless images and memory.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError

from tip_adapter.errors import ImageError, ImageTooLarge, MissingExtra
from tip_adapter.images.limits import coefficient_bytes, has_more_scans, reduced, reduction, webp_bytes
from tip_adapter.io.files import LFS_POINTER
from tip_adapter.plugins import pip_install, require_extra
from tip_adapter.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

#: An image file, by its path or its content.
FileLike: TypeAlias = "str | os.PathLike[str] | bytes"
ImageLike: TypeAlias = "FileLike | Image.Image | NDArray[np.uint8]"

MAX_PIXELS = 89_478_485
MAX_BYTES = 256 * 2**20
#: Memory that decoding one image may take above the idle process.
MAX_MEMORY = 512 * 2**20
#: Cameras and programs write 1 to about 10; every further scan costs as much as the first.
MAX_SCANS = 100
FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM"]
with suppress(MissingExtra):
    require_extra("pillow_heif", "HEIC support", "heic").register_heif_opener()
    FORMATS.append("HEIF")

_HEIC_MARKS = (b"ftypheic", b"ftypheix", b"ftyphevc", b"ftypmif1", b"ftypheim", b"ftypheis", b"ftypmsf1")
_COEFFICIENT_BYTES = 448 * 2**20  # below MAX_MEMORY, to leave room for the file and the reduced pixels
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def open_image(image: ImageLike) -> Image.Image:
    """An image file, a PIL image or a (h, w), (h, w, 1), (h, w, 3) or (h, w, 4) uint8 array → upright RGB image.

    Raises
    ------
    ImageError
        It cannot be read; the message names it. ImageTooLarge above the limits.
    """
    if not isinstance(image, (Image.Image, np.ndarray)):
        return Image.fromarray(decode_file(image)[0])
    name = "an image" if isinstance(image, Image.Image) else "an array"
    with _decoding(name):
        if isinstance(image, np.ndarray):
            image = _from_array(image)
        _refuse_large(image, name)
        try:
            return _upright_rgb(image, reduction(image.size))
        except AssertionError as error:  # of Pillow, which has no message
            raise ImageError(_message(name, "its file is closed; call load() before, or give the path")) from error


def read_image(path: str | os.PathLike[str]) -> bytes:
    """Content of an image file.

    Raises
    ------
    ImageError
        It cannot be read, or is not a regular file. ImageTooLarge above `MAX_BYTES`.
    """
    name = os.fspath(path)
    if not name:
        raise ImageError(_message("''", "the path is empty"))
    try:
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):
            what = "a directory" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise ImageError(_message(name, what))
        refuse_large_file(status.st_size, name)
        return Path(path).read_bytes()
    except ImageError:
        raise
    except (OSError, ValueError) as error:
        raise ImageError(_message(name, getattr(error, "strerror", None) or printable(str(error)))) from error


def refuse_large_file(n_bytes: int, name: str) -> None:
    """Raise ImageTooLarge if an image file has more than `MAX_BYTES`."""
    if n_bytes > MAX_BYTES:
        limit = f"{n_bytes / 2**20:.0f} MiB is above the limit of {MAX_BYTES // 2**20} MiB; scale it down"
        raise ImageTooLarge(_message(name, limit))


def decode_file(file: FileLike, name: str = "an image") -> tuple[NDArray[np.uint8], str]:
    """An image file → upright RGB pixels, (h, w, 3) uint8, and the SHA-256 of its content.

    Parameters
    ----------
    file : path, or bytes: the content of a file
    name : str, what error messages call bytes; a file has its path

    Raises
    ------
    ImageError
        As `read_image` and `decode_image`.
    """
    if not isinstance(file, bytes):
        name = os.fspath(file)
        file = read_image(file)
    refuse_large_file(len(file), name)
    return decode_image(file, name=name), hashlib.sha256(file).hexdigest()


def image_digest(path: str | os.PathLike[str]) -> str | None:
    """SHA-256 of the content of an image file; None if it cannot be read, for which decoding gives the reason."""
    with suppress(ImageError):
        return hashlib.sha256(read_image(path)).hexdigest()
    return None


def decode_image(content: bytes, *, name: str) -> NDArray[np.uint8]:
    """Bytes of an image file → upright RGB pixels, (h, w, 3) uint8.

    Parameters
    ----------
    content : bytes
    name : str, used in error messages

    Raises
    ------
    ImageError
        It is empty or damaged, or has an unknown format. ImageTooLarge above `MAX_PIXELS`, or if decoding takes too much
        memory.
    """
    if not content:
        raise ImageError(_message(name, "the file is empty"))
    if content.startswith(LFS_POINTER):
        raise ImageError(_message(name, "a Git LFS pointer instead of the photo; run git lfs pull"))
    if content[:1_000].lstrip().lower().startswith((b"<!doctype html", b"<html")):
        raise ImageError(_message(name, "a web page instead of the photo; download it again"))
    with _decoding(name):
        if content[4:12] in _HEIC_MARKS and "HEIF" not in FORMATS:
            raise ImageError(_message(name, f"HEIC images need pillow-heif: {pip_install('heic')}"))
        if webp_bytes(content) > MAX_MEMORY:  # Pillow allocates when it opens a WebP file
            raise MemoryError
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            _refuse_large(image, name)
            if image.format not in ("JPEG", "MPO"):
                return np.asarray(_upright_rgb(image, reduction(image.size)))
            if has_more_scans(content, MAX_SCANS):
                raise ImageError(_message(name, f"more than {MAX_SCANS} scans; save it again as a baseline JPEG"))
            if coefficient_bytes(image) > _COEFFICIENT_BYTES:
                raise MemoryError
            return _decode_jpeg(content, image)


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    """Turn every error of a decoder into an ImageError that names the image."""
    try:
        yield
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(_message(name, f"not an image in a known format ({', '.join(FORMATS)})")) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLarge(_message(name, f"above the limit of {MAX_PIXELS:,} pixels; scale it down")) from error
    except MemoryError as error:
        limit = f"needs more than {MAX_MEMORY // 2**20} MiB to decode; scale it down"
        raise ImageTooLarge(_message(name, limit)) from error
    except Exception as error:
        raise ImageError(_message(name, printable(str(error) or type(error).__name__))) from error


def _refuse_large(image: Image.Image, name: str) -> None:
    size = f"{image.width} x {image.height}"
    if image.width * image.height > MAX_PIXELS:
        raise ImageTooLarge(_message(name, f"{size} is above the limit of {MAX_PIXELS:,} pixels; scale it down"))
    if image.width * image.height == 0:
        raise ImageError(_message(name, f"{size} has no pixels"))


def _message(name: str, reason: str) -> str:
    return f"cannot read {printable(name)}: {reason}"


def _decode_jpeg(content: bytes, image: Any) -> NDArray[np.uint8]:
    """Simplejpeg decodes most JPEGs, Pillow those that are huge, CMYK or damaged."""
    across, down = reduction(image.size)
    if (across, down) != (1, 1):
        scale = min(across, down)  # libjpeg itself decodes to 1/1, 1/2 or 1/4
        image.draft(None, (image.width // scale, image.height // scale))
        return np.asarray(_upright_rgb(image, (-(-across // scale), -(-down // scale))))
    if image.mode in ("RGB", "L"):
        with suppress(ValueError):
            pixels = simplejpeg.decode_jpeg(content, "RGB", strict=True)
            orientation = _orientation(image)
            return np.asarray(_upright(Image.fromarray(pixels), orientation)) if orientation in _TURNS else pixels
    return np.asarray(_upright_rgb(image, (1, 1)))


def _from_array(pixels: NDArray[np.uint8]) -> Image.Image:
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (1, 3, 4)):
        hint = "; give the content of an image file as bytes" if pixels.ndim == 1 else ""
        raise ImageError(
            f"an image array is uint8 of shape (h, w), (h, w, 3) or (h, w, 4), not {pixels.dtype} {pixels.shape}{hint}"
        )
    if np.ma.is_masked(pixels):
        raise ImageError("an image array has masked pixels; fill them: array.filled(0)")
    if 0 in pixels.shape:
        raise ImageError(f"an image array of shape {pixels.shape} has no pixels")
    return Image.fromarray(pixels.squeeze(2) if pixels.shape[2:] == (1,) else pixels)


def _upright_rgb(image: Image.Image, factors: tuple[int, int]) -> Image.Image:
    """Decode, then convert and reduce, then turn, so that a huge image is in memory once."""
    pixel_format = _PixelFormat.of(image)
    image.load()
    orientation = _orientation(image)  # after loading: Pillow turns a TIFF itself and drops the tag
    return _upright(reduced(image, factors, lambda part: _to_rgb(part, pixel_format)), orientation)


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation; 1, upright, if it is missing or damaged."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # a damaged tag does not make the pixels unusable
        return 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


# ---- pixels of any mode → 8-bit RGB

_PHOTOMETRIC = 0x0106
_GRAY_STEPS = {"L;2": 85, "L;4": 17}  # Pillow spreads these values over 0 to 255, but not the transparent one


@dataclass(frozen=True)
class _PixelFormat:
    """What a file's header says about its values and Pillow's pixels do not.

    Parameters
    ----------
    raw_mode : Pillow's name for their layout; empty if it is unknown
    deep : whether they are gray of more than 8 bits
    white_is_zero : whether a TIFF's gray runs from white to black
    """

    raw_mode: str
    deep: bool
    white_is_zero: bool

    @classmethod
    def of(cls, image: Any) -> _PixelFormat:
        """Read it before the image is loaded: loading drops it."""
        layout = image.tile[0][3] if getattr(image, "tile", None) else ""
        raw_mode = str(layout[0] if isinstance(layout, tuple) else layout)
        deep = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")
        return cls(raw_mode, deep, getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0)


def _to_rgb(image: Image.Image, pixel_format: _PixelFormat) -> Image.Image:
    """A loaded image, or a part of it, as RGB; raises ValueError if its values have no defined colour."""
    if pixel_format.deep:
        return _deep_gray(image, pixel_format).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError("32-bit values have no defined brightness; convert it to 8 or 16 bits")
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    if step := _GRAY_STEPS.get(pixel_format.raw_mode):
        transparent = step * image.info["transparency"]
        return image.point([255 if value == transparent else value for value in range(256)]).convert("RGB")
    if pixel_format.raw_mode.startswith("RGB;16"):
        raise ValueError("one of its 16-bit colours is transparent, which is not supported; convert it to 8 bits")
    rgba = image if image.mode == "RGBA" else image.convert("RGBA")
    on_white = Image.new("RGB", rgba.size, "white")
    on_white.paste(rgba, mask=rgba.getchannel("A"))
    return on_white


def _deep_gray(image: Image.Image, pixel_format: _PixelFormat) -> Image.Image:
    values = np.asarray(image)
    shown = (values >> (4 if pixel_format.raw_mode == "I;12" else 8)).astype(np.uint8)
    if pixel_format.white_is_zero:
        shown = 255 - shown
    if "transparency" in image.info:
        shown[values == image.info["transparency"]] = 255
    return Image.fromarray(shown)
