"""The paper's claims of order and sign, checked on real CLIP vectors; and what each way of choosing alpha and beta is worth.

    python -m benchmarks.claims --vectors DIR

DIR as in benchmarks.equations; by default the folder that TIP_ADAPTER_VECTORS names. What is measured are experiments of
`tip-adapter reproduce`, whose results are kept in results/claims: a second run measures only what is missing there.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.record import ROOT, write_results
from tip_adapter.errors import warn
from tip_adapter.paper.protocols import PROTOCOLS
from tip_adapter.paper.providers import FileProvider
from tip_adapter.paper.reproduce import parse_request, reproduce

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND = "python -m benchmarks.claims --vectors $TIP_ADAPTER_VECTORS"
#: What is trained on vectors in minutes; CLIP-Adapter takes 200 epochs, and the probe's search on 1,000 classes hours.
_FAST = ("zero-shot", "tip-adapter", "tip-adapter-f", "text-offset", "gda")
#: File → what it is called; the most shots that it has photos for; the methods.
SETS = {
    "caltech58_vitb32": ("58 classes, CLIP", 16, ("linear-probe", *_FAST)),
    "imagenet_vitb32_4shot": ("ImageNet, CLIP", 4, _FAST),
}
SHOTS = (1, 2, 4, 8, 16)
#: What the page needs of a result.
FIELDS = (
    "experiment",
    "method",
    "shots",
    "seed",
    "protocol",
    "variant",
    "accuracy",
    "silhouette",
    "epoch_accuracies",
    "alpha",
    "beta",
)


#: Protocols of the public code, and that of methods which have nothing to choose.
_PAPERS = ("full-validation", "oracle", "fixed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=Path, default=os.environ.get("TIP_ADAPTER_VECTORS"))
    folder = parser.parse_args().vectors
    if folder is None:
        parser.error("give --vectors, or set TIP_ADAPTER_VECTORS")
    rows = [row for name in SETS for row in measured(folder / f"{name}.npz")]
    compared = [row for row in rows if row["experiment"] == "figure5"]
    write_results("protocols", COMMAND, {"rows": compared})
    chosen = [row for row in rows if row not in compared or row["protocol"] in _PAPERS or not row["shots"]]
    write_results("claims", COMMAND, {"rows": [{**row, "epoch_accuracies": []} for row in chosen]})


def measured(path: Path) -> Iterator[dict[str, Any]]:
    """The results of a file of vectors, with its name as `set`."""
    title, most, methods = SETS[path.stem]
    shots = ",".join(str(number) for number in SHOTS if number <= most)
    asked = {
        "figure5": {"methods": ",".join(methods), "shots": shots, "seeds": "1,2,3", "protocols": ",".join(PROTOCOLS)},
        "table4": {"shots": str(most)},
        "figure7": {"shots": str(most)},
    }
    provider = FileProvider(path)
    for name, words in asked.items():
        wanted = parse_request(name, words)
        done = reproduce(wanted, provider, ROOT / "results" / "claims" / path.stem, say=warn)
        for result in done.results:
            yield {"set": title, **{field: result[field] for field in FIELDS if result.get(field) not in (None, [])}}


if __name__ == "__main__":
    main()
