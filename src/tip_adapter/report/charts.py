"""The charts of a report as SVG: the confusion matrix and the reliability curve."""

from __future__ import annotations

from collections import Counter
from itertools import accumulate
from typing import TYPE_CHECKING
from unicodedata import east_asian_width

from markupsafe import Markup, escape

from tip_adapter.text import counted, percent, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tip_adapter.metrics import Accuracy, Bin, Calibration

#: The matrix shows as many classes: those with most mistakes where there are more.
MOST_CLASSES = 120
#: The width in letters' heights to which a name is cut: next to the matrix, and in the tooltip of a cell.
_LONGEST_NAME, _LONGEST_IN_TOOLTIP = 15.0, 50.0
_CELLS, _LARGEST_CELL = 850.0, 44.0  # widths of all cells and of one
#: From this width on a cell holds its number of photos; from this share on it is dark enough for light figures.
_COUNTED_CELL, _STRONG = 24.0, 0.6
#: A wide matrix is not drawn narrower, but scrolled.
_NARROWEST = 704.0
_LEFT, _TOP, _SIDE = 44, 12, 300  # of the reliability curve's square
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


def tag(name: str, /, *content: object, **attributes: object) -> Markup:
    """An SVG element.

    Parameters
    ----------
    name : of the element
    content : Markup as it is; anything else as escaped text, its control and direction characters visible; None is nothing
    attributes : by name; _ is written as -, and a _ at the end is dropped
    """
    listed = "".join(f' {key.rstrip("_").replace("_", "-")}="{_escaped(value)}"' for key, value in attributes.items())
    inner = "".join(_escaped(part) for part in content if part is not None)
    return Markup(f"<{name}{listed}>{inner}</{name}>" if inner else f"<{name}{listed}/>")


def _escaped(value: object) -> Markup:
    return value if isinstance(value, Markup) else escape(printable(str(value)))


# ---- the confusion matrix --------------------------------------------------------------------------------------------


def matrix(accuracy: Accuracy) -> Markup:
    """What each class (a row) is predicted as (a column), as shares of the class; empty cells are left out."""
    labels = matrix_classes(accuracy)
    names = [_shortened(label, _LONGEST_NAME) for label in labels]
    cell = min(_LARGEST_CELL, _CELLS / len(labels))
    letter = min(13.0, cell * 0.92)
    gutter = 12 + letter * max(map(_width, names))
    size = gutter + cell * len(labels)
    position = {label: number for number, label in enumerate(labels)}
    correct = [(label, label, round(share * n)) for label, (share, n) in accuracy.per_class.items()]
    cells = [
        _cell(position[called] * cell, position[label] * cell, cell, label, called, n, accuracy.per_class[label][1])
        for label, called, n in [*correct, *accuracy.confusions]
        if n and label in position and called in position
    ]
    ground = tag("rect", class_="ground", width=f"{cell * len(labels):.1f}", height=f"{cell * len(labels):.1f}")
    around = [_names(name, (number + 0.5) * cell, letter) for number, name in enumerate(names)]
    return tag(
        "svg",
        tag("g", ground, *cells, *around, transform=f"translate({gutter:.1f} {gutter:.1f})"),
        viewBox=f"0 0 {size:.1f} {size:.1f}",
        style=f"width:{size:.0f}px;min-width:{min(0.8 * size, _NARROWEST):.0f}px",
        class_="matrix",
        role="img",
        aria_label=f"Confusion matrix of {len(labels)} classes; the strongest confusions are listed in the table",
    )


def _width(text: str) -> float:
    """About how wide a text is, in letters' heights."""
    return sum(1.0 if east_asian_width(c) in "WF" or c in "MWmw@%" else 0.62 for c in text)


def _shortened(text: str, longest: float) -> str:
    if _width(text) <= longest:
        return text
    widths = accumulate(map(_width, text))
    return f"{text[: sum(width <= longest - _width('…') for width in widths)]}…"


def matrix_classes(accuracy: Accuracy) -> list[str]:
    """Sorted labels of the matrix: all of them, or those with most mistakes."""
    met = set(accuracy.per_class) | {called for _, called, _ in accuracy.confusions}
    mistakes: Counter[str] = Counter()
    for label, called, n in accuracy.confusions:
        mistakes.update({label: n, called: n})
    worst = sorted(met, key=lambda label: (-mistakes[label], label))
    return sorted(worst[:MOST_CLASSES])


