"""How long and how much memory: what Table 1 compares."""

from __future__ import annotations

import resource
import sys
import threading
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable

#: Photos that are answered at a time when inference is timed, as in the paper.
BATCH = 32
_REPEATS = 5
_EVERY_S = 0.005
_STATM = Path("/proc/self/statm")


class PeakMemory:
    """Within, the most memory that the process holds: looked at every few milliseconds, where the system shows it.

    Attributes
    ----------
    mib : float
    """

    mib = 0.0

    def __enter__(self) -> Self:
        self._over = threading.Event()
        self._look()
        self._thread = threading.Thread(target=self._watch, name="memory", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(_EVERY_S):
            self._look()

    def _look(self) -> None:
        self.mib = max(self.mib, resident_mib())


def resident_mib() -> float:
    """Memory of this process now; where the system does not show that, the most it ever held."""
    if _STATM.exists():
        return int(_STATM.read_text(encoding="ascii").split()[1]) * resource.getpagesize() / 2**20
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10)


def cuda_peak_mib() -> float | None:
    """The most memory that torch held on the card since it was asked last; None where it holds nothing there."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    most = float(torch.cuda.max_memory_allocated()) / 2**20
    torch.cuda.reset_peak_memory_stats()
    return most or None


def milliseconds(work: Callable[[], object]) -> float:
    """How long some work takes: the median of five, after one that warms up."""
    work()
    times = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return 1e3 * median(times)
