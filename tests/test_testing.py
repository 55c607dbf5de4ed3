"""The checks for plugin authors pass on what keeps the contract and say what is broken on what does not."""

from dataclasses import replace

import numpy as np
import pytest
from onnx import TensorProto

from tip_adapter import TipAdapterClassifier, ZeroShotClassifier
from tip_adapter.encoders.onnx.writer import GraphWriter
from tip_adapter.testing import FakeEncoder, check_encoder, check_method
from tip_adapter.vectors import unit_rows

# Encoders


class OtherWidth(FakeEncoder):
    def encode_images(self, images):
        return unit_rows(super().encode_images(images)[:, :48])


class DoublePrecision(FakeEncoder):
    def encode_prepared(self, prepared):
        return unit_rows(super().encode_prepared(prepared).astype(np.float64))


class DoublePrecisionTexts(FakeEncoder):
    def encode_texts(self, sentences):
        return super().encode_texts(sentences).astype(np.float64)


class NotUnit(FakeEncoder):
    def encode_prepared(self, prepared):
        return 2 * super().encode_prepared(prepared)


class NotUnitTexts(FakeEncoder):
    def encode_texts(self, sentences):
        return 2 * super().encode_texts(sentences)


class NoShapeForNoPhotos(FakeEncoder):
    def encode_images(self, images):
        return super().encode_images(images) if len(images) else np.zeros(0, np.float32)


class NoShapeForNoTexts(FakeEncoder):
    def encode_texts(self, sentences):
        return super().encode_texts(sentences) if len(sentences) else np.zeros(0, np.float32)


class Forgetful(FakeEncoder):
    """Answers otherwise each time."""

    calls = 0

    def encode_prepared(self, prepared):
        self.calls += 1
        return unit_rows(super().encode_prepared(prepared) + np.float32(self.calls))


class LooksAtThePhotoBefore(FakeEncoder):
    def encode_images(self, images):
        vectors = super().encode_images(images)
        return unit_rows(vectors + np.roll(vectors, 1, axis=0)) if len(images) > 1 else vectors


class NormalisesOverTheBatch(FakeEncoder):
    """What a network left in training mode does: its batch norms see the neighbours, in any order."""

    def encode_images(self, images):
        prepared = [self.prepare(image) for image in images]
        return self.encode_prepared(np.stack(prepared)) if prepared else super().encode_images([])

    def encode_prepared(self, prepared):
        vectors = super().encode_prepared(prepared)
        return unit_rows(vectors - vectors.mean(axis=0) + 0.01)


class PreparesOtherwise(FakeEncoder):
    def encode_images(self, images):
        return -super().encode_images(images)


class OtherRecord(FakeEncoder):
    record = replace(FakeEncoder.record, width=50)


class NegativeScale(FakeEncoder):
    def __init__(self):
        super().__init__()
        self.logit_scale = -20.0


class TemplateWithoutName(FakeEncoder):
    record = replace(FakeEncoder.record, templates=("{}", "a photo."))


class ShortFingerprint(FakeEncoder):
    def __init__(self):
        super().__init__()
        self.identity = replace(self.identity, fingerprint="abc")


class Graph(FakeEncoder):
    """Its image side leaves as a graph: the last column of a vector is 0.1 before it is normalised."""

    scale = 127.5

    def image_graph(self):
        graph = GraphWriter()
        pixels = graph.input("pixels", TensorProto.UINT8, ["n", 4, 4, 3])
        flat = graph.node("Reshape", pixels, graph.constant(np.array([-1, 48])))
        scaled = graph.node("Div", graph.node("Cast", flat, to=TensorProto.FLOAT), graph.constant(self.scale))
        centred = graph.node("Sub", scaled, graph.constant(1.0))
        padded = graph.node("Pad", centred, graph.constant(np.array([0, 0, 0, 1])), graph.constant(0.1))
        graph.output(padded, "vectors", ["n", 49])
        graph.state(self.facts())
        return graph.model

    def facts(self):
        return {"preprocessing": "4 x 4 pixels"}


class OtherGraph(Graph):
    scale = 128.0


class SilentGraph(Graph):
    def facts(self):
        return {}


def test_an_encoder_with_an_image_graph_keeps_the_contract():
    check_encoder(Graph())


def test_the_fake_encoder_keeps_the_contract():
    check_encoder(FakeEncoder())


