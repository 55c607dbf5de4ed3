"""The fine-tuning of a project as a job in the background: started, followed, cancelled, accepted, and stored with the project.

The head that a person accepts answers until photos or classes change.
"""

from __future__ import annotations

import logging
import threading
import warnings
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import load, save
from sqlalchemy import delete, insert, select, update

from tip_adapter.errors import TipAdapterWarning
from tip_adapter.model.head import Head
from tip_adapter.serve import database as tables
from tip_adapter.serve.fine_tuning import Comparison, FineTuned, fine_tune, folds
from tip_adapter.serve.problems import Problem
from tip_adapter.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from tip_adapter.serve.current import CurrentState
    from tip_adapter.serve.database import Database
    from tip_adapter.serve.learning import Learner
    from tip_adapter.serve.state import State

_LOG = logging.getLogger(__name__)
RUNNING, DONE, CANCELLED, FAILED = "running", "done", "cancelled", "failed"
#: States that a job is answered in: its result answers, or photos or classes have changed since.
ACCEPTED, OUTDATED = "accepted", "outdated"
_NOTES = {
    CANCELLED: "the training was cancelled; nothing has changed",
    OUTDATED: "photos or classes have changed since, and the default method, which has learned them, answers; fine-tune again",
}
_INTERRUPTED = "the service was stopped during the training; start it again"
#: The arrays of a head that are its own; vectors, labels and names are stored as the project's.
_LEARNED = "learned."


@dataclass(frozen=True, eq=False)
class Job:
    """One fine-tuning.

    Parameters
    ----------
    started_version : int, of the project
    epochs, epoch : of all trainings together, one for each fold and one of all photos; those done
    state : ``running``, ``done``, ``cancelled`` or ``failed``
    note : why it failed
    comparison, result : Comparison and FineTuned of a job that is done; None without, or where photos have changed since
    """

    started_version: int
    epochs: int
    epoch: int = 0
    state: str = RUNNING
    note: str = ""
    comparison: Comparison | None = None
    result: FineTuned | None = None


class _Cancelled(Exception):
    """The training is cancelled, or the service stops."""


