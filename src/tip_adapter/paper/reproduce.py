"""Run an experiment and write its results, table and figure to a folder; resume where an earlier run stopped."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from tip_adapter.errors import UsageError
from tip_adapter.io.files import write_file
from tip_adapter.methods import method_class
from tip_adapter.paper.datasets.records import dataset_record
from tip_adapter.paper.draws import NESTED
from tip_adapter.paper.experiments import experiment, tasks
from tip_adapter.paper.measure import run
from tip_adapter.paper.protocols import PROTOCOLS, protocols_for
from tip_adapter.paper.published import Published
from tip_adapter.paper.results import read_results, recording
from tip_adapter.paper.tables import marked, render_table
from tip_adapter.plugins import require_extra, unknown_name
from tip_adapter.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tip_adapter.features.encode import Progress
    from tip_adapter.paper.experiments import Experiment
    from tip_adapter.paper.providers import VectorProvider

#: More shots or a larger seed than this are slips.
_MOST_SHOTS, _LARGEST_SEED = 10_000, 2**32 - 1


@dataclass(frozen=True)
class Reproduction:
    """The outcome of a run.

    Parameters
    ----------
    results : of all requested tasks, known and new
    n_measured : how many of them are new
    n_encoded : number of images encoded
    table : the page, Markdown; empty without results
    """

    results: list[dict[str, Any]]
    n_measured: int
    n_encoded: int
    table: str


def parse_request(name: str, words: Mapping[str, str], draws: str = NESTED) -> Experiment:
    """An experiment, restricted by the options of a command.

    Parameters
    ----------
    name : of the experiment
    words : axis → values separated by commas; axes that are not named stay as the experiment has them
    draws : a key of `DRAWS`

    Raises
    ------
    UnknownName
        There is no such experiment, data set, method or protocol; the nearest is suggested.
    UsageError
        Shots or seeds are no numbers in their bounds; a method is not one of the experiment's.
    """
    restricted = experiment(name).restricted({axis: _READERS[axis](text) for axis, text in words.items()})
    return replace(restricted, draws=draws)


def reproduce(
    wanted: Experiment,
    provider: VectorProvider,
    place: Path,
    *,
    say: Callable[[str], None],
    progress: Progress | None = None,
    drawn: Literal["comparable", "all"] = "comparable",
) -> Reproduction:
    """Measure what is not in a folder yet, and write table and picture.

    Parameters
    ----------
    wanted : Experiment
    provider : VectorProvider, what it is measured on
    place : folder: results.jsonl, NAME.md, NAME.png
    say : called with each message about something missing, once
    progress : called with (results done, results in all)
    drawn : the published numbers that the picture shows, as in `Published`

    Raises
    ------
    ResultsError
        results.jsonl cannot be read, or is of another version.
    NotWritable
        Another run writes there, or with the system's reason; what was measured stays.
    """
    figures = require_extra(
        "tip_adapter.paper.figures", "matplotlib, which draws the figures,", "paper"
    )  # before hours
    wanted = wanted.restricted(provider.axes)
    todo = list(tasks(wanted, partial(_protocols_of, wanted, provider)))
    find = partial(provider.split_vectors, draws=wanted.draws, shots_and_seeds=wanted.shots_and_seeds)
    results, n_measured = [], 0
    with recording(place / "results.jsonl") as append:
        known = read_results(place / "results.jsonl")
        for number, (result, new) in enumerate(run(todo, known, find, say), start=1):
            if result:
                results.append(result)
            if result and new:
                append(result)
                n_measured += 1
            if progress:
                progress(number, len(todo))
    table = ""
    if results:
        together, published = marked(results), Published.of(wanted, drawn)
        table = render_table(wanted, together, published)
        write_file(place / f"{wanted.name}.md", table.encode())
        write_file(place / f"{wanted.name}.png", figures.render_figure(wanted, together, published))
    return Reproduction(results, n_measured, provider.n_encoded, table)


def _protocols_of(
    wanted: Experiment, provider: VectorProvider, method: str, dataset: str, keys: int
) -> tuple[str, ...]:
    """Those that were asked for, where there is something to choose: alpha and beta, or the linear probe's C."""
    capabilities = method_class(method).capabilities
    chooses = capabilities.has_alpha_beta or capabilities.takes_validation
    if wanted.protocols and chooses and keys:
        return wanted.protocols
    return protocols_for(chooses=chooses, shots=keys, has_validation=provider.has_validation(dataset))


# ---- words -----------------------------------------------------------------------------------------------------------


def _methods(text: str) -> tuple[str, ...]:
    found = _parts(text, "--methods")
    for name in found:
        method_class(name)  # also those of other packages; an unknown one is an error with the nearest name
    return found


def _protocols(text: str) -> tuple[str, ...]:
    found = _parts(text, "--protocol")
    for name in found:
        if name not in PROTOCOLS:
            raise unknown_name("protocol", name, PROTOCOLS)
    return found


#: Axis → what reads a person's words for it.
_READERS: dict[str, Callable[[str], tuple[Any, ...]]] = {
    "encoders": lambda text: (text,),
    "datasets": lambda text: tuple(dataset_record(part).name for part in _parts(text, "--datasets")),
    "shots": lambda text: _numbers(text, "--shots", 1, _MOST_SHOTS),
    "seeds": lambda text: _numbers(text, "--seeds", 0, _LARGEST_SEED),
    "methods": _methods,
    "protocols": _protocols,
}


def _parts(text: str, option: str) -> tuple[str, ...]:
    """What commas separate, each once; UsageError if there is nothing."""
    found = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not found:
        raise UsageError(f"{option} takes values separated by commas, not {printable(repr(text))}")
    return found


def _numbers(text: str, option: str, least: int, most: int) -> tuple[int, ...]:
    """Whole numbers that commas separate; UsageError if one is none, or out of bounds."""
    found = _parts(text, option)
    if not all(part.isdecimal() and len(part) < 12 and least <= int(part) <= most for part in found):
        raise UsageError(
            f"{option} takes whole numbers from {least} to {most}, separated by commas, not {printable(text)}"
        )
    return tuple(dict.fromkeys(map(int, found)))
