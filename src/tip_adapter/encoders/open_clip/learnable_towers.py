"""open_clip's towers for training: a text tower with a learnable context, and copies of both towers to fine-tune.

A prompt is tokenised with placeholders for the context; while the tower runs, the context replaces their embeddings.
Position, mask and pooling at the end of the text are the tower's own.
"""

from __future__ import annotations

import copy
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from tip_adapter.errors import UsageError
from tip_adapter.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

#: Two words that are one token for every tokenizer: where prompts of either differ is a placeholder's position.
_PLACEHOLDER, _ANOTHER = "x", "y"
#: Parameters that belong to no single tower.
_OF_BOTH_TOWERS = {"logit_scale", "logit_bias"}


class PromptedTextTower:
    """An open_clip text tower for prompts of a context, a class name and a full stop.

    Parameters
    ----------
    network : open_clip's model, frozen, in evaluation mode
    tokenize : (n,) texts → (n, context length) int tensor
    device : where the network is

    Raises
    ------
    UsageError
        Its text tower has no token embedding of open_clip's kind: a tower of another library.
    """

    description = "its text tower, before the name and a full stop"

    def __init__(self, network: Any, tokenize: Callable[[Sequence[str]], torch.Tensor], device: str) -> None:
        self._embedding: Any = getattr(getattr(network, "text", network), "token_embedding", None)
        if self._embedding is None:
            raise UsageError(
                "the text tower is not of open_clip's own kind, which coop needs; choose another architecture"
            )
        self._network, self._tokenize, self._device = network, tokenize, device
        self.width: int = self._embedding.embedding_dim

    def prompts(self, names: Sequence[str], n_context: int) -> Callable[[torch.Tensor], torch.Tensor]:
        """As `PromptTower.prompts`."""
        places = self._places(n_context)
        self._require_complete(names, n_context)
        placeholders = " ".join([_PLACEHOLDER] * n_context)
        tokens = self._tokenize([f"{placeholders} {name}." for name in names]).to(self._device)

        def read(context: torch.Tensor) -> torch.Tensor:
            with self._with_context(places, context):
                vectors: torch.Tensor = self._network.encode_text(tokens)
            return vectors.to(context)

        return read

    def _places(self, n_context: int) -> torch.Tensor:
        """(n_context,) positions of the placeholders in a prompt."""
        first, second = self._tokenize([" ".join([word] * n_context) for word in (_PLACEHOLDER, _ANOTHER)])
        places = torch.nonzero(first != second)[:, 0]
        if len(places) != n_context:
            raise UsageError(f"the text tower has room for {len(places)} context vectors, not {n_context}; use fewer")
        return places

    def _require_complete(self, names: Sequence[str], n_context: int) -> None:
        """Raise UsageError for a prompt that the tokenizer truncates: changing the last of its words then changes nothing."""
        placeholders = " ".join([_PLACEHOLDER] * (n_context - 1))
        one, other = (
            self._tokenize([f"{placeholders} {name}. {word}" for name in names]) for word in (_PLACEHOLDER, _ANOTHER)
        )
        for name, whole in zip(names, (one != other).any(dim=1).tolist(), strict=True):
            if not whole:
                raise UsageError(
                    f"'{printable(name)}' has no room behind {n_context} context vectors; use fewer, or a shorter name"
                )

    @contextmanager
    def _with_context(self, places: torch.Tensor, context: torch.Tensor) -> Iterator[None]:
        """Replace the embeddings at these positions of every prompt by the context."""

        def replaced(module: Any, args: Any, embedded: torch.Tensor) -> torch.Tensor:
            embedded = embedded.clone()
            embedded[:, places] = context.to(embedded)
            return embedded

        hook = self._embedding.register_forward_hook(replaced)
        try:
            yield
        finally:
            hook.remove()


class TextSide(torch.nn.Module):
    """A copy of the text tower as a module: tokens → (n, d) rows of any length."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = copy.deepcopy(network)
        del self.network.visual
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(name not in _OF_BOTH_TOWERS)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Encode tokens."""
        vectors: torch.Tensor = self.network.encode_text(tokens)
        return vectors


class FineTunedTowers:
    """Copies of both towers, to be fine-tuned: `image` takes prepared images, `text` the result of `tokens`.

    Parameters
    ----------
    network, tokenize, device : as in PromptedTextTower
    """

    def __init__(self, network: Any, tokenize: Callable[[Sequence[str]], torch.Tensor], device: str) -> None:
        self.image = copy.deepcopy(network.visual).requires_grad_(True)
        self.text = TextSide(network)
        self._tokenize, self._device = tokenize, device

    def tokens(self, texts: Sequence[str]) -> torch.Tensor:
        """(n, context length) int tensor."""
        return self._tokenize(texts).to(self._device)
