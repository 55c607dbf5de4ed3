"""Caches smaller than the support set: class prototypes as keys; and views that change from epoch to epoch.

A prototype is the mean of a group of images. As a key whose views are its images, it lets Tip-Adapter-F train on all
images with any number of keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tip_adapter.methods.labels import checked_labels
from tip_adapter.vectors import unit_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from tip_adapter.vectors import Array


@dataclass(frozen=True, eq=False)
class Prototypes:
    """Means of groups of images, and the images.

    Parameters
    ----------
    vectors : (n_keys, d) float array, unit rows: the keys
    labels : (n_keys,) their labels
    images : (n_passes, n, d) float array, unit rows: the images in each pass over the groups
    rows : (n_views, n_keys) int array: the rows of `images` in each key's group; a smaller group is repeated

    Notes
    -----
    With equal groups, `n_views` epochs see every image once, so the paper's 20 epochs over all shots are 20 · n_views here.
    """

    vectors: NDArray[Any]
    labels: NDArray[Any]
    images: NDArray[Any]
    rows: NDArray[np.intp]

    def views(self, epoch: int) -> NDArray[Any]:
        """(n_keys, d) float array: the next image of each key's group, for `TipAdapterFClassifier.fit`."""
        round_, position = divmod(epoch, len(self.rows))
        return self.images[round_ % len(self.images)][self.rows[position]]


def draw_prototypes(X: NDArray[Any], y: Any, size: int, seed: int, views: NDArray[Any] | None = None) -> Prototypes:
    """Divide each class's images at random into groups of nearly equal size, and take their means.

    Parameters
    ----------
    X : (n, d) float NumPy array; rows are normalised here
    y : (n,) labels
    size : int, groups per class; a class with fewer images has a group for each
    seed : int
    views : (n_views, n, d) float array, augmented views of the images for the first pass, the second, …; None for X itself

    Returns
    -------
    Prototypes

    Raises
    ------
    ValueError
        There is no image, `size` is below 1, `y` has another length, or views have another shape.

    Examples
    --------
    >>> from tip_adapter import TipAdapterFClassifier
    >>> X, y = np.random.default_rng(0).standard_normal((12, 4)), ["cat", "dog"] * 6
    >>> cache = draw_prototypes(X, y, size=2, seed=0)
    >>> clf = TipAdapterFClassifier(epochs=20 * len(cache.rows)).fit(cache.vectors, cache.labels, views=cache.views)
    >>> cache.vectors.shape, cache.rows.shape
    ((4, 4), (3, 4))

    Notes
    -----
    Tip-Adapter (ECCV 2022), section 4.4: cache size, and caches smaller than the number of shots.
    """
    labels = checked_labels(y, len(X))
    if size < 1 or not len(labels):
        raise ValueError(f"size must be at least 1, found {size}, and there must be images, found {len(labels)}")
    passes = X[None] if views is None else views
    if passes.ndim != 3 or passes.shape[1:] != X.shape:
        raise ValueError(f"views are {passes.shape}, not (n_views, {', '.join(map(str, X.shape))})")
    images, rng = unit_rows(X), np.random.default_rng(seed)
    own = [rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    groups = [group for rows in own for group in np.array_split(rows, min(size, len(rows)))]
    longest = max(map(len, groups))
    return Prototypes(
        vectors=unit_rows(np.stack([images[group].mean(axis=0) for group in groups])),
        labels=labels[[group[0] for group in groups]],
        images=np.stack([unit_rows(view) for view in passes]),
        rows=np.stack([np.resize(group, longest) for group in groups], axis=1),
    )


def cycled(views: Sequence[Array] | Array) -> Callable[[int], Array]:
    """Cached views as `fit` takes them: epoch e uses view e mod V of (V, n, d)."""
    return lambda epoch: views[epoch % len(views)]
