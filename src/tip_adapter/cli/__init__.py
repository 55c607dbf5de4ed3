"""The command line: a table of commands; one file per command, which parses arguments, calls the library and prints."""

from __future__ import annotations

import io
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from tip_adapter.cli._commands import Command, refusals_in_words, write_examples
from tip_adapter.cli._options import Device, Quiet, Threads, Version, with_common_options
from tip_adapter.cli._output import say
from tip_adapter.errors import TipAdapterError, UsageError
from tip_adapter.plugins import load_object, unknown_name

#: name → (function, its line in `tip-adapter --help`, examples for its own help). Strings, so that help imports nothing.
COMMANDS = {
    "demo": (
        "tip_adapter.cli.demo:demo",
        "Try it: zero-shot, Tip-Adapter and Tip-Adapter-F on a few photos.",
        ("tip-adapter demo", "tip-adapter demo photos --shots 8"),
    ),
    "fit": (
        "tip_adapter.cli.fit:fit",
        "Fit a classifier on class folders.",
        ("tip-adapter fit photos --out model", "tip-adapter fit photos --out model --encoder clip --shots 16"),
    ),
    "predict": (
        "tip_adapter.cli.predict:predict",
        "Classify images.",
        (
            "tip-adapter predict model holiday.jpg",
            "tip-adapter predict model inbox --sort-into sorted --min-score auto",
        ),
    ),
    "evaluate": (
        "tip_adapter.cli.evaluate:evaluate",
        "Measure the accuracy of a classifier on labelled images.",
        ("tip-adapter evaluate model test-photos", "tip-adapter evaluate model test-photos --predictions answers.csv"),
    ),
    "extract": (
        "tip_adapter.cli.extract:extract",
        "Encode images once and keep their vectors.",
        ("tip-adapter extract photos --out features", "tip-adapter extract photos --out features --encoder clip"),
    ),
    "add": (
        "tip_adapter.cli.update:add",
        "Add images of a class, known or new, to a classifier.",
        ("tip-adapter add model cat new-cats", "tip-adapter add model cat 1.jpg 2.jpg"),
    ),
    "remove": (
        "tip_adapter.cli.update:remove",
        "Remove images or a class from a classifier.",
        ("tip-adapter remove model --class cat", "tip-adapter remove model --photo cat/1.jpg --photo cat/2.jpg"),
    ),
    "update": (
        "tip_adapter.cli.update:update",
        "Make a classifier follow its folder: new, moved and removed images.",
        ("tip-adapter update model photos --dry-run", "tip-adapter update model photos"),
    ),
    "relabel-photo": (
        "tip_adapter.cli.update:relabel_photo",
        "Move an image of a classifier to another class.",
        ("tip-adapter relabel-photo model cat/1.jpg dog", "tip-adapter relabel-photo model photos/cat/1.jpg dog"),
    ),
    "retune": (
        "tip_adapter.cli.update:retune",
        "Choose settings such as alpha and beta again after images were added or removed.",
        ("tip-adapter retune model", "tip-adapter retune model --threads 2"),
    ),
    "check": (
        "tip_adapter.cli.check:check",
        "Find possibly wrong labels, near-duplicates, and classes that need images.",
        ("tip-adapter check photos", "tip-adapter check model --json"),
    ),
    "export": (
        "tip_adapter.cli.export:export",
        "Write a classifier as one ONNX file.",
        ("tip-adapter export model --onnx model.onnx", "tip-adapter export model --onnx model.onnx --input pixels"),
    ),
    "info": (
        "tip_adapter.cli.info:info",
        "Describe a classifier: classes, encoder, settings.",
        ("tip-adapter info model", "tip-adapter info model --json"),
    ),
    "show": (
        "tip_adapter.cli.show:show",
        "Open a page about a classifier: classes, images, leave-one-out accuracy.",
        ("tip-adapter show model", "tip-adapter show model --photos photos --out page"),
    ),
    "serve": (
        "tip_adapter.cli.serve:serve",
        "Classify photos over HTTP.",
        ("tip-adapter serve model", "tip-adapter serve model --port 8080"),
    ),
    "label": (
        "tip_adapter.cli.label:label",
        "Label very many images, on one machine or a cluster.",
        (
            "tip-adapter label model photos --out labels",
            "tip-adapter label model 'shards/*.tar' --out labels --engine ray",
        ),
    ),
    "relabel": (
        "tip_adapter.cli.relabel:relabel",
        "Label stored vectors by another classifier.",
        ("tip-adapter relabel model labels --out new-labels", "tip-adapter relabel model features --out labels"),
    ),
    "encoders": (
        "tip_adapter.cli.encoders:encoders",
        "List the encoders that can be loaded here.",
        ("tip-adapter encoders", "tip-adapter encoders --json"),
    ),
    "datasets": (
        "tip_adapter.cli.datasets:datasets",
        "List the paper's data sets, and check which files of one are installed.",
        ("tip-adapter datasets --data-root data", "tip-adapter datasets check caltech101 --data-root data"),
    ),
    "reproduce": (
        "tip_adapter.cli.reproduce:reproduce",
        "Measure a table or figure of the paper.",
        ("tip-adapter reproduce --list", "tip-adapter reproduce figure5 --data-root data --datasets caltech101"),
    ),
    "doctor": (
        "tip_adapter.cli.doctor:doctor",
        "Show versions, devices, caches, and what is missing.",
        ("tip-adapter doctor", "tip-adapter doctor --device cuda"),
    ),
}
#: Commands that read from object stores; the others take paths only.
TAKE_URLS = frozenset({"label"})
#: Of `tip-adapter --help`.
EXAMPLES = ("tip-adapter fit photos --out model", "tip-adapter predict model holiday.jpg")


class CommandTable(TyperGroup):
    """A group that imports a command's file when the command is used, and shows help without importing any."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        place, _, examples = COMMANDS[cmd_name]
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        # `Command` refuses further arguments itself.
        declare = app.command(cmd_name, cls=Command, context_settings={"allow_extra_args": True})
        declare(with_common_options(load_object(place)))
        command = typer.main.get_command(app)
        command.examples = examples  # type: ignore[attr-defined]
        command.takes_urls = cmd_name in TAKE_URLS  # type: ignore[attr-defined]
        return command

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        with refusals_in_words(ctx):
            return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in COMMANDS and not ctx.resilient_parsing:
            raise unknown_name("command", args[0], COMMANDS)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line, _) in COMMANDS.items()])

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        write_examples(EXAMPLES, formatter)


app = typer.Typer(
    cls=CommandTable,
    invoke_without_command=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def root(
    ctx: typer.Context, device: Device = None, threads: Threads = None, quiet: Quiet = False, version: Version = False
) -> None:
    """A classifier from a few photos per class and the class names."""
    if ctx.invoked_subcommand is None:
        print(ctx.get_help(), file=sys.stderr)
        raise typer.Exit(2)
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
