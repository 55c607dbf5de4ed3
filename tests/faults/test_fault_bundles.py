"""Model folders made to do harm: their digests are right, so that everything behind the digests is what is tested."""

from __future__ import annotations

import io
import json
import pickle
import re
import struct
import subprocess
import sys
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
import pytest
from safetensors.numpy import load, save

from tip_adapter import FewShotClassifier
from tip_adapter.bundle import ARRAYS, CONFIG, read_config, write_bundle
from tip_adapter.errors import BundleError, DamagedBundle, TipAdapterError, WrongEncoder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path, make_photos: Callable[..., Path]) -> Path:
    FewShotClassifier("toy").fit_folder(make_photos("train", red=2, green=2)).save(tmp_path / "model")
    return tmp_path / "model"


def forge(folder: Path, *, arrays: bytes | None = None, without: str = "", **changed: Any) -> None:
    """Save a changed model as ours are saved, so that every digest is right."""
    content = (folder / ARRAYS).read_bytes() if arrays is None else arrays
    config = {key: value for key, value in (config_of(folder) | changed).items() if key != without}
    with (
        patch("tip_adapter.bundle.save", lambda _: content),
        patch("tip_adapter.bundle.model_card", lambda *_, **__: ""),
    ):
        write_bundle(folder, config, {}, replace=True)


def forged_arrays(folder: Path, **changed: Any) -> bytes:
    """Its arrays with some changed, or left out where None is given."""
    arrays = load((folder / ARRAYS).read_bytes()) | changed
    return save({name: array for name, array in arrays.items() if array is not None})


def config_of(folder: Path) -> dict[str, Any]:
    return {key: value for key, value in read_config(folder).items() if key not in ("format", "files")}


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
    with pytest.raises(DamagedBundle, match=ARRAYS):
        FewShotClassifier.load(folder)
    assert not marker.exists()


def test_fault_38_a_pickle_in_place_of_the_configuration_is_refused_and_does_not_run(
    folder: Path, tmp_path: Path
) -> None:
    (folder / CONFIG).write_bytes(pickle.dumps(Touch(str(tmp_path / "ran"))))
    with pytest.raises(DamagedBundle, match=CONFIG):
        FewShotClassifier.load(folder)
    assert not (tmp_path / "ran").exists()


# ---- 39: arrays -----------------------------------------------------------------------------------------------------


def safetensors_with(header: dict[str, Any] | bytes, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


@pytest.mark.parametrize(
    "content",
    [
        b"",
        struct.pack("<Q", 0),
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 500) + b"{}",
        safetensors_with(b"[]"),
        safetensors_with({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, bytes(4)),
        safetensors_with({"a": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}}, bytes(4)),
        safetensors_with({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 2**62]}}, bytes(4)),
        safetensors_with({"a": {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 4]}}, bytes(4)),
        safetensors_with({n: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for n in "ab"}, bytes(4)),
        safetensors_with({"a": {"dtype": "X9", "shape": [1], "data_offsets": [0, 4]}}, bytes(4)),
        safetensors_with({"a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}, bytes(4)),
    ],
    ids=[
        "empty",
        "no header",
        "huge header",
        "header beyond the file",
        "a list",
        "shape beyond the data",
        "negative offset",
        "huge offset",
        "shape overflow",
        "overlap",
        "unknown dtype",
        "dtype unknown to NumPy",
    ],
)
def test_fault_39_bad_safetensors_are_a_damaged_bundle(content: bytes, folder: Path) -> None:
    forge(folder, arrays=content)
    with pytest.raises(DamagedBundle):
        FewShotClassifier.load(folder)


@pytest.mark.parametrize("name", ["class_embeddings", "support_vectors", "support_labels"])
def test_fault_42_a_model_without_one_of_its_arrays_is_damaged(name: str, folder: Path) -> None:
    forge(folder, arrays=forged_arrays(folder, **{name: None}))
    with pytest.raises(DamagedBundle):
        FewShotClassifier.load(folder)


