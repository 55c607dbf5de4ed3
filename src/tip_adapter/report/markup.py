"""HTML and SVG as text that cannot be broken: whatever is not `Markup` is escaped when it becomes part of a tag."""

from __future__ import annotations

import html

from tip_adapter.text import printable

#: Tags without content: HTML's, and SVG's that end themselves.
_VOID = {"img": ">", "meta": ">", "circle": "/>", "line": "/>", "polyline": "/>", "rect": "/>"}
#: As much of a name is shown; a tooltip has all of it.
_LONGEST = 60


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def tag(name: str, /, *content: object, **attributes: object) -> Markup:
    """An element.

    Parameters
    ----------
    name : of the element
    content : Markup as it is; anything else as text, escaped, its control and direction characters shown as escapes;
        None is nothing
    attributes : by their names, - as _ and a _ at the end dropped; None leaves one out
    """
    opened = f"<{name}{''.join(_attribute(key, value) for key, value in attributes.items() if value is not None)}"
    if name in _VOID and not content:
        return Markup(opened + _VOID[name])
    return Markup(f"{opened}>{joined(*content)}</{name}>")


def joined(*content: object) -> Markup:
    """Markup one after the other; what is none is escaped."""
    return Markup("".join(map(_escaped, content)))


def named(label: str, name: str = "span") -> Markup:
    """A class or photo: shortened where it is long, whole in a tooltip, in its own direction."""
    if len(label) <= _LONGEST:
        return tag(name, label, dir="auto")
    return tag(name, shortened(label, _LONGEST), dir="auto", title=label)


def shortened(text: str, longest: int) -> str:
    """The beginning of a long text."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _escaped(value: object) -> str:
    if value is None or isinstance(value, Markup):
        return value or ""
    return html.escape(printable(str(value)))


def _attribute(name: str, value: object) -> str:
    return f' {name.rstrip("_").replace("_", "-")}="{html.escape(printable(str(value)))}"'
