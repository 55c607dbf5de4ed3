"""A model as an ONNX file: it answers as Python does, or it is not written."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tip_adapter
from tip_adapter import FewShotClassifier
from tip_adapter.encoders import EncoderIdentity
from tip_adapter.encoders.onnx import writer
from tip_adapter.encoders.onnx.writer import GraphWriter
from tip_adapter.encoders.toy import ToyEncoder
from tip_adapter.errors import ExportError, OutputExists
from tip_adapter.methods.tip_adapter import TipAdapterClassifier
from tip_adapter.methods.tuning import FIXED, Choice, TuningData
from tip_adapter.model import onnx_export
from tip_adapter.model.fitting import fit_head
from tip_adapter.model.head import Head, TrainingData
from tip_adapter.model.onnx_export import export_pixels, export_vectors
from tip_adapter.vectors import ClassEmbeddings, SupportSet, unit_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from PIL import Image

    from tip_adapter.encoders import Encoder

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how-to" / "export.md"
sys.path.insert(0, str(ROOT))

from benchmarks import exported as exported_files  # noqa: E402 - benchmarks/ is next to src/

METHODS = ["zero-shot", "tip-adapter", "tip-adapter-f"]


def random_head(
    counts: list[int],
    *,
    method: str = "tip-adapter",
    alpha: float = 2.0,
    beta: float = 5.5,
    width: int = 6,
    seed: int = 0,
) -> Head:
    """A head of random vectors, `counts` photos a class, in no order."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat([f"class {c}" for c in range(len(counts))], counts))
    names = {f"class {c}": f"class {c}" for c in range(len(counts))}
    vectors = rng.standard_normal((len(labels), width)).astype(np.float32)
    support = SupportSet(vectors, labels, np.arange(len(labels)).astype(str))
    embeddings = ClassEmbeddings(list(names), unit_rows(rng.standard_normal((len(counts), width)).astype(np.float32)))
    pair = TuningData(1.5, None, (alpha, beta))
    return fit_head(
        method,
        TrainingData(support, names, ("{}",), embeddings, 30.0),
        rule=FIXED,
        calibrate=True,
        given=pair,
        settings={"seed": 0},
        offers={},
    )


def large_head(n_images: int, n_classes: int, width: int) -> Head:
    """A head of random vectors, put together without choosing anything: that would take minutes."""
    rng = np.random.default_rng(0)
    names = {f"{c:05}": f"{c:05}" for c in range(n_classes)}
    embeddings = ClassEmbeddings(list(names), unit_rows(rng.standard_normal((n_classes, width), dtype=np.float32)))
    vectors = unit_rows(rng.standard_normal((n_images, width), dtype=np.float32))
    support = SupportSet(vectors, rng.choice(list(names), n_images), np.arange(n_images).astype(str))
    estimator = TipAdapterClassifier(20.0, 3.0, embeddings, 30.0).fit(vectors, support.labels)
    choice = Choice(20.0, 3.0, temperature=2.0, accuracy=None, rule=FIXED, n_rows=0)
    return Head("tip-adapter", names, ("{}",), embeddings, support, choice, estimator, 30.0)


def identity_of(head: Head) -> EncoderIdentity:
    return EncoderIdentity("toy", "0" * 64, head.class_embeddings.matrix.shape[1])


def answers(path: Path, **inputs: NDArray[Any]) -> NDArray[np.float32]:
    (probabilities,) = onnxruntime.InferenceSession(path).run(["probabilities"], inputs)
    return probabilities


def queries(head: Head, n: int = 20) -> NDArray[np.float32]:
    """Vectors of any length: random ones, one of no length, and what the head has seen."""
    rng = np.random.default_rng(1)
    width = head.class_embeddings.matrix.shape[1]
    rows = 100 * rng.standard_normal((n, width))
    return np.concatenate([rows, np.zeros((1, width)), head.support.vectors, head.class_embeddings.matrix]).astype("f4")


