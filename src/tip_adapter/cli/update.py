"""`tip-adapter add`, `remove`, `retune`: a model folder is updated in place, completely or not at all."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

import tip_adapter
from tip_adapter.cli._options import ModelDir
from tip_adapter.cli._output import notes, print_line
from tip_adapter.cli._words import outcome_in_words
from tip_adapter.errors import ModelFolderError, UsageError
from tip_adapter.features.encode import encode_photos
from tip_adapter.features.sources import encode_labelled, image_source, is_stored
from tip_adapter.images.find import find_images
from tip_adapter.images.labels import path_as_text
from tip_adapter.io.files import lock_folder
from tip_adapter.model.saving import read_config
from tip_adapter.text import counted, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tip_adapter import Choice, FewShotClassifier

#: Cosine from which two vectors are of the same image.
SAME = 1 - 1e-6


def add(
    model_dir: ModelDir,
    label: Annotated[str, Argument(metavar="CLASS", help="A class of the model, or a new one.")],
    photos: Annotated[
        list[str], Argument(metavar="IMAGE_OR_DIR", help="Images, folders or lists of images; or stored vectors.")
    ],
    device: str | None = None,
    threads: int | None = None,
    quiet: bool = False,
) -> None:
    """Add images of a class, known or new, to a classifier."""
    stored = [image_source(place).labelled(label) for place in photos if is_stored(place)]
    paths = [path for place in photos if not is_stored(place) for path in find_images(place)]
    with notes(quiet), _updating(model_dir, device, threads) as model:
        before, chosen = len(model.support_), model.choice_
        for source in stored:
            model.add_support(encode_labelled(source, model.encoder_)[0])
        if paths:
            model.partial_fit(paths, [label] * len(paths))
    if model.estimator_.capabilities.needs_images:
        done = f"Added {counted(len(model.support_) - before, 'image', 'images')} to {label}."
    else:
        done = f"Images are not stored: {model.method} uses class names only."
    print_line(f"{done} {_now(model)}")
    print_line(_about_alpha_beta(model, chosen, model_dir))


def remove(
    model_dir: ModelDir,
    label: Annotated[str | None, Option("--class", help="A class, with all its images.", metavar="NAME")] = None,
    photo: Annotated[
        list[str] | None,
        Option(help="An image, by its id in the model or its path; may be repeated.", metavar="ID_OR_PATH"),
    ] = None,
    device: str | None = None,
    threads: int | None = None,
    quiet: bool = False,
) -> None:
    """Remove images or a class from a classifier."""
    if label is None and not photo:
        raise UsageError("nothing to remove: give --class NAME, --photo ID_OR_PATH, or both")
    with notes(quiet), _updating(model_dir, device, threads) as model:
        chosen, ids = model.choice_, []
        if photo:
            ids = [_id_of(name, model) for name in photo]
            model.remove(ids)
        if label is not None:
            model.remove_class(label)
    gone = [*ids, *([f"class {label}"] if label else [])]
    more = f" and {len(gone) - 5} more" if len(gone) > 5 else ""
    print_line(f"Removed: {', '.join(gone[:5])}{more}. {_now(model)}")
    print_line(_about_alpha_beta(model, chosen, model_dir))


def retune(model_dir: ModelDir, device: str | None = None, threads: int | None = None, quiet: bool = False) -> None:
    """Choose alpha and beta again after images were added or removed."""
    with notes(quiet), _updating(model_dir, device, threads) as model:
        model.retune()
    print_line(_now(model))
    print_line(_about_alpha_beta(model, None, model_dir))


@contextmanager
def _updating(model_dir: Path, device: str | None, threads: int | None) -> Iterator[FewShotClassifier]:
    """A model that is saved again in its place, unless another program has replaced it meanwhile; other updates wait."""
    with lock_folder(model_dir):
        before = read_config(model_dir)["files"]
        model = tip_adapter.FewShotClassifier.load(model_dir, device=device, threads=threads)
        yield model
        if read_config(model_dir)["files"] != before:
            raise ModelFolderError(
                f"{printable(model_dir)} was changed by another program meanwhile; nothing was saved, run the command again"
            )
        model.save(model_dir, force=True)


def _id_of(name: str, model: FewShotClassifier) -> str:
    """The id that a path names: itself, or the only one that it ends with and that is the same image."""
    ids = model.support_.ids
    path = path_as_text(os.path.normpath(name))
    ends = [row for row, known in enumerate(ids.tolist()) if path.endswith(f"{os.sep}{known}")]
    if name in ids or len(ends) != 1 or not Path(name).is_file():
        return path if path in ids else name
    vector = encode_photos([name], model.encoder_, threads=model.threads).vectors
    is_same = len(vector) == 1 and float(vector[0] @ model.support_.vectors[ends[0]]) >= SAME
    return str(ids[ends[0]]) if is_same else name


def _now(model: FewShotClassifier) -> str:
    classes, images = counted(len(model.classes_), "class", "classes"), counted(len(model.support_), "image", "images")
    return f"The model has {classes} and {images}."


def _about_alpha_beta(model: FewShotClassifier, chosen: Choice | None, model_dir: Path) -> str:
    """That alpha and beta are unchanged, or, if the model had none before, how they were chosen now."""
    if chosen:
        return f"alpha and beta are unchanged; `tip-adapter retune {model_dir}` chooses them again."
    return outcome_in_words(model.head_)
