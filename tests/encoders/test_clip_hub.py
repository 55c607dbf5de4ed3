"""CLIPs from the hub: downloaded once and said so, then read from the cache; whatever goes wrong is one sentence."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import huggingface_hub
import numpy as np
import onnx
import pytest
from onnx import TensorProto

from image_only import FILES
from tip_adapter import FewShotClassifier
from tip_adapter.encoders import load_encoder, refuse_unasked_download
from tip_adapter.encoders.onnx import catalogue
from tip_adapter.encoders.onnx import layouts as layout_module
from tip_adapter.encoders.onnx.catalogue import Clip, unknown_record
from tip_adapter.errors import CheckpointError, DownloadError, TipAdapterWarning, UnaskedDownload
from tip_adapter.features.extract import extract

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fake_hub import FakeHub

REPOSITORY = "someone/clip"
SOURCE = f"onnx:{REPOSITORY}"


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's library tries again after a while."""
    monkeypatch.setattr("time.sleep", lambda _: None)


@pytest.fixture
def offline(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """`small` is a short name of what the fake hub holds."""
    record = replace(unknown_record("a small one"), licence="MIT", logit_scale=20.0, logit_scale_assumed=False)
    clip = Clip("someone/clip", "main", record, "open_clip")
    for module in ("tip_adapter.encoders", "tip_adapter.encoders.onnx.encoder", "tip_adapter.encoders.onnx.catalogue"):
        monkeypatch.setattr(f"{module}.named_clips", lambda: {"small": clip})


def test_the_first_use_says_what_is_downloaded_and_the_second_asks_nobody(
    hub: FakeHub, clip_folder: Callable[..., Path]
) -> None:
    with pytest.warns(
        TipAdapterWarning, match=r"downloading someone/clip \(0 MiB, licence: see its repository\) to .*hub, once"
    ):
        first = load_encoder(SOURCE)
    assert first.identity.name == SOURCE
    asked = len(hub.requests)
    second = load_encoder(SOURCE)
    assert second.identity == first.identity
    assert len(hub.requests) == asked
    photo = np.full((8, 8, 3), 200, np.uint8)
    folder = load_encoder(f"onnx:{clip_folder()}")
    assert folder.identity.fingerprint == first.identity.fingerprint
    np.testing.assert_array_equal(first.encode_images([photo]), folder.encode_images([photo]))
    np.testing.assert_array_equal(first.encode_texts(["a red photo"]), folder.encode_texts(["a red photo"]))


def test_only_the_files_that_are_needed_are_downloaded(hub: FakeHub, tmp_path: Path) -> None:
    needed = set(hub.files(REPOSITORY))
    others = {"README.md": b"hello", "visual/fp16/model.armnn": b"chip", "pytorch_model.bin": b"other"}
    hub.commit(REPOSITORY, "main", others)
    with pytest.warns(TipAdapterWarning, match="downloading"):
        load_encoder(SOURCE)
    snapshot = next((tmp_path / "hub").glob("models--someone--clip/snapshots/*"))
    assert {path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*") if path.is_file()} == needed


def test_an_encoder_of_images_needs_two_files_of_its_repository(
    hub: FakeHub, clip_folder: Callable[..., Path], tmp_path: Path
) -> None:
    hub.hold("someone/images", {**FILES, "onnx/model_fp16.onnx": b"half", "config.json": b"{}"})
    with pytest.warns(TipAdapterWarning, match="downloading someone/images"):
        encoder = load_encoder("onnx:someone/images")
    snapshot = next((tmp_path / "hub").glob("models--someone--images/snapshots/*"))
    assert {path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*") if path.is_file()} == set(FILES)
    assert encoder.identity.fingerprint == load_encoder(f"onnx:{clip_folder(files=FILES)}").identity.fingerprint
    hub.requests.clear()
    assert not load_encoder("onnx:someone/images").record.reads_names
    assert not hub.requests


def test_a_short_name_brings_its_record(hub: FakeHub, small: None) -> None:
    with pytest.warns(TipAdapterWarning, match=r"licence: MIT"):
        encoder = load_encoder("small")
    assert (encoder.identity.name, encoder.logit_scale) == ("small", 20.0)
    assert load_encoder(SOURCE).record == encoder.record


def test_data_beside_a_graph_are_found_in_the_cache(hub: FakeHub) -> None:
    graph = onnx.ModelProto.FromString(hub.files(REPOSITORY)["visual/model.onnx"])
    (weights,) = graph.graph.initializer
    changed = {"visual/model.onnx.data": weights.raw_data}
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="model.onnx.data")
    changed["visual/model.onnx"] = graph.SerializeToString()
    hub.commit(REPOSITORY, "main", changed)
    with pytest.warns(TipAdapterWarning, match="downloading"):
        assert load_encoder(SOURCE).encode_images([np.full((8, 8, 3), 9, np.uint8)]).shape == (1, 8)


@pytest.mark.usefixtures("offline")
def test_fault_56_offline_one_sentence_says_what_to_put_where(small: None) -> None:
    with pytest.raises(DownloadError) as refused:
        load_encoder("small")
    message = str(refused.value)
    assert message.startswith("cannot download someone/clip: it is not in the cache, and HF_HUB_OFFLINE is set; ")
    assert "pass --encoder onnx:FOLDER, a folder with the files" in message
    assert "`hf download someone/clip visual/model.onnx " in message
    assert " --revision main --local-dir FOLDER` gets" in message
    assert "onnx/vision_model.onnx" not in message
    assert refused.value.code == "download_failed"
    assert isinstance(refused.value, OSError)


def test_fault_56_a_hub_that_cannot_be_reached_is_no_network(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    with pytest.raises(
        DownloadError, match=r"not in the cache, and http://127\.0\.0\.1:9 cannot be reached; run this again"
    ):
        load_encoder(SOURCE)
    assert waits == [], "it is not tried again and again before it is said"


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (401, "private or gated.*hf auth login"),
        (403, "gated.*ask for access"),
        (404, "check its name"),
        (429, "fewer requests"),
        (500, "try again later"),
    ],
)
def test_fault_56_an_answer_of_the_hub_says_what_to_do(status: int, sentence: str, hub: FakeHub) -> None:
    hub.faults = [("", status)]
    with pytest.raises(DownloadError, match=f"cannot download someone/clip: .*{sentence}"):
        load_encoder(SOURCE)


def test_fault_56_a_download_that_was_interrupted_goes_on_the_next_time(hub: FakeHub) -> None:
    hub.faults = [("GET .*resolve", 0)]
    with pytest.warns(TipAdapterWarning, match="downloading"), pytest.raises(DownloadError, match="try again"):
        load_encoder(SOURCE)
    hub.faults = []
    with pytest.warns(TipAdapterWarning, match="downloading"):
        load_encoder(SOURCE)


def test_fault_56_a_full_disk_is_said(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("huggingface_hub.file_download.http_get", full)
    with (
        pytest.warns(TipAdapterWarning, match="downloading"),
        pytest.raises(DownloadError, match=r"No space left.*HF_HOME"),
    ):
        load_encoder(SOURCE)


def test_fault_56_a_file_of_the_cache_that_was_changed_is_refused(hub: FakeHub, tmp_path: Path) -> None:
    with pytest.warns(TipAdapterWarning, match="downloading"):
        load_encoder(SOURCE)
    (graph,) = (tmp_path / "hub").glob("models--someone--clip/snapshots/*/visual/model.onnx")
    content = graph.read_bytes()
    graph.resolve().write_bytes(content.replace(b"rows", b"cols"))
    with pytest.raises(CheckpointError, match=r"in the hub's cache is not what was downloaded; delete .*blobs"):
        load_encoder(SOURCE)


def test_a_repository_without_a_clip_is_refused_before_it_is_downloaded(hub: FakeHub, tmp_path: Path) -> None:
    hub.hold(REPOSITORY, {"README.md": b"hello", "visual/model.onnx": b"half of one"})
    with pytest.raises(CheckpointError, match=r"contains no CLIP as ONNX files"):
        load_encoder(SOURCE)
    assert not list((tmp_path / "hub").rglob("model.onnx"))


@pytest.mark.slow
def test_the_command_line_downloads_once_is_quiet_if_asked_and_works_offline_afterwards(
    hub: FakeHub, make_photos: Callable[..., Path], tmp_path: Path
) -> None:
    make_photos("photos", red=2, blue=2)
    place = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}

    def program(*args: str, **env: str) -> str:
        command = [sys.executable, "-m", "tip_adapter", *args]
        env = {**os.environ, **place, **env}
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True, env=env).stderr

    fit = ("fit", "photos", "--encoder", SOURCE, "--force", "--logit-scale", "20", "--out", "model")
    assert program(*fit, "--quiet", HF_HOME=str(tmp_path / "other")) == ""
    (note,) = program(*fit).splitlines()
    assert note.startswith("note: downloading someone/clip (0 MiB, licence: see its repository) to ")
    asked = len(hub.requests)
    assert program("predict", "model", "photos", HF_HUB_OFFLINE="1") == ""
    assert len(hub.requests) == asked


