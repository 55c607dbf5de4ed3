"""Model folders: config.json, adapter.safetensors and README.md, written atomically, and checked completely when read.

docs/reference/format.md is the format as a contract; the records below are the same for the program. What is read is
compared with its SHA-256 and checked completely before use; what could not be read again is not written. No pickle.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta
from safetensors import SafetensorError
from safetensors.numpy import load, save

from tip_adapter.errors import DamagedModelFolder, ModelFolderError, NotWritable, OutputExists
from tip_adapter.images.labels import label_of, refuse_lookalike_labels
from tip_adapter.io.files import is_folder, not_writable, open_regular, read_bounded, readable_path, write_folder
from tip_adapter.io.json_schema import ValidationError, convert, parse_json
from tip_adapter.model.card import model_card
from tip_adapter.text import first_of, printable, shown
from tip_adapter.validation import MAX_CHOSEN_ALPHA, MAX_CHOSEN_BETA, MAX_LOGIT_SCALE, MAX_TEMPERATURE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

#: Formats that are read. The second may have one array more, `DIGESTS`; a model without it is written in the first. The third
#: may have it, too, and what earlier versions do not know: no `CLASS_EMBEDDINGS`, `class_sums` among the parameters, which says how
#: equation 4 sums over a class, or a choice without alpha and beta.
FORMATS = (1, 2, 3)
#: The array of the class names' vectors, missing where the encoder reads no names.
CLASS_EMBEDDINGS = "class_embeddings"
#: The array of the photos' contents: a SHA-256 as four integers of 64 bits, zeros where it is unknown.
DIGESTS = "support_digests"
CONFIG, ARRAYS, CARD = "config.json", "adapter.safetensors", "README.md"
#: Largest config.json and card: the ids of ImageNet's 1.28 million photos take 50.
MOST_TEXT_MIB = 64
#: Values of config.json, counted by the commas between them: 64 MiB of nothing else would take gigabytes of memory.
MOST_VALUES = 2**21
#: Largest body of the arrays, in bytes: the vectors of ImageNet's 1.28 million photos take 5 GiB.
MOST_BODY = 2**34
#: Largest header of the arrays, in bytes: four arrays take 400.
MOST_HEADER = 2**20
#: A learned array has at most as many rows and columns as images, classes, the width, or this.
MOST_ROWS = 4096
#: Labels and photos become tables whose cells are as wide as the longest text: entries of 4 bytes.
MOST_TABLE = 2**28

Count = Annotated[int, Meta(ge=0, le=2**53)]
Share = Annotated[float, Meta(ge=0, le=1)]
Line = Annotated[str, Meta(min_length=1, max_length=200)]
Setting = None | bool | Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | float | str


class _Record(msgspec.Struct, forbid_unknown_fields=True):
    """A record of config.json or of the arrays' header; docs/reference/format.md says what each value is."""


class EncoderRecord(_Record):
    """The identity of the encoder that made the vectors."""

    name: Annotated[str, Meta(min_length=1, max_length=4096)]
    fingerprint: Line
    width: Annotated[int, Meta(ge=1, le=2**20)]


class ClassRecord(_Record):
    """A class: its label, the name that the text encoder reads, its number of support images."""

    label: str
    name: str
    n_images: Count


class ChoiceRecord(_Record):
    """How settings were chosen; alpha and beta are null for a method without them.

    A search may exceed what a user may set: both are ratios of spreads. Alpha is 1e15 where no image resembles one of another
    class, and beta 3.2 / sigma at most, where a sigma below 1e-6 counts as none.
    """

    alpha: Annotated[float, Meta(ge=0, le=MAX_CHOSEN_ALPHA)] | None
    beta: Annotated[float, Meta(gt=0, le=MAX_CHOSEN_BETA)] | None
    temperature: Annotated[float, Meta(ge=1e-3, le=MAX_TEMPERATURE)]
    accuracy: Share | None
    rule: Line
    n_rows: Count


class ClassAccuracyRecord(_Record):
    """Leave-one-out accuracy of one class."""

    label: str
    accuracy: Share
    n_rows: Annotated[int, Meta(ge=1, le=2**53)]


class ConfusionRecord(_Record):
    """How many images of one class were predicted as another."""

    label: str
    called: str
    n_rows: Annotated[int, Meta(ge=1, le=2**53)]


