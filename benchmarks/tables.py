"""What the pages of results share: tables in Markdown and figures as text."""

from __future__ import annotations

from statistics import mean
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def shots_words(shots: int) -> str:
    return "1 shot" if shots == 1 else f"{shots} shots"


def mean_in_percent(values: Sequence[float]) -> str:
    return f"{100 * mean(values):.1f}" if values else "–"
