"""Databases of projects: SQLite and PostgreSQL, one service at a time, and what cannot be opened."""

from __future__ import annotations

import io
import os
import signal
import sqlite3
import sys
import threading
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from PIL import Image
from sqlalchemy import text

from tip_adapter.errors import NotWritable, UsageError
from tip_adapter.serve import database as tables
from tip_adapter.serve.database import Database, sqlite_url

from .conftest import Api, new_id, running

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fastapi.testclient import TestClient

SOAK = bool(os.environ.get("TIP_ADAPTER_SOAK"))


def test_the_migrations_make_the_tables_of_the_program(database_url: str) -> None:
    with closing(Database(database_url)) as database, database.begin() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []
    with closing(Database(database_url)) as database:  # a second time there is nothing to do
        database.check()


def test_a_project_learns_in_either_database(
    learning: Callable[..., TestClient], database_url: str, photo: Callable[..., bytes]
) -> None:
    api = Api(learning(url=database_url))
    c, d = api.add_class("red <b>"), api.add_class("blue")
    api.add(c, photo("red", 1))
    api.add(d, photo("blue", 1))
    i = api.collect(photo("red", 2))
    assert api.collection(class_id=c)["photos"][0]["id"] == i
    api.call("POST", f"/collection/{i}/label", json={"not_class_id": c})
    api.call("POST", "/undo")
    api.call("DELETE", f"/classes/{c}", 204)
    api.call("POST", "/undo")
    api.client = learning(url=database_url)
    assert api.predict(photo("red", 3))["label"] == "red <b>"
    assert api.collection()["total"] == 1
    api.call("DELETE", status=204)
    with api.client.app.state.projects.database.begin() as connection:  # type: ignore[attr-defined]
        assert [connection.scalar(text(f"SELECT count(*) FROM {t}")) for t in ("classes", "photos", "changes")] == [
            0,
            0,
            0,
        ]


def test_sqlite_is_durable(tmp_path: Path) -> None:
    with closing(Database(sqlite_url(tmp_path))) as database, database.begin() as connection:
        values = [connection.scalar(text(f"PRAGMA {name}")) for name in ("journal_mode", "synchronous", "foreign_keys")]
    assert values == ["wal", 2, 1]


def test_an_old_sqlite_is_named_where_no_newer_one_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 40, 1))
    monkeypatch.setitem(sys.modules, "pysqlite3", None)
    with pytest.warns(UserWarning, match=r"can lose what was written last .* install pysqlite3 for 3\.51\.3"):
        Database(sqlite_url(tmp_path)).close()


def test_fault_48_a_database_is_used_by_one_service_at_a_time(database_url: str) -> None:
    with closing(Database(database_url)), pytest.raises(UsageError, match="another tip-adapter serve uses"):
        Database(database_url)
    Database(database_url).close()


def test_fault_50_a_database_of_a_newer_version_is_refused(database_url: str) -> None:
    with closing(Database(database_url)) as database, database.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '999'"))
    with pytest.raises(NotWritable, match=r"written by a newer tip-adapter .*999.*; update"):
        Database(database_url)


