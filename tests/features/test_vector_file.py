"""Vectors from elsewhere: the layouts, what is refused, and a model that is made of them."""

from __future__ import annotations

import io
import sys
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tip_adapter import FewShotClassifier, TextOffsetClassifier, load_encoder
from tip_adapter.errors import (
    FeaturesError,
    MissingExtra,
    TipAdapterWarning,
    UnknownName,
    UsageError,
    VectorError,
    WrongEncoder,
)
from tip_adapter.features.vector_file import open_vector_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RNG = np.random.default_rng(0)
LABELS = ["cat", "cat", "dog", "dog", "cat", "dog"]
PARTS = ["train"] * 4 + ["test"] * 2
CENTRES = {"cat": RNG.standard_normal(8), "dog": RNG.standard_normal(8)}


def ours(**others: Any) -> dict[str, Any]:
    """Arrays of six photos, four of them to learn from; None leaves one out."""
    arrays = {
        "ids": np.array([f"{label}/{i}.png" for i, label in enumerate(LABELS)]),
        "labels": np.array(LABELS),
        "part": np.array(PARTS),
        "vectors": np.stack([3 * CENTRES[label] + 0.1 * RNG.standard_normal(8) for label in LABELS]).astype(np.float32),
        "class_labels": np.array(["dog", "cat"]),
        "class_names": np.array(["a good dog", "a cat"]),
        "class_embeddings": np.stack([CENTRES["dog"], CENTRES["cat"]]).astype(np.float32),
        **others,
    }
    return {name: array for name, array in arrays.items() if array is not None}


def research(**others: Any) -> dict[str, Any]:
    """The same as few-shot research keeps it."""
    vectors = ours()["vectors"].astype(np.float16)
    return {
        "train_features": vectors[:4],
        "train_labels": np.array([0, 0, 1, 1], np.int16),
        "query_features": vectors[4:],
        "query_labels": np.array([0, 1]),
        "text_weights": np.stack([CENTRES["cat"], CENTRES["dog"]]).astype(np.float16),
        "classnames": np.array(["cat", "dog"]),
        **others,
    }


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """save(arrays) → a .npz of them; `name` and NumPy's own writer may be given."""

    def write(arrays: dict[str, Any], name: str = "v.npz", how: Callable[..., None] = np.savez) -> Path:
        how(tmp_path / name, **arrays)
        return tmp_path / name

    return write


def refused(path: Path) -> str:
    with pytest.raises(FeaturesError) as error:
        open_vector_file(path)
    assert str(path) in str(error.value)
    return str(error.value)


# ---- layouts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("arrays", [ours, research])
def test_a_file_is_fitted_and_evaluated_by_its_parts(
    save: Callable[..., Path], tmp_path: Path, arrays: Callable[[], dict[str, Any]], how: Callable[..., None]
) -> None:
    path = save(arrays(), how=how)
    with pytest.warns(UserWarning, match="its part train is read"):
        model = FewShotClassifier(f"vectors:{path}").fit_folder(path)
    assert (model.support_.labels.tolist(), model.head_.logit_scale) == (["cat", "cat", "dog", "dog"], 100.0)
    np.testing.assert_allclose(np.linalg.norm(model.support_.vectors, axis=1), 1, atol=1e-6)
    model.save(tmp_path / "m")
    with pytest.warns(UserWarning, match="its part test is read"):
        record = FewShotClassifier.load(tmp_path / "m").evaluate_folder(path)
    assert (record["n_images"], record["accuracy"]) == (2, 1.0)


def test_without_an_encoder_a_file_is_its_own(save: Callable[..., Path]) -> None:
    path = save(ours(part=None))
    model = FewShotClassifier().fit_folder(path)
    assert model.encoder_.identity.name == f"vectors:{path}"
    assert len(model.support_) == 6


def test_a_file_without_class_embeddings_is_learned_from_its_vectors_alone(save: Callable[..., Path]) -> None:
    path = save(ours(part=None, class_embeddings=None))
    model = FewShotClassifier().fit_folder(path)
    support = model.support_
    assert (model.class_embeddings_, len(support)) == (None, 6)
    clf = TextOffsetClassifier(logit_scale=model.head_.logit_scale).fit(support.vectors, support.labels)
    assert np.array_equal(model.estimator_.logits(support.vectors), clf.logits(support.vectors))
    with pytest.raises(
        UsageError, match="zero-shot knows classes by their names alone, and the encoder reads no names"
    ):
        FewShotClassifier(method="zero-shot").fit_folder(path)


