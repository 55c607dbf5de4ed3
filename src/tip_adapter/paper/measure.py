"""The one runner: measures what an experiment still lacks, one result after the other."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from tip_adapter.errors import FolderError, ResultsError, TipAdapterError, UsageError
from tip_adapter.methods.zero_shot import ZeroShotClassifier
from tip_adapter.metrics import accuracy_interval
from tip_adapter.paper.columns import TITLES
from tip_adapter.paper.fit import Heads, accuracy_of, learner, most_of_a_class, positions_of
from tip_adapter.paper.protocols import PAPERS_PAIR
from tip_adapter.paper.results import key_of, origin
from tip_adapter.paper.timing import BATCH, cuda_peak_mib, milliseconds
from tip_adapter.plugins import require_extra
from tip_adapter.text import counted, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from tip_adapter.model.head import Head
    from tip_adapter.paper.experiments import Task
    from tip_adapter.paper.vectors import SplitVectors
    from tip_adapter.vectors import SupportSet

    #: (data set, encoder) → what is measured on.
    Find = Callable[[str, str], SplitVectors]

#: Characters of a digest that tell whether a photo changed, and the name of all test photos among the photos.
_CONTENT, _TEST = 8, "the test part"
#: A loss that no key will move for.
_NOTHING_TO_LEARN = 1e-6
#: How the linear probe found its C → what a reader should know of that.
_SEARCHED_BY = {
    "given": "linear probe by fixed or scale-free: C is 1, not searched",
    "nothing": "linear probe: fewer than two classes have a second photo to search by, C is 1",
    "cross-validation": "linear probe by leave-one-out: parts of the photos are left out in turn, not one at a time",
}


def run(
    tasks: Iterable[Task], known: Iterable[dict[str, Any]], find: Find, say: Callable[[str], None]
) -> Iterator[tuple[dict[str, Any] | None, bool]]:
    """Measure what is not known yet.

    Parameters
    ----------
    tasks : what is wanted
    known : results that are there
    find : (data set, encoder) → SplitVectors; raises TipAdapterError where one is missing
    say : called with what is missing, and with what failed, in a sentence, once each

    Yields
    ------
    the result of each task, in their order, None where something is missing or failed; and whether it was measured now

    Raises
    ------
    ResultsError
        What is known was measured with another encoder of the same name, or on photos that have changed since.
    """
    found = {key_of(result): result for result in known}
    find = _checked(find, {result["encoder"]: result["encoder_identity"]["fingerprint"] for result in found.values()})
    said, heads, draws = set(), Heads(), Draws(found.values())
    for task in tasks:
        result = found.get(key_of(task.axes()))
        try:
            if result:
                draws.claim(task, result.get("support_ids", ()))
            yield (result, False) if result else (measure(task, find, heads, draws), True)
        except ResultsError:
            raise
        except TipAdapterError as error:
            if str(error) not in said:
                say(str(error))
            said.add(str(error))
            yield None, False


def _checked(find: Find, fingerprints: Mapping[str, str]) -> Find:
    """`find`, asked once for what is missing, since to find out that there is no network takes a minute; other
    encoders of a known name are refused.
    """
    missing: dict[tuple[str, ...], TipAdapterError] = {}

    def checked(dataset: str, encoder: str) -> SplitVectors:
        for key in ((encoder,), (dataset, encoder)):
            if key in missing:
                raise missing[key]
        try:
            split = find(dataset, encoder)
        except TipAdapterError as error:  # a folder's is the data set's; every other is the encoder's
            missing[(dataset, encoder) if isinstance(error, FolderError) else (encoder,)] = error
            raise
        fingerprint = split.encoder.identity.fingerprint
        if fingerprints.get(encoder, fingerprint) != fingerprint:
            raise ResultsError(
                f"the results that are there were measured with another {printable(encoder)} (its files have changed "
                "since); choose another --out"
            )
        return split

    return checked


class Draws:
    """The photos that each result is measured on: no draw is measured, or averaged over, twice, and no photo may change
    between results.

    Parameters
    ----------
    known : results that are there
    """

    def __init__(self, known: Iterable[dict[str, Any]] = ()) -> None:
        self._first: dict[tuple[Any, ...], Task] = {}
        self._contents: dict[tuple[str, str, str], str] = {}
        for result in known:
            contents = zip(result.get("support_ids", ()), result.get("support_contents", ()), strict=False)
            encoder = result["encoder"]
            self._contents.update(
                {(encoder, result["dataset"], name): content for name, content in contents if content}
            )
            if result.get("test_content"):
                self._contents[encoder, result["target"], _TEST] = result["test_content"]

    def require_unchanged(self, encoder: str, dataset: str, contents: Mapping[str, str]) -> None:
        """Raise ResultsError if a photo of a data set, or all of its test photos, had another content, or another label,
        when an earlier result of the encoder was measured.
        """
        for name, content in contents.items():
            if content and self._contents.setdefault((encoder, dataset, name), content) != content:
                raise ResultsError(
                    f"the results that are there were measured on other photos of {printable(dataset)}: {printable(name)} "
                    "changed since, in content or label; choose another --out"
                )

    def claim(self, task: Task, ids: Sequence[str]) -> None:
        """Raise UsageError if another task that differs in shots or seed alone has the same photos."""
        if task.settings.get("cache_size", task.shots) < task.shots:
            return  # each seed has its own split into prototypes
        same = key_of({**task.axes(), "shots": None, "seed": None})
        first = self._first.setdefault((same, frozenset(map(hash, ids))), task)
        if first.shots != task.shots:
            raise UsageError(
                f"{task.dataset}: {task.shots} shots are the same photos as {first.shots}; they are left out"
            )
        if first.seed != task.seed:
            raise UsageError(
                f"{task.dataset}: other seeds draw the same photos at {counted(task.shots, 'shot', 'shots')} a class; "
                "they are measured once, without an interval"
            )


def measure(task: Task, find: Find, heads: Heads, draws: Draws) -> dict[str, Any]:
    """One result.

    Parameters
    ----------
    task, find : as in `run`
    heads : what was fitted before
    draws : what was measured before, or is known

    Raises
    ------
    TipAdapterError
        The data set, the encoder, a part of them or so many shots are missing, or the task makes no sense on them.
    """
    split = find(task.dataset, task.encoder)
    target = split if task.target == task.dataset else find(task.target, task.encoder)
    support = split.support(task.shots, task.seed)
    most = most_of_a_class(support)
    if most < task.shots:
        raise UsageError(
            f"{task.dataset} has at most {counted(most, 'photo', 'photos')} of a class to learn from; {task.shots} shots are "
            "left out"
        )
    draws.claim(task, support.ids.tolist())
    test = target.test()
    support_contents, test_content = _contents(support), "".join(_contents(test))
    test_content = hashlib.sha256(test_content.encode()).hexdigest()[:_CONTENT] if test_content else ""
    draws.require_unchanged(task.encoder, task.dataset, dict(zip(support.ids.tolist(), support_contents, strict=True)))
    draws.require_unchanged(task.encoder, task.target, {_TEST: test_content})
    zero_shot = ZeroShotClassifier(split.embeddings(task.settings.get("templates")))
    none = test.take(slice(0))
    zero_shot_accuracy = accuracy_of(zero_shot.fit(none.vectors, none.labels).predict, test)
    if "learn" in task.settings:
        result = _measure_parts(task, split, support, target)
    else:
        result = _measure_method(task, split, support, target, heads)
    accuracy = result["accuracy"]
    return {
        **task.axes(),
        **result,
        "interval": None if accuracy is None else [*accuracy_interval(round(accuracy * len(test)), len(test))],
        "zero_shot_accuracy": zero_shot_accuracy,
        "gain": None if accuracy is None else accuracy - zero_shot_accuracy,
        "n_test": len(test),
        "n_classes": len(split.names),
        "support_ids": support.ids.tolist(),
        "support_contents": support_contents,
        "test_content": test_content,
        "notes": [*result.get("notes", []), *_short_of_photos(task, support)],
        "templates": list(split.templates_or_own(task.settings.get("templates"))),
        "support_views": split.encoder.record.support_views if split.prepared else None,
        "settings": dict(task.settings),
        "encoder_identity": asdict(split.encoder.identity),
        **origin(),
    }


def _contents(photos: SupportSet) -> list[str]:
    """A short digest of each photo's content and label; empty where the content is not known."""
    known = zip(photos.labels.tolist(), photos.digests.tolist(), strict=True)
    return [digest and hashlib.sha256(f"{label}\0{digest}".encode()).hexdigest()[:_CONTENT] for label, digest in known]


