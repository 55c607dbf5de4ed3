"""A model of two colours, its service in this process, and photos as uploads."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from fastapi.testclient import TestClient

from tip_adapter import FewShotClassifier
from tip_adapter.encoders import load_encoder
from tip_adapter.serve.app import create_app, create_projects_app
from tip_adapter.serve.database import Database, sqlite_url
from tip_adapter.serve.settings import Limits, Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from PIL import Image


class Api:
    """A client of one project, with ids that it makes.

    Parameters
    ----------
    client : TestClient
    """

    def __init__(self, client: TestClient, name: str = "colours") -> None:
        self.client, self.id = client, new_id()
        self.base = f"/v1/projects/{self.id}"
        assert client.put(self.base, json={"name": name}).status_code == 201

    def call(self, method: str, path: str = "", status: int = 200, **request: Any) -> Any:
        """The JSON of an answer, or its bytes, whose status is as expected."""
        answer = self.client.request(method, f"{self.base}{path}", **request)
        assert answer.status_code == status, answer.text
        is_json = answer.headers.get("content-type", "").endswith("json")
        return answer.json() if is_json else answer.content

    def add_class(self, label: str, **more: Any) -> str:
        """Its id."""
        c = new_id()
        self.call("PUT", f"/classes/{c}", 201, json={"label": label, **more})
        return c

    def add(self, c: str, photo: bytes, e: str | None = None, filename: str = "a.png", status: int = 201) -> Any:
        """The answer to a photo of a class."""
        query = {"class_id": c, "filename": filename}
        return self.call("PUT", f"/examples/{e or new_id()}", status, params=query, content=photo)

    def collect(self, photo: bytes, i: str | None = None, filename: str = "a.png") -> str:
        """The id of a photo that was put into the collection."""
        i = i or new_id()
        self.call("PUT", f"/collection/{i}", 202, params={"filename": filename}, content=photo)
        return i

    def collection(self, **query: Any) -> Any:
        """The collection once all of it is encoded."""
        for _ in range(400):
            listed = self.call("GET", "/collection", params=query)
            if not listed["n_pending"]:
                return listed
            time.sleep(0.025)
        raise AssertionError("photos are still not encoded")

    def predict(self, photo: bytes, **query: Any) -> Any:
        """The record of a photo."""
        return self.call("POST", "/predict", files={"images": photo}, params=query)["predictions"][0]


def new_id() -> str:
    return str(uuid.uuid4())


@contextmanager
def running(*args: str) -> Iterator[tuple[int, str]]:
    """The program with the toy encoder, killed at the end: its process group, and its address."""
    command = [sys.executable, "-m", "tip_adapter", "serve", "--port", "0", "--encoder", "toy", *args]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            assert process.stderr
            lines = []
            while "is served at" not in (line := process.stderr.readline()):
                lines.append(line)
                assert line, "".join(lines)
            yield process.pid, line.split()[-1]
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


LOCAL = "http://127.0.0.1:8000"


@pytest.fixture(scope="session")
def model(paint: Callable[..., Image.Image]) -> FewShotClassifier:
    """Fitted on four photos each of red, green and blue. To be read only."""
    labels = [label for label in ("red", "green", "blue") for _ in range(4)]
    photos = [paint(label, number) for number, label in enumerate(labels)]
    return FewShotClassifier(encoder="toy", method="tip-adapter").fit(photos, labels)


@pytest.fixture
def serving(model: FewShotClassifier) -> Iterator[Callable[..., TestClient]]:
    """serving(token="…", limits=Limits(…)) → a client of the service; an error of the service itself is its answer 500."""
    clients = []

    def serve(*, model: FewShotClassifier = model, limits: Limits | None = None, **settings: Any) -> TestClient:
        app = create_app(model, Settings.of(**settings), limits)
        clients.append(TestClient(app, base_url=LOCAL, raise_server_exceptions=False))
        return clients[-1].__enter__()

    yield serve
    for client in clients:
        client.__exit__()


@pytest.fixture
def learning(tmp_path: Path) -> Iterator[Callable[..., TestClient]]:
    """learning(limits=Limits(…)) → a client of a service of projects with the toy encoder; again: the same after a restart."""
    clients: list[TestClient] = []

    def close() -> None:
        while clients:
            clients.pop().__exit__()

    def serve(*, limits: Limits | None = None, url: str | None = None, **settings: Any) -> TestClient:
        close()
        app = create_projects_app(
            load_encoder("toy"), Database(url or sqlite_url(tmp_path / "data")), Settings.of(**settings), limits
        )
        client = TestClient(app, base_url=LOCAL, raise_server_exceptions=False)
        clients.append(client)
        return client.__enter__()

    yield serve
    close()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], str]]:
    """postgres() → the URL of a new database of a PostgreSQL server that runs during the tests; skips without one installed."""
    pytest.importorskip("psycopg")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("PostgreSQL is not installed")
    folder = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp"))  # a socket's path is short
    as_user: list[str] = []
    if os.geteuid() == 0:  # the server refuses root
        shutil.chown(folder, "postgres", "postgres")
        as_user = ["runuser", "-u", "postgres", "--"]

    def run(program: str, *args: str) -> None:
        command = [*as_user, str(found[-1].with_name(program)), *args]
        subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    run("initdb", "-D", f"{folder}/data", "-U", "tester", "-A", "trust", "--no-sync")
    options = f"-c listen_addresses='' -c unix_socket_directories={folder}"
    run("pg_ctl", "-D", f"{folder}/data", "-w", "-o", options, "-l", f"{folder}/log", "start")

    def create() -> str:
        name = f"test_{uuid.uuid4().hex}"
        run("createdb", "-h", str(folder), "-U", "tester", name)
        return f"postgresql+psycopg://tester@/{name}?host={folder}"

    yield create
    run("pg_ctl", "-D", f"{folder}/data", "-m", "immediate", "stop")
    shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, of each kind."""
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "database")
    url: str = request.getfixturevalue("postgres")()
    return url


@pytest.fixture
def api(learning: Callable[..., TestClient]) -> Api:
    """A project without classes."""
    return Api(learning())


@pytest.fixture
def photo(paint: Callable[..., Image.Image]) -> Callable[..., bytes]:
    """photo("red", 7) → the content of a PNG."""

    def content(label: str, number: int = 100) -> bytes:
        file = io.BytesIO()
        paint(label, number).save(file, "PNG")
        return file.getvalue()

    return content


@pytest.fixture
def upload(paint: Callable[..., Image.Image]) -> Callable[..., tuple[str, tuple[str, bytes]]]:
    """upload("red", 7) → a field of a form: red/7.png."""

    def photo(label: str, number: int = 100) -> tuple[str, tuple[str, bytes]]:
        file = io.BytesIO()
        paint(label, number).save(file, "PNG")
        return "images", (f"{label}/{number}.png", file.getvalue())

    return photo
