"""Tip-Adapter-F's training against torch: torch.optim.AdamW, its cosine schedule and its autograd, step for step."""

from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import pytest
import torch
from formulas import one_hot, tip_adapter_logits, unit
from support_cases import case

from tip_adapter import TipAdapterFClassifier
from tip_adapter.errors import Diverged
from tip_adapter.methods import ops, training
from tip_adapter.methods.training import SGD, AdamW, cosine, train

KINDS = {"numpy": np.asarray, "torch": torch.tensor}
every_kind = pytest.mark.parametrize("kind", KINDS)
every_own_key = pytest.mark.parametrize("own_key", ["keep", "leave-out"])

# 17 photos, one class without, one with a single one; batches of 5 leave a last one of 2.
COUNTS = [6, 0, 1, 4, 3, 3]
BATCHES = {"epochs": 3, "batch_size": 5, "learning_rate": 1e-2}


def overlapping(dtype=np.float32, seed=0):
    return case(COUNTS, width=8, seed=seed, dtype=dtype, alpha=3.0, beta=4.0, logit_scale=5.0)


def fitted(example, *, views=None, kind="numpy", **settings):
    clf = TipAdapterFClassifier(**example.settings, **{**BATCHES, **settings})
    return clf.fit(KINDS[kind](example.X), example.y, views=views)


@dataclass
class Trace:
    """The batches that training drew, the keys before each, and the keys it ended with."""

    rows: list[Any]
    keys: list[Any]
    last: Any


def traced(example, *, views=None, **settings):
    rows, keys = [], []

    def spy(parameters, loss_and_gradients, *rest, **options):
        def record(now, queries, batch):
            rows.append(batch.copy())
            keys.append(now[0].copy())
            return loss_and_gradients(now, queries, batch)

        return train(parameters, record, *rest, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "train", spy)
        clf = fitted(example, views=views, **settings)
    return Trace(rows, keys, clf.keys_), clf


def torchs_keys(example, rows, own_key, views=None):
    """The keys before each step and after the last, by torch's optimiser, schedule and autograd."""
    dtype = torch.tensor(example.X).dtype
    X, weights = torch.tensor(unit(example.X), dtype=dtype), torch.tensor(unit(example.weights), dtype=dtype)
    values, labels = torch.tensor(one_hot(example.labels, len(weights)), dtype=dtype), torch.tensor(example.labels)
    counts = torch.bincount(labels, minlength=len(weights)).to(dtype)
    mean_count = counts[counts > 0].mean()
    steps_per_epoch = ceil(len(X) / BATCHES["batch_size"])
    keys = torch.nn.Parameter(X.clone())
    optimiser = torch.optim.AdamW([keys], lr=BATCHES["learning_rate"], eps=1e-4, weight_decay=0.01, betas=(0.9, 0.999))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=BATCHES["epochs"] * steps_per_epoch)
    seen, losses = [keys.detach().clone()], []
    for step, batch in enumerate(rows):
        photos = X if views is None else torch.tensor(unit(views(step // steps_per_epoch)), dtype=dtype)
        queries, own = photos[batch], labels[batch]
        affinities = torch.exp(-example.beta * (1 - queries @ keys.T))
        gain = torch.ones(len(batch), len(weights), dtype=dtype)
        if own_key == "leave-out":
            affinities = affinities * (torch.arange(len(X)) != torch.tensor(batch)[:, None])
            several = counts[own] > 1
            gain[several, own[several]] = (counts[own] / (counts[own] - 1))[several]
        gain = gain * mean_count / counts.clamp(min=1)
        logits = example.logit_scale * queries @ weights.T + example.alpha * (affinities @ values) * gain
        loss = (torch.nn.functional.cross_entropy(logits, own, reduction="none") * mean_count / counts[own]).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        seen.append(keys.detach().clone())
        losses.append(loss.item() * len(batch) / len(X))
    return np.array([keys.numpy() for keys in seen]), np.reshape(losses, (-1, steps_per_epoch)).sum(axis=1)


@pytest.mark.slow
@every_own_key
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-12)])
def test_training_is_torchs_adamw_and_autograd_step_for_step(own_key, seed, dtype, tolerance):
    example = overlapping(dtype, seed)
    trace, clf = traced(example, own_key=own_key, seed=seed)
    expected, losses = torchs_keys(example, trace.rows, own_key)
    assert len(trace.rows) == 3 * 4
    np.testing.assert_allclose([*trace.keys, trace.last], expected, rtol=0, atol=tolerance)
    np.testing.assert_allclose(clf.losses_, losses, rtol=10 * tolerance)
    assert np.abs(expected[-1] - expected[0]).max() > 0.01  # it did learn


