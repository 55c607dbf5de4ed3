"""Fit a method by a protocol: the images it may use, its cache and views, and the upper bound over all protocols."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tip_adapter.errors import UsageError
from tip_adapter.methods import method_class, tuning
from tip_adapter.methods.leave_one_out import Cache
from tip_adapter.methods.prototypes import cycled, draw_prototypes
from tip_adapter.methods.tuning import TuningData
from tip_adapter.model.fitting import encoder_parts, fit_head
from tip_adapter.model.head import TrainingData
from tip_adapter.paper.protocols import PAPERS_PAIR, PROTOCOLS
from tip_adapter.paper.timing import PeakMemory
from tip_adapter.vectors import SupportSet

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from tip_adapter.model.head import Head
    from tip_adapter.paper.experiments import Task
    from tip_adapter.paper.vectors import SplitVectors


@dataclass(frozen=True)
class Fitted:
    """A fitted method, how long that took, and the peak memory of the process during that time.

    Parameters
    ----------
    head : Head
    seconds, peak_mib : float
    epoch_accuracies : on the test photos after each epoch of an upper bound whose keys are trained, without a choice afterwards
    """

    head: Head
    seconds: float
    peak_mib: float
    epoch_accuracies: tuple[float, ...] = ()


def timed(fit: Callable[[], Head]) -> Fitted:
    """What is fitted now, with its time and memory."""
    with PeakMemory() as memory:
        started = time.perf_counter()
        head = fit()
        seconds = time.perf_counter() - started
    return Fitted(head, seconds, memory.mib)


class Heads:
    """Methods fitted on the current draw: a cache shared by several protocols and the upper bound over them."""

    def __init__(self) -> None:
        self._draw: Task | None = None
        self._fitted: dict[str, Fitted] = {}

    def fitted(self, task: Task, protocol: str, split: SplitVectors, support: SupportSet, test: SupportSet) -> Fitted:
        """The method of a task as a protocol wants it, fitted once.

        The protocol is the task's, or another to compare with. Only an upper bound looks at the target's test photos.
        Raises UsageError where the protocol needs a validation split, or a class with two photos, and there is none.
        """
        draw = replace(task, protocol="")
        if draw != self._draw:
            self._draw, self._fitted = draw, {}
        if protocol not in self._fitted:
            if PROTOCOLS[protocol].upper_bound:
                self._fitted[protocol] = self._best_on_test(task, split, support, test)
            else:
                self._fitted[protocol] = timed(learner(task, protocol, split, support, test))
        return self._fitted[protocol]

    def _best_on_test(self, task: Task, split: SplitVectors, support: SupportSet, test: SupportSet) -> Fitted:
        """The upper bound: of every protocol's way the best, by the test photos, each chosen again on them."""
        given = TuningData(validation=positions_of(test, split))
        few = min(task.shots, task.settings.get("cache_size", task.shots)) < 2
        others = [
            name
            for name, other in PROTOCOLS.items()
            if not (other.upper_bound or (name == "leave-one-out" and few))
            and (other.sees == "support" or split.has_validation)
        ]
        candidates = [self.fitted(task, name, split, support, test) for name in others]
        watch = _Watch(test) if _learns_keys(task.method) else None
        made = timed(learner(task, "oracle", split, support, test, watch))
        candidates.append(replace(made, seconds=made.seconds - watch.seconds) if watch else made)
        candidates += [_chosen_again(candidate, given) for candidate in candidates if candidate.head.choice]
        best = max(candidates, key=lambda candidate: accuracy_of(candidate.head.predict, test))
        return replace(best, epoch_accuracies=tuple(watch.accuracies) if watch else ())


def _chosen_again(fitted: Fitted, given: TuningData) -> Fitted:
    """The same with the (alpha, beta) that is best on these images."""
    support, estimator = fitted.head.support, fitted.head.estimator

    def choose() -> Head:
        choice = tuning.on_validation(Cache.of(estimator, support.vectors), given)
        answering = type(estimator)(**{**estimator.get_params(deep=False), "alpha": choice.alpha, "beta": choice.beta})
        answering.restore(support.vectors, support.labels, estimator.learned(), support.ids.tolist())
        return replace(fitted.head, choice=choice, estimator=answering, left_out=None)

    again = timed(choose)
    return Fitted(again.head, fitted.seconds + again.seconds, max(fitted.peak_mib, again.peak_mib))


@dataclass
class _Watch:
    """The accuracy on the test photos after each epoch, and the time that it took to measure."""

    test: SupportSet
    accuracies: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def __call__(self, _: int, estimator: Any) -> None:
        started = time.perf_counter()
        self.accuracies.append(accuracy_of(estimator.predict, self.test))
        self.seconds += time.perf_counter() - started


def _learns_keys(method: str) -> bool:
    capabilities = method_class(method).capabilities
    return capabilities.has_alpha_beta and bool(capabilities.learned)


