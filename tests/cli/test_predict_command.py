"""`tip-adapter predict`: its inputs, its three outputs, and models and photos that are not as they should be."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import threading
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any

import pytest

from tip_adapter import FewShotClassifier
from tip_adapter.images import decoding_pool

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Ran


def rows(ran: Ran) -> list[dict[str, Any]]:
    """What `--json` wrote: an object a line."""
    return [json.loads(line) for line in ran.out.splitlines()]


def cells(ran: Ran) -> list[list[str]]:
    """What `--csv` wrote, its header included."""
    return list(csv.reader(io.StringIO(ran.out)))


# ---- what it writes --------------------------------------------------------------------------------------------------


def test_json_is_an_object_a_photo_with_exactly_the_binding_keys(
    run: Callable[..., Ran], model: Path, unseen: Path
) -> None:
    ran = run("predict", model, unseen, "--json")
    assert (ran.status, ran.err) == (0, "")
    records = rows(ran)
    assert len(records) == 9
    for record in records:
        assert set(record) == {"image", "label", "score", "top", "error"}
        assert record["label"] == record["image"].split("/")[-2]
        assert isinstance(record["score"], float)
        assert record["error"] is None
        assert record["top"][0] == {"label": record["label"], "score": record["score"]}
        assert sum(entry["score"] for entry in record["top"]) == pytest.approx(1)


def test_json_is_what_the_library_answers(run: Callable[..., Ran], model: Path, unseen: Path) -> None:
    expected = FewShotClassifier.load(model).predict_folder(unseen, top=2, min_score=0.5)
    assert rows(run("predict", model, unseen, "--json", "--top", "2", "--min-score", "0.5")) == expected


def test_people_get_a_line_a_photo_with_the_score_and_the_runners_up(
    run: Callable[..., Ran], model: Path, unseen: Path
) -> None:
    record = FewShotClassifier.load(model).predict_folder(unseen)[0]
    ran = run("predict", model, unseen)
    lines = ran.out.splitlines()
    assert (ran.status, ran.err, len(lines)) == (0, "", 9)
    assert lines[0].startswith(f"{record['image']}: blue {100 * record['score']:.1f} %")
    assert "red" in lines[0]
    assert "green" in lines[0]


def test_csv_has_a_header_and_a_row_a_photo(run: Callable[..., Ran], model: Path, unseen: Path) -> None:
    ran = run("predict", model, unseen, "--csv")
    header, *table = cells(ran)
    assert (ran.status, ran.err) == (0, "")
    assert header == ["image", "label", "score", "error"]
    expected = FewShotClassifier.load(model).predict_folder(unseen)
    assert table == [[r["image"], r["label"], str(r["score"]), ""] for r in expected]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["=cmd()", "+1", "-1", "@SUM(A1)", "\tx", "\rx"])
def test_fault_16_csv_cells_are_no_formulas(
    run: Callable[..., Ran],
    make_photos: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    photos = make_photos("photos", **{name: 2, "red": 2})
    assert run("fit", photos, "--out", tmp_path / "model", "--encoder", "toy").status == 0
    (photos / name / "0.png").rename(photos / name / f"{name}.png")
    monkeypatch.chdir(photos / name)
    ran = run("predict", tmp_path / "model", "--csv", "--", f"{name}.png", f"{name}-absent.png")
    _, (image, label, _, _), (absent, *_, error) = cells(ran)
    assert ran.status == 0
    assert (image, label, absent) == (f"'{name}.png", "x" if name.strip() == "x" else f"'{name}", f"'{name}-absent.png")
    assert error.startswith("cannot read")


def test_json_and_csv_together_are_a_usage_error(run: Callable[..., Ran], model: Path, unseen: Path) -> None:
    ran = run("predict", model, unseen, "--json", "--csv")
    assert (ran.status, ran.out) == (2, "")
    assert "--csv" in ran.err


@pytest.mark.parametrize(("top", "listed"), [(1, 1), (2, 2), (3, 3), (50, 3)])
def test_top_says_how_many_classes_are_listed(
    run: Callable[..., Ran], model: Path, unseen: Path, top: int, listed: int
) -> None:
    for record in rows(run("predict", model, unseen, "--json", "--top", top)):
        scores = [entry["score"] for entry in record["top"]]
        assert len(scores) == listed
        assert scores == sorted(scores, reverse=True)


def test_below_min_score_the_answer_is_none_of_these(run: Callable[..., Ran], model: Path, unseen: Path) -> None:
    photo = unseen / "red" / "100.png"
    (record,) = rows(run("predict", model, photo, "--json", "--min-score", "1"))
    (plain,) = rows(run("predict", model, photo, "--json"))
    assert plain["label"] == "red"
    assert record == plain | {"label": None}
    assert ": none of these " in run("predict", model, photo, "--min-score", "1").out
    assert cells(run("predict", model, photo, "--csv", "--min-score", "1"))[1][1] == ""


def test_a_score_at_the_threshold_is_enough(run: Callable[..., Ran], model: Path, unseen: Path) -> None:
    photo = unseen / "red" / "100.png"
    (plain,) = rows(run("predict", model, photo, "--json"))
    assert rows(run("predict", model, photo, "--json", "--min-score", repr(plain["score"]))) == [plain]


@pytest.mark.parametrize(
    "options", [["--top", "0"], ["--min-score", "1.5"], ["--min-score", "-0.1"], ["--min-score", "nan"]]
)
def test_numbers_out_of_range_are_usage_errors(
    run: Callable[..., Ran], model: Path, unseen: Path, options: list[str]
) -> None:
    ran = run("predict", model, unseen, *options)
    assert (ran.status, ran.out) == (2, "")


def test_labels_are_written_in_their_own_script(
    run: Callable[..., Ran], make_photos: Callable[..., Path], tmp_path: Path
) -> None:
    photos = make_photos("photos", 猫=2, red=2)
    run("fit", photos, "--out", tmp_path / "model", "--encoder", "toy")
    ran = run("predict", tmp_path / "model", photos / "猫", "--json", "--top", "1")
    assert ran.out.count('"label": "猫"') == 4


# ---- why, and none of these ------------------------------------------------------------------------------------------


def test_explain_says_what_weighed_most_for_the_answer_and_the_runner_up(
    run: Callable[..., Ran], model: Path, unseen: Path
) -> None:
    photo = unseen / "red" / "100.png"
    record = FewShotClassifier.load(model).explain(photo)
    ran = run("predict", model, photo, "--explain")
    assert (ran.status, ran.err) == (0, "")
    answer, because, *parts = ran.out.splitlines()
    assert answer == run("predict", model, photo).out.rstrip("\n")
    best, second = record["explanation"]
    assert because == f"  because: red, logit {best['logit']:.2f} ({100 * best['score']:.1f} %)"
    assert [line.split(" image ")[1] for line in parts[:3]] == [entry["id"] for entry in best["images"]]
    assert [float(line.split()[0]) for line in parts[:3]] == [round(entry["part"], 2) for entry in best["images"]]
    assert parts[3] == f"    {best['others']:+9.2f}  1 other image"
    assert parts[4] == f"    {best['text']:+9.2f}  class name “red”"
    assert parts[5].startswith(f"  next: {second['label']}, ")
    assert len(parts) == 11


def test_explain_as_json_adds_up_to_the_logit(run: Callable[..., Ran], model: Path, unseen: Path) -> None:
    ran = run("predict", model, unseen, "--explain", "--json")
    assert (ran.status, ran.err) == (0, "")
    assert len(rows(ran)) == 9
    for record, plain in zip(rows(ran), rows(run("predict", model, unseen, "--json")), strict=True):
        assert set(record) == {"image", "label", "score", "top", "error", "explanation"}
        assert record["label"] == plain["label"]
        assert [part["label"] for part in record["explanation"]] == [entry["label"] for entry in record["top"][:2]]
        for part in record["explanation"]:
            assert set(part) == {"label", "name", "score", "logit", "text", "images", "others", "n_others"}
            assert len(part["images"]) == 3
            assert part["n_others"] == 1
            whole = part["text"] + sum(photo["part"] for photo in part["images"]) + part["others"]
            assert part["logit"] == pytest.approx(whole, abs=1e-4)


def test_an_unreadable_photo_has_an_empty_explanation(
    run: Callable[..., Ran], model: Path, unseen: Path, tmp_path: Path
) -> None:
    bad, good = rows(run("predict", model, tmp_path / "nothing.png", unseen / "red" / "100.png", "--explain", "--json"))
    assert bad["explanation"] == []
    assert set(bad) == set(good)
    ran = run("predict", model, tmp_path / "nothing.png", unseen / "red" / "100.png", "--explain")
    assert (ran.status, len(ran.out.splitlines())) == (0, 13)


def test_below_the_threshold_the_likeliest_class_is_explained_all_the_same(
    run: Callable[..., Ran], model: Path, unseen: Path
) -> None:
    ran = run("predict", model, unseen / "red" / "100.png", "--explain", "--min-score", "1")
    assert ": none of these " in ran.out
    assert "  because: red, " in ran.out


def test_explain_and_csv_are_a_usage_error(run: Callable[..., Ran], model: Path, unseen: Path) -> None:
    ran = run("predict", model, unseen, "--explain", "--csv")
    assert (ran.status, ran.out) == (2, "")
    assert ran.err == "error: an explanation does not fit into CSV; use --explain with --json\n"


def test_names_alone_explain_nothing(run: Callable[..., Ran], train: Path, unseen: Path, tmp_path: Path) -> None:
    run("fit", train, "--out", tmp_path / "names", "--encoder", "toy", "--method", "zero-shot")
    ran = run("predict", tmp_path / "names", unseen, "--explain")
    assert (ran.status, ran.out) == (2, "")
    assert "zero-shot has no photos to explain an answer by" in ran.err


def test_fault_16_names_in_an_explanation_cannot_steer_a_terminal(
    run: Callable[..., Ran], train: Path, unseen: Path, tmp_path: Path
) -> None:
    (train / "red" / "0.png").rename(train / "red" / "a\nb\x1b[2J.png")
    (train / "red").rename(train / "re\x1b[2Jd")
    run("fit", train, "--out", tmp_path / "model", "--encoder", "toy")
    ran = run("predict", tmp_path / "model", unseen / "red" / "100.png", "--explain")
    assert ran.status == 0
    assert "\x1b" not in ran.out
    assert len(ran.out.splitlines()) == 13


def test_min_score_auto_is_the_threshold_that_the_model_keeps(
    run: Callable[..., Ran], model: Path, make_photos: Callable[..., Path]
) -> None:
    photos = make_photos("some", 50, red=1, other=2)
    threshold = json.loads((model / "config.json").read_text("utf-8"))["left_out"]["threshold"]
    ran = run("predict", model, photos, "--json", "--min-score", "auto")
    assert (ran.status, ran.err) == (0, "")
    assert ran == run("predict", model, photos, "--json", "--min-score", repr(threshold))
    assert [record["label"] for record in rows(ran)] == [None, None, "red"]
    assert None not in [record["label"] for record in rows(run("predict", model, photos, "--json"))]


def test_a_model_without_a_threshold_says_how_to_get_one(
    run: Callable[..., Ran], model: Path, unseen: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(model, tmp_path / "copy")
    run("add", copy, "red", unseen / "red" / "100.png")
    ran = run("predict", copy, unseen, "--min-score", "auto")
    assert (ran.status, ran.out) == (2, "")
    assert "`tip-adapter retune` after photos were added or removed; give --min-score a number" in ran.err
    run("retune", copy)
    assert run("predict", copy, unseen, "--min-score", "auto").status == 0


@pytest.mark.parametrize("value", ["", "AUTO", "automatic", "1.5", "-0.1", "nan", "inf", "1e400", "half", "0,5"])
def test_a_min_score_that_is_none_is_a_usage_error(
    run: Callable[..., Ran], model: Path, unseen: Path, value: str
) -> None:
    ran = run("predict", model, unseen, f"--min-score={value}")
    assert (ran.status, ran.out) == (2, "")
    assert ran.err == f"error: --min-score takes a number from 0 to 1, or auto, not {value!r}\n"


# ---- what it reads ---------------------------------------------------------------------------------------------------


def test_photos_folders_and_lists_are_named_in_the_order_given(
    run: Callable[..., Ran], model: Path, unseen: Path, tmp_path: Path
) -> None:
    (tmp_path / "list.jsonl").write_text('{"file_name": "test/green/102.png"}\n{"file_name": "test/blue/100.png"}\n')
    (tmp_path / "list.csv").write_text("label,file_name\n,test/green/101.png\n")
    ran = run(
        "predict",
        model,
        unseen / "red",
        tmp_path / "list.jsonl",
        tmp_path / "list.csv",
        unseen / "blue" / "100.png",
        "--json",
    )
    names = ["red/100", "red/101", "red/102", "green/102", "blue/100", "green/101", "blue/100"]
    assert [record["image"] for record in rows(ran)] == [str(unseen / f"{name}.png") for name in names]


def test_a_dash_reads_paths_from_stdin(run: Callable[..., Ran], model: Path, unseen: Path) -> None:
    stdin = f"{unseen / 'green' / '100.png'}\r\n\n{unseen / 'blue'}".encode()
    ran = run("predict", model, unseen / "red" / "100.png", "-", "--json", stdin=stdin)
    assert [record["label"] for record in rows(ran)] == ["red", "green", "blue", "blue", "blue"]


@pytest.mark.parametrize(
    "name", [b"\xff\xfe.png", "NEL\x85 LS\u2028 FF\x0c.png".encode(), b" blank .png", "\U0001f600.png".encode()]
)
def test_fault_16_any_name_but_a_newline_may_come_from_stdin(
    run: Callable[..., Ran], model: Path, unseen: Path, name: bytes
) -> None:
    path = os.fsencode(unseen / "red") + b"/" + name
    shutil.copy(os.fsencode(unseen / "red" / "100.png"), path)
    ran = run("predict", model, "-", "--json", stdin=path + b"\n")
    (record,) = rows(ran)
    assert (ran.status, ran.err) == (0, "")
    assert (record["label"], record["error"]) == ("red", None)
    assert record["image"] == path.decode("utf-8", "backslashreplace")


@pytest.mark.slow
def test_a_name_that_is_not_utf8_comes_through_stdin_and_arguments_of_a_process(
    program: Callable[..., Ran], model: Path, unseen: Path
) -> None:
    path = os.fsencode(unseen) + b"/\xff.png"
    shutil.copy(unseen / "red" / "100.png", path)
    ran = program("predict", model, path, "-", "--json", stdin=path + b"\n")
    assert (ran.status, ran.err) == (0, "")
    assert [record["label"] for record in rows(ran)] == ["red", "red"]


def test_no_paths_on_stdin_are_a_failure(run: Callable[..., Ran], model: Path) -> None:
    ran = run("predict", model, "-")
    assert (ran.status, ran.out) == (1, "")
    assert ran.err.startswith("error: ")


def test_fault_16_a_name_with_control_characters_stays_on_its_line(
    run: Callable[..., Ran], model: Path, unseen: Path
) -> None:
    photo = unseen / "red" / "a\nb\x1b[2J.png"
    (unseen / "red" / "100.png").rename(photo)
    (line,) = run("predict", model, photo).out.splitlines()
    assert "\x1b" not in line
    (record,) = rows(run("predict", model, photo, "--json"))
    assert record["image"] == str(photo)
    assert cells(run("predict", model, photo, "--csv"))[1][0] == str(photo)


def test_a_folder_without_photos_is_a_failure(run: Callable[..., Ran], model: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    ran = run("predict", model, tmp_path / "empty")
    assert (ran.status, ran.out) == (1, "")
    assert "holds no photos" in ran.err


@pytest.fixture
def some_unreadable(unseen: Path) -> Path:
    """Nine photos, of which an empty one, a text, and one cut short."""
    (unseen / "red" / "100.png").write_bytes(b"")
    (unseen / "green" / "100.png").write_text("no photo")
    (unseen / "blue" / "100.png").write_bytes((unseen / "blue" / "100.png").read_bytes()[:400])
    return unseen


def test_an_unreadable_photo_is_a_row_with_its_error(
    run: Callable[..., Ran], model: Path, some_unreadable: Path
) -> None:
    ran = run("predict", model, some_unreadable, "--json")
    records = rows(ran)
    assert ran.status == 0
    assert ran.err == "note: 3 of 9 images could not be read\n"
    assert [record["image"] for record in records] == sorted(map(str, some_unreadable.rglob("*.png")))
    for record in records:
        if record["image"].endswith("100.png"):
            assert record["image"] in record["error"]
            assert (record["label"], record["score"], record["top"]) == (None, None, [])
        else:
            assert record["error"] is None


def test_people_see_the_errors_apart_from_the_answers(
    run: Callable[..., Ran], model: Path, some_unreadable: Path
) -> None:
    ran = run("predict", model, some_unreadable)
    assert (ran.status, len(ran.out.splitlines())) == (0, 6)
    assert ran.err.count("cannot read") == 3
    assert ran.err.endswith("note: 3 of 9 images could not be read\n")


def test_csv_has_the_errors_in_a_column(run: Callable[..., Ran], model: Path, some_unreadable: Path) -> None:
    _, *table = cells(run("predict", model, some_unreadable, "--csv"))
    assert [bool(error) for _, _, _, error in table] == [True, False, False] * 3


def test_quiet_hides_the_count(run: Callable[..., Ran], model: Path, some_unreadable: Path) -> None:
    assert run("predict", model, some_unreadable, "--json", "--quiet").err == ""
    assert run("--quiet", "predict", model, some_unreadable, "--json").err == ""


def test_nothing_readable_is_a_failure(run: Callable[..., Ran], model: Path, tmp_path: Path) -> None:
    ran = run("predict", model, tmp_path / "absent.png", tmp_path / "gone.jpg", "--json")
    assert ran.status == 1
    assert len(rows(ran)) == 2
    assert "none of 2 images could be read" in ran.err


def test_threads_do_not_change_the_answers(run: Callable[..., Ran], model: Path, unseen: Path) -> None:
    one, three = (run("predict", model, unseen, "--json", "--threads", n) for n in (1, 3))
    assert one == three


@pytest.mark.parametrize(("images", "expected"), [(["a.png"], ["start", "load"]), (["-"], ["load"])])
def test_the_first_decoding_process_starts_before_the_model_is_loaded(
    run: Callable[..., Ran], model: Path, monkeypatch: pytest.MonkeyPatch, images: list[str], expected: list[str]
) -> None:
    happened: list[str] = []
    load = FewShotClassifier.load
    monkeypatch.setattr(decoding_pool, "start_decoding", lambda: happened.append("start"))
    monkeypatch.setattr(
        FewShotClassifier, "load", lambda *args, **options: happened.append("load") or load(*args, **options)
    )
    run("predict", model, *images)
    assert happened == expected


# ---- models that cannot be used --------------------------------------------------------------------------------------


def _edit(model: Path, **changes: Any) -> None:
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    (model / "config.json").write_text(json.dumps(config | changes), encoding="utf-8")


def _drop(model: Path, key: str) -> None:
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    del config[key]
    (model / "config.json").write_text(json.dumps(config), encoding="utf-8")


def _flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "no folder": lambda model: shutil.rmtree(model),
    "an empty folder": lambda model: [path.unlink() for path in model.iterdir()],
    "no arrays": lambda model: (model / "adapter.safetensors").unlink(),
    "arrays cut": lambda model: (model / "adapter.safetensors").write_bytes(b"cut"),
    "a bit flipped": lambda model: _flip_a_bit(model / "adapter.safetensors"),
    "another card": lambda model: (model / "README.md").write_text("another"),
    "config cut": lambda model: (model / "config.json").write_text('{"format": 1'),
    "config of another kind": lambda model: (model / "config.json").write_text("[]"),
    "config nested": lambda model: (model / "config.json").write_text("[" * 100_000),
    "config not UTF-8": lambda model: (model / "config.json").write_bytes(b"\xff"),
    "a newer format": lambda model: _edit(model, format=99),
    "no classes": lambda model: _drop(model, "classes"),
    "no method": lambda model: _drop(model, "method"),
    "no choice": lambda model: _drop(model, "choice"),
    "classes of another kind": lambda model: _edit(model, classes=3),
    "fewer classes": lambda model: _edit(model, classes=[{"label": "red", "name": "red", "n_images": 12}]),
    "fewer photos": lambda model: _edit(model, photos=[]),
    "another choice": lambda model: _edit(model, choice={"alpha": 1}),
    "an alpha that is no number": lambda model: _edit(
        model,
        choice={"alpha": "x", "beta": 1, "temperature": 1, "accuracy": None, "rule": "fixed", "n_rows": 0},
    ),
    "another encoder": lambda model: _edit(model, encoder={"name": "toy", "fingerprint": "0" * 64, "width": 49}),
    "an unknown encoder": lambda model: _edit(model, encoder={"name": "nope", "fingerprint": "0" * 64, "width": 49}),
    "an unknown method": lambda model: _edit(model, method="nope"),
    "another parameter": lambda model: _edit(model, parameters={"nope": 1}),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_a_model_that_is_not_whole_is_a_failure_with_the_reason(
    run: Callable[..., Ran], model: Path, unseen: Path, tmp_path: Path, command: str, damage: str
) -> None:
    copy = shutil.copytree(model, tmp_path / "copy")
    DAMAGE[damage](copy)
    ran = run(command, copy, unseen)
    assert (ran.status, ran.out) == (1, "")
    assert ran.err.startswith("error: ")
    assert len(ran.err.splitlines()) == 1


@pytest.mark.parametrize(
    "damage",
    [
        "no folder",
        "no arrays",
        "a bit flipped",
        "config cut",
        "a newer format",
        "no classes",
        "no method",
        "no choice",
        "classes of another kind",
        "another choice",
        "an alpha that is no number",
    ],
)
def test_info_refuses_a_damaged_model_too(run: Callable[..., Ran], model: Path, tmp_path: Path, damage: str) -> None:
    copy = shutil.copytree(model, tmp_path / "copy")
    DAMAGE[damage](copy)
    for options in ([], ["--json"]):
        ran = run("info", copy, *options)
        assert (ran.status, ran.out) == (1, "")
        assert ran.err.startswith("error: ")


@pytest.mark.slow
def read_all(terminal: IO[bytes]) -> None:
    """Until its other side is closed, which Linux reports as an error."""
    with suppress(OSError):
        while terminal.read(4096):
            pass


@pytest.mark.slow
def test_what_is_redirected_from_a_terminal_is_in_the_file(model: Path, unseen: Path, tmp_path: Path) -> None:
    """Progress is shown on the terminal that stderr is; results go where stdout goes."""
    out = tmp_path / "answers.jsonl"
    leader, follower = os.openpty()
    with out.open("wb") as file, os.fdopen(leader, "rb", buffering=0) as terminal:
        reader = threading.Thread(target=read_all, args=(terminal,))
        reader.start()  # a terminal that nobody reads would stop the program once it is full
        ran = subprocess.run(
            [sys.executable, "-m", "tip_adapter", "predict", model, unseen, "--json"],
            stdout=file,
            stderr=follower,
            check=False,
        )
        os.close(follower)
        reader.join()
    assert ran.returncode == 0
    assert len([json.loads(line) for line in out.read_text("utf-8").splitlines()]) == len(list(unseen.rglob("*.png")))


def test_the_only_photo_that_cannot_be_read_is_called_that(
    run: Callable[..., Ran], model: Path, tmp_path: Path
) -> None:
    ran = run("predict", model, tmp_path / "nothing.png")
    assert ran.err.splitlines()[-1] == "error: the only image could not be read"


def test_an_empty_argument_is_a_usage_error(run: Callable[..., Ran], model: Path) -> None:
    ran = run("predict", model, "")
    assert (ran.status, ran.out) == (2, "")
    assert "an argument is empty" in ran.err


@pytest.mark.parametrize(
    "as_written",
    [
        lambda text: text.encode("utf-8-sig"),
        lambda text: text.encode("utf-16"),
        lambda text: text.replace("\n", "\0").encode(),
    ],
    ids=["UTF-8 with a mark", "UTF-16", "ended by NUL"],
)
def test_fault_79_stdin_is_read_in_the_encodings_of_lists_and_as_find_print0_writes_it(
    run: Callable[..., Ran], model: Path, unseen: Path, as_written: Callable[[str], bytes]
) -> None:
    paths = f"{unseen / 'green' / '100.png'}\n{unseen / 'blue' / '100.png'}\n"
    ran = run("predict", model, "-", "--json", stdin=as_written(paths))
    assert ran.err == ""
    assert [record["label"] for record in rows(ran)] == ["green", "blue"]


def test_fault_16_csv_has_the_exact_names_also_where_stdout_lacks_their_letters(
    run: Callable[..., Ran], model: Path, unseen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = unseen / "red" / "🐱é.png"
    (unseen / "red" / "100.png").rename(photo)
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding="cp1252"))
    assert run("predict", model, photo, "--csv").status == 0
    assert out.getvalue().decode("utf-8").splitlines()[1].startswith(f"{photo},red,")
