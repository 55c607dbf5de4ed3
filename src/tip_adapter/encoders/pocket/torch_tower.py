"""pocket's prompt tower. Its text encoder has no word embeddings: the context is added to a name's vector."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray


class SentenceTower:
    """Contexts in the space of text vectors: name + mean of the context, normalised, through the kernel map.

    Parameters
    ----------
    sentence_vectors : (n,) texts → (n, 512) float array, unit rows
    kernel : (n, 512) and (m, 512) tensors → (n, m)
    known : (m, 512) float array, unit rows that the map was fitted to
    coefficients : (m, 1280) float array, the map
    """

    description = "the space of text vectors, added to the name's (pocket has no tower that reads words)"

    def __init__(
        self,
        sentence_vectors: Callable[[Sequence[str]], NDArray[Any]],
        kernel: Callable[[Any, Any], Any],
        known: NDArray[Any],
        coefficients: NDArray[Any],
    ) -> None:
        self.width = known.shape[1]
        self._sentence_vectors = sentence_vectors
        self._kernel = kernel
        self._known, self._coefficients = torch.as_tensor(known), torch.as_tensor(coefficients)

    def prompts(self, names: Sequence[str], n_context: int) -> Callable[[torch.Tensor], torch.Tensor]:
        """As `PromptTower.prompts`; a context of zeros leaves the names as they are."""
        words = torch.as_tensor(self._sentence_vectors(names))

        def read(context: torch.Tensor) -> torch.Tensor:
            joined = torch.nn.functional.normalize(words.to(context) + context.mean(dim=0), dim=1)
            mapped: torch.Tensor = self._kernel(joined, self._known.to(context)) @ self._coefficients.to(context)
            return mapped

        return read
