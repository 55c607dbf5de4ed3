"""Model folders: config.json, adapter.safetensors and README.md, written atomically, and checked completely when read.

What is read is compared with its SHA-256 and checked completely before use, by `format`; what could not be read again is not
written. No pickle.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from tip_adapter.errors import DamagedModelFolder, ModelFolderError, NotWritable, OutputExists
from tip_adapter.images.search import is_of_system
from tip_adapter.io.files import is_folder, not_writable, open_regular, read_bounded, readable_path, write_folder
from tip_adapter.io.json_schema import convert, parse_json
from tip_adapter.model.card import model_card
from tip_adapter.model.format import (
    ARRAYS,
    CARD,
    CLASS_EMBEDDINGS,
    CONFIG,
    DIGESTS,
    DTYPES,
    FORMATS,
    MOST_BODY,
    MOST_HEADER,
    MOST_TEXT_MIB,
    MOST_VALUES,
    ArrayRecord,
    Digests,
    check_arrays,
    check_config,
    check_shapes,
)
from tip_adapter.text import first_of, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

#: A folder that is replaced while it is read is read again, so many times.
_ATTEMPTS = 10


def write_model_folder(
    folder: str | os.PathLike[str],
    config: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
    *,
    replace: bool = False,
) -> None:
    """Write a model folder, whole or not at all; `replace` says whether an existing model may be replaced.

    Parameters
    ----------
    folder, replace : path, bool
    config : the keys of format.md; `format` and `files` are added
    arrays : name → array

    Raises
    ------
    OutputExists
        Something exists there and `replace` is false, or it is no model.
    NotWritable
        With the system's reason, or why it could not be read again; what was there is unchanged.
    """
    if replace:
        refuse_unreplaceable(folder)
    try:
        files = model_folder_files(config, arrays)
    except ValueError as error:
        raise NotWritable(f"cannot write {printable(folder)}: {error}") from error
    write_folder(folder, files, replace=replace, kept=is_of_system)


def model_folder_files(config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> dict[str, bytes]:
    """File name → content of a model folder; ValueError, which says why, if it could not be read again."""
    choice = config["choice"]
    newer = (
        CLASS_EMBEDDINGS not in arrays or "class_sums" in config["parameters"] or (choice and choice["alpha"] is None)
    )
    stated = {"format": 3 if newer else FORMATS[DIGESTS in arrays], **config}
    check_config(stated)
    check_arrays(stated, arrays)
    trained = any(name.startswith("learned.") for name in arrays)
    files = {
        ARRAYS: save({name: np.ascontiguousarray(array) for name, array in arrays.items()}),
        CARD: model_card(stated, trained=trained).encode(),
    }
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    whole_config = {**stated, "files": {**digests, CONFIG: _digest(stated)}}
    files[CONFIG] = (json.dumps(whole_config, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
    if max(len(files[CONFIG]), len(files[CARD])) > MOST_TEXT_MIB * 2**20 or files[CONFIG].count(b",") > MOST_VALUES:
        raise ValueError(
            f"its names are more than {MOST_TEXT_MIB} MiB or {MOST_VALUES}; shorten them or use fewer photos"
        )
    return files


def read_model_folder(folder: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Configuration and arrays of a model folder, compared with their SHA-256 and checked.

    A folder that is replaced while it is read looks damaged, with files of both versions: it is read again.

    Raises
    ------
    ModelFolderError
        As `read_config`; DamagedModelFolder if a file is missing, changed or is not what format.md says.
    """
    for _ in range(_ATTEMPTS):
        before = _identity(folder)
        try:
            return _read(readable_path(folder))
        except ModelFolderError:
            if _identity(folder) == before:
                raise
    return _read(readable_path(folder))


