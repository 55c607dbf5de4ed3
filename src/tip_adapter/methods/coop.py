"""CoOp: learned prompts. Learnable context vectors, shared by all classes, are prepended to every class name; the frozen text
tower encodes both, and its output is the class's weight.

    W      = tower([v₁] [v₂] … [v₁₆] [name])      then normalised; learned context v, class token at the end
    logits = logit_scale · f Wᵀ

torch differentiates through the tower during training. Prediction needs only the saved W.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from tip_adapter.methods.base import Capabilities
from tip_adapter.methods.ops import cross_entropy, like, text_logits
from tip_adapter.methods.training import PLAIN, SGD, TrainedClassifier, cosine_after_warm_up
from tip_adapter.plugins import require_extra

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from tip_adapter.methods.training import LossAndGradients, Passes
    from tip_adapter.vectors import Array, ClassEmbeddings

    #: (n_context, width) tensor → (n_names, d) tensor, differentiable.
    Prompts = Callable[[Any], Any]

#: The paper's epochs by the images of the largest class; it uses 50 for ImageNet at any number.
EPOCHS = ((1, 50), (4, 100), (float("inf"), 200))
#: Standard deviation of the initial context.
_INITIAL_STD = 0.02
#: Prompts per pass through the tower; activations for the gradient of a thousand exceed most GPUs' memory.
_NAMES_PER_RUN = 256


class PromptTower(Protocol):
    """A frozen text tower that accepts context vectors instead of word embeddings."""

    #: How context and name are combined, for reports.
    description: str
    #: Length of a context vector.
    width: int

    def prompts(self, names: Sequence[str], n_context: int) -> Prompts:
        """Prepare prompts of `n_context` vectors followed by a name.

        Parameters
        ----------
        names : (n,) str
        n_context : int, at least 1

        Returns
        -------
        (n_context, width) float tensor → (n, d) float tensor: the encoded prompts with that context, not normalised, in
        its dtype and on its device; differentiable in the context

        Raises
        ------
        UsageError
            A name is too long for a context of that length.
        """
        ...


@dataclass(eq=False, repr=False)
class CoOpClassifier(TrainedClassifier):
    """CoOp: learned context vectors in front of the class names. Fitting needs torch.

    Parameters
    ----------
    class_embeddings : ClassEmbeddings, only for their labels: the classes, including ones without images. None for those of y
    logit_scale : float, the encoder's own; 100 for CLIP
    prompt_tower : PromptTower, the encoder's: ``encoder.prompt_tower()``. Only `fit` uses it: ValueError without one or if
        its width is not the vectors'; MissingExtra without torch
    names : label → class name; None for the labels themselves
    n_context : int, number of context vectors
    epochs : int, or None for the paper's, by the images of the largest class: 50 at 1, 100 up to 4, 200 above
    batch_size : int
    learning_rate : float, of SGD; the first epoch uses a 200th of it, then it is annealed to zero by a cosine
    seed : int, of the initial context and the order of batches

    Attributes
    ----------
    classes_ : (n_classes,) sorted labels
    context_ : (n_context, width) array, learned
    weights_ : (n_classes, d) array W, unit rows, learned
    losses_ : (epochs,) mean loss of each epoch

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter import CoOpClassifier, load_encoder
    >>> encoder = load_encoder("toy")
    >>> images = [np.full((8, 8, 3), colour, np.uint8) for colour in [(150, 60, 60), (60, 60, 150)]]
    >>> X, tower = encoder.encode_images(images), encoder.prompt_tower()
    >>> clf = CoOpClassifier(logit_scale=encoder.logit_scale, prompt_tower=tower).fit(X, ["red", "blue"])
    >>> print(*clf.predict(X))
    red blue

    Notes
    -----
    CoOp (Zhou et al., 2022): unified context, class token at the end, random initialisation: the variant that Tip-Adapter's
    paper compares with. SGD with momentum 0.9 and weight decay 5e-4.
    """

    _arrays = ("weights_",)
    capabilities = Capabilities(takes_views=True, learned=("context_", "weights_"), encoder_parts=("prompt_tower",))

    class_embeddings: ClassEmbeddings | None = None
    logit_scale: float = 100.0
    prompt_tower: PromptTower | None = None
    names: Mapping[Any, str] | None = None
    n_context: int = 16
    epochs: int | None = None
    batch_size: int = 32
    learning_rate: float = 0.002
    seed: int = 0

    def _fit(self, keys: Array, labels: NDArray[Any], passes: Passes = PLAIN) -> None:
        tower, prompts = self._tower(), self._prompts()

        def loss_and_gradients(learned: Sequence[Array], queries: Array, rows: NDArray[Any]) -> LossAndGradients:
            weights, backward = encode_prompts(prompts, learned[0])
            loss, errors = cross_entropy(text_logits(queries, weights, self.logit_scale), labels[rows])
            return loss, [
                backward(float(self.logit_scale) * (errors.T @ queries))
            ]  # (N, d)  gradient with respect to W

        self._papers_epochs, self._tower_record = papers_epochs(labels), {"prompt_tower": tower.description}
        rng = np.random.default_rng([self.seed, 1])  # the seed itself draws the order of batches
        context = like(_INITIAL_STD * rng.standard_normal((self.n_context, tower.width)), keys)
        width = encode_prompts(prompts, context)[0].shape[1]
        if width != keys.shape[1]:
            raise ValueError(f"X has {keys.shape[1]} features, the prompt tower's vectors have {width}")
        optimiser = SGD(float(self.learning_rate))
        self._train([context], loss_and_gradients, keys, passes, optimiser, cosine_after_warm_up)

    def _set(self, learned: Sequence[Array]) -> None:
        (self.context_,) = learned
        self.weights_, _ = encode_prompts(self._prompts(), self.context_)

    def _prompts(self) -> Prompts:
        """The class names, as the tower reads them after a context."""
        names = [str((self.names or {}).get(c, c)) for c in self._name_labels.tolist()]
        return _in_batches(self._tower(), names, int(self.n_context))

    def _tower(self) -> PromptTower:
        if self.prompt_tower is None:
            raise ValueError("CoOp trains through a text tower; give prompt_tower=encoder.prompt_tower()")
        return self.prompt_tower

    @property
    def n_parameters(self) -> int:
        """Those of the context; W is computed from it."""
        return int(self.context_.shape[0] * self.context_.shape[1])

    def training(self) -> dict[str, Any]:
        """Epochs, the paper's epochs, and the prompt tower unless the classifier was restored."""
        epochs = self._papers_epochs if self.epochs is None else self.epochs
        return {"epochs": epochs, "papers_epochs": self._papers_epochs, **self._tower_record}

    def _logits(self, queries: Array, weights: Array) -> Array:
        return text_logits(queries, weights, self.logit_scale)

    def _restore(self, keys: Array, labels: NDArray[Any], learned: Mapping[str, Array]) -> None:
        shape, wanted = learned["weights_"].shape, (len(self.classes_), keys.shape[1])
        if shape != wanted or learned["context_"].shape[:-1] != (self.n_context,):
            raise ValueError(
                f"weights_ of shape {shape} are not {wanted}, or context_ does not have {self.n_context} rows"
            )
        super()._restore(keys, labels, learned)
        self._papers_epochs, self._tower_record = papers_epochs(labels), {}


