"""Validate images, labels and ids passed from Python; reject a single image or label where a list is expected."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Set
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from tip_adapter.errors import LabelError, UsageError
from tip_adapter.images.labels import label_of, numbered, path_as_text, refuse_lookalike_labels
from tip_adapter.text import shown
from tip_adapter.validation import require

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tip_adapter.images.decode import ImageLike

_PATHS = (str, os.PathLike)
_IMAGES = (*_PATHS, Image.Image, np.ndarray)
_UNNAMED = "image "


def listed_images(images: Any) -> list[ImageLike]:
    """Images as a list.

    Parameters
    ----------
    images : any iterable of paths, PIL images or uint8 arrays, or one (n, h, w, 3) uint8 array

    Raises
    ------
    UsageError
        It is a single image, or an element is not an image.
    """
    # (h, w) and (h, w, c) arrays are one image, unless they are a row of paths
    one_array = (
        isinstance(images, np.ndarray) and images.ndim < 4 and not (images.ndim == 1 and images.dtype.kind in "OUT")
    )
    if one_array or isinstance(images, (bytes, *_PATHS, Image.Image)):
        raise UsageError(f"images takes a list of images, not {shown(images)}; give a list of images: [image]")
    listed = _listed(images, "images", "a list of images")
    for position, image in enumerate(listed):
        require(isinstance(image, _IMAGES), f"images[{position}]", "a path, a PIL image or a uint8 array", image)
    return listed


def listed_labels(labels: Any, name: str = "labels") -> list[str]:
    """Labels as a list, each in Unicode NFC.

    Parameters
    ----------
    labels : any iterable of text
    name : the argument, for messages

    Raises
    ------
    UsageError
        It is a single text, or not a list.
    LabelError
        One is not text, or as `label_of` and `refuse_lookalike_labels`.
    """
    texts = _listed(labels, name, "a list of texts")
    for label in texts:
        if not isinstance(label, str) or not label.strip():
            raise LabelError(
                f"label {shown(label)} is not text; labels are class names, such as 'cat': pass str(label)"
            )
    refuse_lookalike_labels(texts)
    return [label_of(label, name) for label in texts]


def listed_pairs(images: Any, labels: Any) -> tuple[list[ImageLike], list[str]]:
    """Images and their labels, as `listed_images` and `listed_labels`.

    Raises
    ------
    UsageError, LabelError
        As these; LabelError also if their numbers differ.
    """
    listed, texts = listed_images(images), listed_labels(labels)
    if len(listed) != len(texts):
        raise LabelError(f"{len(listed)} images but {len(texts)} labels; give one label per image")
    return listed, texts


def listed_ids(ids: Any) -> list[str]:
    """Ids of images as a list: any iterable of text, or a single one; raises UsageError for anything else."""
    texts = [ids] if isinstance(ids, str) else ids
    require(isinstance(texts, Iterable) and not isinstance(texts, (bytes, Mapping)), "ids", "a list of texts", ids)
    texts = list(texts)
    for text in texts:
        require(isinstance(text, str), "ids", "a list of texts", text)
    return texts


def image_ids(images: Sequence[ImageLike], taken: Iterable[str] = ()) -> list[str]:
    """A unique id for each image: its path, or a number after those `taken`; a repeated path gets a number."""
    numbers = [int(name.removeprefix(_UNNAMED)) for name in taken if re.fullmatch(f"{_UNNAMED}\\d{{1,9}}", name)]
    first = max(numbers, default=-1) + 1
    return numbered(image_name(image, first + position) for position, image in enumerate(images))


def image_name(image: ImageLike, position: int) -> str:
    """The path of an image, or its position if it has none."""
    return path_as_text(image) if isinstance(image, _PATHS) else f"{_UNNAMED}{position}"


def _listed(values: Any, name: str, wanted: str) -> list[Any]:
    """An iterable as a list; not a text, a mapping or a set."""
    require(isinstance(values, Iterable) and not isinstance(values, (str, bytes, Mapping, Set)), name, wanted, values)
    return list(values)
