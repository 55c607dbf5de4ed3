"""The site's navigation: each section's pages in the order in which its index.md lists them (`- [title](page.md)`).

mkdocs runs it as a hook. A page that its index does not list is a warning, and so an error of `make docs`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
SECTIONS = {
    "How-to guides": "how-to",
    "Reference": "reference",
    "Explanation": "explanation",
    "Results": "results",
}


def on_config(config: Any) -> Any:
    """Set the navigation before mkdocs looks for it."""
    config.nav = [
        {"Home": "index.md"},
        {"Tutorial": "tutorial.md"},
        *({title: pages(name)} for title, name in SECTIONS.items()),
    ]
    return config


def pages(section: str) -> list[str]:
    """The index of a section, then what it lists."""
    index = (DOCS / section / "index.md").read_text(encoding="utf-8")
    return [
        f"{section}/index.md",
        *(f"{section}/{page}" for page in re.findall(r"^- \[[^]]+\]\(([^)]+)\)", index, re.M)),
    ]
