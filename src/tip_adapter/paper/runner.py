"""The one runner: measures what an experiment still lacks, one result after the other."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tip_adapter.errors import TipAdapterError
from tip_adapter.evaluation import accuracy_of
from tip_adapter.head import Head, learn
from tip_adapter.methods import choose, method_class
from tip_adapter.methods._left_out import SupportCache
from tip_adapter.methods.choose import Given
from tip_adapter.paper.experiments import Task
from tip_adapter.paper.measure import PeakMemory, inference_ms
from tip_adapter.paper.protocols import PAPERS_PAIR, PROTOCOLS, protocols_for
from tip_adapter.paper.results import key_of
from tip_adapter.paper.variants import prepared
from tip_adapter.tuning import offers_of
from tip_adapter.vectors import SupportSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from numpy.typing import NDArray

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
