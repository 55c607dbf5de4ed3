"""CoOp: the prompt around the class names is learned. Vectors that no word has stand before every name, the same for
all classes; the frozen text tower reads both, and what it makes of them is the class's weight.

    W      = tower([v₁] [v₂] … [v₁₆] [name])      then normalised; learned context v, class token at the end
    logits = logit_scale · f Wᵀ

torch differentiates the tower, and nothing else needs it: what is kept are the context and W, which answer by themselves.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from tip_adapter.errors import MissingExtra
from tip_adapter.methods.base import Capabilities
from tip_adapter.methods.ops import cross_entropy, like, text_logits
from tip_adapter.methods.training import SGD, TrainedClassifier, cosine_after_warm_up, train, unit_views

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from tip_adapter.vectors import Array, ClassEmbeddings

    #: (n_context, width) tensor → (n_names, d) tensor, differentiable.
    Prompts = Callable[[Any], Any]

#: Most photos a class → epochs, the paper's; it gives ImageNet 50 at any number.
EPOCHS = ((1, 50), (4, 100), (float("inf"), 200))
#: Standard deviation of the context before it has learned.
_INITIAL = 0.02
#: So many prompts go through the tower at once: what it remembers for the gradient of a thousand fits few cards.
_NAMES_PER_RUN = 256


class PromptTower(Protocol):
    """A frozen text tower that reads vectors in the place of words."""

    #: What the vectors are put into, for people: it stands wherever the numbers stand.
    description: str
    #: Length of a context vector.
    width: int

    def prompts(self, names: Sequence[str], n_context: int) -> Prompts:
        """Put room for `n_context` vectors before each name.

        Parameters
        ----------
        names : (n,) str
        n_context : int, at least 1

        Returns
        -------
        (n_context, width) float tensor → (n, d) float tensor: the names' vectors behind that context, of any length, in
        its dtype and on its device; differentiable in the context, everything else frozen

        Raises
        ------
        UsageError
            A name leaves no room for so many vectors.
        """
        ...


class CoOpClassifier(TrainedClassifier):
    """CoOp: context vectors before the class names, learned through the frozen text tower. To fit it needs torch.

    Parameters
    ----------
    class_embeddings : ClassEmbeddings; says which classes there are, those without photos too. None for those of y
    logit_scale : float, the encoder's own; 100 for CLIP
    prompt_tower : PromptTower, the encoder's: ``encoder.prompt_tower()``. Only `fit` uses it: ValueError without one, or of
        another width than the vectors; MissingExtra without torch
    names : label → what the tower reads; None for the labels
    n_context : int, how many vectors stand before each name
    epochs : int, or None for the paper's by the photos of the largest class: 50 at 1, 100 up to 4, 200 above
    batch_size : int
    learning_rate : float, of SGD; the first epoch at a 200th of it, then falling to zero by a cosine
    seed : int, of the context and of the batches

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
    >>> photos = [np.full((8, 8, 3), colour, np.uint8) for colour in [(150, 60, 60), (60, 60, 150)]]
    >>> X, tower = encoder.encode_images(photos), encoder.prompt_tower()
    >>> clf = CoOpClassifier(logit_scale=encoder.logit_scale, prompt_tower=tower).fit(X, ["red", "blue"])
    >>> print(*clf.predict(X))
    red blue

    Notes
    -----
    CoOp (Zhou et al., 2022): its unified context, class token at the end, random start; the variant that Tip-Adapter's
    paper compares with. SGD with momentum 0.9 and weight decay 5e-4.
    """

    _arrays = ("weights_",)
    capabilities = Capabilities(takes_views=True, learned=("context_", "weights_"), encoder_parts=("prompt_tower",))

    def __init__(
        self,
        class_embeddings: ClassEmbeddings | None = None,
        logit_scale: float = 100.0,
        prompt_tower: PromptTower | None = None,
        names: Mapping[Any, str] | None = None,
        n_context: int = 16,
        epochs: int | None = None,
        batch_size: int = 32,
        learning_rate: float = 0.002,
        seed: int = 0,
    ) -> None:
        self.class_embeddings = class_embeddings
        self.logit_scale = logit_scale
        self.prompt_tower = prompt_tower
        self.names = names
        self.n_context = n_context
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.seed = seed

    def _fit(self, keys: Array, labels: NDArray[Any], views: Callable[[int], Array] | None = None) -> None:
        tower = self.prompt_tower
        if tower is None:
            raise ValueError("CoOp learns through a text tower; give prompt_tower=encoder.prompt_tower()")
        prompts = _in_runs(tower, [str((self.names or {}).get(c, c)) for c in self.classes_.tolist()], self.n_context)

        def loss_and_gradients(
            learned: Sequence[Array], queries: Array, rows: NDArray[Any]
        ) -> tuple[float, Sequence[Array]]:
            weights, pull_back = read(prompts, learned[0])
            loss, errors = cross_entropy(text_logits(queries, weights, self.logit_scale), labels[rows])
            return loss, [pull_back(self.logit_scale * (errors.T @ queries))]  # (N, d)  the loss's gradient in W

        self._papers_epochs, self._stands_in = papers_epochs(labels), {"prompt_tower": tower.description}
        context = self._fresh_context(tower.width, keys)
        _require_width(read(prompts, context)[0], keys)
        (self.context_,), self.losses_ = train(
            [context],
            loss_and_gradients,
            unit_views(views, keys),
            SGD(self.learning_rate),
            n_images=len(keys),
            epochs=self._epochs,
            batch_size=self.batch_size,
            seed=self.seed,
            schedule=cosine_after_warm_up,
        )
        self.weights_, _ = read(prompts, self.context_)

    @property
    def n_parameters(self) -> int:
        """Those of the context: W is what the tower makes of it."""
        return int(self.context_.shape[0] * self.context_.shape[1])

    def training(self) -> dict[str, Any]:
        """Epochs, the paper's for so many photos a class, and, unless it was restored, what the context stands in."""
        return {"epochs": self._epochs, "papers_epochs": self._papers_epochs, **self._stands_in}

    @property
    def _epochs(self) -> int:
        return self._papers_epochs if self.epochs is None else self.epochs

    def _fresh_context(self, width: int, keys: Array) -> Array:
        rng = np.random.default_rng([self.seed, 1])  # the batches' order is drawn from the seed itself
        return like(_INITIAL * rng.standard_normal((self.n_context, width)), keys)

    def _logits(self, queries: Array, weights: Array) -> Array:
        return text_logits(queries, weights, self.logit_scale)

    def _restore(self, keys: Array, labels: NDArray[Any], learned: Mapping[str, Array]) -> None:
        shape, wanted = learned["weights_"].shape, (len(self.classes_), keys.shape[1])
        if shape != wanted or learned["context_"].shape[:-1] != (self.n_context,):
            raise ValueError(f"weights_ of shape {shape} are not {wanted}, or the context is not {self.n_context} rows")
        super()._restore(keys, labels, learned)
        self._papers_epochs, self._stands_in = papers_epochs(labels), {}


