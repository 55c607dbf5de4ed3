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
  `offset_regression.PATH` is left only for what is likelier on left-out images by more than two standard errors.
- u: every class has the same total, the harmonic mean of the classes' numbers of images.
- b: 0 where all classes have as many images. Else a class with few images fits its own too well and loses others to classes with
  many; b makes up for it, see `OffsetRegression.intercepts`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tip_adapter.io.processors import one_blas_thread
from tip_adapter.methods.base import Capabilities
from tip_adapter.methods.explanation import ClassEvidence, decompose_sum
from tip_adapter.methods.folds import N_FOLDS
from tip_adapter.methods.incremental import IncrementalClassifier
from tip_adapter.methods.offset_regression import COSINE_IN_CLASS, OffsetRegression
from tip_adapter.methods.ops import like, text_logits, to_numpy
from tip_adapter.validation import MAX_CHOSEN_ALPHA
from tip_adapter.vectors import unit_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from tip_adapter.vectors import Array, ClassEmbeddings

PRIORS = ("balanced", "counts")
#: Norm of the gradient at which the solver stops, relative to √n: for left-out classes, for left-out images, and for what is used, in
#: single and in double precision.
_LEFT_OUT_CLASSES, _LEFT_OUT, _SINGLE, _DOUBLE = 3e-3, 1e-3, 1e-4, 1e-6
#: Classes that leave something to choose from where one is left out.
_FEWEST_CLASSES = 3
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
        groups = np.array_split(np.random.default_rng(0).permutation(present), min(N_FOLDS, len(present)))
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
        return logits - (1 - COSINE_IN_CLASS) * (regression.inputs**2).sum(axis=1, keepdims=True) * values

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
        penalty, text_weight = (None if value is None else float(value) for value in (self.penalty, self.text_weight))
        self._solve(penalty, text_weight)

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

    def _regression(self, rows: NDArray[np.intp] | slice = slice(None)) -> OffsetRegression:
        """The problem of these images."""
        return OffsetRegression.of(
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

    def _logits_by(self, part: OffsetRegression, solution: NDArray[Any], rows: NDArray[np.intp]) -> NDArray[Any]:
        """Logits of images that the problem of `part` does not have, by its solution."""
        coef, intercept = part.as_linear(solution, self.text_weight_, self.penalty_)
        vectors = to_numpy(self.keys_)[rows]
        text = self.text_weight_ * text_logits(vectors, to_numpy(self.weights_), float(self.logit_scale))
        logits: NDArray[Any] = text + vectors @ coef.T + intercept
        return logits

    def _threads(self) -> AbstractContextManager[None]:
        is_small = len(self.keys_) * self.n_features_in_ * len(self.classes_) < _WORTH_THREADS
        return one_blas_thread if is_small else nullcontext()
