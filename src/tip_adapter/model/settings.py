"""The settings and arguments of FewShotClassifier, checked before any image is read."""

from __future__ import annotations

import inspect
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from types import NoneType
from typing import TYPE_CHECKING, Any

import numpy as np

from tip_adapter import validation
from tip_adapter.encoders.prompts import checked_names, resolve_templates
from tip_adapter.errors import UsageError, warn
from tip_adapter.images.inputs import listed_labels
from tip_adapter.methods import AUTO, DEFAULT_METHOD, TIP_ADAPTER, method_class, tuning
from tip_adapter.methods.text_offset import PRIORS
from tip_adapter.text import printable, suggestion
from tip_adapter.validation import require
from tip_adapter.vectors import SupportSet, unit_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tip_adapter.encoders import Encoder
    from tip_adapter.methods.tuning import Choice

#: What `tune` may be besides a folder or list.
_RULES = {"loo": tuning.LEAVE_ONE_OUT, "leave-one-out": tuning.LEAVE_ONE_OUT, "scale-free": tuning.SCALE_FREE}
#: Settings that some methods take; None for the method's own value.
METHOD_SETTINGS = ("epochs", "prior")
#: A million passes over one image take minutes.
_MOST_EPOCHS = 1_000_000
#: Setting → its types, and in words what it takes. Numbers state their bounds themselves.
_TAKES: dict[str, tuple[tuple[type, ...], str]] = {
    "method": ((str,), "the name of a method"),
    "tune": (
        (str, os.PathLike, NoneType),
        "loo (or leave-one-out), scale-free, or the path of a folder or list of validation photos",
    ),
    "templates": ((list, tuple, NoneType), "a list of texts with {} for the class name, or of template sets"),
    "class_names": ((Mapping, NoneType), "a mapping label → name"),
    "calibrate": ((bool,), "true or false"),
    "device": ((str, NoneType), "cpu or cuda"),
}
_SHA256 = re.compile("[0-9a-f]{64}")
#: What makes an Encoder, which need not be a subclass of ours.
_OF_AN_ENCODER = ("record", "identity", "logit_scale", "prepare", "encode_prepared", "encode_texts")


def check_settings(settings: Mapping[str, Any]) -> None:
    """Check the constructor values of FewShotClassifier, by name; other keys are ignored.

    Raises UsageError if one is not what it takes, or contradicts another; UnknownName for a method or set of templates.
    """
    check_encoder(settings["encoder"])
    for name, (kinds, wanted) in _TAKES.items():
        require(isinstance(settings[name], kinds), name, wanted, settings[name])
    method = method_of(settings)
    check_tuning(method, settings["tune"], settings["alpha"], settings["beta"])
    for name in METHOD_SETTINGS:
        value = settings[name]
        if value is None:
            continue
        if name not in inspect.signature(method_class(method)).parameters:
            raise UsageError(f"{method} takes no {name}; leave out {name}", arguments=(name,))
        if name == "epochs":
            validation.integer(value, name, 0, _MOST_EPOCHS)
        else:
            require(value in PRIORS, name, " or ".join(PRIORS), value)
    resolve_templates(settings["templates"] or ())
    checked_names((settings["class_names"] or {}).items(), "class_names")
    if settings["logit_scale"] is not None:
        validation.number(settings["logit_scale"], "logit_scale", 0, validation.MAX_LOGIT_SCALE, above=True)
    validation.seed(settings["seed"])
    validation.threads(settings["threads"])


