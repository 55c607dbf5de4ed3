"""CLIP-Adapter against torch: its forward pass, its gradient by autograd, its schedule; and its kinship to Tip-Adapter."""

from math import cos, pi

import numpy as np
import pytest
import torch
from formulas import one_hot, tip_adapter_logits, unit
from support_cases import case

from tip_adapter import CLIPAdapterClassifier
from tip_adapter.methods import training
from tip_adapter.methods.training import cosine_after_warm_up, train

COUNTS = [6, 0, 1, 4, 3, 3]
SETTINGS = {"epochs": 4, "batch_size": 5, "learning_rate": 0.5}


def example_of(dtype=np.float64):
    return case(COUNTS, width=8, dtype=dtype, alpha=1.0, beta=1.0, logit_scale=5.0)


def fitted(example, kind=np.asarray, **settings):
    names = {"class_embeddings": example.settings["class_embeddings"], "logit_scale": example.logit_scale}
    return CLIPAdapterClassifier(**names, **{**SETTINGS, **settings}).fit(kind(example.X), example.y)


def torchs_logits(queries, weights, down, up, ratio, logit_scale):
    bent = torch.relu(torch.relu(queries @ down.T) @ up.T)
    mixed = ratio * bent + (1 - ratio) * queries
    return logit_scale * torch.nn.functional.normalize(mixed, dim=1) @ weights.T


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor], ids=["numpy", "torch"])
@pytest.mark.parametrize("ratio", [0.2, 0.7, 1.0])
def test_logits_are_the_formulas(kind, ratio):
    example = example_of()
    clf = fitted(example, kind, ratio=ratio)
    queries = np.random.default_rng(1).standard_normal((9, 8))
    arrays = (torch.tensor(np.asarray(array)) for array in (unit(queries), unit(example.weights), clf.down_, clf.up_))
    expected = torchs_logits(*arrays, ratio, example.logit_scale)
    np.testing.assert_allclose(np.asarray(clf.logits(kind(queries))), expected, atol=1e-10)


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_training_is_torchs_step_for_step(optimiser, monkeypatch):
    example, batches, layers = example_of(), [], []

    def spy(parameters, loss_and_gradients, *rest, **options):
        def record(now, queries, rows):
            batches.append(rows.copy())
            layers.append([array.copy() for array in now])
            return loss_and_gradients(now, queries, rows)

        return train(parameters, record, *rest, **options)

    monkeypatch.setattr(training, "train", spy)
    rate = {"sgd": 0.5, "adam": 0.02}[optimiser]
    clf = fitted(example, optimiser=optimiser, learning_rate=rate)
    leaves = [torch.nn.Parameter(torch.tensor(array)) for array in layers[0]]
    theirs = {
        "sgd": lambda: torch.optim.SGD(leaves, lr=rate, momentum=0.9, weight_decay=5e-4),
        "adam": lambda: torch.optim.Adam(leaves, lr=rate),
    }[optimiser]()
    X, weights, labels = (
        torch.tensor(unit(example.X)),
        torch.tensor(unit(example.weights)),
        torch.tensor(example.labels),
    )
    for step, rows in enumerate(batches):
        for now, leaf in zip(layers[step], leaves, strict=True):
            np.testing.assert_allclose(now, leaf.detach(), atol=1e-9)
        epoch = step // 4
        share = 0.005 if epoch == 0 else (1 + cos(pi * (epoch - 1) / 4)) / 2
        theirs.param_groups[0]["lr"] = rate * share
        theirs.zero_grad()
        logits = torchs_logits(X[rows], weights, *leaves, 0.2, example.logit_scale)
        torch.nn.functional.cross_entropy(logits, labels[rows]).backward()
        theirs.step()
    np.testing.assert_allclose(clf.down_, leaves[0].detach(), atol=1e-9)
    np.testing.assert_allclose(clf.up_, leaves[1].detach(), atol=1e-9)
    assert np.abs(clf.up_ - layers[0][1]).max() > 1e-3  # it did learn


def test_losses_fall():
    losses = fitted(example_of(), epochs=60, learning_rate=0.1).losses_
    assert losses[-1] < 0.9 * losses[0]


