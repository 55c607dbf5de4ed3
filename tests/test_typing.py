"""Type checkers accept programs that use this package as the documentation does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("typed_program.py")
SOURCE = Path(__file__).parents[1] / "src"
PYRIGHT = Path(__file__).parent / "browser" / "node_modules" / ".bin" / "pyright"


@pytest.mark.slow
def test_mypy_accepts_a_program_that_uses_this_package() -> None:
    checked = [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "--config-file=", PROGRAM]
    done = subprocess.run(
        checked, capture_output=True, text=True, check=False, env=os.environ | {"MYPYPATH": str(SOURCE)}
    )
    ours = [line for line in done.stdout.splitlines() if line.startswith(str(PROGRAM)) or PROGRAM.name in line]
    assert ours == [], done.stdout


@pytest.mark.slow
@pytest.mark.skipif(not PYRIGHT.exists(), reason="npm ci --prefix tests/browser has not been run")
def test_pyright_accepts_a_program_that_uses_this_package(tmp_path: Path) -> None:
    shutil.copy(PROGRAM, tmp_path)
    (tmp_path / "pyrightconfig.json").write_text(json.dumps({"extraPaths": [str(SOURCE)]}))
    checked = [PYRIGHT, "--pythonpath", sys.executable, "-p", tmp_path]
    done = subprocess.run(checked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
