"""Renders every results file in docs/results to a page next to it; a test renders them again and compares.

python -m benchmarks.render
"""

from __future__ import annotations

import json
import re
from collections import Counter
from math import ceil
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

from benchmarks import claims_page, heads_page, photos_page
from benchmarks.record import RESULTS, ROOT
from benchmarks.tables import mean_in_percent, shots_words, table
from tip_adapter.methods import DEFAULT_METHOD
from tip_adapter.metrics import N_BINS, Bin, Calibration
from tip_adapter.report import charts
from tip_adapter.report.charts import tag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

METHOD_NAMES = {
    "zero-shot": "zero-shot",
    "text-offset": "text-offset (default)",
    "tip-adapter": "Tip-Adapter",
    "tip-adapter-f": "Tip-Adapter-F",
}


#: A README's first figure and its tables are between these. Text is before the first: a line that begins with a comment is
#: HTML, in which nothing is bold.
FIGURE = ("<!-- figure: python -m benchmarks.render -->", "<!-- /figure -->")
MEASURED = ("<!-- measured: python -m benchmarks.render -->", "<!-- /measured -->")
READMES = ("README.md", "README.zh-CN.md")
FRONT = RESULTS / "index.md"
#: The accuracy that `tip-adapter demo` shows: of photos that it does not have.
SHIPPED = ROOT / "src" / "tip_adapter" / "cli" / "caltech101.json"


def main() -> None:
    for name in PAGES:
        (RESULTS / f"{name}.md").write_text(render(name), encoding="utf-8")
    for name, draw in PICTURES.items():
        (RESULTS / f"{name}.svg").write_text(draw(read(name)), encoding="utf-8")
    for name in READMES:
        path = ROOT / name
        path.write_text(with_measured(path.read_text(encoding="utf-8"), name), encoding="utf-8")
    FRONT.write_text(with_front(FRONT.read_text(encoding="utf-8")), encoding="utf-8")
    SHIPPED.write_text(shipped(), encoding="utf-8")


def read(name: str) -> dict[str, Any]:
    """A results file."""
    record: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return record


def render(name: str) -> str:
    """The page of a results file."""
    record = read(name)
    title, body = PAGES[name]
    source = (
        f"`{record['command']}`, {record['date']}, on {record['machine']}. Rendered from [{name}.json]({name}.json)."
    )
    return f"# {title}\n\n{source}\n\n{body(record)}\n"


def with_measured(readme: str, name: str) -> str:
    """A README with its figure and its tables rendered again."""
    words = WORDS[name]
    return between(MEASURED, f"\n{measured(words)}\n", between(FIGURE, figure(words), readme))


def with_front(index: str) -> str:
    """The index of the results with its picture and its summary rendered again."""
    record, found = read("photos"), [*claims_page.sets(read("claims")), *claims_page.photo_sets()]
    verdicts = Counter(holds for _, holds, _ in claims_page.verdicts(found))
    summary = (
        f"Test accuracy on Caltech101, mean over seeds, bare class names, alpha and beta by leave-one-out, scale-free at one shot: `{record['command']}`, "
        f"{record['date']}, on {record['machine']}. On CLIP vectors and photos {verdicts[True]} of {verdicts.total()} checks of "
        f"[the paper's claims](claims.md) hold. [On photos](photos.md) {photos_page.progress(record)}"
    )
    return between(MEASURED, f"\n![{photos_page.ALT}](photos.svg)\n\n{summary}\n", index)


def between(markers: tuple[str, str], text: str, page: str) -> str:
    """A page with what is between two markers replaced."""
    before, _, rest = page.partition(markers[0])
    _, _, after = rest.partition(markers[1])
    return f"{before}{markers[0]}{text}{markers[1]}{after}"


def figure(words: dict[str, str]) -> str:
    """The accuracy of the default method at the most shots, in a sentence."""
    record = read("caltech101")
    shots = max(row["shots"] for row in record["rows"])
    accuracy = 100 * mean(accuracies(record["rows"], shots, DEFAULT_METHOD))
    return words["figure"].format(accuracy=f"{accuracy:.1f} %", shots=shots, n_test=f"{record['n_photos']['test']:,}")


def shipped() -> str:
    """Mean accuracies on Caltech101 by method and shots, with their command and date, as JSON."""
    record = read("caltech101")
    shots = sorted({row["shots"] for row in record["rows"]})
    accuracy = {
        method: {str(k): round(mean(accuracies(record["rows"], k, method)), 6) for k in shots}
        for method in METHOD_NAMES
    }
    said = {name: record[name] for name in ("command", "date", "encoder")}
    return json.dumps({**said, "n_test": record["n_photos"]["test"], "accuracy": accuracy}, indent=1) + "\n"


