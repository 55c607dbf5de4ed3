"""Renderer: an experiment's results as a page of Markdown, each with the published number and the difference."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from tip_adapter.paper.columns import FIELDS, format_value, heading, varies
from tip_adapter.paper.protocols import PROTOCOLS
from tip_adapter.paper.results import Mean, means, paired

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
    oracles = {_key(r, _DRAW): r["accuracy"] for r in results if PROTOCOLS[r["protocol"]].upper_bound}
    together = []
    for result in results:
        draw = _key(result, _DRAW)
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
    parts = [
        f"# {experiment.name}: {experiment.title}",
        _heading(results, published),
        _main_table(experiment, results, published),
        _literature(published.literature, experiment),
        _comparisons(experiment, results, published),
        _notes([*experiment.notes, *_marks(results)]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


# ---- parts of the page -----------------------------------------------------------------------------------------------


def _heading(results: Sequence[Result], published: Published) -> str:
    """What was measured on, and how to read a cell."""
    parts = [
        f"Measured on {_listed('dataset', results)} with {_listed('encoder', results)}.",
        _over_seeds([result for result in results if result["shots"]]),
        "In brackets the published number and the difference." if any(map(published.row_of, results)) else "",
    ]
    return " ".join(part for part in parts if part)


def _over_seeds(results: Sequence[Result]) -> str:
    """What a cell is the mean of."""
    own: dict[tuple[Any, ...], set[int]] = defaultdict(set)
    for result in results:
        own[tuple(result[axis] for axis in _LINE)].add(result["seed"])
    numbers = sorted({len(seeds) for seeds in own.values()})
    if not numbers or numbers[-1] == 1:
        return "One seed, so no intervals."
    every = ", ".join(map(str, sorted(set[int]().union(*own.values()))))
    over = f"seeds {every}" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]} seeds"
    return f"Means over {over}, ± half of Student's 95 % interval."


def _main_table(experiment: Experiment, results: Sequence[Result], published: Published) -> str:
    axes = tuple(axis for axis in _LINE if axis != experiment.columns)
    if isinstance(experiment.columns, str):
        columns = _by_axis(experiment.columns, axes, results, published)
    else:
        columns = _by_field(experiment.columns, axes, results, published)
    names = [axis for axis in axes if axis == experiment.rows or varies(axis, results)]
    if "protocol" not in names and any(PROTOCOLS[result["protocol"]].upper_bound for result in results):
        names.append("protocol")  # an upper bound is always marked
    return _table(names, axes, *columns)


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
    table = _markdown(["network", "method", *(field.title for field in fields.values())], cells)
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


def _notes(notes: Sequence[str]) -> str:
    return "## Notes\n\n" + "\n".join(f"- {note}" for note in notes) if notes else ""


def _marks(results: Iterable[Result]) -> list[str]:
    """What the words in the table mean, and what was not as it should be."""
    found = list(results)
    used = dict.fromkeys(result["protocol"] for result in found)
    words = [f"`{name}`: {PROTOCOLS[name].words}." for name in used if name in PROTOCOLS]
    return [*words, *dict.fromkeys(note for result in found for note in result.get("notes", ()))]


# ---- columns and cells -----------------------------------------------------------------------------------------------


def _by_axis(
    axis: str, axes: Sequence[str], results: Sequence[Result], published: Published
) -> tuple[list[str], Lines]:
    """Accuracies with a column for each value of an axis, then the gaps; results without shots fill every column of shots."""
    values = _values(axis, results)
    found, gaps = (means(results, (*axes, axis), name) for name in ("accuracy", "tuning_gap"))
    with_gap = [value for value in values if any(key[-1] == value for key in gaps)]
    every = _grouped(results, (*axes, axis))
    lines: Lines = {}
    for line in dict.fromkeys(_key(result, axes) for result in results):
        keys = [(*line, value) if (*line, value) in every else (*line, 0) for value in values]
        accuracies = [_compared(found.get(key), every.get(key, []), "accuracy", published) for key in keys]
        lines[line] = [*accuracies, *(_gap(gaps.get((*line, value))) for value in with_gap)]
    several = len(values) > 1
    headers = [f"tuning gap, {heading(axis, value)}" if several else "tuning gap" for value in with_gap]
    return [*(heading(axis, value) for value in values), *headers], lines


def _by_field(
    fields: Sequence[str], axes: Sequence[str], results: Sequence[Result], published: Published
) -> tuple[list[str], Lines]:
    """One column for each field, and one for the gap."""
    found = {name: means(_numbers(results, name), axes, name) for name in fields}
    gaps = means(results, axes, "tuning_gap")
    lines = {
        line: [_compared(found[name].get(line), own, name, published) for name in fields]
        + ([_gap(gaps.get(line))] if gaps else [])
        for line, own in _grouped(results, axes).items()
    }
    return [*(FIELDS[name].title for name in fields), *(["tuning gap"] if gaps else [])], lines


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
    """What is compared, and where on the axes → a cell."""
    cells = {}
    for method in dict.fromkeys(result["method"] for result in results if result["method"] != "tip-adapter"):
        for key, mean in paired(results, method, "tip-adapter", axes).items():
            where = dict(zip(axes, key, strict=True))
            pair = [_first(results, {**where, "method": name}) for name in (method, "tip-adapter")]
            cells[(" − ".join(map(_side, pair)), *key)] = _difference(mean, pair, published)
    return cells


def _side(result: Result) -> str:
    """A method, marked where the result that enters the comparison is an upper bound."""
    mark = " (upper bound)" if PROTOCOLS[result["protocol"]].upper_bound else ""
    return f"{format_value('method', result['method'])}{mark}"


def _difference(mean: Mean, pair: Sequence[Result], published: Published) -> str:
    """A cell of the comparison: ours, and in brackets the paper's where both of its numbers can be compared."""
    field = FIELDS["gain"]
    rows = [(published.row_of(result), result) for result in pair]
    theirs = [
        row["accuracy"] for row, result in rows if row and "accuracy" in row and published.comparable(row, result)
    ]
    return f"{field.mean(mean)} ({field.theirs(theirs[0] - theirs[1])})" if len(theirs) == 2 else field.mean(mean)


