"""Images are encoded once: what a run writes, how the next run uses it, and what interrupts a run."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tip_adapter import FewShotClassifier, load_encoder
from tip_adapter.encoders.base import EncoderIdentity
from tip_adapter.errors import (
    DamagedFeatures,
    FeaturesError,
    FolderError,
    MissingExtra,
    NothingReadable,
    NotWritable,
    OutputExists,
    TipAdapterWarning,
    UsageError,
    WrongEncoder,
)
from tip_adapter.features import encode, store
from tip_adapter.features import extract as extraction
from tip_adapter.features.arrow import schema, to_table
from tip_adapter.features.extract import extract, extract_batches
from tip_adapter.features.store import MANIFEST, read_manifest, read_shard
from tip_adapter.images.augment import Augmentation
from tip_adapter.testing import FakeEncoder
from tip_adapter.vectors import unit_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

#: Kills at random moments.
KILLS = 100 if "TIP_ADAPTER_SOAK" in os.environ else 8


class Counting(FakeEncoder):
    """Knows how many photos it encoded."""

    n_encoded = 0

    def encode_prepared(self, prepared: np.ndarray) -> np.ndarray:
        self.n_encoded += len(prepared)
        return super().encode_prepared(prepared)


class Another(FakeEncoder):
    def __init__(self) -> None:
        super().__init__()
        self.identity = EncoderIdentity("another", "b" * 64, self.record.width)


class Raw(FakeEncoder):
    """Gives vectors before they are normalised, each as long as its photo is bright."""

    gives_raw = True

    def encode_raw(self, prepared: np.ndarray) -> np.ndarray:
        return self.encode_prepared(prepared) * (1 + prepared.reshape(len(prepared), -1).mean(axis=1, keepdims=True))


@pytest.fixture
def photos(make_photos: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten photos of three classes; shards are of four."""
    monkeypatch.setattr(extraction, "SHARD_ROWS", 4)
    return make_photos("photos", red=4, green=3, blue=3)


