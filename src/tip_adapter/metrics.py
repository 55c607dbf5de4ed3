"""How right a classifier is, over photos it has not seen: accuracy with its interval, per class, confusions, calibration.

Photos are counted batch by batch. Of each a few numbers stay, whatever the number of classes.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.stats import binomtest

from tip_adapter.vectors import softmax

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tip_adapter.vectors import SupportSet

#: The share of known photos that "none of these" is to spare.
KEPT = 0.95
#: Bins of equal width that confidences are sorted into.
N_BINS = 15


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

    Raises
    ------
    ValueError
        There are no labels, or another number of one than of the other.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.metrics import accuracy_of
    >>> result = accuracy_of(np.array(["cat", "cat", "dog"]), np.array(["cat", "dog", "dog"]))
    >>> print(f"{result.accuracy:.2f}", *result.confusions)
    0.67 ('cat', 'dog', 1)
    """
    right = truth == predicted
    labels, rows = np.unique(truth, return_inverse=True)
    n_images, n_right = np.bincount(rows), np.bincount(rows, weights=right)
    per_class = {str(label): (float(r / n), int(n)) for label, r, n in zip(labels, n_right, n_images, strict=True)}
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
class Bin:
    """Photos whose confidences are alike: their mean confidence, the share that is right, and how many they are."""

    confidence: float
    accuracy: float
    n: int


@dataclass(frozen=True)
class Calibration:
    """How far a score can be taken at its word.

    Parameters
    ----------
    ece : float, expected calibration error: the mean over photos of the distance between confidence and accuracy of their
        bin. The confidence is the highest score; bins are 15 of equal width. A photo of a class that the model does not
        have counts as wrong
    negative_log_likelihood : float, mean over the photos of known classes of −log of their class's score; None without any
    n_known : int, how many photos that is
    curve : the bins that hold photos, by confidence: the reliability curve

    Notes
    -----
    Naeini, Cooper, Hauskrecht: Obtaining well calibrated probabilities using Bayesian binning, AAAI 2015; with 15 bins and
    the reliability curve as in Guo, Pleiss, Sun, Weinberger: On calibration of modern neural networks, ICML 2017.
    """

    ece: float
    negative_log_likelihood: float | None
    n_known: int
    curve: tuple[Bin, ...]

    def to_record(self) -> dict[str, Any]:
        """What `evaluate --json` holds of it."""
        return {
            "ece": self.ece,
            "negative_log_likelihood": self.negative_log_likelihood,
            "curve": [asdict(entry) for entry in self.curve],
        }


def calibration_of(
    confidence: NDArray[np.float64], right: NDArray[np.bool_], log_likelihood: NDArray[np.float64]
) -> Calibration:
    """Compare confidence and truth.

    Parameters
    ----------
    confidence : (n,) float array in (0, 1], n > 0: each photo's highest score
    right : (n,) bool array, whether that score's class is the photo's
    log_likelihood : (n,) float array, log of the score of the photo's class; NaN where the model does not have it
    """
    bins = np.clip(np.ceil(confidence * N_BINS).astype(np.intp) - 1, 0, N_BINS - 1)
    curve = tuple(
        Bin(float(confidence[inside].mean()), float(right[inside].mean()), int(inside.sum()))
        for inside in (bins == number for number in np.unique(bins))
    )
    known = log_likelihood[~np.isnan(log_likelihood)]
    return Calibration(
        ece=sum(entry.n * abs(entry.accuracy - entry.confidence) for entry in curve) / len(confidence),
        negative_log_likelihood=0.0 - float(known.mean()) if len(known) else None,
        n_known=len(known),
        curve=curve,
    )


@dataclass(frozen=True, eq=False)
class Mistake:
    """A photo that was called something else.

    Parameters
    ----------
    id : str, what the photo is called
    label : its class
    called : the answer
    score : float, the answer's
    vector : (d,) float32 array
    """

    id: str
    label: str
    called: str
    score: float
    vector: NDArray[np.float32]


class _Counted(NamedTuple):
    """What stays of a batch of m photos; columns of (m, 2) arrays are at temperature 1 and at the model's own."""

    truth: NDArray[np.intp]
    called: NDArray[np.intp]
    by_names: NDArray[np.intp]
    confidence: NDArray[np.float64]
    log_likelihood: NDArray[np.float64]


