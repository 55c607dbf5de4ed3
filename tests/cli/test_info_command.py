"""`tip-adapter info`: what a model says of itself."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tip_adapter import __version__, load_encoder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Ran


def record_of(run: Callable[..., Ran], model: Path) -> dict[str, Any]:
    """The one object that `--json` prints."""
    ran = run("info", model, "--json")
    assert (ran.status, ran.err) == (0, "")
    assert len(ran.out.splitlines()) == 1
    return json.loads(ran.out)


def test_json_is_one_object_about_classes_encoder_method_and_pair(run: Callable[..., Ran], model: Path) -> None:
    record = record_of(run, model)
    identity = load_encoder("toy").identity
    assert record["classes"] == [{"label": name, "name": name, "n_images": 4} for name in ("blue", "green", "red")]
    assert record["encoder"] == {"name": "toy", "fingerprint": identity.fingerprint, "width": identity.width}
    assert (record["n_classes"], record["n_images"]) == (3, 12)
    assert (record["method"], record["protocol"], record["seed"]) == ("tip-adapter", "leave-one-out", 0)
    assert record["alpha"] > 0
    assert record["beta"] > 0
    assert record["temperature"] > 0
    assert record["left_out_accuracy"] == 1.0
    assert record["templates"] == ["{}"]
    assert record["tip_adapter"] == __version__


def test_people_get_the_same_in_words(run: Callable[..., Ran], model: Path) -> None:
    ran = run("info", model)
    record = record_of(run, model)
    assert (ran.status, ran.err) == (0, "")
    table = [line.split() for line in ran.out.splitlines()]
    for label in ("blue", "green", "red"):
        assert [label, "4", label] in table
    assert "tip-adapter, 3 classes, 12 images." in ran.out
    assert f"Encoder toy ({record['encoder']['fingerprint'][:12]}" in ran.out
    assert f"alpha {record['alpha']:.4g}, beta {record['beta']:.4g}: chosen by leave-one-out." in ran.out
    assert "Leave-one-out accuracy: 100.0 %" in ran.out


def test_zero_shot_has_nothing_to_choose(run: Callable[..., Ran], train: Path, tmp_path: Path) -> None:
    run("fit", train, "--out", tmp_path / "model", "--encoder", "toy", "--method", "zero-shot")
    record = record_of(run, tmp_path / "model")
    assert [record[key] for key in ("protocol", "alpha", "beta", "temperature", "left_out_accuracy")] == [None] * 5
    assert "nothing to tune" in run("info", tmp_path / "model").out


def test_validation_accuracy_is_not_called_left_out(
    run: Callable[..., Ran], train: Path, unseen: Path, tmp_path: Path
) -> None:
    run("fit", train, "--out", tmp_path / "model", "--encoder", "toy", "--tune", unseen)
    record = record_of(run, tmp_path / "model")
    assert (record["left_out_accuracy"], record["validation_accuracy"]) == (None, 1.0)
    assert "chosen on the validation images" in run("info", tmp_path / "model").out


def test_one_photo_a_class_leaves_the_accuracy_unknown(
    run: Callable[..., Ran], make_photos: Callable[..., Path], tmp_path: Path
) -> None:
    run(
        "fit",
        make_photos("train", red=1, blue=1),
        "--out",
        tmp_path / "model",
        "--encoder",
        "toy",
        "--tune",
        "scale-free",
    )
    record = record_of(run, tmp_path / "model")
    assert (record["protocol"], record["left_out_accuracy"]) == ("scale-free", None)
    assert "accuracy: unknown" in run("info", tmp_path / "model").out


def test_a_model_keeps_the_seed_and_the_classes_without_photos(
    run: Callable[..., Ran], train: Path, tmp_path: Path
) -> None:
    (train / "yellow").mkdir()
    run("fit", train, "--out", tmp_path / "model", "--encoder", "toy", "--seed", "7")
    record = record_of(run, tmp_path / "model")
    assert record["seed"] == 7
    assert {entry["label"]: entry["n_images"] for entry in record["classes"]}["yellow"] == 0
