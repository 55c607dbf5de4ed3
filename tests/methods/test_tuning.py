import tracemalloc
from dataclasses import astuple, replace

import numpy as np
import pytest
import torch
from formulas import left_out_logits, mean_over_classes, unit, zero_shot_logits
from hypothesis import given
from hypothesis import strategies as st
from support_cases import case, cases

from tip_adapter import ClassEmbeddings, TipAdapterClassifier, choose_alpha_beta
from tip_adapter.methods import leave_one_out, tuning
from tip_adapter.methods.leave_one_out import Cache
from tip_adapter.methods.tuning import Choice, TuningData, default_rule, fit_temperature, fixed
from tip_adapter.vectors import softmax

RULES = ["leave-one-out", "scale-free", "validation"]
every_rule = pytest.mark.parametrize("rule", RULES)
every_kind = pytest.mark.parametrize("kind", [np.asarray, torch.tensor], ids=["numpy", "torch"])

# Two classes overlap, one photo is alone in its class, one class has none.
MIXED = {"counts": [4, 3, 1, 0, 5], "noise": 0.8, "seed": 3}


def pair_for(example, **options):
    if options.get("rule") == "validation":
        options = {"validation": (example.X + 0.1, example.y), **options}
    return choose_alpha_beta(example.X, example.y, example.class_embeddings, example.logit_scale, **options)


def support(example):
    clf = TipAdapterClassifier(class_embeddings=example.class_embeddings, logit_scale=example.logit_scale)
    clf.fit(example.X, example.y)
    return Cache.of(clf, clf.keys_)


def naive_left_out(example, alpha, beta, queries=None):
    keys, weights = unit(example.X), unit(example.weights)
    queries = keys if queries is None else unit(queries)
    return left_out_logits(queries, keys, example.labels, weights, alpha, beta, example.logit_scale)


def naive_sigma(example):
    keys = unit(example.X)
    pairs = [(i, j) for i in range(len(keys)) for j in range(i) if example.labels[i] != example.labels[j]]
    if len(pairs) < 2:
        return None
    cosines, weights = [keys[i] @ keys[j] for i, j in pairs], [1 / shares(example)[[i, j]].prod() for i, j in pairs]
    mean = np.average(cosines, weights=weights)
    sigma = np.sqrt(np.average((np.array(cosines) - mean) ** 2, weights=weights))
    return sigma if sigma >= 1e-6 else None


def shares(example):
    """The number of photos of each photo's class."""
    return np.bincount(example.labels)[example.labels]


def naive_spread(logits, example):
    return np.average([np.std(row) for row in logits], weights=1 / shares(example)) if len(logits) else 0.0


# Rows: each photo without its own key


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(data=st.data())
def test_left_out_rows_are_refits_without_that_photo(dtype, data):
    example = data.draw(cases(dtype, min_photos=1))
    rows = support(example).left_out
    for beta in [example.beta, 1.0]:
        expected = naive_left_out(example, 1.0, beta)[rows.scored]
        scale = np.abs(expected).max(initial=1)
        np.testing.assert_allclose(rows.logits(1.0, beta), expected, rtol=0, atol=2e-5 * scale)


@given(example=cases())
def test_a_photo_alone_in_its_class_gives_no_row(example):
    counts = np.bincount(example.labels, minlength=len(example.weights))
    rows = support(example).left_out
    assert rows.scored.tolist() == [counts[label] > 1 for label in example.labels]
    assert rows.n_scored == counts[counts > 1].sum()


def test_queries_are_scored_by_the_keys_of_the_other_photos():
    example = case(**MIXED)
    queries = example.X + 0.5 * np.random.default_rng(0).standard_normal(example.X.shape)
    choice = pair_for(example, queries=queries)
    logits = naive_left_out(example, choice.alpha, choice.beta, queries)
    judged = example.labels != 2
    right = logits.argmax(axis=1)[judged] == example.labels[judged]
    assert choice.accuracy == pytest.approx(mean_over_classes(right, example.labels[judged]))
    assert choice != pair_for(example)
    assert_same(pair_for(example, queries=3 * example.X), pair_for(example))


