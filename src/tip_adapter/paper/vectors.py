"""The vectors that every result of a data set and an encoder is measured on: from images below a data root, or from one file."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from tip_adapter.encoders import load_encoder
from tip_adapter.encoders.prompts import embed_classes, readable, resolve_templates
from tip_adapter.errors import FeaturesError, FolderError, MissingDataset
from tip_adapter.features.extract import extract_listed
from tip_adapter.features.sources import encode_labelled, labelled_source
from tip_adapter.features.store import MANIFEST
from tip_adapter.images.augment import NO_AUGMENTATION, Augmentation
from tip_adapter.images.decode import open_image
from tip_adapter.images.sampling import draw_shots
from tip_adapter.io.files import cache_folder, file_digest
from tip_adapter.paper.datasets.records import dataset_record
from tip_adapter.paper.datasets.splits import open_dataset, require_images
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
    from tip_adapter.images.find import ImageList
    from tip_adapter.paper.datasets.splits import DatasetSplits

    #: (shots, seed) of every draw that will be asked for.
    Draws = frozenset[tuple[int, int]]

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
    whole : part → the vectors of all its images
    n_views : int, augmented views of each support image; 0 for the image itself
    prepared : (part, ids, view=None) → these images, or an augmented view of each, prepared for the encoder; None if
        there are vectors only
    epochs : method → epochs on this data set; other methods use their own default
    initial_alpha_beta : alpha and beta at which the public code trains keys before it chooses them
    prompts : (shots, seed) → class weights of a learned prompt; a cache filled by `fit`
    """

    dataset: str
    encoder: Encoder
    names: Mapping[str, str]
    templates: tuple[str, ...]
    parts: tuple[str, ...]
    drawn: Callable[[int, int, Augmentation], SupportSet]
    whole: Callable[[str], SupportSet]
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

    def few_validation(self, shots: int, seed: int) -> SupportSet:
        """As many validation images per class as shots, at most four."""
        photos = self.validation()
        return photos.take(draw_shots(photos.labels, min(shots, FEW), seed))

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

    def of_classes(self, n_classes: int | None) -> SplitVectors:
        """The same, restricted to the first classes."""
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
            prompts={},
            _embedded={},
            _views={},
        )


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


@dataclass(eq=False)
class ImageStore:
    """A data set's images, each encoded once, into feature stores below a folder.

    Parameters
    ----------
    splits : DatasetSplits
    encoder : Encoder
    folder : parent folder of the feature stores
    draws : (shots, seed) of every draw, so that their images are encoded in one run
    threads, progress : as in `extract`
    n_encoded : number of images encoded so far
    """

    splits: DatasetSplits
    encoder: Encoder
    folder: Path
    draws: frozenset[tuple[int, int]]
    threads: int | None = None
    progress: Progress | None = None
    n_encoded: int = 0
    _parts: dict[str, SupportSet] = field(default_factory=dict)
    _drawn: dict[Augmentation, SupportSet] = field(default_factory=dict)
    _lists: dict[str, tuple[ImageList, list[str]]] = field(default_factory=dict)

    def split_vectors(self, templates: tuple[str, ...]) -> SplitVectors:
        """The data set with its vectors computed on demand."""
        search = self.splits.record.search
        return SplitVectors(
            dataset=self.splits.record.name,
            encoder=self.encoder,
            names=dict(sorted(self.splits.names.items())),
            templates=templates,
            parts=self.splits.parts,
            drawn=self.drawn,
            whole=self.part,
            n_views=self.encoder.record.support_views,
            prepared=self.prepared,
            epochs=self.splits.record.epochs,
            initial_alpha_beta=(search.alpha, search.beta) if search else PAPERS_PAIR,
        )

    def drawn(self, shots: int, seed: int, views: Augmentation) -> SupportSet:
        """A draw of the train split, each image as the mean of augmented views; the image itself for 0 views."""
        if not shots:
            none = np.zeros(0, np.str_)
            return SupportSet(np.zeros((0, self.encoder.identity.width), np.float32), none, none)
        wanted = self._drawn_ids(shots, seed)
        if views.number == 1:  # not kept in memory: there are many, and each is asked for once a draw
            return self._vectors("train", self._all_drawn, wanted, views)
        if views not in self._drawn:
            self._drawn[views] = self._vectors("train", self._all_drawn, self._all_drawn, views)
        photos = self._drawn[views]
        return photos.take(np.flatnonzero([name in wanted for name in photos.ids.tolist()]))

    def part(self, name: str) -> SupportSet:
        """A whole part."""
        if name not in self._parts:
            everything = set(self._listed(name)[1])
            self._parts[name] = self._vectors(name, everything, everything, NO_AUGMENTATION)
        return self._parts[name]

    def prepared(self, part: str, ids: Sequence[str], view: int | None = None) -> PreparedImages:
        """Images of a part, or an augmented view of each, prepared for the encoder."""
        photos, names = self._listed(part)
        rows = {name: row for row, name in enumerate(names)}
        views = NO_AUGMENTATION if view is None else Augmentation(1, view)
        return PreparedImages([photos.paths[rows[name]] for name in ids], self.encoder, views)

    def _listed(self, part: str) -> tuple[ImageList, list[str]]:
        """The images of a part and their ids."""
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
        """Every image of any draw: a small share of a large train split."""
        return set[str]().union(*(self._drawn_ids(*draw) for draw in self.draws))

    def _vectors(self, part: str, needed: set[str], wanted: set[str], views: Augmentation) -> SupportSet:
        """Vectors of the wanted images; needed ones that are not stored yet are encoded in one run."""
        suffixes = {0: "", 1: f"-view-{views.seed}"}
        kept = f"{self.splits.record.name}-{part}{suffixes.get(views.number, f'-of-{views.number}-views')}"
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
                views=views.number,
                seed=views.seed,
                threads=self.threads,
                progress=self.progress,
            )
            self.n_encoded += done.n_encoded
            source = labelled_source(place, part=part)
        source = source.take([row for row, name in enumerate(source.ids) if name in wanted])
        return encode_labelled(source, self.encoder)[0]


