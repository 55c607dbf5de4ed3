"""Another package's encoders, really installed: `tests/plugin_package`, whose files the how-to guide shows."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

PACKAGE = Path(__file__).parents[1] / "plugin_package"
GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "own-encoder.md"


@pytest.fixture(scope="module")
def site(installed: Callable[[Path], Path]) -> Path:
    return installed(PACKAGE)


@pytest.fixture
def python(site: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """python("-m", "tip_adapter", …) → the finished program, which has the package."""
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])

    def run(*args: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *map(str, args)]
        env = {**os.environ, "PYTHONPATH": path}
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env, check=False)

    return run


@pytest.mark.slow
def test_both_keep_the_contract(python: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    code = """
from tip_adapter import load_encoder
from tip_adapter.testing import check_encoder
for name in ("thumbnail", "tiles:1", "tiles:8"):
    encoder = load_encoder(name, device="cpu", threads=1)
    check_encoder(encoder)
    print(encoder.identity.name, encoder.identity.width)
"""
    done = python("-c", code)
    assert (done.stdout.splitlines(), done.stderr) == (["thumbnail 49", "tiles:1 4", "tiles:8 193"], "")


@pytest.mark.slow
def test_the_family_fits_is_kept_and_predicts_by_its_name(
    python: Callable[..., subprocess.CompletedProcess[str]], make_photos: Callable[..., Path]
) -> None:
    photos = make_photos("photos", red=3, blue=3)
    tip_adapter = ("-m", "tip_adapter")
    assert python(*tip_adapter, "fit", photos, "--out", "model", "--encoder", "tiles:8").returncode == 0
    done = python(*tip_adapter, "predict", "model", photos, "--json")
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["label"] for answer in answers] == ["blue"] * 3 + ["red"] * 3
    assert json.loads(python(*tip_adapter, "info", "model", "--json").stdout)["encoder"]["name"] == "tiles:8"


@pytest.mark.slow
def test_the_single_one_is_listed_and_a_family_is_no_single_one(
    python: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    listed = python("-m", "tip_adapter", "encoders", "--json")
    record = json.loads(listed.stdout)
    names = {entry["name"] for entry in record["encoders"]}
    assert names >= {"pocket", "thumbnail"}
    assert "tiles" not in names
    assert {family["usage"] for family in record["families"]} >= {"onnx:REPO_OR_FOLDER", "tiles:SOURCE"}


@pytest.mark.slow
def test_doctor_knows_both(python: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    said = python("-m", "tip_adapter", "doctor").stdout
    assert "Encoder tiles: a family, tiles:SOURCE\n" in said
    assert "Encoder thumbnail: ready" in said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tiles", "encoder tiles needs a source"),
        ("thumbnail:4", "encoder thumbnail takes no source"),
        ("tiles:none", "tiles takes a number"),
        ("tile:4", "did you mean tiles?"),
    ],
)
def test_a_source_too_many_or_too_few_is_a_usage_error(
    python: Callable[..., subprocess.CompletedProcess[str]], make_photos: Callable[..., Path], name: str, said: str
) -> None:
    done = python("-m", "tip_adapter", "fit", make_photos("photos", red=2, blue=2), "--out", "m", "--encoder", name)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_the_guide_shows_the_files_of_the_package() -> None:
    shown = re.findall(r"```(python|toml)\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert shown[0] == ("python", (PACKAGE / "tiles_encoder.py").read_text(encoding="utf-8"))
    assert shown[1] == ("toml", (PACKAGE / "pyproject.toml").read_text(encoding="utf-8"))
