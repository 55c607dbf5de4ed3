"""Where projects are kept: the tables, and SQLite or PostgreSQL as their database.

What a request changes is on disk before it is answered: SQLite writes ahead with `synchronous=FULL`. Rows are not deleted
while a change that can be undone names them.
"""

from __future__ import annotations

import importlib
import os
import sqlite3
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Connection,
    Engine,
    Float,
    ForeignKeyConstraint,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
    text,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from tip_adapter.errors import NotWritable, UsageError, warn
from tip_adapter.io.files import claim_folder, make_folder
from tip_adapter.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import URL

FILE = "projects.sqlite"
#: Earlier versions can lose a commit when several connections reset the write-ahead log.
_SAFE_SQLITE = (3, 51, 3)
_SECONDS_FOR_LOCKS = 30
#: The advisory lock of PostgreSQL that one service has while it runs: "tip" in ASCII.
_LOCK = 0x746970
_MIGRATIONS = Path(__file__).with_name("migrations")

metadata = MetaData()


def _part(name: str, *columns: Column[Any]) -> Table:
    """A table whose rows belong to a project and go with it."""
    project = Column("project_id", String(36), primary_key=True)
    belongs = ForeignKeyConstraint(["project_id"], ["projects.id"], ondelete="CASCADE")
    return Table(name, metadata, project, *columns, belongs)


projects = Table(
    "projects",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("name", Text, nullable=False),
    Column("encoder", Text, nullable=False),
    Column("fingerprint", String(200), nullable=False),
    Column("created", Float, nullable=False),
    Column("version", Integer, nullable=False),
    Column("settings", JSON, nullable=False),
)
classes = _part(
    "classes",
    Column("id", String(36), primary_key=True),
    Column("number", Integer, nullable=False),
    Column("label", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("is_none", Boolean, nullable=False),
    Column("deleted", Boolean, nullable=False),
)
#: `content` is the file of a photo that is not encoded yet; `vector` float32; `error` why it cannot be encoded.
photos = _part(
    "photos",
    Column("id", String(36), primary_key=True),
    Column("number", Integer, nullable=False),
    Column("origin", String(20), nullable=False),
    Column("filename", Text, nullable=False),
    Column("added", Float, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("class_id", String(36)),
    Column("deleted", Boolean, nullable=False),
    Column("error", Text),
    Column("vector", LargeBinary),
    Column("thumbnail", LargeBinary),
    Column("content", LargeBinary),
)
#: What can be undone: `before` has the values that rows had, by table and id.
changes = _part(
    "changes",
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("text", Text, nullable=False),
    Column("before", JSON, nullable=False),
)
#: The fine-tuning of a project: its record, its head's learned arrays as safetensors, and whether that head answers.
fine_tunings = _part(
    "fine_tunings",
    Column("job", JSON, nullable=False),
    Column("arrays", LargeBinary),
    Column("accepted", Boolean, nullable=False),
)


class Database:
    """An open database with the present tables, used by one service at a time.

    Parameters
    ----------
    url : of SQLAlchemy, ``sqlite:///file`` or ``postgresql+psycopg://…``

    Raises
    ------
    UsageError
        It is no such URL, or another service uses the database.
    NotWritable
        It cannot be opened, or a newer version of this program wrote it.
    """

    def __init__(self, url: str) -> None:
        parsed = _checked(url)
        self._engine = _engine(parsed)
        self._reading = self._engine.execution_options(reads=True)
        self._release: Callable[[], None] | None = None
        try:
            self._release = _locked(self._engine, parsed)
            _migrate(self._engine)
        except BaseException as error:
            self.close()
            if isinstance(error, DBAPIError):
                raise NotWritable(
                    f"the database {printable(parsed.render_as_string())} cannot be used: {_reason(error)}"
                ) from error
            raise

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A transaction: committed when the block ends, undone when it raises."""
        with self._engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads: it neither waits for another one nor makes one wait."""
        with self._reading.begin() as connection:
            yield connection

    def check(self) -> None:
        """Raise DBAPIError if the database cannot be written."""
        with self.begin() as connection:
            connection.execute(projects.update().where(projects.c.id == "").values(version=0))

    def close(self) -> None:
        """Let another service use it."""
        if self._release is not None:
            self._release()
        self._engine.dispose()


def sqlite_url(folder: Path) -> str:
    """The URL of the database in a folder, which is made; NotWritable if it cannot be."""
    make_folder(folder)
    return f"sqlite:///{folder / FILE}"


def _checked(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        parsed = None
    if parsed is None or parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise UsageError(
            "--database takes a URL such as postgresql+psycopg://user@host/name or sqlite:////folder/projects.sqlite"
        )
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise UsageError("--database names SQLite without a file; use sqlite:////folder/projects.sqlite")
    return parsed


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "postgresql":
        try:
            return create_engine(url, pool_pre_ping=True)
        except (ImportError, NoSuchModuleError) as error:
            raise UsageError(
                f"--database: the driver of {url.drivername} is not installed: {error}; use postgresql+psycopg"
            ) from error
    engine = create_engine(url, module=_sqlite_driver(), connect_args={"timeout": _SECONDS_FOR_LOCKS})

    @event.listens_for(engine, "connect")
    def durable(connection: Any, _: object) -> None:
        connection.isolation_level = None  # else the driver ends transactions by itself, before tables are made
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A transaction that begins to write after it has read can fail at once; this one waits for its turn.
        reads = connection.get_execution_options().get("reads")
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


def _sqlite_driver() -> Any:
    """The module that opens SQLite: Python's own, or where that is too old the one that brings its own SQLite."""
    if sqlite3.sqlite_version_info >= _SAFE_SQLITE:
        return sqlite3
    with suppress(ImportError):
        own = importlib.import_module("pysqlite3")
        if own.sqlite_version_info >= _SAFE_SQLITE:
            return own
    wanted = ".".join(map(str, _SAFE_SQLITE))
    warn(
        f"SQLite {sqlite3.sqlite_version} can lose what was written last when power fails; install pysqlite3 for {wanted}"
    )
    return sqlite3


def _locked(engine: Engine, url: URL) -> Callable[[], None]:
    """Take the database for this service; what gives it back: a locked folder, or a connection with an advisory lock."""
    taken = UsageError(
        f"another tip-adapter serve uses {printable(url.render_as_string())}; stop it, or choose another --data or --database"
    )
    if url.get_backend_name() == "postgresql":
        connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        if not connection.scalar(text(f"SELECT pg_try_advisory_lock({_LOCK})")):
            connection.close()
            raise taken
        return connection.close
    descriptor = claim_folder(Path(url.database or "").absolute().parent)
    if descriptor is None:
        raise taken
    return partial(os.close, descriptor)


def _migrate(engine: Engine) -> None:
    """Bring the tables to the present form, in one transaction."""
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    with engine.begin() as connection:
        present = MigrationContext.configure(connection).get_current_revision()
        if present is not None and present not in known:
            raise NotWritable(
                f"the database was written by a newer tip-adapter (its tables are of revision {printable(present)}); update"
            )
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _reason(error: DBAPIError) -> str:
    return printable(str(error.orig).strip().partition("\n")[0])
