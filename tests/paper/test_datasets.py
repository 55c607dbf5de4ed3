"""The paper's data sets: records that say what the literature says, and layouts that are read as they lie."""

from __future__ import annotations

import errno
import gzip
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from tip_adapter.encoders.prompts import template_sets
from tip_adapter.errors import FolderError, LabelError, MissingDataset, SplitError, UnknownName, UsageError
from tip_adapter.paper.datasets import layouts
from tip_adapter.paper.datasets.records import absent_pieces, dataset_record, dataset_records
from tip_adapter.paper.datasets.splits import PartCheck, check_dataset, open_dataset, require_images

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Maker

#: Name → folder, classes, photos of train, val, test; in the order of the paper, its two targets last.
LITERATURE = {
    "imagenet": ("imagenet", 1000, 1281167, None, 50000),
    "caltech101": ("caltech-101", 100, 4128, 1649, 2465),
    "oxford_pets": ("oxford_pets", 37, 2944, 736, 3669),
    "stanford_cars": ("stanford_cars", 196, 6509, 1635, 8041),
    "flowers102": ("oxford_flowers", 102, 4093, 1633, 2463),
    "food101": ("food-101", 101, 50500, 20200, 30300),
    "fgvc_aircraft": ("fgvc_aircraft", 100, 3334, 3333, 3333),
    "sun397": ("sun397", 397, 15880, 3970, 19850),
    "dtd": ("dtd", 47, 2820, 1128, 1692),
    "eurosat": ("eurosat", 10, 13500, 5400, 8100),
    "ucf101": ("ucf101", 101, 7639, 1898, 3783),
    "imagenet_v2": ("imagenetv2", 1000, None, None, 10000),
    "imagenet_sketch": ("imagenet-sketch", 1000, None, None, 50889),
}
#: Name → upper ends of the grid (beta, alpha), initial pair (beta, alpha), epochs: the authors' configuration files.
PUBLIC_CODE = {
    "imagenet": (7, 3, 1, 1.17, 20),
    "caltech101": (12, 5, 1, 3, 20),
    "dtd": (13, 13, 1, 2, 20),
    "eurosat": (12, 10, 1, 2, 100),
    "fgvc_aircraft": (30, 30, 1, 5, 20),
    "food101": (10, 10, 1, 1.17, 20),
    "flowers102": (50, 50, 1, 10, 20),
    "oxford_pets": (7, 3, 1, 1.17, 20),
    "stanford_cars": (20, 10, 1, 3, 20),
    "sun397": (12, 10, 1, 1.17, 20),
    "ucf101": (7, 3, 1, 3, 20),
}
SPLIT_FILES = [name for name in LITERATURE if "split_zhou" in "".join(dataset_record(name).files)]
IMAGENETS = ["imagenet", "imagenet_v2", "imagenet_sketch"]


# ---- records ---------------------------------------------------------------------------------------------------------


def test_the_records_say_what_the_literature_counts() -> None:
    counted = {
        name: (record.folder, record.n_classes, *(record.n_images.get(part) for part in ("train", "val", "test")))
        for name, record in dataset_records().items()
    }
    assert list(counted.items()) == list(LITERATURE.items())


def test_the_records_say_how_the_public_code_searches_and_trains() -> None:
    searches = {
        name: (
            record.search.beta_most,
            record.search.alpha_most,
            record.search.beta,
            record.search.alpha,
            record.epochs["tip-adapter-f"],
        )
        for name, record in dataset_records().items()
        if record.search
    }
    assert searches == PUBLIC_CODE


@pytest.mark.parametrize("name", LITERATURE)
def test_a_record_names_templates_that_there_are(name: str) -> None:
    record = dataset_record(name)
    assert record.templates == ("imagenet" if name in IMAGENETS else name)
    assert record.templates in template_sets()


