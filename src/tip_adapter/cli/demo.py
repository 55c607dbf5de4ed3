"""`tip-adapter demo`: three methods compared on a few photos."""

from __future__ import annotations

import time
from importlib.resources import files
from json import loads
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

import tip_adapter
from tip_adapter.cli._options import Json, whole
from tip_adapter.cli._output import notes, print_json, print_line, print_table, progress_bars
from tip_adapter.cli._words import interval_in_words
from tip_adapter.errors import warn
from tip_adapter.features.sources import encode_labelled, found_source
from tip_adapter.images.lists import write_list
from tip_adapter.images.sampling import draw_train_and_test
from tip_adapter.plugins import require_extra
from tip_adapter.text import counted, percent
from tip_adapter.validation import MAX_SEED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tip_adapter.encoders import Encoder
    from tip_adapter.vectors import SupportSet

METHODS = {
    "zero-shot": "zero-shot",
    "text-offset": "text-offset",
    "tip-adapter": "Tip-Adapter",
    "tip-adapter-f": "Tip-Adapter-F",
}
TEST_PHOTOS = 100
HARD = (
    "Local defects of a few threads are hard to see in one embedding of a whole photo; everyday objects are far easier."
)
NEXT = """
Next, with your own photos:
  put the photos of each class into a folder of its own, photos/cat/..., photos/dog/..., then
  tip-adapter fit photos --out model
  tip-adapter predict model some-photo.jpg
"""


def demo(
    folder: Annotated[
        Path | None, Argument(metavar="DIR", help="Class folders, a split folder or a list; else the demo photos.")
    ] = None,
    shots: Annotated[
        int, Option("--shots", "-k", help="Training images per class.", parser=whole(1), metavar="K")
    ] = 16,
    seed: Annotated[int, Option(help="Seed of sampling and training.", parser=whole(0, MAX_SEED), metavar="S")] = 0,
    lists: Annotated[
        Path | None, Option(help="Write the sampled images there, as train.csv and test.csv.", metavar="OUT_DIR")
    ] = None,
    json: Json = False,
    device: str | None = None,
    threads: int | None = None,
    quiet: bool = False,
) -> None:
    """Try it: the default method, zero-shot, Tip-Adapter and Tip-Adapter-F on a few photos."""
    source = folder or _textile_photos()
    if not folder and not json:
        _print_measured()
    train, test = draw_train_and_test(source, shots, TEST_PHOTOS, seed)
    if lists:
        write_list(lists / "train.csv", train.paths, train.labels)
        write_list(lists / "test.csv", test.paths, test.labels)
    encoder = tip_adapter.load_encoder(device=device, threads=threads)
    with notes(quiet), progress_bars("Reading images", quiet=quiet) as (progress,):
        warn(*dict.fromkeys([*train.notes, *test.notes]))
        support, queries = (
            encode_labelled(found_source(photos), encoder, threads=threads, progress=progress)[0]
            for photos in (train, test)
        )
        records = _compare(encoder, seed, support, train.classes, queries)
    of_cache = records["tip-adapter"]
    result = {
        "dataset": source.resolve().name,
        "n_shots": shots,
        "n_test": of_cache["n_images"],
        "seed": seed,
        "encoder": encoder.identity.name,
        "protocol": of_cache["protocol"],
    }
    for method, record in records.items():
        result[method.replace("-", "_")] = {"accuracy": record["accuracy"], "seconds": record["seconds"]}
    if json:
        print_json(result)
    else:
        _print(source.resolve().name if folder else "A hard case, run now: simulated photos of cloth", result, records)
        print(NEXT if folder else f"{HARD}\n{NEXT}")


def _compare(
    encoder: Encoder, seed: int, support: SupportSet, classes: Sequence[str], queries: SupportSet
) -> dict[str, dict[str, Any]]:
    """Each method fitted and scored: method → the record of its evaluation, and seconds."""
    encoder.encode_texts(classes)  # what all methods need is loaded here, not on the first one's clock
    models = {method: tip_adapter.FewShotClassifier(encoder, method, seed=seed) for method in METHODS}
    records = {}
    for method, model in models.items():
        started = time.perf_counter()
        record = model.fit_support(support, classes).evaluate_support(queries)
        records[method] = {**record, "seconds": time.perf_counter() - started}
    return records


def _textile_photos() -> Path:
    package = require_extra("conformal_clip_data", "the demo's photos (conformal-clip-data)", "demo")
    return Path(package.textile_simulated_root())


def _print_measured() -> None:
    """Accuracies on photos of everyday objects, which the demo does not have: as measured for docs/results."""
    record = loads((files("tip_adapter.cli") / "caltech101.json").read_text(encoding="utf-8"))
    print_line(f"Photos of everyday objects and animals: Caltech101, 100 classes, {record['n_test']:,} test photos")
    print()
    shots = list(record["accuracy"]["zero-shot"])
    rows = [[name, *(percent(record["accuracy"][method][k]) for k in shots)] for method, name in METHODS.items()]
    print_table(["photos per class", *shots], rows)
    print_line(f"Not run now, but measured on {record['date']}: {record['command']}")
    print()


def _print(title: str, result: dict[str, Any], records: dict[str, dict[str, Any]]) -> None:
    classes = records["zero-shot"]["per_class"]
    rows = [[label, *(percent(r["per_class"][label]["accuracy"]) for r in records.values())] for label in classes]
    rows.append(["all", *(percent(r["accuracy"]) for r in records.values())])
    rows.append(["seconds", *(f"{r['seconds']:.1f}" for r in records.values())])
    shots = counted(result["n_shots"], "training image", "training images")
    print_line(f"{title}, {shots} per class, {counted(result['n_test'], 'test image', 'test images')}")
    print()
    print_table(["class", *METHODS.values()], rows)
    print_line(f"Tip-Adapter's accuracy: {interval_in_words(records['tip-adapter']['accuracy_interval'])}.")
