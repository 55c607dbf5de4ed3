"""One project: its classes and photos, what was learned from them, and each change of them, which can be undone.

Readers take `Project.state`, which `CurrentState` holds. Writers are serialised by its lock: a change is written to the database,
by `Rows`, then learned, then seen by readers.
"""

from __future__ import annotations

import threading
import time
import uuid
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from tip_adapter.errors import LabelError
from tip_adapter.images.labels import label_of, refuse_lookalike_labels, refuse_missing_labels
from tip_adapter.serve.current import CurrentState
from tip_adapter.serve.fine_tuner import FineTuner
from tip_adapter.serve.problems import Problem
from tip_adapter.serve.report import report_of
from tip_adapter.serve.rows import Rows
from tip_adapter.serve.sorting import Scores
from tip_adapter.serve.state import COLLECTION, UPLOAD, Change, ClassRow, PhotoRow, State
from tip_adapter.text import counted, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from sqlalchemy import Connection

    from tip_adapter.serve.batching import EncodedPhoto
    from tip_adapter.serve.database import Database
    from tip_adapter.serve.fine_tuning import FineTuned
    from tip_adapter.serve.learning import Learned, Learner, Tuned
    from tip_adapter.serve.settings import Limits

_Result = TypeVar("_Result")

#: Label of the class of photos that belong to none of the others.
NONE_OF_THESE = "none of these"
#: Up to so many photos × classes × width all photos are fitted again at every change: it takes 20 ms.
_QUICKLY_FITTED = 200_000


