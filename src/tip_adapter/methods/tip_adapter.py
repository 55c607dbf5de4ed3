"""Tip-Adapter: the labelled photos are a cache, and nothing is trained. A query asks the cache for the labels of the
photos it resembles, and adds what the class names say.

    A      = exp(-beta · (1 − f Fᵀ))                  affinities of queries f to keys F      equation 3
    logits = logit_scale · f Wᵀ + alpha · A L         names W, one-hot labels L              equation 4

`alpha` (residual ratio) weighs the cache, `beta` (sharpness) says how alike a photo must be to count; the paper's pair
for ImageNet is 1.0 and 5.5. Its equation 4 leaves out `logit_scale` (100 for CLIP), its numbers do not. Tip-Adapter-F
takes the same logits and lets the keys F learn, by a gradient of two products; `_train.py` holds the loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tip_adapter.methods.base import Capabilities, ExplainedClassifier
from tip_adapter.methods.incremental import IncrementalClassifier
from tip_adapter.methods.ops import affinity, cross_entropy, own_key_step, sum_by_class, text_logits
from tip_adapter.methods.trained import TrainedClassifier, unit_views
from tip_adapter.methods.training import AdamW, cosine, train

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from tip_adapter.vectors import Array, ClassEmbeddings


def cache_logits(queries: Array, keys: Array, labels: NDArray[Any], n_classes: int, beta: float) -> Array:
    """Ask the cache: affinities to the keys, summed by their class.

    Parameters
    ----------
    queries : (m, d) float array, unit rows
    keys : (n, d) float array
    labels : (n,) int array, class index of each key
    n_classes : int
    beta : float, sharpness

    Returns
    -------
    (m, n_classes) float array, same kind, dtype and device as `queries`

    Notes
    -----
    Tip-Adapter (ECCV 2022), equations 3 and 4: A L, where the one-hot L is never formed.
    """
    affinities = affinity(queries, keys, beta)  # (m, n)  A = exp(−beta (1 − f Fᵀ))
    return sum_by_class(affinities, labels, n_classes)  # (m, N)  A L


def cache_gradient(
    queries: Array, affinities: Array, errors: Array, labels: NDArray[Any], alpha: float, beta: float
) -> Array:
    """Gradient of the loss in the keys: alpha · beta · (A ∘ (P Lᵀ))ᵀ f.

    Parameters
    ----------
    queries : (m, d) float array f
    affinities : (m, n) float array A
    errors : (m, n_classes) float array P, the loss's gradient in the logits, (softmax − one-hot) / m; with own keys left
        out P∘G, and A∘M for A (see `leave_out_own_key`)
    labels : (n,) int array, class index of each key
    alpha, beta : float

    Returns
    -------
    (n, d) float array
    """
    pulls = errors[:, labels]  # (m, n)  P Lᵀ
    pulls *= affinities  # (m, n)  A ∘ (P Lᵀ)
    pulls *= alpha * beta  # (m, n)  alpha · beta · A ∘ (P Lᵀ)
    return pulls.T @ queries  # (n, d)


class _CacheClassifier(ExplainedClassifier):
    """Equation 4, once for both: what the names say plus alpha times what the cache says."""

    _arrays = ("weights_", "keys_")

    alpha: float
    beta: float
    logit_scale: float
    keys_: Array
    labels_: NDArray[Any]

    def _logits(self, queries: Array, weights: Array, keys: Array) -> Array:
        cache = cache_logits(queries, keys, self.labels_, len(self.classes_), self.beta)  # (m, N)
        return text_logits(queries, weights, self.logit_scale) + self.alpha * cache  # (m, N)

    def _parts(self, queries: Array, weights: Array, keys: Array) -> tuple[Array, Array]:
        """Equation 4 before the sum over a class's keys: (m, N) text logits and (m, n) parts of the photos."""
        return text_logits(queries, weights, self.logit_scale), self.alpha * affinity(queries, keys, self.beta)

    def _restore(self, keys: Array, labels: NDArray[Any], learned: Mapping[str, Array]) -> None:
        if learned["keys_"].shape != keys.shape:
            raise ValueError(f"keys_ is {learned['keys_'].shape}, not {keys.shape}")
        self.keys_, self.labels_ = learned["keys_"], labels


