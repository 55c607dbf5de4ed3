"""Which labelled images are left out together: folds of each class, with or without its near-repeats in one fold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

#: Folds where a fit takes time.
N_FOLDS = 5
#: Images of a class are near-repeats below this share of the median distance (1 − cosine) of images of different classes.
_NEAR_REPEAT = 0.12
#: Rows from which that median is taken.
_SAMPLE = 1000


def held_out_parts(labels: NDArray[Any], seed: int) -> Iterator[NDArray[np.intp]]:
    """Rows of at most five cross-validation folds of (n,) labels; the only image of a class is never held out.

    No folds if fewer than two classes have a second image: the likeliest probe would always predict that class.
    (scikit-learn's StratifiedKFold rejects classes with fewer images than folds.)
    """
    rng = np.random.default_rng(seed)
    part = np.full(len(labels), -1)
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        if len(own) > 1:
            part[rng.permutation(own)] = np.arange(len(own)) % N_FOLDS
    if len(np.unique(labels[part >= 0])) < 2:
        return
    for number in range(part.max(initial=-1) + 1):
        yield np.flatnonzero(part == number)


def folds_of_repeats(vectors: NDArray[Any], labels: NDArray[Any], n_folds: int) -> list[NDArray[np.intp]]:
    """Rows to leave out together: near-repeats are in one fold, and each class keeps an image.

    Parameters
    ----------
    vectors : (n, d) float array, unit rows
    labels : (n,) int array
    n_folds : int, at most

    Returns
    -------
    the rows of each fold, ascending; none if fewer than half the classes have a second image that is no near-repeat
    """
    groups, classes = near_repeats(vectors, labels), np.unique(labels)
    fold, first, n_classes = np.full(len(labels), -1), 0, 0
    rng = np.random.default_rng(0)
    for label in classes:
        own = np.flatnonzero(labels == label)
        _, numbers = np.unique(groups[own], return_inverse=True)
        n_groups = numbers.max(initial=-1) + 1
        if n_groups > 1:  # in consecutive folds, from where the class before ended
            fold[own] = (first + rng.permutation(n_groups)[numbers]) % n_folds
            first, n_classes = first + n_groups, n_classes + 1
    if n_classes < max(2, len(classes) / 2):
        return []
    return [rows for rows in (np.flatnonzero(fold == number) for number in range(n_folds)) if len(rows)]


def near_repeats(vectors: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.intp]:
    """A number for each image; images of a class that differ by little, as in a burst, have the same.

    Parameters
    ----------
    vectors : (n, d) float array, unit rows
    labels : (n,) int array

    Returns
    -------
    (n,) int array
    """
    rows = np.random.default_rng(0).permutation(len(labels))[:_SAMPLE]
    apart = labels[rows][:, None] != labels[rows]
    if not apart.any():
        return np.arange(len(labels))
    near = 1 - _NEAR_REPEAT * float(np.median((1 - vectors[rows] @ vectors[rows].T)[apart]))
    links = [np.zeros((2, 0), np.intp)]
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        links.append(own[np.array(np.nonzero(np.triu(vectors[own] @ vectors[own].T > near, k=1)))])
    first, second = np.concatenate(links, axis=1)
    graph = coo_array((np.ones(len(first), np.bool_), (first, second)), shape=(len(labels), len(labels)))
    groups: NDArray[np.intp] = connected_components(graph, directed=False)[1]
    return groups
