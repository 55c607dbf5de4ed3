"""Models and images of the tests of very many images; their programs decode in processes, as users' do."""

from __future__ import annotations

import hashlib
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tip_adapter import FewShotClassifier
from tip_adapter.distributed.job import finished_files

pyarrow = pytest.importorskip("pyarrow")
pytest.importorskip("pyarrow.parquet")

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from PIL import Image


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory, paint: Callable[..., Image.Image]) -> Path:
    """A Tip-Adapter model of four photos each of red, green and blue, on the toy encoder. To be read only."""
    folder = tmp_path_factory.mktemp("toy") / "model"
    labels = [label for label in ("red", "green", "blue") for _ in range(4)]
    photos = [paint(label, number) for number, label in enumerate(labels)]
    FewShotClassifier(encoder="toy", method="tip-adapter").fit(photos, labels).save(folder)
    return folder


@pytest.fixture(scope="session")
def other_model(tmp_path_factory: pytest.TempPathFactory, paint: Callable[..., Image.Image]) -> Path:
    """A model of other photos, on the same encoder."""
    folder = tmp_path_factory.mktemp("other") / "model"
    labels = ["red", "red", "green", "green"]
    FewShotClassifier(encoder="toy").fit([paint(name, 9 + row) for row, name in enumerate(labels)], labels).save(folder)
    return folder


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory, paint: Callable[..., Image.Image]) -> Path:
    """150 photos in class folders, one of them damaged: five parts of 32. To be read only."""
    root = tmp_path_factory.mktemp("photos") / "new"
    for label in ("red", "green", "blue"):
        (root / label).mkdir(parents=True)
        for number in range(100, 150):
            paint(label, number).save(root / label / f"{number}.png")
    (root / "red" / "120.png").write_bytes(b"no photo")
    return root


@pytest.fixture(scope="session")
def digests() -> Callable[[Path], dict[str, str]]:
    """digests(out) → name → SHA-256 of every file of an output folder."""

    def call(out: Path) -> dict[str, str]:
        files = (path for path in sorted(out.rglob("*")) if path.is_file())
        return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    return call


@pytest.fixture(scope="session")
def table() -> Callable[[Path], list[dict[str, Any]]]:
    """table(out) → the rows of an output folder, in order."""

    def call(out: Path) -> list[dict[str, Any]]:
        return [row for file in finished_files(out) for row in pyarrow.parquet.read_table(file).to_pylist()]

    return call


#: Loaded by every Python program that a test starts; it changes workers only.
_IN_WORKERS = """
import os, sys, time
if any("distributed.worker" in part for part in sys.orig_argv):
    from tip_adapter.encoders.toy import ToyEncoder
    encode = ToyEncoder.encode_prepared
    def changed(self, prepared):
        {body}
        return encode(self, prepared)
    ToyEncoder.encode_prepared = changed
"""


@pytest.fixture
def in_workers(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """in_workers("time.sleep(.1)"): workers run this before they encode a batch, `prepared`."""

    def call(body: str) -> None:
        folder = tmp_path_factory.mktemp("site")
        (folder / "sitecustomize.py").write_text(_IN_WORKERS.format(body=body))
        monkeypatch.syspath_prepend(folder)
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))

    return call
