"""Head: the fitted state of a classifier, saved and restored; from vectors to predictions and explanations.

It is one frozen record that is replaced as a whole, so that a reference to it stays consistent.
"""

from __future__ import annotations

import inspect
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from numbers import Real
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

import numpy as np

from tip_adapter.errors import DamagedModelFolder, UnknownName, UsageError
from tip_adapter.methods import method_class
from tip_adapter.methods.leave_one_out import Cache
from tip_adapter.methods.tip_adapter import TipAdapterClassifier
from tip_adapter.methods.tuning import Choice
from tip_adapter.methods.zero_shot import ZeroShotClassifier
from tip_adapter.metrics import LeaveOneOutResult, MetricAccumulator
from tip_adapter.model.format import CLASS_EMBEDDINGS, DIGESTS
from tip_adapter.model.saving import read_model_folder
from tip_adapter.text import printable, shown
from tip_adapter.vectors import ClassEmbeddings, SupportSet, softmax

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from tip_adapter.methods.base import VectorClassifier
    from tip_adapter.methods.explanation import ClassEvidence

#: Photos that are scored at once: bounds memory.
_BLOCK = 1024


class ClassScore(TypedDict):
    """A class and its probability."""

    label: str
    score: float


class Answer(TypedDict):
    """What is predicted of a vector; see `Prediction`."""

    label: str | None
    score: float | None
    top: list[ClassScore]
    explanation: NotRequired[list[dict[str, Any]]]


@dataclass(frozen=True, eq=False)
class TrainingData:
    """What a method is fitted to.

    Parameters
    ----------
    support : SupportSet, the labelled photos
    names : label → name, in the order of the sorted labels
    templates : the prompt templates of the names
    class_embeddings : ClassEmbeddings of every label; None where the encoder reads no names
    logit_scale : float, the encoder's
    """

    support: SupportSet
    names: Mapping[str, str]
    templates: tuple[str, ...]
    class_embeddings: ClassEmbeddings | None
    logit_scale: float

    def cache(self, class_sums: str, queries: NDArray[Any] | None = None) -> Cache:
        """The support as a cache for the tuning rules, queried by (n, d) plain views of its photos, or by their own vectors."""
        head = TipAdapterClassifier(
            class_embeddings=self.class_embeddings, logit_scale=self.logit_scale, class_sums=class_sums
        )
        head.fit(self.support.vectors, self.support.labels)
        return Cache.of(head, head.keys_ if queries is None else head.unit_queries(queries))