def learner(
    task: Task,
    protocol: str,
    split: SplitVectors,
    support: SupportSet,
    test: SupportSet,
    after_epoch: Callable[[int, Any], None] | None = None,
) -> Callable[[], Head]:
    """What fits the method, choosing by a protocol; everything it needs is encoded and read beforehand.

    `after_epoch` as in `fit_head`; a setting `trained` instead is the share of the training whose keys the head has.
    """
    settings, rule = dict(task.settings), PROTOCOLS[protocol].rule
    cache = _cache(task, split, support, settings.pop("cache_size", None))
    left_out = rule == tuning.LEAVE_ONE_OUT and method_class(task.method).capabilities.has_alpha_beta
    if left_out and most_of_a_class(cache.support) < 2:
        raise UsageError("leave-one-out needs a class with two photos; give more --shots")
    templates = settings.pop("templates", None)
    pair = (settings.pop("alpha", PAPERS_PAIR[0]), settings.pop("beta", PAPERS_PAIR[1]))
    embeddings = split.embeddings(templates)
    if task.method in split.epochs:  # each photo is shown once a pass, also where the cache is smaller
        settings.setdefault("epochs", split.epochs[task.method] * cache.epochs_a_pass)
    if protocol in ("fixed", "scale-free"):
        settings["C"] = 1.0  # of the linear probe, which has no other choice to make
    initial = split.initial_alpha_beta if cache.views else None  # without views a key would see itself: another loss
    share = settings.pop("trained", None)
    seen, offers = _seen(task, protocol, split, test), encoder_parts(split.encoder, task.method)

    own_templates = split.templates_or_own(templates)
    data = TrainingData(cache.support, split.names, own_templates, embeddings, split.encoder.logit_scale)

    def fit() -> Head:
        keys = []

        def keep(epochs_done: int, estimator: Any) -> None:
            if epochs_done == round(share * settings["epochs"]):
                keys.append(estimator.keys_.copy())

        head = fit_head(
            task.method,
            data,
            rule=rule,
            calibrate=True,
            given=TuningData(split.encoder.record.scale_free_ratio, seen, pair, cache.queries),
            settings={"seed": task.seed, "class_sums": "raw", **settings},  # as the paper's, also for unequal classes
            offers=offers,
            views=cache.views,
            initial_alpha_beta=initial,
            after_epoch=after_epoch if share is None else keep,
        )
        if keys:
            head.estimator.keys_ = keys[0]
        return head

    return fit


def most_of_a_class(support: SupportSet) -> int:
    """The number of photos of the class that has most."""
    return int(np.unique(support.labels, return_counts=True)[1].max(initial=0))


def _seen(task: Task, protocol: str, split: SplitVectors, test: SupportSet) -> tuple[Any, Any] | None:
    """Images other than the support that a protocol may use, as in `TuningData`."""
    sees = PROTOCOLS[protocol].sees
    if sees == "support":
        return None
    if sees != "test" and not split.has_validation:
        raise UsageError(f"{task.dataset} has no validation split, which {protocol} needs; choose another --protocol")
    if sees == "few":
        return positions_of(split.few_validation(task.shots, task.seed), split)
    return positions_of(test if sees == "test" else split.validation(), split)


def positions_of(photos: SupportSet, split: SplitVectors) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """(m, d) vectors and (m,) positions of their labels among the classes, as `TuningData` has them."""
    return photos.vectors, np.searchsorted(np.array(list(split.names)), photos.labels)


@dataclass(frozen=True, eq=False)
class _Cache:
    """The support as keys.

    Parameters
    ----------
    support : SupportSet, a key each
    queries : as in `TuningData`
    views : epoch → (n, d), as in `learn`
    epochs_a_pass : how many epochs show every photo once
    """

    support: SupportSet
    queries: NDArray[Any] | None = None
    views: Callable[[int], NDArray[Any]] | None = None
    epochs_a_pass: int = 1


def _cache(task: Task, split: SplitVectors, support: SupportSet, size: int | None) -> _Cache:
    """The support itself, nothing, or prototypes; what is trained sees the photos' views in turn."""
    if size == 0:
        return _Cache(support.take(slice(0)))
    views = split.views(task.shots, task.seed) if method_class(task.method).capabilities.takes_views else None
    if size is None or most_of_a_class(support) <= size:
        in_turn = None if views is None else cycled(views)
        return _Cache(support, split.queries(task.shots, task.seed), in_turn)
    drawn = draw_prototypes(support.vectors, support.labels, size, task.seed, views)
    ids = np.array([f"prototype {row}" for row in range(len(drawn.labels))])
    return _Cache(SupportSet(drawn.vectors, drawn.labels, ids), None, drawn.views, len(drawn.rows))


def accuracy_of(predict: Callable[[NDArray[np.float32]], NDArray[Any]], test: SupportSet) -> float:
    """The share of test images whose predicted label is their own."""
    return float((predict(test.vectors) == test.labels).mean())
