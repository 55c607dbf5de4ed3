"""Files from the Hugging Face hub: downloaded once, then read from its cache without a network.

The hub's library reads HF_HOME (the place of the cache), HF_HUB_OFFLINE (no network) and HF_TOKEN (the account).
"""

from __future__ import annotations

import sys
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import (  # type: ignore[attr-defined] # HTTPError is that of the httpx it is built on
    HfHubHTTPError,
    HTTPError,
    LocalEntryNotFoundError,
)
from huggingface_hub.utils.tqdm import tqdm

from tip_adapter.encoders.onnx.layouts import HALF_LAYOUTS, LAYOUTS, Layout, layout_of
from tip_adapter.errors import CheckpointError, DownloadError, warn
from tip_adapter.io.hub_errors import as_errors
from tip_adapter.text import printable

if TYPE_CHECKING:
    from tip_adapter.encoders.onnx.catalogue import Clip

#: Files with the same weights for hardware that ONNX Runtime does not support.
_FOR_OTHER_CHIPS = ["*.armnn", "*.rknn"]


def fetch(clip: Clip) -> Path:
    """The folder with a repository's files, downloaded if they are not in the cache.

    Raises
    ------
    DownloadError
        They are not in the cache and cannot be downloaded; the message says what to do.
    CheckpointError
        The repository contains no CLIP in a supported layout.
    """
    folder = cached(clip)
    if folder is not None:
        return folder
    with as_errors(DownloadError, f"cannot download {printable(clip.repository)}", _without_network(clip)):
        _refuse_unreachable(clip)
        layouts = _layouts(clip)
        everything = [pattern for layout in layouts for pattern in layout.patterns]
        plan: Any = _snapshot(clip, everything, dry_run=True, tqdm_class=_NoBar)
        layout = layout_of([file.filename for file in plan], layouts)
        if layout is None:
            known = "; or ".join(", ".join(layout.files) for layout in layouts)
            kind = "ONNX files in half precision" if clip.half else "ONNX files"
            raise CheckpointError(f"{printable(clip.repository)} on the hub contains no CLIP as {kind}: {known}")
        wanted = [file for file in plan if any(fnmatch(file.filename, pattern) for pattern in layout.patterns)]
        mib = sum(file.file_size for file in wanted if file.will_download) / 2**20
        warn(
            f"downloading {clip.repository} ({mib:,.0f} MiB, licence: {clip.record.licence}) "
            f"to {constants.HF_HUB_CACHE}, once; HF_HOME moves it"
        )
        return _snapshot(clip, layout.patterns, tqdm_class=tqdm if sys.stderr.isatty() else _NoBar)


def cached(clip: Clip) -> Path | None:
    """The folder in the cache, None if it is not complete."""
    for layout in _layouts(clip):
        with suppress(LocalEntryNotFoundError):
            folder = _snapshot(clip, layout.patterns, local_files_only=True)
            if all((folder / name).is_file() for name in layout.files):
                return folder
    return None


def _layouts(clip: Clip) -> tuple[Layout, ...]:
    return HALF_LAYOUTS if clip.half else LAYOUTS


def _refuse_unreachable(clip: Clip) -> None:
    """Raise LocalEntryNotFoundError at once without a network; listing files would try again for half a minute first."""
    try:
        HfApi().model_info(clip.repository, revision=clip.revision, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except HfHubHTTPError:  # it answered; the listing says why
        return
    except HTTPError as error:
        raise LocalEntryNotFoundError(str(error)) from error


class _NoBar(tqdm):
    """No progress bar: for short requests, and without a terminal."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{**options, "disable": True})  # type: ignore[no-untyped-call]


def _snapshot(clip: Clip, patterns: list[str], **options: Any) -> Any:
    downloaded = snapshot_download(
        clip.repository,
        revision=clip.revision,
        allow_patterns=patterns,
        ignore_patterns=_FOR_OTHER_CHIPS,
        library_name="tip-adapter",
        **options,
    )
    return Path(downloaded) if isinstance(downloaded, str) else downloaded


def _without_network(clip: Clip) -> str:
    """What to do without a network, for an error message."""
    layouts = [layout for layout in _layouts(clip) if clip.layout in (None, layout.name)]
    commands = [
        f"`hf download {printable(clip.repository)} {' '.join(layout.files)} --revision {clip.revision} --local-dir FOLDER`"
        for layout in layouts
    ]
    found = "HF_HUB_OFFLINE is set" if constants.is_offline_mode() else f"{constants.ENDPOINT} cannot be reached"
    return (
        f"it is not in the cache, and {found}; run this again with a network (HF_ENDPOINT names a mirror), or pass --encoder "
        f"onnx:FOLDER, a folder with the files that {' or '.join(commands)} gets"
    )
