"""What is timed: cases by group, each with a reference or a limit that runs in turn with it, and goals.

A *reference* is what one would write without this package; a *limit* is the work that cannot be avoided, such as the bare
matrix product.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from conformal_clip_data import textile_simulated_root

from benchmarks.plain_loop import PlainLoop
from tip_adapter import (
    ClassEmbeddings,
    FewShotClassifier,
    TextOffsetClassifier,
    TipAdapterClassifier,
    TipAdapterFClassifier,
    choose_alpha_beta,
    load_encoder,
)
from tip_adapter.features.encode import BATCH, encode_photos, prepare_image
from tip_adapter.images.decoding_pool import DecodingPool
from tip_adapter.images.find import find_images
from tip_adapter.methods.ops import text_logits
from tip_adapter.methods.tip_adapter import cache_logits
from tip_adapter.vectors import SupportSet, unit_rows

#: Seconds of one run.
Timed = Callable[[], float]
ROOT = Path(__file__).parent.parent
N_PHOTOS = 256
N_CLASSES = 100
TOY_WIDTH = 49
TIP_ADAPTER = [sys.executable, "-m", "tip_adapter"]
AT_MOST, AT_LEAST = "at most", "at least"


class Given(NamedTuple):
    """Photos to extract from, and a folder to write to."""

    photos: list[Path]
    folder: Path


#: Seconds before each run: BLAS's threads go on waiting actively after a product, and would slow down what comes next.
_REST = 0.2


@dataclass(frozen=True)
class Case:
    """One measurement.

    Parameters
    ----------
    name : str
    ours : what is timed
    reference, limit : timed in turn with `ours`, or None
    goals : what is measured → (`AT_MOST` or `AT_LEAST`, value). Measured are "seconds", "times the limit" (ours / limit),
        "times as fast" (reference / ours) and the figures of `further`
    further : figures that are not times
    runs : the most
    """

    name: str
    ours: Timed
    reference: Timed | None = None
    limit: Timed | None = None
    goals: dict[str, tuple[str, float]] = field(default_factory=dict)
    further: Callable[[], dict[str, float]] = dict
    runs: int = 99


def measure(case: Case, runs: int) -> dict[str, Any]:
    """Time a case and what it is compared with in turn, after one warm-up of each; ratios are medians over turns."""
    timed = {"ours": case.ours, "reference": case.reference, "limit": case.limit}
    times: dict[str, list[float]] = {name: [] for name, work in timed.items() if work}
    runs = min(runs, case.runs)
    for turn in range(runs + (runs > 1)):  # what takes minutes runs once, and needs no warm-up
        for name, seconds in times.items():
            work = timed[name]
            assert work
            time.sleep(_REST)
            seconds.append(work())
        if turn == 0 and runs > 1:
            times = {name: [] for name in times}
    measured = {"seconds": median(times["ours"]), **case.further()}
    if "limit" in times:
        pairs = zip(times["ours"], times["limit"], strict=True)
        measured["times the limit"] = median(ours / limit for ours, limit in pairs)
    if "reference" in times:
        pairs = zip(times["ours"], times["reference"], strict=True)
        measured["times as fast"] = median(reference / ours for ours, reference in pairs)
    met = [measured[n] <= v if sign == AT_MOST else measured[n] >= v for n, (sign, v) in case.goals.items()]
    goals = {name: list(goal) for name, goal in case.goals.items()}
    return {
        "name": case.name,
        "times": times,
        "measured": measured,
        "goals": goals,
        "met": all(met) if met else None,
    }


def timer(work: Callable[[], Any], share: float = 1.0) -> Timed:
    """Seconds that a call takes; of which only a share is run."""

    def seconds() -> float:
        started = time.perf_counter()
        work()
        return (time.perf_counter() - started) / share

    return seconds


def run(*command: str) -> str:
    """Standard output of a program that must succeed."""
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout


def photos_of(folder: Path) -> list[Path]:
    """Photos of a folder, drawn by a fixed seed."""
    found = find_images(folder)
    return [found[i] for i in np.random.default_rng(0).permutation(len(found))[:N_PHOTOS]]


# ---- scoring ---------------------------------------------------------------------------------------------------------


class Problem(NamedTuple):
    """Vectors as wide as RN50's: 16 keys a class, class names, queries."""

    keys: Any
    labels: Any
    names: Any
    queries: Any

    @classmethod
    def of(cls, n_classes: int, n_queries: int, width: int = 1024, shots: int = 16) -> Problem:
        """Random unit rows."""
        rng = np.random.default_rng(0)
        rows = [rng.standard_normal((n, width), dtype=np.float32) for n in (n_classes * shots, n_classes, n_queries)]
        keys, names, queries = map(unit_rows, rows)
        return cls(keys, np.repeat(np.arange(n_classes), shots), names, queries)

    @property
    def classifier(self) -> TipAdapterClassifier:
        """Tip-Adapter of these keys."""
        names = ClassEmbeddings(np.arange(len(self.names)), self.names)
        return TipAdapterClassifier(1.0, 5.5, names).fit(self.keys, self.labels)