WIDTH = 49
BAD_ARRAYS: dict[str, dict[str, Any]] = {
    "NaN in the support": {"support_vectors": np.full((4, WIDTH), np.nan, np.float32)},
    "infinite embeddings": {"class_embeddings": np.full((2, WIDTH), np.inf, np.float32)},
    "a zero vector": {"support_vectors": np.zeros((4, WIDTH), np.float32)},
    "support that is no unit rows": {"support_vectors": np.full((4, WIDTH), 7.0, np.float32)},
    "one photo too few": {"support_vectors": np.full((3, WIDTH), 1 / 7, np.float32)},
    "one class too many": {"class_embeddings": np.full((3, WIDTH), 1 / 7, np.float32)},
    "a label too high": {"support_labels": np.array([0, 0, 1, 2])},
    "a negative label": {"support_labels": np.array([0, 0, 1, -1])},
    "labels that are fractions": {"support_labels": np.array([0.0, 0.5, 1.0, 1.0])},
    "labels in rows and columns": {"support_labels": np.array([[0, 0], [1, 1]])},
    "one vector for all": {"support_vectors": np.full(WIDTH, 1 / 7, np.float32)},
    "vectors of whole numbers": {"support_vectors": np.ones((4, WIDTH), np.int64)},
    "embeddings of another width": {"class_embeddings": np.full((2, 10), 0.3, np.float32)},
    "support of another width": {"support_vectors": np.full((4, 10), 0.3, np.float32)},
    "all of another width": {
        "class_embeddings": np.full((2, 4), 0.5, np.float32),
        "support_vectors": np.full((4, 4), 0.5, np.float32),
    },
    "learned keys of a method that learns none": {"learned.keys_": np.full((4, WIDTH), 1 / 7, np.float32)},
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_fault_39_fault_42_arrays_that_make_no_model_are_refused(case: str, folder: Path) -> None:
    forge(folder, arrays=forged_arrays(folder, **BAD_ARRAYS[case]))
    with pytest.raises(BundleError, match=str(folder)):
        FewShotClassifier.load(folder)


def learned(shape: tuple[int, ...], value: float) -> dict[str, Any]:
    return {"learned.keys_": np.full(shape, value, np.float32)}


@pytest.mark.parametrize(
    "keys",
    [learned((4, WIDTH), np.nan), learned((4, WIDTH), 1e30), learned((3, WIDTH), 0.1), learned((4, 9), 0.1), {}],
    ids=["NaN", "out of all bounds", "one too few", "another width", "none"],
)
def test_fault_39_learned_keys_are_checked(
    keys: dict[str, Any], tmp_path: Path, make_photos: Callable[..., Path]
) -> None:
    folder = tmp_path / "model"
    FewShotClassifier("toy", "tip-adapter-f").fit_folder(make_photos("train", red=2, green=2)).save(folder)
    forge(folder, arrays=forged_arrays(folder, **({"learned.keys_": None} | keys)))
    with pytest.raises(BundleError, match=str(folder)):
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
        b"[" * 100_000,
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
    ids=lambda text: text[:40].decode("latin-1") or "empty",
)
def test_fault_40_a_configuration_that_is_none_is_a_damaged_bundle(text: bytes, folder: Path) -> None:
    (folder / CONFIG).write_bytes(text)
    with pytest.raises(DamagedBundle, match=CONFIG):
        FewShotClassifier.load(folder)


def test_fault_40_a_key_that_stands_twice_is_a_damaged_bundle(folder: Path) -> None:
    text = (folder / CONFIG).read_text("utf-8")
    (folder / CONFIG).write_text(text.replace('"seed": 0', '"seed": 0, "seed": 1'), "utf-8")
    with pytest.raises(DamagedBundle, match=CONFIG):
        FewShotClassifier.load(folder)


