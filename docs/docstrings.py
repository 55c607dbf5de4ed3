"""Docstrings as pages show them: our `name : type, in words` as a list, where a table would cut the words in two.

mkdocstrings runs it while it reads the source.
"""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension

#: A section that is a list, up to the next one.
SECTION = re.compile(
    r"^(?P<title>Parameters|Attributes|Returns|Raises)\n-+\n(?P<body>.*?)(?=^\w[\w ]*\n-+\n|\Z)",
    re.MULTILINE | re.DOTALL,
)
#: An entry: a line, and the deeper ones below it.
ENTRY = re.compile(r"^(?P<first>\S.*)(?P<more>(?:\n[ \t]+\S.*)*)", re.MULTILINE)


class Lists(Extension):
    """Turns those sections of every docstring into Markdown."""

    def on_instance(self, *, obj: Any, **_: Any) -> None:
        """Rewrite the docstring of a class, a function or an attribute as soon as it is known."""
        if obj.docstring:
            obj.docstring.value = SECTION.sub(listed, obj.docstring.value)


def listed(section: re.Match[str]) -> str:
    """A section as a title and a list; without the list where it has one entry and no name."""
    entries = [entry(section["title"], found) for found in ENTRY.finditer(section["body"].rstrip())]
    if section["title"] == "Returns" and len(entries) == 1:
        return f"**Returns** {entries[0]}\n\n"
    return f"**{section['title']}**\n\n{''.join(f'- {text}{chr(10)}' for text in entries)}\n"


def entry(title: str, found: re.Match[str]) -> str:
    """`name : words` or an error and its words, on one line, the name as code."""
    more = " ".join(found["more"].split())
    name, colon, words = found["first"].partition(" : ")
    if title == "Raises" and more:
        return f"{as_code(found['first'])}: {more}"
    return f"{as_code(name)}: {words} {more}".rstrip() if colon else f"{found['first']} {more}".rstrip()


def as_code(names: str) -> str:
    """Names, each as code; what is none already stays."""
    return ", ".join(f"`{name}`" if re.fullmatch(r"[\w.]+", name) else name for name in names.split(", "))
