from __future__ import annotations

import os
import re
import unicodedata
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, assume, given, reject, settings
from hypothesis import strategies as st

from tip_adapter.errors import FolderError, LabelError, OutputExists
from tip_adapter.images.find import ImageList, find_labelled
from tip_adapter.images.labels import label_of, refuse_lookalike_labels
from tip_adapter.images.lists import write_list
from tip_adapter.images.sampling import draw, draw_train_and_test

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PLACEABLE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=12).filter(
    lambda text: text.strip() and text not in (".", "..")
)


def listed(root: Path, **counts: int) -> ImageList:
    rows = [(root / label / f"{n}.jpg", label) for label in sorted(counts) for n in range(counts[label])]
    return ImageList(tuple(path for path, _ in rows), tuple(label for _, label in rows), tuple(sorted(counts)), root)


@pytest.fixture
def touch(tmp_path: Path) -> Callable[..., Path]:
    """Write class folders of empty files: touch("photos", cat=3) → the folder."""

    def make(name: str, **counts: int) -> Path:
        for path in listed(tmp_path / name, **counts).paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return tmp_path / name

    return make


# ---- draws


def test_a_draw_gives_the_shots_of_each_class(tmp_path):
    drawn = draw(listed(tmp_path, cat=9, dog=4), 3, seed=0)
    assert drawn.counts() == {"cat": 3, "dog": 3}
    assert drawn.notes == ()


def test_a_class_with_fewer_photos_gives_all_and_it_is_noted(tmp_path):
    drawn = draw(listed(tmp_path, ant=0, cat=9, dog=2), 3, seed=0)
    assert drawn.counts() == {"ant": 0, "cat": 3, "dog": 2}
    assert len(drawn.notes) == 1
    assert "fewer than 3 photos; all of theirs are used: dog" in drawn.notes[0]


def test_the_note_names_a_few_of_many_classes(tmp_path):
    (note,) = draw(listed(tmp_path, **dict.fromkeys("abcdefg", 1)), 2, seed=0).notes
    assert note.startswith("7 classes")
    assert note.endswith("a, b, c, d, e, …")


def test_draws_are_nested_and_seeded(tmp_path):
    photos = listed(tmp_path, cat=30, dog=20)
    one, two, again = (set(draw(photos, shots, seed=3).paths) for shots in (1, 2, 2))
    assert one < two
    assert two == again
    assert two != set(draw(photos, 2, seed=4).paths)


# ---- train and test


def test_train_and_test_share_no_photo(touch):
    train, test = draw_train_and_test(touch("photos", cat=9, dog=4), 3, 5, seed=0)
    assert train.counts() == {"cat": 3, "dog": 3}
    assert test.counts() == {"cat": 5, "dog": 1}
    assert not set(train.paths) & set(test.paths)


def test_a_photo_that_is_listed_twice_is_not_in_both(tmp_path):
    rows = [f"{label}{n}.jpg,{label}\n" for label in ("cat", "dog") for n in (1, 2, 3, 4, 1, 2)]
    (tmp_path / "list.csv").write_text("file_name,label\n" + "".join(rows))
    for seed in range(10):
        train, test = draw_train_and_test(tmp_path / "list.csv", 2, 100, seed)
        assert not set(train.paths) & set(test.paths)


def test_a_split_folder_gives_train_and_test_from_its_parts(touch):
    touch("photos/train", cat=9, dog=4)
    touch("photos/val", cat=1, dog=1)
    train, test = draw_train_and_test(touch("photos/test", cat=2, dog=7).parent, 3, 5, seed=0)
    assert {path.parts[-3] for path in train.paths} == {"train"}
    assert {path.parts[-3] for path in test.paths} == {"test"}
    assert test.counts() == {"cat": 2, "dog": 5}


def test_a_class_with_no_photo_left_for_the_test_is_an_error_that_names_it(touch):
    with pytest.raises(FolderError, match="class dog has no photo left for the test after 4 shots"):
        draw_train_and_test(touch("photos", cat=9, dog=4), 4, 5, seed=0)


def test_a_split_folder_without_test_has_nothing_to_test_on(touch):
    touch("photos/train", cat=9)
    with pytest.raises(FolderError, match="no test folder"):
        draw_train_and_test(touch("photos/val", cat=9).parent, 4, 5, seed=0)


# ---- lists


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much])
@given(st.lists(st.tuples(PLACEABLE, PLACEABLE), min_size=1, max_size=5, unique_by=lambda row: row[1].casefold()))
def test_a_list_that_is_written_is_read_as_it_was(tmp_path, rows):
    labels = [unicodedata.normalize("NFC", label) for _, label in rows]
    try:
        refuse_lookalike_labels(labels)
        assume([label_of(label, "") for label in labels] == labels)
    except LabelError:
        reject()
    # What programs write for a missing label or a whole number is read otherwise (fault 79).
    assume(not any(re.fullmatch(r"-?nan|none|null|#?n/a|<na>|na|-?\d+\.0+", label.casefold()) for label in labels))
    photos = sorted(zip((tmp_path / "photos" / name for name, _ in rows), labels, strict=True), key=lambda row: row[1])
    paths, names = zip(*photos, strict=True)
    (tmp_path / "lists" / "train.csv").unlink(missing_ok=True)
    write_list(tmp_path / "lists" / "train.csv", paths, names)
    (tmp_path / "photos").mkdir(exist_ok=True)
    for path in paths:
        path.touch()
    read = find_labelled(tmp_path / "lists" / "train.csv", part="train")
    assert [os.path.normpath(path) for path in read.paths] == [os.fspath(path) for path in paths]
    assert read.labels == names


def test_a_list_keeps_file_names_that_are_not_utf_8(tmp_path):
    photo = tmp_path / os.fsdecode(b"\xff.jpg")
    photo.touch()
    write_list(tmp_path / "list.csv", [photo], ["cat"])
    assert find_labelled(tmp_path / "list.csv", part="train").paths == (photo,)


def test_a_list_of_photos_below_the_current_folder_is_read_from_anywhere(touch, tmp_path, monkeypatch):
    touch("photos", cat=1)
    monkeypatch.chdir(tmp_path)
    photos = find_labelled("photos", part="train")
    write_list("lists/train.csv", photos.paths, photos.labels)
    monkeypatch.chdir("/")
    assert find_labelled(tmp_path / "lists" / "train.csv", part="train").paths[0].exists()


def test_a_list_behind_a_link_still_finds_its_photos(touch, tmp_path):
    photos = find_labelled(touch("photos", cat=1), part="train")
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "lists").symlink_to(tmp_path / "far" / "away")
    write_list(tmp_path / "lists" / "train.csv", photos.paths, photos.labels)
    assert find_labelled(tmp_path / "lists" / "train.csv", part="train").paths[0].exists()


def test_another_list_is_not_overwritten_and_the_same_is_no_error(tmp_path):
    path = tmp_path / "train.csv"
    write_list(path, [tmp_path / "a.jpg"], ["cat"])
    write_list(path, [tmp_path / "a.jpg"], ["cat"])
    with pytest.raises(OutputExists, match=r"train\.csv exists and is another list"):
        write_list(path, [tmp_path / "a.jpg"], ["dog"])
    assert find_labelled(path, part="train").labels == ("cat",)
