"""`label` and `relabel`: what they write, what they read, and what they refuse."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import tarfile
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tip_adapter import FewShotClassifier, load_encoder
from tip_adapter.distributed.core import Labeller, label_photos, label_vectors, photo_schema
from tip_adapter.distributed.inputs import list_photos, plan_schema, read_photos
from tip_adapter.distributed.job import finished_files, label_images, relabel_vectors
from tip_adapter.distributed.plan import Plan, part_sizes, write_plan
from tip_adapter.errors import FeaturesError, FolderError, OutputExists, TipAdapterWarning, UsageError, WrongEncoder
from tip_adapter.features.extract import extract

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image

    Rows = Callable[[Path], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory, model: Path, photos: Path) -> Path:
    """The labels of the photos, with vectors, in parts of 32. To be read only."""
    out = tmp_path_factory.mktemp("labelled") / "labels"
    label_images(model, photos, out, workers=1, part_rows=32, vectors=True)
    return out


# ---- the same answers ------------------------------------------------------------------------------------------------


def test_labels_and_scores_are_those_of_predict(labelled: Path, model: Path, photos: Path, table: Rows) -> None:
    predicted = FewShotClassifier.load(model).predict_folder(photos)
    rows = table(labelled)
    assert [row["id"] for row in rows] == [str(Path(p["image"]).relative_to(photos)) for p in predicted]
    for row, answer in zip(rows, predicted, strict=True):
        assert (row["label"], row["score"], row["top5"] or []) == (answer["label"], answer["score"], answer["top"])
        if answer["error"]:
            assert row["error"] == answer["error"].replace(f"{photos}/", "")
            assert row["margin"] is row["vector"] is None
        else:
            assert row["margin"] == np.float32(answer["top"][0]["score"] - answer["top"][1]["score"])
            assert row["error"] is None
    assert [row["id"] for row in rows if row["error"]] == ["red/120.png"]


def test_rows_name_their_photo_and_what_labelled_them(labelled: Path, photos: Path, table: Rows) -> None:
    rows = table(labelled)
    assert [row["uri"] for row in rows] == sorted(str(path) for path in photos.rglob("*.png"))
    assert {row["encoder"] for row in rows} == {load_encoder("toy").identity.fingerprint}
    assert len({row["model"] for row in rows}) == 1
    vectors = np.array([row["vector"] for row in rows if row["vector"] is not None], np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)


@pytest.mark.parametrize("reader", ["duckdb", "polars", "pandas"])
def test_other_programs_read_the_parts(reader: str, labelled: Path, table: Rows) -> None:
    program = pytest.importorskip(reader)
    files = [str(path) for path in finished_files(labelled)]
    if reader == "duckdb":
        found = program.sql(f"select id, label, len(vector) from '{labelled}/part-*/labels.parquet'").fetchall()
    elif reader == "polars":
        frame = program.read_parquet(files)
        found = [(row["id"], row["label"], row["vector"] and len(row["vector"])) for row in frame.to_dicts()]
    else:
        frame = program.concat(map(program.read_parquet, files))
        found = list(
            zip(frame["id"], frame["label"], frame["vector"].map(lambda v: None if v is None else len(v)), strict=True)
        )
    wanted = [(row["id"], row["label"], row["vector"] and len(row["vector"])) for row in table(labelled)]
    assert [tuple(None if v != v else v for v in row) for row in sorted(found, key=str)] == sorted(wanted, key=str)


@pytest.mark.slow
def test_fault_74_every_number_of_workers_and_threads_gives_the_same_bytes(
    labelled: Path, model: Path, photos: Path, tmp_path: Path, digests: Callable[[Path], dict[str, str]]
) -> None:
    label_images(model, photos, tmp_path / "two", workers=2, part_rows=32, vectors=True)
    label_images(model, photos, tmp_path / "three", workers=3, threads=3, part_rows=32, vectors=True)
    assert digests(tmp_path / "two") == digests(tmp_path / "three") == digests(labelled)
    assert [field.name for field in pq.read_schema(finished_files(labelled)[0])] == [
        *("id", "uri", "label", "score", "margin", "top5", "error", "vector", "model", "encoder")
    ]


def test_the_core_takes_batches_of_any_size(model: Path, photos: Path) -> None:
    labeller = Labeller.load(model)
    files = sorted(photos.rglob("*.png"))[:70]
    contents = [file.read_bytes() for file in files]
    columns = {"id": list(map(str, files)), "uri": list(map(str, files)), "content": contents, "error": [None] * 70}
    whole = pa.RecordBatch.from_pydict(columns, schema=photo_schema())
    at_once = pa.Table.from_batches(label_photos([whole], labeller)).to_pylist()
    cut = [whole.slice(start, 7) for start in range(0, 70, 7)]
    by_seven = pa.Table.from_batches(label_photos(cut, labeller, threads=2)).to_pylist()
    assert [row["label"] for row in at_once] == [row["label"] for row in by_seven]
    np.testing.assert_allclose([row["score"] for row in at_once], [row["score"] for row in by_seven], atol=1e-6)


# ---- plans -----------------------------------------------------------------------------------------------------------


@given(st.integers(1, 5000), st.integers(1, 12_000), st.integers(1, 997))
def test_a_plan_cuts_every_row_into_exactly_one_part(tmp_path_factory: Any, most: int, n: int, step: int) -> None:
    path = tmp_path_factory.mktemp("plan") / "plan.parquet"
    batches = (
        pa.RecordBatch.from_pylist([{"id": str(r), "uri": str(r), "size": r, "etag": ""} for r in rows], plan_schema())
        for rows in (range(start, min(start + step, n)) for start in range(0, n, step))
    )
    write_plan(path, "input", batches, most, part_sizes(most))
    plan = Plan.read(path)
    sizes = [plan.size(part) for part in range(len(plan.header.digests))]
    assert sum(sizes) == n == plan.header.rows
    assert sizes[:-1] == list(islice(part_sizes(most), len(sizes) - 1))
    assert [r["size"] for part in range(len(sizes)) for r in plan.rows(part).to_pylist()] == list(range(n))


def test_parts_grow_so_that_the_last_are_a_small_share() -> None:
    sizes = list(islice(part_sizes(1_000_000), 700))
    assert sizes[:2] == [1024, 1024]
    assert sizes[-1] == 1_000_000
    assert all(size <= max(1024, sum(sizes[:row]) / 32) for row, size in enumerate(sizes))
    assert all(size % 32 == 0 for size in sizes)


def test_the_plan_of_another_source_or_of_parts_of_another_size_is_refused(
    labelled: Path, model: Path, photos: Path
) -> None:
    with pytest.raises(OutputExists, match=r"holds the plan of .* in parts of 32, given are .*red and 32"):
        label_images(model, photos / "red", labelled, part_rows=32, vectors=True)
    with pytest.raises(OutputExists, match=r"in parts of 32, given are .* and 64"):
        label_images(model, photos, labelled, part_rows=64, vectors=True)


def test_labels_of_another_model_or_with_other_options_stay(
    labelled: Path, other_model: Path, model: Path, photos: Path, digests: Callable[[Path], dict[str, str]]
) -> None:
    before = digests(labelled)
    with pytest.raises(OutputExists, match="holds labels of another model"):
        label_images(other_model, photos, labelled, part_rows=32, vectors=True)
    with pytest.raises(OutputExists, match="holds labels with vectors; choose another place"):
        label_images(model, photos, labelled, part_rows=32)
    assert digests(labelled) == before


@pytest.mark.parametrize("name", ["notes.txt", "part-1/photo.jpg", "part-000000-my-own/photo.jpg"])
def test_a_folder_of_something_else_is_refused(name: str, model: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(OutputExists, match="holds something else than labels"):
        label_images(model, photos, tmp_path)


def test_fault_76_labels_are_written_where_a_system_has_a_folder(model: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "labels" / "@eaDir").mkdir(parents=True)
    assert label_images(model, photos / "green", tmp_path / "labels", workers=1).n_images == 50


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "spark"}, "engine takes local or ray, not 'spark'"),
        ({"workers": 0}, "workers takes a whole number from 1 to 1024, not 0"),
        ({"part_rows": 0}, "part_rows takes a whole number of at least 1, not 0"),
        ({"max_error_rate": 2}, "max_error_rate takes a number from 0 to 1, not 2"),
    ],
)
def test_options_are_checked_before_anything_is_written(
    options: dict[str, Any], message: str, model: Path, photos: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        label_images(model, photos, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


# ---- what is read ----------------------------------------------------------------------------------------------------


def contents_of(source: str | Path) -> list[tuple[str, bytes | None]]:
    """Id and content of each photo of a source."""
    rows = [batch for planned in list_photos(str(source)) for batch in read_photos(planned)]
    return [(row["id"], row["content"]) for batch in rows for row in batch.to_pylist()]


def write_tar(path: Path, photos: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in photos:
            for ending, data in ((name, content), (f"{Path(name).stem}.json", b"{}")):
                member = tarfile.TarInfo(ending)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return path


@pytest.fixture
def some(photos: Path) -> list[tuple[str, bytes]]:
    """Name and content of a few photos."""
    return [(path.name, path.read_bytes()) for path in sorted((photos / "green").iterdir())[:40]]


@pytest.mark.parametrize("kind", ["txt", "csv", "jsonl", "parquet"])
def test_lists_of_paths(kind: str, some: list[tuple[str, bytes]], photos: Path, tmp_path: Path) -> None:
    paths = [str(photos / "green" / name) for name, _ in some]
    source = tmp_path / f"list.{kind}"
    if kind == "parquet":
        pq.write_table(pa.table({"path": paths, "id": [name for name, _ in some]}), source)
    elif kind == "jsonl":
        source.write_text("".join(json.dumps({"file_name": path}) + "\n" for path in paths))
    else:
        source.write_text("\n".join([*(["file_name"] if kind == "csv" else []), *paths]) + "\n")
    found = contents_of(source)
    assert [content for _, content in found] == [content for _, content in some]
    if kind == "parquet":
        assert [name for name, _ in found] == [name for name, _ in some]


@pytest.mark.parametrize("column", ["bytes", "image"])
@pytest.mark.parametrize("group", [7, 1000])
def test_parquet_files_of_contents(column: str, group: int, some: list[tuple[str, bytes]], tmp_path: Path) -> None:
    values = [{"bytes": content, "path": name} if column == "image" else content for name, content in some]
    for half, rows in enumerate((slice(0, 13), slice(13, None))):
        part = pa.table({"id": [name for name, _ in some[rows]], column: values[rows]})
        pq.write_table(part, tmp_path / f"{half}.parquet", row_group_size=group)
    assert contents_of(tmp_path) == some
    planned = pa.Table.from_batches(list_photos(str(tmp_path)))
    part = [row for batch in read_photos(planned.slice(11, 9)) for row in batch.to_pylist()]
    assert [(row["id"], row["content"]) for row in part] == some[11:20]


def test_tar_shards(some: list[tuple[str, bytes]], tmp_path: Path) -> None:
    write_tar(tmp_path / "a-000.tar", some[:25])
    write_tar(tmp_path / "a-001.tar", some[25:])
    wanted = [(f"a-000.tar/{name}", content) for name, content in some[:25]]
    wanted += [(f"a-001.tar/{name}", content) for name, content in some[25:]]
    assert contents_of(tmp_path) == contents_of(tmp_path / "a-*.tar") == wanted
    assert contents_of(tmp_path / "a-000.tar") == wanted[:25]


def test_stores_that_fsspec_knows(some: list[tuple[str, bytes]], tmp_path: Path) -> None:
    store = pytest.importorskip("fsspec").filesystem("memory")
    for name, content in some:
        store.pipe_file(f"/stored/green/{name}", content)
    store.pipe_file("/shards/0.tar", write_tar(tmp_path / "0.tar", some).read_bytes())
    assert contents_of("memory://stored") == [(f"green/{name}", content) for name, content in some]
    assert contents_of("memory://shards") == [(f"0.tar/{name}", content) for name, content in some]
    assert contents_of("memory://shards/*.tar") == [(f"0.tar/{name}", content) for name, content in some]


def test_a_path_that_is_not_utf8_is_read(photos: Path, tmp_path: Path) -> None:
    content = (photos / "red" / "100.png").read_bytes()
    with (tmp_path / "caf\udce9.png").open("wb") as file:
        file.write(content)
    assert contents_of(tmp_path) == [("caf\\xe9.png", content)]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.tar", "there is no file or folder .*none.tar; check the path"),
        ("none-*.tar", "matches no file"),
        ("{0..9}.tar", r"check the path; the only sign of a pattern is \*"),
        ("photos.tar.gz", "compressed as a whole"),
        ("other.parquet", r"has columns width \(int64\), height \(int64\), and none of contents"),
        ("only-text.tar", "holds no photos in its 1 shards"),
        ("empty.txt", "lists no photos"),
        ("latin.txt", r"is not UTF-8 \(byte 3\)"),
    ],
)
def test_a_source_without_photos_is_refused(name: str, message: str, tmp_path: Path) -> None:
    pq.write_table(pa.table({"width": [1], "height": [2]}), tmp_path / "other.parquet")
    (tmp_path / "empty.txt").write_text("\n \n")
    (tmp_path / "photos.tar.gz").touch()
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9.png")
    with tarfile.open(tmp_path / "only-text.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("a.txt"))
    with pytest.raises(FolderError, match=message):
        list(list_photos(str(tmp_path / name)))


def test_a_list_of_photos_may_have_file_urls(photos: Path, tmp_path: Path) -> None:
    place = photos / "red" / "100.png"
    (tmp_path / "list.txt").write_text(f"file://{place}\n")
    assert [content for _, content in contents_of(tmp_path / "list.txt")] == [place.read_bytes()]


def test_contents_as_text_are_no_paths(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": ["/9j/4AAQ" * 1000], "path": ["A" * 8000]}), tmp_path / "photos.parquet")
    with pytest.raises(
        FolderError, match=r"column path holds a text of 8,000 characters, which is no path .*write contents as bytes"
    ):
        list(list_photos(str(tmp_path / "photos.parquet")))


def test_shards_of_one_name_in_several_folders_have_ids_of_their_own(
    some: list[tuple[str, bytes]], tmp_path: Path
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_tar(tmp_path / name / "0.tar", some)
    ids = [name for name, _ in contents_of(tmp_path / "*" / "0.tar")]
    assert ids == [f"{name}/0.tar/{photo}" for name in ("a", "b") for photo, _ in some]


def test_a_compressed_archive_under_another_name_is_named(some: list[tuple[str, bytes]], tmp_path: Path) -> None:
    (tmp_path / "0.tar").write_bytes(gzip.compress(write_tar(tmp_path / "1.tar", some).read_bytes()))
    with pytest.raises(
        FolderError, match=r"0\.tar is compressed as a whole, so photos in it cannot be read alone; unpack it"
    ):
        list(list_photos(str(tmp_path / "0.tar")))


def test_archives_that_were_joined_are_refused(some: list[tuple[str, bytes]], tmp_path: Path) -> None:
    content = write_tar(tmp_path / "0.tar", some).read_bytes()
    (tmp_path / "0.tar").write_bytes(content + content)
    with pytest.raises(
        FolderError, match=r"another archive after byte [\d,]+; give archives that were joined one by one"
    ):
        list(list_photos(str(tmp_path / "0.tar")))


def test_fault_77_links_in_a_shard_are_counted(some: list[tuple[str, bytes]], tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", some)
    with tarfile.open(tmp_path / "0.tar", "a") as archive:
        for kind in (tarfile.LNKTYPE, tarfile.SYMTYPE):
            link = tarfile.TarInfo(f"{kind.decode()}.png")
            link.type, link.linkname = kind, some[0][0]
            archive.addfile(link)
    with pytest.warns(TipAdapterWarning, match="2 photos in shards are skipped: links 2"):
        assert [name for name, _ in contents_of(tmp_path / "0.tar")] == [f"0.tar/{name}" for name, _ in some]


@pytest.mark.parametrize("name", ["backup.tar", "metadata.parquet"])
@pytest.mark.filterwarnings("ignore:.*1 file that is no photo is skipped:tip_adapter.errors.TipAdapterWarning")
def test_fault_77_a_shard_among_photos_is_not_read_and_said(name: str, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos / "green", tmp_path / "new" / "green")
    wanted = contents_of(tmp_path / "new")
    if name == "backup.tar":
        write_tar(tmp_path / "new" / name, [("old.png", b"old")])
    else:
        pq.write_table(pa.table({"file_name": ["green/100.png"]}), tmp_path / "new" / name)
    with pytest.warns(TipAdapterWarning, match=rf"its 50 photos are read, and not \.\w+ 1 \({name}\); name"):
        assert contents_of(tmp_path / "new") == wanted
    store = pytest.importorskip("fsspec").filesystem("memory")
    store.pipe_file(f"/mixed-{name[0]}/{name}", b"no shard")
    store.pipe_file(f"/mixed-{name[0]}/ant/1.png", b"photo")
    with pytest.warns(TipAdapterWarning, match="its 1 photo is read, and not"):
        assert contents_of(f"memory://mixed-{name[0]}") == [("ant/1.png", b"photo")]


def test_fault_77_a_photo_among_shards_is_not_read_and_said(some: list[tuple[str, bytes]], tmp_path: Path) -> None:
    for number in range(3):
        write_tar(tmp_path / f"{number}.tar", some[:1])
    (tmp_path / "preview.png").write_bytes(some[0][1])
    (tmp_path / "README.md").write_text("about")
    with pytest.warns(TipAdapterWarning, match=r"its 3 files \.tar 3 are read, and not 1 photo"):
        assert [name for name, _ in contents_of(tmp_path)] == [f"{number}.tar/{some[0][0]}" for number in range(3)]


def test_fault_76_what_systems_add_to_a_shard_is_skipped_and_counted(tmp_path: Path) -> None:
    kept = ["ant/1.jpg", "./bee/2.jpg", "ant/1.jpg"]
    others = ["ant/._1.jpg", "__MACOSX/ant/._1.jpg", "ant/@eaDir/1.jpg/SYNOFILE_THUMB_M.jpg", ".Trash-1000/files/3.jpg"]
    write_tar(tmp_path / "a.tar", [(name, b"photo") for name in (others[0], kept[0], *others[1:], *kept[1:])])
    (tmp_path / "._a.tar").write_bytes(b"of a Mac")
    note = r"4 photos in shards are skipped: \.Trash-1000 1, @eaDir 1, __MACOSX 1, hidden files 1"
    with pytest.warns(TipAdapterWarning, match=note):
        found = contents_of(tmp_path)
    assert [name for name, _ in found] == ["a.tar/ant/1.jpg", "a.tar/./bee/2.jpg", "a.tar/ant/1.jpg#2"]
    write_tar(tmp_path / "a.tar", [(name, b"photo") for name in others])
    with pytest.raises(
        FolderError, match=r"holds no photos in its 1 shards \(.*a\.tar\); 4 photos in shards are skipped"
    ):
        list(list_photos(str(tmp_path)))


def test_fault_79_a_missing_id_of_a_parquet_file_is_its_row_or_path(
    some: list[tuple[str, bytes]], photos: Path, tmp_path: Path
) -> None:
    contents = pa.table({"id": ["a", None, "c"], "bytes": [content for _, content in some[:3]]})
    pq.write_table(contents, tmp_path / "contents.parquet")
    assert [name for name, _ in contents_of(tmp_path / "contents.parquet")] == ["a", "contents.parquet/1", "c"]
    paths = [str(photos / "green" / name) for name, _ in some[:3]]
    pq.write_table(pa.table({"id": pa.array([None, 7, 7]), "path": paths}), tmp_path / "paths.parquet")
    assert [name for name, _ in contents_of(tmp_path / "paths.parquet")] == [paths[0], "7", "7#2"]


def test_fault_79_a_missing_path_of_a_parquet_file_is_a_row_with_an_error(photos: Path, tmp_path: Path) -> None:
    pq.write_table(pa.table({"path": [str(photos / "green" / "100.png"), None]}), tmp_path / "a.parquet")
    rows = [row for planned in list_photos(str(tmp_path / "a.parquet")) for row in planned.to_pylist()]
    assert sorted(row["id"] for row in rows) == sorted([str(photos / "green" / "100.png"), "a.parquet/1"])
    found = dict(contents_of(tmp_path / "a.parquet"))
    assert found["a.parquet/1"] is None


@pytest.mark.parametrize("columns", [{"bytes": 7, "path": ""}, {"image": ""}, {"jpg": 7, "file_name": ""}])
def test_fault_79_columns_of_a_parquet_file_are_read_by_their_types(
    columns: dict[str, Any], some: list[tuple[str, bytes]], photos: Path, tmp_path: Path
) -> None:
    paths = [str(photos / "green" / name) for name, _ in some]
    values = {name: paths if value == "" else [value] * len(paths) for name, value in columns.items()}
    pq.write_table(pa.table(values), tmp_path / "a.parquet")
    assert contents_of(tmp_path / "a.parquet") == [
        (path, content) for path, (_, content) in zip(paths, some, strict=True)
    ]


def test_fault_79_a_column_that_is_neither_contents_nor_paths_is_named_with_its_type(tmp_path: Path) -> None:
    pq.write_table(pa.table({"bytes": [1], "name": ["a.jpg"]}), tmp_path / "a.parquet")
    with pytest.raises(FolderError, match=r"has columns bytes \(int64\), name \(string\), and none of contents"):
        list(list_photos(str(tmp_path / "a.parquet")))


@pytest.mark.parametrize("name", ["typo", "typo.csv", "typo.txt", "typo.parquet", "typo.tar"])
@pytest.mark.parametrize("as_url", [False, True])
def test_fault_77_a_source_that_does_not_exist_is_an_error_before_anything_is_written(
    name: str, as_url: bool, model: Path, tmp_path: Path
) -> None:
    source = (tmp_path / name).as_uri() if as_url else str(tmp_path / name)
    with pytest.raises(FolderError, match=f"there is no file or folder {tmp_path}/{name}; check the path"):
        label_images(model, source, tmp_path / "labels")
    assert not (tmp_path / "labels").exists()


def test_fault_77_a_file_url_is_read_as_its_path(photos: Path) -> None:
    assert contents_of((photos / "green").as_uri()) == contents_of(photos / "green")


def test_a_url_of_an_unknown_store_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="nostore"):
        list(list_photos("nostore://bucket/photos"))


# ---- stored vectors --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_relabelling_gives_what_labelling_gave(labelled: Path, model: Path, tmp_path: Path, table: Rows) -> None:
    done = relabel_vectors(model, labelled, tmp_path / "again", workers=1)
    assert (done.n_images, done.n_errors, done.n_parts) == (150, 1, 5)
    for before, after in zip(table(labelled), table(tmp_path / "again"), strict=True):
        assert all(before[name] == after[name] for name in ("id", "uri", "label", "error", "model", "encoder"))
        if before["error"] is None:
            assert after["score"] == pytest.approx(before["score"], abs=2e-3)  # vectors are kept as float16
    assert relabel_vectors(model, labelled, tmp_path / "again").n_labelled == 0


@pytest.mark.slow
def test_relabelling_a_job_that_is_not_finished_is_refused(labelled: Path, model: Path, tmp_path: Path) -> None:
    shutil.copytree(labelled, tmp_path / "labelled")
    shutil.rmtree(finished_files(tmp_path / "labelled")[-1].parent)
    n = len(finished_files(labelled))
    with pytest.raises(
        FeaturesError, match=f"holds vectors of {n - 1} of its {n} parts: the others are not finished, or damaged"
    ):
        relabel_vectors(model, tmp_path / "labelled", tmp_path / "again", workers=1)


def test_relabelling_features_gives_what_predict_gives(
    model: Path, other_model: Path, photos: Path, tmp_path: Path, table: Rows
) -> None:
    extract(photos, tmp_path / "features", load_encoder("toy"))
    relabel_vectors(other_model, tmp_path / "features", tmp_path / "labels", workers=1)
    predicted = FewShotClassifier.load(other_model).predict_folder(tmp_path / "features")
    found = [(row["id"], row["label"], row["score"]) for row in table(tmp_path / "labels")]
    assert found == [(answer["image"], answer["label"], answer["score"]) for answer in predicted]


@pytest.mark.slow
def test_a_folder_without_vectors_is_refused(model: Path, photos: Path, tmp_path: Path) -> None:
    label_images(model, photos / "red", tmp_path / "labels", workers=1)
    with pytest.raises(FeaturesError, match=r"holds no vectors \(1 parts of labels found\)"):
        relabel_vectors(model, tmp_path / "labels", tmp_path / "again")


@pytest.mark.slow
def test_vectors_of_another_encoder_are_refused(
    labelled: Path, tmp_path: Path, paint: Callable[..., Image.Image]
) -> None:
    shades = [paint(name, row) for row, name in enumerate(["red", "green"])]
    FewShotClassifier(encoder="pocket", method="tip-adapter").fit(shades, ["red", "green"]).save(tmp_path / "pocket")
    with pytest.raises(WrongEncoder, match=r"fingerprint 820de734217f.*, the model's is"):
        relabel_vectors(tmp_path / "pocket", labelled, tmp_path / "again")


def test_vectors_of_an_error_are_missing(model: Path) -> None:
    labeller = Labeller.load(model)
    width = labeller.encoder.identity.width
    kinds = [pa.string(), pa.string(), pa.list_(pa.float32(), width), pa.string()]
    columns = [["a", "b"], ["a", "b"], [None, [1.0] + [0.0] * (width - 1)], ["cannot read a", None]]
    batch = pa.RecordBatch.from_arrays(list(map(pa.array, columns, kinds)), names=["id", "uri", "vector", "error"])
    first, second = pa.Table.from_batches(label_vectors([batch], labeller)).to_pylist()
    assert (first["label"], first["error"], second["error"]) == (None, "cannot read a", None)
    assert second["label"] in ("red", "green", "blue")
