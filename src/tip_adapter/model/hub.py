"""Models to and from the Hugging Face hub: the three files of a model folder and nothing else. Knows no classifier.

HF_ENDPOINT, HF_HOME, HF_HUB_OFFLINE and the token of `hf auth login` are respected: huggingface_hub reads them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import CommitOperationAdd, HfApi, hf_hub_download
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from tip_adapter.errors import DownloadError, UploadError, warn
from tip_adapter.io.hub_errors import as_errors
from tip_adapter.model.format import ARRAYS, CARD, CONFIG
from tip_adapter.model.saving import model_folder_files, read_config
from tip_adapter.text import counted, printable, shown
from tip_adapter.validation import require

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

_MAIN = "main"
_UNREACHED = "the hub cannot be reached, or HF_HUB_OFFLINE is set; check the network and try again"
_NOT_CACHED = f"it is not in the cache, and {_UNREACHED}"


def upload_model(
    config: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
    repo_id: str,
    *,
    revision: str | None,
    private: bool,
    token: str | None,
) -> str:
    """Send a model to a repository, in one commit; the repository and the branch are created if missing.

    `config` and `arrays` are as in `write_model_folder`; the others, the result and what is raised as in
    `FewShotClassifier.push_to_hub`.
    """
    _check_place(repo_id, revision)
    _warn_of_paths(config["images"], config["encoder"]["name"])
    api = HfApi(token=token)
    with as_errors(UploadError, f"cannot send the model to {printable(repo_id)}", _UNREACHED):
        files = model_folder_files(config, arrays)
        api.create_repo(repo_id, private=private, exist_ok=True)
        if revision not in (None, _MAIN):
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        operations = [CommitOperationAdd(name, content) for name, content in files.items()]
        message = f"A classifier of {counted(len(config['classes']), 'class', 'classes')}"
        commit = api.create_commit(repo_id, operations, commit_message=message, revision=revision)
    return str(commit.oid)


def download_model(repo_id: str, *, revision: str | None, token: str | None) -> Path:
    """Fetch a model into huggingface_hub's cache, all of one commit, and return its folder.

    Arguments and errors are those of `FewShotClassifier.from_pretrained`. The arrays are fetched only if the configuration
    is a model's; nothing is used before `read_model_folder` has checked it.
    """
    _check_place(repo_id, revision)

    def fetch(name: str, revision: str | None) -> Path:
        with as_errors(DownloadError, f"cannot fetch {printable(repo_id)}", _NOT_CACHED):
            return Path(hf_hub_download(repo_id, name, revision=revision, token=token))

    folder = fetch(CONFIG, revision).parent
    read_config(folder)
    commit = folder.name  # the branch may move on meanwhile
    for name in (CARD, ARRAYS):
        fetch(name, commit)
    return folder


def _check_place(repo_id: object, revision: object) -> None:
    try:
        validate_repo_id(repo_id)  # type: ignore[arg-type]
        is_repository = repo_id is not None
    except HFValidationError:
        is_repository = False
    require(is_repository, "repo_id", "a repository, namespace/name", repo_id)
    fits = revision is None or (isinstance(revision, str) and revision != "")
    require(fits, "revision", "a branch, a tag or a commit", revision)


def _warn_of_paths(photos: Sequence[str], encoder: str) -> None:
    """Absolute paths reveal a machine and its users."""
    paths = [photo for photo in photos if Path(photo).is_absolute()]
    if paths:
        warn(
            f"{counted(len(paths), 'photo is', 'photos are')} identified by an absolute path, such as {shown(paths[0])}, which is "
            "uploaded; fit with fit_folder for paths relative to the folder"
        )
    if Path(encoder.partition(":")[2]).is_absolute():
        warn(f"the encoder is an absolute path, {printable(encoder)}, which is uploaded and works on this machine only")