def test_queries_of_another_shape_than_the_keys_are_refused():
    example = case(**MIXED)
    with pytest.raises(
        ValueError, match=r"queries must be views of the images in X: expected shape \(13, 6\), found \(3, 6\)"
    ):
        pair_for(example, queries=example.X[:3])


def test_learned_keys_are_taken_as_they_are():
    example = case(**MIXED)
    learned = replace(support(example), keys=3 * unit(example.X))
    expected = left_out_logits(
        unit(example.X), 3 * unit(example.X), example.labels, unit(example.weights), 1.0, 0.5, example.logit_scale
    )
    np.testing.assert_allclose(learned.left_out.logits(1.0, 0.5), expected[learned.left_out.scored], atol=2e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shots", range(2, 9))
def test_the_rounding_of_the_rescaled_class_does_not_tell_the_label(shots, dtype):
    """Two classes of the same vectors: nothing but the label tells them apart, and a left-out photo does not know it."""
    X = np.tile(np.random.default_rng(shots).standard_normal((1, 50)), (2 * shots, 1)).astype(dtype)
    clf = TipAdapterClassifier().fit(X, np.repeat([0, 1], shots))
    rows = Cache.of(clf, clf.keys_).left_out
    for beta in (0.1, 5.5, 50.0):
        right = rows.logits(1.0, beta).argmax(axis=1) == rows.scored_labels
        assert right.mean() <= 0.5


# The support's own units


@given(example=cases())
def test_sigma_is_the_spread_of_cosines_between_classes(example):
    expected = naive_sigma(example)
    assert support(example).sigma == (None if expected is None else pytest.approx(expected, rel=1e-8))


@given(example=cases(), ratio=st.floats(0.05, 5))
def test_the_scale_free_pair_by_brute_force(example, ratio):
    sigma = naive_sigma(example)
    beta = 0.5 / sigma if sigma else 5.5
    keys, labels, nothing = unit(example.X), example.labels, np.zeros_like(example.weights)
    text = naive_spread(zero_shot_logits(keys, unit(example.weights), example.logit_scale), example)
    cache = naive_spread(left_out_logits(keys, keys, labels, nothing, 1.0, beta, 1.0), example)
    alpha = ratio * text / cache if text > 0 and cache > 0 else 1.0
    choice = pair_for(example, rule="scale-free", ratio=ratio)
    assert (choice.alpha, choice.beta) == pytest.approx((alpha, beta), rel=1e-7)
    assert choice.rule == "scale-free"


def test_two_photos_of_two_classes_have_the_papers_beta_and_an_alpha_of_their_own():
    X, weights = np.array([[1.0, 0.0], [0.6, 0.8]]), np.array([[0.8, 0.6], [0.0, 1.0]])
    choice = choose_alpha_beta(X, ["a", "b"], ClassEmbeddings(["a", "b"], weights), 10.0, rule="scale-free", ratio=2.0)
    # Text logits (8, 0) and (9.6, 8): deviations 4 and 0.8. Left-out cache: one photo of the other class at cosine 0.6.
    assert choice.alpha == pytest.approx(2.0 * 2.4 / (np.exp(-5.5 * 0.4) / 2))
    assert choice.beta == 5.5
    assert (choice.temperature, choice.accuracy, choice.n_rows) == (1.0, None, 0)


@pytest.mark.parametrize(("angle", "measured"), [(1e-4, True), (1e-6, False)])
def test_a_spread_under_a_millionth_is_none(angle, measured):
    """Cosines of two values that lie sin(π/4) · angle apart: sigma is half of that."""
    angles = np.array([0, 0, np.pi / 4, np.pi / 4 + angle])
    X = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    beta = choose_alpha_beta(X, list("aabb"), rule="scale-free").beta
    assert beta == pytest.approx(0.5 / (np.sin(np.pi / 4) * angle / 2) if measured else 5.5, rel=1e-3)


def test_a_single_pair_of_photos_has_no_spread_even_where_queries_are_other_views():
    rng = np.random.default_rng(0)
    choice = choose_alpha_beta(rng.random((2, 5)), ["a", "b"], rule="scale-free", queries=rng.random((2, 5)))
    assert choice.beta == 5.5


@pytest.mark.parametrize("named", [True, False])
def test_one_class_has_the_papers_pair(named):
    example = case([3])
    names = example.class_embeddings if named else None
    choice = choose_alpha_beta(example.X, example.y, names, rule="scale-free")
    assert (choice.alpha, choice.beta) == (1.0, 5.5)


@every_rule
def test_one_class_leaves_the_temperature_at_1(rule):
    """Any temperature is as likely as any other: the only probability is 1."""
    assert pair_for(case([3]), rule=rule).temperature == 1.0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_identical_photos_have_the_papers_beta(dtype):
    X = np.tile(np.random.default_rng(0).standard_normal((1, 50)), (6, 1)).astype(dtype)
    choice = choose_alpha_beta(X, list("aabbcc"), rule="scale-free")
    assert choice.beta == 5.5


def test_photos_that_all_say_the_same_leave_alpha_at_1():
    X, names = np.tile([[0.6, 0.8, 0.0]], (4, 1)), ClassEmbeddings(["a", "b"], np.eye(2, 3))
    assert choose_alpha_beta(X, list("aabb"), names, rule="scale-free").alpha == 1.0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_classes", [2, 3, 6, 7])
def test_names_that_all_say_the_same_leave_alpha_at_1(n_classes, dtype):
    example = case([2] * n_classes, dtype=dtype)
    same = ClassEmbeddings(np.unique(example.y), np.repeat(example.weights[:1], n_classes, axis=0))
    assert choose_alpha_beta(example.X, example.y, same, rule="scale-free").alpha == 1.0


@every_rule
@every_kind
def test_without_class_embeddings_alpha_is_1(rule, kind):
    example = case([4, 3, 2], noise=0.7)
    X = kind(example.X)
    choice = choose_alpha_beta(X, example.y, rule=rule, validation=(X, example.y))
    assert choice.alpha == 1.0
    assert choice.rule == rule


def test_no_photos_at_all_have_the_papers_pair():
    example = case([0, 0, 0])
    assert astuple(pair_for(example, rule="scale-free")) == (1.0, 5.5, 1.0, None, "scale-free", 0)


@pytest.mark.parametrize(
    ("counts", "rule"),
    [
        ([2, 2], "leave-one-out"),
        ([2, 1], "leave-one-out"),
        ([5, 1, 1], "scale-free"),
        ([5, 1, 0, 0], "leave-one-out"),
        ([5, 0, 0, 1], "leave-one-out"),
        ([1, 1], "scale-free"),
        ([0, 0], "scale-free"),
    ],
    ids=str,
)
def test_leave_one_out_is_the_default_where_half_the_classes_with_photos_have_two(counts, rule):
    assert default_rule(np.repeat(np.arange(len(counts)), counts)) == rule


CHOICE = Choice(alpha=2.0, beta=5.5, temperature=1.0, accuracy=0.5, rule="fixed", n_rows=3)


@pytest.mark.parametrize(
    "changes",
    [
        {"alpha": 0},
        {"alpha": np.float32(1)},
        {"beta": np.int64(1)},
        {"temperature": 1e-9},
        {"accuracy": 0},
        {"accuracy": 1},
        {"accuracy": None},
    ],
)
def test_a_choice_takes_numbers_within_their_bounds(changes):
    replace(CHOICE, **changes)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"alpha": -1e-9}, r"alpha must be a number at least 0 and at most 1e\+.*, found -1e-09"),
        ({"alpha": True}, "alpha must be a number at least 0 .*, found True"),
        ({"alpha": "1"}, "alpha must be a number at least 0 .*, found '1'"),
        ({"beta": 0}, "beta must be a number above 0 .*, found 0"),
        ({"beta": float("inf")}, "beta must be a number above 0 .*, found inf"),
        ({"temperature": 0.0}, r"temperature must be a number above 0 .*, found 0\.0"),
        ({"temperature": float("nan")}, "temperature must be a number above 0 .*, found nan"),
        ({"accuracy": 1.01}, r"accuracy must be between 0 and 1, or None, found 1\.01"),
        ({"accuracy": -0.01}, r"accuracy must be between 0 and 1, or None, found -0\.01"),
        (
            {"rule": "loo"},
            "unknown rule 'loo'; choose one of leave-one-out, scale-free, validation, few-validation, fixed",
        ),
    ],
)
def test_a_choice_out_of_bounds_is_refused_with_its_bounds(changes, reason):
    with pytest.raises(ValueError, match=reason):
        replace(CHOICE, **changes)


