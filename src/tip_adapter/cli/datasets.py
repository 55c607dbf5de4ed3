"""`tip-adapter datasets`: the paper's data sets, which are installed, and whether they are complete."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from typer import Argument, Exit, Option

from tip_adapter.cli._options import Json, complete_datasets, one_of
from tip_adapter.cli._output import print_json, print_line, print_table
from tip_adapter.errors import UsageError
from tip_adapter.paper.datasets.records import SPLITS_URL, DatasetRecord, absent_pieces, dataset_record, dataset_records
from tip_adapter.paper.datasets.splits import check_dataset, open_dataset
from tip_adapter.text import first_of

DataRoot = Annotated[
    Path | None,
    Option(help="The folder that holds the data sets' folders.", metavar="DIR", envvar="TIP_ADAPTER_DATA"),
]


def datasets(
    action: Annotated[
        str | None,
        Argument(
            metavar="ACTION",
            help="check: count a data set's files against its split.",
            parser=one_of("check"),
            autocompletion=lambda: ["check"],
        ),
    ] = None,
    name: Annotated[
        str | None, Argument(metavar="NAME", help="The data set to check.", autocompletion=complete_datasets)
    ] = None,
    data_root: DataRoot = None,
    json: Json = False,
) -> None:
    """List the paper's data sets: size, licence, where to get each, and whether it is found under --data-root.

    `tip-adapter datasets check NAME` counts one's files against its split and names what is missing.
    """
    if action is None:
        _list(data_root, json=json)
    else:
        _check(name, data_root, json=json)


def _list(data_root: Path | None, *, json: bool) -> None:
    records = dataset_records().values()
    absent = {record.name: None if data_root is None else absent_pieces(record, data_root) for record in records}
    if json:
        entries = [
            {**asdict(r), "found": None if absent[r.name] is None else not absent[r.name], "absent": absent[r.name]}
            for r in records
        ]
        print_json({"datasets": entries})
        return
    header = ["data set", "classes", "train", "val", "test", "size", "licence", "found"]
    print_table(header, [_line(record, absent[record.name]) for record in records])
    for record in records:
        pieces = absent[record.name] or ()
        missing = f"not found: {first_of(pieces)}" if pieces and record.folder not in pieces else ""
        dead = [f"no longer at {link}" for link in record.dead_links]
        notes = "; ".join(filter(None, [missing, record.advice, *dead]))
        print_line(f"{record.name}: {record.url}{f' ({notes})' if notes else ''}")
    print_line(f"the splits: {SPLITS_URL}")


def _line(record: DatasetRecord, absent: tuple[str, ...] | None) -> list[str]:
    """A row of the table."""
    counts = [f"{record.n_images[part]:,}" if part in record.n_images else "–" for part in ("train", "val", "test")]
    size = f"{record.size_mib} MiB" if record.size_mib < 1024 else f"{record.size_mib / 1024:.1f} GiB"
    if absent is None:
        found = "–"
    elif record.folder in absent:
        found = "no"
    else:
        found = "in part" if absent else "yes"
    return [record.name, f"{record.n_classes:,}", *counts, size, record.licence, found]


def _check(name: str | None, data_root: Path | None, *, json: bool) -> None:
    if name is None:
        raise UsageError("datasets check needs the name of a data set; `tip-adapter datasets` lists them")
    record = dataset_record(name)
    if data_root is None:
        raise UsageError("datasets check needs --data-root DIR, or TIP_ADAPTER_DATA")
    checked = check_dataset(open_dataset(record, data_root))
    if json:
        print_json({"name": name, **asdict(checked), "complete": checked.complete})
    else:
        rows = [[p.part, f"{p.n_published:,}", f"{p.n_listed:,}", f"{len(p.missing):,}"] for p in checked.parts]
        print_table(["part", "published", "listed", "missing"], rows)
        for part in checked.parts:
            if part.problem:
                print_line(f"Cannot list {part.part}: {part.problem}")
            if part.missing:
                print_line(f"Missing of {part.part}: {first_of(part.missing)}")
        listed = f"{checked.n_listed:,} of {checked.n_published:,} classes"
        print_line(f"{record.title} is {'complete' if checked.complete else 'not complete'}: {listed} listed.")
    if not checked.complete:
        raise Exit(1)