def scoring(_: Given) -> Iterator[Case]:
    keys, labels, names, queries = problem = Problem.of(1000, 2048)
    products, texts = np.empty((2048, 16_000), np.float32), np.empty((2048, 1000), np.float32)
    one_hot, classifier = np.eye(1000, dtype=np.float32)[labels], problem.classifier

    def formula() -> Any:
        return 100 * queries @ names.T + np.exp(-5.5 * (1 - queries @ keys.T)) @ one_hot

    def ours() -> Any:
        cache = cache_logits(queries, keys, labels, 1000, 5.5)  # first, as the classifier does: see `_REST`
        return text_logits(queries, names, 100) + cache

    difference = float(np.abs(ours() - formula()).max())
    if difference > 1e-3:
        raise SystemExit(f"the equations differ by {difference:.1e}")

    def limit() -> None:
        np.matmul(queries, keys.T, out=products)
        np.matmul(queries, names.T, out=texts)

    goals = {"times the limit": (AT_MOST, 1.10), "times as fast": (AT_LEAST, 2.2)}
    name = "2,048 queries, 16,000 keys of 1,000 classes, 1,024 wide"
    yield Case(f"equations 3 and 4: {name}; limit: the bare products", timer(ours), timer(formula), timer(limit), goals)
    checked = timer(lambda: classifier.logits(queries))
    yield Case(f"TipAdapterClassifier.logits, which checks and normalises: {name}", checked, None, timer(limit))
    many = Problem.of(21_000, 256, 512)
    large = many.classifier
    yield Case(
        "256 queries, 336,000 keys of 21,000 classes, 512 wide", timer(lambda: large.logits(many.queries)), runs=1
    )


# ---- search ----------------------------------------------------------------------------------------------------------


