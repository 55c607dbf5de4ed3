"""Two encoders as one: their vectors one after the other, each part scaled by the root of its weight.

The cosine of two such vectors is the weighted sum of the parts' cosines: a sum of two linear kernels. Text logits are the
weighted mean of those of the parts that read names.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from tip_adapter.encoders.base import Encoder, EncoderIdentity, EncoderRecord
from tip_adapter.text import printable
from tip_adapter.validation import require

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from PIL.Image import Image

#: The number increases when the same parts and weights give other vectors.
_DEFINITION = "joined 1"
#: A weight in front of a name, as in ``0.3*clip+0.7*dinov2``.
_WEIGHTED = re.compile(r"(\d+(?:\.\d+)?)\*(.+)", re.DOTALL)


def split_name(name: str, is_known: Callable[[str], bool]) -> list[tuple[float | None, str]]:
    """The weight, or None, and the name of each encoder in names joined by plus signs.

    Parameters
    ----------
    name : such as ``clip+dinov2`` or ``0.3*clip+0.7*onnx:FOLDER``
    is_known : whether a text up to its colon is the name of an encoder or family. After a source, a plus sign before
        anything else belongs to the source, which may be a path
    """
    parts: list[tuple[float | None, str]] = []
    for piece in name.split("+"):
        weighted = _WEIGHTED.fullmatch(piece)
        weight, rest = (float(weighted[1]), weighted[2]) if weighted else (None, piece)
        if parts and ":" in parts[-1][1] and not is_known(rest.partition(":")[0]):
            parts[-1] = parts[-1][0], f"{parts[-1][1]}+{piece}"
        else:
            parts.append((weight, rest))
    return parts


class JoinedEncoder(Encoder):
    """Two encoders as one.

    Parameters
    ----------
    parts : two Encoders
    weights : a number above 0 for each; None for equal ones, which a fit may replace

    Raises
    ------
    UsageError
        There are not two encoders, or their weights are not two numbers above 0.

    Examples
    --------
    >>> from tip_adapter import load_encoder
    >>> encoder = load_encoder("toy+toy")
    >>> encoder.identity.name, encoder.encode_texts(["a red cat"]).shape
    ('toy+toy', (1, 98))
    """

    def __init__(self, parts: Sequence[Encoder], weights: Sequence[float] | None = None) -> None:
        names = [part.identity.name for part in parts]
        require(len(parts) == 2, "encoder", "one encoder, or two together", names)
        if weights is not None:
            fits = len(weights) == 2 and all(0 < weight < np.inf for weight in weights)
            require(fits, "encoder", "a weight above 0 for both of two encoders, or for neither", list(weights))
        self.parts, self.weights = tuple(parts), tuple(map(float, weights)) if weights else None
        shares = np.array(self.weights or (0.5, 0.5))
        self._factors = np.sqrt(shares / shares.sum()).astype(np.float32)
        # Each part's text rows are multiplied by its logit scale, so that their sum is that of the parts' logits.
        scales = [part.logit_scale if part.record.reads_names else 0.0 for part in parts]
        self._text_factors = (self._factors * scales).astype(np.float32)
        self._text_length = float(np.sqrt(np.square(self._text_factors).sum())) or 1.0
        self.record = self._joined_record(names)
        self.logit_scale = self.record.logit_scale
        stated = (
            names if self.weights is None else [f"{w!r}*{name}" for w, name in zip(self.weights, names, strict=True)]
        )
        made_of = [_DEFINITION, *(part.identity.fingerprint for part in parts), *map(repr, self._factors.tolist())]
        fingerprint = hashlib.sha256("\n".join(made_of).encode()).hexdigest()
        self.identity = EncoderIdentity("+".join(stated), fingerprint, self.record.width)

    def weighted(self, weights: Sequence[float] | None) -> JoinedEncoder:
        """The same encoders with other weights."""
        return JoinedEncoder(self.parts, weights)

    def split(self, vectors: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """(n, width) vectors → (n, d) unit rows of each part."""
        first, second = np.split(vectors, [self.parts[0].identity.width], axis=1)
        return [first / self._factors[0], second / self._factors[1]]

    def join(self, rows: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """(n, d) unit rows of each part → (n, width) unit rows."""
        return np.concatenate([factor * part for factor, part in zip(self._factors, rows, strict=True)], axis=1)

    def prepare(self, image: Image) -> NDArray[Any]:
        """What each part prepares, as an array of two objects: they may differ in shape."""
        prepared = np.empty(2, dtype=object)
        prepared[:] = [part.prepare(image) for part in self.parts]
        return prepared

    def encode_prepared(self, prepared: NDArray[Any]) -> NDArray[np.float32]:
        """(n, 2) objects → (n, width) float32 unit rows."""
        columns = [np.stack(column.tolist()) if len(column) else column for column in prepared.T]
        return self.join([part.encode_prepared(column) for part, column in zip(self.parts, columns, strict=True)])

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Texts → (n, width) float32 unit rows, zeros in a part that reads no names; UsageError if neither does."""
        if not self.record.reads_names:
            return super().encode_texts(texts)
        rows = [
            factor * part.encode_texts(texts)
            if part.record.reads_names
            else np.zeros((len(texts), part.identity.width), np.float32)
            for factor, part in zip(self._text_factors / self._text_length, self.parts, strict=True)
        ]
        return np.concatenate(rows, axis=1)

    def _joined_record(self, names: Sequence[str]) -> EncoderRecord:
        """What both have in common; what concerns names is that of the parts that read them."""
        records = [part.record for part in self.parts]
        reading = [record for record in records if record.reads_names]
        named = (reading or records)[0]
        share = sum(
            factor**2 for factor, record in zip(self._factors.tolist(), records, strict=True) if record in reading
        )
        record = EncoderRecord(
            description=f"{' and '.join(map(printable, names))} together",
            width=sum(part.identity.width for part in self.parts),
            logit_scale=self._text_length / share if reading else named.logit_scale,
            templates=named.templates,
            scale_free_ratio=named.scale_free_ratio,
            languages=tuple(code for code in named.languages if all(code in other.languages for other in reading)),
            licence="; ".join(dict.fromkeys(record.licence for record in records)),
            size_mib=sum(record.size_mib for record in records),
            needs=tuple(dict.fromkeys(need for record in records for need in record.needs)),
            scripts=tuple(script for script in named.scripts if all(script in other.scripts for other in reading)),
            keeps_templates=any(record.keeps_templates for record in reading),
            support_views=min(record.support_views for record in records),
            logit_scale_assumed=any(record.logit_scale_assumed for record in reading),
        )
        return record if reading else record.image_only()
