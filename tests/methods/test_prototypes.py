"""Caches below the shots, and Tip-Adapter-F over more shots than keys."""

import numpy as np
import pytest
from formulas import unit
from support_cases import case

from tip_adapter import TipAdapterClassifier, TipAdapterFClassifier, ZeroShotClassifier
from tip_adapter.methods.prototypes import cycled, draw_prototypes

X = np.random.default_rng(0).standard_normal((20, 6))
Y = np.array(list("aaaaaaaabbbbbbbbcccc"))


def test_one_group_a_class_is_the_class_mean():
    drawn = draw_prototypes(3 * X, Y, size=1, seed=0)
    assert drawn.labels.tolist() == ["a", "b", "c"]
    np.testing.assert_allclose(drawn.vectors, unit(np.stack([unit(X)[c == Y].mean(axis=0) for c in "abc"])), atol=1e-12)


def test_as_many_groups_as_photos_are_the_photos():
    drawn = draw_prototypes(X, Y, size=8, seed=0)
    np.testing.assert_allclose(np.sort(drawn.vectors, axis=0), np.sort(unit(X), axis=0), atol=1e-12)
    assert sorted(drawn.labels) == sorted(Y)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
def test_each_photo_is_in_one_group_of_its_class_and_groups_are_equal(size):
    drawn = draw_prototypes(X, Y, size=size, seed=1)
    for label, count in (("a", 8), ("b", 8), ("c", 4)):
        groups = [set(rows) for rows in drawn.rows.T[drawn.labels == label].tolist()]
        assert len(groups) == min(size, count)
        assert sorted(row for group in groups for row in group) == np.flatnonzero(label == Y).tolist()
        assert max(map(len, groups)) - min(map(len, groups)) <= 1


def test_the_seed_draws_the_groups():
    rows = [draw_prototypes(X, Y, size=2, seed=seed).rows.tolist() for seed in (3, 3, 4)]
    assert rows[0] == rows[1] != rows[2]


def test_the_views_of_a_prototype_are_its_photos_in_turn():
    drawn = draw_prototypes(X, Y, size=2, seed=0)
    seen = np.concatenate([drawn.views(epoch)[:4] for epoch in range(4)])  # of a and b, four photos a group
    np.testing.assert_allclose(np.sort(seen, axis=0), np.sort(unit(X)[:16], axis=0), atol=1e-12)
    np.testing.assert_array_equal(drawn.views(5), drawn.views(1))


def test_fine_tuning_starts_at_the_prototypes_and_sees_all_photos():
    drawn = draw_prototypes(X, Y, size=2, seed=0)
    seen = []

    def views(epoch):
        seen.append(drawn.views(epoch))
        return seen[-1]

    start = TipAdapterFClassifier(epochs=0).fit(drawn.vectors, drawn.labels, views=views)
    np.testing.assert_array_equal(start.keys_, drawn.vectors)
    clf = TipAdapterFClassifier(epochs=8).fit(drawn.vectors, drawn.labels, views=views)
    assert clf.keys_.shape == drawn.vectors.shape
    assert {tuple(row) for row in np.concatenate(seen)} == {tuple(row) for row in drawn.images[0]}
    assert np.abs(clf.keys_ - drawn.vectors).max() > 1e-4


def test_each_time_round_the_photos_may_look_different():
    views = np.stack([X, 2 * X[:, ::-1]])
    drawn = draw_prototypes(X, Y, size=2, seed=0, views=views)
    plain = draw_prototypes(X, Y, size=2, seed=0)
    n = len(drawn.rows)
    np.testing.assert_array_equal(drawn.vectors, plain.vectors)
    np.testing.assert_array_equal(drawn.views(1), plain.views(1))
    np.testing.assert_allclose(drawn.views(n + 1), unit(X[:, ::-1])[drawn.rows[1]], atol=1e-12)
    np.testing.assert_array_equal(drawn.views(2 * n + 1), plain.views(1))


def test_views_of_other_photos_are_refused():
    with pytest.raises(ValueError, match="views are"):
        draw_prototypes(X, Y, size=2, seed=0, views=X[None, 1:])


@pytest.mark.parametrize(("size", "photos"), [(0, 3), (1, 0)])
def test_no_groups_and_no_photos_are_refused(size, photos):
    with pytest.raises(ValueError, match="must be at least 1, found"):
        draw_prototypes(X[:photos], Y[:photos], size=size, seed=0)


def test_cached_views_come_round_again():
    views = np.arange(12).reshape(3, 2, 2)
    assert [cycled(views)(epoch)[0, 0] for epoch in range(5)] == [0, 4, 8, 0, 4]


@pytest.mark.parametrize("method", [TipAdapterClassifier, TipAdapterFClassifier])
def test_an_alpha_of_0_is_zero_shot_exactly(method):
    example = case([4, 2, 3], width=8, dtype=np.float32, alpha=1.0, beta=5.5, logit_scale=10.0)
    names = {"class_embeddings": example.settings["class_embeddings"], "logit_scale": 10.0}
    queries = np.random.default_rng(1).standard_normal((9, 8)).astype(np.float32)
    zero_shot = ZeroShotClassifier(**names).fit(example.X, example.y)
    ours = method(alpha=0.0, **names).fit(example.X, example.y)
    np.testing.assert_array_equal(ours.logits(queries), zero_shot.logits(queries))
