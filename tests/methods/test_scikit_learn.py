"""scikit-learn's meta-estimators over every method with class embeddings: they encode labels to 0..N-1."""

from __future__ import annotations

import warnings
from inspect import signature

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import AdaBoostClassifier, BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.model_selection import cross_val_predict
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier, OutputCodeClassifier

from test_contract import make
from tip_adapter import ClassEmbeddings, TipAdapterClassifier, ZeroShotClassifier
from tip_adapter.errors import TipAdapterWarning
from tip_adapter.methods import METHODS, method_class

N, WIDTH = 3, 12
LABELS = ["cat", "dog", "owl"]
every_method = pytest.mark.parametrize("name", METHODS)


def data():
    rng = np.random.default_rng(0)
    centres = np.eye(N, WIDTH)
    return np.repeat(centres, 6, axis=0) + 0.1 * rng.standard_normal((6 * N, WIDTH)), np.repeat(LABELS, 6), centres


def classifier(name, labels=LABELS, rows=slice(None)):
    names = ClassEmbeddings(labels, np.eye(N, WIDTH)[rows])
    settings = {"class_embeddings": names, "epochs": 2, "C": 1.0}
    return make(name, width=WIDTH, **settings)


META = {
    "soft voting": lambda clf: VotingClassifier([("a", clf), ("b", clf)], voting="soft"),
    "stacking": lambda clf: StackingClassifier([("a", clf)], cv=2),
    "calibration": lambda clf: CalibratedClassifierCV(clf, cv=2),
    "calibration, one classifier": lambda clf: CalibratedClassifierCV(clf, cv=2, ensemble=False),
    "one-vs-rest": OneVsRestClassifier,
    "bagging": lambda clf: BaggingClassifier(clf, n_estimators=3, random_state=0),
}
if "temperature" in (CalibratedClassifierCV.__doc__ or ""):
    META["temperature"] = lambda clf: CalibratedClassifierCV(clf, cv=2, method="temperature")
    META["temperature, one classifier"] = lambda clf: CalibratedClassifierCV(
        clf, cv=2, method="temperature", ensemble=False
    )


@every_method
@pytest.mark.parametrize("meta", META)
def test_fault_81_meta_estimators_give_a_probability_of_every_class(name, meta):
    X, y, queries = data()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TipAdapterWarning)  # one-vs-rest leaves out the names
        fitted = META[meta](classifier(name)).fit(X, y)
    assert fitted.classes_.tolist() == LABELS
    assert fitted.predict_proba(queries).shape == (N, N)
    if name not in ("clip-adapter", "coop"):  # two epochs are few
        assert fitted.predict(queries).tolist() == LABELS


@every_method
def test_fault_81_cross_validated_probabilities_and_votes(name):
    X, y, queries = data()
    clf = classifier(name)
    assert cross_val_predict(clf, X, y, cv=2, method="predict_proba").shape == (len(X), N)
    assert cross_val_predict(clf, X, y, cv=2, method="decision_function").shape == (len(X), N)
    logs = cross_val_predict(clf, X, y, cv=2, method="predict_log_proba")
    np.testing.assert_allclose(np.exp(logs), cross_val_predict(clf, X, y, cv=2, method="predict_proba"), atol=1e-6)
    vote = VotingClassifier([("a", clf)], voting="hard").fit(X, y)
    assert vote.predict(queries).tolist() == clf.fit(X, y).predict(queries).tolist()


@every_method
def test_fault_81_encoded_labels_give_the_logits_of_the_labels_themselves(name):
    X, y, queries = data()
    plain, encoded = classifier(name).fit(X, y), classifier(name).fit(X, np.repeat(np.arange(N), 6))
    np.testing.assert_array_equal(encoded.classes_, np.arange(N))
    np.testing.assert_array_equal(encoded.logits(queries), plain.logits(queries))


@every_method
def test_fault_81_adaboost_says_that_sample_weights_are_not_supported(name):
    if "sample_weight" in signature(method_class(name).fit).parameters:
        pytest.skip("it takes sample weights")
    X, y, _ = data()
    with pytest.raises(ValueError, match="sample_weight"):
        AdaBoostClassifier(classifier(name)).fit(X, y)


def test_fault_81_integers_that_may_be_numbered_otherwise_use_the_images_alone_and_say_so():
    X, y, queries = data()
    some = y != "dog"  # cat and owl, encoded, are 0 and 1: not cat and dog
    with pytest.warns(TipAdapterWarning, match="the images alone are used"):
        clf = classifier("tip-adapter").fit(X[some], (y[some] == "owl").astype(int))
    assert clf.predict(queries[[0, 2]]).tolist() == [0, 1]
    assert not clf.weights_.any()


