"""Every classifier over the same vectors: this library's methods next to scikit-learn's, from 1 to 16 shots.

    python -m benchmarks.heads --data-root DATA --vectors DIR

DATA as in benchmarks.caltech101, DIR as in benchmarks.equations, with the `dev_*.npz` of six photo sets; by default the folders
that TIP_ADAPTER_DATA and TIP_ADAPTER_VECTORS name. Results are stored as they come: a second run measures only what is missing
from docs/results/heads.json, so remove that file to measure again.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV, RidgeClassifier
from threadpoolctl import threadpool_limits

from benchmarks.caltech101 import SEEDS, SHOTS, read_parts
from benchmarks.record import RESULTS, write_results
from tip_adapter import ClassEmbeddings, SupportSet, load_encoder
from tip_adapter.images.sampling import draw_shots
from tip_adapter.methods.tuning import TuningData, default_rule
from tip_adapter.metrics import accuracy_of, calibration_of
from tip_adapter.model.fitting import fit_head
from tip_adapter.model.head import TrainingData
from tip_adapter.vectors import unit_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

COMMAND = "python -m benchmarks.heads --data-root $TIP_ADAPTER_DATA --vectors $TIP_ADAPTER_VECTORS"
METHODS = ("text-offset", "tip-adapter", "gda", "zero-shot")
RIDGE, LOGISTIC, SEARCHED, LDA = (
    "RidgeClassifier()",
    "LogisticRegression(C=100)",
    "LogisticRegressionCV()",
    'LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")',
)
PEERS = (RIDGE, LOGISTIC, SEARCHED, LDA)
DEVELOPMENT = ("aerial7", "flowers5", "scenes6", "tile6", "waste6", "weather4")
CALTECH101, CLIP58, IMAGENET = "Caltech101, pocket", "58 classes, CLIP", "ImageNet, CLIP"
N_TEST = 800
#: Photos for half the classes and for the others; photos that two of five similar classes have in addition to three.
MANY, ONE, MORE, FEW = 16, 1, 27, 3
LOOK_ALIKE_DRAWS = range(1, 41)
NAMES = ("right", "half permuted", "random", "none")


class Part(NamedTuple):
    """Vectors, (n, d) unit rows, and their labels, (n,) str."""

    X: NDArray[np.float32]
    y: NDArray[np.str_]

    def take(self, rows: NDArray[np.intp]) -> Part:
        """Those of these rows."""
        return Part(self.X[rows], self.y[rows])


@dataclass(frozen=True)
class PhotoSet:
    """Vectors of a photo set, and what belongs to their encoder."""

    train: Part
    test: Part
    names: ClassEmbeddings
    logit_scale: float
    ratio: float

    def of_classes(self, labels: NDArray[np.str_]) -> PhotoSet:
        """The photos and names of these classes only."""
        train, test = (part.take(np.flatnonzero(np.isin(part.y, labels))) for part in (self.train, self.test))
        rows = np.isin(self.names.labels, labels)
        names = ClassEmbeddings(self.names.labels[rows], np.asarray(self.names.matrix)[rows])
        return PhotoSet(train, test, names, self.logit_scale, self.ratio)

    def with_names(self, which: str, seed: int) -> PhotoSet:
        """The same with other names: those of half the classes permuted, random vectors, or none: then no name says anything."""
        rng, matrix = np.random.default_rng(seed), np.array(self.names.matrix)
        if which == "half permuted":
            half = rng.permutation(len(matrix))[: max(2, len(matrix) // 2)]
            matrix[half] = matrix[np.roll(half, 1)]
        if which == "random":
            matrix = unit_rows(rng.normal(size=matrix.shape).astype(np.float32))
        if which == "none":
            matrix[:] = matrix.mean(axis=0)
        return replace(self, names=ClassEmbeddings(self.names.labels, matrix))


@dataclass(frozen=True)
class Cell:
    """One draw from one set; each head in `heads` is fitted to it."""

    case: str
    set: str
    shots: int
    seed: int
    heads: tuple[str, ...]
    names: str = "right"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option, variable in (("--data-root", "TIP_ADAPTER_DATA"), ("--vectors", "TIP_ADAPTER_VECTORS")):
        folder = os.environ.get(variable)
        parser.add_argument(option, type=Path, default=folder, required=folder is None)
    given = parser.parse_args()
    warnings.simplefilter("ignore")  # scikit-learn's on convergence and on classes with one photo
    path = RESULTS / "heads.json"
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    done = {tuple(row[key] for key in ("case", "set", "shots", "seed", "names", "head")) for row in rows}
    sets = read_sets(given.data_root, given.vectors)
    threadpool_limits(1)  # several threads are slower on vectors of a few hundred photos
    for cell in cells():
        draw = None
        for head in cell.heads:
            if (cell.case, cell.set, cell.shots, cell.seed, cell.names, head) in done:
                continue
            draw = draw or drawn(sets[cell.set], cell)
            what = {"case": cell.case, "set": cell.set, "shots": cell.shots, "seed": cell.seed, "names": cell.names}
            rows.append({**what, "head": head, **measure(head, *draw)})
            print(rows[-1], flush=True)
        if draw:
            n_test = {name: len(photos.test.y) for name, photos in sets.items()}
            write_results("heads", COMMAND, {"n_test": n_test, "rows": rows})


def cells() -> Iterator[Cell]:
    """What is measured; the short draws first."""
    without_search = (*METHODS, RIDGE, LOGISTIC, LDA)
    for shots in SHOTS:
        for name in (*DEVELOPMENT, CLIP58, CALTECH101):
            heads = (*METHODS, *PEERS) if name in DEVELOPMENT else without_search
            one_draw = shots == 16 and name != CALTECH101
            for seed in SEEDS[:1] if one_draw else SEEDS:
                yield Cell(
                    "accuracy", name, shots, seed, tuple(h for h in heads if shots > 1 or h not in (SEARCHED, LDA))
                )
        if shots == 4:
            yield from other_cells(without_search)


def other_cells(heads: tuple[str, ...]) -> Iterator[Cell]:
    """The cases with unequal classes and with wrong names, and ImageNet."""
    for seed in SEEDS:
        yield Cell("unequal", CLIP58, MANY, seed, heads)
    for shots in (1, 4, 16):
        for name in (*DEVELOPMENT, CLIP58):
            for seed in SEEDS[:1] if shots == 16 else SEEDS:
                for names in NAMES[1:]:
                    yield Cell("names", name, shots, seed, ("text-offset", "tip-adapter", "gda"), names)
    for shots in (1, 2, 4):
        yield Cell("accuracy", IMAGENET, shots, SEEDS[0], ("text-offset", "tip-adapter", "zero-shot"))
    for seed in LOOK_ALIKE_DRAWS:
        for case in ("look-alike, equal", "look-alike, unequal"):
            yield Cell(case, CALTECH101, FEW, seed, ("text-offset", "tip-adapter", "gda", RIDGE, LOGISTIC))


def read_sets(data_root: Path, vectors: Path) -> dict[str, PhotoSet]:
    """Every set by name."""
    encoder = load_encoder("pocket")
    pocket, clip = (encoder.logit_scale, encoder.record.scale_free_ratio), (100.0, 0.1)
    parts = read_parts(data_root / "caltech-101", encoder, ("train", "test"))
    train, test = (Part(part.vectors, part.labels) for part in (parts["train"], parts["test"]))
    labels = np.unique(train.y)
    names = ClassEmbeddings(labels, encoder.encode_texts([label.replace("_", " ") for label in labels.tolist()]))
    photos = np.sort(np.random.default_rng(0).permutation(len(test.y))[:N_TEST])
    return {
        CALTECH101: PhotoSet(train, test.take(photos), names, *pocket),
        CLIP58: stored(vectors / "caltech58_vitb32.npz", "test", clip),
        IMAGENET: stored(vectors / "imagenet_vitb32_4shot.npz", "query", clip),
        **{name: stored(vectors / f"dev_{name}.npz", "test", pocket) for name in DEVELOPMENT},
    }


def stored(path: Path, test: str, encoder: tuple[float, float]) -> PhotoSet:
    """A vector file, whose classes are called 0000, 0001 and so on."""
    with np.load(path) as file:
        learned, tested = (
            Part(unit_rows(file[f"{part}_features"].astype(np.float32)), numbered(file[f"{part}_labels"]))
            for part in ("train", test)
        )
        text = unit_rows(file["text_weights"].astype(np.float32))
    return PhotoSet(learned, tested, ClassEmbeddings(numbered(np.arange(len(text))), text), *encoder)


def numbered(classes: NDArray[np.integer]) -> NDArray[np.str_]:
    return np.char.zfill(classes.astype(np.str_), 4)


def drawn(photos: PhotoSet, cell: Cell) -> tuple[PhotoSet, Part]:
    """The set of a cell, with the names of the cell, and the photos to learn from."""
    if cell.case.startswith("look-alike"):
        photos, favoured = look_alikes(photos, cell.seed)
        counts = dict.fromkeys(favoured, FEW + MORE) if cell.case.endswith("unequal") else {}
        return photos, draw_counts(photos.train, counts, FEW, cell.seed)
    if cell.case == "unequal":
        labels = np.unique(photos.train.y)
        half = np.random.default_rng(cell.seed).permutation(labels)[: len(labels) // 2]
        return photos, draw_counts(photos.train, dict.fromkeys(half.tolist(), MANY), ONE, cell.seed)
    return photos.with_names(cell.names, cell.seed), photos.train.take(
        draw_shots(photos.train.y, cell.shots, cell.seed)
    )


def draw_counts(train: Part, counts: dict[str, int], otherwise: int, seed: int) -> Part:
    """As many photos of each class as `counts` says, of the others `otherwise`."""
    rows = [
        np.flatnonzero(train.y == label)[draw_shots(train.y[train.y == label], counts.get(label, otherwise), seed)]
        for label in np.unique(train.y).tolist()
    ]
    return train.take(np.concatenate(rows))


def look_alikes(photos: PhotoSet, seed: int) -> tuple[PhotoSet, list[str]]:
    """A class, the four whose mean vectors are nearest to its own, and the two of the five that get more photos."""
    rng = np.random.default_rng(seed)
    labels, counts = np.unique(photos.train.y, return_counts=True)
    labels = labels[(counts >= FEW + MORE) & np.isin(labels, photos.test.y)]
    means = unit_rows(np.stack([photos.train.X[photos.train.y == label].mean(axis=0) for label in labels]))
    nearest = labels[np.argsort(-(means @ means[rng.integers(len(labels))]))[:5]]
    return photos.of_classes(nearest), rng.permutation(nearest)[:2].tolist()


def measure(head: str, photos: PhotoSet, support: Part) -> dict[str, Any]:
    """Fit a head; its figures on the test photos."""
    started = time.perf_counter()
    fitted = fit_method(head, photos, support) if head in METHODS else peer(head, support).fit(support.X, support.y)
    seconds, truth = time.perf_counter() - started, photos.test.y
    predicted = fitted.predict(photos.test.X)
    accuracy = accuracy_of(truth, predicted)
    row: dict[str, Any] = {"accuracy": accuracy.accuracy, "mean_per_class": accuracy.mean_per_class, "seconds": seconds}
    if head in METHODS:
        probabilities, classes = fitted.probabilities(photos.test.X), fitted.classes
        row["left_out"] = fitted.left_out.accuracy.accuracy if fitted.left_out else None
    elif head != RIDGE:
        probabilities, classes = fitted.predict_proba(photos.test.X), fitted.classes_
    else:
        return row
    own = probabilities[np.arange(len(truth)), np.searchsorted(classes, truth)].astype(np.float64)
    likelihoods = np.log(np.maximum(own, np.finfo(np.float32).tiny))
    calibration = calibration_of(probabilities.max(axis=1).astype(np.float64), predicted == truth, likelihoods)
    return {**row, "ece": calibration.ece, "negative_log_likelihood": calibration.negative_log_likelihood}


def fit_method(method: str, photos: PhotoSet, support: Part) -> Any:
    """A method of this library as `FewShotClassifier` fits it by default, from vectors."""
    labels = photos.names.labels.tolist()
    known = SupportSet(support.X, support.y, numbered(np.arange(len(support.y))))
    return fit_head(
        method,
        TrainingData(known, dict(zip(labels, labels, strict=True)), ("{}",), photos.names, photos.logit_scale),
        rule=default_rule(np.searchsorted(photos.names.labels, support.y)),
        calibrate=True,
        given=TuningData(photos.ratio),
        settings={},
        offers={},
    )


def peer(name: str, support: Part) -> Any:
    """A classifier of scikit-learn, which uses no names."""
    if name == SEARCHED:
        folds = int(min(5, np.unique(support.y, return_counts=True)[1].min()))
        return LogisticRegressionCV(cv=folds, scoring="neg_log_loss", max_iter=1000)
    return {
        RIDGE: RidgeClassifier(),
        LOGISTIC: LogisticRegression(C=100, max_iter=1000),
        LDA: LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"),
    }[name]


if __name__ == "__main__":
    main()