def method_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `METHOD_SETTINGS` that are given, as the method takes them."""
    given = {name: settings[name] for name in METHOD_SETTINGS if settings[name] is not None}
    return {name: int(value) if name == "epochs" else value for name, value in given.items()}


def check_encoder(encoder: object) -> None:
    """Raise UsageError unless it is None, a name, or has all that an Encoder has, or is a list of two such.

    A class has no identity yet.
    """
    several = isinstance(encoder, (list, tuple))
    parts = encoder if isinstance(encoder, (list, tuple)) else [encoder]
    fits = all(isinstance(p, str) or all(hasattr(p, name) for name in _OF_AN_ENCODER) for p in parts)
    fits = encoder is None or (fits and len(parts) == (2 if several else 1))
    require(fits, "encoder", "the name of an encoder, or a loaded one, or a list of two", encoder)


def is_loadable(encoder: object) -> bool:
    """Whether an encoder, as `check_encoder` took it, is given by name only, so that it can be loaded again."""
    return encoder is None or all(
        isinstance(part, str) for part in (encoder if isinstance(encoder, (list, tuple)) else [encoder])
    )


def listed_support(support: Any, name: str, width: int) -> SupportSet:
    """A SupportSet from outside, called `name` in messages, with unit rows and labels in Unicode NFC.

    Raises UsageError if it is none, its vectors have another width, an id occurs twice or a digest is no SHA-256; LabelError as `listed_labels`.
    """
    require(isinstance(support, SupportSet), name, "a SupportSet", support)
    require(support.vectors.shape[1] == width, name, f"vectors of width {width}", support.vectors.shape[1])
    twice = [photo for photo, times in Counter(support.ids.tolist()).items() if times > 1]
    require(not twice, name, "ids that are unique", twice[:1])
    wrong = [digest for digest in support.digests.tolist() if digest and not _SHA256.fullmatch(digest)]
    require(not wrong, name, "digests that are a SHA-256 in hexadecimal, or empty", wrong[:1])
    labels = np.array(listed_labels(support.labels), dtype=np.str_)
    return replace(support, labels=labels, vectors=unit_rows(support.vectors))


def method_of(settings: Mapping[str, Any]) -> str:
    """The method that is fitted: for ``auto`` the default, or Tip-Adapter if alpha, beta or `tune` is given."""
    if settings["method"] != AUTO:
        return str(settings["method"])
    tuned = any(settings[name] is not None for name in ("tune", "alpha", "beta"))
    return TIP_ADAPTER if tuned else DEFAULT_METHOD


def check_tuning(method: str, tune: str | os.PathLike[str] | None, alpha: float | None, beta: float | None) -> None:
    """Raise UsageError unless alpha, beta and tune fit the method and one another, UnknownName if there is no such method.

    Alpha and beta go together, without `tune`, within bounds, and with a method that has them. `tune` is a rule, or a folder
    or list that exists; for a method that searches another setting it is validation photos.
    """
    given = [name for name, value in [("alpha", alpha), ("beta", beta), ("tune", tune)] if value is not None]
    made = method_class(method)
    by_photos = given == ["tune"] and os.fspath(tune or "") not in _RULES
    if given and not made.capabilities.has_alpha_beta and not (made.capabilities.takes_validation and by_photos):
        photos = "; tune takes the path of validation photos" if made.capabilities.takes_validation else ""
        raise UsageError(
            f"{method} has no alpha and beta to choose; leave out {', '.join(given)}{photos}", arguments=given
        )
    if (alpha is None) != (beta is None):
        one, other = ("alpha", "beta") if beta is None else ("beta", "alpha")
        raise UsageError(f"{one} needs {other}; give both, or neither", arguments=(one, other))
    if len(given) == 3:
        raise UsageError("tune chooses alpha and beta; leave out tune, or alpha and beta", arguments=given)
    if tune is not None and os.fspath(tune) not in _RULES and not os.path.lexists(tune):
        raise UsageError(
            f"tune {printable(os.fspath(tune))!r}: {suggestion(os.fspath(tune), _RULES)}it is not loo, leave-one-out or "
            "scale-free, nor a folder or list that exists",
            arguments=("tune",),
        )
    given_alpha_beta(alpha, beta)


def given_alpha_beta(alpha: float | None, beta: float | None) -> tuple[float, float] | None:
    """A given alpha and beta as floats, None where none is given; UsageError if one is no number, or out of bounds."""
    if alpha is None or beta is None:
        return None
    return (
        validation.number(alpha, "alpha", 0, validation.MAX_ALPHA),
        validation.number(beta, "beta", 0, validation.MAX_BETA, above=True),
    )


def settings_of(choice: Choice[float | None], labels: NDArray[np.str_]) -> dict[str, Any]:
    """The settings that led to a choice on photos with these labels, as far as it tells: the default rule stays default.

    Validation photos are not known any more: a warning says that the default rule is used.
    """
    if choice.rule == tuning.FIXED:
        return {"alpha": choice.alpha, "beta": choice.beta}
    if choice.rule == tuning.VALIDATION:
        warn(
            "alpha and beta were chosen on validation images, which the model does not store: the default rule is used"
        )
    named = {rule: name for name, rule in _RULES.items() if rule != rule_for(None, None, labels)}
    return {"tune": named.get(choice.rule), "calibrate": choice.temperature != 1 or not choice.n_rows}


def logit_scale_of(encoder: Encoder, given: float | None) -> float:
    """The logit scale given (as `check_settings` took it), else the encoder's; warns where that is a guess."""
    if given is not None:
        return float(given)
    if encoder.record.logit_scale_assumed:
        whose = ", that of OpenAI's CLIPs" if encoder.logit_scale == 100 else ""
        warn(
            f"the logit scale of {printable(encoder.identity.name)} is in none of its files: {encoder.logit_scale:g} is "
            f"assumed{whose}; --logit-scale (logit_scale=) sets another"
        )
    return encoder.logit_scale


def rule_for(
    tune: str | os.PathLike[str] | None, alpha_beta: tuple[float, float] | None, labels: NDArray[np.str_]
) -> str:
    """The rule of `tuning.RULES`: fixed for given (alpha, beta); by the (n,) labels of the support for no `tune`."""
    if alpha_beta is not None:
        return tuning.FIXED
    if tune is None:
        return tuning.default_rule(np.unique(labels, return_inverse=True)[1])
    return _RULES.get(os.fspath(tune), tuning.VALIDATION)
