"""What a user asks for, as the rule that chooses alpha and beta and what it may look at."""

from __future__ import annotations

import inspect
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from tip_adapter import validation
from tip_adapter.errors import FolderError, LabelError, UsageError, warn
from tip_adapter.features.sources import encode_labelled, labelled_source
from tip_adapter.methods import method_class, tuning
from tip_adapter.text import counted, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tip_adapter.encoders import Encoder
    from tip_adapter.features.encode import Progress
    from tip_adapter.features.sources import VectorSource

#: What `tune` may be beside a folder or list.
_RULES = {"loo": tuning.LEAVE_ONE_OUT, "scale-free": tuning.SCALE_FREE}
#: As a model folder keeps it.
_LARGEST_LOGIT_SCALE = 10_000
#: Of alpha and beta: far beyond any use, and far below what overflows in float32.
_LARGEST = 1_000_000


#: A million passes over one photo take minutes.
_MOST_EPOCHS = 1_000_000


def check_tuning(method: str, tune: str | os.PathLike[str] | None, alpha: float | None, beta: float | None) -> None:
    """Refuse what makes no sense together.

    Raises
    ------
    UnknownName
        There is no such method.
    UsageError
        alpha without beta, either with `tune`, out of bounds, or for a method without a pair; `tune` is no rule and no
        folder or list that exists, or no photos for a method that searches a setting by them.
    """
    given = [name for name, value in [("alpha", alpha), ("beta", beta), ("tune", tune)] if value is not None]
    made = method_class(method)
    by_photos = given == ["tune"] and os.fspath(tune or "") not in _RULES
    if given and not made.capabilities.has_alpha_beta and not (made.capabilities.takes_validation and by_photos):
        photos = "; tune takes the path of validation photos" if made.capabilities.takes_validation else ""
        raise UsageError(f"{method} has no alpha and beta to choose; leave out {', '.join(given)}{photos}")
    if given not in ([], ["tune"], ["alpha", "beta"]):
        raise UsageError(f"got {' and '.join(given)}: give both alpha and beta and no tune, or neither")
    if tune is not None and os.fspath(tune) not in _RULES and not os.path.lexists(tune):
        raise UsageError(f"tune {os.fspath(tune)!r} is not loo or scale-free, nor a folder or list that exists")
    given_pair(alpha, beta)


def check_epochs(method: str, epochs: int | None) -> None:
    """Raise UsageError if `epochs` is given to a method that is not trained in epochs, or is no number of them."""
    if epochs is None:
        return
    if "epochs" not in inspect.signature(method_class(method)).parameters:
        raise UsageError(f"{method} is not trained in epochs; leave out epochs")
    validation.integer(epochs, "epochs", 0, _MOST_EPOCHS)


def offers_of(encoder: Encoder, method: str) -> dict[str, Any]:
    """What a method needs beyond vectors, as the encoder offers it.

    Raises
    ------
    UsageError
        The encoder offers no such thing.
    MissingExtra
        It needs a package for it that is not installed.
    """
    needs = method_class(method).capabilities.encoder_parts
    for need in needs:
        if not hasattr(encoder, need):
            name = printable(encoder.identity.name)
            raise UsageError(
                f"{method} needs a {need.replace('_', ' ')}, which {name} does not offer; use another encoder"
            )
    return {need: getattr(encoder, need)() for need in needs}


def given_pair(alpha: float | None, beta: float | None) -> tuple[float, float] | None:
    """A given alpha and beta as floats, None where none is given.

    Raises
    ------
    UsageError
        One is no number, or out of bounds.
    """
    if alpha is None or beta is None:
        return None
    return validation.number(alpha, "alpha", 0, _LARGEST), validation.number(beta, "beta", 0, _LARGEST, above=True)


def given_logit_scale(logit_scale: float | None) -> float | None:
    """A given logit scale as a float; raises UsageError if it is no number, or out of bounds."""
    return (
        None
        if logit_scale is None
        else validation.number(logit_scale, "logit_scale", 0, _LARGEST_LOGIT_SCALE, above=True)
    )


def logit_scale_of(encoder: Encoder, given: float | None) -> float:
    """The logit scale given, else the encoder's; warns where that is a guess, raises as `given_logit_scale`."""
    scale = given_logit_scale(given)
    if scale is not None:
        return scale
    if encoder.record.logit_scale_assumed:
        warn(
            f"the logit scale of {printable(encoder.identity.name)} stands in none of its files: {encoder.logit_scale:g} is "
            "assumed, that of OpenAI's CLIPs; --logit-scale (logit_scale=) sets another"
        )
    return encoder.logit_scale


def rule_for(tune: str | os.PathLike[str] | None, pair: tuple[float, float] | None, labels: NDArray[np.str_]) -> str:
    """The rule of `tuning.RULES`: a given pair, or (n,) labels of the support where nothing was asked for, decide."""
    if pair is not None:
        return tuning.FIXED
    if tune is None:
        return tuning.default_rule(np.unique(labels, return_inverse=True)[1])
    return _RULES.get(os.fspath(tune), tuning.VALIDATION)


def look_at(
    rule: str,
    tune: str | os.PathLike[str] | None,
    pair: tuple[float, float] | None,
    labels: Sequence[str],
    encoder: Encoder,
    *,
    threads: int | None,
    progress: Progress | None,
) -> tuning.TuningData:
    """What a rule may look at beside the support; raises as `encode_validation`."""
    validation = None
    if rule == tuning.VALIDATION and tune is not None:
        validation = encode_validation(tune, labels, encoder, threads=threads, progress=progress)
    return tuning.TuningData(encoder.record.scale_free_ratio, validation, pair)


def encode_validation(
    source: str | os.PathLike[str],
    labels: Sequence[str],
    encoder: Encoder,
    *,
    threads: int | None,
    progress: Progress | None,
) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Validation photos as (m, d) unit rows and (m,) positions in the sorted `labels`.

    Raises
    ------
    FolderError, LabelError, FeaturesError, WrongEncoder
        As `labelled_source` and `VectorSource.stream`; there are no photos, or none of a class among `labels`.
    """
    photos = labelled_source(source, part="val")
    warn(*photos.notes)
    refuse_unknown(photos, labels)
    names = set(labels)
    known = [row for row, label in enumerate(photos.labels) if label in names]
    if len(known) < len(photos):
        unknown = counted(len(photos) - len(known), "validation photo is", "validation photos are")
        warn(f"{unknown} of classes without support, and skipped")
    photos = photos.take(known)
    support, _ = encode_labelled(photos, encoder, threads=threads, progress=progress)
    return support.vectors, np.searchsorted(np.array(labels), support.labels)


def refuse_unknown(photos: VectorSource, labels: Sequence[str]) -> None:
    """Raise FolderError if there are no photos, LabelError if not one class of them is among `labels`."""
    if not len(photos):
        raise FolderError(f"{printable(photos.root)} holds no photos in its class folders")
    if not set(photos.labels) & set(labels):
        known, found = (", ".join(map(printable, names[:5])) for names in (labels, photos.classes))
        raise LabelError(f"the model knows none of these classes ({found}, …); it knows {known}, …")
