"""What to fine-tune, Table 6 of the paper: keys, values, the visual encoder, the text encoder.

    A      = exp(−beta · (1 − f Kᵀ))                 queries f and names W come from the towers
    logits = logit_scale · f Wᵀ + alpha · A V         keys K and values V are the cache; sums are raw, as in the paper

The gradients in f, W, K and V are a few products; torch carries those in f and W on into the towers. This is the only
code that trains encoders.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import torch
from torch.utils.checkpoint import checkpoint

from tip_adapter.errors import Diverged
from tip_adapter.methods.ops import cross_entropy, like, text_logits, to_numpy
from tip_adapter.methods.tip_adapter import affinity, leaves_out_own_key, sum_affinities, sum_factors
from tip_adapter.methods.training import AdamW, cosine, train

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from tip_adapter.vectors import Array

#: An encoder learns at so much of the learning rate of keys and values.
ENCODER_SHARE = 1e-3
#: Of zero-shot's accuracy: below it, a training has collapsed.
COLLAPSED_BELOW = 0.5
# So many go through a tower at once: what it remembers for its gradient, of seven sentences a class, fits no card.
_PER_RUN = 128


class Towers(Protocol):
    """An encoder's torch modules, as ``encoder.towers()`` gives them: copies that may be changed."""

    #: A stack of prepared photos → (n, d) rows of any length.
    image: torch.nn.Module
    #: What `tokens` gives → (n, d) rows of any length.
    text: torch.nn.Module

    def tokens(self, sentences: Sequence[str]) -> torch.Tensor:
        """What `text` takes."""
        ...


@dataclass(frozen=True)
class Parts:
    """What is fine-tuned: a row of Table 6."""

    visual_encoder: bool = False
    text_encoder: bool = False
    keys: bool = False
    values: bool = False


class Photos(NamedTuple):
    """Prepared images and their labels.

    Parameters
    ----------
    prepared : (n, …) array, a stack of what `Encoder.prepare` gives
    labels : (n,) int array, positions among the classes
    """

    prepared: NDArray[Any]
    labels: NDArray[np.intp]


@dataclass(frozen=True)
class FineTuned:
    """The outcome of one training.

    Parameters
    ----------
    accuracy : float, on the test photos; None where the loss was no number
    zero_shot_accuracy : float, of the towers as they came
    losses : mean loss of each epoch; empty where nothing was trained or the loss was no number
    n_parameters : int, how many numbers were trained
    seconds : float, of training
    """

    accuracy: float | None
    zero_shot_accuracy: float
    losses: tuple[float, ...]
    n_parameters: int
    seconds: float

    @property
    def collapsed(self) -> bool:
        """Whether the loss was no number, or accuracy is below half of zero-shot."""
        return self.accuracy is None or self.accuracy < COLLAPSED_BELOW * self.zero_shot_accuracy


@dataclass(frozen=True)
class Equation:
    """Equation 4 with any values, and its gradients.

    Parameters
    ----------
    alpha, beta, logit_scale : float
    """

    alpha: float
    beta: float
    logit_scale: float

    def logits(self, queries: Array, weights: Array, cache: Array) -> Array:
        """(m, d), (N, d) and (m, N) A V → (m, N)."""
        return text_logits(queries, weights, self.logit_scale) + self.alpha * cache

    def gradients(
        self,
        queries: Array,
        weights: Array,
        keys: Array,
        values: Array,
        affinities: Array,
        errors: Array,
        rescale: Array | float,
    ) -> dict[str, Array]:
        """Gradients in queries, weights, keys and values, each of its shape.

        Parameters
        ----------
        queries, weights, keys, values : (m, d), (N, d), (n, d), (n, N) arrays
        affinities : (m, n) array
        errors : (m, N) array, the loss's gradient in the logits
        rescale : (m, N) array or number, the factors of the cache's sum
        """
        cache = self.alpha * (errors * rescale)  # (m, N)  alpha · P∘G
        pulls = self.beta * affinities * (cache @ values.T)  # (m, n)
        return {
            "queries": self.logit_scale * (errors @ weights) + pulls @ keys,
            "weights": self.logit_scale * (errors.T @ queries),
            "keys": pulls.T @ queries,
            "values": affinities.T @ cache,
        }


