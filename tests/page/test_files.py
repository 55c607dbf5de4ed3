"""The files of the page: libraries as they were published, and nothing that comes from elsewhere or is written inline."""

from __future__ import annotations

import json
import re
from hashlib import sha256
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "src" / "tip_adapter" / "serve" / "page"
VENDOR = PAGE / "vendor"
OURS = sorted(path for path in PAGE.iterdir() if path.is_file())


def test_the_libraries_are_those_of_the_manifest_unchanged() -> None:
    entries = json.loads((VENDOR / "manifest.json").read_text(encoding="utf-8"))
    for entry in entries:
        assert sha256((VENDOR / entry["file"]).read_bytes()).hexdigest() == entry["sha256"], entry["file"]
    listed = {name for entry in entries for name in (entry["file"], entry["licence_file"])}
    assert {path.name for path in VENDOR.iterdir()} == {"manifest.json", *listed}


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_a_file_asks_for_nothing_from_elsewhere(path: Path) -> None:
    addresses = re.findall(r"(?:https?:)?//[a-z][\w.-]*\.[a-z]+\S*", path.read_text(encoding="utf-8"))
    assert [address for address in addresses if address != 'http://www.w3.org/2000/svg"'] == []


def test_nothing_is_written_inline() -> None:
    index = (PAGE / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", index)


def test_all_modules_are_asked_for_at_once() -> None:
    index = (PAGE / "index.html").read_text(encoding="utf-8")
    loaded = set(re.findall(r'(?:href|src)="/static/([\w/.]+\.m?js)"', index))
    assert loaded == {
        path.relative_to(PAGE).as_posix() for path in PAGE.rglob("*.*js") if path.suffix in (".js", ".mjs")
    }


def test_every_imported_module_is_there() -> None:
    for path in PAGE.glob("*.js"):
        for name in re.findall(r'from "\./([^"]+)"', path.read_text(encoding="utf-8")):
            assert (PAGE / name).is_file(), f"{path.name} imports {name}"


def test_every_code_of_an_error_is_translated() -> None:
    problems = pytest.importorskip("tip_adapter.serve.problems")
    codes = {*problems.STATUSES, *(kind.code for kind in problems.STATUS_OF_ERROR)}
    text = (PAGE / "i18n.js").read_text(encoding="utf-8")
    translated = re.findall(
        r"(\w+): \"", text[text.index("export const PROBLEMS") : text.index("export function explained")]
    )
    assert sorted(translated) == sorted(codes)