def measured(words: dict[str, str]) -> str:
    """Caltech101, as a picture or in Chinese as a table that also has Chinese names, and speed in short."""
    record, photos, timing = map(read, ("caltech101", "photos", "speed"))
    cases = {case["name"]: case for case in timing["cases"]}
    accuracy = accuracy_table(record, words) if "caltech" in words else f"![{photos_page.ALT}](docs/results/photos.svg)"
    lines = [f"| {words[name]} | {speed_figure(cases[name], words['times'])} |" for name in words if name in cases]
    header = f"| {words['speed']} | |\n| --- | --- |"
    return "\n\n".join(
        [
            accuracy,
            "\n".join([header, *lines]),
            words["source"].format(**record, machine_zh=machine_zh(record["machine"]), photos=photos, timing=timing),
        ]
    )


def accuracy_table(record: dict[str, Any], words: dict[str, str]) -> str:
    """Caltech101 by shots, by English and by Chinese names."""
    shots = sorted({row["shots"] for row in record["rows"]})
    return table(
        [words["caltech"], *(words["shots"].format(k) for k in shots)],
        [
            [f"{name}{names}", *(mean_in_percent(accuracies(rows, k, method)) for k in shots)]
            for names, rows in {"": record["rows"], words["chinese"]: record["rows_chinese"]}.items()
            for method, name in METHOD_NAMES.items()
        ],
    )


WORDS = {
    "README.md": {
        "figure": "**{accuracy} of {n_test} new photos** are classified correctly from {shots} photos for each of its 100 classes, "
        "everyday objects and animals. [More figures](#accuracy-and-speed).",
        "speed": "speed",
        "pocket, 256 photos to vectors; reference: a plain loop in torch; limit: the processor seconds of decoding and encoding, spread over all processors": "256 photos to vectors, against torch in a plain loop",
        "predict one photo, process start to answer": "`predict` on one photo, from process start to answer",
        "16 shots x 100 classes: the default method, its settings chosen": "16 shots × 100 classes: the default method",
        "16 shots x 100 classes: Tip-Adapter-F": "16 shots × 100 classes: Tip-Adapter-F",
        "make demo from a fresh clone": "`make demo` from a fresh clone",
        "times": "{} times as fast ({} to {}); {} s",
        "source": "Means over seeds, bare class names; the picture: `{photos[command]}`, {photos[date]}; the sentence at the top: "
        "`{command}`, {date}. Medians: `{timing[command]}`, {timing[date]}. All on {machine}. "
        "Spread, chosen alpha and beta, the paper's claims, all other figures: [docs/results](docs/results/index.md).",
    },
    "README.zh-CN.md": {
        "figure": "Caltech101 的 100 类日常物品和动物，每类 {shots} 张照片，{n_test} 张新照片的分类**准确率为 {accuracy}**。"
        "[更多数据](#准确率与速度)",
        "caltech": "Caltech101 测试准确率（%）",
        "shots": "{} 张/类",
        "chinese": "，中文类别名",
        "speed": "速度",
        "pocket, 256 photos to vectors; reference: a plain loop in torch; limit: the processor seconds of decoding and encoding, spread over all processors": "256 张照片编码为向量，与 torch 普通循环相比",
        "predict one photo, process start to answer": "`predict` 一张照片，从启动进程到得出答案",
        "16 shots x 100 classes: the default method, its settings chosen": "16 张 × 100 类：默认方法",
        "16 shots x 100 classes: Tip-Adapter-F": "16 张 × 100 类：Tip-Adapter-F",
        "make demo from a fresh clone": "全新克隆后的 `make demo`",
        "times": "速度为其 {} 倍（{} 至 {}）；耗时 {} s",
        "source": "准确率为三个随机种子的均值，使用默认编码器 `pocket`，不加提示词模板：`{command}`，{date}。"
        "速度为中位数：`{timing[command]}`，{timing[date]}。测试环境：{machine_zh}。"
        "标准差和选出的参数见 [docs/results](docs/results/caltech101.md)（英文）。",
    },
}


def caltech101(record: dict[str, Any]) -> str:
    rows, photos = record["rows"], record["n_photos"]
    sections = [
        f"The few-shot literature's split: {photos['train']:,} training, {photos['val']:,} validation and "
        f"{photos['test']:,} test photos of 100 classes; offline encoder `{record['encoder']}`, bare class names. Test "
        "accuracy in percent, mean ± standard deviation over seeds 1, 2, 3. alpha and beta by the default rule: "
        "scale-free at one shot, leave-one-out above. Caltech101 is this encoder's development set: its ratio and logit "
        "scale were set on its validation photos.",
        methods_by_shots(rows),
        "## What choosing without validation photos costs\n\nTip-Adapter with alpha and beta chosen on the support set only "
        "(the default), and on the whole validation split.",
        choosing(rows),
        "## Chosen alpha and beta",
        pairs(rows),
        "## The same names in Chinese",
        methods_by_shots(record["rows_chinese"]),
        "## Variation between one-shot draws\n\n" + one_shot_line(record["one_shot_draws"]),
    ]
    return "\n\n".join(sections)