@pytest.mark.parametrize("name", ["imagenet_v2", "imagenet_sketch"])
def test_a_target_names_the_data_set_it_is_a_target_of_and_has_nothing_to_learn_from(name: str) -> None:
    record = dataset_record(name)
    assert (record.source, record.epochs, record.search) == ("imagenet", {}, None)
    assert list(record.n_images) == ["test"]


def test_an_unknown_data_set_is_an_error_that_suggests_the_nearest() -> None:
    with pytest.raises(UnknownName, match="'caltech-101': did you mean caltech101"):
        dataset_record("caltech-101")


# ---- generated trees of the published shape --------------------------------------------------------------------------


@pytest.mark.parametrize("name", LITERATURE)
def test_a_tree_of_the_published_shape_is_read(name: str, make_dataset: Maker) -> None:
    record = make_dataset(name)
    splits = open_dataset(record, make_dataset.root)
    assert absent_pieces(record, make_dataset.root) == ()
    assert splits.parts == tuple(record.n_images)
    for part in splits.parts:
        photos = splits.photos(part)
        assert photos.classes == tuple(splits.names)
        assert photos.counts() == dict.fromkeys(splits.names, 2)
        assert photos.root == make_dataset.root / record.folder / record.photos_under[part]
        for path, label in zip(photos.paths, photos.labels, strict=True):
            assert make_dataset.colour(path) == make_dataset.colour_of(splits.names[label])
        require_images(photos)
    everything = [path for part in splits.parts for path in splits.photos(part).paths]
    assert len(set(everything)) == 6 * len(splits.parts)


@pytest.mark.parametrize("name", [*SPLIT_FILES, "fgvc_aircraft"])
def test_classes_stand_in_the_order_of_the_split_and_their_names_have_no_underscores(
    name: str, make_dataset: Maker
) -> None:
    names = open_dataset(make_dataset(name), make_dataset.root).names
    assert list(names.items()) == [("red panda", "red panda"), ("green_frog", "green frog"), ("blue Jay", "blue Jay")]


@pytest.mark.parametrize("name", IMAGENETS)
def test_imagenets_classes_stand_in_the_order_of_their_identifiers(name: str, make_dataset: Maker) -> None:
    names = open_dataset(make_dataset(name), make_dataset.root).names
    assert list(names.items()) == [("n01440764", "green_frog"), ("n01443537", "blue Jay"), ("n01484850", "red panda")]


@pytest.mark.parametrize("name", IMAGENETS)
def test_without_a_list_of_its_own_imagenet_has_its_1000_classes_of_which_two_pairs_share_a_name(
    name: str, make_dataset: Maker
) -> None:
    record = make_dataset(name)
    (make_dataset.root / record.folder / "classnames.txt").unlink()
    names = open_dataset(record, make_dataset.root).names
    assert (len(names), len(set(names.values()))) == (1000, 998)
    assert next(iter(names)) == "n01440764"
    assert list(names) == sorted(names)


@pytest.mark.parametrize("packed_only", [True, False])
@pytest.mark.parametrize("name", [*SPLIT_FILES, "fgvc_aircraft"])
def test_a_packed_split_is_read_too(name: str, packed_only: bool, make_dataset: Maker) -> None:
    record = make_dataset(name)
    before = open_dataset(record, make_dataset.root).photos("test")
    for list_name in record.files:
        plain = make_dataset.root / record.folder / list_name
        plain.with_name(f"{list_name}.gz").write_bytes(gzip.compress(plain.read_bytes()) if packed_only else b"broken")
        if packed_only:
            plain.unlink()
    assert open_dataset(record, make_dataset.root).photos("test") == before


def test_two_classes_of_one_name_have_labels_of_their_own(make_dataset: Maker) -> None:
    split = {part: [[f"{part}_a.jpg", 0, "crane"], [f"{part}_b.jpg", 1, "crane"]] for part in ("train", "val", "test")}
    record = rewritten(make_dataset, split)
    photos = open_dataset(record, make_dataset.root).photos("test")
    assert photos.labels == photos.classes == ("crane", "crane#2")


