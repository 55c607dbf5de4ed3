"""What the commands that write a page share: when and how it was made, and the photos that it shows."""

from __future__ import annotations

import datetime
import shlex
import sys
from typing import TYPE_CHECKING, Any

from tip_adapter.errors import warn
from tip_adapter.report import Occasion, paths_by_id
from tip_adapter.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


def occasion(model_dir: Path, encoder: Mapping[str, Any]) -> Occasion:
    """Now, by this command line."""
    command = shlex.join(["tip-adapter", *sys.argv[1:]])
    return Occasion(model_dir.name or str(model_dir), encoder, datetime.date.today().isoformat(), command)


def training_images(folder: Path | None, ids: Sequence[str]) -> dict[str, Path]:
    """The photos of a folder by their ids; says so where a page will show none of those that the model has learned from."""
    paths = paths_by_id(folder, part="train") if folder else {}
    if ids and paths.keys().isdisjoint(ids):
        warn(_NOT_NAMED if folder is None else f"{printable(folder)} holds none of {_THOSE}; they are named, not shown")
    return paths


_THOSE = "the photos that the model has learned from"
_NOT_NAMED = f"the page names {_THOSE}; --photos TRAIN_DIR shows them"
