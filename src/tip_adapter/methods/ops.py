"""Steps shared by the methods' equations, on the array API: NumPy in, NumPy out; torch in, torch out."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import array_api_compat
import numpy as np
from scipy.sparse import csr_array
from threadpoolctl import threadpool_limits

from tip_adapter.io.processors import available_processors
from tip_adapter.vectors import softmax, unit_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from tip_adapter.vectors import Array

#: How equation 4 sums over a class's keys: balanced between classes of different sizes, or the plain sum.
CLASS_SUMS = ("balanced", "raw")
#: Queries × keys of a tile: few enough that its affinities stay in a processor's cache until they are summed.
_TILE = 256, 2560
#: Below so many multiplications one product on all threads is as fast as threads with tiles of their own; vectors count as
#: if they had the least width at least, so that what is not tiled is small.
_WORTH_TILES, _LEAST_WIDTH = 2**28, 64


def text_logits(queries: Array, weights: Array, logit_scale: float) -> Array:
    """Zero-shot logits, logit_scale · f Wᵀ: (m, d) and (N, d) → (m, N)."""
    return float(logit_scale) * (queries @ weights.T)  # a NumPy number would change the dtype


def sum_by_class(affinities: Array, labels: NDArray[Any], n_classes: int) -> Array:
    """Sum the columns of each class: (m, n) and (n,) → (m, n_classes). A class without columns gets 0."""
    if array_api_compat.is_numpy_array(affinities):
        return (class_matrix(labels, n_classes, affinities.dtype) @ affinities.T).T  # Lᵀ Aᵀ with a sparse L
    order, bounds = _grouped(labels, n_classes)
    xp = array_api_compat.array_namespace(affinities)
    affinities = affinities[:, order]
    columns = [xp.sum(affinities[:, bounds[c] : bounds[c + 1]], axis=1) for c in range(n_classes)]
    return xp.stack(columns, axis=1)


def sum_affinities_by_class(
    affinities: Callable[..., Array], queries: Array, keys: Array, labels: NDArray[Any], n_classes: int
) -> Array:
    """`sum_by_class` of `affinities(queries, keys)`: (m, d), (n, d) and (n,) → (m, n_classes).

    `affinities` takes `out`, too, an (n, m) NumPy array to write the transpose to.

    Of many NumPy queries the (m, n) affinities never exist: each thread computes a tile, sums it by class and reuses its
    memory, so that little but the product takes time.
    """
    work = len(queries) * len(keys) * max(queries.shape[1], _LEAST_WIDTH)
    if not array_api_compat.is_numpy_array(queries) or work < _WORTH_TILES:
        return sum_by_class(affinities(queries, keys), labels, n_classes)
    n_rows, n_keys = _TILE
    sums = np.empty((len(queries), n_classes), np.result_type(queries, keys))
    parts = []
    for start in range(0, len(keys), n_keys):
        present, own = np.unique(labels[start : start + n_keys], return_inverse=True)
        parts.append((keys[start : start + n_keys], present, class_matrix(own, len(present), sums.dtype)))

    def sum_rows(first: int) -> None:
        rows = queries[first : first + n_rows]
        tile = np.empty((n_keys, len(rows)), sums.dtype)
        totals = np.zeros((n_classes, len(rows)), sums.dtype)
        for part, present, classes in parts:
            totals[present] += classes @ affinities(rows, part, out=tile[: len(part)]).T
        sums[first : first + n_rows] = totals.T

    in_threads(sum_rows, range(0, len(queries), n_rows))
    return sums


def in_threads(work: Callable[[Any], Any], parts: Sequence[Any]) -> list[Any]:
    """`work` of each part, in the order of the parts: a thread for each processor, with one BLAS thread each."""
    if len(parts) < 2:
        return [work(part) for part in parts]
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(available_processors(), "parts") as threads:
        return list(threads.map(work, parts))


def class_matrix(labels: NDArray[Any], n_classes: int, dtype: Any) -> Any:
    """Lᵀ, the transposed one-hot labels, as a sparse (n_classes, n) array."""
    order, bounds = _grouped(labels, n_classes)
    return csr_array((np.ones(len(labels), dtype), order, bounds), shape=(n_classes, len(labels)))


def _grouped(labels: NDArray[Any], n_classes: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Positions of (n,) labels class by class, and where each class begins among them: (n,), (n_classes + 1,)."""
    order = np.argsort(labels, kind="stable")
    return order, np.searchsorted(labels[order], np.arange(n_classes + 1))


def class_balance(labels: NDArray[Any], n_classes: int) -> NDArray[np.float64] | None:
    """What makes classes of different sizes weigh the same: mean size / size, (n_classes,); None if all are of one size.

    The size is the number of (n,) labels; classes of size 0 do not count in the mean, and get 1.
    """
    sizes = np.bincount(labels, minlength=n_classes)
    present = sizes[sizes > 0]
    return np.where(sizes > 0, present.mean() / np.maximum(sizes, 1), 1) if len(set(present.tolist())) > 1 else None


def row_weights(labels: NDArray[Any], n_classes: int) -> NDArray[np.float64]:
    """What each row counts so that classes count the same: (n,), `class_balance` of the (n,) labels' classes."""
    balance = class_balance(labels, n_classes)
    return np.ones(len(labels)) if balance is None else balance[labels]


def class_means(keys: Array, labels: NDArray[Any], n_classes: int) -> Array:
    """The mean of each class's keys, as a unit row: (n, d) and (n,) → (n_classes, d)."""
    return unit_rows(sum_by_class(keys.T, labels, n_classes).T)


def cross_entropy(
    logits: Array, labels: NDArray[Any], class_weights: NDArray[np.float64] | None = None
) -> tuple[float, Array]:
    """Mean cross-entropy of (m, n_classes) logits for (m,) labels, and its gradient with respect to the logits.

    The gradient is (softmax − one-hot) / m: (m, n_classes). Each row's part of both is multiplied by the weight of its class,
    if (n_classes,) weights are given.
    """
    xp = array_api_compat.array_namespace(logits)
    own = np.arange(len(labels)), labels
    errors = softmax(logits)
    smallest = xp.finfo(errors.dtype).smallest_normal
    likelihoods = xp.log(xp.clip(errors[own], smallest, None))
    errors[own] -= 1
    errors /= len(labels)
    if class_weights is not None:
        weights = like(class_weights[labels], errors)  # (m,)
        likelihoods, errors = weights * likelihoods, weights[:, None] * errors
    return -float(xp.mean(likelihoods)), errors


def like(array: Array, reference: Array) -> Array:
    """`array` as the kind, floating dtype and device of `reference`."""
    if array_api_compat.is_torch_array(array):
        array = array.detach()
    if array_api_compat.is_numpy_array(reference):
        return np.asarray(to_numpy(array), dtype=reference.dtype)
    xp = array_api_compat.array_namespace(reference)
    return xp.asarray(array, dtype=reference.dtype, device=array_api_compat.device(reference))


def zeros_like(array: Array) -> Array:
    """Zeros of the shape, kind, dtype and device of `array`."""
    return array_api_compat.array_namespace(array).zeros_like(array)


def to_numpy(array: Array) -> NDArray[Any]:
    """A NumPy view or copy of any array."""
    return np.asarray(array.detach().cpu() if array_api_compat.is_torch_array(array) else array)
