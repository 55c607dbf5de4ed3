"""A model as one ONNX file, for programs that have ONNX Runtime only.

The file takes vectors, or pixels where the encoder's image side is an ONNX graph too, and returns probabilities. It is
written only if it agrees with Python on random input.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto
from PIL import Image

from tip_adapter.encoders.onnx.tower import open_session
from tip_adapter.encoders.onnx.writer import MOST_BYTES, GraphWriter
from tip_adapter.errors import ExportError
from tip_adapter.io.files import refuse_existing, write_file
from tip_adapter.methods.text_offset import TextOffsetClassifier
from tip_adapter.methods.tip_adapter import TipAdapterClassifier, TipAdapterFClassifier, sum_factors
from tip_adapter.methods.zero_shot import ZeroShotClassifier
from tip_adapter.text import counted, printable
from tip_adapter.vectors import unit_rows
from tip_adapter.version import __version__

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from numpy.typing import NDArray
    from onnx import ModelProto

    from tip_adapter.encoders import Encoder, EncoderIdentity
    from tip_adapter.model.head import Head

#: Largest difference of a probability of the file from Python's.
TOLERANCE = 1e-4
#: A large beta amplifies the last bit of a cosine: Python's own float32 and float64 probabilities then differ, too, and the
#: file's may differ by this many times that.
_ROUNDINGS = 16
#: Random vectors for the check near the support, and as many near the class embeddings.
_N_VECTORS = 64
#: Random images for the check, where the encoder's graph takes any batch size.
_N_IMAGES = 3


def export_vectors(
    head: Head, identity: EncoderIdentity, path: str | os.PathLike[str], *, force: bool = False
) -> float:
    """Write a head as an ONNX file: vectors, (n, width) float32 of any length → probabilities, (n, n_classes) float32.

    Parameters
    ----------
    head, identity : Head, EncoderIdentity of the encoder that made its vectors
    path, force : path of the file, and whether an existing one may be replaced

    Returns
    -------
    float, the largest difference to Python's probabilities on random vectors

    Raises
    ------
    ExportError, OutputExists, NotWritable
        The method has no graph, the file would be too large, or its probabilities differ from Python's; `path` exists and
        `force` is false; the system's reason. Nothing is written then.
    """
    if not force:
        refuse_existing(path)
    _refuse_large(GraphWriter().model, head)
    vectors = _random_vectors(head)
    return _check_and_write(_from_vectors(head, identity), {"vectors": vectors}, head, vectors, path, force)


def export_pixels(head: Head, encoder: Encoder, path: str | os.PathLike[str], *, force: bool = False) -> float:
    """Write an encoder's image side and a head as one ONNX file: pixels → probabilities, (n, n_classes) float32.

    Parameters
    ----------
    head, path, force : as in `export_vectors`
    encoder : Encoder that made the head's vectors. The pixels are what its `prepare` returns for each image

    Returns
    -------
    float, the largest difference to Python's probabilities on random images

    Raises
    ------
    ExportError, OutputExists, NotWritable
        As `export_vectors`; ExportError also if the encoder has no graph, or one whose vectors differ from Python's.
    """
    if not force:
        refuse_existing(path)
    # An encoder of another package need not descend from ours.
    model: ModelProto | None = encoder.image_graph() if hasattr(encoder, "image_graph") else None
    if model is None:
        name = printable(encoder.identity.name)
        raise ExportError(f"encoder {name} has no ONNX graph of its image side; export what follows: --input vectors")
    _refuse_large(model, head)
    pixels = _random_pixels(encoder, model)
    vectors = encoder.encode_prepared(pixels)
    gap = _gap(unit_rows(_run(model.SerializeToString(), "vectors", {"pixels": pixels})), vectors)
    if not gap <= TOLERANCE:  # probabilities of 0 and 1 would hide it
        raise ExportError(
            f"the image graph of encoder {printable(encoder.identity.name)} gives other vectors than Python, by {gap:.2g}, "
            f"above {TOLERANCE:g}; export what follows: --input vectors"
        )
    del model.graph.output[:]  # the head follows
    content = _finished(GraphWriter(model, prefix="tip_adapter/"), "vectors", head, encoder.identity)
    return _check_and_write(content, {"pixels": pixels}, head, vectors, path, force)


# ---- the graph -------------------------------------------------------------------------------------------------------


def _from_vectors(head: Head, identity: EncoderIdentity) -> bytes:
    """The content of a file that takes vectors; the graph, which has a copy of the keys, is freed on return."""
    graph = GraphWriter()
    vectors = graph.input("vectors", TensorProto.FLOAT, ["n", identity.width])
    return _finished(graph, vectors, head, identity)


def _finished(graph: GraphWriter, vectors: str, head: Head, identity: EncoderIdentity) -> bytes:
    """The file's content: `Head.probabilities` as nodes that follow `vectors`, and the metadata."""
    estimator: Any = head.estimator
    write = _LOGITS.get(type(estimator))
    if write is None:
        method = printable(head.method)
        raise ExportError(f"method {method} cannot be written as an ONNX graph; fit with another --method")
    logits = write(graph, graph.to_unit_length(vectors), estimator)
    softened = graph.node("Div", logits, graph.constant(_double(head.temperature)))
    # What decides is near the largest. In a file converted to half precision, numbers near 0 have the most digits.
    below_largest = graph.to_float(graph.node("Sub", softened, graph.largest(softened)))
    graph.output(graph.node("Softmax", below_largest, axis=1), "probabilities", ["n", len(head.classes)])
    settings = {"alpha": head.choice.alpha, "beta": head.choice.beta} if head.choice else {}
    numbers = {
        **{name: value for name, value in settings.items() if value is not None},
        "logit_scale": head.logit_scale,
        "temperature": head.temperature,
    }
    metadata = {
        "tip_adapter": __version__,
        "method": head.method,
        "classes": json.dumps(head.classes.tolist()),
        "encoder": identity.name,
        "encoder_fingerprint": identity.fingerprint,
    }
    graph.state(metadata | {name: repr(float(number)) for name, number in numbers.items()})
    content: bytes = graph.model.SerializeToString()
    return content


