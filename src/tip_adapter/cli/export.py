"""`tip-adapter export`: a model folder in, an ONNX file out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from tip_adapter.cli._options import ModelDir, one_of
from tip_adapter.cli._output import notes, print_line
from tip_adapter.encoders import EncoderIdentity
from tip_adapter.model.classifier import FewShotClassifier
from tip_adapter.model.head import load_head
from tip_adapter.model.onnx_export import export_pixels, export_vectors
from tip_adapter.text import counted


def export(
    model_dir: ModelDir,
    onnx: Annotated[Path, Option("--onnx", "-o", help="The ONNX file to write.", metavar="FILE")],
    takes: Annotated[
        str,
        Option(
            "--input",
            help="Input of the ONNX model: the encoder's vectors, or preprocessed pixels.",
            parser=one_of("vectors", "pixels"),
            metavar="vectors|pixels",
            autocompletion=lambda: ["vectors", "pixels"],
        ),
    ] = "vectors",
    force: Annotated[bool, Option("--force", "-f", help="Replace FILE.")] = False,
    device: str | None = None,
    threads: int | None = None,
    quiet: bool = False,
) -> None:
    """Write a classifier as one ONNX file that returns probabilities, for programs with ONNX Runtime only."""
    with notes(quiet):
        if takes == "pixels":
            model = FewShotClassifier.load(model_dir, device=device, threads=threads)
            head, gap = model.head_, export_pixels(model.head_, model.encoder_, onnx, force=force)
        else:
            head, config = load_head(model_dir)
            gap = export_vectors(head, EncoderIdentity(**config["encoder"]), onnx, force=force)
    classes = counted(len(head.classes), "class", "classes")
    print_line(f"{takes.capitalize()} to probabilities of {classes}, {onnx.stat().st_size / 2**20:.1f} MiB.")
    print_line(f"Checked on random input: probabilities differ from Python's by {gap:.1g} at most.")
    print_line(f"Saved to {onnx}.")
