"""`tip-adapter predict`: images in, classes out, as lines for people, JSON or CSV; or sorted into folders."""

from __future__ import annotations

import os
import sys
from collections import Counter
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

import tip_adapter
from tip_adapter.cli._options import Json, MinScore, ModelDir, whole
from tip_adapter.cli._output import notes, print_json, print_line, print_table, progress_bars, say, stdout_in_unicode
from tip_adapter.errors import NothingReadable, UsageError, warn
from tip_adapter.features.sources import image_source, is_stored, listed_source
from tip_adapter.images.find import find_images
from tip_adapter.images.list_tables import decoded
from tip_adapter.images.lists import csv_line
from tip_adapter.images.search import SORTED_TABLE
from tip_adapter.images.sorting import outside, sorting
from tip_adapter.io.files import is_folder
from tip_adapter.text import counted, percent, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tip_adapter.features.sources import VectorSource

Images = Annotated[
    list[str],
    Argument(help='Images, folders, lists or stored vectors; "-" reads paths from stdin.', metavar="IMAGE_OR_DIR"),
]
AsCsv = Annotated[
    bool,
    Option(
        "--csv", help="CSV on stdout: image, label, score, error; cells that look like formulas are prefixed with '."
    ),
]
Explain = Annotated[
    bool, Option("--explain", help="Show the training images and the class name behind each prediction.")
]
SortInto = Annotated[
    Path | None,
    Option(
        help="Copy each image into DIR/LABEL; existing files are kept. DIR/sorted.csv records where each went, and why.",
        metavar="DIR",
    ),
]

#: The columns of --csv.
COLUMNS = ("image", "label", "score", "error")


def predict(
    model_dir: ModelDir,
    images: Images,
    json: Json = False,
    as_csv: AsCsv = False,
    top: Annotated[
        int, Option("--top", "-n", help="Number of classes to list, most probable first.", parser=whole(1), metavar="N")
    ] = 5,
    min_score: MinScore = "0",
    explain: Explain = False,
    sort_into: SortInto = None,
    link: Annotated[bool, Option("--link", help="With --sort-into: symbolic links instead of copies.")] = False,
    device: str | None = None,
    threads: int | None = None,
    quiet: bool = False,
) -> None:
    """Classify images."""
    if json and as_csv:
        raise UsageError("--json and --csv exclude each other; choose one")
    if explain and as_csv:
        raise UsageError("an explanation does not fit into CSV; use --explain with --json")
    if link and sort_into is None:
        raise UsageError("--link needs --sort-into DIR")
    show = print_json if json else _print_row if as_csv else _print_answer
    with notes(quiet), progress_bars("Classifying images", quiet=quiet or sys.stdout.isatty()) as (progress,):
        if any(image != "-" for image in images):
            from tip_adapter.images.decoding_pool import start_decoding  # here: help needs no NumPy

            start_decoding()  # the first decoding process starts while the model loads
        model = tip_adapter.FewShotClassifier.load(model_dir, device=device, threads=threads)
        sources = _sources(images, sort_into)
        n_images = sum(map(len, sources))
        if as_csv:
            stdout_in_unicode()
            print(csv_line(COLUMNS), flush=True)
        answer = model.explain_stream if explain else model.predict_stream
        records = (record for source in sources for record in answer(source, top=top, min_score=min_score))
        n_failed = 0
        with _sorting(sort_into, sources, link=link, quiet=quiet, table=show is _print_answer) as put:
            for done, record in enumerate(records, start=1):
                show(record)
                put(record)
                n_failed += record["error"] is not None
                if progress:
                    progress(done, n_images)
    _report_unreadable(n_failed, n_images, quiet=quiet)


# ---- images in -------------------------------------------------------------------------------------------------------


