"""Self-reported figures of a classifier: wrong labels found, unknown photos recognised, left-out against true accuracy.

    python -m benchmarks.trust --data-root DATA

DATA as in benchmarks.caltech101.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.caltech101 import SEEDS, SHOTS, draw, read_parts
from benchmarks.record import write_results
from tip_adapter import FewShotClassifier, load_encoder
from tip_adapter.errors import TipAdapterWarning
from tip_adapter.model.label_issues import likely_wrong
from tip_adapter.vectors import SupportSet

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tip_adapter.encoders import Encoder

FLIPPED = 0.05
HELD_BACK = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    warnings.simplefilter("ignore", TipAdapterWarning)
    encoder = load_encoder("pocket")
    parts = read_parts(parser.parse_args().data_root / "caltech-101", encoder)
    results = {
        "wrong_labels": [wrong_labels(encoder, draw(parts["train"], 8, seed), seed) for seed in SEEDS],
        "unknown": [unknown(encoder, parts, seed) for seed in SEEDS],
        "left_out": [left_out(encoder, parts, shots, seed) for shots in SHOTS if shots > 1 for seed in SEEDS],
    }
    write_results("trust", "python -m benchmarks.trust --data-root $TIP_ADAPTER_DATA", results)


def wrong_labels(encoder: Encoder, support: SupportSet, seed: int) -> dict[str, Any]:
    """Of the photos that `check` ranks highest, as many as were flipped: the share that was flipped."""
    flipped, labels = flip(support.labels, seed)
    wrong = SupportSet(support.vectors, labels, support.ids)
    head = FewShotClassifier(encoder, tune="loo").fit_support(wrong).head_
    ranked = [entry["image"] for entry in likely_wrong(head)][: len(flipped)]
    found = len(set(ranked) & set(support.ids[flipped].tolist())) / len(flipped)
    return {"seed": seed, "n_images": len(support), "n_flipped": len(flipped), "found": found}


def flip(labels: NDArray[np.str_], seed: int) -> tuple[NDArray[np.intp], NDArray[np.str_]]:
    """Rows whose label is another class's now, and all labels."""
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(labels), round(FLIPPED * len(labels)), replace=False)
    classes, flipped = np.unique(labels), labels.copy()
    for row in rows:
        flipped[row] = rng.choice(classes[classes != labels[row]])
    return rows, flipped


def unknown(encoder: Encoder, parts: dict[str, SupportSet], seed: int) -> dict[str, Any]:
    """16 shots of 80 classes; test photos of the other 20 are unknown: AUROC of the score, with and without temperature."""
    classes = np.unique(parts["train"].labels)
    held_back = np.random.default_rng(seed).choice(classes, HELD_BACK, replace=False)
    support = draw(parts["train"], 16, seed)
    known = support.take(np.flatnonzero(~np.isin(support.labels, held_back)))
    head = FewShotClassifier(encoder, tune="loo").fit_support(known).head_
    is_known = ~np.isin(parts["test"].labels, held_back)
    scores = head.probabilities(parts["test"].vectors).max(axis=1)
    undivided = head.estimator.predict_proba(parts["test"].vectors).max(axis=1)
    return {
        "seed": seed,
        "auroc": float(roc_auc_score(is_known, scores)),
        "auroc_without_temperature": float(roc_auc_score(is_known, undivided)),
        "threshold": head.threshold,
        "kept": float((scores[is_known] >= head.threshold).mean()),
        "unknown_refused": float((scores[~is_known] < head.threshold).mean()),
    }


def left_out(encoder: Encoder, parts: dict[str, SupportSet], shots: int, seed: int) -> dict[str, Any]:
    """A model's leave-one-out accuracy and its accuracy on the test photos."""
    head = FewShotClassifier(encoder, "tip-adapter", seed=seed).fit_support(draw(parts["train"], shots, seed)).head_
    assert head.left_out is not None
    stated = head.left_out.accuracy
    true = float((head.estimator.predict(parts["test"].vectors) == parts["test"].labels).mean())
    return {"shots": shots, "seed": seed, "stated": stated.accuracy, "interval": list(stated.interval), "test": true}


if __name__ == "__main__":
    main()
