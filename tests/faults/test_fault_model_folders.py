"""Model folders made to do harm: their digests are right, so that everything behind the digests is what is tested."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import os
import pickle
import re
import shutil
import struct
import subprocess
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from tip_adapter import FewShotClassifier
from tip_adapter.cli import main
from tip_adapter.errors import DamagedModelFolder, ModelFolderError, TipAdapterError, WrongEncoder
from tip_adapter.model import saving
from tip_adapter.model.format import ARRAYS, CARD, CONFIG
from tip_adapter.model.head import load_head

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from PIL import Image


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory, paint: Callable[..., Image.Image]) -> Path:
    folder = tmp_path_factory.mktemp("pristine") / "model"
    labels = ["green", "green", "red", "red"]
    FewShotClassifier("toy", "tip-adapter").fit([paint(label, n) for n, label in enumerate(labels)], labels).save(
        folder
    )
    return folder


@pytest.fixture
def folder(tmp_path: Path, pristine: Path) -> Path:
    """A model of its own, to be damaged."""
    return shutil.copytree(pristine, tmp_path / "model")


def forge(folder: Path, *, arrays: bytes | None = None, without: str = "", **changed: Any) -> None:
    """Change a model and make every digest right again, as one who has read docs/reference/format.md could."""
    stated = {key: value for key, value in (config_of(folder) | changed).items() if key != without}
    canonical = json.dumps(stated, sort_keys=True, separators=(",", ":")).encode()
    if arrays is not None:
        (folder / ARRAYS).write_bytes(arrays)
    contents = {ARRAYS: (folder / ARRAYS).read_bytes(), CARD: (folder / CARD).read_bytes(), CONFIG: canonical}
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    (folder / CONFIG).write_text(json.dumps({**stated, "files": digests}), "utf-8")


def forged_arrays(folder: Path, **changed: Any) -> bytes:
    """Its arrays with some changed, or left out where None is given."""
    arrays = load((folder / ARRAYS).read_bytes()) | changed
    return save({name: array for name, array in arrays.items() if array is not None})


def config_of(folder: Path) -> dict[str, Any]:
    config = json.loads((folder / CONFIG).read_text("utf-8"))
    return {key: value for key, value in config.items() if key != "files"}


def test_a_forged_folder_that_changes_nothing_is_loaded(folder: Path) -> None:
    forge(folder, arrays=forged_arrays(folder))
    assert FewShotClassifier.load(folder).classes_.tolist() == ["green", "red"]


# ---- 38: pickle -----------------------------------------------------------------------------------------------------


class Touch:
    """Unpickled, it leaves a file."""

    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.marker, "w")


def pickled_arrays(kind: str, marker: str) -> bytes:
    if kind == "pickle":
        return pickle.dumps(Touch(marker))
    file = io.BytesIO()
    if kind == "npy":
        np.save(file, np.array([Touch(marker)], dtype=object), allow_pickle=True)
    else:
        np.savez(file, keys=np.array([Touch(marker)], dtype=object))
    return file.getvalue()


@pytest.mark.parametrize("kind", ["pickle", "npy", "npz"])
def test_fault_38_a_pickle_in_place_of_the_arrays_is_refused_and_does_not_run(
    kind: str, folder: Path, tmp_path: Path
) -> None:
    marker = tmp_path / "ran"
    forge(folder, arrays=pickled_arrays(kind, str(marker)))
    with pytest.raises(DamagedModelFolder, match=ARRAYS):
        FewShotClassifier.load(folder)
    assert not marker.exists()


def test_fault_38_a_pickle_in_place_of_the_configuration_is_refused_and_does_not_run(
    folder: Path, tmp_path: Path
) -> None:
    (folder / CONFIG).write_bytes(pickle.dumps(Touch(str(tmp_path / "ran"))))
    with pytest.raises(DamagedModelFolder, match=CONFIG):
        FewShotClassifier.load(folder)
    assert not (tmp_path / "ran").exists()


# ---- 38: what is no file at all ---


def put_in_place(what: str, path: Path) -> None:
    path.unlink()
    if what == "a pipe":
        os.mkfifo(path)
    elif what == "a device":
        path.symlink_to("/dev/zero")
    elif what == "a folder":
        path.mkdir()
    else:
        with path.open("wb") as file:
            file.truncate(20 * 2**30)  # without a block on the disk


@pytest.mark.parametrize("name", [CONFIG, ARRAYS, CARD])
@pytest.mark.parametrize("what", ["a pipe", "a device", "a folder", "20 GiB"])
def test_fault_38_what_is_no_file_of_a_model_is_refused_before_it_is_read(what: str, name: str, folder: Path) -> None:
    put_in_place(what, folder / name)
    with pytest.raises(DamagedModelFolder, match=re.escape(str(folder / name))):
        FewShotClassifier.load(folder)


def test_fault_38_arrays_with_20_gib_behind_them_are_refused_before_they_are_read(folder: Path) -> None:
    os.truncate(folder / ARRAYS, 20 * 2**30)
    with pytest.raises(DamagedModelFolder, match=f"{ARRAYS} is damaged: its arrays take"):
        FewShotClassifier.load(folder)


def test_fault_38_a_learned_array_of_64_gib_is_refused_before_it_is_read(folder: Path) -> None:
    content = (folder / ARRAYS).read_bytes()
    length = int.from_bytes(content[:8], "little")
    header, body = json.loads(content[8 : 8 + length]), content[8 + length :]
    header["learned.keys_"] = entry("F32", (2**20, 2**14), (len(body), len(body) + 2**36))
    forged = safetensors_with(header, body)
    forge(folder, arrays=forged)
    os.truncate(folder / ARRAYS, len(forged) + 2**36)  # without a block on the disk
    started = time.perf_counter()
    with pytest.raises(DamagedModelFolder, match="larger than any method learns"):
        load_head(folder)
    assert time.perf_counter() - started < 1


# ---- 39: arrays -----------------------------------------------------------------------------------------------------


def safetensors_with(header: dict[str, Any] | bytes, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def entry(dtype: str = "F32", shape: tuple[int, ...] = (1,), offsets: tuple[int, ...] = (0, 4)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


SAFETENSORS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty, above 1048576, or longer than the file"),
    "shorter than a length": (b"\2\0\0", "empty, above 1048576, or longer than the file"),
    "no header": (struct.pack("<Q", 0), "empty, above 1048576, or longer than the file"),
    "a huge header": (struct.pack("<Q", 2**63) + b"{}", "empty, above 1048576, or longer than the file"),
    "a header beyond the file": (struct.pack("<Q", 500) + b"{}", "empty, above 1048576, or longer than the file"),
    "a header above 1 MiB": (safetensors_with(b"{}" + b" " * 2**20), "empty, above 1048576, or longer than the file"),
    "no arrays": (safetensors_with({}), "class_embeddings is missing"),
    "a list": (safetensors_with(b"[]"), "expected `object`, got `array`"),
    "no JSON": (safetensors_with(b"{'a'}"), "Expecting property name"),
    "no UTF-8": (safetensors_with(b'{"\xff": 0}'), "'utf-8' codec"),
    "nested": (safetensors_with(b'{"a":' * 10_000), "nested too deeply"),
    "a name twice": (
        safetensors_with(b'{"a": %s, "a": %s}' % ((json.dumps(entry()).encode(),) * 2), bytes(4)),
        "key 'a' is repeated",
    ),
    "a key twice": (
        safetensors_with(b'{"a": {"dtype": "F32", "dtype": "I32", "shape": [1], "data_offsets": [0, 4]}}', bytes(4)),
        "key 'dtype' is repeated",
    ),
    "metadata": (
        safetensors_with({"__metadata__": {"format": "pt"}, "a": entry()}, bytes(4)),
        "unknown field `format`",
    ),
    "a name that is none": (safetensors_with({"\ud800": entry()}, bytes(4)), "not text of whole characters"),
    "shape beyond the data": (
        safetensors_with({"a": entry(shape=(2,))}, bytes(4)),
        "its arrays take 8 bytes, but it has 4",
    ),
    "data beyond the shape": (safetensors_with({"a": entry()}, bytes(8)), "its arrays take 4 bytes, but it has 8"),
    "negative offset": (
        safetensors_with({"a": entry(offsets=(-4, 0))}, bytes(4)),
        "data_offsets[0] expected `int` >= 0",
    ),
    "negative shape": (safetensors_with({"a": entry(shape=(-1, -1))}, bytes(4)), "shape[0] expected `int` >= 0"),
    "one offset": (safetensors_with({"a": entry(offsets=(4,))}, bytes(4)), "data_offsets expected `array` of length 2"),
    "fractions": (
        safetensors_with({"a": entry(offsets=(0.0, 4.0))}, bytes(4)),
        "data_offsets[0] expected `int`, got `float`",
    ),
    "shape overflow": (
        safetensors_with({"a": entry(shape=(2**62, 2**62))}, bytes(4)),
        "its arrays take 85070591730234615865843651857942052864 bytes",
    ),
    "shape overflow to 4 bytes": (
        safetensors_with({"a": entry(shape=(2**62 + 1, 4), offsets=(0, 16))}, bytes(16)),
        "its arrays take 73786976294838206480 bytes",
    ),
    "a number beyond 64 bits": (
        safetensors_with({"a": entry(shape=(10**400,))}, bytes(4)),
        "shape[0] expected `int` <= 9223372036854775807",
    ),
    "overlap": (safetensors_with({name: entry() for name in "ab"}, bytes(4)), "its arrays take 8 bytes, but it has 4"),
    "a hole": (
        safetensors_with({"a": entry(), "b": entry(offsets=(8, 12))}, bytes(12)),
        "its arrays take 8 bytes, but it has 12",
    ),
    "unknown dtype": (safetensors_with({"a": entry("X9")}, bytes(4)), "dtype invalid enum value 'X9'"),
    "dtype unknown to NumPy": (
        safetensors_with({"a": entry("BF16", (2,))}, bytes(4)),
        "dtype invalid enum value 'BF16'",
    ),
    "dtype that is no text": (
        safetensors_with({"a": entry() | {"dtype": ["F32"]}}, bytes(4)),
        "dtype expected `str`, got `array`",
    ),
}


@pytest.mark.parametrize("case", SAFETENSORS)
def test_fault_39_bad_safetensors_are_a_damaged_model_folder(case: str, folder: Path) -> None:
    content, reason = SAFETENSORS[case]
    forge(folder, arrays=content)
    with pytest.raises(
        DamagedModelFolder, match=rf"{re.escape(str(folder / ARRAYS))} is damaged: .*{re.escape(reason)}"
    ):
        FewShotClassifier.load(folder)


def test_fault_39_arrays_without_rows_are_read_where_there_are_no_photos(
    folder: Path, paint: Callable[..., Any]
) -> None:
    embeddings = load((folder / ARRAYS).read_bytes())["class_embeddings"].tobytes()
    end = len(embeddings)
    header = {
        "class_embeddings": entry("F32", (2, WIDTH), (0, end)),
        "support_vectors": entry("F32", (0, WIDTH), (end, end)),
        "support_labels": entry("I64", (0,), (end, end)),
    }
    classes = [known | {"n_images": 0} for known in config_of(folder)["classes"]]
    forge(folder, arrays=safetensors_with(header, embeddings), classes=classes, images=[], choice=None)
    assert FewShotClassifier.load(folder).predict([paint("red")])[0] == "red"


@pytest.mark.parametrize("name", ["class_embeddings", "support_vectors", "learned.nothing", "nothing"])
def test_fault_39_arrays_without_rows_are_refused_where_there_are_photos(name: str, folder: Path) -> None:
    forge(folder, arrays=forged_arrays(folder, **{name: np.zeros((0, WIDTH), np.float32)}))
    with pytest.raises(DamagedModelFolder, match=name.removeprefix("learned.")):
        FewShotClassifier.load(folder)


@pytest.mark.parametrize("name", ["class_embeddings", "support_vectors", "support_labels"])
def test_fault_42_a_model_without_one_of_its_arrays_is_damaged(name: str, folder: Path) -> None:
    forge(folder, arrays=forged_arrays(folder, **{name: None}))
    with pytest.raises(DamagedModelFolder):
        FewShotClassifier.load(folder)


WIDTH = 49
BAD_ARRAYS: dict[str, tuple[dict[str, Any], str]] = {
    "NaN in the support": (
        {"support_vectors": np.full((4, WIDTH), np.nan, np.float32)},
        "support_vectors are not unit rows",
    ),
    "infinite embeddings": (
        {"class_embeddings": np.full((2, WIDTH), np.inf, np.float32)},
        "class_embeddings are not unit rows",
    ),
    "a zero vector": ({"support_vectors": np.zeros((4, WIDTH), np.float32)}, "support_vectors are not unit rows"),
    "support that is no unit rows": (
        {"support_vectors": np.full((4, WIDTH), 7.0, np.float32)},
        "support_vectors are not unit rows",
    ),
    "one photo too few": (
        {"support_vectors": np.full((3, WIDTH), 1 / 7, np.float32)},
        "support_vectors is float32 of shape (3, 49)",
    ),
    "one class too many": (
        {"class_embeddings": np.full((3, WIDTH), 1 / 7, np.float32)},
        "class_embeddings is float32 of shape (3, 49)",
    ),
    "a label too high": ({"support_labels": np.array([0, 0, 1, 2])}, "support_labels are not class indices"),
    "a negative label": ({"support_labels": np.array([0, 0, 1, -1])}, "support_labels are not class indices"),
    "labels that are fractions": ({"support_labels": np.array([0.0, 0.5, 1.0, 1.0])}, "support_labels is float64"),
    "labels in rows and columns": (
        {"support_labels": np.array([[0, 0], [1, 1]])},
        "support_labels is int64 of shape (2, 2)",
    ),
    "one vector for all": (
        {"support_vectors": np.full(WIDTH, 1 / 7, np.float32)},
        "support_vectors is float32 of shape (49,)",
    ),
    "vectors of whole numbers": ({"support_vectors": np.ones((4, WIDTH), np.int64)}, "support_vectors is int64"),
    "embeddings of another width": (
        {"class_embeddings": np.full((2, 10), 0.3, np.float32)},
        "class_embeddings is float32 of shape (2, 10)",
    ),
    "support of another width": (
        {"support_vectors": np.full((4, 10), 0.3, np.float32)},
        "support_vectors is float32 of shape (4, 10)",
    ),
    "all of another width": (
        {
            "class_embeddings": np.full((2, 4), 0.5, np.float32),
            "support_vectors": np.full((4, 4), 0.5, np.float32),
        },
        "class_embeddings is float32 of shape (2, 4)",
    ),
    "embeddings that are no unit rows": (
        {"class_embeddings": np.full((2, WIDTH), 1e30, np.float32)},
        "class_embeddings are not unit rows",
    ),
    "support beyond all bounds": (
        {"support_vectors": np.full((4, WIDTH), 3e38, np.float32)},
        "support_vectors are not unit rows",
    ),
    "counts that are not the classes'": (
        {"support_labels": np.array([0, 1, 1, 1])},
        "hold other numbers of photos than classes",
    ),
    "a label beyond memory": ({"support_labels": np.array([0, 0, 1, 2**62])}, "support_labels are not class indices"),
    "labels of 32 bits": ({"support_labels": np.array([0, 0, 1, 1], np.int32)}, "support_labels is int32"),
    "vectors of 64 bits": ({"support_vectors": np.full((4, WIDTH), 1 / 7)}, "support_vectors is float64"),
    "an array that is none of ours": (
        {"others": np.zeros(1, np.float32)},
        "others is float32 of shape (1,), not known",
    ),
    "learned keys of a method that learns none": (
        {"learned.keys_": np.full((4, WIDTH), 1 / 7, np.float32)},
        "expected learned arrays [], got ['keys_']",
    ),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_fault_39_fault_42_arrays_that_make_no_model_are_refused(case: str, folder: Path) -> None:
    arrays, reason = BAD_ARRAYS[case]
    forge(folder, arrays=forged_arrays(folder, **arrays))
    with pytest.raises(ModelFolderError, match=rf"{re.escape(str(folder))}.* is damaged: .*{re.escape(reason)}"):
        FewShotClassifier.load(folder)


def learned(shape: tuple[int, ...], value: float) -> dict[str, Any]:
    return {"learned.keys_": np.full(shape, value, np.float32)}


@pytest.mark.slow
@pytest.mark.parametrize(
    "keys",
    [
        learned((4, WIDTH), np.nan),
        learned((4, WIDTH), np.inf),
        learned((4, WIDTH), 1e30),
        learned((4, WIDTH), 9e3),
        learned((3, WIDTH), 0.1),
        learned((4, 9), 0.1),
        learned((4 * WIDTH,), 0.1),
        {},
    ],
    ids=["NaN", "infinite", "out of bounds", "answers overflow", "one too few", "another width", "one row", "none"],
)
def test_fault_39_learned_keys_are_checked(
    keys: dict[str, Any], tmp_path: Path, make_photos: Callable[..., Path]
) -> None:
    folder = tmp_path / "model"
    FewShotClassifier("toy", "tip-adapter-f").fit_folder(make_photos("train", red=2, green=2)).save(folder)
    forge(folder, arrays=forged_arrays(folder, **({"learned.keys_": None} | keys)))
    with pytest.raises(ModelFolderError, match=str(folder)):
        FewShotClassifier.load(folder)


# ---- 40: configuration ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"[]",
        b'"x"',
        b"{}",
        b"[" * 10_000,
        b"[" * 100_000,
        b"[" * 900 + b"]" * 900,
        b'{"format": 1, "seed": ' + b"[" * 900 + b"]" * 900 + b', "files": {}}',
        b'{"format": true}',
        b'{"format": 1.0}',
        b'{"format": ' + b'{"a":' * 20_000,
        b'{"format": NaN}',
        b'{"format": Infinity}',
        b'{"format": 1e400}',
        b'{"format": "1"}',
        b'{"format": null}',
        b'{"format": ' + b"9" * 10_000 + b"}",
        b'{"format": 1, "format": 1}',
        b"\xff\xfe{}",
        b'{"format": 1, "files": {"../../etc/passwd": "0"}}',
        b'{"format": 1, "files": []}',
    ],
    ids=lambda text: text[:40].decode("ascii", "ignore") or "empty",
)
def test_fault_40_a_configuration_that_is_none_is_a_damaged_model_folder(text: bytes, folder: Path) -> None:
    (folder / CONFIG).write_bytes(text)
    with pytest.raises(DamagedModelFolder, match=CONFIG):
        FewShotClassifier.load(folder)


def test_fault_40_a_key_given_twice_is_a_damaged_model_folder(folder: Path) -> None:
    text = (folder / CONFIG).read_text("utf-8")
    (folder / CONFIG).write_text(text.replace('"seed": 0', '"seed": 0, "seed": 1'), "utf-8")
    with pytest.raises(DamagedModelFolder, match=CONFIG):
        FewShotClassifier.load(folder)


@pytest.mark.parametrize(
    "key", ["method", "parameters", "seed", "classes", "images", "encoder", "templates", "choice", "logit_scale"]
)
@pytest.mark.parametrize("value", ["absent", None, 5, "text", [], {}, [1, {"a": None}]], ids=str)
def test_fault_40_a_configuration_of_the_right_form_only_is_refused_or_harmless(
    key: str, value: Any, folder: Path, paint: Callable[..., Any]
) -> None:
    forge(folder, **({"without": key} if value == "absent" else {key: value}))
    try:
        model = FewShotClassifier.load(folder)
    except TipAdapterError:
        return
    assert model.predict([paint("red")])[0] in ("red", "green")


HUGE, HALF = 10**400, "\ud800"
#: Key → values that are not what docs/reference/format.md says, each in a configuration whose digests are right.
MISFITS: dict[str, list[Any]] = {
    "tip_adapter": [None, 5, HUGE, "", HALF, "1\n2", "x" * 300],
    "encoder": [None, 5, "toy", [], {}],
    "encoder.name": [None, 5, HALF, "\x1b[31m", []],
    "encoder.fingerprint": [None, HUGE, HALF, {}],
    "encoder.width": [None, "49", 49.0, True, 0, -49, HUGE],
    "seed": [None, "x", 0.5, True, HUGE, -HUGE, []],
    "method": [None, 5, HALF, "", ["tip-adapter"]],
    "parameters": [None, 5, [], {"seed": [1]}, {"seed": {}}, {"seed": HUGE}, {"seed": HALF}, {HALF: 1}],
    "classes": [None, 5, [], {}, "ab", [1, {"a": None}], [["green", "green", 2]]],
    "classes[1].label": [None, 5, HUGE, HALF, ["red"]],
    "classes[1].name": [None, 5, HUGE, HALF, {}],
    "classes[1].n_images": [None, "2", 2.0, True, -1, HUGE],
    "images": [None, 5, {}, "abcd"],
    "images[3]": [None, 5, HALF, [], "4.png\0"],
    "logit_scale": [None, "20", True, 0, -1.0, 1.1e4, HUGE, 1e300],
    "templates": [None, 5, "{}", {}],
    "templates[0]": [None, 1, HALF, ["{}"]],
    "choice": [5, "loo", [], {}],
    "choice.alpha": ["1", True, -1.0, 1e31, HUGE],
    "choice.beta": ["1", False, 0, 0.0, -1.0, 1e8, HUGE],
    "choice.temperature": [None, "1", 0.0, 1e-4, 1e7, HUGE],
    "choice.accuracy": ["1", True, -0.1, 1.1, HUGE],
    "choice.rule": [None, 5, ["x"], HALF, ""],
    "choice.n_rows": [None, "4", 0.5, -1, HUGE],
}


def changed(config: dict[str, Any], place: str, value: Any) -> dict[str, Any]:
    """The configuration with one value at a place such as ``classes[1].label``."""
    *outer, last = re.findall(r"\w+", place)
    around: Any = config
    for key in outer:
        around = around[int(key) if key.isdecimal() else key]
    around[int(last) if last.isdecimal() else last] = value
    return config


@pytest.mark.parametrize("place", MISFITS)
def test_fault_40_a_value_that_is_not_what_the_format_says_is_named(place: str, folder: Path) -> None:
    whole = config_of(folder)
    for value in MISFITS[place]:
        forge(folder, **changed(copy.deepcopy(whole), place, value))
        with pytest.raises(DamagedModelFolder, match=rf"damaged: {re.escape(place)}[ .\[]") as refused:
            load_head(folder)
        assert str(refused.value).isprintable()
        assert len(str(refused.value)) < 1000


@pytest.mark.parametrize("place", [place for place in MISFITS if not place.endswith("]")])
def test_fault_40_a_key_that_is_missing_is_named(place: str, folder: Path) -> None:
    outer, _, key = place.rpartition(".")
    config = config_of(folder)
    around = {"encoder": config["encoder"], "choice": config["choice"], "classes[1]": config["classes"][1]}.get(outer)
    if around is None:
        forge(folder, without=key)
    else:
        del around[key]
        forge(folder, **config)
    with pytest.raises(
        DamagedModelFolder, match=rf"{re.escape(outer) or 'the whole'} object missing required field `{key}`"
    ):
        load_head(folder)


@pytest.mark.parametrize("place", ["", "encoder", "classes[1]", "choice"])
def test_fault_40_a_key_too_many_is_named(place: str, folder: Path) -> None:
    key = f"{place}.gamma".removeprefix(".")
    forge(folder, **changed(config_of(folder), key, 1.0))
    with pytest.raises(
        DamagedModelFolder, match=rf"{re.escape(place) or 'the whole'} object contains unknown field `gamma`"
    ):
        load_head(folder)


@pytest.mark.parametrize("change", [*MISFITS, "nothing"])
def test_fault_40_info_says_one_sentence_of_a_forged_model(
    change: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if change != "nothing":
        forge(folder, **changed(config_of(folder), change, MISFITS[change][-1]))
    for options in ([], ["--json"]):
        monkeypatch.setattr(sys, "argv", ["tip-adapter", "info", str(folder), *options])
        with pytest.raises(SystemExit) as stopped:
            main()
        ran = capsys.readouterr()
        assert ran.err.count("\n") == bool(stopped.value.code) == (change != "nothing")
        assert ran.err.startswith("error: " if stopped.value.code else "")


@pytest.mark.parametrize("parameters", [{"nothing": 1}, {"class_embeddings": None}, {"alpha": 3.0}], ids=str)
def test_fault_42_parameters_that_a_model_does_not_keep_are_refused(parameters: dict[str, Any], folder: Path) -> None:
    forge(folder, parameters=parameters)
    with pytest.raises(ModelFolderError, match=str(folder)):
        FewShotClassifier.load(folder)


@pytest.mark.parametrize(("method", "choice"), [("zero-shot", {}), ("tip-adapter", None)], ids=str)
def test_fault_42_an_alpha_and_beta_that_the_method_does_not_have_or_lacks_is_refused(
    method: str, choice: dict[str, Any] | None, folder: Path
) -> None:
    forge(folder, method=method, choice=choice if choice is None else config_of(folder)["choice"])
    with pytest.raises(DamagedModelFolder, match="damaged: choice is"):
        FewShotClassifier.load(folder)


@pytest.mark.parametrize("case", [{"rule": "mine"}, {"alpha": 1e30, "temperature": 1e-3, "beta": 1e7}], ids=str)
def test_fault_40_an_alpha_and_beta_that_cannot_be_is_a_damaged_model_folder(
    case: dict[str, Any], folder: Path
) -> None:
    forge(folder, choice=config_of(folder)["choice"] | case)
    try:
        model = FewShotClassifier.load(folder)
    except DamagedModelFolder:
        return
    assert np.isfinite(model.head_.probabilities(model.support_.vectors)).all()


def test_fault_40_a_configuration_of_more_values_than_memory_should_hold_is_refused(folder: Path) -> None:
    (folder / CONFIG).write_bytes(b'{"format": 1, "a": [' + b"[]," * 2**21 + b"0]}")
    with pytest.raises(DamagedModelFolder, match="holds more than 2097152 values"):
        FewShotClassifier.load(folder)


@pytest.mark.slow
def test_fault_40_texts_that_would_not_fit_into_memory_as_a_table_are_refused(folder: Path) -> None:
    photos = ["x" * 2**22, *"abc"]
    forge(folder, images=photos)
    assert load_head(folder)[0].support.ids.tolist() == photos
    labels = [str(number) for number in range(10**5, 10**5 + 10_000)]
    classes = [{"label": label, "name": label, "n_images": 0} for label in [*labels, "x" * 10**5]]
    forge(folder, classes=classes, images=[])
    with pytest.raises(DamagedModelFolder, match="classes hold a text too long for 10001 of them"):
        load_head(folder)


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "Infinity"])
def test_fault_40_a_number_that_is_none_is_a_damaged_model_folder(number: str, folder: Path) -> None:
    text = re.sub(r'"alpha": [0-9.e+-]+', f'"alpha": {number}', (folder / CONFIG).read_text("utf-8"))
    assert number in text
    (folder / CONFIG).write_text(text, "utf-8")
    with pytest.raises(DamagedModelFolder, match=str(folder)):
        FewShotClassifier.load(folder)


# ---- 41: archives ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["zip", "tar", "gztar"])
def test_fault_41_an_archive_is_no_model_and_nothing_of_it_is_unpacked(kind: str, folder: Path, tmp_path: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "packed"), kind, folder)
    with pytest.raises(ModelFolderError, match="is not a model folder"):
        FewShotClassifier.load(archive)
    shutil.copy(archive, folder / CONFIG)
    with pytest.raises(DamagedModelFolder, match=CONFIG):
        FewShotClassifier.load(folder)
    assert sorted(path.name for path in folder.iterdir()) == sorted([CONFIG, ARRAYS, CARD])


# ---- 42: encoders and classes ---------------------------------------------------------------------------------------


def test_fault_42_another_encoder_is_refused(folder: Path) -> None:
    forge(folder, encoder=config_of(folder)["encoder"] | {"fingerprint": "0" * 64})
    with pytest.raises(WrongEncoder, match=r"was made with another toy .*fit it again"):
        FewShotClassifier.load(folder)


def test_fault_42_an_encoder_of_another_width_than_the_vectors_is_refused(folder: Path) -> None:
    forge(folder, encoder=config_of(folder)["encoder"] | {"width": 50})
    with pytest.raises(DamagedModelFolder, match=r"class_embeddings is float32 of shape \(2, 49\), not .*\(2, 50\)"):
        FewShotClassifier.load(folder)


def test_fault_42_an_encoder_without_a_fingerprint_is_refused(folder: Path) -> None:
    forge(folder, encoder={"name": "toy", "width": WIDTH})
    with pytest.raises(ModelFolderError):
        FewShotClassifier.load(folder)


def test_fault_42_an_encoder_that_is_not_here_is_named(folder: Path) -> None:
    forge(folder, encoder=config_of(folder)["encoder"] | {"name": "elsewhere"})
    with pytest.raises(TipAdapterError, match="elsewhere"):
        FewShotClassifier.load(folder)


@pytest.mark.parametrize("labels", [["green"], ["green", "red", "blue"], ["green", "green"], []], ids=str)
def test_fault_42_classes_that_are_not_the_rows_are_refused(labels: list[str], folder: Path) -> None:
    forge(folder, classes=[{"label": label, "name": label, "n_images": 2} for label in labels])
    with pytest.raises(ModelFolderError, match=str(folder)):
        FewShotClassifier.load(folder)


def test_fault_42_classes_in_another_order_are_refused(folder: Path) -> None:
    forge(folder, classes=config_of(folder)["classes"][::-1])
    with pytest.raises(ModelFolderError, match=str(folder)):
        FewShotClassifier.load(folder)


# ---- 85: labels, and sizes that agree with one another ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (["", "red"], "is empty or contains NUL"),
        (["  ", "red"], "is empty or contains NUL"),
        (["green", "red\0"], "is empty or contains NUL"),
        (["green\0x", "red"], "is empty or contains NUL"),
        (["Red", "red"], "differ only by case"),
        (["STRA\u1e9eE", "stra\u00dfe"], "differ only by case"),
        (["e\u0301t\u00e9", "\u00e9t\u00e9"], "differ only by Unicode form"),
        (["e\u0301", "red"], "not in Unicode NFC"),
        (["green ", "red"], "without white space around it"),
        (["green", "r" * 1001], "has 1,001 characters"),
    ],
    ids=[
        "empty",
        "spaces",
        "NUL at the end",
        "NUL inside",
        "case",
        "sharp s",
        "Unicode form",
        "not NFC",
        "a space",
        "too long",
    ],
)
def test_fault_85_labels_that_no_model_could_be_fitted_to_are_refused(
    labels: list[str], reason: str, folder: Path
) -> None:
    classes = [known | {"label": label} for known, label in zip(config_of(folder)["classes"], labels, strict=True)]
    forge(folder, classes=classes)
    with pytest.raises(DamagedModelFolder, match=rf"{CONFIG} is damaged: .*{reason}") as refused:
        load_head(folder)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"[" * 2**26, "nested too deeply"),
        (b"[" * 2**25 + b"]" * 2**25, "nested too deeply"),
        (b'{"format": 1, "seed": ' + b"[" * (2**26 - 22), "nested too deeply"),
        (b"[]" * 2**25, "Extra data"),
        (b"{" * 2**26, "Expecting property name"),
        (b"[" * (2**26 + 1), "above the limit"),
    ],
    ids=["opened", "nested", "in a value", "side by side", "braces", "a byte more"],
)
def test_fault_85_a_configuration_of_64_mib_of_brackets_is_refused_within_a_second(
    text: bytes, reason: str, folder: Path
) -> None:
    (folder / CONFIG).write_bytes(text)
    started = time.perf_counter()
    with pytest.raises(DamagedModelFolder, match=rf"{CONFIG} is damaged: .*{reason}"):
        load_head(folder)
    assert time.perf_counter() - started < 1


def model_layout(folder: Path) -> tuple[dict[str, Any], bytes]:
    """The header and the body of a model's arrays."""
    content = (folder / ARRAYS).read_bytes()
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


