"""The format of model folders: records of config.json and of the arrays' header, limits, and checks over several values.

docs/reference/format.md is the format as a contract; the records below are the same for the program.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta

from tip_adapter.images.labels import label_of, refuse_case_duplicates
from tip_adapter.io.json_schema import ValidationError, convert
from tip_adapter.text import printable, shown
from tip_adapter.validation import MAX_CHOSEN_ALPHA, MAX_CHOSEN_BETA, MAX_LOGIT_SCALE, MAX_TEMPERATURE

if TYPE_CHECKING:
    from collections.abc import Mapping

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


DTYPES = {name: np.dtype(code) for name, code in [("F32", "<f4"), ("F64", "<f8"), ("I32", "<i4"), ("I64", "<i8")]}


# ---- checks over several values --------------------------------------------------------------------------------------


def check_config(stated: Mapping[str, Any]) -> None:
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
    refuse_case_duplicates(labels)
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


def check_shapes(stated: Mapping[str, Any], found: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]) -> None:
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
        if dtype not in DTYPES.values():
            raise ValueError(f"{printable(name)} of {dtype} is not {', '.join(DTYPES)}")
        if math.prod(shape) > most:
            raise ValueError(f"{printable(name)} of shape {shape} is larger than any method learns ({most} values)")


def check_arrays(stated: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Raise ValueError unless the arrays fit the configuration: dtypes, shapes, unit rows, class indices, finite."""
    check_shapes(stated, {name: (array.dtype, array.shape) for name, array in arrays.items()})
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