def test_imagenet_has_no_validation_photos(make_dataset: Maker) -> None:
    splits = open_dataset(make_dataset("imagenet"), make_dataset.root)
    with pytest.raises(UsageError, match="imagenet has no part 'val'; its parts are train, test"):
        splits.photos("val")


def test_reading_a_split_looks_at_no_photo(make_dataset: Maker) -> None:
    record = make_dataset("dtd")
    shutil.rmtree(make_dataset.root / "dtd" / "images")
    (make_dataset.root / "dtd" / "images").mkdir()
    assert len(open_dataset(record, make_dataset.root).photos("train")) == 6


def test_class_folders_are_listed_by_name_alone(make_dataset: Maker) -> None:
    record = make_dataset("imagenet")
    folder = make_dataset.root / "imagenet" / "images" / "val" / "n01440764"
    for name in ("list.txt", ".hidden.jpg"):
        (folder / name).touch()
    (folder / "broken.jpeg").symlink_to("nowhere")
    ids = open_dataset(record, make_dataset.root).photos("test").ids()
    assert [name for name in ids if name.startswith("n01440764/")] == [
        "n01440764/broken.jpeg",
        "n01440764/test_0.JPEG",
        "n01440764/test_1.JPEG",
    ]


# ---- what is missing -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("root", ["nowhere", "x" * 5000, "a\0b"])
def test_a_data_root_that_is_no_folder_is_an_error(root: str, tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="is no folder; name the folder that holds the data sets' folders"):
        open_dataset(dataset_record("dtd"), tmp_path / root)


@pytest.mark.parametrize("root", ["", None, 5])
def test_a_data_root_that_is_no_path_is_an_error(root: Any) -> None:
    with pytest.raises(UsageError, match="data root takes a path"):
        open_dataset(dataset_record("dtd"), root)


def test_a_data_set_that_is_not_there_is_an_error_that_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(
        MissingDataset, match=r"DTD is not whole below .*: no dtd; its photos: https://www.robots.ox\S+, "
    ):
        open_dataset(dataset_record("dtd"), tmp_path)


@pytest.mark.parametrize("name", LITERATURE)
def test_a_data_set_without_its_photos_or_a_list_is_an_error_that_names_them(name: str, make_dataset: Maker) -> None:
    record = make_dataset(name)
    folder = make_dataset.root / record.folder
    shutil.rmtree(folder)
    folder.mkdir()
    folders = [under for under in dict.fromkeys([*record.photos_under.values(), *record.holds]) if under != "."]
    wanted = tuple(f"{record.folder}/{piece}" for piece in [*record.files, *folders])
    assert absent_pieces(record, make_dataset.root) == wanted
    with pytest.raises(MissingDataset, match=f"no {wanted[0]}"):
        open_dataset(record, make_dataset.root)


def test_photos_that_are_not_there_are_counted_and_the_first_five_named(make_dataset: Maker) -> None:
    record = make_dataset("dtd")
    shutil.rmtree(make_dataset.root / "dtd" / "images" / "1")
    (make_dataset.root / "dtd" / "images" / "0" / "val_1.jpg").unlink()
    checked = check_dataset(open_dataset(record, make_dataset.root))
    assert [(part.part, part.n_listed, part.missing) for part in checked.parts] == [
        ("train", 6, ("1/train_0.jpg", "1/train_1.jpg")),
        ("val", 6, ("0/val_1.jpg", "1/val_0.jpg", "1/val_1.jpg")),
        ("test", 6, ("1/test_0.jpg", "1/test_1.jpg")),
    ]
    photos = open_dataset(record, make_dataset.root).photos("val")
    with pytest.raises(
        SplitError, match=r"3 of 6 photos of the split are not below .*images: 0/val_1.jpg, 1/val_0.jpg"
    ):
        require_images(photos)
    shutil.rmtree(photos.root)
    with pytest.raises(SplitError, match=r"6 of 6 photos .*: 0/val_0.jpg, .*, 2/val_0.jpg, …; get them"):
        require_images(photos)


