"""From photos to a head: photos become vectors, labels get names and embeddings, and the method is fitted to both.

`learn_images` does all of it, `learn_support` starts from vectors, and `learn_again` and `learn_changes` from a head. The
functions return a new head. Their `settings` are the constructor values of FewShotClassifier, name → value, which
`check_settings` took; other keys are ignored.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tip_adapter.encoders.joined import JoinedEncoder
from tip_adapter.encoders.prompts import embed_classes, name_classes, resolve_templates
from tip_adapter.errors import LabelError, warn
from tip_adapter.features.sources import encode_labelled
from tip_adapter.images.inputs import listed_labels
from tip_adapter.images.label_doubts import name_doubts, new_doubts
from tip_adapter.images.labels import refuse_lookalike_labels
from tip_adapter.methods import method_class
from tip_adapter.methods.kernel_weights import kernel_weights
from tip_adapter.methods.tuning import LEAVE_ONE_OUT
from tip_adapter.model.contents import distinct
from tip_adapter.model.fitting import fit_by_settings, refuse_nameless, refuse_singles
from tip_adapter.model.head import TrainingData
from tip_adapter.model.incremental import with_classes, with_only
from tip_adapter.model.settings import listed_support, logit_scale_of, method_of, settings_of
from tip_adapter.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tip_adapter.encoders import Encoder
    from tip_adapter.features.encode import Progress
    from tip_adapter.features.sources import VectorSource
    from tip_adapter.model.contents import Changes
    from tip_adapter.model.head import Head
    from tip_adapter.vectors import ClassEmbeddings, SupportSet


# ---- a new head -------------------------------------------------------------------------------------------------------


def learn_images(
    photos: VectorSource, settings: Mapping[str, Any], encoder: Encoder, *, progress: Progress | None
) -> tuple[Head, Encoder, tuple[float, ...] | None]:
    """Learn from labelled photos; two encoders without weights get those of the best left-out likelihood.

    Parameters
    ----------
    photos : VectorSource, with labels; its classes may have no photo
    settings : name → value
    encoder : Encoder
    progress : called with (photos done, photos in all)

    Returns
    -------
    head : Head
    encoder : the encoder of its vectors: the one given, or its parts with the weights that were chosen
    weights : those that were chosen here; None where none were

    Raises
    ------
    NothingReadable, LabelError, UsageError
        As `FewShotClassifier.fit`. What the labels alone say is raised before any photo is decoded.
    """
    method, weights = method_of(settings), None
    if not encoder.record.reads_names:
        refuse_nameless(method, photos.classes, photos.labels)
    warn(*photos.notes)
    if settings["tune"] in ("loo", LEAVE_ONE_OUT):
        refuse_singles(photos.labels)
    support = encode_support(photos, method, encoder, threads=settings["threads"], progress=progress)
    if isinstance(encoder, JoinedEncoder) and encoder.weights is None and len(support):
        rows = encoder.split(support.vectors)
        weights = kernel_weights(rows, support.labels)
        encoder = encoder.weighted(weights)
        support = replace(support, vectors=encoder.join(rows))
    return learn_support(support, photos.classes, settings, encoder, progress=progress), encoder, weights


def encode_support(
    photos: VectorSource, method: str, encoder: Encoder, *, threads: int | None, progress: Progress | None
) -> SupportSet:
    """The photos that a method learns from, each content once in a class; none if it learns from names alone."""
    used = photos if method_class(method).capabilities.needs_images else photos.take(())
    support, _ = encode_labelled(used, encoder, threads=threads, progress=progress)
    lost = sorted(set(used.labels) - set(support.labels.tolist()))
    if lost and encoder.record.reads_names:
        warn(f"not one photo can be read of class {', '.join(map(printable, lost[:5]))}; its name alone is used")
    return distinct(support, support.take(slice(0)))


def learn_support(
    support: SupportSet,
    classes: Iterable[str],
    settings: Mapping[str, Any],
    encoder: Encoder,
    *,
    progress: Progress | None,
) -> Head:
    """Learn from vectors of the encoder, and `classes` beyond theirs, which have a name and no photo; raises as `fit_support`."""
    support = listed_support(support, "support", encoder.identity.width)
    labels = sorted({*listed_labels(classes, "classes"), *listed_labels(np.unique(support.labels))})
    if not labels:
        raise LabelError("there are no classes to learn; give at least one photo or class name")
    _warn_of_one_class(labels)
    names = _names(labels, settings, encoder)
    templates = _templates(settings, encoder)
    embeddings = _embeddings(names, templates, encoder)
    data = TrainingData(support, names, templates, embeddings, logit_scale_of(encoder, settings["logit_scale"]))
    return fit_by_settings(settings, encoder, method_of(settings), data, progress=progress)


# ---- from a head to another -------------------------------------------------------------------------------------------


def learn_again(head: Head, settings: Mapping[str, Any], encoder: Encoder, *, progress: Progress | None) -> Head:
    """Learn from the head's own photos and names, by its own method; what is chosen or trained is so again."""
    return fit_by_settings(settings, encoder, head.refit_method, head.training_data, progress=progress)


