"""Choosing alpha and beta: by leaving each photo out, by validation photos, or in the support's own units.

alpha and beta mean something else for every encoder. In units of the support set itself they travel: sharpness in
1/sigma, sigma the standard deviation of the cosines between photos of different classes; the cache's weight as the
ratio of its spread to the text's. The search runs over a grid in these units. Accuracy on a few hundred rows is a
staircase with wide steps, so the best cell says little: every pair within one standard error of the best forms a
plateau, and the pair nearest to the plateau's centre is taken.

Every choice carries a temperature, fitted by likelihood on the same rows: dividing the logits by it changes no label
and makes the softmax say how sure one may be.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import minimize_scalar
from sklearn.utils.validation import column_or_1d

from tip_adapter.methods._base import positions
from tip_adapter.methods._kernels import (
    keep_own_key,
    leave_out_own_key,
    sharpen,
    sum_by_class,
    text_logits,
    to_numpy,
)
from tip_adapter.methods.tip_adapter import TipAdapterClassifier
from tip_adapter.vectors import softmax

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from tip_adapter.vectors import Array, ClassEmbeddings

LEAVE_ONE_OUT, SCALE_FREE, VALIDATION, FIXED = "leave-one-out", "scale-free", "validation", "fixed"

#: Sharpness of the scale-free pair, and the grid's, in 1/sigma.
_SHARPNESS = 0.5
_SHARPNESSES = np.geomspace(0.1, 3.2, 11)
#: The grid's ratios of the cache's spread to the text's.
_RATIOS = np.geomspace(1 / 32, 32, 31)
#: The paper's sharpness, where the support has no units: fewer than two pairs of photos differ in class.
_PAPERS_BETA = 5.5
_BLOCK_ENTRIES = 2**22


@dataclass(frozen=True)
class Choice:
    """A pair and how it was chosen.

    Parameters
    ----------
    alpha, beta : float
    temperature : float, what logits are divided by before the softmax; 1 where there were no rows to fit it on
    accuracy : float in [0, 1] on the rows it was chosen on (left-out or validation photos), None without rows
    rule : ``leave-one-out``, ``scale-free``, ``validation`` or ``fixed``
    n_rows : int, how many rows that accuracy counts
    """

    alpha: float
    beta: float
    temperature: float
    accuracy: float | None
    rule: str
    n_rows: int


def choose_alpha_beta(
    X: Array,
    y: Any,
    class_embeddings: ClassEmbeddings | None = None,
    logit_scale: float = 100.0,
    rule: str = LEAVE_ONE_OUT,
    queries: Array | None = None,
    validation: tuple[Array, Any] | None = None,
    ratio: float = 0.1,
) -> Choice:
    """Choose alpha and beta for a support set.

    Parameters
    ----------
    X : (n, d) float array, the keys; rows are normalised here
    y : (n,) labels
    class_embeddings : ClassEmbeddings, or None for the cache alone (alpha is then 1: accuracy does not depend on it)
    logit_scale : float, the encoder's own
    rule : ``leave-one-out`` (each photo scored by the cache without it), ``scale-free`` (no search: works from one
        photo a class) or ``validation``
    queries : (n, d) float array, plain views of the photos behind X where X holds means of augmented views; default X
    validation : (X_val, y_val), for ``rule="validation"``
    ratio : float, for ``rule="scale-free"``: the encoder's ratio of the cache's spread to the text's; 0.1 for CLIP

    Returns
    -------
    Choice

    Raises
    ------
    ValueError
        The rule is unknown; leave-one-out and no class has two photos; validation photos missing or without rows;
        or X, y as TipAdapterClassifier.fit.

    Notes
    -----
    A photo that is alone in its class gives no row to leave-one-out; nothing of its class would be left.
    """
    clf = TipAdapterClassifier(class_embeddings=class_embeddings, logit_scale=logit_scale).fit(X, y)
    plain = clf.unit_queries(X if queries is None else queries)
    support = _support(clf, plain)
    if rule == LEAVE_ONE_OUT:
        return leave_one_out(support)
    if rule == SCALE_FREE:
        return scale_free(support, ratio)
    if rule == VALIDATION:
        if validation is None:
            raise ValueError('rule="validation" needs validation=(X_val, y_val)')
        labels = positions(column_or_1d(to_numpy(validation[1])), clf.classes_)
        return on_validation(support, to_numpy(clf.unit_queries(validation[0])), labels)
    raise ValueError(f"unknown rule {rule!r}: known are {LEAVE_ONE_OUT}, {SCALE_FREE}, {VALIDATION}")


def support_of(X: Array, y: Any, class_embeddings: ClassEmbeddings | None, logit_scale: float) -> Support:
    """What the rules look at, from what `choose_alpha_beta` takes."""
    clf = TipAdapterClassifier(class_embeddings=class_embeddings, logit_scale=logit_scale).fit(X, y)
    return _support(clf, clf.keys_)


def _support(clf: TipAdapterClassifier, queries: Array) -> Support:
    if queries.shape != clf.keys_.shape:
        raise ValueError(f"queries are views of X's photos: {tuple(queries.shape)} is not {tuple(clf.keys_.shape)}")
    return Support(to_numpy(queries), to_numpy(clf.keys_), clf.labels_, to_numpy(clf.weights_), float(clf.logit_scale))


@dataclass(frozen=True)
class Support:
    """What the rules look at, as it is: learned keys are not normalised.

    Parameters
    ----------
    queries : (n, d) float array, plain views of the support photos, unit rows
    keys : (n, d) float array
    labels : (n,) int array, class index of each
    weights : (n_classes, d) float array, class embeddings; zeros where there are none
    logit_scale : float
    """

    queries: NDArray[Any]
    keys: NDArray[Any]
    labels: NDArray[Any]
    weights: NDArray[Any]
    logit_scale: float

    @cached_property
    def sigma(self) -> float | None:
        """Standard deviation of the cosines between photos of different classes; None where it means nothing."""
        count, total, squares = 0, 0.0, 0.0
        for rows in _blocks(len(self.queries), len(self.keys)):
            cosines = self.queries[rows] @ self.keys.T
            cosines = cosines[self.labels[rows, None] != self.labels].astype(np.float64)
            count, total, squares = count + len(cosines), total + cosines.sum(), squares + (cosines**2).sum()
        if count < 4:  # two pairs, each seen from both sides
            return None
        sigma = float(np.sqrt(max(squares / count - (total / count) ** 2, 0)))
        return sigma if sigma >= 1e-6 else None

    def beta(self, sharpness: float) -> float:
        """A sharpness in 1/sigma as beta."""
        return float(sharpness / self.sigma if self.sigma else sharpness / _SHARPNESS * _PAPERS_BETA)

    def left_out(self, betas: Sequence[float]) -> Rows:
        """Every support photo, scored by the cache without it; those alone in their class are not judged."""
        judged = np.bincount(self.labels, minlength=1)[self.labels] > 1
        return self._rows(self.queries, self.labels, judged, betas, leave_out_own_key)

    def unseen(self, queries: NDArray[Any], labels: NDArray[Any], betas: Sequence[float]) -> Rows:
        """Other photos, scored by the whole cache."""
        return self._rows(queries, labels, np.ones(len(labels), np.bool_), betas, keep_own_key)

    def _rows(
        self,
        queries: NDArray[Any],
        labels: NDArray[Any],
        judged: NDArray[np.bool_],
        betas: Sequence[float],
        own_key: Callable[..., tuple[Array, Array | float]],
    ) -> Rows:
        n_classes = len(self.weights)
        cache = np.empty((len(betas), len(queries), n_classes), queries.dtype)
        for rows in _blocks(len(queries), len(self.keys)):
            cosines = queries[rows] @ self.keys.T
            for sums, beta in zip(cache, betas, strict=True):
                affinities, rescale = own_key(sharpen(cosines.copy(), beta), rows, self.labels, n_classes)
                sums[rows] = sum_by_class(affinities, self.labels, n_classes) * rescale
        return Rows(text_logits(queries, self.weights, self.logit_scale), cache, labels, judged, tuple(betas))


@dataclass(frozen=True)
class Rows:
    """Photos and what names and cache say about them: what a pair is judged by.

    Parameters
    ----------
    text : (n, n_classes) float array, text logits
    cache : (n_betas, n, n_classes) float array, cache logits at each beta
    labels : (n,) int array
    judged : (n,) bool array, rows that count in accuracy and likelihood; all rows count in the units
    betas : (n_betas,) floats
    """

    text: NDArray[Any]
    cache: NDArray[Any]
    labels: NDArray[Any]
    judged: NDArray[np.bool_]
    betas: tuple[float, ...]

    @property
    def n_judged(self) -> int:
        """How many rows count."""
        return int(self.judged.sum())

    def alpha(self, b: int, ratio: float) -> float:
        """The alpha at which the cache's spread is `ratio` times the text's, at beta number `b`."""
        text, cache = _spread(self.text), _spread(self.cache[b])
        return ratio * text / cache if text > 0 and cache > 0 else 1.0

    def choice(self, b: int, alpha: float, rule: str) -> Choice:
        """The pair with its accuracy and temperature on the judged rows."""
        if not self.n_judged:
            return Choice(alpha, self.betas[b], 1.0, None, rule, 0)
        logits, labels = (self.text + alpha * self.cache[b])[self.judged], self.labels[self.judged]
        accuracy = float((logits.argmax(axis=1) == labels).mean())
        return Choice(alpha, self.betas[b], fit_temperature(logits, labels), accuracy, rule, self.n_judged)

    def search(self, rule: str) -> Choice:
        """The pair at the centre of the plateau of accuracy over the grid."""
        text, labels = self.text[self.judged], self.labels[self.judged]
        alphas = np.array([[self.alpha(b, ratio) for ratio in _RATIOS] for b in range(len(self.betas))])
        accuracy = np.empty(alphas.shape)
        for b, cache in enumerate(self.cache[:, self.judged]):
            for r, alpha in enumerate(alphas[b]):
                logits = cache * alpha
                logits += text
                accuracy[b, r] = (logits.argmax(axis=1) == labels).mean()
        b, r = plateau_centre(accuracy, len(labels))
        return self.choice(b, float(alphas[b, r]), rule)


def leave_one_out(support: Support) -> Choice:
    """Search over the support, each photo scored without its own key.

    Raises
    ------
    ValueError
        No class has two photos.
    """
    rows = support.left_out([support.beta(sharpness) for sharpness in _SHARPNESSES])
    if not rows.n_judged:
        raise ValueError("leave-one-out needs a class with two photos; the scale-free rule works from one")
    return rows.search(LEAVE_ONE_OUT)


def scale_free(support: Support, ratio: float) -> Choice:
    """No search: sharpness 1/2 in the support's units, the cache's spread `ratio` times the text's."""
    rows = support.left_out([support.beta(_SHARPNESS)])
    return rows.choice(0, rows.alpha(0, ratio), SCALE_FREE)


