"""CLIPs, and an encoder of images only, that have a short name: their records, from clips.toml."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

from tip_adapter.encoders.base import EncoderRecord
from tip_adapter.encoders.onnx.layouts import HALF
from tip_adapter.encoders.prompts import template_sets

#: One ratio is adequate for CLIPs on every data set tried.
_SCALE_FREE_RATIO = 0.1
#: Of OpenAI's and LAION's CLIPs: training limits it to this value.
_LOGIT_SCALE = 100.0


@dataclass(frozen=True)
class Clip:
    """The repository of a CLIP, and what its files do not state.

    Parameters
    ----------
    repository : on the Hugging Face hub
    revision : a commit of it, or ``main`` where none is known
    record : EncoderRecord
    layout : name of the layout of its files, None if unknown
    half : whether its files are those in half precision
    """

    repository: str
    revision: str
    record: EncoderRecord
    layout: str | None = None
    half: bool = False


@cache
def named_clips() -> dict[str, Clip]:
    """Short name → Clip; a name that ends with ``@half`` is the same network in half precision."""
    stated = tomllib.loads((files("tip_adapter.encoders.onnx") / "clips.toml").read_text(encoding="utf-8"))
    known = {}
    for name, entry in stated.items():
        if isinstance(entry, dict):
            half_size = entry.pop("half_size_mib", None)
            known[name] = _clip(**entry)
            if half_size:
                known[f"{name}{HALF}"] = _in_half(known[name], half_size)
    aliases = {}
    for alias, other in stated.items():
        for end in ("", HALF) if isinstance(other, str) else ():
            record = known[f"{other}{end}"].record
            described = replace(record, description=f"{record.description}: the same as {other}{end}")
            aliases[f"{alias}{end}"] = replace(known[f"{other}{end}"], record=described)
    return aliases | known


def known_clip(repository: str, half: bool) -> Clip | None:
    """The record of a repository that has a short name."""
    return next((clip for clip in named_clips().values() if (clip.repository, clip.half) == (repository, half)), None)


def unknown_record(what: str, width: int = 0) -> EncoderRecord:
    """The record of a CLIP of which only the files are known."""
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
    record = replace(unknown_record(""), **{"logit_scale_assumed": False, **stated, **lists})
    return Clip(repository, revision, record if record.reads_names else record.image_only(), layout)


def _in_half(clip: Clip, size_mib: int) -> Clip:
    record = replace(clip.record, description=f"{clip.record.description}, in half precision", size_mib=size_mib)
    return replace(clip, record=record, layout=f"{clip.layout}{HALF}", half=True)
