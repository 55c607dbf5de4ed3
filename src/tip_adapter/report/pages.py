"""The two pages, of an evaluation and of a model: what the templates show, and how they are rendered."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from tip_adapter.model.label_issues import possibly_mislabelled
from tip_adapter.report import charts
from tip_adapter.report.thumbnails import SMALL, TINY, Thumbnails
from tip_adapter.text import counted, percent, printable
from tip_adapter.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tip_adapter.metrics import MetricAccumulator, Mistake
    from tip_adapter.model.head import Head

#: Marks a page as made by this package.
GENERATOR = "tip-adapter report"
#: Mistakes shown with their photos, and photos of unknown classes.
N_MISTAKES = 12
#: Photos in the gallery: of all classes together, and of one class; and names of a class's photos that are not found.
_MOST_PHOTOS, _PHOTOS_PER_CLASS, _NAMED_PER_CLASS = 1000, 8, 3
#: How settings were chosen, in words.
_RULES = {
    "leave-one-out": "leave-one-out on the training photos",
    "scale-free": "scale-free, from the spread of the embeddings",
    "validation": "on validation photos",
    "fixed": "set by the user",
    "support": "on the training photos themselves",
}
_CONTENTS = {
    "photos": "Photos",
    "confusions": "Confusions",
    "classes": "Classes",
    "calibration": "Calibration",
    "labels": "Labels",
    "unknown": "Unknown classes",
    "mistakes": "Mistakes",
    "made": "How it was made",
}


@dataclass(frozen=True)
class Occasion:
    """When and how a page was made.

    Parameters
    ----------
    model : the model's name
    encoder : its identity, as in the model folder
    date : in words
    command : the command line
    """

    model: str
    encoder: Mapping[str, Any]
    date: str
    command: str


def evaluation_page(
    head: Head,
    record: Mapping[str, Any],
    accumulator: MetricAccumulator,
    occasion: Occasion,
    photos: Mapping[str, Path],
    support: Mapping[str, Path],
) -> str:
    """The page of an evaluation.

    Parameters
    ----------
    head : of the model
    record : the result of `evaluate_folder`
    accumulator : its counts, with `N_MISTAKES`
    occasion : Occasion
    photos : id → path of the evaluated photos
    support : id → path of the training photos; one that is missing is shown by its id
    """
    counts, unknown = _counts(accumulator), _unknown(head, accumulator)
    n_unknown = len(record["unknown_classes"])
    key_figures = [
        *([("on the model's classes", percent(counts["known"].accuracy))] if n_unknown and counts["known"] else []),
        ("mean over classes", percent(counts["accuracy"].mean_per_class)),
        ("calibration error", percent(counts["after"].ece)),
        ("classes", str(len(head.names)) + (f" + {n_unknown} unknown" if n_unknown else "")),
        ("photos", f"{counts['accuracy'].n:,}"),
        ("unreadable", record["n_failed"]),
    ]
    with Thumbnails(photos) as shown, Thumbnails(support) as known:
        mistakes = [_mistake(head, mistake, known) for mistake in accumulator.mistakes()]
        parts = {**counts, "key_figures": key_figures, "unknown": unknown, "mistakes": mistakes, "photos": shown}
        of_known = ("confusions", "classes") if counts["known"] else ()
        sections = (*of_known, "calibration", *(["unknown"] if unknown else []), "mistakes", "made")
        return _render("evaluation.html.jinja", head, occasion, sections, parts)


def model_page(head: Head, occasion: Occasion, photos: Mapping[str, Path]) -> str:
    """The page of a model: its classes and its leave-one-out accuracy.

    Parameters
    ----------
    head : of the model
    occasion : Occasion
    photos : id → path of the training photos; one that is missing is shown by its id
    """
    accumulator = head.new_accumulator()
    head.count_left_out(accumulator)
    with Thumbnails(photos) as shown:
        parts: dict[str, Any] = {
            "accuracy": None,
            "size": _size(head),
            "too_few": "too few classes have two photos that differ" if head.has_pairs else "no class has two photos",
            "gallery": _gallery(head, shown),
            "photos": shown,
        }
        if not len(accumulator):
            return _render("model.html.jinja", head, occasion, ("photos", "made"), parts)
        parts |= _counts(accumulator)
        parts["key_figures"] = [
            ("mean over classes", percent(parts["accuracy"].mean_per_class)),
            ("classes", len(head.names)),
            ("photos", f"{len(head.support):,}"),
            ("“none of these” below", percent(head.left_out.threshold) if head.left_out else "–"),
        ]
        parts["wrong_labels"] = possibly_mislabelled(head)
        sections = ("photos", "confusions", "classes", "calibration", "labels", "made")
        return _render("model.html.jinja", head, occasion, sections, parts)


def _counts(accumulator: MetricAccumulator) -> dict[str, Any]:
    """Accuracy, the model's classes from the hardest to the easiest, and calibration."""
    known = accumulator.accuracy_of_known()
    before, after = accumulator.calibrations()
    confused: dict[str, tuple[str, int]] = {}
    for label, predicted, n in known.confusions if known else ():  # the most frequent first
        confused.setdefault(label, (predicted, n))
    hardest = sorted((share, label, n) for label, (share, n) in known.per_class.items()) if known else []
    of_classes = " of the model's classes" if accumulator.unknown_classes() else ""
    return {
        "accuracy": accumulator.accuracy(),
        "known": known,
        "no_mistakes": f"None: every photo{of_classes} was classified correctly."
        if known
        else f"No photo is{of_classes}.",
        "zero_shot": accumulator.zero_shot(),
        "hardest": [(label, share, n, confused.get(label)) for share, label, n in hardest],
        "before": before,
        "after": after,
        "temperature": accumulator.temperature,
    }


