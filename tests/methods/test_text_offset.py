"""text-offset against its formula in float64: the objective's gradient, scipy's minimum, and what changes must leave as it is."""

import numpy as np
import pytest
import torch
from formulas import unit
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from support_cases import case, cases

from tip_adapter import ClassEmbeddings, TextOffsetClassifier
from tip_adapter.errors import UsageError
from tip_adapter.methods.folds import near_repeats

PENALTIES = st.sampled_from([0.03, 0.1, 1.0, 10.0])
TEXT_WEIGHTS = st.sampled_from([0.0, 0.05, 0.5, 1.0])


def fitted(data, penalty=0.5, text_weight=0.2, **settings):
    settings = {"class_embeddings": data.class_embeddings, "logit_scale": data.logit_scale, **settings}
    return TextOffsetClassifier(penalty=penalty, text_weight=text_weight, **settings).fit(data.X, data.y)


def log_softmax(logits):
    behind = logits - logits.max(axis=1, keepdims=True)
    return behind - np.log(np.exp(behind).sum(axis=1, keepdims=True))


class Formula:
    """The problem of a case, over the classes with photos, in the words of the module: F, W, m, u and the one-hot L."""

    def __init__(self, data, penalty, text_weight, mean=None):
        self.penalty = penalty
        self.present = sorted(set(data.labels.tolist()))
        self.L = np.array([[float(label == c) for c in self.present] for label in data.labels])
        F, W = unit(data.X), unit(data.weights)[self.present]
        self.counts = self.L.sum(axis=0)
        self.m = (
            np.mean([F[self.L[:, c] == 1].mean(axis=0) for c in range(len(self.present))], axis=0)
            if mean is None
            else mean
        )
        self.F, self.text = F - self.m, text_weight * data.logit_scale * F @ W.T
        self.u = (len(self.counts) / (1 / self.counts).sum() / self.counts)[self.L.argmax(axis=1)]

    def errors(self, B):
        return np.exp(log_softmax(self.text + self.F @ B.T)) - self.L

    def gradient(self, B):
        return (self.u[:, None] * self.errors(B)).T @ self.F + self.penalty * B

    def minimum(self):
        shape = (len(self.present), self.F.shape[1])

        def loss(flat):
            B = flat.reshape(shape)
            own = (log_softmax(self.text + self.F @ B.T) * self.L).sum(axis=1)
            return -self.u @ own + self.penalty / 2 * (B**2).sum(), self.gradient(B).ravel()

        return minimize(loss, np.zeros(shape).ravel(), jac=True, method="BFGS", options={"gtol": 1e-9}).x.reshape(shape)

    def intercepts(self, B):
        """b: each photo as another of its class, at a cosine of 0.4 to itself; 0 where the counts are equal."""
        A = -self.u[:, None] * self.errors(B)
        logits = self.text + self.F @ B.T - 0.6 * (self.F**2).sum(axis=1, keepdims=True) * A / self.penalty
        shares = 1 / self.counts[self.L.argmax(axis=1)]

        def loss(b):
            own = (log_softmax(logits + b) * self.L).sum(axis=1)
            return -shares @ own + 0.05 * b @ b

        inequality = 1 - len(self.counts) / (1 / self.counts).sum() / self.counts.mean()
        return inequality * minimize(loss, np.zeros(len(self.counts)), method="BFGS", options={"gtol": 1e-8}).x


def image_coef(clf):
    """B of the classes with photos."""
    B = clf.coef_ - clf.text_weight_ * clf.logit_scale * unit(clf.class_embeddings.sorted_by_label().matrix)
    return B[np.unique(clf.labels_)]


# ---- the minimum -----------------------------------------------------------------------------------------------------


@given(data=cases(min_photos=1), penalty=PENALTIES, text_weight=TEXT_WEIGHTS)
def test_the_gradient_of_the_objective_is_below_the_tolerance(data, penalty, text_weight):
    clf = fitted(data, penalty, text_weight)
    formula = Formula(data, penalty, text_weight)
    if len(formula.present) > 1:
        assert np.linalg.norm(formula.gradient(image_coef(clf))) <= 1e-4 * len(data.X) ** 0.5 + 1e-8
    else:
        np.testing.assert_allclose(image_coef(clf), 0, atol=1e-9)


