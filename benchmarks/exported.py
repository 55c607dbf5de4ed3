"""Exported ONNX files after what people do to them: half precision, quantisation, OpenVINO, the browser's ONNX Runtime.

    python -m benchmarks.exported --data-root DATA --vectors DIR

DATA as in benchmarks.caltech101, DIR as in benchmarks.equations. The browser's runtime needs Node and
`npm ci --prefix tests/browser`, which `make setup` runs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import openvino
from onnxconverter_common.float16 import convert_float_to_float16
from onnxruntime.quantization import quantize_dynamic
from PIL import Image

from benchmarks.caltech101 import METHODS
from benchmarks.record import ROOT, write_results
from tip_adapter import ClassEmbeddings, FewShotClassifier, SupportSet, load_encoder
from tip_adapter.encoders import EncoderIdentity
from tip_adapter.images.decode import decode_file
from tip_adapter.images.sampling import draw_shots
from tip_adapter.methods.tuning import LEAVE_ONE_OUT, TuningData
from tip_adapter.model.fitting import fit_head
from tip_adapter.model.head import TrainingData
from tip_adapter.model.onnx_export import export_pixels, export_vectors
from tip_adapter.vectors import unit_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

BROWSER = ROOT / "tests" / "browser"
SHOTS = 4
N_PHOTOS = 100
#: Name and array of the file's input.
Given = tuple[str, "NDArray[Any]"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--vectors", type=Path, required=True)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "exported.onnx"
        rows = [*measure_vectors(given.vectors, path), *measure_photos(given.data_root / "caltech-101", path)]
    command = "python -m benchmarks.exported --data-root $TIP_ADAPTER_DATA --vectors $TIP_ADAPTER_VECTORS"
    write_results("exported", command, {"versions": versions(), "rows": rows})


def versions() -> str:
    """Versions of what converts and runs the files, besides those that each results file has."""
    browsers = json.loads((BROWSER / "package.json").read_text(encoding="utf-8"))["dependencies"]
    packages = {name: version(name) for name in ("onnxconverter-common", "openvino")} | browsers
    return ", ".join(f"{name} {number}" for name, number in packages.items())


def measure_vectors(folder: Path, path: Path) -> Iterator[dict[str, Any]]:
    """Each method on stored CLIP vectors."""
    with np.load(folder / "caltech58_vitb32.npz") as arrays:
        train, test, texts = (
            unit_rows(arrays[name].astype(np.float32)) for name in ("train_features", "test_features", "text_weights")
        )
        labels = np.array([f"{position:02}" for position in arrays["train_labels"]])
    names = {label: label for label in np.unique(labels).tolist()}
    support, embeddings = (
        SupportSet(train, labels, np.arange(len(labels)).astype(str)),
        ClassEmbeddings(np.array(list(names)), texts),
    )
    for method in METHODS:
        head = fit_head(
            method,
            TrainingData(support, names, ("{}",), embeddings, 100.0),
            rule=LEAVE_ONE_OUT,
            calibrate=True,
            given=TuningData(),
            settings={},
            offers={},
        )
        export_vectors(head, EncoderIdentity("clip", "0" * 64, train.shape[1]), path, force=True)
        yield from compared(f"vectors of CLIP ViT-B/32, {method}", path, ("vectors", test))


def measure_photos(root: Path, path: Path) -> Iterator[dict[str, Any]]:
    """Tip-Adapter on photos that pocket encodes."""
    split = json.loads((root / "split_zhou_Caltech101.json").read_text(encoding="utf-8"))
    labels = np.array([label for _, _, label in split["train"]])
    chosen = draw_shots(labels, SHOTS, 0)
    encoder, photos = load_encoder("pocket"), root / "101_ObjectCategories"
    model = FewShotClassifier(encoder, "tip-adapter").fit(
        [photos / split["train"][row][0] for row in chosen], labels[chosen]
    )
    export_pixels(model.head_, encoder, path, force=True)
    some = np.random.default_rng(0).choice(len(split["test"]), N_PHOTOS, replace=False)
    pixels = np.stack(
        [encoder.prepare(Image.fromarray(decode_file(photos / split["test"][row][0])[0])) for row in some]
    )
    yield from compared("photos, pocket, tip-adapter", path, ("pixels", pixels))


def compared(what: str, path: Path, given: Given) -> Iterator[dict[str, Any]]:
    """How each way's answers differ from those of the file as it was written."""
    wanted = run(path, given)
    for way, answer in WAYS.items():
        found = answer(path, given)
        yield {
            "file": what,
            "way": way,
            "n": len(wanted),
            "same_class": float((found.argmax(axis=1) == wanted.argmax(axis=1)).mean()),
            "largest_difference": float(np.abs(found - wanted).max()),
        }


# ---- the ways --------------------------------------------------------------------------------------------------------


def run(path: Path, given: Given) -> NDArray[np.float32]:
    """The probabilities of a file in ONNX Runtime."""
    (probabilities,) = onnxruntime.InferenceSession(path).run(["probabilities"], dict([given]))
    return np.asarray(probabilities, dtype=np.float32)


def halved(path: Path, *, keep_io_types: bool = True) -> Path:
    """The file in half precision."""
    other = path.with_suffix(".half.onnx")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the float32 number")  # weights that half precision rounds to its smallest
        onnx.save(convert_float_to_float16(onnx.load(path), keep_io_types=keep_io_types), other)
    return other


def quantised(path: Path) -> Path:
    """The file with dynamic quantisation."""
    other = path.with_suffix(".int8.onnx")
    quantize_dynamic(path, other)
    return other


def run_in_openvino(path: Path, given: Given, settings: Mapping[str, str]) -> NDArray[np.float32]:
    """The probabilities of a file in OpenVINO on the processor."""
    compiled = openvino.Core().compile_model(path, "CPU", dict(settings))
    return np.asarray(compiled(dict([given]))["probabilities"])


def run_in_browser(path: Path, given: Given) -> NDArray[np.float32]:
    """The probabilities of a file in the browser's ONNX Runtime, of as many rows as `given`."""
    name, array = given
    command = ["node", str(BROWSER / "run.mjs"), str(path), name, str(array.dtype), ",".join(map(str, array.shape))]
    done = subprocess.run(command, input=array.tobytes(), stdout=subprocess.PIPE, check=True)
    return np.frombuffer(done.stdout, np.float32).reshape(len(array), -1)


FLOAT32 = {"INFERENCE_PRECISION_HINT": "f32"}
WAYS: dict[str, Callable[[Path, Given], NDArray[np.float32]]] = {
    "half precision": lambda path, given: run(halved(path), given),
    "dynamic quantisation": lambda path, given: run(quantised(path), given),
    "OpenVINO, float32": lambda path, given: run_in_openvino(path, given, FLOAT32),
    "OpenVINO, its own choice": lambda path, given: run_in_openvino(path, given, {}),
    "browser": run_in_browser,
}


if __name__ == "__main__":
    main()
