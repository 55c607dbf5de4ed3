"""What is checked of every request before anything reads it: its host, its origin, its token, its size and its time."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import RedirectResponse

from tip_adapter.serve.problems import SECURITY_HEADERS, Problem, problem_response
from tip_adapter.text import shown

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from tip_adapter.serve.settings import Limits, Settings

#: They say that the service runs, and nothing else; what watches it may not know the token.
OPEN_PATHS = ("/healthz", "/readyz")
#: A project file may be larger than photos.
IMPORT_PATH = "/v1/projects/import"
COOKIE = "tip_adapter"
_READING = ("GET", "HEAD", "OPTIONS")
_HOST = re.compile(r"(?P<name>\[[^\[\]]+\]|[^:\[\]]+)(:\d{1,5})?")


class Guard:
    """ASGI middleware that refuses requests that are not allowed, too large or too slow.

    Parameters
    ----------
    app : what answers the others
    settings, limits : Settings, Limits
    """

    def __init__(self, app: ASGIApp, settings: Settings, limits: Limits) -> None:
        self._app = app
        self._limits = limits
        self._hosts = settings.hosts
        #: What the page sends instead of the token; it follows from the token, so that a restart changes nothing.
        self._cookie = "" if settings.token is None else _cookie_of(settings.token.get_secret_value())
        self._token = None if settings.token is None else _digest(settings.token.get_secret_value().encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            self._check(scope)
        except Problem as problem:
            signed_in = self._signed_in(scope) if problem.code == "unauthorized" else None
            await (signed_in or problem_response(problem))(scope, receive, send)
            return

        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, _limited(receive, self._limits, self._most_bytes(scope)), send_secured)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        host = self._checked_host(headers)
        if scope["method"] not in _READING:
            _refuse_cross_site(headers, host)
        if scope["path"] not in OPEN_PATHS:
            self._refuse_without_token(headers)
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            raise Problem("bad_request", f"Content-Length {shown(length)} is not a number of bytes")
        most = self._most_bytes(scope)
        if len(length) > 18 or int(length) > most:
            raise _body_too_large(f"{length[:18]} bytes", most)

    def _most_bytes(self, scope: Scope) -> int:
        return self._limits.import_bytes if scope["path"] == IMPORT_PATH else self._limits.body_bytes

    def _checked_host(self, headers: Headers) -> str:
        """The Host header. Only its name is compared: another site's name that resolves to this address is refused."""
        hosts = headers.getlist("host")
        found = _HOST.fullmatch(hosts[0].lower()) if len(hosts) == 1 else None
        if found is None or found["name"] not in self._hosts:
            raise Problem(
                "host_not_allowed",
                f"Host {', '.join(map(shown, hosts)) or 'is missing'} is not a name of this service; start it with --allow-host "
                "and the name that clients use",
            )
        return found[0]

    def _refuse_without_token(self, headers: Headers) -> None:
        if self._token is None:
            return
        kind, _, token = headers.get("authorization", "").partition(" ")
        cookie = cookie_parser(headers.get("cookie", "")).get(COOKIE, "")
        # Digests have one length, and comparing them takes the same time wherever they differ.
        by_header = hmac.compare_digest(_digest(token.strip().encode("latin-1", "replace")), self._token)
        by_cookie = hmac.compare_digest(_digest(cookie.encode("latin-1", "replace")), _digest(self._cookie.encode()))
        if not (by_header or by_cookie):
            found = "is wrong" if kind else "is missing"
            raise Problem(
                "unauthorized",
                f"the token {found}; send the header Authorization: Bearer, with the service's TIP_ADAPTER_TOKEN",
                {"www-authenticate": "Bearer"},
            )

    def _signed_in(self, scope: Scope) -> Response | None:
        """For a page that is opened with the token in its address: the page without it, and a cookie; else None."""
        query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        if scope["path"] != "/" or scope["method"] != "GET" or self._token is None or "token" not in query:
            return None
        if not hmac.compare_digest(_digest(query["token"].encode("utf-8", "replace")), self._token):
            return None
        response = RedirectResponse("/", 303, SECURITY_HEADERS)
        response.set_cookie(COOKIE, self._cookie, httponly=True, samesite="strict")
        return response


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


def _cookie_of(token: str) -> str:
    return hmac.new(token.encode(), b"cookie of the page", hashlib.sha256).hexdigest()


def _refuse_cross_site(headers: Headers, host: str) -> None:
    """Raise Problem if a browser says that a page of another site sends this; programs send neither header."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None and site not in ("same-origin", "none"):
        raise Problem("cross_site", f"Sec-Fetch-Site is {shown(site)}; pages of other sites may not use this service")
    # The scheme may differ: a reverse proxy ends TLS.
    if origin is not None and urlsplit(origin.lower())[1:] != (host, "", "", ""):
        raise Problem("cross_site", f"Origin is {shown(origin)}, and Host is {shown(host)}; they must be the same")


def _limited(receive: Receive, limits: Limits, most: int) -> Receive:
    """`receive` that raises Problem when the body is longer than allowed, whatever its headers say, or takes too long."""
    n_bytes, is_whole = 0, False
    deadline = asyncio.get_running_loop().time() + limits.seconds_to_receive

    async def receive_limited() -> Message:
        nonlocal n_bytes, is_whole
        if is_whole:  # what follows is that the client goes away, at any time
            return await receive()
        try:
            async with asyncio.timeout_at(deadline):
                message = await receive()
        except TimeoutError:
            seconds = f"{limits.seconds_to_receive:g} s"
            raise Problem("receive_timeout", f"the body was not complete after {seconds}; send it faster") from None
        n_bytes += len(message.get("body", b""))
        if n_bytes > most:
            raise _body_too_large("more", most)
        is_whole = not message.get("more_body", False)
        return message

    return receive_limited


def _body_too_large(found: str, most: int) -> Problem:
    return Problem(
        "body_too_large",
        f"the body has {found}; at most {most:,} bytes are accepted: send fewer or smaller photos",
    )