def _unknown(head: Head, accumulator: MetricAccumulator) -> dict[str, Any] | None:
    """What photos of classes that the model does not have were taken for, and how many its threshold refuses."""
    threshold = head.left_out.threshold if head.left_out else None
    classes = accumulator.unknown(threshold or 0.0)
    if not classes:
        return None
    n = sum(each.n for each in classes)
    return {
        "classes": classes,
        "examples": accumulator.unknown_images(),
        "n": n,
        "n_refused": sum(each.n_refused for each in classes),
        "n_known": len(accumulator) - n,
        "n_known_refused": accumulator.n_known_refused(threshold or 0.0),
        "threshold": threshold,
    }


def _mistake(head: Head, mistake: Mistake, support: Thumbnails) -> dict[str, Any]:
    """A mistake with the evidence for the predicted and for the true class, where the method has it."""
    labels = [mistake.called, mistake.label]
    if head.estimator.capabilities.explains:
        records = head.explained_classes(mistake.vector, labels)
    else:
        scores = dict(zip(head.classes.tolist(), head.probabilities(mistake.vector[None])[0].tolist(), strict=True))
        records = [{"score": scores[label]} for label in labels]
    verdicts = [("predicted", "wrong"), ("true class", "right")]
    sides = [
        _side(verdict, kind, label, record, support)
        for (verdict, kind), label, record in zip(verdicts, labels, records, strict=True)
    ]
    largest = max(side["largest"] for side in sides) or 1.0
    alt = f"{mistake.id}: {mistake.label}, predicted {mistake.called}"
    return {"id": mistake.id, "alt": alt, "sides": [{**side, "largest": largest} for side in sides]}


