"""The page of a report: one file that needs nothing else, in which no name can do more than be read."""

from __future__ import annotations

import base64
import io
import re
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from tip_adapter import FewShotClassifier
from tip_adapter.errors import FolderError, NotWritable, OutputExists
from tip_adapter.metrics import MetricAccumulator, accuracy_of
from tip_adapter.report import (
    N_MISTAKES,
    Occasion,
    evaluation_page,
    model_page,
    paths_by_id,
    refuse_unreplaceable,
    training_photos,
    write_page,
)
from tip_adapter.report.charts import MOST_CLASSES, matrix, matrix_classes, tag
from tip_adapter.report.thumbnails import Thumbnails
from tip_adapter.vectors import SupportSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHROMIUM = Path("/usr/bin/chromium")
OCCASION = Occasion(
    "my model", {"name": "toy", "fingerprint": "f" * 64}, "2026-01-02", "tip-adapter evaluate 'my model' x"
)
NASTY = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "a\u202egpj.b",
    "&lt;b&gt; & 'quotes'",
    "x" * 500,
]


class Page(HTMLParser):
    """What a page is made of: its tags with attributes, its text, and tags that were not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]

    @property
    def text(self) -> str:
        return "".join(self.texts)


def vectors_of(labels: list[str], seed: int, noise: float = 0.3) -> SupportSet:
    """Noisy vectors as wide as the toy encoder's, alike within a class."""
    rng = np.random.default_rng(seed)
    width = FewShotClassifier("toy").encoder_.identity.width
    centres = {
        label: np.random.default_rng(number).normal(size=width) for number, label in enumerate(sorted(set(labels)))
    }
    rows = np.stack([centres[label] / 3 + rng.normal(size=width) * noise for label in labels]).astype(np.float32)
    ids = [f"{label[:20]}/{row}.jpg" for row, label in enumerate(labels)]
    return SupportSet(rows / np.sqrt((rows**2).sum(axis=1, keepdims=True)), np.array(labels), np.array(ids))


def pages(classes: list[str], shots: int = 3, noise: float = 0.3, method: str = "tip-adapter") -> dict[str, str]:
    """Both pages of a model of these classes, without photos to be found."""
    labels = [label for label in classes for _ in range(shots)]
    model = FewShotClassifier("toy", method).fit_support(vectors_of(labels, 0, noise), classes)
    tally = model.head_.new_accumulator(N_MISTAKES)
    model.head_.count(vectors_of(labels, 1, noise), tally)
    record = {**model.head_.evaluated(tally), "n_failed": 0}
    return {
        "evaluation": evaluation_page(model.head_, record, tally, OCCASION, {}, {}),
        "model": model_page(model.head_, OCCASION, {}),
    }


@pytest.fixture(scope="module", params=["evaluation", "model"])
def page(request: pytest.FixtureRequest) -> str:
    return pages(["ant", "bee", "cat"], noise=1.0)[request.param]


# ---- one file that needs nothing else --------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_page_asks_for_nothing(page: str) -> None:
    assert not re.search(r"https?:|//\w|@import|<script|<link|<iframe|javascript:", page)
    assert re.findall(r"url\((?!data:)", page) == []
    assert all((image["src"] or "").startswith("data:") for image in Page(page).all("img"))


def test_a_page_forbids_itself_everything_but_its_own_style_and_pictures(page: str) -> None:
    policies = [meta["content"] for meta in Page(page).all("meta") if meta.get("http-equiv")]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]


def test_every_tag_is_closed_and_every_link_leads_somewhere(page: str) -> None:
    parsed = Page(page)
    assert parsed.open == []
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {link["href"] for link in parsed.all("a")} <= {f"#{anchor}" for anchor in ids}
    assert {attributes["aria-labelledby"] for attributes in parsed.all("section")} <= set(ids)


