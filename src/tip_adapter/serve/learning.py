"""What a project learns: heads of the default method, fitted to all photos, or moved by one photo at once.

A photo that is added counts immediately by one step of dual coordinate ascent: its own term in the coefficients is found exactly,
the terms of the other photos stay. That takes a millisecond at any number of photos. A fit of all follows in the background and
corrects what is left of the difference.
"""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from tip_adapter.encoders.prompts import embed_classes, resolve_templates
from tip_adapter.methods import DEFAULT_METHOD
from tip_adapter.methods.tuning import Choice
from tip_adapter.metrics import LeaveOneOutResult
from tip_adapter.model.classifier import FewShotClassifier
from tip_adapter.model.fitting import fit_by_settings
from tip_adapter.model.head import Head, new_estimator
from tip_adapter.vectors import ClassEmbeddings, SupportSet, softmax, unit_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from tip_adapter.encoders import Encoder

_NEWTON_STEPS = 30
#: Newton's decrement below which the step has converged.
_CONVERGED = 1e-9


@dataclass(frozen=True)
class Tuned:
    """What was chosen on the photos, kept while photos come and go until it is chosen again.

    Parameters
    ----------
    parameters : constructor values of the method
    choice : Choice, or None where there were no photos to choose by
    left_out : leave-one-out accuracy of that time, from which the threshold follows; None where no photo could be left out
    """

    parameters: Mapping[str, Any]
    choice: Choice | None
    left_out: LeaveOneOutResult | None

    @classmethod
    def of(cls, head: Head) -> Self:
        """What was chosen for a head."""
        return cls(head.estimator.settings(), head.choice, head.left_out)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """The inverse of `to_record`."""
        left_out = LeaveOneOutResult.from_record(record["left_out"]) if record["left_out"] else None
        return cls(record["parameters"], Choice(**record["choice"]) if record["choice"] else None, left_out)

    def to_record(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "parameters": dict(self.parameters),
            "choice": asdict(self.choice) if self.choice else None,
            "left_out": self.left_out.to_record() if self.left_out else None,
        }


@dataclass(frozen=True, eq=False)
class Learned:
    """A head, and how many photos of each class it has learned from since it was fitted to all.

    Parameters
    ----------
    head : Head; its `support` are the photos of the last fit
    tuned : Tuned, what the head was fitted with
    counts : label → number of photos
    """

    head: Head
    tuned: Tuned
    counts: Mapping[str, int]

    @cached_property
    def center(self) -> NDArray[np.float32]:
        """(d,) mean of the class means, about which the method learns."""
        support = self.head.support
        means = [support.vectors[support.labels == label].mean(axis=0) for label in np.unique(support.labels)]
        return np.mean(means, axis=0) if means else np.zeros(support.vectors.shape[1], np.float32)

    def with_photo(self, vector: NDArray[np.float32], label: str) -> Learned:
        """Learned from one more photo, a (d,) unit vector, too."""
        return self._moved(vector, label, +1)

    def without_photo(self, vector: NDArray[np.float32], label: str) -> Learned:
        """Without the term of one of the photos."""
        return self._moved(vector, label, -1)

    def _moved(self, vector: NDArray[np.float32], label: str, sign: int) -> Learned:
        counts = {**self.counts, label: self.counts.get(label, 0) + sign}
        counted = counts if sign > 0 else self.counts
        present = [c for c, name in enumerate(self.head.names) if counted.get(name)]
        own = present.index(self.head.classes.tolist().index(label))
        n_of_class = np.array([counted[str(self.head.classes[c])] for c in present])
        weight = len(present) / (1 / n_of_class).sum() / n_of_class[own]
        estimator, inputs = self.head.estimator, vector - self.center
        logits = (estimator.coef_[present] @ vector + estimator.intercept_[0, present]).astype(np.float64)
        if sign > 0:
            term = _own_term(logits, own, weight / estimator.penalty_, float(inputs @ inputs))
        else:
            term = -_pull(logits, own) * weight / estimator.penalty_
        coef, intercept = estimator.coef_.copy(), estimator.intercept_.copy()
        coef[present] += np.outer(term, inputs).astype(coef.dtype)
        intercept[0, present] -= (term * float(inputs @ self.center)).astype(coef.dtype)
        moved = copy.copy(estimator)
        moved.coef_, moved.intercept_ = coef, intercept
        made = Learned(replace(self.head, estimator=moved), self.tuned, counts)
        made.__dict__["center"] = self.center
        return made


def _ready(learned: Learned) -> Learned:
    """With its center, so that the next photo need not wait for it."""
    learned.center  # noqa: B018 - computed once
    return learned


