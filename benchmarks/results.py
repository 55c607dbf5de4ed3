"""All results: runs what docs/results lacks, cheapest first, and renders the pages. `make results`.

    python -m benchmarks.results

The variables TIP_ADAPTER_DATA and TIP_ADAPTER_VECTORS name the folders of photos and of vectors. A results file that is there
is not measured again: delete it to measure it again. An interrupted run resumes at the benchmark that it was in.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import NamedTuple

from benchmarks import photos, render
from benchmarks.record import RESULTS, ROOT


class Step(NamedTuple):
    """One benchmark.

    Parameters
    ----------
    arguments : what follows `python -m`
    names : of the results files that it writes
    """

    arguments: str
    names: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether all that it measures is stored; the experiments on photos are stored one by one."""
        there = all((RESULTS / f"{name}.json").exists() for name in self.names)
        return there and not (photos.NAME in self.names and photos.not_run(photos.stored()))


_DATA, _VECTORS = "--data-root $TIP_ADAPTER_DATA", "--vectors $TIP_ADAPTER_VECTORS"
#: Cheapest first.
STEPS = (
    Step(f"benchmarks.equations {_VECTORS}", ("equations",)),
    Step("benchmarks.demo", ("demo",)),
    Step(f"benchmarks.caltech101 {_DATA}", ("caltech101",)),
    Step(f"benchmarks.calibration {_DATA}", ("calibration",)),
    Step(f"benchmarks.trust {_DATA}", ("trust",)),
    Step("benchmarks --photos $TIP_ADAPTER_DATA/caltech-101", ("speed",)),
    Step(f"benchmarks.exported {_DATA} {_VECTORS}", ("exported",)),
    Step(f"benchmarks.serving {_DATA} --photos 160 --requests 2400", ("serving",)),
    Step(f"benchmarks.choosing {_DATA} {_VECTORS}", ("choosing",)),
    Step("benchmarks.mutants", ("mutants",)),
    Step(f"benchmarks.claims {_VECTORS}", ("claims", "protocols")),
    Step(f"benchmarks.heads {_DATA} {_VECTORS}", ("heads",)),
    Step("benchmarks.labelling --images 50000 --plan-rows 10000000", ("labelling",)),
    Step(f"benchmarks.photos {_DATA} {_VECTORS}", ("photos",)),
)


def main() -> None:
    if absent := [name for name in ("TIP_ADAPTER_DATA", "TIP_ADAPTER_VECTORS") if not os.environ.get(name)]:
        sys.exit(f"{' and '.join(absent)}: not set; each names a folder, see docs/how-to/datasets.md")
    begun = time.perf_counter()
    for step in STEPS:
        if step.complete:
            print(f"{', '.join(step.names)}: stored")
            continue
        started = time.perf_counter()
        arguments = os.path.expandvars(step.arguments).split()
        subprocess.run([sys.executable, "-m", *arguments], check=True, cwd=ROOT)
        seconds = time.perf_counter() - started
        print(f"{', '.join(step.names)}: measured in {seconds / 60:.1f} minutes", flush=True)
    render.main()
    print(f"all results are stored and rendered; this took {(time.perf_counter() - begun) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
