"""The model card: what a person wants to know about a model, in Markdown. card.md.jinja is its text."""

from __future__ import annotations

import html
import json
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from tip_adapter.metrics import LeaveOneOutResult
from tip_adapter.text import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Classes and confusions that a card lists, the worst first.
_MOST = 10
_MARKDOWN = {ord(c): f"&#{ord(c)};" for c in "|`[\\"}


def model_card(config: Mapping[str, Any], *, trained: bool = False) -> str:
    """The card of a model's configuration: YAML front matter, summary, how to run it, how good it is, its classes.

    Parameters
    ----------
    config : the keys of format.md
    trained : whether its keys are learned: leave-one-out accuracy was measured before that
    """
    from jinja2 import Environment, StrictUndefined  # only where a card is written
    from markupsafe import Markup

    def escape(value: Any) -> str:
        """Any value as text of a Markdown table's cell, without markup; only what a filter marks as safe stays."""
        if isinstance(value, Markup):
            return value
        escaped = html.escape(str(value), quote=False).translate(_MARKDOWN)
        return "".join(c if c.isprintable() else " " for c in escaped)

    environment = Environment(
        finalize=escape, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= {
        "counted": counted,
        "json": lambda text: Markup(json.dumps(text)),
        "percent": "{:.1%}".format,
    }
    template = environment.from_string((files("tip_adapter.model") / "card.md.jinja").read_text("utf-8"))
    accuracy = LeaveOneOutResult.from_record(config["left_out"]).accuracy if config["left_out"] else None
    return template.render(config, trained=trained, most=_MOST, accuracy=accuracy)
