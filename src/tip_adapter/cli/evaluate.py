"""`tip-adapter evaluate`: the accuracy of a classifier on labelled images."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

import tip_adapter
from tip_adapter.cli._options import Json, MinScore, ModelDir
from tip_adapter.cli._output import notes, print_json, print_line, print_table, progress_bars, say
from tip_adapter.cli._words import accuracy_in_words, interval_in_words, occasion, training_images, training_in_words
from tip_adapter.errors import UsageError
from tip_adapter.images.lists import csv_line
from tip_adapter.io.files import refuse_existing, write_file
from tip_adapter.report import N_MISTAKES, evaluation_page, paths_by_id, refuse_unreplaceable, write_page
from tip_adapter.text import counted, percent
from tip_adapter.validation import AUTO

if TYPE_CHECKING:
    from collections.abc import Sequence

    #: Id, label, predicted label, score; unreadable images have neither.
    Answer = tuple[str, str, str | None, float | None]

#: Of --predictions.
COLUMNS = ("image", "label", "predicted", "score")


def evaluate(
    model_dir: ModelDir,
    test_dir: Annotated[
        Path,
        Argument(metavar="TEST_DIR", help="Class folders, a split folder (its test part), a list, or stored vectors."),
    ],
    json: Json = False,
    min_score: MinScore = "0",
    predictions: Annotated[
        Path | None,
        Option(help="Write a CSV file with a row for each image: image, label, predicted, score.", metavar="FILE"),
    ] = None,
    report: Annotated[
        Path | None, Option(help="Write an HTML report, DIR/index.html; an older report is replaced.", metavar="DIR")
    ] = None,
    photos: Annotated[
        list[Path] | None,
        Option(help="With --report: the training images, to show them; may be repeated.", metavar="TRAIN_DIR"),
    ] = None,
    force: Annotated[
        bool, Option("--force", "-f", help="Replace FILE, and write the report into a folder with other files.")
    ] = False,
    device: str | None = None,
    threads: int | None = None,
    quiet: bool = False,
) -> None:
    """Measure the accuracy of a classifier on labelled images."""
    if report is None and photos:
        raise UsageError("--photos applies to --report only; give --report DIR, too")
    if force and report is None and predictions is None:
        raise UsageError("--force applies to --report and --predictions; give one of them, too")
    if predictions and not force:
        refuse_existing(predictions)
    if report and not force:
        refuse_unreplaceable(report)
    with notes(quiet), progress_bars("Reading images", quiet=quiet) as (progress,):
        model = tip_adapter.FewShotClassifier.load(model_dir, device=device, threads=threads)
        support = training_images(photos or [], model.head_.support.ids.tolist()) if report else {}
        accumulator = model.head_.new_accumulator(N_MISTAKES if report else 0)
        least = model.head_.threshold if min_score == AUTO else float(min_score)
        record = model.evaluate_folder(test_dir, progress=progress, accumulator=accumulator)
    answers = list(accumulator.answers(least))
    if least:
        record["none_of_these"] = _none_of_these(answers, least, record["unknown_classes"])
    if predictions:
        rows = [csv_line(COLUMNS), *map(csv_line, answers)]
        write_file(predictions, "".join(f"{row}\n" for row in rows).encode(), replace=force)
    if json:
        print_json(record)
    else:
        _print(record, training_in_words(model.head_.training))
    if report:
        made = occasion(model_dir, asdict(model.encoder_.identity))
        page = evaluation_page(model.head_, record, accumulator, made, paths_by_id(test_dir, part="test"), support)
        say(f"Report: {write_page(report, page, force=force)}")


def _none_of_these(answers: Sequence[Answer], min_score: float, unknown: Sequence[str]) -> dict[str, Any]:
    """What becomes of the figures if images below a score are given no class."""
    rejected = [label for _, label, predicted, score in answers if predicted is None and score is not None]
    answered = [(label, predicted) for _, label, predicted, _ in answers if predicted is not None]
    n_right = sum(label == predicted for label, predicted in answered)
    return {
        "min_score": min_score,
        "n": len(rejected),
        "n_of_unknown_classes": sum(label in unknown for label in rejected),
        "n_answered": len(answered),
        "accuracy_of_answered": n_right / len(answered) if answered else None,
    }


def _print(record: dict[str, Any], trained: str) -> None:
    rows = [
        [label, percent(entry["accuracy"]), str(entry["n"])]
        for label, entry in sorted(record["per_class"].items(), key=lambda item: item[1]["accuracy"])
    ]
    print_table(["class, hardest first", "accuracy", "images"], rows)
    interval = interval_in_words(record["accuracy_interval"])
    print_line(f"{accuracy_in_words(record['accuracy'], record['n_images'], interval).capitalize()}.")
    mean, by_name = percent(record["mean_per_class_accuracy"]), record["zero_shot_accuracy"]
    zero_shot = "none, the encoder reads no names" if by_name is None else percent(by_name)
    print_line(f"Mean over classes: {mean}. Zero-shot (class names only): {zero_shot}.")
    if "none_of_these" in record:
        print_line(_rejections_in_words(record["none_of_these"]))
    before, after = (_figures(record["calibration"][when]) for when in ("before", "after"))
    is_plain = record["calibration"]["temperature"] == 1
    compared = "no temperature was fitted" if is_plain else f"without the temperature: {before}"
    print_line(f"Calibration: {after}; {compared}.")
    if trained:
        print_line(trained)
    if record["n_failed"]:
        print_line(f"Not counted: {counted(record['n_failed'], 'unreadable image', 'unreadable images')}.")
    if record["unknown_classes"]:
        print_line(f"Classes unknown to the model, counted as wrong: {', '.join(record['unknown_classes'])}.")
    print_line(f"{record['seconds']:.1f} s, {record['images_per_second']:.0f} images per second.")


def _rejections_in_words(none: dict[str, Any]) -> str:
    rejected = f"{counted(none['n'], 'image is', 'images are')} “none of these”"
    if none["n_of_unknown_classes"]:
        of_unknown = "a class" if none["n_of_unknown_classes"] == 1 else "classes"
        rejected += f", {none['n_of_unknown_classes']} of them of {of_unknown} unknown to the model"
    accuracy = none["accuracy_of_answered"]
    others = (
        "no image is given a class"
        if accuracy is None
        else f"of the other {none['n_answered']}, {percent(accuracy)} are right"
    )
    return f"Below a score of {none['min_score']:.3g}, {rejected}; {others}."


def _figures(calibration: dict[str, Any]) -> str:
    likelihood = calibration["negative_log_likelihood"]
    shown = "unknown" if likelihood is None else f"{likelihood:.3f}"
    return f"ECE {percent(calibration['ece'])}, negative log-likelihood {shown}"
