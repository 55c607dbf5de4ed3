"""`tip-adapter doctor`: versions, devices, caches, and what is missing."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from importlib.util import find_spec

import onnxruntime
from huggingface_hub import constants

import tip_adapter
from tip_adapter.cli._output import notes, print_line
from tip_adapter.encoders import FAMILIES, encoder_families, encoder_names
from tip_adapter.encoders.onnx.catalogue import named_clips
from tip_adapter.encoders.onnx.download import cached
from tip_adapter.io.files import cache_folder
from tip_adapter.io.processors import available_processors
from tip_adapter.plugins import pip_install
from tip_adapter.text import counted
from tip_adapter.version import __version__

_PACKAGES = (
    "numpy",
    "scipy",
    "scikit-learn",
    "onnxruntime",
    "onnx",
    "safetensors",
    "tokenizers",
    "huggingface-hub",
    "pillow",
    "simplejpeg",
    "typer",
)
#: Module → its purpose and the extra that installs it.
_OPTIONAL = {
    "conformal_clip_data": ("the photos of `tip-adapter demo`", "demo"),
    "matplotlib": ("the figures of `tip-adapter reproduce`", "paper"),
    "pillow_heif": ("HEIC images", "heic"),
    "pyarrow": ("stored features and Parquet files of vectors", "features"),
    "torch": ("open_clip's CLIPs, vectors as tensors", "torch"),
}


def doctor(device: str | None = None) -> None:
    """Show versions, devices, caches, and what is missing and how to get it."""
    print_line(f"tip-adapter {__version__}, Python {platform.python_version()}, {platform.platform()}")
    for package in _PACKAGES:
        print_line(f"  {package:15} {_version(package)}")
    providers = ", ".join(onnxruntime.get_available_providers())
    print_line(
        f"Processor: {available_processors()} of {counted(os.cpu_count() or 1, 'core', 'cores')}. ONNX Runtime: {providers}"
    )
    cache = cache_folder()
    print_line(
        f"Cache: {cache} ({'in use' if cache.exists() else 'empty'}; TIP_ADAPTER_HOME moves it; deleting it costs only time)"
    )
    print_line(f"Downloads: {constants.HF_HUB_CACHE} (HF_HOME moves it)")
    with notes(quiet=True):  # what cannot be imported is said below
        others = {name: family for name, family in encoder_families().items() if name not in FAMILIES}
    for name in encoder_names():
        state = f"a family, {others[name].usage}" if name in others else _state_of(name, device)
        print_line(f"Encoder {name}: {state}")
    for name, clip in named_clips().items():
        print_line(f"Encoder {name}: {'downloaded' if cached(clip) else 'not downloaded'}, {clip.repository}")
    for module, (purpose, extra) in _OPTIONAL.items():
        state = "installed" if find_spec(module) else f"not installed; {pip_install(extra)}"
        print_line(f"Optional, {purpose}: {state}")


def _version(package: str) -> str:
    try:
        return version_of(package)
    except PackageNotFoundError:
        return f"missing; {sys.executable} -m pip install {package}"


def _state_of(name: str, device: str | None) -> str:
    try:
        encoder = tip_adapter.load_encoder(name, device=device)
    except Exception as error:  # another package's may fail in its own way
        return f"cannot be loaded: {error}"
    return f"ready, fingerprint {encoder.identity.fingerprint[:12]}…, width {encoder.identity.width}"