def content(folder: Path) -> dict[str, bytes]:
    """Name → content of every file, those that are hidden, too."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def rows_of(folder: Path) -> dict[str, tuple[str | None, np.ndarray, str | None]]:
    """Id → label, vector and error."""
    manifest = read_manifest(folder)
    tables = [read_shard(folder, shard, manifest.encoder.width) for shard in manifest.shards]
    return {
        name: (label, vector, error)
        for table in tables
        for name, label, vector, error in zip(table.ids, table.labels, table.vectors, table.errors, strict=True)
    }


# ---- the core: record batches in, record batches out ----------------------------------------------------------------


def batches_of(folder: Path, size: int) -> Iterator[pa.RecordBatch]:
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    for start in range(0, len(paths), size):
        here = paths[start : start + size]
        labels = [path.partition("/")[0] for path in here]
        yield pa.RecordBatch.from_pydict({"id": here, "path": here, "label": labels})


def test_fault_74_a_batch_of_photos_gives_a_batch_of_vectors_in_a_stable_schema(photos: Path) -> None:
    (photos / "red" / "bad.png").write_text("a cat")
    whole = pa.Table.from_batches(extract_batches(batches_of(photos, 100), FakeEncoder(), root=photos))
    parts = list(extract_batches(batches_of(photos, 3), FakeEncoder(), root=photos, threads=1))
    assert [part.num_rows for part in parts] == [3, 3, 3, 2]
    assert whole.schema.equals(schema(49))
    assert pa.Table.from_batches(parts).combine_chunks().equals(whole.combine_chunks())
    assert (whole["error"].null_count, whole["vector"].null_count, whole["sha256"].null_count) == (10, 1, 1)
    assert (
        whole.filter(pc.is_valid(whole["error"]))["error"]
        .to_pylist()[0]
        .startswith("cannot read red/bad.png: not an image")
    )


def test_the_core_keeps_columns_of_its_input_only_by_name_and_takes_absolute_paths(photos: Path) -> None:
    path = str(photos / "red" / "0.png")
    batch = pa.RecordBatch.from_pydict(
        {"etag": ["x"], "label": pa.array([None], pa.string()), "path": [path], "id": ["a"]}
    )
    (table,) = map(to_table, extract_batches([batch], FakeEncoder()))
    assert (table.ids, table.paths, table.labels) == (["a"], [path], [None])
    assert table.sha256 == [hashlib.sha256((photos / "red" / "0.png").read_bytes()).hexdigest()]


@pytest.mark.parametrize(("encoder", "averaging"), [(Raw(), "raw"), (FakeEncoder(), "unit")])
def test_a_vector_is_the_mean_over_views_of_raw_vectors_where_there_are_such(
    photos: Path, tmp_path: Path, encoder: FakeEncoder, averaging: str
) -> None:
    extract(photos, tmp_path / "features", encoder, views=5, seed=3)
    recipe = read_manifest(tmp_path / "features")
    assert (recipe.views, recipe.seed, recipe.averaging) == (5, 3, averaging)
    path = photos / "red" / "2.png"
    views = Augmentation(5, 3).of(Image.open(path).convert("RGB"), hashlib.sha256(path.read_bytes()).hexdigest())
    prepared = np.stack([encoder.prepare(view) for view in views])
    vectors = encoder.encode_raw(prepared) if averaging == "raw" else encoder.encode_prepared(prepared)
    expected = unit_rows(vectors.mean(axis=0)[None])[0]
    np.testing.assert_allclose(rows_of(tmp_path / "features")["red/2.png"][1], expected, atol=1e-6)


# ---- stored vectors instead of a folder -------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.* those that the model learns from")
def test_a_model_of_stored_vectors_is_the_model_of_the_photos(photos: Path, tmp_path: Path) -> None:
    extract(photos, tmp_path / "features", FakeEncoder())
    for source, model in [(photos, "a"), (tmp_path / "features", "b")]:
        FewShotClassifier("toy").fit_folder(source, shots=2).save(tmp_path / model)
    assert content(tmp_path / "a") == content(tmp_path / "b")
    model = FewShotClassifier.load(tmp_path / "a")
    by_photos, by_vectors = (model.evaluate_folder(source) for source in (photos, tmp_path / "features"))
    for record in (by_photos, by_vectors):
        record.pop("seconds"), record.pop("images_per_second")
    assert by_photos == by_vectors
    answers = [{**row, "image": row["image"].removeprefix(f"{photos}/")} for row in model.predict_folder(photos)]
    assert model.predict_folder(tmp_path / "features") == answers


@pytest.mark.filterwarnings("ignore:.* those that the model learns from")
def test_without_an_encoder_fit_takes_the_one_that_the_vectors_were_made_with(photos: Path, tmp_path: Path) -> None:
    extract(photos, tmp_path / "features", FakeEncoder())
    model = FewShotClassifier(tune=tmp_path / "features").fit_folder(tmp_path / "features")
    assert model.encoder_.identity.name == "toy"
    assert model.choice_ is not None
    assert (model.choice_.rule, model.choice_.n_rows) == ("validation", 10)


def test_fault_42_vectors_of_another_encoder_are_refused(photos: Path, tmp_path: Path) -> None:
    extract(photos, tmp_path / "features", Another())
    model = FewShotClassifier("toy").fit_folder(photos)
    for use in (model.evaluate_folder, model.predict_folder, FewShotClassifier("toy").fit_folder):
        with pytest.raises(WrongEncoder, match=r"holds vectors of another .* wanted are those of toy"):
            use(tmp_path / "features")
    with pytest.raises(LookupError, match="unknown encoder 'another'"):
        FewShotClassifier().fit_folder(tmp_path / "features")


def test_the_parts_of_a_split_folder_stay_apart(make_photos: Callable[..., Path], tmp_path: Path) -> None:
    make_photos("split/train", red=2, blue=2)
    make_photos("split/test", 5, red=1, blue=1)
    assert extract(tmp_path / "split", tmp_path / "features", FakeEncoder()).n_images == 6
    for source in ("split", "features"):
        with pytest.warns(TipAdapterWarning, match="train"):
            model = FewShotClassifier("toy").fit_folder(tmp_path / source)
        with pytest.warns(TipAdapterWarning, match="test"):
            assert model.evaluate_folder(tmp_path / source)["n_images"] == 2
        assert model.support_.ids.tolist() == ["blue/0.png", "blue/1.png", "red/0.png", "red/1.png"]
    with pytest.raises(FolderError, match="is split into test, train; it has no part val"):
        FewShotClassifier("toy", tune=tmp_path / "features").fit_folder(tmp_path / "split" / "train")


def test_images_without_labels_can_be_classified_and_not_learned(photos: Path, tmp_path: Path) -> None:
    with pytest.warns(TipAdapterWarning, match="kept without labels: .*red holds no class folders"):
        extract(photos / "red", tmp_path / "features", FakeEncoder())
    model = FewShotClassifier("toy").fit_folder(photos)
    assert [row["label"] for row in model.predict_folder(tmp_path / "features")] == ["red"] * 4
    with pytest.raises(FeaturesError, match="has no labels"):
        FewShotClassifier().fit_folder(tmp_path / "features")


def test_classes_without_photos_are_kept(photos: Path, tmp_path: Path) -> None:
    (photos / "white").mkdir()
    with pytest.warns(TipAdapterWarning, match="only their names are used: white"):
        extract(photos, tmp_path / "features", FakeEncoder())
    model = FewShotClassifier().fit_folder(tmp_path / "features")
    assert model.classes_.tolist() == ["blue", "green", "red", "white"]


def test_a_photo_that_cannot_be_read_is_a_row_with_its_error_and_read_again_when_it_can(
    photos: Path, tmp_path: Path
) -> None:
    good = (photos / "red" / "0.png").read_bytes()
    (photos / "red" / "9.png").write_text("a cat")
    done = extract(photos, tmp_path / "features", FakeEncoder())
    assert (done.n_images, done.n_encoded, done.n_errors) == (11, 10, 1)
    label, vector, error = rows_of(tmp_path / "features")["red/9.png"]
    assert (label, vector.any(), error) == ("red", False, done.errors[0])
    with pytest.warns(TipAdapterWarning, match="left out 1 of 11 images: cannot read red/9.png"):
        FewShotClassifier().fit_folder(tmp_path / "features")
    (photos / "red" / "9.png").write_bytes(good)
    assert extract(photos, tmp_path / "features", FakeEncoder()).n_encoded == 0


# ---- a photo is encoded once -----------------------------------------------------------------------------------------


def test_fault_73_a_run_over_the_same_photos_encodes_and_writes_nothing(photos: Path, tmp_path: Path) -> None:
    extract(photos, tmp_path / "features", FakeEncoder())
    before = content(tmp_path / "features")
    times = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "features").iterdir()}
    encoder = Counting()
    assert extract(photos, tmp_path / "features", encoder).n_encoded == encoder.n_encoded == 0
    assert content(tmp_path / "features") == before
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "features").iterdir()} == times


def renamed(photos: Path) -> None:
    (photos / "red" / "0.png").rename(photos / "red" / "another.png")


def moved(photos: Path) -> None:
    (photos / "red" / "0.png").rename(photos / "blue" / "red.png")


def copied(photos: Path) -> None:
    shutil.copy(photos / "red" / "0.png", photos / "blue" / "red.png")


def removed(photos: Path) -> None:
    (photos / "blue" / "0.png").unlink()


def everything(photos: Path) -> None:
    photos.rename(photos.parent / "elsewhere")
    (photos.parent / "elsewhere").rename(photos)
    shutil.copytree(photos / "green", photos / "white")


@pytest.mark.slow
@pytest.mark.parametrize("change", [renamed, moved, copied, removed, everything])
def test_a_photo_is_not_encoded_again_wherever_it_goes_and_the_result_is_that_of_a_clean_run(
    photos: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    extract(photos, tmp_path / "features", FakeEncoder(), views=2)
    change(photos)
    encoder = Counting()
    assert extract(photos, tmp_path / "features", encoder, views=2).n_encoded == encoder.n_encoded == 0
    extract(photos, tmp_path / "clean", FakeEncoder(), views=2)
    assert content(tmp_path / "features") == content(tmp_path / "clean")


def test_of_photos_that_are_new_only_those_are_encoded(photos: Path, tmp_path: Path, paint: Callable[..., Any]) -> None:
    extract(photos, tmp_path / "features", FakeEncoder())
    for number in (20, 21):
        paint("red", number).save(photos / "blue" / f"a{number}.png")
    encoder = Counting()
    assert extract(photos, tmp_path / "features", encoder).n_encoded == encoder.n_encoded == 2
    extract(photos, tmp_path / "clean", FakeEncoder())
    assert content(tmp_path / "features") == content(tmp_path / "clean")


def test_fault_17_a_photo_that_is_there_twice_is_encoded_once(photos: Path, tmp_path: Path) -> None:
    for name in ("x", "y"):
        shutil.copy(photos / "red" / "0.png", photos / "red" / f"{name}.png")
    encoder = Counting()
    assert extract(photos, tmp_path / "features", encoder).n_images == 12
    assert encoder.n_encoded == 10
    rows = rows_of(tmp_path / "features")
    assert np.array_equal(rows["red/x.png"][1], rows["red/0.png"][1])


def test_copies_that_are_unreadable_each_have_their_own_error(photos: Path, tmp_path: Path) -> None:
    for name in ("x", "y"):
        (photos / "red" / f"{name}.png").write_text("a cat")
    extract(photos, tmp_path / "features", FakeEncoder())
    rows = rows_of(tmp_path / "features")
    assert [str(rows[f"red/{name}.png"][2])[:21] for name in "xy"] == ["cannot read red/x.png", "cannot read red/y.png"]


def test_fault_65_what_is_stored_is_the_digest_of_what_was_encoded(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, paint: Callable[..., Any]
) -> None:
    path = photos / "red" / "0.png"
    real = extraction._digest

    def change_after(photo: Path) -> str | None:
        digest = real(photo)
        if photo == path:
            paint("green", 77).save(path)
        return digest

    monkeypatch.setattr(extraction, "_digest", change_after)
    extract(photos, tmp_path / "features", FakeEncoder())
    monkeypatch.setattr(extraction, "_digest", real)
    manifest = read_manifest(tmp_path / "features")
    tables = [read_shard(tmp_path / "features", shard, 49) for shard in manifest.shards]
    digests = {name: digest for table in tables for name, digest in zip(table.ids, table.sha256, strict=True)}
    assert digests["red/0.png"] == hashlib.sha256(path.read_bytes()).hexdigest()
    encoder = Counting()
    extract(photos, tmp_path / "features", encoder)
    assert encoder.n_encoded == 0
    extract(photos, tmp_path / "clean", FakeEncoder())
    assert content(tmp_path / "features") == content(tmp_path / "clean")


# ---- the folder ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change", [{"encoder": Another()}, {"views": 2}, {"views": 3, "seed": 1}], ids=["encoder", "views", "seed"]
)
def test_vectors_of_another_recipe_are_kept_unless_force_replaces_them(
    photos: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    extract(photos, tmp_path / "features", FakeEncoder(), views=3)
    before = content(tmp_path / "features")
    other = {"encoder": FakeEncoder(), "views": 3, "seed": 0, **change}
    with pytest.raises(OutputExists, match="features of another encoder, number of views or seed"):
        extract(photos, tmp_path / "features", **other)
    assert content(tmp_path / "features") == before
    assert extract(photos, tmp_path / "features", **other, force=True).n_encoded == 10
    extract(photos, tmp_path / "clean", **other)
    assert content(tmp_path / "features") == content(tmp_path / "clean")


def test_the_seed_means_nothing_without_views(photos: Path, tmp_path: Path) -> None:
    extract(photos, tmp_path / "features", FakeEncoder(), seed=1)
    assert extract(photos, tmp_path / "features", FakeEncoder(), seed=2).n_encoded == 0


@pytest.mark.parametrize("name", ["nosuch", "nosuch.csv", "vectors.npz", "photo.png"])
def test_what_is_no_folder_or_list_is_refused_and_the_features_stay(photos: Path, tmp_path: Path, name: str) -> None:
    extract(photos, tmp_path / "features", FakeEncoder())
    before = content(tmp_path / "features")
    shutil.copy(photos / "red" / "0.png", tmp_path / "photo.png")
    (tmp_path / "vectors.npz").touch()
    with pytest.raises(FolderError, match=name):
        extract(tmp_path / name, tmp_path / "features", FakeEncoder())
    assert content(tmp_path / "features") == before


def test_where_no_photo_can_be_read_the_features_stay(photos: Path, tmp_path: Path) -> None:
    extract(photos, tmp_path / "features", FakeEncoder())
    before = read_manifest(tmp_path / "features")
    for path in photos.glob("*/*.png"):
        path.write_bytes(b"")
    with pytest.raises(NothingReadable, match="none of 10 photos can be read"):
        extract(photos, tmp_path / "features", FakeEncoder())
    assert read_manifest(tmp_path / "features") == before
    assert len(FewShotClassifier().fit_folder(tmp_path / "features").support_) == 10


def test_features_of_other_photos_are_kept_unless_force_replaces_them(
    photos: Path, make_photos: Callable[..., Path], tmp_path: Path
) -> None:
    extract(photos, tmp_path / "features", FakeEncoder())
    before = content(tmp_path / "features")
    others = make_photos("others", 50, red=2, blue=2)
    with pytest.raises(OutputExists, match=r"holds features of other photos, those of .*photos; .* force=True"):
        extract(others, tmp_path / "features", FakeEncoder())
    assert content(tmp_path / "features") == before
    assert extract(others, tmp_path / "features", FakeEncoder(), force=True).n_images == 4


def test_a_file_of_vectors_encodes_no_photos(photos: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "vectors.npz", ids=np.array(["a"]), vectors=np.ones((1, 3), np.float32))
    with pytest.raises(UsageError, match="holds vectors already and encodes no photos"):
        extract(photos, tmp_path / "features", load_encoder(f"vectors:{tmp_path / 'vectors.npz'}"))
    assert not (tmp_path / "features").exists()


def test_files_of_others_are_never_touched(photos: Path, tmp_path: Path) -> None:
    extract(photos, tmp_path / "features", FakeEncoder())
    (tmp_path / "features" / "notes.txt").write_text("mine")
    (tmp_path / "features" / "shard-mine.parquet").write_text("mine")
    removed(photos)
    extract(photos, tmp_path / "features", FakeEncoder())
    left = content(tmp_path / "features")
    assert left.pop("notes.txt") == left.pop("shard-mine.parquet") == b"mine"
    assert left.keys() == {MANIFEST, *(shard.file for shard in read_manifest(tmp_path / "features").shards)}


def test_a_place_that_holds_something_else_is_refused(photos: Path, tmp_path: Path) -> None:
    for place in (photos, photos / "red" / "0.png"):
        with pytest.raises(OutputExists, match="holds something else than features"):
            extract(photos, place, FakeEncoder(), force=True)
    assert len(list(photos.rglob("*.png"))) == 10


@pytest.mark.parametrize("options", [{"views": -1}, {"views": 1.5}, {"views": 1001}, {"seed": -1}, {"seed": 2**63}])
def test_numbers_out_of_bounds_are_refused_before_anything_is_read(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="takes a whole number"):
        extract(tmp_path / "nothing", tmp_path / "features", FakeEncoder(), **options)


def test_a_folder_without_photos_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photos" / "red").mkdir(parents=True)
    with pytest.raises(FolderError, match="holds no photos"):
        extract(tmp_path / "photos", tmp_path / "features", FakeEncoder())
    assert not (tmp_path / "features").exists()


def test_without_pyarrow_one_sentence_says_what_to_install(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtra, match='pip install "pyarrow>=17"'):
        extract(photos, tmp_path / "features", FakeEncoder())


@pytest.mark.filterwarnings("ignore:.*folders that this program wrote:tip_adapter.errors.TipAdapterWarning")
def test_features_may_lie_beside_the_class_folders(photos: Path) -> None:
    for n_encoded in (10, 0):
        assert extract(photos, photos / "features", FakeEncoder()).n_encoded == n_encoded
    (photos / "features" / MANIFEST).unlink()
    assert extract(photos, photos / "features", FakeEncoder()).n_encoded == 0
    assert FewShotClassifier("toy").fit_folder(photos).classes_.tolist() == ["blue", "green", "red"]


@pytest.mark.parametrize("name", ["desktop.ini", "Thumbs.db", ".DS_Store", "Icon\r", "@eaDir/", ".Trash-1000/"])
@pytest.mark.filterwarnings("ignore:.*folders that this program wrote:tip_adapter.errors.TipAdapterWarning")
def test_fault_76_features_in_which_a_system_keeps_its_own_are_recognised(photos: Path, name: str) -> None:
    extract(photos, photos / "features", FakeEncoder())
    if name.endswith("/"):
        (photos / "features" / name).mkdir()
    else:
        (photos / "features" / name).touch()
    assert FewShotClassifier("toy").fit_folder(photos).classes_.tolist() == ["blue", "green", "red"]
    assert FewShotClassifier("toy").fit_folder(photos / "features").classes_.tolist() == ["blue", "green", "red"]
    assert extract(photos, photos / "features", FakeEncoder()).n_encoded == 0


def test_fault_76_features_are_written_where_a_system_has_a_folder(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "features" / "@eaDir").mkdir(parents=True)
    assert extract(photos, tmp_path / "features", FakeEncoder()).n_encoded == 10


# ---- faults ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def features(photos: Path, tmp_path: Path) -> Path:
    extract(photos, tmp_path / "features", FakeEncoder())
    return tmp_path / "features"


def first_shard(features: Path) -> Path:
    return features / read_manifest(features).shards[0].file


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def gone(path: Path) -> None:
    path.unlink()


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("harm", [flipped, cut, gone, a_pipe])
def test_fault_66_a_damaged_shard_is_named_and_the_next_run_makes_it_again(
    photos: Path, features: Path, harm: Callable[[Path], None]
) -> None:
    clean = content(features)
    shard = first_shard(features)
    harm(shard)
    with pytest.raises(DamagedFeatures, match=f"{shard.name}.*run `tip-adapter extract` again") as error:
        FewShotClassifier("toy").fit_folder(features)
    assert error.value.code == "damaged_features"
    encoder = Counting()
    if harm is gone:
        extract(photos, features, encoder)
    else:
        with pytest.warns(TipAdapterWarning, match="cannot be used and is made again"):
            extract(photos, features, encoder)
    assert encoder.n_encoded == 4
    assert content(features) == clean


def with_columns(**columns: Any) -> bytes:
    """A shard of other columns or values than ours."""
    vector = pa.array([np.eye(49, dtype=np.float32)[0]] * 4, pa.list_(pa.float32(), 49))
    text = pa.string()
    rows = {
        "id": pa.array(list("abcd"), text),
        "path": pa.array(list("abcd"), text),
        "sha256": pa.array(["0" * 64] * 4, text),
        "label": pa.array(["red"] * 4, text),
        "vector": vector,
        "error": pa.array([None] * 4, text),
        **columns,
    }
    table = pa.table({name: column for name, column in rows.items() if column is not None})
    fields = [pa.field(field.name, field.type, field.name not in ("id", "path")) for field in table.schema]
    sink = pa.BufferOutputStream()
    pq.write_table(table.cast(pa.schema(fields)), sink)
    return sink.getvalue().to_pybytes()


def vectors(first: float) -> pa.Array:
    rows = np.eye(49, dtype=np.float32)[:4]
    rows[2, 0] = first
    return pa.array(list(rows), pa.list_(pa.float32(), 49))


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"error": None}, "its columns are id, path, sha256, label, vector, not"),
        ({"vector": pa.array([[1.0]] * 4, pa.list_(pa.float32()))}, "its columns are"),
        ({"vector": pa.array([[1.0, 0.0]] * 4, pa.list_(pa.float32(), 2))}, r"it has \(4, 2\) vectors"),
        ({"vector": vectors(np.nan)}, "row 2 has neither an error nor a unit vector"),
        ({"vector": vectors(5)}, "row 2 has neither an error nor a unit vector"),
        ({"sha256": pa.array([None] * 4, pa.string())}, "row 0 has neither"),
    ],
    ids=["a column too few", "lists of any length", "another width", "NaN", "no unit row", "no digest"],
)
def test_fault_66_a_shard_that_is_not_what_the_format_says_is_refused(
    features: Path, columns: dict[str, Any], reason: str
) -> None:
    forged = with_columns(**columns)
    stated = json.loads((features / MANIFEST).read_text())
    first_shard(features).write_bytes(forged)
    stated["shards"][0]["sha256"] = hashlib.sha256(forged).hexdigest()
    (features / MANIFEST).write_text(json.dumps(stated))
    with pytest.raises(DamagedFeatures, match=reason):
        FewShotClassifier("toy").fit_folder(features)


def manifests(text: str) -> dict[str, str]:
    """Hostile manifests by what is wrong with them."""
    stated = json.loads(text)
    shard = stated["shards"][0]
    changed: dict[str, Any] = {
        "no object": [],
        "a key too few": {key: value for key, value in stated.items() if key != "views"},
        "a path": {**stated, "shards": [{**shard, "file": "../../shard.parquet"}, *stated["shards"][1:]]},
        "rows": {**stated, "shards": [{**shard, "rows": 10**9}, *stated["shards"][1:]]},
        "another sum": {**stated, "n_images": 11},
        "width": {**stated, "encoder": {**stated["encoder"], "width": 10**12}},
        "logit scale": {**stated, "logit_scale": -1},
    }
    return {
        **{name: json.dumps(value) for name, value in changed.items()},
        "no JSON": "{",
        "deep": "[" * 100_000,
        "NaN": text.replace("20.0", "NaN"),
        "twice": text.replace('"views"', '"seed"'),
        "half a character": text.replace('"red"', r'"\ud800"'),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", manifests('{"shards": [{}], "encoder": {}}'))
def test_fault_40_a_hostile_manifest_is_refused(features: Path, name: str) -> None:
    path = features / MANIFEST
    path.write_text(manifests(path.read_text())[name])
    with pytest.raises(DamagedFeatures, match=f"{MANIFEST} is damaged"):
        FewShotClassifier("toy").fit_folder(features)


@pytest.mark.parametrize(("content", "reason"), [("", "it is empty"), ('{"format": 1,', "it is not JSON")])
def test_fault_77_a_manifest_without_content_says_so(features: Path, content: str, reason: str) -> None:
    (features / MANIFEST).write_text(content)
    with pytest.raises(DamagedFeatures, match=f"{MANIFEST} is damaged: {reason}"):
        FewShotClassifier("toy").fit_folder(features)


def test_fault_42_a_later_format_and_unfinished_features_are_clear(photos: Path, features: Path) -> None:
    path = features / MANIFEST
    text = path.read_text()
    path.write_text(text.replace('"format": 1', '"format": 2'))
    with pytest.raises(FeaturesError, match="is of format 2, this version reads format 1; upgrade tip-adapter"):
        FewShotClassifier("toy").fit_folder(features)
    path.unlink()
    with pytest.raises(FeaturesError, match=r"no finished features.*run `tip-adapter extract` to its end"):
        FewShotClassifier("toy").fit_folder(features)
    with pytest.raises(OutputExists, match="another encoder"):
        extract(photos, features, Another())
    assert extract(photos, features, FakeEncoder()).n_encoded == 0
    assert path.read_text() == text


def test_fault_47_a_full_disk_loses_nothing(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    real = extraction.write_file

    def until_full(path: Path, data: bytes) -> None:
        if len(written) == 2:
            raise NotWritable(f"cannot write {path}: No space left on device; free space or choose another place")
        written.append(path.name)
        real(path, data)

    monkeypatch.setattr(extraction, "write_file", until_full)
    with pytest.raises(NotWritable, match="No space left"):
        extract(photos, tmp_path / "features", FakeEncoder())
    monkeypatch.setattr(extraction, "write_file", real)
    encoder = Counting()
    extract(photos, tmp_path / "features", encoder)
    assert encoder.n_encoded == 2
    extract(photos, tmp_path / "clean", FakeEncoder())
    assert content(tmp_path / "features") == content(tmp_path / "clean")


def test_fault_48_of_two_runs_at_once_the_second_waits_and_encodes_nothing(photos: Path, tmp_path: Path) -> None:
    encoders = [Counting(), Counting()]
    runs = [threading.Thread(target=extract, args=(photos, tmp_path / "features", encoder)) for encoder in encoders]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert sorted(encoder.n_encoded for encoder in encoders) == [0, 10]
    assert read_manifest(tmp_path / "features").n_images == 10


def test_fault_46_batches_of_a_shard_that_is_not_complete_are_not_encoded_again(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction, "SHARD_ROWS", 1024)
    monkeypatch.setattr(encode, "BATCH", 3)
    reported: list[tuple[int, int]] = []

    def stop(done: int, total: int) -> None:
        reported.append((done, total))
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(photos, tmp_path / "features", FakeEncoder(), progress=stop)
    assert reported == [(0, 10), (3, 10), (6, 10)]
    encoder = Counting()
    done = extract(photos, tmp_path / "features", encoder)
    assert (done.n_images, done.n_encoded, encoder.n_encoded) == (10, 4, 4)
    extract(photos, tmp_path / "clean", FakeEncoder())
    assert content(tmp_path / "features") == content(tmp_path / "clean")


#: Extracts argv[1] into argv[2] in shards of 8 and batches of 3, and notes each photo that is encoded in argv[3].
PROGRAM = """
import os, sys, time
from pathlib import Path
from tip_adapter.features import encode
from tip_adapter.features import extract as extraction
from tip_adapter.images.decode import decode_file
from tip_adapter.images.decoding_pool import DecodingPool
from tip_adapter.testing import FakeEncoder

