"""The linear probe against scikit-learn's own regression, and its search for C."""

import numpy as np
import pytest
import torch
from formulas import unit
from sklearn.linear_model import LogisticRegression

from tip_adapter import LinearProbeClassifier
from tip_adapter.methods.folds import held_out_parts
from tip_adapter.methods.linear_probe import best_strength


def photos(n_classes, per_class, seed=0, width=6, spread=0.8):
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(n_classes), per_class)
    return np.eye(max(width, n_classes))[y] + spread * rng.standard_normal((len(y), max(width, n_classes))), y


@pytest.mark.parametrize("n_classes", [2, 3, 5])
def test_it_is_logistic_regression_on_unit_vectors(n_classes):
    X, y = photos(n_classes, 8)
    queries, _ = photos(n_classes, 3, seed=1)
    ours = LinearProbeClassifier(C=3.0).fit(5 * X, y)
    theirs = LogisticRegression(C=3.0, max_iter=1000, tol=1e-12).fit(unit(X), y)
    np.testing.assert_allclose(ours.predict_proba(queries), theirs.predict_proba(unit(queries)), atol=1e-4)
    assert ours.logits(queries).shape == (len(queries), n_classes)


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("with_validation", [False, True])
def test_what_a_search_ends_with_is_the_regression_at_its_strength(n_classes, with_validation):
    """Bit for bit that of a probe that is given it, however it was searched."""
    X, y = photos(n_classes, 6, width=30)
    held_out = photos(n_classes, 20, seed=1, width=30)
    ours = LinearProbeClassifier().fit(X, y, validation=held_out if with_validation else None)
    np.testing.assert_array_equal(LinearProbeClassifier(C=ours.C_).fit(X, y).coef_, ours.coef_)
    theirs = LogisticRegression(C=ours.C_, max_iter=10_000, tol=1e-10).fit(unit(X), y)
    queries = held_out[0]
    flat = ours.C_ > 1e4  # the loss hardly changes in some directions, and both solvers stop
    np.testing.assert_allclose(
        ours.predict_proba(queries), theirs.predict_proba(unit(queries)), atol=2e-2 if flat else 1e-3
    )


def test_identical_vectors_and_fewer_vectors_than_their_width_are_fitted():
    same = LinearProbeClassifier(C=1.0).fit(np.ones((4, 3)), [0, 0, 0, 1])
    np.testing.assert_allclose(same.predict_proba(np.ones((1, 3))), [[0.75, 0.25]], atol=1e-4)
    X, y = photos(3, 2, width=200)
    theirs = LogisticRegression(C=10.0, tol=1e-10).fit(unit(X), y)
    ours = LinearProbeClassifier(C=10.0).fit(X, y)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-3)
    np.testing.assert_allclose(ours.intercept_[0], theirs.intercept_, atol=1e-3)


@pytest.mark.parametrize("C", [1.0, 1e4, 1e6])
def test_the_slope_of_the_summed_loss_is_all_but_0_however_weakly_it_is_held_back(C):
    X, y = photos(4, 20, width=40)
    clf = LinearProbeClassifier(C=C).fit(X, y)
    gradients = (clf.predict_proba(X) - np.eye(4)[y]).T @ unit(X) + clf.coef_ / C
    assert np.abs(gradients).max() < 1e-4


def test_a_tensor_gets_tensors_and_the_same_answer():
    X, y = photos(3, 5)
    plain = LinearProbeClassifier(C=1.0).fit(X, y)
    tensors = LinearProbeClassifier(C=1.0).fit(torch.tensor(X), y)
    answer = tensors.logits(torch.tensor(X))
    assert isinstance(answer, torch.Tensor)
    np.testing.assert_allclose(answer, plain.logits(X), atol=1e-10)


# ---- the search ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("peak", [-5.3, -2.0, 0.4, 1.77, 5.9])
def test_the_search_finds_a_peak_of_any_place(peak):
    found = best_strength(lambda C: -abs(np.log10(C) - peak))
    assert abs(np.log10(found) - peak) < 0.02


def test_ties_go_to_the_largest_coarse_value_and_then_to_the_smaller_end():
    assert best_strength(lambda C: 0.0) == pytest.approx(1e5)


def test_the_search_is_the_few_shot_papers_recipe_step_by_step():
    """Coarse; then eight times the better of two ends is kept, and after each but the last the range is halved."""

    def by_the_recipe(score):
        peak = max((1e6, 1e4, 1e2, 1.0, 1e-2, 1e-4, 1e-6), key=score)
        left, right = peak / 10, peak * 10
        for _ in range(8):
            better = right if score(left) < score(right) else left
            middle = 10 ** (0.5 * (np.log10(left) + np.log10(right)))
            left, right = (middle, right) if better == right else (left, middle)
        return better

    rng = np.random.default_rng(0)
    for heights in rng.integers(0, 30, (200, 14 * 256 + 1)):  # bumpy, and with ties

        def score(C, heights=heights):
            return heights[round(256 * (np.log10(C) + 7))]

        assert best_strength(score) == pytest.approx(by_the_recipe(score))