@every_own_key
def test_training_on_views_is_torchs_too(own_key):
    example = overlapping()
    views = [example.X + 0.2 * np.random.default_rng(epoch).standard_normal(example.X.shape) for epoch in range(3)]
    trace, _ = traced(example, own_key=own_key, views=views.__getitem__)
    expected, _ = torchs_keys(example, trace.rows, own_key, views.__getitem__)
    np.testing.assert_allclose([*trace.keys, trace.last], expected, rtol=0, atol=1e-5)


OPTIMISERS = {
    "AdamW": (
        lambda leaves, rate: torch.optim.AdamW(leaves, lr=rate, eps=1e-3, weight_decay=0.2, betas=(0.8, 0.95)),
        lambda rate: AdamW(rate, epsilon=1e-3, weight_decay=0.2, betas=(0.8, 0.95)),
    ),
    "SGD": (
        lambda leaves, rate: torch.optim.SGD(leaves, lr=rate, momentum=0.7, weight_decay=0.1),
        lambda rate: SGD(rate, momentum=0.7, weight_decay=0.1),
    ),
}


@pytest.mark.parametrize("name", OPTIMISERS)
@pytest.mark.parametrize("lr_factor", [1.0, 0.3])
@every_kind
def test_an_optimisers_step_is_torchs(lr_factor, kind, name):
    rng = np.random.default_rng(0)
    starts = [rng.standard_normal((7, 3)), rng.standard_normal((2, 5))]
    leaves = [torch.nn.Parameter(torch.tensor(start)) for start in starts]
    make_theirs, make_ours = OPTIMISERS[name]
    theirs, ours = make_theirs(leaves, 0.1 * lr_factor), make_ours(0.1)
    parameters = [KINDS[kind](start.copy()) for start in starts]
    for _ in range(5):
        gradients = [rng.standard_normal(start.shape) for start in starts]
        for leaf, gradient in zip(leaves, gradients, strict=True):
            leaf.grad = torch.tensor(gradient)
        theirs.step()
        ours.step(parameters, [KINDS[kind](gradient) for gradient in gradients], lr_factor=lr_factor)
        for array, leaf in zip(parameters, leaves, strict=True):
            np.testing.assert_allclose(np.asarray(array), leaf.detach(), rtol=0, atol=1e-12)


def test_the_optimisers_blocks_do_not_change_its_steps(monkeypatch):
    whole = fitted(overlapping())
    monkeypatch.setattr(training, "_BLOCK_ENTRIES", 20)
    np.testing.assert_array_equal(fitted(overlapping()).keys_, whole.keys_)


@every_own_key
@pytest.mark.parametrize("processors", [1, 2, 3, 40])
def test_parts_of_the_keys_on_threads_learn_what_one_does(monkeypatch, own_key, processors):
    whole = fitted(overlapping(np.float64), own_key=own_key)
    monkeypatch.setattr(ops, "_WORTH_TILES", 0)
    monkeypatch.setattr(ops, "available_processors", lambda: processors)
    parts = fitted(overlapping(np.float64), own_key=own_key)
    np.testing.assert_allclose(parts.keys_, whole.keys_, rtol=0, atol=1e-12)
    np.testing.assert_allclose(parts.losses_, whole.losses_, rtol=1e-12)


def test_a_training_on_threads_that_diverges_says_so_without_warnings(monkeypatch):
    monkeypatch.setattr(ops, "_WORTH_TILES", 0)
    example = overlapping()
    clf = TipAdapterFClassifier(**{**example.settings, "beta": 50.0}, learning_rate=1e6, epochs=20)
    with pytest.raises(Diverged, match="the loss is"):
        clf.fit(example.X, example.y)