@dataclass(eq=False)
class ImageProvider:
    """The paper's data sets below a data root, by any encoders.

    Parameters
    ----------
    data_root : folder
    device, threads : as in `load_encoder`
    progress : called with (images encoded, images to encode) of a part of a data set
    """

    data_root: Path
    device: str | None = None
    threads: int | None = None
    progress: Progress | None = None
    axes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    _encoders: dict[str, Encoder] = field(default_factory=dict)
    _stores: list[ImageStore] = field(default_factory=list)
    _splits: dict[tuple[str, str], SplitVectors] = field(default_factory=dict)

    @property
    def n_encoded(self) -> int:
        """Number of images encoded so far."""
        return sum(store.n_encoded for store in self._stores)

    def has_validation(self, dataset: str) -> bool:
        """Whether the published data set has a validation split."""
        return "val" in dataset_record(dataset).n_images

    def split_vectors(self, dataset: str, encoder: str, draws: Draws) -> SplitVectors:
        """A data set by an encoder.

        Raises
        ------
        TipAdapterError
            The data set, the encoder or images named by its split are missing.
        """
        if (dataset, encoder) not in self._splits:
            record = dataset_record(dataset)
            splits = open_dataset(record, self.data_root)
            if record.files:  # lists name images that may be missing; class folders cannot
                for part in splits.parts:
                    require_images(splits.photos(part))
            if encoder not in self._encoders:
                self._encoders[encoder] = load_encoder(encoder, device=self.device, threads=self.threads)
            loaded = self._encoders[encoder]
            store = ImageStore(splits, loaded, cache_folder() / "vectors", draws, self.threads, self.progress)
            self._stores.append(store)
            own = loaded.record.templates if loaded.record.keeps_templates else resolve_templates((record.templates,))
            self._splits[dataset, encoder] = store.split_vectors(tuple(own))
        return self._splits[dataset, encoder]


@dataclass(eq=False)
class FileProvider:
    """One file of vectors instead of a data set and an encoder: its parts train, val and test, each read once.

    Parameters
    ----------
    path : .npz or Parquet
    """

    path: Path
    n_encoded: int = 0
    _parts: dict[str, SupportSet] = field(default_factory=dict)

    @property
    def axes(self) -> Mapping[str, tuple[str, ...]]:
        """The data set has the file's name; the encoder also has the SHA-256 of its content, since files change."""
        self._encoder  # noqa: B018 - opened first, so that its error is the one raised
        encoder = f"vectors:{self.path.name}@{file_digest(self.path)[:8]}"
        return {"datasets": (self.path.stem,), "targets": (), "encoders": (encoder,)}

    def has_validation(self, dataset: str) -> bool:
        """Whether the file has a part val."""
        return self._has("val")

    def split_vectors(self, dataset: str, encoder: str, draws: Draws) -> SplitVectors:
        """The vectors of the file.

        Raises
        ------
        TipAdapterError
            It cannot be read, or has no train or no test part.
        """
        return self._split

    @cached_property
    def _encoder(self) -> Encoder:
        return load_encoder(f"vectors:{self.path}")

    @cached_property
    def _split(self) -> SplitVectors:
        parts = tuple(part for part in ("train", "val", "test") if self._has(part))
        absent = [part for part in ("train", "test") if part not in parts]
        if absent:
            raise MissingDataset(
                f"{printable(self.path)} has no part {', no part '.join(absent)}; it has to say which vectors are for "
                "training and which for the test"
            )
        classes = sorted({label for part in parts for label in labelled_source(self.path, part=part).classes})
        return SplitVectors(
            dataset=self.path.stem,
            encoder=self._encoder,
            names={label: readable(label) for label in classes},
            templates=tuple(self._encoder.record.templates),
            parts=parts,
            drawn=self._support,
            whole=self._whole,
        )

    def _has(self, part: str) -> bool:
        try:
            return len(labelled_source(self.path, part=part)) > 0
        except FolderError:  # the file has other parts only
            return False

    def _support(self, shots: int, seed: int, _: Augmentation) -> SupportSet:
        train = self._whole("train")
        return train.take(draw_shots(train.labels, shots, seed)) if shots else train.take(slice(0))

    def _whole(self, part: str) -> SupportSet:
        if part not in self._parts:
            self._parts[part] = encode_labelled(labelled_source(self.path, part=part), self._encoder)[0]
        return self._parts[part]


#: What opens data sets by encoders, each when first requested. `axes`: axis of an experiment → the only values that it
#: has; `n_encoded`: number of images encoded so far.
VectorProvider: TypeAlias = ImageProvider | FileProvider
