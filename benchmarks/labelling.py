"""Labels of very many images: interruptions, planning, resuming, workers, and what a row costs besides its encoder.

    python -m benchmarks.labelling --images 50000

With Ray installed, that engine is measured as well. Needs 100 MB of disk for 10,000 images.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from PIL import Image

from benchmarks.record import write_results
from tip_adapter import FewShotClassifier, load_encoder
from tip_adapter.distributed.core import Labeller, label_vectors
from tip_adapter.distributed.inputs import plan_schema
from tip_adapter.distributed.job import finished_files, label_images
from tip_adapter.distributed.manifests import LABELS, MANIFEST, Job, PartManifest
from tip_adapter.distributed.parts import write_part
from tip_adapter.distributed.plan import Plan, write_plan
from tip_adapter.images.decoding_pool import DecodingPool

if TYPE_CHECKING:
    from collections.abc import Iterator

COLOURS = {"red": (230, 30, 20), "green": (20, 220, 40), "blue": (30, 20, 230)}
PARTS = 5000
#: Images of the comparison of workers.
LARGE = 384


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--plan-rows", type=int, default=10_000_000, help="Rows of the synthetic plan.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        model, photos = make_model(root / "model", "toy"), make_photos(root / "photos", given.images)
        load = os.getloadavg()[0]
        results = {
            "images": given.images,
            "load": load,
            "workers": workers(model, root),
            "runs": runs(model, photos, root),
            "engines": engines(model, photos, root, given.images // 10),
            "plan": planning(model, root, given.plan_rows),
            "row": cost_of_a_row(model, root),
        }
    command = f"python -m benchmarks.labelling --images {given.images} --plan-rows {given.plan_rows}"
    write_results("labelling", command, results)


def make_model(folder: Path, encoder: str) -> Path:
    labels = [label for label in COLOURS for _ in range(4)]
    FewShotClassifier(encoder=encoder).fit([paint(label, n) for n, label in enumerate(labels)], labels).save(folder)
    return folder


def make_photos(folder: Path, n: int, size: int = 64) -> Path:
    """JPEG files in folders of a thousand; each a colour with noise."""
    for number in range(n):
        place = folder / f"{number // 1000:04d}"
        place.mkdir(parents=True, exist_ok=True)
        paint(list(COLOURS)[number % 3], number, size).save(place / f"{number:07d}.jpg")
    return folder


def paint(label: str, number: int, size: int = 64) -> Image.Image:
    """A colour with noise that repeats every 64 pixels."""
    noise = np.tile(np.random.default_rng(number).normal(0, 40, (64, 64, 3)), (size // 64, size // 64, 1))
    return Image.fromarray((np.array(COLOURS[label]) + noise).clip(0, 255).astype(np.uint8))


# ---- interruptions ---------------------------------------------------------------------------------------------------


def runs(model: Path, photos: Path, root: Path) -> list[dict[str, Any]]:
    """The same images: undisturbed, with a killed driver, with killed workers, on each engine; seconds, kills, equality."""
    found: list[dict[str, Any]] = []
    run(model, photos, root / "undisturbed", found, "undisturbed", [])
    undisturbed = digest_of(root / "undisturbed")
    ray = ["--engine", "ray"]
    on_ray = [
        ("Ray, undisturbed", ray, None),
        ("Ray, the driver is killed", ray, "driver"),
        ("Ray, actors and tasks are killed", ray, "worker"),
    ]
    for name, options, victim in [
        ("the driver is killed", [], "driver"),
        ("workers are killed", [], "worker"),
        *(on_ray if has_ray() else []),
    ]:
        out = root / name.replace(" ", "-")
        run(model, photos, out, found, name, options, victim)
        found[-1]["same"] = digest_of(out) == undisturbed
        shutil.rmtree(out)
    return found


def has_ray() -> bool:
    return importlib.util.find_spec("ray") is not None


def run(
    model: Path,
    photos: Path,
    out: Path,
    found: list[dict[str, Any]],
    name: str,
    options: list[str],
    victim: str | None = None,
) -> None:
    """Label with the program, again until it has ended by itself; kills the driver five times, or a worker every few seconds."""
    command = [
        sys.executable,
        "-m",
        "tip_adapter",
        "label",
        *map(str, (model, photos)),
        "--out",
        str(out),
        "-q",
        *options,
    ]
    rng, kills, started = random.Random(0), 0, time.perf_counter()
    while True:
        driver = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while driver.poll() is None:
            if victim is None or kills == 5:
                driver.wait()
                break
            time.sleep(rng.uniform(8, 16) if options else rng.uniform(4, 8))  # Ray takes longer to start
            pids = [driver.pid] if victim == "driver" else workers_of(driver.pid)
            if driver.poll() is None and pids:
                with suppress(ProcessLookupError):  # it has ended meanwhile
                    os.kill(rng.choice(pids), 9)
                    kills += 1
            if victim == "driver":
                driver.wait()
        if driver.returncode == 0:
            break
        if victim != "driver":
            raise SystemExit(f"{name}: the program failed")
    found.append({"name": name, "seconds": time.perf_counter() - started, "kills": kills})


def workers_of(driver: int) -> list[int]:
    """Its worker processes, or the actors and tasks that its Ray runs."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True)
    processes = [line.split(maxsplit=2) for line in listed.stdout.splitlines()]
    family = [driver]
    for parent in family:
        family += [int(pid) for pid, ppid, _ in processes if int(ppid) == parent]
    ours = ("tip_adapter.distributed.worker", "ray::_")
    return [int(pid) for pid, _, command in processes if int(pid) in family and any(name in command for name in ours)]


