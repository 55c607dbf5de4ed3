"""Caches of another size than the shots, and photos that look different from epoch to epoch.

A prototype is the mean of a group of photos. It is a key whose views are its photos: so Tip-Adapter-F trains on all of
them, with as few keys as wanted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tip_adapter.methods.base import checked_labels
from tip_adapter.vectors import unit_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from tip_adapter.vectors import Array


@dataclass(frozen=True, eq=False)
class Prototypes:
    """Means of groups of photos, and the photos.

    Parameters
    ----------
    vectors : (n_keys, d) float array, unit rows: the keys
    labels : (n_keys,) their labels
    photos : (n_looks, n, d) float array, unit rows: as they look one time round after the other
    rows : (n_views, n_keys) int array: the rows of `photos` in each key's group; a smaller group begins anew

    Notes
    -----
    With equal groups, `n_views` epochs see every photo once: the paper's 20 epochs over all shots are 20 · n_views here.
    """

    vectors: NDArray[Any]
    labels: NDArray[Any]
    photos: NDArray[Any]
    rows: NDArray[np.intp]

    def views(self, epoch: int) -> NDArray[Any]:
        """(n_keys, d) float array: of each key's photos the next one, for `TipAdapterFClassifier.fit`."""
        times_round, place = divmod(epoch, len(self.rows))
        return self.photos[times_round % len(self.photos)][self.rows[place]]


def draw_prototypes(X: NDArray[Any], y: Any, size: int, seed: int, views: NDArray[Any] | None = None) -> Prototypes:
    """Divide each class's photos at random into groups that are as equal as can be, and take their means.

    Parameters
    ----------
    X : (n, d) float NumPy array; rows are normalised here
    y : (n,) labels
    size : int, groups a class; a class with fewer photos gives one a photo
    seed : int
    views : (n_views, n, d) float array, the photos augmented anew: the first time round, the second, …; None for X itself

    Returns
    -------
    Prototypes

    Raises
    ------
    ValueError
        There is no photo, `size` is below 1, `y` is no (n,) labels, or views are of another shape.

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
    Tip-Adapter (ECCV 2022), section 4.4: cache size, and more shots than the cache is large.
    """
    labels = checked_labels(y, len(X))
    if size < 1 or not len(labels):
        raise ValueError(f"size {size} must be at least 1, and of {len(labels)} photos there must be one")
    looks = X[None] if views is None else views
    if looks.ndim != 3 or looks.shape[1:] != X.shape:
        raise ValueError(f"views are {looks.shape}, not (n_views, {', '.join(map(str, X.shape))})")
    photos, groups = unit_rows(X), _groups(labels, size, seed)
    longest = max(map(len, groups))
    return Prototypes(
        vectors=unit_rows(np.stack([photos[group].mean(axis=0) for group in groups])),
        labels=labels[[group[0] for group in groups]],
        photos=np.stack([unit_rows(look) for look in looks]),
        rows=np.stack([np.resize(group, longest) for group in groups], axis=1),
    )


def _groups(labels: NDArray[Any], size: int, seed: int) -> list[NDArray[np.intp]]:
    """Rows of each group, class by class."""
    rng = np.random.default_rng(seed)
    own = [rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    return [group for rows in own for group in np.array_split(rows, min(size, len(rows)))]


def cycled(views: Sequence[Array] | Array) -> Callable[[int], Array]:
    """Cached views as `fit` takes them: epoch e uses view e mod V of (V, n, d)."""
    return lambda epoch: views[epoch % len(views)]