@pytest.mark.parametrize("counts", [[3, 3, 3], [1, 1, 1, 1], [2, 5, 1], [9, 2]])
@pytest.mark.parametrize("penalty", [0.1, 2.0])
def test_logits_are_those_of_scipys_minimum(counts, penalty):
    data = case(counts, seed=3, noise=0.4)
    formula = Formula(data, penalty, 0.3)
    B = formula.minimum()
    b = formula.intercepts(B)
    assert (np.abs(b).max() > 1e-3) == (len(set(counts)) > 1)
    queries = unit(data.queries)
    expected = 0.3 * data.logit_scale * queries @ unit(data.weights).T + (queries - formula.m) @ B.T + b
    # |B - minimum| is at most the norm of the gradient over the penalty, since the objective is that convex.
    np.testing.assert_allclose(fitted(data, penalty, 0.3).logits(data.queries), expected, atol=2e-3)


@given(data=cases(min_photos=1), penalty=PENALTIES, text_weight=TEXT_WEIGHTS)
def test_classes_without_photos_keep_the_logits_of_their_names(data, penalty, text_weight):
    logits = fitted(data, penalty, text_weight).logits(data.queries)
    names = text_weight * data.logit_scale * unit(data.queries) @ unit(data.weights).T
    absent = np.setdiff1d(np.arange(len(data.weights)), data.labels)
    np.testing.assert_allclose(logits[:, absent], names[:, absent], atol=1e-8)


def test_every_class_counts_the_same_however_many_photos_it_has():
    data = case([3, 3, 3], seed=1, noise=0.5)
    once = fitted(data)
    rows = np.concatenate([np.arange(9), np.flatnonzero(data.labels == 0), np.flatnonzero(data.labels == 0)])
    more = TextOffsetClassifier(data.class_embeddings, data.logit_scale, penalty=0.5, text_weight=0.2)
    more.fit(data.X[rows], data.y[rows])
    total = 3 / (1 / 9 + 1 / 3 + 1 / 3)  # of each class, instead of 3
    same = TextOffsetClassifier(data.class_embeddings, data.logit_scale, penalty=0.5 * 3 / total, text_weight=0.2)
    same.fit(data.X, data.y)
    np.testing.assert_allclose(image_coef(more), image_coef(same), atol=1e-3)
    assert not np.allclose(image_coef(more), image_coef(once), atol=1e-3)


@pytest.mark.parametrize("counts", [[2, 2, 2], [1, 1]])
def test_every_photo_twice_is_half_the_penalty(counts):
    data = case(counts, seed=2)
    twice = TextOffsetClassifier(data.class_embeddings, data.logit_scale, penalty=1.0, text_weight=0.2)
    twice.fit(np.concatenate([data.X, data.X]), np.concatenate([data.y, data.y]))
    np.testing.assert_allclose(twice.logits(data.queries), fitted(data, 0.5).logits(data.queries), atol=2e-3)


@given(data=cases(min_photos=1), seed=st.integers(0, 99))
def test_the_order_of_photos_does_not_matter(data, seed):
    order = np.random.default_rng(seed).permutation(len(data.X))
    shuffled = TextOffsetClassifier(data.class_embeddings, data.logit_scale, penalty=1.0, text_weight=0.2)
    shuffled.fit(data.X[order], data.y[order])
    np.testing.assert_allclose(shuffled.logits(data.queries), fitted(data, 1.0).logits(data.queries), atol=2e-3)


# ---- few classes and photos ------------------------------------------------------------------------------------------


def test_without_photos_the_names_answer():
    data = case([0, 0, 0])
    clf = TextOffsetClassifier(data.class_embeddings, data.logit_scale).fit(data.X, data.y)
    assert clf.text_weight_ == 1
    expected = data.logit_scale * unit(data.queries) @ unit(data.weights).T
    np.testing.assert_allclose(clf.logits(data.queries), expected, atol=1e-8)
    for evidence in clf.explain(data.queries)[0]:
        assert (evidence.images, evidence.n_others) == ((), 0)
        assert evidence.logit == pytest.approx(evidence.text)
    rows, logits = clf.left_out()
    assert (len(rows), logits.shape) == (0, (0, 3))


