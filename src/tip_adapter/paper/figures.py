"""Renderer: an experiment's results as a picture like the paper's: curves over shots, bars, or points of a t-SNE."""

from __future__ import annotations

import io
import math
import textwrap
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from tip_adapter.paper.columns import FIELDS, format_value, heading, varies
from tip_adapter.paper.protocols import PROTOCOLS
from tip_adapter.paper.results import Mean, grouped, key_of, means

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

    from tip_adapter.paper.experiments import Experiment
    from tip_adapter.paper.published import Published

    Result = dict[str, Any]


class _Style(NamedTuple):
    """How a method or a variant is drawn: distinguishable without colour, too."""

    colour: str
    mark: str


#: The same for a method in every picture.
_METHODS = {
    "zero-shot": _Style("#6b7280", "*"),
    "linear-probe": _Style("#b45309", "s"),
    "coop": _Style("#7c3aed", "^"),
    "clip-adapter": _Style("#15803d", "D"),
    "tip-adapter": _Style("#2563eb", "o"),
    "tip-adapter-f": _Style("#dc2626", "P"),
}
#: For variants, and for methods of other packages, in turn.
_OTHERS = (_Style("#0f766e", "v"), _Style("#c026d3", "<"), _Style("#a16207", ">"), _Style("#1d4ed8", "h"))
#: How it was chosen, as a line; upper bounds are dashed, and nothing else is.
_LINES: dict[str, Any] = {
    "fixed": "-",
    "scale-free": ":",
    "leave-one-out": "-.",
    "few-validation": (0, (8, 1, 1, 1, 1, 1)),
    "full-validation": "-",
    "oracle": "--",
}
#: Drawn with empty marks.
_SEES_SUPPORT_ONLY = ("scale-free", "leave-one-out")
#: Upper bounds are hatched bars, and nothing else is.
_HATCH = "///"
_BLACK = "#111827"
#: The paper's numbers; nothing else is such a cross.
_PUBLISHED: dict[str, Any] = {"marker": "X", "markerfacecolor": "white", "markersize": 6, "linestyle": "none"}
_COLUMNS = 4
#: Inches of a picture with one panel.
_ALONE = (8.0, 6.5)
_SMALL = 8
#: Neighbouring curves stand so far apart, as a factor of shots, that their intervals do not cover each other.
_APART = 1.02
#: Letters of a title that fit into an inch.
_LETTERS = 9
#: Width of a column of the legend.
_LEGEND_INCHES = 2.8


def render_figure(experiment: Experiment, results: Sequence[Result], published: Published) -> bytes:
    """The picture of an experiment, as PNG.

    Parameters
    ----------
    experiment : Experiment
    results : its results, of all seeds; at least one
    published : Published; those of its numbers that it wants drawn are crosses
    """
    with rc_context({"text.parse_math": False}), warnings.catch_warnings():  # a name may hold a dollar, or Chinese
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure = _PICTURES[experiment.picture](experiment, results, published)
        title = textwrap.fill(f"{experiment.name}: {experiment.title}", int(_LETTERS * figure.get_figwidth()))
        single = [format_value(axis, results[0][axis]) for axis in ("dataset", "encoder") if not varies(axis, results)]
        figure.suptitle("\n".join([title, *([" · ".join(single)] if single else [])]), fontsize=12)
        content = io.BytesIO()
        # Without its version and date: the same results give the same bytes.
        figure.savefig(content, format="png", dpi=150, metadata={"Software": None})
    return content.getvalue()


# ---- curves ----------------------------------------------------------------------------------------------------------


def _curves(experiment: Experiment, results: Sequence[Result], published: Published) -> Figure:
    """Accuracy over shots: a panel a data set and encoder, a curve a method and protocol.

    Where there are variants a curve is one of them, and each method has a panel.
    """
    hue = "variant" if varies("variant", results) else "method"
    axes = ("dataset", "encoder", "method") if hue == "variant" else ("dataset", "encoder")
    panels = grouped(results, axes)
    styles = _styles(hue, results)
    figure, places = _panels(len(panels))
    for (panel, own), place in zip(panels.items(), places, strict=True):
        _draw_curves(place, hue, own, styles, published)
        names = [format_value(axis, value) for axis, value in zip(axes, panel, strict=True) if varies(axis, results)]
        place.set_title("\n".join(names), fontsize=9)
        place.set_xlabel("shots a class")
        place.set_ylabel(FIELDS["accuracy"].title)
    theirs = _published_values(results, (*axes, hue, "shots"), published)
    _add_legend(figure, [*_curve_handles(hue, styles, results), *_published_handles(theirs)])
    return figure