@pytest.mark.parametrize(
    "what", ["overlap", "exchanged", "a hole", "beyond the end", "far beyond", "reversed", "all at 0"]
)
def test_fault_85_offsets_of_the_models_own_arrays_that_do_not_fit_are_refused(what: str, folder: Path) -> None:
    header, body = model_layout(folder)
    first, second, *_, last = sorted(header, key=lambda name: header[name]["data_offsets"])
    spans = {name: list(entry["data_offsets"]) for name, entry in header.items()}
    if what == "overlap":
        spans[second] = [offset - 8 for offset in spans[second]]
    elif what == "exchanged":
        spans[first], spans[last] = spans[last], spans[first]
    elif what == "a hole":
        spans[second][0] += 8
    elif what == "beyond the end":
        spans[last] = [offset + 8 for offset in spans[last]]
    elif what == "far beyond":
        spans[last][1] = 2**62
    elif what == "reversed":
        spans[last].reverse()
    else:
        spans = {name: [0, end - start] for name, (start, end) in spans.items()}
    forged = {name: entry | {"data_offsets": spans[name]} for name, entry in header.items()}
    forge(folder, arrays=safetensors_with(forged, body))
    with pytest.raises(DamagedModelFolder, match=rf"{ARRAYS} is damaged: its header does not fit its content"):
        load_head(folder)


