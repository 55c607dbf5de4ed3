"""The steps that the equations' lines call, through the array API: NumPy in, NumPy out; torch in, torch out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import array_api_compat
import numpy as np
from scipy.sparse import csr_array

from tip_adapter.vectors import softmax, unit_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from tip_adapter.vectors import Array


def text_logits(queries: Array, weights: Array, logit_scale: float) -> Array:
    """What the class names say, logit_scale · f Wᵀ: (m, d) and (N, d) → (m, N)."""
    return logit_scale * (queries @ weights.T)


def affinity(queries: Array, keys: Array, beta: float) -> Array:
    """How alike queries and keys are, exp(−beta (1 − f Fᵀ)), equation 3: (m, d) and (n, d) → (m, n)."""
    closeness = queries @ keys.T
    closeness -= 1
    return sharpen(closeness, beta, out=closeness)  # in place: these are the largest arrays there are


def sharpen(closeness: Array, beta: float, *, out: Array) -> Array:
    """exp(beta · closeness), closeness being −(1 − f Fᵀ); written to `out`."""
    xp = array_api_compat.array_namespace(closeness)
    return xp.exp(xp.multiply(closeness, beta, out=out), out=out)


def sum_by_class(affinities: Array, labels: NDArray[Any], n_classes: int) -> Array:
    """Sum the columns of each class: (m, n) and (n,) → (m, n_classes). A class without columns gets 0."""
    order = np.argsort(labels, kind="stable")
    bounds = np.searchsorted(labels[order], np.arange(n_classes + 1))
    if array_api_compat.is_numpy_array(affinities):
        values = csr_array((np.ones(len(labels), affinities.dtype), order, bounds), shape=(n_classes, len(labels)))
        return (values @ affinities.T).T  # Lᵀ Aᵀ, of which only the ones are stored
    xp = array_api_compat.array_namespace(affinities)
    affinities = affinities[:, order]
    columns = [xp.sum(affinities[:, bounds[c] : bounds[c + 1]], axis=1) for c in range(n_classes)]
    return xp.stack(columns, axis=1)


def class_means(keys: Array, labels: NDArray[Any], n_classes: int) -> Array:
    """The mean of each class's keys, as a unit row: (n, d) and (n,) → (n_classes, d)."""
    return unit_rows(sum_by_class(keys.T, labels, n_classes).T)


def keep_own_key(
    affinities: Array, rows: NDArray[Any], labels: NDArray[Any], n_classes: int
) -> tuple[Array, Array | float]:
    """Queries see every key, their own too: the paper's training, for freshly augmented queries."""
    return affinities, 1.0


def leave_out_own_key(
    affinities: Array, rows: NDArray[Any], labels: NDArray[Any], n_classes: int
) -> tuple[Array, Array | float]:
    """Each query leaves out its own key; its class's sum is to be rescaled by K_c / (K_c − 1).

    Parameters
    ----------
    affinities : (m, n) float array, changed in place
    rows : (m,) int array, which key is each query's own
    labels : (n,) int array, class index of each key
    n_classes : int

    Returns
    -------
    affinities : (m, n) float array, 0 at the own keys
    rescale : (m, n_classes) float array: K_c / (K_c − 1) in the own class's column, 1 elsewhere and where K_c is 1
    """
    own_class = labels[rows]
    queries = np.arange(len(rows))
    count = np.bincount(labels, minlength=n_classes)[own_class]
    rescale = np.ones((len(rows), n_classes))
    rescale[queries, own_class] = np.where(count > 1, count / np.maximum(count - 1, 1), 1)
    affinities[queries, rows] = 0
    return affinities, like(rescale, affinities)


#: What a query does about its own key while training.
OWN_KEY = {"keep": keep_own_key, "leave-out": leave_out_own_key}


def own_key_step(
    own_key: str | None, labels: NDArray[Any], *, plain: bool
) -> Callable[..., tuple[Array, Array | float]]:
    """The step of `OWN_KEY`; unasked, leave-out where the views are plain and some class has two photos.

    With one photo a class a query that leaves out its own key finds nothing of its class, and training would only push
    the keys of the others away.

    Raises
    ------
    ValueError
        There is no such step.
    """
    if own_key is None:
        own_key = "leave-out" if plain and np.bincount(labels, minlength=1).max() > 1 else "keep"
    if own_key not in OWN_KEY:
        raise ValueError(f"unknown own_key {own_key!r}: known are {', '.join(OWN_KEY)}")
    return OWN_KEY[own_key]


def cross_entropy(logits: Array, labels: NDArray[Any]) -> tuple[float, Array]:
    """Mean cross-entropy and its gradient in the logits, (softmax − one-hot) / m.

    Parameters
    ----------
    logits : (m, n_classes) float array
    labels : (m,) int array

    Returns
    -------
    loss : float
    errors : (m, n_classes) float array
    """
    xp = array_api_compat.array_namespace(logits)
    own = np.arange(len(labels)), labels
    errors = softmax(logits)
    smallest = xp.finfo(errors.dtype).smallest_normal
    loss = -float(xp.mean(xp.log(xp.clip(errors[own], smallest, None))))
    errors[own] -= 1
    errors /= len(labels)
    return loss, errors


def like(array: Array, reference: Array) -> Array:
    """`array` as the kind, floating dtype and device of `reference`."""
    if array_api_compat.is_torch_array(array):
        array = array.detach()
    if array_api_compat.is_numpy_array(reference):
        return np.asarray(to_numpy(array), dtype=reference.dtype)
    xp = array_api_compat.array_namespace(reference)
    return xp.asarray(array, dtype=reference.dtype, device=array_api_compat.device(reference))


def to_numpy(array: Array) -> NDArray[Any]:
    """A NumPy view or copy of any array."""
    return np.asarray(array.detach().cpu() if array_api_compat.is_torch_array(array) else array)