def digest_of(out: Path) -> str:
    """SHA-256 of the SHA-256 of every file."""
    files = sorted(path for path in out.rglob("*") if path.is_file())
    stated = [f"{path.relative_to(out)} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files]
    return hashlib.sha256("\n".join(stated).encode()).hexdigest()


# ---- workers ---------------------------------------------------------------------------------------------------------


def workers(model: Path, root: Path) -> dict[str, float]:
    """Images per second with one worker and with two, once all have begun, where decoding takes most of the time."""
    photos = make_photos(root / "large", LARGE, 1024)
    options = {"part_rows": 64}
    return {str(n): rate(model, photos, root / f"with-{n}", LARGE, workers=n, **options) for n in (1, 2)}


def rate(model: Path, photos: Path, out: Path, n_images: int, **options: Any) -> float:
    """Images per second after the first quarter."""
    reports: list[tuple[float, int]] = []
    label_images(model, photos, out, progress=partial(note_time, reports), **options)
    steady = [report for report in reports if report[1] >= n_images // 4]
    return (steady[-1][1] - steady[0][1]) / (steady[-1][0] - steady[0][0])


def note_time(reports: list[tuple[float, int]], done: int, _: int) -> None:
    reports.append((time.perf_counter(), done))


def engines(model: Path, photos: Path, root: Path, n_images: int) -> dict[str, Any]:
    """Of each engine with two workers: microseconds a row with the toy encoder, of which it takes `toy_microseconds`, and images
    per second with `pocket`; whether both engines wrote the same.
    """
    images = make_photos(root / "for-pocket", n_images, 256)
    pocket = make_model(root / "pocket", "pocket")
    n_toy = sum(1 for _ in photos.rglob("*.jpg"))
    found: dict[str, Any] = {"images_of_pocket": n_images}
    digests = set()
    for engine in ("local", *(["ray"] if has_ray() else [])):
        options = {"engine": engine, "workers": 2}
        out = root / f"pocket-on-{engine}"
        found[engine] = {
            "microseconds_per_row": 1e6 / rate(model, photos, root / f"toy-on-{engine}", n_toy, **options),
            "pocket_images_per_second": rate(pocket, images, out, n_images, part_rows=256, **options),
        }
        digests.add(digest_of(out))
    found["same"] = len(digests) == 1
    found["toy_microseconds"] = toy_microseconds()
    return found


def toy_microseconds() -> float:
    """What the toy encoder takes for a prepared image, in batches of 32."""
    encoder = load_encoder("toy")
    prepared = np.stack([encoder.prepare(paint("red", n)) for n in range(32)])
    started = time.perf_counter()
    for _ in range(100):
        encoder.encode_prepared(prepared)
    return 1e6 * (time.perf_counter() - started) / 3200


# ---- plans -----------------------------------------------------------------------------------------------------------


def planning(model: Path, root: Path, n_rows: int) -> dict[str, Any]:
    """Write a plan of 5,000 parts and their manifests, then run the finished job: seconds and peak memory."""
    out = root / "planned"
    out.mkdir()
    size = n_rows // PARTS
    head = FewShotClassifier.load(model)
    source = root / "synthetic"
    started = time.perf_counter()
    write_plan(out / "plan.parquet", str(source), synthetic(n_rows), size, repeat(size))
    planned = time.perf_counter() - started
    labeller = Labeller.load(model)
    job = Job("label", str(out), str(model), labeller.model, head.encoder_.identity.fingerprint)
    plan = Plan.read(out / "plan.parquet")
    for part, digest in enumerate(plan.header.digests):
        key = job.key(digest)
        folder = job.folder(part, key)
        folder.mkdir()
        (folder / LABELS).write_bytes(b"")
        manifest = PartManifest("label", part, key, size, 0, LABELS, 0, "0" * 64, job.model, job.encoder, vectors=False)
        (folder / MANIFEST).write_bytes(manifest.to_json())
    finished = timed_again(model, source, out, size)
    for folder in sorted(out.glob("part-*"))[::2]:
        shutil.rmtree(folder)
    resumed = timed_again(model, source, out, size)
    return {
        "rows": n_rows,
        "parts": PARTS,
        "microseconds_per_row": 1e6 * planned / n_rows,
        "bytes_per_row": (out / "plan.parquet").stat().st_size / n_rows,
        "planning_mebibytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "manifests_seconds": finished["manifests"],
        "rerun_seconds": finished["seconds"],
        "rerun_mebibytes": finished["mebibytes"],
        "resume_seconds": resumed["seconds"],
        "resume_mebibytes": resumed["mebibytes"],
    }


#: Runs a job up to the labelling itself. VmHWM, since ru_maxrss begins with the memory of the parent.
AGAIN = """
import json, re, sys, time
from pathlib import Path
from tip_adapter.distributed import job
started = time.perf_counter()
job.parts_at(Path(sys.argv[3]))
manifests = time.perf_counter() - started
job.run_parts = lambda *_, **__: None
started = time.perf_counter()
job.label_images(sys.argv[1], sys.argv[2], sys.argv[3], part_rows=int(sys.argv[4]))
seconds = time.perf_counter() - started
kibibytes = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
print(json.dumps({"manifests": manifests, "seconds": seconds, "mebibytes": kibibytes / 1024}))
"""


def timed_again(model: Path, source: Path, out: Path, size: int) -> dict[str, float]:
    """Another run of a planned job: seconds and peak memory, without what labels the parts that are not done."""
    command = [sys.executable, "-c", AGAIN, *map(str, (model, source, out, size))]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return dict(json.loads(printed))


def synthetic(n_rows: int) -> Iterator[pa.RecordBatch]:
    """Rows as those of photos in a store."""
    for start in range(0, n_rows, 4096):
        ids = [f"{row // 1000:07d}/{row:010d}.jpg" for row in range(start, min(start + 4096, n_rows))]
        uris = [f"s3://photos/{name}" for name in ids]
        columns = [ids, uris, [None] * len(ids), list(range(start, start + len(ids))), [f"{hash(i):x}" for i in ids]]
        yield pa.RecordBatch.from_pydict(dict(zip(plan_schema().names, columns, strict=True)), plan_schema())


def cost_of_a_row(model: Path, root: Path) -> dict[str, float]:
    """Microseconds: label and write a row whose vector is there; and the share of each processor's time that decoding takes."""
    labeller = Labeller.load(model)
    n, width = 65_536, labeller.encoder.identity.width
    vectors = np.random.default_rng(0).standard_normal((1024, width)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    names = [f"{row:04d}.jpg" for row in range(1024)]
    values = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), width)
    columns = [pa.array(names), pa.array(names), values, pa.array([None] * 1024, pa.string())]
    batch = pa.RecordBatch.from_arrays(columns, names=["id", "uri", "vector", "error"])
    job = Job("label", str(root / "rows"), str(model), labeller.model, labeller.encoder.identity.fingerprint)
    started = time.perf_counter()
    write_part(job, 0, "0" * 64, label_vectors(repeat(batch, n // 1024), labeller), labeller.schema)
    seconds = time.perf_counter() - started
    assert len(finished_files(root / "rows")) == 1
    content = next((root / "large").rglob("*.jpg")).read_bytes()
    with DecodingPool() as processes:
        processes.decode(content)
        started = time.perf_counter()
        for _ in range(20):
            processes.decode(content)
    return {"label_and_write": 1e6 * seconds / n, "decode": 1e6 * (time.perf_counter() - started) / 20}


if __name__ == "__main__":
    main()
