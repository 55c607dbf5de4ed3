"""What every result of a data set and an encoder is measured on: vectors, made once and shared by all methods and shots."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tip_adapter.encoders.prompts import embed_classes, readable, resolve_templates
from tip_adapter.errors import FeaturesError, FolderError, MissingDataset
from tip_adapter.features.extract import extract_listed
from tip_adapter.features.sources import encode_labelled, labelled_source
from tip_adapter.features.store import MANIFEST
from tip_adapter.images.augment import NO_AUGMENTATION, Augmentation
from tip_adapter.images.decode import open_image
from tip_adapter.images.sampling import draw_shots
from tip_adapter.io.files import file_digest
from tip_adapter.paper.protocols import FEW, PAPERS_PAIR
from tip_adapter.paper.timing import milliseconds
from tip_adapter.text import printable
from tip_adapter.vectors import ClassEmbeddings, SupportSet

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from tip_adapter.encoders import Encoder
    from tip_adapter.features.encode import Progress
    from tip_adapter.features.sources import VectorSource
    from tip_adapter.images.find import ImageList
    from tip_adapter.paper.datasets.splits import DatasetSplits

#: Method → passes over the photos, where there is no data set to say it.
EPOCHS = {"tip-adapter-f": 20}


@dataclass(eq=False)
class SplitVectors:
    """The vectors of a data set by an encoder.

    Parameters
    ----------
    dataset : name of the data set
    encoder : Encoder
    names : label → what the text encoder reads
    templates : the data set's sentences, or the encoder's own
    parts : the parts that there are
    drawn : (shots, seed) → the vectors of a draw: means of augmented views, where the encoder's record has them
    whole : part → the vectors of all its photos
    plain : (shots, seed) → the same photos as they are; None where `drawn` gives these
    viewed : (shots, seed, view) → the same photos in one of `n_views` augmented views
    n_views : how many of these there are; 0 for none
    prepared : (part, ids, view=None) → these photos, or an augmented view of each, as the encoder prepares them; None
        where there are vectors only
    epochs : method → passes over the photos of this data set; for other methods their own
    initial_alpha_beta : alpha and beta that the public code trains keys at, before it chooses them
    prompts : (shots, seed) → class weights by a prompt that was learned on that draw, kept here by who learns it
    """

    dataset: str
    encoder: Encoder
    names: Mapping[str, str]
    templates: tuple[str, ...]
    parts: tuple[str, ...]
    drawn: Callable[[int, int], SupportSet]
    whole: Callable[[str], SupportSet]
    plain: Callable[[int, int], SupportSet] | None = None
    viewed: Callable[[int, int, int], SupportSet] | None = None
    n_views: int = 0
    prepared: Callable[..., PreparedImages] | None = None
    epochs: Mapping[str, int] = field(default_factory=EPOCHS.copy)
    initial_alpha_beta: tuple[float, float] = PAPERS_PAIR
    prompts: dict[tuple[int, int], ClassEmbeddings] = field(default_factory=dict)
    _embedded: dict[tuple[str, ...], ClassEmbeddings] = field(default_factory=dict)
    _views: dict[tuple[int, int], NDArray[np.float32]] = field(default_factory=dict)
    _encoding_ms: float | None = None

    @property
    def has_validation(self) -> bool:
        """Whether there is a validation split."""
        return "val" in self.parts

    def support(self, shots: int, seed: int) -> SupportSet:
        """The draw of `shots` photos a class; none at 0."""
        return self.drawn(shots, seed)

    def queries(self, shots: int, seed: int) -> NDArray[np.float32] | None:
        """(n, d), the photos of a draw as they are: what leave-one-out asks with; None for `support`'s own vectors."""
        return self._of_support(self.plain(shots, seed), shots, seed) if self.plain else None

    def views(self, shots: int, seed: int) -> NDArray[np.float32] | None:
        """(n_views, n, d), the photos of a draw in each view: what is trained on; None for `support`'s own vectors."""
        if self.viewed is None:
            return None
        if (shots, seed) not in self._views:
            views = (self.viewed(shots, seed, view) for view in range(self.n_views))
            self._views.clear()  # they are large, and draws come one after the other
            self._views[shots, seed] = np.stack([self._of_support(photos, shots, seed) for photos in views])
        return self._views[shots, seed]

    def _of_support(self, photos: SupportSet, shots: int, seed: int) -> NDArray[np.float32]:
        """Vectors of the photos that `support` has, in its order."""
        missing = set(self.support(shots, seed).ids.tolist()) ^ set(photos.ids.tolist())
        if missing:
            raise FeaturesError(
                f"{self.dataset}: {printable(min(missing))} could be read for some of its views only; restore the photo"
            )
        return photos.vectors

    def validation(self) -> SupportSet:
        """The whole validation split."""
        return self.whole("val")

    def few_validation(self, shots: int, seed: int) -> SupportSet:
        """As many validation photos a class as shots, at most four."""
        photos = self.validation()
        return photos.take(draw_shots(photos.labels, min(shots, FEW), seed))

    def test(self) -> SupportSet:
        """The whole test split."""
        return self.whole("test")

    def encoding_ms(self, ids: Sequence[str]) -> float:
        """How long the encoder takes for these test photos at once, without decoding; 0 where there are vectors only."""
        if self.prepared is None:
            return 0.0
        if self._encoding_ms is None:
            batch = self.prepared("test", ids)[:]
            self._encoding_ms = milliseconds(lambda: self.encoder.encode_prepared(batch))
        return self._encoding_ms

    def sentences(self, templates: Sequence[str] | None = None) -> tuple[str, ...]:
        """These templates, or the data set's."""
        return resolve_templates(templates) if templates else self.templates

    def embeddings(self, templates: Sequence[str] | None = None) -> ClassEmbeddings:
        """The class names as vectors, by these templates or the data set's."""
        sentences = self.sentences(templates)
        if sentences not in self._embedded:
            self._embedded[sentences] = embed_classes(self.names, sentences, self.encoder.encode_texts)
        return self._embedded[sentences]

    def of_classes(self, n_classes: int | None) -> SplitVectors:
        """The same with the first classes only."""
        if n_classes is None or n_classes >= len(self.names):
            return self
        names = dict(list(self.names.items())[:n_classes])
        kept = np.array(list(names), dtype=np.str_)

        def only(vectors: Callable[..., SupportSet]) -> Callable[..., SupportSet]:
            def of_classes(*which: Any) -> SupportSet:
                photos = vectors(*which)
                return photos.take(np.flatnonzero(np.isin(photos.labels, kept)))

            return of_classes

        return replace(
            self,
            names=dict(sorted(names.items())),
            drawn=only(self.drawn),
            whole=only(self.whole),
            plain=self.plain and only(self.plain),
            viewed=self.viewed and only(self.viewed),
            prompts={},
            _embedded={},
            _views={},
        )


