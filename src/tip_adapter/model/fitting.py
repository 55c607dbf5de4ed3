"""Fit a head: choose alpha and beta by a rule, fit the method, and choose once more where keys are learned."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tip_adapter.errors import FolderError, LabelError, UsageError, warn
from tip_adapter.features.sources import encode_labelled, labelled_source
from tip_adapter.methods import method_class, tuning
from tip_adapter.methods.leave_one_out import Cache
from tip_adapter.metrics import LeaveOneOutResult
from tip_adapter.model.head import Head, new_estimator, support_cache
from tip_adapter.text import counted, printable
from tip_adapter.vectors import softmax, unit_rows

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from tip_adapter.encoders import Encoder
    from tip_adapter.features.encode import Progress
    from tip_adapter.features.sources import VectorSource
    from tip_adapter.methods.base import VectorClassifier
    from tip_adapter.methods.tuning import Choice, TuningData
    from tip_adapter.vectors import ClassEmbeddings, SupportSet


def fit_head(
    method: str,
    support: SupportSet,
    names: Mapping[str, str],
    templates: tuple[str, ...],
    class_embeddings: ClassEmbeddings,
    *,
    logit_scale: float,
    rule: str,
    calibrate: bool,
    given: TuningData,
    settings: Mapping[str, Any],
    offers: Mapping[str, Any],
    views: Callable[[int], NDArray[Any]] | None = None,
    initial_alpha_beta: tuple[float, float] | None = None,
) -> Head:
    """Choose alpha and beta, fit the method; with learned keys and validation photos, choose once more.

    Parameters
    ----------
    method : name of a method
    support, names, templates, class_embeddings : as in Head
    logit_scale : float, the encoder's
    rule : key of `tuning.RULES`
    calibrate : bool, whether the choice keeps its temperature; else it is 1
    given : TuningData, what the rule may look at beside the support
    settings : constructor values of the method that differ from its own; those that it does not take are left out
    offers : what the method needs beyond vectors (`Capabilities.encoder_parts`), as the encoder offers it
    views : epoch → (n, d) float array, the support as a method that is trained sees it then; None for as it is
    initial_alpha_beta : alpha and beta that keys learn at where they are chosen again afterwards; None for those chosen before

    Raises
    ------
    UnknownName
        There is no such method; the nearest is suggested.
    UsageError
        Leave-one-out was asked for and no class has two photos; or there are no photos to train on.
    """
    made = method_class(method)
    if not len(support) and made.capabilities.needs_images and not made.capabilities.has_alpha_beta:
        raise UsageError(f"{method} learns from photos, and there are none; give it photos, or use zero-shot")
    support = replace(support, vectors=unit_rows(support.vectors))
    choice = left_out = None
    if made.capabilities.has_alpha_beta and (len(support) or rule != tuning.SCALE_FREE):
        cache = support_cache(support, class_embeddings, logit_scale, given.queries)
        choice = _tempered(_choose(cache, rule, given), calibrate)
        left_out = _left_out(cache, choice, class_embeddings.labels)
    estimator = new_estimator(method, class_embeddings, logit_scale, choice, {**settings, **offers, "names": names})
    chosen_again = choice is not None and given.validation is not None and bool(made.capabilities.learned)
    if chosen_again and initial_alpha_beta:
        estimator.set_params(alpha=initial_alpha_beta[0], beta=initial_alpha_beta[1])
    others: dict[str, Any] = {}
    if made.capabilities.takes_validation:
        others["validation"] = _of_classes(given.validation, support, names)
    if made.capabilities.takes_views:
        others["views"] = views
    estimator.fit(support.vectors, support.labels, ids=support.ids.tolist(), **others)
    estimator.set_params(**dict.fromkeys(offers))  # answering needs none of it
    _say_unknown(method, names, estimator)
    if chosen_again:
        choice = _tempered(tuning.on_validation(Cache.of(estimator, support.vectors), given), calibrate)
        estimator.set_params(alpha=choice.alpha, beta=choice.beta)
        left_out = None  # it was measured at the pair of before
    return Head(
        method=method,
        names=names,
        templates=templates,
        class_embeddings=class_embeddings,
        support=support,
        choice=choice,
        estimator=estimator,
        logit_scale=logit_scale,
        left_out=left_out,
        training=estimator.training(),
    )


def with_alpha_beta(head: Head, rule: str, given: TuningData) -> Head:
    """The head at a pair that is chosen now, for a training-free method that had none.

    Parameters
    ----------
    rule, given : as in `learn`
    """
    choice = _choose(head.cache, rule, given)
    estimator = copy.copy(head.estimator).set_params(alpha=choice.alpha, beta=choice.beta)
    left_out = _left_out(head.cache, choice, head.classes)
    return replace(head, choice=choice, estimator=estimator, left_out=left_out)


def encoder_parts(encoder: Encoder, method: str) -> dict[str, Any]:
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


def tuning_data(
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


def _choose(support: Cache, rule: str, given: TuningData) -> Choice:
    if rule == tuning.LEAVE_ONE_OUT:
        refuse_singles(support.labels.tolist())
        single = list(Counter(support.labels.tolist()).values()).count(1)
        if single:
            who = counted(single, "class has", "classes have")
            warn(f"{who} one photo, which leave-one-out cannot score; the others decide")
    return tuning.RULES[rule](support, given)


def refuse_singles(labels: Iterable[str | int]) -> None:
    """Raise UsageError where leave-one-out has nothing to score: among the (n,) labels no class has two photos."""
    if max(Counter(labels).values(), default=0) < 2:
        raise UsageError(
            "leave-one-out needs a class with two photos; tune scale-free (--tune scale-free) works from one"
        )


def _tempered(choice: Choice, calibrate: bool) -> Choice:
    return choice if calibrate else replace(choice, temperature=1.0)


def _left_out(cache: Cache, choice: Choice, classes: NDArray[Any]) -> LeaveOneOutResult | None:
    """How right the pair is on the support, each photo left out; None where none can be."""
    photos = cache.left_out
    if not photos.n_scored:
        return None
    probabilities = softmax(photos.logits(choice.alpha, choice.beta) / choice.temperature)
    return LeaveOneOutResult.of(classes[photos.scored_labels], probabilities, classes)


def _of_classes(
    validation: tuple[Any, Any] | None, support: SupportSet, names: Mapping[str, str]
) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """Of validation photos, as `TuningData` has them, those of classes with support, and their labels; None without any."""
    if validation is None:
        return None
    vectors, positions = validation
    labels = np.array(list(names), dtype=np.str_)[positions]
    known = np.isin(labels, support.labels)
    return (vectors[known], labels[known]) if known.any() else None


def _say_unknown(method: str, names: Mapping[str, str], estimator: VectorClassifier) -> None:
    """Warn where a class has a name and no photo, and the method knows no names."""
    unknown = sorted(set(names) - set(estimator.classes_.tolist()))
    if unknown:
        who = counted(len(unknown), "class without photos is", "classes without photos are")
        listed = ", ".join(map(printable, unknown[:5]))
        warn(f"{who} never answered, for {method} knows photos alone: {listed}")
