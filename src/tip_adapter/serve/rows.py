"""The rows of one project in the database: read when it is opened, written with every change, and how changes are undone.

Each method is a transaction of its own, except those that take a connection: these are parts of the one that `new_version` begins.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import delete, insert, select, update

from tip_adapter.serve import database as tables
from tip_adapter.serve.learning import Tuned
from tip_adapter.serve.problems import Problem
from tip_adapter.serve.state import ClassRow, PhotoRow, State
from tip_adapter.text import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray
    from sqlalchemy import Connection, RowMapping

    from tip_adapter.serve.batching import EncodedPhoto
    from tip_adapter.serve.database import Database
    from tip_adapter.serve.state import Change

#: Changes that can be undone.
_MOST_CHANGES = 100


class Rows:
    """The rows of one project.

    Parameters
    ----------
    project_id : str
    database : Database
    """

    def __init__(self, project_id: str, database: Database) -> None:
        self._id, self._database = project_id, database

    # ---- reading -----------------------------------------------------------------------------------------------------

    def read(self, *, reads_names: bool) -> tuple[float, State, Tuned | None]:
        """When the project was made, its state without what is learned, and what was chosen; Problem if there is no such project.

        `reads_names` is that of `State`.
        """
        with self._database.begin() as connection:
            of_project = select(tables.projects).where(tables.projects.c.id == self._id)
            project = connection.execute(of_project).mappings().first()
            if project is None:
                raise Problem("not_found", f"there is no project {shown(self._id)}")
            self._remove_deleted(connection)
            rows = connection.execute(select(tables.classes).where(self._mine(tables.classes))).mappings()
            classes = [ClassRow(**{c: row[c] for c in ClassRow.__dataclass_fields__}) for row in rows]
            columns = [tables.photos.c[c] for c in PhotoRow.__dataclass_fields__]
            query = select(*columns).where(self._mine(tables.photos)).order_by(tables.photos.c.number)
            photos = [
                PhotoRow(**{**row, "vector": None if row["vector"] is None else np.frombuffer(row["vector"], "<f4")})
                for row in connection.execute(query).mappings()
            ]
        by_id = {row.id: row for row in classes}, {row.id: row for row in photos}
        tuned = Tuned.from_record(project["settings"]) if project["settings"] else None
        return project["created"], State(project["version"], project["name"], *by_id, reads_names), tuned

    def _remove_deleted(self, connection: Connection) -> None:
        """Delete the rows that no change can bring back."""
        query = select(tables.changes.c.before).where(self._mine(tables.changes))
        kept = {row for before in connection.scalars(query) for rows in before.values() for row in rows}
        for table in (tables.classes, tables.photos):
            gone = connection.scalars(select(table.c.id).where(self._mine(table), table.c.deleted)).all()
            for row in set(gone) - kept:
                connection.execute(delete(table).where(self._mine(table), table.c.id == row))

    def stored(self, id: str, column: str) -> bytes:
        """The thumbnail, or the content, of a photo; Problem if there is none."""
        query = select(tables.photos.c[column]).where(
            self._mine(tables.photos), tables.photos.c.id == id, tables.photos.c.deleted.is_(False)
        )
        with self._database.read() as connection:
            found = connection.scalar(query)
        if found is None:
            raise Problem("not_found", f"the project has no {column} of photo {shown(id)}")
        return bytes(found)

    def thumbnails(self) -> dict[str, bytes]:
        """Those of all photos by id, also of deleted ones; empty for a photo without one."""
        query = select(tables.photos.c.id, tables.photos.c.thumbnail).where(self._mine(tables.photos))
        with self._database.read() as connection:
            return {row.id: row.thumbnail or b"" for row in connection.execute(query)}

    def can_undo(self) -> bool:
        """Whether there is a change that can be undone."""
        query = select(tables.changes.c.number).where(self._mine(tables.changes)).limit(1)
        with self._database.read() as connection:
            return connection.scalar(query) is not None

    def last_change(self) -> RowMapping | None:
        """The `number` and `text` of the last change that can be undone, and the values `before` it; None if there is none."""
        query = select(tables.changes).where(self._mine(tables.changes)).order_by(tables.changes.c.number.desc())
        with self._database.read() as connection:
            return connection.execute(query.limit(1)).mappings().first()

    # ---- writing -----------------------------------------------------------------------------------------------------

    @contextmanager
    def new_version(self, version: int) -> Iterator[Connection]:
        """A transaction that begins by storing the version; Problem if the project was deleted since the request found it."""
        with self._database.begin() as connection:
            query = self._project_updated(version=version)
            if not connection.execute(query).rowcount:
                raise Problem("not_found", f"the project {shown(self._id)} was deleted")
            yield connection

    def write(self, connection: Connection, change: Change, before: Mapping[str, Any]) -> None:
        """Store a change, and how it is undone: the values `before` it, by table and id."""
        for row in change.new:
            connection.execute(self._inserted(row, change.stored or {}))
        for table, values_of in ((tables.classes, change.classes), (tables.photos, change.photos)):
            for id, values in (values_of or {}).items():
                connection.execute(self._updated(table, id, values))
        if change.is_undoable:
            self._remember(connection, change.text, before)

    def _remember(self, connection: Connection, text: str, before: Mapping[str, Any]) -> None:
        """Store how a change is undone; the oldest ones are forgotten."""
        numbers = connection.scalars(
            select(tables.changes.c.number).where(self._mine(tables.changes)).order_by(tables.changes.c.number)
        ).all()
        number = numbers[-1] + 1 if numbers else 1
        connection.execute(insert(tables.changes).values(project_id=self._id, number=number, text=text, before=before))
        if len(numbers) >= _MOST_CHANGES:
            oldest = tables.changes.c.number <= numbers[-_MOST_CHANGES]
            connection.execute(delete(tables.changes).where(self._mine(tables.changes), oldest))

    def forget(self, connection: Connection, number: int) -> None:
        """Remove a change that was undone."""
        connection.execute(delete(tables.changes).where(self._mine(tables.changes), tables.changes.c.number == number))

    def keep_tuned(self, connection: Connection, tuned: Tuned) -> None:
        """Store what was chosen on the photos."""
        connection.execute(self._project_updated(settings=tuned.to_record()))

    def keep_encoded(self, outcomes: Mapping[str, EncodedPhoto | Exception]) -> None:
        """Store the vectors of photos, or why they have none; their files are dropped."""
        with self._database.begin() as connection:
            for id, outcome in outcomes.items():
                if isinstance(outcome, Exception):
                    values: dict[str, Any] = {"error": str(outcome)}
                else:
                    values = {"vector": _as_bytes(outcome.vector), "thumbnail": outcome.thumbnail}
                connection.execute(self._updated(tables.photos, id, {"content": None, **values}))

    def rename(self, name: str) -> None:
        """Give the project another name."""
        with self._database.begin() as connection:
            connection.execute(self._project_updated(name=name))

    # ---- statements --------------------------------------------------------------------------------------------------

    def _mine(self, table: Any) -> Any:
        """The condition that a row of another table than `projects` is one of this project."""
        return table.c.project_id == self._id

    def _project_updated(self, **values: Any) -> Any:
        return update(tables.projects).where(tables.projects.c.id == self._id).values(**values)

    def _inserted(self, row: ClassRow | PhotoRow, stored: Mapping[str, Any]) -> Any:
        if isinstance(row, ClassRow):
            return insert(tables.classes).values(project_id=self._id, **asdict(row))
        values = {**vars(row), "vector": None if row.vector is None else _as_bytes(row.vector)}
        return insert(tables.photos).values(project_id=self._id, **values, **stored)

    def _updated(self, table: Any, id: str, values: Mapping[str, Any]) -> Any:
        return update(table).where(self._mine(table), table.c.id == id).values(**values)


def _as_bytes(vector: NDArray[np.float32]) -> bytes:
    return vector.astype("<f4").tobytes()