@every_own_key
def test_numpy_and_torch_learn_the_same_keys(own_key):
    for dtype, tolerance in [(np.float32, 1e-5), (np.float64, 1e-12)]:
        example = overlapping(dtype)
        numpys, torchs = (fitted(example, own_key=own_key, kind=kind) for kind in KINDS)
        assert isinstance(torchs.keys_, torch.Tensor)
        assert np.asarray(torchs.keys_).dtype == numpys.keys_.dtype == dtype
        np.testing.assert_allclose(torchs.keys_, numpys.keys_, rtol=0, atol=tolerance)
        np.testing.assert_allclose(torchs.losses_, numpys.losses_, rtol=10 * tolerance)


@every_kind
def test_the_same_seed_gives_the_same_bytes_and_another_other_keys(kind):
    keys = [np.asarray(fitted(overlapping(), kind=kind, seed=seed).keys_) for seed in (3, 3, 4)]
    assert keys[0].tobytes() == keys[1].tobytes()
    assert np.abs(keys[0] - keys[2]).max() > 1e-6


def test_every_photo_is_seen_once_an_epoch_in_an_order_drawn_anew():
    trace, _ = traced(overlapping())
    epochs = [np.concatenate(trace.rows[first : first + 4]) for first in (0, 4, 8)]
    assert [len(batch) for batch in trace.rows] == [5, 5, 5, 2] * 3
    for epoch in epochs:
        assert sorted(epoch) == list(range(17))
    assert not np.array_equal(epochs[0], epochs[1])


@every_own_key
def test_losses_fall(own_key):
    losses = fitted(overlapping(), own_key=own_key, epochs=20).losses_
    assert losses.shape == (20,)
    assert losses[-1] < 0.8 * losses[0]


def test_photos_that_training_did_not_see_become_likelier():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 40)
    X = rng.standard_normal((80, 12)) + 1.2 * np.eye(12)[y]
    untrained, trained = (TipAdapterFClassifier(epochs=epochs).fit(X[::2], y[::2]) for epochs in (0, 20))

    def loss(clf):
        return -np.log(clf.predict_proba(X[1::2])[np.arange(40), y[1::2]]).mean()

    assert loss(trained) < loss(untrained)


# Augmentation


def test_each_epoch_asks_for_its_views_once():
    asked = []
    example = overlapping()
    fitted(example, views=lambda epoch: asked.append(epoch) or example.X)
    assert asked == [0, 1, 2]


@every_kind
def test_views_are_normalised_and_may_be_of_another_kind_and_dtype(kind):
    example = overlapping()
    plain = fitted(example, kind=kind, views=lambda _: KINDS[kind](example.X))
    for other in (lambda _: 7 * example.X.astype(np.float64), lambda _: torch.tensor(example.X, dtype=torch.float64)):
        keys = fitted(example, kind=kind, views=other).keys_
        assert keys.dtype == plain.keys_.dtype
        np.testing.assert_allclose(np.asarray(keys), np.asarray(plain.keys_), atol=1e-6)


@every_kind
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_views_with_nan_or_infinity_are_refused(kind, bad):
    example = overlapping()
    spoilt = example.X.copy()
    spoilt[3, 1] = bad
    with pytest.raises(ValueError, match=r"views.*(NaN|infinity)"):
        fitted(example, kind=kind, views=lambda _: KINDS[kind](spoilt))


@pytest.mark.parametrize("photos", [slice(0, 16), slice(0, 34)], ids=["too few", "too many"])
def test_views_of_other_photos_than_the_supports_are_refused(photos):
    example = overlapping()
    with pytest.raises(ValueError, match="views"):
        fitted(example, views=lambda _: np.concatenate([example.X, example.X])[photos])


# Own keys


def test_own_keys_are_left_out_without_views_and_kept_with_them():
    example = overlapping()
    left_out, kept = fitted(example, own_key="leave-out"), fitted(example, own_key="keep")
    assert np.abs(left_out.keys_ - kept.keys_).max() > 1e-4
    np.testing.assert_array_equal(fitted(example).keys_, left_out.keys_)
    np.testing.assert_array_equal(fitted(example, views=lambda _: example.X).keys_, kept.keys_)


