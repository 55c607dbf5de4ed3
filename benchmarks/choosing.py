"""The table that decides how alpha and beta are chosen: every protocol on three sets of vectors.

    python -m benchmarks.choosing --data-root DATA --vectors DIR

DATA as in benchmarks.caltech101, DIR as in benchmarks.equations. Nothing but `oracle` sees the test photos.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import log_softmax

from benchmarks.caltech101 import read_parts
from benchmarks.record import write_results
from tip_adapter import ClassEmbeddings, TipAdapterClassifier, ZeroShotClassifier, choose_alpha_beta, load_encoder
from tip_adapter.images.sampling import draw_shots
from tip_adapter.methods import tuning
from tip_adapter.methods.alpha_search import best_alpha_beta
from tip_adapter.methods.leave_one_out import Cache
from tip_adapter.vectors import unit_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from tip_adapter.methods.alpha_search import AccuracyCurve
    from tip_adapter.methods.leave_one_out import HeldOutQueries

SEEDS = (1, 2, 3)
PAPERS_PAIR = (1.0, 5.5)
#: The public code's grid: 200 betas up to B, 20 alphas up to A.
GRIDS = {"Caltech101, pocket": (12, 5), "58 classes, CLIP": (12, 5), "ImageNet, CLIP": (7, 3)}


@dataclass(frozen=True)
class Draw:
    """One draw: what each protocol may see."""

    support: TipAdapterClassifier
    X: NDArray[Any]
    y: NDArray[Any]
    validation: tuple[NDArray[Any], NDArray[Any]]
    test: tuple[NDArray[Any], NDArray[Any]]
    ratio: float

    def accuracy(self, alpha: float, beta: float) -> float:
        """Test accuracy at a pair."""
        return float(self.support.set_params(alpha=alpha, beta=beta).score(*self.test))


@dataclass(frozen=True)
class PhotoSet:
    """Vectors of a set; `test` is None where validation photos are drawn from the queries."""

    train: tuple[NDArray[Any], NDArray[Any]]
    validation: tuple[NDArray[Any], NDArray[Any]]
    test: tuple[NDArray[Any], NDArray[Any]] | None
    names: ClassEmbeddings
    logit_scale: float
    ratio: float
    shots: tuple[int, ...]

    def draw(self, shots: int, seed: int) -> Draw:
        """So many photos a class, and what belongs to them."""
        rows = draw_shots(self.train[1], shots, seed)
        X, y = self.train[0][rows], self.train[1][rows]
        support = TipAdapterClassifier(class_embeddings=self.names, logit_scale=self.logit_scale).fit(X, y)
        validation, test = (self.validation, self.test) if self.test else self._split(seed)
        return Draw(support, X, y, validation, test, self.ratio)

    def _split(self, seed: int) -> tuple[tuple[NDArray[Any], NDArray[Any]], tuple[NDArray[Any], NDArray[Any]]]:
        order = np.random.default_rng(seed).permutation(len(self.validation[1]))
        return tuple(tuple(array[rows] for array in self.validation) for rows in (order[:1000], order[1000:]))  # type: ignore[return-value]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--vectors", type=Path, required=True)
    given = parser.parse_args()
    sets = {
        "Caltech101, pocket": caltech101(given.data_root),
        "58 classes, CLIP": stored(given.vectors / "caltech58_vitb32.npz", "val", "test", (1, 2, 4, 8, 16)),
        "ImageNet, CLIP": stored(given.vectors / "imagenet_vitb32_4shot.npz", "query", None, (1, 2, 4)),
    }
    rows = [
        row for name, photos in sets.items() for shots in photos.shots for row in measure_draws(name, photos, shots)
    ]
    command = "python -m benchmarks.choosing --data-root $TIP_ADAPTER_DATA --vectors $TIP_ADAPTER_VECTORS"
    write_results("choosing", command, {"rows": rows})


def caltech101(root: Path) -> PhotoSet:
    encoder = load_encoder("pocket")
    parts = read_parts(root / "caltech-101", encoder)
    labels = np.unique(parts["train"].labels)
    names = ClassEmbeddings(labels, encoder.encode_texts([label.replace("_", " ") for label in labels.tolist()]))
    train, validation, test = ((part.vectors, part.labels) for part in (parts["train"], parts["val"], parts["test"]))
    ratio = encoder.record.scale_free_ratio
    return PhotoSet(train, validation, test, names, encoder.logit_scale, ratio, (1, 2, 4, 8, 16))


def stored(path: Path, validation: str, test: str | None, shots: tuple[int, ...]) -> PhotoSet:
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files if key.endswith(("_features", "_labels", "_weights"))}
    names = ClassEmbeddings(np.arange(len(arrays["text_weights"])), arrays["text_weights"].astype(np.float32))

    def part(name: str) -> tuple[NDArray[Any], NDArray[Any]]:
        vectors = unit_rows(arrays[f"{name}_features"].astype(np.float32))
        return vectors, arrays[f"{name}_labels"].astype(np.intp)

    return PhotoSet(part("train"), part(validation), part(test) if test else None, names, 100.0, 0.1, shots)


def measure_draws(name: str, photos: PhotoSet, shots: int) -> Iterator[dict[str, Any]]:
    """One row a seed; a draw of all photos there are is one draw, unless its validation photos differ."""
    all_there_is = shots == np.bincount(np.unique(photos.train[1], return_inverse=True)[1]).max()
    for seed in SEEDS[:1] if all_there_is and photos.test else SEEDS:
        row = {"set": name, "shots": shots, "seed": seed} | measure(photos.draw(shots, seed), shots, seed, GRIDS[name])
        print(row, flush=True)
        yield row


def measure(draw: Draw, shots: int, seed: int, grid: tuple[float, float]) -> dict[str, Any]:
    """Test accuracy by protocol, and how the search compares with the grid on the validation photos."""
    few_rows = draw_shots(draw.validation[1], min(shots, 4), seed)
    few = (draw.validation[0][few_rows], draw.validation[1][few_rows])
    names, scale = draw.support.class_embeddings, draw.support.logit_scale

    def chosen(rule: str, **given: Any) -> tuple[float, float]:
        return choose_alpha_beta(draw.X, draw.y, names, scale, rule, **given).alpha_beta

    zero_shot = ZeroShotClassifier(names, scale).fit(draw.X[:0], draw.y[:0])
    full = chosen("validation", validation=draw.validation)
    pairs = {
        "fixed": PAPERS_PAIR,
        "scale-free": chosen("scale-free", ratio=draw.ratio),
        "few-validation": chosen("validation", validation=few),
        "full-validation": full,
        "oracle": chosen("validation", validation=draw.test),
    }
    if shots > 1:
        pairs |= {"leave-one-out": chosen("leave-one-out"), **other_rules(draw.support)}
    pairs["default"] = pairs["leave-one-out" if shots > 1 else "scale-free"]
    accuracies = {"zero-shot": float(zero_shot.score(*draw.test))}
    accuracies |= {protocol: draw.accuracy(*pair) for protocol, pair in pairs.items()}
    return {"accuracy": accuracies, "validation": against_grid(draw, full, *grid)}


def other_rules(support: TipAdapterClassifier) -> dict[str, tuple[float, float]]:
    """Leave-one-out by other rules than the one chosen."""
    cache = Cache.of(support, support.keys_)
    photos = cache.left_out
    curves = photos.accuracy_curves([tuning.beta_for(cache, sharpness) for sharpness in tuning.SHARPNESSES])
    best = max(steps.best for steps in curves)
    peaks = [(b, low, high) for b, steps in enumerate(curves) for low, high in steps.where(best).tolist()]
    middles = [pair_at(curves[b], (low + high) / 2) for b, low, high in peaks]
    widest = max(range(len(peaks)), key=lambda i: peaks[i][2] - peaks[i][1])
    widest_first = sorted(range(len(peaks)), key=lambda i: peaks[i][1] - peaks[i][2])[:20]
    likely = [
        pair_at(curves[b], ratio) for b in range(0, len(curves), 5) for ratio in np.log(np.geomspace(1 / 64, 64, 25))
    ]
    return {
        "best step nearest the centre": best_alpha_beta(curves, photos.n_scored),
        "widest best step": middles[widest],
        "likelihood among the best": likeliest(photos, [middles[i] for i in widest_first]),
        "likelihood": likeliest(photos, likely),
    }


def pair_at(curve: AccuracyCurve, log_ratio: float) -> tuple[float, float]:
    return (curve.unit or 1.0) * float(np.exp(log_ratio)), curve.beta


def likeliest(photos: HeldOutQueries, pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    own = np.arange(photos.n_scored), photos.scored_labels
    likelihood: Callable[[tuple[float, float]], float] = lambda pair: float(  # noqa: E731
        log_softmax(photos.logits(*pair), axis=1)[own].mean()
    )
    return max(pairs, key=likelihood)


def against_grid(draw: Draw, pair: tuple[float, float], largest_beta: float, largest_alpha: float) -> dict[str, int]:
    """Validation photos that are right at the pair found, and at the best of the public code's 4,000 pairs."""
    cache = Cache.of(draw.support, draw.support.keys_)
    X, y = draw.validation
    photos = cache.held_out(X, np.searchsorted(draw.support.classes_, y))
    betas = 0.1 + np.arange(200) * (largest_beta - 0.1) / 200
    alphas = 0.1 + np.arange(20) * (largest_alpha - 0.1) / 20
    grid = [
        steps.n_correct[np.searchsorted(steps.ends, alphas, side="right") - 1].max()
        for steps in photos.accuracy_curves(betas.tolist())
    ]
    right = int((photos.logits(*pair).argmax(axis=1) == photos.scored_labels).sum())
    return {"n": photos.n_scored, "found": right, "grid": int(max(grid))}


if __name__ == "__main__":
    main()
