"""Small pictures of photos, as data URIs: a page that shows them needs no other file."""

from __future__ import annotations

import base64
import io
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from PIL import Image

from tip_adapter.errors import ImageError
from tip_adapter.features.sources import is_stored, labelled_source
from tip_adapter.images.decoding_pool import DecodingPool

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from pathlib import Path

#: Longer side in pixels, about twice what the page shows.
LARGE, SMALL, TINY = 360, 192, 120
_QUALITY = 70


class Thumbnails(AbstractContextManager["Thumbnails"]):
    """Photos by their ids, made small when asked for; files are decoded in processes of their own.

    Parameters
    ----------
    paths : id → path. A photo that is not among them is not looked for: a model names photos, and must not make a page
        show whatever files lie where its names lead
    """

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self._paths = paths
        self._processes = DecodingPool()

    def __exit__(self, *_: object) -> None:
        self._processes.close()

    def uri(self, photo: str, side: int) -> str | None:
        """A JPEG of at most `side` pixels as a data URI; None where there is no such photo, or it cannot be read."""
        if photo not in self._paths:
            return None
        try:
            pixels, _ = self._processes.decode(self._paths[photo])
        except ImageError:
            return None
        image, content = Image.fromarray(pixels), io.BytesIO()
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
        image.save(content, "JPEG", quality=_QUALITY, optimize=True)
        return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"


def paths_by_id(source: str | os.PathLike[str], *, part: str) -> dict[str, Path]:
    """The photos of a folder or list by the ids that they have in a model; none where vectors are stored.

    Raises FolderError, LabelError and FeaturesError as `labelled_source`.
    """
    if is_stored(source):  # where its photos lay is its maker's claim, and the user has not named that folder
        return {}
    photos = labelled_source(source, part=part)
    return dict(zip(photos.ids, photos.photos, strict=True))