def test_headings_go_down_one_step_at_a_time_and_tables_have_scopes(page: str) -> None:
    parsed = Page(page)
    levels = [int(name[1]) for name, _ in parsed.tags if re.fullmatch(r"h\d", name)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(cell.get("scope") in ("col", "row") for cell in parsed.all("th"))
    assert len(parsed.all("caption")) == len(parsed.all("table"))
    assert all("alt" in image for image in parsed.all("img"))


# ---- what it says ----------------------------------------------------------------------------------------------------


def test_an_evaluation_says_accuracy_names_alone_calibration_and_how_it_was_made() -> None:
    text = Page(pages(["ant", "bee", "cat"], noise=1.0)["evaluation"]).text
    for said in (
        "95 % interval",
        "zero-shot",
        "Expected calibration error",
        "Negative log-likelihood",
        "Worst mistakes",
        "leave-one-out",
        "tip-adapter evaluate 'my model' x",
        "2026-01-02",
    ):
        assert said in text


def test_a_model_says_how_right_it_is_when_each_photo_is_left_out() -> None:
    text = Page(pages(["ant", "bee", "cat"], noise=1.0)["model"]).text
    assert "leave-one-out accuracy" in text
    assert "Possible label errors" in text


@pytest.mark.slow
@pytest.mark.parametrize("method", ["zero-shot", "tip-adapter-f"])
def test_every_method_has_its_pages(method: str) -> None:
    both = pages(["ant", "bee"], noise=1.0, method=method)
    assert all(f"<dd>{method}</dd>" in page for page in both.values())


def test_a_model_that_has_nothing_to_leave_out_says_so() -> None:
    page = pages(["ant", "bee"], shots=1)["model"]
    assert "Its accuracy is unknown" in page
    assert Page(page).open == []


def test_a_perfect_evaluation_has_no_mistakes_to_show() -> None:
    text = Page(pages(["ant", "bee"], noise=0.01)["evaluation"]).text
    assert text.count("None: every photo was classified correctly.") == 2


def test_a_mistake_tells_what_spoke_for_the_answer_and_for_its_own_class() -> None:
    page = pages(["ant", "bee", "cat"], shots=5, noise=1.0)["evaluation"]
    mistake = page.split('<li class="mistake">')[1]
    called, label = re.findall(r'>(?:predicted|true class) <em dir="auto">(\w+)</em>', mistake)
    assert called != label
    text = re.sub("<[^>]*>", "", mistake)
    assert f"class name {called}" in text
    assert f"class name {label}" in text
    assert text.count("2 other photos") == 2


def evaluation_of(model: FewShotClassifier, photos: SupportSet) -> str:
    tally = model.head_.new_accumulator(N_MISTAKES)
    model.head_.count(photos, tally)
    return evaluation_page(model.head_, {**model.head_.evaluated(tally), "n_failed": 0}, tally, OCCASION, {}, {})


def section_of(page: str, name: str) -> str:
    """The text of a section, in one line."""
    content = page.partition(f'<section id="{name}"')[2].partition("</section>")[0]
    return " ".join(" ".join(Page(f"<p {content}</p>").texts).split())


def test_photos_of_unknown_classes_have_a_section_of_their_own() -> None:
    classes = ["ant", "bee", "cat"]
    model = FewShotClassifier("toy").fit_support(vectors_of(classes * 5, 0, noise=0.5), classes)
    page = evaluation_of(model, vectors_of([*classes * 5, *["cow"] * 9, *["pig"] * 8], 1, noise=0.5))
    for section in ("confusions", "classes", "mistakes"):
        assert not re.search("cow|pig", section_of(page, section)), section
    said = section_of(page, "unknown")
    assert "17 photos are of 2 classes that the model does not have" in said
    threshold = f"{100 * model.head_.left_out.threshold:.1f} %"
    refused = re.search(
        rf"“none of these” below {threshold}: this refuses (\d+) of them, and \d+ of the 15 photos", said
    )
    by_class = re.findall(r"(?:cow|pig) \d .*? (\d) of [89]\b", said)
    assert refused is not None
    assert len(by_class) == 2
    assert int(refused[1]) == sum(map(int, by_class))
    assert len(re.findall(r"(?:cow|pig)/\d+\.jpg", said)) == N_MISTAKES
    assert 'href="#unknown"' in page
    assert Page(page).open == []


def test_unknown_classes_are_no_mistakes_of_a_model_that_makes_none() -> None:
    model = FewShotClassifier("toy").fit_support(vectors_of(["ant", "ant", "bee", "bee"], 0, 0.01), ["ant", "bee"])
    page = evaluation_of(model, vectors_of(["ant", "bee", "cow"], 1, 0.01))
    assert section_of(page, "mistakes").endswith("None: every photo of the model's classes was classified correctly.")


def test_a_test_of_unknown_classes_only_says_so() -> None:
    model = FewShotClassifier("toy").fit_support(vectors_of(["ant", "bee"], 0), ["ant", "bee"])
    page = evaluation_of(model, vectors_of(["cow"], 1))
    assert section_of(page, "mistakes").endswith("No photo is of the model's classes.")
    assert "1 photo is of 1 class that the model does not have" in section_of(page, "unknown")
    assert "no threshold of its own" in section_of(page, "unknown")
    assert {link["href"] for link in Page(page).all("a")} == {"#calibration", "#unknown", "#mistakes", "#made"}


def test_without_unknown_classes_there_is_no_such_section() -> None:
    assert 'id="unknown"' not in pages(["ant", "bee"], noise=1.0)["evaluation"]


@pytest.mark.parametrize(("temperature", "n_notes"), [(10.0, 1), (1.0, 0)])
def test_a_calibration_error_that_the_temperature_raises_is_reported(temperature: float, n_notes: int) -> None:
    support = vectors_of(["ant", "bee"], 0)
    head = FewShotClassifier("toy").fit_support(support, ["ant", "bee"]).head_
    tally = MetricAccumulator(np.array(["ant", "bee"]), temperature)
    logits = 9 * np.eye(2)
    tally.add(support, logits, logits)
    page = evaluation_page(head, {"unknown_classes": [], "n_failed": 0}, tally, OCCASION, {}, {})
    assert page.count("it increases the calibration error") == n_notes


def test_the_matrix_names_its_columns_and_counts_where_there_is_room() -> None:
    few = accuracy_of(np.array(["ant", "ant", "bee"]), np.array(["ant", "bee", "bee"]))
    texts = Page(matrix(few)).texts
    assert texts.count("ant") == texts.count("bee") == 2
    assert texts.count("1") == 3
    labels = np.array([f"c{number}" for number in range(100)])
    assert "1" not in Page(matrix(accuracy_of(labels, labels))).texts


@pytest.mark.slow
def test_two_classes_and_a_thousand_make_a_page_of_reasonable_size() -> None:
    few = pages(["ant", "bee"], noise=1.0)
    many = pages([f"class {number}" for number in range(1000)], shots=2, noise=1.0)
    assert all(len(page) < 100_000 for page in few.values())
    assert all(100_000 < len(page) < 5_000_000 for page in many.values())
    assert f"Only the {MOST_CLASSES} classes with the most mistakes" in many["evaluation"]


def test_the_matrix_shows_the_classes_with_most_mistakes() -> None:
    labels = np.array([f"{number:04}" for number in range(500)])
    called = labels.copy()
    called[300], called[400] = "0007", "0007"
    shown = matrix_classes(accuracy_of(labels, called))
    assert len(shown) == MOST_CLASSES
    assert {"0300", "0400", "0007"} <= set(shown)
    assert "0300 predicted as 0007: 1 of 1" in matrix(accuracy_of(labels, called))


# ---- names are only ever read ----------------------------------------------------------------------------------------


def test_fault_34_a_name_is_text_wherever_it_stands() -> None:
    for page in pages(NASTY, noise=1.0).values():
        parsed = Page(page)
        assert {name for name, _ in parsed.tags} & {"script", "img", "iframe"} == set()
        assert not any(key.startswith("on") for _, attributes in parsed.tags for key in attributes)
        assert "\u202e" not in page
        assert "a\\u202egpj.b" in parsed.text
        assert parsed.open == []


def test_fault_34_text_in_a_chart_is_escaped() -> None:
    assert tag("text", "<b>", class_='"x') == '<text class="&#34;x">&lt;b&gt;</text>'
    assert tag("g", tag("text", "a\u202eb"), None) == "<g><text>a\\u202eb</text></g>"
    assert tag("rect", x=1) == '<rect x="1"/>'


def test_names_next_to_the_matrix_are_cut_to_one_width_in_any_script() -> None:
    labels = np.array(["x" * 30, "字" * 30, "W" * 30, "x" * 24, "字" * 15])
    texts = Page(matrix(accuracy_of(labels, labels))).texts
    shown = {text for text in texts if len(text) > 1 and "correct" not in text}
    assert shown == {"x" * 23 + "…", "字" * 14 + "…", "W" * 14 + "…", "x" * 24, "字" * 15}


def test_a_long_name_is_shortened_and_whole_in_its_tooltip() -> None:
    page = pages(["y" * 100, "bee"], noise=1.0)["model"]
    assert f'<span dir="auto" title="{"y" * 100}">{"y" * 59}…</span>' in page


# ---- photos ----------------------------------------------------------------------------------------------------------


def test_a_thumbnail_is_a_small_jpeg(make_photos: Callable[..., Path]) -> None:
    photos = paths_by_id(make_photos("photos", red=1, blue=1), part="train")
    with Thumbnails(photos) as thumbnails:
        uri = thumbnails.uri(str(Path("red", "0.png")), 24)
    assert uri is not None
    kind, _, content = uri.partition(",")
    assert kind == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(content))) as image:
        assert (image.format, max(image.size)) == ("JPEG", 24)


