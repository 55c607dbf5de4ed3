import time
import tracemalloc

import numpy as np
import pytest
import torch
from formulas import fine_tuning_loss, left_out_logits, mean_count, one_hot, tip_adapter_logits, unit, zero_shot_logits
from hypothesis import given
from hypothesis import strategies as st
from support_cases import case, cases

from tip_adapter import ClassEmbeddings, TipAdapterClassifier, TipAdapterFClassifier, ZeroShotClassifier
from tip_adapter.methods import base, ops, tip_adapter, training
from tip_adapter.methods.ops import cross_entropy, to_numpy
from tip_adapter.methods.tip_adapter import OWN_KEY, cache_gradient, cache_logits, sum_affinities, sum_factors
from tip_adapter.vectors import unit_rows

METHODS = [ZeroShotClassifier, TipAdapterClassifier, TipAdapterFClassifier]
KINDS = {"numpy": np.asarray, "torch": torch.tensor}
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-10}

every_method = pytest.mark.parametrize("method", METHODS)
every_kind = pytest.mark.parametrize("kind", KINDS)
every_dtype = pytest.mark.parametrize("dtype", TOLERANCE)


def assert_near(got, expected, tolerance):
    """Within `tolerance` of the largest logit, or of 1."""
    got = np.asarray(got)
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * max(1, np.abs(expected).max(initial=0)))


def expected_logits(case):
    return tip_adapter_logits(unit(case.queries), unit(case.X), case.labels, unit(case.weights), *case.pair)


# The equations


@pytest.mark.slow
@every_dtype
@pytest.mark.parametrize("fitted_as", KINDS)
@pytest.mark.parametrize("asked_as", KINDS)
@given(data=st.data())
def test_logits_are_the_formulas_and_of_the_querys_kind(dtype, fitted_as, asked_as, data):
    case = data.draw(cases(dtype))
    clf = TipAdapterClassifier(**case.settings).fit(KINDS[fitted_as](case.X), case.y)
    queries = KINDS[asked_as](case.queries)
    logits = clf.logits(queries)
    assert type(logits) is type(queries)
    assert logits.dtype == queries.dtype
    assert_near(logits, expected_logits(case), TOLERANCE[dtype])


@every_dtype
@every_kind
@given(data=st.data())
def test_zero_shot_logits_are_the_formulas(dtype, kind, data):
    case = data.draw(cases(dtype))
    clf = ZeroShotClassifier(case.class_embeddings, case.logit_scale).fit(KINDS[kind](case.X), case.y)
    expected = zero_shot_logits(unit(case.queries), unit(case.weights), case.logit_scale)
    assert_near(clf.logits(KINDS[kind](case.queries)), expected, TOLERANCE[dtype])


@pytest.mark.parametrize(("asked", "answered"), [(np.float32, np.float64), (np.float64, np.float32)])
@every_kind
def test_the_answer_has_the_querys_dtype_not_the_keys(asked, answered, kind):
    example = case([2, 1])
    clf = TipAdapterClassifier(**example.settings).fit(KINDS[kind](example.X.astype(answered)), example.y)
    queries = KINDS[kind](example.queries.astype(asked))
    for answer in (clf.logits(queries), clf.predict_proba(queries), clf.decision_function(queries)):
        assert answer.dtype == queries.dtype


@every_kind
@given(data=st.data())
def test_without_class_embeddings_the_cache_alone_answers(kind, data):
    case = data.draw(cases(min_photos=1))
    clf = TipAdapterClassifier(case.alpha, case.beta).fit(KINDS[kind](case.X), case.y)
    present, labels = np.unique(case.labels, return_inverse=True)
    nothing = np.zeros((len(present), case.X.shape[1]))
    expected = tip_adapter_logits(unit(case.queries), unit(case.X), labels, nothing, *case.pair)
    assert clf.classes_.tolist() == [f"class {label}" for label in present]
    assert_near(clf.logits(KINDS[kind](case.queries)), expected, 1e-10)


@every_kind
@given(data=st.data())
def test_zero_shot_without_class_embeddings_asks_the_class_means(kind, data):
    case = data.draw(cases(min_photos=1))
    clf = ZeroShotClassifier(logit_scale=case.logit_scale).fit(KINDS[kind](case.X), case.y)
    keys = unit(case.X)
    means = unit([keys[case.labels == label].mean(axis=0) for label in np.unique(case.labels)])
    expected = zero_shot_logits(unit(case.queries), means, case.logit_scale)
    assert_near(clf.logits(KINDS[kind](case.queries)), expected, 1e-9)