# ---- a method --------------------------------------------------------------------------------------------------------


def _measure_method(
    task: Task, split: SplitVectors, support: SupportSet, target: SplitVectors, heads: Heads
) -> dict[str, Any]:
    test = target.test()
    made = heads.fitted(task, task.protocol, split, support, test)
    rows = np.arange(BATCH) % len(test)  # a batch, through the encoder if there are images, and through the head
    vectors = test.vectors[rows]
    head, choice, estimator = made.head, made.head.choice, made.head.estimator
    return {
        "accuracy": accuracy_of(head.predict, test),
        "alpha": choice.alpha if choice else None,
        "beta": choice.beta if choice else None,
        "temperature": choice.temperature if choice else None,
        "C": getattr(estimator, "C_", None),
        "training": estimator.training(),
        "epochs": estimator.training().get("epochs", 0),
        "losses": [float(loss) for loss in getattr(estimator, "losses_", ())],
        "epoch_accuracies": list(made.epoch_accuracies),
        "learnable_parameters": estimator.n_parameters,
        "training_seconds": made.seconds,
        "inference_ms": milliseconds(lambda: head.probabilities(vectors)) + target.encoding_ms(test.ids[rows].tolist()),
        "peak_memory_mib": made.peak_mib,
        "gpu_mib": cuda_peak_mib(),
        "notes": _notes(task, estimator),
        **(_plane(head, task.shown_classes) if task.shown_classes else {}),
    }