@pytest.mark.parametrize("counts", [[4], [1], [0, 3], [1, 0, 0]])
def test_with_photos_of_one_class_the_names_answer(counts):
    data = case(counts)
    clf = TextOffsetClassifier(data.class_embeddings, data.logit_scale).fit(data.X, data.y)
    assert clf.text_weight_ == 1
    expected = data.logit_scale * unit(data.queries) @ unit(data.weights).T
    np.testing.assert_allclose(clf.logits(data.queries), expected, atol=1e-8)


def test_one_photo_of_each_class_is_enough_to_choose():
    data = case([1, 1, 1], noise=0.1)
    clf = TextOffsetClassifier(data.class_embeddings, data.logit_scale).fit(data.X, data.y)
    assert clf.predict(data.X).tolist() == data.y.tolist()
    assert len(clf.left_out()[0]) == 0


def test_without_names_the_photos_decide():
    data = case([4, 4, 4], noise=0.3, seed=4)
    clf = TextOffsetClassifier().fit(data.X, data.y)
    assert clf.text_weight_ == 0
    assert clf.predict(data.X).tolist() == data.y.tolist()
    with pytest.raises(ValueError, match="minimum of 1 is required"):
        TextOffsetClassifier().fit(data.X[:0], data.y[:0])


def test_names_that_are_wrong_are_not_trusted():
    data = case([8] * 6, width=16, noise=0.6, seed=5, logit_scale=20.0)
    centres = np.stack([unit(data.X[data.labels == c]).mean(axis=0) for c in range(6)])
    labels = [f"class {c}" for c in range(6)]
    right, wrong = (
        TextOffsetClassifier(ClassEmbeddings(labels, matrix), 20.0).fit(data.X, data.y)
        for matrix in (centres, np.roll(centres, 1, axis=0))
    )
    assert wrong.text_weight_ < 0.01 < 0.1 < right.text_weight_
    assert wrong.predict(data.X).tolist() == data.y.tolist()


# ---- changes ---------------------------------------------------------------------------------------------------------


def same_as_a_refit(clf, X, y, queries):
    """What was changed answers as a fit with the same penalty and text weight."""
    refit = TextOffsetClassifier(clf.class_embeddings, clf.logit_scale, clf.penalty_, clf.text_weight_).fit(X, y)
    assert clf.classes_.tolist() == refit.classes_.tolist()
    # Both are minima to the solver's tolerance, found from different starts.
    np.testing.assert_allclose(clf.logits(queries), refit.logits(queries), atol=1e-3)
    assert clf.predict(queries).tolist() == refit.predict(queries).tolist()


@given(data=cases(min_photos=2), split=st.floats(0, 1))
def test_photos_that_are_added_or_removed_make_a_refit(data, split):
    first = round(split * len(data.X))
    chosen = TextOffsetClassifier(data.class_embeddings, data.logit_scale).fit(data.X[:first], data.y[:first])
    before = chosen.penalty_, chosen.text_weight_
    chosen.partial_fit(data.X[first:], data.y[first:])
    same_as_a_refit(chosen, data.X, data.y, data.queries)
    assert (chosen.penalty_, chosen.text_weight_) == before
    chosen.remove(chosen.ids_[first:].tolist())
    same_as_a_refit(chosen, data.X[:first], data.y[:first], data.queries)


def test_a_removed_class_was_never_there():
    data = case([3, 2, 4, 0], seed=6)
    clf = TextOffsetClassifier(data.class_embeddings, data.logit_scale).fit(data.X, data.y)
    clf.remove_class("class 1").remove_class("class 3")
    kept = data.labels != 1
    same_as_a_refit(clf, data.X[kept], data.y[kept], data.queries)


def test_without_names_a_class_comes_and_goes_with_its_photos():
    data = case([3, 2, 4], seed=6)
    first = data.labels < 2
    clf = TextOffsetClassifier().fit(data.X[first], data.y[first])
    clf.partial_fit(data.X[~first], data.y[~first])
    assert clf.classes_.tolist() == ["class 0", "class 1", "class 2"]
    clf.remove([name for name, label in zip(clf.ids_, clf.labels_, strict=True) if label == 2])
    same_as_a_refit(clf, data.X[first], data.y[first], data.queries)


