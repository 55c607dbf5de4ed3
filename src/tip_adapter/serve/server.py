"""Run the service until it is stopped; then answer what it has accepted."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from tip_adapter.encoders import load_encoder
from tip_adapter.encoders.joined import JoinedEncoder
from tip_adapter.errors import UsageError
from tip_adapter.model.classifier import FewShotClassifier
from tip_adapter.serve.app import create_app, create_projects_app
from tip_adapter.serve.database import Database
from tip_adapter.serve.settings import Limits
from tip_adapter.text import printable

if TYPE_CHECKING:
    import asyncio
    from pathlib import Path
    from types import FrameType

    from fastapi import FastAPI

    from tip_adapter.serve.settings import Settings


#: For the headers of a request; `Limits` has the time for its body.
SECONDS_FOR_HEADERS = 30


class TimedProtocol(H11Protocol):
    """A connection that is closed if no request begins within `SECONDS_FOR_HEADERS`; uvicorn itself waits as long as bytes come."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the first interval."""
        super().connection_made(transport)
        self._close_next(None)

    def _close_next(self, latest: object) -> None:
        self.loop.call_later(SECONDS_FOR_HEADERS, self._close_if_none_began, latest)

    def _close_if_none_began(self, latest: object) -> None:
        """Close it if its latest request is still the one that it was an interval ago, and is answered."""
        if self.transport.is_closing():
            return
        if self.cycle is latest and (self.cycle is None or self.cycle.response_complete):
            self.transport.close()
        else:
            self._close_next(self.cycle)


def listen(settings: Settings) -> socket.socket:
    """A socket at the host and port of the settings.

    Raises
    ------
    UsageError
        The address cannot be listened on; the message says why.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            settings.host.strip("[]"), settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address[:2], family=family, backlog=2048)
    except OSError as error:
        where = f"{printable(settings.host)}, port {settings.port}"
        raise UsageError(
            f"cannot listen on {where}: {error.strerror or error}; choose another --host or --port"
        ) from error


def url_of(listening: socket.socket) -> str:
    """The address of a socket, for people."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def model_app(folder: Path, settings: Settings, *, device: str | None, threads: int | None) -> FastAPI:
    """The service of the model in a folder; raises as `FewShotClassifier.load`."""
    return create_app(FewShotClassifier.load(folder, device=device, threads=threads), settings)


def projects_app(settings: Settings, *, device: str | None, threads: int | None) -> FastAPI:
    """The service of projects; raises as `Database` and `load_encoder`, UsageError for two encoders at once."""
    database = Database(settings.database_url)
    encoder = load_encoder(settings.encoder, device=device, threads=threads)
    if isinstance(encoder, JoinedEncoder):
        raise UsageError("projects learn with one encoder; leave out + and the second one")
    return create_projects_app(encoder, database, settings, threads=threads)


class _Server(uvicorn.Server):
    """A server whose streams of events end when it is stopped, since they would not end by themselves."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop."""
        if projects := getattr(self.config.app.state, "projects", None):  # type: ignore[union-attr]
            projects.stopping.set()
        super().handle_exit(sig, frame)


def serve(app: FastAPI, listening: socket.socket, limits: Limits | None = None) -> None:
    """Answer requests until SIGTERM or SIGINT: then no more are accepted, and those accepted are answered."""
    limits = limits or Limits()
    config = uvicorn.Config(
        app,
        http=TimedProtocol,
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=limits.connections,
        timeout_graceful_shutdown=limits.seconds_to_drain,
    )
    _Server(config).run(sockets=[listening])
