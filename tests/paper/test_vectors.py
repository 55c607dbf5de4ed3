"""What is measured on: means of augmented views, the photos themselves, one view after the other; and the epochs."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tip_adapter import TipAdapterFClassifier, choose_alpha_beta
from tip_adapter.errors import FeaturesError, MissingDataset, UsageError
from tip_adapter.methods.prototypes import cycled
from tip_adapter.paper import fit
from tip_adapter.paper.datasets.records import dataset_record
from tip_adapter.paper.datasets.splits import open_dataset
from tip_adapter.paper.draws import LITERATURE, NESTED, drawn_rows
from tip_adapter.paper.experiments import Task
from tip_adapter.paper.fit import Heads
from tip_adapter.paper.measure import Draws, measure
from tip_adapter.paper.providers import ImageStore
from tip_adapter.testing import FakeEncoder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tip_adapter.paper.vectors import SplitVectors


@pytest.fixture
def store(lay_out: Callable[..., None], tmp_path: Path) -> Callable[[int], ImageStore]:
    """store(views) → DTD in small, by an encoder whose support photos are means of so many."""
    record, root = dataset_record("dtd"), tmp_path / "data"
    lay_out(root, "dtd", train=4, val=1, test=2)

    def open_store(views: int) -> ImageStore:
        encoder = FakeEncoder()
        encoder.record = replace(encoder.record, support_views=views)
        return ImageStore(
            open_dataset(record, root), encoder, tmp_path / "vectors", NESTED, frozenset({(1, 0), (2, 0)})
        )

    return open_store


def test_a_support_photo_is_the_mean_of_its_views_and_a_test_photo_is_itself(
    store: Callable[[int], ImageStore],
) -> None:
    plain, viewed = store(0), store(3)
    ours, theirs = (each.split_vectors(("a {}",)).support(1, 0) for each in (viewed, plain))
    assert ours.ids.tolist() == theirs.ids.tolist()
    assert np.abs(ours.vectors - theirs.vectors).max() > 1e-3
    np.testing.assert_array_equal(viewed.part("test").vectors, plain.part("test").vectors)


def test_both_are_kept_apart_and_encoded_once(store: Callable[[int], ImageStore]) -> None:
    first, again, plain = store(3), store(3), store(0)
    vectors, same, others = (each.split_vectors(("a {}",)).support(2, 0).vectors for each in (first, again, plain))
    assert first.n_encoded > 0
    np.testing.assert_array_equal(same, vectors)
    assert again.n_encoded == 0
    assert others.shape == vectors.shape
    assert not np.array_equal(others, vectors)


@pytest.fixture
def split(store: Callable[[int], ImageStore]) -> SplitVectors:
    """DTD in small, three views of each support photo."""
    return store(3).split_vectors(("a {}",))


def task(method: str, protocol: str, **settings: object) -> Task:
    return Task("table1", "dtd", "dtd", "fake", method, 2, 0, NESTED, protocol, "", settings)


def test_leave_one_out_asks_with_the_photos_themselves(split: SplitVectors) -> None:
    support = split.support(2, 0)
    result = measure(task("tip-adapter", "leave-one-out"), lambda *_: split, Heads(), Draws())
    keys, names = (support.vectors, support.labels), (split.embeddings(), split.encoder.logit_scale)
    ours = choose_alpha_beta(*keys, *names, queries=split.queries(2, 0))
    assert (result["alpha"], result["beta"]) == (ours.alpha, ours.beta)
    others = choose_alpha_beta(*keys, *names)
    assert (ours.alpha, ours.beta) != (others.alpha, others.beta)


def test_keys_are_trained_on_one_view_after_the_other_and_see_themselves(split: SplitVectors) -> None:
    support, views = split.support(2, 0), split.views(2, 0)
    assert views is not None
    assert views.shape == (3, *support.vectors.shape)
    assert not np.allclose(views[0], views[1])
    result = measure(task("tip-adapter-f", "fixed", epochs=4), lambda *_: split, Heads(), Draws())
    ours = TipAdapterFClassifier(
        1.0, 5.5, split.embeddings(), split.encoder.logit_scale, epochs=4, own_key="keep", seed=0
    )
    ours.fit(support.vectors, support.labels, views=cycled(views))
    np.testing.assert_allclose(result["losses"], ours.losses_, rtol=1e-6)


def test_a_cache_that_is_smaller_than_the_shots_is_trained_on_views_of_all_photos(split: SplitVectors) -> None:
    result = measure(task("tip-adapter-f", "fixed", epochs=4, cache_size=1), lambda *_: split, Heads(), Draws())
    plain = measure(task("tip-adapter-f", "fixed", epochs=4), lambda *_: split, Heads(), Draws())
    assert result["learnable_parameters"] * 2 == plain["learnable_parameters"]
    assert min(result["losses"]) > 0
    assert result["losses"] != plain["losses"]


def test_a_photo_that_lacks_a_view_is_named(split: SplitVectors) -> None:
    whole = split.support(2, 0)
    short = replace(split, drawn=lambda *draw: whole if draw[-1].number else whole.take(slice(1, None)))
    with pytest.raises(FeaturesError, match=whole.ids[0]):
        short.queries(2, 0)


def test_views_that_are_prepared_again_are_those_that_were_kept(split: SplitVectors) -> None:
    support, views = split.support(2, 0), split.views(2, 0)
    assert views is not None
    assert split.prepared is not None
    for view in range(3):
        fresh = split.encoder.encode_prepared(split.prepared("train", support.ids.tolist(), view)[:])
        np.testing.assert_allclose(fresh, views[view], atol=1e-6)


def test_a_data_set_may_have_epochs_of_its_own(split: SplitVectors) -> None:
    ours = replace(split, epochs={"coop": 3})
    assert measure(task("coop", "fixed"), lambda *_: ours, Heads(), Draws())["epochs"] == 3
    assert dataset_record("imagenet").epochs["coop"] == 50


def test_an_encoder_without_views_has_the_photos_themselves(store: Callable[[int], ImageStore]) -> None:
    plain = store(0).split_vectors(("a {}",))
    assert plain.queries(2, 0) is None
    assert plain.views(2, 0) is None


def test_leave_one_out_of_single_photos_is_refused_in_this_commands_words(split: SplitVectors) -> None:
    single = Task("table1", "dtd", "dtd", "fake", "tip-adapter", 1, 0, NESTED, "leave-one-out", "", {})
    with pytest.raises(UsageError, match="two photos; give more --shots"):
        measure(single, lambda *_: split, Heads(), Draws())


@pytest.mark.slow
def test_the_upper_bound_belongs_to_its_target(split: SplitVectors) -> None:
    whole = split.test()
    other = replace(split, whole=lambda part: replace(whole, labels=np.roll(whole.labels, 2)))
    oracle = task("tip-adapter", "oracle")
    there = replace(oracle, target="other")

    def find(dataset: str, _: str) -> SplitVectors:
        return other if dataset == "other" else split

    heads = Heads()
    measure(oracle, find, heads, Draws())
    assert measure(there, find, heads, Draws())["accuracy"] == measure(there, find, Heads(), Draws())["accuracy"]


def test_where_the_pair_is_chosen_again_keys_learn_at_the_public_codes_initial_one(split: SplitVectors) -> None:
    assert split.initial_alpha_beta == (2.0, 1.0)
    support, views = split.support(2, 0), split.views(2, 0)
    assert views is not None
    result = measure(task("tip-adapter-f", "full-validation", epochs=4), lambda *_: split, Heads(), Draws())
    ours = TipAdapterFClassifier(2.0, 1.0, split.embeddings(), split.encoder.logit_scale, epochs=4)
    ours.fit(support.vectors, support.labels, views=cycled(views))
    np.testing.assert_allclose(result["losses"], ours.losses_, rtol=1e-6)
    assert (result["alpha"], result["beta"]) != (2.0, 1.0)


# ---- the watch on a training


def test_before_during_and_after_are_of_one_training(split: SplitVectors) -> None:
    watched: list[np.ndarray] = []
    whole = fit.learner(
        task("tip-adapter-f", "fixed", epochs=4), "fixed", split, split.support(2, 0), split.test(),
        lambda _, clf: watched.append(clf.keys_.copy()),
    )()  # fmt: skip
    assert len(watched) == 5
    for share, keys in ((0.0, watched[0]), (0.5, watched[2]), (1.0, whole.estimator.keys_)):
        shown = replace(task("tip-adapter-f", "fixed", epochs=4, trained=share), shown_classes=2)
        head = fit.learner(shown, "fixed", split, split.support(2, 0), split.test())()
        np.testing.assert_array_equal(head.estimator.keys_, keys)
    result = measure(shown, lambda *_: split, Heads(), Draws())
    assert {label for *_, label in result["points"]} == {0, 1}
    assert result["n_classes"] == len(split.names) > 2


def test_an_upper_bound_has_the_test_accuracy_of_every_epoch(split: SplitVectors) -> None:
    result = measure(task("tip-adapter-f", "oracle", epochs=3), lambda *_: split, Heads(), Draws())
    assert len(result["epoch_accuracies"]) == 4
    assert (
        measure(task("tip-adapter-f", "fixed", epochs=3), lambda *_: split, Heads(), Draws())["epoch_accuracies"] == []
    )


# ---- draws


def test_the_literature_draws_by_pythons_generator_in_the_order_of_the_split() -> None:
    """CoOp's `generate_fewshot_dataset`: what `random.sample` takes of each class, the validation photos after the training photos."""
    train, val = ["b", "a", "b", "a", "b", "a", "b", "c"], ["a", "b", "a", "b", "c"]
    random.seed(7)
    expected = [random.sample([0, 2, 4, 6], 2), random.sample([1, 3, 5], 2), [7]]
    expected_val = [random.sample([0, 2], 2), random.sample([1, 3], 2), [4]]
    rows, val_rows = drawn_rows(LITERATURE, 2, 7, train, val)
    assert rows.tolist() == sorted(chain(*expected))
    assert val_rows.tolist() == sorted(chain(*expected_val))