def machine_zh(machine: str) -> str:
    """The machine of a record, its number of cores in Chinese word order, with Chinese commas."""
    return re.sub(r"^(\d+) cores of ([^,]+)", r"\2 \1 核", machine).replace(", ", "，")


def methods_by_shots(rows: Sequence[dict[str, Any]]) -> str:
    shots = sorted({row["shots"] for row in rows})
    lines = [[name, *(spread(accuracies(rows, k, method)) for k in shots)] for method, name in METHOD_NAMES.items()]
    return table(["method", *map(shots_words, shots)], lines)


def choosing(rows: Sequence[dict[str, Any]]) -> str:
    shots = sorted({row["shots"] for row in rows})
    lines = [
        ["chosen on the support set", *(spread(accuracies(rows, k, "tip-adapter")) for k in shots)],
        ["chosen on validation", *(spread(accuracies(rows, k, "tip-adapter", True)) for k in shots)],
        ["loss, mean", *(f"{loss(rows, k):+.2f}" for k in shots)],
    ]
    return table(["", *map(shots_words, shots)], lines)


def pairs(rows: Sequence[dict[str, Any]]) -> str:
    header = ["shots", "seed", "rule", "alpha", "beta", "temperature", "left-out", "test", "alpha, beta on validation"]
    return table(header, [pair_row(r, rows) for r in rows if r["method"] == "tip-adapter" and not by_validation(r)])


def by_validation(row: dict[str, Any]) -> bool:
    return row.get("protocol") == "validation"


def accuracies(rows: Iterable[dict[str, Any]], shots: int, method: str, validation: bool = False) -> list[float]:
    return [
        row["accuracy"]
        for row in rows
        if row["shots"] == shots and row["method"] == method and by_validation(row) == validation
    ]


def loss(rows: Sequence[dict[str, Any]], shots: int) -> float:
    return 100 * (mean(accuracies(rows, shots, "tip-adapter", True)) - mean(accuracies(rows, shots, "tip-adapter")))


def pair_row(row: dict[str, Any], rows: Iterable[dict[str, Any]]) -> list[str]:
    (best,) = (r for r in rows if by_validation(r) and (r["shots"], r["seed"]) == (row["shots"], row["seed"]))
    left_out = "–" if row["left_out_accuracy"] is None else f"{100 * row['left_out_accuracy']:.1f}"
    return [
        str(row["shots"]),
        str(row["seed"]),
        row["protocol"],
        f"{row['alpha']:.0f}",
        f"{row['beta']:.2f}",
        f"{row['temperature']:.2f}",
        left_out,
        f"{100 * row['accuracy']:.1f}",
        f"{best['alpha']:.0f}, {best['beta']:.2f}",
    ]


def one_shot_line(draws: Sequence[dict[str, Any]]) -> str:
    values = [100 * draw["accuracy"] for draw in draws]
    return (
        f"Tip-Adapter at one shot over {len(values)} draws: mean {mean(values):.2f}, standard deviation "
        f"{stdev(values):.2f}, lowest {min(values):.2f}, highest {max(values):.2f}. The three seeds above are among them."
    )


def equations(record: dict[str, Any]) -> str:
    text = (
        "Accuracy in percent with logit scale 100, alpha 1, beta 5.5 on stored CLIP ViT-B/32 vectors. The tests check "
        "these figures exactly, also with shuffled classes."
    )
    rows = [
        [r["set"], f"{r['queries']} ({r['n']:,})", r["arrays"], *(f"{r[m]:.4f}" for m in ESTIMATORS)]
        for r in record["rows"]
    ]
    return text + "\n\n" + table(["set", "queries", "arrays", "zero-shot", "Tip-Adapter"], rows)


ESTIMATORS = ("ZeroShotClassifier", "TipAdapterClassifier")


def demo(record: dict[str, Any]) -> str:
    methods = [method.replace("-", "_") for method in METHOD_NAMES]
    rows = [[str(row["seed"]), *(f"{100 * row[m]['accuracy']:.1f}" for m in methods)] for row in record["rows"]]
    first = record["rows"][0]
    text = (
        "`tip-adapter demo` first shows the accuracy on [Caltech101](caltech101.md), photos of everyday objects, and then "
        f"measures a hard case: simulated textile inspection photos (conformal-clip-data), three classes, {first['n_shots']} training "
        f"photos each, {first['n_test']} test photos. Accuracy in percent. Local defects are a few threads in a whole "
        "photo, which is hard to see in a single vector per photo."
    )
    return text + "\n\n" + table(["seed", *METHOD_NAMES.values()], rows)


