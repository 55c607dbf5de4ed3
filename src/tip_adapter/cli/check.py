"""`tip-adapter check`: possible errors in labelled images."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

import tip_adapter
from tip_adapter.cli._options import Json, complete_encoders
from tip_adapter.cli._output import notes, print_json, print_line, print_table, progress_bars
from tip_adapter.cli._words import accuracy_in_words, interval_in_words, left_out_accuracy, too_few_in_words
from tip_adapter.errors import UsageError
from tip_adapter.io.files import readable_path
from tip_adapter.model.format import CONFIG
from tip_adapter.model.head import load_head
from tip_adapter.model.label_issues import check_images
from tip_adapter.text import percent

if TYPE_CHECKING:
    from tip_adapter.model.head import Head

#: Rows of a table for people; --json has all.
_SHOWN = 20


def check(
    source: Annotated[Path, Argument(metavar="MODEL_DIR|TRAIN_DIR", help="A model folder, or images as for `fit`.")],
    encoder: Annotated[
        str | None,
        Option(
            "--encoder",
            "-e",
            help="For images, as for `fit`; see `tip-adapter encoders`.",
            metavar="NAME",
            autocompletion=complete_encoders,
        ),
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
        _print(record, head)


def _print(record: dict[str, Any], head: Head) -> None:
    """Print the record of `check_images` as tables."""
    wrong = [[e["image"], e["label"], percent(e["probability"]), e["called"]] for e in record["likely_wrong"]]
    if wrong:
        _print_first("Possibly mislabelled", "most suspicious", ["image", "label", "P(label)", "looks like"], wrong)
    else:
        print_line("No label looks wrong.")
    near = []
    for e in record["near_duplicates"]:
        images = [f"{image} ({label})" for image, label in zip(e["images"], e["labels"], strict=True)]
        near.append([*images, f"{e['similarity']:.3f}"])
    if near:
        header = ["image", "image", "similarity"]
        _print_first("Near-duplicates in different classes", "most similar", header, near)
    else:
        print_line("No near-duplicates in different classes.")
    few = [
        [e["label"], str(e["n_images"]), "unknown" if e["accuracy"] is None else percent(e["accuracy"])]
        for e in record["need_images"]
    ]
    if few:
        _print_first("Classes that need images", "hardest", ["class", "images", "leave-one-out accuracy"], few)
    if record["accuracy"] is None:
        print_line(f"Leave-one-out accuracy: unknown, {too_few_in_words(head)}.")
    else:
        interval = interval_in_words(record["accuracy_interval"])
        print_line(
            f"Leave-one-out {accuracy_in_words(record['accuracy'], record['n_checked'], interval, left_out_accuracy(head))}."
        )


def _print_first(title: str, order: str, header: list[str], rows: list[list[str]]) -> None:
    """The first rows of a table, below their number."""
    extent = f"{len(rows)}, the first {_SHOWN} shown" if len(rows) > _SHOWN else len(rows)
    print_line(f"{title} ({extent}), {order} first")
    print_table(header, rows[:_SHOWN])