@given(case=cases())
def test_alpha_0_is_zero_shot(case):
    zero_shot = ZeroShotClassifier(case.class_embeddings, case.logit_scale).fit(case.X, case.y)
    tip_adapter = TipAdapterClassifier(**case.settings).set_params(alpha=0.0).fit(case.X, case.y)
    np.testing.assert_array_equal(tip_adapter.logits(case.queries), zero_shot.logits(case.queries))


@given(case=cases(), seed=st.integers(0, 99))
def test_the_order_of_photos_and_of_class_embeddings_does_not_matter(case, seed):
    rng = np.random.default_rng(seed)
    photos, classes = rng.permutation(len(case.X)), rng.permutation(len(case.weights))
    names = case.class_embeddings
    shuffled = ClassEmbeddings(names.labels[classes], names.matrix[classes])
    one = TipAdapterClassifier(**case.settings).fit(case.X, case.y)
    other = TipAdapterClassifier(**case.settings).set_params(class_embeddings=shuffled)
    other.fit(case.X[photos], case.y[photos])
    assert other.classes_.tolist() == one.classes_.tolist()
    assert_near(other.logits(case.queries), one.logits(case.queries), 1e-12)


def test_the_pair_is_read_when_predicting():
    example = case([2, 3])
    clf = TipAdapterClassifier(class_embeddings=example.class_embeddings).fit(example.X, example.y)
    clf.set_params(alpha=example.alpha, beta=example.beta, logit_scale=example.logit_scale)
    assert_near(clf.logits(example.queries), expected_logits(example), 1e-10)


@given(case=cases(), own_key=st.sampled_from(["keep", "leave-out"]))
def test_tip_adapter_f_answers_with_its_learned_keys_as_they_are(case, own_key):
    clf = TipAdapterFClassifier(**case.settings, epochs=2, learning_rate=0.05, own_key=own_key).fit(case.X, case.y)
    expected = tip_adapter_logits(unit(case.queries), clf.keys_, case.labels, unit(case.weights), *case.pair)
    assert_near(clf.logits(case.queries), expected, 1e-9)


# Blocks


@every_method
@every_kind
def test_blocks_do_not_change_the_answer(method, kind, monkeypatch):
    example = case([5, 0, 3, 9], n_queries=23)
    clf = method(class_embeddings=example.class_embeddings).fit(KINDS[kind](example.X), example.y)
    whole = clf.logits(KINDS[kind](example.queries))
    monkeypatch.setattr(base, "_BLOCK_ENTRIES", 40)
    assert_near(clf.logits(KINDS[kind](example.queries)), np.asarray(whole), 1e-12)


def test_no_query_by_key_matrix_is_formed():
    example = case([5000, 6000, 1000], n_queries=12_000, width=4, dtype=np.float32)
    clf = TipAdapterClassifier(**example.settings).fit(example.X, example.y)
    tracemalloc.start()
    clf.logits(example.queries)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50 * 2**20 < 12_000 * 12_000 * 4 / 10


@given(
    case=cases(), rows=st.integers(1, 5), keys=st.integers(1, 5), of_a_part=st.integers(1, 9), seed=st.integers(0, 9)
)
def test_tiles_of_any_size_sum_what_the_whole_matrix_does(case, rows, keys, of_a_part, seed):
    order = np.random.default_rng(seed).permutation(len(case.y))  # classes in any order
    clf = TipAdapterClassifier(**case.settings).fit(case.X[order], case.y[order])
    whole = clf.logits(case.queries)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ops, "_TILE", (rows, keys))
        patch.setattr(ops, "_ROWS_OF_A_PART", of_a_part)
        patch.setattr(ops, "_WORTH_TILES", 0)
        tiled = clf.logits(case.queries)
    assert_near(tiled, whole, 1e-12)


