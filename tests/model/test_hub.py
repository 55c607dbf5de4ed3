"""Models to and from a hub, which is ours and on loopback: what goes up, what comes back, and what is told of trouble."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import yaml
from huggingface_hub import constants, file_download

from tip_adapter import FewShotClassifier
from tip_adapter.encoders.toy import ToyEncoder
from tip_adapter.errors import (
    DamagedModelFolder,
    DownloadError,
    ModelFolderError,
    TipAdapterWarning,
    UploadError,
    UsageError,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fake_hub import FakeHub

FILES = {"config.json", "adapter.safetensors", "README.md"}
REPOSITORY = "someone/colours"


@pytest.fixture
def model(make_photos: Callable[..., Path]) -> FewShotClassifier:
    return FewShotClassifier(encoder="toy").fit_folder(make_photos("photos", red=2, green=2))


def photo(label: str, paint: Callable[..., object]) -> list[object]:
    return [paint(label, 77)]


# ---- there and back --------------------------------------------------------------------------------------------------


def test_a_model_that_was_pushed_comes_back_and_answers_the_same(
    model: FewShotClassifier, hub: FakeHub, paint: Callable[..., object]
) -> None:
    model.push_to_hub(REPOSITORY)
    back = FewShotClassifier.from_pretrained(REPOSITORY)
    for label in ("red", "green"):
        np.testing.assert_array_equal(back.predict_proba(photo(label, paint)), model.predict_proba(photo(label, paint)))


def test_the_repository_holds_the_files_of_a_saved_model_and_no_others(
    model: FewShotClassifier, hub: FakeHub, tmp_path: Path
) -> None:
    model.push_to_hub(REPOSITORY)
    model.save(tmp_path / "saved")
    saved = {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir()}
    assert hub.files(REPOSITORY) == saved
    assert set(saved) == FILES


@pytest.mark.filterwarnings("ignore:read as they are:tip_adapter.errors.TipAdapterWarning")
def test_the_card_is_a_page_with_front_matter_in_which_a_class_name_is_text_only(
    hub: FakeHub, paint: Callable[..., object]
) -> None:
    labels = ["<script>alert(1)</script>", "a: [b\n---"]
    FewShotClassifier(encoder="toy").fit([paint("red"), paint("green")], labels).push_to_hub(REPOSITORY)
    page = hub.files(REPOSITORY)["README.md"].decode()
    _, front, body = page.split("---\n", 2)
    assert yaml.safe_load(front)["library_name"] == "tip-adapter"
    assert "<script>" not in page
    assert "from_pretrained" in body


def test_a_folder_is_loaded_as_it_is(model: FewShotClassifier, tmp_path: Path, paint: Callable[..., object]) -> None:
    model.save(tmp_path / "saved")
    back = FewShotClassifier.from_pretrained(tmp_path / "saved")
    assert back.predict(photo("red", paint)) == model.predict(photo("red", paint))


def test_a_commit_is_a_revision_and_a_branch_keeps_its_own_model(
    model: FewShotClassifier, hub: FakeHub, paint: Callable[..., object]
) -> None:
    first = model.push_to_hub(REPOSITORY)
    model.push_to_hub(REPOSITORY, revision="two/classes")
    model.partial_fit([paint("blue")], ["blue"]).push_to_hub(REPOSITORY)
    classes = {
        revision: list(FewShotClassifier.from_pretrained(REPOSITORY, revision=revision).classes_)
        for revision in (None, first, "two/classes")
    }
    assert classes == {None: ["blue", "green", "red"], first: ["green", "red"], "two/classes": ["green", "red"]}


def test_all_files_are_of_one_commit_though_the_branch_moves_on_meanwhile(
    model: FewShotClassifier, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.push_to_hub(REPOSITORY)
    from tip_adapter.model import hub as ours

    read = ours.read_config

    def then_moved(folder: Path) -> object:
        hub.commit(REPOSITORY, "main", {"adapter.safetensors": b"of another model", "README.md": b"another"})
        return read(folder)

    monkeypatch.setattr(ours, "read_config", then_moved)
    assert list(FewShotClassifier.from_pretrained(REPOSITORY).classes_) == ["green", "red"]


def test_a_private_repository_is_seen_with_the_token_only(
    model: FewShotClassifier, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.push_to_hub(REPOSITORY, private=True)
    assert hub.private == {REPOSITORY}
    token = os.environ["HF_TOKEN"]
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "none")
    with pytest.raises(DownloadError, match="token"):
        FewShotClassifier.from_pretrained(REPOSITORY)
    assert FewShotClassifier.from_pretrained(REPOSITORY, token=token).classes_.tolist() == ["green", "red"]


def test_a_public_repository_is_what_is_made_unasked(model: FewShotClassifier, hub: FakeHub) -> None:
    model.push_to_hub(REPOSITORY)
    assert hub.private == set()


def test_a_second_time_no_file_is_fetched_and_offline_the_cache_answers(
    model: FewShotClassifier, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.push_to_hub(REPOSITORY)
    FewShotClassifier.from_pretrained(REPOSITORY)
    hub.requests.clear()
    FewShotClassifier.from_pretrained(REPOSITORY)
    assert [request for request in hub.requests if request.startswith("GET")] == []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert FewShotClassifier.from_pretrained(REPOSITORY).classes_.tolist() == ["green", "red"]


@pytest.mark.slow
def test_the_environment_names_the_hub_the_cache_and_the_token(
    model: FewShotClassifier, hub: FakeHub, tmp_path: Path
) -> None:
    model.save(tmp_path / "saved")
    program = (
        "from tip_adapter import FewShotClassifier as C\n"
        f"C.load('saved').push_to_hub('{REPOSITORY}')\n"
        f"print(*C.from_pretrained('{REPOSITORY}').classes_)\n"
    )
    env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.split()) == (0, ["green", "red"]), done.stderr
    assert list((tmp_path / "home" / "hub").rglob("adapter.safetensors"))


# ---- warnings about absolute paths -------------------------------------------------------------------------------------


def test_paths_of_photos_go_up_from_their_folder_only(model: FewShotClassifier, hub: FakeHub, tmp_path: Path) -> None:
    model.push_to_hub(REPOSITORY)
    config = hub.files(REPOSITORY)["config.json"]
    assert "red/0.png" in json.loads(config)["images"]
    assert os.fsencode(tmp_path) not in config


def test_whole_paths_are_warned_of(hub: FakeHub, make_photos: Callable[..., Path]) -> None:
    photos = sorted(make_photos("photos", red=1, green=1).rglob("*.png"))
    model = FewShotClassifier(encoder="toy").fit(photos, ["green", "red"])
    with pytest.warns(TipAdapterWarning, match="2 photos are identified by an absolute path"):
        model.push_to_hub(REPOSITORY)


def test_an_encoder_that_is_named_by_a_whole_path_is_warned_of(hub: FakeHub, paint: Callable[..., object]) -> None:
    encoder = ToyEncoder()
    encoder.identity = replace(encoder.identity, name="onnx:/models/of/somebody")
    model = FewShotClassifier(encoder).fit([paint("red"), paint("green")], ["red", "green"])
    with pytest.warns(TipAdapterWarning, match="the encoder is an absolute path"):
        model.push_to_hub(REPOSITORY)


# ---- trouble ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's waits between attempts take no time."""
    monkeypatch.setattr(time, "sleep", lambda _: None)