def on_validation(support: Support, queries: NDArray[Any], labels: NDArray[Any]) -> Choice:
    """Search over other photos: (m, d) unit rows, (m,) class indices.

    Raises
    ------
    ValueError
        There are none.
    """
    if not len(queries):
        raise ValueError("there are no validation photos")
    rows = support.unseen(queries, labels, [support.beta(sharpness) for sharpness in _SHARPNESSES])
    return rows.search(VALIDATION)


def fixed(support: Support, alpha: float, beta: float) -> Choice:
    """A given pair with its left-out accuracy; its temperature is 1."""
    return replace(support.left_out([beta]).choice(0, alpha, FIXED), temperature=1.0)


def plateau_centre(accuracy: NDArray[np.float64], n_rows: int) -> tuple[int, int]:
    """Of all cells within one standard error of the best, the one nearest to their centre.

    Parameters
    ----------
    accuracy : (n_betas, n_ratios) float array over a grid that is even in both directions
    n_rows : int, how many rows each accuracy counts

    Returns
    -------
    int, int : position of the cell
    """
    best = accuracy.max()
    cells = np.argwhere(accuracy >= best - np.sqrt(best * (1 - best) / n_rows) - 1e-12)
    steps = np.log([_SHARPNESSES[1] / _SHARPNESSES[0], _RATIOS[1] / _RATIOS[0]])
    distance = (((cells - cells.mean(axis=0)) * steps) ** 2).sum(axis=1)
    b, r = cells[distance.argmin()]
    return int(b), int(r)


