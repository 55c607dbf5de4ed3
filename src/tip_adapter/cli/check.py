"""`tip-adapter check`: possible errors in labelled images."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

import tip_adapter
from tip_adapter.cli._options import Json
from tip_adapter.cli._output import notes, print_json, print_line, print_table, progress_bars
from tip_adapter.cli._words import accuracy_in_words, interval_in_words
from tip_adapter.errors import UsageError
from tip_adapter.io.files import readable_path
from tip_adapter.model.head import load_head
from tip_adapter.model.label_issues import check_images
from tip_adapter.model.saving import CONFIG
from tip_adapter.text import percent

if TYPE_CHECKING:
    from tip_adapter.model.head import Head

#: Rows of a table for people; --json has all.
_SHOWN = 20


def check(
    source: Annotated[Path, Argument(metavar="MODEL_DIR|TRAIN_DIR", help="A model folder, or images as for `fit`.")],
    encoder: Annotated[
        str | None, Option(help="For images, as for `fit`; see `tip-adapter encoders`.", metavar="NAME")
    ] = None,
    json: Json = False,
    device: str | None = None,
    threads: int | None = None,
    quiet: bool = False,
) -> None:
    """Find possibly wrong labels, near-duplicates in different classes, and classes that need images."""
    with notes(quiet), progress_bars("Reading images", quiet=quiet) as (progress,):
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
    if record["likely_wrong"]:
        print_line(f"Possibly mislabelled {_extent(record['likely_wrong'])}, most suspicious first")
        rows = [
            [e["image"], e["label"], percent(e["probability"]), e["called"]] for e in record["likely_wrong"][:_SHOWN]
        ]
        print_table(["image", "label", "P(label)", "looks like"], rows)
    else:
        print_line("No label looks wrong.")
    if record["near_duplicates"]:
        print_line(f"Near-duplicates in different classes {_extent(record['near_duplicates'])}, most similar first")
        rows = [
            [
                *(f"{image} ({label})" for image, label in zip(e["images"], e["labels"], strict=True)),
                f"{e['similarity']:.3f}",
            ]
            for e in record["near_duplicates"][:_SHOWN]
        ]
        print_table(["image", "image", "similarity"], rows)
    else:
        print_line("No near-duplicates in different classes.")
    if record["need_images"]:
        print_line(f"Classes that need images {_extent(record['need_images'])}, hardest first")
        rows = [
            [e["label"], str(e["n_images"]), "unknown" if e["accuracy"] is None else percent(e["accuracy"])]
            for e in record["need_images"][:_SHOWN]
        ]
        print_table(["class", "images", "leave-one-out accuracy"], rows)
    if record["accuracy"] is None:
        print_line("No class has two images, so no label could be checked by leave-one-out.")
    else:
        interval = interval_in_words(record["accuracy_interval"])
        print_line(f"Leave-one-out {accuracy_in_words(record['accuracy'], record['n_checked'], interval)}.")


def _extent(entries: list[dict[str, Any]]) -> str:
    return f"({len(entries)}, the first {_SHOWN} shown)" if len(entries) > _SHOWN else f"({len(entries)})"