# ---- photos left out -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("counts", [[4, 4, 4], [6, 2, 3, 1]])
def test_left_out_logits_are_those_of_the_minimum_without_the_fold(counts):
    data = case(counts, width=12, seed=7, noise=0.8)
    clf = fitted(data)
    mean = Formula(data, 0.5, 0.2).m
    rows, logits = clf.left_out()
    folds = clf._regression().folds
    assert sorted(np.concatenate(folds).tolist()) == rows.tolist()
    assert np.isin(np.flatnonzero(np.array(counts)[data.labels] > 1), rows).all()
    for fold in folds:
        kept = np.setdiff1d(np.arange(len(data.X)), fold)
        formula = Formula(type(data)(**{**vars(data), "X": data.X[kept], "labels": data.labels[kept]}), 0.5, 0.2, mean)
        assert formula.present == list(range(len(counts))), "each class keeps an image"
        B = formula.minimum()
        F = unit(data.X[fold])
        expected = 0.2 * data.logit_scale * F @ unit(data.weights).T + (F - mean) @ B.T + formula.intercepts(B)
        np.testing.assert_allclose(logits[np.isin(rows, fold)], expected, atol=0.02)  # the gradient of 1e-3 √n over λ


def test_near_repeats_have_the_same_number_and_others_their_own():
    rng = np.random.default_rng(8)
    photos = unit(rng.standard_normal((12, 40)))
    copies = unit(photos[:4] + 0.02 * rng.standard_normal((4, 40)))
    labels = np.repeat([0, 1], 6)
    groups = near_repeats(np.concatenate([photos, copies]), np.concatenate([labels, labels[:4]]))
    assert groups[12:].tolist() == groups[:4].tolist()
    assert len(set(groups[:12].tolist())) == 12
    elsewhere = near_repeats(np.concatenate([photos, copies]), np.concatenate([labels, 1 - labels[:4]]))
    assert len(set(elsewhere.tolist())) == 16, "an image of another class is no near-repeat"


def test_near_repeats_are_left_out_together():
    data = case([4, 4, 4], width=30, seed=9, noise=0.9)
    X = np.concatenate([data.X, data.X * 1.001 + 1e-3])
    clf = TextOffsetClassifier(data.class_embeddings, data.logit_scale).fit(X, np.concatenate([data.y, data.y]))
    for fold in clf._regression().folds:
        assert set((fold % 12).tolist()) == set(fold[fold < 12].tolist())


# ---- the prior -------------------------------------------------------------------------------------------------------


def test_the_prior_by_counts_adds_its_logarithm():
    data = case([6, 2, 0], seed=10)
    balanced, counted = fitted(data), fitted(data, prior="counts")
    difference = counted.logits(data.queries) - balanced.logits(data.queries)
    np.testing.assert_allclose(difference, np.log(np.array([7, 3, 1]) / 11)[None].repeat(5, axis=0), atol=1e-8)


def test_an_unknown_prior_is_refused():
    with pytest.raises(UsageError, match="unknown prior 'uniform'; choose one of balanced, counts"):
        fitted(case([1, 1]), prior="uniform")


# ---- explanations, tensors, saved arrays -----------------------------------------------------------------------------


@given(data=cases(min_photos=1))
def test_explanations_add_up_to_the_logit(data):
    clf = fitted(data)
    for row, evidences in zip(clf.logits(data.queries), clf.explain(data.queries), strict=True):
        for evidence in evidences:
            whole = evidence.text + sum(image.part for image in evidence.images) + evidence.others
            assert whole == pytest.approx(evidence.logit, abs=1e-9)
            assert evidence.logit == pytest.approx(row[clf.classes_.tolist().index(evidence.label)], abs=1e-9)
            assert len(evidence.images) + evidence.n_others == len(data.X)


def test_the_term_of_an_image_is_its_cosine_times_its_error():
    data = case([1, 1, 1], seed=11)
    clf, formula = fitted(data), Formula(data, 0.5, 0.2)
    A = -formula.errors(image_coef(clf)) / 0.5
    queries = unit(data.queries) - formula.m
    for query, evidences in zip(queries, clf.explain(data.queries), strict=True):
        for evidence in evidences:
            c = clf.classes_.tolist().index(evidence.label)
            parts = {image.id: image.part for image in evidence.images}
            expected = {str(i): float(query @ formula.F[i] * A[i, c]) for i in range(3)}
            assert parts == pytest.approx(expected, abs=1e-9)
            assert evidence.others == pytest.approx(0, abs=2e-3)  # no intercept where counts are equal


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tensors_in_tensors_out(dtype):
    data = case([3, 3, 2], seed=12)
    clf = TextOffsetClassifier(data.class_embeddings, data.logit_scale, penalty=0.5, text_weight=0.2)
    logits = clf.fit(torch.tensor(data.X, dtype=dtype), data.y).logits(torch.tensor(data.queries, dtype=dtype))
    assert (type(logits), logits.dtype) == (torch.Tensor, dtype)
    np.testing.assert_allclose(logits.numpy(), fitted(data).logits(data.queries), atol=5e-3)


