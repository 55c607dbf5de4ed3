"""Faults of a job over very many images; the numbers are those of docs/reference/faults.md."""

from __future__ import annotations

import io
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from tip_adapter import load_encoder
from tip_adapter.distributed import inputs, lanes, local, parts, storage
from tip_adapter.distributed.inputs import list_photos, read_photos
from tip_adapter.distributed.job import finished_files, label_images
from tip_adapter.distributed.manifests import MANIFEST, Job, PartManifest
from tip_adapter.distributed.parts import PartRunner
from tip_adapter.errors import (
    FolderError,
    InputChanged,
    InputUnavailable,
    JobStopped,
    ModelFolderError,
    NothingReadable,
    NotWritable,
    TipAdapterWarning,
    TooManyErrors,
)
from tip_adapter.features import encode
from tip_adapter.io.files import lock_folder

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

if TYPE_CHECKING:
    from collections.abc import Callable

    Rows = Callable[[Path], list[dict[str, Any]]]
    Digests = Callable[[Path], dict[str, str]]

#: Kills of a driver, and of a worker.
KILLS = 100 if "TIP_ADAPTER_SOAK" in os.environ else 5
OPTIONS = {"part_rows": 32, "workers": 2}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, model: Path, photos: Path) -> Path:
    """The labels that a run without faults writes. To be read only."""
    out = tmp_path_factory.mktemp("undisturbed") / "labels"
    label_images(model, photos, out, **OPTIONS)
    return out


