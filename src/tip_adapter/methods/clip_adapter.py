"""CLIP-Adapter: a two-layer bottleneck adapter on the image vectors, blended with the original vectors.

    a(f)   = ReLU(ReLU(f W₁ᵀ) W₂ᵀ)                    d → d/4 → d
    f'     = ratio · a(f) + (1 − ratio) · f           then normalised
    logits = logit_scale · f' Wᵀ

Everything except W₁ and W₂ stays frozen; the gradient is a few matrix products.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import array_api_compat
import numpy as np

from tip_adapter.methods.base import Capabilities
from tip_adapter.methods.ops import class_means, cross_entropy, like, text_logits
from tip_adapter.methods.training import PLAIN, SGD, AdamW, TrainedClassifier, cosine_after_warm_up

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from tip_adapter.methods.training import LossAndGradients, Optimiser, Passes
    from tip_adapter.vectors import Array, ClassEmbeddings

#: The optimiser of its public code, and the one that its paper states.
OPTIMISERS: dict[str, Callable[[float], Optimiser]] = {
    "sgd": SGD,
    "adam": lambda rate: AdamW(rate, epsilon=1e-8, weight_decay=0.0),
}


class AdapterOutput(NamedTuple):
    """The intermediate and final results of the adapter on (m, d) queries f."""

    hidden: Array  # (m, d/4)  ReLU(f W₁ᵀ)
    adapted: Array  # (m, d)  a(f)
    length: Array  # (m, 1)  |ratio · a(f) + (1 − ratio) · f|
    vectors: Array  # (m, d)  f', unit rows


def adapter_forward(queries: Array, down: Array, up: Array, ratio: float) -> AdapterOutput:
    """Apply the layers `down` (d/4, d) and `up` (d, d/4) to (m, d) unit rows, and blend."""
    xp = array_api_compat.array_namespace(queries)
    hidden = xp.clip(queries @ down.T, 0, None)  # (m, d/4)
    output = xp.clip(hidden @ up.T, 0, None)  # (m, d)
    mixed = ratio * output + (1 - ratio) * queries  # (m, d)
    length = xp.sqrt(xp.sum(mixed * mixed, axis=1, keepdims=True))  # (m, 1)
    length = xp.where(length > 0, length, xp.ones_like(length))  # a zero row stays zero
    return AdapterOutput(hidden, output, length, mixed / length)


def adapter_backward(
    queries: Array, output: AdapterOutput, up: Array, gradients: Array, ratio: float
) -> tuple[Array, Array]:
    """Gradients of the loss with respect to the two layers, (d/4, d) and (d, d/4), from those with respect to f', (m, d).

    `output` is that of `adapter_forward` on the same (m, d) queries and layers.
    """
    xp = array_api_compat.array_namespace(queries)
    along = xp.sum(gradients * output.vectors, axis=1, keepdims=True)
    mixed = (gradients - along * output.vectors) / output.length  # (m, d)  through the normalisation
    outer = ratio * mixed * xp.astype(output.adapted > 0, mixed.dtype)  # (m, d)  through the outer ReLU
    hidden = (outer @ up) * xp.astype(output.hidden > 0, mixed.dtype)  # (m, d/4)  through the inner ReLU
    return hidden.T @ queries, outer.T @ output.hidden


@dataclass(eq=False, repr=False)
class CLIPAdapterClassifier(TrainedClassifier):
    """CLIP-Adapter: a trained bottleneck adapter on the image vectors.

    Parameters
    ----------
    class_embeddings : ClassEmbeddings, or None to use the support's class means as W
    logit_scale : float, the encoder's own; 100 for CLIP
    ratio : float, weight of the adapter's output in the blend (its paper searches 0.2 to 1.0)
    reduction : int, the bottleneck has d / reduction units
    epochs, batch_size : int
    optimiser : ``sgd`` (its public code's: CoOp's, learning rate 0.002) or ``adam`` (its paper's, 1e-5)
    learning_rate : float; the first epoch uses a 200th of it, then it is annealed to zero by a cosine
    seed : int, of the initial layers and the order of batches

    Attributes
    ----------
    classes_ : (n_classes,) sorted labels
    weights_ : (n_classes, d) array W, unit rows
    down_, up_ : (d / reduction, d) and (d, d / reduction) arrays W₁ and W₂, learned
    losses_ : (epochs,) mean loss of each epoch

    Examples
    --------
    >>> from tip_adapter import CLIPAdapterClassifier, ClassEmbeddings
    >>> names = ClassEmbeddings(["cat", "dog"], [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
    >>> X = [[0.9, 0.1, 0.3, 0.0], [0.2, 0.8, 0.0, 0.3]]
    >>> clf = CLIPAdapterClassifier(class_embeddings=names).fit(X, ["cat", "dog"])
    >>> print(clf.predict([[0.8, 0.3, 0.1, 0.0]])[0])
    cat

    Notes
    -----
    CLIP-Adapter (Gao et al., 2021), its visual adapter, without biases as in its public code. Tip-Adapter's paper writes
    it in equation 6.
    """

    _arrays = ("weights_", "down_", "up_")
    _choices: ClassVar = {**TrainedClassifier._choices, "optimiser": tuple(OPTIMISERS)}
    capabilities = Capabilities(takes_views=True, learned=("down_", "up_"))

    class_embeddings: ClassEmbeddings | None = None
    logit_scale: float = 100.0
    ratio: float = 0.2
    reduction: int = 4
    epochs: int = 200
    batch_size: int = 32
    optimiser: str = "sgd"
    learning_rate: float = 0.002
    seed: int = 0

    def _fit(self, keys: Array, labels: NDArray[Any], passes: Passes = PLAIN) -> None:
        ratio, scale = float(self.ratio), float(self.logit_scale)

        def loss_and_gradients(learned: Sequence[Array], queries: Array, rows: NDArray[Any]) -> LossAndGradients:
            down, up = learned
            output = adapter_forward(queries, down, up, ratio)
            loss, errors = cross_entropy(text_logits(output.vectors, self.weights_, self.logit_scale), labels[rows])
            gradients = scale * (errors @ self.weights_)  # (m, d)
            return loss, adapter_backward(queries, output, up, gradients, ratio)

        rng = np.random.default_rng([self.seed, 1])  # the seed itself draws the order of batches
        # Uniform within ±1/√(number of inputs), as in torch.nn.Linear.
        layers = [like(rng.uniform(-1, 1, s) / np.sqrt(s[1]), keys) for s in self._shapes(keys).values()]
        optimiser = OPTIMISERS[self.optimiser](float(self.learning_rate))
        self._train(layers, loss_and_gradients, keys, passes, optimiser, cosine_after_warm_up)

    def _set(self, learned: Sequence[Array]) -> None:
        self.down_, self.up_ = learned

    def _shapes(self, keys: Array) -> dict[str, tuple[int, int]]:
        """Of W₁ and W₂, by attribute."""
        width, narrow = keys.shape[1], max(keys.shape[1] // int(self.reduction), 1)
        return {"down_": (narrow, width), "up_": (width, narrow)}

    def _weights_without_names(self, keys: Array, labels: NDArray[Any]) -> Array:
        return class_means(keys, labels, len(self.classes_))

    def _logits(self, queries: Array, weights: Array, down: Array, up: Array) -> Array:
        return text_logits(adapter_forward(queries, down, up, float(self.ratio)).vectors, weights, self.logit_scale)

    def _restore(self, keys: Array, labels: NDArray[Any], learned: Mapping[str, Array]) -> None:
        shapes = {name: tuple(array.shape) for name, array in learned.items()}
        if shapes != self._shapes(keys):
            raise ValueError(f"layers of shape {shapes} do not fit vectors of width {keys.shape[1]}")
        super()._restore(keys, labels, learned)