class Project:
    """A project that is open.

    Parameters
    ----------
    id : str
    database, learner, limits : Database, Learner, Limits

    Raises
    ------
    Problem
        There is none of that id.
    """

    def __init__(self, id: str, database: Database, learner: Learner, limits: Limits) -> None:
        self.id, self.rows = id, Rows(id, database)
        self._learner, self._limits = learner, limits
        self._reporting = threading.Lock()
        self._report: tuple[tuple[Learned | None, FineTuned | None], dict[str, Any]] | None = None
        self._scores: tuple[State, Scores] | None = None
        #: Time of the last change; of the first change since all photos were fitted, or 0; whether settings must be chosen again.
        self.changed, self.moved, self.is_untuned = 0.0, 0.0, False
        self.created, state, tuned = self.rows.read(reads_names=learner.encoder.record.reads_names)
        self.is_untuned = tuned is None and bool(state.examples)
        state = replace(state, learned=self._fitted(state, tuned) if state.answering else None)
        self._current = CurrentState(self.rows, state)
        self._writing = self._current.writing
        self.fine_tuner = FineTuner(id, self._current, database, learner)
        self._current.state = replace(state, fine_tuned=self.fine_tuner.restore(state))

    @property
    def state(self) -> State:
        """The present state."""
        return self._current.state

    @property
    def encoder_name(self) -> str:
        """Name of the encoder of its vectors."""
        return self._learner.encoder.identity.name

    # ---- reading -----------------------------------------------------------------------------------------------------

    def class_of(self, id: str) -> ClassRow:
        """A class by its id; Problem if there is none."""
        return _found(self.state.classes, id, "class")

    def example(self, id: str) -> PhotoRow:
        """An example by its id; Problem if there is none."""
        return _found(self.state.examples, id, "example")

    def collected(self, id: str) -> PhotoRow:
        """A photo of the collection by its id; Problem if there is none."""
        return _found(self.state.collection, id, "photo of the collection")

    def scores_of(self, state: State) -> Scores:
        """The scores of all photos of the collection, computed once for a state."""
        if self._scores is None or self._scores[0] is not state:
            self._scores = state, Scores.of(state, [*state.collection.values()])
        return self._scores[1]

    # ---- classes -----------------------------------------------------------------------------------------------------

    def put_class(self, id: str, label: str, name: str | None) -> bool:
        """Add a class; False if it is there already with the same content."""
        with self._writing:
            label = label_of(label, "label")
            name = label.replace("_", " ") if name is None else label_of(name, "name")
            there = self.state.all_classes.get(id)
            if there is not None and (there.label, there.name) != (label, name):
                raise Problem("conflict", f"class {shown(id)} has the label {shown(there.label)}; use another id")
            if there is not None and not there.deleted:
                return False
            self._check_class(label, name)
            text = f"added class {label}"
            if there is not None:
                values = {"deleted": False}
                if there.is_none and self.state.none_class:  # photos of no class have another by now
                    values["is_none"] = False
                self._change(Change(text, classes={id: values}))
            else:
                self._change(Change(text, new=[ClassRow(id, self._next(self.state.all_classes), label, name)]))
            return True

    def change_class(self, id: str, label: str | None, name: str | None, enabled: bool | None) -> None:
        """Rename, disable or enable a class."""
        with self._writing:
            row = self.class_of(id)
            values: dict[str, Any] = {}
            if label is not None:
                values["label"] = label_of(label, "label")
            if name is not None:
                values["name"] = label_of(name, "name")
            if enabled is not None:
                values["enabled"] = enabled
            values = {column: value for column, value in values.items() if value != getattr(row, column)}
            if not values:
                return
            self._check_class(values.get("label", row.label), values.get("name", row.name), but=id)
            done = "renamed" if {"label", "name"} & values.keys() else "enabled" if row.enabled is False else "disabled"
            self._change(Change(f"{done} class {row.label}", classes={id: values}))

    def delete_class(self, id: str) -> None:
        """Delete a class and its photos; those of the collection are open again."""
        with self._writing:
            row = self.class_of(id)
            gone = {"deleted": True}
            photos = {
                photo.id: gone if photo.origin == UPLOAD else {"class_id": None}
                for photo in self.state.examples.values()
                if photo.class_id == id
            }
            self._change(Change(f"deleted class {row.label}", classes={id: gone}, photos=photos))

    # ---- photos ------------------------------------------------------------------------------------------------------

    def there(self, id: str, digest: str, origin: str, class_id: str | None) -> bool:
        """Whether a photo was added already under its id; Problem if another one was."""
        row = self.state.all_photos.get(id)
        if row is None:
            return False
        if (row.digest, row.origin) != (digest, origin):
            raise Problem("conflict", f"another photo has the id {shown(id)}; use another id")
        if row.deleted:
            return False
        if class_id is not None and row.class_id != class_id:
            raise Problem("conflict", f"photo {shown(id)} is in another class; move it with PATCH")
        return True

    def add_example(self, id: str, class_id: str, filename: str, encoded: EncodedPhoto) -> PhotoRow | None:
        """Learn a photo of a class; the earlier one of the same content where there is one, which is not changed."""
        with self._writing:
            row = self.class_of(class_id)
            if self.there(id, encoded.digest, UPLOAD, class_id):
                return None
            if earlier := self.state.duplicate(id, encoded.digest, UPLOAD):
                return earlier
            text = f"added a photo to {row.label}"
            if id in self.state.all_photos:  # deleted before
                self._change(Change(text, photos={id: {"deleted": False, "class_id": class_id}}))
                return None
            self._refuse_more_photos()
            photo = PhotoRow(
                id,
                self._next(self.state.all_photos),
                UPLOAD,
                filename,
                time.time(),
                encoded.digest,
                class_id,
                vector=encoded.vector,
            )
            self._change(Change(text, new=[photo], stored={"thumbnail": encoded.thumbnail}))
            return None

    def move_example(self, id: str, class_id: str) -> None:
        """Give an example another class."""
        with self._writing:
            photo, row = self.example(id), self.class_of(class_id)
            if photo.class_id != class_id:
                self._change(Change(f"moved a photo to {row.label}", photos={id: {"class_id": class_id}}))

    def delete_example(self, id: str) -> None:
        """Delete an example; one of the collection is open again."""
        with self._writing:
            photo = self.example(id)
            label = self.class_of(photo.class_id or "").label
            values = {"deleted": True} if photo.origin == UPLOAD else {"class_id": None}
            self._change(Change(f"removed a photo from {label}", photos={id: values}))

    # ---- the collection ----------------------------------------------------------------------------------------------

    def add_collected(self, id: str, filename: str, digest: str, content: bytes) -> PhotoRow | None:
        """Keep a photo until it is encoded; the earlier one of the same content where there is one."""
        with self._writing:
            if self.there(id, digest, COLLECTION, None):
                return None
            if earlier := self.state.duplicate(id, digest, COLLECTION):
                return earlier
            if len(self.state.pending) >= self._limits.pending_photos:
                waiting = counted(len(self.state.pending), "photo waits", "photos wait")
                raise Problem("too_many_pending", f"{waiting} to be encoded; try again in 1 s", {"retry-after": "1"})
            if id in self.state.all_photos:
                # Its class may have been deleted since.
                again = {id: {"deleted": False, "class_id": None}}
                self._change(Change("", photos=again, is_undoable=False))
                return None
            self._refuse_more_photos()
            photo = PhotoRow(id, self._next(self.state.all_photos), COLLECTION, filename, time.time(), digest)
            self._change(Change("", new=[photo], stored={"content": content}, is_undoable=False))
            return None

    def keep_encoded(self, outcomes: Mapping[str, EncodedPhoto | Exception]) -> None:
        """Store the vectors of photos of the collection, or why they have none; their files are dropped."""
        with self._writing:
            photos = dict(self.state.all_photos)
            for id, outcome in outcomes.items():
                if isinstance(outcome, Exception):
                    photos[id] = replace(photos[id], error=str(outcome))
                else:
                    photos[id] = replace(photos[id], vector=outcome.vector)
            self.rows.keep_encoded(outcomes)
            self._current.state = replace(self.state, all_photos=photos)

    def label_collected(self, id: str, class_id: str | None, not_class_id: str | None = None) -> PhotoRow | None:
        """Make a photo of the collection an example of a class; of "none of these" where it is not of a class; or open again.

        The earlier example of the same content that it replaces, where there is one: a photo counts once.
        """
        with self._writing:
            photo = self.collected(id)
            if photo.vector is None:
                raise Problem("not_encoded", f"photo {shown(id)} is not encoded yet, or cannot be; label another one")
            new: list[ClassRow] = []
            if not_class_id is not None:
                no = self.class_of(not_class_id)
                none = self.state.none_class
                if none is None:
                    none = self._new_none_class()
                    new = [none]
                class_id, text = none.id, f"said that a photo is not {no.label}"
            elif class_id is not None:
                text = f"added a photo to {self.class_of(class_id).label}"
            else:
                text = "took the label of a photo back"
            if photo.class_id == class_id:
                return None
            photos: dict[str, dict[str, Any]] = {id: {"class_id": class_id}}
            replaced = self.state.duplicate(id, photo.digest, UPLOAD) if class_id is not None else None
            if replaced is not None:
                photos[replaced.id] = {"deleted": True}
            self._change(Change(text, photos=photos, new=new))
            return replaced

    def delete_collected(self, id: str) -> None:
        """Delete a photo of the collection."""
        with self._writing:
            self.collected(id)
            self._change(Change("removed a photo from the collection", photos={id: {"deleted": True}}))

    # ---- the project itself ------------------------------------------------------------------------------------------

    def rename(self, name: str) -> None:
        """Give the project another name."""
        with self._writing:
            self.rows.rename(name)
            self._current.state = replace(self.state, name=name)

    def undo(self) -> str:
        """Take the last change back: what it was; Problem if there is none."""
        with self._writing:
            last = self.rows.last_change()
            if last is None:
                raise Problem("nothing_to_undo", "there is no change that can be undone")
            photos = last["before"]["photos"]
            undone = Change("", last["before"]["classes"], {**photos, **self._superseded(photos)}, is_undoable=False)
            self._change(undone, partial(self.rows.forget, number=last["number"]))
            return str(last["text"])

    def _superseded(self, photos: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """What deletes those that were added to the collection after the same photo had been deleted, which now comes back.

        To add a photo to the collection is no change that can be undone, so they are still there.
        """
        back = [self.state.all_photos[id] for id, values in photos.items() if values.get("deleted") is False]
        same = [self.state.duplicate(row.id, row.digest, COLLECTION) for row in back if row.origin == COLLECTION]
        return {row.id: {"deleted": True} for row in same if row is not None}

    def report(self) -> dict[str, Any]:
        """How good it is, see `report_of`; computed once for what was learned."""
        with self._reporting:
            state = self.state
            by = state.learned, state.fine_tuned
            if self._report is None or self._report[0] != by:
                self._report = by, report_of(state)
            return {**self._report[1], "version": state.version}

    # ---- learning ----------------------------------------------------------------------------------------------------

    def settle(self, *, tune: bool) -> None:
        """Fit all photos, with settings that are chosen again or the present ones; changes made during the fit are kept."""
        state = self.state
        started = time.monotonic()
        if state.learned is None:
            self.moved, self.is_untuned = 0.0, False
            return
        learned = self._fitted(state, None if tune else state.learned.tuned)
        with self._writing:
            now = self.state
            if now.answering != state.answering:
                return  # a change of classes has fitted all again; what was chosen is chosen later
            later = learned
            if now is not state:
                relabelled = state.relabelled(now, {**state.all_photos, **now.all_photos})
                later = _moved(learned, state, now, relabelled)
            keep_tuned = partial(self.rows.keep_tuned, tuned=learned.tuned) if tune else None
            self._current.publish(replace(now, learned=later), keep_tuned)
            # Afterwards: who reads that nothing is due any more reads the new state, too.
            self.moved = self.moved if later is not learned else 0.0
            if tune:
                self.is_untuned = self.changed > started

    def _fitted(self, state: State, tuned: Tuned | None) -> Learned:
        support = state.support(self._learner.encoder.identity.width)
        data = self._learner.training_data(state.answering, state.nameless, support)
        return self._learner.fit(data) if tuned is None else self._learner.refit(tuned, data)

    def _relearned(self, before: State, after: State, relabelled: list[str]) -> Learned | None:
        """What is learned after a change, at once."""
        learned = before.learned
        is_other = learned is None or before.answering != after.answering
        if not after.answering or not (is_other or relabelled):  # such as a photo for the collection
            return learned if after.answering else None
        self.is_untuned = True
        if learned is None or is_other or learned.tuned.choice is None:
            return self._fitted(after, learned.tuned if learned else None)
        size = len(after.examples) * len(after.answering) * self._learner.encoder.identity.width
        if size <= _QUICKLY_FITTED:
            return self._fitted(after, learned.tuned)
        self.moved = self.moved or time.monotonic()
        return _moved(learned, before, after, relabelled)

    # ---- writing -----------------------------------------------------------------------------------------------------

    def _change(self, change: Change, further: Callable[[Connection], None] | None = None) -> None:
        """Write a change to the database, then learn it, then let readers see it."""
        state = self.state
        after, before = state.changed(change)
        relabelled = state.relabelled(after, before["photos"])
        if relabelled or state.answering != after.answering:
            after = replace(after, fine_tuned=None)
        with self.rows.new_version(after.version) as connection:
            self.rows.write(connection, change, before)
            if further:
                further(connection)
            if after.fine_tuned is not state.fine_tuned:
                self.fine_tuner.mark(connection, accepted=False)
        self.changed = time.monotonic()
        learned = state.learned
        try:
            learned = self._relearned(state, after, relabelled)
        finally:  # rows are seen even if learning fails: they are in the database
            self._current.state = replace(after, learned=learned)

    def _check_class(self, label: str, name: str, but: str | None = None) -> None:
        """Raise Problem or LabelError if a class cannot be added or renamed so."""
        if but is None or self.class_of(but).label != label:  # imported ones may be called so
            refuse_missing_labels([label])
        self._refuse_taken_label(label, but)
        if but is None:
            self._refuse_more_classes()
        self._learner.check_name(name)

    def _refuse_taken_label(self, label: str, but: str | None = None) -> None:
        """Raise Problem or LabelError if another class has the label, or one that looks like it."""
        labels = [row.label for row in self.state.classes.values() if row.id != but]
        if label in labels:
            raise Problem("conflict", f"there is a class {shown(label)} already; choose another label")
        refuse_lookalike_labels([label], labels)

    def _refuse_more_classes(self) -> None:
        if len(self.state.classes) >= self._limits.classes:
            raise Problem("limit_reached", f"a project has at most {self._limits.classes:,} classes; delete some")

    def _new_none_class(self) -> ClassRow:
        """The class of photos that belong to no other; one that the user called so is an ordinary class, and keeps its label."""
        self._refuse_more_classes()
        label, n = NONE_OF_THESE, 2
        while self._is_taken(label):
            label, n = f"{NONE_OF_THESE} {n}", n + 1
        return ClassRow(str(uuid.uuid4()), self._next(self.state.all_classes), label, label, is_none=True)

    def _is_taken(self, label: str) -> bool:
        try:
            self._refuse_taken_label(label)
        except (Problem, LabelError):
            return True
        return False

    def _refuse_more_photos(self) -> None:
        if len(self.state.all_photos) >= self._limits.photos_of_project:
            most = self._limits.photos_of_project
            raise Problem(
                "limit_reached", f"a project has at most {most:,} photos; delete some, or start another project"
            )

    @staticmethod
    def _next(rows: Mapping[str, ClassRow] | Mapping[str, PhotoRow]) -> int:
        return max((row.number for row in rows.values()), default=0) + 1


def _moved(learned: Learned, before: State, after: State, relabelled: Iterable[str]) -> Learned:
    """`learned` from the photos of `before`, changed by those whose label is another one after."""
    for id in relabelled:
        old, new = before.all_photos.get(id), after.all_photos.get(id)
        old_label, new_label = before.label_of(old), after.label_of(new)
        if old is not None and old.vector is not None and old_label is not None:
            learned = learned.without_photo(old.vector, old_label)
        if new is not None and new.vector is not None and new_label is not None:
            learned = learned.with_photo(new.vector, new_label)
    return learned


def _found(rows: Mapping[str, _Result], id: str, kind: str) -> _Result:
    if id not in rows:
        raise Problem("not_found", f"the project has no {kind} {shown(id)}")
    return rows[id]
