"""A service in its own process that can be killed and started again, and Debian's Chromium to open its page."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHROMIUM = Path("/usr/bin/chromium")
SOURCES = Path(__file__).parents[2] / "src"
FLAGS = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]


class Service:
    """`tip-adapter serve` of an empty folder; after `kill`, `start` starts it at the same port with the same folder."""

    def __init__(self, folder: Path, encoder: str) -> None:
        self._folder, self._encoder, self._port = folder, encoder, "0"
        self._process: subprocess.Popen[str] | None = None
        self.url = ""

    def start(self) -> None:
        given = ["--data", str(self._folder), "--encoder", self._encoder, "--port", self._port, "--threads", "1"]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tip_adapter", "serve", *given],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(SOURCES), "BROWSER": "true"},
            start_new_session=True,
        )
        assert self._process.stderr is not None
        said = ""
        for line in self._process.stderr:
            said += line
            if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                self.url, self._port = found[0], found[1]
                return
        pytest.fail(f"the service did not start: {said}")

    def kill(self) -> None:
        """End it and its decoding processes at once, as a loss of power does."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.communicate()
            self._process = None


@pytest.fixture
def service(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Service]:
    """A running service with no project yet; its encoder is toy, or the parameter."""
    running = Service(tmp_path / "data", getattr(request, "param", "toy"))
    running.start()
    yield running
    running.kill()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not CHROMIUM.exists():
        pytest.skip(f"no Chromium at {CHROMIUM}")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as program:
        chromium = program.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser: Any, service: Service) -> Iterator[Callable[..., Any]]:
    """open_page(width=390, locale="zh-CN", …) → the page in a new window; at the end none has reported an error."""
    contexts, said = [], []

    def opened(*, width: int = 1280, **options: Any) -> Any:
        context = browser.new_context(base_url=service.url, viewport={"width": width, "height": 900}, **options)
        context.set_default_timeout(60_000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: said.append(str(error)))
        # "Failed to load resource" is what the browser says about answers that the page expects, such as a refused photo.
        page.on("console", lambda text: said.append(text.text) if "Failed to load" not in text.text else None)
        page.goto("/")
        page.wait_for_selector("#new-label")
        return page

    yield opened
    for context in contexts:
        for page in context.pages:
            # The page asks the service every second, so a route's handler may be half-way when its context closes;
            # its error would fail whichever test comes next.
            page.unroute_all(behavior="ignoreErrors")
        context.close()
    assert said == []


@pytest.fixture
def photo_files(tmp_path: Path, paint: Callable[..., Image.Image]) -> Callable[..., list[Path]]:
    """photo_files("red", 3, first=10) → paths of three photos, tinted so that none nearly repeats another."""

    def write(label: str, n: int, *, first: int = 0) -> list[Path]:
        (tmp_path / "photos" / label).mkdir(parents=True, exist_ok=True)
        paths = [tmp_path / "photos" / label / f"{label}-{number}.png" for number in range(first, first + n)]
        for number, path in enumerate(paths, first):
            photo = paint(label, number)
            tint = Image.new("RGB", photo.size, tuple(np.random.default_rng([number, len(label)]).integers(0, 256, 3)))
            Image.blend(photo, tint, 0.45).save(path)
        return paths

    return write
