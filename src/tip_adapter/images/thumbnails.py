"""Small pictures of decoded photos."""

from __future__ import annotations

import io

from PIL import Image

_QUALITY = 70


def small_jpeg(image: Image.Image, side: int) -> bytes:
    """A JPEG of an RGB image whose longer side is at most `side` pixels; without the photo's metadata."""
    small, content = image.copy(), io.BytesIO()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    small.save(content, "JPEG", quality=_QUALITY, optimize=True)
    return content.getvalue()
