"""Encoders: photos and class names become vectors of one space. To add one: a file here and a line below.

A name stands for one encoder, such as ``pocket``; a family makes many, each from a source: ``family:source``. CLIPs that
are known have short names, such as ``clip``: records in data/clips.toml. What makes one encoder states its `record`; what
makes a family cannot, before it has a source.
"""

from __future__ import annotations

from inspect import getdoc
from typing import TYPE_CHECKING, Any, NamedTuple

from tip_adapter import validation
from tip_adapter.encoders.base import Encoder, EncoderIdentity, EncoderRecord
from tip_adapter.encoders.onnx.catalogue import named_clips
from tip_adapter.errors import MissingExtra, UnaskedDownload, UsageError, warn
from tip_adapter.plugins import known_names, load_object, resolve
from tip_adapter.text import printable
from tip_adapter.validation import require

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

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
    "load_encoder",
    "refuse_unasked_download",
]

_GROUP = "tip_adapter.encoders"

#: The encoder where none is asked for.
DEFAULT = "pocket"


class Family(NamedTuple):
    """Encoders of one kind, each made from a source.

    Parameters
    ----------
    make : ``module:function``, called with the source, and `device` and `threads` by name
    usage : what is typed, such as ``onnx:FOLDER``
    description : str, one line
    needs : pip requirements beyond the base install
    absent : ``module:function``, called with the source: the repository on the Hugging Face hub that would be downloaded,
        None where nothing would; empty for a family that downloads nothing
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
        "a CLIP stored as ONNX files, without torch",
        absent="tip_adapter.encoders.onnx.encoder:absent_repository",
    ),
    "open_clip": Family(
        "tip_adapter.encoders.open_clip.encoder:OpenClipEncoder",
        "open_clip:ARCH/PRETRAINED",
        "any CLIP of open_clip, by name, from its hub or a file",
        needs=("tip-adapter[torch]",),
        absent="tip_adapter.encoders.open_clip.encoder:absent_repository",
    ),
    "vectors": Family(
        "tip_adapter.features.file_encoder:VectorsFileEncoder",
        "vectors:FILE",
        "vectors from elsewhere, from a .npz or Parquet file",
    ),
}

#: What makes an encoder of a short name of a CLIP: called with the name, and `device` and `threads` by name.
_NAMED = "tip_adapter.encoders.onnx.encoder:load_named"


def load_encoder(name: str = DEFAULT, *, device: str | None = None, threads: int | None = None) -> Encoder:
    """Load an encoder by name.

    Parameters
    ----------
    name : a name of `ENCODERS`, a short name of a CLIP, or an entry point ``tip_adapter.encoders`` of an installed
        package; or ``family:source``, of `FAMILIES` or such an entry point
    device : None or ``cpu``, or ``cuda`` where ONNX Runtime has it, or torch for an encoder on torch
    threads : int, None for one per core

    Returns
    -------
    Encoder

    Raises
    ------
    UnknownName
        With the nearest known name.
    UsageError
        The device is not there, or `threads` is no number from 1 to 256.
    MissingExtra
        It needs a part that is not installed.
    CheckpointError
        Its weights are not the ones we know, cannot be had, or hold more than tensors.
    DownloadError
        Its weights are to be downloaded, and cannot be.

    Examples
    --------
    >>> from tip_adapter import load_encoder
    >>> encoder = load_encoder("toy")
    >>> encoder.encode_texts(["a photo of a cat"]).shape == (1, encoder.identity.width)
    True
    """
    require(device is None or isinstance(device, str), "device", "cpu or cuda", device)
    require(isinstance(name, str), "encoder", "a name", name)
    family, colon, source = name.partition(":")
    make = resolve(_GROUP, "encoder", family, _makers())
    short = family in named_clips()
    is_family = not short and not hasattr(make, "record")
    if not colon and is_family:
        usage = FAMILIES[family].usage if family in FAMILIES else f"{family}:SOURCE"
        raise UsageError(f"encoder {family} needs a source: {usage}; see `tip-adapter encoders`")
    if colon and not is_family:
        raise UsageError(f"encoder {family} takes no source; leave out {printable(colon + source)}")
    sources = (source,) if colon else (name,) if short else ()
    encoder: Encoder = make(*sources, device=device, threads=validation.threads(threads))
    return encoder


def refuse_unasked_download(name: str, where: str | os.PathLike[str]) -> None:
    """Let no file make this program fetch from a place that only the file names.

    Short names of CLIPs and the tags of open_clip are lists that came with a package: what they name may be downloaded.

    Parameters
    ----------
    name : of an encoder, as a file keeps it
    where : path of that file or folder

    Raises
    ------
    UnaskedDownload
        It is a repository that is not in the hub's cache.
    """
    family, _, source = name.partition(":")
    absent = FAMILIES[family].absent if family in FAMILIES else ""
    repository = load_object(absent)(source) if absent else None
    if repository is not None:
        raise UnaskedDownload(
            f"{printable(where)} wants encoder {printable(name)}, which is not on this machine; nothing is downloaded because a "
            f"file says so: if you trust it, name it yourself (encoder=, --encoder), or get it by `hf download {printable(repository)}`"
        )


def encoder_names() -> list[str]:
    """Names of the encoders that can be loaded here without a download; imports none of them."""
    return [name for name in known_names(_GROUP, ENCODERS) if name not in FAMILIES]


def encoder_records() -> Iterator[tuple[str, EncoderRecord]]:
    """Name and record of each encoder that has a name; loads no weights. Families have none before a source.

    Warns of another package's that cannot be imported.
    """
    for name, make in _importable():
        if hasattr(make, "record"):
            yield name, make.record
    for name, clip in named_clips().items():
        yield name, clip.record


def encoder_families() -> dict[str, Family]:
    """Name → Family: ours, then those of other packages; warns as `encoder_records`."""
    others = {
        name: Family(f"{make.__module__}:{getattr(make, '__name__', name)}", f"{name}:SOURCE", _first_line(make))
        for name, make in _importable()
        if not hasattr(make, "record")
    }
    return {**FAMILIES, **others}


def _importable() -> Iterator[tuple[str, Any]]:
    """Name and maker of our encoders and of those of other packages."""
    for name in encoder_names():
        try:
            yield name, resolve(_GROUP, "encoder", name, ENCODERS)
        except MissingExtra as error:
            warn(str(error))


def _first_line(make: Any) -> str:
    return (getdoc(make) or "").partition("\n")[0]


def _makers() -> dict[str, str]:
    """Name or family → ``module:attribute`` of what makes it."""
    return {
        **dict.fromkeys(named_clips(), _NAMED),
        **{name: family.make for name, family in FAMILIES.items()},
        **ENCODERS,
    }
