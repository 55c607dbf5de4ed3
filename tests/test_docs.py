"""The documentation is tested: figures are rendered from results, commands and examples run, links resolve."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tip_adapter import FewShotClassifier, errors
from tip_adapter.encoders.onnx.catalogue import named_clips
from tip_adapter.encoders.pocket.encoder import PocketEncoder
from tip_adapter.paper.reproduce import parse_request

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
METHOD_PACKAGE = ROOT / "tests" / "method_package"
sys.path[:0] = [str(ROOT), str(DOCS)]

import codes  # noqa: E402 - next to the pages
import docstrings  # noqa: E402
import navigation  # noqa: E402
import steps  # noqa: E402
from benchmarks import claims_page, photos, render, results  # noqa: E402 - benchmarks/ is next to src/

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from PIL import Image

    from fake_hub import FakeHub

TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in steps.PAGES}
#: Their requests need a running service: tests of their own follow them.
SERVICE, LIBRARY = "docs/how-to/web-service.md", "docs/how-to/tag-library.md"
WITH_CONSOLES = [name for name, text in TEXTS.items() if "```console" in text]
WITH_STEPS = [
    name
    for name, text in TEXTS.items()
    if name not in (*WITH_CONSOLES, SERVICE, LIBRARY) and (steps.commands(text) or "```python" in text)
]

#: Page → packages without which it is skipped.
NEEDS = {
    "docs/how-to/cluster.md": ("ray",),
    "docs/how-to/very-many.md": ("pyarrow", "duckdb", "polars", "pandas"),
    "docs/how-to/fastapi.md": ("fastapi", "httpx", "python_multipart"),
    SERVICE: ("fastapi", "httpx", "pydantic_settings", "python_multipart", "sqlalchemy", "uvicorn"),
    LIBRARY: ("fastapi", "httpx", "pydantic_settings", "python_multipart", "sqlalchemy", "uvicorn"),
}


# ---- figures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", render.PAGES)
def test_a_page_of_results_is_its_results_rendered_again(name: str) -> None:
    assert (render.RESULTS / f"{name}.md").read_text(encoding="utf-8") == render.render(name)


def test_every_page_of_results_and_every_results_file_is_rendered() -> None:
    assert {path.stem for path in render.RESULTS.glob("*.md")} - {"index"} == set(render.PAGES)
    assert {path.stem for path in render.RESULTS.glob("*.json")} == set(render.PAGES)


@pytest.mark.parametrize("name", render.PICTURES)
def test_a_picture_of_results_is_its_results_rendered_again(name: str) -> None:
    drawn = render.PICTURES[name](render.read(name))
    assert (render.RESULTS / f"{name}.svg").read_text(encoding="utf-8") == drawn


def test_the_accuracies_that_the_demo_shows_are_the_results_rendered_again() -> None:
    assert render.SHIPPED.read_text(encoding="utf-8") == render.shipped()


@pytest.mark.parametrize("name", render.READMES)
def test_the_figures_in_a_readme_is_the_results_rendered_again(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert render.with_measured(text, name) == text
    assert len(re.findall(r"\d %", text.partition("\n## ")[0])) == 1
    assert text.partition("\n## ")[0].count("![") == 1


def test_the_front_page_of_the_results_is_the_results_rendered_again() -> None:
    text = render.FRONT.read_text(encoding="utf-8")
    assert render.with_front(text) == text


@pytest.mark.parametrize("name", render.PAGES)
def test_make_results_runs_the_command_that_a_results_file_names(name: str) -> None:
    (step,) = (step for step in results.STEPS if name in step.names)
    assert render.read(name)["command"] == f"python -m {step.arguments}"


def test_make_results_measures_only_what_is_not_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    monkeypatch.setattr(photos, "RESULTS", tmp_path)
    assert not any(step.complete for step in results.STEPS)
    done: list[dict[str, str]] = []
    for run in photos.RUNS:
        assert photos.not_run(done)[0] == run
        (tmp_path / "photos.json").write_text(json.dumps({"runs": done}), encoding="utf-8")
        assert not results.STEPS[-1].complete
        done.append({"command": run.command})
    for name in render.PAGES:
        (tmp_path / f"{name}.json").write_text(json.dumps({"runs": done}), encoding="utf-8")
    assert all(step.complete for step in results.STEPS)


def test_make_results_runs_what_is_missing_and_says_how_long_it_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[list[str]] = []
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    monkeypatch.setattr(results, "STEPS", results.STEPS[:3])
    monkeypatch.setattr(results.subprocess, "run", lambda command, **_: ran.append(command[1:]))
    monkeypatch.setattr(results.render, "main", lambda: None)
    monkeypatch.setenv("TIP_ADAPTER_DATA", "photos")
    monkeypatch.delenv("TIP_ADAPTER_VECTORS", raising=False)
    with pytest.raises(SystemExit, match=r"^TIP_ADAPTER_VECTORS: not set"):
        results.main()
    monkeypatch.setenv("TIP_ADAPTER_VECTORS", "vectors")
    (tmp_path / "demo.json").touch()
    results.main()
    first, second, third, last = capsys.readouterr().out.splitlines()
    assert ran == [
        ["-m", "benchmarks.equations", "--vectors", "vectors"],
        ["-m", "benchmarks.caltech101", "--data-root", "photos"],
    ]
    assert second == "demo: stored"
    for line, name in ((first, "equations"), (third, "caltech101"), (last, "this took")):
        assert re.search(rf"\b{name}\b.* 0\.0 minutes$", line)


@pytest.mark.parametrize("run", photos.RUNS, ids=lambda run: run.command)
def test_a_run_on_photos_asks_for_what_its_command_does(run: photos.Run) -> None:
    words = shlex.split(run.command)
    options = dict(zip(words[3::2], words[4::2], strict=True))
    asked = {axis: options[option] for axis, option in photos.OPTIONS.items() if option in options}
    assert parse_request(words[2], asked) == parse_request(run.experiment, run.words)


PAPERS = ("zero-shot", "clip-adapter", "tip-adapter", "tip-adapter-f")


@pytest.mark.parametrize(
    ("check", "experiment", "field", "values", "holds"),
    [
        (claims_page.fewer_epochs, "figure5", "accuracy", {"tip-adapter-f": 0.8, "clip-adapter": 0.7}, True),
        (claims_page.fewer_epochs, "figure5", "accuracy", {"tip-adapter-f": 0.7, "clip-adapter": 0.8}, False),
        (claims_page.fewer_epochs, "figure5", "accuracy", {"tip-adapter-f": 0.7}, None),
        (claims_page.adapter_costs_little, "table1", "inference_ms", {"zero-shot": 100.0, "tip-adapter": 102.9}, True),
        (claims_page.adapter_costs_little, "table1", "inference_ms", {"zero-shot": 100.0, "tip-adapter": 103.1}, False),
        (claims_page.adapter_costs_little, "table1", "inference_ms", {"zero-shot": 100.0}, None),
        (claims_page.keys_are_the_part, "table6", "accuracy", {("", "keys"): 0.9, ("", "values"): 0.8}, True),
        (claims_page.keys_are_the_part, "table6", "accuracy", {("", "keys"): 0.8, ("", "values"): 0.9}, False),
        (claims_page.keys_are_the_part, "table1", "accuracy", {("", "keys"): 0.9}, None),
        (claims_page.order_holds, "table3", "accuracy", dict(zip(PAPERS, (0.5, 0.6, 0.55, 0.7), strict=True)), True),
        (claims_page.order_holds, "table3", "accuracy", dict(zip(PAPERS, (0.5, 0.8, 0.55, 0.7), strict=True)), False),
        (claims_page.order_holds, "table3", "accuracy", dict(zip(PAPERS[:3], (0.5, 0.8, 0.55), strict=True)), None),
    ],
)
def test_a_claim_of_the_paper_holds_by_its_numbers(
    check: Callable[[claims_page.Set], tuple[bool, str] | None],
    experiment: str,
    field: str,
    values: dict[Any, float],
    holds: bool | None,
) -> None:
    rows = [
        {"experiment": experiment, "method": name[0] or "tip-adapter-f", "variant": name[1], "shots": 16, field: value}
        for name, value in ((key if isinstance(key, tuple) else (key, ""), value) for key, value in values.items())
    ]
    outcome = check(claims_page.Set("", [{"protocol": "leave-one-out", **row} for row in rows]))
    assert (outcome[0] if outcome else None) == holds


@pytest.mark.parametrize(("tip", "holds"), [(1.0, True), (3.0, False)])
def test_prompts_matter_less_if_the_methods_gain_less_in_order(tip: float, holds: bool) -> None:
    gains = {"zero-shot": 2.0, "tip-adapter": tip, "tip-adapter-f": 0.5}
    rows = [
        {"experiment": "figure6", "method": method, "variant": variant, "protocol": "leave-one-out", "accuracy": value}
        for method, gain in gains.items()
        for variant, value in (("single prompt", 0.5), ("ensemble", 0.5 + gain / 100))
    ]
    outcome = claims_page.prompts_matter_less(claims_page.Set("", rows))
    assert outcome
    assert outcome[0] == holds


# ---- steps -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def own_method(installed: Callable[[Path], Path]) -> Path:
    """Where the package with the guide's method is installed."""
    return installed(METHOD_PACKAGE)


