"""Choosing alpha and beta: by leave-one-out, on validation images, or without a search in the support's own units.

Good values of alpha and beta differ between encoders. In units of the support set they transfer: beta relative to
1 / sigma, where sigma is the standard deviation of the cosines between images of different classes; alpha relative to the
ratio of the text logits' spread to the cache logits'. The search covers some fifty betas and, for each, every alpha exactly
(`alpha_search.py`).

Every choice includes a temperature fitted by likelihood on the same rows: dividing the logits by it changes no prediction
and calibrates the probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
from scipy.optimize import brentq

from tip_adapter.errors import UsageError
from tip_adapter.methods.alpha_search import best_alpha_beta, central_alpha_beta, nearest_alpha_beta
from tip_adapter.methods.base import Capabilities
from tip_adapter.methods.labels import checked_labels, positions
from tip_adapter.methods.leave_one_out import Cache, HeldOutQueries
from tip_adapter.methods.ops import to_numpy
from tip_adapter.methods.tip_adapter import CacheClassifier, TipAdapterClassifier
from tip_adapter.text import shown
from tip_adapter.validation import MAX_CHOSEN_ALPHA, MAX_CHOSEN_BETA, MAX_RATE, MAX_TEMPERATURE, number
from tip_adapter.vectors import softmax

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from tip_adapter.methods.alpha_search import AccuracyCurve
    from tip_adapter.vectors import Array, ClassEmbeddings

    #: Curves, and the sum of the weights of their rows → (alpha, beta).
    _Choose = Callable[[Sequence[AccuracyCurve], float], tuple[float, float]]

LEAVE_ONE_OUT, SCALE_FREE, VALIDATION, FIXED = "leave-one-out", "scale-free", "validation", "fixed"
#: Validation by few images, a handful of each class.
FEW_VALIDATION = "few-validation"
#: The rule of a method that chooses its own settings on the support images.
SUPPORT = "support"

_LARGEST = {"alpha": MAX_CHOSEN_ALPHA, "beta": MAX_CHOSEN_BETA, "temperature": MAX_TEMPERATURE}

#: beta · sigma of the scale-free rule, and those searched.
_SHARPNESS = 0.5
SHARPNESSES = np.geomspace(0.1, 3.2, 51)
#: The paper's beta, if sigma is undefined: fewer than two pairs of images differ in class.
_PAPERS_BETA = 5.5
_TEMPERATURES = (0.01, 1e5)
# The temperature is fitted in blocks of this many logits.
_BLOCK_ENTRIES = 2**20


#: float, or float | None where a method without alpha and beta may have made the choice.
_Setting = TypeVar("_Setting", bound="float | None", covariant=True)


@dataclass(frozen=True)
class Choice(Generic[_Setting]):
    """alpha, beta and temperature, and how they were chosen.

    Parameters
    ----------
    alpha, beta : float; None for a method without them (rule ``support``), whose settings are its own
    temperature : float, divides the logits before the softmax; 1 if there were no rows to fit it on
    accuracy : float in [0, 1]: of the left-out images the mean over classes, or of the validation images; None without any
    rule : ``leave-one-out``, ``scale-free``, ``validation``, ``fixed`` or ``support``
    n_rows : int, number of images behind that accuracy

    Raises
    ------
    ValueError
        alpha, beta, temperature or accuracy is not a number within its bounds, or the rule is unknown.

    Examples
    --------
    >>> from tip_adapter import Choice, TipAdapterClassifier
    >>> choice = Choice(alpha=2.0, beta=5.5, temperature=1.0, accuracy=None, rule="fixed", n_rows=0)
    >>> TipAdapterClassifier().set_params(alpha=choice.alpha, beta=choice.beta)
    TipAdapterClassifier(alpha=2.0)
    """

    alpha: _Setting
    beta: _Setting
    temperature: float
    accuracy: float | None
    rule: str
    n_rows: int

    def __post_init__(self) -> None:
        for name in ("alpha", "beta", "temperature"):
            value = getattr(self, name)
            if self.rule == SUPPORT and name != "temperature":
                if value is not None:
                    raise ValueError(f"{name} must be None where a method chose its own settings, found {value!r}")
                continue
            if isinstance(value, np.generic):
                value = value.item()  # in half precision the bounds are infinite
            known = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
            if not known or not 0 <= value <= _LARGEST[name] or (value == 0 and name != "alpha"):
                least = "at least" if name == "alpha" else "above"
                raise ValueError(f"{name} must be a number {least} 0 and at most {_LARGEST[name]:g}, found {value!r}")
        if self.accuracy is not None and not 0 <= self.accuracy <= 1:
            raise ValueError(f"accuracy must be between 0 and 1, or None, found {self.accuracy!r}")
        if self.rule not in (*RULES, SUPPORT):
            raise ValueError(f"unknown rule {self.rule!r}; choose one of {', '.join([*RULES, SUPPORT])}")

    @property
    def alpha_beta(self) -> tuple[float, float]:
        """Both; ValueError for a method without them."""
        if self.alpha is None or self.beta is None:
            raise ValueError("a method that chooses its own settings has no alpha and beta")
        return self.alpha, self.beta


def choose_alpha_beta(
    X: Array,
    y: Any,
    class_embeddings: ClassEmbeddings | None = None,
    logit_scale: float = 100.0,
    rule: str = LEAVE_ONE_OUT,
    queries: Array | None = None,
    validation: tuple[Array, Any] | None = None,
    ratio: float = 0.1,
    class_sums: str = "balanced",
) -> Choice[float]:
    """Choose alpha and beta for a support set.

    Parameters
    ----------
    X : (n, d) float array, the keys; rows are normalised here
    y : (n,) labels
    class_embeddings : ClassEmbeddings, or None for the cache alone (alpha is then 1: it does not change predictions)
    logit_scale : float, the encoder's own
    rule : ``leave-one-out`` (each image scored by the cache without it), ``scale-free`` (no search: works from one
        image per class), ``validation`` or ``few-validation``
    queries : (n, d) float array, unaugmented views of the images, if X holds means of augmented views; default X
    validation : (X_val, y_val), for ``validation``, or for ``few-validation``: few of them, which decide where they can
    ratio : float, for ``rule="scale-free"``: the encoder's ratio of cache spread to text spread; 0.1 for CLIP
    class_sums : ``"balanced"`` or ``"raw"``, as in TipAdapterClassifier

    Returns
    -------
    Choice

    Raises
    ------
    ValueError
        The rule is unknown; leave-one-out if no class has two images; validation images are missing; `ratio` is not a
        number from 0 to 1,000,000; or as TipAdapterClassifier.fit.

    Notes
    -----
    Leave-one-out skips the only image of a class: without it, its class would be empty. All other classes count the same,
    however many images they have. Validation images count as they are.

    Examples
    --------
    >>> from tip_adapter import ClassEmbeddings, choose_alpha_beta
    >>> names = ClassEmbeddings(["cat", "dog"], [[1.0, 0.0], [0.0, 1.0]])
    >>> X, y = [[0.9, 0.1], [0.8, 0.3], [0.2, 0.8], [0.1, 0.7]], ["cat", "cat", "dog", "dog"]
    >>> choice = choose_alpha_beta(X, y, names)
    >>> print(choice.rule, choice.accuracy, choice.n_rows)
    leave-one-out 1.0 4
    """
    _require_rule(rule, LEAVE_ONE_OUT, SCALE_FREE, VALIDATION, FEW_VALIDATION)
    clf = TipAdapterClassifier(class_embeddings=class_embeddings, logit_scale=logit_scale, class_sums=class_sums)
    clf.fit(X, y)
    cache = Cache.of(clf, clf.unit_queries(X if queries is None else queries))
    held_out = None
    if validation is not None:
        images = to_numpy(clf.unit_queries(validation[0]))
        held_out = images, positions(checked_labels(validation[1], len(images)), clf.classes_)
    return RULES[rule](cache, TuningData(number(ratio, "ratio", 0, MAX_RATE), held_out))


@dataclass(eq=False, repr=False)
class TipAdapterCV(CacheClassifier):
    """Tip-Adapter that chooses alpha and beta when it is fitted, as RidgeCV chooses its penalty.

    In a cross-validation the choice then sees the training part of each fold only, so that the accuracy is not too high.

    Parameters
    ----------
    class_embeddings : ClassEmbeddings, or None for the cache alone
    logit_scale : float, the encoder's own; 100 for CLIP
    rule : ``leave-one-out`` or ``scale-free``, as in `choose_alpha_beta`; None for leave-one-out where at least half of the
        classes with images have two, else scale-free
    ratio : float, for ``scale-free``, as in `choose_alpha_beta`
    class_sums : ``"balanced"`` or ``"raw"``, as in TipAdapterClassifier

    Attributes
    ----------
    alpha_, beta_ : float, chosen
    choice_ : Choice, with the rule, its accuracy on the left-out images, and the temperature
    classes_ : (n_classes,) sorted labels
    keys_ : (n, d) array, unit rows
    labels_ : (n,) int array, positions in `classes_`
    ids_ : (n,) str array, image id of each key

    Examples
    --------
    >>> from tip_adapter import ClassEmbeddings, TipAdapterCV
    >>> names = ClassEmbeddings(["cat", "dog"], [[1.0, 0.0], [0.0, 1.0]])
    >>> X, y = [[0.9, 0.1], [0.8, 0.3], [0.2, 0.8], [0.1, 0.7]], ["cat", "cat", "dog", "dog"]
    >>> clf = TipAdapterCV(names).fit(X, y)
    >>> print(clf.predict([[0.8, 0.3]])[0], clf.choice_.rule, clf.choice_.accuracy)
    cat leave-one-out 1.0

    Notes
    -----
    `predict_proba` divides the logits by the temperature: probabilities are calibrated. `logits` are not divided.
    """

    capabilities = Capabilities(explains=True)

    class_embeddings: ClassEmbeddings | None = None
    logit_scale: float = 100.0
    rule: str | None = None
    ratio: float = 0.1
    class_sums: str = "balanced"

    def predict_proba(self, X: Array) -> Array:
        """Softmax of `logits` / temperature: (n, n_classes), columns in the order of `classes_`; raises likewise."""
        logits = self.logits(X)
        return softmax(logits / self.choice_.temperature)

    def _fit(self, keys: Array, labels: NDArray[Any]) -> None:
        rule = default_rule(labels) if self.rule is None else self.rule
        _require_rule(rule, LEAVE_ONE_OUT, SCALE_FREE)
        self.keys_, self.labels_ = keys, labels
        self.choice_ = RULES[rule](Cache.of(self, keys), TuningData(float(self.ratio)))
        self.alpha_, self.beta_ = self.choice_.alpha_beta

    def _alpha_beta(self) -> tuple[float, float]:
        return self.choice_.alpha_beta


def _require_rule(rule: str, *known: str) -> None:
    if rule not in known:
        raise UsageError(f"unknown rule {shown(rule)}; choose one of {', '.join(known)}")


def default_rule(labels: NDArray[Any]) -> str:
    """Leave-one-out if at least half the classes with images have two, else scale-free; `labels` are (n,) indices."""
    counts = np.bincount(labels, minlength=1)
    return LEAVE_ONE_OUT if 0 < (counts > 0).sum() <= 2 * (counts > 1).sum() else SCALE_FREE


@dataclass(frozen=True)
class TuningData:
    """What a rule may use besides the support set.

    Parameters
    ----------
    ratio : float, the encoder's ratio of cache spread to text spread
    validation : (m, d) unit rows and (m,) class indices of validation images, or None
    alpha_beta : alpha and beta set by the user, or None
    queries : (n, d) float array, unaugmented views of the support images, or None for their own vectors
    start : alpha and beta that few validation images must give a reason to leave; None: those of the support alone
    """

    ratio: float = 0.1
    validation: tuple[NDArray[Any], NDArray[Any]] | None = None
    alpha_beta: tuple[float, float] | None = None
    queries: NDArray[Any] | None = None
    start: tuple[float, float] | None = None


def leave_one_out(cache: Cache, _data: TuningData) -> Choice[float]:
    """Search on the support images, each scored without its own key; ValueError if no class has two images."""
    if np.bincount(cache.labels, minlength=1).max() < 2:
        raise ValueError("leave-one-out needs a class with two images; the scale-free rule works from one")
    return _search(cache, cache.left_out, LEAVE_ONE_OUT, central_alpha_beta)


def scale_free(cache: Cache, data: TuningData) -> Choice[float]:
    """No search: beta is 1 / (2 sigma), alpha makes the cache's spread `ratio` times the text's."""
    (curve,) = cache.left_out.accuracy_curves([beta_for(cache, _SHARPNESS)])
    alpha = data.ratio * curve.unit if curve.unit else 1.0
    return _measured(cache.left_out, alpha, curve.beta, SCALE_FREE)


def on_validation(cache: Cache, data: TuningData) -> Choice[float]:
    """Search on validation images; ValueError if there are none."""
    return _search_validation(cache, data, VALIDATION, best_alpha_beta)


def on_few_validation(cache: Cache, data: TuningData) -> Choice[float]:
    """Of all pairs within a standard error of the best on few validation images, the one nearest to the support's own choice.

    The best pair on few images is mostly noise; where they cannot tell pairs apart, the support decides. ValueError as
    `on_validation`.
    """
    start = data.start or RULES[default_rule(cache.labels)](cache, data).alpha_beta
    return _search_validation(cache, data, FEW_VALIDATION, partial(nearest_alpha_beta, start=start))


def fixed(cache: Cache, data: TuningData) -> Choice[float]:
    """The user's (alpha, beta) with its leave-one-out accuracy; the temperature is 1; ValueError if `data` has none."""
    if data.alpha_beta is None:
        raise ValueError("the fixed rule needs alpha and beta; set both")
    return replace(_measured(cache.left_out, *data.alpha_beta, FIXED), temperature=1.0)


