"""`tip-adapter check`: what a person should look at in the labelled photos."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import tip_adapter
from tip_adapter.cli._options import Json
from tip_adapter.cli._output import notes, print_json, print_line, print_table, progress_bar
from tip_adapter.errors import UsageError
from tip_adapter.io.files import readable_path
from tip_adapter.model.head import load_head
from tip_adapter.model.label_issues import check_images
from tip_adapter.model.saving import CONFIG
from tip_adapter.text import counted, percent

if TYPE_CHECKING:
    from tip_adapter.model.head import Head

#: Rows of a table for people; --json has all.
_SHOWN = 20


def check(
    source: Annotated[
        Path,
        typer.Argument(metavar="MODEL_DIR|TRAIN_DIR", help="A model, or photos as `fit` takes them."),
    ],
    encoder: Annotated[
        str | None, typer.Option(help="For photos, as `fit` takes it; see `tip-adapter encoders`.", metavar="NAME")
    ] = None,
    json: Json = False,
    device: str | None = None,
    threads: int | None = None,
    quiet: bool = False,
) -> None:
    """Find likely wrong labels, near-duplicates across classes, and classes that need photos."""
    with notes(quiet), progress_bar("Reading photos", quiet=quiet) as progress:
        if os.path.lexists(readable_path(source) / CONFIG):  # False also for a name that is too long
            if encoder is not None:
                raise UsageError("a model has its own encoder; leave out --encoder")
            head: Head = load_head(source)[0]
        else:
            model = tip_adapter.FewShotClassifier(encoder, device=device, threads=threads)
            head = model.fit_folder(source, progress=progress).head_
        record = check_images(head)
    if json:
        print_json(record)
    else:
        _print(record)


def _print(record: dict[str, Any]) -> None:
    _print_wrong(record["likely_wrong"])
    _print_duplicates(record["near_duplicates"])
    _print_weak(record["need_images"])
    if record["accuracy"] is None:
        print_line("No class has two photos: no label could be checked by leaving its photo out.")
        return
    low, high = record["accuracy_interval"]
    checked = counted(record["n_checked"], "photo", "photos")
    print_line(
        f"Of {checked}, each left out in turn, {percent(record['accuracy'])} are correct "
        f"(95 % interval {percent(low)} to {percent(high)})."
    )


def _print_wrong(entries: list[dict[str, Any]]) -> None:
    if not entries:
        print_line("No label looks wrong.")
        return
    print_line(f"Likely wrong labels, photos and names weighed alike, {_how_many(entries)}:")
    rows = [[e["image"], e["label"], percent(e["probability"]), e["called"]] for e in entries[:_SHOWN]]
    print_table(["photo", "label", "how likely", "looks like"], rows)


def _print_duplicates(entries: list[dict[str, Any]]) -> None:
    if not entries:
        print_line("No near-duplicates across classes.")
        return
    print_line(f"Nearly the same photo in two classes, {_how_many(entries)}:")
    rows = [
        [f"{e['images'][0]} ({e['labels'][0]})", f"{e['images'][1]} ({e['labels'][1]})", f"{e['similarity']:.3f}"]
        for e in entries[:_SHOWN]
    ]
    print_table(["photo", "photo", "similarity"], rows)


def _print_weak(entries: list[dict[str, Any]]) -> None:
    if not entries:
        return
    print_line(f"Classes that need photos, {_how_many(entries)}:")
    rows = [
        [e["label"], str(e["n_images"]), "unknown" if e["accuracy"] is None else percent(e["accuracy"])]
        for e in entries[:_SHOWN]
    ]
    print_table(["class", "photos", "right when left out"], rows)


def _how_many(entries: list[dict[str, Any]]) -> str:
    return f"the first {_SHOWN} of {len(entries)}" if len(entries) > _SHOWN else f"{len(entries)} in all"
