"""Data sets as the few-shot literature lays them out, made small."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from tip_adapter.paper.datasets.records import DatasetRecord, dataset_record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

#: Class name → colour of its photos; in no order that sorting would give.
CLASSES = {"red panda": "red", "green_frog": "green", "blue Jay": "blue"}
WNIDS = ("n01484850", "n01440764", "n01443537")
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
        """Label 0 is the first class; paths are relative to the photos' folder, and begin with what it holds."""
        split: dict[str, list[list[object]]] = {}
        for part, label, name, photo in self.photos(record):
            top = f"{record.holds[part == 'test']}/" if record.holds else ""
            path = f"{top}{label}/{part}_{photo}.jpg"
            self.save(record, part, path, name, photo)
            split.setdefault(part, []).append([path, label, name])
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
        for part in record.n_images:
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


#: Class name → colour of its photos. No word that the toy encoder knows: told apart by name it is chance.
SHADES = {"dusk": (150, 80, 80), "dawn": (80, 80, 150), "noon": (80, 150, 80), "moss": (150, 150, 80)}


def lay_out_shades(root: Path, name: str = "caltech101", **counts: int) -> None:
    """Write a data set with a split file below a data root: so many photos a class in train, val and test."""
    record = dataset_record(name)
    rng = np.random.default_rng(0)
    split: dict[str, list[list[object]]] = {"train": [], "val": [], "test": []}
    for part, label, number in _numbered(counts or {"train": 16, "val": 4, "test": 10}):
        path = f"{list(SHADES)[label]}/{part}_{number}.png"
        place = root / record.folder / record.photos_under[part] / path
        place.parent.mkdir(parents=True, exist_ok=True)
        _shade(list(SHADES.values())[label], rng).save(place)
        split[part].append([path, label, list(SHADES)[label]])
    (root / record.folder / record.files[0]).write_text(json.dumps(split), encoding="utf-8")


def _numbered(counts: dict[str, int]) -> Iterator[tuple[str, int, int]]:
    for part, n in counts.items():
        for label in range(len(SHADES)):
            for number in range(n):
                yield part, label, number


def _shade(colour: tuple[int, int, int], rng: np.random.Generator) -> Image.Image:
    """Four by four blocks around a colour: as much as the toy encoder sees."""
    blocks = (np.array(colour) + rng.normal(0, 60, (4, 4, 3))).clip(0, 255).astype(np.uint8)
    return Image.fromarray(blocks).resize((16, 16), Image.Resampling.NEAREST)


@pytest.fixture(scope="module")
def shades(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with a Caltech101 of four shades: 16 photos a class to learn from, 4 to choose by, 10 to test on."""
    root = tmp_path_factory.mktemp("shades")
    lay_out_shades(root)
    return root


@pytest.fixture
def lay_out() -> Callable[..., None]:
    """lay_out(root, "dtd", train=2, val=1, test=1): see `lay_out_shades`."""
    return lay_out_shades


@pytest.fixture
def make_dataset(tmp_path: Path, paint: Callable[..., Image.Image]) -> Maker:
    """make_dataset("dtd") writes that data set below ``make_dataset.root`` and returns its record."""
    return Maker(tmp_path / "data", paint)
