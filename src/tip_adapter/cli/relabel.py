"""`tip-adapter relabel`: stored vectors in, Parquet files of labels out; no image is read."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

from typer import Argument

from tip_adapter.cli._options import Json, ModelDir
from tip_adapter.cli._output import notes, progress_reports
from tip_adapter.cli.label import LabelsDir, Workers, show_labelled


def relabel(
    model_dir: ModelDir,
    vectors_dir: Annotated[
        Path, Argument(metavar="VECTORS_DIR", help="Made by `tip-adapter label --vectors` or `tip-adapter extract`.")
    ],
    out: LabelsDir,
    workers: Workers = None,
    json: Json = False,
    threads: int | None = None,
    quiet: bool = False,
) -> None:
    """Label stored vectors by a model of the same encoder: no image is read again."""
    from tip_adapter.distributed.job import relabel_vectors  # here: help needs no NumPy

    started = time.perf_counter()
    with notes(quiet), progress_reports("Labelling files of vectors", quiet=quiet) as (progress,):
        done = relabel_vectors(model_dir, vectors_dir, out, workers=workers, threads=threads or 1, progress=progress)
    show_labelled(done, out, time.perf_counter() - started, json=json, quiet=quiet)
