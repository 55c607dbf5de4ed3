"""`tip-adapter fit`: class folders in, a model folder out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import tip_adapter
from tip_adapter.cli._output import notes, print_line, progress_bar
from tip_adapter.cli._words import outcome_in_words
from tip_adapter.encoders.prompts import read_class_names
from tip_adapter.io.files import refuse_existing
from tip_adapter.model.saving import refuse_unreplaceable
from tip_adapter.text import counted


def fit(
    train_dir: Annotated[
        Path,
        typer.Argument(
            metavar="TRAIN_DIR", help="Class folders, a split folder (its train part), a list, or stored vectors."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Where the model goes.", metavar="MODEL_DIR")],
    encoder: Annotated[
        str | None,
        typer.Option(
            help="A name or family:source, see `tip-adapter encoders`; if not given pocket, or what stored vectors were made with.",
            metavar="NAME",
        ),
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            help="zero-shot, tip-adapter, tip-adapter-f, linear-probe, clip-adapter, or coop (needs torch).",
            metavar="NAME",
        ),
    ] = "tip-adapter",
    shots: Annotated[int | None, typer.Option(help="Photos per class; all if not given.", min=1, metavar="K")] = None,
    seed: Annotated[int, typer.Option(help="Of the draw and of training.", min=0, metavar="S")] = 0,
    tune: Annotated[
        str | None,
        typer.Option(
            help="How alpha and beta are chosen: loo, scale-free, or validation photos (for linear-probe: its C).",
            metavar="loo|scale-free|VAL_DIR",
        ),
    ] = None,
    alpha: Annotated[float | None, typer.Option(help="A given weight of the photos; with --beta.", metavar="A")] = None,
    beta: Annotated[float | None, typer.Option(help="A given sharpness; with --alpha.", metavar="B")] = None,
    epochs: Annotated[
        int | None, typer.Option(help="How long it trains; as its paper if not given.", min=0, metavar="N")
    ] = None,
    no_calibrate: Annotated[
        bool,
        typer.Option("--no-calibrate", help="Scores as plain softmax values: no temperature is fitted."),
    ] = False,
    template: Annotated[
        list[str] | None,
        typer.Option(
            help="A sentence with {} for the class name, or a set such as imagenet; may be repeated.", metavar="TEXT"
        ),
    ] = None,
    class_names: Annotated[
        Path | None,
        typer.Option(help="JSON or CSV (label,name): what the text encoder reads for a label.", metavar="FILE"),
    ] = None,
    logit_scale: Annotated[
        float | None,
        typer.Option(help="Of the encoder, where it is not known: what text logits are multiplied by.", metavar="S"),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the model at MODEL_DIR; anything else there is left alone.")
    ] = False,
    device: str | None = None,
    threads: int | None = None,
    quiet: bool = False,
) -> None:
    """Learn a classifier from class folders."""
    refuse_unreplaceable(out) if force else refuse_existing(out)
    model = tip_adapter.FewShotClassifier(
        encoder=encoder,
        method=method,
        tune=tune,
        alpha=alpha,
        beta=beta,
        templates=template,
        class_names=read_class_names(class_names) if class_names else None,
        epochs=epochs,
        calibrate=not no_calibrate,
        logit_scale=logit_scale,
        seed=seed,
        device=device,
        threads=threads,
    )
    with notes(quiet), progress_bar("Reading photos", quiet=quiet) as progress:
        model.fit_folder(train_dir, shots, progress=progress)
        model.save(out, force=force)
    classes, photos = counted(len(model.classes_), "class", "classes"), counted(len(model.support_), "photo", "photos")
    print_line(
        f"{method}, {classes}, {photos if model.estimator_.capabilities.needs_images else 'photos are not used'}."
    )
    print_line(outcome_in_words(model.head_))
    print_line(f"Saved to {out}. Next: tip-adapter predict {out} PHOTO")
