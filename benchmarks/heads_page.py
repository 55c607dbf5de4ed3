"""The page and the picture of `benchmarks.heads`."""

from __future__ import annotations

from itertools import pairwise
from math import log2
from statistics import mean
from typing import TYPE_CHECKING, Any

from benchmarks.heads import (
    CALTECH101,
    CLIP58,
    DEVELOPMENT,
    FEW,
    IMAGENET,
    MANY,
    METHODS,
    MORE,
    NAMES,
    ONE,
    PEERS,
)
from benchmarks.tables import mean_in_percent, shots_words, table
from tip_adapter.methods import DEFAULT_METHOD
from tip_adapter.report.charts import tag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Rows = list[dict[str, Any]]

ALL_HEADS = (*METHODS, *PEERS)
SHOWN = {
    DEFAULT_METHOD: "**text-offset** (default)",
    "tip-adapter": "Tip-Adapter",
    "gda": "gda",
    "zero-shot": "zero-shot",
    **{peer: f"`{peer}`" for peer in PEERS},
}
#: What the default method was to reach, in percent by shots; on the photo sets: points above the best of scikit-learn.
GOALS = {
    CALTECH101: {1: 82.5, 4: 91.0, 16: 94.0},
    CLIP58: {1: 95.5, 2: 95.9, 4: 96.3, 8: 96.5, 16: 96.9},
    IMAGENET: {1: 64.0, 2: 65.2, 4: 66.9},
}
GOAL_ABOVE_PEERS = {1: 0.5, 2: 0.5, 4: 0.5, 8: 0.0, 16: 0.0}
GOAL_UNEQUAL = 94.5


def page(record: dict[str, Any]) -> str:
    rows = record["rows"]
    accuracy = [row for row in rows if row["case"] == "accuracy"]
    photo_sets = [row for row in accuracy if row["set"] in DEVELOPMENT]
    return "\n\n".join(
        [
            "A few labelled photos of each class, and sometimes the names of the classes: which classifier makes most of them? All of "
            "them get the same vectors of the same photos here. The first four read the class names and are fitted as "
            "`FewShotClassifier` fits them by default; the others are scikit-learn's and see the photos only.",
            "![Accuracy over the number of photos for each class.](heads.svg)",
            conditions(accuracy),
            "## Six photo sets\n\nAerial views, flowers, scenes, tile defects, waste and weather: 4 to 7 classes, offline encoder "
            "`pocket`, bare class names. Test accuracy in percent, mean over the sets; the methods were developed on these sets.",
            by_head(photo_sets),
            "The same for each set, default method / best of scikit-learn:",
            each_set(photo_sets),
            f"## Caltech101\n\n100 classes, `pocket`, {record['n_test'][CALTECH101]} test photos drawn once. It is this encoder's "
            "development set.",
            by_head([row for row in accuracy if row["set"] == CALTECH101]),
            "## 58 classes of Caltech101, CLIP ViT-B/32\n\nHere the names alone are right for 94 of 100 photos.",
            by_head([row for row in accuracy if row["set"] == CLIP58]),
            f"## ImageNet, CLIP ViT-B/32\n\n1,000 classes, {record['n_test'][IMAGENET]:,} test photos, one draw; the methods with "
            "names only, without `gda`.",
            by_head([row for row in accuracy if row["set"] == IMAGENET]),
            "## Goals\n\nWhat the default method was to reach, set before it was measured.",
            goals(rows),
            "## Unequal numbers of photos",
            unequal(rows),
            "## Wrong names",
            wrong_names(rows),
            "## Calibration and left-out accuracy",
            calibration(accuracy),
            "## Seconds to fit",
            "Choosing the settings, left-out accuracy and temperature included; one thread, encoded photos. Other programs ran at the "
            "same time, so compare them with each other only.",
            by_head(
                [row for row in accuracy if row["set"] in (CLIP58, CALTECH101)],
                lambda some: f"{mean(row['seconds'] for row in some):.1f}",
            ),
        ]
    )


