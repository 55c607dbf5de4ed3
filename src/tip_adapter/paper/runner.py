"""The one runner: measures what an experiment still lacks, one result after the other."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from tip_adapter.errors import ResultsError, TipAdapterError, UsageError, counted, printable
from tip_adapter.evaluation import accuracy_interval
from tip_adapter.head import Head, learn
from tip_adapter.methods import choose, method_class
from tip_adapter.methods._left_out import SupportCache
from tip_adapter.methods._trained import TrainedClassifier
from tip_adapter.methods.choose import Given
from tip_adapter.methods.prototypes import cycled, draw_prototypes
from tip_adapter.methods.zero_shot import ZeroShotClassifier
from tip_adapter.paper.fields import TITLES
from tip_adapter.paper.measure import BATCH, PeakMemory, cuda_peak_mib, milliseconds
from tip_adapter.paper.origin import origin
from tip_adapter.paper.protocols import PAPERS_PAIR, PROTOCOLS, protocols_for
from tip_adapter.paper.results import key_of
from tip_adapter.tuning import offers_of
from tip_adapter.vectors import ClassEmbeddings, SupportSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from tip_adapter.paper.experiments import Task
    from tip_adapter.paper.material import Material

    #: (data set, encoder) → what is measured on.
    Find = Callable[[str, str], Material]

#: A loss that no key will move for.
_NOTHING_TO_LEARN = 1e-6
#: How the linear probe found its C → what a reader should know of that.
_SEARCHED_BY = {
    "given": "linear probe by fixed or scale-free: C is 1, not searched",
    "nothing": "linear probe: fewer than two classes have a second photo to search by, C is 1",
    "cross-validation": "linear probe by leave-one-out: parts of the photos are left out in turn, not one at a time",
}


@dataclass(frozen=True)
class Outcome:
    """A result, and whether it was measured just now."""

    result: dict[str, Any]
    new: bool


def run(
    tasks: Iterable[Task], known: Iterable[dict[str, Any]], find: Find, say: Callable[[str], None]
) -> Iterator[Outcome | None]:
    """Measure what is not known yet.

    Parameters
    ----------
    tasks : what is wanted
    known : results that are there
    find : (data set, encoder) → Material; raises TipAdapterError where one is missing
    say : called with what is missing, and with what failed, in a sentence, once each

    Yields
    ------
    the outcome of each task, in their order; None where something is missing or failed

    Raises
    ------
    ResultsError
        What is known was measured with another encoder of the same name.
    """
    found = {key_of(result): result for result in known}
    find = _of_the_same_encoders(list(found.values()), find)
    said, heads = set(), Heads()
    for task in tasks:
        key = key_of(task.axes())
        try:
            yield Outcome(found[key], new=False) if key in found else Outcome(measure(task, find, heads), new=True)
        except ResultsError:
            raise
        except TipAdapterError as error:
            if str(error) not in said:
                say(str(error))
            said.add(str(error))
            yield None


def _of_the_same_encoders(known: Sequence[dict[str, Any]], find: Find) -> Find:
    """`find`, but results of two encoders never stand under one name."""
    measured = {result["encoder"]: result["encoder_identity"]["fingerprint"] for result in known}

    def find_the_same(dataset: str, encoder: str) -> Material:
        material = find(dataset, encoder)
        if measured.get(encoder, material.encoder.identity.fingerprint) != material.encoder.identity.fingerprint:
            raise ResultsError(
                f"the results that are there were measured with another {printable(encoder)} (its files have changed "
                "since); choose another --out"
            )
        return material

    return find_the_same


def allowed_protocols(method: str, shots: int, *, has_validation: bool) -> tuple[str, ...]:
    """The protocols of a method at so many shots, where none is asked for."""
    return protocols_for(chooses=chooses(method), shots=shots, has_validation=has_validation)


def chooses(method: str) -> bool:
    """Whether a method has something to choose: alpha and beta, or the linear probe's C."""
    made = method_class(method)
    return made.has_pair or made.takes_validation


@dataclass(frozen=True)
class Fitted:
    """A fitted method, how long that took, and the most memory that the process held meanwhile."""

    head: Head
    seconds: float
    peak_mib: float


class Heads:
    """What was fitted on the draw at hand: several protocols, and the upper bound over them, ask for the same."""

    def __init__(self) -> None:
        self._draw: tuple[Any, ...] = ()
        self._fitted: dict[str, Fitted] = {}

    def get(self, task: Task, protocol: str, make: Callable[[], Fitted]) -> Fitted:
        """The method of a task by a protocol, fitted once."""
        draw = (
            task.dataset,
            task.target,
            task.encoder,
            task.method,
            task.shots,
            task.seed,
            task.variant,
            task.n_classes,
        )
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


