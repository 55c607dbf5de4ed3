"""A model as a folder: config.json, adapter.safetensors and README.md, the model card. Knows no classifier.

docs/reference/format.md is the format as a contract; the tables below are the same for the program. What is read is
compared with its SHA-256 and checked whole before anything is used; what would not be read is not written. No pickle.
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
from safetensors.numpy import save

from tip_adapter.errors import DamagedModelFolder, ModelFolderError, NotWritable, OutputExists
from tip_adapter.io.files import not_writable, open_regular, readable_path, write_folder
from tip_adapter.io.json_schema import (
    items,
    mapping,
    matching,
    maybe,
    number,
    one_of,
    parse_json,
    positive,
    printable_line,
    record,
    setting,
    text,
    whole,
    word,
)
from tip_adapter.model.card import model_card
from tip_adapter.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

FORMAT = 1
CONFIG, ARRAYS, CARD = "config.json", "adapter.safetensors", "README.md"
#: Of config.json and of the card: the names of ImageNet's 1.28 million photos take 50.
MOST_TEXT_MIB = 64
#: Values of config.json, counted by the commas between them: 64 MiB of nothing else would take gigabytes of memory.
MOST_VALUES = 2**21
#: Of the arrays' header, in bytes: four arrays take 400.
MOST_HEADER = 2**20
#: Labels and photos become tables whose cells are as wide as the longest text: entries of 4 bytes.
MOST_TABLE = 2**28

_CHOICE = record(
    {
        "alpha": number(0, 1e30),  # the ratio of two spreads: 1e15 where no photo resembles one of another class
        "beta": positive(1e7),  # 3.2 / sigma at most, and a sigma below 1e-6 is none
        "temperature": number(1e-3, 1e6),
        "accuracy": maybe(number(0, 1)),
        "rule": word,
        "n_rows": whole(0, 2**53),
    }
)
_SHARE = number(0, 1)
_LEFT_OUT = record(
    {
        "accuracy": _SHARE,
        "interval": items(_SHARE, least=2, most=2),
        "n_rows": whole(1, 2**53),
        "per_class": items(record({"label": text, "accuracy": _SHARE, "n_rows": whole(1, 2**53)})),
        "confusions": items(record({"label": text, "called": text, "n_rows": whole(1, 2**53)})),
        "kept": _SHARE,
        "threshold": _SHARE,
    }
)
_STATED = record(
    {
        "format": whole(FORMAT, FORMAT),
        "tip_adapter": word,
        "encoder": record({"name": printable_line, "fingerprint": word, "width": whole(1, 2**20)}),
        "seed": whole(-(2**63), 2**63 - 1),
        "method": word,
        "parameters": mapping(setting),
        "classes": items(record({"label": text, "name": text, "n_images": whole(0, 2**53)}), least=1),
        "images": items(text),
        "logit_scale": positive(1e4),
        "templates": items(text),
        "choice": maybe(_CHOICE),
        "left_out": maybe(_LEFT_OUT),
        "finetune_with": maybe(word),
        "training": mapping(setting),
    }
)
_SHA256 = matching("[0-9a-f]{64}", "a SHA-256 in hexadecimal")
_DIGESTS = record({ARRAYS: _SHA256, CARD: _SHA256, CONFIG: _SHA256})

_DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "I32": np.dtype("<i4"),
    "I64": np.dtype("<i8"),
}
_HEADER = mapping(
    record(
        {
            "dtype": one_of(_DTYPES),
            "shape": items(whole(0, 2**63 - 1), most=8),
            "data_offsets": items(whole(0, 2**63 - 1), least=2, most=2),
        }
    )
)
#: What file managers leave in a folder that a person has looked at.
_CLUTTER = {".DS_Store", "Thumbs.db", "desktop.ini"}
#: A folder that is replaced while it is read is read again, so many times.
_ATTEMPTS = 10


def write_model_folder(
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
    config : the keys of format.md; `format` and `files` are added
    arrays : name → array
    replace : bool, whether a model that stands there may be replaced

    Raises
    ------
    OutputExists
        Something stands there and `replace` is false, or it is no model.
    NotWritable
        With the system's reason, or what of it could not be read again; what was there before still is.
    """
    if replace:
        refuse_unreplaceable(folder)
    try:
        files = model_folder_files(config, arrays)
    except ValueError as error:
        raise NotWritable(f"cannot write {printable(folder)}: {error}") from error
    write_folder(folder, files, replace=replace)


