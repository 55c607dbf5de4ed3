"""Fit a head: choose alpha and beta by a rule, or let the method choose; fit; choose once more where keys are learned."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tip_adapter import validation
from tip_adapter.errors import FolderError, LabelError, UsageError, warn
from tip_adapter.features.sources import encode_labelled, labelled_source
from tip_adapter.images.labels import refuse_lookalike_labels
from tip_adapter.methods import method_class, tuning
from tip_adapter.methods.folds import near_repeats
from tip_adapter.methods.leave_one_out import Cache
from tip_adapter.methods.ops import row_weights, to_numpy
from tip_adapter.methods.tuning import Choice, TuningData
from tip_adapter.metrics import LeaveOneOutResult, MetricAccumulator, expected_refused
from tip_adapter.model.contents import warning_of_overlap
from tip_adapter.model.head import Head, new_estimator
from tip_adapter.model.settings import given_alpha_beta, method_settings, rule_for
from tip_adapter.text import counted, first_of, first_three, printable
from tip_adapter.vectors import softmax, unit_rows

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from tip_adapter.encoders import Encoder
    from tip_adapter.features.encode import Progress
    from tip_adapter.features.sources import VectorSource
    from tip_adapter.methods import VectorClassifier
    from tip_adapter.model.head import TrainingData
    from tip_adapter.vectors import SupportSet

#: At one shot, the number of photos with which a temperature has half of its effect.
_PHOTOS_FOR_HALF = 20


def fit_by_settings(
    settings: Mapping[str, Any],
    encoder: Encoder,
    method: str,
    data: TrainingData,
    *,
    progress: Progress | None,
    after_epoch: Callable[[int, Any], None] | None = None,
) -> Head:
    """`fit_head` by the constructor values of FewShotClassifier, which `check_settings` took.

    Parameters
    ----------
    settings : name → value
    encoder : Encoder, of the support
    method : name of the method that is fitted, which need not be that of the settings
    data : TrainingData
    progress : called with (photos done, photos in all) while validation photos are encoded
    after_epoch : as in `fit_head`

    Raises
    ------
    FolderError, LabelError, FeaturesError, WrongEncoder, UsageError
        As `fit_head`, `encoder_parts` and, where `tune` names validation photos, `labelled_source`.
    """
    rule, given = _rule_by(settings, data.support, list(data.names), encoder, progress)
    return fit_head(
        method,
        data,
        rule=rule,
        calibrate=settings["calibrate"],
        given=given,
        settings={"seed": validation.seed(settings["seed"]), **method_settings(settings)},
        offers=encoder_parts(encoder, method),
        after_epoch=after_epoch,
    )


def fit_head(
    method: str,
    data: TrainingData,
    *,
    rule: str,
    calibrate: bool,
    given: TuningData,
    settings: Mapping[str, Any],
    offers: Mapping[str, Any],
    views: Callable[[int], NDArray[Any]] | None = None,
    initial_alpha_beta: tuple[float, float] | None = None,
    after_epoch: Callable[[int, Any], None] | None = None,
) -> Head:
    """Choose alpha and beta where the method has them, fit it; with learned keys and validation photos, choose once more.

    Parameters
    ----------
    method : name of a method
    data : TrainingData
    rule : key of `tuning.RULES`
    calibrate : bool, whether the choice keeps its temperature; else it is 1
    given : TuningData, what the rule may use in addition to the support
    settings : constructor values of the method that differ from its defaults; those that it does not take are ignored
    offers : what the method needs beyond vectors (`Capabilities.encoder_parts`), as the encoder offers it
    views : epoch → (n, d) float array, the support as seen by training in that epoch; None for unaugmented
    initial_alpha_beta : alpha and beta during fine-tuning, where they are chosen again afterwards; None for those chosen before
    after_epoch : called with (epochs done, the classifier) during training, as `TrainedClassifier.fit` does

    Raises
    ------
    UnknownName, UsageError
        There is no such method; leave-one-out was asked for and no class has two photos, or there are none to train on;
        or as `refuse_nameless`, without class embeddings.
    """
    made, names = method_class(method), data.names
    if data.class_embeddings is None:
        refuse_nameless(method, names, data.support.labels.tolist())
    capabilities, has_photos = made.capabilities, len(data.support) > 0
    if not has_photos and capabilities.needs_images and not (capabilities.has_alpha_beta or capabilities.leaves_out):
        raise UsageError(f"{method} learns from photos, and there are none; give it photos, or use zero-shot")
    data = replace(data, support=replace(data.support, vectors=unit_rows(data.support.vectors)))
    choice = left_out = None
    if capabilities.has_alpha_beta and (has_photos or rule != tuning.SCALE_FREE):
        cache = data.cache(settings.get("class_sums", made.class_sums), given.queries)
        choice, left_out = _choose(cache, rule, given, np.array(list(names), dtype=np.str_), calibrate=calibrate)
    of_method = {**settings, **offers, "names": names}
    estimator = new_estimator(method, data.class_embeddings, data.logit_scale, choice, of_method)
    chosen_again = choice is not None and given.validation is not None and bool(capabilities.learned)
    if chosen_again and initial_alpha_beta:
        estimator.set_params(alpha=initial_alpha_beta[0], beta=initial_alpha_beta[1])
    _fit(estimator, data, given.validation, views, after_epoch)
    estimator.set_params(**dict.fromkeys(offers))  # prediction needs none of it
    unknown = sorted(set(names) - set(estimator.classes_.tolist()))
    if unknown:
        who = counted(len(unknown), "class without photos is", "classes without photos are")
        listed = ", ".join(map(printable, unknown[:5]))
        warn(f"{who} never predicted, because {method} learns from photos only: {listed}")
    if chosen_again:
        pair = estimator.alpha, estimator.beta
        choice = tuning.RULES[rule](Cache.of(estimator, data.support.vectors), replace(given, start=pair))
        choice = choice if calibrate else replace(choice, temperature=1.0)
        estimator.set_params(alpha=choice.alpha, beta=choice.beta)
        left_out = None  # it was measured with the previous alpha and beta
    head = Head.of(method, data, estimator, choice, left_out)
    return _with_left_out_figures(head, calibrate=calibrate) if capabilities.leaves_out and has_photos else head


def lacks_choice(head: Head, method: str) -> bool:
    """Whether the method would choose settings on the head's photos, and they are not chosen: there were no photos before."""
    capabilities = method_class(method).capabilities
    return head.choice is None and (capabilities.has_alpha_beta or capabilities.leaves_out) and len(head.support) > 0