def test_fault_50_a_migration_that_is_interrupted_leaves_nothing(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alembic.operations import Operations

    create = Operations.create_table

    def fail(self: Any, name: str, *columns: Any, **options: Any) -> Any:
        if name == "changes":
            raise RuntimeError("interrupted")
        return create(self, name, *columns, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Operations, "create_table", fail)
        with pytest.raises(RuntimeError, match="interrupted"):
            Database(database_url)
    Database(database_url).close()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("x", "takes a URL such as postgresql"),
        ("mysql://a@b/c", "takes a URL such as postgresql"),
        ("sqlite://", "SQLite without a file"),
        ("postgresql+nothing://a@b/c", "is not installed"),
    ],
)
def test_what_is_no_database_is_refused(url: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Database(url)


def test_a_folder_that_cannot_be_made_and_a_file_that_is_no_database_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"no database" * 1000)
    with pytest.raises(NotWritable, match=r"cannot write .*below"):
        sqlite_url(tmp_path / "file" / "below")
    with pytest.raises(NotWritable, match=r"cannot be used: .*not a database"):
        Database(f"sqlite:///{tmp_path / 'file'}")
    with pytest.raises(NotWritable, match="cannot be used"):
        Database("postgresql://nobody@127.0.0.1:1/none")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_fault_46_a_kill_loses_no_acknowledged_photo(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest, photo: Callable[..., bytes]
) -> None:
    where = ["--data", str(tmp_path)] if kind == "sqlite" else ["--database", request.getfixturevalue("postgres")()]
    p, c, ledger, n = new_id(), new_id(), set(), 0
    kills = 100 if SOAK else 4 if kind == "sqlite" else 2
    for kill in range(kills):
        with running(*where) as (group, url), httpx.Client(timeout=30) as client:
            base = f"{url}/v1/projects/{p}"
            client.put(base, json={"name": "killed"}).raise_for_status()
            client.put(f"{base}/classes/{c}", json={"label": "red"}).raise_for_status()
            parts = [{"limit": 300, "offset": offset} for offset in range(0, 6000, 300)]
            listed = [
                row["id"] for part in parts for row in client.get(f"{base}/examples", params=part).json()["examples"]
            ]
            assert len(listed) == len(set(listed))
            assert ledger <= set(listed), kill
            killed = threading.Timer(kill % 7 * 0.05, os.killpg, (group, signal.SIGKILL))
            with suppress(httpx.TransportError):
                while True:
                    e, n = new_id(), n + 1
                    answer = client.put(f"{base}/examples/{e}", params={"class_id": c}, content=photo("red", n))
                    if answer.status_code == 201:
                        ledger.add(e)
                    # After the first photo, however busy the machine is.
                    if not killed.ident:
                        killed.start()
    assert len(ledger) >= kills
    if kind == "sqlite":
        require_sound(tmp_path)


def require_sound(folder: Path) -> None:
    with closing(sqlite3.connect(folder / tables.FILE)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.slow
def test_fault_46_a_kill_during_a_fine_tuning_loses_no_photo_and_is_reported(tmp_path: Path) -> None:
    p, ids, ledger, rng = new_id(), {"red": new_id(), "blue": new_id()}, set(), np.random.default_rng(0)
    n_interrupted = 0

    def tinted(label: str) -> bytes:
        """A PNG, tinted so that none nearly repeats another."""
        colour, file = {"red": (220, 40, 40), "blue": (40, 40, 220)}[label], io.BytesIO()
        pixels = np.array(colour) * 0.55 + rng.integers(0, 256, (1, 1, 3)) * 0.45
        Image.fromarray(np.tile(pixels, (32, 32, 1)).astype(np.uint8)).save(file, "PNG")
        return file.getvalue()

    for kill in range(20 if SOAK else 3):
        with running("--data", str(tmp_path)) as (group, url), httpx.Client(timeout=30) as client:
            base = f"{url}/v1/projects/{p}"
            client.put(base, json={"name": "killed"}).raise_for_status()
            for label, c in ids.items():
                client.put(f"{base}/classes/{c}", json={"label": label}).raise_for_status()
            listed = [row["id"] for row in client.get(f"{base}/examples", params={"limit": 300}).json()["examples"]]
            assert len(listed) == len(set(listed))
            assert ledger <= set(listed)
            if kill:
                job = client.get(f"{base}/fine-tune").json()
                assert (job["state"], "service was stopped" in job["note"]) == ("failed", True)
                n_interrupted += 1

            def add(label: str, client: httpx.Client = client, base: str = base) -> None:
                e = new_id()
                query = {"class_id": ids[label]}
                if client.put(f"{base}/examples/{e}", params=query, content=tinted(label)).status_code == 201:
                    ledger.add(e)

            for label in [*ids] * 4 if not kill else []:
                add(label)
            client.post(f"{base}/fine-tune", json={"epochs": 100}).raise_for_status()
            assert client.get(f"{base}/fine-tune").json()["state"] == "running"
            threading.Timer(0.05 + kill % 7 * 0.03, os.killpg, (group, signal.SIGKILL)).start()
            with suppress(httpx.TransportError):
                while True:
                    add("red")
    assert n_interrupted == kill
    require_sound(tmp_path)