def speed(record: dict[str, Any]) -> str:
    text = (
        "Medians over runs after a warm-up. A *reference* is what one would write without this package; a *limit* is the work "
        "that cannot be avoided; both run in turn with ours, after a fifth of a second of rest each, and ratios are taken turn by "
        "turn. The plain loop uses Pillow, torch in eager mode and batches of 64, and computes the same vectors from the same crops. Photos are drawn from the folder "
        "in the command, or from the demo's. [Where the time goes](../explanation/performance.md) has operations and limits."
    )
    missed = [case for case in record["cases"] if case["met"] is False]
    verdict = f"{len(missed)} of {sum(case['met'] is not None for case in record['cases'])} goals are missed."
    groups = dict.fromkeys(case["group"] for case in record["cases"])
    tables = [
        f"## {group.capitalize()}\n\n"
        + table(
            ["case", "measured", "runs", "goal"],
            [speed_row(case) for case in record["cases"] if case["group"] == group],
        )
        for group in groups
    ]
    return "\n\n".join([text, verdict, *tables])


def speed_row(case: dict[str, Any]) -> list[str]:
    measured = ", ".join(figure_of(name, value) for name, value in case["measured"].items())
    goals = ", ".join(f"{sign} {figure_of(name, value)}" for name, (sign, value) in case["goals"].items())
    verdict = {True: f"{goals}: met", False: f"{goals}: **missed**", None: ""}[case["met"]]
    return [case["name"], measured, str(len(case["times"]["ours"])), verdict]


def figure_of(name: str, value: float) -> str:
    """A figure with its unit, as in "0.02 s"."""
    unit, _, what = name.partition(": ")
    number = "0" if value == 0 else f"{value:,.0f}" if value >= 100 else f"{value:.2g}" if value < 1 else f"{value:.3g}"
    return f"{number} {'s' if unit == 'seconds' else unit}" + (f" {what}" if what else "")


def speed_figure(case: dict[str, Any], times: str) -> str:
    """Seconds, or with a reference how many times as fast, `times` in words."""
    seconds = case["measured"]["seconds"]
    if "reference" not in case["times"]:
        return f"{seconds:.2f} s"
    ratios = [r / o for r, o in zip(case["times"]["reference"], case["times"]["ours"], strict=True)]
    figures = (case["measured"]["times as fast"], min(ratios), max(ratios))
    return times.format(*(f"{ratio:.1f}" for ratio in figures), f"{seconds:.2f}")


#: Columns of the table that decides: protocol → its heading.
PROTOCOLS = {
    "zero-shot": "zero-shot",
    "fixed": "fixed (1, 5.5)",
    "scale-free": "scale-free",
    "likelihood": "leave-one-out: likeliest",
    "widest best step": "leave-one-out: widest best",
    "likelihood among the best": "leave-one-out: likeliest of the best",
    "best step nearest the centre": "leave-one-out: best near the centre",
    "leave-one-out": "leave-one-out: centre (used)",
    "default": "**default**",
    "few-validation": "few validation",
    "full-validation": "full validation",
    "oracle": "oracle",
}


def choosing_page(record: dict[str, Any]) -> str:
    draws: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in record["rows"]:
        draws.setdefault((row["set"], row["shots"]), []).append(row)
    text = (
        "Test accuracy of Tip-Adapter in percent, mean over draws, by how alpha and beta are chosen. Draws by seeds 1, 2, 3; "
        "if a draw takes all photos there is only one. ImageNet: 1,000 of 3,007 queries, drawn by the seed, are validation photos, "
        "the others test photos. The default is leave-one-out, scale-free at one shot. Only `oracle` sees the test photos."
    )
    accuracy = [
        [name, str(shots), str(len(rows)), *(mean_percent([row["accuracy"].get(p) for row in rows]) for p in PROTOCOLS)]
        for (name, shots), rows in draws.items()
    ]
    losses = [
        [
            name,
            str(shots),
            f"{100 * mean(row['accuracy']['full-validation'] - row['accuracy']['default'] for row in rows):+.2f}",
            f"{100 * min(row['accuracy']['default'] - row['accuracy']['zero-shot'] for row in rows):+.2f}",
        ]
        for (name, shots), rows in draws.items()
    ]
    found = [
        [
            name,
            str(shots),
            *(
                ", ".join(f"{row['validation'][how]} of {row['validation']['n']}" for row in rows)
                for how in ("found", "grid")
            ),
        ]
        for (name, shots), rows in draws.items()
    ]
    return "\n\n".join(
        [
            text,
            table(["set", "shots", "draws", *PROTOCOLS.values()], accuracy),
            "## What the default costs\n\nPoints that the default loses against the whole validation split, on average; and its "
            "worst draw compared with zero-shot (+: above).",
            table(["set", "shots", "loss", "worst against zero-shot"], losses),
            f"Mean loss at 4 shots and more: {mean_loss(draws):+.2f} points.",
            "## Exact search against a grid\n\nCorrect validation photos at the (alpha, beta) that the search found, and at the best of "
            "the public code's 4,000 grid points, for each draw.",
            table(["set", "shots", "search", "grid"], found),
            RATIOS,
        ]
    )