def test_saved_arrays_restore_it_bit_for_bit():
    data = case([3, 2, 2], seed=13, dtype=np.float32)
    clf = TextOffsetClassifier(data.class_embeddings, data.logit_scale).fit(data.X, data.y)
    restored = TextOffsetClassifier(data.class_embeddings, data.logit_scale, **clf.settings())
    restored.restore(clf.keys_, data.y, clf.learned(), clf.ids_.tolist())
    np.testing.assert_array_equal(restored.logits(data.queries), clf.logits(data.queries))
    for changed in (clf, restored):
        changed.remove(["0"])
    np.testing.assert_allclose(restored.logits(data.queries), clf.logits(data.queries), atol=1e-4)


REFUSED = {
    "no coefficients": (
        {"coef_": None},
        {},
        r"expected learned arrays \['coef_', 'intercept_'\], got \['intercept_'\]",
    ),
    "an array more": ({"keys_": np.zeros((7, 6))}, {}, r"got \['coef_', 'intercept_', 'keys_'\]"),
    "a class too few": ({"coef_": np.zeros((2, 6))}, {}, r"shapes \[\(2, 6\), \(1, 3\)\] do not fit 3 classes"),
    "another width": ({"coef_": np.zeros((3, 5))}, {}, r"shapes \[\(3, 5\), \(1, 3\)\] do not fit .* width 6"),
    "an intercept too few": ({"intercept_": np.zeros((1, 2))}, {}, "do not fit 3 classes"),
    "no penalty": ({}, {"penalty": None}, "penalty None, text_weight .* do not fit"),
    "no text weight": ({}, {"text_weight": None}, "text_weight None and arrays .* do not fit"),
    "NaN": ({"coef_": np.full((3, 6), np.nan)}, {}, "coef_ contains NaN"),
    "infinity": ({"intercept_": np.full((1, 3), np.inf)}, {}, "intercept_ contains NaN, or values beyond 1e\\+30"),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_arrays_that_do_not_fit_are_refused(reason):
    arrays, settings, message = REFUSED[reason]
    data = case([3, 2, 2], seed=13)
    clf = fitted(data)
    learned = {name: array for name, array in (clf.learned() | arrays).items() if array is not None}
    restored = TextOffsetClassifier(data.class_embeddings, data.logit_scale, **(clf.settings() | settings))
    with pytest.raises(ValueError, match=message):
        restored.restore(clf.keys_, data.y, learned)


def test_coefficients_of_names_that_are_sure_by_little_can_be_restored():
    """Cosines that differ by 0.001 decide at a scale of thousands: no damage."""
    rng = np.random.default_rng(14)
    base = rng.standard_normal(20)
    names = unit(base + 0.001 * rng.standard_normal((3, 20)))
    y = np.repeat(["a", "b", "c"], 5)
    X = unit(base + 0.001 * rng.standard_normal((15, 20))) + 40 * (names - names.mean(axis=0))[np.repeat(range(3), 5)]
    embeddings = ClassEmbeddings(["a", "b", "c"], names)
    clf = TextOffsetClassifier(embeddings, 10_000.0, text_weight=20.0).fit(X, y)
    assert np.abs(clf.coef_).max() > 1e4
    restored = TextOffsetClassifier(embeddings, 10_000.0, **clf.settings()).restore(clf.keys_, y, clf.learned())
    np.testing.assert_array_equal(restored.logits(X), clf.logits(X))


def test_many_photos_and_classes_are_fitted_in_single_precision():
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 100
    clf = TextOffsetClassifier().fit(rng.standard_normal((400, 8)), labels)
    assert clf._regression().inputs.dtype == np.float32
    assert clf.fit(rng.standard_normal((200, 8)), labels[:200])._regression().inputs.dtype == np.float64