def test_sums_in_tiles_do_not_depend_on_the_thread_that_is_first(monkeypatch):
    example = case([400, 500, 300], n_queries=300, width=64, dtype=np.float32)
    order = np.random.default_rng(0).permutation(len(example.y))  # every tile has keys of every class
    clf = TipAdapterClassifier(**example.settings).fit(example.X[order], example.y[order])
    monkeypatch.setattr(ops, "_TILE", (64, 100))
    monkeypatch.setattr(ops, "_WORTH_TILES", 0)
    first, delays = clf.logits(example.queries), np.random.default_rng(1)
    affinity = tip_adapter.affinity

    def delayed(*args, **named):
        time.sleep(delays.random() / 500)
        return affinity(*args, **named)

    monkeypatch.setattr(tip_adapter, "affinity", delayed)
    assert all(np.array_equal(clf.logits(example.queries), first) for _ in range(5))


@every_kind
@pytest.mark.parametrize("method", [TipAdapterClassifier, TipAdapterFClassifier])
@given(case=cases())
def test_a_logit_is_explained_by_the_name_and_each_image_of_the_class(method, kind, case):
    options = {"epochs": 1, "learning_rate": 0.1} if method is TipAdapterFClassifier else {}
    clf = method(**case.settings, **options).fit(KINDS[kind](case.X), case.y)
    queries, keys = unit(case.queries), np.asarray(clf.keys_)
    text = zero_shot_logits(queries, unit(case.weights), case.logit_scale)
    balance = mean_count(case.labels) / np.bincount(case.labels)[case.labels]
    terms = case.alpha * np.exp(-case.beta * (1 - queries @ keys.T)) * balance
    for i, explained in enumerate(clf.explain(KINDS[kind](case.queries))):
        logits = [evidence.logit for evidence in explained]
        assert logits == sorted(logits, reverse=True)
        assert {evidence.label for evidence in explained} == set(clf.classes_)
        for evidence in explained:
            own = int(evidence.label.removeprefix("class "))
            heaviest = np.sort(terms[i][case.labels == own])[::-1]
            assert evidence.text == pytest.approx(text[i, own], rel=1e-9, abs=1e-9)
            assert [image.part for image in evidence.images] == pytest.approx(heaviest[:3].tolist(), rel=1e-9)
            assert evidence.others == pytest.approx(heaviest[3:].sum(), rel=1e-9)
            assert evidence.n_others == len(heaviest[3:])
            assert evidence.logit == pytest.approx(text[i, own] + heaviest.sum(), rel=1e-9, abs=1e-9)


# The gradient


def loss_of(clf, X, y):
    """The function batch → loss and gradient that `clf` trains with, and the unit keys it would start from."""
    caught = []

    def catch(parameters, loss_and_gradients, *_, **__):
        def of_keys(keys, queries, rows):
            loss, (gradient,) = loss_and_gradients([keys], queries, rows)
            return loss, gradient

        caught.append((of_keys, *parameters))
        return parameters, np.zeros(0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "train", catch)
        clf.fit(X, y)
    return caught[0]


