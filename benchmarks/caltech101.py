"""Caltech101 with the offline encoder: four methods, 1 to 16 shots, three seeds, and what choosing costs.

    python -m benchmarks.caltech101 --data-root DATA

DATA holds caltech-101/ as the few-shot literature lays it out (101_ObjectCategories, split_zhou_Caltech101.json). Its photos
are encoded once: their vectors stay in the cache folder, and a second run encodes nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.record import write_results
from tip_adapter import FewShotClassifier, TipAdapterClassifier, load_encoder
from tip_adapter.errors import TipAdapterWarning
from tip_adapter.features.extract import extract
from tip_adapter.features.sources import encode_labelled, image_source
from tip_adapter.images.sampling import draw_shots
from tip_adapter.io.files import cache_folder
from tip_adapter.methods import tuning
from tip_adapter.methods.leave_one_out import Cache
from tip_adapter.methods.tuning import TuningData
from tip_adapter.vectors import SupportSet

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tip_adapter.encoders import Encoder
    from tip_adapter.features.sources import VectorSource

SHOTS = (1, 2, 4, 8, 16)
SEEDS = (1, 2, 3)
METHODS = ("zero-shot", "text-offset", "tip-adapter", "tip-adapter-f")
DRAWS_AT_ONE_SHOT = range(1, 21)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    warnings.simplefilter("ignore", TipAdapterWarning)
    root = parser.parse_args().data_root / "caltech-101"
    encoder = load_encoder("pocket")
    parts = read_parts(root, encoder)
    chinese = json.loads((Path(__file__).parent / "caltech101_names_zh.json").read_text(encoding="utf-8"))
    results = {
        "encoder": encoder.identity.name,
        "n_photos": {name: len(part) for name, part in parts.items()},
        "rows": [
            row
            for shots in SHOTS
            for seed in SEEDS
            for row in measure(encoder, parts, shots=shots, seed=seed, names=None)
        ],
        "rows_chinese": [
            row
            for shots in (1, 16)
            for seed in SEEDS
            for row in measure(encoder, parts, shots=shots, seed=seed, names=chinese)
        ],
        "one_shot_draws": [one_shot(encoder, parts, seed) for seed in DRAWS_AT_ONE_SHOT],
    }
    write_results("caltech101", "python -m benchmarks.caltech101 --data-root $TIP_ADAPTER_DATA", results)


def read_parts(root: Path, encoder: Encoder, names: Sequence[str] = ("train", "val", "test")) -> dict[str, SupportSet]:
    """The literature's train, val and test as vectors; photos that were encoded before are not encoded again."""
    started = time.perf_counter()
    split = json.loads((root / "split_zhou_Caltech101.json").read_text(encoding="utf-8"))
    features = cache_folder() / "benchmarks" / f"caltech101-{encoder.identity.fingerprint[:16]}"
    done = extract(root / "101_ObjectCategories", features, encoder)
    photos = image_source(features)
    parts = {name: read_part(photos, split[name], encoder) for name in names}
    print(f"{done.n_encoded} photos encoded, {time.perf_counter() - started:.1f} s to the start", file=sys.stderr)
    return parts


def read_part(photos: VectorSource, rows: list[tuple[str, int, str]], encoder: Encoder) -> SupportSet:
    """One part, sorted by label and path as a list of it would be."""
    labels = {path: label for path, _, label in rows}
    part = photos.take([row for row, photo in enumerate(photos.ids) if photo in labels])
    support, _ = encode_labelled(replace(part, labels=tuple(labels[photo] for photo in part.ids)), encoder)
    return support.take(np.lexsort((support.ids, support.labels)))


def measure(
    encoder: Encoder, parts: dict[str, SupportSet], *, shots: int, seed: int, names: Mapping[str, str] | None
) -> list[dict[str, Any]]:
    """One draw: each method by its default rule, and Tip-Adapter with the whole validation split."""
    support, test = draw(parts["train"], shots, seed), parts["test"]
    rows = []
    for method in METHODS:
        started = time.perf_counter()
        model = FewShotClassifier(encoder, method, class_names=names, seed=seed).fit_support(support)
        fitted = time.perf_counter()
        row = {"shots": shots, "seed": seed, "method": method, "accuracy": accuracy(model.estimator_, test)}
        row |= {"fit_seconds": fitted - started}
        if model.choice_:
            choice = model.choice_
            row |= {"protocol": choice.rule, "alpha": choice.alpha, "beta": choice.beta, **model.estimator_.settings()}
            row |= {"temperature": choice.temperature, "left_out_accuracy": choice.accuracy}
        rows.append(row)
    head = TipAdapterClassifier(class_embeddings=model.class_embeddings_, logit_scale=encoder.logit_scale)
    head.fit(support.vectors, support.labels)
    positions = np.searchsorted(model.classes_, parts["val"].labels)
    choice = tuning.on_validation(Cache.of(head, head.keys_), TuningData(validation=(parts["val"].vectors, positions)))
    best = TipAdapterClassifier(choice.alpha, choice.beta, model.class_embeddings_, encoder.logit_scale)
    best.fit(support.vectors, support.labels)
    row = {"shots": shots, "seed": seed, "method": "tip-adapter", "accuracy": accuracy(best, test)}
    return [*rows, row | {"protocol": "validation", "alpha": choice.alpha, "beta": choice.beta}]


def one_shot(encoder: Encoder, parts: dict[str, SupportSet], seed: int) -> dict[str, Any]:
    """How far one-shot draws lie apart."""
    model = FewShotClassifier(encoder, "tip-adapter", seed=seed).fit_support(draw(parts["train"], 1, seed))
    return {"seed": seed, "accuracy": accuracy(model.estimator_, parts["test"])}


def draw(train: SupportSet, shots: int, seed: int) -> SupportSet:
    rows = draw_shots(train.labels, shots, seed)
    return SupportSet(train.vectors[rows], train.labels[rows], train.ids[rows])


def accuracy(estimator: Any, test: SupportSet) -> float:
    return float((estimator.predict(test.vectors) == test.labels).mean())


if __name__ == "__main__":
    main()
