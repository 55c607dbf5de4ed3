"""Errors of the Hugging Face hub, of its HTTP client and of the disk as one error type, with the reason and what to do."""

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
from huggingface_hub.utils import logging

from tip_adapter.errors import TipAdapterError, causes
from tip_adapter.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tip_adapter.errors import DownloadError, UploadError

_ACCESS = "check its name, ask for access, run `hf auth login` or pass token"
#: Error class or HTTP status → its meaning and what to do; the first match is used.
_ANSWERS: tuple[tuple[type[BaseException] | int, str], ...] = (
    (RevisionNotFoundError, "it has no such revision; pass an existing branch, tag or commit"),
    (401, f"the hub asks for a valid token, or there is no such repository, or it is private or gated; {_ACCESS}"),
    (
        403,
        "it is gated, or the token does not allow it; ask for access, or create a token that does in the hub's settings",
    ),
    (RemoteEntryNotFoundError, "a file that is needed is missing there; check that it is the right repository"),
    (404, f"there is no such repository, or none that the token may see; {_ACCESS}"),
    (429, "the hub asks for fewer requests; try again in a few minutes, or run `hf auth login` for a higher limit"),
    (HfHubHTTPError, "the hub has internal trouble; try again later"),
)
#: Errors of the hub's library without any response.
_NO_ANSWER = (DryRunError, LocalEntryNotFoundError, OfflineModeIsEnabled)
_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def as_errors(kind: type[DownloadError | UploadError], what: str, without_network: str) -> Iterator[None]:
    """Convert any error of the block to `kind`; TipAdapterError passes unchanged.

    Parameters
    ----------
    kind : error class
    what : what failed, the start of the message
    without_network : what to do if the hub is unreachable, the end of the message

    Raises
    ------
    DownloadError, UploadError
        Of class `kind`.
    """
    try:
        with without_log():
            yield
    except TipAdapterError:
        raise
    except Exception as error:
        raise kind(f"{what}: {_reason(error, without_network)}") from error


@contextmanager
def without_log() -> Iterator[None]:
    """Hide the hub library's log: in its own words it tells of each attempt, of which the last raises an error."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _reason(error: Exception, without_network: str) -> str:
    """The reason and what to do, by an error and its causes."""
    chain = list(causes(error))
    kinds = [type(cause) for cause in chain]
    statuses = {cause.response.status_code for cause in chain if isinstance(cause, HfHubHTTPError)}
    for sign, answer in _ANSWERS:
        if sign in statuses if isinstance(sign, int) else any(issubclass(kind, sign) for kind in kinds):
            return answer
    for cause in chain:
        if isinstance(cause, OSError) and cause.errno in _FULL:
            return f"{cause.strerror}: free space at {constants.HF_HUB_CACHE}, or set HF_HOME to another disk"
    if any(isinstance(cause, _NO_ANSWER) for cause in chain):
        return without_network
    if any(isinstance(cause, HTTPError) for cause in chain):
        return "the hub cannot be reached, or the connection was cut; check the network and try again"
    return f"{printable(str(error) or type(error).__name__)}; try again"
