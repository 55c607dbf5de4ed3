"""What the documentation says is true: figures are rendered from results, commands and examples run."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tip_adapter.cli import main

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import render  # noqa: E402 - benchmarks/ lies beside src/

if TYPE_CHECKING:
    from collections.abc import Callable

README = (ROOT / "README.md").read_text(encoding="utf-8")
README_ZH = (ROOT / "README.zh-CN.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", render.PAGES)
def test_a_page_of_results_is_its_results_rendered_again(name: str) -> None:
    assert (render.RESULTS / f"{name}.md").read_text(encoding="utf-8") == render.render(name)


@pytest.mark.parametrize("name", render.READMES)
def test_the_table_in_a_readme_is_the_results_rendered_again(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert render.with_measured(text, name) == text


@pytest.fixture
def home(tmp_path: Path, make_photos: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of someone who follows README: photos, test photos and new ones."""
    for name in ("photos", "test-photos", "照片", "测试照片"):
        make_photos(name, red=2, green=2)
    for name in ("more-photos", "更多照片"):
        make_photos(f"{name}/some", blue=1)
    for name in ("new.jpg", "新照片.jpg"):
        (tmp_path / name).write_bytes(next((tmp_path / "more-photos").rglob("*.png")).read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("readme", [README, README_ZH], ids=["English", "Chinese"])
def test_the_commands_and_then_the_python_examples_run(
    readme: str, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = re.findall(r"^    (tip-adapter (?:fit|predict|evaluate|info) .*?)(?:\s+#.*)?$", readme, re.MULTILINE)
    assert len(commands) == 4
    for command in commands:
        monkeypatch.setattr(sys, "argv", shlex.split(command))
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0, f"{command}: {capsys.readouterr().err}"
    assert (home / "model" / "config.json").exists()
    rng = np.random.default_rng(0)
    vectors = {"X": rng.random((4, 8)), "X_new": rng.random((2, 8)), "text_vectors": rng.random((2, 8))}
    known = {**vectors, "y": ["cat", "cat", "dog", "dog"], "labels": ["cat", "dog"]}
    blocks = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, "README", "exec"), dict(known))
