"""Options that every command has, added by the command table; and --json and MODEL_DIR, which several have."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tip_adapter.validation import MAX_THREADS
from tip_adapter.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"tip-adapter {__version__}")
        raise typer.Exit


Device = Annotated[str | None, typer.Option(help="cpu, or cuda if ONNX Runtime supports it.", metavar="NAME")]
Threads = Annotated[
    int | None, typer.Option(help="Processor threads; default: one per core.", min=1, max=MAX_THREADS, metavar="N")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Results only: no notes, no progress.")]
Version = Annotated[
    bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True, expose_value=False)
]
Json = Annotated[bool, typer.Option("--json", help="For programs: JSON on stdout, everything else on stderr.")]
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
