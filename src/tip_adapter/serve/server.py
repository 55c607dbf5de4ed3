"""Run the service until it is stopped; then answer what it has accepted."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import uvicorn

from tip_adapter.errors import UsageError
from tip_adapter.serve.app import create_app
from tip_adapter.serve.settings import Limits
from tip_adapter.text import printable

if TYPE_CHECKING:
    from tip_adapter.model.classifier import FewShotClassifier
    from tip_adapter.serve.settings import Settings


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


def serve(model: FewShotClassifier, settings: Settings, listening: socket.socket, limits: Limits | None = None) -> None:
    """Answer requests until SIGTERM or SIGINT: then no more are accepted, and those accepted are answered."""
    limits = limits or Limits()
    config = uvicorn.Config(
        create_app(model, settings, limits),
        http="h11",
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=limits.connections,
        timeout_graceful_shutdown=limits.seconds_to_drain,
    )
    uvicorn.Server(config).run(sockets=[listening])
