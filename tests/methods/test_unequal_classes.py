"""Classes with different numbers of photos: none wins, or decides more, for its number."""

import numpy as np
import pytest
from formulas import mean_count, mean_over_classes, tip_adapter_logits, unit
from hypothesis import assume, given
from hypothesis import strategies as st
from support_cases import case, cases

from tip_adapter import ClassEmbeddings, TipAdapterClassifier, TipAdapterCV, TipAdapterFClassifier, choose_alpha_beta
from tip_adapter.methods.alpha_search import AccuracyCurve, central_alpha_beta, correct_between
from tip_adapter.methods.leave_one_out import Cache
from tip_adapter.methods.ops import class_balance, row_weights

SUMS = ("balanced", "raw")


def without(example, photo):
    kept = np.delete(np.arange(len(example.X)), photo)
    return example.X[kept], example.y[kept]


@pytest.mark.parametrize("class_sums", SUMS)
@given(example=cases())
def test_fault_87_logits_are_the_formulas_of_balanced_and_of_raw_sums(class_sums, example):
    clf = TipAdapterClassifier(**example.settings, class_sums=class_sums).fit(example.X, example.y)
    given = unit(example.X), example.labels, unit(example.weights), *example.pair, class_sums
    expected = tip_adapter_logits(unit(example.queries), *given)
    np.testing.assert_allclose(clf.logits(example.queries), expected, atol=1e-9 * np.abs(expected).max(initial=1))


