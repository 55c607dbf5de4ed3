"""The default method: logistic regression on the image vectors, with the logits of the class names as an offset.

    logits = v · s · f Wᵀ + (f − m) Bᵀ + b           class embeddings W, logit scale s, mean image vector m

The logits of the names are an *offset*, as in generalised linear models: a term of known size, so that B is fitted to what the
names do not explain. With N classes that have images and L their one-hot labels,

    minimise over B    Σᵢ uᵢ · cross-entropy(logitsᵢ, Lᵢ) + λ/2 · |B|²

is convex. At its minimum B = Aᵀ (F − m) with A = u (L − softmax) / λ: each logit is a sum of the name's term and one term for
each image, which `explain` lists. The choices, none of which needs validation images:

- v, the trust in the names: a share of the scale at which the names alone are likeliest on the support. The names do not depend
  on the images, so that scale is honest even at one image per class; names that are wrong make it 0.
- λ and the share of v, together: few classes need a small λ and half the scale, many classes a larger λ and three quarters.
  `_PATH` is left only for what is likelier on left-out images by more than two standard errors.
- u: every class has the same total, the harmonic mean of the classes' numbers of images.
- b: 0 where all classes have as many images. Else a class with few images fits its own too well and loses others to classes with
  many; b makes up for it, see `_Regression.intercepts`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from threadpoolctl import threadpool_limits

from tip_adapter.methods.base import Capabilities
from tip_adapter.methods.explanation import ClassEvidence, decompose_sum
from tip_adapter.methods.incremental import IncrementalClassifier
from tip_adapter.methods.lbfgs import minimise
from tip_adapter.methods.ops import like, text_logits, to_numpy
from tip_adapter.methods.tuning import fit_temperature
from tip_adapter.validation import MAX_CHOSEN_ALPHA
from tip_adapter.vectors import softmax, unit_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from tip_adapter.vectors import Array, ClassEmbeddings

PRIORS = ("balanced", "counts")
#: λ and the share of the names' likeliest scale, from what suits few classes to what suits many.
_PATH = ((0.01, 0.5), (0.03, 0.625), (0.1, 0.75))
_STANDARD_ERRORS = 2.0
#: Norm of the gradient at which the solver stops, relative to √n: while λ is chosen, for left-out classes, for left-out images, and
#: for what is used, in single and in double precision.
_ROUGH, _LEFT_OUT_CLASSES, _LEFT_OUT, _SINGLE, _DOUBLE = 1e-2, 3e-3, 1e-3, 1e-4, 1e-6
#: Folds of left-out images: many up to `_FEW` logits, since each then leaves more to learn from.
_FEW, _FOLDS_OF_FEW, _FOLDS = 2**13, 20, 5
#: λ is chosen on the first folds that have so many images together.
_ENOUGH = 200
#: Classes that leave something to choose from where one is left out.
_FEWEST_CLASSES = 3
#: The cosine that is assumed between two images of a class, about the mean of all.
_COSINE_IN_CLASS = 0.4
#: λ of the intercepts b.
_INTERCEPT_PENALTY = 0.1
#: Images of a class are near-repeats below this share of the median distance (1 − cosine) of images of different classes.
_NEAR_REPEAT = 0.12
#: Rows from which that median is taken.
_SAMPLE = 1000
#: With more logits than this the support is fitted in single precision, whose rounding is below the tolerance.
_SINGLE_PRECISION = 2**15
#: Multiplications per gradient above which several threads are faster.
_WORTH_THREADS = 2**27


@dataclass(eq=False, repr=False)
class TextOffsetClassifier(IncrementalClassifier):
    """Logistic regression on image vectors with the class names' logits as an offset; chooses its settings itself.

    Parameters
    ----------
    class_embeddings : ClassEmbeddings, or None for the images alone
    logit_scale : float, the encoder's own; 100 for CLIP
    penalty : float, λ; None to choose it on left-out images
    text_weight : float, v; None to choose it from the likelihood of the names on the support
    prior : ``balanced``, each class is as likely as any other, or ``counts``, as likely as it is frequent in the support

    Attributes
    ----------
    classes_ : (n_classes,) sorted labels
    penalty_, text_weight_ : float, given or chosen; kept by `partial_fit` and `remove`
    coef_ : (n_classes, d) array, v · s · W + B
    intercept_ : (1, n_classes) array, b − m Bᵀ
    keys_ : (n, d) array, unit rows
    labels_ : (n,) int array, positions in `classes_`
    ids_ : (n,) str array, image id of each row

    Examples
    --------
    >>> from tip_adapter import ClassEmbeddings, TextOffsetClassifier
    >>> names = ClassEmbeddings(["cat", "dog"], [[1.0, 0.0], [0.0, 1.0]])
    >>> X, y = [[0.9, 0.1], [0.8, 0.3], [0.2, 0.8], [0.1, 0.7]], ["cat", "cat", "dog", "dog"]
    >>> clf = TextOffsetClassifier(names).fit(X, y)
    >>> print(clf.predict([[0.8, 0.3]])[0], clf.penalty_)
    cat 0.01

    Notes
    -----
    `partial_fit` and `remove` solve the problem again, as a refit with the chosen penalty and text weight does. The solver stops at a
    gradient of 1e-6 √n (1e-4 √n for many images and classes), so that the start and the order of images matter that little; the
    order may matter for the choice, which draws folds of them.
    Classes without images keep the logits of their names.
    """

    _arrays = ("coef_", "intercept_")
    _choices: ClassVar = {**IncrementalClassifier._choices, "prior": PRIORS}
    _learned_bound = MAX_CHOSEN_ALPHA  # names that are sure by small differences of cosines have large coefficients
    capabilities = Capabilities(incremental=True, explains=True, leaves_out=True, learned=("coef_", "intercept_"))

    class_embeddings: ClassEmbeddings | None = None
    logit_scale: float = 100.0
    penalty: float | None = None
    text_weight: float | None = None
    prior: str = "balanced"
    penalty_: float = field(init=False)
    text_weight_: float = field(init=False)

    def settings(self) -> dict[str, Any]:
        """Arguments that fit the same model again, with the penalty and text weight that were used."""
        used = {name: getattr(self, f"{name}_", getattr(self, name)) for name in ("penalty", "text_weight")}
        return {**super().settings(), **used}

    def left_out(self) -> tuple[NDArray[np.intp], NDArray[Any]]:
        """Logits of the images, each by a refit without its fold, with the same penalty and text weight.

        Near-repeats of an image (bursts, crops) are in its fold. An image without another of its class is not left out.

        Returns
        -------
        (m,) rows of `keys_`, ascending, and their (m, n_classes) float64 logits
        """
        regression = self._regression()
        folds = regression.folds
        logits = np.full((len(self.labels_), len(self.classes_)), np.nan)
        start = regression.solution_of(self._image_coef()) if folds else None
        with self._threads():
            for rows in folds:
                part = regression.without(rows)
                solution = part.solve(self.text_weight_, self.penalty_, _LEFT_OUT, start)
                logits[rows] = self._logits_by(part, solution, rows)
        left = np.sort(np.concatenate([*folds, np.zeros(0, np.intp)]))
        return left, logits[left]

    def left_out_classes(self) -> list[tuple[NDArray[np.intp], NDArray[Any]]]:
        """Logits of images whose classes are unknown: those of a group of classes, by a refit without this group, group by group.

        Returns
        -------
        for each group its (g,) positions in `classes_` and the (m, n_classes − g) float64 logits of its m images, for the other
        classes in their order; every class with images is in one group. Empty if fewer than 3 classes have images
        """
        present = np.unique(self.labels_)
        if len(present) < _FEWEST_CLASSES:
            return []
        groups = np.array_split(np.random.default_rng(0).permutation(present), min(_FOLDS, len(present)))
        coef, logits = self._image_coef(), []
        with self._threads():
            for group in groups:
                of_group = np.isin(self.labels_, group)
                part = self._regression(np.flatnonzero(~of_group))
                solution = part.solve(self.text_weight_, self.penalty_, _LEFT_OUT_CLASSES, part.solution_of(coef))
                logits.append(np.delete(self._logits_by(part, solution, np.flatnonzero(of_group)), group, axis=1))
        return list(zip(groups, logits, strict=True))

    def as_another(self) -> NDArray[Any]:
        """Logits of the images, each as if it were another one of its class: for a temperature where none can be left out.

        Returns
        -------
        (n, n_classes) float64 array
        """
        regression = self._regression()
        values = regression.values(self._image_coef(), self.text_weight_, self.penalty_)
        logits = to_numpy(self._logits(self.keys_, self.coef_, self.intercept_)).astype(np.float64)
        return logits - (1 - _COSINE_IN_CLASS) * (regression.inputs**2).sum(axis=1, keepdims=True) * values

    def explain(self, X: Array) -> list[tuple[ClassEvidence, ...]]:
        """Decompose the logits of each query into the name's term and a term for each image of the support.

        Images of every class have a term. It is negative where an image lowers the logit.

        Parameters
        ----------
        X : (n, d) float array, NumPy or torch

        Returns
        -------
        for each query a ClassEvidence for every class, highest logit first; text + images + others is the logit. `images` are
        those of the class with the largest terms by size, then of other classes; `others` has the rest and the intercept

        Raises
        ------
        ValueError
            As `logits`.
        """
        X, arrays = self._checked_and_arrays(X)
        queries = unit_rows(X)
        logits = to_numpy(self._logits(queries, *arrays)).astype(np.float64)
        queries = to_numpy(queries).astype(np.float64)
        texts = self.text_weight_ * text_logits(
            queries, to_numpy(self.weights_).astype(np.float64), float(self.logit_scale)
        )
        regression = self._regression()
        values = regression.values(self._image_coef(), self.text_weight_, self.penalty_)  # (n, N)  A
        cosines = (queries - regression.mean) @ (regression.vectors - regression.mean).T  # (m, n)
        return [
            decompose_sum(text, closeness[:, None] * values, logit, self.labels_, self.ids_, self.classes_)
            for text, closeness, logit in zip(texts, cosines, logits, strict=True)
        ]

    def _fit(self, keys: Array, labels: NDArray[Any]) -> None:
        self.keys_, self.labels_ = keys, labels
        self._solve(self.penalty, self.text_weight)

    def _changed(self) -> None:
        """Solve again, from the previous solution, after images or classes were added or removed."""
        start = np.zeros((len(self.classes_), self.keys_.shape[1]))
        classes, coef = self._solved
        kept = np.isin(classes, self.classes_)
        start[np.searchsorted(self.classes_, classes[kept])] = coef[kept]
        self._solve(self.penalty_, self.text_weight_, start)

    def _restore(self, keys: Array, labels: NDArray[Any], learned: Mapping[str, Array]) -> None:
        n_classes, width = len(self.classes_), keys.shape[1]
        shapes = [learned[name].shape for name in self.capabilities.learned]
        if self.penalty is None or self.text_weight is None or shapes != [(n_classes, width), (1, n_classes)]:
            raise ValueError(
                f"penalty {self.penalty}, text_weight {self.text_weight} and arrays of shapes {shapes} do not fit {n_classes} "
                f"classes and vectors of width {width}"
            )
        self.keys_, self.labels_, self.penalty_, self.text_weight_ = keys, labels, self.penalty, self.text_weight
        super()._restore(keys, labels, learned)
        self._solved = self.classes_, self._image_coef()

    def _logits(self, queries: Array, coef: Array, intercept: Array) -> Array:
        return queries @ coef.T + intercept  # (m, n_classes)

    def _solve(
        self, penalty: float | None, text_weight: float | None, start: NDArray[np.float64] | None = None
    ) -> None:
        """Set the penalty and the text weight, chosen where they are None, and the coefficients, from B at the start."""
        regression = self._regression()
        with self._threads():
            self.penalty_, self.text_weight_, first = regression.chosen(penalty, text_weight)
            if start is not None:
                first = regression.solution_of(start)
            tolerance = _SINGLE if regression.inputs.dtype == np.float32 else _DOUBLE
            solution = regression.solve(self.text_weight_, self.penalty_, tolerance, first)
            coef, intercept = regression.as_linear(solution, self.text_weight_, self.penalty_)
        self._solved = self.classes_, coef
        coef = coef + self.text_weight_ * float(self.logit_scale) * to_numpy(self.weights_)
        self.coef_, self.intercept_ = like(coef, self.keys_), like(intercept[None], self.keys_)

    def _regression(self, rows: NDArray[np.intp] | slice = slice(None)) -> _Regression:
        """The problem of these images."""
        return _Regression.of(
            to_numpy(self.keys_)[rows],
            self.labels_[rows],
            to_numpy(self.weights_),
            float(self.logit_scale),
            by_count=self.prior == "counts",
        )

    def _image_coef(self) -> NDArray[Any]:
        """(n_classes, d) array B."""
        coef: NDArray[Any] = to_numpy(self.coef_).astype(np.float64)
        return coef - self.text_weight_ * float(self.logit_scale) * to_numpy(self.weights_)

    def _logits_by(self, part: _Regression, solution: NDArray[Any], rows: NDArray[np.intp]) -> NDArray[Any]:
        """Logits of images that the problem of `part` does not have, by its solution."""
        coef, intercept = part.as_linear(solution, self.text_weight_, self.penalty_)
        vectors = to_numpy(self.keys_)[rows]
        text = self.text_weight_ * text_logits(vectors, to_numpy(self.weights_), float(self.logit_scale))
        logits: NDArray[Any] = text + vectors @ coef.T + intercept
        return logits

    def _threads(self) -> threadpool_limits:
        return threadpool_limits(
            1 if len(self.keys_) * self.n_features_in_ * len(self.classes_) < _WORTH_THREADS else None
        )


@dataclass(frozen=True, eq=False)
class _Regression:
    """The convex problem of one support, over the classes that have images.

    Parameters
    ----------
    vectors : (n, d) float array
    labels : (n,) positions in `present`
    text : (n, P) float array, logits of the names of the classes that have images
    present : (P,) positions of those among all classes
    n_classes : int
    mean : (d,) float array m, the mean of the class means
    inputs : (n, d) float array, vectors − mean
    weights : (n,) float array u
    log_prior : (n_classes,) float array
    """

    vectors: NDArray[Any]
    labels: NDArray[Any]
    text: NDArray[Any]
    present: NDArray[np.intp]
    n_classes: int
    mean: NDArray[Any]
    inputs: NDArray[Any]
    weights: NDArray[Any]
    log_prior: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        vectors: NDArray[Any],
        labels: NDArray[Any],
        embeddings: NDArray[Any],
        logit_scale: float,
        *,
        by_count: bool,
    ) -> _Regression:
        """That of (n, d) vectors, (n,) positions of their classes, and (n_classes, d) class embeddings."""
        present, positions = np.unique(labels, return_inverse=True)
        single = len(labels) * len(present) > _SINGLE_PRECISION
        vectors = vectors.astype(np.float32 if single else np.float64)
        counts = np.bincount(positions, minlength=1)
        means = np.zeros((len(counts), vectors.shape[1]), vectors.dtype)
        np.add.at(means, positions, vectors)
        mean = (means / np.maximum(counts, 1)[:, None]).mean(axis=0).astype(vectors.dtype)
        text = text_logits(vectors, embeddings[present].astype(vectors.dtype), logit_scale)
        log_prior = np.zeros(len(embeddings))
        if by_count:
            frequency = np.bincount(labels, minlength=len(embeddings)) + 1
            log_prior = np.log(frequency / frequency.sum())
        weights = _balanced(positions).astype(vectors.dtype)
        return cls(vectors, positions, text, present, len(embeddings), mean, vectors - mean, weights, log_prior)

    def without(self, rows: NDArray[np.intp]) -> _Regression:
        """That of the other images, about the same mean and with the same prior; each class keeps an image."""
        kept = np.delete(np.arange(len(self.labels)), rows)
        return replace(
            self,
            vectors=self.vectors[kept],
            labels=self.labels[kept],
            text=self.text[kept],
            inputs=self.inputs[kept],
            weights=_balanced(self.labels[kept]).astype(self.weights.dtype),
        )

    # ---- the solution ------------------------------------------------------------------------------------------------

    def solve(
        self, text_weight: float, penalty: float, tolerance: float, start: NDArray[Any] | None = None
    ) -> NDArray[Any]:
        """B of the classes that have images at the minimum, (P, d), from `start` or 0."""
        start = np.zeros((len(self.present), len(self.mean)), self.inputs.dtype) if start is None else start
        if len(self.present) < 2:
            return start
        offset = text_weight * self.text

        def loss_and_gradient(coef: NDArray[Any]) -> tuple[float, NDArray[Any]]:
            losses, errors = _losses_and_errors(offset + self.inputs @ coef.T, self.labels)
            errors *= self.weights[:, None]
            loss = float(self.weights @ losses) + penalty / 2 * float(np.vdot(coef, coef))
            return loss, errors.T @ self.inputs + penalty * coef

        # The curvature by class and coordinate, were each image as sure of a class as all are on average before the fit.
        probabilities = softmax(offset)
        spread = np.average(probabilities * (1 - probabilities), axis=0, weights=self.weights)
        scale = 1 / (np.outer(spread, self.weights @ self.inputs**2) + penalty)
        return minimise(loss_and_gradient, start, scale.astype(start.dtype), tolerance * len(self.labels) ** 0.5)

    def as_linear(
        self, solution: NDArray[Any], text_weight: float, penalty: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(P, d) solution → B of all classes, (n_classes, d), and their intercepts b − m Bᵀ, (n_classes,)."""
        coef, intercept = np.zeros((self.n_classes, len(self.mean))), self.log_prior.copy()
        coef[self.present] = solution
        intercept[self.present] += self.intercepts(solution, text_weight, penalty)
        return coef, intercept - coef @ self.mean

    def solution_of(self, coef: NDArray[Any]) -> NDArray[Any]:
        """The inverse of `as_linear`: B of all classes → (P, d)."""
        return coef[self.present].astype(self.inputs.dtype)

    def values(self, coef: NDArray[Any], text_weight: float, penalty: float) -> NDArray[np.float64]:
        """(n, n_classes) array A = u (L − softmax) / λ, by which B is a sum over the images; 0 for classes without images."""
        values = np.zeros((len(self.labels), self.n_classes))
        values[:, self.present] = self._errors(self.solution_of(coef), text_weight)[1] / penalty
        return values

    def intercepts(self, solution: NDArray[Any], text_weight: float, penalty: float) -> NDArray[Any]:
        """(P,) array b.

        Each image is scored as if it were another one of its class, at the cosine `_COSINE_IN_CLASS` to itself, so that its own
        term in the logits counts that much only. b makes the labels likeliest then, every class with the same weight. It counts
        by how unequal the classes are: 1 − harmonic mean / mean of their numbers of images.
        """
        counts = np.bincount(self.labels, minlength=len(self.present))
        n_present = len(self.present)
        inequality = 1 - n_present / (1 / counts).sum() / counts.mean() if n_present > 1 else 0
        if inequality < 1e-9:
            return np.zeros(n_present)
        logits = self._as_another(solution, text_weight, penalty)
        shares = 1 / counts[self.labels]

        def loss_and_gradient(b: NDArray[Any]) -> tuple[float, NDArray[Any]]:
            losses, errors = _losses_and_errors(logits + b, self.labels)
            return float(shares @ losses) + _INTERCEPT_PENALTY / 2 * float(
                b @ b
            ), shares @ errors + _INTERCEPT_PENALTY * b

        b = minimise(loss_and_gradient, np.zeros(n_present), np.ones(n_present), 1e-6)
        return inequality * b

    def _as_another(self, solution: NDArray[Any], text_weight: float, penalty: float) -> NDArray[Any]:
        """(n, P) logits of each image as if it were another of its class."""
        logits, values = self._errors(solution, text_weight)
        own_term = (self.inputs**2).sum(axis=1, keepdims=True) * values / penalty
        return logits - (1 - _COSINE_IN_CLASS) * own_term

    def _errors(self, solution: NDArray[Any], text_weight: float) -> tuple[NDArray[Any], NDArray[Any]]:
        """(n, P) logits of the images and u (L − softmax)."""
        logits = text_weight * self.text + self.inputs @ solution.T
        return logits, -self.weights[:, None] * _losses_and_errors(logits, self.labels)[1]

    # ---- the choice --------------------------------------------------------------------------------------------------

    def chosen(self, penalty: float | None, text_weight: float | None) -> tuple[float, float, NDArray[Any] | None]:
        """λ and v, those given where they are, and a (P, d) B to start from; with one class or no image the names alone decide."""
        if len(self.present) < 2:
            return _PATH[0][0] if penalty is None else penalty, 1.0 if text_weight is None else text_weight, None
        scale = 0.0
        if text_weight is None and np.ptp(self.text) > 0:
            scale = 1 / fit_temperature(self.text, self.labels, self.weights)
        path = [(step, scale * share if text_weight is None else text_weight) for step, share in _PATH]
        if penalty is not None:
            return penalty, path[0][1], None
        best, *others = path
        losses, solutions = self._left_out_losses(*best, [])
        for other in others:
            less, starts = self._left_out_losses(*other, solutions)
            gain = losses - less
            if gain.mean() <= _STANDARD_ERRORS * gain.std() / max(len(gain) - 1, 1) ** 0.5:
                break
            best, losses, solutions = other, less, starts
        return *best, solutions[0]

    def _left_out_losses(
        self, penalty: float, text_weight: float, starts: list[NDArray[Any]]
    ) -> tuple[NDArray[Any], list[NDArray[Any]]]:
        """Cross-entropy of images that are left out, at their best temperature, and the B of each fold, found from `starts` if any.

        If none can be left out, each is scored as another of its class.
        """
        folds = self.folds
        sizes = np.cumsum([len(rows) for rows in folds])
        used = folds[: int(np.searchsorted(sizes, _ENOUGH)) + 1]
        parts = [self.without(rows) for rows in used] or [self]
        begin: list[NDArray[Any] | None] = [*starts] or [None for _ in parts]
        solutions = [part.solve(text_weight, penalty, _ROUGH, b) for part, b in zip(parts, begin, strict=True)]
        if used:
            labels = self.labels[np.concatenate(used)]
            rows_of = zip(used, solutions, strict=True)
            logits = np.concatenate([text_weight * self.text[rows] + self.inputs[rows] @ b.T for rows, b in rows_of])
        else:
            labels, logits = self.labels, self._as_another(solutions[0], text_weight, penalty)
        return _losses_and_errors(logits / fit_temperature(logits, labels), labels)[0], solutions

    @cached_property
    def folds(self) -> list[NDArray[np.intp]]:
        """Rows to leave out together: near-repeats are in one fold, and each class keeps an image.

        None if fewer than half the classes with images have a second one that is no near-repeat.
        """
        groups = near_repeats(self.vectors, self.labels)
        n_folds = _FOLDS_OF_FEW if self.text.size <= _FEW else _FOLDS
        fold, first, n_classes = np.full(len(self.labels), -1), 0, 0
        rng = np.random.default_rng(0)
        for label in range(len(self.present)):
            own = np.flatnonzero(self.labels == label)
            _, numbers = np.unique(groups[own], return_inverse=True)
            n_groups = numbers.max(initial=-1) + 1
            if n_groups > 1:  # in consecutive folds, from where the class before ended
                fold[own] = (first + rng.permutation(n_groups)[numbers]) % n_folds
                first, n_classes = first + n_groups, n_classes + 1
        if n_classes < max(2, len(self.present) / 2):
            return []
        return [rows for rows in (np.flatnonzero(fold == number) for number in range(n_folds)) if len(rows)]


