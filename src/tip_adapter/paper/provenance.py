"""Where a result comes from: versions, commit, machine, date."""

from __future__ import annotations

import datetime
import os
import platform
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import tip_adapter
from tip_adapter.version import __version__

_PACKAGES = ("numpy", "scipy", "scikit-learn", "onnxruntime", "torch", "open-clip-torch")


@cache
def origin() -> dict[str, Any]:
    """The fields of a result's line that say so; the same for a whole run."""
    return {
        "versions": {"tip_adapter": __version__, "python": platform.python_version(), **_versions()},
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
    """The commit that is checked out, where the package runs from a checkout."""
    with suppress(OSError, ValueError):
        folder = _git_folder(checkout / ".git")
        head = _read(folder / "HEAD")
        return _commit_of(head.removeprefix("ref: "), folder) if head.startswith("ref: ") else head
    return None


def _git_folder(place: Path) -> Path:
    """A worktree has a file in the place of the folder, which says where that is."""
    return place.parent / _read(place).removeprefix("gitdir: ") if place.is_file() else place


def _commit_of(branch: str, folder: Path) -> str | None:
    """From the branch's own file, or from the list of those that have none."""
    shared = folder / "commondir"
    common = folder / _read(shared) if shared.is_file() else folder
    if (common / branch).is_file():
        return _read(common / branch)
    packed = [line.split(" ") for line in _read(common / "packed-refs").splitlines()]
    return next((commit for commit, *names in packed if names == [branch]), None)


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip()
