"""Answers as `tip-adapter predict` shows them: lines for people, CSV for tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tip_adapter.cli._output import print_line, say
from tip_adapter.images.lists import csv_line
from tip_adapter.text import counted, percent

if TYPE_CHECKING:
    from collections.abc import Sequence

#: The first line of the CSV.
HEADER = ("image", "label", "score", "error")


def print_answer(record: dict[str, Any]) -> None:
    """What a photo is called, the other classes and, where it was asked for, why; an unreadable photo on stderr."""
    if record["error"]:
        say(f"error: {record['error']}")
        return
    name, *others = [f"{entry['label']} {percent(entry['score'])}" for entry in record["top"]]
    if record["label"] is None:
        name, others = "none of these", [name, *others]
    listed = f"   ({', '.join(others)})" if others else ""
    print_line(f"{record['image']}: {name}{listed}")
    for number, evidence in enumerate(record.get("explanation", [])):
        _print_evidence(evidence, "because" if number == 0 else "next")


def _print_evidence(evidence: dict[str, Any], role: str) -> None:
    """A logit taken apart, in points: the photos that weighed most, the other photos, the name."""
    print_line(f"  {role}: {evidence['label']}, {evidence['logit']:.2f} points ({percent(evidence['score'])})")
    for photo in evidence["images"]:
        print_line(f"    {photo['part']:+9.2f}  looks like {photo['id']}")
    if evidence["n_others"]:
        others = counted(evidence["n_others"], "other photo", "other photos")
        print_line(f"    {evidence['others']:+9.2f}  {others} of {evidence['label']}")
    print_line(f"    {evidence['text']:+9.2f}  the name “{evidence['name']}”")


def print_row(record: dict[str, Any]) -> None:
    """A row of `HEADER`."""
    print_cells([record[name] for name in HEADER])


def print_cells(cells: Sequence[Any]) -> None:
    """One line of CSV on stdout."""
    print(csv_line(cells), flush=True)
