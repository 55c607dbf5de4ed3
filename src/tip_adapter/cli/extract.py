"""`tip-adapter extract`: images in, a folder of vectors out; images that are in it already are not encoded again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

import tip_adapter
from tip_adapter.cli._options import Json, complete_encoders, whole
from tip_adapter.cli._output import notes, print_json, print_line, progress_reports, say
from tip_adapter.encoders import DEFAULT
from tip_adapter.features import extract as extraction
from tip_adapter.text import counted
from tip_adapter.validation import MAX_SEED


def extract(
    image_dir: Annotated[
        Path, Argument(metavar="IMAGE_DIR", help="Class folders, a split folder (all its parts), a list, or images.")
    ],
    out: Annotated[
        Path, Option("--out", "-o", help="The folder of vectors, new or to be continued.", metavar="FEATURES_DIR")
    ],
    encoder: Annotated[
        str,
        Option("--encoder", "-e", help="See `tip-adapter encoders`.", metavar="NAME", autocompletion=complete_encoders),
    ] = DEFAULT,
    views: Annotated[
        int,
        Option(help="Augmented views averaged into each vector; 0: the image itself.", parser=whole(0), metavar="V"),
    ] = 0,
    seed: Annotated[int, Option(help="Seed of the views.", parser=whole(0, MAX_SEED), metavar="S")] = 0,
    force: Annotated[
        bool,
        Option(
            "--force", "-f", help="Replace vectors of another encoder, number of views or seed, or of other images."
        ),
    ] = False,
    json: Json = False,
    device: str | None = None,
    threads: int | None = None,
    quiet: bool = False,
) -> None:
    """Encode images once and keep their vectors: `fit`, `evaluate` and `predict` accept FEATURES_DIR instead of images."""
    started = time.perf_counter()
    with notes(quiet), progress_reports("Encoding images", quiet=quiet) as (progress,):
        done = extraction.extract(
            image_dir,
            out,
            tip_adapter.load_encoder(encoder, device=device, threads=threads),
            views=views,
            seed=seed,
            force=force,
            threads=threads,
            progress=progress,
        )
    seconds = time.perf_counter() - started
    if done.n_errors and not quiet:
        more = f" (and {done.n_errors - len(done.errors)} more)" if done.n_errors > len(done.errors) else ""
        say(f"note: {counted(done.n_errors, 'image has', 'images have')} no vector: {'; '.join(done.errors)}{more}")
    if json:
        record = {"n_images": done.n_images, "n_encoded": done.n_encoded, "n_failed": done.n_errors}
        print_json({**record, "seconds": seconds})
    else:
        images = counted(done.n_images, "image", "images")
        print_line(f"{images}, {done.n_encoded:,} of them encoded now, in {seconds:.1f} s.")
        print_line(f"Saved to {out}. Next: tip-adapter fit {out} --out MODEL_DIR")
