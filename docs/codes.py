"""The table of error codes, from the classes themselves, where a page says `<!-- codes -->`; mkdocs runs it as a hook."""

from __future__ import annotations

from typing import Any

from tip_adapter.errors import TipAdapterError

MARK = "<!-- codes -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the table where the mark is."""
    return markdown.replace(MARK, table()) if MARK in markdown else markdown


def table() -> str:
    """One row an error, in the order of the tree."""
    rows = [
        f"| `{kind.__name__}` | `{kind.code}` | {builtins(kind)} | {summary(kind)} |" for kind in tree(TipAdapterError)
    ]
    return "\n".join(["| error | code | is also | when |", "| --- | --- | --- | --- |", *rows])


def tree(kind: type[TipAdapterError]) -> list[type[TipAdapterError]]:
    """An error, then those below it."""
    return [kind, *(below for child in kind.__subclasses__() for below in tree(child))]


def builtins(kind: type[TipAdapterError]) -> str:
    """What else catches it, of Python's own."""
    return ", ".join(f"`{base.__name__}`" for base in kind.__bases__ if not issubclass(base, TipAdapterError))


def summary(kind: type[TipAdapterError]) -> str:
    """The first line of its docstring."""
    return (kind.__doc__ or "").partition("\n")[0]
