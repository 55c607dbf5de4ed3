"""Wording shared by commands and report pages: how a model was chosen and trained, and how accurate it is."""

from __future__ import annotations

import datetime
import shlex
import sys
from collections import Counter
from numbers import Real
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
    if isinstance(training.get("C"), Real):
        how = training["searched_by"]
        said.append(f"C {training['C']:.4g}: {_SEARCHED_BY.get(how, how)}.")
    if isinstance(training.get("epochs"), int):
        said.append(
            f"Trained for {counted(training['epochs'], 'epoch', 'epochs')} (paper: {training['papers_epochs']})."
        )
    if "prompt_tower" in training:
        said.append(f"The learned context is in {training['prompt_tower']}.")
    return " ".join(said)


def outcome_in_words(head: Head) -> str:
    """How settings were chosen, how accurate the model is, and how it was trained."""
    said = " ".join(filter(None, [_choice_in_words(head), training_in_words(head.training)]))
    only_names = "" if head.estimator.capabilities.needs_images else ": it uses class names only"
    return said or f"{head.method} has nothing to tune{only_names}."


def near_repeats_in_words(head: Head) -> str:
    """How many images were left out together with others that they nearly repeat; empty if none were."""
    repeats = head.left_out.n_near_repeats if head.left_out else 0
    return f"{repeats:,} images nearly repeat others of their class; they were left out together." if repeats else ""


def threshold_in_words(head: Head) -> str:
    """The threshold of --min-score auto, and which shares of images it keeps and refuses as far as they are known; empty without one."""
    if head.left_out is None:
        return ""
    said = f"With --min-score auto, scores below {head.threshold:.3f} are “none of these”"
    if head.left_out.refused is None:
        return f"{said}."
    kept, refused = percent(head.left_out.kept), percent(head.left_out.refused)
    return f"{said}: it keeps {kept} of images of the classes, and is expected to refuse {refused} of images of others."


def _choice_in_words(head: Head) -> str:
    choice = head.choice
    if choice is None:
        return ""
    listed = ", ".join(f"{name} {value:.4g}" for name, value in chosen_settings(head).items())
    chosen = f"{listed}: {_CHOSEN[choice.rule]}."
    if choice.accuracy is None:
        return f"{chosen} Leave-one-out accuracy: unknown, {too_few_in_words(head)}."
    if choice.rule == "validation":
        return f"{chosen} Validation {accuracy_in_words(choice.accuracy, choice.n_rows)}."
    earlier, name = None, left_out_accuracy(head)
    if head.left_out is None:
        earlier, name = "before images were added or removed", "accuracy"
    elif head.estimator.learned() and choice.rule != "support":
        earlier = "before the keys were fine-tuned"
    return f"{chosen} Leave-one-out {accuracy_in_words(choice.accuracy, choice.n_rows, earlier, name)}."


def left_out_accuracy(head: Head) -> str:
    """What the leave-one-out accuracy on the present images is called: where their numbers differ, a mean over classes."""
    counts = Counter(head.support.labels.tolist()).values()
    n_left_out = sum(count > 1 for count in counts)
    classes = "classes" if n_left_out == len(counts) else f"{n_left_out} of {counted(len(counts), 'class', 'classes')}"
    return f"accuracy, mean over {classes}" if len(set(counts)) > 1 else "accuracy"


def chosen_settings(head: Head) -> dict[str, float]:
    """What the head's `choice`, which is not None, is about: name in words → value."""
    if head.choice is not None and head.choice.alpha is not None and head.choice.beta is not None:
        return {"alpha": head.choice.alpha, "beta": head.choice.beta}
    numbers = {name: value for name, value in head.estimator.settings().items() if isinstance(value, float)}
    return {name.replace("_", " "): value for name, value in numbers.items()}


def too_few_in_words(head: Head) -> str:
    """Why no image of the head is left out."""
    return "too few classes have two images that differ" if head.has_pairs else "no class has two images"


def accuracy_in_words(accuracy: float, n_images: int, more: str | None = None, name: str = "accuracy") -> str:
    """An accuracy with the number of images behind it."""
    return f"{name}: {percent(accuracy)} ({'; '.join(filter(None, [counted(n_images, 'image', 'images'), more]))})"


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
