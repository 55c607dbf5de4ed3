"""The parts of a page, each a section with its heading; what both pages show stands here once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from tip_adapter.report import charts
from tip_adapter.report.charts import bar
from tip_adapter.report.markup import Markup, joined, named, tag
from tip_adapter.report.thumbnails import LARGE, SMALL, TINY
from tip_adapter.text import counted, percent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tip_adapter.metrics import Accuracy, Calibration, MetricAccumulator, Mistake
    from tip_adapter.model.head import Head
    from tip_adapter.report.thumbnails import Thumbnails

#: Rows of a table before the rest is folded away.
_SHOWN = 15
#: Wrong labels that are shown with their photo.
_MOST_WRONG = 24
#: Of all classes together, and of one class.
_MOST_PHOTOS, _PHOTOS_PER_CLASS = 1000, 8
#: A single figure may say otherwise than the other.
_RISEN = (
    "The temperature is fitted for likelihood, on photos that were left out. On these photos the calibration error rises "
    "with it: scores have become more careful than they need be, or are few enough for chance."
)

#: How the pair was chosen, in words.
RULES = {
    "leave-one-out": "leave-one-out: by leaving each photo out in turn",
    "scale-free": "scale-free: from the photos' own spread",
    "validation": "on validation photos",
    "fixed": "given",
}


def section(anchor: str, title: str, *content: object) -> Markup:
    """A part of the page that the contents lead to."""
    heading = tag("h2", title, id=f"{anchor}-title")
    return tag("section", heading, *content, id=anchor, aria_labelledby=f"{anchor}-title")


def table(heads: Sequence[str], rows: Sequence[Markup], caption: str, numbers: Sequence[int] = ()) -> Markup:
    """A table, some of its columns numbers; its caption is for those who do not see what it stands below."""
    kinds = ["number" if column in numbers else None for column in range(len(heads))]
    columns = [tag("th", text, scope="col", class_=kind) for text, kind in zip(heads, kinds, strict=True)]
    head = tag("thead", tag("tr", *columns))
    content = tag("table", tag("caption", caption, class_="unseen"), head, tag("tbody", *rows))
    return tag("div", content, class_="wide", tabindex=0, role="region", aria_label=caption)


# ---- accuracy --------------------------------------------------------------------------------------------------------


def headline(accuracy: Accuracy, zero_shot: Accuracy, method: str, photos: str) -> Markup:
    """The accuracy in large, its interval, and the class names alone beside it."""
    low, high = (percent(end) for end in accuracy.interval)
    figure = tag("p", f"{100 * accuracy.accuracy:.1f}", tag("span", "%"), class_="figure")
    sentence = tag("p", f"of {photos} were named right. With 95 % confidence it is {low} to {high}.", class_="lead")
    return tag("div", tag("div", figure, sentence), _scales(accuracy, zero_shot, method), class_="headline")


def _scales(accuracy: Accuracy, zero_shot: Accuracy, method: str) -> Markup:
    rows = [_scale(method, accuracy, "model")]
    if method != "zero-shot":
        rows.append(_scale("the class names alone", zero_shot, "names"))
    ends = tag("div", tag("span", "0"), tag("span", "50"), tag("span", "100 %"), class_="ends", aria_hidden="true")
    return tag("div", tag("dl", *rows, class_="scales"), ends)


def _scale(name: str, accuracy: Accuracy, kind: str) -> Markup:
    figure = tag("b", percent(accuracy.accuracy))
    return tag("div", tag("dt", name), tag("dd", charts.interval(accuracy, kind), figure))


def images_in_words(n: int) -> str:
    """A number of photos, thousands apart."""
    return f"{n:,} {'photo' if n == 1 else 'photos'}"


def figures(entries: Sequence[tuple[str, str]]) -> Markup:
    """Key figures in a row: what it is, and the figure."""
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in entries), class_="figures")


# ---- confusions and classes ------------------------------------------------------------------------------------------


def confusions(accuracy: Accuracy) -> Markup:
    """The matrix, and the strongest confusions as a table."""
    if not accuracy.confusions:
        return section("confusions", "Confusions", tag("p", "No photo was called anything else."))
    shown, met = charts.matrix_classes(accuracy), len(accuracy.per_class)
    part = f" The {len(shown)} classes with most mistakes are shown." if len(shown) < met else ""
    note = tag(
        "p",
        f"A row is a class, a column what it was called. The stronger the colour, the larger the share of the class.{part}",
        class_="note",
    )
    picture = tag(
        "div", charts.matrix(accuracy), class_="wide", tabindex=0, role="region", aria_label="Confusion matrix"
    )
    rows = [_confusion(entry, accuracy.per_class[entry[0]][1]) for entry in accuracy.confusions]
    heads = ("class", "was called", "photos", "share of the class")
    listed = long_table(heads, rows, "confusions", (2,))
    strongest = tag("div", tag("h3", "The strongest"), listed)
    return section("confusions", "Confusions", note, tag("div", picture, strongest, class_="abreast"))


def _confusion(entry: tuple[str, str, int], n_images: int) -> Markup:
    label, called, n = entry
    return tag(
        "tr",
        tag("th", named(label), scope="row"),
        tag("td", named(called)),
        tag("td", f"{n} of {n_images}", class_="number"),
        tag("td", bar(n / n_images, "wrong"), class_="chart"),
    )


def classes(accuracy: Accuracy) -> Markup:
    """A bar a class, the hardest first."""
    strongest: dict[str, tuple[str, int]] = {}
    for label, called, n in accuracy.confusions:
        strongest.setdefault(label, (called, n))
    hardest = sorted(accuracy.per_class.items(), key=lambda item: (item[1][0], item[0]))
    rows = [_class(label, share, n, strongest.get(label)) for label, (share, n) in hardest]
    heads = ("class, hardest first", "right", "", "photos", "most often called instead")
    return section("classes", "Classes", long_table(heads, rows, "classes", (1, 3)))


def _class(label: str, share: float, n: int, instead: tuple[str, int] | None) -> Markup:
    return tag(
        "tr",
        tag("th", named(label), scope="row"),
        tag("td", percent(share), class_="number"),
        tag("td", bar(share), class_="chart"),
        tag("td", n, class_="number"),
        tag("td", named(instead[0]), f" ({instead[1]})") if instead else tag("td", "–"),
    )


def long_table(heads: Sequence[str], rows: Sequence[Markup], what: str, numbers: Sequence[int]) -> Markup:
    """A table whose rows beyond the first few are folded away."""
    first, rest = rows[:_SHOWN], rows[_SHOWN:]
    if not rest:
        return table(heads, first, what, numbers)
    more = f"{len(rest)} more {what}"
    return joined(
        table(heads, first, f"{what}, the first {_SHOWN}", numbers),
        tag("details", tag("summary", more), table(heads, rest, more, numbers)),
    )


# ---- calibration -----------------------------------------------------------------------------------------------------


def calibration(tally: MetricAccumulator, note: str) -> Markup:
    """The reliability curve, and what the temperature did."""
    before, after = tally.calibrations()
    picture = tag("figure", charts.reliability(before, after, len(tally)), _legend(tally.temperature))
    explained = tag(
        "p",
        "A score is to be taken at its word: of photos named with 80 % confidence, 80 % are to be right. Points on the "
        "diagonal do so; below it the scores are too sure. The larger a point, the more photos have that confidence; the "
        "bars count them.",
    )
    notes = [tag("p", text, class_="note") for text in (_RISEN if after.ece > before.ece else None, note) if text]
    text = tag("div", explained, _calibration_table(before, after, tally.temperature), *notes)
    return section("calibration", "Calibration", tag("div", picture, text, class_="beside"))


def _legend(temperature: float) -> Markup:
    entries = [("before", "temperature 1"), ("after", f"temperature {temperature:.3g}")]
    marks = [tag("span", tag("span", class_=f"mark {kind}", aria_hidden="true"), text) for kind, text in entries]
    return tag("figcaption", *marks)


def _calibration_table(before: Calibration, after: Calibration, temperature: float) -> Markup:
    rows = [
        _figures_row("Expected calibration error", percent(before.ece), percent(after.ece)),
        _figures_row("Negative log-likelihood", *map(_likelihood, (before, after))),
    ]
    heads = ("", "temperature 1", f"temperature {temperature:.3g}")
    return table(heads, rows, "Calibration before and after the temperature", (1, 2))


def _figures_row(name: str, before: str, after: str) -> Markup:
    return tag("tr", tag("th", name, scope="row"), *(tag("td", text, class_="number") for text in (before, after)))


def _likelihood(entry: Calibration) -> str:
    return "–" if entry.negative_log_likelihood is None else f"{entry.negative_log_likelihood:.3f}"


# ---- mistakes --------------------------------------------------------------------------------------------------------


def mistakes(head: Head, worst: Sequence[Mistake], photos: Thumbnails, support: Thumbnails) -> Markup:
    """The most confident mistakes, each with its photo and what the answer rests on."""
    if not worst:
        return section("mistakes", "Worst mistakes", tag("p", "There is none: every photo was named right."))
    note = tag(
        "p",
        "Wrong, and surest of it. Beside each photo what spoke for the answer, and what for its own class: the three photos "
        "that weighed most, with their points and their share of all points of that class. Bars of both are on one scale.",
        class_="note",
    )
    cards = [_mistake(head, mistake, photos, support) for mistake in worst]
    return section("mistakes", "Worst mistakes", note, tag("ol", *cards, class_="mistakes"))


def _mistake(head: Head, mistake: Mistake, photos: Thumbnails, support: Thumbnails) -> Markup:
    picture = picture_of(mistake.id, photos, LARGE, f"{mistake.id}: {mistake.label}, called {mistake.called}")
    records = _records(head, mistake)
    largest = max((abs(part) for record in records.values() for part in _points(record)), default=0.0)
    answer = _side(mistake.called, Side("called", "wrong", largest), records, support)
    truth = _side(mistake.label, Side("is", "right", largest), records, support)
    return tag("li", tag("div", picture, tag("h3", named(mistake.id))), answer, truth, class_="mistake")


def _records(head: Head, mistake: Mistake) -> dict[str, dict[str, Any]]:
    """The answer and the photo's class → score and, where the method has them, the parts of it; unknown classes have none."""
    known = [label for label in (mistake.called, mistake.label) if label in head.names]
    if head.estimator.capabilities.explains:
        return dict(zip(known, head.explained_classes(mistake.vector, known), strict=True))
    scores = dict(zip(head.classes.tolist(), head.probabilities(mistake.vector[None])[0].tolist(), strict=True))
    return {label: {"score": scores[label]} for label in known}


