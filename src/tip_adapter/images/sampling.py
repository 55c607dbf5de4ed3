"""Seeded draws of photos."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self, TypeVar

import numpy as np

from tip_adapter.errors import FolderError
from tip_adapter.images.find import ImageList, find_labelled, is_split
from tip_adapter.text import printable

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import NDArray


class Drawable(Protocol):
    """Labelled photos, some of which can be taken."""

    @property
    def labels(self) -> tuple[str, ...]:
        """One a photo."""
        ...

    def counts(self) -> dict[str, int]:
        """Label → number of photos."""
        ...

    def take(self, positions: NDArray[np.intp], /) -> Self:
        """These photos only."""
        ...

    def noted(self, *notes: str) -> Self:
        """The same photos, with more to know about them."""
        ...


Photos = TypeVar("Photos", bound=Drawable)


def draw(photos: Photos, shots: int, seed: int) -> Photos:
    """`shots` photos of each class, seeded and nested; a class with fewer gives all, and a note says so."""
    few = [printable(label) for label, n in photos.counts().items() if 0 < n < shots]
    taken = photos.take(draw_shots(photos.labels, shots, seed))
    if not few:
        return taken
    which = f"{', '.join(few[:5])}{', …' if len(few) > 5 else ''}"
    who = "1 class has" if len(few) == 1 else f"{len(few)} classes have"
    note = f"{who} fewer than {shots} photos; all of theirs are used: {which}"
    return taken.noted(note)


def draw_train_and_test(
    source: str | os.PathLike[str], shots: int, n_test: int, seed: int
) -> tuple[ImageList, ImageList]:
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
            f"class {printable(bare[0])} has no photo left for the test after {shots} shots; add photos or lower --shots"
        )
    return train, test


def draw_shots(labels: Sequence[Any] | NDArray[Any], shots: int, seed: int) -> NDArray[np.intp]:
    """Draw `shots` photos of each class, without replacement; a class with fewer gives all.

    Draws are nested: the 1-shot draw lies inside the 2-shot draw.

    Parameters
    ----------
    labels : (n,) labels, in an order that is itself reproducible
    shots : int, > 0
    seed : int

    Returns
    -------
    (m,) int array, sorted positions in `labels`
    """
    _, classes = np.unique(np.asarray(labels), return_inverse=True)
    rng = np.random.default_rng(seed)
    own = np.split(np.argsort(classes, kind="stable"), np.cumsum(np.bincount(classes))[:-1])
    drawn = [rng.permutation(rows)[:shots] for rows in own]
    return np.sort(np.concatenate([np.zeros(0, np.intp), *drawn]))