def _sources(images: Sequence[str], sort_into: Path | None) -> list[VectorSource]:
    """The images of all arguments, without those that are sorted already.

    Each folder and each file of vectors is a source; consecutive images are one source together.
    """
    inputs = [path for image in images for path in (_stdin_paths() if image == "-" else [image])]
    found: list[VectorSource] = []
    for is_whole, group in groupby(inputs, key=lambda image: is_folder(Path(image)) or is_stored(image)):
        if is_whole:
            found.extend(map(image_source, group))
        else:
            found.append(listed_source([path for image in group for path in find_images(image)]))
    if sort_into is None:
        return found
    left = [source.take(outside(source.photos, sort_into)) for source in found]
    n_found, n_left = sum(map(len, found)), sum(map(len, left))
    if n_found and not n_left:
        raise UsageError(f"every image is in {printable(sort_into)} already; choose another folder to sort into")
    if n_left < n_found:
        is_in = "image is" if n_found == 1 else "images are"
        warn(f"{n_found - n_left} of {n_found} {is_in} in {printable(sort_into)} already, and not sorted again")
    return left


def _stdin_paths() -> list[str]:
    """One path a line, or each ended by NUL (`find -print0`); other line ends of Unicode may be in a path."""
    content = sys.stdin.buffer.read()
    text = content.decode("utf-8", "surrogateescape")
    if b"\0" in content or text.startswith("\ufeff"):
        try:
            text, _ = decoded(content)
        except ValueError as error:
            raise UsageError(f"cannot read paths from stdin: {printable(str(error))}") from error
    lines = text.split("\0") if "\0" in text else [line.removesuffix("\r") for line in text.split("\n")]
    return [os.fsdecode(line.encode("utf-8", "surrogateescape")) for line in lines if line.strip()]


# ---- answers out -----------------------------------------------------------------------------------------------------


def _print_row(record: Mapping[str, Any]) -> None:
    print(csv_line([record[name] for name in COLUMNS]), flush=True)


def _print_answer(record: Mapping[str, Any]) -> None:
    """The predicted class, the other classes, and the explanation if there is one; an unreadable image on stderr."""
    if record["error"]:
        say(f"error: {record['error']}")
        return
    name, *others = [f"{entry['label']} {percent(entry['score'])}" for entry in record["top"]]
    others = [other for other in others if not other.endswith(f" {percent(0)}")]
    if record["label"] is None:
        name, others = "none of these", [name, *others]
    print_line(f"{record['image']}: {name}" + (f"   ({', '.join(others)})" if others else ""))
    for role, evidence in zip(("because", "next"), record.get("explanation", []), strict=False):
        print_line(f"  {role}: {evidence['label']}, logit {evidence['logit']:.2f} ({percent(evidence['score'])})")
        for image in evidence["images"]:
            print_line(f"    {image['part']:+9.2f}  image {image['id']}")
        if evidence["n_others"]:
            print_line(
                f"    {evidence['others']:+9.2f}  {counted(evidence['n_others'], 'other image', 'other images')}"
            )
        if evidence["name"] is not None:
            print_line(f"    {evidence['text']:+9.2f}  class name “{evidence['name']}”")


def _report_unreadable(n_failed: int, n_images: int, *, quiet: bool) -> None:
    """Raise NothingReadable if every image failed; a note if some did."""
    if not n_images:
        raise NothingReadable("stdin contains no paths")
    if n_failed == n_images:
        raise NothingReadable(
            "the only image could not be read" if n_failed == 1 else f"none of {n_failed:,} images could be read"
        )
    if n_failed and not quiet:
        say(f"note: {n_failed:,} of {n_images:,} images could not be read")


@contextmanager
def _sorting(
    folder: Path | None, sources: Sequence[VectorSource], *, link: bool, quiet: bool, table: bool
) -> Iterator[Callable[[Mapping[str, Any]], object]]:
    """A function that sorts the next image of the sources by its record; it does nothing without a folder to sort into.

    With `table`, the number of images of each class follows.
    """
    if folder is None:
        yield lambda *_: None
        return
    with sorting(folder, link=link) as sorter:
        paths = (path for source in sources for path in source.photos)
        places: list[str | None] = []
        yield lambda record: places.append(sorter.put(next(paths), record))
    if table:
        n_images = Counter(Path(place).parts[0] for place in places if place is not None)
        print()
        print_table(["sorted into", "images"], [[name, str(n)] for name, n in sorted(n_images.items())])
    if not quiet:
        done = f"{counted(sorter.n_placed, 'image', 'images')} {'linked' if link else 'copied'}"
        say(f"note: {done}, {sorter.n_present} there already; see {folder / SORTED_TABLE}")