def _points(record: dict[str, Any]) -> list[float]:
    """All parts of a score; none where the method has no photos."""
    if "images" not in record:
        return []
    return [record["text"], record["others"], *(photo["part"] for photo in record["images"])]


class Side(NamedTuple):
    """One side of a mistake: what is said of the class, its colour, and the largest part on either side."""

    verdict: str
    kind: str
    largest: float


def _side(label: str, side: Side, records: dict[str, dict[str, Any]], support: Thumbnails) -> Markup:
    """What spoke for a class."""
    record = records.get(label)
    score = tag("span", percent(record["score"]) if record else "unknown to the model", class_="number")
    title = tag("p", tag("span", side.verdict, " ", named(label, "em")), score, class_="verdict")
    return tag("div", title, _evidence(record, side, support) if record else None, class_=f"side {side.kind}")


def _evidence(record: dict[str, Any], side: Side, support: Thumbnails) -> Markup | None:
    """The parts of a score: photos that can be shown side by side, all else a line each."""
    points = _points(record)
    if not points:
        return None
    whole = sum(map(abs, points)) or 1.0
    shown: list[Markup] = []
    lines: list[tuple[Markup, float]] = []
    for photo in record["images"]:
        uri = support.uri(photo["id"], SMALL)
        if uri:
            picture = tag("img", src=uri, alt=photo["id"], title=photo["id"])
            shown.append(tag("li", picture, *_weight(photo["part"], whole, side)))
        else:
            lines.append((named(photo["id"]), photo["part"]))
    lines.append((joined("the name ", named(record["name"], "q")), record["text"]))
    if record["n_others"]:
        lines.append((joined(counted(record["n_others"], "other photo", "other photos")), record["others"]))
    rows = [tag("li", tag("span", what), *_weight(part, whole, side)) for what, part in lines]
    return joined(tag("ul", *shown, class_="looks-like") if shown else None, tag("ul", *rows, class_="parts"))


