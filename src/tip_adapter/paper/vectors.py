"""The vectors that every result of a data set and an encoder is measured on, and its images prepared for training."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tip_adapter.encoders.prompts import embed_classes, resolve_templates
from tip_adapter.errors import FeaturesError
from tip_adapter.images.augment import NO_AUGMENTATION, Augmentation
from tip_adapter.images.decode import open_image
from tip_adapter.io.files import file_digest
from tip_adapter.paper.protocols import PAPERS_PAIR
from tip_adapter.paper.timing import milliseconds
from tip_adapter.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from tip_adapter.encoders import Encoder
    from tip_adapter.vectors import ClassEmbeddings, SupportSet

#: Method → passes over the photos, where there is no data set to say it.
EPOCHS = {"tip-adapter-f": 20}


@dataclass(eq=False)
class SplitVectors:
    """The vectors of a data set's parts by one encoder.

    Parameters
    ----------
    dataset : name of the data set
    encoder : Encoder
    names : label → name that the text encoder reads
    templates : the data set's prompt templates, or the encoder's own
    parts : the parts that exist
    drawn : (shots, seed, augmentation) → support vectors, as means of augmented views
    few_validation : (shots, seed) → as many validation vectors per class as shots, at most four
    whole : part → the vectors of all its images
    n_views : int, augmented views of each support image; 0 for the image itself
    prepared : (part, ids, view=None) → these images, or an augmented view of each, prepared for the encoder; None if
        there are vectors only
    epochs : method → epochs on this data set; other methods use their own default
    initial_alpha_beta : alpha and beta at which the public code trains keys before it chooses them
    """

    dataset: str
    encoder: Encoder
    names: Mapping[str, str]
    templates: tuple[str, ...]
    parts: tuple[str, ...]
    drawn: Callable[[int, int, Augmentation], SupportSet]
    few_validation: Callable[[int, int], SupportSet]
    whole: Callable[[str], SupportSet]
    n_views: int = 0
    prepared: Callable[..., PreparedImages] | None = None
    epochs: Mapping[str, int] = field(default_factory=EPOCHS.copy)
    initial_alpha_beta: tuple[float, float] = PAPERS_PAIR
    _embedded: dict[tuple[str, ...], ClassEmbeddings] = field(default_factory=dict)
    _views: dict[tuple[int, int], NDArray[np.float32]] = field(default_factory=dict)
    _encoding_ms: float | None = None

    @property
    def has_validation(self) -> bool:
        """Whether there is a validation split."""
        return "val" in self.parts

    def support(self, shots: int, seed: int) -> SupportSet:
        """`shots` images of each class, as means of their augmented views, if there are any; empty for 0 shots."""
        return self.drawn(shots, seed, Augmentation(self.n_views))

    def queries(self, shots: int, seed: int) -> NDArray[np.float32] | None:
        """(n, d) unaugmented support, the queries of leave-one-out; None: use the vectors of `support`."""
        return self._of_support(NO_AUGMENTATION, shots, seed) if self.n_views else None

    def views(self, shots: int, seed: int) -> NDArray[np.float32] | None:
        """(n_views, n, d) augmented support to train on; None: use the vectors of `support`."""
        if not self.n_views:
            return None
        if (shots, seed) not in self._views:
            self._views.clear()  # they are large, and draws come one after the other
            views = [self._of_support(Augmentation(1, view), shots, seed) for view in range(self.n_views)]
            self._views[shots, seed] = np.stack(views)
        return self._views[shots, seed]

    def _of_support(self, views: Augmentation, shots: int, seed: int) -> NDArray[np.float32]:
        """Vectors of the same images as `support`, in its order; FeaturesError if they are other images."""
        photos = self.drawn(shots, seed, views)
        missing = set(self.support(shots, seed).ids.tolist()) ^ set(photos.ids.tolist())
        if missing:
            raise FeaturesError(
                f"{self.dataset}: {printable(min(missing))} could be read for some of its views only; restore the image"
            )
        return photos.vectors

    def validation(self) -> SupportSet:
        """The whole validation split."""
        return self.whole("val")

    def test(self) -> SupportSet:
        """The whole test split."""
        return self.whole("test")

    def encoding_ms(self, ids: Sequence[str]) -> float:
        """Time to encode these test images as one batch, without decoding; 0 if there are vectors only."""
        if self.prepared is None:
            return 0.0
        if self._encoding_ms is None:
            batch = self.prepared("test", ids)[:]
            self._encoding_ms = milliseconds(lambda: self.encoder.encode_prepared(batch))
        return self._encoding_ms

    def templates_or_own(self, templates: Sequence[str] | None = None) -> tuple[str, ...]:
        """These templates resolved, or the data set's."""
        return resolve_templates(templates) if templates else self.templates

    def embeddings(self, templates: Sequence[str] | None = None) -> ClassEmbeddings:
        """Class embeddings by these templates, or by the data set's."""
        used = self.templates_or_own(templates)
        if used not in self._embedded:
            self._embedded[used] = embed_classes(self.names, used, self.encoder.encode_texts)
        return self._embedded[used]


@dataclass(frozen=True, eq=False)
class PreparedImages:
    """Images prepared for an encoder, decoded when indexed: like an array, without its memory."""

    paths: Sequence[Path]
    encoder: Encoder
    views: Augmentation = NO_AUGMENTATION

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows: slice | NDArray[np.intp]) -> NDArray[Any]:
        def prepare(row: int) -> NDArray[Any]:
            image = open_image(self.paths[row])
            return self.encoder.prepare(next(self.views.of(image, file_digest(self.paths[row])), image))

        with ThreadPoolExecutor(thread_name_prefix="prepare") as pool:
            return np.stack(list(pool.map(prepare, np.arange(len(self.paths))[rows].tolist())))
