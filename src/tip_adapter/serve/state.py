"""What readers see of a project: its rows as they are in the database, and what was learned from them, as frozen records."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from tip_adapter.model.head import Head
    from tip_adapter.serve.fine_tuning import FineTuned
    from tip_adapter.serve.learning import Learned

#: Where a photo came from.
UPLOAD, COLLECTION = "upload", "collection"


@dataclass(frozen=True)
class ClassRow:
    """A class as in the database; see `database.classes`."""

    id: str
    number: int
    label: str
    name: str
    enabled: bool = True
    is_none: bool = False
    deleted: bool = False


@dataclass(frozen=True, eq=False)
class PhotoRow:
    """A photo as in the database, see `database.photos`; (d,) float32 vector, None while it is not encoded."""

    id: str
    number: int
    origin: str
    filename: str
    added: float
    digest: str
    class_id: str | None = None
    deleted: bool = False
    error: str | None = None
    vector: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class State:
    """A project at one moment.

    Parameters
    ----------
    version : int, grows with every change of answers
    name : of the project
    all_classes, all_photos : by id, also deleted ones, whose deletion may be undone
    learned : Learned; None where there is no class to answer
    fine_tuned : FineTuned, which answers instead of `learned` until photos or classes change; or None
    """

    version: int
    name: str
    all_classes: Mapping[str, ClassRow]
    all_photos: Mapping[str, PhotoRow]
    learned: Learned | None = None
    fine_tuned: FineTuned | None = None

    @property
    def head(self) -> Head | None:
        """What answers; None where there is no class to answer."""
        if self.fine_tuned is not None:
            return self.fine_tuned.head
        return self.learned.head if self.learned else None

    @cached_property
    def classes(self) -> dict[str, ClassRow]:
        """By id, in the order in which they were added."""
        rows = sorted(self.all_classes.values(), key=lambda row: row.number)
        return {row.id: row for row in rows if not row.deleted}

    @cached_property
    def examples(self) -> dict[str, PhotoRow]:
        """Photos with a class, by id, in the order in which they were added."""
        return {row.id: row for row in self._photos if row.class_id is not None and row.vector is not None}

    @cached_property
    def collection(self) -> dict[str, PhotoRow]:
        """Photos of the collection, by id, in the order in which they were added."""
        return {row.id: row for row in self._photos if row.origin == COLLECTION}

    @cached_property
    def pending(self) -> list[PhotoRow]:
        """Photos of the collection that are not encoded yet."""
        return [row for row in self.collection.values() if row.vector is None and row.error is None]

    @cached_property
    def n_examples(self) -> Counter[str]:
        """By class id."""
        return Counter(row.class_id for row in self.examples.values() if row.class_id)

    @cached_property
    def _photos(self) -> list[PhotoRow]:
        return [row for row in self.all_photos.values() if not row.deleted]

    def class_labelled(self, label: str) -> ClassRow | None:
        """The class of a label."""
        return next((row for row in self.classes.values() if row.label == label), None)

    def label_of(self, photo: PhotoRow | None, answering: Mapping[str, str]) -> str | None:
        """The label that a photo is an example of, if that is one of the answering classes."""
        if photo is None or photo.deleted or photo.class_id is None or photo.vector is None:
            return None
        row = self.classes.get(photo.class_id)
        return row.label if row is not None and row.label in answering else None


@dataclass(frozen=True)
class Change:
    """What a writer changes.

    Parameters
    ----------
    text : what is done, for people, as in "added a photo to cat"
    classes, photos : id → column → value
    new : rows to add
    stored : further columns of new photos: `thumbnail`, `content`
    is_undoable : whether it can be undone
    """

    text: str
    classes: Mapping[str, Mapping[str, Any]] | None = None
    photos: Mapping[str, Mapping[str, Any]] | None = None
    new: Sequence[ClassRow | PhotoRow] = ()
    stored: Mapping[str, Any] | None = None
    is_undoable: bool = True
