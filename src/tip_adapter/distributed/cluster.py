"""The engine for a cluster."""

from __future__ import annotations

from typing import Any


def run_parts(*args: Any, **kwargs: Any) -> None:
    """Not yet."""
    raise NotImplementedError