def _write_text_logits(graph: GraphWriter, units: str, estimator: Any) -> str:
    """Text logits, logit_scale · f Wᵀ: (m, d) float32 → (m, N) double."""
    weights = np.asarray(estimator.weights_, dtype=np.float32)
    logits = graph.node("Gemm", units, graph.constant(weights), alpha=float(estimator.logit_scale), transB=1)
    return graph.node("Cast", logits, to=TensorProto.DOUBLE)


def _write_linear_logits(graph: GraphWriter, units: str, estimator: Any) -> str:
    """Logits of text-offset, f · coefᵀ + intercept: (m, d) float32 → (m, N) double."""
    coef = graph.constant(np.asarray(estimator.coef_, dtype=np.float32))
    logits = graph.node("Cast", graph.node("Gemm", units, coef, transB=1), to=TensorProto.DOUBLE)
    return graph.node("Add", logits, graph.constant(np.asarray(estimator.intercept_, dtype=np.float64)))


def _write_tip_adapter_logits(graph: GraphWriter, units: str, estimator: Any) -> str:
    """Equation 4: (m, d) float32 → (m, N) double."""
    # A one-hot matrix would be as large as the keys. So the keys are in the order of their classes, and each class is the
    # difference of two running sums; the row of zeros gives the first class a sum before it, too. The sums need double
    # precision; the affinities, the factors and the logits have it as well, since neither conversion to half precision nor
    # quantisation changes what is double: there, exp would overflow and lose small affinities.
    order = np.argsort(estimator.labels_, kind="stable")
    keys = np.zeros((1 + len(order), estimator.keys_.shape[1]), np.float32)
    np.take(estimator.keys_, order, axis=0, out=keys[1:])
    bounds = np.searchsorted(estimator.labels_[order], np.arange(len(estimator.classes_) + 1)).astype(np.int64)

    closeness = graph.node("Cast", graph.node("Gemm", graph.constant(keys), units, transB=1), to=TensorProto.DOUBLE)
    distance = graph.node("Sub", closeness, graph.constant(_double(1)))
    affinities = graph.node("Exp", graph.node("Mul", distance, graph.constant(_double(estimator.beta))))  # (1 + n, m)
    sums = graph.node("CumSum", affinities, graph.constant(np.int64(0)))
    ends, starts = (graph.node("Gather", sums, graph.constant(rows), axis=0) for rows in (bounds[1:], bounds[:-1]))
    by_class = graph.node("Sub", ends, starts)  # (N, m)
    factors = sum_factors(estimator.labels_, len(estimator.classes_), None, estimator.class_sums)  # (N,)
    weight = _double(estimator.alpha if factors is None else estimator.alpha * factors[:, None])
    cache = graph.node("Mul", by_class, graph.constant(weight))
    return graph.node("Add", _write_text_logits(graph, units, estimator), graph.node("Transpose", cache, perm=[1, 0]))


