"""A model as one ONNX file, for programs that have ONNX Runtime and nothing of ours.

The file takes vectors, or pixels where the encoder's image side is an ONNX graph too, and gives probabilities. It
answers random input as Python does, or it is not written.
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
from tip_adapter.methods.tip_adapter import TipAdapterClassifier, TipAdapterFClassifier
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

#: By how much a probability of the file may differ from Python's.
TOLERANCE = 1e-4
#: A vast beta makes much of the last bit of a cosine. Python's own answers, too, move then when float64 takes the place of
#: float32, and the file's may differ by so many times that.
_ROUNDINGS = 16
#: Vectors for the check, near photos and near names each.
_N_VECTORS = 64
#: Photos for the check, where the encoder's graph takes any number.
_N_PHOTOS = 3


def export_vectors(
    head: Head, identity: EncoderIdentity, path: str | os.PathLike[str], *, force: bool = False
) -> float:
    """Write a head as an ONNX file: vectors, (n, width) float32 of any length → probabilities, (n, n_classes) float32.

    Parameters
    ----------
    head : Head
    identity : EncoderIdentity of the encoder that made its vectors
    path : path of the file
    force : bool, whether a file that stands there may be replaced

    Returns
    -------
    float, the largest difference to Python's probabilities on random vectors

    Raises
    ------
    ExportError
        The method has no graph, the file would be too large, or it would answer otherwise than Python. Nothing is
        written then.
    OutputExists, NotWritable
        Something stands at `path` and `force` is false; or the system's reason.
    """
    if not force:
        refuse_existing(path)
    _refuse_large(GraphWriter().model, head)
    vectors = _random_vectors(head)
    return _checked_and_written(_from_vectors(head, identity), {"vectors": vectors}, head, vectors, path)


def export_pixels(head: Head, encoder: Encoder, path: str | os.PathLike[str], *, force: bool = False) -> float:
    """Write a head behind its encoder's image side as an ONNX file: pixels → probabilities, (n, n_classes) float32.

    Parameters
    ----------
    head, path, force : as in `export_vectors`
    encoder : Encoder that made the head's vectors. What its `prepare` gives of each photo are the pixels

    Returns
    -------
    float, the largest difference to Python's probabilities on random photos

    Raises
    ------
    ExportError
        The encoder has no graph, or one that gives other vectors; or as `export_vectors`, as all else.
    """
    if not force:
        refuse_existing(path)
    model = _image_graph(encoder)
    _refuse_large(model, head)
    pixels = _random_pixels(encoder, model)
    vectors = encoder.encode_prepared(pixels)
    _refuse_other_vectors(model, pixels, vectors, encoder.identity)
    return _checked_and_written(_from_pixels(model, head, encoder.identity), {"pixels": pixels}, head, vectors, path)


# ---- the graph -------------------------------------------------------------------------------------------------------


def _from_vectors(head: Head, identity: EncoderIdentity) -> bytes:
    """The content of a file that takes vectors."""
    graph = GraphWriter()
    vectors = graph.input("vectors", TensorProto.FLOAT, ["n", identity.width])
    return _finished(graph, vectors, head, identity)


def _image_graph(encoder: Encoder) -> ModelProto:
    """The encoder's image side: pixels → vectors."""
    # An encoder of another package need not descend from ours.
    model: ModelProto | None = encoder.image_graph() if hasattr(encoder, "image_graph") else None
    if model is None:
        name = printable(encoder.identity.name)
        raise ExportError(f"encoder {name} has no ONNX graph of its image side; export what follows: --input vectors")
    return model


def _from_pixels(model: ModelProto, head: Head, identity: EncoderIdentity) -> bytes:
    """The content of a file that takes pixels: the encoder's graph, and behind it the head."""
    del model.graph.output[:]
    return _finished(GraphWriter(model, prefix="tip_adapter/"), "vectors", head, identity)


def _finished(graph: GraphWriter, vectors: str, head: Head, identity: EncoderIdentity) -> bytes:
    """The file's content: after `vectors` everything that `Head.probabilities` does, and what a reader must know."""
    estimator: Any = head.estimator
    write = _LOGITS.get(type(estimator))
    if write is None:
        raise ExportError(
            f"method {printable(head.method)} cannot be written as an ONNX graph; fit with another --method"
        )
    logits = write(graph, graph.to_unit_length(vectors), estimator)
    softened = graph.node("Div", logits, graph.constant(float(head.temperature)))
    graph.output(graph.node("Softmax", softened, axis=1), "probabilities", ["n", len(head.classes)])
    graph.state(_facts(head, identity))
    content: bytes = graph.model.SerializeToString()
    return content


def _write_names(graph: GraphWriter, units: str, estimator: Any) -> str:
    """What the class names say, logit_scale · f Wᵀ: (m, d) → (m, N)."""
    weights = np.asarray(estimator.weights_, dtype=np.float32)
    return graph.node("Gemm", units, graph.constant(weights), alpha=float(estimator.logit_scale), transB=1)


def _write_names_and_photos(graph: GraphWriter, units: str, estimator: Any) -> str:
    """Equation 4: (m, d) → (m, N)."""
    keys, bounds = _by_class(estimator)
    closeness = graph.node("Sub", graph.node("Gemm", graph.constant(keys), units, transB=1), graph.constant(1.0))
    sharpened = graph.node("Exp", graph.node("Mul", closeness, graph.constant(float(estimator.beta))))  # (1 + n, m)
    photos = graph.node("Mul", _summed_runs(graph, sharpened, bounds), graph.constant(float(estimator.alpha)))
    return graph.node("Add", _write_names(graph, units, estimator), graph.node("Transpose", photos, perm=[1, 0]))