@dataclass(frozen=True, eq=False)
class PreparedImages:
    """Photos as an encoder prepares them, decoded when they are asked for: as an array, but in no memory."""

    paths: Sequence[Path]
    encoder: Encoder
    views: Augmentation = NO_AUGMENTATION

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows: slice | NDArray[np.intp]) -> NDArray[Any]:
        chosen = np.arange(len(self.paths))[rows]
        with ThreadPoolExecutor(thread_name_prefix="prepare") as pool:
            return np.stack(list(pool.map(self._prepare, chosen.tolist())))

    def _prepare(self, row: int) -> NDArray[Any]:
        path = self.paths[row]
        image = open_image(path)
        return self.encoder.prepare(next(self.views.of(image, file_digest(path)), image))


class _Look(NamedTuple):
    """How photos are looked at: the end of their folder's name, and views and seed as in `extract`."""

    ending: str = ""
    views: int = 0
    seed: int = 0


_AS_THEY_ARE = _Look()


@dataclass(eq=False)
class ImageStore:
    """A data set's photos, each encoded once, into folders of features below a folder.

    Parameters
    ----------
    splits : DatasetSplits
    encoder : Encoder
    folder : where the folders of features go
    draws : the shots and seeds that will be asked for, so that their photos are encoded in one go
    threads, progress : as in `extract`
    n_encoded : how many photos went through the encoder so far
    """

    splits: DatasetSplits
    encoder: Encoder
    folder: Path
    draws: frozenset[tuple[int, int]]
    threads: int | None = None
    progress: Progress | None = None
    n_encoded: int = 0
    _parts: dict[str, SupportSet] = field(default_factory=dict)
    _drawn: dict[_Look, SupportSet] = field(default_factory=dict)
    _lists: dict[str, tuple[ImageList, list[str]]] = field(default_factory=dict)

    def material(self, templates: tuple[str, ...]) -> SplitVectors:
        """The data set as material."""
        n_views, search = self.encoder.record.support_views, self.splits.record.search
        return SplitVectors(
            dataset=self.splits.record.name,
            encoder=self.encoder,
            names=dict(sorted(self.splits.names.items())),
            templates=templates,
            parts=self.splits.parts,
            drawn=self.support,
            whole=self.part,
            plain=self.plain if n_views else None,
            viewed=self.viewed if n_views else None,
            n_views=n_views,
            prepared=self.prepared,
            epochs=self.splits.record.epochs,
            initial_alpha_beta=(search.alpha, search.beta) if search else PAPERS_PAIR,
        )

    def support(self, shots: int, seed: int) -> SupportSet:
        """A draw of the train split: means of views, where the encoder's record has them."""
        n_views = self.encoder.record.support_views
        return self._draw(shots, seed, _Look(f"-of-{n_views}-views", n_views) if n_views else _AS_THEY_ARE)

    def plain(self, shots: int, seed: int) -> SupportSet:
        """The photos of a draw as they are."""
        return self._draw(shots, seed, _AS_THEY_ARE)

    def viewed(self, shots: int, seed: int, view: int) -> SupportSet:
        """The photos of a draw in one augmented view."""
        look = _Look(f"-view-{view}", 1, view)  # not kept in memory: there are many, and each is asked for once a draw
        return self._vectors("train", self._all_drawn, self._drawn_ids(shots, seed), look)

    def part(self, name: str) -> SupportSet:
        """A whole part."""
        if name not in self._parts:
            everything = set(self._listed(name)[1])
            self._parts[name] = self._vectors(name, everything, everything, _AS_THEY_ARE)
        return self._parts[name]

    def prepared(self, part: str, ids: Sequence[str], view: int | None = None) -> PreparedImages:
        """Photos of a part, or an augmented view of each, as the encoder prepares them."""
        photos, names = self._listed(part)
        rows = {name: row for row, name in enumerate(names)}
        views = NO_AUGMENTATION if view is None else Augmentation(1, view)
        return PreparedImages([photos.paths[rows[name]] for name in ids], self.encoder, views)

    def _listed(self, part: str) -> tuple[ImageList, list[str]]:
        """The photos of a part and their ids."""
        if part not in self.splits.parts:
            raise MissingDataset(f"{self.splits.record.title} has no part {part}; it is a target only")
        if part not in self._lists:
            photos = self.splits.photos(part)
            self._lists[part] = photos, photos.ids()
        return self._lists[part]

    def _drawn_ids(self, shots: int, seed: int) -> set[str]:
        photos, ids = self._listed("train")
        return {ids[row] for row in draw_shots(photos.labels, shots, seed)}

    @cached_property
    def _all_drawn(self) -> set[str]:
        """Every photo that some draw holds: of a large train split far from all."""
        return set[str]().union(*(self._drawn_ids(*draw) for draw in self.draws))

    def _draw(self, shots: int, seed: int, look: _Look) -> SupportSet:
        if not shots:
            return _nothing(self.encoder.identity.width)
        if look not in self._drawn:
            self._drawn[look] = self._vectors("train", self._all_drawn, self._all_drawn, look)
        photos, wanted = self._drawn[look], self._drawn_ids(shots, seed)
        return photos.take(np.flatnonzero([name in wanted for name in photos.ids.tolist()]))

    def _vectors(self, part: str, needed: set[str], wanted: set[str], look: _Look) -> SupportSet:
        """Vectors of the wanted photos. The needed ones that are not stored yet are encoded, in one go."""
        kept = f"{self.splits.record.name}-{part}{look.ending}"
        place = self.folder / self.encoder.identity.fingerprint[:12] / kept
        source = labelled_source(place, part=part) if (place / MANIFEST).is_file() else None
        stored = set(source.ids) if source else set()
        if source is None or not needed <= stored:
            photos, ids = self._listed(part)
            rows = [row for row, name in enumerate(ids) if name in needed | stored]
            done = extract_listed(
                photos.take(rows),
                place,
                self.encoder,
                views=look.views,
                seed=look.seed,
                threads=self.threads,
                progress=self.progress,
            )
            self.n_encoded += done.n_encoded
            source = labelled_source(place, part=part)
        source = source.take([row for row, name in enumerate(source.ids) if name in wanted])
        return encode_labelled(source, self.encoder)[0]


