"""`tip-adapter doctor`: what is here, what is missing, and how to get it."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import pytest

from tip_adapter import __version__
from tip_adapter.cli import doctor
from tip_adapter.encoders.toy import ToyEncoder
from tip_adapter.errors import UsageError
from tip_adapter.plugins import pip_install

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Ran
    from tip_adapter.encoders import Encoder


@pytest.fixture(autouse=True)
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Encoders are not loaded here: toy stands for each, and cuda is nowhere."""

    def load(name: str, *, device: str | None) -> Encoder:
        if device == "cuda":
            raise UsageError("device cuda is not available")
        return ToyEncoder()

    monkeypatch.setattr("tip_adapter.load_encoder", load, raising=False)


def test_doctor_shows_versions_devices_and_encoders(run: Callable[..., Ran]) -> None:
    ran = run("doctor")
    assert (ran.status, ran.err) == (0, "")
    assert f"tip-adapter {__version__}, Python {platform.python_version()}" in ran.out
    for package in ("numpy", "scikit-learn", "onnxruntime", "pillow"):
        assert f"{package:15} {version(package)}" in ran.out
    assert "CPUExecutionProvider" in ran.out
    assert "Encoder pocket: ready, fingerprint " in ran.out
    assert "Encoder toy: ready, fingerprint " in ran.out


def test_doctor_shows_the_cache_and_how_to_move_it(
    run: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIP_ADAPTER_HOME", str(tmp_path / "elsewhere"))
    ran = run("doctor")
    assert f"Cache: {tmp_path / 'elsewhere'} (empty" in ran.out
    assert "TIP_ADAPTER_HOME" in ran.out
    assert not (tmp_path / "elsewhere").exists()


def test_doctor_says_which_clips_are_downloaded_and_downloads_none(
    run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.file_download.http_get", lambda *_, **__: pytest.fail("downloaded"))
    assert "Encoder clip: not downloaded, Xenova/clip-vit-base-patch32" in run("doctor").out
    monkeypatch.setattr(doctor, "cached", lambda clip: tmp_path)
    assert "Encoder clip: downloaded, Xenova/clip-vit-base-patch32" in run("doctor").out


def test_doctor_says_what_is_missing_and_the_line_to_type(
    run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr(doctor, "find_spec", lambda module: None)
    monkeypatch.setattr(doctor, "version_of", absent)
    ran = run("doctor")
    assert ran.status == 0
    for extra in ("demo", "heic", "torch"):
        assert f"not installed; {pip_install(extra)}" in ran.out
    assert "-m pip install simplejpeg" in ran.out


def test_doctor_looks_at_the_device_asked_for(run: Callable[..., Ran]) -> None:
    for args in (["doctor", "--device", "cuda"], ["--device", "cuda", "doctor"]):
        ran = run(*args)
        assert ran.status == 0
        assert "Encoder pocket: cannot be loaded: device cuda is not available" in ran.out


@pytest.mark.slow
def test_the_encoders_of_the_base_install_are_ready_here(program: Callable[..., Ran]) -> None:
    ran = program("doctor")
    assert (ran.status, ran.err) == (0, "")
    assert "Encoder pocket: ready" in ran.out
    assert "Encoder toy: ready" in ran.out