def test_the_short_names_are_records_of_their_repositories() -> None:
    known = catalogue.named_clips()
    assert {"clip", "clip-rn50", "clip-rn101", "clip-vit-b-32", "clip-vit-b-16", "clip-rn50x16", "clip-vit-l-14"} < set(
        known
    )
    assert known["clip"].repository == known["clip-vit-b-32"].repository
    for clip in known.values():
        assert clip.revision == "main" or re.fullmatch("[0-9a-f]{7,40}", clip.revision)
        layouts = layout_module.HALF_LAYOUTS if clip.half else layout_module.LAYOUTS
        (layout,) = [layout for layout in layouts if layout.name == clip.layout]
        assert clip.record.reads_names == (layout.text is not None)
        assert clip.record.templates == (("a photo of a {}.",) if layout.text else ())
        assert clip.record.scale_free_ratio == 0.1
    assert [name for name, clip in known.items() if clip.record.logit_scale_assumed] == ["siglip2-b32"]
    assert [name for name, clip in known.items() if not clip.record.reads_names] == ["dinov2", "dinov2@half"]
    assert "recommended for Chinese and Arabic names" in known["clip-multilingual"].record.description
    assert known["clip-multilingual"].record.reads("猫")
    assert not known["clip"].record.reads("猫")


# ---- what only a file names ------------------------------------------------------------------------------------------