# Leave-one-out


@pytest.mark.parametrize("counts", [[1, 1], [1, 0, 1], [1], [0, 0]], ids=str)
def test_leave_one_out_needs_a_class_with_two_photos_and_names_the_rule_that_does_not(counts):
    with pytest.raises(ValueError, match=r"two images.*scale-free"):
        pair_for(case(counts))


@pytest.mark.slow
@given(seed=st.integers(0, 9999))
def test_on_validation_photos_no_alpha_at_any_of_the_betas_is_better(seed):
    example, rng = case([4, 3, 1, 0, 5], seed=seed, noise=0.8), np.random.default_rng(seed)
    X, y = example.X + 0.3 * rng.standard_normal(example.X.shape), example.y
    choice = pair_for(example, rule="validation", validation=(X, y))
    clf = TipAdapterClassifier(class_embeddings=example.class_embeddings, logit_scale=example.logit_scale)
    clf.fit(example.X, example.y)
    for sharpness in rng.choice(tuning.SHARPNESSES, 3):
        for alpha in [0.0, *choice.alpha * np.exp(rng.normal(scale=3, size=20))]:
            other = clf.set_params(alpha=alpha, beta=sharpness / naive_sigma(example)).score(X, y)
            assert other <= choice.accuracy


@pytest.mark.slow
@given(seed=st.integers(0, 9999))
def test_left_out_no_alpha_is_better_by_more_than_two_standard_errors(seed):
    example = case([4, 3, 1, 0, 5], seed=seed, noise=0.8)
    choice, rng = pair_for(example), np.random.default_rng(seed)
    judged = example.labels != 2
    for sharpness in rng.choice(tuning.SHARPNESSES, 3):
        for alpha in [0.0, *choice.alpha * np.exp(rng.normal(scale=3, size=20))]:
            answers = naive_left_out(example, alpha, sharpness / naive_sigma(example)).argmax(axis=1)
            other = mean_over_classes(answers[judged] == example.labels[judged], example.labels[judged])
            n_effective = 3**2 / (1 / 4 + 1 / 3 + 1 / 5)
            assert choice.accuracy >= other - 2 * np.sqrt(other * (1 - other) / n_effective) - 1e-9


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_accuracy_is_the_left_out_accuracy_at_that_pair(dtype):
    example = case(**MIXED, dtype=dtype)
    for rule in ("leave-one-out", "scale-free"):
        choice = pair_for(example, rule=rule)
        judged = example.labels != 2
        answers = naive_left_out(example, choice.alpha, choice.beta).argmax(axis=1)
        right = answers[judged] == example.labels[judged]
        assert choice.accuracy == pytest.approx(mean_over_classes(right, example.labels[judged]))
        assert choice.n_rows == 12