def search(_: Given) -> Iterator[Case]:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((1000, 512)).astype(np.float32)
    y = np.repeat(np.arange(1000), 4)
    X, queries = (
        unit_rows(centres[rows] + 1.5 * rng.standard_normal((len(rows), 512), dtype=np.float32)) for rows in (y, y[::4])
    )
    names, labels = ClassEmbeddings(np.arange(1000), centres), y[::4]
    one_hot, text, cosines = np.eye(1000, dtype=np.float32)[y], 100 * queries @ unit_rows(centres).T, queries @ X.T
    accuracies = []

    def grid(part: int) -> None:
        for beta in np.linspace(0.1, 7, 200, dtype=np.float32)[::part]:
            for alpha in np.linspace(0.1, 3, 20, dtype=np.float32):
                affinities = np.exp(-beta * (1 - cosines))
                accuracies.append(float(((text + alpha * affinities @ one_hot).argmax(axis=1) == labels).mean()))

    def exact() -> Any:
        return choose_alpha_beta(X, y, names, rule="validation", validation=(queries, labels))

    def better() -> dict[str, float]:
        choice = exact()
        clf = TipAdapterClassifier(choice.alpha, choice.beta, names).fit(X, y)
        return {"accuracy minus the grid's best": clf.score(queries, labels) - max(accuracies)}

    yield Case(
        "exact search, 1,000 queries, 4,000 keys of 1,000 classes; reference: the grid of 4,000 pairs, a 40th of it timed",
        timer(exact),
        timer(lambda: grid(40), share=1 / 40),
        goals={"times as fast": (AT_LEAST, 300), "accuracy minus the grid's best": (AT_LEAST, 0)},
        further=better,
        runs=3,
    )
    large = Problem.of(1000, 0)
    embeddings = ClassEmbeddings(np.arange(1000), large.names)
    leave_one_out = timer(lambda: choose_alpha_beta(large.keys, large.labels, embeddings))
    yield Case("leave-one-out search, 16,000 keys of 1,000 classes, 1,024 wide", leave_one_out, runs=1)


# ---- fine-tuning -----------------------------------------------------------------------------------------------------


def finetune(_: Given) -> Iterator[Case]:
    keys, labels, names, _queries = Problem.of(1000, 0)
    embeddings, losses = ClassEmbeddings(np.arange(1000), names), {}

    def ours() -> None:
        clf = TipAdapterFClassifier(1.0, 5.5, embeddings, own_key="keep", epochs=1).fit(keys, labels)
        losses["ours"] = float(clf.losses_[0])

    def autograd() -> None:
        losses["torch"] = torch_epoch(keys, labels, names)

    rows, errors = np.empty((256, 16_000), np.float32), np.ones((256, 16_000), np.float32)
    gradient = np.empty_like(keys)

    def products() -> None:
        for _ in range(63):
            np.matmul(keys[:256], keys.T, out=rows)
            np.matmul(errors.T, keys[:256], out=gradient)

    yield Case(
        "Tip-Adapter-F, an epoch of 63 steps: 16,000 keys, 1,024 wide, batches of 256; reference: torch's autograd; "
        "limit: the two products",
        timer(ours),
        timer(autograd),
        timer(products),
        {"times as fast": (AT_LEAST, 2), "difference of the losses": (AT_MOST, 1e-4)},
        lambda: {"difference of the losses": abs(losses["ours"] - losses["torch"])},
        runs=2,
    )