def measure(task: Task, find: Find, heads: Heads) -> dict[str, Any]:
    """One result.

    Parameters
    ----------
    task, find : as in `run`
    heads : what was fitted before

    Raises
    ------
    TipAdapterError
        The data set, the encoder or a part of them is missing, or the task makes no sense on them.
    """
    material = find(task.dataset, task.encoder).of_classes(task.n_classes)
    target = material if task.target == task.dataset else find(task.target, task.encoder).of_classes(task.n_classes)
    test, support = target.test(), material.support(task.shots, task.seed)
    zero_shot = _zero_shot_accuracy(task, material, test)
    if "learn" in task.settings:
        result = _measure_parts(task, material, support, target)
    else:
        result = _measure_method(task, material, support, target, heads)
    accuracy = result["accuracy"]
    return {
        **task.axes(),
        **result,
        "interval": None if accuracy is None else [*accuracy_interval(round(accuracy * len(test)), len(test))],
        "zero_shot_accuracy": zero_shot,
        "gain": None if accuracy is None else accuracy - zero_shot,
        "n_test": len(test),
        "n_classes": len(material.names),
        "support_ids": support.ids.tolist(),
        "notes": [*result.get("notes", []), *_short_of_photos(task, support)],
        "templates": list(material.sentences(task.settings.get("templates"))),
        "support_views": material.encoder.record.support_views if material.prepared else None,
        "settings": dict(task.settings),
        "encoder_identity": asdict(material.encoder.identity),
        **origin(),
    }


# ---- a method --------------------------------------------------------------------------------------------------------


def _measure_method(
    task: Task, material: Material, support: SupportSet, target: Material, heads: Heads
) -> dict[str, Any]:
    test = target.test()
    fitted = _fitted(task, task.protocol, material, support, test, heads)
    head, choice, estimator = fitted.head, fitted.head.choice, fitted.head.estimator
    return {
        "accuracy": _accuracy(head, test),
        "alpha": choice.alpha if choice else None,
        "beta": choice.beta if choice else None,
        "temperature": choice.temperature if choice else None,
        "C": getattr(estimator, "C_", None),
        "training": estimator.training(),
        "epochs": estimator.training().get("epochs", 0),
        "losses": [float(loss) for loss in getattr(estimator, "losses_", ())],
        "learnable_parameters": estimator.n_parameters,
        "training_seconds": fitted.seconds,
        "inference_ms": _inference_ms(head, target),
        "peak_memory_mib": fitted.peak_mib,
        "gpu_mib": cuda_peak_mib(),
        "notes": _notes(task.method, estimator),
        **(_plane(head) if task.n_classes else {}),
    }


def _fitted(
    task: Task, protocol: str, material: Material, support: SupportSet, test: SupportSet, heads: Heads
) -> Fitted:
    """The method as a protocol wants it."""
    if PROTOCOLS[protocol].upper_bound:
        return heads.get(task, protocol, lambda: _best_on_test(task, material, support, test, heads))
    return heads.get(task, protocol, lambda: timed(_learner(task, protocol, material, support, test)))


def _best_on_test(task: Task, material: Material, support: SupportSet, test: SupportSet, heads: Heads) -> Fitted:
    """The upper bound: of every protocol's way the best, by the test photos, each chosen again on them."""
    given = Given(validation=_positions(test, material))
    others = _comparable_protocols(task, material)
    candidates = [_fitted(task, name, material, support, test, heads) for name in others]
    candidates.append(timed(_learner(task, "oracle", material, support, test)))
    candidates += [_chosen_again(candidate, given) for candidate in candidates if candidate.head.choice]
    return max(candidates, key=lambda candidate: _accuracy(candidate.head, test))


def _chosen_again(fitted: Fitted, given: Given) -> Fitted:
    """The same with the pair that suits these photos best."""
    head = fitted.head
    again = timed(
        lambda: _with_choice(head, choose.on_validation(SupportCache.of(head.estimator, head.support.vectors), given))
    )
    return Fitted(again.head, fitted.seconds + again.seconds, max(fitted.peak_mib, again.peak_mib))


def _comparable_protocols(task: Task, material: Material) -> list[str]:
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


def _with_choice(head: Head, choice: choose.Choice) -> Head:
    estimator = head.estimator
    answering = type(estimator)(**{**estimator.get_params(deep=False), "alpha": choice.alpha, "beta": choice.beta})
    answering.restore(head.support.vectors, head.support.labels, estimator.learned(), head.support.ids.tolist())
    return replace(head, choice=choice, estimator=answering, left_out=None)


