"""What is trained on photos that may look different from epoch to epoch: `fit` takes views, once for all such methods."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Self

from tip_adapter.methods.base import VectorClassifier
from tip_adapter.methods.ops import like
from tip_adapter.vectors import require_finite, unit_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from tip_adapter.vectors import Array


class TrainedClassifier(VectorClassifier):
    """A classifier that learns for some epochs, by `_train.train`."""

    def fit(
        self,
        X: Array,
        y: Any,
        ids: Sequence[str | None] | None = None,
        views: Callable[[int], Array] | None = None,
    ) -> Self:
        """Learn for some epochs.

        Parameters
        ----------
        X : (n, d) float array, NumPy or torch: one vector a photo; normalised here
        y : (n,) labels
        ids : (n,) str, what each vector is called; a row without one (None) gets a running number
        views : epoch → (n, d) float array: the same photos in the same order, augmented anew; None uses X each epoch

        Returns
        -------
        self

        Raises
        ------
        ValueError
            As TipAdapterClassifier.fit; a setting is none of its method's; views of another shape, or with NaN or infinity.
        """
        self._fit(*self._support(X, y, ids), views)
        return self

    @abstractmethod
    def _fit(self, keys: Array, labels: NDArray[Any], views: Callable[[int], Array] | None = None) -> None:
        """Learn from (n, d) unit rows and (n,) positions in `classes_`, as they look in each epoch."""


def unit_views(views: Callable[[int], Array] | None, keys: Array) -> Callable[[int], Array]:
    """`views`, checked and normalised epoch by epoch; None stands for the keys, every epoch.

    Raises
    ------
    ValueError
        When called: an epoch's views are not of the keys' shape, or hold NaN or infinity.
    """
    if views is None:
        return lambda _: keys

    def checked(epoch: int) -> Array:
        photos = like(views(epoch), keys)
        if photos.shape != keys.shape:
            raise ValueError(f"views({epoch}) are {tuple(photos.shape)}, the photos {tuple(keys.shape)}")
        require_finite(photos, f"views({epoch})")
        return unit_rows(photos)

    return checked
