"""Models to and from the Hugging Face hub: the three files of a model folder and nothing else. Knows no classifier.

HF_ENDPOINT, HF_HOME, HF_HUB_OFFLINE and the token of `hf auth login` are respected: huggingface_hub reads them.
"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import CommitOperationAdd, HfApi, hf_hub_download
from huggingface_hub.errors import (  # type: ignore[attr-defined] # HTTPError is that of the httpx it is built on
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from tip_adapter.arguments import require
from tip_adapter.bundle import ARRAYS, CARD, CONFIG, bundle_files, read_config
from tip_adapter.errors import DownloadError, UploadError, counted, printable, shown, warn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

_MAIN = "main"

#: What went wrong → what it means and what to do; a kind of error, or a status of HTTP. The first that fits.
_REASONS: tuple[tuple[type[BaseException] | int, str], ...] = (
    (OfflineModeIsEnabled, "HF_HUB_OFFLINE is set and it is not in the cache; fetch it once with a network"),
    (RevisionNotFoundError, "it has no such revision; give a branch, a tag or a commit that it has"),
    (
        401,
        "the hub asks for a valid token, or there is no such repository; see its name, run `hf auth login` or pass token",
    ),
    (403, "the token does not allow it; make one that does in the settings of the hub"),
    (RemoteEntryNotFoundError, "it is no model folder of tip-adapter: a file is missing; see its list of files"),
    (
        404,
        "there is no such repository, or none that the token may see; see its name, run `hf auth login` or pass token",
    ),
    (429, "the hub asks for fewer requests; try again in a few minutes"),
    (HfHubHTTPError, "the hub has trouble; try again later"),
    (HTTPError, "the hub cannot be reached, or the connection was cut; see that there is a network and try again"),
)


def upload_model(
    config: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
    repo_id: str,
    *,
    revision: str | None,
    private: bool,
    token: str | None,
) -> str:
    """Send a model to a repository, in one commit; the repository and the branch are made where there is none.

    Parameters
    ----------
    config, arrays : as `write_bundle` takes them
    repo_id : ``namespace/name``
    revision : branch, None for the main one
    private : whether a repository that is made is private
    token : of the hub, None for the one that is stored

    Returns
    -------
    the commit, in hexadecimal

    Raises
    ------
    UploadError
        With the reason; the repository holds what it held.
    UsageError
        `repo_id` or `revision` cannot be one.
    """
    _check_place(repo_id, revision)
    _warn_of_paths(config["photos"], config["encoder"]["name"])
    api = HfApi(token=token)
    with _told(UploadError, f"cannot send the model to {printable(repo_id)}"):
        files = bundle_files(config, arrays)
        api.create_repo(repo_id, private=private, exist_ok=True)
        if revision not in (None, _MAIN):
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        operations = [CommitOperationAdd(name, content) for name, content in files.items()]
        message = f"A classifier of {counted(len(config['classes']), 'class', 'classes')}"
        commit = api.create_commit(repo_id, operations, commit_message=message, revision=revision)
    return str(commit.oid)


def download_model(repo_id: str, *, revision: str | None, token: str | None) -> Path:
    """Fetch a model into huggingface_hub's cache; nothing in it is used before `read_bundle` has checked it.

    Parameters
    ----------
    repo_id : ``namespace/name``
    revision : branch, tag or commit; None for the main branch
    token : of the hub, None for the one that is stored

    Returns
    -------
    the folder, all of one commit

    Raises
    ------
    DownloadError
        With the reason.
    BundleError
        Its configuration is none of ours; its arrays are not fetched then.
    UsageError
        `repo_id` or `revision` cannot be one.
    """
    _check_place(repo_id, revision)

    def fetch(name: str, revision: str | None) -> Path:
        with _told(DownloadError, f"cannot fetch {printable(repo_id)}"):
            return Path(hf_hub_download(repo_id, name, revision=revision, token=token))

    folder = fetch(CONFIG, revision).parent
    read_config(folder)
    commit = folder.name  # the branch may move on meanwhile
    for name in (CARD, ARRAYS):
        fetch(name, commit)
    return folder


def _check_place(repo_id: object, revision: object) -> None:
    require(_is_repository(repo_id), "repo_id", "a repository, namespace/name", repo_id)
    fits = revision is None or (isinstance(revision, str) and revision != "")
    require(fits, "revision", "a branch, a tag or a commit", revision)


def _is_repository(repo_id: object) -> bool:
    try:
        validate_repo_id(repo_id)  # type: ignore[arg-type]
    except HFValidationError:
        return False
    return repo_id is not None


def _warn_of_paths(photos: Sequence[str], encoder: str) -> None:
    """Whole paths tell of a machine and its people."""
    paths = [photo for photo in photos if Path(photo).is_absolute()]
    if paths:
        warn(
            f"{counted(len(paths), 'photo is', 'photos are')} known by a whole path, such as {shown(paths[0])}, which goes "
            "to the hub; learn with fit_folder to have paths from the folder"
        )
    if Path(encoder.partition(":")[2]).is_absolute():
        warn(f"the encoder is named by a whole path, {printable(encoder)}, which goes to the hub; nobody else has it")


@contextmanager
def _told(kind: type[DownloadError | UploadError], what: str) -> Iterator[None]:
    """Whatever goes wrong within becomes one sentence."""
    try:
        yield
    except (OSError, HTTPError, ValueError, RuntimeError) as error:
        raise kind(f"{what}: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    """The first of `_REASONS` that fits the error or what caused it; else the system's own."""
    chain = list(_causes(error))
    for sign, reason in _REASONS:
        if any(_fits(cause, sign) for cause in chain):
            return reason
    last = chain[-1]
    return printable((last.strerror if isinstance(last, OSError) else None) or str(last))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _fits(error: BaseException, sign: type[BaseException] | int) -> bool:
    if isinstance(sign, int):
        return isinstance(error, HfHubHTTPError) and error.response.status_code == sign
    return isinstance(error, sign)
