"""`tip-adapter fit`: class folders in, a model folder out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

import tip_adapter
from tip_adapter.cli._options import complete_encoders, complete_methods, one_of, real, whole
from tip_adapter.cli._output import notes, print_line, progress_bars
from tip_adapter.cli._words import near_repeats_in_words, outcome_in_words, threshold_in_words
from tip_adapter.encoders import DEFAULT, in_half
from tip_adapter.encoders.joined import JoinedEncoder
from tip_adapter.encoders.prompts import read_class_names
from tip_adapter.io.files import refuse_existing
from tip_adapter.methods import AUTO
from tip_adapter.model.saving import refuse_unreplaceable
from tip_adapter.text import counted, printable
from tip_adapter.validation import MAX_SEED

TrainDir = Annotated[
    Path,
    Argument(metavar="TRAIN_DIR", help="Class folders, a split folder (its train part), a list, or stored vectors."),
]
EncoderName = Annotated[
    str | None,
    Option(
        "--encoder",
        "-e",
        help="A name or family:source, see `tip-adapter encoders`, or two joined by +; default: pocket, or what stored vectors were made with.",
        metavar="NAME",
        autocompletion=complete_encoders,
    ),
]
Precision = Annotated[
    str,
    Option(
        help="half: the encoder's files of half the size, where it has such; the same as NAME@half.",
        parser=one_of("full", "half"),
        metavar="full|half",
        autocompletion=lambda: ["full", "half"],
    ),
]
Method = Annotated[
    str,
    Option(
        "--method",
        "-m",
        help="auto (text-offset; with --alpha and --beta, or --tune, tip-adapter), text-offset, tip-adapter, "
        "tip-adapter-f, gda, zero-shot, linear-probe, clip-adapter, or coop (needs torch).",
        metavar="NAME",
        autocompletion=complete_methods,
    ),
]
Tune = Annotated[
    str | None,
    Option(
        help="How alpha and beta are chosen: loo (leave-one-out), scale-free, or on validation images (for linear-probe: its C).",
        metavar="loo|scale-free|VAL_DIR",
        autocompletion=lambda: ["loo", "leave-one-out", "scale-free"],
    ),
]
Prior = Annotated[
    str | None,
    Option(
        help="For text-offset: whether every class is as likely as any other (the default), or as likely as it is frequent.",
        parser=one_of("balanced", "counts"),
        metavar="balanced|counts",
        autocompletion=lambda: ["balanced", "counts"],
    ),
]
NoCalibration = Annotated[bool, Option("--no-calibrate", help="Fit no temperature: scores are plain softmax values.")]
Templates = Annotated[
    list[str] | None,
    Option(
        "--template",
        help="A prompt with {} for the class name, or a set such as imagenet; may be repeated.",
        metavar="TEXT",
    ),
]
ClassNames = Annotated[
    Path | None,
    Option(help="JSON or CSV (label,name): the name that the text encoder reads for a label.", metavar="FILE"),
]
LogitScale = Annotated[
    float | None,
    Option(help="Factor of the text logits, for an encoder that does not state its own.", parser=real, metavar="S"),
]
Force = Annotated[
    bool, Option("--force", "-f", help="Replace the model at MODEL_DIR; a folder with anything else is refused.")
]


def fit(
    train_dir: TrainDir,
    out: Annotated[Path, Option("--out", "-o", help="Where the model goes.", metavar="MODEL_DIR")],
    encoder: EncoderName = None,
    precision: Precision = "full",
    method: Method = AUTO,
    shots: Annotated[
        int | None, Option("--shots", "-k", help="Images per class; default: all.", parser=whole(1), metavar="K")
    ] = None,
    seed: Annotated[int, Option(help="Seed of sampling and training.", parser=whole(0, MAX_SEED), metavar="S")] = 0,
    tune: Tune = None,
    alpha: Annotated[
        float | None, Option(help="Fixed weight of the cache; with --beta.", parser=real, metavar="A")
    ] = None,
    beta: Annotated[
        float | None, Option(help="Fixed sharpness of the cache; with --alpha.", parser=real, metavar="B")
    ] = None,
    epochs: Annotated[
        int | None, Option(help="Training epochs; default: the paper's.", parser=whole(0), metavar="N")
    ] = None,
    prior: Prior = None,
    no_calibrate: NoCalibration = False,
    templates: Templates = None,
    class_names: ClassNames = None,
    logit_scale: LogitScale = None,
    force: Force = False,
    device: str | None = None,
    threads: int | None = None,
    quiet: bool = False,
) -> None:
    """Fit a classifier on class folders."""
    refuse_unreplaceable(out) if force else refuse_existing(out)
    model = tip_adapter.FewShotClassifier(
        encoder=in_half(encoder or DEFAULT) if precision == "half" else encoder,
        method=method,
        tune=tune,
        alpha=alpha,
        beta=beta,
        templates=templates,
        class_names=read_class_names(class_names) if class_names else None,
        epochs=epochs,
        prior=prior,
        calibrate=not no_calibrate,
        logit_scale=logit_scale,
        seed=seed,
        device=device,
        threads=threads,
    )
    with notes(quiet), progress_bars("Reading images", quiet=quiet) as (progress,):
        model.fit_folder(train_dir, shots, progress=progress)
        model.save(out, force=force)
    classes, images = counted(len(model.classes_), "class", "classes"), counted(len(model.support_), "image", "images")
    used = images if model.estimator_.capabilities.needs_images else "images are not used"
    print_line(f"{model.head_.method}, {classes}, {used}.")
    if isinstance(model.encoder_, JoinedEncoder) and model.encoder_.weights:
        print_line(f"Encoders with their weights: {printable(model.encoder_.identity.name)}.")
    print_line(outcome_in_words(model.head_))
    for line in filter(None, [near_repeats_in_words(model.head_), threshold_in_words(model.head_)]):
        print_line(line)
    print_line(f"Saved to {out}. Next: tip-adapter predict {out} IMAGE")