class Noting(FakeEncoder):
    def encode_prepared(self, prepared):
        with open(sys.argv[3], "a") as notes:
            notes.writelines(photo.tobytes().hex() + "\\n" for photo in prepared)
        time.sleep(0.02)  # so that there is time to be killed in
        return super().encode_prepared(prepared)

DecodingPool.decode = staticmethod(decode_file)
extraction.SHARD_ROWS, encode.BATCH = 8, 3
extraction.extract(sys.argv[1], sys.argv[2], Noting())
"""


@pytest.mark.slow
def test_fault_46_killed_at_random_moments_a_rerun_finishes_and_encodes_one_batch_again_at_most(
    make_photos: Callable[..., Path], tmp_path: Path
) -> None:
    photos = make_photos("photos", red=40, green=40, blue=40)
    keys = {
        path.relative_to(photos).as_posix(): FakeEncoder().prepare(Image.open(path)).tobytes().hex()
        for path in photos.rglob("*.png")
    }
    features, notes = tmp_path / "features", tmp_path / "notes"
    notes.touch()
    kills = spared = 0
    rng = random.Random(0)
    while kills < KILLS:
        finished = {name: path for path in features.glob("shard-*") for name in ids_in(path)}
        noted = len(notes.read_text())
        enough = notes.read_text().count("\n") + rng.randrange(1, 80)  # photos that the encoder has seen by then
        run = subprocess.Popen([sys.executable, "-c", PROGRAM, photos, features, notes])
        while notes.read_text().count("\n") < enough and run.poll() is None:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.02))  # in the middle of the next, or of writing what they gave
        run.send_signal(signal.SIGKILL)
        was_killed = run.wait() == -signal.SIGKILL
        kills += was_killed
        assert not {keys[name] for name in finished} & set(notes.read_text()[noted:].split())
        spared += bool(finished)
        noted_again = [line for line in notes.read_text()[:noted].split() if line in notes.read_text()[noted:]]
        assert len(noted_again) <= 3
        if not was_killed or len({name for path in features.glob("shard-*") for name in ids_in(path)}) == 120:
            notes.write_text("")
            check_and_clear(photos, features, tmp_path / "clean")
    check_and_clear(photos, features, tmp_path / "clean")
    assert spared > KILLS // 4  # runs that found finished shards of a killed one


def ids_in(shard: Path) -> list[str]:
    return pq.read_table(shard, columns=["id"])["id"].to_pylist()


def check_and_clear(photos: Path, features: Path, clean: Path) -> None:
    """A run to the end gives what a clean run gives; then all is to do again."""
    for place in (features, clean):
        subprocess.run([sys.executable, "-c", PROGRAM, photos, place, os.devnull], check=True)
    assert content(features) == content(clean)
    shutil.rmtree(features)


# ---- other readers ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_pandas_duckdb_and_polars_read_the_shards(features: Path) -> None:
    import duckdb
    import pandas as pd
    import polars as pl

    expected = rows_of(features)
    pattern = str(features / "*.parquet")
    by_pandas = pd.concat([pd.read_parquet(features / shard.file) for shard in read_manifest(features).shards])
    by_duckdb = duckdb.sql(f"select id, label, vector from '{pattern}'").fetchall()
    by_polars = pl.read_parquet(pattern)
    readings = {
        "pandas": list(zip(by_pandas["id"], by_pandas["label"], by_pandas["vector"], strict=True)),
        "DuckDB": by_duckdb,
        "Polars": by_polars.select("id", "label", "vector").rows(),
    }
    for rows in readings.values():
        assert {name: label for name, label, _ in rows} == {name: row[0] for name, row in expected.items()}
        assert all(np.array_equal(np.array(v, np.float32), expected[name][1]) for name, _, v in rows)
    assert by_polars.schema["vector"] == pl.Array(pl.Float32, 49)


@pytest.mark.slow
def test_a_hundred_thousand_vectors_flow_through_without_being_held(tmp_path: Path) -> None:
    """The core over synthetic batches, written shard by shard, then streamed: never (n, d) in memory."""
    code = """
