"""How right a classifier is: accuracy with its interval, per class and confusions, over photos it has not seen."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import binomtest

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: The share of known photos that "none of these" is to spare.
KEPT = 0.95


@dataclass(frozen=True)
class Accuracy:
    """Accuracy over photos; all figures are fractions.

    Parameters
    ----------
    accuracy : float
    mean_per_class : float, mean of the classes' accuracies
    interval : 95 % interval of `accuracy`
    n : int, photos scored
    per_class : label → (accuracy, photos)
    confusions : (label, what it was called, photos), the most frequent first
    """

    accuracy: float
    mean_per_class: float
    interval: tuple[float, float]
    n: int
    per_class: dict[str, tuple[float, int]]
    confusions: tuple[tuple[str, str, int], ...]


def accuracy_of(truth: NDArray[Any], predicted: NDArray[Any]) -> Accuracy:
    """Compare labels.

    Parameters
    ----------
    truth, predicted : (n,) labels, n > 0

    Returns
    -------
    Accuracy
    """
    right = truth == predicted
    per_class = {
        str(label): (float(right[truth == label].mean()), int((truth == label).sum())) for label in np.unique(truth)
    }
    return Accuracy(
        accuracy=float(right.mean()),
        mean_per_class=float(np.mean([accuracy for accuracy, _ in per_class.values()])),
        interval=accuracy_interval(int(right.sum()), len(right)),
        n=len(right),
        per_class=per_class,
        confusions=_confusions(truth[~right], predicted[~right]),
    )


def _confusions(truth: NDArray[Any], predicted: NDArray[Any]) -> tuple[tuple[str, str, int], ...]:
    pairs = Counter(zip(truth.tolist(), predicted.tolist(), strict=True))
    return tuple((str(a), str(b), n) for (a, b), n in sorted(pairs.items(), key=lambda item: (-item[1], item[0])))


@dataclass(frozen=True)
class LeftOut:
    """How right a classifier is on its own photos, each named by a classifier that has not seen it.

    Parameters
    ----------
    accuracy : Accuracy
    kept : float, the share of these photos whose best score reaches the threshold
    threshold : float, the score below which a photo is none of these
    """

    accuracy: Accuracy
    kept: float
    threshold: float

    @classmethod
    def of(cls, truth: NDArray[Any], probabilities: NDArray[Any], classes: NDArray[Any]) -> LeftOut:
        """From (n,) labels and (n, n_classes) left-out probabilities, n > 0."""
        accuracy = accuracy_of(truth, classes[probabilities.argmax(axis=1)])
        scores = probabilities.max(axis=1)
        threshold = keeping_threshold(scores, KEPT)
        return cls(accuracy, float((scores >= threshold).mean()), threshold)

    def to_record(self) -> dict[str, Any]:
        """What a model folder keeps of it."""
        per_class = self.accuracy.per_class.items()
        return {
            "accuracy": self.accuracy.accuracy,
            "interval": list(self.accuracy.interval),
            "n_rows": self.accuracy.n,
            "per_class": [{"label": label, "accuracy": share, "n_rows": n} for label, (share, n) in per_class],
            "confusions": [{"label": a, "called": b, "n_rows": n} for a, b, n in self.accuracy.confusions],
            "kept": self.kept,
            "threshold": self.threshold,
        }

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> LeftOut:
        """What `to_record` kept."""
        per_class = {entry["label"]: (entry["accuracy"], entry["n_rows"]) for entry in record["per_class"]}
        accuracy = Accuracy(
            accuracy=record["accuracy"],
            mean_per_class=float(np.mean([share for share, _ in per_class.values()])) if per_class else 0.0,
            interval=(record["interval"][0], record["interval"][1]),
            n=record["n_rows"],
            per_class=per_class,
            confusions=tuple((entry["label"], entry["called"], entry["n_rows"]) for entry in record["confusions"]),
        )
        return cls(accuracy, record["kept"], record["threshold"])


def keeping_threshold(scores: NDArray[Any], kept: float) -> float:
    """The highest score that so many of the known photos reach.

    Parameters
    ----------
    scores : (n,) float array in [0, 1], n > 0: each photo's best probability, by a classifier that has not seen it
    kept : float, the share of them that is to be kept
    """
    reached_by = max(math.ceil(round(kept * len(scores), 6)), 1)  # 0.55 of 20 is 11, not a little more
    return float(np.sort(scores)[-reached_by])


def accuracy_interval(n_right: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a proportion (Wilson, 1927)."""
    interval = binomtest(n_right, n).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)
