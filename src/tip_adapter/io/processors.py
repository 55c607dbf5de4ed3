"""Processors: how many this process may use (not those of the machine, as `os.cpu_count`), and whether BLAS uses several."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import TYPE_CHECKING

from threadpoolctl import threadpool_limits

if TYPE_CHECKING:
    from collections.abc import Iterator


def available_processors() -> int:
    """Processors of this process's affinity, within the quota of its control groups; at least 1."""
    if hasattr(os, "process_cpu_count"):  # Python 3.13
        allowed = os.process_cpu_count() or 1
    else:
        allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    groups = ""
    with suppress(OSError):  # only Linux has control groups
        groups = Path("/proc/self/cgroup").read_text(encoding="utf-8", errors="surrogateescape")
    return within_quota(allowed, groups, Path("/sys/fs/cgroup"))


class OneBlasThread:
    """`with one_blas_thread:` has each product done on the thread that asks for it, until the last thread has left.

    BLAS has one number of threads for the whole process: of limits that overlap in time, the last to end would restore another's.
    """

    def __init__(self) -> None:
        self._lock, self._users = Lock(), 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._users:
                self._limit = threadpool_limits(1, "blas")
            self._users += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                self._limit.restore_original_limits()


one_blas_thread = OneBlasThread()


def within_quota(allowed: int, groups: str, root: Path) -> int:
    """The number of processors, at most the smallest quota of the control groups, rounded up.

    Parameters
    ----------
    allowed : int, at least 1
    groups : the content of ``/proc/self/cgroup``: a line ``hierarchy:controllers:path`` for each group
    root : where control groups are mounted; version 2 has ``cpu.max``, version 1 ``cpu.cfs_quota_us`` in the controller's
        folder

    Returns
    -------
    int, at least 1; `allowed` if there is no quota
    """
    quotas = [quota for folder in _group_folders(groups, root) if (quota := _quota(folder)) is not None]
    return max(1, min([allowed, *map(math.ceil, quotas)]))


def _group_folders(groups: str, root: Path) -> Iterator[Path]:
    """The folders that may limit this process: its groups' and those above them, which limit it as well."""
    for line in groups.splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if not controllers:
            mounts = [root]
        elif "cpu" in controllers.split(","):
            mounts = [root / "cpu", root / controllers]
        else:
            continue
        # Where a container does not see the path of its group, the group itself is mounted.
        inside = PurePosixPath(*(part for part in PurePosixPath(path).parts if part not in ("/", "..")))
        for mount in mounts:
            yield from (mount / folder for folder in (inside, *inside.parents))


def _quota(folder: Path) -> float | None:
    """Processors that a group may use; None without a limit, or if there is no such group."""
    with suppress(OSError, ValueError):
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        else:
            quota, period = (
                (folder / f"cpu.cfs_{name}_us").read_text(encoding="ascii") for name in ("quota", "period")
            )
        if int(quota) > 0 and int(period) > 0:  # "max" or -1: no limit
            return int(quota) / int(period)
    return None