@pytest.mark.parametrize(
    ("encoder", "reason"),
    [
        (OtherWidth, r"encode_images gives \(3, 48\), not \(n, identity.width\)"),
        (DoublePrecision, "encode_images gives float64, not float32"),
        (DoublePrecisionTexts, "encode_texts gives float64, not float32"),
        (NotUnit, "encode_images does not give unit rows"),
        (NotUnitTexts, "encode_texts does not give unit rows"),
        (NoShapeForNoPhotos, r"encode_images\(\[\]\) does not give a \(0, width\) array"),
        (NoShapeForNoTexts, r"encode_texts\(\[\]\) does not give a \(0, width\) array"),
        (Forgetful, "the same images give different vectors"),
        (LooksAtThePhotoBefore, "a vector depends on the other images of its batch"),
        (NormalisesOverTheBatch, "a vector depends on the other images of its batch"),
        (PreparesOtherwise, r"prepare \+ encode_prepared differs from encode_images"),
        (OtherGraph, "image_graph differs from encode_prepared"),
        (SilentGraph, "the metadata of image_graph have no entry preprocessing"),
        (OtherRecord, "record and identity give different widths"),
        (NegativeScale, "the logit scale is not positive"),
        (TemplateWithoutName, "a template has no {}"),
        (ShortFingerprint, "the fingerprint is not a SHA-256"),
    ],
)
def test_a_broken_encoder_fails_with_the_reason(encoder, reason):
    with pytest.raises(AssertionError, match=reason):
        check_encoder(encoder())


# Methods


class UnsortedClasses(ZeroShotClassifier):
    def fit(self, X, y):
        super().fit(X, y)
        self.classes_, self.weights_ = self.classes_[::-1], self.weights_[::-1]
        return self


class OnlyClassesWithPhotos(ZeroShotClassifier):
    def fit(self, X, y):
        super().fit(X, y)
        self.seen = np.isin(self.classes_, y)
        return self

    def logits(self, X):
        return super().logits(X)[:, self.seen]


class WorstFirst(ZeroShotClassifier):
    def predict(self, X):
        return self.classes_[self.logits(X).argmin(axis=1)]


class SumsToTwo(ZeroShotClassifier):
    def predict_proba(self, X):
        return 2 * super().predict_proba(X)


class CentresTheBatch(ZeroShotClassifier):
    def logits(self, X):
        logits = super().logits(X)
        return logits - logits.mean(axis=0)


class AlignedByPosition(ZeroShotClassifier):
    def fit(self, X, y):
        super().fit(X, y)
        self.weights_ = unit_rows(self.class_embeddings.matrix)
        return self


class CountsLength(TipAdapterClassifier):
    def logits(self, X):
        return super().logits(X) * np.linalg.norm(X, axis=1, keepdims=True)


class CountsLengthOfPhotos(TipAdapterClassifier):
    def fit(self, X, y):
        super().fit(X, y)
        self.keys_ = X
        return self


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        (UnsortedClasses, "classes_ are not the sorted labels: those of the class embeddings"),
        (OnlyClassesWithPhotos, r"logits are not \(n, n_classes\), including classes without images"),
        (WorstFirst, "predict is not the argmax"),
        (SumsToTwo, "probabilities do not sum to 1"),
        (CentresTheBatch, "logits depend on the other queries of the batch"),
        (AlignedByPosition, "the order of the class embeddings matters"),
        (CountsLength, "the length of vectors matters"),
        (CountsLengthOfPhotos, "the length of vectors matters"),
    ],
)
def test_a_broken_method_fails_with_the_reason(method, reason):
    with pytest.raises(AssertionError, match=reason):
        check_method(lambda names: method(class_embeddings=names))


@pytest.mark.parametrize("method", [ZeroShotClassifier, TipAdapterClassifier])
def test_a_sound_method_keeps_the_laws(method):
    check_method(lambda names: method(class_embeddings=names))


class ForgetsPhotosOrder(TipAdapterClassifier):
    """Sorts the labels but not the keys: photos in order of their classes hide it."""

    def fit(self, X, y):
        super().fit(X, y)
        self.labels_ = np.sort(self.labels_)
        return self


class Overconfident(ZeroShotClassifier):
    def predict_proba(self, X):
        return np.eye(len(self.classes_))[self.logits(X).argmax(axis=1)]


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        (ForgetsPhotosOrder, "the order of the images matters"),
        (Overconfident, "probabilities are not the softmax of the logits"),
    ],
)
def test_a_subtly_broken_method_fails_too(method, reason):
    with pytest.raises(AssertionError, match=reason):
        check_method(lambda names: method(class_embeddings=names))


def test_the_laws_are_asked_of_class_embeddings_in_another_order_than_their_labels():
    given = []

    def make(names):
        given.append(names.labels.tolist())
        return ZeroShotClassifier(class_embeddings=names)

    check_method(make)
    assert given[0] != sorted(given[0])