class FineTuner:
    """The fine-tuning of one project, stored with it: the latest job, and the head that answers if it was accepted.

    Parameters
    ----------
    project_id : str
    current : CurrentState of the project, whose photos are learned
    database, learner : Database, Learner
    """

    def __init__(self, project_id: str, current: CurrentState, database: Database, learner: Learner) -> None:
        self._project_id, self._current, self._database, self._learner = project_id, current, database, learner
        #: Set to end the training that runs; a new one for each training.
        self._cancelled = threading.Event()
        self._compared: tuple[State, Job, bool] | None = None
        self.job: Job | None = None

    @property
    def is_running(self) -> bool:
        """Whether it is being trained, or waits for that."""
        return self.job is not None and self.job.state == RUNNING

    def answer(self, state: State) -> dict[str, Any] | None:
        """The job as GET /v1/projects/{p}/fine-tune answers while the project has this state; None if there is none."""
        job = self.job
        if job is None:
            return None
        name = job.state
        if name == DONE:
            name = ACCEPTED if state.fine_tuned is not None else DONE if self._is_current(state, job) else OUTDATED
        comparison = asdict(job.comparison) if job.comparison else dict.fromkeys(Comparison.__dataclass_fields__)
        return {
            "state": name,
            "epoch": job.epoch,
            "epochs": job.epochs,
            "started_version": job.started_version,
            **comparison,
            "note": job.note or _NOTES.get(name, ""),
            "code": "interrupted" if job.note == _INTERRUPTED else "internal_error" if name == FAILED else None,
        }

    # ---- what a person does ------------------------------------------------------------------------------------------

    def start(self, epochs: int) -> Callable[[threading.Event], None]:
        """Begin a job of so many epochs: the training, to call in the background with an event that ends it.

        Problem if there are too few photos, or a result has been accepted.
        """
        with self._current.writing:
            state = self._current.state
            state.answering_head()  # there must be one to compare with
            if state.fine_tuned is not None:
                raise Problem(
                    "conflict", "the project has a fine-tuned head of these photos; drop it first, with DELETE"
                )
            support = state.support(self._learner.encoder.identity.width)
            parts = folds(support)
            if not parts:
                raise Problem(
                    "too_few_photos",
                    "fine-tuning is measured on photos that are held out, and fewer than two classes have two photos that "
                    "differ; add photos",
                )
            data = self._learner.training_data(
                state.answering, state.nameless, support
            )  # before the job is stored: it may fail
            job = Job(state.version, epochs * (len(parts) + 1))
            row = {"project_id": self._project_id, **columns_of(job), "accepted": False}
            with self._database.begin() as connection:
                self._forget(connection)
                connection.execute(insert(tables.fine_tunings).values(row))
            self._cancelled, self.job = threading.Event(), job
            return partial(self._train, self._cancelled, partial(fine_tune, self._learner, data, parts, epochs))

    def accept(self) -> None:
        """Answer by the result from now on; Problem if there is none, or photos or classes have changed since."""
        with self._current.writing:
            state, job = self._current.state, self.job
            if job is None or job.state != DONE:
                raise Problem("conflict", "there is no result to accept; fine-tune first, and wait until it is done")
            if job.result is None or not self._is_current(state, job):
                raise Problem("photos_changed", _NOTES[OUTDATED])
            if state.fine_tuned is None:
                self._current.publish(replace(state, fine_tuned=job.result), partial(self.mark, accepted=True))

    def drop(self) -> None:
        """Cancel a job that runs; forget one that does not, and its result; Problem if there is none."""
        with self._current.writing:
            if self.job is None:
                raise Problem("not_found", "the project is not being fine-tuned, and has no result of it")
            if self.is_running:
                self.stop()
                self._end(replace(self.job, state=CANCELLED))
                return
            state = self._current.state
            if state.fine_tuned is not None:
                self._current.publish(replace(state, fine_tuned=None), self._forget)
            else:
                with self._database.begin() as connection:
                    self._forget(connection)
            self.job = None

    def stop(self) -> None:
        """End a training after its present epoch."""
        self._cancelled.set()

    # ---- in the background -------------------------------------------------------------------------------------------

    def _train(
        self,
        cancelled: threading.Event,
        trained: Callable[[Callable[[int, Any], None]], tuple[FineTuned, Comparison]],
        stopping: threading.Event,
    ) -> None:
        """`fine_tune`, until the job is cancelled, or the service stops: then the next start of it says so."""

        def job() -> Job:
            if cancelled.is_set() or stopping.is_set() or self.job is None:
                raise _Cancelled
            return self.job

        def after_epoch(epochs_done: int, _: Any) -> None:
            with self._current.writing:
                self.job = replace(job(), epoch=job().epoch + (epochs_done > 0))

        try:
            with warnings.catch_warnings():  # about classes that have one photo left in a fold
                warnings.simplefilter("ignore", TipAdapterWarning)
                result, comparison = trained(after_epoch)
            with self._current.writing:
                self._end(replace(job(), state=DONE, result=result, comparison=comparison))
        except _Cancelled:
            return
        except Exception as error:
            _LOG.exception("a project was not fine-tuned")
            with self._current.writing, suppress(_Cancelled):
                self._end(Job(job().started_version, job().epochs, job().epoch, FAILED, printable(str(error))))

    def _end(self, job: Job) -> None:
        self.job = job
        with self._database.begin() as connection:
            connection.execute(self._update().values(columns_of(job)))

    # ---- what is stored ----------------------------------------------------------------------------------------------

    def mark(self, connection: Connection, *, accepted: bool) -> None:
        """Store whether the result answers."""
        connection.execute(self._update().values(accepted=accepted))

    def restore(self, state: State) -> FineTuned | None:
        """Read the job from the database; the result that answers, if one was accepted, whose photos are those of `state`."""
        query = select(tables.fine_tunings).where(tables.fine_tunings.c.project_id == self._project_id)
        with self._database.read() as connection:
            row = connection.execute(query).mappings().first()
        if row is None:
            return None
        record = dict(row["job"])
        result, comparison = record.pop("result"), record.pop("comparison")
        job = Job(**record, comparison=Comparison(**comparison) if comparison else None)
        if job.state == RUNNING:
            job = replace(job, state=FAILED, note=_INTERRUPTED)
        if result is not None and state.learned is not None:
            support = state.learned.head.support
            present, arrays = state.learned.head.to_record()
            is_same = all(result["head"][name] == present[name] for name in ("classes", "images"))
            if is_same and result["labels"] == support.labels.tolist():  # else photos or classes have changed since
                known = {name: array for name, array in arrays.items() if not name.startswith(_LEARNED)}
                head = Head.from_record(result["head"], {**known, **load(row["arrays"])})
                job = replace(job, result=FineTuned(head, np.array(result["rows"]), np.array(result["predicted"])))
        self.job = job
        return job.result if row["accepted"] and self._is_current(state, job) else None

    def _update(self) -> Any:
        return update(tables.fine_tunings).where(tables.fine_tunings.c.project_id == self._project_id)

    def _forget(self, connection: Connection) -> None:
        connection.execute(delete(tables.fine_tunings).where(tables.fine_tunings.c.project_id == self._project_id))

    def _is_current(self, state: State, job: Job) -> bool:
        """Whether photos and classes are those that a job's result was trained on; computed once for a state."""
        if job.result is None:
            return False
        if self._compared is None or self._compared[0] is not state or self._compared[1] is not job:
            head = job.result.head
            labels = dict(zip(head.support.ids.tolist(), head.support.labels.tolist(), strict=True))
            is_same = head.names == state.answering and labels == state.labels
            self._compared = state, job, is_same
        return self._compared[2]


def columns_of(job: Job) -> dict[str, Any]:
    """A job as columns of its table."""
    result, arrays = None, None
    if job.result is not None:
        head, everything = job.result.head.to_record()
        result = {
            "head": head,
            "labels": job.result.head.support.labels.tolist(),
            "rows": job.result.rows.tolist(),
            "predicted": job.result.predicted.tolist(),
        }
        arrays = save({name: array for name, array in everything.items() if name.startswith(_LEARNED)})
    record = {
        **{name: getattr(job, name) for name in ("started_version", "epochs", "epoch", "state", "note")},
        "comparison": asdict(job.comparison) if job.comparison else None,
        "result": result,
    }
    return {"job": record, "arrays": arrays}
