"""The wheel, its base dependencies and the demo's photos in an empty environment: the program runs without torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tip_adapter.plugins import pip_install

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image

# One process makes the environment, see also `pytest_collection_modifyitems`.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("wheel")]

ROOT = Path(__file__).parents[1]
FROM_INSIDE = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that holds the wheel, its base dependencies and the demo's photos only."""
    root = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    _checked([*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", root / "dist", ROOT], cwd=root)
    (wheel,) = (root / "dist").glob("tip_adapter-*.whl")
    venv.create(root / "env", with_pip=True)
    python = root / "env" / ("Scripts" if os.name == "nt" else "bin") / "python"
    _install(python, f"{wheel}[demo]")
    return python


def _install(python: Path, package: str) -> None:
    install = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    _checked([*install, package, "--constraint", ROOT / "constraints.txt"], cwd=python.parent)


@pytest.fixture
def away(python: Path, tmp_path: Path, paint: Callable[..., Image.Image]) -> Callable[..., str]:
    """away("fit", "train", …) → stdout of the installed program, in a folder outside the repository with photos in it."""
    for part, first in (("train", 0), ("test", 50)):
        for label in ("red", "green", "blue"):
            (tmp_path / part / label).mkdir(parents=True)
            for number in range(first, first + 3):
                paint(label, number).save(tmp_path / part / label / f"{number}.png")
    return lambda *args: _checked([python.with_name("tip-adapter"), *args], cwd=tmp_path)


def _checked(command: list[object], *, cwd: Path) -> str:
    """Stdout of a command that must succeed."""
    env = {name: value for name, value in os.environ.items() if name not in FROM_INSIDE}
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_environment_has_no_torch_and_nothing_of_the_checkout(python: Path, tmp_path: Path) -> None:
    code = "import importlib.util as u, tip_adapter; print(tip_adapter.__file__, u.find_spec('torch'), u.find_spec('timm'))"
    where, torch, timm = _checked([python, "-c", code], cwd=tmp_path).split()
    assert (torch, timm) == ("None", "None")
    assert ROOT / "src" not in Path(where).parents
    assert python.parents[1] in Path(where).parents


def test_an_encoder_that_needs_torch_names_the_line_to_type(python: Path, tmp_path: Path) -> None:
    code = """
from tip_adapter import load_encoder
from tip_adapter.errors import MissingExtra
try:
    load_encoder("open_clip:RN50/openai")
except MissingExtra as error:
    print(error)
"""
    said = _checked([python, "-c", code], cwd=tmp_path).strip()
    assert said == f"open_clip is not installed: {pip_install('torch')}"


def test_the_wheel_holds_data_types_and_licence(python: Path, tmp_path: Path) -> None:
    code = "from importlib.metadata import files; print(*files('tip-adapter'), sep='\\n')"
    names = set(_checked([python, "-c", code], cwd=tmp_path).split())
    assert {
        "tip_adapter/encoders/templates.toml",
        "tip_adapter/encoders/pocket/imagenet_classnames.txt",
        "tip_adapter/paper/datasets/datasets.toml",
        "tip_adapter/py.typed",
        "tip_adapter/serve/page/index.html",
        "tip_adapter/serve/page/vendor/preact.mjs",
    } <= names
    assert any(name.endswith("/LICENSE") for name in names)
    assert not any(name.startswith(("tests/", "benchmarks/")) for name in names)


@pytest.mark.parametrize(
    ("encoder", "method"),
    [
        ("toy", "zero-shot"),
        ("toy", "gda"),
        ("toy", "linear-probe"),
        ("toy", "clip-adapter"),
        ("pocket", "text-offset"),
        ("pocket", "tip-adapter"),
        ("pocket", "tip-adapter-f"),
    ],
)
def test_fit_predict_and_evaluate_run(away: Callable[..., str], encoder: str, method: str) -> None:
    assert method in away("fit", "train", "--out", "model", "--encoder", encoder, "--method", method)
    answers = [json.loads(line) for line in away("predict", "model", "test", "--json").splitlines()]
    assert len(answers) == 9
    record = json.loads(away("evaluate", "model", "test", "--json"))
    right = sum(answer["label"] == Path(answer["image"]).parent.name for answer in answers)
    assert record["accuracy"] == pytest.approx(right / 9)
    assert record["accuracy"] > 0.3
    assert json.loads(away("info", "model", "--json"))["method"] == method


def test_the_demo_runs_on_its_own_photos(away: Callable[..., str]) -> None:
    record = json.loads(away("demo", "--json"))
    assert record["n_test"] == 300
    assert record["tip_adapter"]["accuracy"] > record["zero_shot"]["accuracy"]


def test_doctor_and_encoders_run(away: Callable[..., str]) -> None:
    shown = away("doctor")
    assert "Encoder pocket: ready" in shown
    assert pip_install("torch") in shown
    assert {entry["name"] for entry in json.loads(away("encoders", "--json"))["encoders"]} >= {"pocket", "toy"}


def test_the_papers_methods_are_measured_but_for_the_one_that_needs_torch(
    python: Path, away: Callable[..., str], tmp_path: Path
) -> None:
    (wheel,) = python.parents[2].glob("dist/*.whl")
    _install(python, f"{wheel}[paper]")  # last in this file: the tests before it need the base install only
    rng = np.random.default_rng(0)
    vectors, labels = np.tile(np.eye(2, 4), (12, 1)) + rng.normal(0, 0.3, (24, 4)), np.tile(["cat", "dog"], 12)
    part = np.repeat(["train", "val", "test"], 8)
    names = {"class_labels": np.array(["cat", "dog"]), "class_embeddings": np.eye(2, 4)[::-1]}
    np.savez(tmp_path / "two.npz", ids=np.arange(24).astype(str), vectors=vectors, labels=labels, part=part, **names)
    small = ("--shots", "2", "--seeds", "1", "--json")
    answer = json.loads(away("reproduce", "table1", "--vectors", "two.npz", *small))
    methods = {result["method"] for result in answer["results"]}
    assert methods == {"zero-shot", "linear-probe", "clip-adapter", "tip-adapter", "tip-adapter-f"}
    assert (tmp_path / "results" / "table1" / "table1.png").is_file()
