"""The head: everything between a photo's vector and its answer, learned from a support set and class embeddings.

A head is replaced, never changed: who holds one keeps a consistent state.
"""

from __future__ import annotations

import inspect
from collections import Counter
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from tip_adapter.bundle import read_bundle
from tip_adapter.errors import DamagedBundle, UnknownName, UsageError, counted, printable, warn
from tip_adapter.evaluation import accuracy_of
from tip_adapter.methods import choose, method_class
from tip_adapter.methods._left_out import SupportCache
from tip_adapter.methods.choose import Choice, Given
from tip_adapter.methods.tip_adapter import TipAdapterClassifier
from tip_adapter.methods.zero_shot import ZeroShotClassifier
from tip_adapter.vectors import ClassEmbeddings, SupportSet, softmax

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from tip_adapter.methods._base import VectorClassifier


@dataclass(frozen=True, eq=False)
class Head:
    """A fitted method and what it was fitted on.

    Parameters
    ----------
    method : name of the method
    names : label → name, in the order of the sorted labels
    templates : the sentences that the names were put into
    class_embeddings : ClassEmbeddings of every label
    support : SupportSet, the labelled photos
    choice : Choice, or None where the method has no alpha and beta
    estimator : the fitted method
    logit_scale : float, the encoder's
    """

    method: str
    names: Mapping[str, str]
    templates: tuple[str, ...]
    class_embeddings: ClassEmbeddings
    support: SupportSet
    choice: Choice | None
    estimator: VectorClassifier
    logit_scale: float

    @cached_property
    def classes(self) -> NDArray[np.str_]:
        """(n_classes,) sorted labels."""
        return np.array(list(self.names), dtype=np.str_)

    def probabilities(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities of (n, d) vectors, (n, n_classes) float32: softmax of logits / temperature, 1 if none was fitted."""
        logits = self.estimator.logits(vectors)
        return np.asarray(softmax(logits / (self.choice.temperature if self.choice else 1.0)), dtype=np.float32)

    def answer(self, probabilities: NDArray[np.float32], *, top: int, min_score: float) -> dict[str, Any]:
        """One photo's (n_classes,) probabilities as label (None below `min_score`), score and the `top` likeliest."""
        classes = self.classes
        likeliest = np.argsort(-probabilities, kind="stable")
        best = likeliest[0]
        return {
            "label": str(classes[best]) if float(probabilities[best]) >= min_score else None,
            "score": float(probabilities[best]),
            "top": [{"label": str(classes[c]), "score": float(probabilities[c])} for c in likeliest[:top]],
        }

    def evaluate(self, photos: SupportSet) -> dict[str, Any]:
        """How right it is on labelled photos; a label that it does not have counts as wrong."""
        result = accuracy_of(photos.labels, self.estimator.predict(photos.vectors))
        zero_shot = ZeroShotClassifier(self.class_embeddings).fit(photos.vectors[:0], photos.labels[:0])
        return {
            "accuracy": result.accuracy,
            "mean_per_class_accuracy": result.mean_per_class,
            "accuracy_interval": list(result.interval),
            "zero_shot_accuracy": float((zero_shot.predict(photos.vectors) == photos.labels).mean()),
            "n_images": result.n,
            "unknown_classes": sorted(set(result.per_class) - set(self.names)),
            "per_class": {label: {"accuracy": share, "n": n} for label, (share, n) in result.per_class.items()},
            "protocol": self.choice.rule if self.choice else None,
            "alpha": self.choice.alpha if self.choice else None,
            "beta": self.choice.beta if self.choice else None,
        }

    def to_record(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """What a model folder keeps of it: configuration and arrays."""
        counts = Counter(self.support.labels.tolist())
        config = {
            "method": self.method,
            "parameters": self.estimator.settings(),
            "classes": [{"label": label, "name": name, "photos": counts[label]} for label, name in self.names.items()],
            "photos": self.support.ids.tolist(),
            "logit_scale": float(self.logit_scale),
            "templates": list(self.templates),
            "choice": asdict(self.choice) if self.choice else None,
        }
        arrays: dict[str, NDArray[Any]] = {
            "class_embeddings": np.asarray(self.class_embeddings.matrix, dtype=np.float32),
            "support_vectors": np.asarray(self.support.vectors, dtype=np.float32),
            "support_labels": np.searchsorted(self.classes, self.support.labels).astype(np.int64),
            **{f"learned.{name}": array for name, array in self.estimator.learned().items()},
        }
        return config, arrays

    @classmethod
    def from_record(cls, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Head:
        """The head that was kept: configuration and arrays as `read_bundle` checked them.

        Raises
        ------
        ValueError
            They contradict what the method keeps.
        UnknownName
            The method is not installed here.
        """
        names = {entry["label"]: entry["name"] for entry in config["classes"]}
        classes = np.array(list(names), dtype=np.str_)
        embeddings = ClassEmbeddings(classes, arrays["class_embeddings"])
        labels = classes[arrays["support_labels"]]
        support = SupportSet(arrays["support_vectors"], labels, np.array(config["photos"], dtype=np.str_))
        choice = Choice(**config["choice"]) if config["choice"] else None
        estimator = _restored(config, arrays, embeddings, support, choice)
        templates = tuple(config["templates"])
        return cls(
            config["method"], names, templates, embeddings, support, choice, estimator, float(config["logit_scale"])
        )


def read_head(folder: str | os.PathLike[str]) -> tuple[Head, dict[str, Any]]:
    """The head and the configuration of a model folder, checked; loads no encoder.

    Raises
    ------
    BundleError
        There is no model, or it is damaged.
    UnknownName
        Its method is not installed here.
    """
    config, arrays = read_bundle(folder)
    try:
        return Head.from_record(config, arrays), config
    except UnknownName:
        raise
    except ValueError as error:
        raise DamagedBundle(f"{printable(folder)} is damaged: {error}; restore it or fit again") from error


def learn(
    method: str,
    support: SupportSet,
    names: Mapping[str, str],
    templates: tuple[str, ...],
    class_embeddings: ClassEmbeddings,
    *,
    logit_scale: float,
    seed: int,
    rule: str,
    given: Given,
) -> Head:
    """Choose alpha and beta, fit the method; with learned keys and validation photos, choose once more.

    Parameters
    ----------
    method : name of a method
    support, names, templates, class_embeddings : as in Head
    logit_scale : float, the encoder's
    seed : int, of training
    rule : key of `choose.RULES`
    given : Given, what the rule may look at beside the support

    Raises
    ------
    UnknownName
        There is no such method; the nearest is suggested.
    UsageError
        Leave-one-out was asked for and no class has two photos.
    """
    choice = None
    if method_class(method).has_pair and (len(support) or rule != choose.SCALE_FREE):
        choice = _choose(_support_cache(support, class_embeddings, logit_scale), rule, given)
    estimator = _new_estimator(method, class_embeddings, logit_scale, choice, {"seed": seed})
    estimator.fit(support.vectors, support.labels)
    if choice and given.validation and estimator.learned():
        choice = choose.on_validation(SupportCache.of(estimator, support.vectors), given)
        estimator.set_params(alpha=choice.alpha, beta=choice.beta)
    return Head(method, names, templates, class_embeddings, support, choice, estimator, logit_scale)


def refuse_singles(labels: Iterable[str | int]) -> None:
    """Raise UsageError where leave-one-out has nothing to score: among the (n,) labels no class has two photos."""
    if max(Counter(labels).values(), default=0) < 2:
        raise UsageError(
            "leave-one-out needs a class with two photos; tune scale-free (--tune scale-free) works from one"
        )


def _choose(support: SupportCache, rule: str, given: Given) -> Choice:
    if rule == choose.LEAVE_ONE_OUT:
        refuse_singles(support.labels.tolist())
        single = list(Counter(support.labels.tolist()).values()).count(1)
        if single:
            who = counted(single, "class has", "classes have")
            warn(f"{who} one photo, which leave-one-out cannot score; the others decide")
    return choose.RULES[rule](support, given)


def _support_cache(support: SupportSet, class_embeddings: ClassEmbeddings, logit_scale: float) -> SupportCache:
    """The support as the rules look at it."""
    head = TipAdapterClassifier(class_embeddings=class_embeddings, logit_scale=logit_scale)
    head.fit(support.vectors, support.labels)
    return SupportCache.of(head, head.keys_)


def _restored(
    config: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
    embeddings: ClassEmbeddings,
    support: SupportSet,
    choice: Choice | None,
) -> VectorClassifier:
    """The fitted method; ValueError where what was kept is not what it keeps."""
    method, parameters = config["method"], config["parameters"]
    has_pair = method_class(method).has_pair
    if (choice and not has_pair) or (has_pair and not choice and len(support)):
        raise ValueError(
            f"choice is {'none' if has_pair else 'a pair'}, {method} wants {'one' if has_pair else 'none'}"
        )
    estimator = _new_estimator(method, embeddings, config["logit_scale"], choice, parameters)
    if parameters.keys() != estimator.settings().keys():
        raise ValueError(f"parameters of {method} are {sorted(estimator.settings())}")
    learned = {name.removeprefix("learned."): a for name, a in arrays.items() if name.startswith("learned.")}
    estimator.restore(support.vectors, support.labels, learned)
    if choice:
        _refuse_overflow(choice, estimator.keys_)
    return estimator


def _refuse_overflow(choice: Choice, keys: NDArray[Any]) -> None:
    """Raise ValueError if logits over the temperature, alpha · n · exp(beta (|key| − 1)) at most, could be infinite."""
    longest = np.square(keys.astype(np.float64)).sum(axis=1).max(initial=1) ** 0.5  # learned keys are no unit rows
    factors = max(choice.alpha, 1) * max(len(keys), 1) / min(choice.temperature, 1)
    if choice.beta * (longest - 1) + np.log(factors) > np.log(np.finfo(np.float32).max):
        raise ValueError(
            f"alpha {choice.alpha:.4g} and beta {choice.beta:.4g} overflow with keys as long as {longest:.4g}"
        )


def _new_estimator(
    method: str,
    class_embeddings: ClassEmbeddings,
    logit_scale: float,
    choice: Choice | None,
    settings: Mapping[str, Any],
) -> VectorClassifier:
    """The method with what its constructor takes of these."""
    made = method_class(method)
    offered = {"class_embeddings": class_embeddings, "logit_scale": logit_scale, **settings}
    if choice:
        offered |= {"alpha": choice.alpha, "beta": choice.beta}
    estimator: VectorClassifier = made(**{n: v for n, v in offered.items() if n in inspect.signature(made).parameters})
    return estimator
