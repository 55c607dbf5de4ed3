"""Results to stdout, everything else to stderr: notes, tables, progress, JSON."""

from __future__ import annotations

import json
import os
import sys
import warnings
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from tip_adapter.errors import TipAdapterWarning
from tip_adapter.text import counted, percent, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from rich.progress import TaskID

    from tip_adapter.methods.tuning import Choice
    from tip_adapter.model.head import Head


_BARS = "HF_HUB_DISABLE_PROGRESS_BARS"
# What some readers of lines take for the end of one, and JSON does not escape by itself.
_LINE_ENDS = {0x85: r"\u0085", 0x2028: r"\u2028", 0x2029: r"\u2029"}


@contextmanager
def notes(quiet: bool) -> Iterator[None]:
    """Within, the package's warnings are notes on stderr, or nothing when quiet; nor are downloads shown then."""
    with warnings.catch_warnings(), _without_bars_of_downloads() if quiet else nullcontext():
        warnings.simplefilter("ignore")
        if not quiet:
            warnings.simplefilter("always", TipAdapterWarning)
            warnings.showwarning = lambda message, *_: say(f"note: {message}")
        yield


@contextmanager
def _without_bars_of_downloads() -> Iterator[None]:
    """The hub's library shows its own, and asks the environment when it is imported, at the first download."""
    before = os.environ.get(_BARS)
    os.environ[_BARS] = "1"
    try:
        yield
    finally:
        os.environ.pop(_BARS) if before is None else os.environ.update({_BARS: before})


def say(text: str) -> None:
    """A line for people, on stderr; nothing in it can steer a terminal."""
    print(printable(text), file=sys.stderr, flush=True)


def print_line(text: str) -> None:
    """A line for people, on stdout; nothing in it, such as the name of a file or a class, can steer a terminal."""
    print(printable(text), flush=True)


def print_json(record: dict[str, Any]) -> None:
    """One object on one line of stdout; in ASCII where stdout is not UTF-8."""
    text = json.dumps(record, ensure_ascii=sys.stdout.encoding.lower() != "utf-8", allow_nan=False)
    print(text.translate(_LINE_ENDS), flush=True)


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table for people, on stdout; columns of numbers are aligned right, and nothing in it can steer a terminal."""
    from rich import box  # only where a table is shown: rich costs a tenth of a second
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column, name in enumerate(header):
        numbers = all(row[column][:1].isdigit() for row in rows)
        table.add_column(name, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(printable, row))
    Console(width=None if sys.stdout.isatty() else 120, markup=False, highlight=False, emoji=False).print(table)
    print()


@contextmanager
def progress_bar(title: str, *, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on stderr that is moved by (done, all); None where stderr is no terminal, or when quiet."""
    with progress_bars(title, quiet=quiet) as (move,):
        yield move


@contextmanager
def progress_bars(*titles: str, quiet: bool) -> Iterator[tuple[Callable[[int, int], None] | None, ...]]:
    """Bars below each other, as `progress_bar`, each from when it is first moved; all but the first go when they are full."""
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


#: What a result says of training (`VectorClassifier.training`) → a sentence.
_TRAINING = {
    "C": "C {C:.4g}: {searched_by}.",
    "epochs": "Trained for {epochs} epochs (the paper: {papers_epochs}).",
    "prompt_tower": "The context stands in {prompt_tower}.",
}
_SEARCHED_BY = {
    "given": "given",
    "validation": "searched on the validation photos",
    "cross-validation": "searched by leaving parts of the photos out",
    "nothing": "fewer than two classes have a second photo to search it by",
}


def training_in_words(training: Mapping[str, Any]) -> str:
    """How it was trained; empty where nothing was."""
    facts = {**training, "searched_by": _SEARCHED_BY.get(training.get("searched_by", ""))}
    return " ".join(sentence.format(**facts) for name, sentence in _TRAINING.items() if name in training)


def outcome_in_words(head: Head) -> str:
    """What was chosen and how it was trained."""
    chosen = _choice_in_words(head, head.choice) if head.choice else ""
    return (
        " ".join(filter(None, [chosen, training_in_words(head.training)]))
        or f"{head.method} has nothing to choose{_BY_NAMES[head.estimator.capabilities.needs_images]}."
    )


#: Whether photos teach a method → why there is nothing to choose.
_BY_NAMES = {False: ": the class names alone decide", True: ""}


def _choice_in_words(head: Head, choice: Choice) -> str:
    """The pair, how it was chosen, and how right it was on the photos it was chosen on."""
    how = {
        "leave-one-out": "chosen by leaving each photo out",
        "scale-free": "set from the photos' own spread (scale-free)",
        "validation": "chosen on the validation photos",
        "fixed": "given",
    }[choice.rule]
    pair = f"alpha {choice.alpha:.4g}, beta {choice.beta:.4g}: {how}."
    if choice.accuracy is None:
        return f"{pair} Its accuracy is unknown: no class has two photos."
    if choice.rule == "validation":
        on = counted(choice.n_rows, "validation photo", "validation photos")
        return f"{pair} Of {on} {percent(choice.accuracy)} were named right."
    since = "before photos came or went" if head.left_out is None else "before the keys were fine-tuned"
    before = f", {since}" if head.left_out is None or head.estimator.learned() else ""
    on = counted(choice.n_rows, "photo", "photos")
    return f"{pair} Of {on}, each left out in turn, {percent(choice.accuracy)} were named right{before}."