@pytest.mark.parametrize(
    "meta", [OneVsOneClassifier, lambda clf: OutputCodeClassifier(clf, code_size=4, random_state=0)]
)
def test_fault_81_pairs_and_groups_of_classes_use_the_images_alone(meta):
    X, y, queries = data()
    with pytest.warns(TipAdapterWarning, match="the images alone are used"):
        fitted = meta(classifier("tip-adapter")).fit(X, y)
    assert fitted.predict(queries).tolist() == LABELS


@pytest.mark.parametrize("labels", [["cat", "dog"], [10, 20]])
def test_fault_81_a_class_against_the_other_as_minus_one_and_one_is_of_unknown_order(labels):
    X, y = data()[0][:12], np.repeat([1, -1], 6)
    with pytest.warns(TipAdapterWarning, match="from -1 to 1 .* the images alone are used"):
        clf = classifier("tip-adapter", labels, [0, 1]).fit(X, y)
    assert clf.predict(X).tolist() == y.tolist()
    assert not clf.weights_.any()


def test_fault_81_minus_one_and_one_are_labels_where_either_is_one():
    X, y = data()[0][:12], np.repeat([1, -1], 6)
    clf = classifier("tip-adapter", [1, -1], [0, 1]).fit(X, y)
    assert clf.predict(X).tolist() == y.tolist()
    assert clf.weights_.any()
    with pytest.raises(ValueError, match="label -1 has no class embedding"):
        classifier("tip-adapter", [1, 2], [0, 1]).fit(X, y)


@pytest.mark.parametrize(("labels", "rows"), [(["dog", "cat", "owl"], [1, 0, 2]), (["cat", "dog"], [0, 1])])
def test_fault_81_positions_that_could_mean_something_else_are_said(labels, rows):
    X, y, queries = data()
    used = np.isin(y, labels)
    encoded = np.unique(y[used], return_inverse=True)[1]
    with pytest.warns(TipAdapterWarning, match="0 is 'cat', 1 is 'dog'"):
        clf = classifier("zero-shot", labels, rows).fit(X[used], encoded)
    assert clf.predict(queries[: len(labels)]).tolist() == list(range(len(labels)))


def test_fault_81_integer_labels_are_encoded_too_and_those_outside_are_refused():
    X = data()[0]
    names = ClassEmbeddings([10, 20, 30], np.eye(N, WIDTH))
    encoded = np.repeat(np.arange(N), 6)
    assert ZeroShotClassifier(names).fit(X, encoded).score(X, encoded) == 1
    for wrong in (encoded + 1, encoded - 1):
        with pytest.raises(ValueError, match="has no class embedding"):
            ZeroShotClassifier(names).fit(X, wrong)


@pytest.mark.parametrize("labels", [[3, 5, 9, 12], [1, 2, 3, 4], [0, 1, 2, 7], [False, True]], ids=str)
def test_fault_81_numbers_and_truth_values_are_labels_that_may_be_encoded(labels):
    centres, y = np.eye(len(labels), WIDTH), np.repeat(labels, 6)
    X = np.repeat(centres, 6, axis=0) + 0.1 * np.random.default_rng(0).standard_normal((len(y), WIDTH))
    clf = TipAdapterClassifier(class_embeddings=ClassEmbeddings(labels, centres))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TipAdapterWarning)
        voted = VotingClassifier([("one", clf), ("other", clf)], voting="soft").fit(X, y).predict(X)
        left_out = cross_val_predict(clf, X, y, cv=3, method="predict_proba")
    assert voted.tolist() == y.tolist()
    np.testing.assert_array_equal(left_out.argmax(axis=1), np.repeat(range(len(labels)), 6))


def test_fault_81_positions_that_are_labels_too_are_said_or_refused():
    X, encoded = data()[0], np.repeat(np.arange(N), 6)
    with pytest.warns(TipAdapterWarning, match="read as positions among the sorted labels"):
        ZeroShotClassifier(ClassEmbeddings([1, 2, 3], np.eye(N, WIDTH))).fit(X, encoded)
    for names in (ClassEmbeddings([1, 2, 3], np.eye(N, WIDTH)), ClassEmbeddings(["1", "2", "3"], np.eye(N, WIDTH))):
        with pytest.raises(ValueError, match="label 0 has no class embedding"):
            ZeroShotClassifier(names).fit(X[:12], encoded[:12])


def test_fault_81_a_class_of_encoded_labels_is_not_removed():
    X = data()[0]
    clf = TipAdapterClassifier(class_embeddings=ClassEmbeddings(LABELS, np.eye(N, WIDTH)))
    clf.fit(X, np.repeat(np.arange(N), 6)).partial_fit(X[:1], [0], ids=["more"])
    with pytest.raises(ValueError, match="nothing was removed"):
        clf.remove_class(1)
    assert clf.remove(["more"]).classes_.tolist() == [0, 1, 2]