class TipAdapterClassifier(_CacheClassifier, IncrementalClassifier):
    """Tip-Adapter: a cache of labelled photos beside the class names; training-free.

    Parameters
    ----------
    alpha : float, residual ratio: weight of the cache; 0 is zero-shot
    beta : float, sharpness of the affinities
    class_embeddings : ClassEmbeddings, or None for the cache alone
    logit_scale : float, the encoder's own; 100 for CLIP

    Attributes
    ----------
    classes_ : (n_classes,) sorted labels
    keys_ : (n, d) array, unit rows
    labels_ : (n,) int array, positions in `classes_`
    ids_ : (n,) str array, what each key is called

    Examples
    --------
    >>> from tip_adapter import ClassEmbeddings, TipAdapterClassifier
    >>> names = ClassEmbeddings(["cat", "dog"], [[1.0, 0.0], [0.0, 1.0]])
    >>> clf = TipAdapterClassifier(class_embeddings=names).fit([[0.9, 0.1], [0.2, 0.8]], ["cat", "dog"])
    >>> print(clf.predict([[0.8, 0.3]])[0])
    cat

    Notes
    -----
    Tip-Adapter (ECCV 2022), section 3.1. Exact for unbalanced classes: a class's cache logit is the sum over its keys.
    """

    capabilities = Capabilities(has_alpha_beta=True, incremental=True, explains=True)

    def __init__(
        self,
        alpha: float = 1.0,
        beta: float = 5.5,
        class_embeddings: ClassEmbeddings | None = None,
        logit_scale: float = 100.0,
    ) -> None:
        self.alpha = alpha
        self.beta = beta
        self.class_embeddings = class_embeddings
        self.logit_scale = logit_scale

    def _fit(self, keys: Array, labels: NDArray[Any]) -> None:
        self.keys_, self.labels_ = keys, labels


class TipAdapterFClassifier(TrainedClassifier, _CacheClassifier):
    """Tip-Adapter-F: the keys start as the photos' vectors and learn for a few epochs; all else stays frozen.

    Parameters
    ----------
    alpha, beta, class_embeddings, logit_scale : as in TipAdapterClassifier; trained and used at the same pair
    epochs : int, passes over the support (the paper: 20; 100 on EuroSAT)
    batch_size : int (the paper: 256)
    learning_rate : float, of AdamW, annealed to zero by a cosine (the paper: 0.001)
    own_key : ``"keep"`` (the paper's), ``"leave-out"`` (a query does not see its own key while training, which cached
        plain views need: with it in sight there is nothing to learn), or None: leave-out, unless `fit` is given views or
        no class has two photos
    seed : int, order of the batches

    Attributes
    ----------
    classes_ : (n_classes,) sorted labels
    keys_ : (n, d) array, learned: not unit rows
    labels_ : (n,) int array, positions in `classes_`
    losses_ : (epochs,) mean loss of each epoch

    Examples
    --------
    >>> from tip_adapter import ClassEmbeddings, TipAdapterFClassifier
    >>> names = ClassEmbeddings(["cat", "dog"], [[1.0, 0.0], [0.0, 1.0]])
    >>> X, y = [[0.9, 0.1], [0.8, 0.3], [0.2, 0.8], [0.1, 0.7]], ["cat", "cat", "dog", "dog"]
    >>> clf = TipAdapterFClassifier(class_embeddings=names, epochs=2).fit(X, y)
    >>> print(clf.predict([[0.8, 0.3]])[0], clf.losses_.shape)
    cat (2,)

    Notes
    -----
    Tip-Adapter (ECCV 2022), section 3.2; the result is the last epoch's. AdamW with betas .9 and .999, epsilon 1e-4,
    decoupled weight decay 0.01.
    """

    capabilities = Capabilities(has_alpha_beta=True, takes_views=True, explains=True, learned=("keys_",))

    def __init__(
        self,
        alpha: float = 1.0,
        beta: float = 5.5,
        class_embeddings: ClassEmbeddings | None = None,
        logit_scale: float = 100.0,
        epochs: int = 20,
        batch_size: int = 256,
        learning_rate: float = 1e-3,
        own_key: str | None = None,
        seed: int = 0,
    ) -> None:
        self.alpha = alpha
        self.beta = beta
        self.class_embeddings = class_embeddings
        self.logit_scale = logit_scale
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.own_key = own_key
        self.seed = seed

    def _fit(self, keys: Array, labels: NDArray[Any], views: Callable[[int], Array] | None = None) -> None:
        treat_own_key, n_classes = own_key_step(self.own_key, labels, plain=views is None), len(self.classes_)

        def loss_and_gradients(
            learned: Sequence[Array], queries: Array, rows: NDArray[Any]
        ) -> tuple[float, Sequence[Array]]:
            # `cache_logits` with A at hand for the gradient; a query may leave out its own key: A∘M, and G beside it.
            affinities, rescale = treat_own_key(affinity(queries, learned[0], self.beta), rows, labels, n_classes)
            cache = sum_by_class(affinities, labels, n_classes) * rescale  # (m, N)  ((A∘M) L)∘G
            text = text_logits(queries, self.weights_, self.logit_scale)  # (m, N)
            loss, errors = cross_entropy(text + self.alpha * cache, labels[rows])  # (m, N)  P
            return loss, [cache_gradient(queries, affinities, errors * rescale, labels, self.alpha, self.beta)]

        self.labels_ = labels
        (self.keys_,), self.losses_ = train(
            [keys],
            loss_and_gradients,
            unit_views(views, keys),
            AdamW(self.learning_rate),
            n_images=len(keys),
            epochs=self.epochs,
            batch_size=self.batch_size,
            seed=self.seed,
            schedule=cosine,
        )
