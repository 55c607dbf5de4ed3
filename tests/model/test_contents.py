"""Photos by their content: each counts once in a class, and a model follows the folder that it was made from."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tip_adapter import FewShotClassifier, SupportSet
from tip_adapter.errors import FolderError, TipAdapterWarning, UnknownName, UsageError
from tip_adapter.features import encode, extract, readers
from tip_adapter.model.format import CONFIG
from tip_adapter.model.head import load_head
from tip_adapter.model.saving import read_config

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image

    from tip_adapter.model.contents import Changes

    Paint = Callable[..., Image.Image]
    MakePhotos = Callable[..., Path]

LABELS = ["red", "green", "blue"] * 3
quietly = pytest.mark.filterwarnings("ignore::tip_adapter.errors.TipAdapterWarning")


@pytest.fixture
def photos(paint: Paint) -> list[Image.Image]:
    """Three photos of each colour, in the order of LABELS."""
    return [paint(label, number) for number, label in enumerate(LABELS)]


@pytest.fixture
def folder(make_photos: MakePhotos) -> Path:
    return make_photos("photos", red=4, green=4, blue=4)


def saved(model: FewShotClassifier, place: Path) -> dict[str, bytes]:
    """The files of the model."""
    model.save(place, force=True)
    return {path.name: path.read_bytes() for path in place.iterdir()}


def assert_is_as_fitted(model: FewShotClassifier, folder: Path, tmp_path: Path, **options: Any) -> None:
    """The model is, file for file, what a fit of the folder saves."""
    fresh = FewShotClassifier("toy", **options).fit_folder(folder)
    assert saved(model, tmp_path / "followed") == saved(fresh, tmp_path / "fresh")


# ---- identical photos ------------------------------------------------------------------------------------------------


def test_a_folder_that_is_added_again_changes_nothing(folder: Path, tmp_path: Path) -> None:
    model = FewShotClassifier("toy").fit_folder(folder)
    before = saved(model, tmp_path / "model")
    for place in sorted(folder.iterdir()):
        paths = sorted(place.iterdir())
        with pytest.warns(
            TipAdapterWarning, match="skipped 4 images identical to others of the same class: .*and 1 more"
        ):
            model.partial_fit(paths, [place.name] * 4)
    assert saved(model, tmp_path / "model") == before
    assert saved(model.retune(), tmp_path / "model") == before


def test_it_is_skipped_also_after_the_model_was_saved(folder: Path, tmp_path: Path) -> None:
    FewShotClassifier("toy").fit_folder(folder).save(tmp_path / "model")
    model = FewShotClassifier.load(tmp_path / "model")
    with pytest.warns(TipAdapterWarning, match="skipped 1 image identical to another"):
        model.partial_fit([folder / "red" / "0.png"], ["red"])
    assert len(model.support_) == 12


@pytest.mark.parametrize("kind", [lambda photo: photo, np.asarray], ids=["PIL", "array"])
def test_photos_in_memory_are_learned_once(kind: Callable[[Any], Any], photos: Any) -> None:
    given_as = [kind(photo) for photo in photos]
    model = FewShotClassifier("toy").fit(given_as, LABELS)
    head = model.head_
    with pytest.warns(TipAdapterWarning, match="skipped 9 images identical to others of the same class"):
        model.partial_fit(given_as, LABELS)
    assert model.head_ is head
    with pytest.warns(TipAdapterWarning, match="skipped 9 images"):
        again = FewShotClassifier("toy").fit([*given_as, *given_as], [*LABELS, *LABELS])
    assert again.support_.ids.tolist() == head.support.ids.tolist()
    assert (again.choice_, again.head_.left_out) == (head.choice, head.left_out)


def test_an_array_of_other_shape_with_the_same_bytes_is_another_photo() -> None:
    tall, wide = np.full((8, 2, 3), 9, np.uint8), np.full((2, 8, 3), 9, np.uint8)
    assert len(FewShotClassifier("toy").fit([tall, wide, tall + 200, wide + 200], [*"aabb"]).support_) == 4


@quietly
def test_learned_keys_stay_where_nothing_is_new(photos: Any) -> None:
    model = FewShotClassifier("toy", "tip-adapter-f", epochs=1).fit(photos, LABELS).partial_fit(photos[:2], LABELS[:2])
    assert not model.needs_finetune_


def test_a_known_photo_in_another_class_is_named_and_learned(folder: Path) -> None:
    model = FewShotClassifier("toy").fit_folder(folder)
    copy = shutil.copy(folder / "red" / "0.png", folder / "copy.png")
    with pytest.warns(
        TipAdapterWarning, match=r"in two classes: red/0\.png \(red\) and .*copy\.png \(blue\)"
    ) as warned:
        model.partial_fit([copy], ["blue"])
    assert len(warned) == 1
    assert len(model.support_) == 13


@quietly
def test_what_is_evaluated_counts_every_photo(folder: Path) -> None:
    model = FewShotClassifier("toy").fit_folder(folder)
    shutil.copy(folder / "red" / "0.png", folder / "red" / "copy.png")
    assert model.evaluate_folder(folder)["n_images"] == 13


def test_contents_follow_photos_through_removal(folder: Path) -> None:
    model = FewShotClassifier("toy").fit_folder(folder)
    by_id = dict(zip(model.support_.ids.tolist(), model.support_.digests.tolist(), strict=True))
    model.remove(["red/1.png"]).remove_class("blue").partial_fit([folder / "red" / "1.png"], ["red"])
    left = dict(zip(model.support_.ids.tolist(), model.support_.digests.tolist(), strict=True))
    assert left.pop(str(folder / "red" / "1.png")) == by_id["red/1.png"]
    assert left == {name: digest for name, digest in by_id.items() if name in left}


# ---- a model that follows its folder ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("tip-adapter", {}),
        ("tip-adapter", {"tune": "scale-free"}),
        ("tip-adapter", {"alpha": 2.0, "beta": 3.0}),
        ("tip-adapter", {"calibrate": False}),
        ("tip-adapter-f", {"epochs": 2, "seed": 3}),
        ("linear-probe", {}),
        ("zero-shot", {}),
    ],
)
@pytest.mark.parametrize("loaded", [False, True])
def test_an_updated_model_is_a_fit_of_the_folder(
    method: str, options: dict[str, Any], loaded: bool, folder: Path, paint: Paint, tmp_path: Path
) -> None:
    model = FewShotClassifier("toy", method, **options).fit_folder(folder)
    if loaded:
        model.save(tmp_path / "model")
        model = FewShotClassifier.load(tmp_path / "model")
    (folder / "red" / "0.png").rename(folder / "green" / "moved.png")
    (folder / "red" / "1.png").rename(folder / "red" / "other name.png")
    (folder / "red" / "2.png").unlink()
    shutil.rmtree(folder / "blue")
    (folder / "yellow").mkdir()
    for number in (20, 21):
        paint("yellow", number).save(folder / "yellow" / f"{number}.png")
    changes = model.compare_folder(folder)
    learns = method != "zero-shot"
    assert changes.new == (("yellow/20.png", "yellow/21.png") if learns else ())
    assert changes.moved == ((("green/moved.png", "red", "green"),) if learns else ())
    assert changes.renamed == ((("red/1.png", "red/other name.png"),) if learns else ())
    assert changes.removed == (("blue/0.png", *(f"blue/{n}.png" for n in (1, 2, 3)), "red/2.png") if learns else ())
    assert (changes.new_classes, changes.removed_classes) == (("yellow",), ("blue",))
    assert_is_as_fitted(model.apply_changes(changes), folder, tmp_path, method=method, **options)
    assert not model.compare_folder(folder)


def test_a_class_may_be_renamed_by_its_case_alone(folder: Path, tmp_path: Path) -> None:
    model = FewShotClassifier("toy").fit_folder(folder)
    (folder / "red").rename(folder / "Red")
    model.apply_changes(model.compare_folder(folder))
    assert_is_as_fitted(model, folder, tmp_path)


def test_photos_of_known_content_are_not_encoded_again(
    make_photos: MakePhotos, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = make_photos("photos", red=74, green=74, blue=4)
    model = FewShotClassifier("toy").fit_folder(folder)
    shutil.copytree(make_photos("more", 200, blue=40, red=50), folder, dirs_exist_ok=True)
    (folder / "green" / "cut.png").write_bytes(b"\x89PNG")
    encoded: list[Any] = []
    stream = encode.stream_vectors
    monkeypatch.setattr(
        readers, "stream_vectors", lambda images, *a, **k: (encoded.extend(images), stream(images, *a, **k))[1]
    )
    seen: list[tuple[int, int]] = []
    with pytest.warns(TipAdapterWarning, match=r"left out 1 of 243 images: .*cut\.png"):
        changes = model.compare_folder(folder, progress=lambda *at: seen.append(at))
    assert (len(encoded), len(changes.new)) == (91, 90)
    assert seen[-1] == (243, 243)
    model.apply_changes(changes)
    with pytest.warns(TipAdapterWarning, match="left out 1 of 243"):
        assert_is_as_fitted(model, folder, tmp_path)


def test_photos_of_unknown_content_are_compared_by_their_ids(folder: Path, tmp_path: Path) -> None:
    fitted = FewShotClassifier("toy").fit_folder(folder).support_
    old = SupportSet(fitted.vectors, fitted.labels, fitted.ids)
    FewShotClassifier("toy").fit_support(old).save(tmp_path / "model")
    assert read_config(tmp_path / "model")["format"] == 3
    model = FewShotClassifier.load(tmp_path / "model")
    (folder / "red" / "0.png").unlink()
    (folder / "blue" / "0.png").rename(folder / "blue" / "new.png")
    changes = model.compare_folder(folder)
    assert (changes.new, changes.removed) == (("blue/new.png",), ("blue/0.png", "red/0.png"))
    assert_is_as_fitted(model.apply_changes(changes), folder, tmp_path)
    assert read_config(tmp_path / "followed")["format"] == 3


def test_what_was_chosen_on_validation_photos_is_chosen_by_default(
    folder: Path, make_photos: MakePhotos, tmp_path: Path
) -> None:
    validation = make_photos("val", 50, red=3, green=3, blue=3)
    model = FewShotClassifier("toy", tune=validation).fit_folder(folder)
    assert_is_as_fitted(model.apply_changes(model.compare_folder(folder)), folder, tmp_path, tune=validation)
    loaded = FewShotClassifier.load(tmp_path / "followed")
    with pytest.warns(TipAdapterWarning, match="chosen on validation images, which the model does not store"):
        loaded.apply_changes(loaded.compare_folder(folder))
    assert_is_as_fitted(loaded, folder, tmp_path, method="tip-adapter")


def test_split_folders_lists_and_features_are_followed_as_fit_reads_them(folder: Path, tmp_path: Path) -> None:
    model = FewShotClassifier("toy").fit_folder(folder)
    split = tmp_path / "split"
    shutil.copytree(folder, split / "train")
    shutil.copytree(folder, split / "test")
    with pytest.warns(TipAdapterWarning, match="reading train"):
        assert not model.compare_folder(split)
    extract.extract(folder, tmp_path / "features", model.encoder_)
    assert not model.compare_folder(tmp_path / "features")
    (tmp_path / "list.csv").write_text("file_name,label\nphotos/red/0.png,red\nphotos/green/0.png,red\n")
    with pytest.warns(TipAdapterWarning, match="one class only"):
        model.apply_changes(model.compare_folder(tmp_path / "list.csv"))
    assert model.classes_.tolist() == ["red"]
    assert model.support_.ids.tolist() == ["photos/green/0.png", "photos/red/0.png"]


def test_an_empty_folder_is_refused_and_the_model_stays(folder: Path, tmp_path: Path) -> None:
    model = FewShotClassifier("toy").fit_folder(folder)
    head = model.head_
    (tmp_path / "empty").mkdir()
    with pytest.raises(FolderError):
        model.compare_folder(tmp_path / "empty")
    with pytest.raises(UsageError, match="changes takes what compare_folder returns"):
        model.apply_changes(folder)  # type: ignore[arg-type]
    assert model.head_ is head


#: A folder: path → the number of its photo.
FOLDERS = st.dictionaries(
    st.tuples(st.sampled_from(["red", "green", "blue", "Ωmega"]), st.sampled_from("abcdef")),
    st.integers(0, 6),
    min_size=1,
)


@quietly
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(before=FOLDERS, after=FOLDERS, method=st.sampled_from(["tip-adapter", "tip-adapter-f", "zero-shot"]))
def test_any_folder_is_followed_to_any_other(
    paint: Paint, before: dict[tuple[str, str], int], after: dict[tuple[str, str], int], method: str
) -> None:
    with TemporaryDirectory() as place:
        for name, content in [("before", before), ("after", after)]:
            for (label, stem), number in content.items():
                path = Path(place, name, label, f"{stem}.png")
                path.parent.mkdir(parents=True, exist_ok=True)
                paint("red", number).save(path)
        options: dict[str, Any] = {"method": method} if method != "tip-adapter-f" else {"method": method, "epochs": 1}
        model = FewShotClassifier("toy", **options).fit_folder(Path(place, "before"))
        changes = model.compare_folder(Path(place, "after"))
        if method != "zero-shot":
            check_counts(changes, before, after)
        assert_is_as_fitted(model.apply_changes(changes), Path(place, "after"), Path(place), **options)


def check_counts(changes: Changes, before: dict[tuple[str, str], int], after: dict[tuple[str, str], int]) -> None:
    """Contents are pairs of a class and a photo; each change is of one of them."""
    old, new = ({(label, number) for (label, _), number in content.items()} for content in (before, after))
    gone, come = sorted(number for _, number in old - new), sorted(number for _, number in new - old)
    n_moved = sum(min(gone.count(number), come.count(number)) for number in set(gone))
    assert len(changes.moved) == n_moved
    assert (len(changes.removed), len(changes.new)) == (len(gone) - n_moved, len(come) - n_moved)


# ---- another label ---------------------------------------------------------------------------------------------------


@quietly
@pytest.mark.parametrize("method", ["tip-adapter", "linear-probe"])
def test_a_relabelled_photo_is_as_if_it_had_had_that_label(method: str, photos: Any, tmp_path: Path) -> None:
    model = FewShotClassifier("toy", method).fit(photos, LABELS).relabel("image 1", "blue").retune()
    fresh = FewShotClassifier("toy", method).fit(photos, ["red", "blue", *LABELS[2:]])
    assert saved(model, tmp_path / "relabelled") == saved(fresh, tmp_path / "fresh")


def test_fault_17_a_photo_that_is_relabelled_into_a_class_that_has_it_counts_once(photos: Any) -> None:
    with pytest.warns(TipAdapterWarning, match="the same image is in two classes"):
        model = FewShotClassifier("toy").fit([*photos, photos[0]], [*LABELS, "blue"])
    n, last = len(model.support_), model.support_.ids.tolist()[-1]
    with pytest.warns(
        TipAdapterWarning, match=f"{last} is the same as image 0, which is of class red already: it counts once"
    ):
        model.relabel(last, "red")
    assert len(model.support_) == n - 1


@pytest.mark.parametrize(
    ("photo", "label", "reason"),
    [
        ("image 10", "red", "no photo 'image 10'; did you mean image .* nothing was relabelled"),
        ("image 1", "gren", "no class 'gren'; did you mean green"),
    ],
)
def test_an_unknown_photo_or_class_is_refused(photo: str, label: str, reason: str, photos: Any) -> None:
    model = FewShotClassifier("toy").fit(photos, LABELS)
    head = model.head_
    with pytest.raises(UnknownName, match=reason):
        model.relabel(photo, label)
    assert model.head_ is head


def test_contents_are_saved_and_read(folder: Path, tmp_path: Path) -> None:
    model = FewShotClassifier("toy").fit_folder(folder)
    model.save(tmp_path / "model")
    head, config = load_head(tmp_path / "model")
    assert head.support.digests.tolist() == model.support_.digests.tolist()
    assert config["format"] == 3
    assert "support_digests" not in (tmp_path / "model" / CONFIG).read_text("utf-8")


# ---- measured photos -------------------------------------------------------------------------------------------------


def test_fault_88_measuring_on_the_photos_that_were_learned_is_said(folder: Path, make_photos: MakePhotos) -> None:
    model, others = FewShotClassifier("toy").fit_folder(folder), make_photos("test", 50, red=2, green=2)
    shutil.copy(folder / "red" / "0.png", others / "green" / "other-name.png")
    learned = r"1 of 5 images are those that the model learns from: figures from them are too high; use others"
    with pytest.warns(TipAdapterWarning, match=learned):
        model.evaluate_folder(others)


@quietly
def test_fault_75_validation_photos_that_are_the_training_photos_are_said(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "split").mkdir()
    for part in ("train", "val"):
        (tmp_path / "split" / part).symlink_to(folder)
    model = FewShotClassifier("toy", method="tip-adapter", tune=tmp_path / "split")
    with pytest.warns(TipAdapterWarning, match=r"12 of 12 images are those that the model learns from"):
        model.fit_folder(tmp_path / "split")


def test_fault_75_a_photo_that_is_measured_twice_is_said(folder: Path, make_photos: MakePhotos) -> None:
    model, others = FewShotClassifier("toy").fit_folder(folder), make_photos("test", 50, red=2, green=2)
    photo = next((others / "red").iterdir())
    (others / "list.csv").write_text(f"file_name,label\nred/{photo.name},red\n./red/{photo.name},red\n")
    with pytest.warns(
        TipAdapterWarning, match="1 image is identical to another of the same class, and counted as well"
    ):
        record = model.evaluate_folder(others / "list.csv")
    assert record["n_images"] == 2


def test_a_folder_whose_photos_are_gone_removes_nothing(folder: Path) -> None:
    model = FewShotClassifier("toy").fit_folder(folder)
    for photo in folder.rglob("*.png"):
        photo.unlink()
    with (
        pytest.warns(TipAdapterWarning, match="no photos in"),
        pytest.raises(FolderError, match=r"has no photos, and the model has .* photos; check the path"),
    ):
        model.compare_folder(folder)
