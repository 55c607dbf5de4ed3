"""Renderer: an experiment's results as a page of Markdown, the published number and the difference beside ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tip_adapter.methods import METHODS
from tip_adapter.paper.experiments import papers_encoder
from tip_adapter.paper.protocols import PROTOCOLS
from tip_adapter.paper.statistics import Mean, means, paired

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tip_adapter.paper.experiments import Experiment

#: Methods as the paper calls them, in its order.
TITLES = {
    "zero-shot": "Zero-shot CLIP",
    "linear-probe": "Linear-probe CLIP",
    "coop": "CoOp",
    "clip-adapter": "CLIP-Adapter",
    "tip-adapter": "Tip-Adapter",
    "tip-adapter-f": "Tip-Adapter-F",
    "full training": "Full training",
}
#: Fields that are fractions, shown in percent.
_FRACTIONS = {"accuracy", "gain", "tuning_gap"}
#: What tells draws and settings apart, but not how something was chosen.
_DRAW = ("dataset", "target", "encoder", "method", "shots", "seed", "variant")
#: What a line of the table stands for, beside the experiment's own axis.
_LINE = ("dataset", "target", "encoder", "method", "protocol", "variant")


@dataclass(frozen=True)
class Published:
    """The paper's numbers for one experiment.

    Parameters
    ----------
    rows : records as in published.jsonl
    n_test : data set → test photos of the paper's
    """

    rows: tuple[dict[str, Any], ...]
    n_test: Mapping[str, int]

    def row_of(self, result: dict[str, Any]) -> dict[str, Any] | None:
        """The published row for a result, by the paper's name of its encoder if there is one; None without any.

        Where the paper has one data set only, its number stands beside those of any other, as not comparable.
        """
        fitting = self._fitting(result) or [row for name in self._only_dataset for row in self._fitting(result, name)]
        encoder = papers_encoder(result["encoder"])
        return next((row for row in fitting if row["encoder"] == encoder), fitting[0] if fitting else None)

    def comparable(self, row: dict[str, Any], result: dict[str, Any]) -> bool:
        """Whether a result was measured with the row's encoder, on its data set, on as many test photos as the paper's."""
        same = papers_encoder(result["encoder"]) == row["encoder"] and result["dataset"] == row["dataset"]
        return same and self.n_test.get(result["target"]) == result.get("n_test")

    def _fitting(self, result: dict[str, Any], dataset: str | None = None) -> list[dict[str, Any]]:
        """Rows that agree with a result, as if it were of another data set."""
        asked = {**result, **({"dataset": dataset, "target": dataset} if dataset else {})}
        return [row for row in self.rows if all(row.get(a, d) == asked.get(a) for a, d in _asked(asked))]

    @property
    def _only_dataset(self) -> set[str]:
        """The one data set of the rows; empty where there are several."""
        names = {row["dataset"] for row in self.rows}
        return names if len(names) == 1 else set()

    def beside(self, results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Rows that no method here could measure, such as full training: literature."""
        return [row for row in self.rows if row["method"] not in METHODS] if results else []


def _asked(result: dict[str, Any]) -> list[tuple[str, Any]]:
    """The axes on which a published number must agree, and what it has where it states none."""
    return [("dataset", None), ("target", result["dataset"]), ("method", None), ("shots", None), ("variant", "")]


