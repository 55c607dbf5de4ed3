"""`tip-adapter reproduce`: a table or figure of the paper, measured."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument, Option

from tip_adapter.cli._options import (
    Json,
    complete_datasets,
    complete_encoders,
    complete_experiments,
    complete_methods,
    complete_protocols,
)
from tip_adapter.cli._output import notes, print_json, print_line, print_table, progress_reports, say
from tip_adapter.cli.datasets import DataRoot
from tip_adapter.errors import UsageError, warn
from tip_adapter.text import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tip_adapter.features.encode import Progress
    from tip_adapter.paper.providers import VectorProvider

Name = Annotated[
    str | None, Argument(metavar="NAME", help="Such as table2; see --list.", autocompletion=complete_experiments)
]
Protocols = Annotated[
    str | None,
    Option(
        help="fixed, scale-free, leave-one-out, few-validation, full-validation, oracle (an upper bound); if not "
        "given full-validation, or oracle where there is no validation split, and leave-one-out too.",
        metavar="NAME,…",
        autocompletion=complete_protocols,
    ),
]
EncoderName = Annotated[
    str | None,
    Option(
        "--encoder",
        "-e",
        help="Instead of the paper's; see `tip-adapter encoders`.",
        metavar="NAME",
        autocompletion=complete_encoders,
    ),
]
Datasets = Annotated[
    str | None,
    Option(
        help="Instead of the paper's; see `tip-adapter datasets`.", metavar="NAME,…", autocompletion=complete_datasets
    ),
]
Methods = Annotated[
    str | None,
    Option(
        "--methods",
        "-m",
        help="Only these of the experiment's methods, or of other packages'.",
        metavar="NAME,…",
        autocompletion=complete_methods,
    ),
]
DrawsOf = Annotated[
    Literal["nested", "literature"],
    Option(
        help="How photos are drawn: nested, fewer shots within more, or literature, as CoOp's public code.",
        metavar="WAY",
    ),
]
Vectors = Annotated[
    Path | None, Option(help="Stored vectors of one data set, instead of images and encoder.", metavar="FILE")
]
PublishedNumbers = Annotated[
    Literal["comparable", "all"],
    Option(
        help="Published numbers in the picture: comparable, of the same data and encoder, or all, also next to others.",
        metavar="WHICH",
    ),
]
Out = Annotated[Path | None, Option("--out", "-o", help="Folder of the results; default: results/NAME.", metavar="DIR")]


def reproduce(
    name: Name = None,
    listed: Annotated[bool, Option("--list", help="List the tables and figures.")] = False,
    json: Json = False,
    data_root: DataRoot = None,
    encoder: EncoderName = None,
    datasets: Datasets = None,
    shots: Annotated[str | None, Option("--shots", "-k", help="Images per class.", metavar="K,…")] = None,
    seeds: Annotated[str | None, Option(help="Seeds of draws and training.", metavar="S,…")] = None,
    methods: Methods = None,
    protocol: Protocols = None,
    draws: DrawsOf = "nested",
    vectors: Vectors = None,
    published: PublishedNumbers = "comparable",
    out: Out = None,
    device: str | None = None,
    threads: int | None = None,
    quiet: bool = False,
) -> None:
    """Measure a table or figure of the paper: results.jsonl, a Markdown table, a figure."""
    if listed or name is None:
        _list(json)
        return
    from tip_adapter.paper.reproduce import parse_request  # here: help needs no NumPy
    from tip_adapter.paper.reproduce import reproduce as carry_out

    words = {
        "encoders": encoder,
        "datasets": datasets,
        "shots": shots,
        "seeds": seeds,
        "methods": methods,
        "protocols": protocol,
    }
    wanted = parse_request(name, {axis: text for axis, text in words.items() if text is not None}, draws)
    place = out or Path("results") / wanted.name
    missing: list[str] = []

    def miss(text: str) -> None:
        missing.append(text)
        warn(text)

    bars = progress_reports("Measuring", "Encoding images", quiet=quiet)
    with notes(quiet), _resumable(place, quiet=quiet), bars as (measuring, encoding):
        provider = _provider(vectors, data_root, device, threads, encoding)
        if vectors is not None and (encoder or datasets):
            warn("--vectors determines the data set and the encoder; --encoder and --datasets are ignored")
        if protocol and any(block.protocols for block in wanted.blocks):
            warn(f"{wanted.name} has parts with fixed protocols, which --protocol does not change")
        done = carry_out(wanted, provider, place, say=miss, progress=measuring, drawn=published)
    if not done.results:
        why = missing[0] if quiet else "the notes above say what is missing"
        raise UsageError(f"nothing of {wanted.name} could be measured; {why}")
    if json:
        print_json({"experiment": wanted.name, "out": str(place), "results": done.results, "missing": missing})
        return
    for line in done.table.splitlines():
        print_line(line)
    encoded = counted(done.n_encoded, "image was", "images were")
    print_line(f"{counted(done.n_measured, 'result', 'results')} measured now, {encoded} encoded. Written to {place}.")


@contextmanager
def _resumable(place: Path, *, quiet: bool) -> Iterator[None]:
    """On Ctrl-C, say how to resume."""
    try:
        yield
    except KeyboardInterrupt:
        if not quiet:
            say(f"stopped; finished results are in {place}, run the same command again to resume")
        raise


def _provider(
    vectors: Path | None, data_root: Path | None, device: str | None, threads: int | None, encoding: Progress | None
) -> VectorProvider:
    """Where vectors come from: a file, or the data sets' images."""
    from tip_adapter.paper.providers import FileProvider, ImageProvider

    if vectors is not None:
        return FileProvider(vectors)
    if data_root is None:
        raise UsageError("no data: give --data-root DIR (or set TIP_ADAPTER_DATA), or --vectors FILE")
    return ImageProvider(data_root, device, threads, encoding)


def _list(json: bool) -> None:
    from tip_adapter.paper.experiments import ALIASES, experiments

    rows = list(experiments().values())
    if json:
        records = []
        for row in rows:
            axes = {
                axis: list(dict.fromkeys(value for block in row.blocks for value in getattr(block, axis)))
                for axis in ("datasets", "targets", "encoders", "methods", "shots", "seeds")
            }
            records.append({"name": row.name, "title": row.title, **axes, "notes": list(row.notes)})
        print_json({"experiments": records, "aliases": ALIASES})
        return
    also = {name: alias for alias, name in ALIASES.items()}
    shown = [[f"{row.name} (= {also[row.name]})" if row.name in also else row.name, row.title] for row in rows]
    print_table(["name", "what it shows"], shown)