def test_the_first_epoch_is_a_warm_up_and_the_last_is_almost_still():
    shares = [cosine_after_warm_up(step, 2, 10) for step in range(20)]
    assert shares[:4] == [0.005, 0.005, 1.0, 1.0]
    assert shares == sorted(shares[:2]) + sorted(shares[2:], reverse=True)
    assert 0 < shares[-1] < 0.1


@pytest.mark.parametrize("epochs", [1, 2, 50, 200])
def test_the_schedule_is_torchs_cosine_over_all_epochs_begun_after_an_epoch_of_warm_up(epochs):
    """At CoOp's rate: 1e-5 in the first epoch, and the cosine's first value, not its second, in the next."""
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.002)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    rates = [1e-5]
    for _ in range(epochs - 1):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        cosine.step()
    ours = [0.002 * cosine_after_warm_up(3 * epoch + 1, 3, epochs) for epoch in range(epochs)]
    np.testing.assert_allclose(ours, rates, rtol=1e-9, atol=1e-15)


def test_without_names_the_class_means_stand_for_them():
    example = example_of()
    clf = CLIPAdapterClassifier(epochs=0).fit(example.X, example.y)
    means = [unit(example.X)[example.y == label].mean(axis=0) for label in clf.classes_]
    np.testing.assert_allclose(clf.weights_, unit(np.array(means)), atol=1e-12)


def test_an_unknown_optimiser_is_refused():
    with pytest.raises(ValueError, match="unknown optimiser 'lion'; choose one of sgd, adam"):
        fitted(example_of(), optimiser="lion")


def test_restored_layers_answer_the_same_and_others_are_refused():
    example = example_of()
    clf = fitted(example)
    again = CLIPAdapterClassifier(**clf.get_params(deep=False)).restore(example.X, example.y, clf.learned())
    np.testing.assert_array_equal(again.logits(example.X), clf.logits(example.X))
    with pytest.raises(ValueError, match="do not fit vectors of width 8"):
        again.restore(example.X, example.y, {"down_": clf.up_, "up_": clf.down_})


# ---- equations 7 and 8: Tip-Adapter as a CLIP-Adapter ----------------------------------------------------------------


def as_clip_adapter(queries, keys, values, weights, alpha, beta, logit_scale):
    """CLIP-Adapter's first form, W₁ = F, no biases, the activation exp(−beta(1 − x)), W₂ᵀ = L (Wᵀ)⁺."""
    up = values @ np.linalg.pinv(weights.T)
    bent = np.exp(-beta * (1 - queries @ keys.T)) @ up
    return logit_scale * queries @ weights.T + alpha * bent @ weights.T


def unit_case(n_classes, width, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(n_classes), 2)
    keys, weights, queries = (unit(rng.standard_normal((n, width))) for n in (len(labels), n_classes, 7))
    return queries, keys, labels, weights


def test_tip_adapter_is_a_clip_adapter_where_classes_are_no_more_than_the_width():
    queries, keys, labels, weights = unit_case(n_classes=20, width=20)
    ours = tip_adapter_logits(queries, keys, labels, weights, alpha=1.0, beta=5.5, logit_scale=100.0)
    theirs = as_clip_adapter(queries, keys, one_hot(labels, 20), weights, 1.0, 5.5, 100.0)
    np.testing.assert_allclose(theirs, ours, atol=1e-9)


def test_it_is_not_where_classes_are_more():
    queries, keys, labels, weights = unit_case(n_classes=40, width=20)
    ours = tip_adapter_logits(queries, keys, labels, weights, alpha=1.0, beta=5.5, logit_scale=100.0)
    theirs = as_clip_adapter(queries, keys, one_hot(labels, 40), weights, 1.0, 5.5, 100.0)
    assert np.abs(theirs - ours).max() > 1e-3


def test_equation_9_tip_adapter_is_one_cache_of_two_parts():
    """Photos with their labels, sharpened; names with the identity, linear."""
    queries, keys, labels, weights = unit_case(n_classes=6, width=20)
    ours = tip_adapter_logits(queries, keys, labels, weights, alpha=2.0, beta=5.5, logit_scale=100.0)
    asked = queries @ np.concatenate([keys, weights]).T
    n = len(keys)
    retrieved = np.concatenate([2.0 * np.exp(-5.5 * (1 - asked[:, :n])), 100.0 * asked[:, n:]], axis=1)
    np.testing.assert_allclose(retrieved @ np.concatenate([one_hot(labels, 6), np.eye(6)]), ours, atol=1e-10)
