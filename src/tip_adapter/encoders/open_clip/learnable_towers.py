"""open_clip's towers, to be learned through and to be fine-tuned.

A prompt is tokenised with placeholders where the context is to stand; while the tower runs, the context takes the place
of their embeddings. Everything after that, position, mask, pooling at the end of the text, is the tower's own.
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

#: Words that every tokenizer knows as one token: two, so that the places where they stand can be told.
_PLACEHOLDER, _ANOTHER = "x", "y"
#: What a network learns beside its towers.
_OF_BOTH_TOWERS = {"logit_scale", "logit_bias"}


class PromptedTextTower:
    """An open_clip text tower that reads a context before a class name and a full stop.

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
            raise UsageError("this text tower is of another library than open_clip; coop needs one of open_clip's own")
        self._network, self._tokenize, self._device = network, tokenize, device
        self.width: int = self._embedding.embedding_dim

    def prompts(self, names: Sequence[str], n_context: int) -> Callable[[torch.Tensor], torch.Tensor]:
        """As `PromptTower.prompts`."""
        places = self._places(n_context)
        self._refuse_cut(names, n_context)
        room = " ".join([_PLACEHOLDER] * n_context)
        tokens = self._tokenize([f"{room} {name}." for name in names]).to(self._device)

        def read(context: torch.Tensor) -> torch.Tensor:
            with self._standing_at(places, context):
                vectors: torch.Tensor = self._network.encode_text(tokens)
            return vectors.to(context)

        return read

    def _places(self, n_context: int) -> torch.Tensor:
        """(n_context,) positions of the placeholders in a prompt: those where two prompts of different ones differ."""
        first, second = self._tokenize([" ".join([word] * n_context) for word in (_PLACEHOLDER, _ANOTHER)])
        places = torch.nonzero(first != second)[:, 0]
        if len(places) != n_context:
            raise UsageError(f"the text tower has room for {len(places)} context vectors, not {n_context}; use fewer")
        return places

    def _refuse_cut(self, names: Sequence[str], n_context: int) -> None:
        """Raise UsageError for a prompt that the tokenizer would cut: a last word in a placeholder's stead is lost."""
        room = " ".join([_PLACEHOLDER] * (n_context - 1))
        one, other = (self._tokenize([f"{room} {name}. {word}" for name in names]) for word in (_PLACEHOLDER, _ANOTHER))
        for name, whole in zip(names, (one != other).any(dim=1).tolist(), strict=True):
            if not whole:
                raise UsageError(
                    f"'{printable(name)}' has no room behind {n_context} context vectors; use fewer, or a shorter name"
                )

    @contextmanager
    def _standing_at(self, places: torch.Tensor, context: torch.Tensor) -> Iterator[None]:
        """Within, the context stands at these positions of every prompt."""

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
        self.requires_grad_(True)
        for name in _OF_BOTH_TOWERS & dict(self.network.named_parameters()).keys():
            getattr(self.network, name).requires_grad_(False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Encode tokens."""
        vectors: torch.Tensor = self.network.encode_text(tokens)
        return vectors


class FineTunedTowers:
    """Copies of both towers, to be fine-tuned: `image` takes prepared photos, `text` what `tokens` makes of texts.

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
