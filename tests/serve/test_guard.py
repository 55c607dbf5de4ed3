"""Who may use the service: hosts, origins and tokens on every route; and settings that would let others in."""

from __future__ import annotations

import asyncio
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest

from tip_adapter.errors import UsageError
from tip_adapter.serve import static
from tip_adapter.serve.app import create_app
from tip_adapter.serve.settings import Limits, Settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fastapi.testclient import TestClient

    from tip_adapter import FewShotClassifier

    Serving = Callable[..., TestClient]

TOKEN = "correct-horse-battery"
KEYS = {"no key": None, "wrong key": "Bearer correct-horse-batterx", "key": f"Bearer {TOKEN}"}
HOSTS = {"good": "photos.example:8443", "bad": "evil.example"}
SITES = {
    "a program": {},
    "same": {"sec-fetch-site": "same-origin", "origin": "https://photos.example:8443"},
    "cross": {"sec-fetch-site": "cross-site", "origin": "https://evil.example"},
}


def test_every_route_checks_host_site_and_token(serving: Serving) -> None:
    client = serving(host="0.0.0.0", allow_host=["Photos.example"], token=TOKEN)
    routes = [(method, route.path) for route in client.app.routes for method in route.methods]  # type: ignore[attr-defined]
    assert len(routes) >= 6
    for (method, path), key, host, site in product(routes, KEYS, HOSTS, SITES):
        headers = {"host": HOSTS[host], **SITES[site], **({"authorization": KEYS[key]} if KEYS[key] else {})}
        answer = client.request(method, path, headers=headers)
        case = (method, path, key, host, site, answer.text)
        if host == "bad":
            expected = 421
        elif method == "POST" and site == "cross":
            expected = 403
        elif key != "key" and path not in ("/healthz", "/readyz"):
            expected = 401
        else:
            expected = 415 if method == "POST" else 200  # no body is sent
        assert answer.status_code == expected, case
        assert answer.headers["content-security-policy"].startswith("default-src 'none'"), case
        assert answer.headers["x-content-type-options"] == "nosniff", case
        assert "access-control-allow-origin" not in answer.headers, case
        assert TOKEN not in answer.text, case


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8000", "[::1]:8000", "[::1]"])
def test_loopback_names_are_always_allowed(serving: Serving, host: str) -> None:
    assert serving().get("/v1/info", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["", "localhost.evil.example", "localhost:x", "localhost@evil", "127.0.0.1.nip.io", "::1"]
)
def test_fault_27_other_hosts_are_refused(serving: Serving, host: str) -> None:
    answer = serving().get("/v1/info", headers={"host": host})
    assert (answer.status_code, answer.json()["code"]) == (421, "host_not_allowed")
    assert "--allow-host" in answer.json()["detail"]


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "null"},
        {"origin": "http://127.0.0.1:8001"},
        {"origin": "http://127.0.0.1:8000@evil.example"},
        {"origin": "http://127.0.0.1:8000/x"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site", "origin": "http://127.0.0.1:8000"},
    ],
)
def test_fault_28_fault_29_pages_of_other_sites_are_refused(serving: Serving, headers: dict[str, str]) -> None:
    answer = serving().post("/v1/classify", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "cross_site")


@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Basic " + TOKEN + "x", TOKEN, "Bearer \xe9\xe9", "Bearer " + "x" * 5000]
)
def test_fault_31_a_wrong_token_is_refused(serving: Serving, authorization: str) -> None:
    answer = serving(token=TOKEN).get("/v1/info", headers={"authorization": authorization.encode("latin-1")})
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_fault_31_a_token_in_the_url_does_not_count(serving: Serving) -> None:
    assert serving(token=TOKEN).get(f"/v1/info?token={TOKEN}").status_code == 401


@pytest.mark.parametrize("length", ["-1", "1e3", "x", "9" * 30])
def test_a_length_that_is_none_or_too_large_is_refused(serving: Serving, length: str) -> None:
    answer = serving().post("/v1/classify", headers={"content-length": length})
    assert answer.status_code == (413 if length.isdigit() else 400)


def test_fault_21_a_body_that_comes_too_slowly_is_refused(model: FewShotClassifier) -> None:
    app = create_app(model, Settings.of(), Limits(seconds_to_receive=0.05))
    assert asyncio.run(call(app, [])) == 408


def test_a_websocket_is_closed(model: FewShotClassifier) -> None:
    sent: list[dict[str, Any]] = []

    async def connect() -> None:
        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "websocket", "path": "/", "headers": [(b"host", b"localhost")], "state": {}}
        await create_app(model, Settings.of())(scope, asyncio.Event().wait, send)  # type: ignore[arg-type]

    asyncio.run(connect())
    assert sent == [{"type": "websocket.close", "code": 1008}]


async def call(app: Any, messages: list[dict[str, Any]]) -> int:
    """The status of a form whose body are these messages, after which nothing comes."""
    status = []

    async def receive() -> Any:
        return messages.pop(0) if messages else await asyncio.Event().wait()

    async def send(message: Any) -> None:
        status.append(message.get("status"))

    headers = [(b"host", b"localhost"), (b"content-type", b"multipart/form-data; boundary=x")]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/classify",
        "query_string": b"",
        "headers": headers,
        "state": {},
    }
    await app(scope, receive, send)
    return status[0]


# ---- settings --------------------------------------------------------------------------------------------------------