def _by_class(estimator: Any) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Keys in the order of their classes after a row of zeros, and the row that each class starts after.

    The row of zeros belongs to no class: the first one, too, then has a running sum before it.
    """
    order = np.argsort(estimator.labels_, kind="stable")
    keys = np.zeros((1 + len(order), estimator.keys_.shape[1]), np.float32)
    np.take(estimator.keys_, order, axis=0, out=keys[1:])
    bounds = np.searchsorted(estimator.labels_[order], np.arange(len(estimator.classes_) + 1))
    return keys, bounds.astype(np.int64)


def _summed_runs(graph: GraphWriter, rows: str, bounds: NDArray[np.int64]) -> str:
    """Rows, (1 + n, m), summed from each bound to the next: (N, m); a class without photos gets 0.

    As differences of running sums, in double precision: a one-hot matrix would be as large as the keys.
    """
    doubles = graph.node("Cast", rows, to=TensorProto.DOUBLE)
    running = graph.node("CumSum", doubles, graph.constant(np.int64(0)))
    ends, starts = (graph.node("Gather", running, graph.constant(rows), axis=0) for rows in (bounds[1:], bounds[:-1]))
    return graph.node("Cast", graph.node("Sub", ends, starts), to=TensorProto.FLOAT)


#: Method → what writes its logits.
_LOGITS: dict[type, Callable[[GraphWriter, str, Any], str]] = {
    ZeroShotClassifier: _write_names,
    TipAdapterClassifier: _write_names_and_photos,
    TipAdapterFClassifier: _write_names_and_photos,
}


def _facts(head: Head, identity: EncoderIdentity) -> dict[str, str]:
    """The file's metadata."""
    pair = {"alpha": head.choice.alpha, "beta": head.choice.beta} if head.choice else {}
    numbers = {**pair, "logit_scale": head.logit_scale, "temperature": head.temperature}
    return {
        "tip_adapter": __version__,
        "method": head.method,
        "classes": json.dumps(head.classes.tolist()),
        "encoder": identity.name,
        "encoder_fingerprint": identity.fingerprint,
        **{name: repr(float(number)) for name, number in numbers.items()},
    }


# ---- the check -------------------------------------------------------------------------------------------------------


def _refuse_large(model: ModelProto, head: Head) -> None:
    """Raise ExportError where the head behind a model would be more than an ONNX file holds."""
    n_classes, n_images, width = len(head.classes), len(head.support), head.class_embeddings.matrix.shape[1]
    if model.ByteSize() + 4 * width * (n_classes + n_images) > MOST_BYTES:
        what = f"{counted(n_images, 'photo', 'photos')} and {counted(n_classes, 'class', 'classes')} of width {width}"
        raise ExportError(f"{what} do not fit into an ONNX file, which holds 2 GiB; fit with fewer --shots")


def _refuse_other_vectors(
    model: ModelProto, pixels: NDArray[Any], vectors: NDArray[np.float32], identity: EncoderIdentity
) -> None:
    """Raise ExportError where an encoder's graph gives others than Python: probabilities of 0 and 1 would hide it."""
    gap = _gap(unit_rows(_run(model.SerializeToString(), "vectors", {"pixels": pixels})), vectors)
    if not gap <= TOLERANCE:
        raise ExportError(
            f"the image graph of encoder {printable(identity.name)} gives other vectors than Python, by {gap:.2g}, above "
            f"{TOLERANCE:g}; export what follows: --input vectors"
        )


def _checked_and_written(
    content: bytes,
    inputs: dict[str, NDArray[Any]],
    head: Head,
    vectors: NDArray[np.float32],
    path: str | os.PathLike[str],
) -> float:
    """Write the file if it answers the inputs, whose vectors Python knows, as Python does; by how much it does not."""
    gap = _gap(_run(content, "probabilities", inputs), head.probabilities(vectors))
    if not (gap <= TOLERANCE or gap <= _ROUNDINGS * _own_rounding(head, vectors)):
        raise ExportError(
            f"the exported graph's probabilities differ from Python's by {gap:.2g}, above {TOLERANCE:g}; {printable(path)} "
            "is not written; try another version of onnxruntime"
        )
    write_file(path, content)
    return gap


def _run(content: bytes, output: str, inputs: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
    session = open_session(content, device="cpu", threads=None)
    (rows,) = session.run([output], inputs)
    return rows


def _gap(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    return float(np.abs(found - wanted).max())


def _own_rounding(head: Head, vectors: NDArray[np.float32]) -> float:
    """By how much Python's own answers move when they are computed in double precision."""
    return _gap(head.probabilities(vectors), head.probabilities(vectors.astype(np.float64)))


def _random_vectors(head: Head) -> NDArray[np.float32]:
    """Vectors of any length: on the photos, on the names, and ever farther from them."""
    rng = np.random.default_rng(0)
    known = [rows for rows in (head.class_embeddings.matrix, head.support.vectors) if len(rows)]
    near = np.concatenate([rows[rng.integers(len(rows), size=_N_VECTORS)] for rows in known])
    noise = rng.standard_normal(near.shape) * near.shape[1] ** -0.5
    distances, lengths = 10 ** rng.uniform(-5, 0.5, (len(near), 1)), rng.uniform(0.1, 10, (len(near), 1))
    return np.asarray(lengths * (near + distances * noise), dtype=np.float32)


def _random_pixels(encoder: Encoder, model: ModelProto) -> NDArray[Any]:
    """What the encoder prepares of random photos, as many as its graph takes."""
    rng = np.random.default_rng(0)
    n_images = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value or _N_PHOTOS
    coarse = rng.integers(0, 256, (n_images, 12, 16, 3), dtype=np.uint8)
    return np.stack([encoder.prepare(Image.fromarray(photo).resize((400, 300))) for photo in coarse])
