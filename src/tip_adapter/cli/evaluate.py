"""`tip-adapter evaluate`: how right a classifier is on labelled photos."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

import tip_adapter
from tip_adapter.cli._options import Json, ModelDir
from tip_adapter.cli._output import notes, print_json, print_line, print_table, progress_bar, say
from tip_adapter.cli._words import occasion, training_images, training_in_words
from tip_adapter.errors import UsageError
from tip_adapter.report import N_MISTAKES, evaluation_page, paths_by_id, refuse_unreplaceable, write_page
from tip_adapter.text import counted, percent


def evaluate(
    model_dir: ModelDir,
    test_dir: Annotated[
        Path,
        typer.Argument(
            metavar="TEST_DIR", help="Class folders, a split folder (its test part), a list, or stored vectors."
        ),
    ],
    json: Json = False,
    report: Annotated[
        Path | None,
        typer.Option(help="Write a page to look at, DIR/index.html; a report there is replaced.", metavar="DIR"),
    ] = None,
    photos: Annotated[
        Path | None,
        typer.Option(
            help="With --report: the photos that the model has learned from, to show them.", metavar="TRAIN_DIR"
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Write the page also where something else than a report stands.")
    ] = False,
    device: str | None = None,
    threads: int | None = None,
    quiet: bool = False,
) -> None:
    """Score a classifier on labelled photos."""
    if report is None and (photos or force):
        raise UsageError("--photos and --force are about the page; give --report DIR, too")
    if report and not force:
        refuse_unreplaceable(report)
    with notes(quiet), progress_bar("Reading photos", quiet=quiet) as progress:
        model = tip_adapter.FewShotClassifier.load(model_dir, device=device, threads=threads)
        support = training_images(photos, model.head_.support.ids.tolist()) if report else {}
        accumulator = model.head_.new_accumulator(N_MISTAKES if report else 0)
        record = model.evaluate_folder(test_dir, progress=progress, accumulator=accumulator)
    if json:
        print_json(record)
    else:
        _print(record, training_in_words(model.head_.training))
    if report:
        made = occasion(model_dir, asdict(model.encoder_.identity))
        page = evaluation_page(model.head_, record, accumulator, made, paths_by_id(test_dir, part="test"), support)
        say(f"Report: {write_page(report, page, force=force)}")


def _print(record: dict[str, Any], trained: str) -> None:
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
    print_line(_about_scores(record["calibration"]))
    if trained:
        print_line(trained)
    if record["n_failed"]:
        print_line(f"Not counted: {counted(record['n_failed'], 'photo', 'photos')} that could not be read.")
    if record["unknown_classes"]:
        print_line(f"Counted as wrong, unknown to the model: {', '.join(record['unknown_classes'])}.")
    print_line(f"{record['seconds']:.1f} s, {record['images_per_second']:.0f} photos a second.")


def _about_scores(calibration: dict[str, Any]) -> str:
    """How far off the scores are, and what the temperature did to it."""
    after = _figures(calibration["after"])
    if calibration["temperature"] == 1:
        return f"Calibration: {after}; no temperature was fitted."
    return f"Calibration: {after}; without the temperature: {_figures(calibration['before'])}."


def _figures(calibration: dict[str, Any]) -> str:
    likelihood = calibration["negative_log_likelihood"]
    return f"ECE {percent(calibration['ece'])}, negative log-likelihood " + (
        "unknown" if likelihood is None else f"{likelihood:.3f}"
    )
