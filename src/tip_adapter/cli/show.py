"""`tip-adapter show`: a page about a classifier."""

from __future__ import annotations

import hashlib
import os
import sys
import webbrowser
from pathlib import Path
from typing import Annotated

from typer import Option

from tip_adapter.cli._options import ModelDir
from tip_adapter.cli._output import notes, print_line, say
from tip_adapter.cli._words import occasion, training_images
from tip_adapter.errors import UsageError
from tip_adapter.io.files import cache_folder
from tip_adapter.model.head import load_head
from tip_adapter.report import model_page, refuse_unreplaceable, write_page


def show(
    model_dir: ModelDir,
    photos: Annotated[
        list[Path] | None,
        Option(help="The training images, to show them; may be repeated.", metavar="TRAIN_DIR"),
    ] = None,
    out: Annotated[
        Path | None, Option("--out", "-o", help="Write DIR/index.html; default: the cache folder.", metavar="DIR")
    ] = None,
    force: Annotated[bool, Option("--force", "-f", help="Write the page into a folder with other files.")] = False,
    quiet: bool = False,
) -> None:
    """Open a page about a classifier: classes, images, leave-one-out accuracy."""
    if force and out is None:
        raise UsageError("--force applies to --out only; give --out DIR, too")
    if out and not force:
        refuse_unreplaceable(out)
    with notes(quiet):
        head, config = load_head(model_dir)
        paths = training_images(photos or [], head.support.ids.tolist())
        page = model_page(head, occasion(model_dir, config["encoder"]), paths)
        digest = hashlib.sha256(os.fsencode(os.path.realpath(model_dir))).hexdigest()
        path = write_page(out or cache_folder() / "shown" / digest[:16], page, force=force)
    print_line(str(path))
    # A text browser would block a script.
    has_display = sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if has_display and not webbrowser.open(path.absolute().as_uri()):
        say("note: no browser could be opened")
