"""A method fitted as a protocol wants it: what it may look at, its cache and views, and the upper bound over all protocols."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tip_adapter.errors import UsageError
from tip_adapter.methods import method_class, tuning
from tip_adapter.methods.leave_one_out import Cache
from tip_adapter.methods.prototypes import cycled, draw_prototypes
from tip_adapter.methods.tuning import TuningData
from tip_adapter.model.fitting import encoder_parts, fit_head
from tip_adapter.paper.protocols import PAPERS_PAIR, PROTOCOLS
from tip_adapter.paper.timing import PeakMemory
from tip_adapter.vectors import ClassEmbeddings, SupportSet

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from tip_adapter.model.head import Head
    from tip_adapter.paper.experiments import Task
    from tip_adapter.paper.vectors import SplitVectors


@dataclass(frozen=True)
class Fitted:
    """A fitted method, how long that took, and the most memory that the process held meanwhile."""

    head: Head
    seconds: float
    peak_mib: float


class Heads:
    """What was fitted on the draw at hand: several protocols, and the upper bound over them, ask for the same."""

    def __init__(self) -> None:
        self._draw: Task | None = None
        self._fitted: dict[str, Fitted] = {}

    def get(self, task: Task, protocol: str, make: Callable[[], Fitted]) -> Fitted:
        """The method of a task by a protocol, fitted once."""
        draw = replace(task, protocol="")
        if draw != self._draw:
            self._draw, self._fitted = draw, {}
        if protocol not in self._fitted:
            self._fitted[protocol] = make()
        return self._fitted[protocol]


def timed(fit: Callable[[], Head]) -> Fitted:
    """What is fitted now, with its time and memory."""
    with PeakMemory() as memory:
        started = time.perf_counter()
        head = fit()
        seconds = time.perf_counter() - started
    return Fitted(head, seconds, memory.mib)


def fitted(
    task: Task, protocol: str, material: SplitVectors, support: SupportSet, test: SupportSet, heads: Heads
) -> Fitted:
    """The method of a task as a protocol wants it.

    Parameters
    ----------
    task : Task
    protocol : a name of `PROTOCOLS`, the task's or another to compare with
    material : SplitVectors, what is learned from
    support : SupportSet, the draw
    test : SupportSet, the target's test photos; only an upper bound looks at them
    heads : what was fitted before

    Raises
    ------
    UsageError
        The protocol needs a validation split, or a class with two photos, and there is none.
    """
    if PROTOCOLS[protocol].upper_bound:
        return heads.get(task, protocol, lambda: _best_on_test(task, material, support, test, heads))
    return heads.get(task, protocol, lambda: timed(learner(task, protocol, material, support, test)))


def _best_on_test(task: Task, material: SplitVectors, support: SupportSet, test: SupportSet, heads: Heads) -> Fitted:
    """The upper bound: of every protocol's way the best, by the test photos, each chosen again on them."""
    given = TuningData(validation=positions_of(test, material))
    others = _comparable_protocols(task, material)
    candidates = [fitted(task, name, material, support, test, heads) for name in others]
    candidates.append(timed(learner(task, "oracle", material, support, test)))
    candidates += [_chosen_again(candidate, given) for candidate in candidates if candidate.head.choice]
    return max(candidates, key=lambda candidate: accuracy_of(candidate.head, test))


def _chosen_again(fitted: Fitted, given: TuningData) -> Fitted:
    """The same with the pair that suits these photos best."""
    head = fitted.head
    again = timed(
        lambda: _with_choice(head, tuning.on_validation(Cache.of(head.estimator, head.support.vectors), given))
    )
    return Fitted(again.head, fitted.seconds + again.seconds, max(fitted.peak_mib, again.peak_mib))


def _comparable_protocols(task: Task, material: SplitVectors) -> list[str]:
    """What else, short of the upper bound, this task could have been measured by."""
    most = task.settings.get("cache_size", task.shots)
    few = min(task.shots, most) < 2
    return [
        name
        for name, protocol in PROTOCOLS.items()
        if not protocol.upper_bound
        and not (name == "leave-one-out" and few)
        and (protocol.sees not in ("few", "validation") or material.has_validation)
    ]


def _with_choice(head: Head, choice: tuning.Choice) -> Head:
    estimator = head.estimator
    answering = type(estimator)(**{**estimator.get_params(deep=False), "alpha": choice.alpha, "beta": choice.beta})
    answering.restore(head.support.vectors, head.support.labels, estimator.learned(), head.support.ids.tolist())
    return replace(head, choice=choice, estimator=answering, left_out=None)