def fetch(**options: str) -> FewShotClassifier:
    return FewShotClassifier.from_pretrained(REPOSITORY, **options)


def test_fault_56_a_repository_that_is_not_there_is_told(hub: FakeHub) -> None:
    with pytest.raises(DownloadError, match=f"^cannot fetch {REPOSITORY}: there is no such repository") as told:
        fetch()
    assert told.value.code == "download_failed"


def test_fault_56_a_revision_that_is_not_there_is_told(model: FewShotClassifier, hub: FakeHub) -> None:
    model.push_to_hub(REPOSITORY)
    with pytest.raises(DownloadError, match="no such revision"):
        fetch(revision="gone")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "reason"),
    [(401, "valid token"), (403, "does not allow"), (429, "fewer requests"), (500, "trouble"), (503, "trouble")],
)
def test_fault_56_a_hub_that_refuses_is_told(
    status: int, reason: str, model: FewShotClassifier, hub: FakeHub, impatient: None
) -> None:
    model.push_to_hub(REPOSITORY)
    hub.faults = [("resolve", status)]
    with pytest.raises(DownloadError, match=reason):
        fetch()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("request_", "status", "reason"),
    [
        ("create", 401, "valid token"),
        ("create", 403, "does not allow"),
        ("preupload", 403, "does not allow"),
        ("batch", 429, "fewer requests"),
        ("PUT", 500, "trouble"),
        ("commit", 503, "trouble"),
    ],
)
def test_fault_56_a_push_that_is_refused_is_told_and_leaves_what_was_there(
    request_: str,
    status: int,
    reason: str,
    model: FewShotClassifier,
    hub: FakeHub,
    impatient: None,
    paint: Callable[..., object],
) -> None:
    model.push_to_hub(REPOSITORY)
    before = hub.files(REPOSITORY)
    hub.faults = [(request_, status)]
    with pytest.raises(UploadError, match=f"^cannot send the model to {REPOSITORY}: .*{reason}") as told:
        model.partial_fit([paint("blue")], ["blue"]).push_to_hub(REPOSITORY)
    assert told.value.code == "upload_failed"
    assert hub.files(REPOSITORY) == before


