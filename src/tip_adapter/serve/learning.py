"""What a project learns: heads of the default method, fitted to all photos, or changed by single photos at once.

A photo that is added counts immediately, by `TextOffsetStep`; a fit to all follows in the background. A head can be fine-tuned,
too, which takes longer and learns no single photos.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from tip_adapter.encoders.prompts import embed_classes, resolve_templates
from tip_adapter.methods import DEFAULT_METHOD
from tip_adapter.methods.text_offset_step import TextOffsetStep
from tip_adapter.methods.tuning import Choice
from tip_adapter.metrics import LeaveOneOutResult
from tip_adapter.model.classifier import FewShotClassifier
from tip_adapter.model.fitting import fit_by_settings
from tip_adapter.model.head import Head, TrainingData, new_estimator
from tip_adapter.vectors import ClassEmbeddings, SupportSet, unit_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from tip_adapter.encoders import Encoder

#: The method of fine-tuned heads.
FINE_TUNED = "tip-adapter-f"


@dataclass(frozen=True)
class Tuned:
    """What was chosen on the photos, kept while photos come and go until it is chosen again.

    Parameters
    ----------
    parameters : constructor values of the method
    choice : Choice, or None where there were no photos to choose by
    left_out : leave-one-out accuracy when it was chosen, from which the threshold follows; None where no photo could be left out
    """

    parameters: Mapping[str, Any]
    choice: Choice[float | None] | None
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
    """A head that learns and forgets single photos at once.

    Parameters
    ----------
    head : Head; its `support` are the photos of the last fit
    tuned : Tuned, what the head was fitted with
    step : TextOffsetStep, the head's classifier
    """

    head: Head
    tuned: Tuned
    step: TextOffsetStep

    @classmethod
    def of(cls, head: Head, tuned: Tuned) -> Self:
        """A head that was fitted to all photos."""
        return cls(head, tuned, TextOffsetStep.of(head.estimator))

    def with_photo(self, vector: NDArray[np.float32], label: str) -> Self:
        """Learned from one more photo, a (d,) unit vector, too."""
        return self._after(self.step.with_image(vector, self._position(label)))

    def without_photo(self, vector: NDArray[np.float32], label: str) -> Self:
        """Without the term of one of the photos."""
        return self._after(self.step.without_image(vector, self._position(label)))

    def _position(self, label: str) -> int:
        return int(np.searchsorted(self.head.classes, label))

    def _after(self, step: TextOffsetStep) -> Self:
        return replace(self, head=replace(self.head, estimator=step.estimator), step=step)


class Learner:
    """Fits heads for one encoder.

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
        names = {label: label for label in labels.tolist()}
        self.fit(self.training_data(names, frozenset(), SupportSet(vectors, labels, labels)))

    def check_name(self, name: str) -> None:
        """Raise VectorError if the encoder cannot read a class name."""
        if self.encoder.record.reads_names:
            self._embedded(name)

    def training_data(self, names: Mapping[str, str], nameless: frozenset[str], support: SupportSet) -> TrainingData:
        """What heads are fitted to.

        Parameters
        ----------
        names : label → the name that the text encoder reads
        nameless : labels of classes without a name of their own: their embedding is the mean of the others'
        support : SupportSet of classes among `names`; for an encoder that reads no names each has photos
        """
        embeddings = self._embeddings(names, nameless)
        return TrainingData(support, dict(sorted(names.items())), self._templates, embeddings, self.encoder.logit_scale)

    def fit(self, data: TrainingData) -> Learned:
        """A head of all photos whose settings are chosen on them."""
        head = self._fitted(DEFAULT_METHOD, data)
        return Learned.of(head, Tuned.of(head))

    def refit(self, tuned: Tuned, data: TrainingData) -> Learned:
        """A head of all photos with settings that were chosen before."""
        support = data.support
        if tuned.choice is None and len(support):
            return self.fit(data)
        estimator = new_estimator(
            DEFAULT_METHOD, data.class_embeddings, data.logit_scale, tuned.choice, tuned.parameters
        )
        estimator.fit(support.vectors, support.labels, ids=support.ids.tolist())
        return Learned.of(Head.of(DEFAULT_METHOD, data, estimator, tuned.choice, tuned.left_out), tuned)

    def fine_tune(self, data: TrainingData, epochs: int, after_epoch: Callable[[int, Any], None]) -> Head:
        """A head of Tip-Adapter-F, trained on all photos; `after_epoch` as in `fit_head`."""
        return self._fitted(FINE_TUNED, data, epochs, after_epoch)

    def _fitted(
        self,
        method: str,
        data: TrainingData,
        epochs: int | None = None,
        after_epoch: Callable[[int, Any], None] | None = None,
    ) -> Head:
        settings = FewShotClassifier(encoder=self.encoder, method=method, epochs=epochs).get_params(deep=False)
        return fit_by_settings(settings, self.encoder, method, data, progress=None, after_epoch=after_epoch)

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
