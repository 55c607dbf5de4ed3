"""Results on stdout, notes and progress on stderr: lines, tables, JSON, progress bars."""

from __future__ import annotations

import io
import json
import math
import os
import re
import sys
import time
import warnings
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from tip_adapter.errors import TipAdapterWarning
from tip_adapter.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from rich.progress import TaskID

#: A cell of a column of numbers: with a unit, or a word or dash where there is none.
_NUMBER = re.compile(r"\d[\d.,]*( (%|MiB|GiB))?|–|unknown")
#: Cells of the first column up to this width are not broken.
_LONG = 28
_BARS = "HF_HUB_DISABLE_PROGRESS_BARS"
#: Seconds between two lines of progress of one kind, where stderr is no terminal.
_BETWEEN_LINES = 10.0
# Line ends to some readers, which JSON does not escape.
_LINE_ENDS = {0x85: r"\u0085", 0x2028: r"\u2028", 0x2029: r"\u2029"}


@contextmanager
def notes(quiet: bool) -> Iterator[None]:
    """Show the package's warnings as notes on stderr; when quiet, show neither warnings nor downloads."""
    with warnings.catch_warnings(), _hidden_downloads() if quiet else nullcontext():
        warnings.simplefilter("ignore")
        if not quiet:
            warnings.simplefilter("always", TipAdapterWarning)
            warnings.showwarning = lambda message, *_: say(f"note: {message}")
        yield


@contextmanager
def _hidden_downloads() -> Iterator[None]:
    """Hide the hub library's progress bars; it reads the environment when it is imported, at the first download."""
    before = os.environ.get(_BARS)
    os.environ[_BARS] = "1"
    try:
        yield
    finally:
        os.environ.pop(_BARS) if before is None else os.environ.update({_BARS: before})


def say(text: str) -> None:
    """A line for people, on stderr; control characters are escaped."""
    print(printable(text), file=sys.stderr, flush=True)


def print_line(text: str) -> None:
    """A line for people, on stdout; control characters in names of files and classes are escaped."""
    print(printable(text), flush=True)


def print_json(record: Mapping[str, Any]) -> None:
    """One object on one line of stdout; in ASCII where stdout is not UTF-8."""
    text = json.dumps(record, ensure_ascii=sys.stdout.encoding.lower() != "utf-8", allow_nan=False)
    print(text.translate(_LINE_ENDS), flush=True)


def stdout_in_unicode() -> None:
    """For CSV, whose names are exact: UTF-8 where stdout has an encoding that lacks letters, such as that of a pipe on Windows."""
    if isinstance(sys.stdout, io.TextIOWrapper) and not sys.stdout.encoding.lower().startswith("utf"):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table for people, on stdout, as wide as the terminal: 80 columns where there is none, unless COLUMNS says otherwise.

    Columns of numbers are aligned right and never broken; names in the first column are broken only where they are long.
    Control characters are escaped.
    """
    from rich import box  # only where a table is shown: rich costs a tenth of a second
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, highlight=False, emoji=False)
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(header, *cells, strict=True)]
    fits = sum(widths) + 3 * (len(widths) - 1) <= console.width
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1) if fits else (0, 1, 0, 0))
    for column, (name, width) in enumerate(zip(header, widths, strict=True)):
        numbers = column > 0 and all(_NUMBER.fullmatch(row[column]) for row in cells)
        whole = numbers or (column == 0 and width <= _LONG)
        table.add_column(name, justify="right" if numbers else "left", overflow="fold", no_wrap=whole)
    for row in cells:
        table.add_row(*row)
    with console.capture() as lines:
        console.print(table)
    print(*map(str.rstrip, lines.get().splitlines()), sep="\n", end="\n\n")


@contextmanager
def progress_bars(*titles: str, quiet: bool) -> Iterator[tuple[Callable[[int, int], None] | None, ...]]:
    """Progress bars on stderr, each moved by (done, total); None if stderr is not a terminal, or when quiet.

    Each appears when it is first moved, and all but the first disappear when they are full.
    """
    if quiet or not sys.stderr.isatty():
        yield (None,) * len(titles)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # Left to itself, the bar would send what is printed to stdout to its own console, stderr.
    bar = Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False)

    def move(task: TaskID, done: int, total: int) -> None:
        bar.update(task, completed=done, total=total, visible=done < total or task == bar.task_ids[0])
        bar.start()  # not before: until the first photos are done, an encoder may show the progress of its download

    try:
        yield tuple(partial(move, bar.add_task(title, total=None, visible=False)) for title in titles)
    finally:
        bar.stop()


@contextmanager
def progress_reports(*titles: str, quiet: bool) -> Iterator[tuple[Callable[[int, int], None] | None, ...]]:
    """`progress_bars` for what takes hours; lines of text where stderr is not a terminal: the first at once, then every ten seconds."""
    if quiet or sys.stderr.isatty():
        with progress_bars(*titles, quiet=quiet) as bars:
            yield bars
        return
    last = dict.fromkeys(titles, -math.inf)

    def write(title: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now - last[title] >= _BETWEEN_LINES:
            last[title] = now
            say(f"{title}: {done:,} of {total:,}")

    yield tuple(partial(write, title) for title in titles)