def test_an_archive_needs_no_pyarrow_and_a_parquet_file_says_that_it_does(
    save: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert len(FewShotClassifier().fit_folder(save(ours(part=None))).support_) == 6
    (tmp_path / "v.parquet").touch()
    with pytest.raises(MissingExtra, match='pip install "pyarrow>=17"'):
        open_vector_file(tmp_path / "v.parquet")


def test_class_embeddings_are_found_by_name_and_by_label(save: Callable[..., Path]) -> None:
    encoder = load_encoder(f"vectors:{save(ours())}")
    by_name, by_label = encoder.encode_texts(["a good dog", "a cat"]), encoder.encode_texts(["dog", "cat"])
    assert np.array_equal(by_name, by_label)
    with pytest.raises(UnknownName, match="has no class called 'a good dig': did you mean a good dog"):
        encoder.encode_texts(["a good dig"])
    with pytest.raises(UsageError, match="holds no class_embeddings"):
        load_encoder(f"vectors:{save(ours(class_embeddings=None))}").encode_texts(["cat"])


def test_the_matrix_of_class_names_may_stand_on_its_side(save: Callable[..., Path]) -> None:
    upright = open_vector_file(save(research())).classes
    on_its_side = open_vector_file(save(research(text_weights=research()["text_weights"].T))).classes
    assert upright is not None
    assert on_its_side is not None
    assert np.array_equal(upright.matrix, on_its_side.matrix)


def test_class_names_that_stand_twice_are_two_classes(save: Callable[..., Path]) -> None:
    file = open_vector_file(save(research(classnames=np.array(["cat", "cat"]))))
    assert file.classes is not None
    assert file.classes.labels == ("cat", "cat#2")


def test_a_parquet_file_holds_the_same_as_an_archive(save: Callable[..., Path], tmp_path: Path) -> None:
    arrays = ours()
    rows = {
        "id": [*arrays["ids"].tolist(), "a good dog", "a cat"],
        "label": [*LABELS, "dog", "cat"],
        "part": [*PARTS, "class", "class"],
        "vector": [*arrays["vectors"].tolist(), *arrays["class_embeddings"].tolist()],
    }
    table = pa.table({**rows, "vector": pa.array(rows["vector"], pa.list_(pa.float32()))})
    pq.write_table(table.replace_schema_metadata({"encoder": "CLIP", "logit_scale": "50"}), tmp_path / "v.parquet")
    content = open_vector_file(tmp_path / "v.parquet")
    same = open_vector_file(save({**arrays, "encoder": np.array("CLIP"), "logit_scale": np.array(50.0)}))
    assert content.classes is not None
    assert same.classes is not None
    assert (content.ids, content.labels, content.parts) == (same.ids, same.labels, same.parts)
    assert (content.fingerprint, content.logit_scale, content.classes.labels) == (
        same.fingerprint,
        50.0,
        ("dog", "cat"),
    )
    ((_, vectors),), ((_, others),) = content.blocks(), same.blocks()
    assert np.array_equal(vectors, others)
    assert np.array_equal(content.classes.matrix, same.classes.matrix)


# ---- photos by their ids ---------------------------------------------------------------------------------------------


def test_photos_of_a_folder_are_looked_up_by_their_paths_and_a_missing_one_is_that_photos_error(
    save: Callable[..., Path], make_photos: Callable[..., Path]
) -> None:
    photos = make_photos("photos", cat=3)  # the file has no cat/2.png
    path = save(ours(part=None))
    model = FewShotClassifier().fit_folder(path)
    *found, missing = model.predict_folder(photos)
    assert [row["label"] for row in found] == ["cat", "cat"]
    assert "holds no vector of that id" in missing["error"]
    with pytest.warns(TipAdapterWarning) as notes:
        again = FewShotClassifier(f"vectors:{path}").fit_folder(photos)
    assert "left out 1 of 3 images: cannot use cat/2.png" in " ".join(str(note.message) for note in notes)
    assert np.array_equal(again.support_.vectors, model.support_.vectors[:2])


def test_a_model_finds_its_file_from_anywhere(
    save: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(ours(part=None))
    deep = tmp_path / ("d" * 120) / ("e" * 120)
    deep.mkdir(parents=True)
    path = path.rename(deep / path.name)
    monkeypatch.chdir(path.parent)
    FewShotClassifier(f"vectors:{path.name}").fit_folder(path.name).save(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    assert FewShotClassifier.load(tmp_path / "model").encoder_.identity.name == f"vectors:{path}"


def test_a_file_whose_name_cannot_be_written_down_is_refused_before_anything_is_learned(
    save: Callable[..., Path],
) -> None:
    path = save(ours())
    path = path.rename(path.with_name("line\nbreak.npz"))
    with pytest.raises(UsageError, match=r"a model cannot keep the name of .*line\\nbreak.npz; rename the file"):
        load_encoder(f"vectors:{path}")


def test_an_image_without_an_id_of_the_file_is_refused(save: Callable[..., Path]) -> None:
    model = FewShotClassifier().fit_folder(save(ours(part=None)))
    with pytest.raises(ValueError, match=r"image 0: .* holds no vector of that id"):
        model.predict([np.zeros((9, 9, 3), np.uint8)])


# ---- which encoder ---------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.* those that the model learns from")
def test_files_of_one_encoder_mix_and_others_do_not(save: Callable[..., Path]) -> None:
    clip, more = (save(ours(part=None, encoder=np.array("CLIP")), name) for name in ("clip.npz", "more.npz"))
    other = save(ours(part=None, encoder=np.array("another")), "other.npz")
    silent = save(ours(part=None), "silent.npz")
    model = FewShotClassifier().fit_folder(clip)
    assert model.evaluate_folder(more)["accuracy"] == 1.0
    for stranger in (other, silent):
        with pytest.raises(WrongEncoder, match="give photos, or vectors of the same encoder"):
            model.evaluate_folder(stranger)


def test_fault_42_a_model_whose_file_of_vectors_changed_is_refused(save: Callable[..., Path], tmp_path: Path) -> None:
    FewShotClassifier().fit_folder(save(ours(part=None))).save(tmp_path / "m")
    save(ours(part=None, vectors=RNG.standard_normal((6, 8))))
    with pytest.raises(WrongEncoder):
        FewShotClassifier.load(tmp_path / "m")


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_fault_18_a_row_that_is_no_vector_is_named(save: Callable[..., Path], bad: float) -> None:
    arrays = ours(part=None)
    arrays["vectors"][3] = bad
    with pytest.raises(VectorError, match=r"the vector of dog/3.png .* is zero, NaN or infinite"):
        FewShotClassifier().fit_folder(save(arrays))
    arrays = ours()
    arrays["class_embeddings"][1] = bad
    with pytest.raises(VectorError, match=r"the vector of a cat "):
        open_vector_file(save(arrays))


@pytest.mark.parametrize("name", ["ids", "labels", "vectors", "encoder"])
def test_fault_38_an_array_of_objects_is_refused_and_nothing_of_it_runs(save: Callable[..., Path], name: str) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return exec, ("raise SystemExit",)

    assert "which is not supported; save numbers, or texts" in refused(save(ours(**{name: np.array([Bomb()] * 6)})))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"ids": None}, "not ids, vectors or train_features"),
        ({"ids": np.array(["a"] * 6)}, "id 'a' is repeated"),
        ({"ids": np.array(["a", "b"])}, "it has 2 ids for 6 vectors"),
        ({"labels": np.array(["cat"])}, "it has 1 labels for 6 vectors"),
        ({"part": np.array(["tain"] * 6)}, "part 'tain' is not one of train, val, test"),
        ({"vectors": np.zeros((6, 8), int)}, "vectors is not a matrix of vectors"),
        ({"vectors": np.zeros((6, 0))}, "vectors is not a matrix of vectors"),
        ({"vectors": np.asfortranarray(RNG.random((6, 8)))}, "is stored column by column"),
        ({"class_embeddings": np.ones((2, 7))}, "class embeddings of shape"),
        ({"class_labels": None}, "it has no array class_labels"),
        ({"logit_scale": np.array(np.nan)}, "logit_scale is not a number above 0"),
        ({"encoder": np.array("")}, "encoder is not a text of 1 to 200 characters"),
    ],
    ids=str,
)
def test_arrays_that_do_not_fit_together_are_refused(
    save: Callable[..., Path], change: dict[str, Any], reason: str
) -> None:
    assert reason in refused(save(ours(**change)))


