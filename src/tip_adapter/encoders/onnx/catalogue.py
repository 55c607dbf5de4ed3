"""CLIPs that have a short name, from data/clips.toml: a record each."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

from tip_adapter.encoders.base import EncoderRecord
from tip_adapter.encoders.prompts import template_sets

#: METHODS of choosing alpha: one ratio serves CLIPs on every data set tried.
_SCALE_FREE_RATIO = 0.1
#: Of OpenAI's CLIPs and LAION's: where training stops it from growing.
_LOGIT_SCALE = 100.0


@dataclass(frozen=True)
class Clip:
    """Where a CLIP is to be had, and what its files do not say.

    Parameters
    ----------
    repository : on the Hugging Face hub
    revision : a commit of it, or ``main`` where none is known
    record : EncoderRecord
    layout : name of the layout of its files, None where that is to be seen
    """

    repository: str
    revision: str
    record: EncoderRecord
    layout: str | None = None


@cache
def named_clips() -> dict[str, Clip]:
    """Short name → Clip."""
    stated = tomllib.loads((files("tip_adapter.encoders.onnx") / "clips.toml").read_text(encoding="utf-8"))
    known = {name: _clip(**entry) for name, entry in stated.items() if isinstance(entry, dict)}
    also = {name: _also(known[other], other) for name, other in stated.items() if isinstance(other, str)}
    return also | known


def known_clip(repository: str) -> Clip | None:
    """The record of a repository that has a short name."""
    return next((clip for clip in named_clips().values() if clip.repository == repository), None)


def unknown_record(what: str, width: int = 0) -> EncoderRecord:
    """The record of a CLIP of which nothing is known but its files."""
    return EncoderRecord(
        description=what,
        width=width,
        logit_scale=_LOGIT_SCALE,
        templates=template_sets()["clip"],
        scale_free_ratio=_SCALE_FREE_RATIO,
        languages=("en",),
        licence="see its repository",
        size_mib=0,
        logit_scale_assumed=True,
    )


def _clip(repository: str, revision: str, layout: str, **stated: Any) -> Clip:
    lists: dict[str, Any] = {name: tuple(value) for name, value in stated.items() if isinstance(value, list)}
    record = replace(unknown_record(""), logit_scale_assumed=False, **{**stated, **lists})
    return Clip(repository, revision, record, layout)


def _also(clip: Clip, name: str) -> Clip:
    """The same under another name."""
    return replace(clip, record=replace(clip.record, description=f"{clip.record.description}: the same as {name}"))
