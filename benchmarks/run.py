"""Speed, as medians and as ratios within one run: `make bench` writes docs/results/speed.json.

    python -m benchmarks.run [--photos DIR]

DIR is a folder of photos to extract from; without it the demo's are taken.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from conformal_clip_data import textile_simulated_root

from benchmarks.plain_loop import PlainLoop
from benchmarks.record import write_results
from tip_adapter import (
    ClassEmbeddings,
    FewShotClassifier,
    TipAdapterClassifier,
    TipAdapterFClassifier,
    choose_alpha_beta,
    load_encoder,
)
from tip_adapter.features.encode import encode_photos
from tip_adapter.images.find import find_images
from tip_adapter.methods.tuning import TuningData
from tip_adapter.model.fitting import fit_head
from tip_adapter.vectors import SupportSet, unit_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

N_PHOTOS = 256
N_CLASSES = 100
PHOTOS = "$TIP_ADAPTER_DATA/caltech-101"
TIP_ADAPTER = [sys.executable, "-m", "tip_adapter"]


@dataclass(frozen=True)
class Case:
    """One measurement.

    Parameters
    ----------
    name : str
    work : what is timed
    limit : float, seconds it must stay below; or, with a reference, how many times faster it must be
    reference : what it is compared with, run in turn with `work`
    runs : int
    share : float, how much of the reference is run; its time is counted whole
    """

    name: str
    work: Callable[[], Any]
    limit: float
    reference: Callable[[], Any] | None = None
    runs: int = 5
    share: float = 1.0


def measure(case: Case) -> dict[str, Any]:
    """Time a case after one warm-up; with a reference, in turn, and the ratio pair by pair."""
    case.work()
    seconds, ratios = [], []
    for _ in range(case.runs):
        seconds.append(timed(case.work))
        if case.reference:
            ratios.append(timed(case.reference) / case.share / seconds[-1])
    result = {"name": case.name, "runs": case.runs, "seconds": median(seconds), "limit": case.limit}
    return result | {"ratio": median(ratios), "ratios": ratios} if ratios else result


def timed(work: Callable[[], Any]) -> float:
    """Seconds that `work` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def cases(photos: list[Path], folder: Path) -> Iterator[Case]:
    """Every case, the slow ones last."""
    yield Case(
        "import tip_adapter, Python's start included", lambda: run(sys.executable, "-c", "import tip_adapter"), 0.1
    )
    yield Case("tip-adapter --help", lambda: run(*TIP_ADAPTER, "--help"), 0.3)

    model = str(folder / "model")
    run(*TIP_ADAPTER, "fit", str(textile_simulated_root()), "--shots", "16", "--out", model)
    yield Case(
        "predict one photo, process start to answer", lambda: run(*TIP_ADAPTER, "predict", model, str(photos[0])), 2
    )

    X, y, names = support(n_classes=100, shots=16)
    yield Case("16 shots x 100 classes: choose and Tip-Adapter", lambda: tip_adapter(X, y, names), 1)
    yield Case("16 shots x 100 classes: Tip-Adapter-F", lambda: tip_adapter_f(X, y, names), 5)

    yield from teaching()
    yield search()

    yield Case(
        f"fit, {N_CLASSES} classes x 16 shots, from photos to the model", lambda: fit(folder, photos), 60, runs=1
    )

    encoder, plain = load_encoder("pocket"), PlainLoop()
    ours, theirs = encode_photos(photos[:32], encoder).vectors, plain.encode(photos[:32])
    difference = float(np.abs(ours - theirs).max())
    if difference > 1e-4:
        raise SystemExit(f"the plain loop makes other vectors (by {difference:.1e}); its time means nothing")
    yield Case(
        f"pocket, {len(photos)} photos to vectors, against the plain loop",
        lambda: encode_photos(photos, encoder),
        4,
        reference=lambda: plain.encode(photos),
    )
    yield Case("make demo from a fresh clone", lambda: make_demo(folder), 90, runs=1)


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def fit(folder: Path, photos: list[Path]) -> None:
    """The photos, over and over, as 100 classes of 16: what they show does not matter here."""
    rows = [f"{photos[i % len(photos)]},class {i // 16}" for i in range(16 * N_CLASSES)]
    listed = folder / "train.csv"
    listed.write_text("\n".join(["file_name,label", *rows]), encoding="utf-8")
    run(*TIP_ADAPTER, "fit", str(listed), "--out", str(folder / "of-photos"), "--force", "--method", "tip-adapter-f")