def marked(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Results with what they say only together: `beside`, and the tuning gap where there is an oracle.

    The gap is the oracle's accuracy minus leave-one-out's, or at one shot the scale-free rule's, on the same draw.
    """
    first: dict[Any, str] = {}
    oracles = {_key(r, _DRAW): r["accuracy"] for r in results if PROTOCOLS[r["protocol"]].upper_bound}
    together = []
    for result in results:
        draw = _key(result, _DRAW)
        primary = first.setdefault(draw, result["protocol"])
        honest = result["protocol"] == ("scale-free" if result["shots"] == 1 else "leave-one-out")
        gap = {"tuning_gap": oracles[draw] - result["accuracy"]} if honest and draw in oracles else {}
        together.append({**result, "beside": result["protocol"] != primary, **gap})
    return together


def render_table(experiment: Experiment, results: Sequence[dict[str, Any]], published: Published) -> str:
    """The page of an experiment.

    Parameters
    ----------
    experiment : Experiment
    results : its results, of all seeds
    published : Published

    Returns
    -------
    Markdown
    """
    parts = [f"# {experiment.name}: {experiment.title}", _heading(results)]
    parts.append(_main_table(experiment, results, published))
    comparisons = _comparisons(results)
    if comparisons:
        parts.append(f"## Methods compared, draw by draw\n\n{comparisons}")
    notes = [*experiment.notes, *_marks(results)]
    if notes:
        parts.append("## Notes\n\n" + "\n".join(f"- {note}" for note in notes))
    return "\n\n".join(parts) + "\n"


def _heading(results: Sequence[dict[str, Any]]) -> str:
    seeds = sorted({result["seed"] for result in results if result["shots"]})
    return (
        f"Accuracies in percent: mean over seeds {', '.join(map(str, seeds)) or '(none)'}, ± half of Student's 95 % interval. "
        "In brackets the published number and the difference."
    )


def _main_table(experiment: Experiment, results: Sequence[dict[str, Any]], published: Published) -> str:
    lines = tuple(axis for axis in _LINE if axis != experiment.columns)
    shown = [axis for axis in lines if axis == experiment.rows or _tells(axis, results)]
    if isinstance(experiment.columns, str):
        header, cells = _by_axis(experiment.columns, lines, results, published)
    else:
        header, cells = _by_field(experiment.columns, lines, results, published)
    gaps = means(results, lines, "tuning_gap")
    if gaps:
        header = [*header, "tuning gap"]
        cells = {line: [*row, _number(gaps.get(line), "tuning_gap")] for line, row in cells.items()}
    rows = [[*(_name(axis, line[lines.index(axis)]) for axis in shown), *cells[line]] for line in cells]
    return _markdown([*shown, *header], rows) + _literature(published.beside(results), experiment)


def _literature(rows: Sequence[dict[str, Any]], experiment: Experiment) -> str:
    """Published rows of other methods, below the table."""
    if not rows:
        return ""
    fields = [name for name in ("encoder", "method", "accuracy", "parameters_m", "training_time") if name in rows[0]]
    lines = [[TITLES.get(str(row.get(name)), str(row.get(name, "–"))) for name in fields] for row in rows]
    return f"\n\nFrom the literature, as {experiment.name} quotes it:\n\n{_markdown(fields, lines)}"


def _tells(axis: str, results: Sequence[dict[str, Any]]) -> bool:
    """Whether an axis tells lines apart; a target that is the data set itself says nothing."""
    differs = axis != "target" or any(result["target"] != result["dataset"] for result in results)
    return differs and len({result.get(axis) for result in results}) > 1


def _by_axis(
    axis: str, lines: Sequence[str], results: Sequence[dict[str, Any]], published: Published
) -> tuple[list[str], dict[Any, list[str]]]:
    """Accuracies with a column for each value of an axis; what has no shots stands in every column of shots."""
    values = sorted(
        {result[axis] for result in results if result[axis] != 0 or axis != "shots"}, key=_order(results, axis)
    )
    values = values or [0]
    found = means(results, (*lines, axis), "accuracy")
    examples = {(*_key(result, lines), result[axis]): result for result in results}
    cells = {}
    for line in dict.fromkeys(_key(result, lines) for result in results):
        keys = [(*line, value) if (*line, value) in found else (*line, 0) for value in values]
        cells[line] = [_compared(found.get(key), examples.get(key), "accuracy", published) for key in keys]
    return [str(value) for value in values], cells


def _by_field(
    fields: Sequence[str], lines: Sequence[str], results: Sequence[dict[str, Any]], published: Published
) -> tuple[list[str], dict[Any, list[str]]]:
    """One column for each field."""
    found = {name: means(_numbers(results, name), lines, name) for name in fields}
    examples = {_key(result, lines): result for result in results}
    cells = {
        line: [_compared(found[name].get(line), example, name, published) for name in fields]
        for line, example in examples.items()
    }
    return [name.replace("_", " ") for name in fields], cells


def _numbers(results: Iterable[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [result for result in results if isinstance(result.get(name), (int, float))]


def _compared(mean: Mean | None, result: dict[str, Any] | None, name: str, published: Published) -> str:
    """Ours, and in brackets theirs and the difference."""
    if result is None:
        return "–"
    ours = _number(mean, name) if mean else str(result.get(name) or result.get("outcome") or "–")
    row = published.row_of(result)
    theirs = row.get(name) if row else None
    if row is None or theirs is None:
        return ours
    if not published.comparable(row, result):
        return f"{ours} ({theirs}; not comparable)"
    if mean is None or not isinstance(theirs, (int, float)):
        return f"{ours} ({theirs})"
    scale = 100 if name in _FRACTIONS else 1
    return f"{ours} ({theirs}, {scale * mean.mean - theirs:+.2f})"


def _number(mean: Mean | None, name: str) -> str:
    if mean is None:
        return "–"
    if name in _FRACTIONS:
        return f"{100 * mean.mean:.2f}" + ("" if mean.half_width is None else f" ± {100 * mean.half_width:.2f}")
    return f"{mean.mean:.4g}" + (f" ± {mean.half_width:.2g}" if mean.half_width else "")


def _comparisons(results: Sequence[dict[str, Any]]) -> str:
    """Each method against Tip-Adapter, over the draws that both saw, by the protocol that comes first for each."""
    main = [result for result in results if not result.get("beside") and not result.get("variant")]
    methods = [method for method in TITLES if any(result["method"] == method for result in main)]
    rows = []
    for method in methods:
        difference = paired(main, method, "tip-adapter") if method != "tip-adapter" else None
        if difference:
            rows.append([f"{TITLES[method]} − Tip-Adapter", _number(difference, "gain"), str(difference.n)])
    return _markdown(["difference", "points", "draws"], rows) if rows else ""


def _marks(results: Iterable[dict[str, Any]]) -> list[str]:
    """What the words in the table mean, and what was not as it should be."""
    found = list(results)
    used = dict.fromkeys(result["protocol"] for result in found)
    words = [f"`{name}`: {PROTOCOLS[name].words}." for name in used if name in PROTOCOLS]
    return [*words, *dict.fromkeys(note for result in found for note in result.get("notes", ()))]


def _name(axis: str, value: Any) -> str:
    if axis == "protocol" and value in PROTOCOLS and PROTOCOLS[value].upper_bound:
        return f"{value} (upper bound)"
    return TITLES.get(value, str(value)) if axis == "method" else str(value)


def _order(results: Sequence[dict[str, Any]], axis: str) -> Callable[[Any], Any]:
    """Numbers by size, names as they come."""
    seen = list(dict.fromkeys(result[axis] for result in results))
    return lambda value: value if isinstance(value, int) else seen.index(value)


def _key(result: dict[str, Any], axes: Sequence[str]) -> tuple[Any, ...]:
    return tuple(result.get(axis) for axis in axes)


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