@pytest.mark.slow
@given(
    counts=st.lists(st.integers(0, 6), min_size=1, max_size=5),
    method=st.sampled_from(METHODS),
    alpha=st.floats(0, 50),
    beta=st.floats(0.1, 50),
    seed=st.integers(0, 99),
)
def test_an_exported_head_answers_as_python_does(
    counts: list[int], method: str, alpha: float, beta: float, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if method == "tip-adapter-f" and not sum(counts):
        counts = [*counts, 1]  # there must be a key to fit_head
    path = tmp_path_factory.mktemp("export") / "head.onnx"
    head = random_head(counts, method=method, alpha=alpha, beta=beta, seed=seed)
    export_vectors(head, identity_of(head), path)
    found = answers(path, vectors=queries(head))
    # float32 holds seven digits of a cosine, of which beta makes more.
    roundings = 1e-6 * np.abs(head.estimator.logits(queries(head))).max()
    np.testing.assert_allclose(found, head.probabilities(queries(head)), rtol=0, atol=1e-6 + roundings)


def test_classes_without_photos_and_one_with_most_of_them_are_summed_apart(tmp_path: Path) -> None:
    head = random_head([0, 40, 1, 0, 2, 0])
    export_vectors(head, identity_of(head), tmp_path / "head.onnx")
    found = answers(tmp_path / "head.onnx", vectors=queries(head))
    np.testing.assert_allclose(found, head.probabilities(queries(head)), rtol=0, atol=1e-6)


def test_any_number_of_vectors_goes_in(tmp_path: Path) -> None:
    head = random_head([2, 3])
    export_vectors(head, identity_of(head), tmp_path / "head.onnx")
    whole = answers(tmp_path / "head.onnx", vectors=queries(head))
    alone = [answers(tmp_path / "head.onnx", vectors=row[None]) for row in queries(head)]
    np.testing.assert_allclose(np.concatenate(alone), whole, rtol=0, atol=1e-6)


def test_vectors_whose_squares_overflow_are_answered_too(tmp_path: Path) -> None:
    head = random_head([2, 3])
    export_vectors(head, identity_of(head), tmp_path / "head.onnx")
    found = answers(tmp_path / "head.onnx", vectors=queries(head, 3)[:3] * np.float32(1e30))
    np.testing.assert_allclose(found, head.probabilities(queries(head, 3)[:3]), rtol=0, atol=1e-5)


def test_the_metadata_says_what_the_file_is(tmp_path: Path) -> None:
    head = random_head([2, 0, 1], alpha=3.25, beta=0.5)
    export_vectors(head, identity_of(head), tmp_path / "head.onnx")
    model = onnx.load(tmp_path / "head.onnx")
    assert {entry.key: entry.value for entry in model.metadata_props} == {
        "tip_adapter": tip_adapter.__version__,
        "method": "tip-adapter",
        "classes": json.dumps(["class 0", "class 1", "class 2"]),
        "encoder": "toy",
        "encoder_fingerprint": "0" * 64,
        "alpha": "3.25",
        "beta": "0.5",
        "logit_scale": "30.0",
        "temperature": "1.0",
    }


def test_the_file_is_of_an_opset_that_older_runtimes_read_and_names_no_photo(tmp_path: Path) -> None:
    head = random_head([2, 2])
    export_vectors(head, identity_of(head), tmp_path / "head.onnx")
    model = onnx.load(tmp_path / "head.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", writer.OPSET)]
    assert writer.OPSET <= 17
    assert model.ir_version <= 8


# ---- photos in -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(pocket: Encoder, paint: Callable[..., Image.Image]) -> FewShotClassifier:
    labels = ["red", "green", "blue"] * 2
    return FewShotClassifier(pocket).fit([paint(label, n) for n, label in enumerate(labels)], labels)


