"""Fine-tune what a project has learned, Tip-Adapter-F, and compare it with the default method on photos that neither has seen.

Both methods are trained without each of some folds of the photos, and predict these; near-repeats of a photo are in its fold.
The head that a person may accept is trained on all photos.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import bdtr

from tip_adapter.methods.folds import held_out_parts, near_repeats
from tip_adapter.methods.ops import row_weights
from tip_adapter.methods.tuning import fit_temperature
from tip_adapter.metrics import LeaveOneOutResult, accuracy_of
from tip_adapter.vectors import softmax

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from tip_adapter.model.head import Head, TrainingData
    from tip_adapter.serve.learning import Learner
    from tip_adapter.vectors import SupportSet

#: Differences that chance makes less often are called a difference.
_CHANCE = 0.05


@dataclass(frozen=True, eq=False)
class FineTuned:
    """A head and how it was measured.

    Parameters
    ----------
    head : Head, trained on all photos
    rows : (m,) int array, photos of its support that were held out
    predicted : (m,) labels predicted for these by heads that were trained without their folds
    """

    head: Head
    rows: NDArray[np.intp]
    predicted: NDArray[np.str_]


@dataclass(frozen=True)
class Comparison:
    """Predictions of the same n photos before and after, by heads that have not seen them.

    Parameters
    ----------
    before, after : accuracy, low, high (95 % interval), and n
    n_better, n_worse : photos that are right only after, and only before
    verdict : ``better`` or ``worse``; ``no_difference`` where chance alone makes as much of one in 5 % of cases
    """

    before: Mapping[str, float]
    after: Mapping[str, float]
    n_better: int
    n_worse: int
    verdict: str

    @classmethod
    def of(cls, truth: NDArray[Any], before: NDArray[Any], after: NDArray[Any]) -> Comparison:
        """From (n,) labels and those predicted before and after, n > 0; the verdict is a sign test's."""
        n_better = int(((before != truth) & (after == truth)).sum())
        n_worse = int(((before == truth) & (after != truth)).sum())
        chance = 2 * bdtr(min(n_better, n_worse), n_better + n_worse, 0.5) if n_better != n_worse else 1.0
        verdict = "no_difference" if chance > _CHANCE else "better" if n_better > n_worse else "worse"
        return cls(_measured(truth, before), _measured(truth, after), n_better, n_worse, verdict)


def folds(support: SupportSet) -> list[NDArray[np.intp]]:
    """Rows of at most five folds, near-repeats of a class together; none if fewer than two classes have photos that differ."""
    if not len(support):
        return []
    labels = np.unique(support.labels, return_inverse=True)[1]
    groups = near_repeats(support.vectors, labels)
    _, first = np.unique(groups, return_index=True)
    return [np.flatnonzero(np.isin(groups, part)) for part in held_out_parts(labels[first], seed=0)]


def fine_tune(
    learner: Learner,
    data: TrainingData,
    parts: list[NDArray[np.intp]],
    epochs: int,
    after_epoch: Callable[[int, Any], None],
) -> tuple[FineTuned, Comparison]:
    """Train on all photos, and compare with the default method on those held out.

    Parameters
    ----------
    learner, data : Learner, and what its `fit` takes
    parts : rows of each fold, at least one
    epochs : int, of each training
    after_epoch : as in `Learner.fine_tune`, for every training

    Returns
    -------
    FineTuned, whose temperature and threshold are those of the photos held out; Comparison of both methods on these
    """
    support, before, logits = data.support, [], []
    for part in parts:
        known = replace(data, support=support.take(np.delete(np.arange(len(support)), part)))
        held_out = support.take(part)
        before.append(learner.fit(known).head.predict(held_out.vectors))
        tuned = learner.fine_tune(known, epochs, after_epoch)
        logits.append(tuned.estimator.logits(held_out.vectors))
    head = learner.fine_tune(data, epochs, after_epoch)
    rows, scores = np.concatenate(parts), np.concatenate(logits)
    photos = support.take(rows)
    after = head.classes[scores.argmax(axis=1)]
    truth = np.searchsorted(head.classes, photos.labels)
    temperature = fit_temperature(scores, truth, row_weights(truth, len(head.classes)))
    assert head.choice is not None
    head = replace(
        head,
        choice=replace(head.choice, temperature=temperature),
        left_out=LeaveOneOutResult.of(photos.labels, softmax(scores / temperature), head.classes),
    )
    return FineTuned(head, rows, after), Comparison.of(photos.labels, np.concatenate(before), after)


def _measured(truth: NDArray[Any], predicted: NDArray[Any]) -> dict[str, float]:
    accuracy = accuracy_of(truth, predicted)
    return {
        "accuracy": accuracy.accuracy,
        "low": accuracy.interval[0],
        "high": accuracy.interval[1],
        "n": accuracy.n,
    }
