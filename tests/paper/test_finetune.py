"""Table 6 on the toy encoder's towers: gradients against autograd, keys against Tip-Adapter-F, and what collapses."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tip_adapter import ClassEmbeddings, TipAdapterClassifier, TipAdapterFClassifier
from tip_adapter.encoders.toy import ToyEncoder
from tip_adapter.methods.ops import cross_entropy
from tip_adapter.methods.tip_adapter import affinity, sum_affinities
from tip_adapter.paper.finetune import Equation, FineTuned, Parts, Photos, _TwoRates, fine_tune

#: The rows of Table 6 in the paper's order, after the one in which nothing learns.
TABLE_6 = [
    Parts(keys=True),
    Parts(values=True),
    Parts(keys=True, values=True),
    Parts(visual_encoder=True),
    Parts(text_encoder=True),
    Parts(visual_encoder=True, text_encoder=True),
]
#: Words that the toy does not know, for four colours that are none of its own: zero-shot is chance.
NAMES = ["dusk", "dawn", "noon", "moss"]
EQUATION = Equation(alpha=10.0, beta=5.5, logit_scale=20.0)


def photos(per_class, seed):
    colours = np.array([(150, 80, 80), (80, 80, 150), (80, 150, 80), (150, 150, 80)])
    rng = np.random.default_rng(seed)
    labels = np.repeat(range(4), per_class)
    prepared = (colours[labels][:, None, None] + rng.normal(0, 45, (len(labels), 4, 4, 3))).clip(0, 255)
    return Photos(prepared.astype(np.uint8), labels)


SUPPORT, TEST = photos(4, seed=1), photos(25, seed=2)


def tuned(parts, equation=EQUATION, **options):
    towers = ToyEncoder().towers()
    return fine_tune(towers, SUPPORT, vectors(SUPPORT), TEST, [[name] for name in NAMES], parts, equation, **options)


def test_the_gradients_are_autograds():
    rng = np.random.default_rng(0)
    labels = np.array([0, 1, 2, 2, 1])
    shapes = {"queries": (4, 6), "weights": (3, 6), "keys": (5, 6), "values": (5, 3)}
    leaves = {name: torch.tensor(rng.standard_normal(shape), requires_grad=True) for name, shape in shapes.items()}
    rescale = torch.tensor(rng.uniform(1, 2, (4, 3)))
    mask = torch.tensor(rng.integers(0, 2, (4, 5)))
    equation = Equation(alpha=0.7, beta=1.3, logit_scale=2.0)
    queries, weights, keys, values = leaves.values()
    logits = 2.0 * queries @ weights.T + 0.7 * ((mask * torch.exp(-1.3 * (1 - queries @ keys.T))) @ values) * rescale
    torch.nn.functional.cross_entropy(logits, torch.tensor(labels[:4])).backward()
    plain = [leaf.detach() for leaf in leaves.values()]
    affinities = affinity(plain[0], plain[2], 1.3) * mask
    cache = sum_affinities(affinities, labels, 3, class_sums="raw", values=plain[3]) * rescale
    ours = equation.logits(plain[0], plain[1], cache)
    np.testing.assert_allclose(ours, logits.detach(), atol=1e-12)
    _, errors = cross_entropy(ours, labels[:4])
    gradients = equation.gradients(*plain, affinities, errors, rescale)
    for name, leaf in leaves.items():
        np.testing.assert_allclose(gradients[name], leaf.grad, atol=1e-12, err_msg=name)


def vectors(of):
    return ToyEncoder().encode_prepared(of.prepared)


def names():
    return ClassEmbeddings(range(4), ToyEncoder().encode_texts(NAMES))


def test_nothing_fine_tuned_is_tip_adapter():
    ours = tuned(Parts())
    clf = TipAdapterClassifier(10.0, 5.5, names(), 20.0).fit(vectors(SUPPORT), SUPPORT.labels)
    assert ours.accuracy == (clf.predict(vectors(TEST)) == TEST.labels).mean()
    assert (ours.losses, ours.n_parameters, ours.collapsed) == ((), 0, False)


def test_keys_fine_tuned_are_tip_adapter_f():
    ours = tuned(Parts(keys=True))
    clf = TipAdapterFClassifier(10.0, 5.5, names(), 20.0).fit(vectors(SUPPORT), SUPPORT.labels)
    np.testing.assert_allclose(ours.losses, clf.losses_, rtol=1e-4)
    assert ours.accuracy == (clf.predict(vectors(TEST)) == TEST.labels).mean()
    assert ours.n_parameters == clf.keys_.size


def test_with_views_a_photo_sees_its_own_key():
    ours = tuned(Parts(keys=True), views=lambda epoch: SUPPORT.prepared)
    clf = TipAdapterFClassifier(10.0, 5.5, names(), 20.0, own_key="keep").fit(vectors(SUPPORT), SUPPORT.labels)
    np.testing.assert_allclose(ours.losses, clf.losses_, rtol=1e-4)


@pytest.mark.parametrize("parts", TABLE_6, ids=str)
def test_every_part_learns_and_beats_the_names_alone(parts):
    rate = 10.0 if parts.visual_encoder or parts.text_encoder else 0.01  # a thousandth of it for the toy's few weights
    ours = tuned(parts, learning_rate=rate)
    assert ours.losses[-1] < ours.losses[0]
    assert ours.accuracy > ours.zero_shot_accuracy + 0.2
    assert not ours.collapsed
    assert ours.n_parameters > 0


@pytest.mark.parametrize("parts", [Parts(visual_encoder=True), Parts(text_encoder=True)], ids=str)
def test_what_goes_through_a_tower_in_several_runs_learns_the_same(parts, monkeypatch):
    whole = tuned(parts, learning_rate=10.0)
    monkeypatch.setattr("tip_adapter.paper.finetune._PER_RUN", 3)
    np.testing.assert_allclose(tuned(parts, learning_rate=10.0).losses, whole.losses, rtol=1e-4)


def test_the_cache_begins_with_the_keys_that_are_given():
    others = vectors(SUPPORT)[::-1].copy()
    clf = TipAdapterClassifier(10.0, 5.5, names(), 20.0).fit(others, SUPPORT.labels)
    ours = fine_tune(ToyEncoder().towers(), SUPPORT, others, TEST, [[name] for name in NAMES], Parts(), EQUATION)
    assert ours.accuracy == (clf.predict(vectors(TEST)) == TEST.labels).mean() != tuned(Parts()).accuracy


def test_encoders_learn_at_a_thousandth_of_the_rate():
    parameters = [torch.ones(1, 2), torch.ones(1, 2)]
    _TwoRates(0.5, n_cache=1).step(parameters, [torch.ones(1, 2), torch.ones(1, 2)], lr_factor=1.0)
    moved = [1 - float(array[0, 0]) for array in parameters]
    assert moved[1] == pytest.approx(moved[0] / 1000, rel=1e-3)


def test_a_loss_that_is_no_number_is_a_result():
    ours = tuned(Parts(keys=True, values=True), learning_rate=1e30)
    assert ours.accuracy is None
    assert ours.collapsed
    assert ours.losses == ()


def test_an_accuracy_below_half_of_the_names_alone_has_collapsed():
    result = FineTuned(0.25, 0.5, (1.0,), 1, 0.1)
    assert not result.collapsed
    assert replace(result, accuracy=0.2).collapsed


def test_the_towers_and_the_seed_decide_and_nothing_is_left_behind():
    towers = ToyEncoder().towers()
    before = {name: p.clone() for name, p in towers.image.named_parameters()}
    results = [
        fine_tune(
            towers,
            SUPPORT,
            vectors(SUPPORT),
            TEST,
            [[name] for name in NAMES],
            Parts(visual_encoder=True, keys=True),
            EQUATION,
        )
        for _ in range(2)
    ]
    assert results[0].losses == results[1].losses
    for name, parameter in towers.image.named_parameters():
        torch.testing.assert_close(parameter, before[name])


def test_several_sentences_a_class_are_averaged():
    towers = ToyEncoder().towers()
    twice = fine_tune(towers, SUPPORT, vectors(SUPPORT), TEST, [[name, name] for name in NAMES], Parts(), EQUATION)
    assert twice.accuracy == tuned(Parts()).accuracy
    with pytest.raises(ValueError, match="the same number of sentences"):
        fine_tune(towers, SUPPORT, vectors(SUPPORT), TEST, [["red"], ["blue", "a blue one"]], Parts(), EQUATION)
