"""Reports on an evaluation or a model: one self-contained HTML file, without scripts or network access."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from tip_adapter.errors import OutputExists
from tip_adapter.io.files import STAGING, not_writable, open_regular, write_file
from tip_adapter.report.pages import GENERATOR, N_MISTAKES, Occasion, evaluation_page, model_page
from tip_adapter.report.thumbnails import paths_by_id, training_photos
from tip_adapter.text import printable

__all__ = [
    "N_MISTAKES",
    "Occasion",
    "evaluation_page",
    "model_page",
    "paths_by_id",
    "refuse_unreplaceable",
    "training_photos",
    "write_page",
]

PAGE = "index.html"
#: Where a page says that it is ours, at its beginning.
_MARK = f'<meta name="generator" content="{GENERATOR}">'.encode()
_BEGINNING = 1024


def write_page(folder: str | os.PathLike[str], page: str, *, force: bool = False) -> Path:
    """Write a page into a folder and return its path; other files there are left alone.

    Raises
    ------
    OutputExists
        As `refuse_unreplaceable`, unless `force`.
    NotWritable
        With the system's reason.
    """
    if not force:
        refuse_unreplaceable(folder)
    path = Path(folder) / PAGE
    write_file(path, page.encode())
    return path


def refuse_unreplaceable(folder: str | os.PathLike[str]) -> None:
    """Raise OutputExists unless there is nothing, an empty folder, or a folder with a report in it.

    A folder with nothing but a report that another run is writing, or was killed in writing, is empty.
    """
    place = Path(folder)
    try:
        if not os.path.lexists(place) or (place.is_dir() and all(map(STAGING.fullmatch, os.listdir(place)))):
            return
        with suppress(FileNotFoundError, NotADirectoryError), open_regular(place / PAGE) as file:
            if _MARK in file.read(_BEGINNING):
                return
    except OSError as error:
        raise not_writable(folder, error) from error
    raise OutputExists(
        f"{printable(folder)} exists and holds no report; choose another place, or pass force=True to write {PAGE} there",
        arguments=("force=True",),
    )
