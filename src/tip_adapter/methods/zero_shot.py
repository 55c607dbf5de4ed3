"""Zero-shot CLIP: the class names alone, or the support's class means without class embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tip_adapter.methods.base import Capabilities, VectorClassifier
from tip_adapter.methods.ops import class_means, text_logits

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tip_adapter.vectors import Array, ClassEmbeddings


@dataclass(eq=False, repr=False)
class ZeroShotClassifier(VectorClassifier):
    """Zero-shot CLIP: logits = logit_scale · f Wᵀ.

    Parameters
    ----------
    class_embeddings : ClassEmbeddings, or None to use the support's class means as W
    logit_scale : float, the encoder's own; 100 for CLIP

    Attributes
    ----------
    classes_ : (n_classes,) sorted labels
    weights_ : (n_classes, d) array W, unit rows

    Examples
    --------
    >>> from tip_adapter import ClassEmbeddings, ZeroShotClassifier
    >>> names = ClassEmbeddings(["cat", "dog"], [[1.0, 0.0], [0.0, 1.0]])
    >>> import numpy as np
    >>> clf = ZeroShotClassifier(class_embeddings=names).fit(np.zeros((0, 2)), [])
    >>> print(clf.predict([[0.8, 0.3]])[0])
    cat

    Notes
    -----
    CLIP (Radford et al., 2021), section 3.1; the first term of Tip-Adapter's equation 4.
    """

    _arrays = ("weights_",)
    capabilities = Capabilities(needs_images=False)

    class_embeddings: ClassEmbeddings | None = None
    logit_scale: float = 100.0

    def _fit(self, keys: Array, labels: NDArray[Any]) -> None:
        """Nothing to store besides `weights_`."""

    def _weights_without_names(self, keys: Array, labels: NDArray[Any]) -> Array:
        return class_means(keys, labels, len(self.classes_))

    def _logits(self, queries: Array, weights: Array) -> Array:
        return text_logits(queries, weights, self.logit_scale)
