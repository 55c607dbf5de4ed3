"""A run that is started again, two at once, killed ones, full disks, and what is missing: nothing lost, nothing twice."""

from __future__ import annotations

import errno
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from tip_adapter.errors import (
    DownloadError,
    MissingDataset,
    MissingExtra,
    NotWritable,
    ResultsError,
    TipAdapterError,
    TipAdapterWarning,
)
from tip_adapter.features import extract
from tip_adapter.io import files
from tip_adapter.paper import measure
from tip_adapter.paper import results as results_module
from tip_adapter.paper.columns import FIELDS
from tip_adapter.paper.experiments import experiments, tasks
from tip_adapter.paper.providers import FileProvider, ImageProvider
from tip_adapter.paper.reproduce import Reproduction, parse_request, reproduce
from tip_adapter.paper.results import key_of, read_results, recording
from tip_adapter.plugins import pip_install

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WORDS = {
    "datasets": "caltech101",
    "encoders": "toy",
    "shots": "1,2",
    "seeds": "1,2",
    "methods": "zero-shot,tip-adapter",
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TIP_ADAPTER_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def go(shades: Path, tmp_path: Path) -> Callable[..., Reproduction]:
    """go() measures figure4 in miniature; go(seeds="3") with another word."""

    def run(**words: str) -> Reproduction:
        wanted = parse_request("figure4", {**WORDS, **words})
        return reproduce(wanted, ImageProvider(shades), tmp_path / "out", say=pytest.fail)

    return run


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    return tmp_path / "out" / "results.jsonl"


@pytest.mark.slow
def test_a_second_run_measures_and_encodes_nothing_and_writes_the_same_bytes(
    go: Callable[..., Reproduction], lines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = go()
    before = {path.name: path.read_bytes() for path in lines.parent.iterdir()}
    assert set(before) == {"results.jsonl", "figure4.md", "figure4.png"}
    drawn = {name for result in first.results for name in result["support_ids"]}
    assert (first.n_measured, first.n_encoded) == (9, 40 + 16 + len(drawn))  # test, validation, the draws
    monkeypatch.setattr(measure, "measure", pytest.fail)
    again = go()
    assert (again.n_measured, again.n_encoded) == (0, 0)
    assert {path.name: path.read_bytes() for path in lines.parent.iterdir()} == before


@pytest.mark.slow
def test_fault_46_what_was_stopped_while_photos_were_encoded_goes_on_where_it_was(
    shades: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extract, "SHARD_ROWS", 16)

    def go(progress: Callable[[int, int], None] | None) -> Reproduction:
        provider = ImageProvider(shades, progress=progress)
        return reproduce(parse_request("figure4", WORDS), provider, tmp_path / "out", say=pytest.fail)

    def stop(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go(stop)  # the first shard is written
    again = go(None)
    assert again.n_measured == 9
    drawn = {name for result in again.results for name in result["support_ids"]}
    assert again.n_encoded == 40 + 16 + len(drawn) - 16


@pytest.mark.slow
def test_more_seeds_measure_only_what_is_new_and_share_the_vectors(go: Callable[..., Reproduction]) -> None:
    go()
    more = go(seeds="1,2", methods="zero-shot,tip-adapter,tip-adapter-f")
    assert (more.n_measured, more.n_encoded) == (8, 0)


@pytest.mark.slow
def test_results_of_another_encoder_of_the_same_name_are_refused(go: Callable[..., Reproduction], lines: Path) -> None:
    go()
    content = re.sub(r'"fingerprint": "[^"]+"', '"fingerprint": "other"', lines.read_text())
    lines.write_text(content)
    assert go().n_measured == 0  # nothing is mixed where nothing is measured
    with pytest.raises(ResultsError, match=r"measured with another toy .*choose another --out"):
        go(seeds="3")
    assert lines.read_text() == content


@pytest.mark.slow
@pytest.mark.parametrize("part", ["train", "test"])
def test_results_of_photos_that_changed_since_are_not_mixed_with_new_ones(
    tmp_path: Path, lay_out: Callable[..., None], part: str
) -> None:
    lay_out(tmp_path / "data", train=2, test=1, val=1)

    def go(seeds: str) -> Reproduction:
        wanted = parse_request("figure4", {**WORDS, "shots": "1,2", "seeds": seeds})
        return reproduce(wanted, ImageProvider(tmp_path / "data"), tmp_path / "out", say=print)

    first = go("1")
    photos = sorted((tmp_path / "data").rglob(f"{part}_*.png"))
    with Image.open(photos[0]) as photo:
        ImageOps.invert(photo).save(photos[0])
    again = go("1")
    assert (first.n_measured > 0, again.n_measured) == (True, 0)  # nothing is mixed where nothing is measured
    before = (tmp_path / "out" / "results.jsonl").read_bytes()
    what = "the test part" if part == "test" else photos[0].name
    with pytest.raises(ResultsError, match=rf"other photos of caltech101: .*{what} changed .*choose another --out"):
        go("1,2")
    assert (tmp_path / "out" / "results.jsonl").read_bytes() == before


@pytest.mark.slow
def test_an_unfinished_last_line_is_cut_off_and_measured_again(go: Callable[..., Reproduction], lines: Path) -> None:
    whole = go().results
    content = lines.read_bytes()
    lines.write_bytes(content[:-100])
    again = go()
    assert again.n_measured == 1
    assert [key_of(r) for r in again.results] == [key_of(r) for r in whole]
    assert [r["accuracy"] for r in read_results(lines)] == [r["accuracy"] for r in whole]


@pytest.mark.parametrize("line", [b"[]\n", b"{}\n", b"\xff\n", b"[" * 100_000 + b"\n", b"\n"])
def test_fault_40_a_line_that_is_no_result_is_named_and_nothing_is_written(
    go: Callable[..., Reproduction], lines: Path, line: bytes
) -> None:
    lines.parent.mkdir()
    lines.write_bytes(line)
    with pytest.raises(ResultsError, match=r"line 1 is no result; move the file away") as error:
        go()
    assert str(error.value).endswith("found an empty line") == (line == b"\n")
    assert lines.read_bytes() == line


def test_fault_40_lines_that_contradict_each_other_are_named(tmp_path: Path) -> None:
    texts = dict.fromkeys(("experiment", "dataset", "target", "encoder", "method", "protocol", "variant"), "x")
    result = {"format": 1, **texts, "shots": 1, "seed": 1, "accuracy": 0.5, "encoder_identity": {"fingerprint": "a"}}
    lines = [result, {**result, "seed": 2}, result, {**result, "seed": 2, "accuracy": 0.99}]
    place = tmp_path / "results.jsonl"
    place.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    with pytest.raises(ResultsError, match=r"lines 2 and 4 are results of the same task .* 0\.5 and 0\.99; remove one"):
        read_results(place)
    place.write_text("".join(f"{json.dumps(line)}\n" for line in lines[:3]))
    assert len(read_results(place)) == 3


def test_what_somebody_else_left_unfinished_is_not_cut_off(go: Callable[..., Reproduction], lines: Path) -> None:
    lines.parent.mkdir()
    lines.write_bytes(b'{"mine": 1}')  # one line without its end, as many programs write it
    with pytest.raises(ResultsError, match=r"line 1 is no result; move the file away"):
        go()
    assert lines.read_bytes() == b'{"mine": 1}'


@pytest.mark.parametrize("end", [b"{", b'{"format": 1, "exp', b"\0\0\0"])
def test_what_a_stopped_run_left_unfinished_goes(tmp_path: Path, end: bytes) -> None:
    (tmp_path / "results.jsonl").write_bytes(end)
    with recording(tmp_path / "results.jsonl"):
        pass
    assert (tmp_path / "results.jsonl").read_bytes() == b""


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": []},
        {"shots": "1"},
        {"accuracy": 62.0},
        {"accuracy": float("nan")},
        {"encoder_identity": None},
        {"encoder_identity": {}},
        {"notes": None},
        {"notes": [1]},
        {"support_ids": 3},
        {"support_contents": [3]},
        {"test_content": None},
        {"settings": []},
        {"settings": {"cache_size": "16"}},
        {"silhouette": "0.5"},
        {"points": [[1.0, 2.0]]},
    ],
)
def test_fault_40_a_result_of_other_kinds_is_none(tmp_path: Path, change: dict[str, Any]) -> None:
    texts = dict.fromkeys(("experiment", "dataset", "target", "encoder", "method", "protocol", "variant"), "x")
    result = {"format": 1, **texts, "shots": 1, "seed": 1, "accuracy": 0.5, "encoder_identity": {"fingerprint": "a"}}
    (tmp_path / "results.jsonl").write_text(f"{json.dumps(result)}\n{json.dumps({**result, **change})}\n")
    with pytest.raises(ResultsError, match="line 2 is no result"):
        read_results(tmp_path / "results.jsonl")


@pytest.mark.parametrize("name", sorted(FIELDS.keys() - {"accuracy", "outcome", "tuning_gap"}))
@pytest.mark.parametrize("number", ["1e999", "1e308", "1" + 400 * "0", '"1"', "true"])
def test_fault_82_a_result_with_a_number_that_tables_cannot_show_is_none(
    tmp_path: Path, name: str, number: str
) -> None:
    texts = dict.fromkeys(("experiment", "dataset", "target", "encoder", "method", "protocol", "variant"), "x")
    result = {**texts, "shots": 1, "seed": 1, "accuracy": 0.5, "encoder_identity": {"fingerprint": "a"}}
    (tmp_path / "results.jsonl").write_text(f'{{"format": 1, "{name}": {number}, {json.dumps(result)[1:]}\n')
    with pytest.raises(ResultsError, match="line 1 is no result"):
        read_results(tmp_path / "results.jsonl")


def test_a_format_that_is_no_number_is_shown_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").write_text(json.dumps({"format": "\x1b[2J" + "9" * 1000}) + "\n")
    with pytest.raises(ResultsError, match=r"is of format \\x1b\[2J9{36}, this version") as refused:
        read_results(tmp_path / "results.jsonl")
    assert str(refused.value).isprintable()


@pytest.mark.slow
def test_results_of_another_version_are_refused(
    go: Callable[..., Reproduction], lines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go()
    before = lines.read_bytes()
    monkeypatch.setattr(results_module, "FORMAT", 2)
    with pytest.raises(ResultsError, match=r"line 1 is of format 1, this version writes 2; choose another --out"):
        go()
    assert lines.read_bytes() == before


@pytest.mark.slow
def test_fault_48_of_two_runs_on_one_file_the_second_is_told(go: Callable[..., Reproduction], lines: Path) -> None:
    with recording(lines), pytest.raises(NotWritable, match="is being written by another run"):
        go()
    assert go().n_measured == 9


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fsync", "write"])
def test_fault_47_a_full_disk_loses_no_result(
    go: Callable[..., Reproduction], lines: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    left = iter([True] * 3)
    owner, real = {"fsync": (os, os.fsync), "write": (files, files._write_whole)}[name]
    attribute = {"fsync": "fsync", "write": "_write_whole"}[name]

    def fail_after_three(*args: Any) -> Any:
        if is_of_results(args, lines) and not next(left, False):
            if name == "write":
                args[0].write(args[1][:10])  # half a line, then no more space
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(owner, attribute, fail_after_three)
        with pytest.raises(NotWritable, match="No space left"):
            go()
    assert len(read_results(lines)) == 3
    assert lines.read_bytes().endswith(b"\n")
    assert go().n_measured == 6


def is_of_results(args: tuple[Any, ...], lines: Path) -> bool:
    """Whether a call writes results: by its open file, or by the number of that."""
    number = args[0] if isinstance(args[0], int) else args[0].fileno()
    return lines.exists() and os.fstat(number).st_ino == lines.stat().st_ino


def test_an_error_of_the_network_while_measuring_is_not_one_of_the_disk(lines: Path) -> None:
    with pytest.raises(ConnectionError), recording(lines):
        raise ConnectionError("reset")


_PROGRAM = """
import sys
from pathlib import Path
from tip_adapter.paper.reproduce import parse_request, reproduce
from tip_adapter.paper.providers import FileProvider, ImageProvider
words = {"datasets": "caltech101", "encoders": "toy", "shots": "1,2,4", "seeds": "1,2,3", "methods": "zero-shot,tip-adapter"}
print("ready", flush=True)
reproduce(parse_request("figure4", words), ImageProvider(Path(sys.argv[1])), Path(sys.argv[2]), say=print)
"""


@pytest.mark.slow
def test_fault_46_kill_9_at_any_moment_leaves_results_that_a_rerun_completes(shades: Path, tmp_path: Path) -> None:
    moments, place = random.Random(0), tmp_path / "out"
    for _ in range(5):
        with subprocess.Popen([sys.executable, "-c", _PROGRAM, shades, place], stdout=subprocess.PIPE) as run:
            assert run.stdout is not None
            assert run.stdout.readline() == b"ready\n"
            time.sleep(moments.uniform(0, 1))
            run.send_signal(signal.SIGKILL)
        complete = [line for line in _lines(place / "results.jsonl") if line.endswith(b"\n")]
        assert all(json.loads(line)["format"] == 1 for line in complete)
    words = {**WORDS, "shots": "1,2,4", "seeds": "1,2,3"}
    done = reproduce(parse_request("figure4", words), ImageProvider(shades), place, say=pytest.fail)
    found = read_results(place / "results.jsonl")
    assert len(found) == len({key_of(result) for result in found}) == len(done.results) == 19


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True) if path.exists() else []


# ---- what is missing


@pytest.mark.slow
def test_what_is_missing_is_said_once_and_the_rest_is_done(shades: Path, tmp_path: Path) -> None:
    said: list[str] = []
    words = {**WORDS, "datasets": "dtd,caltech101", "seeds": "1"}
    done = reproduce(parse_request("figure4", words), ImageProvider(shades), tmp_path / "out", say=said.append)
    assert len(said) == 1
    assert said[0].startswith("DTD is not whole below")
    assert {result["dataset"] for result in done.results} == {"caltech101"}


def test_an_encoder_that_cannot_be_loaded_is_said_once(shades: Path, tmp_path: Path) -> None:
    said: list[str] = []
    words = {**WORDS, "encoders": f"onnx:{tmp_path / 'nothing'}"}
    done = reproduce(parse_request("figure4", words), ImageProvider(shades), tmp_path / "out", say=said.append)
    assert len(said) == 1
    assert done.results == []
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["results.jsonl"]


@pytest.mark.parametrize(
    ("error", "n_asked"), [(DownloadError("no network"), 1), (MissingExtra("no torch"), 1), (MissingDataset("gone"), 2)]
)
def test_what_is_missing_is_asked_for_once(
    shades: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: TipAdapterError, n_asked: int
) -> None:
    asked_for = []

    def missing(provider: ImageProvider, dataset: str, encoder: str, **_: object) -> None:
        asked_for.append((dataset, encoder))
        raise error

    monkeypatch.setattr(ImageProvider, "split_vectors", missing)
    said: list[str] = []
    words = {**WORDS, "datasets": "caltech101,dtd"}
    reproduce(parse_request("figure4", words), ImageProvider(shades), tmp_path / "out", say=said.append)
    assert said == [str(error)]
    assert len(asked_for) == len(set(asked_for)) == n_asked  # an encoder for all data sets, a data set for itself


class WithoutTorch:
    """Says of torch what Python says where it is not installed."""

    def find_spec(self, name: str, *_: object) -> None:
        if name == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "message", "n_results"),
    [
        (
            "table6",
            f"torch, which what to fine-tune (table6) needs, is not installed: {pip_install('torch')}",
            0,
        ),
        (
            "figure4",
            f"torch is not installed: {pip_install('torch')}",
            8,
        ),  # CoOp's; the other five are measured
    ],
)
def test_without_torch_what_needs_it_is_said_once_and_the_rest_is_done(
    shades: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str, n_results: int
) -> None:
    monkeypatch.setattr(sys, "meta_path", [WithoutTorch(), *sys.meta_path])
    for module in ("torch", "tip_adapter.paper.finetune"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    said: list[str] = []
    wanted = parse_request(name, {"datasets": "caltech101", "encoders": "toy", "shots": "1", "seeds": "1"})
    done = reproduce(wanted, ImageProvider(shades), tmp_path / "out", say=said.append)
    assert said == [message]
    assert len(done.results) == n_results


def test_photos_that_the_split_names_and_the_folder_lacks_are_refused_before_any_is_encoded(
    tmp_path: Path, home: Path, lay_out: Callable[..., None]
) -> None:
    lay_out(tmp_path / "data", "dtd", train=2, val=1, test=2)
    photos = tmp_path / "data" / "dtd" / "images"
    for path in sorted(photos.rglob("test_*.png"))[:6]:
        path.unlink()
    said: list[str] = []
    words = {**WORDS, "datasets": "dtd"}
    done = reproduce(
        parse_request("figure4", words), ImageProvider(tmp_path / "data"), tmp_path / "out", say=said.append
    )
    assert len(said) == 1
    assert said[0].startswith(f"6 of 8 photos of the split are not below {photos}: dusk/test_0.png, ")
    assert (done.results, done.n_encoded) == ([], 0)
    assert not home.exists()


@pytest.mark.slow
def test_a_photo_that_cannot_be_read_is_not_encoded_again_and_again(
    tmp_path: Path, lay_out: Callable[..., None]
) -> None:
    lay_out(tmp_path / "data", "dtd", train=2, val=1, test=2)
    (tmp_path / "data" / "dtd" / "images" / "dusk" / "test_0.png").write_bytes(b"no photo")
    words = {**WORDS, "datasets": "dtd", "seeds": "1"}
    said = pytest.warns(TipAdapterWarning, match=r"left out 1 of 8 images: cannot read dusk/test_0.png")
    with said:
        first = reproduce(
            parse_request("figure4", words), ImageProvider(tmp_path / "data"), tmp_path / "out", say=pytest.fail
        )
    assert {result["n_test"] for result in first.results} == {7}
    with said:
        again = reproduce(
            parse_request("figure4", words), ImageProvider(tmp_path / "data"), tmp_path / "new", say=pytest.fail
        )
    assert again.n_encoded == 0


@pytest.mark.slow
def test_a_class_with_fewer_photos_than_shots_gives_all_and_shots_that_no_class_has_are_left_out(
    tmp_path: Path, home: Path, lay_out: Callable[..., None]
) -> None:
    lay_out(tmp_path / "data", "dtd", train=4, val=1, test=2)
    split = tmp_path / "data" / "dtd" / "split_zhou_DescribableTextures.json"
    listed = json.loads(split.read_text())
    listed["train"] = [row for row in listed["train"] if row[2] == "dusk" or not row[0].endswith("3.png")]
    split.write_text(json.dumps(listed))
    words = {**WORDS, "datasets": "dtd", "shots": "4,5", "seeds": "1", "methods": "tip-adapter"}
    said: list[str] = []
    done = reproduce(
        parse_request("figure4", words), ImageProvider(tmp_path / "data"), tmp_path / "out", say=said.append
    )
    assert {(result["shots"], len(result["support_ids"])) for result in done.results} == {(4, 13)}
    assert "dtd: 3 classes have fewer than 4 photos (dawn 3, moss 3, noon 3)" in done.table
    assert said == ["dtd has at most 4 photos of a class to learn from; 5 shots are left out"]


def test_every_task_has_a_key_of_its_own() -> None:
    for chosen in experiments().values():
        keys = [key_of(task.axes()) for task in tasks(chosen, lambda *_: ("fixed",))]
        assert len(keys) == len(set(keys))


@pytest.mark.slow
def test_a_file_of_vectors_that_has_changed_is_measured_anew_and_one_that_was_moved_is_not(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    parts, labels = np.repeat(["train", "test"], 8), np.array(["cat", "dog"] * 8)

    def go(path: Path) -> Reproduction:
        wanted = parse_request("figure4", {"shots": "1", "seeds": "1", "methods": "zero-shot"})
        return reproduce(wanted, FileProvider(path), tmp_path / "out", say=pytest.fail)

    def write(path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        names = {"class_labels": np.array(["cat", "dog"]), "class_embeddings": rng.standard_normal((2, 4))}
        ids, vectors = np.arange(16).astype(np.str_), rng.standard_normal((16, 4))
        np.savez(path, ids=ids, vectors=vectors, labels=labels, part=parts, encoder="clip", **names)

    here, there = tmp_path / "here" / "pets.npz", tmp_path / "there" / "pets.npz"
    write(here)
    first = go(here)
    assert first.n_measured == 1
    assert first.results[0]["dataset"] == "pets"
    there.parent.mkdir()
    here.rename(there)
    assert go(there).n_measured == 0
    write(here)
    assert go(here).n_measured == 1


@pytest.mark.parametrize(
    ("without", "reason"), [("part", "does not say which vectors"), ("class_", "class_embeddings")]
)
def test_fault_75_a_file_of_vectors_that_lacks_what_an_experiment_needs_is_refused(
    tmp_path: Path, without: str, reason: str
) -> None:
    arrays = {
        "ids": np.array([f"{part}-{n}" for part in ("train", "test") for n in range(4)]),
        "vectors": np.tile(np.eye(2, dtype=np.float32), (4, 1)),
        "labels": np.array(["cat", "dog"] * 4),
        "part": np.array(["train"] * 4 + ["test"] * 4),
        "class_labels": np.array(["cat", "dog"]),
        "class_embeddings": np.eye(2, dtype=np.float32),
    }
    path = tmp_path / "vectors.npz"
    np.savez(path, **{name: array for name, array in arrays.items() if not name.startswith(without)})
    said: list[str] = []
    wanted = parse_request("figure5", {"shots": "2", "seeds": "1", "methods": "tip-adapter"})
    done = reproduce(wanted, FileProvider(path), tmp_path / "out", say=said.append)
    assert done.results == []
    assert len(said) == 1
    assert reason in said[0]
