from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints
from typing import Any

import pytest

import tip_adapter
from tip_adapter.encoders import ENCODERS, FAMILIES, encoder_records, load_encoder
from tip_adapter.encoders.onnx.catalogue import named_clips
from tip_adapter.encoders.pocket.encoder import PocketEncoder
from tip_adapter.encoders.toy import ToyEncoder
from tip_adapter.errors import UnknownName, UsageError


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch):
    """Make it seem that another package brings encoders: name → "module:Class"."""

    def pretend(**encoders: str) -> None:
        points = EntryPoints(EntryPoint(name, value, "tip_adapter.encoders") for name, value in encoders.items())
        monkeypatch.setattr("tip_adapter.plugins.entry_points", lambda **wanted: points.select(**wanted))

    return pretend


def test_the_root_offers_load_encoder() -> None:
    assert tip_adapter.load_encoder is load_encoder
    assert isinstance(load_encoder("toy"), ToyEncoder)


@pytest.mark.parametrize(("wrong", "nearest"), [("poket", "pocket"), ("POCKET", None), ("tox", "toy"), ("", None)])
def test_an_unknown_name_is_refused_and_the_nearest_suggested(wrong: str, nearest: str | None) -> None:
    with pytest.raises(UnknownName, match=r"known are clip, .*onnx, open_clip, pocket, .*toy") as refused:
        load_encoder(wrong)
    assert (f"did you mean {nearest}?" in str(refused.value)) == bool(nearest)
    assert isinstance(refused.value, UsageError)
    assert refused.value.code == "unknown_name"


def test_an_entry_point_is_an_encoder_like_ours(install) -> None:
    install(mine="tip_adapter.encoders.toy:ToyEncoder")
    assert isinstance(load_encoder("mine"), ToyEncoder)
    assert [name for name, _ in encoder_records()] == [*ENCODERS, "mine", *named_clips()]
    with pytest.raises(UnknownName, match="did you mean mine"):
        load_encoder("mien")


def test_no_entry_point_takes_the_place_of_ours(install) -> None:
    install(toy="tip_adapter.encoders.pocket.encoder:PocketEncoder")
    assert isinstance(load_encoder("toy"), ToyEncoder)
    assert [name for name, _ in encoder_records()] == [*ENCODERS, *named_clips()]


def test_device_and_threads_reach_the_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    got: dict[str, Any] = {}
    monkeypatch.setattr(ToyEncoder, "__init__", lambda _, **given: got.update(given))
    load_encoder("toy", device="cpu", threads=3)
    assert got == {"device": "cpu", "threads": 3}


def test_records_are_read_without_loading_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: Any, **__: Any) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(PocketEncoder, "__init__", load)
    records = dict(encoder_records())
    with pytest.raises(AssertionError, match="weights were loaded"):
        load_encoder("pocket")
    assert list(records) == [*ENCODERS, *named_clips()]
    assert records["pocket"].licence == "Apache-2.0"
    assert all("{}" in template for record in records.values() for template in record.templates)


@pytest.mark.parametrize("name", [None, 5, [], ToyEncoder()], ids=lambda name: type(name).__name__)
def test_what_is_no_name_is_a_usage_error(name):
    with pytest.raises(UsageError, match="encoder takes a name"):
        load_encoder(name)


@pytest.mark.parametrize("device", [5, [], True], ids=repr)
def test_a_device_that_is_no_text_is_a_usage_error(device):
    with pytest.raises(UsageError, match="device takes cpu or cuda"):
        load_encoder("toy", device=device)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        *((family, f"needs a source: {made.usage}") for family, made in FAMILIES.items()),
        ("pocket:x", "takes no source; leave out :x"),
        ("clip:x", "takes no source; leave out :x"),
    ],
)
def test_a_family_needs_a_source_and_a_name_takes_none(name: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        load_encoder(name)