class LeftOutRecord(_Record):
    """Leave-one-out accuracy on the support, and the rejection threshold that follows from it."""

    accuracy: Share
    interval: tuple[Share, Share]
    n_rows: Annotated[int, Meta(ge=1, le=2**53)]
    per_class: list[ClassAccuracyRecord]
    confusions: list[ConfusionRecord]
    kept: Share
    threshold: Share
    refused: Share | None = None
    near_repeats: Count = 0


class ModelRecord(_Record):
    """config.json without its digests."""

    format: Literal[1, 2, 3]
    tip_adapter: Line
    encoder: EncoderRecord
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    method: Line
    parameters: dict[str, Setting]
    classes: Annotated[list[ClassRecord], Meta(min_length=1)]
    images: list[str]
    logit_scale: Annotated[float, Meta(gt=0, le=MAX_LOGIT_SCALE)]
    templates: list[str]
    choice: ChoiceRecord | None
    left_out: LeftOutRecord | None
    finetune_with: Line | None
    training: dict[str, Setting]


Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class Digests(_Record, rename={"arrays": ARRAYS, "card": CARD, "config": CONFIG}):
    """SHA-256 of each file."""

    arrays: Sha256
    card: Sha256
    config: Sha256


class ArrayRecord(_Record):
    """One array of the safetensors header."""

    dtype: Literal["F32", "F64", "I32", "I64"]
    shape: Annotated[list[Annotated[int, Meta(ge=0, le=2**63 - 1)]], Meta(max_length=8)]
    data_offsets: tuple[Annotated[int, Meta(ge=0, le=2**63 - 1)], Annotated[int, Meta(ge=0, le=2**63 - 1)]]


_DTYPES = {name: np.dtype(code) for name, code in [("F32", "<f4"), ("F64", "<f8"), ("I32", "<i4"), ("I64", "<i8")]}
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
    write_folder(folder, files, replace=replace)