def _double(number: Any) -> NDArray[np.float64]:
    return np.array(number, dtype=np.float64)


#: Method → the function that writes its logits.
_LOGITS: dict[type, Callable[[GraphWriter, str, Any], str]] = {
    TextOffsetClassifier: _write_linear_logits,
    ZeroShotClassifier: _write_text_logits,
    TipAdapterClassifier: _write_tip_adapter_logits,
    TipAdapterFClassifier: _write_tip_adapter_logits,
}


# ---- the check -------------------------------------------------------------------------------------------------------


def _refuse_large(model: ModelProto, head: Head) -> None:
    """Raise ExportError if an encoder's graph and the head exceed the size of an ONNX file."""
    n_classes, n_images, width = len(head.classes), *head.support.vectors.shape
    if model.ByteSize() + 4 * width * (n_classes + n_images) > MOST_BYTES:
        what = f"{counted(n_images, 'photo', 'photos')} and {counted(n_classes, 'class', 'classes')} of width {width}"
        raise ExportError(f"{what} do not fit into an ONNX file of at most 2 GiB; fit with fewer --shots")


def _check_and_write(
    content: bytes,
    inputs: dict[str, NDArray[Any]],
    head: Head,
    vectors: NDArray[np.float32],
    path: str | os.PathLike[str],
    force: bool,
) -> float:
    """Write the file if its probabilities for the inputs are those of the head for `vectors`; return the difference."""
    wanted = head.probabilities(vectors)
    gap = _gap(_run(content, "probabilities", inputs), wanted)
    if not (gap <= TOLERANCE or gap <= _ROUNDINGS * _gap(wanted, head.probabilities(vectors.astype(np.float64)))):
        raise ExportError(
            f"the exported graph's probabilities differ from Python's by {gap:.2g}, above {TOLERANCE:g}; {printable(path)} "
            "is not written; try another version of onnxruntime"
        )
    write_file(path, content, replace=force)
    return gap


def _run(content: bytes, output: str, inputs: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
    session = open_session(content, device="cpu", threads=None)
    (rows,) = session.run([output], inputs)
    return rows


def _gap(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    return float(np.abs(found - wanted).max())


def _random_vectors(head: Head) -> NDArray[np.float32]:
    """Vectors of any length, at distances from 1e-5 to 3 from the support and the class embeddings."""
    rng = np.random.default_rng(0)
    names = [head.class_embeddings.matrix] if head.class_embeddings else []
    known = [rows for rows in (*names, head.support.vectors) if len(rows)]
    near = np.concatenate([rows[rng.integers(len(rows), size=_N_VECTORS)] for rows in known])
    noise = rng.standard_normal(near.shape) * near.shape[1] ** -0.5
    distances, lengths = 10 ** rng.uniform(-5, 0.5, (len(near), 1)), rng.uniform(0.1, 10, (len(near), 1))
    return np.asarray(lengths * (near + distances * noise), dtype=np.float32)


def _random_pixels(encoder: Encoder, model: ModelProto) -> NDArray[Any]:
    """Random images as the encoder prepares them, as many as its graph takes."""
    rng = np.random.default_rng(0)
    n_images = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value or _N_IMAGES
    coarse = rng.integers(0, 256, (n_images, 12, 16, 3), dtype=np.uint8)
    return np.stack([encoder.prepare(Image.fromarray(image).resize((400, 300))) for image in coarse])
