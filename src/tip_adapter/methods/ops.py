"""Steps shared by the methods' equations, on the array API: NumPy in, NumPy out; torch in, torch out."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import array_api_compat
import numpy as np
from scipy.sparse import csr_array

from tip_adapter.io.processors import available_processors, one_blas_thread
from tip_adapter.vectors import softmax, unit_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from tip_adapter.vectors import Array

#: How equation 4 sums over a class's keys: balanced between classes of different sizes, or the plain sum.
CLASS_SUMS = ("balanced", "raw")
#: Queries × keys of a tile: few enough that its affinities stay in a processor's cache until they are summed.
_TILE = 512, 1000
#: Queries that a thread goes over with the keys of its tile: enough that BLAS's copy of the keys takes little time.
_ROWS_OF_A_PART = 2048
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

    Of many NumPy queries the (m, n) affinities never exist: each thread computes tiles of some keys, sums them by class and
    reuses their memory, so that little but the product takes time.
    """
    work = len(queries) * len(keys) * max(queries.shape[1], _LEAST_WIDTH)
    if not array_api_compat.is_numpy_array(queries) or work < _WORTH_TILES:
        return sum_by_class(affinities(queries, keys), labels, n_classes)
    n_rows, n_keys = _TILE
    sums = np.zeros((n_classes, len(queries)), np.result_type(queries, keys))
    first_keys, first_rows = range(0, len(keys), n_keys), range(0, len(queries), _ROWS_OF_A_PART)
    parts = [(slice(row, row + _ROWS_OF_A_PART), slice(key, key + n_keys)) for row in first_rows for key in first_keys]

    def sum_part(part: tuple[slice, slice]) -> tuple[NDArray[Any], NDArray[Any]]:
        own_queries, own_keys = queries[part[0]], keys[part[1]]
        present, positions = np.unique(labels[part[1]], return_inverse=True)
        classes = class_matrix(positions, len(present), sums.dtype)
        totals = np.empty((len(present), len(own_queries)), sums.dtype)
        tile = np.empty((len(own_keys), n_rows), sums.dtype)
        for start in range(0, len(own_queries), n_rows):
            rows = own_queries[start : start + n_rows]
            totals[:, start : start + n_rows] = classes @ affinities(rows, own_keys, out=tile[:, : len(rows)]).T
        return present, totals

    for (rows, _), (present, totals) in zip(parts, in_threads(sum_part, parts), strict=True):
        sums[present, rows] += totals  # in the order of the parts: rounding must not depend on which thread is first
    return sums.T


def in_threads(work: Callable[[Any], Any], parts: Sequence[Any]) -> Iterator[Any]:
    """`work` of each part, in the order of the parts: a thread for each processor, with one BLAS thread each."""
    if len(parts) < 2:
        yield from map(work, parts)
        return
    with _own_threads() as run:
        yield from run(work, parts)


@contextmanager
def parts_in_threads(rows: Array, n_columns: int) -> Iterator[tuple[Callable[..., Iterator[Any]], list[slice]]]:
    """A `map`, and the parts of (n, d) rows to give it: one for each processor, on a thread each, if the rows' products with
    `n_columns` vectors are large; else, and for torch, all rows at once.
    """
    if not array_api_compat.is_numpy_array(rows) or rows.size * n_columns < _WORTH_TILES:
        yield map, [slice(0, len(rows))]
        return
    bounds = np.linspace(0, len(rows), available_processors() + 1).astype(int).tolist()
    with _own_threads() as run:
        yield run, [slice(*ends) for ends in pairwise(bounds)]


@contextmanager
def _own_threads() -> Iterator[Callable[..., Iterator[Any]]]:
    context = copy_context()  # NumPy's `errstate` is part of it
    with one_blas_thread, ThreadPoolExecutor(available_processors(), "parts") as threads:

        def run(work: Callable[..., Any], *parts: Sequence[Any]) -> Iterator[Any]:
            return threads.map(lambda *part: context.copy().run(work, *part), *parts)

        yield run


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