def with_choice(head: Head, settings: Mapping[str, Any], encoder: Encoder) -> Head:
    """The head with its settings chosen now, for a training-free method that had no photos to choose them by.

    Alpha and beta are chosen by settings as in `fit_by_settings`.
    """
    if head.estimator.capabilities.leaves_out:
        estimator = copy.copy(head.estimator).set_params(penalty=None, text_weight=None)
        support = head.support
        estimator.fit(support.vectors, support.labels, ids=support.ids.tolist())
        return _with_left_out_figures(replace(head, estimator=estimator), calibrate=True)
    rule, given = _rule_by(settings, head.support, list(head.names), encoder, None)
    choice, left_out = _choose(head.cache, rule, given, head.classes, calibrate=True)
    estimator = copy.copy(head.estimator).set_params(alpha=choice.alpha, beta=choice.beta)
    return replace(head, choice=choice, estimator=estimator, left_out=left_out)


def encoder_parts(encoder: Encoder, method: str) -> dict[str, Any]:
    """What a method needs beyond vectors, as the encoder offers it.

    Raises UsageError if the encoder does not, MissingExtra if it needs a package for it that is not installed.
    """
    needs = method_class(method).capabilities.encoder_parts
    for need in needs:
        if not hasattr(encoder, need):
            what, name = need.replace("_", " "), printable(encoder.identity.name)
            lacks = "does not offer" if encoder.record.reads_names else "does not offer, since it reads no names"
            raise UsageError(f"{method} needs a {what}, which {name} {lacks}; use another encoder")
    return {need: getattr(encoder, need)() for need in needs}


def refuse_nameless(method: str, classes: Iterable[str], labels: Iterable[str]) -> None:
    """Raise UsageError if a method cannot do without names: it knows classes by them alone, or a class has no photo.

    Parameters
    ----------
    method : name of a method
    classes : labels of the classes
    labels : the label of each photo
    """
    if not method_class(method).capabilities.needs_images:
        raise UsageError(
            f"{method} knows classes by their names alone, and the encoder reads no names; use tip-adapter, or an encoder "
            "with a text side (`tip-adapter encoders`)"
        )
    missing = sorted(set(classes) - set(labels))
    if missing:
        raise UsageError(
            f"the encoder reads no names, and {counted(len(missing), 'class has', 'classes have')} no photo to be known by: "
            f"{first_three([*map(printable, missing)])}; give each a photo, or leave it out"
        )


def refuse_unknown(photos: VectorSource, labels: Sequence[str]) -> None:
    """Raise FolderError if there are no photos, LabelError if no class of them is among `labels` or one looks like one of these."""
    if not len(photos):
        raise FolderError(f"{printable(photos.root)} holds no photos in its class folders")
    refuse_lookalike_labels(set(photos.classes).difference(labels), labels)
    if not set(photos.labels) & set(labels):
        known, found = (", ".join(map(printable, names[:5])) for names in (labels, photos.classes))
        raise LabelError(f"the model knows none of these classes ({found}, …); it knows {known}, …")


def refuse_singles(labels: Iterable[str | int]) -> None:
    """Raise UsageError if leave-one-out has nothing to score: no class of the (n,) labels has two photos."""
    if max(Counter(labels).values(), default=0) < 2:
        raise UsageError(
            "leave-one-out needs a class with two photos; tune scale-free (--tune scale-free) works from one"
        )


