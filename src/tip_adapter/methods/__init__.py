"""Methods over vectors. Start with `tip_adapter.py`. To add one: a file here and a line below."""

from __future__ import annotations

from tip_adapter.methods.base import VectorClassifier
from tip_adapter.plugins import known_names, resolve

__all__ = ["AUTO", "DEFAULT_METHOD", "METHODS", "TIP_ADAPTER", "VectorClassifier", "method_class", "method_names"]

_GROUP = "tip_adapter.methods"

#: Chooses the default method, or Tip-Adapter if alpha, beta or `tune` is given.
AUTO = "auto"
DEFAULT_METHOD, TIP_ADAPTER = "text-offset", "tip-adapter"

METHODS = {
    "text-offset": "tip_adapter.methods.text_offset:TextOffsetClassifier",
    "zero-shot": "tip_adapter.methods.zero_shot:ZeroShotClassifier",
    "tip-adapter": "tip_adapter.methods.tip_adapter:TipAdapterClassifier",
    "tip-adapter-f": "tip_adapter.methods.tip_adapter:TipAdapterFClassifier",
    "linear-probe": "tip_adapter.methods.linear_probe:LinearProbeClassifier",
    "clip-adapter": "tip_adapter.methods.clip_adapter:CLIPAdapterClassifier",
    "gda": "tip_adapter.methods.gda:GaussianClassifier",
    "coop": "tip_adapter.methods.coop:CoOpClassifier",
}


def method_names() -> list[str]:
    """Names of the installed methods; imports none of them."""
    return known_names(_GROUP, METHODS)


def method_class(name: str) -> type[VectorClassifier]:
    """The estimator class of a method.

    Raises
    ------
    UnknownName
        With the nearest known name.
    """
    method: type[VectorClassifier] = resolve(_GROUP, "method", name, METHODS)
    return method