def conditions(rows: Rows) -> str:
    fewer = [
        f"{name} at {shots_words(shots)}: {len(seeds)}"
        for name in (CALTECH101, CLIP58)
        for shots in shots_of(rows)
        if len(seeds := {row["seed"] for row in rows if (row["set"], row["shots"]) == (name, shots)}) < 3
    ]
    listed = ", ".join(fewer)
    return (
        "Draws by seeds 1, 2, 3, the smaller inside the larger; 16 photos of 16 are one draw"
        f"{f'. Fewer draws: {listed}' if fewer else ''}. `LogisticRegressionCV()` chooses C by the likelihood of left-out "
        "photos, on the six photo sets only; it and `LinearDiscriminantAnalysis` need two photos for each class; with "
        "two, the latter's shrinkage fails. Method `gda` chooses the weight of the names by left-out likelihood, too."
    )


def by_head(rows: Rows, figure: Callable[[Rows], str] | None = None) -> str:
    """A line for each head, a column for each number of shots; where several sets are in the rows, their mean."""
    figure = figure or (lambda some: mean_in_percent(set_means(some)))
    shots = shots_of(rows)
    lines = [
        [SHOWN[head], *(figure(some) if (some := of(rows, head=head, shots=k)) else "–" for k in shots)]
        for head in ALL_HEADS
        if of(rows, head=head)
    ]
    return table(["", *map(shots_words, shots)], lines)


def each_set(rows: Rows) -> str:
    shots = shots_of(rows)

    def entry(name: str, k: int) -> str:
        here = of(rows, set=name, shots=k)
        return f"{mean_in_percent(set_means(of(here, head=DEFAULT_METHOD)))} / {100 * best_peer(here):.1f}"

    return table(["", *map(shots_words, shots)], [[name, *(entry(name, k) for k in shots)] for name in DEVELOPMENT])


def goals(rows: Rows) -> str:
    accuracy = of(rows, case="accuracy")
    reached = []
    for k in shots_of(of(accuracy, set=DEVELOPMENT[0])):
        here = [row for row in accuracy if row["set"] in DEVELOPMENT and row["shots"] == k]
        more = f" + {GOAL_ABOVE_PEERS[k]}" if GOAL_ABOVE_PEERS[k] else ""
        reached.append(
            (f"six photo sets: best of scikit-learn{more}", k, 100 * best_peer(here) + GOAL_ABOVE_PEERS[k], here)
        )
    for name, wanted in GOALS.items():
        reached += [(name, k, goal, of(accuracy, set=name, shots=k)) for k, goal in wanted.items()]
    lines = [
        goal_line(what, shots_words(k), goal, 100 * mean(set_means(of(some, head=DEFAULT_METHOD))))
        for what, k, goal, some in reached
        if some
    ]
    some = of(rows, case="unequal", head=DEFAULT_METHOD)
    lines.append(goal_line("58 classes, mean over classes", f"{MANY} and {ONE}", GOAL_UNEQUAL, per_class(some)))
    n_missed = sum("missed" in line[-1] for line in lines)
    return f"{len(lines) - n_missed} of {len(lines)} are reached.\n\n" + table(
        ["set", "shots", "goal", "text-offset", ""], lines
    )


def goal_line(what: str, shots: str, goal: float, measured: float) -> list[str]:
    verdict = "reached" if measured >= goal - 1e-9 else f"**missed** by {goal - measured:.2f}"
    return [what, shots, f"{goal:.2f}", f"{measured:.2f}", verdict]