import resource, sys, hashlib
import pyarrow as pa
import numpy as np
from pathlib import Path
from tip_adapter.features import encode
from tip_adapter.features import extract as extraction
from tip_adapter.encoders.base import EncoderIdentity
from tip_adapter.features.store import MadeWith, Manifest, Recipe, Shard, shard_name
from tip_adapter.features.sources import labelled_source
from tip_adapter.features.arrow import to_table, write_parquet
from tip_adapter.testing import FakeEncoder
from tip_adapter.vectors import unit_rows

N, WIDTH, ROWS = 100_000, 512, 1024
place = Path(sys.argv[1])
place.mkdir()

class Wide(FakeEncoder):
    def __init__(self):
        super().__init__()
        self.identity = EncoderIdentity("wide", "c" * 64, WIDTH)

def stream(photos, encoder, **_):
    for start in range(0, len(photos), 256):
        here = photos[start : start + 256]
        seeds = [int(path.name) for path in here]
        vectors = unit_rows(np.random.default_rng(seeds[0]).standard_normal((len(here), WIDTH), np.float32))
        digests = tuple(hashlib.sha256(path.name.encode()).hexdigest() for path in here)
        yield encode.VectorBatch(np.arange(start, start + len(here)), vectors, digests, {})

extraction.stream_vectors = stream

