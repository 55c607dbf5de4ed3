"""Modules of this room that import torch: loaded when asked for, and the extra is named where it is missing."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from tip_adapter.errors import MissingExtra


def torch_side(name: str) -> Any:
    """A module beside this one that needs torch.

    Raises
    ------
    MissingExtra
        torch is not installed.
    """
    try:
        return import_module(f"tip_adapter.encoders.{name}")
    except ModuleNotFoundError as error:
        raise MissingExtra.of("torch", "torch") from error
