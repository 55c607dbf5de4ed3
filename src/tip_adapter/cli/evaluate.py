"""`tip-adapter evaluate`: how right a classifier is on labelled photos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import tip_adapter
from tip_adapter.cli._everywhere import Device, Json, Quiet, Threads, Version
from tip_adapter.cli._output import notes, percent, print_json, print_line, print_table, progress_bar
from tip_adapter.errors import counted


def evaluate(
    model_dir: Annotated[Path, typer.Argument(metavar="MODEL_DIR", help="A folder that `tip-adapter fit` made.")],
    test_dir: Annotated[
        Path,
        typer.Argument(
            metavar="TEST_DIR", help="Class folders, a split folder (its test part), a list, or stored vectors."
        ),
    ],
    json: Json = False,
    device: Device = None,
    threads: Threads = None,
    quiet: Quiet = False,
    version: Version = False,
) -> None:
    """Score a classifier on labelled photos."""
    with notes(quiet), progress_bar("Reading photos", quiet=quiet) as progress:
        model = tip_adapter.FewShotClassifier.load(model_dir, device=device, threads=threads)
        record = model.evaluate_folder(test_dir, progress=progress)
    if json:
        print_json(record)
    else:
        _print(record)


def _print(record: dict[str, Any]) -> None:
    rows = [
        [label, percent(entry["accuracy"]), str(entry["n"])]
        for label, entry in sorted(record["per_class"].items(), key=lambda item: item[1]["accuracy"])
    ]
    print_table(["class, hardest first", "right", "photos"], rows)
    low, high = record["accuracy_interval"]
    photos = counted(record["n_images"], "photo", "photos")
    print_line(f"Right: {percent(record['accuracy'])} of {photos} (95 % interval {percent(low)} to {percent(high)}).")
    print_line(
        f"Mean over classes: {percent(record['mean_per_class_accuracy'])}. The class names alone: {percent(record['zero_shot_accuracy'])}."
    )
    if record["n_failed"]:
        print_line(f"Not counted: {counted(record['n_failed'], 'photo', 'photos')} that could not be read.")
    if record["unknown_classes"]:
        print_line(f"Counted as wrong, unknown to the model: {', '.join(record['unknown_classes'])}.")
    print_line(f"{record['seconds']:.1f} s, {record['images_per_second']:.0f} photos a second.")