def papers_epochs(labels: NDArray[Any]) -> int:
    """How long the paper trains on photos of these classes, (n,) int array."""
    shots = np.bincount(labels, minlength=1).max()
    return next(epochs for most, epochs in EPOCHS if shots <= most)


def _in_runs(tower: PromptTower, names: Sequence[str], n_context: int) -> Prompts:
    """`PromptTower.prompts`; of many names, each run goes forward anew when its gradient is asked for."""
    torch = _import_torch()
    starts = range(0, len(names), _NAMES_PER_RUN)
    runs = [tower.prompts(names[i : i + _NAMES_PER_RUN], n_context) for i in starts]
    if len(runs) == 1:
        return runs[0]
    again = partial(torch.utils.checkpoint.checkpoint, use_reentrant=False)
    return lambda context: torch.cat([again(run, context) for run in runs])


def read(prompts: Prompts, context: Array) -> tuple[Array, Callable[[Array], Array]]:
    """Let the tower read a context.

    Parameters
    ----------
    prompts : what `PromptTower.prompts` gives
    context : (n_context, width) float array, NumPy or torch

    Returns
    -------
    weights : (n_names, d) array W of the context's kind, unit rows
    pull_back : the loss's gradient in W → its gradient in the context
    """
    torch = _import_torch()
    leaf = torch.as_tensor(context).detach().clone().requires_grad_()
    weights = torch.nn.functional.normalize(prompts(leaf), dim=1)

    def pull_back(slopes: Array) -> Array:
        (gradient,) = torch.autograd.grad(weights, leaf, like(slopes, weights))
        return like(gradient, context)

    return like(weights, context), pull_back


def _require_width(weights: Array, keys: Array) -> None:
    if weights.shape[1] != keys.shape[1]:
        raise ValueError(f"X has {keys.shape[1]} features, the prompt tower's vectors have {weights.shape[1]}")


def _import_torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise MissingExtra.of("torch", "torch") from error
    return torch