RULES: dict[str, Callable[[Cache, TuningData], Choice[float]]] = {
    LEAVE_ONE_OUT: leave_one_out,
    SCALE_FREE: scale_free,
    VALIDATION: on_validation,
    FEW_VALIDATION: on_few_validation,
    FIXED: fixed,
}


def fit_temperature(logits: NDArray[Any], labels: NDArray[Any], weights: NDArray[np.float64] | None = None) -> float:
    """The temperature that maximises the likelihood of the labels under softmax(logits / temperature).

    The target probability of a label is (n + 1) / (n + 2), as in Platt (1999), so that a few correct rows do not make the
    classifier certain. With weights, n is Kish's effective number of rows, (Σ w)² / Σ w².

    Parameters
    ----------
    logits : (n, n_classes) float array, n > 0
    labels : (n,) int array
    weights : (n,) float array, > 0, what each row counts relative to the others; None: all the same

    Returns
    -------
    float, between 0.01 and 100,000; 1 if there is only one class
    """
    n, n_classes = logits.shape
    if n_classes == 1:
        return 1.0
    weights = np.ones(n) if weights is None else weights / weights.mean()
    n_effective = n**2 / np.square(weights).sum()  # the weights sum to n
    target = float((n_effective + 1) / (n_effective + 2))
    others = (1 - target) / (n_classes - 1)  # target probability of every other label
    behind, weights = logits - logits.max(axis=1, keepdims=True), weights.astype(logits.dtype)
    own = (weights * behind[np.arange(n), labels]).mean(dtype=np.float64)
    total = (weights * behind.sum(axis=1, dtype=np.float64)).mean()
    wanted = float((target - others) * own + others * total)

    def derivative(log_temperature: float) -> float:
        # Of the likelihood: it is 0 where the expected logit is the target's.
        return _expected(behind, float(np.exp(log_temperature)), weights) - wanted

    coldest, hottest = np.log(_TEMPERATURES)
    if derivative(coldest) <= 0:
        return _TEMPERATURES[0]
    if derivative(hottest) >= 0:
        return _TEMPERATURES[1]
    return float(np.exp(brentq(derivative, coldest, hottest, xtol=1e-9)))