def started(model: Path, photos: Path, out: Path) -> subprocess.Popen[bytes]:
    """The program, labelling the photos as `undisturbed` does."""
    command = [sys.executable, "-m", "tip_adapter", "label", model, photos, "--out", out]
    options = ["--part-rows", "32", "--workers", "2"]
    return subprocess.Popen([*map(str, command), *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def children(pid: int) -> list[int]:
    """Process ids of the children of a process."""
    found = []
    for folder in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            if folder.name.isdigit() and int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(folder.name))
    return found


def ended(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in /proc")


@linux
@pytest.mark.slow
def test_fault_62_a_driver_is_killed_again_and_again(
    model: Path, photos: Path, tmp_path: Path, undisturbed: Path, digests: Digests, in_workers: Callable[[str], None]
) -> None:
    in_workers("time.sleep(0.3)")
    rng = random.Random(0)
    for _ in range(KILLS):
        driver = started(model, photos, tmp_path / "labels")
        time.sleep(rng.uniform(1, 4))
        workers = children(driver.pid)
        driver.kill()
        driver.communicate()
        deadline = time.monotonic() + 20
        while not all(map(ended, workers)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert all(map(ended, workers)), "a worker outlives its driver"
    done = label_images(model, photos, tmp_path / "labels", **OPTIONS)
    assert done.n_images == 150
    assert digests(tmp_path / "labels") == digests(undisturbed)
    assert not list((tmp_path / "labels").glob(".*"))


@linux
@pytest.mark.slow
def test_fault_63_workers_are_killed_again_and_again(
    model: Path, photos: Path, tmp_path: Path, undisturbed: Path, digests: Digests, in_workers: Callable[[str], None]
) -> None:
    in_workers("time.sleep(1)")
    rng = random.Random(1)
    driver = started(model, photos, tmp_path / "labels")
    killed = 0
    while driver.poll() is None and killed < 5:
        time.sleep(rng.uniform(2, 4))
        if workers := children(driver.pid):
            os.kill(rng.choice(workers), signal.SIGKILL)
            killed += 1
    _, err = driver.communicate(timeout=120)
    assert driver.returncode == 0, err
    assert killed
    assert b"the part is begun again" in err
    assert digests(tmp_path / "labels") == digests(undisturbed)


@pytest.mark.slow
def test_fault_63_a_worker_that_makes_no_progress_is_replaced(
    model: Path, photos: Path, tmp_path: Path, in_workers: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "once").touch()
    in_workers(
        f"os.path.exists({str(tmp_path / 'once')!r}) and (os.remove({str(tmp_path / 'once')!r}), time.sleep(500))"
    )
    monkeypatch.setattr(lanes, "SECONDS_WITHOUT_PROGRESS", 6)
    with pytest.warns(TipAdapterWarning, match=r"died at row 0 \(no progress for 6 s\)"):
        done = label_images(model, photos / "green", tmp_path / "labels", workers=1)
    assert done.n_images == 50


def test_fault_64_a_half_written_part_is_made_again(
    model: Path, photos: Path, tmp_path: Path, undisturbed: Path, digests: Digests
) -> None:

    out = tmp_path / "labels"
    shutil.copytree(undisturbed, out)
    first, second, third, *_ = sorted(out.glob("part-*"))
    (first / MANIFEST).write_text((first / MANIFEST).read_text()[:100])
    (second / MANIFEST).unlink()
    (third / "labels.parquet").write_bytes((third / "labels.parquet").read_bytes()[:-1])
    (out / f".tip-adapter-{'0' * 32}.new").mkdir()
    assert len(finished_files(out)) == 2
    with pytest.warns(TipAdapterWarning, match="3 parts are damaged and made again: part-000000"):
        assert label_images(model, photos, out, **OPTIONS).n_labelled == 3
    assert digests(out) == digests(undisturbed)
    assert not list(out.glob(".*"))


def test_fault_64_of_two_writers_of_a_part_the_second_discards_its_own(
    model: Path, undisturbed: Path, tmp_path: Path, digests: Digests
) -> None:
    manifest = PartManifest.read(sorted(undisturbed.glob("part-*"))[0])
    assert manifest is not None
    options = {"model": manifest.model, "encoder": manifest.encoder}
    job = Job("label", str(tmp_path / "labels"), str(model), **options)
    batch = pq.read_table(finished_files(undisturbed)[0]).to_batches()[0]

    def while_another_writes() -> Any:
        yield batch
        parts.write_part(job, 0, manifest.key, [batch.slice(0, 3)], batch.schema)

    kept = parts.write_part(job, 0, manifest.key, while_another_writes(), batch.schema)
    assert kept.rows == 3
    assert pq.read_table(finished_files(tmp_path / "labels")).num_rows == 3
    assert len(list((tmp_path / "labels").iterdir())) == 1


def test_fault_64_a_second_driver_is_refused(model: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    with lock_folder(tmp_path / "labels"), pytest.raises(NotWritable, match="is being written by another run"):
        label_images(model, photos, tmp_path / "labels")


@pytest.mark.slow
def test_fault_65_a_photo_that_changed_since_it_was_planned(
    model: Path, photos: Path, tmp_path: Path, in_workers: Callable[[str], None]
) -> None:

    shutil.copytree(photos, tmp_path / "new")
    out = tmp_path / "labels"
    label_images(model, tmp_path / "new", out, **OPTIONS)
    last = sorted(out.glob("part-*"))[-1]
    shutil.rmtree(last)
    changed = tmp_path / "new" / "red" / "149.png"
    changed.write_bytes((photos / "blue" / "100.png").read_bytes())
    with pytest.raises(InputChanged, match=r"149\.png has changed since it was planned"):
        label_images(model, tmp_path / "new", out, **OPTIONS)
    (out / "plan.parquet").unlink()
    done = label_images(model, tmp_path / "new", out, **OPTIONS)
    assert done.n_labelled == 1
    assert len(finished_files(out)) == done.n_parts == 5


def test_fault_65_a_photo_that_is_gone_is_a_row_with_an_error(photos: Path, tmp_path: Path) -> None:

    shutil.copytree(photos / "green", tmp_path / "new")
    (planned,) = list_photos(str(tmp_path / "new"))
    (tmp_path / "new" / "101.png").unlink()
    rows = [row for batch in read_photos(planned) for row in batch.to_pylist()]
    assert [row["error"] for row in rows if row["content"] is None] == [
        "cannot read 101.png: No such file or directory"
    ]


def shard(path: Path, names: list[str], content: bytes) -> bytes:
    with tarfile.open(path, "w") as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path.read_bytes()


@pytest.fixture
def content(photos: Path) -> bytes:
    return (photos / "red" / "100.png").read_bytes()


def test_fault_66_a_truncated_shard(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    whole = shard(path, [f"{n}.png" for n in range(20)], content)
    end = 20 * (512 + -(-len(content) // 512) * 512)
    for stop in [*range(1, end, 997), end - 1]:
        path.write_bytes(whole[:stop])
        with suppress(FolderError):
            # At the end of a photo nothing shows that others followed.
            assert stop % (end // 20) == 0, list(list_photos(str(path)))


@pytest.mark.parametrize("at", [0, 3, 19])
def test_fault_66_a_damaged_header(at: int, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    damaged = bytearray(shard(path, [f"{n}.png" for n in range(20)], content))
    start = at * (512 + -(-len(content) // 512) * 512)
    damaged[start : start + 200] = b"\xff" * 200
    path.write_bytes(damaged)
    with pytest.raises(FolderError, match=r"a\.tar is damaged: .*; restore it, or remove it from the input"):
        list(list_photos(str(path)))


def test_fault_66_keys_that_repeat_and_shards_without_photos(content: bytes, tmp_path: Path) -> None:
    shard(tmp_path / "a.tar", ["x.png", "x.png", "y.png"], content)
    shard(tmp_path / "b.tar", [], content)
    (tmp_path / "c.tar").touch()
    with pytest.warns(TipAdapterWarning, match=r"c\.tar is empty: skipped"):
        rows = pa.Table.from_batches(list_photos(str(tmp_path))).to_pylist()
    assert [row["id"] for row in rows] == ["a.tar/x.png", "a.tar/x.png#2", "a.tar/y.png"]
    read = [row["content"] for batch in read_photos(pa.Table.from_pylist(rows)) for row in batch.to_pylist()]
    assert read == [content] * 3


@pytest.mark.parametrize("cut", [0, 10, 0.5, -1])
def test_fault_66_a_damaged_parquet_file(cut: float, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"id": ["a"], "bytes": [content]}), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(cut * len(whole)) if 0 < cut < 1 else int(cut)])
    with pytest.raises(FolderError, match=r"a\.parquet is damaged"):
        list(list_photos(str(path)))


def test_fault_66_pages_of_a_parquet_file_are_damaged(content: bytes, tmp_path: Path, model: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"id": ["a"], "bytes": [content]}), path, write_page_checksum=True)
    damaged = bytearray(path.read_bytes())
    (rows,) = list_photos(str(path))
    damaged[300:320] = b"\xff" * 20
    times = path.stat()
    path.write_bytes(damaged)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(FolderError, match=r"a\.parquet is damaged"):
        list(read_photos(rows))


@pytest.mark.slow
def test_fault_66_many_tiny_shards_and_a_large_one(content: bytes, tmp_path: Path, model: Path, table: Rows) -> None:
    source = tmp_path / "shards"
    source.mkdir()
    for number in range(300):
        shard(source / f"{number:05d}.tar", ["x.png"], content)
    shard(source / "large.tar", [f"{number:05d}.png" for number in range(300)], content)
    done = label_images(model, source, tmp_path / "labels", part_rows=128, workers=1)
    assert (done.n_images, done.n_parts) == (600, 5)
    rows = table(tmp_path / "labels")
    assert len({row["id"] for row in rows}) == 600
    assert {(row["label"], row["score"]) for row in rows if row["label"] != "red"} == set()


class Faulty:
    """Reads that fail with these errors first."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    def __call__(self) -> str:
        if self.errors:
            raise self.errors.pop(0)
        return "read"


def test_fault_67_a_busy_store_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(storage.time, "sleep", pauses.append)
    busy = [OSError("503 Slow Down"), TimeoutError("timed out"), ConnectionResetError("reset")]
    assert storage.fetch("s3://photos/1.jpg", Faulty(*busy)) == "read"
    assert pauses == [0.5, 1, 2]
    always = Faulty(*[OSError("503 Slow Down")] * 9)
    with pytest.raises(
        InputUnavailable, match=r"s3://photos/1.jpg cannot be read \(503 Slow Down\); start again later"
    ):
        storage.fetch("s3://photos/1.jpg", always)


def test_fault_67_credentials_that_expire_stop_the_job_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage.time, "sleep", pytest.fail)
    with pytest.raises(InputUnavailable, match=r"denied \(ExpiredToken\); renew the credentials and start again"):
        storage.fetch("s3://photos/1.jpg", Faulty(PermissionError("ExpiredToken")))
    with pytest.raises(FileNotFoundError):
        storage.fetch("s3://photos/1.jpg", Faulty(FileNotFoundError()))


def test_fault_67_a_store_that_does_not_answer_is_no_row_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    store = pytest.importorskip("fsspec").filesystem("memory")
    store.pipe_file("/busy/1.png", b"x")
    (rows,) = list_photos("memory://busy")
    monkeypatch.setattr(storage.time, "sleep", lambda _: None)
    monkeypatch.setattr(type(store), "cat_file", lambda *_, **__: (_ for _ in ()).throw(OSError("503")))
    with pytest.raises(InputUnavailable, match="503"):
        list(read_photos(rows))


@pytest.mark.slow
def test_fault_68_many_damaged_photos(model: Path, photos: Path, tmp_path: Path, table: Rows) -> None:

    shutil.copytree(photos, tmp_path / "new")
    for path in sorted((tmp_path / "new").rglob("*.png"))[::2]:
        path.write_bytes(b"no photo")
    with pytest.raises(TooManyErrors, match=r"are unreadable, more than 10\.0 %"):
        label_images(model, tmp_path / "new", tmp_path / "labels", **OPTIONS)
    done = label_images(model, tmp_path / "new", tmp_path / "labels", **OPTIONS, max_error_rate=0.6)
    assert (done.n_images, done.n_errors) == (150, 75)
    assert sum(row["error"] is not None for row in table(tmp_path / "labels")) == 75


def test_fault_68_no_photo_is_readable(model: Path, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "a.png").write_bytes(b"no photo")
    with pytest.raises(NothingReadable, match=r"none of 1 image could be read; the first: .*a\.png"):
        label_images(model, tmp_path / "new", tmp_path / "labels", workers=1)


@pytest.mark.slow
def test_fault_68_a_photo_that_ends_the_worker_is_found_and_excluded(
    model: Path, photos: Path, tmp_path: Path, table: Rows, in_workers: Callable[[str], None]
) -> None:

    shutil.copytree(photos / "green", tmp_path / "new")
    for name in ("110.png", "140.png"):
        Image.fromarray(np.zeros((48, 40, 3), np.uint8)).save(tmp_path / "new" / name)
    in_workers("(prepared.reshape(len(prepared), -1).max(axis=1) == 0).any() and os.kill(os.getpid(), 11)")
    with pytest.warns(TipAdapterWarning, match="killed by signal 11"):
        done = label_images(model, tmp_path / "new", tmp_path / "labels", workers=1)
    assert (done.n_images, done.n_errors) == (50, 2)
    assert [row["error"] for row in table(tmp_path / "labels") if row["error"]] == [
        "cannot use 110.png: it ends the program that reads it",
        "cannot use 140.png: it ends the program that reads it",
    ]


@pytest.mark.slow
def test_fault_68_workers_that_always_die_stop_the_job(
    model: Path, photos: Path, tmp_path: Path, in_workers: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    in_workers("os._exit(3)")
    monkeypatch.setattr(lanes, "_MOST_EXCLUDED", 1)
    with (
        pytest.warns(TipAdapterWarning, match="the part is begun again"),
        pytest.raises(
            JobStopped, match=r"a worker of part 0 died at row 0 \(ended with status 3\), as others did before"
        ),
    ):
        label_images(model, photos / "green", tmp_path / "labels", workers=1)
    assert finished_files(tmp_path / "labels") == []


@pytest.mark.parametrize(
    "message", ["CUDA out of memory. Tried to allocate 2 GiB", "Failed to allocate memory for requested buffer"]
)
def test_fault_69_a_batch_that_does_not_fit_is_halved(message: str, photos: Path) -> None:
    images = sorted((photos / "green").iterdir())[:20]
    encoder = load_encoder("toy")
    wanted = encode.encode_photos(images, encoder).vectors
    real, sizes = encoder.encode_prepared, []

    def small(prepared: Any) -> Any:
        sizes.append(len(prepared))
        if len(prepared) > 6:
            raise RuntimeError(message)
        return real(prepared)

    encoder.encode_prepared = small  # type: ignore[method-assign]
    np.testing.assert_array_equal(encode.encode_photos(images, encoder).vectors, wanted)
    assert sizes == [20, 10, 5, 5, 10, 5, 5]


def test_fault_69_other_errors_of_an_encoder_are_not_tried_again(photos: Path) -> None:
    encoder = load_encoder("toy")
    encoder.encode_prepared = lambda _: (_ for _ in ()).throw(RuntimeError("wrong driver"))  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="wrong driver"):
        encode.encode_photos(sorted((photos / "green").iterdir())[:4], encoder)


@linux
@pytest.mark.slow
def test_fault_70_a_full_disk_stops_the_job_and_leaves_no_half_of_a_part(
    model: Path, photos: Path, tmp_path: Path, digests: Digests
) -> None:
    label = [sys.executable, "-m", "tip_adapter", "label", model, photos, "--workers", "1", "--vectors", "--out"]
    command = " ".join(map(str, [*label, tmp_path / "labels"]))
    # The plan has room, a part with vectors has not.
    full = subprocess.run(["bash", "-c", f"ulimit -f 8; {command}"], capture_output=True, text=True, check=False)
    assert full.returncode == 1
    assert re.search(
        r"error: cannot write \S*labels.parquet: File too large; free space or choose another", full.stderr
    )
    assert [path.name for path in (tmp_path / "labels").iterdir() if path.is_file()] == ["plan.parquet"]
    assert not list((tmp_path / "labels").rglob(MANIFEST))
    subprocess.run(["bash", "-c", command], check=True, capture_output=True)
    label_images(model, photos, tmp_path / "undisturbed", workers=1, vectors=True)
    assert digests(tmp_path / "labels") == digests(tmp_path / "undisturbed")


@pytest.mark.slow
def test_fault_71_a_model_that_is_replaced_during_the_job(
    model: Path, other_model: Path, photos: Path, tmp_path: Path
) -> None:

    shutil.copytree(model, tmp_path / "model")
    label_images(tmp_path / "model", photos, tmp_path / "labels", **OPTIONS)
    manifest = PartManifest.read(sorted((tmp_path / "labels").glob("part-*"))[0])
    assert manifest is not None
    shutil.rmtree(tmp_path / "model")
    shutil.copytree(other_model, tmp_path / "model")
    job = Job("label", str(tmp_path / "labels"), str(tmp_path / "model"), manifest.model, manifest.encoder)
    with pytest.raises(ModelFolderError, match="was replaced by another model after the job had begun"):
        PartRunner.load(job)
    worker = local.WorkerProcess(job)
    with pytest.raises(ModelFolderError, match="was replaced by another model"):
        worker.wait_until_ready()
    worker.close()


def test_fault_73_a_finished_job_does_nothing(
    model: Path, photos: Path, undisturbed: Path, digests: Digests, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = digests(undisturbed)
    times = {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*")}
    monkeypatch.setattr(local, "WorkerProcess", pytest.fail)
    monkeypatch.setattr(inputs, "find_images", pytest.fail)
    done = label_images(model, photos, undisturbed, **OPTIONS)
    assert (done.n_images, done.n_errors, done.n_parts, done.n_labelled) == (150, 1, 5, 0)
    assert digests(undisturbed) == before
    assert {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*")} == times