@pytest.fixture
def home(
    tmp_path: Path,
    own_method: Path,
    make_photos: Callable[..., Path],
    clip_folder: Callable[..., Path],
    hub: FakeHub,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """The working folder of a reader who follows a page: training, validation, test and new photos, a CLIP, a method."""
    monkeypatch.syspath_prepend(own_method)
    clip_folder().rename(tmp_path / "my-clip")
    for name in ("photos", "照片"):
        make_photos(name, cat=3, dog=3)
    for name in ("val-photos", "test-photos", "测试照片"):
        make_photos(name, 10, cat=1, dog=1)
    for name in ("more-photos", "更多照片"):
        make_photos(f"{name}/some", blue=1)
    make_photos(".", rabbits=2)
    for name in ("new.jpg", "新照片.jpg"):
        (tmp_path / name).write_bytes((tmp_path / "rabbits" / "0.png").read_bytes())
    lay_out_dtd(tmp_path / "data" / "dtd")
    np.savez(tmp_path / "vectors.npz", **vector_file())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("webbrowser.open", lambda url: True)
    return tmp_path


def some_vectors() -> dict[str, Any]:
    """The variables that README's example with vectors uses."""
    rng = np.random.default_rng(0)
    vectors = {"X": rng.random((4, 8)), "X_new": rng.random((2, 8)), "text_vectors": rng.random((2, 8))}
    return {**vectors, "y": ["cat", "cat", "dog", "dog"], "labels": ["cat", "dog"]}


def vector_file() -> dict[str, Any]:
    """The arrays of a file of vectors of three classes: sixteen training photos each, four for validation, eight for test."""
    rng = np.random.default_rng(0)
    centres, labels = rng.standard_normal((3, 16)), np.repeat(["cat", "dog", "owl"], 28)
    return {
        "ids": np.arange(84).astype(str),
        "vectors": np.repeat(centres, 28, axis=0) + 1.5 * rng.standard_normal((84, 16)),
        "labels": labels,
        "part": np.tile(np.repeat(["train", "val", "test"], [16, 4, 8]), 3),
        "class_labels": np.unique(labels),
        "class_embeddings": centres + rng.standard_normal((3, 16)),
    }


def lay_out_dtd(folder: Path) -> None:
    """The smallest of the paper's data sets with empty files; checking it opens no photo."""
    parts = {"train": 60, "val": 24, "test": 36}
    split = {
        part: [[f"{number}/{part}_{photo}.jpg", number, str(number)] for number in range(47) for photo in range(count)]
        for part, count in parts.items()
    }
    for number in range(47):
        (folder / "images" / str(number)).mkdir(parents=True)
    for path in [entry[0] for entries in split.values() for entry in entries]:
        (folder / "images" / path).touch()
    (folder / "split_zhou_DescribableTextures.json").write_text(json.dumps(split), encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    # In the group of the tests of clusters: one on a machine.
    [
        pytest.param(name, marks=[pytest.mark.xdist_group("ray")] * ("ray" in NEEDS.get(name, ())))
        for name in WITH_STEPS
    ],
)
def test_the_commands_and_code_of_a_page_run(name: str, home: Path) -> None:
    for package in NEEDS.get(name, ()):
        pytest.importorskip(package)
    if "how-to/" in name:  # guides begin with a model
        steps.run("tip-adapter fit photos --out model")
    steps.follow(TEXTS[name], some_vectors())


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_CONSOLES)
def test_a_console_block_shows_what_its_commands_print(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shown, printed = TEXTS[name], steps.follow(TEXTS[name], {})
    assert words(printed) == words(shown), "run: python docs/steps.py"
    np.testing.assert_allclose(percentages(printed), percentages(shown), atol=3)  # machines round differently


def words(page: str) -> str:
    """Its words; figures as #, since times differ."""
    return re.sub(r"\s+", " ", re.sub(r"\d[\d.,]*", "#", page))


def percentages(page: str) -> list[float]:
    return [float(figure) for figure in re.findall(r"([\d.]+) %", page)]


def test_the_guide_to_a_method_shows_the_files_of_the_package() -> None:
    shown = re.findall(r"```(python|toml)\n(.*?)```", TEXTS["docs/how-to/own-method.md"], re.DOTALL)
    assert shown[0] == ("python", (METHOD_PACKAGE / "class_means.py").read_text(encoding="utf-8"))
    assert shown[1] == ("toml", (METHOD_PACKAGE / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("pattern", "reason"), steps.NOT_RUN.items())
def test_each_command_that_is_not_run_occurs_and_has_a_reason(pattern: str, reason: str) -> None:
    assert any(re.fullmatch(pattern, command) for text in TEXTS.values() for command in steps.commands(text))
    assert reason


#: Options of other programs that the documentation names, and of `python -m benchmarks`.
OTHER_OPTIONS = {"--extra-index-url", "--images", "--plan-rows", "--requests", "--head", "--limit-concurrency"}


@pytest.mark.parametrize("name", TEXTS)
def test_options_in_the_text_are_options_of_a_command(name: str) -> None:
    option = r"(?<![\w-])--[a-z][a-z-]+"
    known = set(re.findall(option, (DOCS / "reference" / "commands.md").read_text("utf-8"))) | OTHER_OPTIONS
    named = {found for code in re.findall(r"`[^`\n]*`", TEXTS[name]) for found in re.findall(option, code)}
    assert named <= known


# The examples of the commands' own help are parsed by tests/cli/test_wording.py.
@pytest.mark.parametrize("name", [name for name in TEXTS if name != "docs/reference/commands.md"])
def test_no_command_is_in_a_block_that_is_not_run(name: str) -> None:
    blocks = [step for step in steps.STEP.finditer(TEXTS[name]) if step["kind"] is not None]
    assert {step["kind"] for step in blocks} <= {"sh", "console", "python", "js", "text", "toml", ""}
    others = "\n".join(step["body"] for step in blocks if step["kind"] in ("text", ""))
    assert not re.search(r"^\s*\$? ?tip-adapter ", others, re.MULTILINE)


def test_the_chinese_readme_says_which_encoders_read_chinese_names() -> None:
    rows = dict(re.findall(r"^\| (`.*?) \| (可以|不可以)[ ，]", TEXTS["README.zh-CN.md"], re.MULTILINE))
    said = {name: reads for names, reads in rows.items() for name in re.findall(r"`([\w-]+)`", names)}
    encoders = {"pocket": PocketEncoder.record, **{name: clip.record for name, clip in named_clips().items()}}
    assert set(said) >= {"pocket", "clip", "clip-multilingual", "siglip2"}
    assert {name: "CJK" in encoders[name].scripts for name in said} == {n: r == "可以" for n, r in said.items()}


# ---- finding pages ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("section", navigation.SECTIONS.values())
def test_every_page_is_listed_by_the_index_of_its_section(section: str) -> None:
    pages = {path.relative_to(DOCS).as_posix() for path in (DOCS / section).glob("*.md")}
    assert set(navigation.pages(section)) == pages
    assert len(navigation.pages(section)) == len(pages)


@pytest.mark.parametrize("readme", render.READMES)
def test_a_readme_links_to_the_tutorial_and_every_section(readme: str) -> None:
    linked = set(re.findall(r"\((docs/[^)]+)\)", TEXTS[readme]))
    indexes = {f"docs/{section}/index.md" for section in navigation.SECTIONS.values()}
    assert {"docs/tutorial.md", *indexes} <= linked


def test_every_link_between_pages_resolves() -> None:
    broken = [
        (page.name, link)
        for page in steps.PAGES
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", re.sub(r"<!--.*?-->", "", page.read_text(encoding="utf-8")))
        if "://" not in link and not (page.parent / link).exists()
    ]
    assert broken == []


# ---- generated pages ---------------------------------------------------------------------------------------------


def test_the_table_of_codes_holds_every_error() -> None:
    everything = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)}
    rows = codes.table().splitlines()[2:]
    assert len(rows) == len(everything - {errors.TipAdapterWarning})
    assert "| `ImageTooLarge` | `image_too_large` |  |" in codes.table()
    assert "| `UnknownName` | `unknown_name` | `LookupError` |" in codes.table()


