"""A model as a folder: config.json, adapter.safetensors and README.md, the model card. Knows no classifier.

config.json holds the SHA-256 of each file, its own content included; they are compared before anything is used. No pickle anywhere.
"""

from __future__ import annotations

import hashlib
import html
import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from tip_adapter.errors import BundleError, DamagedBundle, OutputExists, counted, printable
from tip_adapter.files import recover_folder, write_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

FORMAT = 1
CONFIG, ARRAYS, CARD = "config.json", "adapter.safetensors", "README.md"


def write_bundle(
    folder: str | os.PathLike[str],
    config: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
    *,
    replace: bool = False,
) -> None:
    """Write a model folder, whole or not at all.

    Parameters
    ----------
    folder : path
    config : JSON-able; `format` and `files` are added
    arrays : name → array
    replace : bool, whether what stands there may be replaced

    Raises
    ------
    OutputExists
        Something stands there and `replace` is false.
    NotWritable
        With the system's reason; what was there before still is.
    """
    files = {
        ARRAYS: save({name: np.ascontiguousarray(array) for name, array in arrays.items()}),
        CARD: model_card(config, trained=any(name.startswith("learned.") for name in arrays)).encode(),
    }
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    if replace:
        refuse_unreplaceable(folder)
    stated = {"format": FORMAT, **config}
    whole = {**stated, "files": {**digests, CONFIG: _digest(stated)}}
    files[CONFIG] = (json.dumps(whole, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
    write_folder(folder, files, replace=replace)


def read_config(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """The configuration of a model folder, compared with the SHA-256 that it states of itself.

    Raises
    ------
    BundleError
        There is no model folder, or it is of a newer format. DamagedBundle if config.json cannot be understood.
    """
    folder = Path(folder)
    recover_folder(folder)
    if not os.path.lexists(folder / CONFIG):
        raise BundleError(f"{printable(folder)} is not a model folder: it has no {CONFIG}; `tip-adapter fit` makes one")
    try:
        config = _parse(_content(folder, CONFIG).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DamagedBundle(f"{printable(folder / CONFIG)} is damaged: {error}") from error
    if not isinstance(config, dict) or not isinstance(config.get("format"), int):
        raise DamagedBundle(f"{printable(folder / CONFIG)} is damaged: it states no format")
    if config["format"] != FORMAT:
        raise BundleError(
            f"{printable(folder)} is of format {config['format']}, this version reads format {FORMAT}; upgrade tip-adapter"
        )
    digests = config.pop("files", None)
    if not isinstance(digests, dict) or set(digests) != {ARRAYS, CARD, CONFIG}:
        raise DamagedBundle(f"{printable(folder / CONFIG)} is damaged: it does not list {ARRAYS}, {CARD} and itself")
    if digests[CONFIG] != _digest(config):
        raise DamagedBundle(f"{printable(folder / CONFIG)} is not as it was saved (another SHA-256); restore or refit")
    return {**config, "files": digests}


def read_bundle(folder: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Configuration and arrays of a model folder, every file compared with its SHA-256.

    A folder that is replaced while it is read looks damaged, the old file beside the new one: it is read again.

    Raises
    ------
    BundleError
        As `read_config`; DamagedBundle if a file is missing, changed or cannot be understood.
    """
    try:
        return _read(Path(folder))
    except DamagedBundle:
        return _read(Path(folder))


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    config = read_config(folder)
    contents = {name: _content(folder, name) for name in (ARRAYS, CARD)}
    for name, content in contents.items():
        if hashlib.sha256(content).hexdigest() != config["files"][name]:
            raise DamagedBundle(
                f"{printable(folder / name)} is not the file that was saved (another SHA-256); restore or refit"
            )
    try:
        return config, load(contents[ARRAYS])
    except (SafetensorError, ValueError, KeyError) as error:
        raise DamagedBundle(f"{printable(folder / ARRAYS)} is damaged: {error}") from error


def _digest(config: Mapping[str, Any]) -> str:
    """SHA-256 of a configuration without its list of files, as JSON with sorted keys and no spaces."""
    text = json.dumps(config, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def refuse_unreplaceable(folder: str | os.PathLike[str]) -> None:
    """Raise OutputExists if something stands there that is no model: photos must survive a slip of the keyboard."""
    folder = Path(folder)
    ours = folder.is_dir() and {path.name for path in folder.iterdir()} in (set(), {CONFIG, ARRAYS, CARD})
    if folder.exists() and not ours:
        raise OutputExists(f"{printable(folder)} is not a model folder and is not replaced; choose another place")


def _content(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise DamagedBundle(f"cannot read {printable(folder / name)}: {error.strerror}") from error


def _parse(text: str) -> Any:
    """JSON, with nothing in it that two readers could understand in two ways."""
    return json.loads(text, object_pairs_hook=_unique, parse_float=_finite, parse_constant=_finite)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        raise ValueError("a key stands twice")
    return record


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not a number")
    return number


def model_card(config: Mapping[str, Any], *, trained: bool = False) -> str:
    """The model card of a configuration: YAML front matter, then what a person wants to know."""
    choice = config["choice"]
    pair = f"alpha {choice['alpha']:.4g}, beta {choice['beta']:.4g}" if choice else "none"
    chosen = choice["rule"] if choice else "nothing to choose"
    before = ", before the keys were fine-tuned" if trained and choice and choice["rule"] != "validation" else ""
    judged = (
        f"{choice['accuracy']:.1%} of {choice['n_rows']} photos ({choice['rule']}{before})"
        if choice and choice["accuracy"] is not None
        else "not measured: there were no photos to leave out"
    )
    rows = "\n".join(f"| {_cell(c['label'])} | {_cell(c['name'])} | {c['photos']} |" for c in config["classes"])
    return f"""---
library_name: tip-adapter
pipeline_tag: image-classification
tags: [few-shot, tip-adapter]
base_encoder: {json.dumps(config["encoder"]["name"])}
---

# A few-shot classifier of {counted(len(config["classes"]), "class", "classes")}

| | |
| --- | --- |
| method | {config["method"]} |
| encoder | {config["encoder"]["name"]}, fingerprint {config["encoder"]["fingerprint"][:12]}…, width {config["encoder"]["width"]} |
| templates | {_cell("; ".join(config["templates"]))} |
| photos | {sum(c["photos"] for c in config["classes"])} |
| pair | {pair} |
| protocol | {chosen} |
| accuracy | {judged} |
| made with | tip-adapter {config["tip_adapter"]}, seed {config["seed"]} |

## How to run it

    pip install tip-adapter
    tip-adapter predict THIS_FOLDER photo.jpg

## Classes

| label | name | photos |
| --- | --- | --- |
{rows}
"""


_MARKDOWN = {ord(c): f"&#{ord(c)};" for c in "|`[\\"}


def _cell(text: str) -> str:
    """Any text as a cell of a Markdown table, with nothing in it that a page would run."""
    escaped = html.escape(text, quote=False).translate(_MARKDOWN)
    return "".join(c if c.isprintable() else " " for c in escaped)