def test_the_search_trusts_whichever_of_names_and_photos_is_right():
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(4), 8)
    X = np.eye(4)[y] + 0.15 * rng.standard_normal((32, 4))
    good, bad = ClassEmbeddings(np.arange(4), np.eye(4)), ClassEmbeddings(np.arange(4), np.eye(4)[[1, 2, 3, 0]])
    photos_right = choose_alpha_beta(X, y, bad, 10.0)
    names_right = choose_alpha_beta(rng.permutation(X), y, good, 10.0, queries=X)
    assert photos_right.accuracy == names_right.accuracy == 1.0
    assert photos_right.alpha > 3 * names_right.alpha


# Validation


@every_kind
def test_the_accuracy_on_validation_photos_is_the_classifiers_own(kind):
    example = case(**MIXED)
    rng = np.random.default_rng(1)
    X, y = example.X[:9] + 0.3 * rng.standard_normal((9, 6)), example.y[:9]
    choice = pair_for(example, rule="validation", validation=(kind(X), y))
    clf = TipAdapterClassifier(choice.alpha, choice.beta, example.class_embeddings, example.logit_scale)
    assert choice.accuracy == clf.fit(example.X, example.y).score(X, y)
    assert (choice.rule, choice.n_rows) == ("validation", 9)


def test_validation_photos_decide_between_names_and_photos():
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(4), 6)
    X = np.eye(4)[y] + 0.15 * rng.standard_normal((24, 4))
    names = ClassEmbeddings(np.arange(4), np.eye(4)[[1, 2, 3, 0]])
    as_photos, as_names = (
        choose_alpha_beta(X, y, names, 10.0, rule="validation", validation=(X, labels)) for labels in (y, (y - 1) % 4)
    )
    assert as_photos.accuracy == as_names.accuracy == 1.0
    assert as_photos.alpha > 3 * as_names.alpha


