"""What stands on every command, or on several: --device, --threads, --quiet, --version; --json; MODEL_DIR."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tip_adapter.validation import MAX_THREADS
from tip_adapter.version import __version__


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"tip-adapter {__version__}")
        raise typer.Exit


Device = Annotated[str | None, typer.Option(help="cpu, or cuda where ONNX Runtime has it.", metavar="NAME")]
Threads = Annotated[
    int | None,
    typer.Option(help="Processor threads; one per core if not given.", min=1, max=MAX_THREADS, metavar="N"),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Results only: no notes, no progress.")]
Version = Annotated[
    bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True, expose_value=False)
]
Json = Annotated[bool, typer.Option("--json", help="For machines: JSON on stdout, everything else on stderr.")]
ModelDir = Annotated[Path, typer.Argument(metavar="MODEL_DIR", help="A folder that `tip-adapter fit` made.")]
