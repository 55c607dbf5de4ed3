"""What readers see of a project: its rows as they are in the database, and what was learned from them, as frozen records.

`State` computes what follows from it alone: which classes answer, what there is to learn, and the state after a change.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from tip_adapter.serve.problems import Problem
from tip_adapter.vectors import SupportSet

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

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


@dataclass(frozen=True, eq=False)
class State:
    """A project at one moment.

    Parameters
    ----------
    version : int, grows with every change of answers
    name : of the project
    all_classes, all_photos : by id, also deleted ones, whose deletion may be undone
    reads_names : whether the encoder reads names; else a class is answered once it has photos
    learned : Learned; None where there is no class to answer
    fine_tuned : FineTuned, which answers instead of `learned` until photos or classes change; or None
    """

    version: int
    name: str
    all_classes: Mapping[str, ClassRow]
    all_photos: Mapping[str, PhotoRow]
    reads_names: bool
    learned: Learned | None = None
    fine_tuned: FineTuned | None = None

    @property
    def head(self) -> Head | None:
        """What answers; None where there is no class to answer."""
        if self.fine_tuned is not None:
            return self.fine_tuned.head
        return self.learned.head if self.learned else None

    def answering_head(self) -> Head:
        """What answers; Problem if there is no class to answer."""
        if self.head is None:
            what = "class" if self.reads_names else "class with a photo"
            raise Problem("no_classes", f"the project has no enabled {what} yet; add one")
        return self.head

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

    @property
    def none_class(self) -> ClassRow | None:
        """The class of photos that belong to none of the others, where there is one."""
        return next((row for row in self.classes.values() if row.is_none), None)

    def duplicate(self, id: str, digest: str, origin: str) -> PhotoRow | None:
        """Another photo of the same content among the examples, or in the collection."""
        rows = self.examples if origin == UPLOAD else self.collection
        return next((row for row in rows.values() if row.digest == digest and row.id != id), None)

    # ---- what there is to learn --------------------------------------------------------------------------------------

    @cached_property
    def answering(self) -> dict[str, str]:
        """Label → name of the classes that can be answered: enabled ones, with photos where the encoder reads no names."""
        return {
            row.label: row.name
            for row in self.classes.values()
            if row.enabled and (self.reads_names or self.n_examples[row.id])
        }

    @cached_property
    def nameless(self) -> frozenset[str]:
        """Labels of classes without a name of their own."""
        return frozenset(row.label for row in self.classes.values() if row.is_none)

    @cached_property
    def labels(self) -> dict[str, str]:
        """Id → label of the examples of the classes that are answered."""
        labels = {id: self.label_of(photo) for id, photo in self.examples.items()}
        return {id: label for id, label in labels.items() if label is not None}

    def label_of(self, photo: PhotoRow | None) -> str | None:
        """The label that a photo is an example of, if its class is answered."""
        if photo is None or photo.deleted or photo.class_id is None or photo.vector is None:
            return None
        row = self.classes.get(photo.class_id)
        return row.label if row is not None and row.label in self.answering else None

    def support(self, width: int) -> SupportSet:
        """The examples of `labels` as a support set of so many numbers a vector, ids as in the database."""
        rows = [self.examples[id] for id in self.labels]
        return SupportSet(
            np.array([row.vector for row in rows], np.float32).reshape(len(rows), width),
            np.array([*self.labels.values()], np.str_),
            np.array([*self.labels], np.str_),
            np.array([row.digest for row in rows], np.str_),
        )

    # ---- changes -----------------------------------------------------------------------------------------------------

    def changed(self, change: Change) -> tuple[State, dict[str, dict[str, Any]]]:
        """The state after a change, and by table and id what undoes that."""
        rows: dict[str, dict[str, Any]] = {"classes": dict(self.all_classes), "photos": dict(self.all_photos)}
        before: dict[str, dict[str, Any]] = {"classes": {}, "photos": {}}
        for row in change.new:
            kind = "classes" if isinstance(row, ClassRow) else "photos"
            rows[kind][row.id] = row
            before[kind][row.id] = {"deleted": True}
        for kind, values_of in (("classes", change.classes), ("photos", change.photos)):
            for id, values in (values_of or {}).items():
                before[kind][id] = {column: getattr(rows[kind][id], column) for column in values}
                rows[kind][id] = replace(rows[kind][id], **values)
        after = replace(self, version=self.version + 1, all_classes=rows["classes"], all_photos=rows["photos"])
        return after, before

    def relabelled(self, after: State, photos: Iterable[str]) -> list[str]:
        """Those of the photos that are examples of another class in a later state."""
        return [
            id for id in photos if self.label_of(self.all_photos.get(id)) != after.label_of(after.all_photos.get(id))
        ]
