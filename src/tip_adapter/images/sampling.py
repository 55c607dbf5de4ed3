"""Draw images of each class, seeded: shots to learn from, and images to test on."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from tip_adapter.errors import FolderError
from tip_adapter.images.find import ImageList, Labelled, find_labelled, split_folders
from tip_adapter.text import counted, first_of, printable

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import NDArray


Images = TypeVar("Images", bound=Labelled)


def draw_shots(labels: Sequence[Any] | NDArray[Any], shots: int, seed: int) -> NDArray[np.intp]:
    """Draw `shots` images of each class without replacement; a class with fewer gives all.

    Draws are nested: the 2-shot draw contains the 1-shot draw.

    Parameters
    ----------
    labels : (n,) labels, in a reproducible order
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


def draw(images: Images, shots: int, seed: int) -> Images:
    """Labelled images → `shots` of each class, as `draw_shots`; a note lists the classes that have fewer."""
    few = [label for label, n in images.counts().items() if 0 < n < shots]
    taken = images.take(draw_shots(images.labels, shots, seed))
    if not few:
        return taken
    who = counted(len(few), "class has", "classes have")
    return taken.noted(f"{who} fewer than {shots} photos; all of theirs are used: {first_of(few)}")


def draw_train_and_test(
    source: str | os.PathLike[str], shots: int, n_test: int, seed: int
) -> tuple[ImageList, ImageList]:
    """Draw `shots` images of each class to learn from, and up to `n_test` of the others to test on.

    Those of a split folder are drawn from its train part and its test part.

    Raises
    ------
    FolderError
        A class has no image left for the test; the message names it. Or as `find_labelled`.
    """
    images = find_labelled(source, part="train")
    train = draw(images, shots, seed)
    if split_folders(source):
        rest = find_labelled(source, part="test")
    else:
        drawn = set(train.paths)
        rest = images.take([row for row, path in enumerate(images.paths) if path not in drawn])
    test = rest.take(draw_shots(rest.labels, n_test, seed))
    counts = test.counts()
    bare = [label for label in train.classes if not counts.get(label)]
    if bare:
        raise FolderError(
            f"class {printable(bare[0])} has no photo left for the test after {shots} shots; add photos or lower --shots"
        )
    return train, test
