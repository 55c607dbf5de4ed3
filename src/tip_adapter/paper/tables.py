"""Renderer: an experiment's results as a page of Markdown, each with the published number and the difference."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from tip_adapter.paper.columns import FIELDS, format_value, heading, varies
from tip_adapter.paper.protocols import PROTOCOLS
from tip_adapter.paper.results import Mean, grouped, key_of, means, paired

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tip_adapter.paper.experiments import Experiment
    from tip_adapter.paper.published import Published

    Result = dict[str, Any]
    #: What a line of a table stands for → its cells.
    Lines = dict[tuple[Any, ...], list[str]]

#: What identifies a draw and its settings, but not the protocol.
_DRAW = ("dataset", "target", "encoder", "method", "shots", "seed", "variant")
#: What identifies a line of the table, besides the experiment's own axis.
_LINE = ("dataset", "target", "encoder", "method", "variant", "shots", "protocol")
#: What methods are compared within.
_COMPARED = ("dataset", "target", "encoder", "variant", "shots")


def marked(results: Sequence[Result]) -> list[Result]:
    """Results with what they say only together: `secondary` for all but the first protocol of a draw, and the tuning gap where there is an oracle.

    The gap is the oracle's accuracy minus leave-one-out's, or with one key a class the scale-free rule's, on the same draw.
    """
    first: dict[Any, str] = {}
    oracles = {key_of(r, _DRAW): r["accuracy"] for r in results if PROTOCOLS[r["protocol"]].upper_bound}
    together = []
    for result in results:
        draw = key_of(result, _DRAW)
        primary = first.setdefault(draw, result["protocol"])
        keys = min(result["shots"], result.get("settings", {}).get("cache_size", result["shots"]))
        honest = result["protocol"] == ("scale-free" if keys == 1 else "leave-one-out")
        gap = {"tuning_gap": oracles[draw] - result["accuracy"]} if honest and draw in oracles else {}
        together.append({**result, "secondary": result["protocol"] != primary, **gap})
    return together


def render_table(experiment: Experiment, results: Sequence[Result], published: Published) -> str:
    """The page of an experiment.

    Parameters
    ----------
    experiment : Experiment
    results : its results, of all seeds; at least one
    published : Published

    Returns
    -------
    Markdown
    """
    words = [f"`{name}`: {PROTOCOLS[name].words}." for name in _values("protocol", results)]
    notes = dict.fromkeys(note for result in results for note in result.get("notes", ()))
    parts = [
        f"# {experiment.name}: {experiment.title}",
        _heading(results, published),
        _main_table(experiment, results, published),
        _literature(published.literature, experiment),
        _comparisons(experiment, results, published),
        "\n".join(["## Notes\n", *(f"- {note}" for note in (*experiment.notes, *words, *notes))]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


# ---- parts of the page -----------------------------------------------------------------------------------------------


def _heading(results: Sequence[Result], published: Published) -> str:
    """What was measured on, and how to read a cell."""
    datasets, encoders = (
        ", ".join(dict.fromkeys(format_value(axis, value) for value in _values(axis, results)))
        for axis in ("dataset", "encoder")
    )
    seeds = [{r["seed"] for r in own} for own in grouped((r for r in results if r["shots"]), _LINE).values()]
    numbers = sorted(set(map(len, seeds)))
    if not numbers or numbers[-1] == 1:
        means_over = "One seed, so no intervals."
    else:
        every = ", ".join(map(str, sorted(set[int]().union(*seeds))))
        over = f"seeds {every}" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]} seeds"
        means_over = f"Means over {over}, ± half of Student's 95 % interval."
    brackets = " In brackets the published number and the difference." if any(map(published.row_of, results)) else ""
    return f"Measured on {datasets} with {encoders}. {means_over}{brackets}"


def _main_table(experiment: Experiment, results: Sequence[Result], published: Published) -> str:
    """A column for each value of an axis, or for each field, then the gaps; results without shots fill every column of shots."""
    across = [experiment.columns] if isinstance(experiment.columns, str) else []
    axes = tuple(axis for axis in _LINE if axis not in across)
    values: list[tuple[Any, ...]] = [(value,) for axis in across for value in _values(axis, results)] or [()]
    every = grouped(results, (*axes, *across))
    found = {name: means(results, (*axes, *across), name) for name in (*experiment.fields, "tuning_gap")}
    with_gap = [value for value in values if any(key[len(axes) :] == value for key in found["tuning_gap"])]
    lines: Lines = {}
    for line in dict.fromkeys(key_of(result, axes) for result in results):
        keys = [(*line, *value) if (*line, *value) in every else (*line, 0) for value in values]
        lines[line] = [
            *(
                _compared(found[name].get(k), every.get(k, []), name, published)
                for k in keys
                for name in experiment.fields
            ),
            *(_gap(found["tuning_gap"].get((*line, *value))) for value in with_gap),
        ]
    header = [heading(axis, value) for axis in across for (value,) in values]
    gaps = [
        ", ".join(["tuning gap", *(heading(axis, *value) for axis in across if len(values) > 1)]) for value in with_gap
    ]
    names = [axis for axis in axes if axis == experiment.rows or varies(axis, results)]
    if "protocol" not in names and any(PROTOCOLS[result["protocol"]].upper_bound for result in results):
        names.append("protocol")  # an upper bound is always marked
    return _table(names, axes, [*(header or [FIELDS[name].title for name in experiment.fields]), *gaps], lines)


def _literature(rows: Sequence[Result], experiment: Experiment) -> str:
    """Published rows of other methods, below the table."""
    if not rows:
        return ""
    fields = {FIELDS[name].published or name: FIELDS[name] for name in experiment.fields}
    cells = [
        [row["encoder"], format_value("method", row["method"])]
        + [field.theirs(row[key]) if key in row else "–" for key, field in fields.items()]
        for row in rows
    ]
    table = markdown_table(["network", "method", *(field.title for field in fields.values())], cells)
    return f"From the literature, as {experiment.name} quotes it:\n\n{table}"


def _comparisons(experiment: Experiment, results: Sequence[Result], published: Published) -> str:
    """Each method against Tip-Adapter on the draws that both saw, by the protocol that comes first for each."""
    main = [result for result in results if not result.get("secondary")]
    columns = tuple(axis for axis in _COMPARED if axis == experiment.columns)
    axes = tuple(axis for axis in _COMPARED if axis not in columns)
    cells = _differences(main, (*axes, *columns), published)
    if not cells:
        return ""
    values: list[tuple[Any, ...]] = [(value,) for axis in columns for value in _values(axis, main)] or [()]
    lines = {
        line: [cells.get((*line, *value), "–") for value in values]
        for line in dict.fromkeys(key[: 1 + len(axes)] for key in cells)
    }
    header = [heading(axis, value) for axis in columns for (value,) in values] or ["points"]
    names = ["difference", *(axis for axis in axes if varies(axis, main))]
    words = "Mean difference in points on the same draws, each method by the protocol of the first of its lines above."
    table = _table(names, ("difference", *axes), header, lines)
    return f"## Methods compared, draw by draw\n\n{words}\n\n{table}"


# ---- cells ----------------------------------------------------------------------------------------------------------


def _compared(mean: Mean | None, results: Sequence[Result], name: str, published: Published) -> str:
    """A cell: ours, and in brackets theirs and the difference."""
    if not results:
        return "–"
    field = FIELDS[name]
    ours = field.mean(mean) if mean else _words(results, name)
    row = published.row_of(results[0]) or {}
    theirs = row.get(field.published or name)
    if theirs is None:
        return ours
    if not published.comparable(row, results[0]):
        return f"{ours} ({field.theirs(theirs)}; not comparable)"
    if mean is None or field.of_a_machine or not isinstance(theirs, (int, float)):
        return f"{ours} ({field.theirs(theirs)})"
    return f"{ours} ({field.theirs(theirs)}, {field.difference(mean.mean, theirs)})"


def _differences(results: Sequence[Result], axes: Sequence[str], published: Published) -> dict[tuple[Any, ...], str]:
    """What is compared, and where on the axes → a cell, in brackets the paper's where both of its numbers can be compared."""
    cells, gain = {}, FIELDS["gain"]
    for method in dict.fromkeys(result["method"] for result in results if result["method"] != "tip-adapter"):
        for key, mean in paired(results, method, "tip-adapter", axes).items():
            names, theirs = [], []
            for name in (method, "tip-adapter"):
                result = _first(results, {**dict(zip(axes, key, strict=True)), "method": name})
                mark = " (upper bound)" if PROTOCOLS[result["protocol"]].upper_bound else ""
                names.append(f"{format_value('method', name)}{mark}")
                row = published.row_of(result)
                if row and "accuracy" in row and published.comparable(row, result):
                    theirs.append(row["accuracy"])
            brackets = f" ({gain.theirs(theirs[0] - theirs[1])})" if len(theirs) == 2 else ""
            cells[(" − ".join(names), *key)] = f"{gain.mean(mean)}{brackets}"
    return cells