def test_fault_56_a_wrong_token_is_told_and_not_shown(model: FewShotClassifier, hub: FakeHub) -> None:
    with pytest.raises(UploadError, match="valid token") as told:
        model.push_to_hub(REPOSITORY, token="hf_secret")
    assert "hf_secret" not in str(told.value)
    assert hub.repositories == {}


def test_fault_56_a_download_that_is_cut_is_told_and_a_later_one_is_whole(
    model: FewShotClassifier, hub: FakeHub, impatient: None
) -> None:
    model.push_to_hub(REPOSITORY)
    hub.faults = [("GET /large", 0)]
    with pytest.raises(DownloadError, match="cut"):
        fetch()
    hub.faults = []
    assert fetch().classes_.tolist() == ["green", "red"]


def test_fault_56_no_network_is_told(hub: FakeHub, monkeypatch: pytest.MonkeyPatch, impatient: None) -> None:
    template = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DownloadError, match="cannot be reached"):
        fetch()


def test_fault_56_offline_what_is_not_in_the_cache_is_told(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE is set"):
        fetch()
    assert hub.requests == []


def test_fault_56_a_full_disk_is_told(model: FewShotClassifier, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    model.push_to_hub(REPOSITORY)
    monkeypatch.setattr(file_download, "http_get", fill)
    with pytest.raises(DownloadError, match=f"cannot fetch {REPOSITORY}: No space left on device"):
        fetch()


# ---- nothing is trusted ----------------------------------------------------------------------------------------------


def test_fault_42_a_file_that_was_changed_on_the_hub_is_refused(model: FewShotClassifier, hub: FakeHub) -> None:
    model.push_to_hub(REPOSITORY)
    arrays = bytearray(hub.files(REPOSITORY)["adapter.safetensors"])
    arrays[-1] ^= 1
    hub.commit(REPOSITORY, "main", {"adapter.safetensors": bytes(arrays)})
    with pytest.raises(DamagedModelFolder, match="SHA-256"):
        fetch()


def test_fault_38_other_files_of_a_repository_are_never_fetched(model: FewShotClassifier, hub: FakeHub) -> None:
    model.push_to_hub(REPOSITORY)
    hub.commit(REPOSITORY, "main", {"pytorch_model.bin": b"\x80\x04cos\nsystem\n", "modeling.py": b"boom"})
    hub.requests.clear()
    fetch()
    assert {request.rpartition("/")[2] for request in hub.requests if "/resolve/" in request} == FILES


def test_a_repository_of_something_else_is_told_before_its_arrays_are_fetched(
    model: FewShotClassifier, hub: FakeHub
) -> None:
    model.push_to_hub(REPOSITORY)
    hub.commit(REPOSITORY, "main", {"config.json": b'{"model_type": "bert"}'})
    hub.requests.clear()
    with pytest.raises(ModelFolderError):
        fetch()
    assert not any("adapter" in request for request in hub.requests)


def test_a_repository_without_our_files_is_no_model(model: FewShotClassifier, hub: FakeHub) -> None:
    model.push_to_hub(REPOSITORY)
    del hub.files(REPOSITORY)["config.json"]
    with pytest.raises(DownloadError, match="a file that is needed is missing"):
        fetch()


@pytest.mark.parametrize("name", ["", "../model", "a/b/c", "no such folder", 7, "a--b"])
def test_what_is_neither_folder_nor_repository_is_told_before_any_request(
    name: object, hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="repo_id"):
        FewShotClassifier.from_pretrained(name)  # type: ignore[arg-type]
    assert hub.requests == []


def test_a_revision_must_be_text(model: FewShotClassifier, hub: FakeHub) -> None:
    for call in (model.push_to_hub, FewShotClassifier.from_pretrained):
        with pytest.raises(UsageError, match="revision"):
            call(REPOSITORY, revision="")
    assert hub.requests == []