@pytest.fixture(scope="module")
def exported(model: FewShotClassifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the two files of the guide."""
    folder = tmp_path_factory.mktemp("export")
    export_pixels(model.head_, model.encoder_, folder / "photos.onnx")
    export_vectors(model.head_, model.encoder_.identity, folder / "vectors.onnx")
    return folder


@pytest.mark.slow
def test_photos_that_pocket_prepares_are_answered_as_by_predict(
    model: FewShotClassifier, exported: Path, paint: Callable[..., Image.Image]
) -> None:
    photos = [paint(label, 50) for label in ("red", "grey", "blue")]
    pixels = np.stack([model.encoder_.prepare(photo) for photo in photos])
    found = answers(exported / "photos.onnx", pixels=pixels)
    np.testing.assert_allclose(found, model.predict_proba(photos), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_a_pixel_graph_says_how_to_prepare_and_passes_the_checker(exported: Path) -> None:
    graph = onnx.load(exported / "photos.onnx")
    onnx.checker.check_model(graph, full_check=True)
    assert "224" in {entry.key: entry.value for entry in graph.metadata_props}["preprocessing"]
    assert [entry.name for entry in graph.graph.input] == ["pixels"]
    assert [entry.name for entry in graph.graph.output] == ["probabilities"]


@pytest.mark.slow
def test_the_guides_programs_answer_as_predict_where_there_is_no_tip_adapter(
    model: FewShotClassifier, exported: Path, paint: Callable[..., Image.Image]
) -> None:
    paint("red", 60).resize((200, 131)).save(exported / "new.jpg")
    programs = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    ran = [without_tip_adapter(program, exported) for program in programs]
    assert ran[0].splitlines()[0].startswith("pixels are")
    label, score = ran[0].splitlines()[-1].split()
    (expected,) = model.predict_stream([exported / "new.jpg"])
    assert (label, float(score)) == (expected["label"], pytest.approx(expected["score"], abs=1e-5))
    assert ran[1].splitlines()[0] == f"vectors of pocket {model.encoder_.identity.fingerprint}"


def without_tip_adapter(program: str, folder: Path) -> str:
    """What a program prints where this package cannot be imported."""
    alone = f"import sys; sys.modules['tip_adapter'] = None\n{program}"
    done = subprocess.run([sys.executable, "-c", alone], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Graph(ToyEncoder):
    """The toy encoder's image side as a graph, of any opset and for any number of photos."""

    def __init__(self, opset: int = 17, batch: str | int = "n") -> None:
        super().__init__()
        self._opset, self._batch = opset, batch

    def image_graph(self) -> onnx.ModelProto:
        graph = GraphWriter()
        graph.model.opset_import[0].version = self._opset
        pixels = graph.input("pixels", onnx.TensorProto.UINT8, [self._batch, 4, 4, 3])
        values = graph.node("Cast", pixels, to=onnx.TensorProto.FLOAT)
        flat = graph.node("Reshape", values, graph.constant(np.array([-1, 48])))
        centred = graph.node("Sub", graph.node("Div", flat, graph.constant(127.5)), graph.constant(1.0))
        padded = graph.node("Pad", centred, graph.constant(np.array([0, 0, 0, 1])), graph.constant(0.1))
        graph.output(padded, "vectors", [self._batch, 49])
        graph.state({"preprocessing": "4 x 4 pixels"})
        return graph.model


@pytest.mark.slow
@pytest.mark.parametrize("opset", [11, 13, 17, 18, 21])
@pytest.mark.parametrize("batch", ["n", 1, 2])
def test_an_encoders_graph_keeps_its_opset_and_its_batch(
    opset: int, batch: str | int, paint: Callable[..., Image.Image], tmp_path: Path
) -> None:
    labels = ["red", "green", "blue"] * 2
    photos = [paint(label, n) for n, label in enumerate(labels)]
    model = FewShotClassifier(Graph(opset, batch)).fit(photos, labels)
    assert export_pixels(model.head_, model.encoder_, tmp_path / "photos.onnx") < 1e-5
    assert onnx.load(tmp_path / "photos.onnx").opset_import[0].version == opset
    some = photos[: batch if isinstance(batch, int) else 5]
    found = answers(tmp_path / "photos.onnx", pixels=np.stack([model.encoder_.prepare(photo) for photo in some]))
    np.testing.assert_allclose(found, model.predict_proba(some), rtol=0, atol=1e-5)


# ---- what people do to a file ----------------------------------------------------------------------------------------

as_half = pytest.mark.parametrize("keep_io_types", [True, False], ids=["float32 in and out", "float16 in and out"])


in_browser = pytest.mark.skipif(
    not (shutil.which("node") and (exported_files.BROWSER / "node_modules").is_dir()),
    reason="needs Node and `npm ci --prefix tests/browser`",
)


def names_within(graph: onnx.GraphProto) -> list[str]:
    """Names of the nodes, also of those within nodes."""
    inner = [part for node in graph.node for attribute in node.attribute for part in (attribute.g, *attribute.graphs)]
    return [node.name for node in graph.node] + [name for part in inner for name in names_within(part)]


@pytest.mark.parametrize("method", METHODS)
def test_each_node_has_a_name_of_its_own(method: str, tmp_path: Path) -> None:
    head = random_head([2, 3], method=method)
    export_vectors(head, identity_of(head), tmp_path / "head.onnx")
    names = names_within(onnx.load(tmp_path / "head.onnx").graph)
    assert all(names)
    assert len(set(names)) == len(names)


@as_half
@pytest.mark.parametrize("method", METHODS)
def test_half_precision_names_the_same_classes(method: str, keep_io_types: bool, tmp_path: Path) -> None:
    head = random_head([3, 1, 0, 8], method=method, width=256)
    export_vectors(head, identity_of(head), tmp_path / "head.onnx")
    wanted = head.probabilities(queries(head))
    given = queries(head).astype("f4" if keep_io_types else "f2")
    found = answers(exported_files.halved(tmp_path / "head.onnx", keep_io_types=keep_io_types), vectors=given)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=5e-3)
    first, second = np.sort(wanted, axis=1)[:, :-3:-1].T
    clear = first - second > 1e-2
    assert clear.mean() > 0.8
    assert (found.argmax(axis=1) == wanted.argmax(axis=1))[clear].all()


