"""Renderer: an experiment's results as a picture like the paper's: curves over shots, bars, or points of a t-SNE."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any

from tip_adapter.errors import MissingExtra
from tip_adapter.paper.statistics import means
from tip_adapter.paper.tables import TITLES

try:
    from matplotlib.figure import Figure
except ImportError as error:
    raise MissingExtra.of("matplotlib, which draws the figures,", "paper") from error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from tip_adapter.paper.experiments import Experiment

#: One colour and mark a method, the same in every figure; told apart without colour, too.
_STYLES = {
    "zero-shot": ("#6b7280", "*"),
    "linear-probe": ("#b45309", "s"),
    "coop": ("#7c3aed", "^"),
    "clip-adapter": ("#15803d", "D"),
    "tip-adapter": ("#2563eb", "o"),
    "tip-adapter-f": ("#dc2626", "P"),
}
_OTHERS = ("#0f766e", "X")
#: How it was chosen, as a line; what is only beside is thin.
_LINES = {"oracle": "--", "leave-one-out": "-.", "scale-free": "-.", "few-validation": (0, (5, 1)), "fixed": "-"}
_COLUMNS = 4


def render_figure(experiment: Experiment, results: Sequence[dict[str, Any]]) -> bytes:
    """The picture of an experiment, as PNG.

    Parameters
    ----------
    experiment : Experiment
    results : its results, of all seeds; at least one

    Raises
    ------
    MissingExtra
        On import, where matplotlib is not installed.
    """
    figure = _PICTURES[experiment.picture](experiment, results)
    figure.suptitle(experiment.title, fontsize=12)
    content = io.BytesIO()
    # Without its version and date: the same results give the same bytes.
    figure.savefig(content, format="png", dpi=150, metadata={"Software": None})
    return content.getvalue()


def _curves(experiment: Experiment, results: Sequence[dict[str, Any]]) -> Figure:
    """Accuracy over shots: a panel a data set and encoder, a line a method, variant and protocol."""
    panels = list(dict.fromkeys((result["dataset"], result["encoder"]) for result in results))
    figure, axes = _panels(len(panels))
    for panel, axis in zip(panels, axes, strict=True):
        own = [result for result in results if (result["dataset"], result["encoder"]) == panel]
        _draw_curves(axis, own)
        axis.set_title(" · ".join(panel), fontsize=9)
        axis.set_xlabel("shots")
        axis.set_ylabel("accuracy, %")
    handles = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3, fontsize=7, frameon=False)
    return figure


def _draw_curves(axis: Axes, results: Sequence[dict[str, Any]]) -> None:
    lines = ("method", "variant", "protocol")
    found = means(results, (*lines, "shots"), "accuracy")
    shots = sorted({result["shots"] for result in results} - {0}) or [0]
    for line in dict.fromkeys(tuple(result[axis] for axis in lines) for result in results):
        points = {n: found[(*line, n)] for n in [0, *shots] if (*line, n) in found}
        colour, mark = _STYLES.get(line[0], _OTHERS)
        if list(points) == [0]:  # zero-shot sees no photos
            axis.axhline(100 * points[0].mean, color=colour, linestyle=":", label=TITLES.get(line[0], line[0]))
            continue
        axis.errorbar(
            list(points),
            [100 * mean.mean for mean in points.values()],
            yerr=[100 * (mean.half_width or 0) for mean in points.values()],
            color=colour,
            marker=mark,
            linestyle=_LINES.get(line[2], "-"),
            markersize=4,
            capsize=2,
            label=_label(*line),
        )
    axis.set_xscale("log", base=2)
    axis.set_xticks(shots, [str(n) for n in shots])
    axis.minorticks_off()
    axis.grid(alpha=0.25)


def _bars(experiment: Experiment, results: Sequence[dict[str, Any]]) -> Figure:
    """The first field of the table as bars, one a line of it."""
    value = experiment.columns[0] if isinstance(experiment.columns, tuple) else "accuracy"
    scale = 100 if value in ("accuracy", "gain") else 1
    names = ("dataset", "target", "encoder", "method", "variant", "shots", "protocol")
    shown = [name for name in names if len({result.get(name) for result in results}) > 1] or ["method"]
    found = means([result for result in results if result.get(value) is not None], shown, value)
    figure = Figure(figsize=(8, 1.5 + 0.28 * max(len(found), 3)), layout="constrained")
    axis = figure.subplots()
    labels = [" · ".join(TITLES.get(str(part), str(part)) for part in key if part not in ("", None)) for key in found]
    axis.barh(
        labels,
        [scale * mean.mean for mean in found.values()],
        xerr=[scale * (mean.half_width or 0) for mean in found.values()],
        color="#2563eb",
        height=0.7,
    )
    axis.invert_yaxis()
    axis.set_xlabel(f"{value.replace('_', ' ')}{', %' if scale == 100 else ''}")
    axis.grid(axis="x", alpha=0.25)
    axis.tick_params(labelsize=8)
    return figure


def _scatter(experiment: Experiment, results: Sequence[dict[str, Any]]) -> Figure:
    """Keys in the plane, a panel a variant, a colour a class."""
    placed = [result for result in results if result.get("points")]
    figure, axes = _panels(max(len(placed), 1))
    for result, axis in zip(placed, axes, strict=False):
        x, y, classes = zip(*result["points"], strict=True)
        axis.scatter(x, y, c=classes, cmap="tab10", s=10)
        axis.set_title(f"{result['variant']}: silhouette {result['silhouette']:.3f}", fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
    return figure


_PICTURES = {"curves": _curves, "bars": _bars, "scatter": _scatter}


def _panels(n: int) -> tuple[Figure, list[Axes]]:
    columns = min(n, _COLUMNS)
    rows = math.ceil(n / columns)
    figure = Figure(figsize=(1 + 3.6 * columns, 1.4 + 3.0 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for empty in axes[n:]:
        empty.remove()
    return figure, axes[:n]


def _label(method: str, variant: str, protocol: str) -> str:
    parts = [TITLES.get(method, method), variant, "" if protocol == "fixed" else protocol]
    marked = ", ".join(part for part in parts if part)
    return f"{marked} (upper bound)" if protocol == "oracle" else marked
