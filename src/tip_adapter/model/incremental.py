"""Incremental learning of a head: photos and classes are added and removed; what was chosen stays as it was.

Each function returns a new head. Learned keys cannot be updated: the head falls back to training-free Tip-Adapter over the
photos' own vectors with the same alpha and beta, and records in `finetune_with` that it is to be fine-tuned again.
"""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tip_adapter.errors import UnknownName, UsageError, warn
from tip_adapter.methods import TIP_ADAPTER
from tip_adapter.model.head import new_estimator
from tip_adapter.text import printable, shown, suggestion
from tip_adapter.vectors import ClassEmbeddings

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray

    from tip_adapter.methods.base import VectorClassifier
    from tip_adapter.model.head import Head
    from tip_adapter.vectors import SupportSet


def with_classes(head: Head, names: Mapping[str, str], embeddings: ClassEmbeddings | None) -> Head:
    """The head with more classes: label → name, and their embeddings by label; None if it has none, and photos follow."""
    head = replace(head, names=dict(sorted({**head.names, **names}.items())))
    if head.class_embeddings is None or embeddings is None:
        return head
    both = [head.class_embeddings, embeddings]
    labels, matrices = [part.labels for part in both], [part.matrix for part in both]
    everything = ClassEmbeddings(np.concatenate(labels), np.concatenate(matrices)).sorted_by_label()
    return with_images(replace(head, class_embeddings=everything), head.support.take(slice(0)))


def with_images(head: Head, photos: SupportSet) -> Head:
    """The head with more photos of its classes, none if the method uses none; UsageError for an id that it has already."""
    present = set(head.support.ids.tolist()) & set(photos.ids.tolist())
    if present:
        label = head.support.labels[head.support.ids == min(present)][0]
        raise UsageError(
            f"photo {printable(min(present))} is in the model already, as {printable(label)}; relabel it "
            "(tip-adapter relabel-photo), remove it first, or rename it"
        )
    estimator = _updatable(head).set_params(class_embeddings=head.class_embeddings)
    if estimator.capabilities.incremental:
        estimator.partial_fit(photos.vectors, photos.labels, ids=photos.ids.tolist())
        more = replace(head.support.with_more(photos), vectors=estimator.keys_)  # unit rows
        return _answering(head, estimator, more)
    support = head.support.with_more(photos) if estimator.capabilities.needs_images else head.support
    return _refitted(head, estimator, support)


def relabelled(head: Head, photo: str, label: str) -> Head:
    """The head as if the photo of that id had been added with another label of the head; once, if that class has the same photo.

    Raises UnknownName if it has no photo of that id, or no such class.
    """
    _require(photo, "photo", head.support.ids.tolist(), "relabelled")
    _require(label, "class", head.names, "relabelled")
    support = head.support
    (digest,) = support.digests[support.ids == photo].tolist()
    same = (support.digests == digest) & (support.labels == label) & (support.ids != photo) if digest else np.array([])
    if same.any():
        warn(f"{photo} is the same as {support.ids[same][0]}, which is of class {label} already: it counts once")
        return without_images(head, [photo])
    labels = support.labels.astype(object)
    labels[support.ids == photo] = label
    _refuse_emptied(head, labels)
    return _refitted(head, _updatable(head), replace(support, labels=labels.astype(np.str_)))


def with_only(head: Head, classes: Collection[str], support: SupportSet) -> Head:
    """The head with these classes of its own and these photos of them, to be fitted again."""
    names = {label: name for label, name in head.names.items() if label in classes}
    head = replace(head, names=names, support=support)
    if head.class_embeddings is None:
        return head
    labels, matrix = head.class_embeddings.labels, head.class_embeddings.matrix
    kept = np.isin(labels, list(names))
    return replace(head, class_embeddings=ClassEmbeddings(labels[kept], matrix[kept]))


def without_images(head: Head, ids: Sequence[str]) -> Head:
    """The head as if these photos had never been added; their classes stay, by their names.

    Raises UnknownName if it has no photo of an id, UsageError if one is given twice, or without names if a class would have none.
    """
    known = set(head.support.ids.tolist())
    for name, times in Counter(ids).items():
        _require(name, "photo", known)
        if times > 1:
            raise UsageError(f"photo {shown(name)} is given twice; nothing was removed")
    rest = head.support.take(np.flatnonzero(~np.isin(head.support.ids, list(ids))))
    _refuse_emptied(head, rest.labels)
    estimator = _updatable(head)
    if estimator.capabilities.incremental:
        return _answering(head, estimator.remove(ids), rest)
    return _refitted(head, estimator, rest)


def without_class(head: Head, label: str) -> Head:
    """The head as if that class and its photos had never been added.

    Raises UnknownName if there is no such class, UsageError if it is the only one.
    """
    _require(label, "class", head.names)
    if len(head.names) == 1:
        raise UsageError(f"{shown(label)} is the only class; a classifier needs one")
    names = {other: name for other, name in head.names.items() if other != label}
    estimator, rest = _updatable(head), head.support.take(np.flatnonzero(head.support.labels != label))
    embeddings = head.class_embeddings.without(label) if head.class_embeddings else None
    smaller = replace(head, names=names, class_embeddings=embeddings)
    if estimator.capabilities.incremental:
        return _answering(smaller, estimator.remove_class(label), rest)
    estimator.set_params(class_embeddings=smaller.class_embeddings)
    return _refitted(smaller, estimator, rest)


def _updatable(head: Head) -> VectorClassifier:
    """A copy of the estimator that shares its arrays; for learned keys, the training-free one."""
    if not _falls_back(head):
        return copy.copy(head.estimator)
    settings = head.estimator.settings()
    estimator = new_estimator(TIP_ADAPTER, head.class_embeddings, head.logit_scale, head.choice, settings)
    return estimator.fit(head.support.vectors, head.support.labels, ids=head.support.ids.tolist())


def _refitted(head: Head, estimator: VectorClassifier, support: SupportSet) -> Head:
    """The head with a method that cannot be updated, fitted again."""
    return _answering(head, estimator.fit(support.vectors, support.labels, ids=support.ids.tolist()), support)


def _answering(head: Head, estimator: VectorClassifier, support: SupportSet) -> Head:
    """The head with another estimator; what was measured on the previous support no longer holds."""
    if _falls_back(head):
        head = replace(head, method=TIP_ADAPTER, finetune_with=head.method)
    return replace(head, estimator=estimator, support=support, left_out=None, training=estimator.training())


def _falls_back(head: Head) -> bool:
    """Whether it has learned arrays that cannot be updated in place."""
    return bool(head.estimator.learned()) and not head.estimator.capabilities.incremental


def _refuse_emptied(head: Head, labels: NDArray[Any]) -> None:
    """Raise UsageError if no photo of a class is among those with these labels, and no name says what it is."""
    emptied = sorted({*head.names} - {*labels.tolist()})
    if head.class_embeddings is None and emptied:
        raise UsageError(
            f"the last photo of {shown(emptied[0])} cannot leave it: the encoder reads no names, so a class without photos is "
            "unknown; remove the class instead"
        )


def _require(name: str, kind: str, known: Collection[str], done: str = "removed") -> None:
    if name not in known:
        raise UnknownName(f"the model has no {kind} {shown(name)}; {suggestion(name, known)}nothing was {done}")