def support(n_classes: int, shots: int) -> tuple[Any, Any, ClassEmbeddings]:
    """Vectors as wide as pocket's, around their classes' centres."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((n_classes, 1280)).astype(np.float32)
    y = np.repeat(np.arange(n_classes), shots)
    X = centres[y] + 1.5 * rng.standard_normal((len(y), 1280), dtype=np.float32)
    names = centres + 4 * rng.standard_normal(centres.shape, dtype=np.float32)
    return X, y, ClassEmbeddings(np.arange(n_classes), names)


def tip_adapter(X: Any, y: Any, names: ClassEmbeddings) -> TipAdapterClassifier:
    choice = choose_alpha_beta(X, y, names, 30.0)
    return TipAdapterClassifier(choice.alpha, choice.beta, names, 30.0).fit(X, y)


def tip_adapter_f(X: Any, y: Any, names: ClassEmbeddings) -> TipAdapterFClassifier:
    return TipAdapterFClassifier(50.0, 5.0, names, 30.0).fit(X, y)


def teaching() -> Iterator[Case]:
    """One vector more for 16,000 keys of 512: against one prediction, and through FewShotClassifier."""
    rng = np.random.default_rng(0)
    X, y = unit_rows(rng.standard_normal((16_000, 512), dtype=np.float32)), np.repeat(np.arange(1000), 16)
    names = ClassEmbeddings(np.arange(1000), X[::16])
    untouched, taught = (TipAdapterClassifier(class_embeddings=names).fit(X, y) for _ in range(2))
    yield Case(
        "add a vector to 16,000 keys of 512 and predict, against predicting alone",
        lambda: taught.partial_fit(X[:1], y[:1]).predict(X[:1]),
        0.25,
        reference=lambda: untouched.predict(X[:1]),
        runs=25,
    )
    model = few_shot(X, np.char.add("class ", y.astype(np.str_)))
    added = count()
    yield Case(
        "FewShotClassifier: add a vector to 16,000 keys of 512, encoded already",
        lambda: model.teach(SupportSet(X[:1], np.array(["class 0"]), np.array([f"new {next(added)}"]))),
        0.015,
        runs=25,
    )


def few_shot(X: Any, labels: Any) -> FewShotClassifier:
    """A model of these vectors; the toy encoder is asked for the names only, which are as wide."""
    ids = np.char.add("photo ", np.arange(len(X)).astype(np.str_))
    model = FewShotClassifier("toy", tune=None, alpha=1.0, beta=5.5)
    names = {str(label): str(label) for label in np.unique(labels)}
    embeddings = ClassEmbeddings(np.array(list(names)), X[:: len(X) // len(names)][: len(names)])
    model._head = fit_head(
        "tip-adapter",
        SupportSet(X, labels, ids),
        names,
        ("{}",),
        embeddings,
        logit_scale=100.0,
        settings={},
        offers={},
        rule="fixed",
        calibrate=True,
        given=TuningData(alpha_beta=(1.0, 5.5)),
    )
    return model


def search() -> Case:
    """The exact search over 1,000 queries and 4,000 keys of 1,000 classes, against the public code's 4,000 pairs."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((1000, 512)).astype(np.float32)
    y = np.repeat(np.arange(1000), 4)
    X, queries = (
        unit_rows(centres[rows] + 1.5 * rng.standard_normal((len(rows), 512), dtype=np.float32)) for rows in (y, y[::4])
    )
    names = ClassEmbeddings(np.arange(1000), centres)
    one_hot, text, cosines = np.eye(1000, dtype=np.float32)[y], 100 * queries @ unit_rows(centres).T, queries @ X.T

    def grid() -> None:
        for beta in np.linspace(0.1, 7, 200, dtype=np.float32)[::40]:
            for alpha in np.linspace(0.1, 3, 20, dtype=np.float32):
                affinities = np.exp(-beta * (1 - cosines))
                float(((text + alpha * affinities @ one_hot).argmax(axis=1) == y[::4]).mean())

    return Case(
        "exact search over 1,000 queries, 4,000 keys, 1,000 classes, against the grid of 4,000 pairs (a 40th of it timed)",
        lambda: choose_alpha_beta(X, y, names, rule="validation", validation=(queries, y[::4])),
        300,
        reference=grid,
        runs=3,
        share=1 / 40,
    )


def make_demo(folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as clone:
        run("git", "clone", "--quiet", str(Path(__file__).parent.parent), clone)
        run("make", "-C", clone, "demo")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, default=textile_simulated_root())
    source = parser.parse_args().photos
    found = find_images(source)
    photos = [found[i] for i in np.random.default_rng(0).permutation(len(found))[:N_PHOTOS]]
    with tempfile.TemporaryDirectory() as folder:
        results = []
        for case in cases(photos, Path(folder)):
            results.append(measure(case))
            print(results[-1], flush=True)
    command = "python -m benchmarks.run"
    if source != textile_simulated_root():
        command += f" --photos {PHOTOS}"
    write_results("speed", command, {"cases": results})


if __name__ == "__main__":
    main()
