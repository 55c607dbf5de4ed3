"""Real CLIP ViT-B/32 vectors against numbers that the project was given with them.

Source: computed once in float64 by a program of its own with logit scale 100, alpha 1, beta 5.5, every row normalised
first. The vectors (58 classes of Caltech-101 at 16 shots, ImageNet at 4) come from public caches of few-shot research
and carry no licence, so they are not in this repository: TIP_ADAPTER_VECTORS names a folder that holds them.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from formulas import tip_adapter_logits, unit, zero_shot_logits

from tip_adapter import ClassEmbeddings, TipAdapterClassifier, ZeroShotClassifier

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(
        "TIP_ADAPTER_VECTORS" not in os.environ,
        reason="TIP_ADAPTER_VECTORS is not set: it names a folder with the two .npz of CLIP vectors",
    ),
]

# file, part of it → zero-shot %, Tip-Adapter %
GOLDEN = {
    ("caltech58_vitb32.npz", "val"): (94.9189, 95.8919),
    ("caltech58_vitb32.npz", "test"): (94.0159, 95.1694),
    ("imagenet_vitb32_4shot.npz", "query"): (61.0243, 62.7868),
}
KINDS = {
    "float32": lambda rows: rows.astype(np.float32),
    "float64": lambda rows: rows.astype(np.float64),
    "torch float32": lambda rows: torch.tensor(rows, dtype=torch.float32),
    "torch float64": lambda rows: torch.tensor(rows, dtype=torch.float64),
}
every_set = pytest.mark.parametrize(("file", "part"), GOLDEN)


@pytest.fixture(scope="module")
def load():
    files = {}

    def load(file):
        if file not in files:
            with np.load(Path(os.environ["TIP_ADAPTER_VECTORS"], file)) as arrays:
                files[file] = {key: arrays[key] for key in arrays if key != "classnames"}
        return files[file]

    return load


def percent(predicted, labels):
    return round(100 * float(np.mean(predicted == labels)), 4)


@every_set
@pytest.mark.parametrize("kind", KINDS)
def test_golden_numbers_to_the_last_digit(load, file, part, kind):
    arrays, convert = load(file), KINDS[kind]
    X, y = convert(arrays["train_features"]), arrays["train_labels"]
    queries, labels = convert(arrays[f"{part}_features"]), arrays[f"{part}_labels"]
    weights = arrays["text_weights"].astype(np.float64)
    names = ClassEmbeddings(np.arange(len(weights)), weights)
    zero_shot = ZeroShotClassifier(class_embeddings=names).fit(X, y)
    tip_adapter = TipAdapterClassifier(class_embeddings=names).fit(X, y)
    got = percent(zero_shot.predict(queries), labels), percent(tip_adapter.predict(queries), labels)
    assert got == GOLDEN[file, part]


@every_set
def test_golden_numbers_with_string_labels_in_any_order(load, file, part):
    """ImageNet's list has two names twice: string labels keep the classes' order, so that those ties fall as before."""
    arrays = load(file)
    weights = arrays["text_weights"].astype(np.float32)
    shuffled = np.random.default_rng(0).permutation(len(weights))
    photos = np.random.default_rng(1).permutation(len(arrays["train_labels"]))
    words = np.array([f"class {i:04}" for i in range(len(weights))])
    names = ClassEmbeddings(words[shuffled], weights[shuffled])
    X, y = arrays["train_features"].astype(np.float32)[photos], words[arrays["train_labels"]][photos]
    queries, labels = arrays[f"{part}_features"].astype(np.float32), words[arrays[f"{part}_labels"]]
    zero_shot = ZeroShotClassifier(class_embeddings=names).fit(X, y)
    tip_adapter = TipAdapterClassifier(class_embeddings=names).fit(X, y)
    got = percent(zero_shot.predict(queries), labels), percent(tip_adapter.predict(queries), labels)
    assert got == GOLDEN[file, part]


@pytest.mark.parametrize("part", ["val", "test"])
def test_golden_numbers_when_the_classes_come_in_another_order(load, part):
    arrays = load("caltech58_vitb32.npz")
    weights = arrays["text_weights"].astype(np.float32)
    words = np.array([f"class {i}" for i in np.random.default_rng(2).permutation(len(weights))])
    names = ClassEmbeddings(words, weights)
    X, y = arrays["train_features"].astype(np.float32), words[arrays["train_labels"]]
    queries, labels = arrays[f"{part}_features"].astype(np.float32), words[arrays[f"{part}_labels"]]
    zero_shot = ZeroShotClassifier(class_embeddings=names).fit(X, y)
    tip_adapter = TipAdapterClassifier(class_embeddings=names).fit(X, y)
    got = percent(zero_shot.predict(queries), labels), percent(tip_adapter.predict(queries), labels)
    assert got == GOLDEN["caltech58_vitb32.npz", part]


@pytest.mark.parametrize("part", ["val", "test"])
def test_golden_numbers_from_the_naive_formulas(load, part):
    """What the other tests compare with is itself held to the golden numbers."""
    arrays = load("caltech58_vitb32.npz")
    keys, queries, weights = (unit(arrays[key]) for key in ("train_features", f"{part}_features", "text_weights"))
    zero_shot = zero_shot_logits(queries, weights, 100.0)
    tip_adapter = tip_adapter_logits(queries, keys, arrays["train_labels"], weights, 1.0, 5.5, 100.0)
    labels = arrays[f"{part}_labels"]
    got = percent(zero_shot.argmax(axis=1), labels), percent(tip_adapter.argmax(axis=1), labels)
    assert got == GOLDEN["caltech58_vitb32.npz", part]