def test_each_strength_is_fitted_once():
    asked = []
    best_strength(lambda C: asked.append(C) or -abs(np.log10(C)))
    assert len(asked) == len(set(asked)) <= 7 + 2 + 7


def test_validation_photos_choose_where_they_are_given():
    X, y = photos(3, 6, spread=1.5)
    clf = LinearProbeClassifier().fit(X, y, validation=photos(3, 30, seed=7, spread=1.5))
    assert clf.searched_by_ == "validation"
    val_X, val_y = photos(3, 30, seed=7, spread=1.5)

    def accuracy(C):
        return (LinearProbeClassifier(C=C).fit(X, y).predict(val_X) == val_y).mean()

    assert accuracy(clf.C_) >= max(accuracy(C) for C in (1e-4, 1e-2, 1.0, 1e2, 1e4)) - 1e-12


def test_no_validation_photos_are_no_reason_to_search():
    X, y = photos(3, 4)
    with pytest.raises(ValueError, match="there are no validation images to search C on; omit validation"):
        LinearProbeClassifier().fit(X, y, validation=(X[:0], []))


@pytest.mark.slow
def test_without_validation_photos_parts_of_the_support_take_turns():
    X, y = photos(4, 6)
    clf = LinearProbeClassifier().fit(X, y)
    assert clf.searched_by_ == "cross-validation"
    assert 1e-7 <= clf.C_ <= 1e7
    noise = np.random.default_rng(0).standard_normal(X.shape)
    assert LinearProbeClassifier().fit(noise, y).C_ < clf.C_  # nothing to learn: held back more


def test_with_one_photo_a_class_the_strength_is_1_and_it_says_so():
    X, y = photos(4, 1)
    clf = LinearProbeClassifier().fit(X, y)
    assert (clf.C_, clf.searched_by_) == (1.0, "nothing")


def test_more_classes_than_half_the_photos_are_no_reason_to_warn():
    X, y = photos(30, 1)
    assert LinearProbeClassifier().fit(X, y).predict(X).tolist() == y.tolist()


def test_a_photo_alone_in_its_class_is_never_held_out():
    labels = np.array([0, 0, 1, 2, 2, 2, 2, 2, 2, 2])
    parts = list(held_out_parts(labels, seed=0))
    assert sorted(np.concatenate(parts)) == [0, 1, *range(3, 10)]
    for part in parts:
        assert set(np.delete(labels, part)) == {0, 1, 2}


def test_one_class_alone_in_having_two_photos_leaves_nothing_to_search_by():
    """Held-out photos of one class only are likeliest where the probe answers that class and nothing else."""
    X, y = photos(2, 4)
    clf = LinearProbeClassifier().fit(X[:5], y[:5])  # four of one class, one of the other
    assert (clf.C_, clf.searched_by_) == (1.0, "nothing")


def test_the_same_seed_gives_the_same_parts_and_another_others():
    labels = np.repeat([0, 1], 10)
    drawn = [np.concatenate(list(held_out_parts(labels, seed))).tolist() for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_given_strength_is_used_as_it_is():
    X, y = photos(3, 4)
    clf = LinearProbeClassifier(C=0.25).fit(X, y)
    assert (clf.C_, clf.searched_by_) == (0.25, "given")


def test_a_single_class_answers_itself():
    X, _ = photos(2, 2)
    assert LinearProbeClassifier().fit(X, ["cat"] * 4).predict(X).tolist() == ["cat"] * 4


def test_restored_weights_answer_the_same():
    X, y = photos(3, 4)
    clf = LinearProbeClassifier(C=1.0).fit(X, y)
    again = LinearProbeClassifier(C=1.0).restore(X, y, clf.learned())
    np.testing.assert_array_equal(again.logits(X), clf.logits(X))


def test_weights_that_are_no_probe_of_these_classes_are_refused():
    X, y = photos(3, 4)
    learned = LinearProbeClassifier(C=1.0).fit(X, y).learned()
    with pytest.raises(ValueError, match="C None and arrays"):
        LinearProbeClassifier().restore(X, y, learned)
    with pytest.raises(ValueError, match="do not fit 3 classes and vectors of width 6"):
        LinearProbeClassifier(C=1.0).restore(X, y, {**learned, "coef_": learned["coef_"][:2]})
