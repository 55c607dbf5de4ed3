"""The training loop, its optimisers and schedules, and `TrainedClassifier`, the base of methods that use it."""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from math import ceil, cos, isfinite, pi, sqrt
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

import array_api_compat
import numpy as np

from tip_adapter.errors import Diverged
from tip_adapter.methods.base import VectorClassifier
from tip_adapter.methods.labels import warn_of_doubts
from tip_adapter.methods.ops import like, zeros_like
from tip_adapter.vectors import require_finite, unit_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from tip_adapter.vectors import Array

    AfterEpoch = Callable[[int, "TrainedClassifier"], None]
    #: Mean loss, and a gradient for each parameter.
    LossAndGradients = tuple[float, Sequence[Array]]

# NumPy rows are updated in blocks that fit the processor's cache.
_BLOCK_ENTRIES = 2**17


class Passes(NamedTuple):
    """What each epoch sees, and what is called after it: arguments of `TrainedClassifier.fit`."""

    views: Callable[[int], Array] | None = None
    after_epoch: AfterEpoch | None = None


#: Each epoch sees the images themselves, and nothing watches.
PLAIN = Passes()


class TrainedClassifier(VectorClassifier):
    """A classifier trained for some epochs, on views that may differ from epoch to epoch.

    `_fit` starts from some arrays and calls `_train` with its loss; `_set` keeps what was learned. `losses_`, (epochs,), are
    the mean losses.
    """

    batch_size: int
    seed: int

    def fit(
        self,
        X: Array,
        y: Any,
        ids: Sequence[str | None] | None = None,
        views: Callable[[int], Array] | None = None,
        after_epoch: AfterEpoch | None = None,
    ) -> Self:
        """Train on labelled vectors.

        Parameters
        ----------
        X, y, ids : as in TipAdapterClassifier.fit
        views : epoch → (n, d) float array: augmented views of the same images, in order; None uses X in every epoch
        after_epoch : called with (epochs done, this classifier) before the first epoch and after each, to watch the
            training: it predicts as it would if it ended there, and its arrays change in place afterwards

        Returns
        -------
        self

        Raises
        ------
        ValueError
            As TipAdapterClassifier.fit; a setting is invalid; views have another shape, or contain NaN or infinity.
        """
        with np.errstate(over="ignore", invalid="ignore"):  # `train` reports it as Diverged, `logits` as VectorError
            self._fit(*self._support(X, y, ids), Passes(views, after_epoch))
        if self.class_embeddings is None:
            warn_of_doubts(self.classes_)
        return self

    @abstractmethod
    def _fit(self, keys: Array, labels: NDArray[Any], passes: Passes = PLAIN) -> None:
        """Train on (n, d) unit rows and (n,) positions in `classes_`, or on the views of each epoch."""

    def _train(
        self,
        parameters: Sequence[Array],
        loss_and_gradients: Callable[[Sequence[Array], Array, NDArray[Any]], LossAndGradients],
        keys: Array,
        passes: Passes,
        optimiser: Optimiser,
        schedule: Callable[[int, int, int], float],
    ) -> None:
        """`train` on the keys or their views by the method's own settings; sets `losses_` and what was learned."""

        def watch(epochs_done: int, arrays: Sequence[Array]) -> None:
            self._set(arrays)
            if passes.after_epoch:
                passes.after_epoch(epochs_done, self)

        learned, self.losses_ = train(
            parameters,
            loss_and_gradients,
            unit_views(passes.views, keys),
            optimiser,
            n_images=len(keys),
            epochs=int(self.training()["epochs"]),  # the paper's where none were given
            batch_size=int(self.batch_size),  # products of small NumPy integers would wrap
            seed=int(self.seed),
            schedule=schedule,
            after_epoch=watch if passes.after_epoch else None,
        )
        self._set(learned)

    @abstractmethod
    def _set(self, learned: Sequence[Array]) -> None:
        """Keep the parameters, and what predictions need of them."""


