"""A model of two colours, its service in this process, and photos as uploads."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from fastapi.testclient import TestClient

from tip_adapter import FewShotClassifier
from tip_adapter.serve.app import create_app
from tip_adapter.serve.settings import Limits, Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from PIL import Image

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
def upload(paint: Callable[..., Image.Image]) -> Callable[..., tuple[str, tuple[str, bytes]]]:
    """upload("red", 7) → a field of a form: red/7.png."""

    def photo(label: str, number: int = 100) -> tuple[str, tuple[str, bytes]]:
        file = io.BytesIO()
        paint(label, number).save(file, "PNG")
        return "images", (f"{label}/{number}.png", file.getvalue())

    return photo
