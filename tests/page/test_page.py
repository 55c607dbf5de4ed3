"""The page in a browser, on a running service: what a person does, and what the page shows for it."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Service

expect = pytest.importorskip("playwright.sync_api").expect
expect.set_options(timeout=60_000)
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
AXE = ROOT / "tests" / "browser" / "node_modules" / "axe-core" / "axe.min.js"
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}
VIEWS = ["classes", "collection", "quality", "use"]


def textile_photos() -> dict[str, list[Path]]:
    """Class → the demo's real photos of it."""
    folder = Path(pytest.importorskip("conformal_clip_data").textile_simulated_root())
    return {
        "faultless cloth": sorted((folder / "nominal").glob("*.jpg")),
        "cloth with a fault": sorted((folder / "global").glob("*.jpg")),
    }


def card(page: Any, label: str) -> Any:
    return page.locator(f"article[aria-label='{label}']")


def add_class(page: Any, label: str, photos: list[Path] = []) -> None:  # noqa: B006 - it is only read
    page.fill("#new-label", label)
    page.press("#new-label", "Enter")
    card(page, label).wait_for()
    if photos:
        card(page, label).locator("input[type=file]").set_input_files(photos)
        seen(card(page, label).locator(".photo img"), len(photos))


def seen(images: Any, n: int) -> None:
    """Wait until there are n images, and their files have been read."""
    expect(images).to_have_count(n)
    for image in images.all():
        expect(image).to_have_js_property("complete", True)
    assert images.evaluate_all("images => images.every(image => image.naturalWidth > 0)")


def ask(page: Any, photo: Path) -> None:
    page.locator(".answer input[type=file]").set_input_files(photo)
    page.locator(".answer .bars").first.wait_for()


def scores(page: Any) -> dict[str, float]:
    """Class → the percentage that its bar in the test area says."""
    texts = page.locator(".answer .bars").first.locator(".bar").evaluate_all("bars => bars.map(bar => bar.ariaLabel)")
    return {text.rpartition(": ")[0]: float(text.rpartition(": ")[2].rstrip("%")) for text in texts}


def changed_scores(page: Any, before: dict[str, float]) -> dict[str, float]:
    """The bars, as soon as they say something else."""
    for _ in range(600):
        if (now := scores(page)) != before:
            return now
        page.wait_for_timeout(100)
    pytest.fail(f"the bars still say {before}")


def settled(page: Any) -> None:
    """Wait until the settings of the project have been chosen in the background."""
    path = page.evaluate("location.hash").split("/")[1]
    for _ in range(600):
        if not page.request.get(f"/v1/projects/{path}").json()["jobs"]["tuning"]:
            return
        page.wait_for_timeout(100)
    pytest.fail("the settings are still being chosen")


def visit(page: Any, view: str) -> None:
    page.locator(f"nav a[href$='/{view}']").click()
    page.locator(f"nav a[href$='/{view}'][aria-current=page]").wait_for()


def collect(page: Any, photos: list[Path]) -> None:
    """Add photos to the collection, and wait until all of them are sorted."""
    visit(page, "collection")
    page.locator(".collection .section-head input[type=file]").last.set_input_files(photos)
    page.locator(f".is-grid > li:nth-child({len(photos)})").wait_for()


def order(page: Any) -> list[str]:
    return page.locator(".is-grid > li").evaluate_all("items => items.map(item => item.dataset.photo)")


# ---- teaching --------------------------------------------------------------------------------------------------------


def test_two_classes_are_taught_and_the_bars_follow_each_photo(open_page: Any, photo_files: Any) -> None:
    page = open_page()
    add_class(page, "red")
    add_class(page, "blue")
    ask(page, photo_files("red", 1, first=50)[0])
    by_name = scores(page)
    assert set(by_name) == {"red", "blue"}
    card(page, "red").locator("input[type=file]").set_input_files(photo_files("red", 3))
    seen(card(page, "red").locator(".photo img"), 3)
    card(page, "blue").locator("input[type=file]").set_input_files(photo_files("blue", 3))
    seen(card(page, "blue").locator(".photo img"), 3)
    expect(page.locator(".headline")).to_contain_text("red")
    assert changed_scores(page, by_name)["red"] > 50
    assert page.locator(".evidence li").count() == 3
    shares = page.locator(".why .bar-value").all_inner_texts()
    assert sum(float(share.rstrip("%")) for share in shares) == pytest.approx(100, abs=0.2)
    assert page.locator("h1").inner_text().startswith("New project")


