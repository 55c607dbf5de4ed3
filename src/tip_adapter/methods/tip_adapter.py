"""Tip-Adapter: the labelled images are a key-value cache, added to the zero-shot classifier without any training.

    A      = exp(−beta · (1 − f Fᵀ))                  affinities of queries f to keys F      equation 3
    logits = logit_scale · f Wᵀ + alpha · A L         class embeddings W, one-hot labels L   equation 4

`alpha` (residual ratio) weighs the cache against the class names; `beta` (sharpness) is how fast an affinity falls with
distance. The paper uses (1.0, 5.5) on ImageNet. Its equation 4 omits `logit_scale` (100 for CLIP); its numbers include it.

The paper's classes have equally many images. Where they do not, a class's sum A L is divided by its number of images and
multiplied by the mean number, or classes with many images would win for their number.

Tip-Adapter-F takes the same logits and trains the keys F; the gradient is two matrix products. `training.py` has the loop.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import array_api_compat
import numpy as np

from tip_adapter.methods.base import Capabilities, ExplainedClassifier
from tip_adapter.methods.incremental import IncrementalClassifier
from tip_adapter.methods.ops import (
    class_balance,
    cross_entropy,
    like,
    parts_in_threads,
    sum_affinities_by_class,
    sum_by_class,
    text_logits,
    zeros_like,
)
from tip_adapter.methods.training import PLAIN, AdamW, TrainedClassifier, cosine

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from tip_adapter.methods.training import LossAndGradients, Passes
    from tip_adapter.vectors import Array, ClassEmbeddings

#: Whether a training image keeps or leaves out its own key; see `leaves_out_own_key`.
OWN_KEY = ("keep", "leave-out")


def cache_logits(
    queries: Array,
    keys: Array,
    labels: NDArray[Any],
    n_classes: int,
    beta: float,
    class_sums: str = "balanced",
) -> Array:
    """The cache's logits: affinities to the keys, summed by class.

    Parameters
    ----------
    queries, keys : (m, d) float array of unit rows, (n, d) float array
    labels : (n,) int array, class index of each key
    n_classes : int
    beta : float, sharpness
    class_sums : ``"balanced"`` (sums times mean count / K_c, which is 1 where all counts K_c are equal) or ``"raw"``

    Returns
    -------
    (m, n_classes) float array, same kind, dtype and device as `queries`

    Notes
    -----
    Tip-Adapter (ECCV 2022), equations 3 and 4: A L, where the one-hot L is never formed.
    """
    sums = sum_affinities_by_class(partial(affinity, beta=beta), queries, keys, labels, n_classes)  # (m, N)  A L
    factors = sum_factors(labels, n_classes, None, class_sums)
    return _times(sums, factors)


def affinity(
    queries: Array, keys: Array, beta: float, own_rows: NDArray[Any] | None = None, *, out: Array | None = None
) -> Array:
    """Equation 3, A = exp(−beta (1 − f Fᵀ)): (m, d) and (n, d) → (m, n); 0 at each query's own key, if given.

    A is column-major, as sums by class read it. `out` is an (n, m) NumPy array that Aᵀ is written to.
    """
    closeness = (keys @ queries.T if out is None else np.matmul(keys, queries.T, out=out)).T  # (m, n)
    closeness -= 1
    return sharpen(closeness, beta, own_rows, out=closeness)  # in place: these are the largest arrays


def sharpen(closeness: Array, beta: float, own_rows: NDArray[Any] | None = None, *, out: Array) -> Array:
    """Equation 3 from precomputed closeness f Fᵀ − 1, written to `out`."""
    xp = array_api_compat.array_namespace(closeness)
    affinities = xp.exp(xp.multiply(closeness, beta, out=out), out=out)  # (m, n)
    if own_rows is not None:
        affinities[np.arange(len(own_rows)), own_rows] = 0
    return affinities


def sum_affinities(
    affinities: Array,
    labels: NDArray[Any],
    n_classes: int,
    own_rows: NDArray[Any] | None = None,
    class_sums: str = "balanced",
    values: Array | None = None,
) -> Array:
    """Equation 4's A L from affinities that are there, (m, n) → (m, n_classes).

    `own_rows`, (m,), is the key that each query leaves out: its class's sum is rescaled by K_c / (K_c − 1). `class_sums` as in
    `cache_logits`. `values`, (n, n_classes), replace the one-hot L: the paper's Table 6 trains them.
    """
    sums = sum_by_class(affinities, labels, n_classes) if values is None else affinities @ values  # (m, N)
    factors = sum_factors(labels, n_classes, own_rows, class_sums)
    return _times(sums, factors)


def sum_factors(
    labels: NDArray[Any], n_classes: int, own_rows: NDArray[Any] | None, class_sums: str
) -> NDArray[np.float64] | None:
    """What the sums over classes are multiplied by, (n_classes,) or (m, n_classes); None for nothing.

    Balanced sums have mean count / K_c. What makes up for a left-out key is K_c / (K_c − 1) for its class, 1 where K_c is 1.
    """
    balance = class_balance(labels, n_classes) if class_sums == "balanced" else None  # (N,)
    if own_rows is None:
        return balance
    own_class = labels[own_rows]
    count = np.bincount(labels, minlength=n_classes)[own_class]
    factors = np.ones((len(own_rows), n_classes))
    factors[np.arange(len(own_rows)), own_class] = np.where(count > 1, count / np.maximum(count - 1, 1), 1)
    return factors if balance is None else factors * balance  # (m, N)


def _times(sums: Array, factors: NDArray[np.float64] | None) -> Array:
    return sums if factors is None else sums * like(factors, sums)


def cache_gradient(
    queries: Array,
    affinities: Array,
    errors: Array,
    labels: NDArray[Any],
    alpha: float,
    beta: float,
    own_rows: NDArray[Any] | None = None,
    class_sums: str = "balanced",
    *,
    out: NDArray[Any] | None = None,
) -> Array:
    """Gradient of the loss with respect to the keys: alpha · beta · (A ∘ (P Lᵀ))ᵀ f.

    Parameters
    ----------
    queries : (m, d) float array f
    affinities : (m, n) float array A, as `affinity` gives it for the same `own_rows`
    errors : (m, n_classes) float array P, the loss's gradient with respect to the logits, (softmax − one-hot) / m
    labels : (n,) int array, class index of each key
    alpha, beta : float
    own_rows, class_sums : as in `sum_affinities`
    out : (n, d) NumPy array that the gradient is written to, or None

    Returns
    -------
    (n, d) float array
    """
    factors = sum_factors(labels, errors.shape[1], own_rows, class_sums)
    errors = _times(errors, factors)  # (m, N)  as the sums were
    gradients = errors.T[labels]  # (n, m)  L Pᵀ
    gradients *= affinities.T  # (n, m)  Aᵀ ∘ (L Pᵀ)
    gradients *= alpha * beta  # (n, m)  alpha · beta · Aᵀ ∘ (L Pᵀ)
    return gradients @ queries if out is None else np.matmul(gradients, queries, out=out)  # (n, d)


def leaves_out_own_key(own_key: str | None, labels: NDArray[Any], *, plain: bool) -> bool:
    """Whether training images leave out their own key, by one of `OWN_KEY` or None.

    By default (None) they do if their views are not augmented and some class has two images: a query that finds its own
    vector among the keys has nothing to learn. With one image per class nothing of the query's class would be left, and
    training would only push the other keys away.
    """
    if own_key is None:
        return bool(plain and np.bincount(labels, minlength=1).max() > 1)
    return own_key == "leave-out"


class CacheClassifier(ExplainedClassifier):
    """Equation 4: text logits plus alpha times cache logits."""

    _arrays = ("weights_", "keys_")

    @abstractmethod
    def _alpha_beta(self) -> tuple[float, float]:
        """The alpha and beta of predictions."""

    def _logits(self, queries: Array, weights: Array, keys: Array) -> Array:
        alpha, beta = self._alpha_beta()
        cache = cache_logits(queries, keys, self.labels_, len(self.classes_), beta, self.class_sums)  # (m, N)
        return text_logits(queries, weights, self.logit_scale) + alpha * cache  # (m, N)

    def _n_columns(self, queries: Array, *arrays: Array) -> int:
        # NumPy's affinities exist in tiles only.
        return len(self.classes_) if array_api_compat.is_numpy_array(queries) else super()._n_columns(queries, *arrays)

    def _parts(self, queries: Array, weights: Array, keys: Array) -> tuple[Array, Array]:
        """Equation 4 before the sum over keys: (m, N) text logits and (m, n) terms of the images."""
        alpha, beta = self._alpha_beta()
        terms = alpha * affinity(queries, keys, beta)  # (m, n)
        factors = sum_factors(self.labels_, len(self.classes_), None, self.class_sums)
        if factors is not None:
            terms *= like(factors[self.labels_], terms)
        return text_logits(queries, weights, self.logit_scale), terms


@dataclass(eq=False, repr=False)
class _GivenAlphaBeta(CacheClassifier):
    """Equation 4 with alpha and beta as constructor arguments."""

    alpha: float = 1.0
    beta: float = 5.5
    class_embeddings: ClassEmbeddings | None = None
    logit_scale: float = 100.0
    class_sums: str = "balanced"

    def _alpha_beta(self) -> tuple[float, float]:
        return float(self.alpha), float(self.beta)  # NumPy numbers would change the dtype

    def _restore(self, keys: Array, labels: NDArray[Any], learned: Mapping[str, Array]) -> None:
        if learned["keys_"].shape != keys.shape:
            raise ValueError(f"keys_ has shape {learned['keys_'].shape}, expected {keys.shape}")
        self.keys_, self.labels_ = learned["keys_"], labels


@dataclass(eq=False, repr=False)
class TipAdapterClassifier(_GivenAlphaBeta, IncrementalClassifier):
    """Tip-Adapter: class names plus a cache of labelled images; training-free.

    Parameters
    ----------
    alpha : float, residual ratio: weight of the cache; 0 is zero-shot
    beta : float, sharpness of the affinities
    class_embeddings : ClassEmbeddings, or None for the cache alone
    logit_scale : float, the encoder's own; 100 for CLIP
    class_sums : ``"balanced"``, so that a class does not win for its number of images: a class's sum is divided by it and
        multiplied by the mean number (with equally many images in all classes, the paper's sum exactly); or ``"raw"``

    Attributes
    ----------
    classes_ : (n_classes,) sorted labels
    keys_ : (n, d) array, unit rows
    labels_ : (n,) int array, positions in `classes_`
    ids_ : (n,) str array, image id of each key

    Examples
    --------
    >>> from tip_adapter import ClassEmbeddings, TipAdapterClassifier
    >>> names = ClassEmbeddings(["cat", "dog"], [[1.0, 0.0], [0.0, 1.0]])
    >>> clf = TipAdapterClassifier(class_embeddings=names).fit([[0.9, 0.1], [0.2, 0.8]], ["cat", "dog"])
    >>> print(clf.predict([[0.8, 0.3]])[0])
    cat

    Notes
    -----
    Tip-Adapter (ECCV 2022), section 3.1, where all classes have equally many images.
    """

    capabilities = Capabilities(has_alpha_beta=True, incremental=True, explains=True)

    def _fit(self, keys: Array, labels: NDArray[Any]) -> None:
        self.keys_, self.labels_ = keys, labels


@dataclass(eq=False, repr=False)
class TipAdapterFClassifier(TrainedClassifier, _GivenAlphaBeta):
    """Tip-Adapter-F: the keys start as the images' vectors and are fine-tuned; everything else stays frozen.

    Parameters
    ----------
    alpha, beta, class_embeddings, logit_scale, class_sums : as in TipAdapterClassifier; used for training and for prediction.
        Where sums are balanced, classes also count the same in the loss
    epochs : int, passes over the support (the paper: 20; 100 on EuroSAT)
    batch_size : int (the paper: 256)
    learning_rate : float, of AdamW, annealed to zero by a cosine (the paper: 0.001)
    own_key : ``"keep"`` (the paper's), ``"leave-out"`` (a training image does not see its own key), or None: leave-out,
        unless `fit` gets augmented views or no class has two images
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

    _choices: ClassVar = {**_GivenAlphaBeta._choices, "own_key": OWN_KEY}
    capabilities = Capabilities(has_alpha_beta=True, takes_views=True, explains=True, learned=("keys_",))

    epochs: int = 20
    batch_size: int = 256
    learning_rate: float = 1e-3
    own_key: str | None = None
    seed: int = 0

    def _fit(self, keys: Array, labels: NDArray[Any], passes: Passes = PLAIN) -> None:
        leave_out, n_classes = leaves_out_own_key(self.own_key, labels, plain=passes.views is None), len(self.classes_)
        alpha, beta = self._alpha_beta()
        balance = sum_factors(labels, n_classes, None, self.class_sums)  # (N,)
        self.labels_ = labels
        with parts_in_threads(keys, min(int(self.batch_size), len(keys))) as (run, parts):
            # Of each part: its classes, and of which of them each key is.
            classes = [np.unique(labels[part], return_inverse=True) for part in parts]
            # One array for the gradients of all steps: a new one costs a third of the product that fills it.
            gradient = np.empty_like(keys) if array_api_compat.is_numpy_array(keys) else None

            def loss_and_gradients(learned: Sequence[Array], queries: Array, rows: NDArray[Any]) -> LossAndGradients:
                factors = sum_factors(labels, n_classes, rows if leave_out else None, self.class_sums)

                def affinities_of(part: slice, own: tuple[NDArray[Any], NDArray[Any]]) -> tuple[Array, Array]:
                    present, positions = own
                    affinities = affinity(queries, learned[0][part], beta)  # (m, k)  A
                    if leave_out:
                        inside = np.flatnonzero((part.start <= rows) & (rows < part.stop))
                        affinities[inside, rows[inside] - part.start] = 0
                    return affinities, sum_by_class(affinities, positions, len(present))

                def gradient_of(part: slice, affinities: Array) -> Array:
                    out = None if gradient is None else gradient[part]
                    given = affinities, errors, labels[part], alpha, beta
                    return cache_gradient(queries, *given, class_sums="raw", out=out)  # (k, d)

                affinities, sums = zip(*run(affinities_of, parts, classes), strict=True)
                text = text_logits(queries, self.weights_, self.logit_scale)  # (m, N)
                cache = zeros_like(text)  # (m, N)  A L
                for (present, _), of_a_part in zip(classes, sums, strict=True):
                    cache[:, present] += of_a_part
                cache = _times(cache, factors)
                loss, errors = cross_entropy(text + alpha * cache, labels[rows], balance)  # (m, N)  P
                errors = _times(errors, factors)
                gradients = list(run(gradient_of, parts, affinities))
                return loss, gradients if gradient is None else [gradient]

            optimiser = AdamW(float(self.learning_rate), run=run)
            self._train([keys], loss_and_gradients, keys, passes, optimiser, cosine)

    def _set(self, learned: Sequence[Array]) -> None:
        (self.keys_,) = learned
