"""The description of the service is true: what schemathesis asks by it is answered as it says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import running

EXAMPLES = 500 if os.environ.get("TIP_ADAPTER_SOAK") else 5


@pytest.mark.slow
def test_fault_35_schemathesis_finds_no_failure(tmp_path: Path) -> None:
    pytest.importorskip("schemathesis")
    options = ["--max-examples", str(EXAMPLES), "--exclude-path-regex", "/events$", "--no-color", "--seed", "1"]
    options += ["--exclude-checks", "positive_data_acceptance"]  # the description cannot say which bytes are a photo
    program = Path(sys.executable).with_name("schemathesis")
    with running("--data", str(tmp_path)) as (_, url):
        command = [program, "run", f"{url}/openapi.json", *options]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-10_000:]
