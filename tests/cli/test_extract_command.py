"""`tip-adapter extract`, and stored vectors where other commands take photos."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tip_adapter.cli import _output
from tip_adapter.features import encode

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Ran


@pytest.fixture
def photos(make_photos: Callable[..., Path]) -> Path:
    return make_photos("photos", red=3, green=3)


@pytest.fixture
def features(run: Callable[..., Ran], photos: Path, tmp_path: Path) -> Path:
    assert run("extract", photos, "--out", tmp_path / "features", "--encoder", "toy").status == 0
    return tmp_path / "features"


def test_it_says_how_many_photos_were_encoded_and_what_to_do_next(
    run: Callable[..., Ran], photos: Path, features: Path
) -> None:
    ran = run("extract", photos, "--out", features, "--encoder", "toy")
    assert (ran.status, ran.err) == (0, "Encoding images: 0 of 6\n")
    first, second = ran.out.splitlines()
    assert first.startswith("6 images, 0 of them encoded now, in ")
    assert second == f"Saved to {features}. Next: tip-adapter fit {features} --out MODEL_DIR"


def test_json_counts_and_a_bad_photo_is_a_note(run: Callable[..., Ran], photos: Path, features: Path) -> None:
    (photos / "red" / "bad.png").write_text("a cat")
    ran = run("extract", photos, "--out", features, "--encoder", "toy", "--json")
    counted = json.loads(ran.out)
    assert counted.pop("seconds") >= 0
    assert counted == {"n_images": 7, "n_encoded": 0, "n_failed": 1}
    progress, note = ran.err.splitlines()
    assert progress == "Encoding images: 0 of 7"
    assert note.startswith("note: 1 image has no vector: cannot read red/bad.png: not an image")
    assert run("extract", photos, "--out", features, "--encoder", "toy", "--json", "--quiet").err == ""


def test_progress_is_lines_of_text_where_stderr_is_no_terminal(
    run: Callable[..., Ran], photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_output, "_BETWEEN_LINES", 0.0)
    monkeypatch.setattr(encode, "BATCH", 2)
    ran = run("extract", photos, "--out", tmp_path / "features", "--encoder", "toy")
    assert ran.err.splitlines() == [f"Encoding images: {done} of 6" for done in (0, 2, 4, 6, 6)]


def test_every_command_that_takes_a_folder_takes_features(
    run: Callable[..., Ran], photos: Path, features: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    assert run("fit", features, "--tune", features, "--out", model).status == 0
    by_features, by_photos = (json.loads(run("evaluate", model, f, "--json").out) for f in (features, photos))
    for record in (by_features, by_photos):
        record.pop("seconds"), record.pop("images_per_second")
    assert by_features == by_photos
    ran = run("predict", model, photos, features, photos / "red" / "0.png", "--json")
    images = [json.loads(line)["image"] for line in ran.out.splitlines()]
    assert images == [*map(str, sorted(photos.rglob("*.png"))), *images[6:12], str(photos / "red" / "0.png")]
    assert images[6:12] == [f"{label}/{i}.png" for label in ("green", "red") for i in range(3)]
    assert run("check", features, "--json").status == 0


def test_another_encoder_is_refused_with_the_way_out(run: Callable[..., Ran], photos: Path, features: Path) -> None:
    ran = run("extract", photos, "--out", features, "--encoder", "toy", "--views", "2")
    assert (ran.status, ran.out) == (1, "")
    assert "choose another place, or pass --force" in ran.err
    assert run("extract", photos, "--out", features, "--encoder", "toy", "--views", "2", "--force").status == 0


def test_a_file_of_vectors_is_fitted_and_evaluated(run: Callable[..., Ran], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "ids": np.array(list("abcdef")),
        "labels": np.array(["x", "y"] * 3),
        "vectors": np.tile(np.eye(2, 8), (3, 1)) + 0.1 * rng.standard_normal((6, 8)),
        "class_labels": np.array(["x", "y"]),
        "class_embeddings": np.eye(2, 8),
    }
    np.savez(tmp_path / "v.npz", **arrays)
    ran = run("fit", tmp_path / "v.npz", "--encoder", f"vectors:{tmp_path / 'v.npz'}", "--out", tmp_path / "m")
    assert (ran.status, ran.err) == (0, "")
    assert json.loads(run("evaluate", tmp_path / "m", tmp_path / "v.npz", "--json").out)["accuracy"] == 1.0
    (tmp_path / "v.npz").unlink()
    ran = run("evaluate", tmp_path / "m", tmp_path / "v.npz")
    assert ran.status == 1
    assert "v.npz: No such file or directory; check the path" in ran.err
