"""`tip-adapter encoders`: what can be loaded here."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tip_adapter.encoders import encoder_records

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Ran


def test_json_is_one_object_with_every_encoders_record(run: Callable[..., Ran]) -> None:
    ran = run("encoders", "--json")
    assert (ran.status, ran.err) == (0, "")
    assert len(ran.out.splitlines()) == 1
    listed = {entry["name"]: entry for entry in json.loads(ran.out)["encoders"]}
    assert list(listed) == [name for name, _ in encoder_records()]
    assert {"pocket", "toy"} <= set(listed)
    for entry in listed.values():
        assert {"needs", "languages", "size_mib", "licence", "width", "templates"} <= set(entry)
    assert len(listed["pocket"]["languages"]) == 16
    assert listed["pocket"]["needs"] == []
    assert "onnx:REPO_OR_FOLDER" in [family["usage"] for family in json.loads(ran.out)["families"]]


@pytest.mark.parametrize(
    "word",
    [
        "needs",
        "languages",
        "size",
        "licence",
        "pocket",
        "toy",
        "Apache-2.0",
        "zh-TW",
        "50 MiB",
        "clip-vit-l-14",
        "onnx:REPO_OR_FOLDER",
    ],
)
def test_people_get_a_table(run: Callable[..., Ran], word: str) -> None:
    ran = run("encoders")
    assert (ran.status, ran.err) == (0, "")
    assert word in ran.out


def test_listing_loads_no_weights(run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "tip_adapter.encoders.pocket.encoder.PocketEncoder.__init__", lambda *_, **__: pytest.fail("loaded")
    )
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: pytest.fail("downloaded"))
    assert run("encoders").status == 0
