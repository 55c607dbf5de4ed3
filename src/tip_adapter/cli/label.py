"""`tip-adapter label`: very many images in, Parquet files of labels out; an interrupted run is continued by the next."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from tip_adapter.cli._options import Json, ModelDir, one_of, real, whole
from tip_adapter.cli._output import notes, print_json, print_line, progress_reports, say
from tip_adapter.distributed import ENGINES, MAX_ERROR_RATE, PART_ROWS
from tip_adapter.text import counted

if TYPE_CHECKING:
    from tip_adapter.distributed.job import Labelled

LabelsDir = Annotated[
    Path, Option("--out", "-o", help="The folder of labels, new or to be continued.", metavar="LABELS_DIR")
]
Workers = Annotated[
    int | None,
    Option(
        help="Worker processes, each with a model; default: one per available processor.", parser=whole(1), metavar="N"
    ),
]


def label(
    model_dir: ModelDir,
    source: Annotated[
        str,
        Argument(
            metavar="INPUT",
            help="A folder, a list (.csv, .tsv, .jsonl, .txt), Parquet, tar shards, or a URL of any of them.",
        ),
    ],
    out: LabelsDir,
    engine: Annotated[
        str,
        Option(help="local: processes of this machine; ray: a cluster.", parser=one_of(*ENGINES), metavar="NAME"),
    ] = ENGINES[0],
    workers: Workers = None,
    part_rows: Annotated[int, Option(help="Images of the largest parts.", parser=whole(1), metavar="N")] = PART_ROWS,
    vectors: Annotated[bool, Option("--vectors", help="Keep each image's vector, as float16, for `relabel`.")] = False,
    max_error_rate: Annotated[
        float, Option(help="Stop if a larger share of images is unreadable.", parser=real, metavar="SHARE")
    ] = MAX_ERROR_RATE,
    address: Annotated[
        str | None, Option(help="Of a Ray cluster; without it Ray runs on this machine.", metavar="RAY")
    ] = None,
    json: Json = False,
    device: str | None = None,
    threads: int | None = None,
    quiet: bool = False,
) -> None:
    """Label very many images: parts of Parquet files, each done exactly once, on one machine or a cluster."""
    from tip_adapter.distributed.job import label_images  # here: help needs no NumPy

    started = time.perf_counter()
    with notes(quiet), progress_reports("Labelling images", quiet=quiet) as (progress,):
        done = label_images(
            model_dir,
            source,
            out,
            engine=engine,
            workers=workers,
            part_rows=part_rows,
            vectors=vectors,
            max_error_rate=max_error_rate,
            address=address,
            device=device,
            threads=threads or 1,
            progress=progress,
        )
    show_labelled(done, out, time.perf_counter() - started, json=json, quiet=quiet)


def show_labelled(done: Labelled, out: Path, seconds: float, *, json: bool, quiet: bool) -> None:
    """What a run did."""
    if done.n_errors and not quiet:
        say(f"note: {counted(done.n_errors, 'image has', 'images have')} no label; see the column error")
    if json:
        record = {"n_images": done.n_images, "n_failed": done.n_errors, "n_parts": done.n_parts}
        print_json({**record, "n_parts_labelled": done.n_labelled, "seconds": seconds})
        return
    parts = f"{counted(done.n_parts, 'part', 'parts')}, {counted(done.n_labelled, 'part', 'parts')} labelled now"
    print_line(f"{counted(done.n_images, 'image', 'images')} in {parts}, in {seconds:.1f} s.")
    print_line(f"Saved to {out}; read {out}/part-*/labels.parquet.")