@pytest.mark.parametrize(
    ("validation", "reason"),
    [
        (None, r"validation=\(X_val, y_val\)"),
        ((np.zeros((0, 2)), []), "validation images"),
        ((np.eye(2), ["a", "zebra"]), "zebra"),
        ((np.eye(2), [0, 1]), "label .*0"),
        ((np.eye(3), ["a", "a", "b"]), "X has 3 features.* expecting 2"),
        ((np.full((2, 2), np.nan), ["a", "b"]), "NaN"),
        ((np.eye(2), ["a"]), "inconsistent numbers of samples"),
    ],
    ids=["missing", "empty", "unknown label", "other kind", "width", "nan", "lengths"],
)
def test_validation_photos_that_cannot_judge_are_refused(validation, reason):
    names = ClassEmbeddings(["a", "b"], np.eye(2))
    with pytest.raises(ValueError, match=reason):
        choose_alpha_beta(np.eye(2), ["a", "b"], names, rule="validation", validation=validation)


# Every rule


def test_an_unknown_rule_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown rule 'loo'; choose one of leave-one-out, scale-free, validation"):
        pair_for(case(**MIXED), rule="loo")


@pytest.mark.slow
@every_rule
@every_kind
@pytest.mark.parametrize(
    "classes",
    [np.array(["b", "ü", "a"]), np.array(["b", "c", "a"], object), np.array([7, -1, 3]), np.array([True, False])],
    ids=["str", "object", "int", "bool"],
)
def test_labels_of_every_kind_are_judged(rule, kind, classes):
    example = case([3] * len(classes), noise=0.05)
    names = ClassEmbeddings(classes, example.weights)
    y = classes[example.labels]
    choice = choose_alpha_beta(kind(example.X), y, names, rule=rule, validation=(kind(example.X), y), ratio=10.0)
    assert choice.accuracy == 1.0