def _expected(behind: NDArray[Any], temperature: float, weights: NDArray[Any]) -> float:
    """Weighted mean over rows of the expected entry under softmax(behind / temperature); each row's maximum is 0."""
    block = max(1, _BLOCK_ENTRIES // behind.shape[1])
    total = 0.0
    for first in range(0, len(behind), block):
        rows, rows_weights = behind[first : first + block], weights[first : first + block]
        likely = np.exp(rows / temperature)
        expected = np.einsum("ij,ij->i", likely, rows) / likely.sum(axis=1)
        total += float((rows_weights * expected).sum(dtype=np.float64))
    return total / len(behind)


def beta_for(cache: Cache, sharpness: float) -> float:
    """The beta at which beta · sigma is `sharpness`."""
    return float(sharpness / cache.sigma if cache.sigma else sharpness / _SHARPNESS * _PAPERS_BETA)


def _search_validation(cache: Cache, data: TuningData, rule: str, choose: _Choose) -> Choice[float]:
    if data.validation is None or not len(data.validation[0]):
        raise ValueError("the validation rule needs validation images; pass validation=(X_val, y_val)")
    return _search(cache, cache.held_out(*data.validation), rule, choose)


def _search(
    cache: Cache,
    queries: HeldOutQueries,
    rule: str,
    choose: _Choose,
) -> Choice[float]:
    """Apply `choose` to the accuracy over all alphas and some fifty betas."""
    curves = queries.accuracy_curves([beta_for(cache, sharpness) for sharpness in SHARPNESSES])
    return _measured(queries, *choose(curves, float(queries.scored_weights.sum())), rule)


def _measured(queries: HeldOutQueries, alpha: float, beta: float, rule: str) -> Choice[float]:
    """(alpha, beta) with its accuracy and temperature on the queries that count."""
    alpha = min(alpha, MAX_CHOSEN_ALPHA)
    if not queries.n_scored:
        return Choice(alpha, beta, 1.0, None, rule, 0)
    logits, labels, weights = queries.logits(alpha, beta), queries.scored_labels, queries.scored_weights
    accuracy = float(np.average(logits.argmax(axis=1) == labels, weights=weights))
    return Choice(alpha, beta, fit_temperature(logits, labels, weights), accuracy, rule, queries.n_scored)