def _draw_curves(
    place: Axes, hue: str, results: Sequence[Result], styles: dict[Any, _Style], published: Published
) -> None:
    shots = sorted({result["shots"] for result in results} - {0}) or [1]
    curves = grouped([result for result in results if result["shots"]], (hue, "protocol"))
    for number, ((which, protocol), own) in enumerate(curves.items()):
        aside, colour = _APART ** (number - (len(curves) - 1) / 2), styles[which].colour
        found = {n: mean for (n,), mean in sorted(means(own, ("shots",), "accuracy").items())}
        place.errorbar(
            [n * aside for n in found],
            [100 * mean.mean for mean in found.values()],
            yerr=[100 * (mean.half_width or 0) for mean in found.values()],
            color=colour,
            marker=styles[which].mark,
            linestyle=_LINES[protocol],
            markerfacecolor="white" if protocol in _SEES_SUPPORT_ONLY else colour,
            markersize=5,
            linewidth=1.2,
            elinewidth=0.8,
            capsize=2,
        )
    for (which,), mean in means([r for r in results if not r["shots"]], (hue,), "accuracy").items():
        place.axhline(100 * mean.mean, color=styles[which].colour, linestyle="-", linewidth=1)
    place.set_xscale("log", base=2)
    place.set_xlim(shots[0] / 1.25, shots[-1] * 1.25)
    place.set_xticks(shots, [str(n) for n in shots])
    place.minorticks_off()
    place.grid(alpha=0.25)
    for (which, n), (theirs, _) in _published_values(results, (hue, "shots"), published).items():
        for x in [n] if n else shots:
            place.plot(x, theirs, markeredgecolor=styles[which].colour, zorder=3, **_PUBLISHED)
    place.set_ylim(max(place.get_ylim()[0], -2), min(place.get_ylim()[1], 102))  # an interval may go on beyond


def _curve_handles(hue: str, styles: dict[Any, _Style], results: Iterable[Result]) -> list[Artist]:
    """What a colour and mark stand for, and what a line says of the protocol, where there is a choice to be made."""
    marks = [
        Line2D([], [], color=colour, marker=mark if value != "zero-shot" else "", label=format_value(hue, value))
        for value, (colour, mark) in styles.items()
    ]
    lines = [
        Line2D(
            [],
            [],
            color=_BLACK,
            linestyle=_LINES[protocol],
            marker="o",
            markerfacecolor="white" if protocol in _SEES_SUPPORT_ONLY else _BLACK,
            markersize=4,
            label=f"chosen by {format_value('protocol', protocol)}",
        )
        for protocol in dict.fromkeys(result["protocol"] for result in results if result["shots"])
        if protocol != "fixed"
    ]
    return [*marks, *lines]


# ---- bars ------------------------------------------------------------------------------------------------------------


def _bars(experiment: Experiment, results: Sequence[Result], published: Published) -> Figure:
    """The first field of the table as bars, one per line of it, with the number and the chosen alpha."""
    name = experiment.fields[0]
    field = FIELDS[name]
    drawn = [result for result in results if name != "gain" or result["shots"]]  # zero-shot gains nothing over itself
    every = ("dataset", "target", "encoder", "method", "variant", "shots", "protocol")
    found = means(drawn, every, name)
    alphas = means(drawn, every, "alpha") if "alpha" in experiment.fields else {}
    theirs = _published_values(drawn, every, published, name)
    figure = Figure(figsize=(9, 1.9 + 0.26 * max(len(found), 3)), layout="constrained")
    place = figure.subplots()
    styles = _styles("method", results)
    named = [axis for axis in every if axis in ("method", experiment.rows) or varies(axis, drawn)]
    labels = []
    for height, (line, mean) in enumerate(found.items()):
        axes = dict(zip(every, line, strict=True))
        _draw_bar(
            place,
            height,
            mean,
            styles[axes["method"]],
            hatched=PROTOCOLS[axes["protocol"]].upper_bound,
            scale=field.scale,
        )
        if line in theirs:
            place.plot(theirs[line][0], height, markeredgecolor=_BLACK, zorder=3, **_PUBLISHED)
        alpha = f", alpha {FIELDS['alpha'].number(alphas[line].mean)}" if line in alphas else ""
        text = f"{field.mean(mean)}{alpha}"
        place.text(1.01, height, text, transform=place.get_yaxis_transform(), va="center", fontsize=_SMALL)
        labels.append(" · ".join(heading(axis, axes[axis]) for axis in named if axes[axis] not in ("", None, 0)))
    place.set_yticks(range(len(labels)), labels, fontsize=_SMALL)
    place.set_ylim(max(len(found), 1) - 0.4, -0.6)
    place.set_xlabel(field.title)
    if field.scale == 100:
        place.set_xlim(max(place.get_xlim()[0], -100), min(place.get_xlim()[1], 102))
    place.grid(axis="x", alpha=0.25)
    place.set_axisbelow(True)
    handles = _published_handles(theirs)
    if any(PROTOCOLS[result["protocol"]].upper_bound for result in drawn):
        label = "upper bound: chosen on the test photos"
        handles.insert(0, Patch(facecolor="white", edgecolor=_BLACK, hatch=_HATCH, label=label))
    _add_legend(figure, handles)
    return figure