@pytest.mark.parametrize(
    "key", ["method", "parameters", "seed", "classes", "photos", "encoder", "templates", "choice", "logit_scale"]
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


@pytest.mark.parametrize("parameters", [{"nothing": 1}, {"class_embeddings": None}, {"alpha": 3.0}], ids=str)
def test_fault_42_parameters_that_a_model_does_not_keep_are_refused(parameters: dict[str, Any], folder: Path) -> None:
    forge(folder, parameters=parameters)
    with pytest.raises(BundleError, match=str(folder)):
        FewShotClassifier.load(folder)


def bad_choices() -> dict[str, dict[str, Any]]:
    return {
        "alpha is text": {"alpha": "1"},
        "alpha is negative": {"alpha": -1.0},
        "beta is zero": {"beta": 0.0},
        "beta is null": {"beta": None},
        "temperature is zero": {"temperature": 0.0},
        "temperature is text": {"temperature": "1"},
        "a key too many": {"gamma": 1.0},
        "a rule that is none": {"rule": ["x"]},
    }


@pytest.mark.parametrize("case", bad_choices())
def test_fault_40_a_pair_that_is_none_is_a_damaged_bundle(case: str, folder: Path) -> None:
    forge(folder, choice=config_of(folder)["choice"] | bad_choices()[case])
    with pytest.raises(DamagedBundle, match=str(folder)):
        FewShotClassifier.load(folder)


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "Infinity"])
def test_fault_40_a_number_that_is_none_is_a_damaged_bundle(number: str, folder: Path) -> None:
    text = re.sub(r'"alpha": [0-9.e+-]+', f'"alpha": {number}', (folder / CONFIG).read_text("utf-8"))
    assert number in text
    (folder / CONFIG).write_text(text, "utf-8")
    with pytest.raises(DamagedBundle, match=str(folder)):
        FewShotClassifier.load(folder)


# ---- 42: encoders and classes ---------------------------------------------------------------------------------------


def test_fault_42_another_encoder_is_refused(folder: Path) -> None:
    forge(folder, encoder=config_of(folder)["encoder"] | {"fingerprint": "0" * 64})
    with pytest.raises(WrongEncoder, match=r"was made with another toy .*fit it again"):
        FewShotClassifier.load(folder)


def test_fault_42_an_encoder_of_another_width_than_the_vectors_is_refused(folder: Path) -> None:
    forge(folder, encoder=config_of(folder)["encoder"] | {"width": 50})
    with pytest.raises(DamagedBundle, match="another width"):
        FewShotClassifier.load(folder)


def test_fault_42_an_encoder_without_a_fingerprint_is_refused(folder: Path) -> None:
    forge(folder, encoder={"name": "toy", "width": WIDTH})
    with pytest.raises(BundleError):
        FewShotClassifier.load(folder)


def test_fault_42_an_encoder_that_is_not_here_is_named(folder: Path) -> None:
    forge(folder, encoder=config_of(folder)["encoder"] | {"name": "elsewhere"})
    with pytest.raises(TipAdapterError, match="elsewhere"):
        FewShotClassifier.load(folder)


@pytest.mark.parametrize("labels", [["green"], ["green", "red", "blue"], ["green", "green"], []], ids=str)
def test_fault_42_classes_that_are_not_the_rows_are_refused(labels: list[str], folder: Path) -> None:
    forge(folder, classes=[{"label": label, "name": label, "photos": 2} for label in labels])
    with pytest.raises(BundleError, match=str(folder)):
        FewShotClassifier.load(folder)


def test_fault_42_classes_in_another_order_are_refused(folder: Path) -> None:
    forge(folder, classes=config_of(folder)["classes"][::-1])
    with pytest.raises(BundleError, match=str(folder)):
        FewShotClassifier.load(folder)


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


def test_fault_44_loading_executes_nothing(folder: Path) -> None:
    events = audit(f"""
from tip_adapter import FewShotClassifier
FewShotClassifier.load({str(folder)!r})  # what Python itself imports on first use
listen()
FewShotClassifier.load({str(folder)!r})
""")
    assert "open" in events
    assert not events & {"import", "exec", "compile", "marshal.loads", "pickle.find_class"}


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["toy", "pocket"])
def test_fault_44_loading_and_predicting_use_no_network_and_start_no_process(
    encoder: str, tmp_path: Path, make_photos: Callable[..., Path]
) -> None:
    photos = make_photos("train", red=2, green=2)
    FewShotClassifier(encoder).fit_folder(photos).save(tmp_path / "model")
    events = audit(f"""
listen()
from tip_adapter import FewShotClassifier
rows = FewShotClassifier.load({str(tmp_path / "model")!r}).predict_folder({str(photos)!r})
assert [row["label"] for row in rows] == ["green", "green", "red", "red"], rows
""")
    assert "import" in events
    forbidden = ("socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "urllib.")
    assert not [event for event in events if event.startswith((*forbidden, "pickle.find_class", "ftplib", "smtplib"))]