@pytest.mark.slow
@every_rule
@given(data=st.data())
def test_every_choice_is_finite_and_its_temperature_changes_no_label(rule, data):
    example = data.draw(cases(data.draw(st.sampled_from([np.float32, np.float64])), min_photos=1))
    if rule == "leave-one-out" and np.bincount(example.labels).max() < 2:
        return
    choice = pair_for(example, rule=rule)
    assert np.isfinite([choice.alpha, choice.beta, choice.temperature]).all()
    assert choice.alpha >= 0
    assert choice.beta > 0
    assert choice.temperature > 0
    assert (choice.accuracy is None) == (choice.n_rows == 0)
    assert choice.accuracy is None or 0 <= choice.accuracy <= 1
    clf = TipAdapterClassifier(choice.alpha, choice.beta, example.class_embeddings, example.logit_scale)
    logits = clf.fit(example.X, example.y).logits(example.queries)
    assert np.isfinite(logits).all()
    divided = logits / choice.temperature
    assert clf.classes_[divided.argmax(axis=1)].tolist() == clf.predict(example.queries).tolist()


@every_rule
def test_numpy_and_torch_choose_the_same(rule):
    example = case(**MIXED)
    names = example.class_embeddings
    one, other = (
        choose_alpha_beta(kind(example.X), example.y, names, 10.0, rule, validation=(kind(example.X), example.y))
        for kind in (np.asarray, torch.tensor)
    )
    assert_same(one, other)


def test_a_given_pair_keeps_temperature_1_and_is_judged_by_leave_one_out():
    example = case(**MIXED)
    choice = fixed(support(example), TuningData(alpha_beta=(3.0, 2.0)))
    judged = example.labels != 2
    answers = naive_left_out(example, 3.0, 2.0).argmax(axis=1)
    expected = mean_over_classes(answers[judged] == example.labels[judged], example.labels[judged])
    assert astuple(choice) == (3.0, 2.0, 1.0, pytest.approx(expected), "fixed", 12)


def assert_same(one, other):
    assert (one.rule, one.n_rows) == (other.rule, other.n_rows)
    assert one.accuracy == pytest.approx(other.accuracy, rel=1e-12)  # weights may be summed in another order
    assert (one.alpha, one.beta) == pytest.approx((other.alpha, other.beta), rel=1e-7)
    assert one.temperature == pytest.approx(other.temperature, rel=1e-3)


@pytest.mark.slow
@every_rule
@given(seed=st.integers(0, 9999), data=st.data())
def test_the_order_of_photos_and_of_class_embeddings_does_not_matter(rule, seed, data):
    counts = [2, *data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=4))]
    example = case(counts, seed=seed, width=data.draw(st.integers(3, 9)))
    rng = np.random.default_rng(seed)
    photos, classes = rng.permutation(len(example.X)), rng.permutation(len(counts))
    names = example.class_embeddings
    shuffled = ClassEmbeddings(names.labels[classes], names.matrix[classes])
    validation = (example.X + 0.2, example.y)
    one = choose_alpha_beta(example.X, example.y, names, 10.0, rule, validation=validation)
    other = choose_alpha_beta(example.X[photos], example.y[photos], shuffled, 10.0, rule, validation=validation)
    assert_same(one, other)


@pytest.mark.slow
@every_rule
@given(seed=st.integers(0, 9999), data=st.data())
def test_a_rotation_of_the_space_and_the_lengths_of_vectors_do_not_matter(rule, seed, data):
    counts = [2, *data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=4))]
    example = case(counts, seed=seed, width=data.draw(st.integers(3, 9)))
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.standard_normal((example.X.shape[1], example.X.shape[1])))
    lengths = np.exp(rng.standard_normal((len(example.X), 1)))
    one = pair_for(example, rule=rule, validation=(example.X + 0.2, example.y))
    turned = replace(example, X=lengths * example.X @ rotation, weights=example.weights @ rotation)
    assert_same(pair_for(turned, rule=rule, validation=((example.X + 0.2) @ rotation, example.y)), one)