@pytest.mark.slow
@pytest.mark.parametrize("own_key", OWN_KEY)
@every_kind
@given(data=st.data())
def test_the_gradient_is_torch_autograds(own_key, kind, data):
    case = data.draw(cases(min_photos=1))
    clf = TipAdapterFClassifier(**case.settings, own_key=own_key)
    loss_and_gradient, keys = loss_of(clf, KINDS[kind](case.X), case.y)
    rows = np.random.default_rng(0).permutation(len(case.X))[: max(1, len(case.X) // 2)]
    seen = KINDS[kind](np.random.default_rng(1).standard_normal((len(rows), case.X.shape[1])))
    loss, gradient = loss_and_gradient(keys, unit_rows(seen), rows)

    leaf = torch.tensor(np.asarray(keys), requires_grad=True)
    queries, values = torch.tensor(unit(np.asarray(seen))), torch.tensor(one_hot(case.labels, len(case.weights)))
    affinities = torch.exp(-case.beta * (1 - queries @ leaf.T))
    gain = torch.ones(len(rows), len(case.weights), dtype=torch.float64)
    if own_key == "leave-out":
        mask = torch.ones_like(affinities)
        for i, photo in enumerate(rows):
            own, count = case.labels[photo], np.sum(case.labels == case.labels[photo])
            mask[i, photo] = 0
            gain[i, own] = count / (count - 1) if count > 1 else 1
        affinities = affinities * mask
    text = case.logit_scale * queries @ torch.tensor(unit(case.weights)).T
    counts = np.bincount(case.labels, minlength=len(case.weights))
    gain *= torch.tensor(counts[counts > 0].mean() / np.maximum(counts, 1))
    logits = text + case.alpha * (affinities @ values) * gain
    own = torch.tensor(case.labels[rows])
    losses = torch.nn.functional.cross_entropy(logits, own, reduction="none")
    expected = (losses * torch.tensor(mean_count(case.labels) / counts[case.labels[rows]])).mean()
    expected.backward()
    assert loss == pytest.approx(expected.item(), abs=1e-9)
    np.testing.assert_allclose(np.asarray(gradient), leaf.grad, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("own_key", OWN_KEY)
@given(data=st.data())
def test_the_gradient_is_the_slope_of_the_formula(own_key, data):
    example = case([2, 0, 1, 3], seed=data.draw(st.integers(0, 999)), alpha=1.5, beta=2.0, logit_scale=3.0)
    loss_and_gradient, keys = loss_of(TipAdapterFClassifier(**example.settings, own_key=own_key), example.X, example.y)
    rows = np.array([4, 0, 5])
    queries = unit(example.X[rows] + 0.3)
    loss, gradient = loss_and_gradient(keys, queries, rows)

    def formula(keys):
        return fine_tuning_loss(queries, rows, keys, example.labels, unit(example.weights), *example.pair, own_key)

    assert loss == pytest.approx(formula(keys), abs=1e-12)
    direction = np.random.default_rng(2).standard_normal(keys.shape)
    slope = (formula(keys + 1e-6 * direction) - formula(keys - 1e-6 * direction)) / 2e-6
    assert np.sum(gradient * direction) == pytest.approx(slope, rel=1e-6, abs=1e-8)


def test_the_loss_and_its_gradient_change_nothing_they_are_given():
    example = case([2, 3, 1])
    loss_and_gradient, keys = loss_of(TipAdapterFClassifier(**example.settings), example.X, example.y)
    queries, rows = keys[[3, 1]].copy(), np.array([3, 1])
    before = keys.copy(), queries.copy(), rows.copy()
    loss_and_gradient(keys, queries, rows)
    for array, copy in zip((keys, queries, rows), before, strict=True):
        np.testing.assert_array_equal(array, copy)


@every_kind
def test_cache_gradient_is_its_formula_and_changes_nothing_it_is_given(kind):
    rng = np.random.default_rng(0)
    labels = np.array([2, 0, 2, 1, 0])
    queries, affinities, errors = rng.random((4, 3)), rng.random((4, 5)), rng.random((4, 3))
    given = [KINDS[kind](array.copy()) for array in (queries, affinities, errors)]
    gradient = cache_gradient(*given, labels, 2.0, 3.0)
    balance = np.array([5 / 3 / 2, 5 / 3, 5 / 3 / 2])
    expected = (2.0 * 3.0 * affinities * ((balance * errors) @ one_hot(labels, 3).T)).T @ queries
    np.testing.assert_allclose(np.asarray(gradient), expected, atol=1e-12)
    for array, copy in zip(given, (queries, affinities, errors), strict=True):
        np.testing.assert_array_equal(np.asarray(array), copy)


@pytest.mark.parametrize(("counts", "default"), [([1, 1], "keep"), ([1, 2], "leave-out"), ([2, 2], "leave-out")])
def test_images_leave_out_their_own_key_once_a_class_has_two(counts, default):
    example = case(counts)
    learned = {
        own_key: TipAdapterFClassifier(**example.settings, epochs=2, own_key=own_key).fit(example.X, example.y).keys_
        for own_key in (None, *OWN_KEY)
    }
    assert not np.array_equal(learned["keep"], learned["leave-out"])
    np.testing.assert_array_equal(learned[None], learned[default])


def test_cache_logits_sum_a_class_and_give_0_to_one_without_photos():
    keys = queries = np.array([[1.0, 0.0], [0.0, 1.0]])
    logits = cache_logits(queries, keys, np.array([2, 0]), 3, beta=2.0)
    np.testing.assert_allclose(logits, [[np.exp(-2), 0, 1], [1, 0, np.exp(-2)]])


@every_kind
def test_values_in_place_of_the_labels_are_summed_by_their_rows(kind):
    rng = np.random.default_rng(0)
    affinities, labels, values = rng.random((3, 4)), np.array([2, 0, 2, 1]), rng.standard_normal((4, 3))
    summed = sum_affinities(KINDS[kind](affinities), labels, 3, class_sums="raw", values=KINDS[kind](values))
    np.testing.assert_allclose(np.asarray(summed), affinities @ values)
    by_label = sum_affinities(KINDS[kind](affinities), labels, 3, class_sums="raw")
    np.testing.assert_allclose(np.asarray(by_label), affinities @ one_hot(labels, 3))


def test_the_class_of_a_left_out_key_is_rescaled_once_it_has_another():
    labels = np.array([0, 1, 1, 2, 2, 2])
    factors = sum_factors(labels, 3, np.array([0, 2, 4]), "raw")
    np.testing.assert_array_equal(factors, [[1, 1, 1], [1, 2, 1], [1, 1, 1.5]])
    balanced = sum_factors(labels, 3, np.array([0, 2, 4]), "balanced")
    np.testing.assert_allclose(balanced, [[2, 1, 2 / 3], [2, 2, 2 / 3], [2, 1, 1]])
    assert sum_factors(labels[1:5], 3, None, "balanced") is sum_factors(labels, 3, None, "raw") is None


def test_a_tensor_that_asks_for_gradients_becomes_an_array():
    np.testing.assert_array_equal(to_numpy(torch.ones(2, requires_grad=True)), [1, 1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cross_entropy_of_a_hopeless_photo_is_finite(dtype):
    loss, errors = cross_entropy(np.array([[1e4, 0.0]], dtype), np.array([1]))
    assert np.isfinite(loss)
    np.testing.assert_array_equal(errors, [[1, -1]])


# No photos


@every_method
@every_kind
@pytest.mark.parametrize("labels", [["b", "a"], [7, 3], [True, False], np.array(["b", "a"], object)], ids=str)
def test_without_photos_the_names_answer(method, kind, labels):
    matrix = np.random.default_rng(0).standard_normal((2, 4))
    names = ClassEmbeddings(labels, matrix)
    queries = np.random.default_rng(1).standard_normal((5, 4))
    clf = method(class_embeddings=names).fit(KINDS[kind](np.zeros((0, 4))), [])
    # Both lists of labels come in falling order.
    expected = zero_shot_logits(unit(queries), unit(matrix)[::-1], 100.0)
    assert clf.classes_.tolist() == sorted(labels)
    assert_near(clf.logits(KINDS[kind](queries)), expected, 1e-10)
    assert clf.predict(KINDS[kind](queries)).tolist() == clf.classes_[expected.argmax(axis=1)].tolist()


@every_method
@every_kind
def test_without_photos_and_names_there_is_nothing_to_fit(method, kind):
    with pytest.raises(ValueError, match=r"0 sample"):
        method().fit(KINDS[kind](np.zeros((0, 4))), [])


@every_method
@every_kind
def test_no_queries_give_no_answers(method, kind):
    example = case([1, 2, 0])
    clf = method(class_embeddings=example.class_embeddings).fit(KINDS[kind](example.X), example.y)
    none = KINDS[kind](example.queries[:0])
    assert tuple(clf.logits(none).shape) == (0, 3)
    assert clf.predict(none).shape == (0,)


# Labels


@every_kind
@pytest.mark.parametrize(
    "classes",
    [
        np.array(["b", "a", "ü"]),
        np.array(["b", "a", "longer"], object),
        np.array([30, -1, 5]),
        np.array([True, False]),
        np.array([2.0, 0.0, 1.0]),
    ],
    ids=["str", "object", "int", "bool", "whole float"],
)
def test_labels_of_every_kind_come_back_as_numpy_labels(kind, classes):
    vectors = np.eye(len(classes))
    names = ClassEmbeddings(classes, vectors)
    for clf in (TipAdapterClassifier(class_embeddings=names), TipAdapterClassifier(), ZeroShotClassifier()):
        predicted = clf.fit(KINDS[kind](vectors), classes).predict(KINDS[kind](vectors))
        assert isinstance(predicted, np.ndarray)
        assert predicted.dtype.kind == classes.dtype.kind
        assert predicted.tolist() == classes.tolist()


def test_labels_may_come_as_a_list_a_tensor_or_a_series():
    pandas = pytest.importorskip("pandas")
    names = ClassEmbeddings([1, 0], np.eye(2))
    for y in ([1, 0], torch.tensor([1, 0]), pandas.Series([1, 0])):
        assert TipAdapterClassifier(class_embeddings=names).fit(np.eye(2), y).predict(np.eye(2)).tolist() == [1, 0]


@every_method
@every_kind
@pytest.mark.parametrize(
    ("known", "stranger"), [(["a", "b"], "zebra"), ([0, 1], 77), (["0", "1"], 77), ([0, 1], "zebra")]
)
def test_a_label_without_class_embedding_is_named(method, kind, known, stranger):
    clf = method(class_embeddings=ClassEmbeddings(known, np.eye(2)))
    with pytest.raises(ValueError, match=str(stranger)):
        clf.fit(KINDS[kind](np.eye(2)), [stranger, stranger])


@pytest.mark.parametrize(("known", "y"), [(["0", "1"], [1, 1]), ([0, 1], ["1", "1"])])
def test_a_label_of_another_kind_is_no_class_even_where_it_reads_the_same(known, y):
    with pytest.raises(ValueError, match=r"label .*1.* has no class embedding"):
        TipAdapterClassifier(class_embeddings=ClassEmbeddings(known, np.eye(2))).fit(np.eye(2), y)


def test_a_label_is_named_as_a_person_writes_it():
    clf = TipAdapterClassifier(class_embeddings=ClassEmbeddings(["cat", "dog"], np.eye(2)))
    with pytest.raises(ValueError, match=r"label 'zebra' has no class embedding; known are 'cat', 'dog'"):
        clf.fit(np.eye(2), ["cat", "zebra"])


@pytest.mark.parametrize("names", [None, ClassEmbeddings(["cat", "dog"], np.eye(2))], ids=["alone", "with names"])
def test_labels_of_mixed_kinds_are_a_value_error(names):
    with pytest.raises(ValueError, match="label"):
        TipAdapterClassifier(class_embeddings=names).fit(np.eye(2), np.array(["cat", None], object))


@every_method
def test_labels_and_photos_of_different_numbers_are_refused(method):
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[2, 1\]"):
        method().fit(np.eye(2), ["cat"])


@pytest.mark.parametrize("kind", KINDS)
def test_ties_go_to_the_lower_class_index(kind):
    names = ClassEmbeddings(["missile", "arrow", "kite"], [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    clf = TipAdapterClassifier(class_embeddings=names).fit(KINDS[kind](np.zeros((0, 2))), [])
    queries = KINDS[kind](np.tile([[1.0, 0.1]], (40, 1)))
    assert clf.classes_.tolist() == ["arrow", "kite", "missile"]
    assert set(clf.predict(queries)) == {"kite"}


# What is refused


@every_method
@every_kind
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused(method, kind, bad):
    spoilt = np.eye(3)
    spoilt[1, 2] = bad
    clf = method(class_embeddings=ClassEmbeddings(list("abc"), np.eye(3)))
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        clf.fit(KINDS[kind](spoilt), list("abc"))
    clf.fit(KINDS[kind](np.eye(3)), list("abc"))
    for answer in (clf.logits, clf.predict, clf.predict_proba, clf.decision_function):
        with pytest.raises(ValueError, match=r"NaN|infinity"):
            answer(KINDS[kind](spoilt))


@every_method
@every_kind
def test_one_vector_alone_is_no_set_of_vectors(method, kind):
    clf = method(class_embeddings=ClassEmbeddings(list("abc"), np.eye(3)))
    with pytest.raises(ValueError, match=r"(?i)2-?D"):
        clf.fit(KINDS[kind](np.ones(3)), ["a"])
    clf.fit(KINDS[kind](np.eye(3)), list("abc"))
    with pytest.raises(ValueError, match=r"(?i)2-?D"):
        clf.logits(KINDS[kind](np.ones(3)))


@every_method
@every_kind
def test_vectors_of_another_width_are_refused(method, kind):
    clf = method(class_embeddings=ClassEmbeddings(list("abc"), np.eye(3)))
    with pytest.raises(ValueError, match="X has 4 features, class embeddings have 3"):
        clf.fit(KINDS[kind](np.eye(4)[:3]), list("abc"))
    clf.fit(KINDS[kind](np.eye(3)), list("abc"))
    with pytest.raises(ValueError, match=rf"X has 2 features, but {method.__name__} is expecting 3 features as input"):
        clf.logits(KINDS[kind](np.eye(2)))


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_tensors_of_other_than_floats_are_refused(dtype):
    with pytest.raises(ValueError, match=f"floats, got {dtype}"):
        TipAdapterClassifier(class_embeddings=ClassEmbeddings(["a"], np.eye(1))).fit(torch.ones(1, 1, dtype=dtype), "a")


@every_method
@every_kind
def test_zero_rows_stay_zero(method, kind):
    names = ClassEmbeddings(["a", "b"], [[1.0, 2.0], [0.0, 0.0]])
    clf = method(class_embeddings=names, logit_scale=10.0).fit(KINDS[kind](np.zeros((3, 2))), ["a", "b", "b"])
    # A zero row's cosines are 0: each class counts exp(−beta) times the mean number of keys; zero-shot has no keys.
    cache = 1.5 * np.exp(-5.5) if method is not ZeroShotClassifier else 0
    np.testing.assert_array_equal(np.asarray(unit_rows(KINDS[kind](np.zeros((3, 2))))), np.zeros((3, 2)))
    np.testing.assert_allclose(np.asarray(clf.logits(KINDS[kind](np.zeros((1, 2))))), [[cache, cache]])


# Shapes and kinds of answers


@every_method
@every_kind
@pytest.mark.parametrize("n_classes", [1, 2, 3])
def test_answers_have_scikit_learns_shapes(method, kind, n_classes):
    example = case([2] * n_classes)
    clf = method(class_embeddings=example.class_embeddings, logit_scale=5.0).fit(KINDS[kind](example.X), example.y)
    queries = KINDS[kind](example.queries)
    logits = np.asarray(clf.logits(queries))
    assert logits.shape == (5, n_classes)
    decision = logits[:, 1] - logits[:, 0] if n_classes == 2 else logits
    np.testing.assert_array_equal(np.asarray(clf.decision_function(queries)), decision)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.asarray(clf.predict_proba(queries)), probabilities, atol=1e-12)
    predicted = clf.predict(queries)
    assert isinstance(predicted, np.ndarray)
    assert predicted.tolist() == clf.classes_[logits.argmax(axis=1)].tolist()


@every_method
def test_tensors_that_ask_for_gradients_are_answered(method):
    """What an encoder gives outside of `torch.no_grad()`."""
    example = case([2, 3])
    X, queries = (torch.tensor(rows, requires_grad=True) for rows in (example.X, example.queries))
    expected = method(class_embeddings=example.class_embeddings).fit(example.X, example.y)
    clf = method(class_embeddings=example.class_embeddings).fit(X, example.y)
    assert_near(clf.logits(queries).detach(), expected.logits(example.queries), 1e-9)


# Restoring


@every_method
def test_restoring_what_was_learned_gives_the_same_classifier(method):
    example = case([2, 3, 0])
    fitted = method(class_embeddings=example.class_embeddings).fit(example.X, example.y)
    restored = method(class_embeddings=example.class_embeddings).restore(example.X, example.y, fitted.learned())
    np.testing.assert_array_equal(restored.logits(example.queries), fitted.logits(example.queries))


@pytest.mark.parametrize(
    ("learned", "reason"),
    [
        ({}, r"expected learned arrays \['keys_'\], got \[\]"),
        ({"keys_": np.full((3, 3), np.nan)}, "keys_"),
        ({"keys_": np.ones((2, 3))}, "keys_"),
        ({"keys_": np.ones((3, 2))}, "keys_"),
    ],
    ids=["missing", "nan", "too few", "too narrow"],
)
def test_restoring_other_arrays_than_were_learned_is_refused(learned, reason):
    with pytest.raises(ValueError, match=reason):
        TipAdapterFClassifier().restore(np.eye(3), list("abc"), learned)


def test_left_out_logits_of_the_formulas_are_refits():
    """The naive formulas on a set small enough to do by hand: three photos, two classes."""
    keys, weights = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]), np.zeros((2, 2))
    raw, balanced = (left_out_logits(keys, keys, [0, 0, 1], weights, 1.0, 1.0, 1.0, s) for s in ("raw", "balanced"))
    e = np.exp
    np.testing.assert_allclose(raw, [[2 * e(-0.4), e(-1)], [2 * e(-0.4), e(-0.2)], [e(-1) + e(-0.2), 0]])
    of_each = [[e(-0.4), e(-1)], [e(-0.4), e(-0.2)], [(e(-1) + e(-0.2)) / 2, 0]]  # means of the others
    np.testing.assert_allclose(balanced, 1.5 * np.array(of_each))
