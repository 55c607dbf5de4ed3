"""The command line: a table of commands; one file per command, which parses arguments, calls the library and prints."""

from __future__ import annotations

import io
import sys
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from tip_adapter.cli._options import Device, Quiet, Threads, Version, with_common_options
from tip_adapter.cli._output import say
from tip_adapter.errors import TipAdapterError, UsageError

#: name → (function, its line in `tip-adapter --help`). Strings, so that help imports nothing.
COMMANDS = {
    "demo": ("tip_adapter.cli.demo:demo", "Try it: zero-shot, Tip-Adapter and Tip-Adapter-F on a few photos."),
    "fit": ("tip_adapter.cli.fit:fit", "Fit a classifier on class folders."),
    "predict": ("tip_adapter.cli.predict:predict", "Classify images."),
    "evaluate": ("tip_adapter.cli.evaluate:evaluate", "Measure the accuracy of a classifier on labelled images."),
    "extract": ("tip_adapter.cli.extract:extract", "Encode images once and keep their vectors."),
    "add": ("tip_adapter.cli.update:add", "Add images of a class, known or new, to a classifier."),
    "remove": ("tip_adapter.cli.update:remove", "Remove images or a class from a classifier."),
    "retune": ("tip_adapter.cli.update:retune", "Choose alpha and beta again after images were added or removed."),
    "check": (
        "tip_adapter.cli.check:check",
        "Find possibly wrong labels, near-duplicates, and classes that need images.",
    ),
    "export": ("tip_adapter.cli.export:export", "Write a classifier as one ONNX file."),
    "info": ("tip_adapter.cli.info:info", "Describe a classifier: classes, encoder, settings."),
    "show": ("tip_adapter.cli.show:show", "Open a page about a classifier: classes, images, leave-one-out accuracy."),
    "encoders": ("tip_adapter.cli.encoders:encoders", "List the encoders that can be loaded here."),
    "datasets": (
        "tip_adapter.cli.datasets:datasets",
        "List the paper's data sets, and check which files of one are installed.",
    ),
    "reproduce": ("tip_adapter.cli.reproduce:reproduce", "Measure a table or figure of the paper."),
    "doctor": ("tip_adapter.cli.doctor:doctor", "Show versions, devices, caches, and what is missing."),
}


class CommandTable(TyperGroup):
    """A group that imports a command's file when the command is used, and shows help without importing any."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command = typer.Typer(add_completion=False, rich_markup_mode=None)
        command.command(cmd_name)(with_common_options(getattr(import_module(module), name)))
        return typer.main.get_command(command)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


app = typer.Typer(cls=CommandTable, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.callback()
def root(
    ctx: typer.Context, device: Device = None, threads: Threads = None, quiet: Quiet = False, version: Version = False
) -> None:
    """A classifier from a few photos per class and the class names."""
    # Said before the command, these are the command's defaults.
    said = {"device": device, "threads": threads, "quiet": quiet}
    ctx.default_map = {command: {name: value for name, value in said.items() if value} for command in COMMANDS}


def main() -> None:
    """Run the command line; exit status 0 success, 1 failure, 2 usage, 130 on Ctrl-C."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a class name in Chinese on a terminal in Latin
    try:
        app(prog_name="tip-adapter")
    except TipAdapterError as error:
        say(f"error: {error}")
        sys.exit(2 if isinstance(error, UsageError) else 1)
    except OSError as error:  # such as a full disk behind stdout
        say(f"error: {error.strerror or error}")
        sys.exit(1)