@pytest.mark.parametrize("service", ["pocket"], indirect=True)
def test_photos_of_textiles_are_learned_as_they_arrive(open_page: Any, service: Service) -> None:
    page = open_page()
    add_class(page, "faultless cloth")
    add_class(page, "cloth with a fault")
    photos = textile_photos()
    ask(page, photos["cloth with a fault"][50])
    before = scores(page)
    for label, paths in photos.items():
        card(page, label).locator("input[type=file]").set_input_files(paths[:8])
        seen(card(page, label).locator(".photo img"), 8)
        before = changed_scores(page, before)
    expect(page.locator(".headline")).to_contain_text("cloth with a fault")
    assert page.locator(".evidence li").count() == 3


def test_a_class_is_renamed_disabled_and_deleted_and_undo_brings_it_back(open_page: Any, photo_files: Any) -> None:
    page = open_page()
    add_class(page, "red", photo_files("red", 2))
    add_class(page, "blue", photo_files("blue", 2))
    page.get_by_role("button", name="Rename blue").click()
    page.locator(".class-names input[name=label]").fill("sky")
    page.locator(".class-names input[name=label]").press("Enter")
    card(page, "sky").wait_for()
    ask(page, photo_files("blue", 1, first=50)[0])
    assert set(scores(page)) == {"red", "sky"}
    page.get_by_role("button", name="Disable sky").click()
    page.locator("article.is-disabled").wait_for()
    expect(page.locator(".headline")).to_contain_text("red")
    page.get_by_role("button", name="Enable sky").click()
    page.get_by_role("button", name="Delete sky").click()
    card(page, "sky").wait_for(state="detached")
    page.locator("body").press("Control+z")
    card(page, "sky").wait_for()
    seen(card(page, "sky").locator(".photo img"), 2)


def test_a_name_being_typed_stays_when_the_page_is_drawn_again(open_page: Any, photo_files: Any) -> None:
    page = open_page()
    add_class(page, "red")
    page.get_by_role("button", name="Rename red").click()
    page.locator(".class-names input[name=label]").fill("crimson")
    page.locator(".class-names input[name=spoken]").fill("deep red")
    card(page, "red").locator("input[type=file]").set_input_files(photo_files("red", 2))
    seen(card(page, "red").locator(".photo img"), 2)
    page.locator(".class-names input[name=label]").press("Enter")
    card(page, "crimson").wait_for()
    path = page.evaluate("location.hash").split("/")[1]
    [one] = page.request.get(f"/v1/projects/{path}").json()["classes"]
    assert (one["label"], one["name"]) == ("crimson", "deep red")
    page.locator(".project-name").click()
    page.locator(".projects input").fill("Colours")
    before = page.locator(".projects .note").inner_text()
    card(page, "crimson").locator("input[type=file]").set_input_files(photo_files("red", 1, first=9))
    seen(card(page, "crimson").locator(".photo img"), 3)
    assert page.locator(".projects .note").inner_text() == before
    page.locator(".projects input").press("Enter")
    expect(page.locator("h1")).to_contain_text("Colours")


def test_a_photo_is_moved_and_deleted_and_undone(open_page: Any, photo_files: Any) -> None:
    page = open_page()
    add_class(page, "red", [*photo_files("red", 2), *photo_files("blue", 1)])
    add_class(page, "blue")
    page.locator(".photo[aria-label='blue-0.png']").click()
    page.locator("#move-to").select_option(label="blue")
    seen(card(page, "blue").locator(".photo img"), 1)
    assert card(page, "red").locator(".photo").count() == 2
    page.locator(".photo[aria-label='red-1.png']").press("Delete")
    expect(page.locator("article[aria-label=red] .photo")).to_have_count(1)
    page.locator(".toast button").click()
    seen(card(page, "red").locator(".photo img"), 2)