class MetricAccumulator:
    """Labelled photos counted batch by batch, in memory that does not grow with vectors or classes.

    Parameters
    ----------
    classes : (n_classes,) sorted labels of the model
    temperature : float, what its logits are divided by
    n_mistakes : int, so many of the most confident mistakes are kept whole
    """

    def __init__(self, classes: NDArray[np.str_], temperature: float, n_mistakes: int = 0) -> None:
        self.temperature = temperature
        self._n_classes = len(classes)
        self._positions = {label: position for position, label in enumerate(classes.tolist())}
        self._batches: list[_Counted] = []
        self._n = 0
        self._n_mistakes = n_mistakes
        self._worst: list[tuple[float, int, Mistake]] = []  # a heap: the least confident on top

    def __len__(self) -> int:
        return self._n

    def add(self, photos: SupportSet, logits: NDArray[Any], name_logits: NDArray[Any]) -> None:
        """Count photos, given their (m, n_classes) logits by the model and by the class names alone."""
        truth = np.array([self._position(label) for label in photos.labels.tolist()], dtype=np.intp)
        called = logits.argmax(axis=1)
        judged = [self._judged(logits.astype(np.float64) / t, truth) for t in (1.0, self.temperature)]
        confidence, log_likelihood = (np.stack(columns, axis=1) for columns in zip(*judged, strict=True))
        self._batches.append(_Counted(truth, called, name_logits.argmax(axis=1), confidence, log_likelihood))
        self._keep_worst(photos, self._batches[-1])
        self._n += len(photos)

    def accuracy(self) -> Accuracy:
        """How right the model is; a label that it does not have counts as wrong. At least one photo was added."""
        return accuracy_of(self._labels(self._column("truth")), self._labels(self._column("called")))

    def zero_shot(self) -> Accuracy:
        """How right the class names alone are."""
        return accuracy_of(self._labels(self._column("truth")), self._labels(self._column("by_names")))

    def calibrations(self) -> tuple[Calibration, Calibration]:
        """Before and after: at temperature 1, and at the model's."""
        right = self._column("truth") == self._column("called")
        confidence, log_likelihood = self._column("confidence"), self._column("log_likelihood")
        before, after = (calibration_of(confidence[:, t], right, log_likelihood[:, t]) for t in (0, 1))
        return before, after

    def mistakes(self) -> list[Mistake]:
        """The most confident mistakes, the worst first; of equals the one that came first."""
        return [mistake for *_, mistake in sorted(self._worst, key=lambda entry: entry[:2], reverse=True)]

    def unknown_classes(self) -> list[str]:
        """Sorted labels of photos that the model does not have."""
        return sorted(list(self._positions)[self._n_classes :])

    def _position(self, label: str) -> int:
        """Where a label stands; those that the model does not have come after its own."""
        return self._positions.setdefault(label, len(self._positions))

    def _judged(self, logits: NDArray[np.float64], truth: NDArray[np.intp]) -> tuple[NDArray[Any], NDArray[Any]]:
        """The highest score of each row, and the log of its class's, NaN for classes that the model never answers."""
        confidence = softmax(logits).max(axis=1)
        own = logits[np.arange(len(logits)), np.where(truth < self._n_classes, truth, 0)]
        known = (truth < self._n_classes) & np.isfinite(own)
        # The highest score is 1 / the sum of exponentials: its log tells a score's that is too small for a float.
        return confidence, np.where(known, np.log(confidence) + own - logits.max(axis=1), np.nan)

    def _keep_worst(self, photos: SupportSet, batch: _Counted) -> None:
        for row in np.flatnonzero(batch.truth != batch.called).tolist():
            score, place = float(batch.confidence[row, 1]), -(self._n + row)
            if len(self._worst) == self._n_mistakes and (not self._worst or (score, place) < self._worst[0][:2]):
                continue
            called = str(self._labels(batch.called[row : row + 1])[0])
            mistake = Mistake(str(photos.ids[row]), str(photos.labels[row]), called, score, photos.vectors[row].copy())
            heapq.heappush(self._worst, (score, place, mistake))
            if len(self._worst) > self._n_mistakes:
                heapq.heappop(self._worst)

    def _column(self, name: str) -> NDArray[Any]:
        return np.concatenate([getattr(batch, name) for batch in self._batches])

    def _labels(self, positions: NDArray[np.intp]) -> NDArray[np.object_]:
        # Objects: a table of text would be as wide as the longest label.
        return np.array(list(self._positions), dtype=object)[positions]


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
