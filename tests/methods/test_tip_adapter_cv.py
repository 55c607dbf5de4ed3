"""TipAdapterCV: alpha and beta are chosen inside `fit`, so that scikit-learn's cross-validation is honest."""

from __future__ import annotations

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks

from tip_adapter import ClassEmbeddings, TipAdapterClassifier, TipAdapterCV, choose_alpha_beta
from tip_adapter.errors import TipAdapterWarning, UsageError
from tip_adapter.methods import tuning
from tip_adapter.vectors import softmax, unit_rows

LABELS = ["cat", "dog", "owl"]


def data(noise=0.6, n=8, seed=0):
    """Overlapping classes around their names' vectors: X, y and names."""
    rng = np.random.default_rng(seed)
    centres = np.eye(3, 12)
    y = np.repeat(LABELS, n)
    return np.repeat(centres, n, axis=0) + noise * rng.standard_normal((3 * n, 12)), y, ClassEmbeddings(LABELS, centres)


@parametrize_with_checks([TipAdapterCV(), TipAdapterCV(rule="scale-free")])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("rule", ["leave-one-out", "scale-free"])
def test_it_is_tip_adapter_with_what_choose_alpha_beta_chooses(named, rule):
    X, y, names = data()
    names, queries = names if named else None, data(seed=1)[0]
    clf = TipAdapterCV(names, logit_scale=30.0, rule=rule, ratio=0.5).fit(X, y)
    choice = choose_alpha_beta(X, y, names, logit_scale=30.0, rule=rule, ratio=0.5)
    assert clf.choice_ == choice
    assert (clf.alpha_, clf.beta_) == (choice.alpha, choice.beta)
    plain = TipAdapterClassifier(choice.alpha, choice.beta, names, logit_scale=30.0).fit(X, y)
    np.testing.assert_array_equal(clf.logits(queries), plain.logits(queries))
    np.testing.assert_array_equal(clf.decision_function(queries), plain.decision_function(queries))
    np.testing.assert_array_equal(clf.predict(queries), plain.predict(queries))
    np.testing.assert_array_equal(clf.predict_proba(queries), softmax(plain.logits(queries) / choice.temperature))
    assert [evidence[0] for evidence in clf.explain(queries)] == [evidence[0] for evidence in plain.explain(queries)]
    assert clf.score(queries, y) == plain.score(queries, y)


@pytest.mark.parametrize(
    ("counts", "rule"), [((2, 1), "leave-one-out"), ((1, 1), "scale-free"), ((3,), "leave-one-out")]
)
def test_without_a_rule_the_number_of_images_decides(counts, rule):
    y = np.repeat(LABELS[: len(counts)], counts)
    X = np.random.default_rng(0).standard_normal((len(y), 12))
    assert TipAdapterCV().fit(X, y).choice_.rule == rule


@pytest.mark.parametrize("rule", ["validation", "fixed", "loo", "", 1, ["leave-one-out"]])
def test_another_rule_is_refused_with_those_there_are(rule):
    X, y, _ = data()
    with pytest.raises(UsageError, match=r"unknown rule .*; choose one of leave-one-out, scale-free"):
        TipAdapterCV(rule=rule).fit(X, y)


def test_leave_one_out_needs_a_class_with_two_images():
    X, y, _ = data(n=1)
    with pytest.raises(ValueError, match="needs a class with two images; the scale-free rule works from one"):
        TipAdapterCV(rule="leave-one-out").fit(X, y)


def test_it_is_fitted_before_it_predicts():
    for answer in ("predict", "predict_proba", "logits", "decision_function", "explain"):
        with pytest.raises(NotFittedError):
            getattr(TipAdapterCV(), answer)(np.eye(3))


@pytest.mark.parametrize("named", [True, False])
def test_each_fold_chooses_from_its_training_part_alone(monkeypatch, named):
    X, y, names = data()
    seen = []
    chosen = tuning.RULES["leave-one-out"]
    monkeypatch.setitem(
        tuning.RULES, "leave-one-out", lambda cache, data: seen.append(cache.keys) or chosen(cache, data)
    )
    cross_val_score(TipAdapterCV(names if named else None), X, y, cv=4)
    assert [len(keys) for keys in seen] == [18] * 4
    unit = unit_rows(X)
    held_out = [~(unit[:, None] == keys[None]).all(axis=2).any(axis=1) for keys in np.array(seen)]
    np.testing.assert_array_equal(np.sum(held_out, axis=0), np.ones(len(X)))  # each image in one test part


def test_scikit_learns_meta_estimators_take_it():
    X, y, names = data(noise=0.1)
    clf, queries = TipAdapterCV(names), np.eye(3, 12)
    same = FunctionTransformer()
    made = [
        make_pipeline(same, clf),
        GridSearchCV(clf, {"rule": ["leave-one-out", "scale-free"], "logit_scale": [30.0, 100.0]}, cv=2),
        VotingClassifier([("a", clf), ("b", TipAdapterClassifier())], voting="soft"),
        VotingClassifier([("a", clf)], voting="hard"),
        StackingClassifier([("a", clf)], cv=2),
        CalibratedClassifierCV(clf, cv=2),
        BaggingClassifier(clf, n_estimators=3, random_state=0),
        OneVsRestClassifier(clf),
    ]
    for estimator in made:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TipAdapterWarning)  # one-vs-rest leaves out the names
            estimator.fit(X, y)
        assert estimator.predict(queries).tolist() == LABELS
    for method in ("predict", "predict_proba", "decision_function"):
        assert len(cross_val_predict(clf, X, y, cv=2, method=method)) == len(X)
    encoded = clone(clf).fit(X, np.repeat(np.arange(3), 8))
    np.testing.assert_array_equal(encoded.logits(queries), clf.fit(X, y).logits(queries))


def test_its_probabilities_are_calibrated_and_those_without_temperature_are_not():
    X, y, names = data(noise=0.6, n=20)
    X_new, y_new, _ = data(noise=0.6, n=50, seed=1)
    clf = TipAdapterCV(names).fit(X, y)
    assert log_loss(y_new, clf.predict_proba(X_new)) < 0.8 * log_loss(y_new, softmax(clf.logits(X_new)))


def test_tensors_in_tensors_out():
    X, y, names = data()
    clf, expected = TipAdapterCV(names).fit(torch.tensor(X), y), TipAdapterCV(names).fit(X, y)
    assert clf.alpha_ == pytest.approx(expected.alpha_)
    assert clf.beta_ == pytest.approx(expected.beta_)
    probabilities = clf.predict_proba(torch.tensor(X))
    assert isinstance(probabilities, torch.Tensor)
    np.testing.assert_allclose(probabilities.numpy(), expected.predict_proba(X), rtol=1e-6)


def test_copies_and_pickles_keep_the_choice():
    X, y, names = data()
    clf = TipAdapterCV(names).fit(X, y, ids=[f"{i}.jpg" for i in range(len(X))])
    assert clf.ids_[0] == "0.jpg"
    for twin in (copy.deepcopy(clf), pickle.loads(pickle.dumps(clf))):
        assert twin.choice_ == clf.choice_
        np.testing.assert_array_equal(twin.predict_proba(X), clf.predict_proba(X))
    assert repr(TipAdapterCV(rule="scale-free")) == "TipAdapterCV(rule='scale-free')"
