"""Seeded draws of photos, and the lists they are kept in."""

from __future__ import annotations

import csv
import io
import os
from dataclasses import replace
from pathlib import Path

from tip_adapter.errors import FolderError
from tip_adapter.files import write_file
from tip_adapter.photos.find import PhotoList, find_labelled, is_split
from tip_adapter.vectors import draw_shots


def draw(photos: PhotoList, shots: int, seed: int) -> PhotoList:
    """`shots` photos of each class, seeded and nested; a class with fewer gives all, and a note says so."""
    few = [label for label, n in photos.counts().items() if 0 < n < shots]
    taken = photos.take(draw_shots(photos.labels, shots, seed))
    if not few:
        return taken
    more = ", …" if len(few) > 5 else ""
    note = f"{len(few)} classes have fewer than {shots} photos; all of theirs are used: {', '.join(few[:5])}{more}"
    return replace(taken, notes=(*taken.notes, note))


def draw_train_and_test(
    source: str | os.PathLike[str], shots: int, n_test: int, seed: int
) -> tuple[PhotoList, PhotoList]:
    """`shots` photos of each class to learn from, and up to `n_test` of the rest to be tested on.

    A split folder gives them from its train and its test part.

    Raises
    ------
    FolderError
        A class has no photo left for the test; the message names it. Or as `find_labelled`.
    """
    photos = find_labelled(source, part="train")
    train = draw(photos, shots, seed)
    if is_split(source):
        rest = find_labelled(source, part="test")
    else:
        drawn = set(train.paths)
        rest = photos.take([row for row, path in enumerate(photos.paths) if path not in drawn])
    test = rest.take(draw_shots(rest.labels, n_test, seed))
    counts = test.counts()
    bare = [label for label in train.classes if not counts.get(label)]
    if bare:
        raise FolderError(
            f"class {bare[0]} has no photo left for the test after {shots} shots; add photos or lower --shots"
        )
    return train, test


def write_list(path: str | os.PathLike[str], photos: PhotoList) -> None:
    """Write a list that `find_labelled` reads: file_name relative to the list, label.

    Raises
    ------
    NotWritable
        With the system's reason.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["file_name", "label"])
    for photo, label in zip(photos.paths, photos.labels, strict=True):
        writer.writerow([os.path.relpath(photo, Path(path).parent), label])
    write_file(path, text.getvalue().encode("utf-8", "surrogateescape"))