@dataclass(frozen=True, eq=False)
class Head:
    """A fitted method and what it was fitted on.

    Parameters
    ----------
    method : name of the method
    names : label → name, in the order of the sorted labels
    templates : the prompt templates of the names
    class_embeddings : ClassEmbeddings of every label; None where the encoder reads no names, and every class has photos
    support : SupportSet, the labelled photos
    choice : Choice, or None where nothing was chosen
    estimator : the fitted method
    logit_scale : float, the encoder's
    left_out : leave-one-out accuracy on the support; None where no photo can be left out, or photos were added or removed
        since
    finetune_with : the method with learned keys that `retune` fine-tunes again, after photos were added or removed; or None
    training : how it was trained, as `VectorClassifier.training`
    """

    method: str
    names: Mapping[str, str]
    templates: tuple[str, ...]
    class_embeddings: ClassEmbeddings | None
    support: SupportSet
    choice: Choice[float | None] | None
    estimator: VectorClassifier
    logit_scale: float
    left_out: LeaveOneOutResult | None = None
    finetune_with: str | None = None
    training: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        method: str,
        data: TrainingData,
        estimator: VectorClassifier,
        choice: Choice[float | None] | None,
        left_out: LeaveOneOutResult | None,
    ) -> Head:
        """That of a method that was just fitted to the data."""
        return cls(
            method=method,
            names=data.names,
            templates=data.templates,
            class_embeddings=data.class_embeddings,
            support=data.support,
            choice=choice,
            estimator=estimator,
            logit_scale=data.logit_scale,
            left_out=left_out,
            training=estimator.training(),
        )

    @property
    def training_data(self) -> TrainingData:
        """What a refit is fitted to."""
        return TrainingData(self.support, self.names, self.templates, self.class_embeddings, self.logit_scale)

    @cached_property
    def classes(self) -> NDArray[np.str_]:
        """(n_classes,) sorted labels."""
        return np.array(list(self.names), dtype=np.str_)

    @cached_property
    def described_classes(self) -> list[dict[str, Any]]:
        """label, name and n_images of every class, in the order of the labels."""
        counts = Counter(self.support.labels.tolist())
        return [{"label": label, "name": name, "n_images": counts[label]} for label, name in self.names.items()]

    @cached_property
    def cache(self) -> Cache:
        """The support as a cache with its own vectors as keys: what the tuning rules use."""
        return self.training_data.cache(self.estimator.class_sums)

    @cached_property
    def left_out_logits(self) -> tuple[NDArray[np.intp], NDArray[Any]]:
        """Rows of the support that can be left out, (m,) ascending, and their logits by the method without them, (m, n_classes)."""
        if self.estimator.capabilities.leaves_out:
            return self.estimator.left_out()
        if self.choice is None or self.choice.alpha is None or self.choice.beta is None:
            return np.zeros(0, np.intp), np.zeros((0, len(self.classes)))
        photos = self.cache.left_out
        return np.flatnonzero(photos.scored), photos.logits(self.choice.alpha, self.choice.beta)

    @property
    def refit_method(self) -> str:
        """The method that `retune` fits: its own, or the one with learned keys that it fell back from."""
        return self.finetune_with or self.method

    @property
    def has_pairs(self) -> bool:
        """Whether a class has two photos; they may differ too little for one to be left out."""
        return len(np.unique(self.support.labels)) < len(self.support)

    @property
    def temperature(self) -> float:
        """Divisor of the logits before the softmax; 1 where none was fitted."""
        return self.choice.temperature if self.choice else 1.0

    @property
    def threshold(self) -> float:
        """The score below which a photo is of none of the classes; UsageError if no photo could be left out to find it."""
        if self.left_out is None:
            raise UsageError(
                "the model has no threshold of its own: it needs a method that leaves photos out (text-offset, tip-adapter), "
                "different photos of a class, two at least, and `tip-adapter retune` after photos were added or removed; give "
                "min_score a number",
                arguments=("min_score",),
            )
        return self.left_out.threshold

    def probabilities(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities of (n, d) vectors, (n, n_classes) float32: softmax of logits / temperature.

        A class without photos, if the method needs them, has probability 0.
        """
        return softmax(self._logits(vectors) / self.temperature)

    def predict(self, vectors: NDArray[np.float32], min_score: float = 0.0) -> NDArray[Any]:
        """Labels of (n, d) vectors, (n,): the highest logit, also where all probabilities round to the same.

        str; with a `min_score` above 0 objects, as `answers` labels them: None below it.
        """
        if min_score > 0:
            return np.array([answer["label"] for answer in self.answers(vectors, 1, min_score)], dtype=object)
        return self.classes[self._logits(vectors).argmax(axis=1)]

    def answers(self, vectors: NDArray[np.float32], top: int, min_score: float) -> list[Answer]:
        """One record for each of (n, d) vectors: label (None below `min_score`), score and the `top` most likely."""
        return [self._answer(*row, top, min_score) for row in self._ranked(vectors)]

    def explained_answers(self, vectors: NDArray[np.float32], top: int, min_score: float) -> list[Answer]:
        """`answers`, each with the logits of the predicted class and the runner-up decomposed; raises as `_decomposed`."""
        # The runner-up by these logits: where classes all but tie, the explanation's double precision could reorder them.
        return [
            {
                **self._answer(probabilities, ranked, top, min_score),
                "explanation": self._explained(evidence, probabilities, ranked[:2].tolist()),
            }
            for (probabilities, ranked), evidence in self._decomposed(vectors)
        ]

    def _logits(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, n_classes) float32; −infinity for a class that the method cannot predict."""
        logits = np.full((len(vectors), len(self.classes)), -np.inf, np.float32)
        logits[:, np.searchsorted(self.classes, self.estimator.classes_)] = self.estimator.logits(vectors)
        return logits

    def _ranked(self, vectors: NDArray[np.float32]) -> Iterator[tuple[NDArray[np.float32], NDArray[np.intp]]]:
        """For each vector its probabilities, and the classes from the most likely on, by their logits."""
        logits = self._logits(vectors)
        return zip(softmax(logits / self.temperature), np.argsort(-logits, axis=1, kind="stable"), strict=True)

    def explained_classes(self, vector: NDArray[np.float32], labels: Sequence[str]) -> list[dict[str, Any]]:
        """Records as in `explained_answers` of a (d,) vector for these labels, whatever is predicted."""
        (((probabilities, _), evidences),) = self._decomposed(vector[None])
        return self._explained(evidences, probabilities, [self.classes.tolist().index(label) for label in labels])

    def require_explanations(self) -> None:
        """Raise UsageError if the method cannot explain an answer."""
        if not self.estimator.capabilities.explains:
            raise UsageError(f"{self.method} has no photos to explain an answer by; --method text-offset has")

    def _decomposed(
        self, vectors: NDArray[np.float32]
    ) -> Iterable[tuple[tuple[NDArray[np.float32], NDArray[np.intp]], Sequence[ClassEvidence]]]:
        """What `_ranked` gives for each vector, and the evidence for each class; UsageError if the method has none."""
        self.require_explanations()
        return zip(self._ranked(vectors), self.estimator.explain(vectors), strict=True)

    def _answer(
        self, probabilities: NDArray[np.float32], likeliest: NDArray[np.intp], top: int, min_score: float
    ) -> Answer:
        best = likeliest[0]
        return {
            "label": str(self.classes[best]) if float(probabilities[best]) >= min_score else None,
            "score": float(probabilities[best]),
            "top": [{"label": str(self.classes[c]), "score": float(probabilities[c])} for c in likeliest[:top]],
        }

    def _explained(
        self, evidences: Iterable[ClassEvidence], probabilities: NDArray[np.float32], positions: Sequence[int]
    ) -> list[dict[str, Any]]:
        """Records of the classes at these positions."""
        by_label = {str(evidence.label): evidence for evidence in evidences}
        labels = [str(self.classes[c]) for c in positions]
        return [
            {
                "name": self.names[label] if self.class_embeddings else None,
                "score": float(probabilities[c]),
                **asdict(by_label[label]),
                "label": label,
                "images": [asdict(image) for image in by_label[label].images],
            }
            for c, label in zip(positions, labels, strict=True)
        ]

    @cached_property
    def zero_shot(self) -> ZeroShotClassifier | None:
        """The zero-shot classifier of the class names; None without class embeddings."""
        if self.class_embeddings is None:
            return None
        none = self.support.take(slice(0))
        return ZeroShotClassifier(self.class_embeddings).fit(none.vectors, none.labels)

    def new_accumulator(self, n_mistakes: int = 0) -> MetricAccumulator:
        """An empty accumulator, for `count`."""
        return MetricAccumulator(self.classes, self.temperature, n_mistakes)

    def count(self, photos: SupportSet, accumulator: MetricAccumulator) -> None:
        """Score labelled photos in blocks and add them to an accumulator."""
        for start in range(0, len(photos), _BLOCK):
            block = photos.take(slice(start, start + _BLOCK))
            accumulator.add(block, self._logits(block.vectors), self.zero_shot_logits(block.vectors))

    def count_left_out(self, accumulator: MetricAccumulator) -> None:
        """Add the support to an accumulator, each photo scored by the method without it; those that cannot be left out are skipped."""
        rows, logits = self.left_out_logits
        if len(rows):
            support = self.support.take(rows)
            accumulator.add(support, logits, self.zero_shot_logits(support.vectors))

    def zero_shot_logits(self, vectors: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """Logits of the class names alone for (n, d) vectors; None without class embeddings."""
        return self.zero_shot.logits(vectors) if self.zero_shot else None

    def evaluated(self, accumulator: MetricAccumulator) -> dict[str, Any]:
        """Accuracy and calibration on the photos of an accumulator, at least one."""
        result, zero_shot, (before, after) = accumulator.accuracy(), accumulator.zero_shot(), accumulator.calibrations()
        return {
            "accuracy": result.accuracy,
            "mean_per_class_accuracy": result.mean_per_class,
            "accuracy_interval": list(result.interval),
            "zero_shot_accuracy": zero_shot.accuracy if zero_shot else None,
            "n_images": result.n,
            "unknown_classes": accumulator.unknown_classes(),
            "per_class": {label: {"accuracy": share, "n": n} for label, (share, n) in result.per_class.items()},
            "confusions": [{"label": a, "called": b, "n": n} for a, b, n in result.confusions],
            "calibration": {
                "temperature": self.temperature,
                "n_known": after.n_known,
                "before": before.to_record(),
                "after": after.to_record(),
            },
            "protocol": self.choice.rule if self.choice else None,
            "alpha": self.choice.alpha if self.choice else None,
            "beta": self.choice.beta if self.choice else None,
        }

    def to_record(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Its part of a model folder: configuration and arrays."""
        config = {
            "method": self.method,
            "parameters": self.estimator.settings(),
            "classes": self.described_classes,
            "images": self.support.ids.tolist(),
            "logit_scale": float(self.logit_scale),
            "templates": list(self.templates),
            "choice": asdict(self.choice) if self.choice else None,
            "left_out": self.left_out.to_record() if self.left_out else None,
            "finetune_with": self.finetune_with,
            "training": dict(self.training),
        }
        embedded = {CLASS_EMBEDDINGS: self.class_embeddings.matrix} if self.class_embeddings else {}
        arrays: dict[str, NDArray[Any]] = {
            **{name: np.asarray(matrix, dtype=np.float32) for name, matrix in embedded.items()},
            "support_vectors": np.asarray(self.support.vectors, dtype=np.float32),
            "support_labels": np.searchsorted(self.classes, self.support.labels).astype(np.int64),
            **{f"learned.{name}": array for name, array in self.estimator.learned().items()},
        }
        if self.support.digests.any():
            contents = bytes.fromhex("".join(digest or "0" * 64 for digest in self.support.digests.tolist()))
            arrays[DIGESTS] = np.frombuffer(contents, "<i8").reshape(-1, 4)
        return config, arrays

    @classmethod
    def from_record(cls, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Head:
        """The head of a model folder as `read_model_folder` checked it.

        Raises ValueError if it contradicts the method, UnknownName if that is not installed here.
        """
        names = {entry["label"]: entry["name"] for entry in config["classes"]}
        classes = np.array(list(names), dtype=np.str_)
        embeddings = ClassEmbeddings(classes, arrays[CLASS_EMBEDDINGS]) if CLASS_EMBEDDINGS in arrays else None
        ids = np.array(config["images"], dtype=np.str_)
        contents = arrays.get(DIGESTS, np.zeros((0, 4), np.int64)).astype("<i8")
        digests = np.array([content.tobytes().hex() if content.any() else "" for content in contents], np.str_)
        support = SupportSet(arrays["support_vectors"], classes[arrays["support_labels"]], ids, digests)
        choice = Choice(**config["choice"]) if config["choice"] else None
        estimator = _restored(config, arrays, embeddings, support, choice)
        _check_training(config, estimator)
        left_out = LeaveOneOutResult.from_record(config["left_out"]) if config["left_out"] else None
        method, templates, scale = config["method"], tuple(config["templates"]), float(config["logit_scale"])
        state = method, names, templates, embeddings, support, choice, estimator, scale, left_out
        return cls(*state, finetune_with=config["finetune_with"], training=config["training"])


def load_head(folder: str | os.PathLike[str]) -> tuple[Head, dict[str, Any]]:
    """The head and the configuration of a model folder, checked; loads no encoder.

    Raises ModelFolderError if there is no model or it is damaged, UnknownName if its method is not installed here.
    """
    config, arrays = read_model_folder(folder)
    try:
        return Head.from_record(config, arrays), config
    except UnknownName:
        raise
    except ValueError as error:
        raise DamagedModelFolder(f"{printable(folder)} is damaged: {error}; restore it or fit again") from error


def _restored(
    config: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
    embeddings: ClassEmbeddings | None,
    support: SupportSet,
    choice: Choice[float | None] | None,
) -> VectorClassifier:
    """The fitted method; ValueError where the saved values are not those that it saves."""
    method, parameters = config["method"], config["parameters"]
    if config.get("format") in (1, 2) and "class_sums" in inspect.signature(method_class(method)).parameters:
        parameters = {**parameters, "class_sums": "raw"}  # these formats know no other
    capabilities = method_class(method).capabilities
    tuned, chosen = capabilities.has_alpha_beta, choice is not None and choice.alpha is not None
    if (chosen and not tuned) or (tuned and not chosen and (choice or len(support))):
        found, has = ("missing", "an") if tuned else ("given", "no")
        raise ValueError(f"choice is {found}, but {method} has {has} alpha and beta")
    if choice and not tuned and not capabilities.leaves_out:
        raise ValueError(f"choice is given, but {method} chooses nothing on photos")
    estimator = new_estimator(method, embeddings, config["logit_scale"], choice, parameters)
    if parameters.keys() != estimator.settings().keys():
        raise ValueError(f"parameters of {method} are {sorted(estimator.settings())}")
    learned = {name.removeprefix("learned."): a for name, a in arrays.items() if name.startswith("learned.")}
    estimator.restore(support.vectors, support.labels, learned, support.ids.tolist())
    if choice:
        _refuse_overflow(choice, estimator)
    return estimator


def _check_training(config: Mapping[str, Any], estimator: VectorClassifier) -> None:
    """Raise ValueError unless the record of the training is like the method's own, and `finetune_with` a method that is trained."""
    found, usual = config["training"], estimator.training()
    for name in found.keys() | usual.keys():
        value = found.get(name)
        if isinstance(usual.get(name), Real):
            fits = isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0
            wanted = "a number of 0 or more"
        else:  # a method may record more, such as the prompt tower, that it does not know once it is restored
            fits, wanted = isinstance(value, str) and value.isprintable(), "a text"
        if not fits:
            raise ValueError(f"training.{printable(name)} is {shown(value)}, not {wanted}")
    trains = config["finetune_with"] is None
    with suppress(UnknownName):
        trains = trains or bool(method_class(config["finetune_with"]).capabilities.learned)
    if not trains:
        raise ValueError(f"finetune_with is {shown(config['finetune_with'])}, which is no method here that is trained")


def _refuse_overflow(choice: Choice[float | None], estimator: VectorClassifier) -> None:
    """Raise ValueError if logits over the temperature, alpha · n · exp(beta (|key| − 1)) at most, could be infinite."""
    if choice.alpha is None or choice.beta is None:
        return
    keys = estimator.keys_
    longest = np.square(keys.astype(np.float64)).sum(axis=1).max(initial=1) ** 0.5  # learned keys are no unit rows
    factors = max(choice.alpha, 1) * max(len(keys), 1) / min(choice.temperature, 1)
    if choice.beta * (longest - 1) + np.log(factors) > np.log(np.finfo(np.float32).max):
        found = f"alpha {choice.alpha:.4g} and beta {choice.beta:.4g}"
        raise ValueError(f"{found} overflow with keys as long as {longest:.4g}")


def new_estimator(
    method: str,
    class_embeddings: ClassEmbeddings | None,
    logit_scale: float,
    choice: Choice[float | None] | None,
    settings: Mapping[str, Any],
) -> VectorClassifier:
    """The method, given those of these that its constructor takes."""
    made = method_class(method)
    offered = {"class_embeddings": class_embeddings, "logit_scale": logit_scale, **settings}
    if choice and choice.alpha is not None:
        offered |= {"alpha": choice.alpha, "beta": choice.beta}
    estimator: VectorClassifier = made(**{n: v for n, v in offered.items() if n in inspect.signature(made).parameters})
    return estimator