@pytest.mark.parametrize("name", LITERATURE)
def test_a_data_set_is_complete_when_every_published_photo_is_there(name: str, make_dataset: Maker) -> None:
    record = make_dataset(name)
    assert not check_dataset(open_dataset(record, make_dataset.root)).complete
    small = replace(record, n_classes=3, n_images=dict.fromkeys(record.n_images, 6))
    splits = open_dataset(small, make_dataset.root)
    assert check_dataset(splits).complete
    splits.photos("test").paths[3].unlink()
    assert not check_dataset(open_dataset(small, make_dataset.root)).complete


@pytest.mark.parametrize("name", IMAGENETS)
def test_class_folders_that_are_not_there_are_counted_and_named(name: str, make_dataset: Maker) -> None:
    record = make_dataset(name)
    (make_dataset.root / record.folder / "classnames.txt").unlink()
    splits = open_dataset(record, make_dataset.root)
    first = {"imagenet_v2": "3, 4, 5, 6, 7, …"}.get(name, "n01491361, n01494475, n01496331, n01498041, n01514668, …")
    with pytest.raises(SplitError, match=rf"997 of 1,000 class folders are not in .*: {first}"):
        splits.photos("test")


@pytest.mark.parametrize(
    ("loose", "advice"),
    [
        ("ILSVRC2012_val_00000001.JPEG", "its images are outside class folders: sort them into one folder per class"),
        ("n01443537.tar", "unpack the archive of each class into a folder of the same name"),
        ("list.txt", "unpack the data set again"),
    ],
)
def test_imagenet_as_it_is_handed_out_is_an_error_that_says_how_to_make_its_class_folders(
    loose: str, advice: str, make_dataset: Maker
) -> None:
    record = make_dataset("imagenet")
    folder = make_dataset.root / "imagenet" / "images" / "val"
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / loose).touch()
    with pytest.raises(SplitError, match=rf"3 of 3 class folders are not in .*val: .*; {advice}$"):
        open_dataset(record, make_dataset.root).photos("test")


def test_a_part_that_cannot_be_listed_hinders_no_check_of_the_others(make_dataset: Maker) -> None:
    record = make_dataset("imagenet")
    shutil.rmtree(make_dataset.root / "imagenet" / "images" / "train" / "n01443537")
    train, test = check_dataset(open_dataset(record, make_dataset.root)).parts
    assert (train.n_listed, train.complete) == (0, False)
    assert train.problem is not None
    assert "1 of 3 class folders are not in" in train.problem
    assert (test.n_listed, test.missing, test.problem) == (6, (), None)


def test_a_part_that_cannot_be_listed_is_not_complete_though_nothing_is_published_of_it() -> None:
    assert PartCheck("train", 0, 0, ()).complete
    assert not PartCheck("train", 0, 0, (), "cannot read it").complete


def test_a_class_that_is_a_file_is_an_error_that_names_it(make_dataset: Maker) -> None:
    record = make_dataset("imagenet")
    folder = make_dataset.root / "imagenet" / "images" / "val" / "n01443537"
    shutil.rmtree(folder)
    folder.touch()
    with pytest.raises(SplitError, match=r"cannot read folder .*n01443537: Not a directory; check it and its perm"):
        open_dataset(record, make_dataset.root).photos("test")


def test_photos_behind_links_are_found_and_called_as_they_lie_below_the_root(
    make_dataset: Maker, tmp_path: Path
) -> None:
    record = make_dataset("imagenet")
    (make_dataset.root / "imagenet" / "images").rename(tmp_path / "elsewhere")
    (make_dataset.root / "imagenet" / "images").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "linked").symlink_to(make_dataset.root)
    photos = open_dataset(record, tmp_path / "linked").photos("test")
    require_images(photos)
    assert photos.ids()[0] == "n01440764/test_0.JPEG"