def learn_changes(
    head: Head, changes: Changes, settings: Mapping[str, Any], encoder: Encoder, *, progress: Progress | None
) -> Head:
    """Learn a folder's photos and classes instead of the head's; alpha, beta and their rule are the head's where none is given."""
    _warn_of_one_class(changes.classes)
    if settings["tune"] is None and settings["alpha"] is None and head.choice is not None:
        settings = {**settings, **settings_of(head.choice, head.support.labels)}
    # Labels may look alike here: one of them may be of a class that is removed.
    both = _with_new(head, changes.new_classes, settings, encoder)
    return learn_again(with_only(both, changes.classes, changes.support), settings, encoder, progress=progress)


def with_named(head: Head, labels: Sequence[str], settings: Mapping[str, Any], encoder: Encoder) -> Head:
    """The head with those of the labels, too, that are new to it, by their names; LabelError if two look alike."""
    refuse_lookalike_labels(labels, head.names)
    warn(*new_doubts(head.names, labels))
    return _with_new(head, labels, settings, encoder)


def _with_new(head: Head, labels: Sequence[str], settings: Mapping[str, Any], encoder: Encoder) -> Head:
    fresh = [label for label in labels if label not in head.names]
    if not fresh:
        return head
    names = _names(fresh, settings, encoder, head.names)
    return with_classes(head, names, _embeddings(names, head.templates, encoder))


# ---- from labels to embeddings ----------------------------------------------------------------------------------------


def _names(
    labels: Sequence[str], settings: Mapping[str, Any], encoder: Encoder, known: Iterable[str] = ()
) -> dict[str, str]:
    """Label → name; `known` are labels that have names already."""
    record = encoder.record
    reads = record.reads if record.reads_names else lambda _: True  # a name that is only shown may be in any script
    names = name_classes(labels, settings["class_names"] or {}, reads, known)
    warn(*(f"class names {doubt}" for doubt in name_doubts(name for label, name in names.items() if name != label)))
    return names


def _templates(settings: Mapping[str, Any], encoder: Encoder) -> tuple[str, ...]:
    """The prompt templates; where the encoder reads no names there are none, and a warning says what is not used."""
    if encoder.record.reads_names:
        return resolve_templates(settings["templates"] or encoder.record.templates)
    if settings["templates"] or settings["class_names"]:
        name = printable(encoder.identity.name)
        warn(f"{name} reads no names: templates are not used, and class names are only shown")
    return ()


def _embeddings(names: Mapping[str, str], templates: Sequence[str], encoder: Encoder) -> ClassEmbeddings | None:
    """The embeddings of label → name; None where the encoder reads no names."""
    return embed_classes(names, templates, encoder.encode_texts) if encoder.record.reads_names else None


def _warn_of_one_class(labels: Sequence[str]) -> None:
    if len(labels) == 1:
        warn(f"there is one class only ({printable(labels[0])}): every photo will be predicted as that")
