"""Data sets as the few-shot literature lays them out, made small."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from tip_adapter.paper.datasets import DatasetRecord, dataset_record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

#: Class name → colour of its photos; in no order that sorting would give.
CLASSES = {"red panda": "red", "green_frog": "green", "blue Jay": "blue"}
WNIDS = ("n00000003", "n00000001", "n00000002")
N_PHOTOS = 2


class Maker:
    """Writes data sets of `CLASSES`, `N_PHOTOS` photos a class and part, below a data root."""

    def __init__(self, root: Path, paint: Callable[..., Image.Image]) -> None:
        self.root, self.paint = root, paint

    def __call__(self, name: str) -> DatasetRecord:
        record = dataset_record(name)
        layouts = {
            "split-file": self.split_file,
            "variant-lists": self.variant_lists,
            "wnid-folders": self.wnid_folders,
            "numbered-folders": self.numbered_folders,
        }
        layouts[record.layout](record)
        return record

    def split_file(self, record: DatasetRecord) -> None:
        """Label 0 is the first class; paths are relative to the photos' folder."""
        split: dict[str, list[list[object]]] = {}
        for part, label, name, photo in self.photos(record):
            self.save(record, part, f"{label}/{part}_{photo}.jpg", name, photo)
            split.setdefault(part, []).append([f"{label}/{part}_{photo}.jpg", label, name])
        (self.root / record.folder / record.files[0]).write_text(json.dumps(split), encoding="utf-8")

    def variant_lists(self, record: DatasetRecord) -> None:
        folder = self.root / record.folder
        lines: dict[str, str] = {}
        for part, label, name, photo in self.photos(record):
            number = f"{label}{photo}{len(part)}{part == 'test':d}"
            self.save(record, part, f"{number}.jpg", name, photo)
            lines[part] = lines.get(part, "") + f"{number} {name}\n"
        (folder / "variants.txt").write_text("".join(f"{name}\n" for name in CLASSES), encoding="utf-8")
        for part, text in lines.items():
            (folder / f"images_variant_{part}.txt").write_text(text, encoding="utf-8")

    def wnid_folders(self, record: DatasetRecord) -> None:
        self.class_folders(record, list(WNIDS))

    def numbered_folders(self, record: DatasetRecord) -> None:
        self.class_folders(record, [str(sorted(WNIDS).index(wnid)) for wnid in WNIDS])

    def class_folders(self, record: DatasetRecord, folders: list[str]) -> None:
        for part, label, name, photo in self.photos(record):
            self.save(record, part, f"{folders[label]}/{part}_{photo}.JPEG", name, photo)
        lines = "".join(f"{wnid} {name}\n" for wnid, name in zip(WNIDS, CLASSES, strict=True))
        (self.root / record.folder / "classnames.txt").write_text(lines, encoding="utf-8")

    def photos(self, record: DatasetRecord) -> Iterator[tuple[str, int, str, int]]:
        for part in record.n_photos:
            for label, name in enumerate(CLASSES):
                for photo in range(N_PHOTOS):
                    yield part, label, name, photo

    def save(self, record: DatasetRecord, part: str, path: str, name: str, photo: int) -> None:
        place = self.root / record.folder / record.photos_under[part] / path
        place.parent.mkdir(parents=True, exist_ok=True)
        self.paint(CLASSES[name], photo).save(place, "JPEG")

    def colour_of(self, name: str) -> int:
        """Which of red, green and blue the photos of a class have most of."""
        return list(CLASSES).index(name.replace("green frog", "green_frog"))

    def colour(self, path: Path) -> int:
        """Which of them a photo has most of."""
        with Image.open(path) as photo:
            return int(np.asarray(photo).mean(axis=(0, 1)).argmax())


@pytest.fixture
def make_dataset(tmp_path: Path, paint: Callable[..., Image.Image]) -> Maker:
    """make_dataset("dtd") writes that data set below ``make_dataset.root`` and returns its record."""
    return Maker(tmp_path / "data", paint)