def unit_views(views: Callable[[int], Array] | None, keys: Array) -> Callable[[int], Array]:
    """`views` as unit rows, the keys in every epoch if None; ValueError when called for another shape, NaN or infinity."""
    if views is None:
        return lambda _: keys

    def checked(epoch: int) -> Array:
        rows = like(views(epoch), keys)
        if rows.shape != keys.shape:
            raise ValueError(f"views({epoch}) has shape {tuple(rows.shape)}, expected that of X, {tuple(keys.shape)}")
        require_finite(rows, f"views({epoch})")
        return unit_rows(rows)

    return checked


class Optimiser(Protocol):
    """Updates arrays in place by their gradients; keeps its own moments."""

    def step(self, parameters: Sequence[Array], gradients: Sequence[Array], *, lr_factor: float) -> None:
        """Update the parameters at `lr_factor` times the learning rate."""
        ...


def train(
    parameters: Sequence[Array],
    loss_and_gradients: Callable[[Sequence[Array], Array, NDArray[Any]], LossAndGradients],
    views: Callable[[int], Array],
    optimiser: Optimiser,
    *,
    n_images: int,
    epochs: int,
    batch_size: int,
    seed: int,
    schedule: Callable[[int, int, int], float],
    after_epoch: Callable[[int, Sequence[Array]], None] | None = None,
) -> tuple[list[Array], NDArray[np.float64]]:
    """Minimise a loss over images; `TrainedClassifier._train` calls it by a method's settings.

    Parameters
    ----------
    parameters : float arrays to start from, 2-D; not changed
    loss_and_gradients : (parameters, (m, d) queries, (m,) their rows) → mean loss, a gradient for each parameter
    views : epoch → (n_images, d) float array, the images' vectors in that epoch
    optimiser : fresh, used once
    n_images, epochs, batch_size, seed : int
    schedule : (step, steps an epoch, epochs) → factor of the learning rate; see `cosine`, `cosine_after_warm_up`
    after_epoch : called with (epochs done, the arrays then) before the first epoch and after each

    Returns
    -------
    parameters : the arrays after the last epoch
    losses : (epochs,) float array, mean loss of each epoch

    Raises
    ------
    ValueError, Diverged
        `epochs` or `batch_size` is too small; the loss is no longer finite.
    """
    if epochs < 0 or batch_size < 1:
        raise ValueError(f"epochs must be at least 0, found {epochs}; batch_size at least 1, found {batch_size}")
    learned = [array_api_compat.array_namespace(array).asarray(array, copy=True) for array in parameters]
    rng = np.random.default_rng(seed)
    losses = np.zeros(epochs)
    steps_per_epoch = ceil(n_images / batch_size)
    if after_epoch:
        after_epoch(0, learned)
    for epoch in range(epochs):
        images = views(epoch)
        order = rng.permutation(n_images)
        for batch in range(steps_per_epoch):
            rows = order[batch * batch_size : (batch + 1) * batch_size]
            loss, gradients = loss_and_gradients(learned, images[rows], rows)
            if not isfinite(loss):
                raise Diverged(f"the loss is {loss} in epoch {epoch + 1}; choose a smaller beta or learning rate")
            lr_factor = schedule(epoch * steps_per_epoch + batch, steps_per_epoch, epochs)
            optimiser.step(learned, gradients, lr_factor=lr_factor)
            losses[epoch] += loss * len(rows) / n_images
        if after_epoch:
            after_epoch(epoch + 1, learned)
    return learned, losses


def cosine(step: int, steps_per_epoch: int, epochs: int) -> float:
    """Cosine annealing from 1 to 0 over all steps, as in Tip-Adapter-F."""
    return (1 + cos(pi * step / (epochs * steps_per_epoch))) / 2


#: CoOp's first epoch: a rate of 1e-5 for its learning rate of 0.002.
WARM_UP_FACTOR = 0.005


