"""Texts to the token ids that a text tower reads: truncated or padded to its length, the end token kept."""

from __future__ import annotations

import string
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated

import msgspec
import numpy as np
from tokenizers import Tokenizer

from tip_adapter.encoders.onnx.layouts import read_settings, unusable
from tip_adapter.io.files import read_bounded

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from tip_adapter.encoders.onnx.layouts import TextSide

#: Bytes of a tokenizer: those with 256,000 tokens take 35 MiB.
_MAX_TOKENIZER = 2**27

#: Tokens of a text where nothing is stated.
_CLIP_LENGTH, _SIGLIP_LENGTH = 77, 64
_Length = Annotated[int, msgspec.Meta(ge=1, le=4096)]


class _OpenClipText(msgspec.Struct, frozen=True):
    context_length: _Length | None = None


class _TransformersText(msgspec.Struct, frozen=True):
    max_position_embeddings: _Length | None = None


class _Lengths(msgspec.Struct, frozen=True):
    """config.json, where the graph takes texts of any length."""

    text_cfg: _OpenClipText = _OpenClipText()
    text_config: _TransformersText = _TransformersText()


class _TokenizerSettings(msgspec.Struct, frozen=True):
    clean: str | None = None


class _CleaningText(msgspec.Struct, frozen=True):
    tokenizer_kwargs: _TokenizerSettings | None = None


class _Cleaning(msgspec.Struct, frozen=True):
    """config.json, for how open_clip cleans texts, and whether it is one of transformers' SigLIPs, which do not state it."""

    text_cfg: _CleaningText = _CleaningText()
    model_type: str = ""


class _Token(msgspec.Struct, frozen=True):
    content: str = ""


class _TokenizerConfig(msgspec.Struct, frozen=True):
    """tokenizer_config.json; CLIP's own tokenizer has no padding token and pads with zeros."""

    pad_token: str | _Token | None = None


class TextTokenizer:
    """The tokenizer of a folder.

    Parameters
    ----------
    side, folder : the text side of the folder's layout, and the folder
    length : tokens of a text as the graph states them, None where it takes any number

    Raises
    ------
    CheckpointError
        One of its files cannot be used.
    """

    def __init__(self, side: TextSide, folder: Path, length: int | None) -> None:
        config, path = folder / side.config, folder / side.tokenizer
        siglip = is_siglip(side, folder)
        kwargs = read_settings(config, _Cleaning).text_cfg.tokenizer_kwargs or _TokenizerSettings()
        self._clean = CLEANING.get(kwargs.clean or ("canonicalize" if siglip else ""), squeezed)
        length = length or attrgetter(side.context_length)(read_settings(config, _Lengths))
        length = length or (_SIGLIP_LENGTH if siglip else _CLIP_LENGTH)
        stated = read_settings(folder / side.tokenizer_config, _TokenizerConfig).pad_token
        pad = stated.content if isinstance(stated, _Token) else stated or ""
        try:
            self._tokenizer = Tokenizer.from_buffer(read_bounded(path, _MAX_TOKENIZER))
        except Exception as error:  # the library has no class of its own for a file that it cannot read
            raise unusable(path, error) from error
        self._tokenizer.enable_truncation(length)
        self._tokenizer.enable_padding(length=length, pad_id=self._tokenizer.token_to_id(pad) or 0, pad_token=pad)

    def __call__(self, text: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The ids of one text, (1, length), and their mask, 0 for padding."""
        encoded = self._tokenizer.encode(self._clean(text))
        return np.array([encoded.ids], np.int64), np.array([encoded.attention_mask], np.int64)


def is_siglip(side: TextSide, folder: Path) -> bool:
    """Whether config.json is of one of transformers' SigLIPs; raises CheckpointError if it cannot be used."""
    return read_settings(folder / side.config, _Cleaning).model_type.startswith("siglip")


def squeezed(text: str) -> str:
    """White space of any kind as single spaces."""
    return " ".join(text.split())


def canonical(text: str) -> str:
    """Lower case, no punctuation, underscores as spaces: SigLIP's training text."""
    return squeezed(text.replace("_", " ").translate(_NO_PUNCTUATION).lower())


_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)

#: open_clip's `clean` → the function applied before the tokenizer.
CLEANING: dict[str, Callable[[str], str]] = {
    "canonicalize": canonical,
    "lower": lambda text: squeezed(text).lower(),
    "whitespace": squeezed,
}
