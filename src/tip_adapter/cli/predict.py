"""`tip-adapter predict`: photos in, names out."""

from __future__ import annotations

import math
import sys
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import tip_adapter
from tip_adapter.cli._answers import HEADER, print_answer, print_cells, print_row
from tip_adapter.cli._options import Json, ModelDir
from tip_adapter.cli._output import notes, print_json, progress_bar, say
from tip_adapter.cli._photos import to_be_named
from tip_adapter.errors import NothingReadable, UsageError
from tip_adapter.images.sorting import TABLE, sorting
from tip_adapter.text import shown
from tip_adapter.validation import AUTO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


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
    link: Annotated[bool, typer.Option("--link", help="With --sort-into: symbolic links instead of copies.")] = False,
    device: str | None = None,
    threads: int | None = None,
    quiet: bool = False,
) -> None:
    """Name photos."""
    if json and as_csv:
        raise UsageError("--json and --csv exclude each other; choose one")
    if explain and as_csv:
        raise UsageError("--explain has more to say than a CSV cell holds; use --json")
    if link and sort_into is None:
        raise UsageError("--link says how photos are sorted; give --sort-into DIR, too")
    show = print_json if json else print_row if as_csv else print_answer
    least = _probability(min_score)
    with notes(quiet), progress_bar("Naming photos", quiet=quiet or sys.stdout.isatty()) as progress:
        if any(image != "-" for image in images):
            _start_decoding()
        model = tip_adapter.FewShotClassifier.load(model_dir, device=device, threads=threads)
        sources = to_be_named(images, sort_into)
        n_images = sum(map(len, sources))
        if as_csv:
            print_cells(HEADER)
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
                    progress(done, n_images)
    _say_what_failed(failed, n_images, quiet)


def _say_what_failed(failed: int, n_images: int, quiet: bool) -> None:
    """Raise if not one photo could be read; a note if some could not."""
    if not n_images:
        raise NothingReadable("there were no paths on stdin")
    if failed == n_images:
        who = "the only photo could not" if failed == 1 else f"none of {failed} photos could"
        raise NothingReadable(f"{who} be read")
    if failed and not quiet:
        say(f"note: {failed} of {n_images} photos could not be read")


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
    from tip_adapter.images.decoding_pool import start_decoding  # here: help needs no NumPy

    start_decoding()


def _probability(text: str) -> float | str:
    """--min-score as a number, or auto."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if text != AUTO and not 0 <= number <= 1:
        raise UsageError(f"--min-score takes a number from 0 to 1, or auto, not {shown(text)}")
    return text if text == AUTO else number