def test_a_photo_that_cannot_be_read_is_named_and_the_others_are_kept(
    open_page: Any, photo_files: Any, tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    page = open_page()
    add_class(page, "red")
    card(page, "red").locator("input[type=file]").set_input_files([*photo_files("red", 2), tmp_path / "broken.png"])
    page.locator(".uploads [role=alert] b").wait_for()
    assert page.locator(".uploads [role=alert] b").all_inner_texts() == ["broken.png"]
    seen(card(page, "red").locator(".photo img"), 2)
    page.get_by_role("button", name="Try again").click()
    page.locator(".uploads [role=alert] b").wait_for()
    page.locator(".uploads").get_by_role("button", name="Close").click()
    page.locator(".uploads").wait_for(state="detached")


def drop(page: Any, target: str, photos: list[Path]) -> None:
    """Drop files, as from a file manager."""
    contents = [(path.name, list(path.read_bytes())) for path in photos]
    transfer = page.evaluate_handle(
        "files => { const all = new DataTransfer(); for (const [name, bytes] of files)"
        " all.items.add(new File([new Uint8Array(bytes)], name, {type: 'image/png'})); return all; }",
        contents,
    )
    page.locator(target).dispatch_event("drop", {"dataTransfer": transfer})


def test_photos_are_dropped_and_pasted(open_page: Any, photo_files: Any) -> None:
    page = open_page()
    add_class(page, "red")
    drop(page, "article", photo_files("red", 2))
    seen(page.locator("article .photo img"), 2)
    page.evaluate(
        "bytes => { const data = new DataTransfer(); data.items.add(new File([new Uint8Array(bytes)], 'pasted.png', {type: 'image/png'}));"
        " dispatchEvent(new ClipboardEvent('paste', {clipboardData: data, cancelable: true})); }",
        list(photo_files("red", 1, first=9)[0].read_bytes()),
    )
    page.locator(".answer .asked img[alt='pasted.png']").wait_for()
    page.locator(".answer .headline", has_text="red").wait_for()


def test_a_folder_of_folders_becomes_classes(open_page: Any, photo_files: Any, tmp_path: Path) -> None:
    photo_files("red", 2)
    photo_files("blue", 3)
    page = open_page()
    page.locator(".new-class input[type=file]").set_input_files(tmp_path / "photos")
    seen(card(page, "red").locator(".photo img"), 2)
    seen(card(page, "blue").locator(".photo img"), 3)


def test_the_camera_teaches_while_its_button_is_pressed_and_answers_live(open_page: Any) -> None:
    page = open_page()
    add_class(page, "desk")
    card(page, "desk").get_by_role("button", name="Camera").click()
    expect(page.locator("video")).to_have_js_property("readyState", 4)
    hold = page.get_by_role("button", name="Hold to record")
    hold.hover()
    page.mouse.down()
    page.locator("article .photo").nth(2).wait_for()
    page.mouse.up()
    page.get_by_role("button", name="Close the camera").click()
    page.locator(".answer").get_by_role("button", name="Camera").click()
    page.locator(".answer .headline", has_text="desk").wait_for()


# ---- the collection --------------------------------------------------------------------------------------------------


def test_not_this_sorts_the_collection_again_and_yes_adds_the_photo(open_page: Any, photo_files: Any) -> None:
    page = open_page()
    add_class(page, "red", photo_files("red", 2))
    add_class(page, "blue", photo_files("blue", 2))
    settled(page)
    collect(
        page, [*photo_files("red", 4, first=20), *photo_files("yellow", 4, first=20), *photo_files("blue", 4, first=20)]
    )
    before = order(page)
    names = page.locator(".is-grid .photo").evaluate_all("photos => photos.map(photo => photo.title)")
    assert all(name.startswith("blue") for name in names[-4:])
    assert page.locator(".is-strip > li").count() == 8
    yellow = page.locator(".is-grid .photo[title^='yellow']").first
    rejected = yellow.locator("xpath=..").get_attribute("data-photo")
    yellow.press("n")
    expect(page.locator(f".is-grid [data-photo='{rejected}']")).to_have_count(0)
    # Not only without it: in another order.
    page.wait_for_function(
        "without => document.querySelectorAll('.is-grid > li').length == without.length &&"
        " [...document.querySelectorAll('.is-grid > li')].some((item, i) => item.dataset.photo != without[i])",
        arg=[photo for photo in before if photo != rejected],
    )
    page.locator(".is-grid .photo").first.press("y")
    expect(page.locator(".is-grid > li")).to_have_count(10)
    page.get_by_role("button", name="Labelled", exact=True).click()
    expect(page.locator(".is-grid > .is-labelled")).to_have_count(2)
    visit(page, "classes")
    seen(card(page, "red").locator(".photo img"), 3)
    seen(card(page, "None of these").locator(".photo img"), 1)


def test_the_collection_is_downloaded_as_csv(open_page: Any, photo_files: Any) -> None:
    page = open_page()
    add_class(page, "red", photo_files("red", 2))
    collect(page, photo_files("red", 3, first=20))
    with page.expect_download() as started:
        page.get_by_role("link", name="CSV").click()
    lines = started.value.path().read_text(encoding="utf-8").splitlines()
    assert len(lines) == 4
    assert "filename" in lines[0]


# ---- how good it is, projects, export ----------------------------------------------------------------------------------


@pytest.mark.parametrize("service", ["pocket"], indirect=True)
def test_how_good_it_is_follows_the_photos(open_page: Any, service: Service) -> None:
    page = open_page()
    textiles = textile_photos()
    for label, photos in textiles.items():
        add_class(page, label, photos[:6])
    visit(page, "quality")
    expect(page.locator(".panel").first).to_contain_text("from 12 photos")
    assert page.locator(".matrix tbody tr").count() == 2
    assert sum(map(int, page.locator(".matrix td:not(:empty)").all_inner_texts())) == 12
    visit(page, "classes")
    card(page, "faultless cloth").locator("input[type=file]").set_input_files(textiles["faultless cloth"][6:8])
    seen(card(page, "faultless cloth").locator(".photo img"), 8)
    visit(page, "quality")
    expect(page.locator(".panel").first).to_contain_text("from 14 photos")


def test_a_wrong_label_is_found_and_the_photo_moved(open_page: Any, photo_files: Any) -> None:
    page = open_page()
    add_class(page, "red", [*photo_files("red", 4), *photo_files("blue", 1, first=70)])
    add_class(page, "blue", photo_files("blue", 5))
    visit(page, "quality")
    wrong = page.locator(".findings li", has_text="Labelled red").first
    wrong.get_by_role("button", name="Move to blue").click()
    visit(page, "classes")
    seen(card(page, "red").locator(".photo img"), 4)
    seen(card(page, "blue").locator(".photo img"), 6)


def test_a_fine_tuned_result_is_compared_and_accepted_until_a_photo_comes(open_page: Any, photo_files: Any) -> None:
    page = open_page()
    add_class(page, "red", photo_files("red", 3))
    add_class(page, "blue", photo_files("blue", 3))
    visit(page, "quality")
    panel = page.locator(".fine-tuning")
    panel.get_by_role("button", name="Fine-tune").focus()
    page.keyboard.press("Enter")
    panel.get_by_role("button", name="Use the fine-tuned result").wait_for()
    expect(panel).to_contain_text("No clear difference: 0 photos became right")
    bars = panel.locator(".bar").evaluate_all("bars => bars.map(bar => bar.ariaLabel)")
    assert [bar.split(":")[0] for bar in bars] == ["Before", "After"]
    page.keyboard.press("Tab")
    panel.get_by_role("button", name="Use the fine-tuned result").press("Enter")
    expect(panel).to_contain_text("The fine-tuned result answers, until photos or classes change.")
    assert method(page) == "tip-adapter-f"
    visit(page, "classes")
    card(page, "red").locator("input[type=file]").set_input_files(photo_files("red", 1, first=60))
    seen(card(page, "red").locator(".photo img"), 4)
    visit(page, "quality")
    expect(panel).to_contain_text("Photos or classes have changed since")
    assert method(page) == "text-offset"


def method(page: Any) -> str:
    answer = page.request.get(f"/v1/projects/{page.evaluate('location.hash').split('/')[1]}")
    return str(answer.json()["settings"]["method"])


def test_a_training_shows_its_progress_and_can_be_cancelled(open_page: Any, photo_files: Any) -> None:
    page = open_page()
    add_class(page, "red", photo_files("red", 2))
    add_class(page, "blue", photo_files("blue", 2))
    settled(page)
    record = page.request.get(f"/v1/projects/{page.evaluate('location.hash').split('/')[1]}").json()
    cancelled = []

    def project(route: Any) -> None:
        record["jobs"]["fine_tuning"] = {"state": "cancelled" if cancelled else "running", "epoch": 30, "epochs": 120}
        route.fulfill(json=record)

    def job(route: Any) -> None:
        cancelled.append(route.request.method)
        route.fulfill(status=204)

    page.route(re.compile(r"/v1/projects/[0-9a-f-]{36}$"), project)
    page.route(re.compile(r"/fine-tune$"), job)
    visit(page, "quality")
    bar = page.get_by_label("Epoch 30 of 120")
    bar.wait_for()
    assert bar.evaluate("bar => bar.position") == 0.25
    page.locator(".fine-tuning").get_by_role("button", name="Cancel").click()
    expect(page.locator(".fine-tuning")).to_contain_text("Cancelled. Nothing has changed.")
    assert cancelled == ["DELETE"]


def test_a_project_is_downloaded_deleted_and_opened_again(open_page: Any, photo_files: Any) -> None:
    page = open_page()
    add_class(page, "red", photo_files("red", 2))
    add_class(page, "blue", photo_files("blue", 2))
    settled(page)
    ask(page, photo_files("red", 1, first=50)[0])
    expect(page.locator(".headline")).to_contain_text("red")
    before = scores(page)
    page.locator(".project-name").click()
    name = page.locator(".projects input")
    name.fill("colours")
    name.press("Tab")
    page.locator("h1", has_text="colours").wait_for()
    with page.expect_download() as started:
        page.get_by_role("link", name="Download").click()
    file = started.value.path()
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Delete the project").click()
    page.locator(".projects .note", has_text="There are none yet").wait_for()
    page.locator("dialog input[type=file]").set_input_files(
        {"name": "colours.zip", "mimeType": "application/zip", "buffer": file.read_bytes()}
    )
    page.locator("h1", has_text="colours").wait_for()
    seen(card(page, "red").locator(".photo img"), 2)
    settled(page)
    ask(page, photo_files("red", 1, first=50)[0])
    expect(page.locator(".headline")).to_contain_text("red")
    assert scores(page) == before


def test_the_lines_of_the_page_run_and_answer_as_the_page_does(
    open_page: Any, photo_files: Any, tmp_path: Path
) -> None:
    page = open_page()
    add_class(page, "red", photo_files("red", 4))
    add_class(page, "blue", photo_files("blue", 4))
    settled(page)
    (photo,) = photo_files("red", 1, first=50)
    visit(page, "use")
    with page.expect_download() as started:
        page.get_by_role("link", name="Model folder").click()
    started.value.save_as(tmp_path / started.value.suggested_filename)
    (tmp_path / "photo.jpg").write_bytes(photo.read_bytes())
    titles = page.locator(".panel:has(pre) h3").all_inner_texts()
    lines = dict(zip(titles, page.locator("pre").all_inner_texts(), strict=True))
    visit(page, "classes")
    ask(page, photo)
    expect(page.locator(".headline")).to_contain_text("red")

    by_shell = run(lines["Command line"] + " --json", tmp_path)
    answered = json.loads(by_shell.splitlines()[0])
    assert answered["label"] == "red"
    assert round(100 * answered["score"], 1) == scores(page)["red"]
    assert run(shlex.join([sys.executable, "-c", lines["Python"]]), tmp_path).strip() == "red"
    by_curl = json.loads(run(lines["curl, from the running service"], tmp_path))["predictions"]
    assert [round(record["score"], 5) for record in by_curl] == [round(answered["score"], 5)]
    run(lines["Sort a folder of photos into folders"], tmp_path)
    assert len(list((tmp_path / "sorted" / "red").iterdir())) >= 4


def run(command: str, folder: Path) -> str:
    """Stdout of lines for a shell, with this interpreter's programs."""
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": programs, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.run(command, shell=True, cwd=folder, env=env, check=True, capture_output=True, text=True).stdout


# ---- everyone, everywhere ----------------------------------------------------------------------------------------------


def taught(page: Any, photo_files: Any) -> None:
    add_class(page, "red", photo_files("red", 3))
    add_class(page, "blue", photo_files("blue", 3))
    ask(page, photo_files("red", 1, first=50)[0])
    page.locator(".headline", has_text="red").wait_for()
    visit(page, "quality")
    page.locator(".fine-tuning button").click()
    page.locator(".fine-tuning .bar").first.wait_for()
    collect(page, photo_files("green", 4))


@pytest.mark.skipif(not AXE.exists(), reason="needs `npm ci --prefix tests/browser`")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(open_page: Any, photo_files: Any, scheme: str) -> None:
    page = open_page(color_scheme=scheme, bypass_csp=True)
    taught(page, photo_files)
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = []
    for view in VIEWS:
        visit(page, view)
        page.wait_for_timeout(500)
        found += page.evaluate("rules => axe.run(document, rules)", RULES)["violations"]
    page.locator(".project-name").click()
    page.locator("dialog[open]").wait_for()
    found += page.evaluate("rules => axe.run(document, rules)", RULES)["violations"]
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []


@pytest.mark.parametrize("locale", ["en-GB", "zh-CN"])
def test_nothing_is_wider_than_a_phone(open_page: Any, photo_files: Any, locale: str) -> None:
    page = open_page(width=390, locale=locale, has_touch=True, is_mobile=True)
    taught(page, photo_files)
    for view in VIEWS:
        visit(page, view)
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, view


def test_the_keyboard_is_enough(open_page: Any, photo_files: Any) -> None:
    page = open_page()
    page.on("filechooser", lambda chooser: chooser.set_files(photo_files("red", 2)))

    def tab_to(selector: str) -> None:
        for _ in range(60):
            if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                return
            page.keyboard.press("Tab")
        pytest.fail(f"Tab does not reach {selector}")

    tab_to("#new-label")
    page.keyboard.type("red")
    page.keyboard.press("Enter")
    card(page, "red").wait_for()
    tab_to("article input[type=file]")
    page.keyboard.press("Enter")
    seen(page.locator("article .photo img"), 2)
    tab_to(".photo")
    page.keyboard.press("Delete")
    expect(page.locator("article .photo")).to_have_count(1)
    page.keyboard.press("Control+z")
    seen(page.locator("article .photo img"), 2)


def test_the_language_is_the_browsers_and_can_be_changed(open_page: Any) -> None:
    page = open_page(locale="zh-CN")
    page.get_by_role("heading", name="要识别什么？").wait_for()
    assert page.evaluate("document.documentElement.lang") == "zh"
    page.select_option("#language", "en")
    page.get_by_role("heading", name="What should it recognise?").wait_for()
    page.reload()
    page.get_by_role("heading", name="What should it recognise?").wait_for()


def test_an_error_is_in_the_language_of_the_page_with_the_services_words(open_page: Any, photo_files: Any) -> None:
    page = open_page(locale="zh-CN")
    add_class(page, "red", photo_files("red", 1))
    visit(page, "quality")
    page.get_by_role("button", name="开始微调").click()
    said = page.locator(".toast div")
    expect(said).to_contain_text("照片太少")
    expect(said.locator("small[lang=en]")).to_contain_text("fewer than two classes have two photos")
    page.select_option("#language", "en")
    expect(said).to_contain_text("fewer than two classes have two photos")
    assert said.locator("small").count() == 0


def test_what_is_undone_is_in_the_language_of_the_page(open_page: Any, photo_files: Any) -> None:
    page = open_page(locale="zh-CN")
    add_class(page, "red", photo_files("red", 1))
    page.get_by_role("button", name="停用 red").click()
    page.locator("article.is-disabled").wait_for()
    page.get_by_role("button", name="删除 red").click()
    card(page, "red").wait_for(state="detached")
    for said in ("已撤销：删除类别 red", "已撤销：停用类别 red", "已撤销：添加照片到 red", "已撤销：添加类别 red"):
        page.locator("body").press("Control+z")
        expect(page.locator(".toast div")).to_have_text(said)


def test_a_project_that_is_deleted_in_another_tab_is_left(open_page: Any, photo_files: Any) -> None:
    page = open_page()
    add_class(page, "red", photo_files("red", 1))
    id = page.evaluate("location.hash").split("/")[1]
    assert page.request.delete(f"/v1/projects/{id}").status == 204
    expect(page.locator(".toast div")).to_contain_text("The project New project was deleted elsewhere.")
    page.get_by_role("heading", name="What should it recognise?").wait_for()
    add_class(page, "blue", photo_files("blue", 1))
    assert id not in page.evaluate("location.hash")


def test_while_nothing_can_be_stored_the_page_says_so_and_goes_on(open_page: Any, photo_files: Any) -> None:
    page = open_page()
    add_class(page, "red")
    problem = {"code": "database_unavailable", "detail": "the database cannot be used"}
    failing = {"status": 503, "content_type": "application/problem+json", "body": json.dumps(problem)}
    page.route("**/examples/*?class_id=*", lambda route: route.fulfill(headers={"retry-after": "1"}, **failing))
    card(page, "red").locator("input[type=file]").set_input_files(photo_files("red", 2))
    expect(page.locator(".notices .is-error")).to_contain_text("cannot store anything at present")
    page.unroute_all(behavior="wait")
    seen(card(page, "red").locator(".photo img"), 2)
    page.locator(".notices .is-error").wait_for(state="detached")


def test_an_empty_file_is_named_in_the_language_of_the_page(open_page: Any, tmp_path: Path) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    page = open_page(locale="zh-CN")
    add_class(page, "red")
    card(page, "red").locator("input[type=file]").set_input_files(tmp_path / "empty.png")
    expect(page.locator(".uploads [role=alert] li")).to_have_text("empty.png: 文件是空的（0 字节）")


@pytest.mark.parametrize("label", ["👩🏽‍🚀" * 20, "קטים ונמרים", "a" * 200])
def test_a_name_of_any_script_and_length_fits(open_page: Any, photo_files: Any, label: str) -> None:
    page = open_page(width=390)
    add_class(page, label, photo_files("red", 1))
    add_class(page, "blue", photo_files("blue", 1))
    ask(page, photo_files("red", 1, first=50)[0])
    expect(page.locator(".headline")).to_contain_text(label)
    for view in VIEWS:
        visit(page, view)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), view


