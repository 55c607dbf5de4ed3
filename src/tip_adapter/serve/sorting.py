"""The collection of a project as sorted by what the project has learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tip_adapter.serve.state import PhotoRow, State


@dataclass(frozen=True, eq=False)
class Scores:
    """Photos of a collection and their scores.

    Parameters
    ----------
    photos : n PhotoRow
    probabilities : (n, n_classes) float32 array; NaN for a photo that is not encoded
    labels : of the classes; none where there is no class to answer
    class_ids : class id → position in `labels`, of those classes that are answered
    """

    photos: Sequence[PhotoRow]
    probabilities: NDArray[np.float32]
    labels: Sequence[str]
    class_ids: dict[str, int]

    @classmethod
    def of(cls, state: State, photos: Sequence[PhotoRow]) -> Scores:
        """By what a state has learned."""
        labels = state.head.classes.tolist() if state.head else []
        positions = {label: n for n, label in enumerate(labels)}
        class_ids = {row.id: positions[row.label] for row in state.classes.values() if row.label in positions}
        probabilities = np.full((len(photos), len(labels)), np.nan, np.float32)
        encoded = [row for row, photo in enumerate(photos) if photo.vector is not None]
        if state.head and encoded:
            vectors = np.array([photos[row].vector for row in encoded])
            probabilities[encoded] = state.head.probabilities(vectors)
        return cls(photos, probabilities, labels, class_ids)

    def ordered(self, class_id: str | None, order: str, wanted: str) -> NDArray[np.intp]:
        """Rows in order, those with or without a label or all; photos without a score come last.

        Certain: by the score of a class, or of the class predicted. Uncertain: by how close the two most probable classes are.
        """
        labelled = np.array([photo.class_id is not None for photo in self.photos], np.bool_)
        shown = np.ones(len(self.photos), np.bool_) if wanted == "all" else labelled == (wanted == "labelled")
        rows = np.flatnonzero(shown)
        if not self.labels:
            return rows
        scores = self.probabilities[rows]
        if order == "uncertain":
            top = np.sort(scores, axis=1)[:, -2:]
            keys = top[:, -1] - top[:, 0] if scores.shape[1] > 1 else scores[:, 0]
        elif class_id is not None:
            column = self.class_ids.get(class_id)
            keys = np.zeros(len(rows)) if column is None else -scores[:, column]
        else:
            keys = -scores.max(axis=1)
        return rows[np.argsort(keys, kind="stable")]  # NaN is last

    def of_photo(self, row: int) -> list[float | None]:
        """The score of each class."""
        return [None if np.isnan(score) else float(score) for score in self.probabilities[row]]

    def answer(self, row: int, class_id: str | None) -> dict[str, Any]:
        """A photo as the API answers; `score` is that of a class."""
        photo, scores = self.photos[row], self.of_photo(row)
        best = int(self.probabilities[row].argmax()) if scores and scores[0] is not None else None
        column = self.class_ids.get(class_id) if class_id is not None else best
        return {
            "id": photo.id,
            "filename": photo.filename,
            "score": None if column is None else scores[column],
            "label": None if best is None else self.labels[best],
            "label_score": None if best is None else scores[best],
            "class_id": photo.class_id,
            "error": photo.error,
        }