def test_every_setting_can_come_from_the_environment_and_options_take_precedence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {"HOST": "10.0.0.1", "PORT": "81", "ALLOW_HOST": "a.example, B.example", "TOKEN": TOKEN}.items():
        monkeypatch.setenv(f"TIP_ADAPTER_{name}", value)
    read = Settings.of(host=None, port=None)
    assert (read.host, read.port) == ("10.0.0.1", 81)
    assert read.hosts == {"localhost", "127.0.0.1", "[::1]", "10.0.0.1", "a.example", "b.example"}
    assert Settings.of(host="127.0.0.1", port=0).port == 0
    assert TOKEN not in repr(read)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "photos.example", "10.0.0.1"])
def test_fault_30_an_address_that_others_can_reach_needs_a_token(host: str) -> None:
    with pytest.raises(UsageError, match=r"other machines can reach .* and TIP_ADAPTER_TOKEN is not set"):
        Settings.of(host=host)
    assert Settings.of(host=host, token=TOKEN).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_a_loopback_address_needs_none(host: str) -> None:
    assert Settings.of(host=host).token is None


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("PORT", "x", "TIP_ADAPTER_PORT: input should be a valid integer.* found 'x'"),
        ("PORT", "70000", "TIP_ADAPTER_PORT: .*65535, found '70000'"),
        ("TOKEN", "short", "TIP_ADAPTER_TOKEN: it has 5 characters, at least 16 are needed"),
        ("TOKEN", "", "TIP_ADAPTER_TOKEN: it has 0 characters"),
        ("HOST", "", "TIP_ADAPTER_HOST"),
        ("ALLOW_HOST", "*", "TIP_ADAPTER_ALLOW_HOST: '\\*' is not the name of a host"),
        ("ALLOW_HOST", "http://a.example", "is not the name of a host"),
    ],
)
def test_a_wrong_variable_is_named_with_its_value(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(f"TIP_ADAPTER_{name}", value)
    with pytest.raises(UsageError, match=message):
        Settings.of()


def test_a_wrong_option_is_named_as_typed() -> None:
    with pytest.raises(UsageError, match=r"^--allow-host: 'a:80' is not the name of a host"):
        Settings.of(allow_host=["a:80"])


# ---- the service of projects -----------------------------------------------------------------------------------------


def test_fault_27_fault_28_every_route_of_projects_checks_host_site_and_token(learning: Serving) -> None:
    client = learning(host="0.0.0.0", allow_host=["Photos.example"], token=TOKEN)
    routes = [
        (method, path.replace("{p}", p).replace("{c}", p).replace("{e}", p).replace("{i}", p))
        for path, methods in client.get("/openapi.json", headers={"host": HOSTS["good"], "authorization": KEYS["key"]})
        .json()["paths"]
        .items()
        for method in methods
        for p in ["0" * 36]
    ]
    assert len(routes) >= 25
    for (method, path), key, host, site in product(routes, KEYS, HOSTS, SITES):
        if path.endswith("/events") and key == "key" and host == "good":
            continue  # it does not end
        headers = {"host": HOSTS[host], **SITES[site], **({"authorization": KEYS[key]} if KEYS[key] else {})}
        answer = client.request(method.upper(), path, headers=headers)
        case = (method, path, key, host, site, answer.text)
        if host == "bad":
            assert answer.status_code == 421, case
        elif method != "get" and site == "cross":
            assert answer.status_code == 403, case
        elif key != "key" and path not in ("/healthz", "/readyz"):
            assert answer.status_code == 401, case
        else:
            assert answer.status_code not in (401, 403, 421, 500), case
        assert answer.headers["x-content-type-options"] == "nosniff", case
        assert "access-control-allow-origin" not in answer.headers, case
        assert TOKEN not in answer.text, case


def test_fault_31_a_page_that_is_opened_with_the_token_gets_a_cookie_instead(learning: Serving) -> None:
    client = learning(token=TOKEN)
    assert client.get("/?token=wrong-wrong-wrong", follow_redirects=False).status_code == 401
    assert client.get(f"/v1/projects?token={TOKEN}", follow_redirects=False).status_code == 401
    answer = client.get(f"/?token={TOKEN}", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    assert client.get("/v1/projects").status_code == 200  # the client keeps cookies
    client.cookies.set("tip_adapter", "0" * 64, domain="127.0.0.1")
    client.cookies.delete("tip_adapter", domain="127.0.0.1")
    client.cookies.clear()
    assert client.get("/v1/projects", headers={"cookie": "tip_adapter=" + "0" * 64}).status_code == 401


def test_the_page_runs_no_script_of_others(learning: Serving, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<p>page</p>")
    (tmp_path / "app.js").write_text("1")
    monkeypatch.setattr(static, "_FOLDER", tmp_path)
    client = learning()
    for path in ("/", "/static/app.js"):
        answer = client.get(path)
        assert answer.status_code == 200
        policy = answer.headers["content-security-policy"]
        assert "script-src 'self';" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
    for path in (
        "/static/../static.py",
        "/static/%2e%2e/app.py",
        "/static//etc/passwd",
        "/static/C:/x",
        "/static/none",
    ):
        assert client.get(path).status_code == 404, path
    monkeypatch.setattr(static, "_FOLDER", tmp_path / "none")
    assert learning().get("/").status_code == 404
