"""What opens data sets as vectors: from their images, each encoded once and stored below the cache folder, or from one file."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias, cast

import numpy as np

from tip_adapter.encoders import load_encoder
from tip_adapter.encoders.prompts import readable, resolve_templates
from tip_adapter.errors import FolderError, MissingDataset
from tip_adapter.features.extract import extract_listed
from tip_adapter.features.sources import encode_labelled, labelled_source
from tip_adapter.features.store import MANIFEST, read_manifest, read_shard
from tip_adapter.images.augment import NO_AUGMENTATION, Augmentation
from tip_adapter.io.files import cache_folder, file_digest
from tip_adapter.paper.datasets.records import dataset_record
from tip_adapter.paper.datasets.splits import open_dataset, require_images
from tip_adapter.paper.draws import drawn_rows
from tip_adapter.paper.protocols import PAPERS_PAIR
from tip_adapter.paper.vectors import PreparedImages, SplitVectors
from tip_adapter.text import printable
from tip_adapter.vectors import SupportSet

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tip_adapter.encoders import Encoder
    from tip_adapter.features.encode import Progress
    from tip_adapter.features.file_encoder import VectorsFileEncoder
    from tip_adapter.images.find import ImageList
    from tip_adapter.paper.datasets.splits import DatasetSplits


@dataclass(eq=False)
class ImageStore:
    """A data set's images, each encoded once, into feature stores below a folder.

    Parameters
    ----------
    splits : DatasetSplits
    encoder : Encoder
    folder : parent folder of the feature stores
    draws : a key of `DRAWS`
    shots_and_seeds : of every draw, so that their images are encoded in one run
    threads, progress : as in `extract`
    n_encoded : number of images encoded so far
    """

    splits: DatasetSplits
    encoder: Encoder
    folder: Path
    draws: str
    shots_and_seeds: frozenset[tuple[int, int]]
    threads: int | None = None
    progress: Progress | None = None
    n_encoded: int = 0
    _parts: dict[str, SupportSet] = field(default_factory=dict)
    _drawn: dict[Augmentation, SupportSet] = field(default_factory=dict)
    _lists: dict[str, tuple[ImageList, list[str]]] = field(default_factory=dict)
    _checked: set[Path] = field(default_factory=set)

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
            few_validation=self.few_validation,
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
            if not len(photos):
                raise MissingDataset(
                    f"{self.splits.record.title} has no photos in its part {part}; get its split again"
                )
            self._lists[part] = photos, photos.ids()
        return self._lists[part]

    def few_validation(self, shots: int, seed: int) -> SupportSet:
        """A draw of the validation split."""
        (train, _), (val, ids) = self._listed("train"), self._listed("val")
        wanted = {ids[row] for row in drawn_rows(self.draws, shots, seed, train.labels, val.labels)[1]}
        photos = self.part("val")
        return photos.take(np.flatnonzero([name in wanted for name in photos.ids.tolist()]))

    def _drawn_ids(self, shots: int, seed: int) -> set[str]:
        photos, ids = self._listed("train")
        return {ids[row] for row in drawn_rows(self.draws, shots, seed, photos.labels)[0]}

    @cached_property
    def _all_drawn(self) -> set[str]:
        """Every image of any draw: a small share of a large train split."""
        return set[str]().union(*(self._drawn_ids(*draw) for draw in self.shots_and_seeds))

    def _vectors(self, part: str, needed: set[str], wanted: set[str], views: Augmentation) -> SupportSet:
        """Vectors of the wanted images; needed ones that are not stored yet, or have changed, are encoded in one run."""
        suffixes = {0: "", 1: f"-view-{views.seed}"}
        kept = f"{self.splits.record.name}-{part}{suffixes.get(views.number, f'-of-{views.number}-views')}"
        place = self.folder / self.encoder.identity.fingerprint[:12] / kept
        source = labelled_source(place, part=part) if (place / MANIFEST).is_file() else None
        stored = set(source.ids) if source else set()
        if source is None or not needed <= stored or not self._is_current(place, part, needed):
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
            self._checked.add(place)
        source = source.take([row for row, name in enumerate(source.ids) if name in wanted])
        return encode_labelled(source, self.encoder)[0]

    def _is_current(self, place: Path, part: str, needed: set[str]) -> bool:
        """Whether stored vectors are of images with the content and label that these ids have now: another data root, or copy of
        the data, may have others. Each store is checked once.
        """
        if place in self._checked:
            return True
        self._checked.add(place)
        photos, ids = self._listed(part)
        rows = {name: row for row, name in enumerate(ids) if name in needed}
        manifest = read_manifest(place)
        known: list[tuple[int, str | None, str | None]] = []
        for shard in manifest.shards:
            table = read_shard(place, shard, manifest.encoder.width)
            columns = zip(table.ids, table.labels, table.sha256, strict=True)
            known += [(rows[name], label, digest) for name, label, digest in columns if name in rows]

        def is_same(image: tuple[int, str | None, str | None]) -> bool:
            row, label, digest = image
            try:
                return label == photos.labels[row] and digest in (None, file_digest(photos.paths[row]))
            except OSError:  # encoding gives the reason
                return False

        with ThreadPoolExecutor(thread_name_prefix="hash") as pool:
            return all(pool.map(is_same, known))


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

    def split_vectors(
        self, dataset: str, encoder: str, draws: str, shots_and_seeds: frozenset[tuple[int, int]]
    ) -> SplitVectors:
        """A data set by an encoder; `draws`, which are those of one run, as in ImageStore.

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
            place = cache_folder() / "vectors"
            store = ImageStore(splits, loaded, place, draws, shots_and_seeds, self.threads, self.progress)
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
    _split: SplitVectors | None = None

    @property
    def axes(self) -> Mapping[str, tuple[str, ...]]:
        """The data set has the file's name; the encoder also has the SHA-256 of its content, since files change."""
        self._encoder  # noqa: B018 - opened first, so that its error is the one raised
        encoder = f"vectors:{self.path.name}@{file_digest(self.path)[:8]}"
        return {"datasets": (self.path.stem,), "targets": (), "encoders": (encoder,)}

    def has_validation(self, dataset: str) -> bool:
        """Whether the file has a part val."""
        return self._has("val")

    def split_vectors(
        self, dataset: str, encoder: str, draws: str, shots_and_seeds: frozenset[tuple[int, int]]
    ) -> SplitVectors:
        """The vectors of the file; `draws`, which are those of one run, as in ImageStore.

        Raises
        ------
        TipAdapterError
            It cannot be read, or has no train or no test part.
        """
        if self._split is None:
            self._split = self._opened(draws)
        return self._split

    @cached_property
    def _encoder(self) -> Encoder:
        return load_encoder(f"vectors:{self.path}")

    def _opened(self, draws: str) -> SplitVectors:
        file = cast("VectorsFileEncoder", self._encoder).file
        if not file.parts:
            raise MissingDataset(
                f"{printable(self.path)} does not say which vectors are for training and which for the test; add part, see "
                "docs/reference/vectors.md"
            )
        if file.classes is None:
            raise MissingDataset(
                f"{printable(self.path)} holds no class_embeddings, which experiments need; add them, see "
                "docs/reference/vectors.md"
            )
        parts = tuple(part for part in ("train", "val", "test") if self._has(part))
        absent = [part for part in ("train", "test") if part not in parts]
        if absent:
            raise MissingDataset(
                f"{printable(self.path)} has no part {', no part '.join(absent)}; it has to say which vectors are for "
                "training and which for the test"
            )
        classes = sorted({label for part in parts for label in labelled_source(self.path, part=part).classes})

        def drawn(shots: int, seed: int, _: Augmentation) -> SupportSet:
            train = self._whole("train")
            return train.take(drawn_rows(draws, shots, seed, train.labels)[0]) if shots else train.take(slice(0))

        def few_validation(shots: int, seed: int) -> SupportSet:
            train, val = self._whole("train"), self._whole("val")
            return val.take(drawn_rows(draws, shots, seed, train.labels, val.labels)[1])

        return SplitVectors(
            dataset=self.path.stem,
            encoder=self._encoder,
            names={label: readable(label) for label in classes},
            templates=tuple(self._encoder.record.templates),
            parts=parts,
            drawn=drawn,
            few_validation=few_validation,
            whole=self._whole,
        )

    def _has(self, part: str) -> bool:
        try:
            return len(labelled_source(self.path, part=part)) > 0
        except FolderError:  # the file has other parts only
            return False

    def _whole(self, part: str) -> SupportSet:
        if part not in self._parts:
            self._parts[part] = encode_labelled(labelled_source(self.path, part=part), self._encoder)[0]
        return self._parts[part]


#: What opens data sets by encoders, each when first requested. `axes`: axis of an experiment → the only values that it
#: has; `n_encoded`: number of images encoded so far.
VectorProvider: TypeAlias = ImageProvider | FileProvider