def test_the_table_of_environment_variables_holds_what_the_source_reads() -> None:
    rows = re.findall(r"^\| (`.*`) \| ([\w -]+) \|", TEXTS["docs/reference/environment.md"], re.MULTILINE)
    readers = {name: reader for names, reader in rows for name in re.findall(r"`(\w+)`", names)}
    ours = variables(*(ROOT / "src").rglob("*.py"))
    of_tests = {name for name in variables(*(ROOT / "tests").rglob("*.py")) if name.startswith("TIP_ADAPTER_")} - ours
    libraries = {name: reader for name, reader in readers.items() if reader not in ("tip-adapter", "the tests")}
    assert {name for name, reader in readers.items() if reader == "tip-adapter"} == ours - set(libraries)
    assert {name for name, reader in readers.items() if reader == "the tests"} == of_tests
    assert {name for name in ours if name.startswith("HF_")} <= set(libraries)
    for name, library in libraries.items():
        folder = Path(find_spec(library).submodule_search_locations[0])  # type: ignore[union-attr,index]
        assert any(name in path.read_text(encoding="utf-8") for path in folder.glob("*.py")), (name, library)


def variables(*paths: Path) -> set[str]:
    """Names of environment variables: those on a line that uses the environment, and, anywhere, ours and the hub's."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in paths)
    used = "\n".join(re.findall(r"environ\b.*|envvar=[^,)]*", text))
    return {*re.findall(r"""["']([A-Z][A-Z_]+)["']""", used), *re.findall(r"\b(?:TIP_ADAPTER|HF)_[A-Z_]+\b", text)}


def test_a_section_of_a_docstring_becomes_a_list() -> None:
    written = "Parameters\n----------\nX, y : array, one\n    row each\n\nReturns\n-------\n(n,) array\n\nRaises\n------\nValueError\n    NaN."
    made = docstrings.SECTION.sub(docstrings.listed, written)
    assert made == (
        "**Parameters**\n\n- `X`, `y`: array, one row each\n\n**Returns** (n,) array\n\n**Raises**\n\n- `ValueError`: NaN.\n\n"
    )


# ---- the web service -------------------------------------------------------------------------------------------------


@pytest.fixture
def service(home: Path) -> Iterator[str]:
    """`tip-adapter serve` with a model of the reader's photos: its address."""
    for package in NEEDS[SERVICE]:
        pytest.importorskip(package)
    steps.run("tip-adapter fit photos --out model")
    command = [sys.executable, "-m", "tip_adapter", "serve", "model", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        yield process.stderr.readline().split()[-1]
        process.terminate()


@pytest.mark.slow
def test_the_requests_of_the_guide_to_the_service_are_answered(
    service: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TIP_ADAPTER_TOKEN", "of-no-importance-here")
    page = re.sub(r"http://127\.0\.0\.1:8000|https://photos\.example\.org", service, TEXTS[SERVICE])
    steps.follow(page, {})
    assert re.fullmatch(r"(\d\.png cat 0\.\d+\n){3}", capsys.readouterr().out)
    answers = [
        json.loads(subprocess.run(shlex.split(os.path.expandvars(command)), capture_output=True, check=True).stdout)
        for command in steps.commands(page)
        if command.startswith("curl ")
    ]
    photo, explained, info, *others = answers
    (record,) = photo["predictions"]
    assert json.loads(steps.run("tip-adapter predict model new.jpg --json")) == record
    assert [len(record["explanation"]) for record in explained["predictions"]] == [2, 2]
    assert {entry["label"] for entry in info["classes"]} == {"cat", "dog"}
    assert others == [photo, photo]


@pytest.mark.slow
def test_the_guide_to_a_service_that_learns_works(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for package in NEEDS[LIBRARY]:
        pytest.importorskip(package)
    command = [sys.executable, "-m", "tip_adapter", "serve", "--port", "0", "--data", "projects"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr
            url = next(line.split()[-1] for line in process.stderr if "is served at" in line)
            page = TEXTS[LIBRARY].replace("http://127.0.0.1:8000", url)
            with_python, _, with_curl = page.partition("## With curl")
            names: dict[str, Any] = {}
            steps.follow(with_python, names)
            names["service"].close()
            assert re.fullmatch(r"(\d\.png (cat|dog) [01]\.\d+\n){2}", capsys.readouterr().out)
            assert len(Path("library.csv").read_text().splitlines()) == 3
            assert Path("model.zip").stat().st_size > 1000
            requests = "\n".join(steps.commands(with_curl))
            done = subprocess.run(["sh", "-ec", requests], capture_output=True, text=True, check=True)
            assert '"label":"cat"' in done.stdout
            assert '"explanation"' in done.stdout
        finally:
            process.terminate()


def test_the_guide_to_the_service_lists_every_code_of_its_errors() -> None:
    pytest.importorskip("starlette")
    from tip_adapter.serve.problems import STATUSES

    rows = re.findall(r"^\| (\d+) \| `(\w+)` \|", TEXTS[SERVICE], re.MULTILINE)
    assert {code: int(status) for status, code in rows} == STATUSES


@pytest.fixture
def fastapi_client(tmp_path: Path, paint: Callable[..., Image.Image], monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of the FastAPI guide's service with a model of two colours."""
    for package in NEEDS["docs/how-to/fastapi.md"]:
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    colours = ["red", "green"]
    FewShotClassifier("toy").fit([paint(label) for label in colours], colours).save("model")
    paint("red", 3).save("new.jpg")
    names: dict[str, Any] = {}
    steps.follow(TEXTS["docs/how-to/fastapi.md"], names)
    with names["TestClient"](names["app"]) as client:
        yield client


def test_the_fastapi_service_classifies_an_upload(fastapi_client: Any, paint: Callable[..., Image.Image]) -> None:
    answer = fastapi_client.post("/classify", files={"photo": as_png(paint("green", 7))})
    record = answer.json()
    assert (answer.status_code, record["label"]) == (200, "green")
    assert record["top"][0] == {"label": "green", "score": record["score"]}


@pytest.mark.parametrize(
    ("photo", "status", "message"),
    [(b"no photo!", 422, "cannot read"), (b"", 422, "cannot read"), (bytes(20 * 2**20 + 1), 413, "20,971,520 bytes")],
    ids=["no photo", "empty", "too large"],
)
def test_the_fastapi_service_rejects_with_a_message_without_paths(
    fastapi_client: Any, photo: bytes, status: int, message: str
) -> None:
    answer = fastapi_client.post("/classify", files={"photo": photo})
    assert answer.status_code == status
    assert message in answer.json()["detail"]
    assert gettempdir() not in answer.json()["detail"]


def as_png(photo: Image.Image) -> bytes:
    file = BytesIO()
    photo.save(file, "PNG")
    return file.getvalue()
