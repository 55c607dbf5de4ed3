"""Methods over vectors. Start with `tip_adapter.py`. To add one: a file here and a line below."""

from __future__ import annotations

from typing import Any

from tip_adapter.extensions import resolve

_GROUP = "tip_adapter.methods"

METHODS = {
    "zero-shot": "tip_adapter.methods.zero_shot:ZeroShotClassifier",
    "tip-adapter": "tip_adapter.methods.tip_adapter:TipAdapterClassifier",
    "tip-adapter-f": "tip_adapter.methods.tip_adapter:TipAdapterFClassifier",
}


def method_class(name: str) -> Any:
    """The estimator class of a method.

    Raises
    ------
    UnknownName
        With the nearest known name.
    """
    return resolve(_GROUP, "method", name, METHODS)
