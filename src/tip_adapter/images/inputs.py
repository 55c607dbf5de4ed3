"""Validate images, labels and ids passed from Python; distinguish a single image or label from a list."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Set
from enum import Enum
from numbers import Integral, Real
from typing import IO, TYPE_CHECKING, Any, TypeAlias

import numpy as np
from PIL import Image

from tip_adapter.errors import LabelError, UsageError
from tip_adapter.images.decode import MAX_BYTES
from tip_adapter.images.labels import label_of, numbered, path_as_text, refuse_lookalike_labels, refuse_missing_labels
from tip_adapter.text import printable, shown
from tip_adapter.validation import require

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tip_adapter.images.decode import ImageLike

_PATHS = (str, os.PathLike)
_CONTENTS = (bytes, bytearray, memoryview)
_IMAGES = (*_PATHS, *_CONTENTS, Image.Image, np.ndarray)
_UNNAMED = "image "

#: An image as programs pass it: a path, the content of an image file or an open one, a PIL image, or a uint8 array.
ImageInput: TypeAlias = "ImageLike | bytearray | memoryview | IO[bytes]"


def is_image(value: Any) -> bool:
    """Whether it is a single image, not a list of them.

    A (h, w) or (h, w, c) array is one image; one with four axes is several, and one or two axes of texts are a list or a table
    of paths.
    """
    if isinstance(value, np.ndarray):
        return value.ndim < 4 and not (value.ndim in (1, 2) and value.dtype.kind in "OUT")
    return isinstance(value, _IMAGES) or _is_file(value)


def listed_images(images: Any) -> list[ImageLike]:
    """Images as a list; open files are read from their beginning.

    Parameters
    ----------
    images : any iterable of ImageInput, or one (n, h, w, 3) uint8 array

    Raises
    ------
    UsageError
        It is a single image or a table, or an element is not an image, or a file that is not open for reading bytes.
    """
    if is_image(images):
        raise UsageError(f"images takes a list of images, not {shown(images)}; give a list of images: [image]")
    if getattr(images, "ndim", 1) == 2:
        raise UsageError(
            f"images takes a list of images, not a table of shape {images.shape}; give its column of paths"
        )
    listed = _listed(images, "images", "a list of images")
    return [_image(image, f"images[{position}]") for position, image in enumerate(listed)]


def _image(image: Any, name: str) -> ImageLike:
    content = _read(image, name) if _is_file(image) else image
    require(isinstance(content, _IMAGES), name, "a path, bytes, a file, a PIL image or a uint8 array", image)
    return bytes(content) if isinstance(content, _CONTENTS) else content


def _is_file(value: Any) -> bool:
    return hasattr(value, "read") and hasattr(value, "seekable")


def _read(file: Any, name: str) -> bytes:
    """The content of an open file, up to what shows that it is too large."""
    try:
        if file.seekable():
            file.seek(0)  # one that was just written is at its end
        content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{name} cannot be read: {printable(str(error))}; give a file that is open for reading"
        ) from error
    require(isinstance(content, bytes), name, "a file opened in binary mode ('rb')", file)
    return content


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
        They are a table, one is not text, or as `label_of` and `refuse_lookalike_labels`.
    """
    if getattr(labels, "ndim", 1) == 2:
        raise LabelError(
            f"{name} takes a list of texts, not a table of shape {labels.shape}; give its column of labels"
        )
    texts = _listed(labels, name, "a list of texts")
    for label in texts:
        if isinstance(label, (Real, np.bool_)) and label == label:
            tools = "; scikit-learn's tools that number the labels, such as VotingClassifier, do not take photos"
            raise LabelError(
                f"label {shown(label)} is not text; labels are class names, such as 'cat': pass str(label)"
                f"{tools if isinstance(label, Integral) else ''}"
            )
        if not isinstance(label, str) or not label.strip():
            raise LabelError(
                f"label {shown(label)} is missing or is not text; leave the image out, or {_as_text(label)}; labels are class "
                "names, such as 'cat'"
            )
    refuse_lookalike_labels(texts)
    return [label_of(label, name) for label in texts]


def _as_text(label: Any) -> str:
    """How a program makes a label of a value that is no text."""
    if isinstance(label, bytes):
        return "pass label.decode()"
    if isinstance(label, Enum):
        return "pass label.name"
    if isinstance(label, (list, tuple, Set)):
        return "give one label for each image"
    return "pass str(label.item())" if hasattr(label, "item") else "give it the name of its class"


def listed_pairs(images: Any, labels: Any) -> tuple[list[ImageLike], list[str]]:
    """Images and their labels, as `listed_images` and `listed_labels`.

    Raises
    ------
    UsageError, LabelError
        As these; LabelError also if their numbers differ, or a label is what programs write for a missing one.
    """
    listed, texts = listed_images(images), listed_labels(labels)
    if len(listed) != len(texts):
        raise LabelError(f"{len(listed):,} images but {len(texts):,} labels; give one label per image")
    refuse_missing_labels(texts)
    return listed, texts


def listed_ids(ids: Any) -> list[str]:
    """Ids of images as a list: any iterable of text, or a single one; raises UsageError for anything else."""
    texts = [ids] if isinstance(ids, str) else ids
    require(isinstance(texts, Iterable) and not isinstance(texts, (bytes, Mapping)), "ids", "a list of texts", ids)
    texts = list(texts)
    for text in texts:
        require(isinstance(text, str), "ids", "a list of texts", text)
    return texts


def image_ids(images: Sequence[ImageInput], taken: Iterable[str] = ()) -> list[str]:
    """A unique id for each image: its path, or a number after those `taken`; a repeated path gets a number."""
    numbers = [int(name.removeprefix(_UNNAMED)) for name in taken if re.fullmatch(f"{_UNNAMED}\\d{{1,9}}", name)]
    first = max(numbers, default=-1) + 1
    return numbered(image_name(image, first + position) for position, image in enumerate(images))


def image_name(image: ImageInput, position: int) -> str:
    """The path of an image, or its position if it has none."""
    return path_as_text(image) if isinstance(image, _PATHS) else f"{_UNNAMED}{position}"


def _listed(values: Any, name: str, wanted: str) -> list[Any]:
    """An iterable as a list; not a text, a mapping or a set."""
    require(isinstance(values, Iterable) and not isinstance(values, (str, bytes, Mapping, Set)), name, wanted, values)
    return values.to_pylist() if hasattr(values, "to_pylist") else list(values)  # pyarrow's scalars are no texts
