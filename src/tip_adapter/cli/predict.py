"""`tip-adapter predict`: photos in, names out."""

from __future__ import annotations

import math
import os
import sys
from contextlib import contextmanager
from itertools import groupby, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import tip_adapter
from tip_adapter.arguments import AUTO
from tip_adapter.cli._everywhere import Device, Json, ModelDir, Quiet, Threads, Version
from tip_adapter.cli._output import notes, print_json, print_line, progress_bar, say
from tip_adapter.errors import NothingReadable, UsageError, counted, percent, printable, shown, warn
from tip_adapter.photos.find import find_photos, is_folder
from tip_adapter.photos.lists import csv_line
from tip_adapter.photos.sort import TABLE, outside, sorting
from tip_adapter.sources import is_stored, listed_source, photo_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tip_adapter.readers import VectorSource


def predict(
    model_dir: ModelDir,
    images: Annotated[
        list[str],
        typer.Argument(
            help='Photos, folders, lists or stored vectors; "-" reads paths from stdin.', metavar="IMAGE_OR_DIR"
        ),
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
        str,
        typer.Option(
            help="Below this probability: none of these; auto: the model's own threshold, found by leaving photos out.",
            metavar="P|auto",
        ),
    ] = "0",
    explain: Annotated[
        bool, typer.Option("--explain", help="Say why: the photos and the name that weighed most.")
    ] = False,
    sort_into: Annotated[
        Path | None,
        typer.Option(
            help="Copy each photo into DIR/LABEL; what is there already stays. DIR/sorted.csv says what went where, and why.",
            metavar="DIR",
        ),
    ] = None,
    link: Annotated[
        bool, typer.Option("--link", help="With --sort-into: symbolic links in the place of copies.")
    ] = False,
    device: Device = None,
    threads: Threads = None,
    quiet: Quiet = False,
    version: Version = False,
) -> None:
    """Name photos."""
    if json and as_csv:
        raise UsageError("--json and --csv exclude each other; choose one")
    if explain and as_csv:
        raise UsageError("--explain has more to say than a CSV cell holds; use --json")
    if link and sort_into is None:
        raise UsageError("--link says how photos are sorted; give --sort-into DIR, too")
    show = print_json if json else _print_csv if as_csv else _print_line
    least = _probability(min_score)
    with notes(quiet), progress_bar("Naming photos", quiet=quiet or sys.stdout.isatty()) as progress:
        if any(image != "-" for image in images):
            _start_decoding()
        model = tip_adapter.FewShotClassifier.load(model_dir, device=device, threads=threads)
        sources = _to_be_named(images, sort_into)
        n_photos = sum(map(len, sources))
        if as_csv:
            _print_cells(["image", "label", "score", "error"])
        failed = 0
        answer = model.explain_stream if explain else model.predict_stream
        records = (record for source in sources for record in answer(source, top=top, min_score=least))
        photos = (photo for source in sources for photo in source.photos) if sort_into else repeat(None)
        with _sorting(sort_into, link, quiet) as put:
            for done, (record, photo) in enumerate(zip(records, photos, strict=False), start=1):
                show(record)
                put(photo, record)
                failed += record["error"] is not None
                if progress:
                    progress(done, n_photos)
    _say_what_failed(failed, n_photos, quiet)


def _say_what_failed(failed: int, n_photos: int, quiet: bool) -> None:
    """Raise if not one photo could be read; a note if some could not."""
    if not n_photos:
        raise NothingReadable("there were no paths on stdin")
    if failed == n_photos:
        who = "the only photo could not" if failed == 1 else f"none of {failed} photos could"
        raise NothingReadable(f"{who} be read")
    if failed and not quiet:
        say(f"note: {failed} of {n_photos} photos could not be read")


def _to_be_named(images: Sequence[str], sort_into: Path | None) -> list[VectorSource]:
    """The photos of all arguments, but those that are sorted already."""
    found = list(_sources(_inputs(images)))
    if sort_into is None:
        return found
    left = [source.take(outside(source.photos, sort_into)) for source in found]
    n_found, n_left = sum(map(len, found)), sum(map(len, left))
    if n_found and not n_left:
        raise UsageError(f"every photo lies in {printable(sort_into)} already; choose another folder to sort into")
    if n_left < n_found:
        warn(f"{n_found - n_left} of {n_found} photos lie in {printable(sort_into)} already and stay there")
    return left


@contextmanager
def _sorting(folder: Path | None, link: bool, quiet: bool) -> Iterator[Callable[[Any, dict[str, Any]], object]]:
    """What to do with a photo and its answer: nothing, unless there is a folder to sort into."""
    if folder is None:
        yield lambda *_: None
        return
    with sorting(folder, link=link) as sorter:
        yield sorter.put
    if not quiet:
        how = "linked" if link else "copied"
        say(
            f"note: {sorter.n_placed} photos {how}, {sorter.n_present} there already; {folder / TABLE} says what and why"
        )


def _start_decoding() -> None:
    """Let the first decoding process get ready while the model loads."""
    from tip_adapter.photos.processes import start_decoding  # here: help needs no NumPy

    start_decoding()


def _inputs(images: Sequence[str]) -> list[str]:
    """The arguments, "-" replaced by the paths on stdin, one a line."""
    return [path for image in images for path in (_stdin_paths() if image == "-" else [image])]


def _sources(inputs: Sequence[str]) -> Iterator[VectorSource]:
    """Each folder and each file of vectors for itself; photos that follow one another in one stream."""
    for is_whole, group in groupby(inputs, key=lambda image: is_folder(Path(image)) or is_stored(image)):
        if is_whole:
            yield from map(photo_source, group)
        else:
            yield listed_source([photo for image in group for photo in find_photos(image)])


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
    for number, evidence in enumerate(record.get("explanation", [])):
        _print_evidence(evidence, "because" if number == 0 else "next")


def _print_evidence(evidence: dict[str, Any], role: str) -> None:
    """A logit taken apart, in points: the photos that weighed most, the other photos, the name."""
    print_line(f"  {role}: {evidence['label']}, {evidence['logit']:.2f} points ({percent(evidence['score'])})")
    for photo in evidence["photos"]:
        print_line(f"    {photo['part']:+9.2f}  looks like {photo['id']}")
    if evidence["n_others"]:
        others = counted(evidence["n_others"], "other photo", "other photos")
        print_line(f"    {evidence['others']:+9.2f}  {others} of {evidence['label']}")
    print_line(f"    {evidence['text']:+9.2f}  the name “{evidence['name']}”")


def _probability(text: str) -> float | str:
    """--min-score as a number, or auto."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if text != AUTO and not 0 <= number <= 1:
        raise UsageError(f"--min-score takes a number from 0 to 1, or auto, not {shown(text)}")
    return text if text == AUTO else number


def _print_csv(record: dict[str, Any]) -> None:
    _print_cells([record["image"], record["label"], record["score"], record["error"]])


def _print_cells(cells: Sequence[Any]) -> None:
    print(csv_line(cells), flush=True)
