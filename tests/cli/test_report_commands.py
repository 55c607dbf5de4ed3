"""`tip-adapter evaluate --report` and `tip-adapter show`: where the page goes, and what is looked for to show it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tip_adapter.cli import show

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Ran


@pytest.fixture
def fitted(run: Callable[..., Ran], train: Path, tmp_path: Path) -> Path:
    run("fit", train, "--out", tmp_path / "model", "--encoder", "toy")
    return tmp_path / "model"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a browser was asked to open; there is a display."""
    asked: list[str] = []
    monkeypatch.setattr(show.webbrowser, "open", lambda url: asked.append(url) or True)
    monkeypatch.setenv("DISPLAY", ":0")
    return asked


def n_pictures(page: Path) -> int:
    return page.read_text(encoding="utf-8").count('src="data:image/jpeg;base64,')


def n_in_gallery(page: Path) -> int:
    gallery = page.read_text(encoding="utf-8").partition('<section id="photos"')[2].partition("</section>")[0]
    return gallery.count("<img ")


# ---- evaluate --report -----------------------------------------------------------------------------------------------


def test_an_evaluation_is_written_as_a_page_beside_its_lines(
    run: Callable[..., Ran], fitted: Path, unseen: Path, tmp_path: Path
) -> None:
    ran = run("evaluate", fitted, unseen, "--json", "--report", tmp_path / "report")
    assert ran.status == 0
    assert json.loads(ran.out)["accuracy"] == 1
    assert ran.err.splitlines() == [
        "note: the page shows training images by name only; --photos TRAIN_DIR adds their pictures",
        f"Report: {tmp_path / 'report' / 'index.html'}",
    ]
    assert [path.name for path in (tmp_path / "report").iterdir()] == ["index.html"]
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert f"tip-adapter evaluate {fitted} {unseen}" in page


def test_a_mistake_is_shown_with_its_photo_and_with_its_evidence_where_that_can_be_found(
    run: Callable[..., Ran], fitted: Path, train: Path, unseen: Path, tmp_path: Path
) -> None:
    shutil.move(unseen / "blue" / "100.png", unseen / "red" / "blue.png")
    page = tmp_path / "report" / "index.html"
    assert run("evaluate", fitted, unseen, "--report", page.parent).status == 0
    assert n_pictures(page) == 1
    named = re.findall(r">blue/\d\.png<", page.read_text(encoding="utf-8").replace("\\", "/"))
    assert len(named) == 3  # by name only: which of the class's photos weigh most may turn on the last digit
    assert run("evaluate", fitted, unseen, "--report", page.parent, "--photos", train).status == 0
    assert n_pictures(page) == 7  # the photo, three for the answer, three for its own class


def test_a_folder_with_none_of_the_photos_that_were_learned_from_is_told(
    run: Callable[..., Ran], fitted: Path, unseen: Path, tmp_path: Path
) -> None:
    ran = run("show", fitted, "--photos", unseen, "--out", tmp_path / "shown")
    assert ran.status == 0
    assert f"{unseen}: none of the model's training images is there" in ran.err
    assert n_pictures(tmp_path / "shown" / "index.html") == 0


def test_photos_that_were_added_from_another_folder_are_found_where_it_is_named(
    run: Callable[..., Ran],
    fitted: Path,
    train: Path,
    make_photos: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    more = make_photos("more", 50, purple=2)
    monkeypatch.chdir(tmp_path)
    assert run("add", fitted, "purple", more.relative_to(tmp_path) / "purple").status == 0
    (tmp_path / "third").mkdir()
    monkeypatch.chdir(tmp_path / "third")
    page = tmp_path / "shown" / "index.html"
    alone = run("show", fitted, "--photos", train, "--out", page.parent)
    assert f"2 of 14 training images not found in {train}, and shown by name only: more/purple/" in alone.err
    assert n_in_gallery(page) == 12
    for folder in (more, more / "purple"):
        both = run("show", fitted, "--photos", train, "--photos", folder, "--out", page.parent)
        assert (both.status, both.err) == (0, "")
        assert n_in_gallery(page) == 14
    more.rename(tmp_path / "third" / "more")
    both = run("show", fitted, "--photos", train, "--photos", "more", "--out", page.parent)
    assert (both.status, both.err) == (0, "")
    assert n_in_gallery(page) == 14


def test_a_model_without_photos_asks_for_none(run: Callable[..., Ran], unseen: Path, tmp_path: Path) -> None:
    for folder in ("red", "blue"):
        (tmp_path / "names" / folder).mkdir(parents=True)
    run("fit", tmp_path / "names", "--out", tmp_path / "model", "--encoder", "toy")
    assert "--photos" not in run("evaluate", tmp_path / "model", unseen, "--report", tmp_path / "report").err


def test_what_is_no_report_is_refused_before_any_photo_is_read(
    run: Callable[..., Ran], fitted: Path, unseen: Path
) -> None:
    ran = run("evaluate", fitted, unseen, "--report", unseen)
    assert (ran.status, ran.out) == (1, "")
    assert "holds no report" in ran.err
    assert run("evaluate", fitted, unseen, "--report", unseen, "--force").status == 0
    assert (unseen / "red" / "100.png").exists()


@pytest.mark.parametrize("options", [["--force"], ["--photos", "x"]])
def test_options_of_the_page_without_a_page_are_a_usage_error(
    run: Callable[..., Ran], fitted: Path, unseen: Path, options: list[str]
) -> None:
    ran = run("evaluate", fitted, unseen, *options)
    assert ran.status == 2
    assert re.fullmatch(rf"error: {options[0]} applies to --report .*; give .+\n", ran.err)


# ---- show ------------------------------------------------------------------------------------------------------------


def test_a_model_is_shown_in_the_browser_and_its_place_is_printed(
    run: Callable[..., Ran], fitted: Path, train: Path, tmp_path: Path, opened: list[str]
) -> None:
    ran = run("show", fitted, "--photos", train, "--out", tmp_path / "shown")
    page = tmp_path / "shown" / "index.html"
    assert (ran.status, ran.out, ran.err) == (0, f"{page}\n", "")
    assert opened == [page.as_uri()]
    assert n_pictures(page) == 12


def test_without_a_place_the_page_lies_in_the_cache_the_same_each_time(
    run: Callable[..., Ran], fitted: Path, tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIP_ADAPTER_HOME", str(tmp_path / "cache"))
    first, again = run("show", fitted), run("show", fitted)
    assert (first.status, first.out) == (again.status, again.out) == (0, again.out)
    assert re.fullmatch(
        r"shown/[0-9a-f]{16}/index.html\n", str(Path(first.out).relative_to(tmp_path / "cache").as_posix())
    )
    assert len(opened) == 2


def test_without_a_display_no_browser_is_asked(
    run: Callable[..., Ran], fitted: Path, tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(show.sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert run("show", fitted, "--out", tmp_path / "shown").status == 0
    assert opened == []


def test_a_model_is_not_mistaken_for_a_place_to_write_to(
    run: Callable[..., Ran], fitted: Path, tmp_path: Path, opened: list[str]
) -> None:
    assert run("show", fitted, "--out", fitted).status == 1
    assert "holds no report" in run("show", fitted, "--out", fitted).err
    assert opened == []
    assert sorted(path.name for path in fitted.iterdir()) == ["README.md", "adapter.safetensors", "config.json"]


def test_force_without_a_place_is_a_usage_error(run: Callable[..., Ran], fitted: Path) -> None:
    assert run("show", fitted, "--force").status == 2