def fit_temperature(logits: NDArray[Any], labels: NDArray[Any]) -> float:
    """The temperature at which dividing the logits by it makes the labels most likely.

    Each label is believed to (n + 1) / (n + 2) only, as Platt (1999) does: a few rows that are all right do not make
    the classifier certain.

    Parameters
    ----------
    logits : (n, n_classes) float array
    labels : (n,) int array

    Returns
    -------
    float, between 0.01 and 100,000
    """
    n, n_classes = logits.shape
    own = np.arange(n), labels
    targets = np.full(logits.shape, 1 / (n + 2) / max(n_classes - 1, 1))
    targets[own] = (n + 1) / (n + 2)

    def loss(log_temperature: float) -> float:
        probabilities = softmax(logits.astype(np.float64) / np.exp(log_temperature))
        return -float((targets * np.log(np.maximum(probabilities, 1e-300))).sum()) / n

    return float(np.exp(minimize_scalar(loss, bounds=np.log([0.01, 1e5]), method="bounded").x))


def _spread(logits: NDArray[Any]) -> float:
    """How far a row's classes lie apart, in the mean over rows."""
    return float(logits.std(axis=1, dtype=np.float64).mean()) if len(logits) else 0.0


def _blocks(n_rows: int, n_columns: int) -> list[NDArray[np.intp]]:
    """Row numbers in blocks of bounded area."""
    block = max(1, _BLOCK_ENTRIES // max(n_columns, 1))
    return [np.arange(first, min(first + block, n_rows)) for first in range(0, n_rows, block)]
