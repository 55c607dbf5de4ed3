"""The program as an operator meets it: started, asked over real connections, stopped."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import uvicorn
from uvicorn.server import ServerState

from tip_adapter import FewShotClassifier, cli
from tip_adapter.serve import server
from tip_adapter.serve.app import create_app
from tip_adapter.serve.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Upload = Callable[..., tuple[str, tuple[str, bytes]]]


PART = b'--x\r\nContent-Disposition: form-data; name="images"; filename="a.jpg"\r\n\r\n'


@contextmanager
def program(*args: object, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`tip-adapter serve` on a free port, and its address."""
    command = [sys.executable, "-m", "tip_adapter", "serve", *map(str, args), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}) as process:
        try:
            assert process.stderr
            note = process.stderr.readline()
            found = re.search(r"is served at (http://\S+)", note)
            assert found, note + process.stderr.read()
            yield process, found[1]
        finally:
            process.kill()


@pytest.fixture(scope="session")
def folder(model: FewShotClassifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("served") / "model"
    model.save(path)
    return path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def call(*args: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tip-adapter", *map(str, args)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        code = stopped.value.code
        return code if isinstance(code, int) else 0, *capsys.readouterr()

    return call


@pytest.mark.slow
def test_fault_54_the_program_answers_as_predict_does_and_drains_when_it_is_stopped(
    folder: Path,
    upload: Upload,
    tmp_path: Path,
    run: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    photos = [upload(label, number) for number, label in enumerate(["red", "blue", "green"] * 10)]
    for _, (name, content) in photos:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    with program(folder) as (process, url), httpx.Client(base_url=url, timeout=30) as client:
        names = [name for _, (name, _) in photos]
        _, printed, _ = run("predict", folder, *names, "--json")
        assert client.post("/v1/classify", files=photos).json()["predictions"] == list(
            map(json.loads, printed.splitlines())
        )

        # A body without a length that is too long, a damaged photo and a client that leaves harm no one else.
        assert client.post("/v1/classify", content=(bytes(2**20) for _ in range(40))).status_code == 415
        too_long = client.post(
            "/v1/classify",
            content=iter([PART, *[bytes(2**20)] * 40]),
            headers={"content-type": "multipart/form-data; boundary=x"},
        )
        assert (too_long.status_code, too_long.json()["code"]) == (413, "body_too_large")
        assert client.post("/v1/classify", files={"images": b"a cat"}).json()["code"] == "unreadable_image"
        for _ in range(20):
            leave(url)
        assert client.get("/readyz").json() == {"status": "ready"}

        answers: list[Any] = []
        threads = [threading.Thread(target=lambda: answers.append(post(url, photos))) for _ in range(8)]
        for thread in threads:
            thread.start()
        # All are accepted before the signal: those that are not answered yet must be drained.
        deadline = time.monotonic() + 20
        while len(answers) < 8 and time.monotonic() < deadline:
            waiting = re.search(r"^tip_adapter_waiting_photos (\d+)$", client.get("/metrics").text, re.MULTILINE)
            if waiting and int(waiting[1]) // 30 + len(answers) >= 8:
                break
        process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join()
        assert process.wait(20) == 0
        assert [(status, len(body["predictions"])) for status, body in answers] == [(200, 30)] * 8
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


def post(url: str, photos: Any) -> tuple[int, Any]:
    answer = httpx.post(f"{url}/v1/classify", files=photos, timeout=30)
    return answer.status_code, answer.json()


def leave(url: str) -> None:
    """Send half a request and go."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"))
    connection.putrequest("POST", "/v1/classify")
    connection.putheader("Content-Type", "multipart/form-data; boundary=x")
    connection.putheader("Content-Length", "1000")
    connection.endheaders(b"--x\r\n")
    connection.close()


@pytest.mark.slow
def test_a_token_from_the_environment_is_needed_on_another_address(folder: Path) -> None:
    token = "0123456789abcdef"
    with program(folder, "--host", "0.0.0.0", TIP_ADAPTER_TOKEN=token) as (_, url):
        local = url.replace("0.0.0.0", "127.0.0.1")
        assert httpx.get(f"{local}/healthz").status_code == 200
        assert httpx.get(f"{local}/v1/info").status_code == 401
        assert httpx.get(f"{local}/v1/info", headers={"authorization": f"Bearer {token}"}).status_code == 200
        assert httpx.get(f"{local}/healthz", headers={"host": "evil.example"}).status_code == 421


def test_what_prevents_serving_is_an_error_before_the_model_is_loaded(
    folder: Path, run: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    status, _, said = run("serve", folder, "--host", "0.0.0.0")
    assert (status, "TIP_ADAPTER_TOKEN is not set" in said) == (2, True)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, _, said = run("serve", folder, "--port", port)
    assert (status, f"cannot listen on 127.0.0.1, port {port}: " in said) == (2, True)
    status, _, said = run("serve", folder.parent / "none", "--port", 0)
    assert (status, "none" in said) == (1, True)
    assert "Traceback" not in said


def test_without_the_extra_the_command_names_what_to_install(
    folder: Path, run: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tip_adapter.serve.server", None)
    status, _, said = run("serve", folder)
    assert status == 1
    assert said.startswith('error: the web service is not installed: pip install "alembic')


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds the decoding processes in /proc")
def test_fault_19_a_decoder_that_crashes_costs_its_photo_only(folder: Path, upload: Upload) -> None:
    with program(folder) as (process, url):
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        stopped = threading.Event()

        def crash() -> None:
            while not stopped.wait(0.01):
                for child in children.read_text().split():
                    with suppress(ProcessLookupError):
                        os.kill(int(child), signal.SIGSEGV)

        crashing = threading.Thread(target=crash)
        crashing.start()
        answers = [post(url, [upload("red"), ("images", ("bad.jpg", b"a cat"))]) for _ in range(4)]
        stopped.set()
        crashing.join()
        assert {status for status, _ in answers} <= {200, 422}
        crashed = [body["detail"] for status, body in answers if status == 422]
        assert all("its decoder crashed (signal 11)" in detail for detail in crashed)
        assert post(url, [upload("red")])[1]["predictions"][0]["label"] == "red"
        assert process.poll() is None


def test_fault_21_a_connection_whose_headers_come_too_slowly_is_closed(
    model: FewShotClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "SECONDS_FOR_HEADERS", 0.1)
    config = uvicorn.Config(create_app(model, Settings.of()), http=server.TimedProtocol, lifespan="off")
    config.load()

    async def ask() -> tuple[bytes, bytes]:
        state = ServerState()
        listening = await asyncio.get_running_loop().create_server(
            lambda: server.TimedProtocol(config, state, {}), "127.0.0.1", 0
        )
        async with listening:
            address = listening.sockets[0].getsockname()
            slow, quick = [await asyncio.open_connection(*address) for _ in range(2)]
            for _ in range(3):  # one request after another is no reason to close
                quick[1].write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                status = await quick[0].readuntil(b'{"status":"ok"}')
                await asyncio.sleep(0.06)
            slow[1].write(b"GET /healthz HTTP/1.1\r\nHost: loc")
            ended = await asyncio.wait_for(slow[0].read(), 5)
            for _, writer in (slow, quick):
                writer.close()
                await writer.wait_closed()
        return status, ended

    status, ended = asyncio.run(ask())
    assert status.startswith(b"HTTP/1.1 200")
    assert ended == b""
