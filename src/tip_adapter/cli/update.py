"""`tip-adapter add`, `remove`, `update`, `relabel-photo`, `retune`: a model folder is updated in place, completely or not at all."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

import tip_adapter
from tip_adapter.cli._options import ModelDir
from tip_adapter.cli._output import notes, print_line, progress_bars
from tip_adapter.cli._words import chosen_settings, outcome_in_words
from tip_adapter.errors import ModelFolderError, UsageError, warn
from tip_adapter.features.sources import classes_within, encode_labelled, image_source, is_stored
from tip_adapter.images.find import find_images
from tip_adapter.io.files import lock_folder
from tip_adapter.model.contents import id_of
from tip_adapter.model.saving import read_config
from tip_adapter.text import counted, first_of, first_three, printable, suggestion

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from tip_adapter import Choice, FewShotClassifier
    from tip_adapter.model.contents import Changes

UNCHANGED = "The model is unchanged."


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
    with notes(quiet):  # before the model is loaded: a wrong path is said at once
        stored = [image_source(place).labelled(label) for place in photos if is_stored(place)]
        paths = [path for place in photos if not is_stored(place) for path in find_images(place)]
    with notes(quiet), _updating(model_dir, device, threads) as model:
        before, known, chosen = len(model.support_), model.classes_.tolist(), model.choice_
        for place in photos:
            _warn_of_other_classes(place, label, model.names_)
        if label.strip() not in known and (meant := suggestion(label.strip(), known)):
            warn(
                f"{printable(label)} is a new class; {meant}If so, remove it (tip-adapter remove MODEL_DIR --class) and add again"
            )
        for source in stored:
            model.add_support(encode_labelled(source, model.encoder_)[0])
        if paths:
            model.partial_fit(paths, [label] * len(paths))
    n_added = len(model.support_) - before
    if model.estimator_.capabilities.needs_images:
        done = f"Added {counted(n_added, 'image', 'images')} to {label.strip()}."
    else:
        done = f"Images are not stored: {model.method} uses class names only."
    print_line(f"{done} {_now(model)}")
    changed = n_added or len(model.classes_) > len(known)
    print_line(_about_settings(model, chosen, model_dir) if changed else UNCHANGED)


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
            ids = [id_of(name, model.support_, model.encoder_) for name in photo]
            model.remove(ids)
        if label is not None:
            model.remove_class(label)
    gone = [*ids, *([f"class {label}"] if label else [])]
    more = f" and {len(gone) - 5} more" if len(gone) > 5 else ""
    print_line(f"Removed: {', '.join(gone[:5])}{more}. {_now(model)}")
    print_line(_about_settings(model, chosen, model_dir))


def update(
    model_dir: ModelDir,
    photos_dir: Annotated[
        Path,
        Argument(
            metavar="PHOTOS_DIR", help="Class folders, a split folder (its train part), a list, or stored vectors."
        ),
    ],
    dry_run: Annotated[bool, Option("--dry-run", help="Only say what would change.")] = False,
    device: str | None = None,
    threads: int | None = None,
    quiet: bool = False,
) -> None:
    """Make a classifier follow its folder: learn new images, relabel moved ones, remove those that are gone."""
    updating = _loaded if dry_run else _updating
    with notes(quiet), updating(model_dir, device, threads) as model:
        with progress_bars("Reading images", quiet=quiet) as (progress,):
            changes = model.compare_folder(photos_dir, progress=progress)
        print_line(f"Changes: {_in_words(changes)}.")
        if dry_run or not changes:
            print_line(
                f"The model is unchanged{' (--dry-run)' if changes else f': it has the images of {photos_dir}'}."
            )
            return
        model.apply_changes(changes)
    print_line(_now(model))
    print_line(outcome_in_words(model.head_))


def relabel_photo(
    model_dir: ModelDir,
    photo: Annotated[str, Argument(metavar="PHOTO", help="An image, by its id in the model or its path.")],
    label: Annotated[str, Argument(metavar="LABEL", help="A class of the model.")],
    device: str | None = None,
    threads: int | None = None,
    quiet: bool = False,
) -> None:
    """Move an image of a classifier to another class."""
    with notes(quiet), _updating(model_dir, device, threads) as model:
        chosen, name = model.choice_, id_of(photo, model.support_, model.encoder_)
        before = model.support_.labels[model.support_.ids == name].tolist()
        model.relabel(name, label)
    if before[0] == label:
        print_line(f"{name} is of class {label} already.")
        print_line(UNCHANGED)
    else:
        print_line(f"{name}: {before[0]} to {label}. {_now(model)}")
        print_line(_about_settings(model, chosen, model_dir))


def retune(model_dir: ModelDir, device: str | None = None, threads: int | None = None, quiet: bool = False) -> None:
    """Choose settings such as alpha and beta again after images were added or removed."""
    with notes(quiet), _updating(model_dir, device, threads) as model:
        model.retune()
    print_line(_now(model))
    print_line(_about_settings(model, None, model_dir))


def _warn_of_other_classes(place: str, label: str, known: Collection[str]) -> None:
    """Warn if what is added says itself that its images are of other classes; names of folders, only if the model has them."""
    named = classes_within(place) - {label.strip()}
    others = sorted(named if is_stored(place) or not Path(place).is_dir() else named.intersection(known))
    if others:
        warn(
            f"{printable(place)} names other classes ({first_of(others)}); all of its images are added to {printable(label)}"
        )


@contextmanager
def _loaded(model_dir: Path, device: str | None, threads: int | None) -> Iterator[FewShotClassifier]:
    """A model that is not saved."""
    yield tip_adapter.FewShotClassifier.load(model_dir, device=device, threads=threads)


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


def _in_words(changes: Changes) -> str:
    """What differs, each kind with its first images; images whose path alone changed are counted."""
    moved = [f"{printable(name)}: {printable(old)} to {printable(new)}" for name, old, new in changes.moved]
    kinds = [
        ("learn", list(map(printable, changes.new)), "image", "images"),
        ("relabel", moved, "image", "images"),
        ("remove", list(map(printable, changes.removed)), "image", "images"),
        ("add", list(map(printable, changes.new_classes)), "class", "classes"),
        ("remove", list(map(printable, changes.removed_classes)), "class", "classes"),
    ]
    said = [
        f"{verb} {counted(len(names), one, many)} ({first_three(names)})" for verb, names, one, many in kinds if names
    ]
    if changes.renamed:
        said.append(f"rename {counted(len(changes.renamed), 'image', 'images')}")
    return "; ".join(said) or "none"


def _now(model: FewShotClassifier) -> str:
    classes, images = counted(len(model.classes_), "class", "classes"), counted(len(model.support_), "image", "images")
    return f"The model has {classes} and {images}."


def _about_settings(model: FewShotClassifier, chosen: Choice[float | None] | None, model_dir: Path) -> str:
    """That alpha and beta, or the like, are unchanged, or, if the model had none before, how they were chosen now."""
    if chosen:
        names = " and ".join(chosen_settings(model.head_))
        return f"{names} are unchanged; `tip-adapter retune {model_dir}` chooses them again."
    return outcome_in_words(model.head_)