def cosine_after_warm_up(step: int, steps_per_epoch: int, epochs: int) -> float:
    """A small constant in the first epoch, then cosine annealing by epoch, as in CoOp and CLIP-Adapter."""
    epoch = step // steps_per_epoch
    return WARM_UP_FACTOR if epoch == 0 else (1 + cos(pi * (epoch - 1) / epochs)) / 2


@dataclass(eq=False, repr=False)
class AdamW:
    """Adam with decoupled weight decay, in place.

    Parameters
    ----------
    learning_rate : float
    betas : decay rates of the two moments
    epsilon : float, added to the root of the second moment
    weight_decay : float, multiplied by the learning rate in each step
    run : maps a function over blocks of rows: `map`, or one that uses several threads

    Notes
    -----
    Loshchilov and Hutter (ICLR 2019), algorithm 2; the same steps as torch.optim.AdamW. The defaults are Tip-Adapter-F's.
    """

    learning_rate: float
    _: KW_ONLY
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-4
    weight_decay: float = 0.01
    run: Callable[..., Iterator[Any]] = map
    _steps: int = field(default=0, init=False)
    _moments: list[tuple[Array, Array]] = field(default_factory=list, init=False)

    def step(self, parameters: Sequence[Array], gradients: Sequence[Array], *, lr_factor: float = 1.0) -> None:
        """Update 2-D `parameters` in place, at `lr_factor` times the learning rate."""
        if not self._moments:
            self._moments = [(zeros_like(array), zeros_like(array)) for array in parameters]
        self._steps += 1
        rate = lr_factor * self.learning_rate
        for array, gradient, (first, second) in zip(parameters, gradients, self._moments, strict=True):
            block = len(array)  # torch updates whole arrays fast by itself
            if array_api_compat.is_numpy_array(array):
                block = max(1, _BLOCK_ENTRIES // array.shape[1])
            blocks = [slice(start, start + block) for start in range(0, len(array), max(block, 1))]
            arrays = ([whole[rows] for rows in blocks] for whole in (array, gradient, first, second))
            deque(self.run(partial(self._step_rows, rate), *arrays), maxlen=0)

    def _step_rows(self, rate: float, parameters: Array, gradient: Array, first: Array, second: Array) -> None:
        """The moments are those of algorithm 2 divided by 1 − beta_1 and 1 − beta_2: three passes over the rows less."""
        decay_1, decay_2 = self.betas
        spread = sqrt((1 - decay_2) / (1 - decay_2**self._steps))  # √(unbiased second moment) = spread · √second
        parameters *= 1 - rate * self.weight_decay
        first *= decay_1
        first += gradient
        second *= decay_2
        second += gradient * gradient
        scale = array_api_compat.array_namespace(parameters).sqrt(second)
        scale += self.epsilon / spread
        update = first / scale
        update *= rate * (1 - decay_1) / (1 - decay_1**self._steps) / spread
        parameters -= update


@dataclass(eq=False, repr=False)
class SGD:
    """Stochastic gradient descent with momentum, in place.

    The same steps as torch.optim.SGD; `weight_decay` is added to the gradient. The defaults are CoOp's.
    """

    learning_rate: float
    _: KW_ONLY
    momentum: float = 0.9
    weight_decay: float = 5e-4
    _velocities: list[Array] = field(default_factory=list, init=False)

    def step(self, parameters: Sequence[Array], gradients: Sequence[Array], *, lr_factor: float = 1.0) -> None:
        """Update `parameters` in place, at `lr_factor` times the learning rate."""
        if not self._velocities:
            self._velocities = [zeros_like(array) for array in parameters]
        for array, gradient, velocity in zip(parameters, gradients, self._velocities, strict=True):
            velocity *= self.momentum
            velocity += gradient
            velocity += self.weight_decay * array
            array -= lr_factor * self.learning_rate * velocity
