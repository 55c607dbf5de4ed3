"""What a classifier is made with, checked before any photo is read."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from types import NoneType
from typing import Any

import numpy as np

from tip_adapter import validation
from tip_adapter.encoders.prompts import checked_names, resolve_templates
from tip_adapter.images.inputs import listed_labels
from tip_adapter.methods import method_class
from tip_adapter.model.fitting import check_epochs, check_tuning, given_logit_scale
from tip_adapter.validation import require
from tip_adapter.vectors import SupportSet

#: Setting → its types, and in words what it takes. Numbers state their bounds themselves.
_TAKES: dict[str, tuple[tuple[type, ...], str]] = {
    "method": ((str,), "the name of a method"),
    "tune": ((str, os.PathLike, NoneType), "loo, scale-free, or the path of a folder or list of validation photos"),
    "templates": ((list, tuple, NoneType), "a list of sentences with {} for the class name, or of template sets"),
    "class_names": ((Mapping, NoneType), "a mapping label → name"),
    "calibrate": ((bool,), "true or false"),
    "device": ((str, NoneType), "cpu or cuda"),
}
#: What tells an Encoder, which need not descend from ours.
_OF_AN_ENCODER = ("record", "identity", "logit_scale", "prepare", "encode_prepared", "encode_texts")


def check_settings(settings: Mapping[str, Any]) -> None:
    """Refuse what a constructor value cannot be, and what makes no sense together.

    Parameters
    ----------
    settings : constructor values of FewShotClassifier by name; other keys are ignored

    Raises
    ------
    UsageError
        A value is not what it takes, or they contradict one another.
    UnknownName
        There is no such method or set of templates; the nearest is suggested.
    """
    check_encoder(settings["encoder"])
    for name, (kinds, wanted) in _TAKES.items():
        require(isinstance(settings[name], kinds), name, wanted, settings[name])
    method_class(settings["method"])
    check_tuning(settings["method"], settings["tune"], settings["alpha"], settings["beta"])
    check_epochs(settings["method"], settings["epochs"])
    resolve_templates(settings["templates"] or ())
    checked_names((settings["class_names"] or {}).items(), "class_names")
    given_logit_scale(settings["logit_scale"])
    validation.seed(settings["seed"])
    validation.threads(settings["threads"])


def check_encoder(encoder: object) -> None:
    """Raise UsageError unless it is None, a name, or has all that an Encoder has; a class has no identity yet."""
    fits = encoder is None or isinstance(encoder, str) or all(hasattr(encoder, name) for name in _OF_AN_ENCODER)
    require(fits, "encoder", "the name of an encoder, or a loaded one", encoder)


def listed_support(support: Any, name: str, width: int) -> SupportSet:
    """Photos that are encoded already, their labels in Unicode NFC.

    Parameters
    ----------
    support : SupportSet
    name : what messages call it
    width : int, of the encoder's vectors

    Raises
    ------
    UsageError
        It is none, its vectors have another width, or an id stands twice.
    LabelError
        As `listed_labels`.
    """
    require(isinstance(support, SupportSet), name, "a SupportSet", support)
    require(support.vectors.shape[1] == width, name, f"vectors of width {width}", support.vectors.shape[1])
    twice = [photo for photo, times in Counter(support.ids.tolist()).items() if times > 1]
    require(not twice, name, "ids that are unique", twice[:1])
    labels = listed_labels(support.labels)
    return replace(support, labels=np.array(labels, dtype=np.str_)) if labels else support
