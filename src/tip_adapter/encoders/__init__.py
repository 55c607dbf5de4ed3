"""Encoders: photos and class names become vectors of one space. To add one: a file here and a line below.

A name stands for one encoder, such as ``pocket``; a family makes many, each from a source: ``family:source``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tip_adapter.arguments import require, thread_count
from tip_adapter.encoders.protocol import Encoder, EncoderIdentity, EncoderRecord
from tip_adapter.errors import UsageError, printable
from tip_adapter.extensions import known_names, resolve

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "DEFAULT",
    "ENCODERS",
    "FAMILIES",
    "Encoder",
    "EncoderIdentity",
    "EncoderRecord",
    "encoder_names",
    "encoder_records",
    "load_encoder",
]

_GROUP = "tip_adapter.encoders"

#: The encoder where none is asked for.
DEFAULT = "pocket"

ENCODERS = {
    "pocket": "tip_adapter.encoders.pocket:PocketEncoder",
    "toy": "tip_adapter.encoders.toy:ToyEncoder",
}

#: Family → what makes one of it: called with the source, and `device` and `threads` by name.
FAMILIES: dict[str, str] = {
    "vectors": "tip_adapter.encoders.vectors_file:VectorsFileEncoder",
}


def load_encoder(name: str = DEFAULT, *, device: str | None = None, threads: int | None = None) -> Encoder:
    """Load an encoder by name.

    Parameters
    ----------
    name : a name of `ENCODERS`, or of an entry point ``tip_adapter.encoders`` of an installed package; or
        ``family:source``, of `FAMILIES` or such an entry point
    device : None or ``cpu``, or ``cuda`` where ONNX Runtime has it
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
    CheckpointError
        Its weights are not the ones we know.
    """
    require(device is None or isinstance(device, str), "device", "cpu or cuda", device)
    require(isinstance(name, str), "encoder", "a name", name)
    family, colon, source = name.partition(":")
    make = resolve(_GROUP, "encoder", family, {**ENCODERS, **FAMILIES})
    if not colon and family in FAMILIES:
        raise UsageError(f"encoder {family} needs a source: {family}:SOURCE; see `tip-adapter encoders`")
    if colon and family in ENCODERS:
        raise UsageError(f"encoder {family} takes no source; leave out {printable(colon + source)}")
    sources = (source,) if colon else ()
    encoder: Encoder = make(*sources, device=device, threads=thread_count(threads))
    return encoder


def encoder_names() -> list[str]:
    """Names of the encoders that can be loaded here; imports none of them."""
    return known_names(_GROUP, ENCODERS)


def encoder_records() -> Iterator[tuple[str, EncoderRecord]]:
    """Name and record of each encoder that can be loaded here; loads no weights."""
    for name in encoder_names():
        yield name, resolve(_GROUP, "encoder", name, ENCODERS).record
