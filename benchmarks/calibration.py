"""How well scores are calibrated: error, likelihood, reliability curve, before and after the temperature.

    python -m benchmarks.calibration --data-root DATA

DATA as in benchmarks.caltech101.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.caltech101 import SEEDS, draw, read_parts
from benchmarks.record import write_results
from tip_adapter import FewShotClassifier, load_encoder
from tip_adapter.errors import TipAdapterWarning

if TYPE_CHECKING:
    from tip_adapter.encoders import Encoder
    from tip_adapter.vectors import SupportSet

SHOTS = (1, 4, 16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    warnings.simplefilter("ignore", TipAdapterWarning)
    encoder = load_encoder("pocket")
    parts = read_parts(parser.parse_args().data_root / "caltech-101", encoder, ("train", "test"))
    results = {
        "encoder": encoder.identity.name,
        "n_photos": len(parts["test"]),
        "rows": [measure(encoder, parts, shots=shots, seed=seed) for shots in SHOTS for seed in SEEDS],
    }
    write_results("calibration", "python -m benchmarks.calibration --data-root $TIP_ADAPTER_DATA", results)


def measure(encoder: Encoder, parts: dict[str, SupportSet], *, shots: int, seed: int) -> dict[str, Any]:
    """One draw, Tip-Adapter by its default rule: how right, and how far it can be trusted, on the test photos."""
    model = FewShotClassifier(encoder, "tip-adapter", seed=seed).fit_support(draw(parts["train"], shots, seed))
    record = model.evaluate_support(parts["test"])
    return {"shots": shots, "seed": seed, "accuracy": record["accuracy"], **record["calibration"]}


if __name__ == "__main__":
    main()
