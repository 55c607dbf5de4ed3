"""What the commands that write a page share: when and how it was made."""

from __future__ import annotations

import datetime
import shlex
import sys
from typing import TYPE_CHECKING, Any

from tip_adapter.report import Occasion

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def occasion(model_dir: Path, encoder: Mapping[str, Any]) -> Occasion:
    """Now, by this command line."""
    command = shlex.join(["tip-adapter", *sys.argv[1:]])
    return Occasion(model_dir.name or str(model_dir), encoder, datetime.date.today().isoformat(), command)
