"""`tip-adapter label` and `relabel`: what they print, and what they refuse; tests/distributed has the rest."""

from __future__ import annotations

import importlib.util
import json
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("pyarrow")

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Ran


@pytest.mark.slow
def test_labels_then_nothing_then_labels_of_vectors(
    run: Callable[..., Ran], model: Path, unseen: Path, tmp_path: Path
) -> None:
    (unseen / "red" / "bad.png").write_bytes(b"no photo")
    first = run("label", model, unseen, "--out", tmp_path / "labels", "--vectors", "--workers", "1")
    assert first.status == 0
    assert first.out.startswith("10 images in 1 part, 1 part labelled now, in ")
    assert f"Saved to {tmp_path / 'labels'}; read {tmp_path / 'labels'}/part-*/labels.parquet." in first.out
    assert "note: 1 image has no label; see the column error" in first.err
    again = run("label", model, unseen, "--out", tmp_path / "labels", "--vectors", "--json", "-q")
    record = json.loads(again.out)
    assert record.pop("seconds") < 10
    assert record == {"n_images": 10, "n_failed": 1, "n_parts": 1, "n_parts_labelled": 0}
    assert again.err == ""
    other = run("relabel", model, tmp_path / "labels", "--out", tmp_path / "new", "--json", "--workers", "1")
    assert json.loads(other.out)["n_images"] == 10


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--engine", "rya"], 2, "--engine takes local or ray, not 'rya'; did you mean ray?"),
        (["--workers", "0"], 2, "--workers takes a whole number of at least 1, not 0"),
        (["--max-error-rate", "2"], 2, "--max-error-rate takes a number from 0 to 1, not 2.0"),
        (["--part-rows", "many"], 2, "--part-rows takes a whole number of at least 1, not 'many'"),
    ],
)
def test_options_that_are_refused(
    options: list[str], status: int, message: str, run: Callable[..., Ran], model: Path, unseen: Path, tmp_path: Path
) -> None:
    ran = run("label", model, unseen, "--out", tmp_path / "labels", *options)
    assert (ran.status, ran.out) == (status, "")
    assert message in ran.err
    assert not (tmp_path / "labels").exists()


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray_one_sentence_says_what_to_install(
    run: Callable[..., Ran], model: Path, unseen: Path, tmp_path: Path
) -> None:
    ran = run("label", model, unseen, "--out", tmp_path / "labels", "--engine", "ray")
    assert ran.err == ('error: Ray, which runs a cluster, is not installed: pip install "pyarrow>=17" "ray>=2.50"\n')
    assert not (tmp_path / "labels").exists()


def test_a_url_is_a_value_for_label_alone(run: Callable[..., Ran], model: Path, tmp_path: Path) -> None:
    refused = run("predict", model, "s3://photos/1.jpg")
    assert "is a URL; download it" in refused.err
    ran = run("label", model, "memory://nothing-there", "--out", tmp_path / "labels")
    assert "error: memory://nothing-there holds no photos among its 0 files" in ran.err
    assert ran.status == 1


def test_labels_of_something_else_are_refused(run: Callable[..., Ran], model: Path, unseen: Path) -> None:
    ran = run("relabel", model, unseen, "--out", unseen / "new")
    assert (
        "holds no vectors (0 parts of labels found); `tip-adapter label --vectors` and `tip-adapter extract`" in ran.err
    )
