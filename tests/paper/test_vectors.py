"""What is measured on: means of augmented views, the photos themselves, one view after the other; and the epochs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tip_adapter import ClassEmbeddings, TipAdapterFClassifier, choose_alpha_beta
from tip_adapter.errors import FeaturesError, UsageError
from tip_adapter.methods.prototypes import cycled
from tip_adapter.paper import fit
from tip_adapter.paper.datasets.records import dataset_record
from tip_adapter.paper.datasets.splits import open_dataset
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
        return ImageStore(open_dataset(record, root), encoder, tmp_path / "vectors", frozenset({(1, 0), (2, 0)}))

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
    return Task("table1", "dtd", "dtd", "fake", method, 2, 0, protocol, "", settings)


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


def test_classes_that_are_left_out_are_left_out_of_all_views(split: SplitVectors) -> None:
    few = split.of_classes(2)
    support, views = few.support(2, 0), few.views(2, 0)
    queries = few.queries(2, 0)
    assert views is not None
    assert queries is not None
    assert views.shape == (3, *support.vectors.shape) == (3, *queries.shape)


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
    single = Task("table1", "dtd", "dtd", "fake", "tip-adapter", 1, 0, "leave-one-out", "", {})
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


@pytest.mark.slow
def test_a_prompt_is_learned_once_a_draw(split: SplitVectors, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []

    def learn(task: Task, *_: object) -> ClassEmbeddings:
        asked.append((task.shots, task.seed))
        return split.embeddings()

    monkeypatch.setattr(fit, "_learn_prompt", learn)
    for protocol in ("fixed", "oracle"):
        measure(task("tip-adapter", protocol, learned_prompt=True), lambda *_: split, Heads(), Draws())
    measure(replace(task("tip-adapter", "fixed", learned_prompt=True), shots=1), lambda *_: split, Heads(), Draws())
    assert asked == [(2, 0), (1, 0)]
