"""Label issues of a support set: likely wrong labels, near-duplicates in different classes, classes that need photos."""

from __future__ import annotations

import heapq
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from tip_adapter.errors import UsageError
from tip_adapter.methods import tuning
from tip_adapter.metrics import accuracy_of
from tip_adapter.vectors import softmax

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from tip_adapter.metrics import Accuracy
    from tip_adapter.model.head import Head
    from tip_adapter.vectors import SupportSet

#: Cosine from which two photos are near-duplicates: a photo saved again, cropped by a few per cent or mirrored.
NEAR = 0.95
#: A method that is refitted without each photo lists labels that it finds so many times less likely than another: on six small
#: data sets with 5 % of the labels flipped, the largest ratio that lists 85 % of these.
_CLEARLY = 2.75
#: Most near-duplicates that are listed, the most similar first: a person will not look at more.
MOST_PAIRS = 1000
# Cosines are computed in blocks of this many entries.
_BLOCK_ENTRIES = 2**22


def check_images(head: Head) -> dict[str, Any]:
    """What a person should review in the support of a head.

    Returns
    -------
    n_images : size of the support;  n_checked : photos that could be left out
    accuracy, accuracy_interval : of the photos that could be left out, mean over their classes; None where none could
    likely_wrong : image, label, probability (of its label, by a classifier that has not seen it), called (the class
        predicted): `possibly_mislabelled`, the most likely wrong label first
    near_duplicates : images, labels, similarity (cosine): pairs in different classes, the most similar first, at most 1,000
    need_images : label, n_images, accuracy: classes with fewer than two photos (accuracy None) or below the mean, the
        hardest first

    Raises
    ------
    UsageError
        It has no photos.
    """
    if not len(head.support):
        raise UsageError(
            "the model has no photos to check; fit it with photos and a method that uses them, such as text-offset"
        )
    accuracy = _accuracy(head)
    return {
        "n_images": len(head.support),
        "n_checked": accuracy.n if accuracy else 0,
        "accuracy": accuracy.mean_per_class if accuracy else None,
        "accuracy_interval": list(accuracy.mean_interval) if accuracy else None,
        "likely_wrong": possibly_mislabelled(head),
        "near_duplicates": _near_duplicates(head.support),
        "need_images": _need_images(head, accuracy),
    }


def possibly_mislabelled(head: Head) -> list[dict[str, Any]]:
    """Those of `likely_wrong` that are predicted as another class, and so clearly that a person should look."""
    least = _CLEARLY if _refits(head) else 1.0
    return [entry for entry, ratio in _by_suspicion(head) if entry["called"] != entry["label"] and ratio >= least]


def likely_wrong(head: Head) -> list[dict[str, Any]]:
    """Every photo that can be left out, by the probability of its label without it: image, label, probability, called."""
    return [entry for entry, _ in _by_suspicion(head)]


def _by_suspicion(head: Head) -> list[tuple[dict[str, Any], float]]:
    """`likely_wrong`, each with how many times as likely as its own label the predicted class is."""
    rows, probabilities = _left_out_probabilities(head)
    labels, ids = head.support.labels[rows], head.support.ids[rows]
    own = probabilities[np.arange(len(rows)), np.searchsorted(head.classes, labels)]
    called, ratios = head.classes[probabilities.argmax(axis=1)], probabilities.max(axis=1) / np.maximum(own, 1e-30)
    return [
        (
            {"image": str(ids[i]), "label": str(labels[i]), "probability": float(own[i]), "called": str(called[i])},
            float(ratios[i]),
        )
        for i in np.argsort(own, kind="stable").tolist()
    ]


def _left_out_probabilities(head: Head) -> tuple[NDArray[np.intp], NDArray[Any]]:
    """Rows of the support that can be left out, (m,), and their probabilities without them, (m, n_classes).

    By refits of the method, not over the temperature: wrong labels raise it, and so make each other look likely. Where it is not
    refitted, by Tip-Adapter, in which photos and names have equal weight (scale-free alpha and beta at ratio 1): values chosen on
    these very labels trust the wrong ones, too. LOG.md has the figures.
    """
    if _refits(head):
        rows, logits = head.left_out_logits
        return rows, softmax(logits)
    photos = head.cache.left_out
    if not photos.n_scored:
        return np.zeros(0, np.intp), np.zeros((0, len(head.classes)))
    choice = tuning.scale_free(head.cache, tuning.TuningData(ratio=1.0))
    return np.flatnonzero(photos.scored), softmax(photos.logits(*choice.alpha_beta) / choice.temperature)


def _refits(head: Head) -> bool:
    """Whether photos can be left out by refits of the method."""
    return head.estimator.capabilities.leaves_out and len(head.left_out_logits[0]) > 0


def _accuracy(head: Head) -> Accuracy | None:
    """As measured by fit; where photos were added or removed since, with the same settings on the present support."""
    if head.left_out:
        return head.left_out.accuracy
    rows, logits = head.left_out_logits
    return accuracy_of(head.support.labels[rows], head.classes[logits.argmax(axis=1)]) if len(rows) else None


def _near_duplicates(support: SupportSet) -> list[dict[str, Any]]:
    nearest = heapq.nlargest(MOST_PAIRS, _pairs(support.vectors, np.unique(support.labels, return_inverse=True)[1]))
    return [
        {"images": support.ids[[a, b]].tolist(), "labels": support.labels[[a, b]].tolist(), "similarity": similarity}
        for similarity, a, b in nearest
    ]


def _pairs(vectors: NDArray[np.float32], labels: NDArray[Any]) -> Iterator[tuple[float, int, int]]:
    """Similarity and rows of pairs of different labels that are nearer than `NEAR`."""
    block = max(1, _BLOCK_ENTRIES // len(vectors))
    for first in range(0, len(vectors), block):
        rows = np.arange(first, min(first + block, len(vectors)))
        cosines = vectors[rows] @ vectors.T
        near = (cosines >= NEAR) & (labels[rows, None] != labels) & (rows[:, None] < np.arange(len(vectors)))
        for row, b in zip(*np.nonzero(near), strict=True):
            yield float(cosines[row, b]), int(rows[row]), int(b)


def _need_images(head: Head, accuracy: Accuracy | None) -> list[dict[str, Any]]:
    counts = Counter(head.support.labels.tolist())
    judged = accuracy.per_class if accuracy else {}
    mean = accuracy.mean_per_class if accuracy else 0.0
    accuracies = {label: judged[label][0] if label in judged else None for label in head.names}
    weak = [label for label, share in accuracies.items() if counts[label] < 2 or (share is not None and share < mean)]
    weak.sort(key=lambda label: (accuracies[label] is not None, accuracies[label] or 0.0, counts[label]))
    return [{"label": label, "n_images": counts[label], "accuracy": accuracies[label]} for label in weak]