@dataclass(eq=False)
class FileMaterial:
    """A file of vectors as material: its parts train, val and test, each read once."""

    path: Path
    encoder: Encoder
    _parts: dict[str, SupportSet] = field(default_factory=dict)

    def material(self, dataset: str, templates: tuple[str, ...]) -> SplitVectors:
        """The file as the material of a data set."""
        parts = tuple(part for part in ("train", "val", "test") if self.has(part))
        classes = sorted({label for part in parts for label in self._source(part).classes})
        return SplitVectors(
            dataset=dataset,
            encoder=self.encoder,
            names={label: readable(label) for label in classes},
            templates=templates,
            parts=parts,
            drawn=self._support,
            whole=self._whole,
        )

    def has(self, part: str) -> bool:
        """Whether some of its vectors are of a part."""
        try:
            return len(self._source(part)) > 0
        except FolderError:  # it is split, into other parts
            return False

    def _source(self, part: str) -> VectorSource:
        return labelled_source(self.path, part=part)

    def _support(self, shots: int, seed: int) -> SupportSet:
        photos = self._whole("train")
        return photos.take(draw_shots(photos.labels, shots, seed)) if shots else photos.take(slice(0))

    def _whole(self, part: str) -> SupportSet:
        if part not in self._parts:
            self._parts[part] = encode_labelled(self._source(part), self.encoder)[0]
        return self._parts[part]


def _nothing(width: int) -> SupportSet:
    return SupportSet(np.zeros((0, width), np.float32), np.zeros(0, np.str_), np.zeros(0, np.str_))