def _notes(task: Task, estimator: Any) -> list[str]:
    """What a reader should know of how it was trained."""
    notes = []
    if tower := estimator.training().get("prompt_tower"):
        notes.append(f"the tower of CoOp's context: {tower}")
    if max(getattr(estimator, "losses_", ()), default=1) < _NOTHING_TO_LEARN:
        notes.append(f"{TITLES.get(task.method, task.method)}: the loss is 0 from the start, and nothing is learned")
    if searched_by := _SEARCHED_BY.get(getattr(estimator, "searched_by_", "")):
        notes.append(searched_by)
    return notes


def _short_of_photos(task: Task, support: SupportSet) -> list[str]:
    """A note on classes with fewer images than shots, which use all of theirs."""
    counts = zip(*np.unique(support.labels, return_counts=True), strict=True)
    short = [f"{label} {n}" for label, n in counts if n < task.shots]
    if not short:
        return []
    fewer = f"{counted(len(short), 'class has', 'classes have')} fewer than {task.shots} photos"
    return [f"{task.dataset}: {fewer} ({', '.join(short[:3])})"]


# ---- what to fine-tune, and keys in the plane ------------------------------------------------------------------------


def _measure_parts(task: Task, split: SplitVectors, support: SupportSet, target: SplitVectors) -> dict[str, Any]:
    """A row of Table 6, through the encoder's torch modules."""
    finetune = require_extra("tip_adapter.paper.finetune", "torch, which what to fine-tune (table6) needs,", "torch")
    if split.prepared is None or target.prepared is None:
        raise UsageError("what to fine-tune (table6) needs photos, not vectors; give --data-root instead of --vectors")
    if not hasattr(split.encoder, "towers"):
        raise UsageError(
            f"{split.encoder.identity.name} has no torch modules to fine-tune (table6); use open_clip:ARCH/PRETRAINED"
        )
    test, (_, labels), ids = target.test(), positions_of(support, split), support.ids.tolist()
    photos = partial(split.prepared, "train", ids)
    cache = replace(task, method="tip-adapter", settings={})
    choice = learner(cache, task.protocol, split, support, test)().choice
    pair = (choice.alpha, choice.beta) if choice else PAPERS_PAIR
    learns = {name.replace(" ", "_"): True for name in task.settings["learn"]}
    prompts = [[text.format(name) for text in split.templates] for name in split.names.values()]
    tuned = finetune.fine_tune(
        split.encoder.towers(),
        finetune.Photos(photos(), labels),
        support.vectors,
        finetune.Photos(target.prepared("test", test.ids.tolist()), positions_of(test, split)[1]),
        prompts,
        finetune.Parts(**learns),
        finetune.Equation(*pair, split.encoder.logit_scale),
        views=(lambda epoch: photos(view=epoch)) if split.n_views else None,
        epochs=split.epochs["tip-adapter-f"],
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


def _plane(head: Head, n_classes: int) -> dict[str, Any]:
    """The keys of the first classes by t-SNE, and how well these are separated: their silhouette, by cosine."""
    from sklearn.manifold import TSNE
    from sklearn.metrics import silhouette_score

    shown = head.estimator.labels_ < n_classes
    keys, labels = np.asarray(head.estimator.keys_, np.float64)[shown], head.estimator.labels_[shown]
    perplexity = min(30.0, (len(keys) - 1) / 3)
    points = TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(keys)
    several = 1 < len(np.unique(labels)) < len(labels)
    return {
        "silhouette": float(silhouette_score(keys, labels, metric="cosine")) if several else None,
        "points": [[float(x), float(y), int(label)] for (x, y), label in zip(points, labels, strict=True)],
    }