def _learner(
    task: Task, protocol: str, material: Material, support: SupportSet, test: SupportSet
) -> Callable[[], Head]:
    """What fits the method, what it chooses being chosen by a protocol; all that has to be encoded or read is at hand."""
    settings, rule = dict(task.settings), PROTOCOLS[protocol].rule
    cache = _cache(task, material, support, settings.pop("cache_size", None))
    if rule == choose.LEAVE_ONE_OUT and method_class(task.method).has_pair:
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
    initial = material.initial_pair if cache.views else None  # without views a key would see itself: another loss
    seen, offers = _seen(task, protocol, material, test), offers_of(material.encoder, task.method)

    def fit() -> Head:
        return learn(
            task.method,
            cache.support,
            material.names,
            material.sentences(templates),
            embeddings,
            logit_scale=material.encoder.logit_scale,
            rule=rule,
            calibrate=True,
            given=Given(material.encoder.record.scale_free_ratio, seen, pair, cache.queries),
            settings={"seed": task.seed, **settings},
            offers=offers,
            views=cache.views,
            initial_pair=initial,
        )

    return fit


def _refuse_single_keys(support: SupportSet) -> None:
    """Raise UsageError where leave-one-out has nothing to score."""
    if np.unique(support.labels, return_counts=True)[1].max(initial=0) < 2:
        raise UsageError("leave-one-out needs a class with two photos; give more --shots")


def _seen(task: Task, protocol: str, material: Material, test: SupportSet) -> tuple[Any, Any] | None:
    """The photos beside the support that a protocol may look at, as `Given` has them."""
    sees = PROTOCOLS[protocol].sees
    if sees == "support":
        return None
    if sees != "test" and not material.has_validation:
        raise UsageError(f"{task.dataset} has no validation split, which {protocol} needs; choose another --protocol")
    if sees == "few":
        return _positions(material.few_validation(task.shots, task.seed), material)
    return _positions(test if sees == "test" else material.validation(), material)


def _positions(photos: SupportSet, material: Material) -> tuple[NDArray[Any], NDArray[np.intp]]:
    return photos.vectors, np.searchsorted(np.array(list(material.names)), photos.labels)


@dataclass(frozen=True, eq=False)
class _Cache:
    """The support as keys.

    Parameters
    ----------
    support : SupportSet, a key each
    queries : as in `Given`
    views : epoch → (n, d), as in `learn`
    epochs_a_pass : how many epochs show every photo once
    """

    support: SupportSet
    queries: NDArray[Any] | None = None
    views: Callable[[int], NDArray[Any]] | None = None
    epochs_a_pass: int = 1


def _cache(task: Task, material: Material, support: SupportSet, size: int | None) -> _Cache:
    """The support itself, nothing, or prototypes; what is trained sees the photos' views in turn."""
    if size == 0:
        return _Cache(support.take(slice(0)))
    views = material.views(task.shots, task.seed) if issubclass(method_class(task.method), TrainedClassifier) else None
    if size is None or np.unique(support.labels, return_counts=True)[1].max(initial=0) <= size:
        in_turn = None if views is None else cycled(views)
        return _Cache(support, material.queries(task.shots, task.seed), in_turn)
    drawn = draw_prototypes(support.vectors, support.labels, size, task.seed, views)
    ids = np.array([f"prototype {row}" for row in range(len(drawn.labels))])
    return _Cache(SupportSet(drawn.vectors, drawn.labels, ids), None, drawn.views, len(drawn.rows))


def _learned_prompt(
    task: Task, material: Material, support: SupportSet, embeddings: ClassEmbeddings
) -> ClassEmbeddings:
    """The class weights that CoOp learns from the same photos, once a draw."""
    draw = task.shots, task.seed
    if draw not in material.prompts:
        material.prompts[draw] = _learn_prompt(task, material, support, embeddings)
    return material.prompts[draw]


def _learn_prompt(task: Task, material: Material, support: SupportSet, embeddings: ClassEmbeddings) -> ClassEmbeddings:
    views = material.views(task.shots, task.seed)
    make: Any = method_class("coop")
    coop: Any = make(
        class_embeddings=embeddings,
        logit_scale=material.encoder.logit_scale,
        names=material.names,
        epochs=material.epochs.get("coop"),
        seed=task.seed,
        **offers_of(material.encoder, "coop"),
    )
    coop.fit(support.vectors, support.labels, views=None if views is None else cycled(views))
    return ClassEmbeddings(coop.classes_, coop.weights_)


def _accuracy(head: Head, test: SupportSet) -> float:
    return _share_right(head.predict(test.vectors), test)


def _share_right(answers: NDArray[Any], test: SupportSet) -> float:
    return float((answers == test.labels).mean())


