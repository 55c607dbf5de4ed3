"""Names to objects: our own tables first, then other packages' entry points.

A table is `{name: "module:Class"}`. Strings, so that listing names imports nothing.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from tip_adapter.errors import MissingExtra, UnknownName, UsageError
from tip_adapter.text import printable, shown, suggestion

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


def known_names(group: str, table: Mapping[str, str]) -> list[str]:
    """Names of our table, then those of the entry points in `group`."""
    others = {point.name for point in entry_points(group=group)} - set(table)
    return [*table, *sorted(others)]


def load_object(place: str) -> Any:
    """Import what stands at ``module:attribute``."""
    module, _, attribute = place.partition(":")
    return getattr(import_module(module), attribute)


def resolve(group: str, kind: str, name: str, table: Mapping[str, str]) -> Any:
    """Import what `name` stands for.

    Parameters
    ----------
    group : str, the entry-point group, such as ``tip_adapter.encoders``
    kind : str, what a person calls it, such as ``encoder``
    name : str
    table : name → ``module:attribute``

    Raises
    ------
    UnknownName
        With the nearest known name.
    UsageError
        `name` is not text.
    MissingExtra
        It is another package's, which cannot be imported.
    """
    if not isinstance(name, str):
        raise UsageError(f"{kind} takes a name, not {shown(name)}")
    if name in table:
        return load_object(table[name])
    for point in entry_points(group=group, name=name):
        return _load(point, kind)
    raise unknown_name(kind, name, known_names(group, table))


def _load(point: EntryPoint, kind: str) -> Any:
    try:
        return point.load()
    except Exception as error:  # whatever the other package does when it is imported
        package = printable(point.dist.name if point.dist else point.module)
        reason = printable(f"{type(error).__name__}: {error}")
        raise MissingExtra(
            f"{kind} {printable(point.name)} of the package {package} cannot be imported ({reason}): "
            f"pip install --upgrade {package}"
        ) from error


def require_extra(module: str, what: str, extra: str) -> Any:
    """Import a module that an optional extra brings.

    Parameters
    ----------
    module : full name, of the package itself or of a module of ours that imports it
    what : what is missing without it, for the message
    extra : name of the extra in pyproject.toml

    Raises
    ------
    MissingExtra
        It is not installed; the message holds the pip line to type.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtra.of(what, extra) from error


def unknown_name(kind: str, name: str, known: Collection[str]) -> UnknownName:
    """The error for a `kind` called `name` that is not among `known`; suggests the nearest."""
    return UnknownName(f"unknown {kind} {name!r}: {suggestion(name, known)}known are {', '.join(sorted(known))}")
