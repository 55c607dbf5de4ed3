"""Settings that are finite, but not in float32, are refused with their bound; no estimator gives a NaN probability."""

from decimal import Decimal
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
import torch

from test_contract import make
from tip_adapter import (
    Choice,
    ClassEmbeddings,
    TipAdapterClassifier,
    TipAdapterCV,
    TipAdapterFClassifier,
    choose_alpha_beta,
)
from tip_adapter.errors import TipAdapterError, UsageError, VectorError
from tip_adapter.methods import METHODS, method_class
from tip_adapter.validation import MAX_CHOSEN_ALPHA, MAX_CHOSEN_BETA, MAX_LOGIT_SCALE

X, Y = np.eye(4, dtype=np.float32), ["a", "b", "c", "d"]
NAMES = ClassEmbeddings(Y, X[::-1])
HUGE = 10**400


def made(method, setting):
    return method_class(method)(**setting, **({} if method == "linear-probe" else {"class_embeddings": NAMES}))


TOO_LARGE = [
    ("tip-adapter", {"alpha": 1e39}, "1e\\+30"),
    ("tip-adapter", {"alpha": 1e31}, "1e\\+30"),
    ("tip-adapter", {"alpha": HUGE}, "1e\\+30"),
    ("tip-adapter", {"alpha": 10**5000}, "1e\\+30"),
    ("tip-adapter", {"alpha": float("inf")}, "1e\\+30"),
    ("tip-adapter", {"alpha": np.float16("inf")}, "1e\\+30"),
    ("tip-adapter", {"beta": np.float16("inf")}, "1e\\+07"),
    ("tip-adapter", {"beta": 1e30}, "1e\\+07"),
    ("tip-adapter", {"beta": HUGE}, "1e\\+07"),
    ("tip-adapter", {"logit_scale": 1e300}, "10000"),
    ("tip-adapter", {"logit_scale": HUGE}, "10000"),
    ("tip-adapter-f", {"alpha": 1e39}, "1e\\+30"),
    ("tip-adapter-f", {"beta": 1e30}, "1e\\+07"),
    ("tip-adapter-f", {"learning_rate": 1e39}, "1e\\+06"),
    ("tip-adapter-f", {"learning_rate": HUGE}, "1e\\+06"),
    ("tip-adapter-f", {"epochs": HUGE}, "9.22337e\\+18"),
    ("tip-adapter-f", {"seed": HUGE}, "9.22337e\\+18"),
    ("zero-shot", {"logit_scale": 1e300}, "10000"),
    ("clip-adapter", {"ratio": 1e39}, "1e\\+06"),
    ("clip-adapter", {"reduction": HUGE}, "9.22337e\\+18"),
    ("linear-probe", {"C": 1e300}, "1e\\+30"),
    ("linear-probe", {"C": HUGE}, "1e\\+30"),
    ("linear-probe", {"C": 1e-300}, "1e\\+30"),
]


@pytest.mark.parametrize(("method", "setting", "bound"), TOO_LARGE, ids=range(len(TOO_LARGE)))
def test_fault_82_settings_beyond_float32_are_refused_with_their_bound(method, setting, bound):
    (name,) = setting
    with pytest.raises(UsageError, match=rf"^{name} must be .* and at most {bound}, not ") as refused:
        made(method, setting).fit(X, Y)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("setting", [{"alpha": 1e39}, {"beta": 1e30}, {"logit_scale": 1e300}, {"alpha": HUGE}], ids=str)
def test_fault_82_settings_that_are_set_after_the_fit_are_checked_too(setting):
    clf = TipAdapterClassifier(class_embeddings=NAMES).fit(X, Y).set_params(**setting)
    for answer in (clf.predict, clf.predict_proba, clf.logits, clf.decision_function, clf.explain):
        with pytest.raises(UsageError, match="at most"):
            answer(X)


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor], ids=["numpy", "torch"])
@pytest.mark.parametrize("alpha", [0, 1, MAX_CHOSEN_ALPHA])
@pytest.mark.parametrize("beta", [1e-300, 1, MAX_CHOSEN_BETA])
@pytest.mark.parametrize("logit_scale", [1e-300, 1, MAX_LOGIT_SCALE])
def test_fault_82_probabilities_are_finite_up_to_the_bounds(kind, alpha, beta, logit_scale):
    clf = TipAdapterClassifier(class_embeddings=NAMES, alpha=alpha, beta=beta, logit_scale=logit_scale)
    probabilities = np.asarray(clf.fit(kind(X), Y).predict_proba(kind(X)))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor], ids=["numpy", "torch"])
def test_fault_82_learned_keys_that_overflow_are_an_error_rather_than_nan(kind):
    clf = TipAdapterFClassifier(class_embeddings=NAMES, epochs=0).fit(X, Y).set_params(beta=1e6)
    clf.keys_ = clf.keys_ * 1.1
    for answer in (clf.predict, clf.predict_proba, clf.logits):
        with pytest.raises(VectorError, match=r"logits overflow .*float32 \(alpha .*, beta 1000000.0, logit_scale"):
            answer(kind(X))