def _rule_by(
    settings: Mapping[str, Any],
    support: SupportSet,
    classes: Sequence[str],
    encoder: Encoder,
    progress: Progress | None,
) -> tuple[str, TuningData]:
    """The rule that chooses alpha and beta, and the data that it may use in addition to the support."""
    tune, fixed, photos = settings["tune"], given_alpha_beta(settings["alpha"], settings["beta"]), None
    rule = rule_for(tune, fixed, support.labels)
    if rule == tuning.VALIDATION:
        photos = _encode_validation(tune, support, classes, encoder, threads=settings["threads"], progress=progress)
    return rule, TuningData(encoder.record.scale_free_ratio, photos, fixed)


def _encode_validation(
    source: str | os.PathLike[str],
    support: SupportSet,
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
    if absent := sorted(names.difference(photos.labels)):
        of_all = counted(len(names), "class", "classes")
        warn(
            f"no validation photos of {len(absent):,} of {of_all} ({first_of(absent)}): what is chosen on them fits the others"
        )
    encoded, _ = encode_labelled(photos, encoder, threads=threads, progress=progress)
    (checked,) = warning_of_overlap([encoded], support)
    return checked.vectors, np.searchsorted(np.array(labels), checked.labels)


def _choose(
    support: Cache, rule: str, given: TuningData, classes: NDArray[Any], *, calibrate: bool
) -> tuple[Choice[float | None], LeaveOneOutResult | None]:
    """The choice, and its leave-one-out accuracy on the support; None where no photo can be left out."""
    if rule == tuning.LEAVE_ONE_OUT:
        refuse_singles(support.labels.tolist())
        single = list(Counter(support.labels.tolist()).values()).count(1)
        if single:
            who = counted(single, "class has", "classes have")
            warn(f"{who} one photo, which leave-one-out cannot score; the others decide")
    choice, photos = tuning.RULES[rule](support, given), support.left_out
    choice = choice if calibrate else replace(choice, temperature=1.0)
    if not photos.n_scored:
        return choice, None
    probabilities = softmax(photos.logits(*choice.alpha_beta) / choice.temperature)
    return choice, LeaveOneOutResult.of(classes[photos.scored_labels], probabilities, classes)


def _with_left_out_figures(head: Head, *, calibrate: bool) -> Head:
    """The head of a method that leaves photos out by itself, with the settings that it chose, its left-out accuracy and a temperature.

    The temperature is kept where it makes the calibration of the left-out photos no worse.
    """
    estimator = head.estimator.set_params(**head.estimator.settings())
    choice = Choice(None, None, 1.0, None, tuning.SUPPORT, 0)
    sizes = np.bincount(near_repeats(to_numpy(estimator.keys_), estimator.labels_))
    n_near_repeats = int(sizes[sizes > 1].sum())
    rows, logits = head.left_out_logits
    if not len(rows):
        calibrate &= not n_near_repeats  # which would make it too sure
        return replace(head, choice=replace(choice, temperature=_one_shot_temperature(head) if calibrate else 1.0))
    photos = head.support.take(rows)
    labels = np.searchsorted(head.classes, photos.labels)
    if calibrate:
        temperature = tuning.fit_temperature(logits, labels, row_weights(labels, len(head.classes)))
        accumulator = MetricAccumulator(head.classes, temperature)
        accumulator.add(photos, logits, head.zero_shot_logits(photos.vectors))
        before, after = accumulator.calibrations()
        choice = replace(choice, temperature=temperature if after.ece <= before.ece else 1.0)
    logits = logits / choice.temperature
    unknown = [(group, of_group / choice.temperature) for group, of_group in estimator.left_out_classes()]
    refused = expected_refused(labels, logits, unknown)
    left_out = LeaveOneOutResult.of(photos.labels, softmax(logits), head.classes, refused, n_near_repeats)
    choice = replace(choice, accuracy=left_out.accuracy.mean_per_class, n_rows=len(rows))
    return replace(head, choice=choice, left_out=left_out)


def _one_shot_temperature(head: Head) -> float:
    """A temperature where no photo can be left out, from each as if it were another of its class; few photos change it little."""
    labels = np.searchsorted(head.classes, head.support.labels)
    weight = len(labels) / (len(labels) + _PHOTOS_FOR_HALF)
    return float(tuning.fit_temperature(head.estimator.as_another(), labels) ** weight)


def _fit(
    estimator: VectorClassifier,
    data: TrainingData,
    validation: tuple[Any, Any] | None,
    views: Callable[[int], NDArray[Any]] | None,
    after_epoch: Callable[[int, Any], None] | None,
) -> None:
    """Fit a method to the support, with those of the other arguments, as in `fit_head`, that it takes.

    Of the validation photos (as in `TuningData`) it gets those whose class has support.
    """
    support = data.support
    others: dict[str, Any] = {}
    if estimator.capabilities.takes_validation:
        others["validation"] = None
        if validation is not None:
            vectors, positions = validation
            labels = np.array(list(data.names), dtype=np.str_)[positions]
            known = np.isin(labels, support.labels)
            others["validation"] = (vectors[known], labels[known]) if known.any() else None
    if estimator.capabilities.takes_views:
        others["views"] = views
    if after_epoch:
        others["after_epoch"] = after_epoch
    estimator.fit(support.vectors, support.labels, ids=support.ids.tolist(), **others)
