"""What can go wrong with the Hugging Face hub, as one sentence: its library, its HTTP client and the disk have a dozen errors."""

from __future__ import annotations

import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING

from huggingface_hub import constants
from huggingface_hub.errors import (  # type: ignore[attr-defined] # HTTPError is that of the httpx it is built on
    DryRunError,
    HfHubHTTPError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RevisionNotFoundError,
)

from tip_adapter.errors import TipAdapterError, causes
from tip_adapter.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tip_adapter.errors import DownloadError, UploadError

_NAMED = "see its name, ask for access, run `hf auth login` or pass token"
#: What the hub answered → what it means and what to do; a kind of error, or a status of HTTP. The first that fits.
_ANSWERS: tuple[tuple[type[BaseException] | int, str], ...] = (
    (RevisionNotFoundError, "it has no such revision; give a branch, a tag or a commit that it has"),
    (401, f"the hub asks for a valid token, or there is no such repository, or it is private or gated; {_NAMED}"),
    (
        403,
        "it is gated, or the token does not allow it; ask for access, or make a token that does in the hub's settings",
    ),
    (RemoteEntryNotFoundError, "a file that is needed is missing there; see that it is the right repository"),
    (404, f"there is no such repository, or none that the token may see; {_NAMED}"),
    (429, "the hub asks for fewer requests; try again in a few minutes, or run `hf auth login` for a higher limit"),
    (HfHubHTTPError, "the hub has trouble; try again later"),
)
#: What the hub's library says when nothing at all was answered.
_NO_ANSWER = (DryRunError, LocalEntryNotFoundError, OfflineModeIsEnabled)
_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def as_errors(kind: type[DownloadError | UploadError], what: str, without_network: str) -> Iterator[None]:
    """Within, whatever goes wrong with the hub becomes one sentence; errors of ours stay as they are.

    Parameters
    ----------
    kind : of the error
    what : what cannot be done, as its beginning
    without_network : what to do where the hub cannot be reached, as its end

    Raises
    ------
    DownloadError, UploadError
        As `kind` says.
    """
    try:
        yield
    except TipAdapterError:
        raise
    except Exception as error:
        raise kind(f"{what}: {_reason(error, without_network)}") from error


def _reason(error: Exception, without_network: str) -> str:
    """What went wrong, and the way out, told from an error and those that led to it."""
    chain = list(causes(error))
    for sign, answer in _ANSWERS:
        if any(_fits(cause, sign) for cause in chain):
            return answer
    for cause in chain:
        if isinstance(cause, OSError) and cause.errno in _FULL:
            return f"{cause.strerror}: free space at {constants.HF_HUB_CACHE}, or set HF_HOME to another disk"
    if any(isinstance(cause, _NO_ANSWER) for cause in chain):
        return without_network
    if any(isinstance(cause, HTTPError) for cause in chain):
        return "the hub cannot be reached, or the connection was cut; see that there is a network and try again"
    return f"{printable(str(error) or type(error).__name__)}; try again"


def _fits(error: BaseException, sign: type[BaseException] | int) -> bool:
    if isinstance(sign, int):
        return isinstance(error, HfHubHTTPError) and error.response.status_code == sign
    return isinstance(error, sign)
