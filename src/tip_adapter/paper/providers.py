"""Where material comes from: the data sets below a data root, or one file of vectors. Each is opened when first asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from tip_adapter.encoders import load_encoder
from tip_adapter.encoders.prompts import resolve_templates
from tip_adapter.errors import MissingDataset
from tip_adapter.io.files import cache_folder, file_digest
from tip_adapter.paper.datasets.records import dataset_record
from tip_adapter.paper.datasets.splits import open_dataset, require_images
from tip_adapter.paper.vectors import FileMaterial, ImageStore
from tip_adapter.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tip_adapter.encoders import Encoder
    from tip_adapter.features.encode import Progress
    from tip_adapter.paper.vectors import SplitVectors

    #: (shots, seed) of every draw that will be asked for.
    Draws = frozenset[tuple[int, int]]


class VectorProvider(Protocol):
    """Data sets by encoders."""

    @property
    def axes(self) -> Mapping[str, tuple[str, ...]]:
        """Axis of an experiment → the only values that are to be had here; empty where any are."""
        ...

    @property
    def n_encoded(self) -> int:
        """How many photos went through an encoder so far."""
        ...

    def has_validation(self, dataset: str) -> bool:
        """Whether a data set has a validation split."""
        ...

    def material(self, dataset: str, encoder: str, draws: Draws) -> SplitVectors:
        """A data set by an encoder; raises TipAdapterError where one of them is missing."""
        ...


@dataclass(eq=False)
class ImageProvider:
    """The paper's data sets below a data root, by any encoders.

    Parameters
    ----------
    data_root : folder
    device, threads : as in `load_encoder`
    progress : called with (photos encoded, photos to be encoded) of a part of a data set
    """

    data_root: Path
    device: str | None = None
    threads: int | None = None
    progress: Progress | None = None
    axes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    _encoders: dict[str, Encoder] = field(default_factory=dict)
    _stores: dict[tuple[str, str], ImageStore] = field(default_factory=dict)
    _materials: dict[tuple[str, str], SplitVectors] = field(default_factory=dict)

    @property
    def n_encoded(self) -> int:
        """How many photos went through an encoder so far."""
        return sum(store.n_encoded for store in self._stores.values())

    def has_validation(self, dataset: str) -> bool:
        """Whether the published data set has a validation split."""
        return "val" in dataset_record(dataset).n_images

    def material(self, dataset: str, encoder: str, draws: Draws) -> SplitVectors:
        """A data set by an encoder.

        Raises
        ------
        TipAdapterError
            The data set or the encoder is missing, or photos that its split names are.
        """
        key = dataset, encoder
        if key not in self._materials:
            self._materials[key] = self._open(dataset, encoder, draws)
        return self._materials[key]

    def _open(self, dataset: str, name: str, draws: Draws) -> SplitVectors:
        record = dataset_record(dataset)
        splits = open_dataset(record, self.data_root)
        if record.files:  # they name photos; class folders list what is there
            for part in splits.parts:
                require_images(splits.photos(part))
        encoder = self._encoder(name)
        store = ImageStore(splits, encoder, cache_folder() / "vectors", draws, self.threads, self.progress)
        self._stores[dataset, name] = store
        own = encoder.record.keeps_templates
        return store.material(tuple(encoder.record.templates) if own else resolve_templates((record.templates,)))

    def _encoder(self, name: str) -> Encoder:
        if name not in self._encoders:
            self._encoders[name] = load_encoder(name, device=self.device, threads=self.threads)
        return self._encoders[name]


@dataclass(eq=False)
class FileShelf:
    """One file of vectors, in the place of a data set and an encoder.

    Parameters
    ----------
    path : .npz or Parquet
    """

    path: Path
    n_encoded: int = 0

    @property
    def axes(self) -> Mapping[str, tuple[str, ...]]:
        """The data set is called as the file is; the encoder, too, with the SHA-256 of its content: files change."""
        encoder = f"vectors:{self.path.name}@{self._digest[:8]}"
        return {"datasets": (self.path.stem,), "targets": (), "encoders": (encoder,)}

    def has_validation(self, dataset: str) -> bool:
        """Whether the file has a part val."""
        return self._file.has("val")

    def material(self, dataset: str, encoder: str, draws: Draws) -> SplitVectors:
        """The file.

        Raises
        ------
        TipAdapterError
            It cannot be read, or has no train or no test part.
        """
        return self._material

    @cached_property
    def _digest(self) -> str:
        return file_digest(self._file.path)  # opened first: whatever is wrong with it is said in its own words

    @cached_property
    def _file(self) -> FileMaterial:
        return FileMaterial(self.path, load_encoder(f"vectors:{self.path}"))

    @cached_property
    def _material(self) -> SplitVectors:
        found = self._file.material(self.path.stem, tuple(self._file.encoder.record.templates))
        absent = [part for part in ("train", "test") if part not in found.parts]
        if absent:
            raise MissingDataset(
                f"{printable(self.path)} has no part {', no part '.join(absent)}; it has to say which vectors are for "
                "training and which for the test"
            )
        return found