@as_half
@pytest.mark.parametrize(("alpha", "beta"), [(1e6, 5.0), (1e-6, 1e4), (1e6, 100.0), (3e4, 0.01)])
@pytest.mark.parametrize("method", ["tip-adapter", "tip-adapter-f"])
def test_no_factor_overflows_or_vanishes_in_half_precision(
    method: str, alpha: float, beta: float, keep_io_types: bool, tmp_path: Path
) -> None:
    head = random_head([40, 30], method=method, alpha=alpha, beta=beta, width=256)
    export_vectors(head, identity_of(head), tmp_path / "head.onnx")
    given = queries(head).astype("f4" if keep_io_types else "f2")
    found = answers(exported_files.halved(tmp_path / "head.onnx", keep_io_types=keep_io_types), vectors=given)
    np.testing.assert_allclose(found.sum(axis=1, dtype="f4"), 1, rtol=0, atol=1e-3)
    np.testing.assert_allclose(found[21:91], head.probabilities(queries(head)[21:91]), rtol=0, atol=2e-2)  # the support


@pytest.mark.parametrize("method", METHODS)
def test_dynamic_quantisation_leaves_a_head_as_it_is(method: str, tmp_path: Path) -> None:
    head = random_head([3, 1, 8], method=method, width=256)
    export_vectors(head, identity_of(head), tmp_path / "head.onnx")
    found = answers(exported_files.quantised(tmp_path / "head.onnx"), vectors=queries(head))
    np.testing.assert_allclose(found, head.probabilities(queries(head)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_openvino_answers_as_python_does(method: str, tmp_path: Path) -> None:
    head = random_head([3, 0, 8], method=method, width=256)
    export_vectors(head, identity_of(head), tmp_path / "head.onnx")
    given = ("vectors", queries(head))
    found = exported_files.run_in_openvino(tmp_path / "head.onnx", given, exported_files.FLOAT32)
    np.testing.assert_allclose(found, head.probabilities(queries(head)), rtol=0, atol=1e-5)


@in_browser
@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_the_browsers_runtime_answers_as_python_does(method: str, tmp_path: Path) -> None:
    head = random_head([3, 0, 8], method=method, width=256)
    export_vectors(head, identity_of(head), tmp_path / "head.onnx")
    found = exported_files.run_in_browser(tmp_path / "head.onnx", ("vectors", queries(head)))
    np.testing.assert_allclose(found, head.probabilities(queries(head)), rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "tolerance"),
    [("half precision", 2e-2), ("OpenVINO, float32", 1e-4), pytest.param("browser", 1e-4, marks=in_browser)],
)
def test_photos_are_answered_as_before_in_half_precision_and_in_other_runtimes(
    way: str, tolerance: float, model: FewShotClassifier, exported: Path, paint: Callable[..., Image.Image]
) -> None:
    photos = [paint(label, 50) for label in ("red", "grey", "blue")]
    pixels = np.stack([model.encoder_.prepare(photo) for photo in photos])
    found = exported_files.WAYS[way](exported / "photos.onnx", ("pixels", pixels))
    np.testing.assert_allclose(found, model.predict_proba(photos), rtol=0, atol=tolerance)


# ---- what is refused -------------------------------------------------------------------------------------------------


def test_an_encoder_without_a_graph_is_told_what_can_be_exported(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"encoder toy has no ONNX graph .* --input vectors"):
        export_pixels(random_head([1, 1], width=49), ToyEncoder(), tmp_path / "photos.onnx")


class Mirrored(Graph):
    """Its graph sees each photo's columns from right to left."""

    def image_graph(self) -> onnx.ModelProto:
        model = super().image_graph()
        for node in model.graph.node:
            node.input[:] = ["mirrored" if name == "pixels" else name for name in node.input]
        columns = onnx.numpy_helper.from_array(np.arange(4)[::-1].copy(), "columns")
        model.graph.initializer.append(columns)
        model.graph.node.insert(0, onnx.helper.make_node("Gather", ["pixels", "columns"], ["mirrored"], axis=2))
        return model


def test_an_encoders_graph_that_gives_other_vectors_is_refused(
    paint: Callable[..., Image.Image], tmp_path: Path
) -> None:
    model = FewShotClassifier(Mirrored()).fit([paint("red"), paint("green")], ["red", "green"])
    with pytest.raises(ExportError, match="the image graph of encoder toy gives other vectors than Python"):
        export_pixels(model.head_, model.encoder_, tmp_path / "photos.onnx")
    assert list(tmp_path.iterdir()) == []


class OwnLogits(TipAdapterClassifier):
    """A method that is none of ours, though it descends from one."""


def test_a_method_without_a_graph_is_refused(tmp_path: Path) -> None:
    head = random_head([1, 1])
    estimator = OwnLogits(class_embeddings=head.class_embeddings).fit(head.support.vectors, head.support.labels)
    theirs = replace(head, method="own-logits", estimator=estimator)
    with pytest.raises(ExportError, match="method own-logits"):
        export_vectors(theirs, identity_of(head), tmp_path / "head.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_graph_that_answers_otherwise_than_python_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_export, "_run", lambda *_: np.full((128, 2), 0.5, np.float32))
    with pytest.raises(ExportError, match=r"differ from Python's by 0\.\d+, above 0.0001"):
        export_vectors(random_head([2, 2]), identity_of(random_head([2, 2])), tmp_path / "head.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_graph_that_answers_nan_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_export, "_run", lambda *_: np.full((128, 2), np.nan, np.float32))
    with pytest.raises(ExportError):
        export_vectors(random_head([2, 2]), identity_of(random_head([2, 2])), tmp_path / "head.onnx")
    assert list(tmp_path.iterdir()) == []


def test_what_rounding_does_to_python_itself_is_no_difference(tmp_path: Path) -> None:
    head = random_head([3, 3], alpha=1e3, beta=3e4, width=64)  # a photo is answered by keys that are all but itself
    export_vectors(head, identity_of(head), tmp_path / "head.onnx")
    assert (tmp_path / "head.onnx").exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the system's own counter of memory is read")
def test_exporting_takes_four_times_the_keys_of_memory_at_most(tmp_path: Path) -> None:
    program = f"""
import re, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_onnx_export import export_vectors, identity_of, large_head, random_head

def kib(field):
    return int(re.search(field + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

export_vectors(random_head([1, 1]), identity_of(random_head([1, 1])), "small.onnx")  # imports are none of it
head = large_head(30_000, 1_000, 512)
Path("/proc/self/clear_refs").write_text("5")
before = kib("VmRSS")
export_vectors(head, identity_of(head), "large.onnx")
print((kib("VmHWM") - before) * 1024 / (30_000 * 512 * 4))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 4


def test_a_head_too_large_for_one_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_export, "MOST_BYTES", 4 * 6 * (2 + 5) - 1)
    with pytest.raises(ExportError, match=r"5 photos and 2 classes of width 6 do not fit .* 2 GiB"):
        export_vectors(random_head([2, 3]), identity_of(random_head([2, 3])), tmp_path / "head.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_stands_there_is_replaced_only_when_asked(tmp_path: Path) -> None:
    path, head = tmp_path / "head.onnx", random_head([2, 2])
    path.write_bytes(b"precious")
    with pytest.raises(OutputExists):
        export_vectors(head, identity_of(head), path)
    assert path.read_bytes() == b"precious"
    export_vectors(head, identity_of(head), path, force=True)
    assert answers(path, vectors=queries(head)).shape == (len(queries(head)), 2)