def _draw_bar(place: Axes, height: int, mean: Mean, style: _Style, *, hatched: bool, scale: float) -> None:
    place.barh(
        height,
        scale * mean.mean,
        xerr=None if mean.half_width is None else scale * mean.half_width,
        facecolor="white" if hatched else style.colour,
        edgecolor=style.colour,
        hatch=_HATCH if hatched else None,
        height=0.7,
        error_kw={"elinewidth": 1, "capsize": 2, "ecolor": _BLACK},
    )


# ---- points ----------------------------------------------------------------------------------------------------------


def _scatter(experiment: Experiment, results: Sequence[Result], _: Published) -> Figure:
    """Keys in the plane, a panel a variant, a colour a class."""
    placed = [result for result in results if result.get("points")]
    named = [axis for axis in ("dataset", "encoder", "shots", "seed", "protocol") if varies(axis, placed)]
    figure, places = _panels(max(len(placed), 1))
    for result, place in zip(placed, places, strict=False):
        x, y, classes = zip(*result["points"], strict=True)
        place.scatter(x, y, c=classes, cmap="tab10", vmin=0, vmax=9, s=10)
        lines = [result["variant"], *(f"{axis} {format_value(axis, result[axis])}" for axis in named)]
        if result.get("silhouette") is not None:
            lines.append(f"silhouette {FIELDS['silhouette'].number(result['silhouette'])}")
        place.set_title("\n".join(lines), fontsize=9)
        place.set_xticks([])
        place.set_yticks([])
    figure.supxlabel("t-SNE of the keys; a colour is a class, axes have no unit", fontsize=_SMALL)
    return figure


_PICTURES = {"curves": _curves, "bars": _bars, "scatter": _scatter}


# ---- what they share -------------------------------------------------------------------------------------------------


def _published_values(
    results: Sequence[Result], axes: Sequence[str], published: Published, name: str = "accuracy"
) -> dict[tuple[Any, ...], tuple[float, bool]]:
    """Published numbers that are to be drawn, and whether each can be compared."""
    found = {}
    for result in results:
        row = published.row_of(result)
        if row and isinstance(row.get(name), (int, float)):
            comparable = published.comparable(row, result)
            if comparable or published.drawn == "all":
                found[key_of(result, axes)] = float(row[name]), comparable
    return found


def _styles(hue: str, results: Iterable[Result]) -> dict[Any, _Style]:
    """Value → style, in the order of the results."""
    values = list(dict.fromkeys(result.get(hue, "") for result in results))
    others = [value for value in values if value not in _METHODS]
    return {v: _METHODS[v] if v in _METHODS else _OTHERS[others.index(v) % len(_OTHERS)] for v in values}


def _published_handles(theirs: Mapping[Any, tuple[float, bool]]) -> list[Artist]:
    if not theirs:
        return []
    label = "published" if all(comparable for _, comparable in theirs.values()) else "published, not comparable"
    return [Line2D([], [], markeredgecolor=_BLACK, label=label, **_PUBLISHED)]


def _panels(n: int) -> tuple[Figure, list[Axes]]:
    columns = min(n, _COLUMNS)
    rows = math.ceil(n / columns)
    size = (0.6 + 3.4 * columns, 1.9 + 3.1 * rows) if n > 1 else _ALONE
    figure = Figure(figsize=size, layout="constrained")
    places = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for empty in places[n:]:
        empty.remove()
    return figure, places[:n]


def _add_legend(figure: Figure, handles: list[Artist]) -> None:
    """Below the panels, as wide as the picture lets it."""
    if handles:
        columns = max(1, int(figure.get_figwidth() / _LEGEND_INCHES))
        figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=_SMALL, handlelength=4)