def papers_epochs(labels: NDArray[Any]) -> int:
    """The paper's number of epochs for images of these classes, (n,) int array."""
    shots = np.bincount(labels, minlength=1).max()
    return next(epochs for most, epochs in EPOCHS if shots <= most)


def _in_batches(tower: PromptTower, names: Sequence[str], n_context: int) -> Prompts:
    """`PromptTower.prompts` in batches of names; several are recomputed for the gradient, to bound memory."""
    torch = require_extra("torch", "torch", "torch")
    starts = range(0, len(names), _NAMES_PER_RUN)
    runs = [tower.prompts(names[i : i + _NAMES_PER_RUN], n_context) for i in starts]
    if len(runs) == 1:
        return runs[0]
    recomputed = partial(torch.utils.checkpoint.checkpoint, use_reentrant=False)
    return lambda context: torch.cat([recomputed(run, context) for run in runs])


def encode_prompts(prompts: Prompts, context: Array) -> tuple[Array, Callable[[Array], Array]]:
    """Encode prompts with an (n_context, width) context, NumPy or torch.

    Returns
    -------
    weights : (n_names, d) array W of the context's kind, unit rows
    backward : gradient with respect to W → gradient with respect to the context
    """
    torch = require_extra("torch", "torch", "torch")
    leaf = torch.as_tensor(context).detach().clone().requires_grad_()
    weights = torch.nn.functional.normalize(prompts(leaf), dim=1)

    def backward(gradients: Array) -> Array:
        (gradient,) = torch.autograd.grad(weights, leaf, like(gradients, weights))
        return like(gradient, context)

    return like(weights, context), backward