def _side(verdict: str, kind: str, label: str, record: dict[str, Any], support: Thumbnails) -> dict[str, Any]:
    """One class of a mistake: its score, its photos with and without a picture, and the sizes of all contributions."""
    side = {"verdict": verdict, "kind": kind, "label": label, "record": record}
    if "images" not in record:
        return {**side, "total": 0.0, "largest": 0.0}
    parts = [abs(part) for part in (record["text"], record["others"], *(photo["part"] for photo in record["images"]))]
    photos = [{**photo, "uri": support.uri(photo["id"], SMALL)} for photo in record["images"]]
    return {
        **side,
        "shown": [photo for photo in photos if photo["uri"]],
        "listed": [photo for photo in photos if not photo["uri"]],
        "total": sum(parts) or 1.0,
        "largest": max(parts),
    }


def _gallery(head: Head, photos: Thumbnails) -> list[dict[str, Any]]:
    """Each class with some of its photos, and the names of some that are not found."""
    ids: dict[str, list[str]] = {label: [] for label in head.names}
    for photo, label in zip(head.support.ids.tolist(), head.support.labels.tolist(), strict=True):
        ids[label].append(photo)
    per_class = max(1, min(_PHOTOS_PER_CLASS, _MOST_PHOTOS // len(ids)))
    cards = []
    for number, (label, name) in enumerate(head.names.items()):
        found = [photo for photo in ids[label] if photo in photos]
        missing = [photo for photo in ids[label] if photo not in photos]
        some = found[:per_class] if number * per_class < _MOST_PHOTOS else []
        shown = [(photo, uri) for photo in some if (uri := photos.uri(photo, TINY))]
        card = {"label": label, "name": name, "n": len(ids[label]), "shown": shown}
        cards.append({**card, "missing": missing[:_NAMED_PER_CLASS], "n_missing": len(missing)})
    return cards


def _size(head: Head) -> str:
    return f"{counted(len(head.names), 'class', 'classes')}, {counted(len(head.support), 'photo', 'photos')}"


def _facts(head: Head, occasion: Occasion) -> list[tuple[str, object]]:
    """How a page was made; None leaves a line out."""
    choice, encoder = head.choice, occasion.encoder
    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "scikit-learn", "onnxruntime"))
    code = Markup("<code>{}</code>")
    return [
        ("method", head.method),
        ("encoder", Markup("{} {}").format(printable(encoder["name"]), code.format(f"{encoder['fingerprint'][:12]}…"))),
        ("templates", "; ".join(head.templates) or None),
        ("training set", _size(head)),
        ("training", "; ".join(f"{name.replace('_', ' ')} {value}" for name, value in head.training.items()) or None),
        ("alpha, beta", f"{choice.alpha:.4g}, {choice.beta:.4g}" if choice and choice.alpha is not None else None),
        ("settings", _own_settings(head) if choice and choice.alpha is None else None),
        ("chosen", _RULES.get(choice.rule, choice.rule) if choice else None),
        ("temperature", f"{choice.temperature:.4g}" if choice else None),
        ("threshold", percent(head.left_out.threshold) if head.left_out else None),
        ("made with", f"tip-adapter {__version__}, Python {platform.python_version()}, {packages}"),
        ("date", occasion.date),
        ("command", code.format(printable(occasion.command))),
    ]


def _own_settings(head: Head) -> str:
    """Those of a method that chooses them itself."""
    own = {name.replace("_", " "): value for name, value in head.estimator.settings().items()}
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in own.items()
    )


def _render(template: str, head: Head, occasion: Occasion, sections: tuple[str, ...], parts: dict[str, Any]) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined  # only where a page is made

    environment = Environment(
        loader=PackageLoader("tip_adapter.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        # Before it is escaped: control and direction characters are shown as escapes.
        finalize=lambda value: value if isinstance(value, Markup) else printable(str(value)),
    )
    environment.filters["percent"] = percent
    return environment.get_template(template).render(
        **parts,
        method=head.method,
        occasion=occasion,
        generator=GENERATOR,
        contents=[(anchor, _CONTENTS[anchor]) for anchor in sections],
        facts=_facts(head, occasion),
        charts=charts,
        counted=counted,
    )