def torch_epoch(keys: Any, labels: Any, names: Any, device: str = "cpu", dtype: Any = torch.float32) -> float:
    """One epoch as one writes it with autograd: the mean loss. The batches are those of seed 0."""
    vectors, weights = (torch.from_numpy(rows).to(device, dtype) for rows in (keys, names))
    targets = torch.from_numpy(labels).to(device)
    one_hot = torch.nn.functional.one_hot(targets, len(names)).to(dtype)
    adapter = torch.nn.Linear(vectors.shape[1], len(vectors), bias=False, device=device, dtype=dtype)
    adapter.weight = torch.nn.Parameter(vectors.clone())
    steps, total = -(-len(keys) // 256), 0.0
    optimiser = torch.optim.AdamW(adapter.parameters(), lr=1e-3, eps=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    order = np.random.default_rng(0).permutation(len(keys))
    for rows in np.array_split(order, range(256, len(order), 256)):
        f = vectors[rows]
        logits = 100 * f @ weights.T + ((-1) * (5.5 - 5.5 * adapter(f))).exp() @ one_hot
        loss = torch.nn.functional.cross_entropy(logits, targets[rows])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        total += loss.item() * len(rows) / len(keys)
    return total


# ---- extraction ------------------------------------------------------------------------------------------------------


def extract(given: Given) -> Iterator[Case]:
    encoder, plain = load_encoder("pocket"), PlainLoop()
    ours, theirs = encode_photos(given.photos[:32], encoder).vectors, plain.encode(given.photos[:32])
    difference = float(np.abs(ours - theirs).max())
    if difference > 1e-4:
        raise SystemExit(f"the plain loop makes other vectors (by {difference:.1e}); its time means nothing")
    contents = [path.read_bytes() for path in given.photos]

    def limit() -> float:
        """Processor seconds of decoding alone and of encoding alone, spread over all processors."""
        started = sum(os.times()[:4])
        with DecodingPool() as processes, ThreadPoolExecutor(os.cpu_count()) as threads:
            prepare = [threads.submit(prepare_image, c, "", encoder, processes) for c in contents]
            prepared = [done.result() for done in prepare]
        pixels = [photo[0] for photo in prepared if isinstance(photo, tuple)]
        for start in range(0, len(pixels), BATCH):
            encoder.encode_prepared(np.stack(pixels[start : start + BATCH]))
        return (sum(os.times()[:4]) - started) / (os.cpu_count() or 1)

    yield Case(
        f"pocket, {len(given.photos)} photos to vectors; reference: a plain loop in torch; limit: the processor seconds of "
        "decoding and encoding, spread over all processors",
        timer(lambda: encode_photos(given.photos, encoder)),
        timer(lambda: plain.encode(given.photos)),
        limit,
        {"times as fast": (AT_LEAST, 3), "times the limit": (AT_MOST, 1 / 0.97)},
    )


# ---- small changes ---------------------------------------------------------------------------------------------------


def update(_: Given) -> Iterator[Case]:
    problem = Problem.of(1000, 0, 512)
    X, y = problem.keys, problem.labels
    untouched, taught = problem.classifier, problem.classifier
    yield Case(
        "one vector more for 16,000 keys, 512 wide; limit: predicting one",
        timer(lambda: taught.partial_fit(X[:1], y[:1])),
        limit=timer(lambda: untouched.predict(X[:1])),
        goals={"times the limit": (AT_MOST, 2)},
    )
    model, added = few_shot(), count()
    vector = unit_rows(np.ones((1, TOY_WIDTH), np.float32))

    def add() -> None:
        model.add_support(SupportSet(vector, np.array(["class 0"]), np.array([f"new {next(added)}"])))

    name = "FewShotClassifier: one vector more for 16,000 of the toy encoder, encoded already"
    yield Case(name, timer(add), goals={"seconds": (AT_MOST, 0.015)})


def few_shot() -> FewShotClassifier:
    """A model of 16,000 random vectors, as wide as the toy encoder's."""
    problem = Problem.of(1000, 0, TOY_WIDTH)
    labels = np.char.add("class ", problem.labels.astype(np.str_))
    ids = np.char.add("photo ", np.arange(len(labels)).astype(np.str_))
    model = FewShotClassifier("toy", method="tip-adapter", tune=None, alpha=1.0, beta=5.5)
    return model.fit_support(SupportSet(problem.keys, labels, ids))


# ---- programs --------------------------------------------------------------------------------------------------------

#: Prints the seconds of each step of predicting a photo in a new process.
_STEPS = """
import json, sys, time
begun = time.perf_counter(); steps = {}
def done(name):
    global begun
    now = time.perf_counter(); steps[name] = now - begun; begun = now
from tip_adapter import FewShotClassifier
done("seconds: import")
model = FewShotClassifier.load(sys.argv[1])
done("seconds: read the model")
model.predict([sys.argv[2]])
done("seconds: load the encoder, decode, encode, score")
model.predict([sys.argv[2]])
done("seconds: a second photo")
print(json.dumps(steps))
"""


def startup(given: Given) -> Iterator[Case]:
    bare = timer(lambda: run(sys.executable, "-c", "pass"))
    yield Case(
        "import tip_adapter; limit: Python's start",
        timer(lambda: run(sys.executable, "-c", "import tip_adapter")),
        limit=bare,
        goals={"seconds": (AT_MOST, 0.1)},
    )
    yield Case("tip-adapter --help", timer(lambda: run(*TIP_ADAPTER, "--help")), goals={"seconds": (AT_MOST, 0.3)})
    clone = given.folder / "clone"
    demo = timer(lambda: make_demo(clone))
    yield Case("make demo from a fresh clone", demo, goals={"seconds": (AT_MOST, 90)}, runs=1)
    python = str(clone / ".venv/bin/python")  # what users install: without the packages of the development environment
    model, photo = str(given.folder / "model"), str(given.photos[0])
    run(python, "-m", "tip_adapter", "fit", str(textile_simulated_root()), "--shots", "16", "--out", model, "--force")
    yield Case(
        "predict one photo with the base install, process start to answer",
        timer(lambda: run(python, "-m", "tip_adapter", "predict", model, photo)),
        goals={"seconds": (AT_MOST, 2)},
        further=lambda: json.loads(run(python, "-c", _STEPS, model, photo)),
    )


def make_demo(clone: Path) -> None:
    """`make demo` in a fresh clone, the installation of the base included."""
    shutil.rmtree(clone, ignore_errors=True)
    run("git", "clone", "--quiet", str(ROOT), str(clone))
    run("make", "-C", str(clone), "demo")


# ---- heads -----------------------------------------------------------------------------------------------------------


def heads(given: Given) -> Iterator[Case]:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((N_CLASSES, 1280)).astype(np.float32)
    y = np.repeat(np.arange(N_CLASSES), 16)
    X = centres[y] + 1.5 * rng.standard_normal((len(y), 1280), dtype=np.float32)
    names = ClassEmbeddings(np.arange(N_CLASSES), centres + 4 * rng.standard_normal(centres.shape, dtype=np.float32))

    def tip_adapter() -> TipAdapterClassifier:
        choice = choose_alpha_beta(X, y, names, 30.0)
        return TipAdapterClassifier(choice.alpha, choice.beta, names, 30.0).fit(X, y)

    def default() -> TextOffsetClassifier:
        return TextOffsetClassifier(class_embeddings=names, logit_scale=30.0).fit(X, y)

    def fine_tuned() -> TipAdapterFClassifier:
        return TipAdapterFClassifier(50.0, 5.0, names, 30.0).fit(X, y)

    size = "16 shots x 100 classes"
    yield Case(f"{size}: the default method, its settings chosen", timer(default), goals={"seconds": (AT_MOST, 1)})
    yield Case(f"{size}: Tip-Adapter, alpha and beta chosen", timer(tip_adapter), goals={"seconds": (AT_MOST, 1)})
    yield Case(f"{size}: Tip-Adapter-F", timer(fine_tuned), goals={"seconds": (AT_MOST, 5)})
    ours, cache = default(), tip_adapter()
    yield Case(
        f"{size}: the default method predicts 1,600 images; limit: Tip-Adapter does",
        timer(lambda: ours.predict(X)),
        limit=timer(lambda: cache.predict(X)),
        goals={"times the limit": (AT_MOST, 1.3)},
    )
    yield Case(
        f"{size}, from photos to the model of Tip-Adapter-F",
        timer(lambda: fit(given)),
        goals={"seconds": (AT_MOST, 60)},
        runs=1,
    )


def fit(given: Given) -> None:
    """The photos, over and over, as 100 classes of 16: what they show does not matter here."""
    rows = [f"{given.photos[i % len(given.photos)]},class {i // 16}" for i in range(16 * N_CLASSES)]
    listed = given.folder / "train.csv"
    listed.write_text("\n".join(["file_name,label", *rows]), encoding="utf-8")
    out = str(given.folder / "of-photos")
    run(*TIP_ADAPTER, "fit", str(listed), "--out", out, "--force", "--method", "tip-adapter-f")


# ---- memory ----------------------------------------------------------------------------------------------------------

#: Prints the MiB that a step takes more than what was there before and what it returns.
_PEAK = """
import resource, sys
import numpy as np
from tip_adapter import ClassEmbeddings, TipAdapterClassifier, choose_alpha_beta
from tip_adapter.vectors import unit_rows
rng = np.random.default_rng(0)
X, W = (unit_rows(rng.standard_normal((n, 1024), dtype=np.float32)) for n in (16_000, 1000))
y, names = np.repeat(np.arange(1000), 16), ClassEmbeddings(np.arange(1000), W)
clf = TipAdapterClassifier(1.0, 5.5, names).fit(X, y)
clf.logits(X[:600])
Q = np.concatenate([X, X, X, X[:2000]]) if sys.argv[1] == "logits" else X
def status(key):
    return int(open("/proc/self/status").read().split(key)[1].split()[0]) / 1024
open("/proc/self/clear_refs", "w").write("5")  # the highest so far is forgotten
before = status("VmRSS:")
answer = clf.logits(Q) if sys.argv[1] == "logits" else choose_alpha_beta(X, y, names)
print(status("VmHWM:") - before - (answer.nbytes / 2**20 if sys.argv[1] == "logits" else 0))
"""


def memory(_: Given) -> Iterator[Case]:
    for name, step, goal in (
        ("logits of 50,000 queries, 16,000 keys of 1,000 classes, 1,024 wide: above input and output", "logits", 100),
        ("leave-one-out search, 16,000 keys, whose cosines are 977 MiB", "search", 500),
    ):
        mebibytes: list[float] = []

        def peak(step: str = step, mebibytes: list[float] = mebibytes) -> None:
            mebibytes.append(float(run(sys.executable, "-c", _PEAK, step)))

        yield Case(
            name,
            timer(peak),
            goals={"MiB": (AT_MOST, goal)},
            further=partial(highest, mebibytes),
            runs=1,
        )


def highest(mebibytes: list[float]) -> dict[str, float]:
    return {"MiB": max(mebibytes)}


# ---- graphics processors ---------------------------------------------------------------------------------------------


def cuda(_: Given) -> Iterator[Case]:
    """On one NVIDIA GPU; not among the groups that run without a name."""
    if not torch.cuda.is_available():
        raise SystemExit("no CUDA device was found; run this group on a machine with one")
    yield from on_device("cuda", Problem.of(1000, 2048), torch.float16)


def on_device(device: str, problem: Problem, limit_dtype: Any) -> Iterator[Case]:
    """Scoring and fine-tuning of torch tensors."""
    keys, names, queries = (torch.from_numpy(a).to(device) for a in (problem.keys, problem.names, problem.queries))
    embeddings = ClassEmbeddings(np.arange(len(names)), problem.names)
    clf = TipAdapterClassifier(1.0, 5.5, embeddings).fit(keys, problem.labels)
    halves = queries.to(limit_dtype), keys.to(limit_dtype).T

    def synchronised(work: Callable[[], Any]) -> Timed:
        def both() -> None:
            work()
            if device == "cuda":
                torch.cuda.synchronize()

        return timer(both)

    size = f"{len(queries):,} queries, {len(keys):,} keys of {len(names):,} classes on {device}"
    product = synchronised(lambda: halves[0] @ halves[1])
    yield Case(
        f"{size}; limit: the product in half precision", synchronised(lambda: clf.logits(queries)), limit=product
    )
    fit = synchronised(lambda: TipAdapterFClassifier(1.0, 5.5, embeddings).fit(keys, problem.labels))
    yield Case(f"Tip-Adapter-F, 20 epochs, {size}", fit, goals={"seconds": (AT_MOST, 5)}, runs=2)


GROUPS: dict[str, Callable[[Given], Iterator[Case]]] = {
    "scoring": scoring,
    "search": search,
    "finetune": finetune,
    "extract": extract,
    "update": update,
    "startup": startup,
    "heads": heads,
    "memory": memory,
    "cuda": cuda,
}