def near_repeats(vectors: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.intp]:
    """A number for each image; images of a class that differ by little, as in a burst, have the same.

    Parameters
    ----------
    vectors : (n, d) float array, unit rows
    labels : (n,) int array

    Returns
    -------
    (n,) int array
    """
    rows = np.random.default_rng(0).permutation(len(labels))[:_SAMPLE]
    apart = labels[rows][:, None] != labels[rows]
    if not apart.any():
        return np.arange(len(labels))
    near = 1 - _NEAR_REPEAT * float(np.median((1 - vectors[rows] @ vectors[rows].T)[apart]))
    links = [np.zeros((2, 0), np.intp)]
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        links.append(own[np.array(np.nonzero(np.triu(vectors[own] @ vectors[own].T > near, k=1)))])
    first, second = np.concatenate(links, axis=1)
    graph = coo_array((np.ones(len(first), np.bool_), (first, second)), shape=(len(labels), len(labels)))
    groups: NDArray[np.intp] = connected_components(graph, directed=False)[1]
    return groups


def class_weights(counts: NDArray[np.intp]) -> NDArray[np.float64]:
    """What each image of a class weighs, u, by (N,) numbers of images, all > 0: (N,) float array.

    Each class has the same total, the harmonic mean of the numbers; 1 where they are equal.
    """
    weights: NDArray[np.float64] = len(counts) / (1 / counts).sum() / counts
    return np.where(np.abs(weights - 1) < 1e-12, 1.0, weights)


def _balanced(labels: NDArray[Any]) -> NDArray[np.float64]:
    """(n,) `class_weights` of images with these labels."""
    present, positions, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return class_weights(counts)[positions] if len(present) else np.zeros(0)


def _losses_and_errors(logits: NDArray[Any], labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Cross-entropy of each of (m, P) logits for (m,) labels, and its gradient: softmax minus one-hot."""
    logits = logits - logits.max(axis=1, keepdims=True, initial=-np.inf)  # without images there are no columns
    own = np.arange(len(labels)), labels
    behind = logits[own]
    errors = np.exp(logits, out=logits)
    sums = errors.sum(axis=1, keepdims=True)
    errors /= sums
    errors[own] -= 1
    return np.log(sums[:, 0]) - behind, errors