def _first(results: Iterable[Result], axes: Mapping[str, Any]) -> Result:
    """The first result on these axes; what has no shots is on those of any."""
    without = {**axes, "shots": 0}
    return next(r for r in results if all(r.get(axis) in (axes[axis], without[axis]) for axis in axes))


def _gap(mean: Mean | None) -> str:
    return FIELDS["tuning_gap"].mean(mean) if mean else "–"


def _words(results: Sequence[Result], name: str) -> str:
    """What is no number: each word once, with its count where there are several."""
    counts = Counter(str(result[name]) for result in results if result.get(name) is not None)
    return ", ".join(f"{word} × {n}" if len(counts) > 1 else word for word, n in counts.items()) or "–"


def _values(axis: str, results: Sequence[Result]) -> list[Any]:
    """The values of an axis: shots by size, names as they come; 0 shots only where there are no others."""
    seen = list(dict.fromkeys(result[axis] for result in results))
    return sorted(value for value in seen if value) or seen if axis == "shots" else seen


def _table(names: Sequence[str], axes: Sequence[str], header: Sequence[str], lines: Lines) -> str:
    """Lines with the axes that are named in front of their cells."""
    rows = [[*(format_value(axis, line[axes.index(axis)]) for axis in names), *cells] for line, cells in lines.items()]
    return markdown_table([*names, *header], rows)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells as Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
