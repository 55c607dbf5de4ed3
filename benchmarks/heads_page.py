"""The page and the picture of `benchmarks.heads`."""

from __future__ import annotations

from statistics import mean
from typing import TYPE_CHECKING, Any

from benchmarks.curves import curves
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


def picture(record: dict[str, Any]) -> str:
    """Accuracy over shots, mean over the six photo sets."""
    rows = [row for row in record["rows"] if row["case"] == "accuracy" and row["set"] in DEVELOPMENT]
    shots = shots_of(rows)

    def line(head: str) -> dict[int, float]:
        return {k: 100 * mean(set_means(of(rows, head=head, shots=k))) for k in shots}

    return curves(
        "New photos classified correctly, mean of six photo sets",
        [
            ("names", "class names alone (zero-shot)", line("zero-shot")),
            ("tip", "Tip-Adapter", line("tip-adapter")),
            ("peer", "best of scikit-learn, no names", {k: 100 * best_peer(of(rows, shots=k)) for k in shots}),
            ("default", "text-offset, the default", line(DEFAULT_METHOD)),
        ],
    )
