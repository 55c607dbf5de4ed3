"""Metrics on images that the classifier was not fitted on: accuracy with its interval, per class, confusions, calibration.

`MetricAccumulator` adds images batch by batch and keeps a few numbers per image, however many classes there are.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.special import ndtri

from tip_adapter.vectors import softmax

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from tip_adapter.vectors import SupportSet

#: The fraction of images of known classes whose score is to reach the threshold for "none of these".
KEPT = 0.95
#: Number of confidence bins, of equal width.
N_BINS = 15


@dataclass(frozen=True)
class Accuracy:
    """Accuracy as fractions.

    Parameters
    ----------
    accuracy : float
    mean_per_class : float, mean of the accuracies of the classes
    interval : 95 % confidence interval of `accuracy`
    n : int, number of images
    per_class : label → (accuracy, number of images)
    confusions : (label, predicted label, number of images), the most frequent first
    """

    accuracy: float
    mean_per_class: float
    interval: tuple[float, float]
    n: int
    per_class: dict[str, tuple[float, int]]
    confusions: tuple[tuple[str, str, int], ...]

    @property
    def equal_counts(self) -> bool:
        """Whether all classes have equally many images: the mean over classes is then the accuracy."""
        return len({n for _, n in self.per_class.values()}) < 2

    @property
    def mean_interval(self) -> tuple[float, float]:
        """95 % confidence interval of `mean_per_class`: that of as many images as have its variance in equal classes.

        It supposes that accuracy does not depend on a class's number of images.
        """
        if self.equal_counts:
            return self.interval
        n_effective = len(self.per_class) ** 2 / sum(1 / n for _, n in self.per_class.values())
        return wilson_interval(self.mean_per_class, n_effective)


def accuracy_of(truth: NDArray[Any], predicted: NDArray[Any]) -> Accuracy:
    """Compare predictions with labels.

    Parameters
    ----------
    truth, predicted : (n,) labels, n > 0

    Raises
    ------
    ValueError
        There are no labels, or the lengths differ.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.metrics import accuracy_of
    >>> result = accuracy_of(np.array(["cat", "cat", "dog"]), np.array(["cat", "dog", "dog"]))
    >>> print(f"{result.accuracy:.2f}", *result.confusions)
    0.67 ('cat', 'dog', 1)
    """
    correct = truth == predicted
    labels, rows = np.unique(truth, return_inverse=True)
    n_images, n_correct = np.bincount(rows), np.bincount(rows, weights=correct)
    per_class = {str(label): (float(r / n), int(n)) for label, r, n in zip(labels, n_correct, n_images, strict=True)}
    # Counted sparsely: scikit-learn's confusion_matrix is n_classes × n_classes.
    pairs = Counter(zip(truth[~correct].tolist(), predicted[~correct].tolist(), strict=True))
    return Accuracy(
        accuracy=float(correct.mean()),
        mean_per_class=_mean_per_class(per_class, float(correct.mean())),
        interval=accuracy_interval(int(correct.sum()), len(correct)),
        n=len(correct),
        per_class=per_class,
        confusions=tuple(
            (str(label), str(answer), n)
            for (label, answer), n in sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
        ),
    )


def _mean_per_class(per_class: dict[str, tuple[float, int]], accuracy: float) -> float:
    """The mean of the accuracies of the classes: exactly `accuracy` where all have equally many images."""
    if len({n for _, n in per_class.values()}) == 1:
        return accuracy
    return float(np.mean([share for share, _ in per_class.values()])) if per_class else 0.0


@dataclass(frozen=True)
class Bin:
    """Images of similar confidence: mean confidence, accuracy and number."""

    confidence: float
    accuracy: float
    n: int


@dataclass(frozen=True)
class Calibration:
    """How well confidence matches accuracy.

    Parameters
    ----------
    ece : float, expected calibration error: mean over images of |confidence − accuracy| of their bin. The confidence is
        the highest score, in 15 bins of equal width. An image of a class that the model does not have counts as wrong
    negative_log_likelihood : float, mean over images of known classes of −log of their class's score; None without any
    n_known : int, number of these images
    curve : the non-empty bins by confidence: the reliability curve

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
        """The entry of `evaluate --json`."""
        return {
            "ece": self.ece,
            "negative_log_likelihood": self.negative_log_likelihood,
            "curve": [asdict(entry) for entry in self.curve],
        }