# ---- hostile splits --------------------------------------------------------------------------------------------------


def rewritten(make_dataset: Maker, split: Any) -> Any:
    """The record of a generated data set with another split: text as it stands, all else as JSON."""
    record = make_dataset("dtd")
    text = split if isinstance(split, str) else json.dumps(split)
    (make_dataset.root / record.folder / record.files[0]).write_text(text, encoding="utf-8")
    return record


ROW = ["a.jpg", 0, "a"]


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("", "it is empty"),
        ("[" * 100_000, "nested too deeply"),
        ('{"train": [], "train": []}', "'train' is repeated"),
        ('{"train": NaN, "val": [], "test": []}', "NaN is not a"),
        (f'{{"train": [["a.jpg", {"9" * 5000}, "a"]]}}', "integer string conversion"),
        ([], r"expected `object`, got `array`, found \[\]"),
        ({"train": [ROW], "test": [ROW]}, "missing required field `val`"),
        ({"train": [ROW], "val": [ROW[:2]], "test": []}, r"val\[0\] expected `array` of length 3, got 2"),
        (
            {"train": [["a.jpg", True, "a"]], "val": [], "test": []},
            r"train\[0\]\[1\] expected `int`, got `bool`, found True",
        ),
        ({"train": [["a.jpg", -1, "a"]], "val": [], "test": []}, "expected `int` >= 0, found -1"),
        ({"train": [[7, 0, "a"]], "val": [], "test": []}, r"train\[0\]\[0\] expected `str`, got `int`, found 7"),
        (
            {"train": [["a.jpg", 0, None]], "val": [], "test": []},
            r"train\[0\]\[2\] expected `str`, got `null`, found None",
        ),
        ({"train": [["\ud800.jpg", 0, "a"]], "val": [], "test": []}, "not text of whole characters"),
        ({"train": [ROW], "val": [["b.jpg", 0, "b"]], "test": []}, "class 0 has two names, 'a' and 'b'"),
        ({"train": [ROW, ROW], "val": [], "test": []}, "'a.jpg' is listed twice"),
        ({"train": [ROW], "val": [], "test": [ROW]}, "'a.jpg' is listed twice"),
        ({"train": [ROW], "val": [], "test": [["a.jpg", 1, "b"]]}, "'a.jpg' is listed twice"),
    ],
)
def test_a_split_that_is_not_what_it_should_be_is_an_error_that_names_the_place_fault_40(
    split: Any, message: str, make_dataset: Maker
) -> None:
    record = rewritten(make_dataset, split)
    with pytest.raises(SplitError, match=rf"cannot read .*split_zhou_DescribableTextures.json: .*{message}"):
        open_dataset(record, make_dataset.root)


@pytest.mark.parametrize(
    "path", ["../a", "a/../b", "a/..", "..", "/a", "\\a", "..\\a", "C:\\a", "c:a", "a\0b", "x\n/../a"]
)
def test_a_path_in_a_split_that_leaves_the_folder_is_refused_fault_16(path: str, make_dataset: Maker) -> None:
    record = rewritten(make_dataset, {"train": [[path, 0, "a"]], "val": [], "test": []})
    with pytest.raises(SplitError, match="not a path below the images' folder"):
        open_dataset(record, make_dataset.root)


@pytest.mark.parametrize("path", ["a/..b/c.jpg", "...jpg", "a/b..jpg", "ü/狗.jpg", "a b/c: d.jpg"])
def test_a_path_in_a_split_may_look_strange(path: str, make_dataset: Maker) -> None:
    record = rewritten(make_dataset, {"train": [[path, 0, "a"]], "val": [], "test": []})
    assert open_dataset(record, make_dataset.root).photos("train").ids() == [path]


