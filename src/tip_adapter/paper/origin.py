"""Where a result comes from: versions, commit, machine, date."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import tip_adapter

_PACKAGES = ("numpy", "scipy", "scikit-learn", "onnxruntime", "torch", "open-clip-torch")


@cache
def origin() -> dict[str, Any]:
    """The fields of a result's line that say so; the same for a whole run."""
    return {
        "versions": {"tip_adapter": tip_adapter.__version__, "python": platform.python_version(), **_versions()},
        "commit": _commit(Path(tip_adapter.__file__).parents[2]),
        "machine": f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}",
        "date": datetime.date.today().isoformat(),
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _commit(checkout: Path) -> str | None:
    """The commit that is checked out, and whether files differ from it, where the package runs from a checkout."""
    if not (checkout / ".git").exists():
        return None
    asked = ["git", "-C", os.fspath(checkout), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    with suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(asked, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    return None