def _weight(part: float, whole: float, side: Side) -> tuple[Markup, Markup]:
    """A bar, and how many points and which share of all that was said for or against."""
    said = f"{part:+.1f} · {100 * abs(part) / whole:.0f} %".replace("-", "−")
    return bar(abs(part) / (side.largest or 1.0), side.kind if part >= 0 else "against"), tag(
        "span", said, class_="number"
    )


def picture_of(photo: str, photos: Thumbnails, side: int, alt: str) -> Markup:
    """A photo made small, or a blank of its size."""
    uri = photos.uri(photo, side)
    if uri is None:
        return (
            tag("span", class_="blank", role="img", aria_label=alt)
            if alt
            else tag("span", class_="blank", aria_hidden="true")
        )
    return tag("img", src=uri, alt=alt, title=photo)


# ---- a model's own photos --------------------------------------------------------------------------------------------


def gallery(head: Head, photos: Thumbnails) -> Markup:
    """Each class with some of its photos."""
    ids: dict[str, list[str]] = {label: [] for label in head.names}
    for photo, label in zip(head.support.ids.tolist(), head.support.labels.tolist(), strict=True):
        ids[label].append(photo)
    per_class = max(1, min(_PHOTOS_PER_CLASS, _MOST_PHOTOS // len(ids)))
    cards = [
        _card(label, name, ids[label], per_class if number * per_class < _MOST_PHOTOS else 0, photos)
        for number, (label, name) in enumerate(head.names.items())
    ]
    return section("photos", "Classes and their photos", tag("ul", *cards, class_="gallery"))


def _card(label: str, name: str, ids: Sequence[str], n_shown: int, photos: Thumbnails) -> Markup:
    read_as = None if name == label else tag("span", ", read as ", named(name, "q"), class_="note")
    uris = {photo: photos.uri(photo, TINY) for photo in ids[:n_shown]}
    shown = [tag("img", src=uri, alt=photo, title=photo) for photo, uri in uris.items() if uri]
    strip = tag("div", *shown, class_="strip") if shown else None
    count = tag("span", counted(len(ids), "photo", "photos"), class_="note")
    return tag("li", tag("h3", named(label)), tag("p", count, read_as), strip)


def wrong_labels(entries: Sequence[dict[str, Any]], photos: Thumbnails) -> Markup:
    """Photos that would be called something else, the likeliest wrong label first."""
    if not entries:
        return section("labels", "Labels to look at", tag("p", "No label looks wrong."))
    note = tag(
        "p",
        f"Photos that look like another class when photos and names weigh alike, {_how_many(len(entries))}. Look at them: "
        "some are wrong labels, some are hard photos.",
        class_="note",
    )
    rows = [_wrong_label(entry, photos) for entry in entries[:_MOST_WRONG]]
    heads = ("photo", "", "label", "how likely", "looks like")
    return section("labels", "Labels to look at", note, table(heads, rows, "Labels that are likely wrong", (3,)))


def _how_many(n: int) -> str:
    return f"the first {_MOST_WRONG} of {n}" if n > _MOST_WRONG else f"{n} in all"


def _wrong_label(entry: dict[str, Any], photos: Thumbnails) -> Markup:
    return tag(
        "tr",
        tag("td", picture_of(entry["image"], photos, SMALL, ""), class_="thumb"),
        tag("th", named(entry["image"]), scope="row"),
        tag("td", named(entry["label"])),
        tag("td", percent(entry["probability"]), class_="number"),
        tag("td", named(entry["called"])),
    )


# ---- how it was made -------------------------------------------------------------------------------------------------


def about(entries: Sequence[tuple[str, object]]) -> Markup:
    """What the figures rest on: what it is, and what it was; None leaves one out."""
    rows = [tag("div", tag("dt", name), tag("dd", value)) for name, value in entries if value is not None]
    return section("made", "How it was made", tag("dl", *rows, class_="facts"))
