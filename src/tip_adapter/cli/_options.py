"""Options that every or several commands have; what parses the values of options, and what completes them."""

from __future__ import annotations

import inspect
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tip_adapter import validation
from tip_adapter.errors import UsageError
from tip_adapter.text import shown, suggestion
from tip_adapter.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"tip-adapter {__version__}")
        raise typer.Exit


# ---- parsers of values; typer's own would answer in the words of the library it uses ---------------------------------


def whole(least: int, most: int | None = None) -> Callable[[Any], int]:
    """A parser of whole numbers within bounds."""

    def parse(text: Any) -> int:
        with suppress(ValueError):
            text = int(text)
        try:
            return validation.integer(text, "", least, most)
        except UsageError as error:
            raise typer.BadParameter(str(error).strip()) from error

    return parse


def real(text: Any) -> float:
    """A parser of numbers; the library knows their bounds."""
    try:
        return float(text)
    except ValueError as error:
        raise typer.BadParameter(f"takes a number, not {shown(text)}") from error


def probability_or_auto(text: Any) -> float | str:
    """A parser of a probability, or of `auto`."""
    if text == validation.AUTO:
        return validation.AUTO
    with suppress(ValueError):
        if 0 <= float(text) <= 1:
            return float(text)
    raise typer.BadParameter(f"takes a number from 0 to 1, or auto, not {shown(text)}")


def one_of(*choices: str) -> Callable[[str], str]:
    """A parser of a word among several."""

    def parse(text: str) -> str:
        if text in choices:
            return text
        near = suggestion(text, choices)
        raise typer.BadParameter(f"takes {' or '.join(choices)}, not {shown(text)}{near and f'; {near.rstrip()}'}")

    return parse


# ---- completion ------------------------------------------------------------------------------------------------------


def complete_methods(incomplete: str) -> list[str]:
    """Methods."""
    from tip_adapter.methods import AUTO, method_names  # here: help imports nothing heavy

    return _completed(incomplete, [AUTO, *method_names()])


def complete_encoders(incomplete: str) -> list[str]:
    """Encoders, and the families of encoders with their colon."""
    from tip_adapter.encoders import encoder_families, encoder_names
    from tip_adapter.encoders.onnx.catalogue import named_clips

    return _completed(incomplete, [*encoder_names(), *named_clips(), *(f"{name}:" for name in encoder_families())])


def complete_protocols(incomplete: str) -> list[str]:
    """Protocols of `reproduce`."""
    from tip_adapter.paper.protocols import PROTOCOLS

    return _completed(incomplete, PROTOCOLS)


def complete_datasets(incomplete: str) -> list[str]:
    """Data sets of the paper."""
    from tip_adapter.paper.datasets.records import dataset_records

    return _completed(incomplete, dataset_records())


def complete_experiments(incomplete: str) -> list[str]:
    """Tables and figures of the paper."""
    from tip_adapter.paper.experiments import ALIASES, experiments

    return _completed(incomplete, [*experiments(), *ALIASES])


def _completed(incomplete: str, names: Iterable[str]) -> list[str]:
    """Names for the last item of a list separated by commas; typer drops those that do not begin as typed."""
    earlier = incomplete[: incomplete.rfind(",") + 1]
    return [f"{earlier}{name}" for name in names]


# ---- options ---------------------------------------------------------------------------------------------------------

Device = Annotated[str | None, typer.Option(help="cpu, or cuda if ONNX Runtime supports it.", metavar="NAME")]
Threads = Annotated[
    int | None,
    typer.Option(
        help="Processor threads, at most 256; default: as many as it may use.",
        parser=whole(1, validation.MAX_THREADS),
        metavar="N",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Results only: no notes, no progress.")]
Version = Annotated[
    bool,
    typer.Option(
        "--version", "-V", help="Show the version.", callback=_show_version, is_eager=True, expose_value=False
    ),
]
Json = Annotated[bool, typer.Option("--json", help="For programs: JSON on stdout, everything else on stderr.")]
MinScore = Annotated[
    str,
    typer.Option(
        help="Answer “none of these” below this probability; auto: the model's leave-one-out threshold.",
        parser=probability_or_auto,
        metavar="P|auto",
    ),
]
ModelDir = Annotated[Path, typer.Argument(metavar="MODEL_DIR", help="A model folder, made by `tip-adapter fit`.")]


def _of_every_command(
    device: Device = None, threads: Threads = None, quiet: Quiet = False, version: Version = False
) -> None:
    """The options, for its signature."""


def with_common_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options of every command to a function, which receives those that its own signature names."""
    own, common = (inspect.signature(f, eval_str=True).parameters for f in (function, _of_every_command))

    def command(**arguments: Any) -> None:
        function(**{name: value for name, value in arguments.items() if name in own})

    specific = [parameter for name, parameter in own.items() if name not in common]
    command.__signature__ = inspect.Signature([*specific, *common.values()])  # type: ignore[attr-defined]
    command.__doc__ = function.__doc__
    return command