@pytest.mark.parametrize(
    ("width", "learned_shape", "reason"),
    [
        (2**20, (2**20, 2**20), "above the limit"),
        (2**20, (2**16, 2**16), "above the limit"),
        (WIDTH, (2**14, 2**14), "larger than any method learns"),
        (WIDTH, None, r"support_vectors is float32 of shape \(1048576, 16\), not float32 of shape \(4, 49\)"),
    ],
)
def test_fault_85_a_huge_sparse_body_that_agrees_with_its_header_is_refused_before_it_is_read(
    width: int, learned_shape: tuple[int, int] | None, reason: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    header, _ = model_layout(folder)
    shapes = {"class_embeddings": (2, width), "support_vectors": (4, width), "support_labels": (4,)}
    shapes |= {"learned.keys_": learned_shape} if learned_shape else {"support_vectors": (2**20, 16)}
    end, forged = 0, {}
    for name, shape in shapes.items():
        dtype = header[name]["dtype"] if name in header else "F32"
        start, end = end, end + int(np.prod(shape, dtype=object)) * (8 if dtype == "I64" else 4)
        forged[name] = entry(dtype, shape, (start, end))
    start_of_file = safetensors_with(forged)
    forge(folder, arrays=start_of_file, encoder=config_of(folder)["encoder"] | {"width": width})
    os.truncate(folder / ARRAYS, len(start_of_file) + end)  # without a block on the disk
    monkeypatch.setattr(saving, "_require_digest", only_of_small_files(saving._require_digest))
    with pytest.raises(DamagedModelFolder, match=rf"{ARRAYS} is damaged: .*{reason}"):
        load_head(folder)


def only_of_small_files(require_digest: Callable[[str, bytes], None]) -> Callable[[str, bytes], None]:
    def required(digest: str, content: bytes) -> None:
        assert len(content) < 2**20
        require_digest(digest, content)

    return required


# ---- 43: a folder that changes while it is read --------------------------------------------------------------------


def while_arrays_are_read(patch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
    """Let something happen once, after the header of the arrays was read and before the arrays are."""
    real, changes = saving.check_shapes, [change]

    def check_shapes(*args: Any) -> None:
        real(*args)
        while changes:
            changes.pop()()

    patch.setattr(saving, "check_shapes", check_shapes)


def test_fault_43_a_model_replaced_while_it_is_read_is_the_old_or_the_new(
    folder: Path, make_photos: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = FewShotClassifier("toy").fit_folder(make_photos("other", yellow=1, blue=1))
    while_arrays_are_read(monkeypatch, lambda: other.save(folder, force=True))
    assert FewShotClassifier.load(folder).classes_.tolist() in (["green", "red"], ["blue", "yellow"])


def test_fault_43_a_model_replaced_between_two_of_its_files_is_the_old_or_the_new(
    folder: Path, make_photos: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = FewShotClassifier("toy").fit_folder(make_photos("other", yellow=1, blue=1))
    real, writes = saving.read_config, [partial(other.save, folder, force=True)]

    def then_replace(place: Path) -> dict[str, Any]:
        config = real(place)
        while writes:
            writes.pop()()
        return config

    monkeypatch.setattr(saving, "read_config", then_replace)
    assert FewShotClassifier.load(folder).classes_.tolist() == ["blue", "yellow"]


@pytest.mark.slow
@pytest.mark.parametrize("left", [0, 4, 700, 10_000])
def test_fault_43_arrays_cut_while_they_are_read_are_damaged(
    left: int, tmp_path: Path, paint: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = [paint(label, number) for label in ("red", "green") for number in range(50)]  # more than a buffer holds
    FewShotClassifier("toy").fit(photos, ["red"] * 50 + ["green"] * 50).save(tmp_path / "model")
    while_arrays_are_read(monkeypatch, lambda: os.truncate(tmp_path / "model" / ARRAYS, left))
    with pytest.raises(DamagedModelFolder, match=ARRAYS):
        FewShotClassifier.load(tmp_path / "model")


def test_fault_43_arrays_overwritten_after_they_were_read_change_nothing(folder: Path) -> None:
    model = FewShotClassifier.load(folder)
    before = model.head_.probabilities(model.support_.vectors)
    with (folder / ARRAYS).open("r+b") as file:
        file.write(bytes((folder / ARRAYS).stat().st_size))
    np.testing.assert_array_equal(model.head_.probabilities(model.support_.vectors), before)


# ---- 44: what loading does ------------------------------------------------------------------------------------------

_LISTEN = """
import sys, warnings
warnings.simplefilter("error")
events = set()
def listen():
    sys.addaudithook(lambda event, arguments: events.add(event))
"""


def audit(program: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", _LISTEN + program + "\nprint(*events)"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.slow
def test_fault_44_loading_executes_nothing(folder: Path) -> None:
    events = audit(f"""
from tip_adapter import FewShotClassifier
from tip_adapter.model import saving
FewShotClassifier.load({str(folder)!r})  # what Python itself imports on first use
listen()
FewShotClassifier.load({str(folder)!r})
""")
    assert "open" in events
    assert not events & {"import", "exec", "compile", "marshal.loads", "pickle.find_class"}


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["toy", "pocket"])
def test_fault_44_loading_and_predicting_use_no_network_and_start_nothing_but_decoding(
    encoder: str, tmp_path: Path, make_photos: Callable[..., Path]
) -> None:
    photos = make_photos("train", red=2, green=2)
    FewShotClassifier(encoder).fit_folder(photos).save(tmp_path / "model")
    events = audit(f"""
commands = []
sys.addaudithook(lambda event, arguments: event == "subprocess.Popen" and commands.append(arguments[1]))
listen()
from tip_adapter import FewShotClassifier
from tip_adapter.model import saving
model = FewShotClassifier.load({str(tmp_path / "model")!r})
assert commands == []
rows = model.predict_folder({str(photos)!r})
assert [row["label"] for row in rows] == ["green", "green", "red", "red"], rows
assert [command[-3:-1] for command in commands] == [["-m", "tip_adapter.images.decoding_worker"]], commands
""")
    assert "import" in events
    forbidden = ("socket.", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "urllib.")
    assert not [event for event in events if event.startswith((*forbidden, "pickle.find_class", "ftplib", "smtplib"))]


# ---- 85: values that only later commands would stumble over -----------------------------------------------------------

LEFT_OUT = {
    "accuracy": 1.0,
    "interval": [0.5, 1.0],
    "n_rows": 4,
    "kept": 1.0,
    "threshold": 0.5,
    "per_class": [{"label": "red", "accuracy": 1.0, "n_rows": 2}],
    "confusions": [],
}
FORGED_VALUES: dict[str, tuple[dict[str, Any], str]] = {
    "epochs without the paper's": ({"training": {"epochs": 5}}, "training.epochs is 5, not a text"),
    "nothing for C": ({"training": {"C": None}}, "training.C is None, not a text"),
    "a negative seed": ({"seed": -1}, "seed"),
    "an unknown method to train with": ({"finetune_with": "x"}, "finetune_with is 'x', which is no method here"),
    "a method that is not trained": ({"finetune_with": "zero-shot"}, "finetune_with is 'zero-shot'"),
    "a template without text": ({"templates": [""]}, "templates[0] is '', which is empty or contains NUL"),
    "a template with NUL": ({"templates": ["a\0{}"]}, "templates[0] is 'a\\x00{}'"),
    "accuracy of another class": (
        {"left_out": LEFT_OUT | {"per_class": [{"label": "blue", "accuracy": 1.0, "n_rows": 2}]}},
        "left_out has 'blue', which is no class",
    ),
    "confusion with another class": (
        {"left_out": LEFT_OUT | {"confusions": [{"label": "red", "called": "x", "n_rows": 1}]}},
        "left_out has 'x', which is no class",
    ),
}


@pytest.mark.parametrize("case", FORGED_VALUES)
def test_fault_85_values_that_no_model_has_are_a_damaged_model_folder(
    case: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    changed, reason = FORGED_VALUES[case]
    forge(folder, **changed)
    with pytest.raises(DamagedModelFolder, match=re.escape(reason)):
        FewShotClassifier.load(folder)
    monkeypatch.setattr(sys, "argv", ["tip-adapter", "info", str(folder)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code
    assert "is damaged" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["", "a\0b"])
def test_fault_85_a_class_name_that_is_empty_or_contains_nul_is_damage(name: str, folder: Path) -> None:
    first, *others = config_of(folder)["classes"]
    forge(folder, classes=[first | {"name": name}, *others])
    with pytest.raises(DamagedModelFolder, match=r"classes\[0\]\.name is .*empty or contains NUL"):
        FewShotClassifier.load(folder)


def test_fault_85_a_left_out_record_of_known_classes_is_read(folder: Path) -> None:
    forge(folder, left_out=LEFT_OUT)
    assert FewShotClassifier.load(folder).classes_.tolist() == ["green", "red"]


@pytest.mark.parametrize(
    "method", ["tip-adapter", "tip-adapter-f", "linear-probe", "text-offset", "gda", "clip-adapter"]
)
def test_fault_85_any_value_of_another_kind_is_refused_when_the_model_is_read(
    method: str, tmp_path: Path, paint: Callable[..., Image.Image]
) -> None:
    labels = ["green", "green", "red", "red"]
    settings = {"epochs": 2} if method in ("tip-adapter-f", "clip-adapter") else {}
    images = [paint(label, n) for n, label in enumerate(labels)]
    FewShotClassifier("toy", method, **settings).fit(images, labels).save(tmp_path / "model")
    for record in ("training", "parameters"):
        stated = config_of(tmp_path / "model")[record]
        for name in stated:
            for value in ("x", -1, [], {}):
                folder = shutil.copytree(tmp_path / "model", tmp_path / f"{record}-{name}-{value}")
                forge(folder, **{record: stated | {name: value}})
                if not (record == "training" and value == "x" and isinstance(stated[name], str)):
                    with pytest.raises(DamagedModelFolder):
                        FewShotClassifier.load(folder)
