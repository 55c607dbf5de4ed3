"""The one gate for photos and labels that a program hands over: lists of them, never one that looks like a list."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Set
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from tip_adapter.errors import LabelError, UsageError
from tip_adapter.images.labels import label_of, numbered, path_as_text, refuse_twins
from tip_adapter.text import shown
from tip_adapter.validation import require

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tip_adapter.images.decode import ImageLike

_PATHS = (str, os.PathLike)
_PHOTOS = (*_PATHS, Image.Image, np.ndarray)
_UNNAMED = "image "


def listed_images(images: Any) -> list[ImageLike]:
    """Photos as a list.

    Parameters
    ----------
    images : any iterable of paths, PIL images or uint8 arrays, or one (n, h, w, 3) uint8 array

    Raises
    ------
    UsageError
        It is one photo, not a list of them, or one of them is no photo.
    """
    if isinstance(images, (bytes, *_PATHS, Image.Image)) or _is_one_array(images):
        raise UsageError(f"images takes a list of photos, not {shown(images)}; give a list of photos: [photo]")
    photos = _listed(images, "images", "a list of photos")
    for position, photo in enumerate(photos):
        wanted = "a path, a PIL image or a uint8 array"
        require(isinstance(photo, _PHOTOS), f"images[{position}]", wanted, photo)
    return photos


def listed_labels(labels: Any, name: str = "labels") -> list[str]:
    """Labels as a list, each in Unicode NFC.

    Parameters
    ----------
    labels : any iterable of text
    name : what messages call it

    Raises
    ------
    UsageError
        It is one text, or no list.
    LabelError
        One is not text, or as `label_of` and `refuse_twins`.
    """
    texts = _listed(labels, name, "a list of texts")
    for label in texts:
        if not isinstance(label, str) or not label.strip():
            raise LabelError(f"label {shown(label)} is not text; labels are class names, such as 'cat'")
    refuse_twins(texts)
    return [label_of(label, name) for label in texts]


def listed_pairs(images: Any, labels: Any) -> tuple[list[ImageLike], list[str]]:
    """As many photos as labels, as `listed_images` and `listed_labels`.

    Raises
    ------
    UsageError, LabelError
        As these; LabelError also where their numbers differ.
    """
    photos, texts = listed_images(images), listed_labels(labels)
    if len(photos) != len(texts):
        raise LabelError(f"{len(photos)} images but {len(texts)} labels; give one label an image")
    return photos, texts


def listed_ids(ids: Any) -> list[str]:
    """Ids of photos as a list: any iterable of text, or one alone.

    Raises
    ------
    UsageError
        It is neither.
    """
    texts = [ids] if isinstance(ids, str) else ids
    require(isinstance(texts, Iterable) and not isinstance(texts, (bytes, Mapping)), "ids", "a list of texts", ids)
    texts = list(texts)
    for text in texts:
        require(isinstance(text, str), "ids", "a list of texts", text)
    return texts


def image_ids(photos: Sequence[ImageLike], taken: Iterable[str] = ()) -> list[str]:
    """A name for each photo: a path as it is, another by a number after those taken; one that is there again is numbered."""
    numbers = [int(name.removeprefix(_UNNAMED)) for name in taken if re.fullmatch(f"{_UNNAMED}\\d{{1,9}}", name)]
    first = max(numbers, default=-1) + 1
    return numbered(image_name(photo, first + position) for position, photo in enumerate(photos))


def image_name(photo: ImageLike, position: int) -> str:
    """A path as it is, another photo by its position."""
    return path_as_text(photo) if isinstance(photo, _PATHS) else f"{_UNNAMED}{position}"


def _is_one_array(images: object) -> bool:
    """An array of pixels that is one photo; a row of paths is none."""
    return isinstance(images, np.ndarray) and images.ndim < 4 and not (images.ndim == 1 and images.dtype.kind in "OUT")


def _listed(values: Any, name: str, wanted: str) -> list[Any]:
    """Things in an order of their own: neither a text's characters, nor a mapping's keys."""
    require(isinstance(values, Iterable) and not isinstance(values, (str, bytes, Mapping, Set)), name, wanted, values)
    return list(values)
