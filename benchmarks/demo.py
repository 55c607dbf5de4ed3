"""The demo's figures over three draws.

python -m benchmarks.demo
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from benchmarks.record import write_results

SEEDS = (0, 1, 2)


def main() -> None:
    write_results("demo", "python -m benchmarks.demo", {"rows": [demo(seed) for seed in SEEDS]})


def demo(seed: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "tip_adapter", "demo", "--seed", str(seed), "--json"]
    record: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return record


if __name__ == "__main__":
    main()
