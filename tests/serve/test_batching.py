"""Concurrent requests: common batches, the same answers, and no work for clients that went away."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest

from tip_adapter.serve.app import create_app
from tip_adapter.serve.batching import PhotoQueue
from tip_adapter.serve.settings import Limits, Settings
from tip_adapter.serve.uploads import Photo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tip_adapter import FewShotClassifier

    Upload = Callable[..., tuple[str, tuple[str, bytes]]]

OPTIONS = {"top": 3, "min_score": 0.0, "explain": False}


class Blocked:
    """An encoder that waits to be released, and notes the sizes of its batches."""

    def __init__(self, model: FewShotClassifier, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []
        self.go = threading.Event()
        encode = model.encoder_.encode_prepared

        def wait_and_encode(prepared: Any) -> Any:
            self.go.wait(60)
            self.sizes.append(len(prepared))
            return encode(prepared)

        monkeypatch.setattr(model.encoder_, "encode_prepared", wait_and_encode)


@pytest.fixture
def blocked(model: FewShotClassifier, monkeypatch: pytest.MonkeyPatch) -> Blocked:
    return Blocked(model, monkeypatch)


@pytest.fixture
def queue(model: FewShotClassifier) -> Iterator[PhotoQueue]:
    queue = PhotoQueue(model.encoder_, Limits())
    yield queue
    queue.close()


def photos_of(upload: Upload, *labels: str) -> list[Photo]:
    return [Photo(*upload(label, number)[1]) for number, label in enumerate(labels)]


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


def test_requests_that_arrive_while_the_encoder_works_share_batches(
    model: FewShotClassifier, queue: PhotoQueue, blocked: Blocked, upload: Upload
) -> None:
    async def ask() -> list[Any]:
        tasks = [asyncio.create_task(queue.predict(model.head_, photos_of(upload, "red"), **OPTIONS))]
        await until(lambda: queue._encoding is not None and not queue._waiting)
        requests = [photos_of(upload, "blue", "green", "red")] * 20
        tasks += [asyncio.create_task(queue.predict(model.head_, photos, **OPTIONS)) for photos in requests]
        await until(lambda: len(queue._waiting) == 20)
        blocked.go.set()
        return await asyncio.gather(*tasks)

    answers = asyncio.run(ask())
    assert blocked.sizes == [1, 30, 30]  # ten requests of three: a request is never divided
    assert [[record["label"] for record in answer] for answer in answers[1:]] == [["blue", "green", "red"]] * 20


def test_a_photo_alone_and_in_any_batch_gets_the_same_label_and_score(
    model: FewShotClassifier, queue: PhotoQueue, upload: Upload
) -> None:
    photos = photos_of(upload, *["red", "green", "blue", "grey"] * 8)

    async def ask() -> Any:
        together = await queue.predict(model.head_, photos, **OPTIONS)
        crowd = await asyncio.gather(*(queue.predict(model.head_, [photo], **OPTIONS) for photo in photos))
        alone = [await queue.predict(model.head_, [photo], **OPTIONS) for photo in photos]
        return together, [record for (record,) in crowd], [record for (record,) in alone]

    for records in asyncio.run(ask()):
        expected = model.predict_stream([photo.content for photo in photos])
        for record, other in zip(records, expected, strict=True):
            assert record["label"] == other["label"]
            np.testing.assert_allclose(record["score"], other["score"], atol=1e-5)


def test_fault_25_a_client_that_went_away_costs_no_encoding(
    model: FewShotClassifier, queue: PhotoQueue, blocked: Blocked, upload: Upload
) -> None:
    async def ask() -> Any:
        first = asyncio.create_task(queue.predict(model.head_, photos_of(upload, "red"), **OPTIONS))
        await until(lambda: queue._encoding is not None and not queue._waiting)
        gone = [
            asyncio.create_task(queue.predict(model.head_, photos_of(upload, "blue", "red"), **OPTIONS))
            for _ in range(5)
        ]
        last = asyncio.create_task(queue.predict(model.head_, photos_of(upload, "green"), **OPTIONS))
        await until(lambda: len(queue._waiting) == 6)
        for task in gone:
            task.cancel()
        await asyncio.wait(gone)
        blocked.go.set()
        return await first, await last

    (first,), (last,) = asyncio.run(ask())
    assert (first["label"], last["label"]) == ("red", "green")
    assert blocked.sizes == [1, 1]


def test_fault_25_a_disconnect_ends_a_request(model: FewShotClassifier, blocked: Blocked, upload: Upload) -> None:
    app = create_app(model, Settings.of())
    request = httpx.Request("POST", "http://localhost/v1/classify", files=[upload("red")])
    body = request.read()

    async def ask() -> int:
        messages = [{"type": "http.request", "body": body, "more_body": False}, {"type": "http.disconnect"}]
        status: list[int] = []

        async def send(message: Any) -> None:
            status.append(message.get("status"))

        async def receive() -> Any:
            return messages.pop(0) if messages else await asyncio.Event().wait()

        headers = [(name.lower(), value) for name, value in request.headers.raw]
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

    assert asyncio.run(ask()) == 499
    blocked.go.set()


def test_an_error_of_one_request_is_not_that_of_others(
    model: FewShotClassifier, queue: PhotoQueue, blocked: Blocked, upload: Upload
) -> None:
    async def ask() -> list[Any]:
        requests = [photos_of(upload, "red"), [Photo("bad.jpg", b"a cat")], photos_of(upload, "blue")]
        tasks = [asyncio.create_task(queue.predict(model.head_, photos, **OPTIONS)) for photos in requests]
        await asyncio.sleep(0.05)
        blocked.go.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    (red,), bad, (blue,) = asyncio.run(ask())
    assert (red["label"], blue["label"]) == ("red", "blue")
    assert "cannot read bad.jpg" in str(bad)
