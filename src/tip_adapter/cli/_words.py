"""Wording shared by commands and report pages: how a model was chosen and trained, and how accurate it is."""

from __future__ import annotations

import datetime
import shlex
import sys
from typing import TYPE_CHECKING, Any

from tip_adapter.errors import warn
from tip_adapter.report import Occasion, training_photos
from tip_adapter.text import counted, first_of, percent, printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tip_adapter.model.head import Head

_CHOSEN = {
    "leave-one-out": "chosen by leave-one-out",
    "scale-free": "set from the spread of the embeddings (scale-free)",
    "validation": "chosen on the validation images",
    "fixed": "set by the user",
    "support": "chosen on the images themselves",
}
_SEARCHED_BY = {
    "given": "set by the user",
    "validation": "chosen on the validation images",
    "cross-validation": "chosen by cross-validation",
    "nothing": "not tuned, since fewer than two classes have a second image",
}


def training_in_words(training: Mapping[str, Any]) -> str:
    """How a model was trained (`VectorClassifier.training`); empty if it was not."""
    said = []
    if "C" in training:
        said.append(f"C {training['C']:.4g}: {_SEARCHED_BY[training['searched_by']]}.")
    if "epochs" in training:
        said.append(
            f"Trained for {counted(training['epochs'], 'epoch', 'epochs')} (paper: {training['papers_epochs']})."
        )
    if "prompt_tower" in training:
        said.append(f"The learned context is in {training['prompt_tower']}.")
    return " ".join(said)


def outcome_in_words(head: Head) -> str:
    """How alpha and beta were chosen, how accurate the model is, and how it was trained."""
    said = " ".join(filter(None, [_choice_in_words(head), training_in_words(head.training)]))
    only_names = "" if head.estimator.capabilities.needs_images else ": it uses class names only"
    return said or f"{head.method} has nothing to tune{only_names}."


def _choice_in_words(head: Head) -> str:
    choice = head.choice
    if choice is None:
        return ""
    settings: dict[str, Any] = {"alpha": choice.alpha, "beta": choice.beta}
    if choice.rule == "support":
        settings = {name: value for name, value in head.estimator.settings().items() if isinstance(value, float)}
    listed = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in settings.items())
    chosen = f"{listed}: {_CHOSEN[choice.rule]}."
    if choice.accuracy is None:
        return f"{chosen} Leave-one-out accuracy: unknown, no class has two images."
    if choice.rule == "validation":
        return f"{chosen} Validation {accuracy_in_words(choice.accuracy, choice.n_rows)}."
    earlier = None
    if head.left_out is None:
        earlier = "before images were added or removed"
    elif head.estimator.learned() and choice.rule != "support":
        earlier = "before the keys were fine-tuned"
    return f"{chosen} Leave-one-out {accuracy_in_words(choice.accuracy, choice.n_rows, earlier)}."


def accuracy_in_words(accuracy: float, n_images: int, more: str | None = None) -> str:
    """An accuracy with the number of images behind it."""
    return f"accuracy: {percent(accuracy)} ({'; '.join(filter(None, [counted(n_images, 'image', 'images'), more]))})"


def interval_in_words(interval: Sequence[float]) -> str:
    """A 95 % interval."""
    low, high = interval
    return f"95 % interval {percent(low)} to {percent(high)}"


# ---- pages -----------------------------------------------------------------------------------------------------------


def occasion(model_dir: Path, encoder: Mapping[str, Any]) -> Occasion:
    """Today, by this command line."""
    command = shlex.join(["tip-adapter", *sys.argv[1:]])
    return Occasion(model_dir.name or str(model_dir), encoder, datetime.date.today().isoformat(), command)


def training_images(places: Sequence[Path], ids: Sequence[str]) -> dict[str, Path]:
    """The model's training images in these folders and lists, by id; warns of those, of `ids`, that are in none of them."""
    found = training_photos(places, ids)
    missing = [name for name in ids if name not in found]
    where = " and ".join(map(printable, places))
    if not missing:
        return found
    if not places:
        warn("the page shows training images by name only; --photos TRAIN_DIR adds their pictures")
    elif not found:
        warn(f"{where}: none of the model's training images is there; the page shows them by name only")
    else:
        warn(
            f"{len(missing):,} of {counted(len(ids), 'training image', 'training images')} not found in {where}, and shown by "
            f"name only: {first_of(missing)}; repeat --photos to name further folders"
        )
    return found