def test_a_photo_that_was_not_named_by_the_user_is_never_read(tmp_path: Path, paint: Callable[..., Any]) -> None:
    paint("red").save(tmp_path / "secret.png")
    with Thumbnails({}) as thumbnails:
        assert thumbnails.uri(str(tmp_path / "secret.png"), 24) is None


def test_a_photo_that_cannot_be_read_has_no_thumbnail(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no photo")
    with Thumbnails({"a.png": tmp_path / "a.png"}) as thumbnails:
        assert thumbnails.uri("a.png", 24) is None


@pytest.mark.parametrize(
    ("photo", "place", "found"),
    [
        ("cat/1.jpg", "photos", "photos/cat/1.jpg"),  # fit on class folders
        ("cat/1.jpg", "photos/cat", "photos/cat/1.jpg"),
        ("split/train/cat/1.jpg", "split", "split/train/cat/1.jpg"),
        ("cat/1.jpg", "split", "split/train/cat/1.jpg"),
        ("more/2.jpg", "more", "more/2.jpg"),  # add, relative to the folder above
        ("./more/2.jpg", "more", "more/2.jpg"),
        ("../more/2.jpg", "more", "more/2.jpg"),
        ("../../elsewhere/more/2.jpg", "more", "more/2.jpg"),
        ("2.jpg", "more", "more/2.jpg"),  # add, in the folder itself
        ("../2.jpg", "more", "more/2.jpg"),
        ("/old/disk/more/2.jpg", "more", "more/2.jpg"),  # moved
        ("{}/more/2.jpg", "more", "more/2.jpg"),  # an absolute path
        ("more/deep/3.jpg", "more", "more/deep/3.jpg"),
        ("more/deep/3.jpg", "more/deep", "more/deep/3.jpg"),
        ("{}/photos/dog/1.jpg", "photos/dog", "photos/dog/1.jpg"),
        ("other/2.jpg", "more", None),  # another folder's photo of that name
        ("B/cat/1.jpg", "photos", None),
        ("3.jpg", "more", None),
        ("", "more", None),
        ("more", "more", None),
    ],
)
def test_a_photo_is_found_by_its_path_as_it_was_typed(
    tmp_path: Path, photo: str, place: str, found: str | None
) -> None:
    for path in (
        *("photos/cat/1.jpg", "photos/dog/1.jpg", "more/2.jpg", "more/deep/3.jpg"),
        *("split/train/cat/1.jpg", "split/train/dog/1.jpg", "split/test/cat/4.jpg"),
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"")
    photo = photo.format(tmp_path)
    assert training_photos([tmp_path / place], [photo]) == ({photo: tmp_path / found} if found else {})


def test_photos_are_found_from_a_working_directory_in_the_folder(
    tmp_path: Path, paint: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "more").mkdir()
    paint("red").save(tmp_path / "more" / "2.png")
    monkeypatch.chdir(tmp_path / "more")
    for place in (".", "../more", tmp_path / "more"):
        found = training_photos([Path(place)], ["more/2.png", "2.png"])
        assert {name: path.resolve() for name, path in found.items()} == dict.fromkeys(
            ["more/2.png", "2.png"], tmp_path / "more" / "2.png"
        )


def test_of_two_folders_with_a_photo_of_one_id_the_first_is_used(make_photos: Callable[..., Path]) -> None:
    first, second = make_photos("first", red=1, blue=1), make_photos("second", red=2, blue=2)
    ids = ["red/0.png", "red/1.png"]
    assert training_photos([first, second], ids) == {ids[0]: first / ids[0], ids[1]: second / ids[1]}
    assert training_photos([], ids) == {}


@pytest.mark.parametrize(("place", "reason"), [("absent", "neither a folder nor a list"), ("empty", "holds no photos")])
def test_a_place_without_photos_is_refused(tmp_path: Path, place: str, reason: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FolderError, match=reason):
        training_photos([tmp_path / place], ["1.jpg"])


def test_photos_of_a_model_that_are_not_found_are_named(make_photos: Callable[..., Path]) -> None:
    photos = make_photos("photos", red=2, blue=2)
    ids = [*(f"red/{number}.png" for number in range(6)), "blue/0.png", "blue/1.png"]
    support = vectors_of(["red"] * 6 + ["blue"] * 2, 0)
    model = FewShotClassifier("toy").fit_support(SupportSet(support.vectors, support.labels, np.array(ids)))
    page = model_page(model.head_, OCCASION, training_photos([photos], ids))
    assert page.partition('<section id="photos"')[2].partition("</section>")[0].count("<img ") == 4
    assert "Not shown: red/2.png, red/3.png, red/4.png and 1 more" in section_of(page, "photos").replace(" ,", ",")
    assert section_of(page, "photos").count("Not shown") == 1


# ---- where it is written ---------------------------------------------------------------------------------------------


def test_a_report_is_written_and_written_again(page: str, tmp_path: Path) -> None:
    assert write_page(tmp_path / "new" / "report", page).read_text(encoding="utf-8") == page
    assert (
        write_page(tmp_path / "new" / "report", page + "<!-- again -->")
        .read_text(encoding="utf-8")
        .endswith("again -->")
    )


@pytest.mark.parametrize("name", ["photo.jpg", "index.html"])
def test_what_is_no_report_is_left_alone_unless_forced(page: str, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("<!doctype html><p>mine")
    with pytest.raises(OutputExists, match="holds no report; choose another place, or pass force=True"):
        write_page(tmp_path, page)
    assert (tmp_path / name).read_text() == "<!doctype html><p>mine"
    write_page(tmp_path, page, force=True)
    assert (tmp_path / "index.html").read_text(encoding="utf-8") == page
    assert (tmp_path / "photo.jpg").exists() == (name == "photo.jpg")


def test_a_file_in_the_place_of_the_folder_is_refused(page: str, tmp_path: Path) -> None:
    (tmp_path / "report").write_text("mine")
    with pytest.raises(OutputExists):
        refuse_unreplaceable(tmp_path / "report")
    with pytest.raises(NotWritable):
        write_page(tmp_path / "report", page, force=True)


WRITE = """
import sys
from pathlib import Path
from tip_adapter.report import refuse_unreplaceable, write_page

root, page, who = Path(sys.argv[1]), Path(sys.argv[2]).read_text(encoding="utf-8"), sys.argv[3]
print("begun", flush=True)
for line in sys.stdin:
    refuse_unreplaceable(root / line.strip())
    print(write_page(root / line.strip(), f"{page}<!-- {who} -->"), flush=True)
"""


def test_fault_84_two_processes_that_write_one_report_folder_both_succeed(page: str, tmp_path: Path) -> None:
    (tmp_path / "page").write_text(page, encoding="utf-8")
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", WRITE, tmp_path, tmp_path / "page", who],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )
        for who in "ab"
    ]
    for run in runs:
        assert run.stdout.readline() == "begun\n"
    for number in range(15):
        for run in runs:
            run.stdin.write(f"report {number}\n")
            run.stdin.flush()
        for run in runs:
            assert run.stdout.readline() == f"{tmp_path / f'report {number}' / 'index.html'}\n"
        written = (tmp_path / f"report {number}" / "index.html").read_text(encoding="utf-8")
        assert written in [f"{page}<!-- {who} -->" for who in "ab"]
        assert [path.name for path in (tmp_path / f"report {number}").iterdir()] == ["index.html"]
    for run in runs:
        run.communicate(timeout=60)
        assert run.returncode == 0


def test_fault_84_what_another_run_is_writing_is_no_reason_to_refuse_the_folder(page: str, tmp_path: Path) -> None:
    (tmp_path / f".tip-adapter-{'0' * 32}.new").write_text(page[:100])
    assert write_page(tmp_path, page).read_text(encoding="utf-8") == page
    (tmp_path / "index.html").unlink()
    (tmp_path / ".tip-adapter-mine.new").write_text("mine")
    with pytest.raises(OutputExists):
        write_page(tmp_path, page)


# ---- in a browser ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not CHROMIUM.exists():
        pytest.skip("no Chromium here")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as program:
        chromium = program.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("kind", ["evaluation", "model"])
def test_fault_34_a_browser_without_network_shows_it_and_runs_nothing(
    browser: Any, tmp_path: Path, kind: str, width: int
) -> None:
    path = write_page(tmp_path / "report", pages([*NASTY, "ant"], noise=1.0)[kind])
    context = browser.new_context(viewport={"width": width, "height": 900}, offline=True)
    shown = context.new_page()
    requested: list[str] = []
    said: list[str] = []
    shown.on("request", lambda request: requested.append(request.url))
    shown.on("console", lambda message: said.append(message.text))
    shown.on("pageerror", lambda error: said.append(str(error)))
    shown.on("dialog", lambda dialog: said.append(dialog.message))
    shown.goto(path.as_uri())
    assert [url for url in requested if not url.startswith("data:")] == [path.as_uri()]
    assert said == []
    assert shown.locator("h1").inner_text() == "my model"
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    context.close()


#: What is wider than the box around it, of what is not scrolled and not drawn.
STICKING_OUT = """() => [...document.querySelectorAll("header *, main *, footer *")].filter(element =>
    !element.closest("svg, .wide, .unseen") && getComputedStyle(element).display !== "inline"
    && element.scrollWidth > element.clientWidth + 1).map(element => element.outerHTML.slice(0, 80))"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:3 class names are in a script")
@pytest.mark.parametrize("width", [320, 390, 769, 1280])
@pytest.mark.parametrize(
    ("classes", "noise"),
    [
        ([*"abcdefgh"], 0.01),
        ([f"class {number}" for number in range(60)], 1.0),
        (["a very long class name " * 4, "y" * 100, "short"], 1.0),
        (["咖啡杯", "雨伞", "钥匙" * 12], 1.0),
    ],
)
def test_nothing_sticks_out_and_what_is_scrolled_reaches_its_last_column(
    browser: Any, tmp_path: Path, classes: list[str], noise: float, width: int
) -> None:
    for kind, page in pages(classes, noise=noise).items():
        shown = browser.new_page(viewport={"width": width, "height": 900})
        shown.goto(write_page(tmp_path / kind, page).as_uri())
        assert shown.evaluate(STICKING_OUT) == []
        assert shown.evaluate("document.documentElement.scrollWidth") <= width
        for region in shown.locator(".wide:visible").all():
            region.evaluate("region => region.scrollLeft = region.scrollWidth")
            content = region.evaluate(
                "region => [region, region.firstElementChild].map(box => box.getBoundingClientRect().right)"
            )
            assert content[1] <= content[0] + 1
        shown.close()


@pytest.mark.slow
def test_a_shadow_says_where_a_wide_matrix_goes_on(browser: Any, tmp_path: Path) -> None:
    page = pages([f"class {number}" for number in range(60)], noise=1.0)["evaluation"]
    shown = browser.new_page(viewport={"width": 390, "height": 900})
    shown.goto(write_page(tmp_path, page).as_uri())
    matrix_region = shown.locator("#confusions .wide").first

    def edges() -> tuple[bool, bool]:
        """Whether the left and the right edge are darker than the page, in a row of pixels above the names of columns."""
        with Image.open(io.BytesIO(matrix_region.screenshot())) as image:
            row = np.asarray(image.convert("L").crop((0, 1, image.width, 2)))[0]
        return bool(row[0] < row[row.size // 2] - 20), bool(row[-1] < row[row.size // 2] - 20)

    assert edges() == (False, True)
    matrix_region.evaluate("region => region.scrollLeft = 100")
    assert edges() == (True, True)
    matrix_region.evaluate("region => region.scrollLeft = region.scrollWidth")
    assert edges() == (True, False)
    shown.close()