def read_config(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """The configuration of a model folder, compared with the SHA-256 that it states of itself and checked.

    Raises
    ------
    ModelFolderError
        There is no model folder, it may not be read, or it is of another format; DamagedModelFolder for other damage.
    """
    path = readable_path(folder) / CONFIG
    with _naming(path):
        _require_model(path)
        content = read_bounded(path, MOST_TEXT_MIB * 2**20)
        if content.count(b",") > MOST_VALUES:
            raise ValueError(f"it holds more than {MOST_VALUES} values")
        config = parse_json(content)
        if not isinstance(config, dict) or type(config.get("format")) is not int:
            raise ValueError("it states no format")
        if config["format"] not in FORMATS:
            stated = f"{printable(path.parent)} is of format {config['format']}"
            known = f"{FORMATS[0]} to {FORMATS[-1]}"
            raise ModelFolderError(f"{stated}, this version reads formats {known}; upgrade tip-adapter")
        digests = config.pop("files", None)
        if not isinstance(digests, dict) or digests.get(CONFIG) != _digest(config):
            raise ValueError("it is not as it was saved (another SHA-256)")
        convert(digests, Digests)
        check_config(config)
    return {**config, "files": digests}


def refuse_unreplaceable(folder: str | os.PathLike[str]) -> None:
    """Raise OutputExists if something exists there that is no model, so that a mistyped path does no harm."""
    place = Path(os.path.realpath(folder))
    try:
        place.lstat()
        inside = [path.name for path in place.iterdir()] if place.is_dir() else [place.name]
    except FileNotFoundError:
        return
    except OSError as error:
        raise not_writable(folder, error) from error
    names = {name for name in inside if not (place.is_dir() and is_of_system(name))}
    others = sorted(names - {CONFIG, ARRAYS, CARD})
    if others and {CONFIG, ARRAYS} <= names:
        raise OutputExists(
            f"{printable(folder)} holds {first_of(others)}, which is no part of a model, and is not replaced; move that elsewhere"
        )
    if names not in (set(), {CONFIG, ARRAYS, CARD}):
        raise OutputExists(f"{printable(folder)} is not a model folder and is not replaced; choose another place")


def _digest(stated: Mapping[str, Any]) -> str:
    """SHA-256 of a configuration without its list of files, as JSON with sorted keys and no spaces."""
    canonical = json.dumps(stated, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


# ---- reading ---------------------------------------------------------------------------------------------------------


def _read(place: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    config = read_config(place)
    with _naming(place / CARD):
        _require_digest(config["files"][CARD], read_bounded(place / CARD, MOST_TEXT_MIB * 2**20))
    with _naming(place / ARRAYS), open_regular(place / ARRAYS) as file:
        arrays = _arrays_of(file, config)
        check_arrays(config, arrays)
    return config, arrays


def _identity(folder: str | os.PathLike[str]) -> tuple[Any, ...] | None:
    """What differs between a folder and its replacement."""
    try:
        status = readable_path(folder).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns


def _require_model(config: Path) -> None:
    try:
        config.lstat()
    except PermissionError:
        raise
    except OSError as error:
        absent = "it is a file" if os.path.lexists(config.parent) else "there is no such folder"
        found = f"it has no {CONFIG}" if is_folder(config.parent) else absent
        raise ModelFolderError(
            f"{printable(config.parent)} is not a model folder: {found}; `tip-adapter fit` makes one"
        ) from error


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Raise whatever is wrong with a file of a model as a ModelFolderError that names the file."""
    try:
        yield
    except ModelFolderError:
        raise
    except PermissionError as error:
        reason = f"cannot read {printable(path)}: {error.strerror}"
        raise ModelFolderError(f"{reason}; ask its owner to let you read it") from error
    except OSError as error:
        raise DamagedModelFolder(f"cannot read {printable(path)}: {error.strerror}; restore it or fit again") from error
    except RecursionError as error:
        raise DamagedModelFolder(
            f"{printable(path)} is damaged: its brackets are nested too deeply; restore it or fit again"
        ) from error
    except ValueError as error:
        raise DamagedModelFolder(f"{printable(path)} is damaged: {error}; restore it or fit again") from error


def _require_digest(digest: str, content: bytes) -> None:
    if hashlib.sha256(content).hexdigest() != digest:
        raise ValueError("it is not the file that was saved (another SHA-256)")


def _arrays_of(file: IO[bytes], config: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Name → array; the body is read once the file is as long as its shapes say and these fit the configuration."""
    start = file.read(8)
    length = int.from_bytes(start, "little")
    n_bytes = os.fstat(file.fileno()).st_size - 8 - length
    if len(start) < 8 or not 2 <= length <= MOST_HEADER or n_bytes < 0:
        raise ValueError(f"its header of {length} bytes is empty, above {MOST_HEADER}, or longer than the file")
    header = file.read(length)
    layout = convert(parse_json(header), dict[str, ArrayRecord])
    declared = sum(math.prod(entry.shape) * DTYPES[entry.dtype].itemsize for entry in layout.values())
    if declared != n_bytes:
        raise ValueError(f"its arrays take {declared} bytes, but it has {n_bytes}")
    check_shapes(config, {name: (DTYPES[entry.dtype], tuple(entry.shape)) for name, entry in layout.items()})
    if n_bytes > MOST_BODY:
        raise ValueError(f"its arrays of {n_bytes} bytes are above the limit of {MOST_BODY}")
    file.seek(0)
    content = file.read(8 + length + n_bytes)  # one piece: the largest of a model
    _require_digest(config["files"][ARRAYS], content)
    try:
        return load(content)
    except SafetensorError as error:
        raise ValueError(f"its header does not fit its content ({error})") from error