def test_own_key_may_be_left_out_with_views_too():
    example = overlapping()
    with_views = fitted(example, own_key="leave-out", views=lambda _: example.X)
    np.testing.assert_allclose(with_views.keys_, fitted(example).keys_, atol=1e-6)


@pytest.mark.parametrize("own_key", ["drop", ""])
def test_an_unknown_own_key_is_refused_with_the_known_ones(own_key):
    with pytest.raises(ValueError, match=rf"unknown own_key '{own_key}'; choose one of keep, leave-out"):
        fitted(overlapping(), own_key=own_key)


# The state that is left


@every_kind
def test_no_epochs_leave_the_photos_vectors(kind):
    example = overlapping(np.float64)
    clf = fitted(example, kind=kind, epochs=0)
    np.testing.assert_allclose(np.asarray(clf.keys_), unit(example.X), atol=1e-15)
    assert clf.losses_.shape == (0,)


@pytest.mark.parametrize("n_images", [0, 1])
def test_no_photo_or_a_single_one_can_be_fitted(n_images):
    example = case([n_images, 0], width=3)
    clf = fitted(example)
    assert clf.keys_.shape == (n_images, 3)
    assert np.isfinite(clf.logits(example.queries)).all()


@every_kind
@pytest.mark.parametrize("with_views", [False, True])
def test_nothing_given_is_changed_in_place(kind, with_views):
    # Unit rows already, so that normalising them need not have made a copy.
    example = overlapping(np.float64)
    X = KINDS[kind](np.eye(8)[np.arange(17) % 8])
    before = np.asarray(X).copy()
    views = (lambda _: X) if with_views else None
    TipAdapterFClassifier(**example.settings, **BATCHES).fit(X, example.y, views=views)
    np.testing.assert_array_equal(np.asarray(X), before)


def test_who_holds_the_old_keys_keeps_them():
    example = overlapping()
    clf = fitted(example)
    held, before = clf.keys_, clf.keys_.copy()
    clf.set_params(epochs=1).fit(example.X, example.y)
    assert not np.array_equal(clf.keys_, before)
    np.testing.assert_array_equal(held, before)


def test_learned_keys_are_not_normalised_again():
    example = overlapping(np.float64)
    clf = fitted(example)
    assert np.abs(np.linalg.norm(clf.keys_, axis=1) - 1).max() > 0.01
    expected = tip_adapter_logits(
        unit(example.queries), clf.keys_, example.labels, unit(example.weights), *example.pair
    )
    np.testing.assert_allclose(clf.logits(example.queries), expected, atol=1e-10)


@pytest.mark.parametrize("setting", [{"batch_size": 0}, {"batch_size": -1}, {"epochs": -1}], ids=str)
def test_settings_that_mean_nothing_are_refused_by_name(setting):
    (name,) = setting
    with pytest.raises(ValueError, match=name):
        fitted(overlapping(), **setting)


def test_with_one_photo_a_class_own_keys_are_kept_unless_asked():
    """Left out, a query would find nothing of its class, and training only push the others away."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((5, 16)), np.arange(5)
    unasked, kept = (TipAdapterFClassifier(own_key=own_key).fit(X, y) for own_key in (None, "keep"))
    np.testing.assert_array_equal(unasked.keys_, kept.keys_)
    queries = X + 0.05 * rng.standard_normal(X.shape)
    assert unasked.predict(queries).tolist() == y.tolist()


@pytest.mark.parametrize("loss", [np.nan, np.inf])
def test_a_loss_that_is_no_number_ends_training(loss):
    with pytest.raises(ValueError, match=rf"the loss is {loss} in epoch 2; choose a smaller beta or learning rate"):
        train(
            [np.ones((2, 3))],
            lambda learned, queries, rows: (1.0 if learned[0].max() == 1 else loss, learned),
            lambda epoch: np.ones((2, 3)),
            AdamW(0.1),
            n_images=2,
            epochs=3,
            batch_size=2,
            seed=0,
            schedule=cosine,
        )
