"""Encoders map images and class names to vectors of one space. To add one: a file here and a line below.

A name, such as ``pocket``, is one encoder; a family makes one per source: ``family:source``. Known CLIPs have short names,
such as ``clip``, listed in onnx/clips.toml. Two names joined by a plus sign are two encoders as one: joined.py. The class of a single encoder has a `record`; a family has none before it has
a source.
"""

from __future__ import annotations

import os
from inspect import getdoc
from typing import TYPE_CHECKING, Any, NamedTuple

from tip_adapter import validation
from tip_adapter.encoders.base import Encoder, EncoderIdentity, EncoderRecord
from tip_adapter.encoders.joined import JoinedEncoder, split_name
from tip_adapter.encoders.onnx.catalogue import named_clips
from tip_adapter.encoders.onnx.layouts import HALF
from tip_adapter.errors import MissingExtra, UnaskedDownload, UsageError, warn
from tip_adapter.plugins import known_names, load_object, resolve
from tip_adapter.text import printable
from tip_adapter.validation import require

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = [
    "DEFAULT",
    "ENCODERS",
    "FAMILIES",
    "Encoder",
    "EncoderIdentity",
    "EncoderRecord",
    "Family",
    "encoder_families",
    "encoder_names",
    "encoder_records",
    "in_half",
    "load_encoder",
    "refuse_unasked_download",
]

_GROUP = "tip_adapter.encoders"

#: The encoder that is used by default.
DEFAULT = "pocket"


class Family(NamedTuple):
    """Encoders of one kind, each made from a source.

    Parameters
    ----------
    make : ``module:function``, called with the source, and `device` and `threads` by name
    usage : how it is written, such as ``onnx:FOLDER``
    description : str, one line
    needs : pip requirements beyond the base install
    absent : ``module:function``, called with the source; it returns the repository on the Hugging Face hub that loading would
        download, or None. Empty for a family that downloads nothing
    """

    make: str
    usage: str
    description: str
    needs: tuple[str, ...] = ()
    absent: str = ""


ENCODERS = {
    "pocket": "tip_adapter.encoders.pocket.encoder:PocketEncoder",
    "toy": "tip_adapter.encoders.toy:ToyEncoder",
}

FAMILIES = {
    "onnx": Family(
        "tip_adapter.encoders.onnx.encoder:load_source",
        "onnx:REPO_OR_FOLDER",
        "a CLIP or an encoder of images, as ONNX files, without torch",
        absent="tip_adapter.encoders.onnx.encoder:absent_repository",
    ),
    "open_clip": Family(
        "tip_adapter.encoders.open_clip.encoder:OpenClipEncoder",
        "open_clip:ARCH/PRETRAINED",
        "any CLIP of open_clip, by name, from its hub or a file",
        needs=("open-clip-torch", "torch", "torchvision", "transformers"),
        absent="tip_adapter.encoders.open_clip.encoder:absent_repository",
    ),
    "vectors": Family(
        "tip_adapter.features.file_encoder:VectorsFileEncoder",
        "vectors:FILE",
        "vectors from elsewhere, from a .npz or Parquet file",
    ),
}

#: Makes the encoder of a CLIP's short name: called with the name, and `device` and `threads` by name.
_NAMED = "tip_adapter.encoders.onnx.encoder:load_named"


def load_encoder(
    name: str | Sequence[str | Encoder] = DEFAULT, *, device: str | None = None, threads: int | None = None
) -> Encoder:
    """Load an encoder by name.

    Parameters
    ----------
    name : a name of `ENCODERS`, a short name of a CLIP, or an entry point ``tip_adapter.encoders`` of an installed
        package; or ``family:source``, of `FAMILIES` or such an entry point. ``@half`` after a name or source with ONNX files
        in half precision chooses those. Two of these joined by a plus sign, or a list of
        two, names or loaded encoders, are two encoders as one (`joined.JoinedEncoder`)
    device : None or ``cpu``, or ``cuda`` where ONNX Runtime has it, or torch for an encoder on torch
    threads : int, None for one per processor that this process may use in its container

    Raises
    ------
    UnknownName
        With the nearest known name.
    UsageError
        The device is not available, or `threads` is not a number from 1 to 256.
    MissingExtra
        It needs an optional package that is not installed.
    CheckpointError
        Its weights have another SHA-256 than expected, cannot be read, or contain more than tensors.
    DownloadError
        Its weights cannot be downloaded.

    Examples
    --------
    >>> from tip_adapter import load_encoder
    >>> encoder = load_encoder("toy")
    >>> encoder.encode_texts(["a photo of a cat"]).shape == (1, encoder.identity.width)
    True
    """
    require(device is None or isinstance(device, str), "device", "cpu or cuda", device)
    several = isinstance(name, (list, tuple)) and len(name) == 2
    require(isinstance(name, str) or several, "encoder", "a name, or a list of two", name)
    if not isinstance(name, str):
        loaded = [
            load_encoder(part, device=device, threads=threads) if isinstance(part, str) else part for part in name
        ]
        return JoinedEncoder(loaded)
    parts = _parts_of(name)
    if len(parts) > 1:
        weights = [weight for weight, _ in parts if weight is not None]
        return JoinedEncoder([load_encoder(part, device=device, threads=threads) for _, part in parts], weights or None)
    family, colon, source = name.partition(":")
    short = family in named_clips()
    makers = dict.fromkeys(named_clips(), _NAMED) | {key: value.make for key, value in FAMILIES.items()} | ENCODERS
    make = resolve(_GROUP, "encoder", family, makers)
    is_family = not short and not hasattr(make, "record")
    if not colon and is_family:
        usage = FAMILIES[family].usage if family in FAMILIES else f"{family}:SOURCE"
        raise UsageError(f"encoder {family} needs a source: {usage}; see `tip-adapter encoders`")
    if colon and not is_family:
        raise UsageError(f"encoder {family} takes no source; leave out {printable(colon + source)}")
    sources = (source,) if colon else (name,) if short else ()
    encoder: Encoder = make(*sources, device=device, threads=validation.threads(threads))
    return encoder