@pytest.mark.parametrize("name", ["", " ", "x" * 2000, "a\0"])
def test_a_class_name_in_a_split_that_is_no_label_is_refused_fault_16(name: str, make_dataset: Maker) -> None:
    record = rewritten(make_dataset, {"train": [["a.jpg", 0, name]], "val": [], "test": []})
    with pytest.raises(LabelError):
        open_dataset(record, make_dataset.root)


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-9], lambda content: b"no gzip", lambda content: content[:40]]
)
def test_a_damaged_packed_split_is_an_error_fault_40(damage: Callable[[bytes], bytes], make_dataset: Maker) -> None:
    record = make_dataset("dtd")
    plain = make_dataset.root / "dtd" / record.files[0]
    plain.with_name(f"{plain.name}.gz").write_bytes(damage(gzip.compress(plain.read_bytes())))
    plain.unlink()
    with pytest.raises(SplitError, match="cannot read"):
        open_dataset(record, make_dataset.root)


def test_a_packed_split_is_not_unpacked_beyond_the_limit_fault_40(make_dataset: Maker) -> None:
    record = make_dataset("dtd")
    plain = make_dataset.root / "dtd" / record.files[0]
    plain.with_name(f"{plain.name}.gz").write_bytes(gzip.compress(b" " * (17 * 2**20)))
    plain.unlink()
    with pytest.raises(SplitError, match="above the limit of 16 MiB"):
        open_dataset(record, make_dataset.root)


@pytest.mark.parametrize("line", ["1 unknown variant", "../1 red panda", "red panda", "1"])
def test_a_line_of_aircraft_that_is_no_number_and_variant_is_an_error_that_shows_it(
    line: str, make_dataset: Maker
) -> None:
    record = make_dataset("fgvc_aircraft")
    (make_dataset.root / "fgvc_aircraft" / "images_variant_test.txt").write_text(f"\n{line}\n", encoding="utf-8")
    splits = open_dataset(record, make_dataset.root)
    assert len(splits.photos("train")) == 6
    with pytest.raises(SplitError, match=rf"images_variant_test.txt: '{line}' is not an image's number"):
        splits.photos("test")


@pytest.mark.parametrize("line", ["../.. dog", "n1 dog", "n01440764", "tench"])
def test_a_line_of_class_names_that_is_no_identifier_and_name_is_an_error_that_shows_it(
    line: str, make_dataset: Maker
) -> None:
    record = make_dataset("imagenet")
    (make_dataset.root / "imagenet" / "classnames.txt").write_text(f"n01440764 frog\n{line}\n", encoding="utf-8")
    with pytest.raises(SplitError, match=rf"classnames.txt: '{line}' is not a WordNet identifier"):
        open_dataset(record, make_dataset.root)


def test_a_variant_that_stands_twice_is_an_error_that_names_it(make_dataset: Maker) -> None:
    record = make_dataset("fgvc_aircraft")
    variants = make_dataset.root / "fgvc_aircraft" / "variants.txt"
    variants.write_text(f"{variants.read_text(encoding='utf-8')}red panda\n", encoding="utf-8")
    with pytest.raises(SplitError, match=r"variants.txt: 'red panda' is listed twice"):
        open_dataset(record, make_dataset.root)


def test_a_number_is_a_place_among_all_of_imagenets_classes_also_where_fewer_are_listed(make_dataset: Maker) -> None:
    record = make_dataset("imagenet_v2")
    (make_dataset.root / "imagenetv2" / "classnames.txt").write_text("n01484850 shark\n", encoding="utf-8")
    photos = open_dataset(record, make_dataset.root).photos("test")
    assert photos.ids() == ["2/test_0.JPEG", "2/test_1.JPEG"]
    assert photos.classes == ("n01484850",)


def test_a_class_that_is_none_of_imagenets_has_no_number(make_dataset: Maker) -> None:
    record = make_dataset("imagenet_v2")
    names = make_dataset.root / "imagenetv2" / "classnames.txt"
    names.write_text("n01440764 tench\nn00000001 toad\n", encoding="utf-8")
    with pytest.raises(
        SplitError, match=r"classnames.txt: n00000001 is none of ImageNet's classes, which number the folders"
    ):
        open_dataset(record, make_dataset.root)