# The temperature


def mean_loss(logits, labels, temperature):
    scaled = logits / temperature
    scaled = scaled - scaled.max(axis=1, keepdims=True)
    return np.mean(np.log(np.exp(scaled).sum(axis=1)) - scaled[np.arange(len(labels)), labels])


@pytest.mark.slow
@pytest.mark.parametrize("true", [0.2, 1.0, 30.0, 2000.0])
def test_the_temperature_of_many_rows_is_the_likeliest(true):
    """Labels drawn from softmax(logits / true): the best of a fine grid is near, and so is the truth."""
    rng = np.random.default_rng(0)
    logits = 2 * true * rng.standard_normal((4000, 5))
    labels = (logits / true + rng.gumbel(size=logits.shape)).argmax(axis=1)
    temperature = fit_temperature(logits, labels)
    grid = np.geomspace(true / 3, 3 * true, 401)
    best = min(mean_loss(logits, labels, t) for t in grid)
    assert mean_loss(logits, labels, temperature) < best + 1e-4
    assert temperature == pytest.approx(true, rel=0.1)


def test_one_class_is_certain_at_any_temperature_and_keeps_1():
    assert fit_temperature(np.array([[3.0], [-2.0]]), np.array([0, 0])) == 1


def test_logits_that_are_all_the_same_are_as_likely_at_any_temperature_and_get_the_lowest():
    assert fit_temperature(np.ones((4, 3)), np.array([0, 1, 2, 0])) == 0.01


def test_rows_that_are_all_wrong_get_the_highest_temperature():
    assert fit_temperature(np.tile([[5.0, 0.0]], (50, 1)), np.ones(50, int)) == 1e5


def test_rows_that_are_all_right_are_not_believed_to_be_certain():
    logits = 5.0 * np.eye(3)
    few, many = (fit_temperature(np.tile(logits, (n, 1)), np.tile([0, 1, 2], n)) for n in (1, 50))
    # p = (n + 1) / (n + 2) of each label: exp(5 / T) / (exp(5 / T) + 2) = p.
    assert few == pytest.approx(5 / np.log(2 * 4), rel=1e-3)
    assert many == pytest.approx(5 / np.log(2 * 151), rel=1e-3)


@given(st.integers(0, 999), st.integers(2, 40), st.integers(2, 5))
def test_weighted_rows_have_the_temperature_of_their_weighted_likelihood(seed, n, n_classes):
    rng = np.random.default_rng(seed)
    logits, labels = 3 * rng.standard_normal((n, n_classes)), rng.integers(n_classes, size=n)
    weights = rng.uniform(0.1, 2, n)
    temperature = fit_temperature(logits, labels, weights)
    target = (weights.sum() ** 2 / np.square(weights).sum() + 1) / (weights.sum() ** 2 / np.square(weights).sum() + 2)
    targets = np.full((n, n_classes), (1 - target) / (n_classes - 1))
    targets[np.arange(n), labels] = target

    def loss(t):
        return -float(weights @ (targets * np.log(softmax(logits / t))).sum(axis=1))

    assert loss(temperature) <= min(loss(temperature / 1.01), loss(temperature * 1.01)) or temperature in (0.01, 1e5)
    np.testing.assert_allclose(fit_temperature(logits, labels, 7 * weights), temperature, rtol=1e-6)
    assert fit_temperature(logits, labels, np.ones(n)) == fit_temperature(logits, labels)


def test_the_temperature_belongs_to_the_left_out_rows_of_the_pair():
    example = case([6, 0, 7, 1, 5], noise=1.5)
    choice = pair_for(example)
    judged = example.labels != 3
    logits = naive_left_out(example, choice.alpha, choice.beta)[judged]
    weights = 1 / shares(example)[judged]
    assert choice.temperature == pytest.approx(fit_temperature(logits, example.labels[judged], weights), rel=1e-3)


