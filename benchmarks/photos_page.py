"""The page of `benchmarks.photos`, and its picture: accuracy over shots of every method, on photos and on CLIP vectors."""

from __future__ import annotations

import re
from dataclasses import replace
from statistics import mean
from typing import Any

from benchmarks.claims_page import WITHOUT_VALIDATION
from benchmarks.curves import curves
from benchmarks.photos import RUNS, not_run
from tip_adapter.paper.experiments import experiment, experiments
from tip_adapter.paper.published import Published
from tip_adapter.paper.tables import marked, render_table
from tip_adapter.text import counted

ALT = "Accuracy of each method over the number of photos for each class."
#: None of the paper's numbers is of these photos and encoders, so that none is next to ours.
_NONE_PUBLISHED = Published(rows=(), sizes={})


def page(record: dict[str, Any]) -> str:
    """What is complete and what is not, then a section for each experiment."""
    names = [name for name in experiments() if any(run.experiment == name for run in RUNS)]
    return "\n\n".join(
        [
            "The paper's tables and figures with what is available: Caltech101's photos (100 classes, 2,465 test photos of the few-shot "
            "literature's split) with the offline encoder `pocket`; stored CLIP ViT-B/32 vectors of 58 classes, where a table compares "
            "encoders; and the `toy` encoder in table 6, which fine-tunes an encoder's own layers. Neither is the paper's encoder: "
            "orders and signs can be compared with the paper, numbers cannot. Nothing is shortened, except that CoOp has one seed beyond "
            f"4 shots. The titles are the paper's. {', '.join(name for name in experiments() if name not in names)}: not here, since "
            f"they are ImageNet's. Times are of a machine whose load was {record['load']:.1f} over the last 15 minutes. {progress(record)}",
            *(section(name, record) for name in names),
        ]
    )


def progress(record: dict[str, Any]) -> str:
    """How many runs are complete, how long they took, and which have not run yet."""
    minutes = sum(run["seconds"] for run in record["runs"]) / 60
    done = f"{len(record['runs'])} of {len(RUNS)} runs are complete, in {minutes:.0f} minutes, of interrupted ones the last part only"
    rest = "; ".join(run.title for run in not_run(record["runs"]))
    return f"{done}. Not run yet: {rest}." if rest else f"{done}."


def section(name: str, record: dict[str, Any]) -> str:
    """The commands of an experiment with their outcome, then its own page, one level of headings lower."""
    complete = {run["command"]: run for run in record["runs"]}
    commands = [
        f"- `{run.command}`: {outcome(complete[run.command]) if run.command in complete else '**not run yet**'}"
        for run in RUNS
        if run.experiment == name
    ]
    rows = [row for run in record["runs"] for row in run["rows"] if row["experiment"] == name]
    shown = replace(experiment(name), notes=())
    rendered = render_table(shown, marked(rows), _NONE_PUBLISHED) if rows else f"# {name}: {shown.title}\n"
    heading, _, tables = re.sub("^#", "##", rendered, flags=re.MULTILINE).rstrip().partition("\n")
    return "\n".join([heading, "", *commands, tables]).rstrip()


def outcome(run: dict[str, Any]) -> str:
    """Number of results, minutes, date and what is missing; after an interruption the minutes are those of the last part."""
    partly = "" if run["n_measured"] == len(run["rows"]) else f" for the last {run['n_measured']}"
    measured = (
        f"{counted(len(run['rows']), 'result', 'results')}, {run['seconds'] / 60:.1f} minutes{partly}, {run['date']}"
    )
    return "; ".join([measured, *run["missing"]])


#: Method → its class in the picture's style, and its label.
_CURVES = {
    "zero-shot": ("names", "class names alone (zero-shot)"),
    "linear-probe": ("peer", "linear probe"),
    "coop": ("prompts", "CoOp"),
    "clip-adapter": ("adapter", "CLIP-Adapter"),
    "gda": ("gaussian", "gda"),
    "tip-adapter": ("tip", "Tip-Adapter"),
    "tip-adapter-f": ("tuned", "Tip-Adapter-F"),
    "text-offset": ("default", "text-offset, the default"),
}


def picture(record: dict[str, Any]) -> str:
    """Accuracy over shots of every method that was measured on the photos, chosen by the support alone."""
    rows = [
        row
        for run in record["runs"]
        for row in run["rows"]
        if row["experiment"] == "figure5" and row["protocol"] in WITHOUT_VALIDATION
    ]
    every = sorted({row["shots"] for row in rows} - {0})
    lines = []
    for method, (kind, text) in _CURVES.items():
        accuracies: dict[int, list[float]] = {}
        for row in rows:
            if row["method"] == method:
                for shots in [row["shots"]] if row["shots"] else every:
                    accuracies.setdefault(shots, []).append(100 * row["accuracy"])
        if accuracies:
            lines.append((kind, text, {shots: mean(own) for shots, own in accuracies.items()}))
    return curves("New photos of Caltech101 classified correctly", lines)
