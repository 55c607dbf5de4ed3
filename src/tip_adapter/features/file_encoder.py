"""``vectors:FILE``: a vector file as an encoder. It encodes nothing; it looks up stored vectors and class embeddings."""

from __future__ import annotations

import unicodedata
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tip_adapter.encoders.base import Encoder, EncoderIdentity, EncoderRecord
from tip_adapter.encoders.prompts import readable
from tip_adapter.errors import UnknownName, UsageError
from tip_adapter.features.vector_file import open_vector_file
from tip_adapter.text import printable, shown, suggestion

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from PIL.Image import Image

#: The ratio of CLIP, which made most vector files.
_SCALE_FREE_RATIO = 0.1


class VectorsFileEncoder(Encoder):
    """A vector file as an encoder; `device` and `threads` are accepted and ignored.

    Parameters
    ----------
    source : path of a .npz or Parquet file; its layout is in docs/reference/vectors.md

    Raises
    ------
    FeaturesError, VectorError, LabelError, MissingExtra
        As `open_vector_file`.
    UsageError
        Its path has characters that a model cannot store.
    """

    def __init__(self, source: str, *, device: str | None = None, threads: int | None = None) -> None:
        self.file = open_vector_file(source)
        if not self.file.name.isprintable():
            raise UsageError(f"a model cannot keep the name of {printable(self.file.path)}; rename the file")
        names = self.file.classes.names if self.file.classes else ()
        record = EncoderRecord(
            description=f"vectors of {self.file.encoder or 'an encoder that it does not name'}",
            width=self.file.width,
            logit_scale=self.file.logit_scale,
            templates=("{}",),
            keeps_templates=True,
            support_views=0,
            scale_free_ratio=_SCALE_FREE_RATIO,
            languages=(),
            licence="that of the vectors",
            size_mib=Path(source).stat().st_size // 2**20,
            # The file covers the scripts of all its names.
            scripts=tuple(sorted({unicodedata.name(c, "").split(" ")[0] for c in "".join(names) if c.isalpha()})),
        )
        self.record = record if self.file.classes else record.image_only()
        self.logit_scale = self.file.logit_scale
        self.identity = EncoderIdentity(self.file.name, self.file.fingerprint, self.file.width)

    def prepare(self, image: Image) -> NDArray[Any]:
        """Refused: an image alone has no id to look up."""
        raise UsageError(
            f"{printable(self.file.path)} holds vectors and encodes no photos; give a folder, a list, or the file itself"
        )

    def encode_prepared(self, prepared: NDArray[Any]) -> NDArray[np.float32]:
        """Refused, as `prepare`."""
        return self.prepare(prepared)  # type: ignore[arg-type]

    def encode_images(self, images: Sequence[Any], *, normalize: bool = True) -> NDArray[np.float32]:
        """Refused as `prepare`, unless `images` is empty."""
        if len(images):
            self.prepare(images[0])
        return np.zeros((0, self.identity.width), np.float32)

    def encode_texts(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Class names, spelled as in the file → (n, width) float32 unit rows.

        Raises
        ------
        UnknownName
            The file has no such name.
        UsageError
            It has no class embeddings.
        """
        if not len(prompts):
            return np.zeros((0, self.identity.width), np.float32)
        where = printable(self.file.path)
        if self.file.classes is None:
            raise UsageError(f"{where} holds no class_embeddings; add them, see docs/reference/vectors.md")
        for name in prompts:
            if name not in self._rows:
                raise UnknownName(
                    f"{where} has no class called {shown(name)}: {suggestion(name, self._rows)}"
                    "names must match exactly; leave out templates (--template), give names (--class-names), or add it"
                )
        return self.file.classes.matrix[[self._rows[name] for name in prompts]]

    @cached_property
    def _rows(self) -> dict[str, int]:
        """Name → row of the class embeddings; a label, in readable form, is a name, too."""
        labels, names = (self.file.classes.labels, self.file.classes.names) if self.file.classes else ((), ())
        by_label = {readable(label): row for row, label in enumerate(labels)}
        return {name: row for row, name in enumerate(names)} | by_label
