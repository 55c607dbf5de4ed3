"""Renderer: an experiment's results as a picture like the paper's: curves over shots, bars, or points of a t-SNE."""

from __future__ import annotations

import io
import math
import textwrap
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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


@dataclass(frozen=True)
class _Style:
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
    published : Published; its numbers are drawn next to ours if they are of the same data set
    """
    with rc_context({"text.parse_math": False}), warnings.catch_warnings():  # a name may hold a dollar, or Chinese
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure = _PICTURES[experiment.picture](experiment, results, published)
        title = textwrap.fill(f"{experiment.name}: {experiment.title}", int(_LETTERS * figure.get_figwidth()))
        figure.suptitle("\n".join([title, *_place(results)]), fontsize=12)
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
        _draw_curves(place, hue, own, styles)
        _draw_published_points(place, hue, own, styles, published)
        names = [format_value(axis, value) for axis, value in zip(axes, panel, strict=True) if varies(axis, results)]
        place.set_title("\n".join(names), fontsize=9)
        place.set_xlabel("shots a class")
        place.set_ylabel(FIELDS["accuracy"].title)
    theirs = _published_values(results, (*axes, hue, "shots"), published)
    handles = [*_style_handles(hue, styles), *_line_handles(results), *_published_handles(theirs)]
    _add_legend(figure, handles)
    return figure


def _draw_curves(place: Axes, hue: str, results: Sequence[Result], styles: dict[Any, _Style]) -> None:
    shots = _shots(results)
    curves = grouped([result for result in results if result["shots"]], (hue, "protocol"))
    for number, ((which, protocol), own) in enumerate(curves.items()):
        found = {n: mean for (n,), mean in sorted(means(own, ("shots",), "accuracy").items())}
        _draw_curve(place, found, styles[which], protocol, _APART ** (number - (len(curves) - 1) / 2))
    for (which,), mean in means([r for r in results if not r["shots"]], (hue,), "accuracy").items():
        place.axhline(100 * mean.mean, color=styles[which].colour, linestyle="-", linewidth=1)
    place.set_xscale("log", base=2)
    place.set_xlim(shots[0] / 1.25, shots[-1] * 1.25)
    place.set_xticks(shots, [str(n) for n in shots])
    place.minorticks_off()
    place.grid(alpha=0.25)


def _draw_curve(place: Axes, found: dict[int, Mean], style: _Style, protocol: str, aside: float) -> None:
    place.errorbar(
        [n * aside for n in found],
        [100 * mean.mean for mean in found.values()],
        yerr=[100 * (mean.half_width or 0) for mean in found.values()],
        color=style.colour,
        marker=style.mark,
        linestyle=_LINES.get(protocol, "-"),
        markerfacecolor="white" if _sees_support_only(protocol) else style.colour,
        markersize=5,
        linewidth=1.2,
        elinewidth=0.8,
        capsize=2,
    )


def _draw_published_points(
    place: Axes, hue: str, results: Sequence[Result], styles: dict[Any, _Style], published: Published
) -> None:
    points = {
        (which, n): theirs for (which, n), (theirs, _) in _published_values(results, (hue, "shots"), published).items()
    }
    for (which, n), theirs in points.items():
        for x in [n] if n else _shots(results):
            place.plot(x, theirs, markeredgecolor=styles[which].colour, zorder=3, **_PUBLISHED)
    place.set_ylim(max(place.get_ylim()[0], -2), min(place.get_ylim()[1], 102))  # an interval may go on beyond


def _sees_support_only(protocol: str) -> bool:
    return protocol in ("scale-free", "leave-one-out")


def _shots(results: Iterable[Result]) -> list[int]:
    return sorted({result["shots"] for result in results} - {0}) or [1]


# ---- bars ------------------------------------------------------------------------------------------------------------


def _bars(experiment: Experiment, results: Sequence[Result], published: Published) -> Figure:
    """The first field of the table as bars, one per line of it, with the number and the chosen alpha."""
    name = experiment.fields[0]
    drawn = [result for result in results if name != "gain" or result["shots"]]  # zero-shot gains nothing over itself
    every = ("dataset", "target", "encoder", "method", "variant", "shots", "protocol")
    found = means(drawn, every, name)
    theirs = _published_values(drawn, every, published, name)
    figure = Figure(figsize=(9, 1.9 + 0.26 * max(len(found), 3)), layout="constrained")
    place = figure.subplots()
    styles = _styles("method", results)
    for height, (line, mean) in enumerate(found.items()):
        _draw_bar(place, height, mean, styles[line[3]], upper_bound=_is_upper_bound(line[-1]), name=name)
        if line in theirs:
            place.plot(theirs[line][0], height, markeredgecolor=_BLACK, zorder=3, **_PUBLISHED)
    _write_numbers(place, [_number_text(experiment, drawn, every, line, name, mean) for line, mean in found.items()])
    named = [axis for axis in every if axis in ("method", experiment.rows) or varies(axis, drawn)]
    labels = [_line_label({axis: line[every.index(axis)] for axis in named}) for line in found]
    place.set_yticks(range(len(labels)), labels, fontsize=_SMALL)
    place.set_ylim(max(len(found), 1) - 0.4, -0.6)
    place.set_xlabel(FIELDS[name].title)
    if FIELDS[name].scale == 100:
        place.set_xlim(max(place.get_xlim()[0], -100), min(place.get_xlim()[1], 102))
    place.grid(axis="x", alpha=0.25)
    place.set_axisbelow(True)
    handles = [*_hatch_handles(drawn), *_published_handles(theirs)]
    _add_legend(figure, handles)
    return figure


def _draw_bar(place: Axes, height: int, mean: Mean, style: _Style, *, upper_bound: bool, name: str) -> None:
    scale = FIELDS[name].scale
    place.barh(
        height,
        scale * mean.mean,
        xerr=None if mean.half_width is None else scale * mean.half_width,
        facecolor="white" if upper_bound else style.colour,
        edgecolor=style.colour,
        hatch=_HATCH if upper_bound else None,
        height=0.7,
        error_kw={"elinewidth": 1, "capsize": 2, "ecolor": _BLACK},
    )


def _number_text(
    experiment: Experiment, results: Sequence[Result], axes: Sequence[str], line: Any, name: str, mean: Mean
) -> str:
    """The number of a bar, and the alpha where the table has it."""
    text = FIELDS[name].mean(mean)
    alpha = means(results, axes, "alpha").get(line) if "alpha" in experiment.fields else None
    return f"{text}, alpha {FIELDS['alpha'].number(alpha.mean)}" if alpha else text


def _write_numbers(place: Axes, texts: Sequence[str]) -> None:
    for height, text in enumerate(texts):
        place.text(1.01, height, text, transform=place.get_yaxis_transform(), va="center", fontsize=_SMALL)


def _line_label(line: dict[str, Any]) -> str:
    return " · ".join(heading(axis, value) for axis, value in line.items() if value not in ("", None, 0))


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


def _place(results: Sequence[Result]) -> list[str]:
    """A line with the one data set and the one encoder that all was measured on, for what is one."""
    single = [format_value(axis, results[0][axis]) for axis in ("dataset", "encoder") if not varies(axis, results)]
    return [" · ".join(single)] if single else []


def _published_values(
    results: Sequence[Result], axes: Sequence[str], published: Published, name: str = "accuracy"
) -> dict[tuple[Any, ...], tuple[float, bool]]:
    """Published numbers of the same data set, and whether each can be compared."""
    found = {}
    for result in results:
        row = published.row_of(result)
        if row and row["dataset"] == result["dataset"] and isinstance(row.get(name), (int, float)):
            found[key_of(result, axes)] = float(row[name]), published.comparable(row, result)
    return found


def _styles(hue: str, results: Iterable[Result]) -> dict[Any, _Style]:
    """Value → style, in the order of the results."""
    values = list(dict.fromkeys(result.get(hue, "") for result in results))
    others = [value for value in values if value not in _METHODS]
    return {v: _METHODS[v] if v in _METHODS else _OTHERS[others.index(v) % len(_OTHERS)] for v in values}


def _style_handles(hue: str, styles: dict[Any, _Style]) -> list[Artist]:
    return [
        Line2D(
            [],
            [],
            color=style.colour,
            marker=style.mark if value != "zero-shot" else "",
            label=format_value(hue, value),
        )
        for value, style in styles.items()
    ]


def _line_handles(results: Iterable[Result]) -> list[Artist]:
    """What a line says of the protocol, where there is a choice to be made."""
    return [
        Line2D(
            [],
            [],
            color=_BLACK,
            linestyle=_LINES.get(protocol, "-"),
            marker="o",
            markerfacecolor="white" if _sees_support_only(protocol) else _BLACK,
            markersize=4,
            label=f"chosen by {format_value('protocol', protocol)}",
        )
        for protocol in dict.fromkeys(result["protocol"] for result in results if result["shots"])
        if protocol != "fixed"
    ]


def _hatch_handles(results: Iterable[Result]) -> list[Artist]:
    if not any(_is_upper_bound(result["protocol"]) for result in results):
        return []
    return [Patch(facecolor="white", edgecolor=_BLACK, hatch=_HATCH, label="upper bound: chosen on the test photos")]


def _published_handles(beside: Mapping[Any, tuple[float, bool]]) -> list[Artist]:
    if not beside:
        return []
    comparable = all(both for _, both in beside.values())
    label = "published" if comparable else "published, not comparable"
    return [Line2D([], [], markeredgecolor=_BLACK, label=label, **_PUBLISHED)]


def _is_upper_bound(protocol: str) -> bool:
    return protocol in PROTOCOLS and PROTOCOLS[protocol].upper_bound


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