def batches():
    for start in range(0, N, ROWS):
        names = [str(i) for i in range(start, min(start + ROWS, N))]
        labels = [f"class {int(name) % 100}" for name in names]
        yield pa.RecordBatch.from_pydict({"id": names, "path": names, "label": labels})

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

recipe = Recipe(MadeWith("wide", "c" * 64, WIDTH), 0, 0, None)
encoder, shards, before = Wide(), [], None
for batch in extraction.extract_batches(batches(), encoder):
    table = to_table(batch)
    content = write_parquet(table, recipe.note())
    name = shard_name(recipe, table)
    (place / name).write_bytes(content)
    shards.append(Shard(name, len(table), hashlib.sha256(content).hexdigest()))
    before = before or peak()
manifest = Manifest(recipe.encoder, 0, 0, None, 100.0, ("{}",), "nowhere", (), None, N, 0, tuple(shards))
(place / "manifest.json").write_bytes(manifest.to_json())
source = labelled_source(place, part="test")
n = sum(len(batch.positions) for batch in source.stream(encoder))
print(n, peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "f"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    n, grown = done.stdout.split()
    assert int(n) == 100_000
    assert float(grown) < 80  # of 195 MiB of vectors


@pytest.mark.filterwarnings("ignore:.*1 file that is no photo is skipped:tip_adapter.errors.TipAdapterWarning")
def test_a_folder_of_class_folders_beside_a_manifest_of_its_own_is_a_folder_of_photos(photos: Path) -> None:
    (photos / MANIFEST).write_text("{}")
    assert not store.is_feature_folder(photos)
    assert len(FewShotClassifier("toy").fit_folder(photos).support_) == 10


def test_the_name_of_an_encoder_is_refused_with_the_call_that_loads_it(tmp_path):
    with pytest.raises(UsageError, match=r"encoder takes a loaded one, such as load_encoder\('pocket'\), not 'toy'"):
        extract(tmp_path, tmp_path / "features", "toy")