def unequal(rows: Rows) -> str:
    half = of(rows, case="unequal")
    first = table(
        ["", "accuracy", "mean over classes"],
        [
            [SHOWN[head], mean_in_percent([row["accuracy"] for row in some]), f"{per_class(some):.1f}"]
            for head in ALL_HEADS
            if (some := of(half, head=head))
        ],
    )
    pairs = {
        head: [
            100 * (more["mean_per_class"] - less["mean_per_class"])
            for less in of(rows, case="look-alike, equal", head=head)
            for more in of(rows, case="look-alike, unequal", head=head, seed=less["seed"])
        ]
        for head in ALL_HEADS
    }
    second = table(
        ["", f"{FEW} photos each", f"{MORE} more for two", "change", "worst change"],
        [
            [
                SHOWN[head],
                f"{per_class(of(rows, case='look-alike, equal', head=head)):.1f}",
                f"{per_class(of(rows, case='look-alike, unequal', head=head)):.1f}",
                f"{mean(changes):+.1f}",
                f"{min(changes):+.1f}",
            ]
            for head, changes in pairs.items()
            if changes
        ],
    )
    n_draws = max(map(len, pairs.values()))
    return "\n\n".join(
        [
            f"{MANY} photos for half of the 58 classes and {ONE} for each of the others, mean of {len({r['seed'] for r in half})} draws. "
            "Test accuracy in percent, over photos and as the mean over classes, in which each class counts the same.",
            first,
            f"Five classes of Caltech101 that look alike (one drawn, the four with the nearest mean vectors), {FEW} photos each; then {MORE} "
            f"photos more for two of them. More photos should not make the mean over classes worse. {n_draws} draws.",
            second,
        ]
    )


def wrong_names(rows: Rows) -> str:
    parts = []
    for title, sets in (("Six photo sets", DEVELOPMENT), (CLIP58, (CLIP58,))):
        here = [row for row in rows if row["case"] in ("accuracy", "names") and row["set"] in sets]
        shots = shots_of(of(here, case="names"))
        lines = [
            [
                SHOWN[head],
                which,
                *(mean_in_percent(set_means(of(here, head=head, names=which, shots=k))) for k in shots),
            ]
            for head in (DEFAULT_METHOD, "tip-adapter", "gda")
            for which in NAMES
        ]
        parts.append(table([title, "names", *map(shots_words, shots)], lines))
    return "\n\n".join(
        [
            "The names of half the classes permuted; all of them replaced by random vectors, as names such as `IMG_01` are; no names "
            "at all. Test accuracy in percent. Names that are wrong should cost no more than having none.",
            *parts,
        ]
    )


def calibration(rows: Rows) -> str:
    some = [row for row in rows if row["set"] != IMAGENET]
    apart = [[row, 100 * (row["left_out"] - row["accuracy"])] for row in some if row.get("left_out") is not None]
    shots = [k for k in shots_of(rows) if k > 1]
    signed = table(
        ["left-out minus test accuracy, points", *map(shots_words, shots)],
        [
            [
                f"{SHOWN[head]}, {title}",
                *(f"{mean(values):+.1f}" if (values := differences(apart, head, k, sets)) else "–" for k in shots),
            ]
            for head in (DEFAULT_METHOD, "tip-adapter")
            for title, sets in (("six photo sets", DEVELOPMENT), (CALTECH101, (CALTECH101,)), (CLIP58, (CLIP58,)))
        ],
    )
    photo_sets = [row for row in some if row["set"] in DEVELOPMENT and row.get("ece") is not None]
    return "\n\n".join(
        [
            "A method reports its accuracy on photos that it leaves out. The difference to the accuracy on the test photos, mean of the "
            "signed differences of the draws: above 0 the method promises too much.",
            signed,
            "Expected calibration error on the test photos of the six sets (15 bins, in percent), with the temperature that a method "
            "chooses:",
            by_head(photo_sets, lambda some: f"{100 * mean(row['ece'] for row in some):.1f}"),
            "Negative log-likelihood on the same photos, in nats:",
            by_head(photo_sets, lambda some: f"{mean(row['negative_log_likelihood'] for row in some):.2f}"),
        ]
    )


def differences(apart: Iterable[Sequence[Any]], head: str, shots: int, sets: Sequence[str]) -> list[float]:
    return [value for row, value in apart if (row["head"], row["shots"]) == (head, shots) and row["set"] in sets]


# ---- figures of rows -------------------------------------------------------------------------------------------------


def of(rows: Rows, **wanted: Any) -> Rows:
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def shots_of(rows: Rows) -> list[int]:
    return sorted({row["shots"] for row in rows})


def set_means(rows: Rows) -> list[float]:
    """The accuracy on each set, mean over its draws."""
    return [mean(row["accuracy"] for row in of(rows, set=name)) for name in sorted({row["set"] for row in rows})]


def per_class(rows: Rows) -> float:
    return 100 * mean(row["mean_per_class"] for row in rows)


