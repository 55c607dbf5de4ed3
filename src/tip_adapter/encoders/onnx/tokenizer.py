"""Sentences to the numbers that a text tower reads: cut or padded to its length, the end mark kept."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import msgspec
import numpy as np
from tokenizers import Tokenizer

from tip_adapter.encoders.onnx.layouts import MOST_TOKENIZER, read_settings, unusable
from tip_adapter.io.files import read_bounded
from tip_adapter.io.json_schema import convert

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from tip_adapter.encoders.onnx.layouts import Layout

#: Of CLIP, used if the configuration states none.
_LENGTH = 77
_Length = Annotated[int, msgspec.Meta(ge=1, le=4096)]


class Tokens(NamedTuple):
    """One sentence.

    Parameters
    ----------
    ids : (1, length) int array
    mask : (1, length) int array, 0 where the sentence is padded
    """

    ids: NDArray[np.int64]
    mask: NDArray[np.int64]


class SentenceTokenizer:
    """Reads a folder's tokenizer.json.

    Parameters
    ----------
    layout, folder : where it lies, and what says how it is used
    length : tokens of a sentence as the graph states them, None where it takes any number

    Raises
    ------
    CheckpointError
        A file of it cannot be used.
    """

    def __init__(self, layout: Layout, folder: Path, length: int | None) -> None:
        config = read_settings(folder / layout.config)
        length = length or _context_length(config, layout, folder)
        self._clean = CLEANING.get(_tokenizer_setting(config, "clean"), squeezed)
        self._tokenizer = _read_tokenizer(folder / layout.tokenizer)
        self._tokenizer.enable_truncation(length)
        pad = _pad_token(folder / layout.tokenizer_config)
        pad_id = self._tokenizer.token_to_id(pad) or 0
        self._tokenizer.enable_padding(length=length, pad_id=pad_id, pad_token=pad)

    def __call__(self, sentence: str) -> Tokens:
        """One sentence as tokens."""
        encoded = self._tokenizer.encode(self._clean(sentence))
        return Tokens(np.array([encoded.ids], np.int64), np.array([encoded.attention_mask], np.int64))


def squeezed(text: str) -> str:
    """Spaces of any kind as single ones."""
    return " ".join(text.split())


def canonical(text: str) -> str:
    """In lower case, without punctuation, underscores as spaces: what SigLIP was trained on."""
    return squeezed(text.replace("_", " ").translate(_NO_PUNCTUATION).lower())


_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)

#: open_clip's `clean` → what is done before the tokenizer.
CLEANING: dict[Any, Callable[[str], str]] = {
    "canonicalize": canonical,
    "lower": lambda text: squeezed(text).lower(),
    "whitespace": squeezed,
}


def _read_tokenizer(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_buffer(read_bounded(path, MOST_TOKENIZER))
    except Exception as error:  # the library has no class of its own for a file that it cannot read
        raise unusable(path, error) from error


def _context_length(config: dict[str, Any], layout: Layout, folder: Path) -> int:
    outer, inner = layout.context_length
    section = config.get(outer)
    length = section.get(inner, _LENGTH) if isinstance(section, dict) else _LENGTH
    try:
        # In its place in the file, so that the message names the path of the value.
        return convert({outer: {inner: length}}, dict[str, dict[str, _Length]])[outer][inner]
    except ValueError as error:
        raise unusable(folder / layout.config, error) from error


def _tokenizer_setting(config: dict[str, Any], name: str) -> Any:
    """One of open_clip's text_cfg.tokenizer_kwargs."""
    section: Any = config
    for key in ("text_cfg", "tokenizer_kwargs", name):
        section = section.get(key) if isinstance(section, dict) else None
    return section if isinstance(section, str) else None


def _pad_token(path: Path) -> str:
    """A text, or an object that holds it; CLIP's own tokenizer names none and pads with zeros."""
    stated = read_settings(path).get("pad_token")
    token = stated.get("content") if isinstance(stated, dict) else stated
    return token if isinstance(token, str) else ""