@pytest.mark.parametrize("draws", [NESTED, LITERATURE])
def test_a_draw_has_as_many_of_each_class_and_at_most_four_to_validate(draws: str) -> None:
    labels = ["a"] * 9 + ["b"] * 9
    rows, val = drawn_rows(draws, 6, 1, labels, labels)
    assert [sorted(labels[row] for row in rows).count(label) for label in "ab"] == [6, 6]
    assert len(val) == 8
    fewer = drawn_rows(draws, 3, 1, labels, labels)[0]
    assert set(fewer.tolist()) <= set(rows.tolist()) or draws == LITERATURE


def test_draws_are_recorded_and_differ(store: Callable[[int], ImageStore]) -> None:
    ids = {}
    for draws in (NESTED, LITERATURE):
        split = replace(store(0), draws=draws, _parts={}, _drawn={}, _lists={}).split_vectors(("{}",))
        result = measure(
            replace(task("tip-adapter", "few-validation"), draws=draws), lambda *_, s=split: s, Heads(), Draws()
        )
        assert result["draws"] == draws
        ids[draws] = result["support_ids"]
    assert len(ids[NESTED]) == len(ids[LITERATURE])
    assert ids[NESTED] != ids[LITERATURE]


@pytest.mark.parametrize("what", ["content", "label"])
def test_kept_vectors_of_images_that_are_others_now_are_made_again(
    store: Callable[[int], ImageStore], what: str
) -> None:
    before = store(0).part("test")
    changed = store(0)
    if what == "content":
        first, second = (changed.splits.photos("test").paths[row] for row in (0, 1))
        first.write_bytes(second.read_bytes())
    else:
        (split,) = changed.splits.photos("test").root.parent.glob("split_*.json")
        split.write_text(split.read_text("utf-8").replace('"dusk"', '"evening"'), "utf-8")
        changed = store(0)
    after = changed.part("test")
    assert set(after.ids.tolist()) == set(before.ids.tolist())
    if what == "content":
        assert (after.vectors[0] == before.vectors[1]).all()
        assert changed.n_encoded <= 1
    else:
        assert changed.n_encoded == 0
        assert set(after.labels.tolist()) - set(before.labels.tolist()) == {"evening"}


def test_a_part_without_photos_is_missing(store: Callable[[int], ImageStore]) -> None:
    opened = store(0)
    (split,) = opened.splits.photos("test").root.parent.glob("split_*.json")
    split.write_text(json.dumps({**json.loads(split.read_text("utf-8")), "test": []}), "utf-8")
    with pytest.raises(MissingDataset, match="has no photos in its part test"):
        store(0).part("test")
