"""Choosing alpha and beta: by leaving each photo out, by validation photos, or in the support's own units.

alpha and beta mean different things for different encoders. In units of the support set itself they travel: sharpness in
1/sigma, sigma the standard deviation of the cosines between photos of different classes; the cache's weight as the
ratio of its spread to the text's. The search looks at some fifty sharpnesses and, at each, at every alpha there is
(`_stairs.py`).

Every choice carries a temperature, fitted by likelihood on the same rows: dividing the logits by it changes no label
and makes the softmax say how sure one may be.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import brentq

from tip_adapter.methods.alpha_search import best_pair, central_pair
from tip_adapter.methods.base import checked_labels, positions
from tip_adapter.methods.leave_one_out import Cache, HeldOutQueries
from tip_adapter.methods.ops import to_numpy
from tip_adapter.methods.tip_adapter import TipAdapterClassifier

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from tip_adapter.methods.alpha_search import AccuracyCurve
    from tip_adapter.vectors import Array, ClassEmbeddings

LEAVE_ONE_OUT, SCALE_FREE, VALIDATION, FIXED = "leave-one-out", "scale-free", "validation", "fixed"

#: A ratio of two spreads is vast where no photo resembles one of another class; logits must stay finite in float32.
_LARGEST = {"alpha": 1e30, "beta": 1e7, "temperature": 1e6}

#: Sharpness of the scale-free pair, and those searched, in 1/sigma.
_SHARPNESS = 0.5
_SHARPNESSES = np.geomspace(0.1, 3.2, 51)
#: The paper's sharpness, where the support has no units: fewer than two pairs of photos differ in class.
_PAPERS_BETA = 5.5
_TEMPERATURES = (0.01, 1e5)
# The temperature is fitted in blocks of this many logits.
_BLOCK_ENTRIES = 2**20


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

    Raises
    ------
    ValueError
        alpha, beta or temperature is no number or out of bounds, the accuracy is not one, or the rule is unknown.

    Examples
    --------
    >>> from tip_adapter import Choice, TipAdapterClassifier
    >>> choice = Choice(alpha=2.0, beta=5.5, temperature=1.0, accuracy=None, rule="fixed", n_rows=0)
    >>> TipAdapterClassifier().set_params(alpha=choice.alpha, beta=choice.beta)
    TipAdapterClassifier(alpha=2.0)
    """

    alpha: float
    beta: float
    temperature: float
    accuracy: float | None
    rule: str
    n_rows: int

    def __post_init__(self) -> None:
        for name in ("alpha", "beta", "temperature"):
            value = getattr(self, name)
            number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
            if not number or not 0 <= value <= _LARGEST[name] or (value == 0 and name != "alpha"):
                least = "at least" if name == "alpha" else "above"
                raise ValueError(f"{name} {value!r} must be a number {least} 0 and at most {_LARGEST[name]:g}")
        if self.accuracy is not None and not 0 <= self.accuracy <= 1:
            raise ValueError(f"accuracy {self.accuracy!r} must be between 0 and 1, or None")
        if self.rule not in RULES:
            raise ValueError(f"rule {self.rule!r} must be one of {', '.join(RULES)}")


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

    Examples
    --------
    >>> from tip_adapter import ClassEmbeddings, choose_alpha_beta
    >>> names = ClassEmbeddings(["cat", "dog"], [[1.0, 0.0], [0.0, 1.0]])
    >>> X, y = [[0.9, 0.1], [0.8, 0.3], [0.2, 0.8], [0.1, 0.7]], ["cat", "cat", "dog", "dog"]
    >>> choice = choose_alpha_beta(X, y, names)
    >>> print(choice.rule, choice.accuracy, choice.n_rows)
    leave-one-out 1.0 4
    """
    if rule not in RULES or rule == FIXED:
        raise ValueError(f"unknown rule {rule!r}: known are {LEAVE_ONE_OUT}, {SCALE_FREE}, {VALIDATION}")
    clf = TipAdapterClassifier(class_embeddings=class_embeddings, logit_scale=logit_scale).fit(X, y)
    support = Cache.of(clf, clf.unit_queries(X if queries is None else queries))
    others = None if validation is None else _checked_validation(clf, *validation)
    return RULES[rule](support, TuningData(ratio, others))


def _checked_validation(clf: TipAdapterClassifier, X: Array, y: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Validation photos as unit rows and class indices."""
    queries = to_numpy(clf.unit_queries(X))
    return queries, positions(checked_labels(y, len(queries)), clf.classes_)


def default_rule(labels: NDArray[Any]) -> str:
    """Leave-one-out where at least half the classes with photos have two, else scale-free: (n,) class indices."""
    counts = np.bincount(labels, minlength=1)
    return LEAVE_ONE_OUT if 0 < (counts > 0).sum() <= 2 * (counts > 1).sum() else SCALE_FREE


@dataclass(frozen=True)
class TuningData:
    """What a rule may look at beside the support.

    Parameters
    ----------
    ratio : float, the encoder's ratio of the cache's spread to the text's
    validation : (m, d) unit rows and (m,) class indices of other photos, or None
    pair : alpha and beta, or None
    queries : (n, d) float array, plain views of the support photos, or None for their own vectors
    """

    ratio: float = 0.1
    validation: tuple[NDArray[Any], NDArray[Any]] | None = None
    pair: tuple[float, float] | None = None
    queries: NDArray[Any] | None = None