NUMBERS = [Fraction(3, 2), np.float64(1.5), np.float32(1.5), np.float16(1.5), np.longdouble(1.5), 1.5]


@pytest.mark.parametrize("value", NUMBERS, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("kind", [np.asarray, torch.tensor], ids=["numpy", "torch"])
@pytest.mark.parametrize("method", METHODS)
def test_fault_82_a_number_of_any_kind_acts_as_the_float_of_its_value(method, kind, value):
    for name in {"alpha", "beta", "logit_scale", "ratio", "learning_rate", "C"} & set(
        method_class(method)().get_params()
    ):
        settings = {"epochs": 2} if "epochs" in method_class(method)().get_params() else {}
        found, expected = (
            make(method, **{"class_embeddings": NAMES, **settings, name: given}).fit(kind(X), Y).logits(kind(X))
            for given in (value, 1.5)
        )
        assert found.dtype == kind(X).dtype
        np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))


@pytest.mark.parametrize("method", ["tip-adapter-f", "clip-adapter"])
def test_fault_82_small_numpy_integers_do_not_wrap(method):
    rows = np.tile(X, (80, 1))
    for settings in ({"epochs": 100}, {"batch_size": 100, "epochs": 2}, {"reduction": 2, "epochs": 2}):
        if not set(settings) <= set(method_class(method)().get_params()):
            continue
        small = {name: np.uint8(value) for name, value in settings.items()}
        found, expected = (made(method, given).fit(rows, Y * 80).logits(X) for given in (small, settings))
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("ratio", [float("nan"), float("inf"), -1.0, HUGE, "0.1", None, True, 1e7, Decimal("0.1"), 1j])
@pytest.mark.parametrize("rule", ["scale-free", "leave-one-out"])
def test_fault_82_a_ratio_that_is_no_number_within_bounds_is_refused(ratio, rule):
    with pytest.raises(UsageError, match=r"^ratio takes a number from 0 to 1,000,000, not "):
        choose_alpha_beta(np.tile(X, (2, 1)), Y * 2, NAMES, rule=rule, ratio=ratio)


def test_fault_82_a_choice_holds_floats_whatever_the_ratio_is():
    choices = [
        choose_alpha_beta(X, Y, NAMES, rule="scale-free", ratio=ratio) for ratio in (np.float32(0.5), Fraction(1, 2))
    ]
    assert choices[0] == choices[1]
    assert {type(choice.alpha) for choice in choices} == {float}


def test_fault_82_an_infinite_choice_in_half_precision_is_refused():
    with pytest.raises(ValueError, match="alpha must be a number at least 0 and at most 1e\\+30, found inf"):
        Choice(np.float16("inf"), 5.5, 1.0, None, "fixed", 0)


def test_logarithms_are_those_of_the_probabilities_and_never_nan():
    clf = TipAdapterClassifier(class_embeddings=NAMES, alpha=0, logit_scale=1000).fit(X, Y)
    np.testing.assert_array_equal(np.unique(clf.predict_log_proba(X)), [-np.inf, 0])
    calibrated = TipAdapterCV(NAMES).fit(np.tile(X, (2, 1)), Y * 2)
    np.testing.assert_allclose(np.exp(calibrated.predict_log_proba(X)), calibrated.predict_proba(X), rtol=1e-5)


EXTREMES = [
    ("tip-adapter-f", {"alpha": MAX_CHOSEN_ALPHA, "beta": MAX_CHOSEN_BETA}),
    ("tip-adapter-f", {"learning_rate": 1e6}),
    ("clip-adapter", {"ratio": 1e6}),
    ("clip-adapter", {"learning_rate": 1e6}),
    ("linear-probe", {"C": 1e-30}),
    ("linear-probe", {"C": 1e30}),
]


@pytest.mark.parametrize(("method", "setting"), EXTREMES, ids=str)
def test_fault_82_extreme_settings_give_an_error_of_ours_or_probabilities(method, setting):
    clf = made(method, setting)
    if "epochs" in clf.get_params():
        clf.set_params(epochs=3)
    try:
        probabilities = clf.fit(X, Y).predict_proba(X)
    except TipAdapterError:
        return
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_fault_82_half_precision_of_numpy_answers_in_float32_as_that_of_torch(dtype):
    vectors = np.eye(3).astype(dtype)
    clf = TipAdapterClassifier().fit(vectors, ["a", "b", "c"])
    assert clf.logits(vectors).dtype == clf.predict_proba(vectors).dtype == np.float32


@pytest.mark.parametrize(
    ("kind", "tensor"),
    [
        ("sparse_coo", torch.eye(3).to_sparse()),
        ("meta", torch.eye(3, device="meta")),
        ("nested", torch.nested.nested_tensor([torch.ones(3), torch.ones(3), torch.ones(3)], layout=torch.jagged)),
    ],
)
def test_fault_82_a_tensor_that_is_not_dense_is_refused_by_its_kind(kind, tensor):
    with pytest.raises(VectorError, match=f"expected a dense tensor of numbers, got a {kind} one"):
        TipAdapterClassifier().fit(tensor, ["a", "b", "c"])
