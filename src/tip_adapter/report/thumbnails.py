"""Small pictures of photos, as data URIs: a page that shows them needs no other file."""

from __future__ import annotations

import base64
import os
from contextlib import AbstractContextManager
from itertools import takewhile
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from PIL import Image

from tip_adapter.errors import FolderError, ImageError
from tip_adapter.features.sources import is_stored, labelled_source
from tip_adapter.images.decoding_pool import DecodingPool
from tip_adapter.images.find import images_below
from tip_adapter.images.labels import path_as_text
from tip_adapter.images.thumbnails import small_jpeg
from tip_adapter.io.files import is_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: Longer side in pixels, about twice what the page shows.
LARGE, SMALL, TINY = 360, 192, 120


class Thumbnails(AbstractContextManager["Thumbnails"]):
    """Photos by their ids, made small when asked for; files are decoded in separate processes.

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

    def __contains__(self, photo: str) -> bool:
        return photo in self._paths

    def uri(self, photo: str, side: int) -> str | None:
        """A JPEG of at most `side` pixels as a data URI; None where there is no such photo, or it cannot be read."""
        if photo not in self._paths:
            return None
        try:
            pixels, _ = self._processes.decode(self._paths[photo])
        except ImageError:
            return None
        jpeg = small_jpeg(Image.fromarray(pixels), side)
        return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def training_photos(places: Iterable[Path], ids: Iterable[str]) -> dict[str, Path]:
    """The photos of a model that lie in these folders or lists: id → path; of two places the first is used.

    The id of a photo is its path in the folder that `fit` was given, or its path as `add` was given it. Of the latter only the
    name of the folder and the path within it need to agree: the folder may have moved, and paths may be relative to another
    working directory.

    Raises FolderError if a place does not exist or contains no photos; LabelError and FeaturesError as `labelled_source`.
    """
    typed: dict[str, list[tuple[str, tuple[str, ...]]]] = {}  # name of the file → ids and their parts
    for photo in ids:
        *above, file = PurePath(os.path.normpath(photo)).parts or (photo,)
        typed.setdefault(file, []).append((photo, (*(part for part in above if part != os.pardir), file)))
    known = {photo for same in typed.values() for photo, _ in same}
    found: dict[str, Path] = {}
    for place in places:
        named = {photo: path for photo, path in _of_class_folders(place).items() if photo in known}
        for path in images_below(place)[0] if is_folder(place) and not is_stored(place) else ():
            # Links are not resolved: a path was typed with their names.
            whole = PurePath(path_as_text(os.path.abspath(path))).parts  # noqa: PTH100
            n_within = len(path.relative_to(place).parts)
            for photo, parts in typed.get(whole[-1], ()):
                same = takewhile(lambda pair: pair[0] == pair[1], zip(reversed(whole), reversed(parts), strict=False))
                if len([*same]) >= max(n_within, min(len(parts), n_within + 1)):
                    named.setdefault(photo, path)
        found = named | found
    return found


def _of_class_folders(place: Path) -> dict[str, Path]:
    """Photos by the ids that `fit` gives them; none for a folder without class folders, as `add` takes it."""
    try:
        return paths_by_id(place, part="train")
    except FolderError:
        if is_folder(place):
            return {}
        raise


def paths_by_id(source: str | os.PathLike[str], *, part: str) -> dict[str, Path]:
    """The photos of a folder or list by the ids that they have in a model; none where vectors are stored.

    Raises FolderError, LabelError and FeaturesError as `labelled_source`.
    """
    if is_stored(source):  # where its photos lay is its maker's claim, and the user has not named that folder
        return {}
    photos = labelled_source(source, part=part)
    return dict(zip(photos.ids, photos.photos, strict=True))