@pytest.fixture
def strangers_model(hub: FakeHub, paint: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model on a repository that is not on this machine."""
    with pytest.warns(TipAdapterWarning):
        model = FewShotClassifier(SOURCE, logit_scale=20).fit([paint("red"), paint("blue")], ["red", "blue"])
    model.save(tmp_path / "model")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "another machine"))
    hub.requests.clear()
    return tmp_path / "model"


def test_a_name_of_two_encoders_in_a_file_makes_nobody_download_either_of_them(hub: FakeHub, tmp_path: Path) -> None:
    hub.requests.clear()
    for name in (f"toy+{SOURCE}", f"0.3*{SOURCE}+0.7*toy"):
        with pytest.raises(UnaskedDownload, match="needs encoder onnx:someone/clip, which is not on this machine"):
            refuse_unasked_download(name, tmp_path)
    refuse_unasked_download("toy+pocket", tmp_path)
    assert not hub.requests


def test_fault_44_a_model_folder_alone_makes_nobody_download(hub: FakeHub, strangers_model: Path) -> None:
    with pytest.raises(UnaskedDownload, match=r"needs encoder onnx:someone/clip, .* `hf download someone/clip`"):
        FewShotClassifier.load(strangers_model)
    assert hub.requests == []


def test_a_model_whose_encoder_the_user_names_or_has_is_loaded(hub: FakeHub, strangers_model: Path) -> None:
    with pytest.warns(TipAdapterWarning, match="downloading"):
        FewShotClassifier.load(strangers_model, encoder=SOURCE)
    asked = len(hub.requests)
    FewShotClassifier.load(strangers_model)
    assert len(hub.requests) == asked


def test_fault_44_features_alone_make_nobody_download(
    hub: FakeHub, make_photos: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.warns(TipAdapterWarning, match="downloading"):
        extract(make_photos("photos", red=2, blue=2), tmp_path / "features", load_encoder(SOURCE))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "another machine"))
    hub.requests.clear()
    with pytest.raises(UnaskedDownload, match=r"features needs encoder onnx:someone/clip"):
        FewShotClassifier(logit_scale=20).fit_folder(tmp_path / "features")
    assert hub.requests == []


@pytest.mark.parametrize(
    "name", ["pocket", "small", "onnx:.", "onnx:known/one", "open_clip:RN50/openai", "vectors:x.npz"]
)
def test_names_that_came_with_a_package_and_places_on_this_machine_are_no_such_downloads(
    name: str, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "tip_adapter.encoders.onnx.encoder.known_clip", lambda repository, half: repository == "known/one"
    )
    refuse_unasked_download(name, "model")


def test_fault_44_a_repository_of_open_clip_is_one_until_it_is_in_the_cache(hub: FakeHub, tmp_path: Path) -> None:
    with pytest.raises(UnaskedDownload, match=r"`hf download someone/clip`"):
        refuse_unasked_download("open_clip:hf-hub:someone/clip", "model")
    hub.commit(REPOSITORY, "main", {"open_clip_config.json": b"{}"})
    huggingface_hub.snapshot_download("someone/clip", allow_patterns=["open_clip_config.json"])
    refuse_unasked_download("open_clip:hf-hub:someone/clip", "model")


def test_a_place_too_long_for_a_folder_is_no_folder() -> None:
    refuse_unasked_download(f"onnx:{'x' * 300}", "model")
    with pytest.raises(CheckpointError, match="there is no folder xxx"):
        load_encoder(f"onnx:{'x' * 300}")
