"""How a command reads its arguments: errors in the program's own words, with options as typed; help that ends with examples."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand

from tip_adapter.errors import TipAdapterError, UsageError
from tip_adapter.text import printable, shown, suggestion

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: The base class of all that typer's parser refuses; typer exports only BadParameter.
_REFUSALS = typer.BadParameter.__bases__
#: Databases have URLs, too; photos have none.
_URL = re.compile(r"(?!postgres|sqlite)[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_QUOTED = r"'[^']*'|\"[^\"]*\""


class Command(TyperCommand):
    """A command that knows examples of itself, and whether a URL is a value for it."""

    examples: tuple[str, ...] = ()
    takes_urls = False

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        _refuse_values(args, urls=not self.takes_urls)
        with refusals_in_words(ctx):
            rest = super().parse_args(ctx, args)
        if rest and not ctx.resilient_parsing:
            raise UsageError(f"{ctx.command_path} takes no further argument, found {shown(rest[0])}; {_see_help(ctx)}")
        return rest

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except TipAdapterError as error:
            if error.arguments:
                raise type(error)(_with_options(error, self)) from error
            raise

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        write_examples(self.examples, formatter)


def write_examples(examples: Iterable[str], formatter: Any) -> None:
    """The last section of a help."""
    with formatter.section("Examples"):
        for example in examples:
            formatter.write(f"{'':{formatter.current_indent}}{example}\n")


@contextmanager
def refusals_in_words(ctx: Any) -> Iterator[None]:
    """Convert the parser's errors about the arguments of a command to UsageError."""
    try:
        yield
    except _REFUSALS as error:  # type: ignore[misc] # a tuple of exceptions
        raise UsageError(_refusal_in_words(error, ctx)) from error


def _refusal_in_words(error: Any, ctx: Any) -> str:
    options = {option: parameter for parameter in ctx.command.get_params(ctx) for option in parameter.opts}
    # By the names of the classes, which typer keeps private.
    match type(error).__name__:
        case "NoSuchOption":
            # Without the dashes, which all options share.
            near = suggestion(error.option_name.lstrip("-"), [name[2:] for name in options if name.startswith("--")])
            near = near.replace("mean ", "mean --")
            return f"unknown option {printable(error.option_name)}: {near}{_see_help(ctx)}"
        case "BadOptionUsage" if options[error.option_name].is_flag:
            return f"{error.option_name} takes no value; {_see_help(ctx)}"
        case "BadOptionUsage":
            return f"{error.option_name} needs a value, {options[error.option_name].metavar}; {_see_help(ctx)}"
        case "MissingParameter":
            parameter = error.param
            metavar = f" {parameter.metavar}" if parameter.param_type_name == "option" else ""
            example = next(iter(getattr(ctx.command, "examples", ())), "")
            return f"missing {_typed(parameter)}{metavar}; for example: {example}"
        case "BadParameter":
            return f"{_typed(error.param)} {error.message}"
    return f"{error.format_message()} {_see_help(ctx)}"


def _refuse_values(args: Iterable[str], *, urls: bool) -> None:
    """Raise UsageError for values that, as a path, would become another: the current folder, or a URL with one slash."""
    for value in args:
        if not value:
            raise UsageError("an argument is empty, ''; is a variable of the shell not set?")
        if urls and _URL.match(value):
            raise UsageError(f"{printable(value)} is a URL; download it, and give the path of the file or folder")


def _see_help(ctx: Any) -> str:
    return f"see `{ctx.command_path} --help`"


def _typed(parameter: Any) -> str:
    """What a user types for a parameter: the long option, or the argument as in the help."""
    return max(parameter.opts, key=len) if parameter.param_type_name == "option" else parameter.metavar


def _with_options(error: TipAdapterError, command: Any) -> str:
    """The message of an error with options for the Python arguments that it names, except in quoted values."""
    typed = {parameter.name: _typed(parameter) for parameter in command.params}
    named = "|".join(map(re.escape, sorted(error.arguments, key=len, reverse=True)))
    return re.sub(
        rf"{_QUOTED}|(?<![\w-])({named})(?!\w)",
        lambda found: typed.get((found[1] or "").removesuffix("=True"), found[0]),
        str(error),
    )
