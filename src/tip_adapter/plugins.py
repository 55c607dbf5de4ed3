"""Load objects by name: from our own tables, from entry points of other packages, and from optional extras.

A table is `{name: "module:Class"}`. Values are strings, so that listing the names imports nothing.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from tip_adapter.errors import MissingExtra, UnknownName, UsageError
from tip_adapter.text import printable, shown, suggestion

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_SERVE = (
    "alembic>=1.16",
    "fastapi>=0.128",
    "pydantic-settings>=2.7",
    "pysqlite3>=0.6.1; sys_platform == 'linux'",
    "python-multipart>=0.0.27",
    "sqlalchemy>=2.0.40",
    "starlette>=1.3.1",
    "uvicorn>=0.34",
)
#: Extra → what it installs, as in pyproject.toml. Messages name these packages, since they are on every package index; this
#: package may be on none, for example if it was installed from a clone.
EXTRAS = {
    "demo": ("conformal-clip-data>=0.1.4",),
    "features": ("pyarrow>=17",),
    "heic": ("pillow-heif>=1.6",),
    "paper": ("pyarrow>=17", "matplotlib>=3.8"),
    "postgres": (*_SERVE, "psycopg[binary]>=3.2"),
    "ray": ("pyarrow>=17", "ray>=2.50"),
    "serve": _SERVE,
    "torch": ("open-clip-torch>=3.2", "torch>=2.6", "torchvision>=0.21", "transformers>=4.40"),
}


def known_names(group: str, table: Mapping[str, str]) -> list[str]:
    """Names of our table, then those of the entry points in `group`."""
    others = {point.name for point in entry_points(group=group)} - set(table)
    return [*table, *sorted(others)]


def load_object(place: str) -> Any:
    """Import ``module:attribute``."""
    module, _, attribute = place.partition(":")
    return getattr(import_module(module), attribute)


def resolve(group: str, kind: str, name: str, table: Mapping[str, str]) -> Any:
    """Import the object called `name`.

    Parameters
    ----------
    group : str, the entry-point group, such as ``tip_adapter.encoders``
    kind : str, for messages, such as ``encoder``
    name : str
    table : name → ``module:attribute``

    Raises
    ------
    UnknownName
        The message suggests the nearest known name.
    UsageError
        `name` is not a text.
    MissingExtra
        The package that provides it cannot be imported.
    """
    if not isinstance(name, str):
        raise UsageError(f"{kind} takes a name, not {shown(name)}")
    if name in table:
        return load_object(table[name])
    for point in entry_points(group=group, name=name):
        try:
            return point.load()
        except Exception as error:  # importing another package may raise anything
            package = printable(point.dist.name if point.dist else point.module)
            reason = printable(f"{type(error).__name__}: {error}")
            raise MissingExtra(
                f"{kind} {printable(name)} of the package {package} cannot be imported ({reason}): "
                f"update {package} or uninstall it"
            ) from error
    raise unknown_name(kind, name, known_names(group, table))


def require_extra(module: str, what: str, extra: str) -> Any:
    """Import a module that an optional extra installs.

    Parameters
    ----------
    module : full name of the package, or of a module of ours that imports it
    what : name of the missing package or feature, for the message
    extra : name of the extra in pyproject.toml

    Raises
    ------
    MissingExtra
        It is not installed; the message contains `pip_install`.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtra(f"{what} is not installed: {pip_install(extra)}") from error


def pip_install(extra: str) -> str:
    """The command that installs what an extra does; it works in every shell and however this package was installed."""
    return " ".join(["pip install", *(f'"{requirement}"' for requirement in EXTRAS[extra])])


def unknown_name(kind: str, name: str, known: Collection[str]) -> UnknownName:
    """The error for a `kind` called `name` that is not in `known`; it suggests the nearest."""
    return UnknownName(f"unknown {kind} {name!r}: {suggestion(name, known)}known are {', '.join(sorted(known))}")