def fine_tune(
    towers: Towers,
    support: Photos,
    keys: NDArray[np.float32],
    test: Photos,
    sentences: Sequence[Sequence[str]],
    parts: Parts,
    equation: Equation,
    *,
    views: Callable[[int], NDArray[Any]] | None = None,
    epochs: int = 20,
    batch_size: int = 256,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> FineTuned:
    """Fine-tune some parts from where Tip-Adapter begins, and answer the test photos.

    Parameters
    ----------
    towers : Towers; not changed
    support, test : Photos
    keys : (n, d) float32 array, unit rows: the cache to begin with
    sentences : for each class the same number of them: its name in the templates
    parts : Parts
    equation : Equation, trained and answered with
    views : epoch → the support, prepared again under an augmentation; None uses it as it is, each photo then leaving out
        its own key while training, as TipAdapterFClassifier does
    epochs, batch_size, learning_rate, seed : as in TipAdapterFClassifier; encoders learn at a thousandth of the rate

    Returns
    -------
    FineTuned; a training that collapses is a result, no error

    Raises
    ------
    ValueError
        Classes have different numbers of sentences.
    """
    if len({len(own) for own in sentences}) != 1:
        raise ValueError("each class needs the same number of sentences")
    run = _Run(towers, support, keys, sentences, parts, equation, views)
    zero_shot = run.accuracy(run.start, test, alpha=0.0)
    started = time.perf_counter()
    try:
        learned, losses = run.train(epochs, batch_size, learning_rate, seed)
    except Diverged:
        learned, losses = None, np.zeros(0)
    seconds = time.perf_counter() - started
    return FineTuned(
        accuracy=None if learned is None else run.accuracy(learned, test, alpha=equation.alpha),
        zero_shot_accuracy=zero_shot,
        losses=tuple(losses.tolist()),
        n_parameters=sum(array.numel() for array in run.start),
        seconds=seconds,
    )


#: The loss's gradient in a tower's rows → in its weights that learn.
_Backward: TypeAlias = "Callable[[Array], list[Array]]"


class _Side:
    """A tower and the weights of it that learn: none where it stays as it is.

    Parameters
    ----------
    module : the tower
    finish : its rows → what the equation takes
    learns : bool
    """

    def __init__(self, module: torch.nn.Module, finish: Callable[[torch.Tensor], torch.Tensor], learns: bool) -> None:
        self.module = module.eval()
        self.finish = finish
        own = {name: p.detach() for name, p in module.named_parameters() if p.requires_grad} if learns else {}
        self.names, self.start = list(own), list(own.values())

    def read(self, weights: Sequence[torch.Tensor], inputs: torch.Tensor) -> tuple[torch.Tensor, _Backward]:
        """What the tower gives at these weights, and the way back into them."""
        leaves = [array.detach().requires_grad_() for array in weights]
        runs = torch.split(inputs, _PER_RUN)

        def rows_of(run: torch.Tensor) -> Any:
            return torch.func.functional_call(self.module, dict(zip(self.names, leaves, strict=True)), (run,))

        # Of several runs none is stored: the forward pass of each is repeated when its gradient is computed.
        forward = partial(checkpoint, rows_of, use_reentrant=False) if leaves and len(runs) > 1 else rows_of
        with torch.set_grad_enabled(bool(leaves)):
            rows = self.finish(torch.cat([forward(run) for run in runs]))
        return rows.detach(), lambda into: list(torch.autograd.grad(rows, leaves, into)) if leaves else []


class _Run:
    """One training: what stays as it is, and where what learns begins."""

    def __init__(
        self,
        towers: Towers,
        support: Photos,
        keys: NDArray[np.float32],
        sentences: Sequence[Sequence[str]],
        parts: Parts,
        equation: Equation,
        views: Callable[[int], NDArray[Any]] | None,
    ) -> None:
        def class_means(rows: torch.Tensor) -> torch.Tensor:  # (n_classes · k, d), class by class → (n_classes, d)
            return _unit(_unit(rows).reshape(self.n_classes, -1, rows.shape[1]).mean(dim=1))

        self.equation, self.labels, self.n_classes = equation, support.labels, len(sentences)
        self.image = _Side(towers.image, _unit, parts.visual_encoder)
        self.text = _Side(towers.text, class_means, parts.text_encoder)
        self.tokens = towers.tokens([sentence for own in sentences for sentence in own])
        self.device = next(towers.image.parameters()).device
        self.prepared = support.prepared
        self.views = views
        self.keys = torch.as_tensor(keys, device=self.device)
        self.values = torch.eye(self.n_classes).to(self.keys)[torch.as_tensor(self.labels)]
        self.weights, _ = self.text.read(self.text.start, self.tokens)
        self.cache = {"keys": parts.keys, "values": parts.values}
        own = [getattr(self, name) for name, learns in self.cache.items() if learns]
        self.n_cache = len(own)
        self.start: list[Array] = [*own, *self.image.start, *self.text.start]

    def encoded(self, prepared: NDArray[Any], weights: Sequence[Array]) -> torch.Tensor:
        """(n, …) prepared photos → (n, d) unit rows, as the image tower at these weights sees them."""
        runs = (prepared[i : i + _PER_RUN] for i in range(0, len(prepared), _PER_RUN))
        return torch.cat([self.image.read(weights, torch.as_tensor(run, device=self.device))[0] for run in runs])

    def split(self, learned: Sequence[Array]) -> tuple[Array, Array, Sequence[Array], Sequence[Array]]:
        """Keys, values and the weights of the towers, learned or as they were."""
        rest = iter(learned)
        keys, values = (next(rest) if learns else getattr(self, name) for name, learns in self.cache.items())
        image = [next(rest) for _ in self.image.names]
        return keys, values, image, list(rest)

    def queries(self, epoch: int) -> Any:
        """The support as the loop takes it: prepared where the image tower learns, else its vectors."""
        if self.image.names:
            return self.views(epoch) if self.views else self.prepared
        return self.encoded(self.views(epoch), []) if self.views else self.keys

    def read_names(self, weights: Sequence[Array]) -> tuple[Array, _Backward]:
        """The class names as unit rows, and their way back into the text tower."""
        return self.text.read(weights, self.tokens) if self.text.names else (self.weights, lambda _: [])

    def train(self, epochs: int, batch_size: int, learning_rate: float, seed: int) -> tuple[list[Array], NDArray[Any]]:
        """Learn from `start`."""
        if not self.start:
            return [], np.zeros(0)
        leave_out = leaves_out_own_key(None, self.labels, plain=self.views is None)

        def loss_and_gradients(
            learned: Sequence[Array], photos: Any, rows: NDArray[Any]
        ) -> tuple[float, Sequence[Array]]:
            keys, values, image, text = self.split(learned)
            f, into_image = photos, None
            if image:
                f, into_image = self.image.read(image, torch.as_tensor(photos, device=self.device))
            W, into_text = self.read_names(text)
            own_rows = rows if leave_out else None
            A = affinity(f, keys, self.equation.beta, own_rows)
            cache = sum_affinities(A, self.labels, self.n_classes, own_rows, "raw", values)
            loss, errors = cross_entropy(self.equation.logits(f, W, cache), self.labels[rows])
            factors = sum_factors(self.labels, self.n_classes, own_rows, "raw")
            rescale = 1.0 if factors is None else like(factors, errors)
            gradients = self.equation.gradients(f, W, keys, values, A, errors, rescale)
            own = [gradients[name] for name, learns in self.cache.items() if learns]
            towers = [*(into_image(gradients["queries"]) if into_image else ()), *into_text(gradients["weights"])]
            return loss, [*own, *towers]

        return train(
            self.start,
            loss_and_gradients,
            self.queries,
            _TwoRates(learning_rate, self.n_cache),
            n_images=len(self.labels),
            epochs=epochs,
            batch_size=batch_size,
            seed=seed,
            schedule=cosine,
        )

    def accuracy(self, learned: Sequence[Array], test: Photos, *, alpha: float) -> float:
        """Accuracy on the test images."""
        keys, values, image, text = self.split(learned)
        f, (W, _) = self.encoded(test.prepared, image), self.read_names(text)
        A = affinity(f, keys, self.equation.beta)
        cache = sum_affinities(A, self.labels, self.n_classes, class_sums="raw", values=values)
        logits = replace(self.equation, alpha=alpha).logits(f, W, cache)
        return float((to_numpy(logits).argmax(axis=1) == test.labels).mean())


class _TwoRates:
    """AdamW for the cache at the learning rate, and for the towers at a thousandth of it."""

    def __init__(self, learning_rate: float, n_cache: int) -> None:
        self.n_cache = n_cache
        self.cache, self.towers = AdamW(learning_rate), AdamW(ENCODER_SHARE * learning_rate)

    def step(self, parameters: Sequence[Array], gradients: Sequence[Array], *, lr_factor: float) -> None:
        """Update all in place."""
        n = self.n_cache
        self.cache.step(parameters[:n], gradients[:n], lr_factor=lr_factor)
        self.towers.step(parameters[n:], gradients[n:], lr_factor=lr_factor)


def _unit(rows: torch.Tensor) -> torch.Tensor:
    """Unit rows, differentiable."""
    return torch.nn.functional.normalize(rows, dim=1)
