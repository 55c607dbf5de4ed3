"""The one runner: measures what an experiment still lacks, one result after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tip_adapter.paper.experiments import Task
from tip_adapter.paper.results import key_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tip_adapter.paper.material import Material


def run(
    wanted: Iterable[Task],
    known: Iterable[dict[str, Any]],
    material_of: Callable[[str, str], Material],
    record: Callable[[dict[str, Any]], None],
    say: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Measure what is not known yet.

    Parameters
    ----------
    wanted : Tasks
    known : results that are there
    material_of : (data set, encoder) → Material; raises TipAdapterError where it is missing
    record : called with each new result, at once
    say : called with what is missing or failed, in a sentence

    Returns
    -------
    the results of what is wanted, known and new, in the order of the tasks
    """
    by_key = {key_of(result): result for result in known}
    for task in wanted:
        ...
    return []