# Memory


@pytest.mark.slow
@every_rule
def test_no_photo_by_photo_matrix_is_formed(rule, monkeypatch):
    example = case([700, 800, 500], width=4, dtype=np.float32)
    monkeypatch.setattr(leave_one_out, "_BLOCK_ENTRIES", 2**15)
    tracemalloc.start()
    pair_for(example, rule=rule)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    blocks, ends = 8 * 2**15 * 4, 51 * 2000 * (2 * 4 + 3 * 8)
    assert peak < blocks + ends < 2000 * 2000 * 4 / 3


def test_blocks_do_not_change_the_choice(monkeypatch):
    example = case(**MIXED)
    whole = pair_for(example)
    monkeypatch.setattr(leave_one_out, "_BLOCK_ENTRIES", 30)
    assert_same(pair_for(example), whole)


def test_blocks_do_not_change_the_units(monkeypatch):
    example = case([4, 4, 4], seed=3)
    names = ClassEmbeddings(np.arange(3), example.weights)
    given = example.X, example.labels, names, example.logit_scale, "scale-free"
    whole = choose_alpha_beta(*given)
    monkeypatch.setattr(leave_one_out, "_BLOCK_ENTRIES", len(example.X))  # a row each
    assert choose_alpha_beta(*given).alpha == pytest.approx(whole.alpha, rel=1e-9)


def test_names_that_are_all_the_same_give_no_unit():
    example = case([4, 4, 4], seed=3)
    same = support(replace(example, weights=np.ones_like(example.weights)))
    assert [curve.unit for curve in same.left_out.accuracy_curves([1.0, 4.0])] == [None, None]


def test_units_do_not_depend_on_the_other_betas_or_on_blocks(monkeypatch):
    example = case([4, 4, 4], seed=3)
    left_out, betas = support(example).left_out, [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
    units = [left_out.accuracy_curves([beta])[0].unit for beta in betas]
    assert [curve.unit for curve in left_out.accuracy_curves(betas)] == pytest.approx(units, rel=1e-9)
    uneven = replace(left_out, row_weights=np.linspace(1, 9, len(example.X)))
    monkeypatch.setattr(leave_one_out, "_BLOCK_ENTRIES", 1)
    one_by_one = uneven.accuracy_curves(betas)
    monkeypatch.undo()
    whole = uneven.accuracy_curves(betas)
    assert [curve.unit for curve in one_by_one] == pytest.approx([curve.unit for curve in whole], rel=1e-9)


@pytest.mark.parametrize("shots", [1, 4])
def test_few_validation_images_that_tell_nothing_leave_the_choice_to_the_support(shots):
    example = case([shots] * 4, seed=5, noise=0.1, width=20)
    names = ClassEmbeddings(np.arange(4), np.zeros((4, 20)) + 1e-3)
    given = example.X, example.labels, names, example.logit_scale
    own = choose_alpha_beta(*given, default_rule(example.labels))
    easy = example.X[:1], example.labels[:1]  # right by any alpha above 0
    few = choose_alpha_beta(*given, "few-validation", validation=easy)
    assert (few.rule, few.n_rows, few.accuracy) == ("few-validation", 1, 1.0)
    assert few.beta == pytest.approx(own.beta, rel=0.05)
    assert few.alpha == pytest.approx(own.alpha, rel=0.05)
    with pytest.raises(ValueError, match="needs validation images"):
        choose_alpha_beta(*given, "few-validation")


def test_a_choice_of_the_methods_own_settings_still_has_a_temperature():
    with pytest.raises(ValueError, match="temperature must be a number above 0"):
        Choice(None, None, -1.0, None, tuning.SUPPORT, 0)
    with pytest.raises(ValueError, match="alpha must be None where a method chose its own settings"):
        Choice(1.0, None, 1.0, None, tuning.SUPPORT, 0)