def mean_percent(values: Sequence[float | None]) -> str:
    given = [value for value in values if value is not None]
    return f"{100 * mean(given):.2f}" if given else "–"


def mean_loss(draws: dict[tuple[str, int], list[dict[str, Any]]]) -> float:
    """Over sets and shots of at least 4."""
    losses = [
        mean(row["accuracy"]["full-validation"] - row["accuracy"]["default"] for row in rows)
        for (_, shots), rows in draws.items()
        if shots >= 4
    ]
    return 100 * mean(losses)


#: How the one number of each encoder was found.
RATIOS = """## The scale-free ratio of each encoder

One number per encoder, the ratio of the cache's spread to the text's; it does not depend on the task. `pocket`: 1.5, the best of 0,
.1, .2, .5, 1, 1.5 and 2 on Caltech101's validation photos at one shot, within 5 points of the best on seven other photo sets.
CLIP: 0.1, chosen the same way on ImageNet and 58 Caltech classes, where .1 and .2 were best. Caltech101 is `pocket`'s development set."""


def trust(record: dict[str, Any]) -> str:
    wrong = [
        [str(row["seed"]), f"{row['n_flipped']} of {row['n_photos']}", f"{100 * row['found']:.1f}"]
        for row in record["wrong_labels"]
    ]
    keys = ("auroc", "auroc_without_temperature", "threshold", "kept", "unknown_refused")
    unknown = [[str(row["seed"]), *(f"{row[key]:.3f}" for key in keys)] for row in record["unknown"]]
    stated = [
        [
            str(row["shots"]),
            str(row["seed"]),
            f"{100 * row['stated']:.1f}",
            " to ".join(f"{100 * end:.1f}" for end in row["interval"]),
            f"{100 * row['test']:.1f}",
        ]
        for row in record["left_out"]
    ]
    return "\n\n".join(
        [
            "Caltech101, offline encoder `pocket`, bare class names, Tip-Adapter with alpha and beta by leave-one-out.",
            "## Wrong labels found\n\n8 shots, 5 % of the labels flipped to another class. Precision of `tip-adapter check` in "
            "percent: the share of flipped labels among its top-ranked photos, as many as were flipped.",
            table(["seed", "flipped", "found"], wrong),
            "## None of these\n\n16 shots of 80 classes; the test photos of the other 20 are unknown. AUROC of the score "
            "(known above unknown), with and without the temperature; the threshold that 95 % of the left-out photos reach; the "
            "share of known test photos above it, and of unknown ones below.",
            table(["seed", "AUROC", "without temperature", "threshold", "known kept", "unknown rejected"], unknown),
            f"Mean AUROC {mean(row['auroc'] for row in record['unknown']):.3f}, mean share kept "
            f"{mean(row['kept'] for row in record['unknown']):.3f}.",
            "## Self-reported accuracy\n\nLeave-one-out accuracy, its 95 % interval, and accuracy on the test photos, in percent. "
            "A left-out photo is classified with one shot fewer than a new one, so the estimate is slightly pessimistic.",
            table(["shots", "seed", "leave-one-out", "interval", "test"], stated),
        ]
    )


def calibration(record: dict[str, Any]) -> str:
    rows = record["rows"]
    figures = [
        [
            shots_words(shots),
            f"{mean(r['temperature'] for r in chosen):.2f}",
            *(spread([r[when]["ece"] for r in chosen]) for when in MOMENTS),
            *(likelihoods([r[when]["negative_log_likelihood"] for r in chosen]) for when in MOMENTS),
        ]
        for shots, chosen in by_shots(rows).items()
    ]
    single = [
        [
            str(r["shots"]),
            str(r["seed"]),
            f"{100 * r['accuracy']:.1f}",
            f"{r['temperature']:.2f}",
            *(f"{100 * r[when]['ece']:.1f}" for when in MOMENTS),
            *(f"{r[when]['negative_log_likelihood']:.3f}" for when in MOMENTS),
        ]
        for r in rows
    ]
    text = (
        f"Scores of Tip-Adapter on Caltech101's {record['n_photos']:,} test photos, offline encoder `{record['encoder']}`, bare "
        "class names, alpha and beta by the default rule; before (temperature 1) and after fitting the temperature on "
        "left-out photos. At one shot no photo can be left out, and the temperature is 1. Expected calibration error (ECE, "
        "15 bins of equal width, confidence is the highest score) in percent, negative log-likelihood (NLL) in nats; mean ± "
        "standard deviation over seeds 1, 2, 3."
    )
    heads = ["temperature", "ECE before", "ECE after", "NLL before", "NLL after"]
    picture = "![Accuracy by confidence, before and after the temperature.](calibration.svg)"
    explained = (
        "Photos of the three draws together; bars: number of photos with that confidence, after fitting the temperature. "
        "[How to read it](../how-to/report.md#reading-the-calibration)."
    )
    return "\n\n".join(
        [
            text,
            table(["", *heads], figures),
            f"## Reliability curves\n\n{picture}\n\n{explained}",
            f"## Each draw\n\n{risen(rows)}",
            table(["shots", "seed", "accuracy", *heads], single),
        ]
    )


