"""For tests, including those of plug-in authors: a fake encoder, and contract checks for encoders and methods."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from tip_adapter.encoders.onnx.session import open_session
from tip_adapter.encoders.toy import ToyEncoder as FakeEncoder
from tip_adapter.errors import ExportError
from tip_adapter.vectors import ClassEmbeddings, softmax, unit_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from onnx import ModelProto

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
    photos = [Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)) for h, w in [(64, 48), (40, 90), (1, 7)]]
    vectors = encoder.encode_images(photos)
    names = encoder.encode_texts(["cat", "a photo of a dog.", ""])
    for what, rows, n in [("encode_images", vectors, 3), ("encode_texts", names, 3)]:
        assert rows.shape == (n, encoder.identity.width), f"{what} gives {rows.shape}, not (n, identity.width)"
        assert rows.dtype == np.float32, f"{what} gives {rows.dtype}, not float32"
        np.testing.assert_allclose(
            np.linalg.norm(rows, axis=1), 1, atol=1e-5, err_msg=f"{what} does not give unit rows"
        )
    assert encoder.encode_images([]).shape == (0, encoder.identity.width), "no photos give no (0, width) array"
    assert encoder.encode_texts([]).shape == (0, encoder.identity.width), "no texts give no (0, width) array"
    assert np.array_equal(encoder.encode_images(photos), vectors), "the same photos give other vectors"
    alone = np.concatenate([encoder.encode_images([photo]) for photo in photos])
    np.testing.assert_allclose(alone, vectors, atol=1e-5, err_msg="a vector depends on the photo's neighbours")
    stacked = encoder.encode_prepared(np.stack([encoder.prepare(photo) for photo in photos]))
    np.testing.assert_allclose(stacked, vectors, atol=1e-5, err_msg="prepare + encode_prepared is not encode_images")
    if encoder.gives_raw:
        raw = encoder.encode_images(photos, normalize=False)
        np.testing.assert_allclose(
            unit_rows(raw), vectors, atol=1e-5, err_msg="encode_raw, normalised, is not encode_prepared"
        )
    with suppress(ExportError):  # it has one that is too large for a file
        graph = encoder.image_graph()
        if graph is not None:
            _check_image_graph(graph, encoder, np.stack([encoder.prepare(photo) for photo in photos]))
    assert encoder.record.width == encoder.identity.width, "record and identity state different widths"
    assert encoder.logit_scale > 0, "the logit scale is not positive"
    assert all("{}" in template for template in encoder.record.templates), "a template has no {}"
    assert len(encoder.identity.fingerprint) == 64, "the fingerprint is not a SHA-256"


def _check_image_graph(graph: ModelProto, encoder: Encoder, prepared: NDArray[Any]) -> None:
    taken = prepared[: graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value or len(prepared)]
    (vectors,) = open_session(graph.SerializeToString(), device="cpu", threads=None).run(["vectors"], {"pixels": taken})
    np.testing.assert_allclose(
        unit_rows(vectors), encoder.encode_prepared(taken), atol=1e-5, err_msg="image_graph is not encode_prepared"
    )
    facts = {entry.key for entry in graph.metadata_props}
    assert "preprocessing" in facts, "image_graph does not say in its metadata how to prepare a photo"


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
        "classes_ are not the sorted labels: those of the class embeddings, or of y where there are none"
    )
    assert logits.shape == (7, len(classes)), "logits are not (n, n_classes), a class without photos included"
    assert fitted.predict(queries).tolist() == fitted.classes_[logits.argmax(axis=1)].tolist(), (
        "predict is not the argmax"
    )
    probabilities = fitted.predict_proba(queries)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, err_msg="probabilities do not sum to 1")
    np.testing.assert_allclose(
        probabilities, softmax(logits), atol=1e-8, err_msg="probabilities are not the softmax of the logits"
    )
    one_by_one = np.concatenate([fitted.logits(query[None]) for query in queries])
    np.testing.assert_allclose(one_by_one, logits, atol=1e-8, err_msg="an answer depends on its batch")
    shuffled = ClassEmbeddings(labels[::-1], names.matrix[::-1])
    np.testing.assert_allclose(
        make(shuffled).fit(X, y).logits(queries), logits, atol=1e-8, err_msg="the order of the class embeddings matters"
    )
    order = rng.permutation(len(y))
    np.testing.assert_allclose(
        make(names).fit(X[order], y[order]).logits(queries),
        logits,
        atol=1e-6,
        err_msg="the order of the photos matters",
    )
    np.testing.assert_allclose(
        make(names).fit(3 * X, y).logits(5 * queries), logits, atol=1e-6, err_msg="the length of vectors matters"
    )