def learner(
    task: Task, protocol: str, material: SplitVectors, support: SupportSet, test: SupportSet
) -> Callable[[], Head]:
    """What fits the method, what it chooses being chosen by a protocol; all that has to be encoded or read is at hand."""
    settings, rule = dict(task.settings), PROTOCOLS[protocol].rule
    cache = _cache(task, material, support, settings.pop("cache_size", None))
    if rule == tuning.LEAVE_ONE_OUT and method_class(task.method).capabilities.has_alpha_beta:
        _refuse_single_keys(cache.support)
    templates = settings.pop("templates", None)
    pair = (settings.pop("alpha", PAPERS_PAIR[0]), settings.pop("beta", PAPERS_PAIR[1]))
    embeddings = material.embeddings(templates)
    if settings.pop("learned_prompt", False):
        embeddings = _learned_prompt(task, material, support, embeddings)
    if task.method in material.epochs:  # each photo is shown once a pass, also where the cache is smaller
        settings.setdefault("epochs", material.epochs[task.method] * cache.epochs_a_pass)
    if protocol in ("fixed", "scale-free"):
        settings["C"] = 1.0  # of the linear probe, which has no other choice to make
    initial = material.initial_alpha_beta if cache.views else None  # without views a key would see itself: another loss
    seen, offers = _seen(task, protocol, material, test), encoder_parts(material.encoder, task.method)

    def fit() -> Head:
        return fit_head(
            task.method,
            cache.support,
            material.names,
            material.sentences(templates),
            embeddings,
            logit_scale=material.encoder.logit_scale,
            rule=rule,
            calibrate=True,
            given=TuningData(material.encoder.record.scale_free_ratio, seen, pair, cache.queries),
            settings={"seed": task.seed, **settings},
            offers=offers,
            views=cache.views,
            initial_alpha_beta=initial,
        )

    return fit


def _refuse_single_keys(support: SupportSet) -> None:
    """Raise UsageError where leave-one-out has nothing to score."""
    if np.unique(support.labels, return_counts=True)[1].max(initial=0) < 2:
        raise UsageError("leave-one-out needs a class with two photos; give more --shots")


def _seen(task: Task, protocol: str, material: SplitVectors, test: SupportSet) -> tuple[Any, Any] | None:
    """The photos beside the support that a protocol may look at, as `TuningData` has them."""
    sees = PROTOCOLS[protocol].sees
    if sees == "support":
        return None
    if sees != "test" and not material.has_validation:
        raise UsageError(f"{task.dataset} has no validation split, which {protocol} needs; choose another --protocol")
    if sees == "few":
        return positions_of(material.few_validation(task.shots, task.seed), material)
    return positions_of(test if sees == "test" else material.validation(), material)


def positions_of(photos: SupportSet, material: SplitVectors) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """(m, d) vectors and (m,) positions of their labels among the classes, as `TuningData` has them."""
    return photos.vectors, np.searchsorted(np.array(list(material.names)), photos.labels)


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


def _cache(task: Task, material: SplitVectors, support: SupportSet, size: int | None) -> _Cache:
    """The support itself, nothing, or prototypes; what is trained sees the photos' views in turn."""
    if size == 0:
        return _Cache(support.take(slice(0)))
    views = material.views(task.shots, task.seed) if method_class(task.method).capabilities.takes_views else None
    if size is None or np.unique(support.labels, return_counts=True)[1].max(initial=0) <= size:
        in_turn = None if views is None else cycled(views)
        return _Cache(support, material.queries(task.shots, task.seed), in_turn)
    drawn = draw_prototypes(support.vectors, support.labels, size, task.seed, views)
    ids = np.array([f"prototype {row}" for row in range(len(drawn.labels))])
    return _Cache(SupportSet(drawn.vectors, drawn.labels, ids), None, drawn.views, len(drawn.rows))


def _learned_prompt(
    task: Task, material: SplitVectors, support: SupportSet, embeddings: ClassEmbeddings
) -> ClassEmbeddings:
    """The class weights that CoOp learns from the same photos, once a draw."""
    draw = task.shots, task.seed
    if draw not in material.prompts:
        material.prompts[draw] = _learn_prompt(task, material, support, embeddings)
    return material.prompts[draw]


def _learn_prompt(
    task: Task, material: SplitVectors, support: SupportSet, embeddings: ClassEmbeddings
) -> ClassEmbeddings:
    views = material.views(task.shots, task.seed)
    make: Any = method_class("coop")
    coop: Any = make(
        class_embeddings=embeddings,
        logit_scale=material.encoder.logit_scale,
        names=material.names,
        epochs=material.epochs.get("coop"),
        seed=task.seed,
        **encoder_parts(material.encoder, "coop"),
    )
    coop.fit(support.vectors, support.labels, views=None if views is None else cycled(views))
    return ClassEmbeddings(coop.classes_, coop.weights_)


def accuracy_of(head: Head, test: SupportSet) -> float:
    """The share of photos that a head names right."""
    return share_right(head.predict(test.vectors), test)


def share_right(answers: NDArray[Any], test: SupportSet) -> float:
    """The share of (n,) answers that are the photos' labels."""
    return float((answers == test.labels).mean())
