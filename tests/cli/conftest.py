"""The program as a person and a script meet it: called in this process where that is enough, else as a program."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tip_adapter import FewShotClassifier, cli

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from PIL import Image


class Ran(NamedTuple):
    """What a command left: its exit status, stdout and stderr."""

    status: int
    out: str
    err: str


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """run("fit", folder, "--out", model) in this process; what escapes `main` but SystemExit would be a traceback."""
    monkeypatch.delenv("FORCE_COLOR", raising=False)

    def call(*args: object, stdin: bytes = b"") -> Ran:
        monkeypatch.setattr(sys, "argv", ["tip-adapter", *map(str, args)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        return Ran(stopped.value.code or 0, *capsys.readouterr())

    return call


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., Ran]:
    """program("info", model, env={...}) as a process of its own, in `tmp_path`."""

    def call(*args: object, stdin: bytes = b"", env: dict[str, str] | None = None) -> Ran:
        done = subprocess.run(
            [sys.executable, "-m", "tip_adapter", *map(os.fsencode, map(_text, args))],
            input=stdin,
            capture_output=True,
            cwd=tmp_path,
            env={name: value for name, value in os.environ.items() if name != "FORCE_COLOR"} | (env or {}),
            timeout=200,
            check=False,
        )
        return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())

    return call


def _text(arg: object) -> str:
    return os.fsdecode(arg) if isinstance(arg, (bytes, os.PathLike)) else str(arg)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory, paint: Callable[..., Image.Image]) -> Path:
    """A Tip-Adapter model of four photos each of red, green and blue, on the toy encoder. To be read only."""
    folder = tmp_path_factory.mktemp("toy") / "model"
    labels = [label for label in ("red", "green", "blue") for _ in range(4)]
    photos = [paint(label, number) for number, label in enumerate(labels)]
    FewShotClassifier(encoder="toy", method="tip-adapter").fit(photos, labels).save(folder)
    return folder


@pytest.fixture
def train(make_photos: Callable[..., Path]) -> Path:
    return make_photos("train", red=4, green=4, blue=4)


@pytest.fixture
def unseen(make_photos: Callable[..., Path]) -> Path:
    return make_photos("test", 100, red=3, green=3, blue=3)
