"""Tip-Adapter: a classifier from a few photos per class and the class names."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tip_adapter.version import __version__ as __version__

if TYPE_CHECKING:
    from tip_adapter.encoders import load_encoder
    from tip_adapter.errors import TipAdapterError
    from tip_adapter.features.extract import extract
    from tip_adapter.methods.clip_adapter import CLIPAdapterClassifier
    from tip_adapter.methods.coop import CoOpClassifier
    from tip_adapter.methods.linear_probe import LinearProbeClassifier
    from tip_adapter.methods.text_offset import TextOffsetClassifier
    from tip_adapter.methods.tip_adapter import TipAdapterClassifier, TipAdapterFClassifier
    from tip_adapter.methods.tuning import Choice, TipAdapterCV, choose_alpha_beta
    from tip_adapter.methods.zero_shot import ZeroShotClassifier
    from tip_adapter.model.classifier import FewShotClassifier
    from tip_adapter.model.prediction import Prediction
    from tip_adapter.vectors import ClassEmbeddings, SupportSet

__all__ = [
    "CLIPAdapterClassifier",
    "Choice",
    "ClassEmbeddings",
    "CoOpClassifier",
    "FewShotClassifier",
    "LinearProbeClassifier",
    "Prediction",
    "SupportSet",
    "TextOffsetClassifier",
    "TipAdapterCV",
    "TipAdapterClassifier",
    "TipAdapterError",
    "TipAdapterFClassifier",
    "ZeroShotClassifier",
    "choose_alpha_beta",
    "extract",
    "load_encoder",
]

# Loaded on first use, so that `import tip_adapter` and `tip-adapter --help` import neither NumPy nor scikit-learn.
_HOMES = {
    "CLIPAdapterClassifier": "tip_adapter.methods.clip_adapter",
    "Choice": "tip_adapter.methods.tuning",
    "ClassEmbeddings": "tip_adapter.vectors",
    "CoOpClassifier": "tip_adapter.methods.coop",
    "FewShotClassifier": "tip_adapter.model.classifier",
    "LinearProbeClassifier": "tip_adapter.methods.linear_probe",
    "Prediction": "tip_adapter.model.prediction",
    "SupportSet": "tip_adapter.vectors",
    "TextOffsetClassifier": "tip_adapter.methods.text_offset",
    "TipAdapterCV": "tip_adapter.methods.tuning",
    "TipAdapterClassifier": "tip_adapter.methods.tip_adapter",
    "TipAdapterError": "tip_adapter.errors",
    "TipAdapterFClassifier": "tip_adapter.methods.tip_adapter",
    "ZeroShotClassifier": "tip_adapter.methods.zero_shot",
    "choose_alpha_beta": "tip_adapter.methods.tuning",
    "extract": "tip_adapter.features.extract",
    "load_encoder": "tip_adapter.encoders",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tip_adapter' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