def test_every_text_exists_in_both_languages_and_is_used(open_page: Any) -> None:
    page = open_page()
    keys = page.evaluate(
        "async () => { const {TEXTS} = await import('/static/i18n.js'); return Object.values(TEXTS).map(Object.keys); }"
    )
    assert keys[0] == keys[1]
    folder = ROOT / "src" / "tip_adapter" / "serve" / "page"
    code = "\n".join(path.read_text(encoding="utf-8") for path in folder.glob("*.js") if path.name != "i18n.js")
    in_code = set(re.findall(r"[\"`](\w+)[\"`]", code)) | set(VIEWS)
    families = ("shown_", "export_", "verdict_")  # their keys are composed
    assert [key for key in keys[0] if key not in in_code and not key.startswith(families)] == ["too_large"][:0]


def test_the_service_is_killed_and_nothing_is_lost(open_page: Any, service: Service, photo_files: Any) -> None:
    page = open_page()
    add_class(page, "red", photo_files("red", 2))
    add_class(page, "blue")
    service.kill()
    card(page, "blue").locator("input[type=file]").set_input_files(photo_files("blue", 6))
    page.locator(".notices .is-error").wait_for()
    service.start()
    page.locator(".notices", has_text="The service was restarted").wait_for()
    seen(card(page, "blue").locator(".photo img"), 6)
    seen(card(page, "red").locator(".photo img"), 2)


def test_thousands_of_photos_are_drawn_a_page_at_once(open_page: Any, photo_files: Any) -> None:
    page = open_page()
    add_class(page, "red")
    photos = photo_files("red", 80)
    card(page, "red").locator("input[type=file]").set_input_files(photos)
    card(page, "red").locator(".class-head .note", has_text="80 photos").wait_for()
    assert page.locator(".photo").count() == 12
    page.get_by_role("button", name="Show all 80 photos").click()
    expect(page.locator(".photo")).to_have_count(60)
    page.get_by_role("button", name="Next", exact=True).click()
    expect(page.locator(".photo")).to_have_count(20)
