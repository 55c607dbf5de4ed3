"""`tip-adapter predict`: photos in, names out."""

from __future__ import annotations

import csv
import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import tip_adapter
from tip_adapter.cli._everywhere import Device, Json, Quiet, Threads, Version
from tip_adapter.cli._output import notes, percent, print_json, print_line, progress_bar, say
from tip_adapter.errors import NothingReadable, UsageError
from tip_adapter.photos.find import find_photos

if TYPE_CHECKING:
    from collections.abc import Sequence


def predict(
    model_dir: Annotated[Path, typer.Argument(metavar="MODEL_DIR", help="A folder that `tip-adapter fit` made.")],
    images: Annotated[
        list[str],
        typer.Argument(help='Photos, folders or lists; "-" reads paths from stdin.', metavar="IMAGE_OR_DIR"),
    ],
    json: Json = False,
    as_csv: Annotated[
        bool,
        typer.Option(
            "--csv", help="CSV on stdout: image, label, score, error; a cell like a formula gets a ' in front."
        ),
    ] = False,
    top: Annotated[int, typer.Option(help="How many of the likeliest classes to list.", min=1, metavar="N")] = 5,
    min_score: Annotated[
        float, typer.Option(help="Below this probability: none of these.", min=0, max=1, metavar="P")
    ] = 0.0,
    device: Device = None,
    threads: Threads = None,
    quiet: Quiet = False,
    version: Version = False,
) -> None:
    """Name photos."""
    if json and as_csv:
        raise UsageError("--json and --csv exclude each other; choose one")
    show = print_json if json else _print_csv if as_csv else _print_line
    with notes(quiet), progress_bar("Naming photos", quiet=quiet or sys.stdout.isatty()) as progress:
        model = tip_adapter.FewShotClassifier.load(model_dir, device=device, threads=threads)
        photos = [photo for image in _inputs(images) for photo in find_photos(image)]
        if as_csv:
            _write_csv_row(["image", "label", "score", "error"])
        failed = 0
        for done, record in enumerate(model.predict_stream(photos, top=top, min_score=min_score), start=1):
            show(record)
            failed += record["error"] is not None
            if progress:
                progress(done, len(photos))
    if not photos:
        raise NothingReadable("there were no paths on stdin")
    if failed == len(photos):
        who = "the only photo could not" if failed == 1 else f"none of {failed} photos could"
        raise NothingReadable(f"{who} be read")
    if failed and not quiet:
        say(f"note: {failed} of {len(photos)} photos could not be read")


def _inputs(images: Sequence[str]) -> list[str]:
    """The arguments, "-" replaced by the paths on stdin, one a line."""
    return [path for image in images for path in (_stdin_paths() if image == "-" else [image])]


def _stdin_paths() -> list[str]:
    """Paths may hold any byte but these: not the line ends that text knows beside them."""
    lines = (line.removesuffix(b"\r") for line in sys.stdin.buffer.read().split(b"\n"))
    return [os.fsdecode(line) for line in lines if line]


def _print_line(record: dict[str, Any]) -> None:
    if record["error"]:
        say(f"error: {record['error']}")
        return
    name, *others = [f"{entry['label']} {percent(entry['score'])}" for entry in record["top"]]
    if record["label"] is None:
        name, others = "none of these", [name, *others]
    listed = f"   ({', '.join(others)})" if others else ""
    print_line(f"{record['image']}: {name}{listed}")


def _print_csv(record: dict[str, Any]) -> None:
    _write_csv_row([record["image"], record["label"], record["score"], record["error"]])


def _write_csv_row(cells: Sequence[Any]) -> None:
    row = io.StringIO()
    csv.writer(row).writerow(map(_cell, cells))  # its own line end, so that a lone \r in a name is quoted
    print(row.getvalue().removesuffix("\r\n"), flush=True)


def _cell(value: Any) -> str:
    """A spreadsheet must not take a file or class name for a formula."""
    risky = isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{value}" if risky else "" if value is None else str(value)