def _pull(logits: NDArray[np.float64], own: int) -> NDArray[np.float64]:
    """One-hot label minus softmax of (P,) logits."""
    errors: NDArray[np.float64] = -softmax(logits[None])[0]
    errors[own] += 1
    return errors


def _own_term(logits: NDArray[np.float64], own: int, strength: float, length: float) -> NDArray[np.float64]:
    """(P,) a with a = strength · (L − softmax(logits + length · a)): the photo's term once it has been learned, by Newton's method.

    It is the minimum of the convex strength · cross-entropy(logits + length · a) + length / 2 · |a|², times 1 / length.
    """
    if not length:
        return _pull(logits, own) * strength

    def loss(term: NDArray[np.float64]) -> float:
        moved = logits + length * term
        top = moved.max()
        surprise = top + np.log(np.exp(moved - top).sum()) - moved[own]
        return float(strength * surprise + length / 2 * term @ term)

    term = np.zeros_like(logits)
    for _ in range(_NEWTON_STEPS):
        pull = _pull(logits + length * term, own)
        gradient = length * (term - strength * pull)
        shares = -pull
        shares[own] += 1
        # The Hessian is diagonal plus rank one.
        diagonal = length * (strength * length * shares + 1)
        step, along = gradient / diagonal, shares / diagonal
        factor = strength * length**2
        step += factor * along * (shares @ step) / (1 - factor * (shares @ along))
        decrease = float(gradient @ step)
        if decrease < _CONVERGED:
            break
        size, before = 1.0, loss(term)
        while loss(term - size * step) > before - 0.25 * size * decrease and size > 1e-6:
            size /= 2
        term = term - size * step
    return term


class Learner:
    """Fits heads of the default method for one encoder.

    Parameters
    ----------
    encoder : Encoder
    """

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self._templates = resolve_templates(encoder.record.templates)
        self._embedded: Callable[[str], NDArray[np.float32]] = lru_cache(10_000)(self._embed)

    def warm_up(self) -> None:
        """Load what the first fit loads, so that no request waits for it."""
        vectors = np.eye(2, self.encoder.identity.width, dtype=np.float32)
        labels = np.array(["a", "b"])
        self.fit({label: label for label in labels.tolist()}, frozenset(), SupportSet(vectors, labels, labels))

    def check_name(self, name: str) -> None:
        """Raise VectorError if the encoder cannot read a class name."""
        if self.encoder.record.reads_names:
            self._embedded(name)

    def fit(self, names: Mapping[str, str], nameless: frozenset[str], support: SupportSet) -> Learned:
        """A head of all photos whose settings are chosen on them.

        Parameters
        ----------
        names : label → the name that the text encoder reads
        nameless : labels of classes without a name of their own: their embedding is the mean of the others'
        support : SupportSet of classes among `names`; for an encoder that reads no names each has photos
        """
        settings = FewShotClassifier(encoder=self.encoder).get_params(deep=False)
        embeddings = self._embeddings(names, nameless)
        names = dict(sorted(names.items()))
        learned_from = support, names, self._templates, embeddings, self.encoder.logit_scale
        head = fit_by_settings(settings, self.encoder, DEFAULT_METHOD, *learned_from, progress=None)
        return _ready(Learned(head, Tuned.of(head), Counter(support.labels.tolist())))

    def refit(self, tuned: Tuned, names: Mapping[str, str], nameless: frozenset[str], support: SupportSet) -> Learned:
        """A head of all photos with settings that were chosen before; takes what `fit` does."""
        if tuned.choice is None and len(support):
            return self.fit(names, nameless, support)
        embeddings = self._embeddings(names, nameless)
        scale = self.encoder.logit_scale
        estimator = new_estimator(DEFAULT_METHOD, embeddings, scale, tuned.choice, tuned.parameters)
        estimator.fit(support.vectors, support.labels, ids=support.ids.tolist())
        state = dict(sorted(names.items())), self._templates, embeddings, support, tuned.choice, estimator, scale
        head = Head(DEFAULT_METHOD, *state, tuned.left_out, training=estimator.training())
        return _ready(Learned(head, tuned, Counter(support.labels.tolist())))

    def _embed(self, name: str) -> NDArray[np.float32]:
        return embed_classes({name: name}, self._templates, self.encoder.encode_texts).matrix[0]

    def _embeddings(self, names: Mapping[str, str], nameless: frozenset[str]) -> ClassEmbeddings | None:
        if not self.encoder.record.reads_names:
            return None
        labels = sorted(names)
        rows = {label: self._embedded(names[label]) for label in labels if label not in nameless}
        neutral = unit_rows(np.mean([*rows.values()], axis=0, keepdims=True))[0] if rows else None
        matrix = [rows.get(label, self._embedded(names[label]) if neutral is None else neutral) for label in labels]
        return ClassEmbeddings(np.array(labels, np.str_), np.stack(matrix))
