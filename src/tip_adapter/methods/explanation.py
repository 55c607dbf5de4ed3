"""A logit decomposed: the class name's term and each image's.

A logit is a sum, logit_scale · f·w + alpha · Σ exp(−beta (1 − f·k)) over the class's keys k (equation 4), so each image's
contribution is exact. Where classes have different numbers of images, each term is times mean number / the class's number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class ImageEvidence:
    """One image's term in a logit: its id, and `part`, alpha times its affinity, times what balances its class."""

    id: str
    part: float


@dataclass(frozen=True)
class ClassEvidence:
    """A logit and its terms: text + images + others is the logit.

    Parameters
    ----------
    label : the class
    logit : float
    text : float, the class name's term
    images : the images with the largest terms, largest first
    others : float, sum of the terms of the class's other images
    n_others : int, number of those
    """

    label: Any
    logit: float
    text: float
    images: tuple[ImageEvidence, ...]
    others: float
    n_others: int


def decompose(
    text: NDArray[Any],
    parts: NDArray[Any],
    labels: NDArray[Any],
    ids: NDArray[np.str_],
    classes: NDArray[Any],
    *,
    top: int = 3,
) -> tuple[ClassEvidence, ...]:
    """One query's evidence for every class, highest logit first, the `top` images of each listed individually.

    Parameters
    ----------
    text, classes : (n_classes,) text logits and labels
    parts, labels, ids : (n,) each key's term, its class index, its image's id
    """
    heaviest = np.lexsort((-parts, labels))  # by class, largest first; ties in order
    bounds = np.searchsorted(labels[heaviest], np.arange(len(classes) + 1))
    logits = text + np.bincount(labels, weights=parts, minlength=len(classes))

    def evidence(c: int) -> ClassEvidence:
        first, others = np.split(heaviest[bounds[c] : bounds[c + 1]], [top])
        images = tuple(ImageEvidence(str(ids[row]), float(parts[row])) for row in first)
        rest = float(parts[others].sum())
        return ClassEvidence(classes[c], float(logits[c]), float(text[c]), images, rest, len(others))

    return tuple(evidence(c) for c in np.argsort(-logits, kind="stable").tolist())


def decompose_sum(
    text: NDArray[Any],
    parts: NDArray[Any],
    logits: NDArray[Any],
    labels: NDArray[Any],
    ids: NDArray[np.str_],
    classes: NDArray[Any],
    *,
    top: int = 3,
) -> tuple[ClassEvidence, ...]:
    """As `decompose`, for logits in which every image has a term for every class, positive or negative.

    Parameters
    ----------
    text, logits, classes : (n_classes,) text logits, logits and labels
    parts, labels, ids : (n, n_classes) terms of the images, (n,) their class indices and ids

    Returns
    -------
    the evidence for every class, highest logit first: of the class's own images, which people expect as its reasons, the `top`
    with the largest terms by size, then of the others
    """

    def evidence(c: int) -> ClassEvidence:
        first = np.lexsort((-np.abs(parts[:, c]), labels != c))[:top]
        images = tuple(ImageEvidence(str(ids[row]), float(parts[row, c])) for row in first)
        rest = float(logits[c] - text[c]) - sum(image.part for image in images)
        return ClassEvidence(classes[c], float(logits[c]), float(text[c]), images, rest, len(parts) - len(images))

    return tuple(evidence(c) for c in np.argsort(-logits, kind="stable").tolist())