def test_an_identifier_that_stands_twice_is_an_error_that_names_it(make_dataset: Maker) -> None:
    record = make_dataset("imagenet_v2")
    names = make_dataset.root / "imagenetv2" / "classnames.txt"
    names.write_text("n01440764 frog\nn01443537 jay\nn01440764 toad\n", encoding="utf-8")
    with pytest.raises(SplitError, match=r"classnames.txt: 'n01440764' is listed twice"):
        open_dataset(record, make_dataset.root)


def test_a_list_that_may_not_be_read_is_an_error_that_says_so(
    make_dataset: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> bytes:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    record = make_dataset("dtd")
    monkeypatch.setattr(layouts, "read_bounded", refuse)
    with pytest.raises(SplitError, match=r"Textures.json: Permission denied; make it readable$"):
        open_dataset(record, make_dataset.root)


# ---- the published splits and photos ---------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def published_splits() -> Path:
    if "TIP_ADAPTER_SPLITS" not in os.environ:
        pytest.skip("TIP_ADAPTER_SPLITS names no folder with the literature's split files")
    return Path(os.environ["TIP_ADAPTER_SPLITS"])


@pytest.fixture
def with_split(published_splits: Path, tmp_path: Path) -> Callable[[str], Any]:
    """with_split("dtd") → that data set's splits as published, with a folder for photos that holds none."""

    def opened(name: str) -> Any:
        record = dataset_record(name)
        found = [path for path in published_splits.iterdir() if path.name.startswith(record.files[0])]
        if not found:
            pytest.skip(f"TIP_ADAPTER_SPLITS holds no {record.files[0]}")
        for under in [*record.photos_under.values(), *record.holds]:
            (tmp_path / record.folder / under).mkdir(parents=True, exist_ok=True)
        (tmp_path / record.folder / found[0].name).symlink_to(found[0].resolve())
        return open_dataset(record, tmp_path)

    return opened


@pytest.mark.data
@pytest.mark.parametrize("name", SPLIT_FILES)
def test_a_published_split_has_the_published_counts(name: str, with_split: Callable[[str], Any]) -> None:
    splits = with_split(name)
    _, n_classes, *counts = LITERATURE[name]
    assert len(splits.names) == n_classes
    assert [len(splits.photos(part)) for part in ("train", "val", "test")] == counts
    for part in splits.parts:
        assert min(splits.photos(part).counts().values()) > 0


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "first", "among", "never"),
    [
        ("caltech101", "face", {"airplane", "leopard", "motorbike", "sea horse"}, {"Faces easy", "BACKGROUND Google"}),
        ("eurosat", "Annual Crop Land", {"Highway or Road", "Sea or Lake"}, {"AnnualCrop", "SeaLake"}),
        ("ucf101", "Apply Eye Makeup", {"Baby Crawling", "Yo Yo"}, {"ApplyEyeMakeup"}),
        ("flowers102", "pink primrose", {"colt's foot"}, {"1"}),
    ],
)
def test_a_published_split_carries_the_corrected_class_names(
    name: str, first: str, among: set[str], never: set[str], with_split: Callable[[str], Any]
) -> None:
    names = list(with_split(name).names.values())
    assert names[0] == first
    assert among <= set(names)
    assert not never & set(names)


@pytest.mark.data
def test_caltech101s_photos_are_complete() -> None:
    if "TIP_ADAPTER_DATA" not in os.environ:
        pytest.skip("TIP_ADAPTER_DATA names no folder with caltech-101/")
    splits = open_dataset(dataset_record("caltech101"), os.environ["TIP_ADAPTER_DATA"])
    assert check_dataset(splits).complete
    for part in splits.parts:
        with Image.open(splits.photos(part).paths[0]) as photo:
            assert photo.format == "JPEG"
