"""The photos that `tip-adapter predict` is to name: each argument, and each line on stdin, as a source of vectors."""

from __future__ import annotations

import os
import sys
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from tip_adapter.errors import UsageError, warn
from tip_adapter.features.sources import image_source, is_stored, listed_source
from tip_adapter.images.find import find_images
from tip_adapter.images.sorting import outside
from tip_adapter.io.files import is_folder
from tip_adapter.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tip_adapter.features.sources import VectorSource


def to_be_named(images: Sequence[str], sort_into: Path | None) -> list[VectorSource]:
    """The photos of all arguments, but those that are sorted already."""
    found = list(_sources(_inputs(images)))
    if sort_into is None:
        return found
    left = [source.take(outside(source.photos, sort_into)) for source in found]
    n_found, n_left = sum(map(len, found)), sum(map(len, left))
    if n_found and not n_left:
        raise UsageError(f"every photo lies in {printable(sort_into)} already; choose another folder to sort into")
    if n_left < n_found:
        warn(f"{n_found - n_left} of {n_found} photos lie in {printable(sort_into)} already and stay there")
    return left


def _inputs(images: Sequence[str]) -> list[str]:
    """The arguments, "-" replaced by the paths on stdin, one a line."""
    return [path for image in images for path in (_stdin_paths() if image == "-" else [image])]


def _sources(inputs: Sequence[str]) -> Iterator[VectorSource]:
    """Each folder and each file of vectors for itself; photos that follow one another in one stream."""
    for is_whole, group in groupby(inputs, key=lambda image: is_folder(Path(image)) or is_stored(image)):
        if is_whole:
            yield from map(image_source, group)
        else:
            yield listed_source([photo for image in group for photo in find_images(image)])


def _stdin_paths() -> list[str]:
    """Paths may hold any byte but these: not the line ends that text knows in addition."""
    lines = (line.removesuffix(b"\r") for line in sys.stdin.buffer.read().split(b"\n"))
    return [os.fsdecode(line) for line in lines if line]
