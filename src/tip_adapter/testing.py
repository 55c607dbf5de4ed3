"""For tests, including those of plug-in authors: a fake encoder, and contract checks for encoders and methods."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from tip_adapter.encoders.onnx.tower import open_session
from tip_adapter.encoders.toy import ToyEncoder as FakeEncoder
from tip_adapter.errors import ExportError
from tip_adapter.vectors import ClassEmbeddings, softmax, unit_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from tip_adapter.encoders import Encoder

__all__ = ["FakeEncoder", "check_encoder", "check_method"]


def check_encoder(encoder: Encoder) -> None:
    """Check that an encoder keeps its contract.

    Parameters
    ----------
    encoder : Encoder, loaded

    Raises
    ------
    AssertionError
        With the broken rule.
    """
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)) for h, w in [(64, 48), (40, 90), (1, 7)]]
    vectors, width = encoder.encode_images(images), encoder.identity.width
    checked = [("encode_images", vectors, encoder.encode_images([]))]
    if encoder.record.reads_names:
        texts = ["cat", "a photo of a dog.", ""]
        checked.append(("encode_texts", encoder.encode_texts(texts), encoder.encode_texts([])))
    for what, rows, none in checked:
        assert rows.shape == (3, width), f"{what} gives {rows.shape}, not (n, identity.width)"
        assert rows.dtype == np.float32, f"{what} gives {rows.dtype}, not float32"
        _assert_close(np.linalg.norm(rows, axis=1), np.ones(3), f"{what} does not give unit rows")
        assert none.shape == (0, width), f"{what}([]) does not give a (0, width) array"
    assert np.array_equal(encoder.encode_images(images), vectors), "the same images give different vectors"
    alone = np.concatenate([encoder.encode_images([image]) for image in images])
    _assert_close(alone, vectors, "a vector depends on the other images of its batch")
    prepared = np.stack([encoder.prepare(image) for image in images])
    _assert_close(encoder.encode_prepared(prepared), vectors, "prepare + encode_prepared differs from encode_images")
    if encoder.gives_raw:
        raw = encoder.encode_images(images, normalize=False)
        _assert_close(unit_rows(raw), vectors, "encode_images(normalize=False), normalised, differs from encode_images")
    with suppress(ExportError):  # too large for one file
        graph = encoder.image_graph()
        if graph is not None:
            batch = prepared[: graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value or len(prepared)]
            session = open_session(graph.SerializeToString(), device="cpu", threads=None)
            (rows,) = session.run(["vectors"], {"pixels": batch})
            _assert_close(unit_rows(rows), encoder.encode_prepared(batch), "image_graph differs from encode_prepared")
            keys = {entry.key for entry in graph.metadata_props}
            assert "preprocessing" in keys, "the metadata of image_graph have no entry preprocessing"
    assert encoder.record.width == width, "record and identity give different widths"
    assert encoder.logit_scale > 0, "the logit scale is not positive"
    assert all("{}" in template for template in encoder.record.templates), "a template has no {}"
    assert len(encoder.identity.fingerprint) == 64, "the fingerprint is not a SHA-256"


def _assert_close(actual: NDArray[Any], expected: NDArray[Any], rule: str, *, atol: float = 1e-5) -> None:
    np.testing.assert_allclose(actual, expected, atol=atol, err_msg=rule)


def check_method(make: Callable[[ClassEmbeddings], Any]) -> None:
    """Check that a method over vectors keeps its contract.

    Parameters
    ----------
    make : class embeddings → an unfitted estimator that uses or ignores them

    Raises
    ------
    AssertionError
        With the broken rule.
    """
    rng = np.random.default_rng(0)
    labels = np.array(["b", "a", "d", "c"])
    names = ClassEmbeddings(labels, rng.standard_normal((4, 12)))
    y = np.array(list("aaabbcabc"))
    centres = dict(zip(labels.tolist(), rng.standard_normal((4, 12)), strict=True))
    X = np.stack([centres[label] for label in y]) + 0.3 * rng.standard_normal((len(y), 12))
    queries = rng.standard_normal((7, 12))

    fitted = make(names).fit(X, y)
    logits = fitted.logits(queries)
    classes = sorted(set(y) if fitted.class_embeddings is None else set(labels))
    assert fitted.classes_.tolist() == classes, (
        "classes_ are not the sorted labels: those of the class embeddings, or of y without class embeddings"
    )
    assert logits.shape == (7, len(classes)), "logits are not (n, n_classes), including classes without images"
    predicted = fitted.predict(queries).tolist()
    assert predicted == fitted.classes_[logits.argmax(axis=1)].tolist(), "predict is not the argmax of the logits"
    probabilities = fitted.predict_proba(queries)
    _assert_close(probabilities.sum(axis=1), np.ones(7), "probabilities do not sum to 1", atol=0)
    _assert_close(probabilities, softmax(logits), "probabilities are not the softmax of the logits", atol=1e-8)
    one_by_one = np.concatenate([fitted.logits(query[None]) for query in queries])
    _assert_close(one_by_one, logits, "logits depend on the other queries of the batch", atol=1e-8)
    refit = make(ClassEmbeddings(labels[::-1], names.matrix[::-1])).fit(X, y)
    _assert_close(refit.logits(queries), logits, "the order of the class embeddings matters", atol=1e-8)
    order = rng.permutation(len(y))
    refit = make(names).fit(X[order], y[order])
    _assert_close(refit.logits(queries), logits, "the order of the images matters", atol=1e-6)
    refit = make(names).fit(3 * X, y)
    _assert_close(refit.logits(5 * queries), logits, "the length of vectors matters", atol=1e-6)