def _cell(x: float, y: float, size: float, label: str, called: str, n: int, n_class: int) -> Markup:
    """`n` of the `n_class` photos of a class are predicted as another class, or as itself."""
    share, right, name = n / n_class, label == called, _shortened(label, _LONGEST_IN_TOOLTIP)
    if right:
        what = f"{name}: {n} of {n_class} correct"
    else:
        what = f"{name} predicted as {_shortened(called, _LONGEST_IN_TOOLTIP)}: {n} of {n_class}"
    side, opacity = size * 0.94, f"{0.35 + 0.65 * share:.2f}"
    square = tag("rect", x=f"{x:.2f}", y=f"{y:.2f}", width=f"{side:.2f}", height=f"{side:.2f}", fill_opacity=opacity)
    strength = "count strong" if share >= _STRONG else "count"
    count = tag("text", n, x=f"{x + side / 2:.1f}", y=f"{y + side / 2:.1f}", class_=strength)
    return tag(
        "g", tag("title", what), square, count if size >= _COUNTED_CELL else None, class_="right" if right else "wrong"
    )


def _names(name: str, middle: float, size: float) -> Markup:
    """A class's name at its row and, upright, at its column."""
    letters = {"font_size": f"{size:.1f}", "class_": "name"}
    row = tag("text", name, x=-6, y=f"{middle:.2f}", text_anchor="end", **letters)
    column = tag("text", name, x=6, y=0, transform=f"translate({middle:.2f} 0) rotate(-90)", **letters)
    return row + column


# ---- the reliability curve -------------------------------------------------------------------------------------------


def reliability(before: Calibration, after: Calibration, n: int) -> Markup:
    """Accuracy by confidence, at temperature 1 and at the model's; below, how many photos have which confidence."""
    parts = [
        *(_gridline(tick) for tick in _TICKS),
        *(_count(entry, n) for entry in after.curve),
        tag("line", x1=_x(0), y1=_y(0), x2=_x(1), y2=_y(1), class_="ideal"),
        _curve(before.curve, "before", n),
        _curve(after.curve, "after", n),
        tag("text", "confidence", x=_x(0.5), y=_TOP + _SIDE + 36, class_="axis middle"),
        tag("text", "accuracy", x=12, y=_y(0.5), class_="axis middle", transform=f"rotate(-90 12 {_y(0.5)})"),
    ]
    return tag(
        "svg",
        *parts,
        viewBox=f"0 0 {_LEFT + _SIDE + 14} {_TOP + _SIDE + 44}",
        class_="reliability",
        role="img",
        aria_label=f"Reliability curve: expected calibration error {percent(before.ece)} before, {percent(after.ece)} after",
    )


def _x(value: float) -> str:
    return f"{_LEFT + _SIDE * value:.1f}"


def _y(value: float) -> str:
    return f"{_TOP + _SIDE * (1 - value):.1f}"


def _gridline(tick: float) -> Markup:
    across = tag("line", x1=_x(0), y1=_y(tick), x2=_x(1), y2=_y(tick), class_="grid")
    down = tag("line", x1=_x(tick), y1=_y(0), x2=_x(tick), y2=_y(1), class_="grid")
    below = tag("text", f"{tick:g}", x=_x(tick), y=_TOP + _SIDE + 18, class_="axis middle")
    beside = tag("text", f"{tick:g}", x=_LEFT - 8, y=f"{float(_y(tick)) + 4:.1f}", class_="axis end")
    return across + down + below + beside


def _count(entry: Bin, n: int) -> Markup:
    """How many photos: a bar from the bottom, a quarter of the square for all of them."""
    height = _SIDE * 0.25 * entry.n / n
    x, y = float(_x(entry.confidence)) - 7, float(_y(0)) - height
    return tag("rect", x=f"{x:.1f}", y=f"{y:.1f}", width=14, height=f"{height:.1f}", class_="count")


def _curve(curve: Sequence[Bin], kind: str, n: int) -> Markup:
    """A line of dots: the larger, the more photos, since a bin of one or two says little."""
    points = " ".join(f"{_x(entry.confidence)},{_y(entry.accuracy)}" for entry in curve)
    dots = []
    for entry in curve:
        photos = counted(entry.n, "photo", "photos")
        said = tag("title", f"confidence {entry.confidence:.2f}, accuracy {entry.accuracy:.2f}, {photos}")
        radius = f"{1.5 + 6 * (entry.n / n) ** 0.5:.1f}"
        dots.append(tag("g", said, tag("circle", cx=_x(entry.confidence), cy=_y(entry.accuracy), r=radius)))
    return tag("g", tag("polyline", points=points), *dots, class_=kind)