def _first(results: Iterable[Result], axes: Mapping[str, Any]) -> Result:
    """The first result on these axes; what has no shots is on those of any."""
    without = {**axes, "shots": 0}
    return next(r for r in results if all(r.get(axis) in (axes[axis], without[axis]) for axis in axes))


def _gap(mean: Mean | None) -> str:
    return FIELDS["tuning_gap"].mean(mean) if mean else "–"


def _words(results: Sequence[Result], name: str) -> str:
    """What is no number: each word once, with its count where there are several."""
    counts = Counter(str(result[name]) for result in results if result.get(name) is not None)
    several = len(counts) > 1
    return ", ".join(f"{word} × {n}" if several else word for word, n in counts.items()) or "–"


def _numbers(results: Iterable[Result], name: str) -> list[Result]:
    return [result for result in results if isinstance(result.get(name), (int, float))]


def _values(axis: str, results: Sequence[Result]) -> list[Any]:
    """The values of an axis: shots by size, names as they come; 0 shots only where there are no others."""
    seen = list(dict.fromkeys(result[axis] for result in results))
    return sorted(value for value in seen if value) or seen if axis == "shots" else seen


def _listed(axis: str, results: Iterable[Result]) -> str:
    return ", ".join(dict.fromkeys(format_value(axis, result[axis]) for result in results))


def _grouped(results: Iterable[Result], axes: Sequence[str]) -> dict[tuple[Any, ...], list[Result]]:
    groups: dict[tuple[Any, ...], list[Result]] = {}
    for result in results:
        groups.setdefault(_key(result, axes), []).append(result)
    return groups


def _key(result: Result, axes: Sequence[str]) -> tuple[Any, ...]:
    return tuple(result.get(axis) for axis in axes)


def _table(names: Sequence[str], axes: Sequence[str], header: Sequence[str], lines: Lines) -> str:
    """Lines with the axes that are named in front of their cells."""
    rows = [[*(format_value(axis, line[axes.index(axis)]) for axis in names), *cells] for line, cells in lines.items()]
    return _markdown([*names, *header], rows)


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
