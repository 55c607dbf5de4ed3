"""The only training loop: views, batches, a cosine schedule, a seed, and the optimiser's steps over arrays."""

from __future__ import annotations

from math import ceil, cos, isfinite, pi, sqrt
from typing import TYPE_CHECKING, Any

import array_api_compat
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from tip_adapter.vectors import Array

# Rows are updated in blocks whose state stays in the processor's cache; LOG.md has the times.
_BLOCK_ENTRIES = 2**17


def train(
    parameters: Array,
    loss_and_gradient: Callable[[Array, Array, NDArray[Any]], tuple[float, Array]],
    views: Callable[[int], Array],
    optimiser: AdamW,
    *,
    n_photos: int,
    epochs: int,
    batch_size: int,
    seed: int,
) -> tuple[Array, NDArray[np.float64]]:
    """Minimise a loss over photos; the learning rate falls to zero by a cosine, stepped per batch over all steps.

    Parameters
    ----------
    parameters : (n, d) float array to start from; not changed
    loss_and_gradient : (parameters, (m, d) queries, (m,) their rows) → mean loss, gradient in the parameters
    views : epoch → (n_photos, d) float array, the photos as they look in that epoch
    optimiser : fresh, used once
    n_photos, epochs, batch_size, seed : int

    Returns
    -------
    parameters : (n, d) float array after the last epoch
    losses : (epochs,) float array, mean loss of each epoch

    Raises
    ------
    ValueError
        `epochs` or `batch_size` is too small, or the loss is no longer finite.
    """
    if epochs < 0 or batch_size < 1:
        raise ValueError(f"epochs {epochs} must be at least 0 and batch_size {batch_size} at least 1")
    parameters = array_api_compat.array_namespace(parameters).asarray(parameters, copy=True)
    rng = np.random.default_rng(seed)
    losses = np.zeros(epochs)
    n_steps = epochs * ceil(n_photos / batch_size)
    step = 0
    for epoch in range(epochs):
        photos = views(epoch)
        order = rng.permutation(n_photos)
        for first in range(0, n_photos, batch_size):
            rows = order[first : first + batch_size]
            loss, gradient = loss_and_gradient(parameters, photos[rows], rows)
            if not isfinite(loss):
                raise ValueError(f"the loss is {loss} in epoch {epoch + 1}; choose a smaller beta or learning rate")
            optimiser.step(parameters, gradient, share=(1 + cos(pi * step / n_steps)) / 2)
            losses[epoch] += loss * len(rows) / n_photos
            step += 1
    return parameters, losses


class AdamW:
    """Adam with decoupled weight decay, over an array, in place.

    Parameters
    ----------
    learning_rate : float
    betas : decay of the two moments
    epsilon : float, added to the root of the second
    weight_decay : float, per step and learning rate

    Notes
    -----
    Loshchilov and Hutter (ICLR 2019), algorithm 2; step for step torch.optim.AdamW. The defaults are Tip-Adapter-F's.
    """

    def __init__(
        self,
        learning_rate: float,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-4,
        weight_decay: float = 0.01,
    ) -> None:
        self.learning_rate = learning_rate
        self.betas = betas
        self.epsilon = epsilon
        self.weight_decay = weight_decay
        self._steps = 0
        self._moments: tuple[Array, Array] | None = None

    def step(self, parameters: Array, gradient: Array, *, share: float = 1.0) -> None:
        """Update (n, d) `parameters` in place, at `share` of the learning rate."""
        if self._moments is None:
            xp = array_api_compat.array_namespace(parameters)
            self._moments = xp.zeros_like(parameters), xp.zeros_like(parameters)
        self._steps += 1
        first, second = self._moments
        for rows in _row_blocks(parameters):
            self._step_rows(parameters[rows], gradient[rows], first[rows], second[rows], share * self.learning_rate)

    def _step_rows(self, parameters: Array, gradient: Array, first: Array, second: Array, rate: float) -> None:
        decay_1, decay_2 = self.betas
        xp = array_api_compat.array_namespace(parameters)
        parameters *= 1 - rate * self.weight_decay
        first *= decay_1
        first += (1 - decay_1) * gradient
        second *= decay_2
        second += (1 - decay_2) * gradient * gradient
        scale = xp.sqrt(second)
        scale /= sqrt(1 - decay_2**self._steps)
        scale += self.epsilon
        parameters -= rate / (1 - decay_1**self._steps) * first / scale


def _row_blocks(array: Array) -> list[slice]:
    """NumPy rows in blocks; torch updates whole arrays fast by itself."""
    block = max(1, _BLOCK_ENTRIES // array.shape[1]) if array_api_compat.is_numpy_array(array) else len(array)
    return [slice(first, first + block) for first in range(0, len(array), max(block, 1))]
