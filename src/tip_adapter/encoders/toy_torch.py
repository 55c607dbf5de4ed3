"""The toy encoder's towers as torch modules, for training.

Initially they give the encoder's own vectors; each has a residual bottleneck of width three, initialised at zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

#: Width of the bottleneck: 300 weights per tower.
_NARROW = 3


class Tower(torch.nn.Module):
    """(n, 49) float rows → (n, 49) rows, not normalised: f + up(down(f)), with up initialised at zero."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.down = torch.nn.Linear(width, _NARROW, bias=False)
        self.up = torch.nn.Linear(_NARROW, width, bias=False)
        generator = torch.Generator().manual_seed(0)
        torch.nn.init.normal_(self.down.weight, std=width**-0.5, generator=generator)
        torch.nn.init.zeros_(self.up.weight)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows plus the output of the bottleneck."""
        changed: torch.Tensor = rows + self.up(self.down(rows))
        return changed


class PixelTower(Tower):
    """Prepared images, (n, 4, 4, 3) → (n, 49) rows: `encode_prepared` before normalisation."""

    def forward(self, prepared: torch.Tensor) -> torch.Tensor:
        """Centred colours and a constant, through the bottleneck."""
        centred = prepared.reshape(len(prepared), -1).float() / 127.5 - 1
        return super().forward(torch.nn.functional.pad(centred, (0, 1), value=0.1))


class ToyTowers:
    """Both towers, to be fine-tuned: `image` takes prepared images, `text` the result of `tokens`.

    Parameters
    ----------
    encode_texts : (n,) texts → (n, 49) float array, unit rows
    width : int, 49
    """

    def __init__(self, encode_texts: Callable[[Sequence[str]], NDArray[Any]], width: int) -> None:
        self.image = PixelTower(width)
        self.text = Tower(width)
        self._encode_texts = encode_texts

    def tokens(self, texts: Sequence[str]) -> torch.Tensor:
        """(n, 49) float rows."""
        return torch.as_tensor(self._encode_texts(texts))


class ToyPromptTower:
    """Contexts before toy names: their sum stretches and moves a name's vector, coordinate by coordinate.

    Parameters
    ----------
    encode_texts : (n,) texts → (n, 49) float array, unit rows
    width : int, 49
    """

    description = "the toy encoder's text tower, where its sum stretches and moves a name's vector"

    def __init__(self, encode_texts: Callable[[Sequence[str]], NDArray[Any]], width: int) -> None:
        self._encode_texts = encode_texts
        self.width = width

    def prompts(self, names: Sequence[str], n_context: int) -> Callable[[torch.Tensor], torch.Tensor]:
        """As `PromptTower.prompts`; a context of zeros leaves the names as they are."""
        words = torch.as_tensor(self._encode_texts(names))

        def read(context: torch.Tensor) -> torch.Tensor:
            weight = context.sum(dim=0)
            return words.to(context) * (1 + weight) + weight

        return read