def best_peer(rows: Rows) -> float:
    """The accuracy of the best of scikit-learn's, mean over the sets."""
    return max(mean(set_means(some)) for peer in PEERS if (some := of(rows, head=peer)))


# ---- the picture -----------------------------------------------------------------------------------------------------

#: Read on white and on black pages.
STYLE = (
    "text{font:14px system-ui,sans-serif;fill:#7d858e}.title{font-size:17px;font-weight:600}.middle{text-anchor:middle}"
    ".end{text-anchor:end}.grid{stroke:#7d858e;stroke-opacity:.2}polyline{fill:none;stroke:currentColor;stroke-width:2}"
    "circle{fill:currentColor}.label{fill:currentColor}.default{color:#1f8f80}.default polyline{stroke-width:3.5}"
    ".default text{font-weight:600}.tip{color:#c8602f}.peer{color:#5b7fc7}.names{color:#8a8f98}"
    ".names polyline{stroke-dasharray:3 5}"
)
_LEFT, _RIGHT, _TOP, _BOTTOM, _WIDTH, _HEIGHT = 56, 600, 64, 396, 880, 452
_LABEL_HEIGHT = 20


def picture(record: dict[str, Any]) -> str:
    """Accuracy over shots, mean over the six photo sets."""
    rows = [row for row in record["rows"] if row["case"] == "accuracy" and row["set"] in DEVELOPMENT]
    shots = shots_of(rows)

    def line(head: str) -> list[float]:
        return [100 * mean(set_means(of(rows, head=head, shots=k))) for k in shots]

    best = [100 * best_peer(of(rows, shots=k)) for k in shots]
    lines = [
        ("names", "class names alone (zero-shot)", line("zero-shot")),
        ("tip", "Tip-Adapter", line("tip-adapter")),
        ("peer", "best of scikit-learn, no names", best),
        ("default", "text-offset, the default", line(DEFAULT_METHOD)),
    ]
    low = 10 * int(min(min(values) for *_, values in lines) // 10)
    high = 10 * int(-(-max(max(values) for *_, values in lines) // 10))

    def x(k: int) -> float:
        return _LEFT + (_RIGHT - _LEFT) * log2(k) / log2(shots[-1])

    def y(percent: float) -> float:
        return _BOTTOM - (_BOTTOM - _TOP) * (percent - low) / (high - low)

    grid = [
        tag("line", x1=_LEFT, x2=_RIGHT, y1=y(p), y2=y(p), class_="grid")
        + tag("text", f"{p} %", x=_LEFT - 8, y=y(p) + 5, class_="end")
        for p in range(low, high + 1, 10)
    ]
    axis = [tag("text", k, x=f"{x(k):.1f}", y=_BOTTOM + 22, class_="middle") for k in shots]
    curves = []
    heights = label_heights([y(values[-1]) for *_, values in lines])
    for (kind, text, values), height in zip(lines, heights, strict=True):
        points = [(f"{x(k):.1f}", f"{y(value):.1f}") for k, value in zip(shots, values, strict=True)]
        curves.append(
            tag(
                "g",
                tag("polyline", points=" ".join(map(",".join, points))),
                *(tag("circle", cx=cx, cy=cy, r=4) for cx, cy in points),
                tag("text", f"{values[-1]:.1f} %  {text}", x=_RIGHT + 14, y=f"{height + 5:.1f}", class_="label"),
                class_=kind,
            )
        )
    title = tag("text", "New photos classified correctly, mean of six photo sets", x=_LEFT, y=28, class_="title")
    below = tag("text", "photos to learn from, for each class", x=(_LEFT + _RIGHT) / 2, y=_BOTTOM + 46, class_="middle")
    size = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="Accuracy over the number of photos for each class"'
    content = "".join([title, *grid, *axis, below, *curves])
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{STYLE}</style>{content}</svg>\n'


def label_heights(wanted: Sequence[float]) -> list[float]:
    """Heights of labels near the wanted ones, so far apart that none covers another."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    heights = list(wanted)
    for above, below in pairwise(order):
        heights[below] = max(heights[below], heights[above] + _LABEL_HEIGHT)
    return heights
