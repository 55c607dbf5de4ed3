"""The two pages: an evaluation, and a model looked at by itself."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from tip_adapter.model.label_issues import likely_wrong
from tip_adapter.report import sections
from tip_adapter.report.markup import Markup, joined, named, tag
from tip_adapter.report.thumbnails import Thumbnails
from tip_adapter.text import counted, percent
from tip_adapter.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tip_adapter.metrics import MetricAccumulator
    from tip_adapter.model.head import Head

#: How a page says that it is one of ours.
GENERATOR = "tip-adapter report"
#: So many mistakes are shown with their photos.
N_MISTAKES = 12
#: No script, no other file, no network: whatever a name may hold.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_UNKNOWN_CLASSES = "A photo of a class that the model does not have counts as wrong; it has no likelihood."
_SAME_ROWS = (
    "Each photo is left out in turn; where a temperature was fitted on photos that were left out, it was on these."
)


@dataclass(frozen=True)
class Occasion:
    """When and how a page was made.

    Parameters
    ----------
    model : what the model is called
    encoder : its identity, as a model folder keeps it
    date : as a person reads it
    command : the command line
    """

    model: str
    encoder: Mapping[str, Any]
    date: str
    command: str


def evaluation_page(
    head: Head,
    record: Mapping[str, Any],
    tally: MetricAccumulator,
    occasion: Occasion,
    photos: Mapping[str, Path],
    support: Mapping[str, Path],
) -> str:
    """The page of an evaluation.

    Parameters
    ----------
    head : of the model
    record : what `evaluate_folder` gave
    tally : what it counted, with `N_MISTAKES`
    occasion : Occasion
    photos : id → path of the photos it was scored on
    support : id → path of the photos it has learned from; those that are not there are shown by their names
    """
    accuracy = tally.accuracy()
    unknown = len(record["unknown_classes"])
    _, after = tally.calibrations()
    key_figures = [
        ("mean over classes", percent(accuracy.mean_per_class)),
        ("calibration error", percent(after.ece)),
        ("classes", str(len(head.names)) + (f" + {unknown} unknown" if unknown else "")),
        ("photos scored", f"{accuracy.n:,}"),
        ("not readable", str(record["n_failed"])),
    ]
    with Thumbnails(photos) as shown, Thumbnails(support) as known:
        body = [
            sections.headline(accuracy, tally.zero_shot(), head.method, sections.images_in_words(accuracy.n)),
            sections.figures(key_figures),
            sections.confusions(accuracy),
            sections.classes(accuracy),
            sections.calibration(tally, _UNKNOWN_CLASSES),
            sections.mistakes(head, tally.mistakes(), shown, known),
            sections.about(_facts(head, occasion)),
        ]
    contents = ["confusions", "classes", "calibration", "mistakes", "made"]
    return _page(f"Evaluation of {occasion.model}", "Evaluation", occasion, contents, body)


def model_page(head: Head, occasion: Occasion, photos: Mapping[str, Path]) -> str:
    """The page of a model: its classes, and how right it is on its own photos, each left out.

    Parameters
    ----------
    head : of the model
    occasion : Occasion
    photos : id → path of the photos it has learned from; those that are not there are shown by their names
    """
    tally = head.new_accumulator()
    head.count_left_out(tally)
    with Thumbnails(photos) as shown:
        body = [
            *(_left_out(head, tally) if len(tally) else [_nothing_left_out(head)]),
            sections.gallery(head, shown),
            *(_judged(head, tally, shown) if len(tally) else []),
            sections.about(_facts(head, occasion)),
        ]
    contents = ["photos", *(["confusions", "classes", "calibration", "labels"] if len(tally) else []), "made"]
    return _page(f"The model {occasion.model}", "Model", occasion, contents, body)


def _left_out(head: Head, tally: MetricAccumulator) -> list[Markup]:
    accuracy = tally.accuracy()
    photos = sections.images_in_words(accuracy.n)
    threshold = head.left_out.threshold if head.left_out else None
    key_figures = [
        ("mean over classes", percent(accuracy.mean_per_class)),
        ("classes", str(len(head.names))),
        ("photos", f"{len(head.support):,}"),
        ("none of these below", "–" if threshold is None else percent(threshold)),
    ]
    headline = sections.headline(accuracy, tally.zero_shot(), head.method, f"{photos}, each left out in turn,")
    return [headline, sections.figures(key_figures)]


def _nothing_left_out(head: Head) -> Markup:
    counts = f"{counted(len(head.names), 'class', 'classes')}, {counted(len(head.support), 'photo', 'photos')}"
    reason = "How right it is cannot be told from its own photos: no class has two of them to leave one out."
    return tag("div", tag("p", counts, class_="lead"), tag("p", reason), class_="headline plain")


def _judged(head: Head, tally: MetricAccumulator, photos: Thumbnails) -> list[Markup]:
    accuracy = tally.accuracy()
    wrong = [entry for entry in likely_wrong(head) if entry["called"] != entry["label"]]
    return [
        sections.confusions(accuracy),
        sections.classes(accuracy),
        sections.calibration(tally, _SAME_ROWS),
        sections.wrong_labels(wrong, photos),
    ]


def _facts(head: Head, occasion: Occasion) -> list[tuple[str, object]]:
    choice, encoder = head.choice, occasion.encoder
    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "scikit-learn", "onnxruntime"))
    return [
        ("method", head.method),
        ("encoder", joined(encoder["name"], " ", tag("code", f"{encoder['fingerprint'][:12]}…"))),
        ("templates", "; ".join(head.templates)),
        (
            "learned from",
            f"{counted(len(head.support), 'photo', 'photos')} of {counted(len(head.names), 'class', 'classes')}",
        ),
        ("training", "; ".join(f"{name.replace('_', ' ')} {value}" for name, value in head.training.items()) or None),
        ("alpha, beta", f"{choice.alpha:.4g}, {choice.beta:.4g}" if choice else None),
        ("chosen", sections.RULES.get(choice.rule, choice.rule) if choice else None),
        ("temperature", f"{choice.temperature:.4g}" if choice else None),
        ("threshold", percent(head.left_out.threshold) if head.left_out else None),
        ("made with", f"tip-adapter {__version__}, Python {platform.python_version()}, {packages}"),
        ("date", occasion.date),
        ("command", tag("code", occasion.command)),
    ]


_TITLES = {
    "photos": "Photos",
    "confusions": "Confusions",
    "classes": "Classes",
    "calibration": "Calibration",
    "labels": "Labels",
    "mistakes": "Mistakes",
    "made": "How it was made",
}


def _page(title: str, kind: str, occasion: Occasion, contents: Sequence[str], body: Sequence[Markup]) -> str:
    links = [tag("li", tag("a", _TITLES[anchor], href=f"#{anchor}")) for anchor in contents]
    header = tag(
        "header",
        tag("p", kind, " · ", occasion.date, class_="kind"),
        tag("h1", named(occasion.model)),
        tag("nav", tag("ul", *links), aria_label="Contents"),
    )
    css = (files("tip_adapter.report") / "page.css").read_text(encoding="utf-8")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="generator", content=GENERATOR),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", Markup(css)),
    )
    content = tag(
        "body",
        header,
        tag("main", *body),
        tag("footer", tag("p", "Made by tip-adapter. This page is one file and asks for nothing.")),
    )
    return f"<!doctype html>\n{tag('html', head, content, lang='en')}\n"