def model_folder_files(config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> dict[str, bytes]:
    """File name → content of a model folder; ValueError, which says why, if it could not be read again."""
    choice = config["choice"]
    newer = (
        CLASS_EMBEDDINGS not in arrays or "class_sums" in config["parameters"] or (choice and choice["alpha"] is None)
    )
    stated = {"format": 3 if newer else FORMATS[DIGESTS in arrays], **config}
    _check_stated(stated)
    _check_arrays(stated, arrays)
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
        _check_stated(config)
    return {**config, "files": digests}


def refuse_unreplaceable(folder: str | os.PathLike[str]) -> None:
    """Raise OutputExists if something exists there that is no model, so that a mistyped path does no harm."""
    place = Path(os.path.realpath(folder))
    try:
        place.lstat()
        names = {path.name for path in place.iterdir()} - _CLUTTER if place.is_dir() else {place.name}
    except FileNotFoundError:
        return
    except OSError as error:
        raise not_writable(folder, error) from error
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
        _check_arrays(config, arrays)
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
    except (ValueError, RecursionError) as error:
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
    declared = sum(math.prod(entry.shape) * _DTYPES[entry.dtype].itemsize for entry in layout.values())
    if declared != n_bytes:
        raise ValueError(f"its arrays take {declared} bytes, but it has {n_bytes}")
    _check_shapes(config, {name: (_DTYPES[entry.dtype], tuple(entry.shape)) for name, entry in layout.items()})
    if n_bytes > MOST_BODY:
        raise ValueError(f"its arrays of {n_bytes} bytes are above the limit of {MOST_BODY}")
    file.seek(0)
    content = file.read(8 + length + n_bytes)  # one piece: the largest of a model
    _require_digest(config["files"][ARRAYS], content)
    try:
        return load(content)
    except SafetensorError as error:
        raise ValueError(f"its header does not fit its content ({error})") from error


# ---- checks over several values --------------------------------------------------------------------------------------


def _check_stated(stated: Mapping[str, Any]) -> None:
    """Raise ValueError unless the configuration is what the table says and its classes are unique and in order."""
    convert(stated, ModelRecord)
    choice, encoder = stated["choice"] or {}, stated["encoder"]
    names = {name: stated[name] for name in ("tip_adapter", "method", "finetune_with")}
    names |= {"encoder.name": encoder["name"], "encoder.fingerprint": encoder["fingerprint"]}
    names |= {"choice.rule": choice.get("rule")}
    for place, value in names.items():
        if value is not None and not value.isprintable():
            raise ValidationError(f"is {shown(value)}, not printable", place)
    labels = [entry["label"] for entry in stated["classes"]]
    if sorted(set(labels)) != labels:
        raise ValueError("classes are not unique and in the order of their labels")
    for name, texts in [("classes", labels), ("images", stated["images"])]:
        if len(texts) * max(map(len, texts), default=0) > MOST_TABLE:
            raise ValueError(f"{name} hold a text too long for {len(texts)} of them")
    for row, name in enumerate(stated["images"]):
        if "\0" in name:  # at the end of a text NumPy drops it
            raise ValidationError(f"is {shown(name)}, which contains NUL", f"images[{row}]")
    refuse_lookalike_labels(labels)
    for row, label in enumerate(labels):
        if label_of(label, f"classes[{row}].label") != label:
            raise ValidationError(
                f"is {shown(label)}, not in Unicode NFC without white space around it", f"classes[{row}].label"
            )
    _check_names(stated, frozenset(labels))


def _check_names(stated: Mapping[str, Any], labels: frozenset[str]) -> None:
    """Raise ValueError unless class names and templates are text, and what was left out is of these classes."""
    texts = {f"classes[{row}].name": entry["name"] for row, entry in enumerate(stated["classes"])}
    texts |= {f"templates[{row}]": text for row, text in enumerate(stated["templates"])}
    for place, text in texts.items():
        if not text or "\0" in text:
            raise ValidationError(f"is {shown(text)}, which is empty or contains NUL", place)
    left_out = stated["left_out"] or {"per_class": [], "confusions": []}
    measured = {entry["label"] for entry in left_out["per_class"] + left_out["confusions"]}
    measured |= {entry["called"] for entry in left_out["confusions"]}
    if unknown := sorted(measured - labels):
        raise ValidationError(f"has {shown(unknown[0])}, which is no class", "left_out")


def _check_shapes(stated: Mapping[str, Any], found: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]) -> None:
    """Raise ValueError unless dtypes and shapes fit the configuration; learned arrays have a method's own shapes."""
    n_classes, n_images, width = len(stated["classes"]), len(stated["images"]), stated["encoder"]["width"]
    wanted = {
        "support_vectors": f"float32 of shape {(n_images, width)}",
        "support_labels": f"int64 of shape {(n_images,)}",
    }
    if stated["templates"] or stated["format"] < FORMATS[2]:  # else the encoder reads no names
        wanted = {CLASS_EMBEDDINGS: f"float32 of shape {(n_classes, width)}", **wanted}
    if DIGESTS in found and stated["format"] > FORMATS[0]:
        wanted[DIGESTS] = f"int64 of shape {(n_images, 4)}"
    stored = {name: f"{dtype} of shape {shape}" for name, (dtype, shape) in found.items()}
    own = {name: what for name, what in stored.items() if not name.startswith("learned.")}
    for name in wanted | own:
        if own.get(name) != wanted.get(name):
            raise ValueError(f"{printable(name)} is {own.get(name, 'missing')}, not {wanted.get(name, 'known')}")
    most = max(n_images, n_classes, width, MOST_ROWS) * max(width, MOST_ROWS)
    for name, (dtype, shape) in found.items():
        if dtype not in _DTYPES.values():
            raise ValueError(f"{printable(name)} of {dtype} is not {', '.join(_DTYPES)}")
        if math.prod(shape) > most:
            raise ValueError(f"{printable(name)} of shape {shape} is larger than any method learns ({most} values)")


def _check_arrays(stated: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Raise ValueError unless the arrays fit the configuration: dtypes, shapes, unit rows, class indices, finite."""
    _check_shapes(stated, {name: (array.dtype, array.shape) for name, array in arrays.items()})
    counts = [entry["n_images"] for entry in stated["classes"]]
    n_classes = len(counts)
    for name in arrays.keys() & {CLASS_EMBEDDINGS, "support_vectors"}:
        with np.errstate(over="ignore"):
            squares = np.einsum("ij,ij->i", arrays[name], arrays[name])
        if not np.allclose(squares, 1, rtol=0, atol=1e-3):
            raise ValueError(f"{name} are not unit rows")
    if np.any(arrays["support_labels"] < 0) or np.any(arrays["support_labels"] >= n_classes):
        raise ValueError("support_labels are not class indices")
    if np.bincount(arrays["support_labels"], minlength=n_classes).tolist() != counts:
        raise ValueError("support_labels hold other numbers of photos than classes")
    if CLASS_EMBEDDINGS not in arrays and 0 in counts:
        raise ValueError(f"{CLASS_EMBEDDINGS} are missing, and so are photos of a class")
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{printable(name)} holds NaN or infinity")
