"""CoOp against a plain loop of torch, on the toy encoder's prompt tower; what is kept answers without either."""

import subprocess
import sys
from math import cos, pi

import numpy as np
import pytest
import torch
from formulas import unit

from tip_adapter import ClassEmbeddings, CoOpClassifier, FewShotClassifier, ZeroShotClassifier
from tip_adapter.encoders.toy import ToyEncoder
from tip_adapter.errors import MissingExtra
from tip_adapter.methods import coop as page
from tip_adapter.methods import training
from tip_adapter.methods.training import train

NAMES = ["dusk", "dawn", "noon", "moss"]


@pytest.fixture(scope="module")
def encoder():
    return ToyEncoder()


def photos(encoder, per_class, seed):
    """Noisy photos of four colours whose names the toy does not know."""
    colours = np.random.default_rng(0).integers(60, 200, (4, 3))
    rng = np.random.default_rng(seed)
    y = np.repeat(range(4), per_class)
    pixels = [(colours[c] + rng.normal(0, 40, (16, 16, 3))).clip(0, 255).astype(np.uint8) for c in y]
    return encoder.encode_images(pixels), np.array(NAMES)[y]


def unfitted(encoder, **settings):
    names = ClassEmbeddings(NAMES, encoder.encode_texts(NAMES))
    return CoOpClassifier(names, encoder.logit_scale, encoder.prompt_tower(), **settings)


def test_training_is_torchs_step_for_step(encoder, monkeypatch):
    X, y = photos(encoder, 3, seed=1)
    batches, contexts = [], []

    def spy(parameters, loss_and_gradients, *rest, **options):
        def record(now, queries, rows):
            batches.append(rows.copy())
            contexts.append(now[0].copy())
            return loss_and_gradients(now, queries, rows)

        return train(parameters, record, *rest, **options)

    monkeypatch.setattr(training, "train", spy)
    clf = unfitted(encoder, epochs=4, batch_size=5, learning_rate=0.05).fit(X.astype(np.float64), y)
    context = torch.nn.Parameter(torch.tensor(contexts[0]))
    theirs = torch.optim.SGD([context], lr=0.05, momentum=0.9, weight_decay=5e-4)
    queries, labels = torch.tensor(unit(X.astype(np.float64))), torch.tensor(np.searchsorted(sorted(NAMES), y))
    prompts = encoder.prompt_tower().prompts(sorted(NAMES), 16)
    for step, rows in enumerate(batches):
        np.testing.assert_allclose(contexts[step], context.detach(), atol=1e-9)
        epoch = step // 3
        theirs.param_groups[0]["lr"] = 0.05 * (0.005 if epoch == 0 else (1 + cos(pi * (epoch - 1) / 4)) / 2)
        theirs.zero_grad()
        weights = torch.nn.functional.normalize(prompts(context), dim=1)
        loss = torch.nn.functional.cross_entropy(encoder.logit_scale * queries[rows] @ weights.T, labels[rows])
        loss.backward()
        theirs.step()
    np.testing.assert_allclose(clf.context_, context.detach(), atol=1e-9)
    assert np.abs(clf.context_ - contexts[0]).max() > 1e-3  # it did learn


def test_names_that_the_tower_reads_in_several_runs_are_learned_the_same(encoder, monkeypatch):
    X, y = photos(encoder, 2, seed=1)
    whole = unfitted(encoder, epochs=3, learning_rate=0.05).fit(X.astype(np.float64), y)
    asked = []

    class Counted(type(encoder.prompt_tower())):
        def prompts(self, names, n_context):
            asked.append(len(names))
            return super().prompts(names, n_context)

    monkeypatch.setattr(page, "_NAMES_PER_RUN", 3)
    runs = unfitted(encoder, epochs=3, learning_rate=0.05)
    runs.set_params(prompt_tower=Counted(encoder.encode_texts, encoder.identity.width)).fit(X.astype(np.float64), y)
    assert asked == [3, 1] * 2  # four names: for the training, and for what it learned
    np.testing.assert_allclose(runs.context_, whole.context_, atol=1e-12)
    np.testing.assert_allclose(runs.weights_, whole.weights_, atol=1e-12)


def test_losses_fall_and_it_beats_the_names_alone(encoder):
    X, y = photos(encoder, 4, seed=1)
    queries, labels = photos(encoder, 20, seed=2)
    clf = unfitted(encoder, epochs=20).fit(X, y)
    zero_shot = ZeroShotClassifier(clf.class_embeddings, encoder.logit_scale).fit(X, y)
    assert clf.losses_[-1] < 0.5 * clf.losses_[0]
    assert (clf.predict(queries) == labels).mean() > (zero_shot.predict(queries) == labels).mean() + 0.2


def test_tensors_get_tensors_and_the_same_answer(encoder):
    X, y = photos(encoder, 2, seed=1)
    X = X.astype(np.float64)
    arrays = unfitted(encoder, epochs=3).fit(X, y)
    tensors = unfitted(encoder, epochs=3).fit(torch.tensor(X), y)
    assert isinstance(tensors.context_, torch.Tensor)
    np.testing.assert_allclose(tensors.logits(torch.tensor(X)), arrays.logits(X), atol=1e-9)