def leave_one_out(support: Cache, _given: TuningData) -> Choice:
    """Search over the support, each photo scored without its own key.

    Raises
    ------
    ValueError
        No class has two photos.
    """
    if np.bincount(support.labels, minlength=1).max() < 2:
        raise ValueError("leave-one-out needs a class with two photos; the scale-free rule works from one")
    return _search(support, support.left_out, LEAVE_ONE_OUT, central_pair)


def scale_free(support: Cache, given: TuningData) -> Choice:
    """No search: sharpness 1/2 in the support's units, the cache's spread `ratio` times the text's."""
    (stairs,) = support.left_out.stairs([_beta(support, _SHARPNESS)])
    alpha = given.ratio * stairs.unit if stairs.unit else 1.0
    return _judge(support.left_out, alpha, stairs.beta, SCALE_FREE)


def on_validation(support: Cache, given: TuningData) -> Choice:
    """Search over other photos.

    Raises
    ------
    ValueError
        There are none.
    """
    if given.validation is None or not len(given.validation[0]):
        raise ValueError("the validation rule needs validation photos: validation=(X_val, y_val)")
    queries, labels = given.validation
    return _search(support, support.unseen(queries, labels), VALIDATION, best_pair)


def fixed(support: Cache, given: TuningData) -> Choice:
    """A given pair with its left-out accuracy; its temperature is 1.

    Raises
    ------
    ValueError
        None was given.
    """
    if given.pair is None:
        raise ValueError("the fixed rule needs alpha and beta")
    return replace(_judge(support.left_out, *given.pair, FIXED), temperature=1.0)


RULES: dict[str, Callable[[Cache, TuningData], Choice]] = {
    LEAVE_ONE_OUT: leave_one_out,
    SCALE_FREE: scale_free,
    VALIDATION: on_validation,
    FIXED: fixed,
}


def fit_temperature(logits: NDArray[Any], labels: NDArray[Any]) -> float:
    """The temperature at which dividing the logits by it makes the labels most likely.

    Each label is trusted only to (n + 1) / (n + 2), as in Platt (1999): a few rows that are all right do not make the
    classifier certain.

    Parameters
    ----------
    logits : (n, n_classes) float array
    labels : (n,) int array

    Returns
    -------
    float, between 0.01 and 100,000; 1 where there is one class only
    """
    n, n_classes = logits.shape
    if n_classes == 1:
        return 1.0
    trust = (n + 1) / (n + 2)
    others = (1 - trust) / (n_classes - 1)  # what each other label is trusted to
    highest = logits.max(axis=1, keepdims=True)
    behind = logits - highest
    own, total = behind[np.arange(n), labels].mean(dtype=np.float64), behind.sum(axis=1, dtype=np.float64).mean()
    trusted = float((trust - others) * own + others * total)

    def surplus(log_temperature: float) -> float:
        # The slope of the likelihood: it is 0 where the logit to be expected is the one that is trusted.
        return _expected(behind, float(np.exp(log_temperature))) - trusted

    coldest, hottest = np.log(_TEMPERATURES)
    if surplus(coldest) <= 0 or surplus(hottest) >= 0:
        return _TEMPERATURES[0] if surplus(coldest) <= 0 else _TEMPERATURES[1]
    return float(np.exp(brentq(surplus, coldest, hottest, xtol=1e-9)))


def _expected(behind: NDArray[Any], temperature: float) -> float:
    """Mean over rows of the entry to be expected under softmax(behind / temperature); each row's largest is 0."""
    block = max(1, _BLOCK_ENTRIES // behind.shape[1])
    total = 0.0
    for rows in (behind[first : first + block] for first in range(0, len(behind), block)):
        weights = np.exp(rows / temperature)
        total += float((np.einsum("ij,ij->i", weights, rows) / weights.sum(axis=1)).sum(dtype=np.float64))
    return total / len(behind)


def _beta(support: Cache, sharpness: float) -> float:
    """A sharpness in 1/sigma as beta."""
    return float(sharpness / support.sigma if support.sigma else sharpness / _SHARPNESS * _PAPERS_BETA)


def _search(
    support: Cache,
    photos: HeldOutQueries,
    rule: str,
    pick: Callable[[Sequence[AccuracyCurve], int], tuple[float, float]],
) -> Choice:
    """What `pick` takes from the accuracy over all alphas and some fifty betas."""
    stairs = photos.stairs([_beta(support, sharpness) for sharpness in _SHARPNESSES])
    return _judge(photos, *pick(stairs, photos.n_scored), rule)


def _judge(photos: HeldOutQueries, alpha: float, beta: float, rule: str) -> Choice:
    """The pair with its accuracy and temperature on the rows that count."""
    alpha = min(alpha, _LARGEST["alpha"])
    if not photos.n_scored:
        return Choice(alpha, beta, 1.0, None, rule, 0)
    logits, labels = photos.logits(alpha, beta), photos.scored_labels
    accuracy = float((logits.argmax(axis=1) == labels).mean())
    return Choice(alpha, beta, fit_temperature(logits, labels), accuracy, rule, photos.n_scored)
