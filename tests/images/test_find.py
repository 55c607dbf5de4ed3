from __future__ import annotations

import json
import os
import re
import unicodedata
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tip_adapter.errors import FolderError, LabelError, TipAdapterWarning, UsageError
from tip_adapter.images.find import ImageList, find_images, find_labelled, split_folders
from tip_adapter.images.labels import numbered, path_as_text
from tip_adapter.images.search import ENDINGS
from tip_adapter.images.sorting import sorting

if TYPE_CHECKING:
    from collections.abc import Iterator


def place(root: Path, *names: str) -> Path:
    """Empty files (finding reads none), with the folders above them; a name that ends in / is a folder."""
    for name in names:
        path = root / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.touch()
    return root


def pairs(photos: ImageList) -> list[tuple[str, str]]:
    return [
        (path.relative_to(photos.root).as_posix(), label)
        for path, label in zip(photos.paths, photos.labels, strict=True)
    ]


def write_jsonl(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


# ---- class folders


def test_a_class_folder_gives_its_photos_its_name(tmp_path):
    photos = find_labelled(place(tmp_path, "dog/1.jpg", "cat/2.png", "cat/1.png"), part="train")
    assert pairs(photos) == [("cat/1.png", "cat"), ("cat/2.png", "cat"), ("dog/1.jpg", "dog")]
    assert photos.classes == ("cat", "dog")
    assert photos.counts() == {"cat": 2, "dog": 1}
    assert photos.notes == ()


def test_the_part_means_nothing_where_there_is_no_split(tmp_path):
    place(tmp_path, "dog/1.jpg", "cat/2.png")
    assert find_labelled(tmp_path, part="train") == find_labelled(tmp_path, part="test")


def test_nested_folders_belong_to_the_class_folder_at_the_top(tmp_path):
    photos = find_labelled(place(tmp_path, "cat/tabby/old/1.jpg", "cat/2.jpg", "dog/1.jpg"), part="train")
    assert pairs(photos) == [("cat/2.jpg", "cat"), ("cat/tabby/old/1.jpg", "cat"), ("dog/1.jpg", "dog")]


def test_hidden_and_archive_leftovers_are_skipped(tmp_path):
    place(
        tmp_path, "cat/1.jpg", "cat/.2.jpg", "cat/.thumbs/3.jpg", ".git/4.jpg", "__MACOSX/5.jpg", "cat/__MACOSX/6.jpg"
    )
    assert pairs(find_labelled(tmp_path, part="train")) == [("cat/1.jpg", "cat")]


@pytest.mark.parametrize("ending", sorted(ENDINGS))
def test_endings_are_known_in_any_case(tmp_path, ending):
    place(tmp_path, f"cat/1{ending}", f"cat/2{ending.upper()}", f"cat/3{ending.title()}")
    assert len(find_labelled(tmp_path, part="train")) == 3


def test_other_files_are_skipped(tmp_path):
    place(tmp_path, "cat/1.jpg", "cat/readme.txt", "cat/Thumbs.db", "cat/jpg", "cat/2.jpg.bak", "cat/3.pdf")
    assert pairs(find_labelled(tmp_path, part="train")) == [("cat/1.jpg", "cat")]


def test_a_folder_that_is_named_like_a_photo_is_a_folder(tmp_path):
    assert pairs(find_labelled(place(tmp_path, "cat.jpg/1.jpg", "dog/x.jpg/2.jpg"), part="train")) == [
        ("cat.jpg/1.jpg", "cat.jpg"),
        ("dog/x.jpg/2.jpg", "dog"),
    ]


def test_photos_outside_class_folders_are_skipped_and_noted(tmp_path):
    photos = find_labelled(place(tmp_path, "cat/1.jpg", "2.jpg", "3.PNG", "notes.txt"), part="train")
    assert pairs(photos) == [("cat/1.jpg", "cat")]
    assert photos.notes == (
        f"{tmp_path}: photos outside class folders are skipped (2)",
        f"{tmp_path}: 1 file that is no photo is skipped: .txt 1",
    )


def test_a_class_folder_without_photos_keeps_its_name_and_is_noted(tmp_path):
    photos = find_labelled(place(tmp_path, "cat/1.jpg", "dog/", "eel/readme.txt"), part="train")
    assert photos.classes == ("cat", "dog", "eel")
    assert photos.counts() == {"cat": 1, "dog": 0, "eel": 0}
    assert photos.notes == (
        f"{tmp_path}: 1 file that is no photo is skipped: .txt 1",
        "no photos in 2 of 3 classes, only their names are used: dog, eel",
    )


@pytest.mark.parametrize("names", [(), ("1.jpg",), (".hidden/1.jpg",)])
def test_a_folder_without_class_folders_is_an_error(tmp_path, names):
    with pytest.raises(FolderError, match="holds no class folders"):
        find_labelled(place(tmp_path, *names), part="train")


@pytest.mark.parametrize("name", ["nowhere", "nowhere.csv", "a\0b", "x" * 5000])
def test_a_folder_that_does_not_exist_is_an_error(tmp_path, name):
    with pytest.raises(FolderError, match="neither a folder nor a list"):
        find_labelled(tmp_path / name, part="train")


@contextmanager
def without_privileges() -> Iterator[None]:
    """Root may read everything: for a while, be nobody."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
@pytest.mark.parametrize("mode", [0o000, 0o444], ids=["nothing may be seen", "only names may be seen"])
@pytest.mark.parametrize("source", ["photos", "photos/cat"])
def test_a_folder_that_may_not_be_read_is_an_error(tmp_path, monkeypatch, mode, source):
    place(tmp_path, "photos/cat/tabby/1.jpg")
    locked = tmp_path / source
    locked.chmod(mode)
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    try:
        with pytest.raises(FolderError, match="Permission denied"), without_privileges():
            find_labelled("photos", part="train")
    finally:
        locked.chmod(0o755)


# ---- labels


def test_a_label_is_the_folders_name_in_nfc(tmp_path):
    name = unicodedata.normalize("NFD", "café")
    photos = find_labelled(place(tmp_path, f"{name}/1.jpg"), part="train")
    assert photos.labels == ("caf\N{LATIN SMALL LETTER E WITH ACUTE}",)


@pytest.mark.parametrize(
    ("one", "other", "how"),
    [
        ("cat", "Cat", "case"),
        ("café", "CAFÉ", "case"),
        (unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café"), "Unicode form"),
        (unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "Café"), "case"),
    ],
)
@pytest.mark.parametrize("kind", ["folder", "list"])
def test_labels_that_look_alike_are_an_error(tmp_path, one, other, how, kind):
    place(tmp_path, f"{one}/1.jpg", f"{other}/2.jpg")
    source = tmp_path
    if kind == "list":
        records = [{"file_name": "1.jpg", "label": label} for label in (one, other)]
        source = write_jsonl(tmp_path / "list.jsonl", *records)
    with pytest.raises(LabelError, match=f"differ only by {how}"):
        find_labelled(source, part="train")


def test_a_class_folder_that_is_not_utf_8_is_an_error_that_names_it(tmp_path):
    place(tmp_path, os.fsdecode(b"caf\xe9/1.jpg"))
    with pytest.raises(LabelError, match=r"caf\\xe9 .* is not UTF-8"):
        find_labelled(tmp_path, part="train")


def test_a_file_name_that_is_not_utf_8_works(tmp_path):
    photos = find_labelled(place(tmp_path, os.fsdecode(b"cat/\xe9.jpg")), part="train")
    assert photos.labels == ("cat",)
    assert photos.ids() == [r"cat/\xe9.jpg"]


# ---- split folders


@pytest.mark.parametrize("parts", [("train", "test"), ("train", "val"), ("train", "val", "test")])
def test_a_split_folder_is_read_by_its_parts_and_says_so(tmp_path, parts):
    place(tmp_path, *(f"{part}/cat/{part}.jpg" for part in parts))
    assert {part: folder.name for part, folder in split_folders(tmp_path).items()} == {part: part for part in parts}
    for part in parts:
        photos = find_labelled(tmp_path, part=part)
        assert [path.name for path in photos.paths] == [f"{part}.jpg"]
        assert len(photos.notes) == 1
        assert f"is split: reading {part} (1 class, 1 image); " in photos.notes[0]
        assert all(other in photos.notes[0] for other in parts)


@pytest.mark.parametrize(
    "names",
    [
        ("zebra/1.jpg", "train/1.jpg"),
        ("zebra/1.jpg", "train/1.jpg", "bus/deep/1.jpg"),
        ("zebra/1.jpg", "train/steam/1.jpg", "bus/1.jpg"),
        ("zebra/1.jpg", "test/cat/1.jpg"),
    ],
)
def test_a_class_may_be_called_train(tmp_path, names):
    place(tmp_path, *names)
    assert not split_folders(tmp_path)
    photos = find_labelled(tmp_path, part="train")
    assert set(photos.classes) == {name.split("/")[0] for name in names}
    assert any("is read as a class; a split folder has train and val or test" in note for note in photos.notes)


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("train", "valid", "test"),
        ("train", "validation", None),
        ("Train", None, "Test"),
        ("TRAIN", "Dev", "EVAL"),
        ("training_set", None, "test_set"),
        ("Training Set", None, "test-set"),
        ("seg_train/seg_train", None, "seg_test/seg_test"),
        ("training", "val", "testing"),
        ("Training Images", "Validation Images", "Test_Images"),
        ("images_train", "dataset_val", None),
        ("TrainSet", None, "testset"),
        ("train2017", "val2017", None),
        ("1_train", "2-valid", "3.holdout"),
        ("trainval", None, "Test (1)"),
        ("train", "validate", None),
        ("train", None, None),
    ],
)
@pytest.mark.parametrize("wrapper", ["", "archive/", "download/my archive/"])
@pytest.mark.parametrize("third", [(), ("seg_pred/9.jpg",), ("extra/cat/9.jpg",)])
def test_fault_75_a_split_is_read_under_its_common_names(tmp_path, train, val, test, wrapper, third):
    if third and not (val or test):
        third = ()
    folders = {"train": train, "val": val, "test": test}
    for part, folder in folders.items():
        if folder:
            place(tmp_path, f"{wrapper}{folder}/cat/{part}.jpg", f"{wrapper}{folder}/dog/{part}.jpg")
    place(tmp_path, *(f"{wrapper}{name}" for name in third))
    for part, folder in folders.items():
        if not folder:
            continue
        photos = find_labelled(tmp_path, part=part)
        assert photos.classes == ("cat", "dog")
        assert [path.name for path in photos.paths] == [f"{part}.jpg", f"{part}.jpg"]
        top = folder.partition("/")[0]
        assert any(f"is split: reading {top} (2 classes, 2 images)" in note for note in photos.notes)


def test_fault_75_what_is_left_for_later_is_said(tmp_path):
    place(tmp_path, *(f"{part}/{label}/1.jpg" for part in ("train", "valid", "test") for label in ("cat", "dog")))
    (note,) = find_labelled(tmp_path, part="train").notes
    assert note.endswith("reading train (2 classes, 2 images); valid and test: left for --tune and evaluate")


def test_fault_75_a_split_without_class_folders_is_no_two_classes(tmp_path):
    place(tmp_path, "train/1.jpg", "train/2.jpg", "train/labels.csv", "test/3.jpg")
    with pytest.raises(
        FolderError,
        match=r"train holds no class folders \(found 2 photos and 1 other entry: \.csv 1\)",
    ):
        find_labelled(tmp_path, part="train")


def test_fault_77_a_folder_of_files_that_are_no_photos_counts_them_by_kind(tmp_path):
    place(tmp_path, "1.CR2", "2.CR2", "1.xmp", "3.jpg")
    with pytest.raises(FolderError, match=r"\(found 1 photo and 3 other entries: \.cr2 2, \.xmp 1\)"):
        find_labelled(tmp_path, part="train")


def test_fault_75_a_test_folder_without_class_folders_is_named(tmp_path):
    place(tmp_path, "train/cat/1.jpg", "train/dog/1.jpg", "test/1.jpg", "test/2.jpg")
    with pytest.raises(FolderError, match=r"test holds no class folders \(found 2 photos and 0 other entries\)"):
        find_labelled(tmp_path, part="test")


def test_fault_75_two_folders_of_one_part_are_not_chosen_between(tmp_path):
    place(tmp_path, "train/cat/1.jpg", "val/cat/1.jpg", "dev/cat/1.jpg")
    with pytest.raises(FolderError, match="has two val folders, dev and val; keep one"):
        find_labelled(tmp_path, part="train")


@pytest.mark.parametrize(
    "label", ["trains", "train station", "developer", "invalid", "contest", "set", "images", "2017"]
)
def test_fault_75_a_name_that_only_resembles_a_part_is_a_class(tmp_path, label):
    place(tmp_path, f"{label}/deep/1.jpg", "test/deep/2.jpg")
    assert find_labelled(tmp_path, part="train").counts() == {label: 1, "test": 1}


def test_fault_75_a_long_name_of_known_words_is_matched_at_once(tmp_path):
    place(tmp_path, f"{'dataset' * 35}x/1.jpg", "cat/1.jpg")
    assert len(find_labelled(tmp_path, part="train").classes) == 2


@pytest.mark.parametrize("folders", [("fold1", "fold2", "fold3"), ("learn", "check")])
def test_fault_75_folders_that_all_have_the_same_folders_are_doubted(tmp_path, folders):
    place(tmp_path, *(f"{folder}/{label}/1.jpg" for folder in folders for label in ("cat", "dog")))
    (note,) = find_labelled(tmp_path, part="train").notes
    assert "are read as the classes, though each has the folders cat, dog" in note


@pytest.mark.parametrize("other", ["labels/train/1.txt", "annotations/1.jpg"])
@pytest.mark.parametrize("inner", ["1.jpg", "cat/1.jpg"])
def test_fault_75_a_class_that_is_itself_split_is_doubted(tmp_path, other, inner):
    place(tmp_path, f"images/train/{inner}", f"images/val/{inner}", other)
    assert any(
        note.endswith("or test folder; if it contains the class folders, name it instead")
        and ": images is read" in note
        for note in find_labelled(tmp_path, part="train").notes
    )


def test_fault_75_a_class_with_photos_outside_such_folders_is_not_doubted(tmp_path):
    place(tmp_path, "images/train/1.jpg", "images/val/1.jpg", "images/1.jpg", "dog/1.jpg")
    assert find_labelled(tmp_path, part="train").notes == ()


@pytest.mark.parametrize("groups", [["animals"], ["animals", "plants"]])
def test_fault_75_groups_of_classes_next_to_classes_are_reported(tmp_path, groups):
    place(
        tmp_path,
        "car/1.jpg",
        *(f"{group}/{group[:2]}{kind}/{n}.jpg" for group in groups for kind in "ab" for n in "12"),
    )
    photos = find_labelled(tmp_path, part="train")
    assert photos.classes == tuple(sorted(["car", *groups]))
    (note,) = photos.notes
    assert (
        f"{tmp_path}: {', '.join(groups)} is read as one class, though all its photos are in the folders ana, anb"
        in note
    )
    assert note.endswith("if those are classes, move them next to the other classes")


@pytest.mark.parametrize(
    "paths",
    [
        ("dog/2023/1", "dog/2024/1"),  # dates
        ("dog/red/1",),  # one folder
        ("dog/red/1", "dog/blue/1", "dog/1"),  # photos outside the folders
        ("dog/red/1", "dog/blue/1", "bird/red/1", "bird/1"),  # folders that other classes have
    ],
)
def test_fault_75_folders_in_one_class_that_are_no_classes_are_not_reported(tmp_path, paths):
    place(tmp_path, "cat/1.jpg", *(f"{path}.jpg" for path in paths))
    assert find_labelled(tmp_path, part="train").notes == ()


def test_fault_75_photos_outside_shared_folders_leave_no_doubt(tmp_path):
    place(tmp_path, *(f"{label}/{side}/1.jpg" for label in ("cat", "dog") for side in ("front", "back")), "cat/1.jpg")
    assert find_labelled(tmp_path, part="train").notes == ()


def test_fault_75_one_folder_around_the_class_folders_is_looked_into(tmp_path):
    photos = find_labelled(place(tmp_path, "images/cat/1.jpg", "images/dog/2.jpg"), part="train")
    assert photos.classes == ("cat", "dog")
    assert any("its only folder images is read" in note for note in photos.notes)


@pytest.mark.parametrize(
    "system",
    [
        "@eaDir",
        "$RECYCLE.BIN",
        "System Volume Information",
        "lost+found",
        "__MACOSX",
        ".Trash-1000",
        "#recycle",
        "@EADIR",
        "$Recycle.Bin ",
        "@__thumb",
        "FOUND.003",
        "LOST.DIR",
        "Network Trash Folder",
        "~snapshot",
    ],
)
def test_fault_76_system_folders_are_neither_classes_nor_photos(tmp_path, system):
    place(tmp_path, "cat/1.jpg", "dog/1.jpg", f"{system}/1.jpg", f"cat/{system}/1.jpg/thumb.jpg", "cat/Thumbs.db")
    photos = find_labelled(tmp_path, part="train")
    assert pairs(photos) == [("cat/1.jpg", "cat"), ("dog/1.jpg", "dog")]
    assert system.startswith(".") or f"system folders and previews are skipped: {system} (2)" in photos.notes
    with pytest.warns(TipAdapterWarning, match="skipped: "):
        assert find_images(tmp_path) == [tmp_path / "cat" / "1.jpg", tmp_path / "dog" / "1.jpg"]


@pytest.mark.parametrize("label", ["recycled", "thumbs", "snapshot"])
def test_fault_76_a_class_may_be_called_like_something_of_a_system(tmp_path, label):
    assert find_labelled(place(tmp_path, f"{label}/1.jpg", "other/1.jpg"), part="train").counts()[label] == 1


@pytest.mark.parametrize("label", ["nan", "None", "null", "NaN", "no_label", "Unlabeled", "#REF!"])
def test_fault_79_class_folders_that_are_named_like_a_missing_label_are_doubted(tmp_path, label):
    photos = find_labelled(place(tmp_path, "cat/1.jpg", "dog/1.jpg", f"{label}/2.jpg"), part="train")
    assert photos.counts()[label] == 1
    (note,) = photos.notes
    assert f"such names are written where a label is missing: {label}; if it is" in note


def test_fault_77_skipped_files_are_counted_by_kind(tmp_path):
    place(tmp_path, "cat/1.jpg", "cat/a.mp4", "cat/deep/b.MP4", "dog/1.jpg", "dog/c.cr2", "dog/notes")
    (note,) = find_labelled(tmp_path, part="train").notes
    assert note.endswith("4 files that are no photos are skipped: .mp4 2, .cr2 1, no ending 1")


def test_fault_77_no_photos_at_all_is_an_error_that_says_what_was_found(tmp_path):
    place(tmp_path, "cat/a.cr2", "dog/b.cr2")
    with pytest.raises(
        FolderError,
        match=r"no photos in 2 class folders of .* \(cat, dog\); 2 files that are no photos are skipped: \.cr2 2;",
    ):
        find_labelled(tmp_path, part="train")
    with pytest.raises(FolderError, match=r"holds no photos; 2 files that are no photos are skipped: \.cr2 2"):
        find_images(tmp_path)


@pytest.mark.parametrize(
    ("train", "test"),
    [
        *(("Trainingsdaten", "Testdaten"), ("Entraînement", "test"), ("entrenamiento", "prueba"), ("训练集", "测试集")),
        *(("学習", "テスト"), ("asl_alphabet_train", "asl_alphabet_test"), ("my-set-training", "my-set-eval")),
        *(("cifar10_train", "cifar10_test"), ("train-jpg", "test-jpg")),
    ],
)
def test_fault_75_parts_in_other_languages_and_with_the_name_of_the_data_set(tmp_path, train, test):
    place(tmp_path, *(f"{part}/{label}/1.jpg" for part in (train, test) for label in ("cat", "dog")))
    for part, folder in (("train", train), ("test", test)):
        photos = find_labelled(tmp_path, part=part)
        assert {path.parent.parent.name for path in photos.paths} == {folder}
        assert photos.classes == ("cat", "dog")


@pytest.mark.parametrize(
    "labels", [("big_cat", "big_dog"), ("steam train", "steam boat"), ("x_1", "x_2"), ("a_", "a_b")]
)
def test_fault_75_classes_that_begin_with_one_word_are_no_parts(tmp_path, labels):
    place(tmp_path, *(f"{label}/deep/1.jpg" for label in labels))
    assert find_labelled(tmp_path, part="train").classes == tuple(sorted(labels))


def test_fault_75_folders_of_a_split_that_are_not_read_are_named(tmp_path):
    place(tmp_path, *(f"{part}/{label}/1.jpg" for part in ("TRAIN", "TEST", "TEST_SIMPLE") for label in ("cat", "dog")))
    for part, other in (("train", "TEST: left for --tune and evaluate"), ("test", "TRAIN: not read")):
        (note,) = find_labelled(tmp_path, part=part).notes
        assert note.endswith(f"(2 classes, 2 images); {other}; TEST_SIMPLE: no part, not read")


@pytest.mark.parametrize(
    "names", [("cat/1.jpg", "dog/1.jpg"), ("train/cat/1.jpg", "train/dog/1.jpg", "test/cat/1.jpg")]
)
def test_fault_75_a_photo_next_to_a_wrapper_or_the_parts_is_counted_and_changes_nothing(tmp_path, names):
    place(tmp_path, *(f"photos/{name}" for name in names), "sample.jpg")
    photos = find_labelled(tmp_path, part="train")
    assert photos.counts() == {"cat": 1, "dog": 1}
    assert f"{tmp_path}: photos outside class folders are skipped (1)" in photos.notes


@pytest.mark.parametrize(
    ("names", "doubt"),
    [
        (("train/images/1.jpg", "train/labels/1.txt", "val/images/2.jpg"), "read as classes: images, labels; if the"),
        (("images/1.jpg", "labels/1.txt"), "read as classes: images, labels; if the"),
        (("JPEGImages/1.jpg", "Annotations/1.xml"), "read as classes: Annotations, JPEGImages; if the"),
        (
            ("cat/1.jpg", "dog/1.jpg", "all/cat/1.jpg", "all/dog/1.jpg"),
            "all is read as a class, though it has folders of",
        ),
        (
            ("photos/cat/1.jpg", "photos/dog/1.jpg", "photos/logo.png"),
            "photos is read as a class and is the only one with",
        ),
        (("Data/CLS/n1/1.jpg", "Annotations/1.xml"), "Data is read as a class and is the only one with photos"),
    ],
)
def test_fault_75_folders_of_data_sets_that_are_read_as_classes_are_doubted(tmp_path, names, doubt):
    assert any(f": {doubt}" in note for note in find_labelled(place(tmp_path, *names), part="train").notes)


@pytest.mark.parametrize(
    "library", ["Photos Library.photoslibrary", "Catalog Previews.lrdata", "RECYCLER", "node_modules"]
)
def test_fault_76_libraries_of_photo_programs_are_no_classes(tmp_path, library):
    photos = find_labelled(place(tmp_path, "cat/1.jpg", "dog/1.jpg", f"{library}/a/1.jpg"), part="train")
    assert photos.classes == ("cat", "dog")
    assert f"system folders and previews are skipped: {library}" in photos.notes


@pytest.mark.parametrize("target", ["..", ".", "../dog", "../..", "../dog/deep"])
def test_fault_86_a_link_to_a_folder_above_or_beside_counts_nothing_twice(tmp_path, target):
    place(tmp_path, "photos/cat/1.jpg", "photos/dog/2.jpg", "photos/dog/deep/3.jpg")
    (tmp_path / "photos" / "cat" / "again").symlink_to(target)
    photos = find_labelled(tmp_path / "photos", part="train")
    assert pairs(photos) == [("cat/1.jpg", "cat"), ("dog/2.jpg", "dog"), ("dog/deep/3.jpg", "dog")]
    assert any(
        "links to folders that are searched anyway are skipped" in note and "again" in note for note in photos.notes
    )
    with pytest.warns(TipAdapterWarning, match="links to folders that are searched anyway are skipped: .*again"):
        assert len(find_images(tmp_path / "photos")) == 3


def test_fault_86_a_class_folder_that_links_to_the_folder_above_is_no_class(tmp_path):
    place(tmp_path, "cat/1.jpg", "dog/2.jpg")
    (tmp_path / "all").symlink_to(tmp_path)
    assert find_labelled(tmp_path, part="train").classes == ("cat", "dog")


def test_links_into_a_hidden_store_are_followed(tmp_path):
    place(tmp_path, ".store/1/1.jpg", "dog/2.jpg")
    (tmp_path / "cat").symlink_to(tmp_path / ".store" / "1")
    assert find_labelled(tmp_path, part="train").labels == ("cat", "dog")


def test_hidden_folders_do_not_unsplit_a_folder(tmp_path):
    assert split_folders(place(tmp_path, "train/cat/1.jpg", "test/cat/1.jpg", ".git/x", "__MACOSX/y", "readme.md"))


def test_a_missing_part_is_an_error_that_names_it(tmp_path):
    with pytest.raises(FolderError, match="is split into test, train; it has no val folder"):
        find_labelled(place(tmp_path, "train/cat/1.jpg", "test/cat/1.jpg"), part="val")


def test_a_part_without_class_folders_is_an_error(tmp_path):
    with pytest.raises(FolderError, match="holds no class folders"):
        find_labelled(place(tmp_path, "train/cat/1.jpg", "test/"), part="test")


@pytest.mark.parametrize("name", ["nowhere", "list.csv"])
def test_what_is_no_folder_is_not_split(tmp_path, name):
    assert not split_folders(place(tmp_path, "list.csv") / name)


# ---- links


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    place(tmp_path, "elsewhere/1.jpg", "elsewhere/deep/2.jpg", "photos/dog/3.jpg")
    (tmp_path / "photos" / "cat").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos" / "dog" / "4.jpg").symlink_to(tmp_path / "elsewhere" / "1.jpg")
    return tmp_path / "photos"


def test_links_to_folders_and_photos_are_followed(linked):
    assert pairs(find_labelled(linked, part="train")) == [
        ("cat/1.jpg", "cat"),
        ("cat/deep/2.jpg", "cat"),
        ("dog/3.jpg", "dog"),
        ("dog/4.jpg", "dog"),
    ]


def test_a_circle_of_links_is_walked_once(linked, tmp_path):
    (tmp_path / "elsewhere" / "deep" / "back").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "self").symlink_to("self")
    with pytest.warns(
        TipAdapterWarning, match="1 file that is no photo is skipped: links to nothing 1|links to folders that"
    ):
        assert [path.name for path in find_images(linked / "cat")] == ["1.jpg", "2.jpg"]


def test_a_link_to_nothing_is_left_for_reading_to_report(linked):
    (linked / "dog" / "5.jpg").symlink_to("nothing.jpg")
    assert (linked / "dog" / "5.jpg") in find_labelled(linked, part="train").paths


# ---- lists


def test_a_csv_list_names_photos_from_where_it_lies(tmp_path, monkeypatch):
    monkeypatch.chdir(place(tmp_path, "lists/"))
    Path("lists/train.csv").write_text("file_name,label\n../b.jpg,dog\na.jpg,cat\n")
    photos = find_labelled("lists/train.csv", part="train")
    assert photos.paths == (Path("lists/a.jpg"), Path("lists/../b.jpg"))
    assert photos.labels == ("cat", "dog")
    assert photos.root == Path("lists")


def test_a_jsonl_list_reads_like_the_csv(tmp_path):
    (tmp_path / "list.csv").write_text("file_name,label\na.jpg,cat\nb.jpg,dog\n")
    write_jsonl(
        tmp_path / "list.jsonl", {"file_name": "a.jpg", "label": "cat"}, {"label": "dog", "file_name": "b.jpg", "x": 1}
    )
    assert find_labelled(tmp_path / "list.csv", part="train") == find_labelled(tmp_path / "list.jsonl", part="train")


def test_absolute_paths_in_a_list_stay(tmp_path):
    write_jsonl(tmp_path / "list.jsonl", {"file_name": str(tmp_path / "else" / "a.jpg"), "label": "cat"})
    assert find_labelled(tmp_path / "list.jsonl", part="train").paths == (tmp_path / "else" / "a.jpg",)


@pytest.mark.parametrize("ending", [".csv", ".CSV"])
@pytest.mark.parametrize(
    "text",
    [
        "\ufefffile_name,label\na.jpg,cat\n",
        "label,shelf,file_name\r\ncat,7,a.jpg\r\n",
        'file_name,label\n\n"a.jpg","cat"',
    ],
)
def test_a_csv_list_may_come_from_a_spreadsheet(tmp_path, text, ending):
    (tmp_path / f"list{ending}").write_bytes(text.encode())
    assert pairs(find_labelled(tmp_path / f"list{ending}", part="train")) == [("a.jpg", "cat")]


def test_a_jsonl_list_may_have_a_mark_and_empty_lines(tmp_path):
    (tmp_path / "list.jsonl").write_bytes(b'\xef\xbb\xbf{"file_name": "a.jpg", "label": "cat"}\r\n\r\n  \n')
    assert pairs(find_labelled(tmp_path / "list.jsonl", part="train")) == [("a.jpg", "cat")]


def test_labels_of_a_list_are_put_into_nfc(tmp_path):
    write_jsonl(tmp_path / "list.jsonl", {"file_name": "a.jpg", "label": "cafe\u0301"})
    assert find_labelled(tmp_path / "list.jsonl", part="train").labels == ("caf\u00e9",)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("list.csv", "", "its first line must be file_name,label"),
        ("list.csv", "picked,label\na.jpg,cat\n", "its first line must be file_name,label"),
        ("list.csv", "x" * 200_000, "first line"),
        ("list.csv", "file_name,label\n", "lists no images"),
        ("list.csv", "file_name\na.jpg\n", "line 2: no label"),
        ("list.csv", "file_name,label\na.jpg,cat\nb.jpg,\n", "line 3: no label"),
        ("list.csv", "file_name,label\na.jpg,  \n", "line 2: no label"),
        ("list.csv", "file_name,label\n,cat\n", "line 2: no file_name"),
        ("list.csv", "file_name,label\na.jpg\n", "line 2: no label"),
        ("list.csv", f"file_name,label\na.jpg,{'x' * 200_000}\n", "field larger"),
        ("list.jsonl", "", "lists no images"),
        ("list.jsonl", '{"file_name": "a.jpg"}\n', "line 1: no label"),
        ("list.jsonl", '{"file_name": "a.jpg", "label": null}\n', "line 1: no label"),
        ("list.jsonl", '\n{"file_name": "a.jpg", "label": "cat"', "line 2: not JSON"),
        ("list.jsonl", "[" * 100_000, "line 1: not JSON"),
        ("list.jsonl", '["a.jpg", "cat"]\n', "line 1: not an object"),
        ("list.txt", "file_name,label\na.jpg,cat\n", "lists end in .csv, .tsv or .jsonl"),
    ],
)
def test_a_bad_list_is_an_error_that_says_where(tmp_path, name, text, reason):
    (tmp_path / name).write_text(text)
    with pytest.raises(FolderError, match=reason):
        find_labelled(tmp_path / name, part="train")


@pytest.mark.parametrize("key", ["file_name", "label"])
def test_half_a_character_in_a_list_is_an_error_that_says_where(tmp_path, key):
    record = {"file_name": "a.jpg", "label": "cat"} | {key: "\ud800"}
    with pytest.raises((FolderError, LabelError), match="line 1"):
        find_labelled(write_jsonl(tmp_path / "list.jsonl", record), part="train")


def test_labels_of_a_jsonl_list_may_be_numbers(tmp_path):
    records = [{"file_name": f"{label}.jpg", "label": label} for label in (0, 1)]
    assert find_labelled(write_jsonl(tmp_path / "list.jsonl", *records), part="train").labels == ("0", "1")


def test_a_list_in_another_encoding_is_an_error(tmp_path):
    (tmp_path / "list.csv").write_bytes("file_name,label\na.jpg,café\n".encode("latin-1"))
    with pytest.raises(LabelError, match="not UTF-8"):
        find_labelled(tmp_path / "list.csv", part="train")


# ---- photos to be named


def test_a_photo_is_itself_even_if_it_does_not_exist(tmp_path):
    for name in ("a.jpg", "nowhere.jpg", "a\0.jpg", "x" * 5000 + ".jpg"):
        assert find_images(tmp_path / name) == [tmp_path / name]


def test_all_photos_of_a_folder_are_named_in_order(tmp_path):
    place(tmp_path, "b.jpg", "a/2.png", "a/1.png", ".x/3.png", "notes.txt")
    with pytest.warns(
        TipAdapterWarning, match=r"1 file that is no photo is skipped: \.txt 1|hidden folders are skipped: \.x"
    ):
        assert find_images(tmp_path) == [tmp_path / "a/1.png", tmp_path / "a/2.png", tmp_path / "b.jpg"]


def test_a_list_to_be_named_keeps_its_order_and_needs_no_labels(tmp_path):
    (tmp_path / "list.csv").write_text("file_name\nb.jpg\na.jpg\nb.jpg\n")
    assert find_images(tmp_path / "list.csv") == [tmp_path / "b.jpg", tmp_path / "a.jpg", tmp_path / "b.jpg"]


def test_a_folder_without_photos_has_nothing_to_name(tmp_path):
    with pytest.raises(
        FolderError, match=r"holds no photos; 1 file that is no photo is skipped: \.txt 1; known endings are .*\.jpg"
    ):
        find_images(place(tmp_path, "notes.txt", "empty/"))


# ---- the list that comes of it


def test_taking_some_photos_keeps_the_classes(tmp_path):
    photos = find_labelled(place(tmp_path, "cat/1.jpg", "cat/2.jpg", "dog/1.jpg"), part="train").take([1])
    assert pairs(photos) == [("cat/2.jpg", "cat")]
    assert photos.classes == ("cat", "dog")


def test_a_photo_that_is_listed_again_has_an_id_of_its_own(tmp_path):
    write_jsonl(tmp_path / "list.jsonl", *[{"file_name": "a.jpg", "label": "cat"}] * 3)
    assert find_labelled(tmp_path / "list.jsonl", part="train").ids() == ["a.jpg", "a.jpg#2", "a.jpg#3"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"file_name": "a.jpg", "label": NaN}\n', "line 1: no label but 'nan'; label the photo"),
        ('{"file_name": "a.jpg", "label": 1e400}\n', "line 1: label inf is not text"),
        ('{"file_name": "a.jpg", "label": true}\n', "line 1: label True is not text"),
        ('{"file_name": "a.jpg", "label": ["cat"]}\n', "line 1: label .* is not text"),
        ('{"file_name": "a.jpg", "label": {"a": 1}}\n', "line 1: label .* is not text"),
        ('\n{"file_name": "a.jpg", "label": "a", "label": "b"}\n', "line 2: .*'label' is repeated"),
    ],
)
def test_fault_40_a_bad_value_in_jsonl_is_an_error_naming_its_line(tmp_path, text, reason):
    (tmp_path / "list.jsonl").write_text(text)
    with pytest.raises(FolderError, match=reason):
        find_labelled(tmp_path / "list.jsonl", part="train")


# ---- what is no folder and no list


@pytest.mark.parametrize("name", ["list.csv", "list.jsonl", "folder"])
def test_a_pipe_in_place_of_photos_is_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(FolderError, match="neither a folder nor a list"):
        find_labelled(tmp_path / name, part="train")
    assert find_images(tmp_path / name) == [tmp_path / name]  # reading it is that photo's error


def test_a_list_that_is_huge_is_refused(tmp_path):
    with (tmp_path / "list.csv").open("wb") as file:
        file.truncate(2**40)  # a hole: it costs no disk
    for find in (find_images, lambda source: find_labelled(source, part="train")):
        with pytest.raises(FolderError, match="above the limit of 64 MiB"):
            find(tmp_path / "list.csv")


@pytest.mark.parametrize("source", [None, 5, b"photos", ""], ids=repr)
def test_what_is_no_path_is_a_usage_error(source):
    for find in (find_images, lambda source: find_labelled(source, part="train")):
        with pytest.raises(UsageError, match="folder takes a path"):
            find(source)


def test_a_label_that_is_too_long_is_a_label_error_that_shows_its_start(tmp_path):
    write_jsonl(tmp_path / "list.jsonl", {"file_name": "a.jpg", "label": "x" * 5_000_000})
    with pytest.raises(LabelError, match=r"x…' .*line 1.* has 5,000,000 characters; shorten it to 1,000") as refused:
        find_labelled(tmp_path / "list.jsonl", part="train")
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    ("path", "text"), [("\ud800.png", "\\ud800.png"), ("\udce9.png", "\\xe9.png"), ("é.png", "é.png")]
)
def test_any_path_has_a_text(path, text):
    assert path_as_text(path) == text


def test_a_model_beside_the_class_folders_is_no_class(tmp_path):
    place(tmp_path, "cat/1.jpg", "dog/1.jpg", "model/config.json", "model/adapter.safetensors", "model/README.md")
    assert find_labelled(tmp_path, part="train").classes == ("cat", "dog")


def test_a_number_that_is_taken_is_passed_over():
    assert numbered(["a", "a", "a#2", "a", "b"]) == ["a", "a#3", "a#2", "a#4", "b"]


def test_fault_75_a_photo_in_a_wrapper_around_a_split_is_counted(tmp_path):
    photos = find_labelled(place(tmp_path, "d/train/cat/1.jpg", "d/val/cat/1.jpg", "d/cover.jpg"), part="train")
    assert photos.counts() == {"cat": 1}
    assert f"{tmp_path / 'd'}: photos outside class folders are skipped (1)" in photos.notes


def test_totals_have_separated_thousands_in_every_note(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "dog").mkdir()
    for number in range(1001):
        (tmp_path / f"cat/{number}.mp4").touch()
        (tmp_path / f"{number}.jpg").touch()
    (tmp_path / "cat/1.jpg").touch()
    notes = " ".join(find_labelled(tmp_path, part="train").notes)
    assert "1,001 files that are no photos are skipped: .mp4 1,001" in notes
    assert "photos outside class folders are skipped (1,001)" in notes


@pytest.mark.parametrize(
    ("train", "others"),
    [
        ("train_val", ["test"]),
        ("train_cropped", ["valid_cropped", "test_cropped"]),
        ("train_256px", ["val_256px"]),
        ("train_aug", ["PublicTest"]),
        ("bounding_box_train", ["bounding_box_test", "query"]),
        ("trn", ["vld", "tst"]),
        ("訓練データ", ["検証データ", "テストデータ"]),
        ("学習用", ["評価用"]),
        ("훈련", ["검증", "테스트"]),
        ("обучающая", ["валидация", "тестовая"]),
        ("addestramento", ["validazione", "prova"]),
    ],
)
def test_fault_75_folders_of_the_same_classes_are_parts_by_a_word_of_their_names(tmp_path, train, others):
    place(tmp_path, *(f"{part}/{label}/1.jpg" for part in (train, *others) for label in ("cat", "dog")))
    photos = find_labelled(tmp_path, part="train")
    assert (photos.classes, len(photos)) == (("cat", "dog"), 2)
    assert f"is split: reading {train} (2 classes, 2 images)" in photos.notes[0]
    assert all(other in photos.notes[0] for other in others)


def test_fault_75_a_word_of_a_name_is_not_enough_where_the_folders_differ(tmp_path):
    place(tmp_path, "train station/day/1.jpg", "test tube/full/1.jpg", "test tube/empty/1.jpg")
    assert find_labelled(tmp_path, part="train").classes == ("test tube", "train station")


def test_fault_75_further_copies_of_a_part_are_not_read(tmp_path):
    place(tmp_path, *(f"{part}/{label}/1.jpg" for part in ("train", "train_aug", "test") for label in ("cat", "dog")))
    photos = find_labelled(tmp_path, part="train")
    assert {path.parent.parent.name for path in photos.paths} == {"train"}
    assert "train_aug: no part, not read" in photos.notes[0]


@pytest.mark.parametrize("name", ["thumbs", "_thumbs", "Thumbnails", "previews"])
def test_fault_76_smaller_copies_of_the_photos_around_them_are_skipped(tmp_path, name):
    photos = find_labelled(
        place(tmp_path, "cat/1.jpg", "cat/2.png", f"cat/{name}/1.jpg", f"cat/{name}/2.jpg"), part="train"
    )
    assert len(photos) == 2
    assert f"system folders and previews are skipped: {name}" in photos.notes


def test_fault_76_photos_of_other_names_are_no_previews(tmp_path):
    photos = find_labelled(place(tmp_path, "cat/1.jpg", "cat/thumbs/2.jpg", "dog/thumbs/1.jpg"), part="train")
    assert len(photos) == 3


def test_fault_76_previews_next_to_class_folders_are_doubted(tmp_path):
    photos = find_labelled(place(tmp_path, "cat/1.jpg", "thumbnails/1.jpg"), part="train")
    assert "thumbnails is read as a class; if it contains smaller copies" in photos.notes[0]


@pytest.mark.parametrize(
    "names",
    [
        *(["trainA/1.jpg", "trainB/1.jpg", "testA/1.jpg", "testB/1.jpg"],),
        *(["train_cats/1.jpg", "train_dogs/1.jpg", "test_cats/1.jpg", "test_dogs/1.jpg"],),
        *(["cats_train/1.jpg", "cats_val/1.jpg", "dogs_train/1.jpg", "dogs_val/1.jpg"],),
        *(["labeled_train/cat/1.jpg", "labeled_train/dog/1.jpg", "unlabeled_test/1.jpg"],),
        *(["KatzenTraining/1.jpg", "KatzenValidierung/1.jpg", "other/1.jpg"],),
    ],
    ids=lambda names: names[0],
)
def test_fault_75_classes_with_words_of_a_split_in_their_names_are_doubted(tmp_path, names):
    (note,) = find_labelled(place(tmp_path, *names), part="train").notes
    assert "are read as classes, though their names have the words of a split; if they are its parts" in note


@pytest.mark.parametrize("names", [("train_station", "bus_stop"), ("test_tube", "val_x", "dog"), ("train", "train_x")])
def test_fault_75_words_of_one_part_or_without_train_are_no_split(tmp_path, names):
    notes = find_labelled(place(tmp_path, *(f"{name}/1.jpg" for name in names)), part="train").notes
    assert not any("words of a split" in note for note in notes)


@pytest.mark.parametrize("other", ["parts/parts.txt", "docs/", "attributes/x/y.txt"])
def test_fault_75_a_folder_without_photos_does_not_hide_that_the_others_are_alike(tmp_path, other):
    place(tmp_path, *(f"{kind}/{label}/1.png" for kind in ("images", "segmentations") for label in ("001.a", "002.b")))
    place(tmp_path, other)
    notes = find_labelled(tmp_path, part="train").notes
    assert any(
        "images, segmentations are read as the classes, though each has the folders 001.a, 002.b" in n for n in notes
    )


@pytest.mark.parametrize("labels", [("Cats", "Dogs"), ("Cats", "Dogs", "Eels")])
def test_fault_75_an_archive_in_several_pieces_is_doubted(tmp_path, labels):
    for number, label in enumerate(labels, 1):
        place(tmp_path, f"takeout-1-00{number}/Takeout/Google Photos/{label}/1.jpg")
    (note,) = find_labelled(tmp_path, part="train").notes
    assert "though the photos of each are in folders of its only folder Takeout/Google Photos; if those" in note


def test_fault_75_one_folder_within_each_class_leaves_no_doubt(tmp_path):
    place(tmp_path, *(f"{label}/images/{n}.jpg" for label in ("cat", "dog") for n in (1, 2)), "cat/boxes.txt")
    assert len(find_labelled(tmp_path, part="train").notes) == 1  # boxes.txt


def test_fault_75_exports_with_data_and_labels_are_doubted(tmp_path):
    place(
        tmp_path,
        "train/data/1.jpg",
        "train/labels/1.json",
        "train/metadata/1.json",
        "val/data/1.jpg",
        "val/labels/1.json",
    )
    notes = find_labelled(tmp_path, part="train").notes
    assert any(
        "read as classes: data, labels, metadata; if the photos are not in a folder for each class" in n for n in notes
    )


@pytest.mark.parametrize("name", ["train", "Training Images", "test", "valid"])
def test_fault_75_a_part_alone_without_class_folders_is_no_class(tmp_path, name):
    place(tmp_path, f"{name}/1.jpg", f"{name}/2.jpg")
    with pytest.raises(FolderError, match=f"{name} holds no class folders .found 2 photos"):
        find_labelled(tmp_path, part="train")


@pytest.mark.parametrize("names", [("train/1.jpg",), ("train/1.jpg", "test/2.jpg", "test/metadata.csv"), ()])
def test_fault_75_a_list_in_the_folder_is_named_where_class_folders_are_missing(tmp_path, names):
    source = place(tmp_path, *names, "train/metadata.csv" if names else "metadata.csv")
    found = source / "train" if names else source
    with pytest.raises(FolderError) as refusal:
        find_labelled(source, part="train")
    assert str(refusal.value).endswith(f"; if metadata.csv has their labels, give it instead: {found / 'metadata.csv'}")


@pytest.mark.parametrize(
    "copies",
    [
        *(
            ["1.jpg", "2.jpg", "gone.jpg", "index.html"],
            ["thumbs_1.jpg", "thumb-2.png"],
            ["1_thumb.jpg", "2_small.JPG"],
        ),
        *(["1.jpg.png", "2.jpg.png"], ["1_150x150.jpg"], ["sub/1.jpg", "sub/2.jpg"], ["TN_1.jpg"]),
    ],
    ids=lambda copies: copies[0],
)
def test_fault_76_smaller_copies_of_other_names_are_skipped(tmp_path, copies):
    place(tmp_path, "cat/1.jpg", "cat/sub/2.png", "dog/1.jpg", *(f"cat/thumbs/{name}" for name in copies))
    photos = find_labelled(tmp_path, part="train")
    assert photos.counts() == {"cat": 2, "dog": 1}
    assert "system folders and previews are skipped: thumbs" in photos.notes


def test_fault_76_other_photos_in_a_folder_for_previews_are_counted_and_the_folder_is_named(tmp_path):
    place(tmp_path, "cat/1.jpg", "cat/thumbs/1.jpg", "cat/thumbs/2.jpg", "cat/thumbs/3.jpg", "dog/1.jpg")
    photos = find_labelled(tmp_path, part="train")
    assert photos.counts() == {"cat": 4, "dog": 1}
    (note,) = photos.notes
    assert f"counted as photos: {tmp_path / 'cat/thumbs'}; if these are smaller copies" in note


@pytest.mark.parametrize("system", ["Recycled", "RECYCLED", "Recycle Bin", "MSOCache", "SYNOFILE_THUMB_M", "found.010"])
def test_fault_76_further_system_folders_are_skipped(tmp_path, system):
    photos = find_labelled(
        place(tmp_path, "cat/1.jpg", "dog/1.jpg", f"{system}/1.jpg", f"cat/{system}/1.jpg"), part="train"
    )
    assert photos.counts() == {"cat": 1, "dog": 1}
    assert f"system folders and previews are skipped: {system} (2)" in photos.notes


@pytest.mark.parametrize(
    "paths",
    [
        ("animals/cat/1", "animals/dog/1", "plants/rose/1", "plants/tulip/1"),
        ("gallery/cat/1", "gallery/dog/1", "query/cat/1", "query/dog/1", "probe/cat/1"),
        ("DCIM/Camera/1", "DCIM/100ANDRO/1", "Pictures/Screenshots/1"),
    ],
)
def test_fault_75_folders_around_all_photos_of_the_classes_are_reported(tmp_path, paths):
    place(tmp_path, *(f"{path}.jpg" for path in paths))
    (note,) = find_labelled(tmp_path, part="train").notes
    names = ", ".join(sorted({path.split("/")[1] for path in paths}))
    assert f"though the photos of each are in the folders {names}; if those are the classes" in note


def test_fault_75_a_folder_of_the_same_name_in_each_class_is_not_reported(tmp_path):
    place(tmp_path, "cat/cat/1.jpg", "dog/dog/1.jpg")
    assert find_labelled(tmp_path, part="train").notes == ()


@pytest.mark.parametrize(
    "other", ["1_thumb", "1-150x150", "1_mask", "mask_1", "1.segmentation", "tn_1", "1-edited", "1-bearbeitet"]
)
def test_fault_76_masks_and_smaller_copies_next_to_their_photos_are_reported(tmp_path, other):
    place(tmp_path, "cat/1.jpg", f"cat/{other}.png", "dog/1_2.jpg", "dog/2.jpg")
    photos = find_labelled(tmp_path, part="train")
    assert photos.counts() == {"cat": 2, "dog": 2}
    (note,) = photos.notes
    assert f"though named as if made of others: {tmp_path / 'cat' / other}.png; if these are masks" in note


@pytest.mark.parametrize("name", ["resized", "128", "edited"])
def test_fault_76_a_folder_that_repeats_the_names_around_it_is_reported(tmp_path, name):
    place(tmp_path, *(f"{place}{i}.jpg" for place in ("cat/", f"cat/{name}/") for i in range(3)), "dog/1.jpg")
    photos = find_labelled(tmp_path, part="train")
    assert photos.counts() == {"cat": 6, "dog": 1}
    assert f"counted as photos: {tmp_path / 'cat' / name}; if these are smaller copies" in photos.notes[0]


def test_fault_77_hidden_folders_with_photos_are_skipped_in_a_line(tmp_path):
    place(tmp_path, "cat/1.jpg", "cat/.thumbs/1.jpg", ".cow/1.jpg", ".git/objects/a.txt", "dog/1.jpg")
    photos = find_labelled(tmp_path, part="train")
    assert (photos.classes, photos.notes) == (("cat", "dog"), ("hidden folders are skipped: .cow, .thumbs",))


@pytest.mark.parametrize("name", ["$WINDOWS.~BT", "Config.Msi", "PerfLogs", "CaptureOne"])
def test_fault_76_folders_of_drives_and_photo_programs_are_no_classes(tmp_path, name):
    place(tmp_path, "cat/1.jpg", f"{name}/1.jpg", "dog/1.jpg")
    photos = find_labelled(tmp_path, part="train")
    assert photos.classes == ("cat", "dog")
    assert f"system folders and previews are skipped: {name}" in photos.notes


# ---- what real folders have


@pytest.mark.parametrize("names", [("rps", "rps-test-set"), ("A", "B")])
def test_fault_75_class_folders_within_a_folder_of_its_own_in_each_are_doubted(tmp_path, names):
    place(tmp_path, *(f"{name}/{name}/{label}/1.jpg" for name in names for label in ("cat", "dog")))
    (note,) = find_labelled(tmp_path, part="train").notes
    assert f"{', '.join(names)} are read as the classes, though each has the folders cat, dog" in note


def test_fault_75_a_class_folder_within_another_class_is_doubted(tmp_path):
    place(tmp_path, "cat/1.jpg", "cat/dog/2.jpg", "dog/1.jpg")
    (note,) = find_labelled(tmp_path, part="train").notes
    assert "cat is read as a class, though it has folders of the same names as other classes (dog)" in note


@pytest.mark.parametrize("part", ["train", "train_images"])
def test_fault_75_a_list_next_to_a_part_without_class_folders_is_named(tmp_path, part):
    place(tmp_path, f"{part}/1.jpg", "test_images/2.jpg", "sample_submission.csv", "train.csv")
    with pytest.raises(FolderError, match=r"if train\.csv has their labels, give it instead: .*/train\.csv"):
        find_labelled(tmp_path, part="train")


@pytest.mark.parametrize(
    "system",
    ["@eaDir (1)", "#recycle (2)", "System Volume Information (1)", "_vti_cnf", "resource.frk", "@ActiveBackup"],
)
def test_fault_76_system_folders_of_other_systems_and_their_copies_are_skipped(tmp_path, system):
    photos = find_labelled(place(tmp_path, "cat/1.jpg", "dog/1.jpg", f"{system}/2.jpg"), part="train")
    assert photos.classes == ("cat", "dog")
    assert photos.notes == (f"system folders and previews are skipped: {system}",)


@pytest.mark.parametrize("system", ["@surveillance", "$OF", "#archive", "~tmp"])
def test_fault_76_a_folder_named_like_those_of_systems_is_doubted(tmp_path, system):
    (note,) = find_labelled(place(tmp_path, "cat/1.jpg", "dog/1.jpg", f"{system}/2.jpg"), part="train").notes
    assert f"{system} is read as a class, though systems name their own folders so" in note


def test_fault_76_classes_that_all_begin_with_a_sign_are_not_doubted(tmp_path):
    assert find_labelled(place(tmp_path, "#cats/1.jpg", "#dogs/1.jpg"), part="train").notes == ()


def test_fault_77_photos_that_are_not_downloaded_are_counted(tmp_path):
    place(tmp_path, "cat/1.jpg", "cat/.2.jpg.icloud", "dog/1.jpg", "dog/.2.heic.icloud")
    (note,) = find_labelled(tmp_path, part="train").notes
    assert "2 files that are no photos are skipped: photos that are not downloaded (.icloud) 2" in note


def test_fault_77_only_photos_that_are_not_downloaded_are_an_error(tmp_path):
    with pytest.raises(
        FolderError, match=r"no photos in 1 class folder .* photos that are not downloaded \(\.icloud\) 1"
    ):
        find_labelled(place(tmp_path, "cat/.1.jpg.icloud"), part="train")


@pytest.mark.parametrize("copy", ["cat (1)", "Cat - Copy (2)", "cat-DESKTOP-AB12", "Kopie von cat"])
def test_fault_78_a_class_folder_that_is_named_like_a_copy_is_doubted(tmp_path, copy):
    photos = find_labelled(place(tmp_path, "cat/1.jpg", "dog/1.jpg", f"{copy}/2.jpg"), part="train")
    assert copy in photos.classes
    (note,) = photos.notes
    assert f"read as a class of its own, though named like a copy of another class: {copy}; " in note


def test_fault_78_names_of_characters_that_show_nothing_are_refused(tmp_path):
    with pytest.raises(LabelError, match="has only characters that show nothing"):
        find_labelled(place(tmp_path, "cat/1.jpg", "\u2800/1.jpg"), part="train")


@pytest.mark.parametrize("file", ["classes.txt", "class_names.json", "data.yaml", "train/labels.txt"])
def test_fault_79_a_file_that_may_have_the_names_of_numbered_classes_is_named(tmp_path, file):
    place(tmp_path, "train/0/1.jpg", "train/1/1.jpg", "test/0/2.jpg", file)
    notes = find_labelled(tmp_path, part="train").notes
    assert any(f"classes are numbers (0, 1); if {Path(file).name} has their names" in note for note in notes)


def test_fault_76_skipped_folders_of_systems_are_counted(tmp_path):
    photos = find_labelled(
        place(
            tmp_path,
            *(f"{label}/{name}" for label in ("cat", "dog") for name in ("1.jpg", "@eaDir/1.jpg")),
            "#recycle/1.jpg",
        ),
        part="train",
    )
    assert photos.notes == ("system folders and previews are skipped: #recycle, @eaDir (2)",)


def test_fault_75_parts_without_class_folders_are_named(tmp_path):
    photos = find_labelled(place(tmp_path, "train2017/1.jpg", "val2017/2.jpg", "annotations/a.json"), part="train")
    assert "train2017, val2017 are read as classes, as no class folders are in them; if they are the" in photos.notes[0]


@pytest.mark.parametrize("file", ["LOC_synset_mapping.txt", "words.txt", "imagenet_classes.txt"])
def test_fault_79_a_file_that_may_have_the_names_of_ids_of_wordnet_is_named(tmp_path, file):
    place(tmp_path, "n01440764/1.jpg", "n02219486/1.jpg", file)
    note, skipped = find_labelled(tmp_path, part="train").notes
    assert f"classes are ids of WordNet (n01440764, n02219486); if {file} has their names" in note
    assert skipped.endswith("skipped: .txt 1")


@pytest.mark.parametrize("name", ["photos.zip", "photos.tar.gz", "photos.7z"])
def test_fault_79_an_archive_is_to_be_unpacked(tmp_path, name):
    (tmp_path / name).write_bytes(b"PK\x03\x04")
    with pytest.raises(FolderError, match="is an archive; unpack it and give the folder"):
        find_labelled(tmp_path / name, part="train")


def test_fault_79_such_a_file_next_to_named_classes_is_only_counted(tmp_path):
    (note,) = find_labelled(place(tmp_path, "cat/1.jpg", "dog/1.jpg", "classes.txt"), part="train").notes
    assert note == f"{tmp_path}: 1 file that is no photo is skipped: .txt 1"


def test_fault_77_archives_of_classes_are_counted_with_the_files_around_a_part(tmp_path):
    place(tmp_path, "train/cat/1.jpg", "train/dog/1.jpg", "train/fox.zip", "test/cat/2.jpg", "README.md")
    *_, note = find_labelled(tmp_path, part="train").notes
    assert note == f"{tmp_path / 'train'}: 2 files that are no photos are skipped: .zip 1, .md 1"


@pytest.mark.parametrize("part", ["train", "test"])
def test_fault_86_a_class_folder_that_is_a_link_to_nothing_is_an_error(tmp_path, part):
    place(tmp_path, "cat/1.jpg", "dog/1.jpg")
    (tmp_path / "fox").symlink_to("/disk/fox")
    with pytest.raises(
        FolderError, match="fox is a link to /disk/fox, which does not exist; connect the disk that has it"
    ):
        find_labelled(tmp_path, part=part)


def test_fault_77_what_is_behind_a_path_that_is_too_long_is_counted_as_that(tmp_path, monkeypatch):
    place(tmp_path, "cat/1.jpg", "dog/1.jpg")
    monkeypatch.chdir(tmp_path / "cat")
    for _ in range(20):
        Path("d" * 250).mkdir()
        os.chdir("d" * 250)
    Path("2.jpg").touch()
    (note,) = find_labelled(tmp_path, part="train").notes
    assert note.endswith("1 file that is no photo is skipped: paths longer than the system reads 1")
    os.chdir(tmp_path)


def test_fault_77_images_without_labels_say_what_is_skipped(tmp_path):
    place(tmp_path, "1.jpg", "2.cr2", "thumbs/1.jpg", ".3.jpg.icloud")
    (tmp_path / "more").symlink_to("/disk/more")
    with pytest.warns(TipAdapterWarning) as warned:
        assert find_images(tmp_path) == [tmp_path / "1.jpg"]
    said = [str(one.message) for one in warned]
    assert said == [
        f"{tmp_path}: 3 files that are no photos are skipped: photos that are not downloaded (.icloud) 1, .cr2 1, links to nothing 1",
        "system folders and previews are skipped: thumbs",
    ]


def test_fault_76_folders_that_this_program_wrote_are_skipped_in_a_line(tmp_path):
    place(tmp_path, "cat/1.jpg", "dog/1.jpg", "report/index.html", "sorted/sorted.csv", "sorted/cat/1.jpg")
    (tmp_path / "sorted" / "sorted.csv").write_text("image,sorted_to,label,score,reason,error\n")
    place(tmp_path, "labels/plan.parquet", "labels/part-000000-c506419ddfb07b6a/_manifest.json")
    photos = find_labelled(tmp_path, part="train")
    assert photos.classes == ("cat", "dog")
    assert photos.notes == (f"{tmp_path}: folders that this program wrote are skipped: labels, report, sorted",)


def test_fault_76_sorted_photos_have_the_classes_that_they_were_sorted_into(tmp_path):
    labels = ["cat", "a/b", "..", None]
    with sorting(tmp_path / "sorted") as sorter:
        for number, label in enumerate(labels):
            (tmp_path / f"{number}.jpg").write_bytes(bytes([number]))
            sorter.put(
                tmp_path / f"{number}.jpg", {"image": f"{number}.jpg", "label": label, "score": 0.5, "error": None}
            )
    photos = find_labelled(tmp_path / "sorted", part="train")
    assert [(path.name, label) for path, label in zip(photos.paths, photos.labels, strict=True)] == [
        ("2.jpg", ".."),
        ("1.jpg", "a/b"),
        ("0.jpg", "cat"),
    ]
    assert "system folders and previews are skipped: _none_of_these" in photos.notes


def test_fault_75_parts_within_each_class_are_read_together_and_the_note_says_so(tmp_path):
    place(tmp_path, *(f"{label}/{part}/1.jpg" for label in ("cat", "dog") for part in ("train", "test")))
    (note,) = find_labelled(tmp_path, part="train").notes
    assert (
        "cat, dog are read as the classes with all photos of test, train; to keep these parts apart, make folders"
        in note
    )


def test_class_names_with_the_words_of_parts_are_not_doubted(tmp_path):
    place(tmp_path, "bullet_train/1.jpg", "test_tube/1.jpg", "car/1.jpg")
    assert find_labelled(tmp_path, part="train").notes == ()


@pytest.mark.parametrize(
    "copy",
    [
        "1_resized",
        "1_crop",
        "1_superpixels",
        "1_large",
        "1@2x",
        "1_heatmap",
        "1_aug",
        "1_copy",
        "Copy of 1",
        "1_mask_1",
        "1_maskcrop",
    ],
)
def test_fault_76_photos_that_are_named_as_if_made_of_others_are_noted(tmp_path, copy):
    place(tmp_path, "cat/1.jpg", f"cat/{copy}.png", "dog/1.jpg", "dog/IMG_0001.jpg", "dog/IMG_E0001.jpg")
    (note,) = find_labelled(tmp_path, part="train").notes
    assert "counted as photos, though named as if made of others" in note
    assert f"{copy}.png" in note
    assert "IMG_E0001.jpg" in note


def test_a_class_folder_with_a_table_of_that_name_is_a_class(tmp_path):
    place(tmp_path, "cat/1.jpg", "cat/sorted.csv", "dog/1.jpg")
    assert find_labelled(tmp_path, part="train").classes == ("cat", "dog")


def test_fault_77_hidden_photos_are_counted(tmp_path):
    place(tmp_path, "cat/1.jpg", "cat/.2.jpg", "cat/._1.jpg", "dog/1.jpg")
    (note,) = find_labelled(tmp_path, part="train").notes
    assert note == f"{tmp_path}: 1 file that is no photo is skipped: hidden photos 1"


@pytest.mark.parametrize(
    "names", [("dev1", "dev2", "dev3"), ("steam_train", "toy_train"), ("positive test", "negative test")]
)
def test_classes_with_the_word_of_one_part_are_classes(tmp_path, names):
    place(tmp_path, *(f"{name}/{side}/1.jpg" for name in names for side in ("front", "side")))
    assert find_labelled(tmp_path, part="train").classes == tuple(sorted(names))


def test_fault_75_numbered_folders_next_to_a_list_are_doubted(tmp_path):
    place(tmp_path, "HAM_part_1/1.jpg", "HAM_part_2/2.jpg", "metadata.csv")
    note, _ = find_labelled(tmp_path, part="train").notes
    assert (
        "HAM_part_1, HAM_part_2 are read as the classes; if metadata.csv has the labels of their photos, give it"
        in note
    )


def test_fault_75_classes_with_and_without_the_word_of_a_part_are_doubted(tmp_path):
    place(tmp_path, "cats/1.jpg", "dogs/1.jpg", "cats_test/1.jpg", "dogs_test/1.jpg")
    (note,) = find_labelled(tmp_path, part="train").notes
    assert "cats_test, dogs_test are read as classes, though their names have the words of a split" in note


def test_fault_76_a_mask_of_a_photo_whose_name_ends_in_a_bracket_is_noted(tmp_path):
    place(tmp_path, "cat/benign (1).png", "cat/benign (1)_mask.png", "dog/1.jpg")
    (note,) = find_labelled(tmp_path, part="train").notes
    assert "named as if made of others: " in note


def test_fault_77_kinds_beyond_those_that_are_named_are_counted(tmp_path):
    place(tmp_path, "cat/1.jpg", "dog/1.jpg", *(f"cat/x.{kind}" for kind in ("a", "b", "c", "d", "e", "f", "g", "h")))
    (note,) = find_labelled(tmp_path, part="train").notes
    assert note.endswith("8 files that are no photos are skipped: .a 1, .b 1, .c 1, .d 1, .e 1, .f 1, 2 other kinds 2")


def test_fault_86_a_part_that_is_a_link_to_another_is_named(tmp_path):
    place(tmp_path, "train/cat/1.jpg", "train/dog/1.jpg", "val/cat/2.jpg", "val/dog/2.jpg")
    (tmp_path / "test").symlink_to("val")
    with pytest.raises(
        FolderError, match="it has no test folder but test, a link to a folder that is read already; copy it instead"
    ):
        find_labelled(tmp_path, part="test")


@pytest.mark.parametrize(
    ("file", "found"),
    [
        ("1.jpg", "1 photo is outside the class folders"),
        ("cat/@eaDir/1.jpg", "system folders and previews are skipped: @eaDir"),
    ],
)
def test_fault_77_class_folders_without_photos_next_to_photos_are_an_error(tmp_path, file, found):
    with pytest.raises(
        FolderError, match=f"no photos in 2 class folders of .* {re.escape('(cat, dog)')}; {found}; known endings"
    ):
        find_labelled(place(tmp_path, "cat/", "dog/", file), part="train")


def test_fault_86_a_link_in_a_class_to_another_part_is_skipped_and_noted(tmp_path):
    place(tmp_path, "train/cat/1.jpg", "train/dog/1.jpg", "val/cat/2.jpg", "val/dog/2.jpg", "more/3.jpg")
    (tmp_path / "train" / "cat" / "val").symlink_to("../../val")
    (tmp_path / "train" / "cat" / "more").symlink_to("../../more")
    photos = find_labelled(tmp_path, part="train")
    assert photos.counts() == {"cat": 2, "dog": 1}
    assert any("links to folders that are searched anyway are skipped" in note for note in photos.notes)
