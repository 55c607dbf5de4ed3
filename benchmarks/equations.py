"""The equations on real CLIP vectors: accuracies that must come out exactly.

    python -m benchmarks.equations --vectors DIR

DIR holds caltech58_vitb32.npz and imagenet_vitb32_4shot.npz: keys train_features, train_labels, text_weights and
val_, test_ or query_features and _labels.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks.record import write_results
from tip_adapter import ClassEmbeddings, TipAdapterClassifier, ZeroShotClassifier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SETS = (("caltech58_vitb32", "val"), ("caltech58_vitb32", "test"), ("imagenet_vitb32_4shot", "query"))
KINDS: dict[str, Callable[[Any], Any]] = {
    "NumPy float64": lambda array: array.astype(np.float64),
    "NumPy float32": lambda array: array.astype(np.float32),
    "torch float32": lambda array: torch.from_numpy(array.astype(np.float32)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=Path, required=True)
    rows = list(measure(parser.parse_args().vectors))
    write_results("equations", "python -m benchmarks.equations --vectors $TIP_ADAPTER_VECTORS", {"rows": rows})


def measure(folder: Path) -> Iterator[dict[str, Any]]:
    for name, part in SETS:
        with np.load(folder / f"{name}.npz") as file:
            arrays = {key: file[key] for key in file.files if key.endswith(("_features", "_labels", "_weights"))}
        labels = arrays[f"{part}_labels"]
        for kind, convert in KINDS.items():
            names = ClassEmbeddings(np.arange(len(arrays["text_weights"])), convert(arrays["text_weights"]))
            row: dict[str, Any] = {"set": name, "queries": part, "n": len(labels), "arrays": kind}
            for method in (ZeroShotClassifier, TipAdapterClassifier):
                classifier = method(class_embeddings=names)
                classifier.fit(convert(arrays["train_features"]), arrays["train_labels"])
                right = classifier.predict(convert(arrays[f"{part}_features"])) == labels
                row[method.__name__] = 100 * float(right.mean())
            yield row


if __name__ == "__main__":
    main()
