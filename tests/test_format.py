"""docs/reference/format.md is enough to read a model and to answer with it: its own reader does so, and nothing of ours."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from image_only import FILES
from tip_adapter import FewShotClassifier
from tip_adapter.model.format import ARRAYS, CARD, CONFIG, FORMATS, MOST_HEADER, MOST_TEXT_MIB, MOST_VALUES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAGE = (Path(__file__).parents[1] / "docs" / "reference" / "format.md").read_text(encoding="utf-8")
(EXAMPLE,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def reader() -> dict[str, Any]:
    """What the page's example defines."""
    names: dict[str, Any] = {}
    exec(compile(EXAMPLE, "format.md", "exec"), names)
    return names


@pytest.fixture(params=["text-offset", "zero-shot", "tip-adapter", "tip-adapter-f", "coop"])
def saved(request: pytest.FixtureRequest, paint: Callable[..., Any], tmp_path: Path) -> tuple[FewShotClassifier, Path]:
    """A model of names that JSON escapes, and its folder."""
    names = {"red": "red", "green": "grün 🟢", "blue": 'a "blue"\\\x7f\u2028'}
    labels = [label for label in names for _ in range(4)]
    photos = [paint(label, number) for number, label in enumerate(labels)]
    model = FewShotClassifier("toy", request.param, class_names=names).fit(photos, labels)
    model.save(tmp_path / "model")
    return model, tmp_path / "model"


def test_the_example_is_short_and_needs_nothing_but_numpy() -> None:
    imported = {
        name.name for node in ast.walk(ast.parse(EXAMPLE)) if isinstance(node, ast.Import) for name in node.names
    }
    assert imported == {"hashlib", "json", "struct", "numpy"}
    assert "from" not in re.findall(r"^\w+", EXAMPLE, re.MULTILINE)
    assert len(EXAMPLE.splitlines()) <= 60


def test_the_example_gives_the_probabilities_of_the_model(
    saved: tuple[FewShotClassifier, Path], reader: dict[str, Any], paint: Callable[..., Any]
) -> None:
    model, folder = saved
    photos = [paint(label, number) for number, label in enumerate(["red", "green", "blue", "yellow", "grey"], 90)]
    config, arrays = reader["read_model"](folder)
    queries = model.encoder_.encode_images(photos)
    got = reader["probabilities"](config, arrays, queries)
    np.testing.assert_allclose(got, model.predict_proba(photos), rtol=0, atol=1e-5)
    assert [entry["label"] for entry in config["classes"]] == model.classes_.tolist()
    assert ("learned.keys_" in arrays) == (model.method == "tip-adapter-f")


@pytest.mark.parametrize("method", ["tip-adapter", "tip-adapter-f"])
def test_the_example_reads_a_model_without_names(
    method: str, clip_folder: Callable[..., Path], reader: dict[str, Any], paint: Callable[..., Any], tmp_path: Path
) -> None:
    labels = ["red", "green", "blue"] * 3
    photos = [paint(label, number) for number, label in enumerate(labels)]
    model = FewShotClassifier(f"onnx:{clip_folder(files=FILES)}", method).fit(photos, labels)
    model.save(tmp_path / "model")
    config, arrays = reader["read_model"](tmp_path / "model")
    assert config["format"] == 3
    got = reader["probabilities"](config, arrays, model.encoder_.encode_images(photos))
    np.testing.assert_allclose(got, model.predict_proba(photos), rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", [CONFIG, ARRAYS, CARD])
def test_the_example_refuses_a_file_that_was_changed(
    name: str, saved: tuple[FewShotClassifier, Path], reader: dict[str, Any]
) -> None:
    path = saved[1] / name
    content = path.read_bytes()
    path.write_bytes(content.replace(b"toy", b"joy") if name == CONFIG else content[:-1] + b"?")
    with pytest.raises(ValueError, match=f"{re.escape(name)} is not the file that was saved"):
        reader["read_model"](saved[1])


def places(record: dict[str, Any], above: str = "") -> Iterator[str]:
    """The keys of a configuration as the page writes them: ``choice.alpha``, ``classes[].label``."""
    for key, value in record.items():
        yield above + key
        if key in ("encoder", "choice", "left_out"):
            yield from places(value, f"{key}.")
        if key == "classes":
            yield from places(value[0], f"{key}[].")


@pytest.mark.parametrize("saved", ["tip-adapter"], indirect=True)
def test_the_page_lists_the_keys_that_are_written(saved: tuple[FewShotClassifier, Path]) -> None:
    table = PAGE.partition("## config.json")[2].partition("## adapter")[0]
    listed = re.findall(r"^\| `([\w.\[\]]+)` \|", table, re.MULTILINE)
    only_newer = {"left_out.refused", "left_out.near_repeats"}  # of methods that leave classes out, and photos together
    assert sorted({*listed} - only_newer) == sorted(places(json.loads((saved[1] / CONFIG).read_bytes())))


def test_the_page_states_the_limits_that_hold() -> None:
    assert f"Formats {FORMATS[0]} to {FORMATS[-1]}." in PAGE
    assert f"{MOST_TEXT_MIB} MiB" in PAGE
    assert f"{MOST_VALUES:,} commas" in PAGE
    assert f"{MOST_HEADER:,}" in PAGE