def model_folder_files(config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> dict[str, bytes]:
    """File name → content of a model folder.

    Parameters
    ----------
    config, arrays : as in `write_model_folder`

    Raises
    ------
    ValueError
        What of it could not be read again.
    """
    stated = {"format": FORMAT, **config}
    _check_stated(stated)
    _check_arrays(stated, arrays)
    return _contents(stated, arrays)


def read_model_folder(folder: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Configuration and arrays of a model folder, compared with their SHA-256 and checked.

    A folder that is replaced while it is read looks damaged, the old file beside the new one: it is read again.

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
        There is no model folder, it may not be read, or it is of another format. DamagedModelFolder if config.json is not
        what format.md says.
    """
    path = readable_path(folder) / CONFIG
    _require_model(path)
    with _reading(path) as file:
        content = _text_of(file)
        if content.count(b",") > MOST_VALUES:
            raise ValueError(f"it holds more than {MOST_VALUES} values")
        config = parse_json(content)
        _check_format(config, path.parent)
        digests = config.pop("files", None)
        if not isinstance(digests, dict) or digests.get(CONFIG) != _digest(config):
            raise ValueError("it is not as it was saved (another SHA-256)")
        _DIGESTS(digests)
        _check_stated(config)
    return {**config, "files": digests}


def refuse_unreplaceable(folder: str | os.PathLike[str]) -> None:
    """Raise OutputExists if something stands there that is no model: photos must survive a slip of the keyboard."""
    place = Path(os.path.realpath(folder))
    try:
        place.lstat()
        names = {path.name for path in place.iterdir()} - _CLUTTER if place.is_dir() else {place.name}
    except FileNotFoundError:
        return
    except OSError as error:
        raise not_writable(folder, error) from error
    if names not in (set(), {CONFIG, ARRAYS, CARD}):
        raise OutputExists(f"{printable(folder)} is not a model folder and is not replaced; choose another place")


# ---- writing ---------------------------------------------------------------------------------------------------------


def _contents(stated: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> dict[str, bytes]:
    """File name → content."""
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


def _digest(stated: Mapping[str, Any]) -> str:
    """SHA-256 of a configuration without its list of files, as JSON with sorted keys and no spaces."""
    canonical = json.dumps(stated, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


# ---- reading ---------------------------------------------------------------------------------------------------------


def _read(place: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    config = read_config(place)
    with _reading(place / CARD) as file:
        _require_digest(config["files"][CARD], _text_of(file))
    with _reading(place / ARRAYS) as file:
        arrays = _arrays_of(file, config["files"][ARRAYS])
        _check_arrays(config, arrays)
    return config, arrays


def _identity(folder: str | os.PathLike[str]) -> tuple[Any, ...] | None:
    """What differs between a folder and the one that took its place."""
    try:
        status = readable_path(folder).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns


def _require_model(config: Path) -> None:
    try:
        config.lstat()
    except PermissionError as error:
        raise _denied(config, error) from error
    except OSError as error:
        raise ModelFolderError(
            f"{printable(config.parent)} is not a model folder: it has no {CONFIG}; `tip-adapter fit` makes one"
        ) from error


@contextmanager
def _reading(path: Path) -> Iterator[IO[bytes]]:
    """Open a file of a model; whatever is wrong with it becomes an error that names it."""
    try:
        with open_regular(path) as file:
            yield file
    except ModelFolderError:
        raise
    except PermissionError as error:
        raise _denied(path, error) from error
    except OSError as error:
        raise DamagedModelFolder(f"cannot read {printable(path)}: {error.strerror}; restore it or fit again") from error
    except (ValueError, RecursionError) as error:
        raise DamagedModelFolder(f"{printable(path)} is damaged: {error}; restore it or fit again") from error


def _denied(path: Path, error: OSError) -> ModelFolderError:
    return ModelFolderError(f"cannot read {printable(path)}: {error.strerror}; ask its owner to let you read it")


def _size(file: IO[bytes]) -> int:
    return os.fstat(file.fileno()).st_size


def _text_of(file: IO[bytes]) -> bytes:
    """All of config.json or of the card."""
    size = _size(file)
    if size > MOST_TEXT_MIB * 2**20:
        raise ValueError(f"it is larger than {MOST_TEXT_MIB} MiB")
    return file.read(size)


def _require_digest(digest: str, *parts: bytes) -> None:
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    if found.hexdigest() != digest:
        raise ValueError("it is not the file that was saved (another SHA-256)")


def _arrays_of(file: IO[bytes], digest: str) -> dict[str, NDArray[Any]]:
    """Name → array, read once the file is known to be as long as its header says."""
    start = file.read(8)
    length = int.from_bytes(start, "little")
    n_bytes = _size(file) - 8 - length
    if len(start) < 8 or not 2 <= length <= MOST_HEADER or n_bytes < 0:
        raise ValueError(f"its header of {length} bytes is empty, above {MOST_HEADER}, or longer than the file")
    header = file.read(length)
    layout = _layout(header, n_bytes)
    body = file.read(n_bytes)
    _require_digest(digest, start, header, body)
    return {
        name: np.frombuffer(body, dtype, math.prod(shape), offset).reshape(shape)
        for name, (dtype, shape, offset) in layout.items()
    }


def _layout(header: bytes, n_bytes: int) -> dict[str, tuple[np.dtype[Any], list[int], int]]:
    """Name → dtype, shape and offset of arrays that fill `n_bytes` without a hole or an overlap."""
    entries = parse_json(header)
    _HEADER(entries)
    layout: dict[str, tuple[np.dtype[Any], list[int], int]] = {}
    end = 0
    for name in sorted(entries, key=lambda name: entries[name]["data_offsets"]):
        dtype, shape = _DTYPES[entries[name]["dtype"]], entries[name]["shape"]
        first, last = entries[name]["data_offsets"]
        if first != end or last - first != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{printable(name)} of shape {shape} cannot lie at bytes {first} to {last}")
        layout[name] = dtype, shape, first
        end = last
    if end != n_bytes:
        raise ValueError(f"its arrays take {end} bytes, but it has {n_bytes}")
    return layout


# ---- checks that no single value can tell ----------------------------------------------------------------------------


def _check_format(config: Any, folder: Path) -> None:
    if not isinstance(config, dict) or type(config.get("format")) is not int:
        raise ValueError("it states no format")
    if config["format"] != FORMAT:
        raise ModelFolderError(
            f"{printable(folder)} is of format {config['format']}, this version reads format {FORMAT}; upgrade tip-adapter"
        )


def _check_stated(stated: Mapping[str, Any]) -> None:
    """Raise ValueError unless the configuration is what the table says and its classes are unique and in order."""
    _STATED(stated)
    labels = [entry["label"] for entry in stated["classes"]]
    if sorted(set(labels)) != labels:
        raise ValueError("classes are not unique and in the order of their labels")
    for name, texts in [("classes", labels), ("images", stated["images"])]:
        if len(texts) * max(map(len, texts), default=0) > MOST_TABLE:
            raise ValueError(f"{name} hold a text too long for {len(texts)} of them")


def _check_arrays(stated: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Raise ValueError unless the arrays fit the configuration: dtypes, shapes, unit rows, class indices, finite."""
    counts = [entry["n_images"] for entry in stated["classes"]]
    n_classes, n_images, width = len(counts), len(stated["images"]), stated["encoder"]["width"]
    wanted = {
        "class_embeddings": f"float32 of shape {(n_classes, width)}",
        "support_vectors": f"float32 of shape {(n_images, width)}",
        "support_labels": f"int64 of shape {(n_images,)}",
    }
    own = {n: f"{a.dtype} of shape {a.shape}" for n, a in arrays.items() if not n.startswith("learned.")}
    for name in wanted | own:
        if own.get(name) != wanted.get(name):
            raise ValueError(f"{printable(name)} is {own.get(name, 'missing')}, not {wanted.get(name, 'known')}")
    for name in ("class_embeddings", "support_vectors"):
        _require_unit_rows(arrays[name], name)
    if np.any(arrays["support_labels"] < 0) or np.any(arrays["support_labels"] >= n_classes):
        raise ValueError("support_labels are not class indices")
    if np.bincount(arrays["support_labels"], minlength=n_classes).tolist() != counts:
        raise ValueError("support_labels hold other numbers of photos than classes")
    for name, array in arrays.items():
        if array.dtype not in _DTYPES.values() or not np.isfinite(array).all():
            raise ValueError(
                f"{printable(name)} of {array.dtype} is not {', '.join(_DTYPES)}, or holds NaN or infinity"
            )


def _require_unit_rows(rows: NDArray[Any], name: str) -> None:
    with np.errstate(over="ignore"):
        squares = np.einsum("ij,ij->i", rows, rows)
    if not np.allclose(squares, 1, rtol=0, atol=1e-3):
        raise ValueError(f"{name} are not unit rows")
