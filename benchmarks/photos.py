"""The paper's experiments on available photos: Caltech101 with pocket; the toy encoder where an encoder's own layers learn.

    python -m benchmarks.photos --data-root DATA --vectors DIR

Each run is a `tip-adapter reproduce`. What it has measured is kept in results/photos, so that an interrupted run resumes; a
run that is complete is stored in docs/results/photos.json and is not run again while its command stays the same.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.record import RESULTS, ROOT, machine, write_results
from tip_adapter.errors import warn
from tip_adapter.paper.providers import FileProvider, ImageProvider
from tip_adapter.paper.reproduce import parse_request, reproduce

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

NAME = "photos"
COMMAND = "python -m benchmarks.photos --data-root $TIP_ADAPTER_DATA --vectors $TIP_ADAPTER_VECTORS"
#: Axis of an experiment → the option of the command that restricts it.
OPTIONS = {
    "datasets": "--datasets",
    "encoders": "--encoder",
    "methods": "--methods",
    "shots": "--shots",
    "seeds": "--seeds",
    "protocols": "--protocol",
}
#: What the page needs of a result.
FIELDS = (
    "experiment",
    "dataset",
    "target",
    "encoder",
    "method",
    "shots",
    "seed",
    "protocol",
    "variant",
    "accuracy",
    "gain",
    "alpha",
    "beta",
    "epochs",
    "learnable_parameters",
    "training_seconds",
    "inference_ms",
    "peak_memory_mib",
    "outcome",
    "silhouette",
    "settings",
    "notes",
)


class Run(NamedTuple):
    """One `tip-adapter reproduce`.

    Parameters
    ----------
    experiment : name of a table or figure
    words : axis → values separated by commas, as the command takes them
    vectors : name of a file of vectors that replaces photos and encoder; empty for photos
    """

    experiment: str
    words: Mapping[str, str]
    vectors: str = ""

    @property
    def command(self) -> str:
        """What a person would type; it identifies the run."""
        source = (
            f"--vectors $TIP_ADAPTER_VECTORS/{self.vectors}.npz" if self.vectors else "--data-root $TIP_ADAPTER_DATA"
        )
        options = " ".join(f"{OPTIONS[axis]} {text}" for axis, text in self.words.items())
        return f"tip-adapter reproduce {self.experiment} {source} {options}"

    @property
    def title(self) -> str:
        """What it measures, in a few words."""
        methods = self.words.get("methods", "all methods").replace(",", ", ")
        shots = f" at {self.words['shots']} shots" if "shots" in self.words else ""
        return f"{self.experiment} with {methods}{shots}{f' on {self.vectors}' if self.vectors else ''}"


_POCKET = {"datasets": "caltech101", "encoders": "pocket"}
_CHOSEN = {"protocols": "leave-one-out,few-validation"}
_ON_VECTORS = {"methods": "zero-shot,clip-adapter,tip-adapter,tip-adapter-f", **_CHOSEN}
_CLIP = "caltech58_vitb32"
#: CoOp: three seeds up to 4 shots, one beyond.
_COOP_FEW = {**_POCKET, "methods": "coop", "shots": "1,2,4"}
_COOP_MANY = {**_POCKET, "methods": "coop", "seeds": "1"}
#: Cheapest first.
RUNS = (
    Run("figure8", {**_POCKET, **_CHOSEN}),
    Run("figure7", _POCKET),
    Run("table7", {**_POCKET, **_CHOSEN}),
    Run("table7", _CHOSEN, _CLIP),
    Run("table4", {**_POCKET, "methods": "tip-adapter", **_CHOSEN}),
    Run("figure5", {**_POCKET, "methods": "zero-shot,tip-adapter,tip-adapter-f,text-offset,gda", **_CHOSEN}),
    Run("figure5", {**_POCKET, "methods": "tip-adapter,tip-adapter-f", "shots": "1", "protocols": "scale-free"}),
    Run("figure5", _COOP_FEW),
    Run("table3", _ON_VECTORS, _CLIP),
    Run("figure6", _COOP_FEW),
    Run("figure5", {**_POCKET, "methods": "clip-adapter"}),
    Run("figure5", {**_COOP_MANY, "shots": "8,16"}),
    Run("figure5", {**_POCKET, "methods": "linear-probe", **_CHOSEN}),
    Run("table1", {**_POCKET, "methods": "zero-shot,linear-probe,clip-adapter,tip-adapter,tip-adapter-f", **_CHOSEN}),
    Run("table1", _COOP_MANY),
    Run("table6", {"datasets": "caltech101", "encoders": "toy"}),
    Run("table3", {**_POCKET, **_ON_VECTORS}),
    Run("table3", _COOP_MANY),
    Run("figure6", {**_POCKET, **_ON_VECTORS}),
    Run("figure6", {**_COOP_MANY, "shots": "8,16"}),
    Run("table4", {**_POCKET, "methods": "tip-adapter-f", **_CHOSEN}),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, default=os.environ.get("TIP_ADAPTER_DATA"))
    parser.add_argument("--vectors", type=Path, default=os.environ.get("TIP_ADAPTER_VECTORS"))
    folders = parser.parse_args()
    if folders.data_root is None or folders.vectors is None:
        parser.error("give --data-root and --vectors, or set TIP_ADAPTER_DATA and TIP_ADAPTER_VECTORS")
    for run in not_run(stored()):
        provider = (
            FileProvider(folders.vectors / f"{run.vectors}.npz") if run.vectors else ImageProvider(folders.data_root)
        )
        print(run.command, file=sys.stderr, flush=True)
        measured = measure(run, provider)
        complete = {known["command"]: known for known in [*stored(), measured]}
        runs = [complete[known.command] for known in RUNS if known.command in complete]
        write_results(NAME, COMMAND, {"load": os.getloadavg()[2], "runs": runs})


def stored() -> list[dict[str, Any]]:
    """The runs that are complete, as docs/results/photos.json has them; none where there is no such file."""
    path = RESULTS / f"{NAME}.json"
    runs: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["runs"] if path.exists() else []
    return runs


def not_run(complete: Iterable[Mapping[str, Any]]) -> list[Run]:
    """The runs whose results are not stored yet, cheapest first."""
    commands = {run["command"] for run in complete}
    return [run for run in RUNS if run.command not in commands]


def measure(run: Run, provider: FileProvider | ImageProvider) -> dict[str, Any]:
    """Measure what results/photos lacks of a run; its record."""
    started = time.perf_counter()
    missing: list[str] = []

    def say(text: str) -> None:
        missing.append(text)
        warn(text)

    wanted = parse_request(run.experiment, run.words)
    done = reproduce(wanted, provider, ROOT / "results" / NAME / run.experiment, say=say)
    return {
        "command": run.command,
        "machine": machine(),
        "date": datetime.date.today().isoformat(),
        "seconds": time.perf_counter() - started,
        "n_measured": done.n_measured,
        "missing": missing,
        "rows": [
            {field: result[field] for field in FIELDS if result.get(field) is not None} for result in done.results
        ],
    }


if __name__ == "__main__":
    main()
