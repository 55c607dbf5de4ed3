"""A method for tip-adapter: the mean of each class's photos, blended with the class name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tip_adapter.errors import UsageError
from tip_adapter.methods.base import Capabilities, VectorClassifier
from tip_adapter.methods.ops import class_means, text_logits
from tip_adapter.vectors import ClassEmbeddings, unit_rows

if TYPE_CHECKING:
    import numpy as np

    from tip_adapter.vectors import Array


@dataclass(eq=False, repr=False)
class ClassMeansClassifier(VectorClassifier):
    """logits = logit_scale · f Pᵀ, with P = share · M + (1 − share) · W: class means M and class names W.

    Parameters
    ----------
    class_embeddings : ClassEmbeddings, or None to use the means alone
    logit_scale : float, the encoder's own; 100 for CLIP
    share : float from 0 to 1, the weight of the photos
    """

    _arrays = ("prototypes_",)  # what `_logits` needs, converted to the queries' kind, dtype and device
    capabilities = Capabilities(needs_images=True)

    class_embeddings: ClassEmbeddings | None = None
    logit_scale: float = 100.0
    share: float = 0.5

    def _fit(self, keys: Array, labels: np.ndarray) -> None:
        """(n, d) unit rows and (n,) positions in `classes_`; `weights_`, (n_classes, d), are the names, zeros without them."""
        if not 0 <= self.share <= 1:
            raise UsageError(f"share must be a number from 0 to 1, not {self.share}")
        means = class_means(keys, labels, len(self.classes_))  # a zero row for a class without photos
        self.prototypes_ = unit_rows(self.share * means + (1 - self.share) * self.weights_)

    def _logits(self, queries: Array, prototypes: Array) -> Array:
        """(m, d) unit rows → (m, n_classes)."""
        return text_logits(queries, prototypes, self.logit_scale)
