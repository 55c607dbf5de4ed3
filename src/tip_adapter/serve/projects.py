"""All projects of a service: opened when they are first asked for, and what is done for them in the background."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, func, insert, select

from tip_adapter.images.labels import label_of
from tip_adapter.serve import database as tables
from tip_adapter.serve.learning import Learner
from tip_adapter.serve.problems import Problem
from tip_adapter.serve.project import Project
from tip_adapter.serve.uploads import Photo
from tip_adapter.text import shown

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tip_adapter.serve.batching import PhotoQueue
    from tip_adapter.serve.database import Database

_LOG = logging.getLogger(__name__)
#: Photos of a collection that are encoded together: an upload waits for no more than these.
_TOGETHER = 8
#: Seconds without a change before all photos are fitted again, and before settings are chosen again.
_QUIET, _LONG_QUIET = 0.3, 1.5
#: Seconds after which all photos are fitted again even if changes do not pause.
_LONGEST = 3.0
_SECONDS_BETWEEN_LOOKS = 0.05


class Projects:
    """The projects of a database, for one encoder.

    Parameters
    ----------
    database : Database
    queue : PhotoQueue, of the encoder
    """

    def __init__(self, database: Database, queue: PhotoQueue) -> None:
        self.database, self.queue, self.limits = database, queue, queue.limits
        self.learner = Learner(queue.encoder)
        self._open: dict[str, Project] = {}
        self._opening = threading.Lock()
        self._importing = asyncio.Lock()
        self._learning = ThreadPoolExecutor(1, "learn")
        self._training = ThreadPoolExecutor(1, "fine-tune")
        #: Set when the service stops, so that streams of events end.
        self.stopping = threading.Event()

    def listed(self) -> list[dict[str, Any]]:
        """Every project: id, name, encoder, created, version and numbers."""
        photos, classes, projects = tables.photos.c, tables.classes.c, tables.projects.c

        def number(*of: Any) -> Any:
            return select(func.count()).where(*of).scalar_subquery()

        query = select(
            projects.id,
            projects.name,
            projects.encoder,
            projects.created,
            projects.version,
            number(classes.project_id == projects.id, classes.deleted.is_(False)).label("n_classes"),
            number(photos.project_id == projects.id, photos.deleted.is_(False), photos.class_id.is_not(None)).label(
                "n_examples"
            ),
            number(photos.project_id == projects.id, photos.deleted.is_(False), photos.origin == "collection").label(
                "n_collection"
            ),
        ).order_by(projects.created)
        with self.database.read() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def put(self, id: str, name: str) -> bool:
        """Add a project; False if it is there already under that name."""
        name = label_of(name, "name")
        identity = self.queue.encoder.identity
        with self._opening, self.database.begin() as connection:
            there = connection.scalar(select(tables.projects.c.name).where(tables.projects.c.id == id))
            if there is not None:
                if there != name:
                    raise Problem("conflict", f"project {shown(id)} has the name {shown(there)}; rename it with PATCH")
                return False
            if (connection.scalar(select(func.count()).select_from(tables.projects)) or 0) >= self.limits.projects:
                raise Problem("limit_reached", f"there are {self.limits.projects:,} projects; delete some")
            row = {"id": id, "name": name, "encoder": identity.name, "fingerprint": identity.fingerprint}
            connection.execute(insert(tables.projects).values(**row, created=time.time(), version=1, settings={}))
            return True

    def get(self, id: str) -> Project:
        """A project, opened if it is not yet; Problem if there is none, or it was made with another encoder."""
        with suppress(KeyError):
            return self._open[id]
        with self._opening:
            if id not in self._open:
                with self.database.read() as connection:
                    query = select(tables.projects.c.encoder, tables.projects.c.fingerprint)
                    made_with = connection.execute(query.where(tables.projects.c.id == id)).first()
                identity = self.queue.encoder.identity
                if made_with and made_with.fingerprint != identity.fingerprint:
                    raise Problem(
                        "wrong_encoder",
                        f"the project was made with the encoder {shown(made_with.encoder)} and this service has "
                        f"{shown(identity.name)}; start it with --encoder {made_with.encoder}",
                    )
                self._open[id] = Project(id, self.database, self.learner, self.limits)
            return self._open[id]

    def delete(self, id: str) -> None:
        """Delete a project and all that belongs to it; Problem if there is none."""
        with self._opening, self.database.begin() as connection:
            found = connection.execute(delete(tables.projects).where(tables.projects.c.id == id))
            if not found.rowcount:
                raise Problem("not_found", f"there is no project {shown(id)}")
            if project := self._open.pop(id, None):
                project.fine_tuner.stop()

    def fine_tune(self, project: Project, epochs: int) -> None:
        """Begin to fine-tune a project in the background; Problem if one is being fine-tuned, or as `FineTuner.start`."""
        with self._opening:
            for other in self._open.values():
                if other.fine_tuner.is_running:
                    name = "this project" if other is project else f"the project {shown(other.state.name)}"
                    raise Problem(
                        "fine_tuning_runs", f"{name} is being fine-tuned; wait until that is done, or cancel it"
                    )
            self._training.submit(project.fine_tuner.start(epochs), self.stopping)

    @asynccontextmanager
    async def importing(self) -> AsyncIterator[None]:
        """While a project file is read, which takes much memory: one at a time; Problem if another one is."""
        if self._importing.locked():
            raise Problem("busy", "another project file is being imported; try again in 1 s", {"retry-after": "1"})
        async with self._importing:
            yield

    # ---- in the background -------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Encode photos of collections, and fit and choose again after changes, until cancelled."""
        await asyncio.to_thread(self.learner.warm_up)
        await asyncio.to_thread(self._open_pending)
        await asyncio.gather(self._encode_collections(), self._settle())

    def _open_pending(self) -> None:
        """Open the projects that have photos to encode."""
        photos = tables.photos.c
        query = select(photos.project_id).where(photos.content.is_not(None), photos.deleted.is_(False)).distinct()
        with self.database.read() as connection:
            ids = connection.scalars(query).all()
        for id in ids:
            with suppress(Problem):  # of another encoder
                self.get(id)

    async def _encode_collections(self) -> None:
        while True:
            await asyncio.sleep(_SECONDS_BETWEEN_LOOKS)
            for project in [*self._open.values()]:
                while project.state.pending and not self.queue.n_photos and project.id in self._open:
                    try:
                        await self._encode_some(project)
                    except Exception:
                        _LOG.exception("photos of a collection were not encoded; they are tried again")
                        await asyncio.sleep(1)

    async def _encode_some(self, project: Project) -> None:
        rows = project.state.pending[:_TOGETHER]
        contents = await asyncio.to_thread(lambda: [project.rows.stored(row.id, "content") for row in rows])
        photos = [Photo(row.filename, content) for row, content in zip(rows, contents, strict=True)]
        outcomes = await self.queue.encode(photos)
        await asyncio.to_thread(
            project.keep_encoded, {row.id: outcome for row, outcome in zip(rows, outcomes, strict=True)}
        )

    async def _settle(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_SECONDS_BETWEEN_LOOKS)
            for project in [*self._open.values()]:
                now = time.monotonic()
                quiet = now - project.changed
                tunes = project.is_untuned and quiet > _LONG_QUIET
                if tunes or (project.moved and (quiet > _QUIET or now - project.moved > _LONGEST)):
                    try:
                        await loop.run_in_executor(self._learning, partial(project.settle, tune=tunes))
                    except Problem:
                        continue  # it was deleted meanwhile
                    except Exception:
                        _LOG.exception("a project was not fitted again; it is tried again after the next change")
                        project.moved, project.is_untuned = 0.0, False

    def close(self) -> None:
        """End the threads, a training after its present epoch; the database is closed."""
        self.stopping.set()
        self._training.shutdown(cancel_futures=True)
        self._learning.shutdown(cancel_futures=True)
        self.database.close()