def test_labels_that_index_no_class_name_are_refused(save: Callable[..., Path]) -> None:
    assert "train_labels are not indices into classnames" in refused(
        save(research(train_labels=np.array([0, 0, 1, 2])))
    )


def archive(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def stored(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_fault_39_an_array_that_states_another_size_than_it_has_is_refused(tmp_path: Path) -> None:
    lying = stored(np.zeros((6, 8), np.float32)).replace(b"(6, 8)", b"(9, 8)")
    members = {"ids.npy": stored(np.array(list("abcdef"))), "vectors.npy": lying}
    assert "vectors is not as long as its header states" in refused(archive(tmp_path / "v.npz", members))


@pytest.mark.slow
def test_fault_41_an_archive_that_unpacks_to_gigabytes_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    n = 2**28 + 4
    header = stored(np.zeros(1, "<U1")).replace(b"(1,)", f"({n // 4},)".encode())[:128]
    bomb = header + bytes(n - (n % 4))
    members = {"ids.npy": bomb, "vectors.npy": stored(np.zeros((1, 8), np.float32))}
    path = archive(tmp_path / "v.npz", members, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 2**20
    assert "more than 268,435,456" in refused(path)


@pytest.mark.parametrize("content", [b"", b"PK", b"a cat", b"PK\x03\x04" + bytes(100)])
@pytest.mark.parametrize("name", ["v.npz", "v.parquet"])
def test_fault_66_a_file_that_is_no_archive_or_table_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name)


@pytest.mark.parametrize("size", [100, 700, 1500])
def test_fault_66_a_file_that_was_cut_is_refused(save: Callable[..., Path], size: int) -> None:
    path = save(ours())
    path.write_bytes(path.read_bytes()[:size])
    refused(path)


def test_a_missing_file_and_a_family_without_a_source_are_clear(tmp_path: Path) -> None:
    with pytest.raises(FeaturesError, match="No such file"):
        load_encoder(f"vectors:{tmp_path / 'none.npz'}")
    with pytest.raises(UsageError, match="encoder vectors needs a source"):
        load_encoder("vectors")


@pytest.mark.parametrize("label", ["nan", "None", "<NA>", "--"])
def test_fault_79_a_missing_label_of_a_vector_file_is_refused(save: Callable[..., Path], label: str) -> None:
    labels = np.array([*LABELS[:-1], label])
    assert f"the label '{label}' is what programs write where a label is missing" in refused(save(ours(labels=labels)))


@pytest.mark.parametrize("name", ["split", "subset", "Partition", "is_test"])
def test_fault_75_parts_under_another_name_are_refused(save: Callable[..., Path], name: str) -> None:
    path = save(ours(part=None, **{name: np.array(PARTS)}))
    assert f"its {name} may say the part of each vector, which is read from part" in refused(path)


@pytest.mark.parametrize("name", ["split", "is_test"])
def test_fault_75_parts_under_another_name_in_parquet_are_refused(tmp_path: Path, name: str) -> None:
    table = pa.table(
        {"id": ["a", "b"], "label": ["x", "y"], "vector": [[1.0, 0.0], [0.0, 1.0]], name: ["train", "test"]}
    )
    pq.write_table(table, tmp_path / "v.parquet")
    assert f"its {name} may say the part of each vector, which is read from part" in refused(tmp_path / "v.parquet")


def test_fault_75_folders_of_ids_say_the_part_as_in_lists(save: Callable[..., Path]) -> None:
    ids = np.array([f"{part}/{number}" for number, part in enumerate(PARTS)])
    assert open_vector_file(save(ours(part=None, ids=ids))).parts == tuple(PARTS)
    assert open_vector_file(save(ours(part=None))).parts == ()


def test_fault_79_a_parquet_file_without_vectors_says_which_columns_it_has(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["a"], "label": ["x"], "embedding": [[1.0]]}), tmp_path / "v.parquet")
    assert "it has columns id, label, embedding, and no vector; a vector file has" in refused(tmp_path / "v.parquet")
