"""Count requests and photos, for Prometheus; its text format is a line per value."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from tip_adapter.serve.batching import PhotoQueue

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class Metrics:
    """ASGI middleware that counts the requests of the application within.

    Paths are those of routes, so that clients cannot make up new ones; all others are ``other``.
    """

    def __init__(self, app: ASGIApp, queue: PhotoQueue) -> None:
        self._app = app
        self._queue = queue
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._seconds: defaultdict[str, float] = defaultdict(float)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, and count it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["state"]["metrics"] = self
        status, started = 500, time.perf_counter()

        async def send_noted(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        finally:
            path = getattr(scope.get("route"), "path", "other")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._requests[method, path, status] += 1
            self._seconds[path] += time.perf_counter() - started

    def text(self) -> str:
        """All values in Prometheus' text format."""
        by_path: Counter[str] = Counter()
        for (_, path, _), n in self._requests.items():
            by_path[path] += n
        requests = {
            f'{{method="{method}",path="{path}",status="{status}"}}': n
            for (method, path, status), n in self._requests.items()
        }
        seconds = {f'_sum{{path="{path}"}}': value for path, value in self._seconds.items()}
        seconds |= {f'_count{{path="{path}"}}': n for path, n in by_path.items()}
        queue = self._queue
        lines = [
            *_metric("tip_adapter_requests_total", "counter", "Requests answered.", requests),
            *_metric("tip_adapter_request_seconds", "summary", "Time from request to answer.", seconds),
            *_metric("tip_adapter_photos_total", "counter", "Photos encoded.", {"": queue.n_encoded}),
            *_metric("tip_adapter_batches_total", "counter", "Batches encoded.", {"": queue.n_batches}),
            *_metric("tip_adapter_waiting_photos", "gauge", "Photos accepted, not answered.", {"": queue.n_photos}),
            *_metric("tip_adapter_waiting_bytes", "gauge", "Bytes accepted, not answered.", {"": queue.n_bytes}),
        ]
        return "".join(f"{line}\n" for line in lines)


def _metric(name: str, kind: str, words: str, values: Mapping[str, float]) -> Iterator[str]:
    yield f"# HELP {name} {words}"
    yield f"# TYPE {name} {kind}"
    for labels, value in values.items():
        yield f"{name}{labels} {value}"
