"""The only training loop: views, batches, a schedule, a seed, and the optimisers' steps over arrays."""

from __future__ import annotations

from math import ceil, cos, isfinite, pi, sqrt
from typing import TYPE_CHECKING, Any, Protocol

import array_api_compat
import numpy as np

from tip_adapter.errors import Diverged

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from tip_adapter.vectors import Array

# Rows are updated in blocks whose state stays in the processor's cache; LOG.md has the times.
_BLOCK_ENTRIES = 2**17


class Optimiser(Protocol):
    """Changes arrays by their gradients, in place; keeps what it needs of the steps before."""

    def step(self, parameters: Sequence[Array], gradients: Sequence[Array], *, share: float) -> None:
        """Update the parameters at `share` of the learning rate."""
        ...


def train(
    parameters: Sequence[Array],
    loss_and_gradients: Callable[[Sequence[Array], Array, NDArray[Any]], tuple[float, Sequence[Array]]],
    views: Callable[[int], Array],
    optimiser: Optimiser,
    *,
    n_images: int,
    epochs: int,
    batch_size: int,
    seed: int,
    schedule: Callable[[int, int, int], float],
) -> tuple[list[Array], NDArray[np.float64]]:
    """Minimise a loss over photos.

    Parameters
    ----------
    parameters : float arrays to start from, 2-D; not changed
    loss_and_gradients : (parameters, (m, d) queries, (m,) their rows) → mean loss, a gradient for each parameter
    views : epoch → (n_images, d) float array, the photos as they look in that epoch
    optimiser : fresh, used once
    n_images, epochs, batch_size, seed : int
    schedule : (step, steps an epoch, epochs) → share of the learning rate; see `cosine`, `cosine_after_warm_up`

    Returns
    -------
    parameters : the arrays after the last epoch
    losses : (epochs,) float array, mean loss of each epoch

    Raises
    ------
    ValueError
        `epochs` or `batch_size` is too small.
    Diverged
        The loss is no longer finite.
    """
    if epochs < 0 or batch_size < 1:
        raise ValueError(f"epochs {epochs} must be at least 0 and batch_size {batch_size} at least 1")
    learned = [array_api_compat.array_namespace(array).asarray(array, copy=True) for array in parameters]
    rng = np.random.default_rng(seed)
    losses = np.zeros(epochs)
    steps_per_epoch = ceil(n_images / batch_size)
    for epoch in range(epochs):
        photos = views(epoch)
        order = rng.permutation(n_images)
        for batch in range(steps_per_epoch):
            rows = order[batch * batch_size : (batch + 1) * batch_size]
            loss, gradients = loss_and_gradients(learned, photos[rows], rows)
            if not isfinite(loss):
                raise Diverged(f"the loss is {loss} in epoch {epoch + 1}; choose a smaller beta or learning rate")
            share = schedule(epoch * steps_per_epoch + batch, steps_per_epoch, epochs)
            optimiser.step(learned, gradients, share=share)
            losses[epoch] += loss * len(rows) / n_images
    return learned, losses


def cosine(step: int, steps_per_epoch: int, epochs: int) -> float:
    """From 1 to 0 over all steps: Tip-Adapter-F's."""
    return (1 + cos(pi * step / (epochs * steps_per_epoch))) / 2


#: CoOp's first epoch: 1e-5 where its learning rate is 0.002.
WARM_UP_SHARE = 0.005


def cosine_after_warm_up(step: int, steps_per_epoch: int, epochs: int) -> float:
    """The first epoch at a small constant, then from 1 towards 0, epoch by epoch: CoOp's and CLIP-Adapter's."""
    epoch = step // steps_per_epoch
    return WARM_UP_SHARE if epoch == 0 else (1 + cos(pi * (epoch - 1) / epochs)) / 2


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
        self._moments: list[tuple[Array, Array]] = []

    def step(self, parameters: Sequence[Array], gradients: Sequence[Array], *, share: float = 1.0) -> None:
        """Update 2-D `parameters` in place, at `share` of the learning rate."""
        if not self._moments:
            self._moments = [(_zeros_like(array), _zeros_like(array)) for array in parameters]
        self._steps += 1
        rate = share * self.learning_rate
        for array, gradient, (first, second) in zip(parameters, gradients, self._moments, strict=True):
            for rows in _row_blocks(array):
                self._step_rows(array[rows], gradient[rows], first[rows], second[rows], rate)

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


class SGD:
    """Stochastic gradient descent with momentum, over arrays, in place.

    Parameters
    ----------
    learning_rate : float
    momentum : float
    weight_decay : float, added to the gradient

    Notes
    -----
    Step for step torch.optim.SGD; the defaults are CoOp's.
    """

    def __init__(self, learning_rate: float, *, momentum: float = 0.9, weight_decay: float = 5e-4) -> None:
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.weight_decay = weight_decay
        self._velocities: list[Array] = []

    def step(self, parameters: Sequence[Array], gradients: Sequence[Array], *, share: float = 1.0) -> None:
        """Update `parameters` in place, at `share` of the learning rate."""
        if not self._velocities:
            self._velocities = [_zeros_like(array) for array in parameters]
        for array, gradient, velocity in zip(parameters, gradients, self._velocities, strict=True):
            velocity *= self.momentum
            velocity += gradient
            velocity += self.weight_decay * array
            array -= share * self.learning_rate * velocity


def _zeros_like(array: Array) -> Array:
    return array_api_compat.array_namespace(array).zeros_like(array)


def _row_blocks(array: Array) -> list[slice]:
    """NumPy rows in blocks; torch updates whole arrays fast by itself."""
    block = max(1, _BLOCK_ENTRIES // array.shape[1]) if array_api_compat.is_numpy_array(array) else len(array)
    return [slice(first, first + block) for first in range(0, len(array), max(block, 1))]