def in_half(name: str) -> str:
    """The name of the same encoder in half precision; of both where two are joined.

    Parameters
    ----------
    name : as in `load_encoder`

    Raises
    ------
    UsageError
        It is not offered in half precision.

    Examples
    --------
    >>> in_half("0.3*clip+0.7*dinov2")
    '0.3*clip@half+0.7*dinov2@half'
    """
    halves = []
    for weight, part in _parts_of(name):
        half = f"{part.removesuffix(HALF)}{HALF}"
        if half not in named_clips() and not part.startswith("onnx:"):
            offered = ", ".join(known.removesuffix(HALF) for known in named_clips() if known.endswith(HALF))
            raise UsageError(
                f"encoder {printable(part)} is not offered in half precision; these are: {offered}, "
                f"and {FAMILIES['onnx'].usage} with such files"
            )
        halves.append(half if weight is None else f"{weight!r}*{half}")
    return "+".join(halves)


def refuse_unasked_download(name: str, where: str | os.PathLike[str]) -> None:
    """Refuse to download from a repository that only a file names.

    Short names of CLIPs and the tags of open_clip come from an installed package; those may be downloaded.

    Parameters
    ----------
    name : name of an encoder, as read from a file
    where : path of that file or folder

    Raises
    ------
    UnaskedDownload
        The name is of a repository that is not in the hub's cache.
    """
    for _, part in _parts_of(name):
        family, _, source = part.partition(":")
        absent = FAMILIES[family].absent if family in FAMILIES else ""
        repository = load_object(absent)(source) if absent else None
        if repository is not None:
            raise UnaskedDownload(
                f"{printable(where)} needs encoder {printable(part)}, which is not on this machine, and files may not start "
                f"downloads; if you trust it, pass it yourself (encoder=, --encoder), or run `hf download {printable(repository)}`"
            )


def encoder_names() -> list[str]:
    """Names of the installed encoders that need no source; imports none of them."""
    return [name for name in known_names(_GROUP, ENCODERS) if name not in FAMILIES]


def encoder_records() -> Iterator[tuple[str, EncoderRecord]]:
    """Name and record of each encoder that needs no source; loads no weights.

    Warns of an encoder of another package that cannot be imported.
    """
    for name, make in _importable():
        if hasattr(make, "record"):
            yield name, make.record
    for name, clip in named_clips().items():
        yield name, clip.record


def encoder_families() -> dict[str, Family]:
    """Name → Family: built-in ones, then those of other packages; warns as `encoder_records`."""
    others = {
        name: Family(
            f"{make.__module__}:{getattr(make, '__name__', name)}",
            f"{name}:SOURCE",
            (getdoc(make) or "").partition("\n")[0],
        )
        for name, make in _importable()
        if not hasattr(make, "record")
    }
    return {**FAMILIES, **others}


def _parts_of(name: str) -> list[tuple[float | None, str]]:
    """The weight and the name of each of the encoders that a name joins; a path that exists may contain plus signs."""
    family, _, source = name.partition(":")
    if family in FAMILIES and os.path.lexists(source.removesuffix(HALF)):
        return [(None, name)]
    known = {*known_names(_GROUP, ENCODERS), *FAMILIES, *named_clips()}
    return split_name(name, known.__contains__)


def _importable() -> Iterator[tuple[str, Any]]:
    """Name and class or function of the built-in encoders and of those of other packages."""
    for name in encoder_names():
        try:
            yield name, resolve(_GROUP, "encoder", name, ENCODERS)
        except MissingExtra as error:
            warn(str(error))