@pytest.mark.parametrize(("shots", "epochs"), [(1, 50), (2, 100), (4, 100), (5, 200), (16, 200)])
def test_it_trains_as_long_as_the_paper_at_so_many_shots(encoder, shots, epochs, monkeypatch):
    asked = []
    monkeypatch.setattr(
        training, "train", lambda *a, **options: (asked.append(options["epochs"]), (a[0], np.zeros(0)))[1]
    )
    X, y = photos(encoder, shots, seed=1)
    clf = unfitted(encoder).fit(X, y)
    assert asked == [epochs] == [clf.training()["epochs"]] == [clf.training()["papers_epochs"]]


def test_a_shorter_training_says_so(encoder):
    clf = unfitted(encoder, epochs=2).fit(*photos(encoder, 1, seed=1))
    assert clf.training() == {"epochs": 2, "papers_epochs": 50, "prompt_tower": encoder.prompt_tower().description}
    assert len(clf.losses_) == 2


@pytest.mark.parametrize("name", ["toy", pytest.param("pocket", marks=pytest.mark.slow)])
def test_a_context_of_zeros_leaves_the_names_as_they_are(name, request, encoder):
    encoder = encoder if name == "toy" else request.getfixturevalue("pocket")
    tower = encoder.prompt_tower()
    weights = torch.nn.functional.normalize(
        tower.prompts(["cat", "a red dog"], 16)(torch.zeros(16, tower.width)), dim=1
    )
    np.testing.assert_allclose(weights, encoder.encode_texts(["cat", "a red dog"]), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["toy", "pocket"])
def test_towers_give_gradients_of_the_context(name, request, encoder):
    encoder = encoder if name == "toy" else request.getfixturevalue("pocket")
    tower = encoder.prompt_tower()
    read = tower.prompts(["cat", "dog"], 2)
    context = 0.1 * torch.randn(2, tower.width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    gradients = torch.randn(read(context).shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    leaf = context.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((read(leaf) * gradients).sum(), leaf)
    step = torch.zeros_like(context)
    step[1, 3] = 1e-6
    numeric = ((read(context + step) - read(context - step)) * gradients).sum() / 2e-6
    assert float(gradient[1, 3]) == pytest.approx(float(numeric), rel=1e-4)


def test_the_tower_reads_the_names_and_the_answers_are_labels(encoder):
    X, y = photos(encoder, 1, seed=1)
    named = unfitted(encoder, epochs=0, names=dict(zip(NAMES, ["red", "blue", "green", "white"], strict=True))).fit(
        X, y
    )
    asked = encoder.prompt_tower().prompts(["blue", "red", "white", "green"], 16)  # dawn, dusk, moss, noon
    weights = torch.nn.functional.normalize(asked(torch.tensor(named.context_)), dim=1)
    np.testing.assert_allclose(named.weights_, weights, atol=1e-6)
    assert named.classes_.tolist() == sorted(NAMES)


def test_without_a_tower_or_with_one_of_another_width_it_says_so(encoder):
    with pytest.raises(ValueError, match=r"give prompt_tower=encoder.prompt_tower\(\)"):
        CoOpClassifier().fit(np.eye(2), [0, 1])
    with pytest.raises(ValueError, match="X has 2 features, the prompt tower's vectors have 49"):
        CoOpClassifier(prompt_tower=encoder.prompt_tower()).fit(np.eye(2), [0, 1])


def test_restored_weights_answer_the_same_and_others_are_refused(encoder):
    X, y = photos(encoder, 2, seed=1)
    clf = unfitted(encoder, epochs=2).fit(X, y)
    fresh = CoOpClassifier(clf.class_embeddings, encoder.logit_scale, epochs=2)
    again = fresh.restore(X, y, clf.learned())
    np.testing.assert_array_equal(again.logits(X), clf.logits(X))
    assert again.training() == {"epochs": 2, "papers_epochs": 100}
    with pytest.raises(ValueError, match=r"weights_ of shape \(3, 49\) are not \(4, 49\)"):
        fresh.restore(X, y, {**clf.learned(), "weights_": clf.weights_[:3]})


def test_without_torch_the_line_to_type_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "tip_adapter.encoders.toy_torch", raising=False)
    with pytest.raises(MissingExtra, match=r'pip install "open-clip-torch>=3.2" "torch>=2.6"'):
        FewShotClassifier("toy", "coop").fit(["nothing.png"], ["red"])


@pytest.mark.slow
def test_a_saved_model_answers_without_torch(encoder, paint, tmp_path):
    labels = ["red", "green", "blue"] * 2
    pictures = [paint(label, number) for number, label in enumerate(labels)]
    FewShotClassifier("toy", "coop", epochs=2).fit(pictures, labels).save(tmp_path / "model")
    pictures[0].save(tmp_path / "photo.png")
    code = """
import sys
class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, NoTorch())
from tip_adapter import FewShotClassifier
model = FewShotClassifier.load(sys.argv[1])
print(*model.predict([sys.argv[2]]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "model", tmp_path / "photo.png"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "red\n"
