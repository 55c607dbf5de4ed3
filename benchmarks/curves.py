"""What the pictures of results share: accuracy over shots as an SVG, one curve for each method."""

from __future__ import annotations

from itertools import pairwise
from math import log2
from typing import TYPE_CHECKING

from benchmarks.tables import shots_words
from tip_adapter.report.charts import tag

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Read on white and on black pages.
STYLE = (
    "text{font:14px system-ui,sans-serif;fill:#7d858e}.title{font-size:17px;font-weight:600}.middle{text-anchor:middle}"
    ".end{text-anchor:end}.grid{stroke:#7d858e;stroke-opacity:.2}polyline{fill:none;stroke:currentColor;stroke-width:2}"
    "circle{fill:currentColor}.label{fill:currentColor}.default{color:#1f8f80}.default polyline{stroke-width:3.5}"
    ".default text{font-weight:600}.tip{color:#c8602f}.peer{color:#5b7fc7}.names{color:#8a8f98}"
    ".names polyline{stroke-dasharray:3 5}.tuned{color:#c8602f}.tuned polyline{stroke-dasharray:8 4}.prompts{color:#8e5bb5}"
    ".adapter{color:#b0882a}.gaussian{color:#c05a8e}"
)
_LEFT, _RIGHT, _TOP, _BOTTOM, _WIDTH, _HEIGHT = 56, 600, 64, 396, 880, 452
_LABEL_HEIGHT = 20


def curves(title: str, lines: Sequence[tuple[str, str, Mapping[int, float]]]) -> str:
    """An SVG of accuracy over shots.

    Parameters
    ----------
    title : what is shown
    lines : (class of the style, label, shots → accuracy in percent) of each curve, at least one value each
    """
    shots = sorted({k for *_, values in lines for k in values})
    every = [value for *_, values in lines for value in values.values()]
    low, high = 10 * int(min(every) // 10), 10 * int(-(-max(every) // 10))

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
    drawn = []
    last = [values[max(values)] for *_, values in lines]
    for (kind, text, values), value, height in zip(lines, last, label_heights([y(v) for v in last]), strict=True):
        label = text if max(values) == shots[-1] else f"{text}, {shots_words(max(values))}"
        points = [(f"{x(k):.1f}", f"{y(values[k]):.1f}") for k in sorted(values)]
        drawn.append(
            tag(
                "g",
                tag("polyline", points=" ".join(map(",".join, points))),
                *(tag("circle", cx=cx, cy=cy, r=4) for cx, cy in points),
                tag("text", f"{value:.1f} %  {label}", x=_RIGHT + 14, y=f"{height + 5:.1f}", class_="label"),
                class_=kind,
            )
        )
    heading = tag("text", title, x=_LEFT, y=28, class_="title")
    below = tag("text", "photos to learn from, for each class", x=(_LEFT + _RIGHT) / 2, y=_BOTTOM + 46, class_="middle")
    size = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="Accuracy over the number of photos for each class"'
    content = "".join([heading, *grid, *axis, below, *drawn])
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{STYLE}</style>{content}</svg>\n'


def label_heights(wanted: Sequence[float]) -> list[float]:
    """Heights of labels near the wanted ones, so far apart that none covers another."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    heights = list(wanted)
    for above, below in pairwise(order):
        heights[below] = max(heights[below], heights[above] + _LABEL_HEIGHT)
    return heights