@given(counts=st.lists(st.integers(0, 50), min_size=1, max_size=8))
def test_fault_87_balanced_classes_all_have_the_mean_number(counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    balance = class_balance(labels, len(counts))
    present = [count for count in counts if count]
    assert (balance is None) == (len(set(present)) < 2)
    if balance is not None:
        assert [count * b for count, b in zip(counts, balance, strict=True) if count] == pytest.approx(
            [np.mean(present)] * len(present)
        )
    of_each = [row_weights(labels, len(counts))[labels == label].sum() for label in np.unique(labels)]
    assert of_each == pytest.approx([mean_count(labels)] * len(present))


@given(seed=st.integers(0, 999), n_classes=st.integers(1, 5), shots=st.integers(1, 5), empty=st.booleans())
def test_fault_87_with_equal_numbers_nothing_changes_bit_for_bit(seed, n_classes, shots, empty):
    example = case([shots] * n_classes + [0] * empty, seed=seed, dtype=np.float32)
    rule = "leave-one-out" if shots > 1 else "scale-free"
    given = example.X, example.y, example.class_embeddings, example.logit_scale
    balanced, raw = (choose_alpha_beta(*given, rule=rule, class_sums=class_sums) for class_sums in SUMS)
    assert balanced == raw
    for method, options in ((TipAdapterClassifier, {}), (TipAdapterFClassifier, {"epochs": 2})):
        fitted = [method(**example.settings, **options, class_sums=s).fit(example.X, example.y) for s in SUMS]
        np.testing.assert_array_equal(*(clf.logits(example.queries) for clf in fitted))


@given(example=cases(min_photos=1), data=st.data())
def test_fault_87_duplicates_of_a_whole_class_only_scale_the_cache(example, data):
    """So without names no label changes, and with names only alpha does, by the ratio of the mean numbers."""
    twice = data.draw(st.sampled_from(sorted(set(example.labels.tolist()))))
    own = example.labels == twice
    X, y = np.concatenate([example.X, example.X[own]]), np.concatenate([example.y, example.y[own]])
    more = mean_count(np.concatenate([example.labels, example.labels[own]])) / mean_count(example.labels)
    before = TipAdapterClassifier(**example.settings | {"alpha": more * example.alpha}).fit(example.X, example.y)
    after = TipAdapterClassifier(**example.settings).fit(X, y)
    largest = np.abs(before.logits(example.queries)).max(initial=1)
    np.testing.assert_allclose(
        after.logits(example.queries), before.logits(example.queries), atol=1e-12 * largest, rtol=0
    )
    alone = [TipAdapterClassifier(beta=example.beta).fit(*pair) for pair in ((example.X, example.y), (X, y))]
    a, b = (clf.logits(example.queries) for clf in alone)
    np.testing.assert_allclose(b, more * a, rtol=1e-9, atol=1e-300)


@given(example=cases(min_photos=2), data=st.data())
def test_fault_87_a_left_out_photo_is_scored_by_a_refit_without_it(example, data):
    """Up to the mean number of photos, which is that of the whole support."""
    photo = data.draw(st.integers(0, len(example.X) - 1))
    clf = TipAdapterClassifier(**example.settings).fit(example.X, example.y)
    left_out = Cache.of(clf, clf.keys_).left_out
    assume(left_out.scored[photo])
    rest = np.delete(example.labels, photo)
    alpha = example.alpha * mean_count(example.labels) / mean_count(rest)
    refit = TipAdapterClassifier(**example.settings | {"alpha": alpha}).fit(*without(example, photo))
    expected = refit.logits(example.X[[photo]])[0]
    row = int(left_out.scored[:photo].sum())
    scale = np.abs(expected).max(initial=1)
    np.testing.assert_allclose(left_out.logits(example.alpha, example.beta)[row], expected, atol=2e-5 * scale, rtol=0)


@pytest.mark.parametrize("class_sums", SUMS)
def test_fault_87_adding_and_removing_photos_equals_a_refit_bit_for_bit(class_sums):
    example = case([5, 1, 3, 0, 8], dtype=np.float32)
    settings = example.settings | {"class_sums": class_sums}
    whole = TipAdapterClassifier(**settings).fit(example.X, example.y)
    parts = TipAdapterClassifier(**settings).fit(example.X[:4], example.y[:4])
    parts.partial_fit(example.X[4:], example.y[4:])
    np.testing.assert_array_equal(parts.logits(example.queries), whole.logits(example.queries))
    refit = TipAdapterClassifier(**settings).fit(*without(example, [2, 7]))
    parts.remove(parts.ids_[[2, 7]].tolist())
    np.testing.assert_array_equal(parts.logits(example.queries), refit.logits(example.queries))


def lookalikes(counts, seed, n_test=200):
    """Classes whose centres are close together, poor names, and as many test photos of each."""
    rng = np.random.default_rng(seed)
    centres = np.ones(24) + 0.55 * rng.standard_normal((len(counts), 24))
    names = ClassEmbeddings(range(len(counts)), centres + 1.5 * rng.standard_normal(centres.shape))

    def photos(counts):
        labels = np.repeat(np.arange(len(counts)), counts)
        return centres[labels] + 0.8 * rng.standard_normal((len(labels), 24)), labels

    most = max(counts)
    X, y = photos([most] * len(counts))
    taken = np.concatenate([np.flatnonzero(y == label)[:count] for label, count in enumerate(counts)])
    fewest = np.concatenate([np.flatnonzero(y == label)[: min(counts)] for label in range(len(counts))])
    return (X[taken], y[taken]), (X[fewest], y[fewest]), photos([n_test] * len(counts)), names


def of_others(clf, test, grown):
    X, y = test
    right = clf.predict(X) == y
    return np.mean([right[y == label].mean() for label in np.unique(y) if label != grown])


@pytest.mark.parametrize("named", [True, False])
def test_fault_87_photos_added_to_one_class_do_not_lower_the_accuracy_of_the_others(named):
    drops = {class_sums: [] for class_sums in SUMS}
    for seed in range(8):
        more, equal, test, names = lookalikes([4, 4, 4, 40, 4], seed)
        for class_sums in SUMS:
            clf = TipAdapterCV(names if named else None, logit_scale=5.0, class_sums=class_sums)
            before, after = (of_others(clf.fit(*support), test, grown=3) for support in (equal, more))
            drops[class_sums].append(before - after)
    assert np.mean(drops["balanced"]) < 0.05  # two standard errors of the mean over draws are as large
    assert np.mean(drops["raw"]) > 0.15


def test_fault_87_the_left_out_figure_predicts_the_mean_over_classes():
    said, mean, share = [], [], []
    for seed in range(12):
        (X, y), _, (X_test, y_test), names = lookalikes([20, 4, 4, 20, 4], seed)
        clf = TipAdapterCV(names, logit_scale=5.0).fit(X, y)
        said.append(clf.choice_.accuracy)
        mean.append(mean_over_classes(clf.predict(X_test) == y_test, y_test))
        left_out = Cache.of(clf, clf.keys_).left_out
        answers = left_out.logits(clf.alpha_, clf.beta_).argmax(axis=1)
        share.append(np.mean(answers == left_out.scored_labels))
        assert clf.choice_.accuracy == pytest.approx(
            mean_over_classes(answers == left_out.scored_labels, left_out.scored_labels)
        )
    assert abs(np.mean(said) - np.mean(mean)) < 0.05
    assert said != share


@given(seed=st.integers(0, 999), n=st.integers(2, 12))
def test_fault_87_a_weighted_curve_counts_the_weights_of_the_right_rows(seed, n):
    rng = np.random.default_rng(seed)
    text, cache, labels = rng.standard_normal((n, 3)), rng.standard_normal((n, 3)), rng.integers(3, size=n)
    weights = rng.uniform(0.1, 2, n)
    between = correct_between(text - text[np.arange(n), labels][:, None], cache, labels)
    curve = AccuracyCurve.of(between, 1.0, None, weights)
    for alpha in rng.uniform(0, 3, 5):
        right = (text + alpha * cache).argmax(axis=1) == labels
        step = np.searchsorted(curve.ends, alpha, side="right") - 1
        assert curve.n_correct[step] == pytest.approx(weights[right].sum(), abs=1e-8)
    alpha, beta = central_alpha_beta([curve], weights.sum())
    assert alpha >= 0
    assert beta == 1.0


def test_a_class_without_images_weighs_1():
    np.testing.assert_allclose(class_balance(np.array([0, 0, 0, 1]), 3), [2 / 3, 2, 1])
