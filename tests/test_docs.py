"""What the documentation says is true: figures are rendered from results, commands and examples run."""

from __future__ import annotations

import re
import shlex
import shutil
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

    from fake_hub import FakeHub

HOW_TOS = sorted((ROOT / "docs" / "how-to").glob("*.md"))
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


def run(commands: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Run command lines in this process, each to its end without a failure."""
    for command in commands:
        monkeypatch.setattr(sys, "argv", shlex.split(command))
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code, f"{command}: {capsys.readouterr().err}"


@pytest.mark.slow
@pytest.mark.parametrize("readme", [README, README_ZH], ids=["English", "Chinese"])
def test_the_commands_and_then_the_python_examples_run(
    readme: str, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = re.findall(r"^    (tip-adapter (?:fit|predict|evaluate|info) .*?)(?:\s+#.*)?$", readme, re.MULTILINE)
    assert len(commands) == 4
    run(commands, monkeypatch, capsys)
    assert (home / "model" / "config.json").exists()
    rng = np.random.default_rng(0)
    vectors = {"X": rng.random((4, 8)), "X_new": rng.random((2, 8)), "text_vectors": rng.random((2, 8))}
    known = {**vectors, "y": ["cat", "cat", "dog", "dog"], "labels": ["cat", "dog"]}
    blocks = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, "README", "exec"), dict(known))


@pytest.fixture
def cats_and_dogs(home: Path, make_photos: Callable[..., Path]) -> Path:
    """A folder of someone who follows a how-to guide: as README's, with cats and dogs and a model of them."""
    shutil.rmtree(home / "photos")
    make_photos("photos", cat=3, dog=3)
    make_photos("val-photos", 10, cat=1, dog=1)
    make_photos(".", rabbits=2)
    return home


@pytest.mark.slow
@pytest.mark.parametrize("page", HOW_TOS, ids=lambda page: page.stem)
def test_the_commands_and_then_the_python_of_a_how_to_guide_run(
    page: Path, cats_and_dogs: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = page.read_text(encoding="utf-8")
    commands = re.findall(r"^    (tip-adapter .*?)(?:\s+#.*)?$", text, re.MULTILINE)
    assert commands
    run(["tip-adapter fit photos --out model", *commands], monkeypatch, capsys)
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(block, page.name, "exec"), {})


@pytest.mark.parametrize("readme", ["README.md", "README.zh-CN.md"])
def test_every_how_to_guide_is_linked_from_a_readme(readme: str) -> None:
    linked = re.findall(r"\((docs/how-to/[^)]+)\)", (ROOT / readme).read_text(encoding="utf-8"))
    assert sorted(linked) == [page.relative_to(ROOT).as_posix() for page in HOW_TOS]


def test_every_link_between_pages_leads_somewhere() -> None:
    pages = [ROOT / "README.md", ROOT / "README.zh-CN.md", *(ROOT / "docs").rglob("*.md")]
    broken = [
        (page.name, link)
        for page in pages
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
        if "://" not in link and not (page.parent / link).exists()
    ]
    assert broken == []