def _zero_shot_accuracy(task: Task, material: Material, test: SupportSet) -> float:
    names = ZeroShotClassifier(material.embeddings(task.settings.get("templates")))
    none = test.take(slice(0))
    return _share_right(names.fit(none.vectors, none.labels).predict(test.vectors), test)


def _inference_ms(head: Head, target: Material) -> float:
    """A batch of photos through the encoder, where there are photos, and through the head."""
    test = target.test()
    rows = np.arange(BATCH) % len(test)
    vectors = test.vectors[rows]
    return milliseconds(lambda: head.probabilities(vectors)) + target.encoding_ms(test.ids[rows].tolist())


def _notes(method: str, estimator: Any) -> list[str]:
    """What a reader should know of how it was trained."""
    notes = []
    if tower := estimator.training().get("prompt_tower"):
        notes.append(f"CoOp's context stands in: {tower}")
    if max(getattr(estimator, "losses_", ()), default=1) < _NOTHING_TO_LEARN:
        notes.append(f"{TITLES.get(method, method)}: the loss is 0 from the start, and nothing is learned")
    if searched_by := _SEARCHED_BY.get(getattr(estimator, "searched_by_", "")):
        notes.append(searched_by)
    return notes


def _short_of_photos(task: Task, support: SupportSet) -> list[str]:
    """Classes that have fewer photos than shots give all."""
    counts = dict(zip(*np.unique(support.labels, return_counts=True), strict=True))
    short = {label: int(n) for label, n in counts.items() if n < task.shots}
    if not short:
        return []
    listed = ", ".join(f"{label} {n}" for label, n in list(short.items())[:3])
    return [
        f"{task.dataset}: {counted(len(short), 'class has', 'classes have')} fewer than {task.shots} photos ({listed})"
    ]


# ---- what to fine-tune, and keys in the plane ------------------------------------------------------------------------


def _measure_parts(task: Task, material: Material, support: SupportSet, target: Material) -> dict[str, Any]:
    """A row of Table 6, through the encoder's torch modules."""
    from tip_adapter.paper.parts import Equation, Parts, Photos, fine_tune  # needs torch

    if material.prepared is None or target.prepared is None:
        raise UsageError("what to fine-tune (table6) needs photos, not vectors; give --data-root instead of --vectors")
    if not hasattr(material.encoder, "towers"):
        raise UsageError(
            f"{material.encoder.identity.name} has no torch modules to fine-tune (table6); use open_clip:ARCH/PRETRAINED"
        )
    test, (_, labels), ids = target.test(), _positions(support, material), support.ids.tolist()
    photos = partial(material.prepared, "train", ids)
    cache = replace(task, method="tip-adapter", settings={})
    choice = _learner(cache, task.protocol, material, support, test)().choice
    pair = (choice.alpha, choice.beta) if choice else PAPERS_PAIR
    learns = {name.replace(" ", "_"): True for name in task.settings["learn"]}
    sentences = [[text.format(name) for text in material.templates] for name in material.names.values()]
    tuned = fine_tune(
        material.encoder.towers(),
        Photos(photos(), labels),  # type: ignore[arg-type]
        support.vectors,
        Photos(target.prepared("test", test.ids.tolist()), _positions(test, material)[1]),  # type: ignore[arg-type]
        sentences,
        Parts(**learns),
        Equation(*pair, material.encoder.logit_scale),
        views=(lambda epoch: photos(view=epoch)) if material.n_views else None,  # type: ignore[arg-type,return-value]
        epochs=material.epochs["tip-adapter-f"],
        seed=task.seed,
    )
    return {
        "accuracy": tuned.accuracy,
        "outcome": "collapsed" if tuned.collapsed else "trained" if learns else "training-free",
        "alpha": pair[0],
        "beta": pair[1],
        "losses": list(tuned.losses),
        "epochs": len(tuned.losses),
        "learnable_parameters": tuned.n_parameters,
        "training_seconds": tuned.seconds,
    }


def _plane(head: Head) -> dict[str, Any]:
    """The keys by t-SNE, and how well the classes stand apart among them: their silhouette, by cosine."""
    from sklearn.manifold import TSNE
    from sklearn.metrics import silhouette_score

    keys, labels = np.asarray(head.estimator.keys_, np.float64), head.estimator.labels_
    perplexity = min(30.0, (len(keys) - 1) / 3)
    points = TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(keys)
    several = 1 < len(np.unique(labels)) < len(labels)
    return {
        "silhouette": float(silhouette_score(keys, labels, metric="cosine")) if several else None,
        "points": [[float(x), float(y), int(label)] for (x, y), label in zip(points, labels, strict=True)],
    }