def risen(rows: Sequence[dict[str, Any]]) -> str:
    """In how many draws with a temperature each figure is better for it: a mean may hide one that is not."""
    tempered = [r for r in rows if r["temperature"] != 1]
    n_lower = [sum(r["after"][figure] < r["before"][figure] for r in tempered) for figure in FIGURES]
    worse = [r for r in tempered if r["after"]["ece"] > r["before"]["ece"]]
    where = "; ".join(f"{shots_words(r['shots'])}, seed {r['seed']}" for r in worse)
    n_careful = sum(mean_confidence(r["after"]["curve"]) < r["accuracy"] for r in tempered)
    return (
        f"Of {len(tempered)} draws with a temperature, it lowers the NLL, for which it is fitted, in {n_lower[0]} and the ECE in "
        f"{n_lower[1]}{f' (not at {where})' if where else ''}. Afterwards the mean confidence is below the accuracy in "
        f"{n_careful}: the scores are then under-confident."
    )


def mean_confidence(curve: Sequence[dict[str, Any]]) -> float:
    return float(sum(b["n"] * b["confidence"] for b in curve) / sum(b["n"] for b in curve))


#: What the temperature should lower.
FIGURES = ("negative_log_likelihood", "ece")
MOMENTS = ("before", "after")


def by_shots(rows: Sequence[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    return {shots: [r for r in rows if r["shots"] == shots] for shots in sorted({r["shots"] for r in rows})}


def likelihoods(values: Sequence[float]) -> str:
    return f"{mean(values):.3f} ± {stdev(values):.3f}"


#: Read on white and on black pages; the names are those of the chart in a report.
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#7d858e}.title{font-size:14px;font-weight:600}.middle{text-anchor:middle}"
    ".end{text-anchor:end}.grid{stroke:#7d858e;stroke-opacity:.25}.ideal{stroke:#7d858e;stroke-dasharray:4 4}"
    ".count{fill:#7d858e;fill-opacity:.35}polyline{fill:none;stroke:currentColor;stroke-width:1.5;stroke-opacity:.6}"
    "circle{fill:currentColor}.before{color:#c8602f}.before polyline{stroke-dasharray:6 4}.after{color:#1f8f80}"
)


def reliability_curves(record: dict[str, Any]) -> str:
    """The reliability curves, side by side: one for each number of shots, its draws together."""
    panels = [panel(place, shots, rows) for place, (shots, rows) in enumerate(by_shots(record["rows"]).items())]
    legend = "".join(
        tag("text", text, x=x, y=20, class_=kind, style="fill:currentColor")
        for x, kind, text in [(44, "before", "- - temperature 1"), (180, "after", "— temperature fitted")]
    )
    size = f'viewBox="0 0 {360 * len(panels)} 420"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{STYLE}</style>{legend}{"".join(panels)}</svg>\n'


def panel(place: int, shots: int, rows: Sequence[dict[str, Any]]) -> str:
    before, after = (pooled([r[when] for r in rows]) for when in MOMENTS)
    chart = str(charts.reliability(before, after, sum(entry.n for entry in after.curve)))
    title = tag("text", shots_words(shots), x=360 * place + 44, y=48, class_="title")
    placed = chart.replace("<svg ", f'<svg x="{360 * place}" y="56" width="358" height="356" ', 1)
    return f"{title}{placed}"


def pooled(figures: Sequence[dict[str, Any]]) -> Calibration:
    """Draws of as many photos as one: their bins put together."""
    bins: dict[int, list[dict[str, Any]]] = {}
    for entry in (entry for each in figures for entry in each["curve"]):
        bins.setdefault(ceil(entry["confidence"] * N_BINS), []).append(entry)
    curve = tuple(together(bins[number]) for number in sorted(bins))
    n = sum(entry.n for entry in curve)
    ece = sum(entry.n * abs(entry.accuracy - entry.confidence) for entry in curve) / n
    return Calibration(ece, None, n, curve)


def together(entries: Sequence[dict[str, Any]]) -> Bin:
    n = sum(entry["n"] for entry in entries)
    confidence, accuracy = (sum(e["n"] * e[name] for e in entries) / n for name in ("confidence", "accuracy"))
    return Bin(confidence, accuracy, n)


def spread(values: Sequence[float]) -> str:
    percent = [100 * value for value in values]
    return f"{mean(percent):.2f} ± {stdev(percent):.2f}"


def exported(record: dict[str, Any]) -> str:
    text = (
        "An exported file after conversion to half precision (onnxconverter-common) or dynamic quantisation (ONNX Runtime), and in "
        "other runtimes, compared with the file as it was written: how many answers name the same class, and by how much a "
        "probability differs at most. Vectors are stored CLIP vectors of Caltech101's test photos, 16 shots of 58 classes; photos "
        "are drawn from all test photos of Caltech101, 4 shots of 100 classes. OpenVINO's own choice of precision depends on the "
        f"processor. The browser's runtime is onnxruntime-web's WebAssembly, run by Node. Versions: {record['versions']}."
    )
    rows = [
        [r["file"], r["way"], f"{r['n']:,}", f"{100 * r['same_class']:.1f} %", f"{r['largest_difference']:.2g}"]
        for r in record["rows"]
    ]
    return text + "\n\n" + table(["file", "what is done", "inputs", "same class", "largest difference"], rows)


def mutants(record: dict[str, Any]) -> str:
    rows, survivors = record["rows"], [change for row in record["rows"] for change in row["survivors"]]
    n = sum(row["n"] for row in rows)
    n_possible = n - sum(change["reason"] is not None for change in survivors)
    text = (
        "[mutmut](https://mutmut.readthedocs.io) changes one expression of a module at a time, such as `<` to `<=`, `+` to `-`, 1 "
        "to 2, `and` to `or`, a condition to one that is always true; a test of that module must then fail. Not counted are "
        "changes of texts only, and those that put None for a value or drop an argument: they are three quarters of all, and most "
        "raise an error at once. Properties and context managers are left as they are. Of each module's "
        f"mutants {max(row['n'] for row in rows)} are drawn by a fixed seed; the tests are the fast ones of the files in "
        "`benchmarks/mutants.toml`."
    )
    figures = [
        [f"`{row['module']}.py`", row["date"], *map(str, (row["n_known"], row["n"], row["n"] - len(row["survivors"])))]
        for row in rows
    ]
    by_hand = [[c["name"], f"`{c['file']}`", "yes" if c["noticed"] else "**no**"] for c in record["named"]]
    return "\n\n".join(
        [
            text,
            f"{n - len(survivors)} of {n} noticed: {100 * (1 - len(survivors) / n):.1f} %. {n - n_possible} of the others change no "
            f"result, for the reasons below. **Of those that a test can notice, {n - len(survivors)} of {n_possible}: "
            f"{100 * (n - len(survivors)) / n_possible:.1f} %.**",
            table(["module", "date", "mutants", "drawn", "noticed"], figures),
            "## Not noticed",
            *(survivor(change) for change in survivors),
            "## Chosen by hand\n\nChanges that the tests once did not notice.",
            table(["change", "file", "noticed"], by_hand),
        ]
    )


def survivor(change: dict[str, Any]) -> str:
    lines = [f"{sign} {line}" for sign, when in (("-", "before"), ("+", "after")) for line in change[when].splitlines()]
    code = "\n".join(lines)
    return f"`{change['module']}`: {change['reason'] or 'a test is missing.'}\n\n```text\n{code}\n```"


def labelling(record: dict[str, Any]) -> str:
    plan, row, rates = record["plan"], record["row"], record["workers"]
    billion, seconds = 5, 5e9 * plan["microseconds_per_row"] / 1e6
    interrupted = table(
        ["run", "seconds", "kills", "same files"],
        [
            [
                run["name"],
                f"{run['seconds']:.0f}",
                str(run["kills"]),
                {None: "", True: "yes", False: "**no**"}[run.get("same")],
            ]
            for run in record["runs"]
        ],
    )
    resumed = (
        [
            [f"reading {plan['parts']:,} manifests", f"{plan['manifests_seconds']:.1f} s"],
            [
                f"resuming a job of {plan['parts']:,} parts, half of them done, until labelling begins",
                f"{plan['resume_seconds']:.1f} s, {plan['resume_mebibytes']:.0f} MiB",
            ],
        ]
        if "resume_seconds" in plan
        else []
    )
    figures = table(
        ["what", "figure"],
        [
            ["planning", f"{plan['microseconds_per_row']:.1f} µs and {plan['bytes_per_row']:.0f} bytes a row"],
            [
                f"running a finished job of {plan['parts']:,} parts",
                f"{plan['rerun_seconds']:.1f} s, {plan['rerun_mebibytes']:.0f} MiB",
            ],
            *resumed,
            ["labelling and writing a row, without encoder", f"{row['label_and_write']:.0f} µs"],
            *_by_engine(record.get("engines", {})),
            ["decoding a JPEG of 1,024 x 1,024", f"{row['decode'] / 1000:.1f} ms"],
            [
                "images of that size a second, one worker and two",
                f"{rates['1']:.0f} and {rates['2']:.0f}: {rates['2'] / rates['1']:.2f} times",
            ],
        ],
    )
    return (
        f"{record['images']:,} images of 64 x 64, toy encoder; kills at random moments, a driver five times, or one of its workers. "
        f"Other programs used the machine meanwhile: its load was {record['load']:.1f} when the run began, so times are upper bounds, and the "
        f"comparison of workers says nothing on a machine without idle processors.\n\n{interrupted}\n\n"
        f"The plan has {plan['rows']:,} synthetic rows.\n\n{figures}\n\n"
        f"A projection from these, not a measurement: planning {billion} billion rows takes {seconds / 3600:.0f} hours and "
        f"{5 * plan['bytes_per_row']:.0f} GB; 1,000 processors decode {1000 * 86400 / (row['decode'] / 1e6) / 1e9:.1f} billion such images a day, "
        "if GPUs encode as many: the smaller of processors × images decoded and GPUs × images encoded."
    )


def _by_engine(engines: dict[str, Any]) -> list[list[str]]:
    """Rows of what each engine takes with two workers."""
    names = {"local": "worker processes", "ray": "Ray"}
    rows = []
    for name in (name for name in names if name in engines):
        found = engines[name]
        rows += [
            [
                f"a row of 64 x 64 by {names[name]} with the toy encoder, which takes {engines['toy_microseconds']:.0f} µs of it",
                f"{found['microseconds_per_row']:.0f} µs",
            ],
            [
                f"images of 256 x 256 a second by {names[name]} with `pocket`, {engines['images_of_pocket']:,} images",
                f"{found['pocket_images_per_second']:.0f}",
            ],
        ]
    if "ray" in engines:
        rows.append(["whether both engines wrote the same files with `pocket`", "yes" if engines["same"] else "**no**"])
    return rows


def serving(record: dict[str, Any]) -> str:
    """The service under load, and the time until a photo counts."""
    classify = record["classify"]
    alone = classify["encoder_alone"]["photos_per_second"]
    rows = [["the encoder alone, photos in batches of 32", f"{alone:.1f}", "", "", ""]]
    services = {
        "batched": "the service",
        "unbatched": "the service with batches of one photo",
        "plain": "`predict` in a function of FastAPI, a thread for each request",
    }
    for name, words in services.items():
        row = classify[name]
        share, grown = row["photos_per_second"] / alone, ", ".join(f"{mib:+.0f}" for mib in row["mib_more"])
        figures = [f"{row['photos_per_second']:.1f}", f"{share:.2f}", f"{row['median_ms']:.0f} ms", f"{grown} MiB"]
        rows.append([words, *figures])
    n_failed = sum(classify[name]["failed"] for name in services)
    steps = [
        [
            f"{step['n']:,}",
            str(step["n_classes"]),
            f"{step['median_ms']:.1f} ms",
            f"{step['slowest_ms']:.1f} ms",
            f"{step['fit_seconds']:.1f} s",
            f"{step['largest_difference']:.1g}",
        ]
        for step in record["steps"]
    ]
    return "\n\n".join(
        [
            f"`POST /v1/classify` with {record['clients']} clients in another process, one photo a request: "
            f"{record['n_requests']:,} requests of {record['n_photos']} photos of Caltech101, to each, encoder pocket; {n_failed} failed. The best of {record['turns']} turns counts: "
            "other programs ran on the machine. Memory is what the service took more after each turn than before the first.",
            table(["", "photos a second", "of the encoder alone", "median", "memory"], rows),
            "A photo more for a project of random vectors of the same width, 20 times: from its vector to an answer that counts it, the "
            "commit to SQLite included. All photos are fitted again in the background; the last column is by how much a probability of "
            "200 other photos differed from that fit after these 20.",
            table(["photos", "classes", "median", "slowest", "fit of all", "largest difference"], steps),
        ]
    )


PAGES: dict[str, tuple[str, Callable[[dict[str, Any]], str]]] = {
    "caltech101": ("Caltech101 with the offline encoder", caltech101),
    "demo": ("The demo", demo),
    "equations": ("The equations on real CLIP vectors", equations),
    "heads": ("Every classifier on the same vectors", heads_page.page),
    "choosing": ("How alpha and beta are chosen", choosing_page),
    "trust": ("Self-reported accuracy, label errors and rejection", trust),
    "calibration": ("Calibration of the scores", calibration),
    "speed": ("Speed", speed),
    "serving": ("The web service", serving),
    "exported": ("Exported files, converted and in other runtimes", exported),
    "claims": ("The paper's claims", claims_page.claims),
    "photos": ("The paper's experiments on photos", photos_page.page),
    "protocols": ("What choosing is worth", claims_page.protocols),
    "labelling": ("Labels of very many images", labelling),
    "mutants": ("Changes of the code that the tests notice", mutants),
}

#: Pictures next to a page, rendered from the same results.
PICTURES: dict[str, Callable[[dict[str, Any]], str]] = {
    "calibration": reliability_curves,
    "heads": heads_page.picture,
    "photos": photos_page.picture,
}


if __name__ == "__main__":
    main()