def calibration_of(
    confidence: NDArray[np.float64], correct: NDArray[np.bool_], log_likelihood: NDArray[np.float64]
) -> Calibration:
    """Compare confidence with accuracy.

    Parameters
    ----------
    confidence : (n,) float array in (0, 1], n > 0: each image's highest score
    correct : (n,) bool array, whether the prediction is correct
    log_likelihood : (n,) float array, log of the score of the image's class; NaN if the model does not have that class
    """
    bins = np.clip(np.ceil(confidence * N_BINS).astype(np.intp) - 1, 0, N_BINS - 1)
    curve = tuple(
        Bin(float(confidence[inside].mean()), float(correct[inside].mean()), int(inside.sum()))
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
    """A misclassified image.

    Parameters
    ----------
    id : str, image id
    label : its class
    called : the predicted label
    score : float, of the predicted label
    vector : (d,) float32 array
    """

    id: str
    label: str
    called: str
    score: float
    vector: NDArray[np.float32]


@dataclass(frozen=True)
class UnknownClass:
    """The images of a class that the model does not have.

    Parameters
    ----------
    label : str
    n : int, number of images
    called : (predicted label, number of images), the most frequent first
    n_refused : int, number of images whose score is below a threshold for "none of these"
    """

    label: str
    n: int
    called: tuple[tuple[str, int], ...]
    n_refused: int


class _Batch(NamedTuple):
    """What is kept of m images; the columns of (m, 2) arrays are at temperature 1 and at the model's."""

    ids: NDArray[np.str_]
    truth: NDArray[np.intp]
    predicted: NDArray[np.intp]
    zero_shot: NDArray[np.intp] | None
    confidence: NDArray[np.float64]
    log_likelihood: NDArray[np.float64]


class MetricAccumulator:
    """Accumulates metrics batch by batch; memory does not grow with the width of vectors or the number of classes.

    Parameters
    ----------
    classes : (n_classes,) sorted labels of the model
    temperature : float, divides the logits
    n_mistakes : int, how many of the most confident mistakes to keep with their vectors, and of the most confident images
        of classes that the model does not have
    """

    def __init__(self, classes: NDArray[np.str_], temperature: float, n_mistakes: int = 0) -> None:
        self.temperature = temperature
        self._n_classes = len(classes)
        self._positions = {label: position for position, label in enumerate(classes.tolist())}
        self._batches: list[_Batch] = []
        self._n = 0
        self._unreadable: list[tuple[str, str]] = []
        self._n_mistakes = n_mistakes
        self._worst: list[Mistake] = []  # of known classes, the most confident first
        self._worst_unknown: list[Mistake] = []  # of classes that the model does not have, the most confident first

    def __len__(self) -> int:
        return self._n

    def add(self, images: SupportSet, logits: NDArray[Any], zero_shot_logits: NDArray[Any] | None) -> None:
        """Add labelled images with their (m, n_classes) logits, by the model and by the class names alone; None without names."""
        # Labels that the model does not have are numbered after its own.
        truth = np.array(
            [self._positions.setdefault(label, len(self._positions)) for label in images.labels.tolist()], dtype=np.intp
        )
        scores = [self._scores(logits.astype(np.float64) / t, truth) for t in (1.0, self.temperature)]
        confidence, log_likelihood = (np.stack(columns, axis=1) for columns in zip(*scores, strict=True))
        by_name = None if zero_shot_logits is None else zero_shot_logits.argmax(axis=1)
        batch = _Batch(images.ids, truth, logits.argmax(axis=1), by_name, confidence, log_likelihood)
        self._batches.append(batch)
        self._keep_worst(images, batch)
        self._n += len(images)

    def accuracy(self) -> Accuracy:
        """Accuracy of the model; an image of a class that it does not have counts as wrong. Needs at least one image."""
        return accuracy_of(self._labels(self._column("truth")), self._labels(self._column("predicted")))

    def accuracy_of_known(self) -> Accuracy | None:
        """Accuracy on images of the model's classes; None without any."""
        truth, predicted = self._column("truth"), self._column("predicted")
        known = truth < self._n_classes
        return accuracy_of(self._labels(truth[known]), self._labels(predicted[known])) if known.any() else None

    def zero_shot(self) -> Accuracy | None:
        """Accuracy of the class names alone; None without names."""
        if any(batch.zero_shot is None for batch in self._batches):
            return None
        return accuracy_of(self._labels(self._column("truth")), self._labels(self._column("zero_shot")))

    def add_unreadable(self, ids: Iterable[str], labels: Iterable[str]) -> None:
        """Remember images that could not be read, among ids with their labels: those that were not added."""
        added = set(self._ids())
        self._unreadable += [(name, label) for name, label in zip(ids, labels, strict=True) if name not in added]

    def answers(self, min_score: float = 0.0) -> Iterator[tuple[str, str, str | None, float | None]]:
        """Of each image its id, its class, the predicted label (None below `min_score`), and the score of that label.

        Unreadable images come last, without label and score.
        """
        truth, predicted = self._labels(self._column("truth")), self._labels(self._column("predicted"))
        scores = self._column("confidence")[:, 1]
        for row in zip(self._ids(), truth, predicted, scores.tolist(), strict=True):
            yield row[0], row[1], row[2] if row[3] >= min_score else None, row[3]
        for name, label in self._unreadable:
            yield name, label, None, None

    def calibrations(self) -> tuple[Calibration, Calibration]:
        """At temperature 1, and at the model's."""
        correct = self._column("truth") == self._column("predicted")
        confidence, log_likelihood = self._column("confidence"), self._column("log_likelihood")
        before, after = (calibration_of(confidence[:, t], correct, log_likelihood[:, t]) for t in (0, 1))
        return before, after

    def mistakes(self) -> list[Mistake]:
        """The most confident mistakes on images of the model's classes, the most confident first.

        Ties are in the order in which they were added.
        """
        return [*self._worst]

    def unknown_images(self) -> list[Mistake]:
        """The most confident images of classes that the model does not have, in the order of `mistakes`."""
        return [*self._worst_unknown]

    def unknown_classes(self) -> list[str]:
        """Sorted labels of images that the model does not have."""
        return sorted(list(self._positions)[self._n_classes :])

    def unknown(self, threshold: float) -> list[UnknownClass]:
        """What the images of each class that the model does not have were predicted as, by label.

        Parameters
        ----------
        threshold : float in [0, 1]; an image with a lower score is refused
        """
        truth, predicted, refused = self._column("truth"), self._column("predicted"), self._refused(threshold)
        classes = []
        for label in self.unknown_classes():
            own = truth == self._positions[label]
            called = Counter(self._labels(predicted[own]).tolist())
            most_frequent = tuple(sorted(called.items(), key=lambda item: (-item[1], item[0])))
            classes.append(UnknownClass(label, int(own.sum()), most_frequent, int(refused[own].sum())))
        return classes

    def n_known_refused(self, threshold: float) -> int:
        """Number of images of the model's classes whose score is below a threshold."""
        return int((self._refused(threshold) & (self._column("truth") < self._n_classes)).sum())

    def _refused(self, threshold: float) -> NDArray[np.bool_]:
        below: NDArray[np.bool_] = self._column("confidence")[:, 1] < threshold
        return below

    def _scores(self, logits: NDArray[np.float64], truth: NDArray[np.intp]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Each row's highest score, and the log of its own class's: NaN for classes that the model cannot predict."""
        confidence = softmax(logits).max(axis=1)
        own = logits[np.arange(len(logits)), np.where(truth < self._n_classes, truth, 0)]
        known = (truth < self._n_classes) & np.isfinite(own)
        # The highest score is 1 / the sum of exponentials; its log avoids the underflow of small scores.
        return confidence, np.where(known, np.log(confidence) + own - logits.max(axis=1), np.nan)

    def _keep_worst(self, images: SupportSet, batch: _Batch) -> None:
        scores, called = batch.confidence[:, 1], self._labels(batch.predicted)
        unknown = batch.truth >= self._n_classes
        for kept, chosen in (
            (self._worst, ~unknown & (batch.truth != batch.predicted)),
            (self._worst_unknown, unknown),
        ):
            for row in heapq.nlargest(self._n_mistakes, np.flatnonzero(chosen).tolist(), key=scores.__getitem__):
                names = str(images.ids[row]), str(images.labels[row]), str(called[row])
                kept.append(Mistake(*names, float(scores[row]), images.vectors[row].copy()))
            kept[:] = heapq.nlargest(self._n_mistakes, kept, key=lambda mistake: mistake.score)

    def _ids(self) -> Iterator[str]:
        for batch in self._batches:
            yield from batch.ids.tolist()

    def _column(self, name: str) -> NDArray[Any]:
        return np.concatenate([getattr(batch, name) for batch in self._batches])

    def _labels(self, positions: NDArray[np.intp]) -> NDArray[np.object_]:
        # An object array: each cell of a text array is as wide as the longest label.
        return np.array(list(self._positions), dtype=object)[positions]


@dataclass(frozen=True)
class LeaveOneOutResult:
    """Leave-one-out accuracy on the support images, and the score threshold for "none of these".

    Parameters
    ----------
    accuracy : Accuracy
    kept : float, the fraction of these images whose highest score reaches the threshold
    threshold : float, the score below which an image is predicted as none of the classes
    refused : float, the fraction of images of other classes that the threshold is expected to refuse, see `expected_refused`; None
        if it was not measured
    n_near_repeats : int, images that nearly repeat another of their class and were left out together with it
    """

    accuracy: Accuracy
    kept: float
    threshold: float
    refused: float | None = None
    n_near_repeats: int = 0

    @classmethod
    def of(
        cls,
        truth: NDArray[Any],
        probabilities: NDArray[Any],
        classes: NDArray[Any],
        refused: float | None = None,
        n_near_repeats: int = 0,
    ) -> LeaveOneOutResult:
        """From (n,) labels and (n, n_classes) leave-one-out probabilities, n > 0."""
        accuracy = accuracy_of(truth, classes[probabilities.argmax(axis=1)])
        scores = probabilities.max(axis=1)
        threshold = keeping_threshold(scores, KEPT)
        return cls(accuracy, float((scores >= threshold).mean()), threshold, refused, n_near_repeats)

    def to_record(self) -> dict[str, Any]:
        """The entry `left_out` of a model folder's config."""
        per_class = self.accuracy.per_class.items()
        measured = {"refused": self.refused, "near_repeats": self.n_near_repeats}  # unknown to formats 1 and 2
        return {
            **(measured if any(measured.values()) else {}),
            "accuracy": self.accuracy.accuracy,
            "interval": list(self.accuracy.interval),
            "n_rows": self.accuracy.n,
            "per_class": [{"label": label, "accuracy": share, "n_rows": n} for label, (share, n) in per_class],
            "confusions": [{"label": a, "called": b, "n_rows": n} for a, b, n in self.accuracy.confusions],
            "kept": self.kept,
            "threshold": self.threshold,
        }

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> LeaveOneOutResult:
        """The inverse of `to_record`; the mean over classes is computed again. Folders of 0.1 have no `refused` and `near_repeats`."""
        per_class = {entry["label"]: (entry["accuracy"], entry["n_rows"]) for entry in record["per_class"]}
        accuracy = Accuracy(
            accuracy=record["accuracy"],
            mean_per_class=_mean_per_class(per_class, record["accuracy"]),
            interval=(record["interval"][0], record["interval"][1]),
            n=record["n_rows"],
            per_class=per_class,
            confusions=tuple((entry["label"], entry["called"], entry["n_rows"]) for entry in record["confusions"]),
        )
        return cls(accuracy, record["kept"], record["threshold"], record.get("refused"), record.get("near_repeats", 0))


def expected_refused(
    labels: NDArray[np.intp], logits: NDArray[Any], unknown: Iterable[tuple[NDArray[np.intp], NDArray[Any]]]
) -> float | None:
    """The fraction of images of unknown classes that a threshold which keeps `KEPT` of the known ones is expected to refuse.

    Each group of classes is unknown in turn. The threshold is then found among the other classes only, on the other images: with
    fewer classes to choose from all scores are higher.

    Parameters
    ----------
    labels, logits : (n,) classes of images that were left out, and their (n, n_classes) logits over the temperature
    unknown : for each group its (g,) classes, and the (m, n_classes − g) logits, over the temperature, of their images by a
        classifier without these classes

    Returns
    -------
    float; None without a group
    """
    refused: list[NDArray[np.bool_]] = []
    for group, of_unknown in unknown:
        known = np.delete(logits[~np.isin(labels, group)], group, axis=1)
        refused.append(softmax(of_unknown).max(axis=1) < keeping_threshold(softmax(known).max(axis=1), KEPT))
    return float(np.concatenate(refused).mean()) if refused else None


def keeping_threshold(scores: NDArray[Any], kept: float) -> float:
    """The highest score that a fraction `kept` of the scores reaches.

    Parameters
    ----------
    scores : (n,) float array in [0, 1], n > 0: highest probability of held-out images of known classes
    kept : float, fraction
    """
    reached_by = max(math.ceil(round(kept * len(scores), 6)), 1)  # 0.55 of 20 is 11, not a little more
    return float(np.sort(scores)[-reached_by])


def accuracy_interval(n_correct: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % confidence interval of a proportion (Wilson, 1927)."""
    return wilson_interval(n_correct / n, n)


def wilson_interval(share: float, n: float) -> tuple[float, float]:
    """Wilson's 95 % confidence interval of a share of `n` images, which need be no whole number."""
    z = float(ndtri(0.975))
    denominator = 2 * (n + z**2)
    centre = (2 * n * share + z**2) / denominator
    reach = z / denominator * math.sqrt(4 * n * share * (1 - share) + z**2)
    return (centre - reach if share > 0 else 0.0), (centre + reach if share < 1 else 1.0)
