"""Speed against references and limits, each measured in the same run.

    python -m benchmarks NAME ... [--json] [--photos DIR] [--runs N]

NAME is a group of cases; without one all groups run and docs/results/speed.json is written. DIR is a folder of photos to
extract from; without it the demo's are taken.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from conformal_clip_data import textile_simulated_root

from benchmarks.record import write_results
from benchmarks.speed import GROUPS, Given, measure, photos_of

PHOTOS = "$TIP_ADAPTER_DATA/caltech-101"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(GROUPS))
    parser.add_argument("--photos", type=Path, default=textile_simulated_root())
    parser.add_argument(
        "--runs", type=int, default=5, help="Of each case, after a warm-up; its own number where it is smaller."
    )
    parser.add_argument("--json", action="store_true", help="Print each case as a line of JSON.")
    given = parser.parse_args()
    if unknown := set(given.names) - set(GROUPS):
        parser.error(f"there is no group {', '.join(sorted(unknown))}; there are {', '.join(GROUPS)}")
    names = given.names or [name for name in GROUPS if name != "cuda"]
    cases = []
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            for case in GROUPS[name](Given(photos_of(given.photos), Path(folder))):
                cases.append({"group": name, **measure(case, given.runs)})
                print(json.dumps(cases[-1]) if given.json else line_of(cases[-1]), flush=True)
    if not given.names:
        photos = "" if given.photos == textile_simulated_root() else f" --photos {PHOTOS}"
        write_results("speed", f"python -m benchmarks{photos}", {"cases": cases})


def line_of(case: dict[str, Any]) -> str:
    """A case for people: what was measured, the goals next to it."""
    measured = ", ".join(f"{name} {value:.3g}" for name, value in case["measured"].items())
    goals = ", ".join(f"{name} {sign} {value:g}" for name, (sign, value) in case["goals"].items())
    met = {True: "met", False: "MISSED", None: "no goal"}[case["met"]]
    return f"{case['group']}: {case['name']}: {measured}" + (f" ({goals}: {met})" if goals else "")


if __name__ == "__main__":
    main()
