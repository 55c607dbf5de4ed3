"""The web service under load, and how long a photo takes to be learned.

    python -m benchmarks.serving --data-root DATA [--photos N] [--requests N]

DATA as in benchmarks.caltech101. Requests come from another process on loopback; the encoder alone, the service and a service without
common batches are measured in turns.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import insert, update

from benchmarks.record import write_results
from tip_adapter import FewShotClassifier, SupportSet, load_encoder
from tip_adapter.features.encode import encode_photos
from tip_adapter.serve import database as tables
from tip_adapter.serve.batching import EncodedPhoto, PhotoQueue
from tip_adapter.serve.database import Database, sqlite_url
from tip_adapter.serve.projects import Projects
from tip_adapter.serve.settings import Limits

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CLIENTS = 16
TURNS = 4
#: Photos and classes of a project that is given one photo more.
STEPS = ((1_000, 10), (10_000, 10), (10_000, 100))
_UNBATCHED = "import tip_adapter.serve.batching as b; b.BATCH = 1; import tip_adapter.cli; tip_adapter.cli.main()"
#: What one writes first: `predict` in a function of FastAPI, which runs it in a thread for each request.
_PLAIN = """
import socket, sys, uvicorn
from fastapi import FastAPI, UploadFile
from tip_adapter import FewShotClassifier
model, app = FewShotClassifier.load(sys.argv[1]), FastAPI()
@app.post("/v1/classify")
def classify(images: list[UploadFile]):
    return [str(label) for label in model.predict([image.file.read() for image in images])]
bound = socket.create_server(("127.0.0.1", 0))
print(f"is served at http://127.0.0.1:{bound.getsockname()[1]}", file=sys.stderr, flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="error")).run([bound])
"""
#: The load: a program of its own, which prints the seconds of each request and of all.
_LOAD = """
import json, sys, time, httpx
from concurrent.futures import ThreadPoolExecutor
url, clients, requests, *paths = sys.argv[1:]
photos = [open(path, "rb").read() for path in paths]
client = httpx.Client(timeout=120, limits=httpx.Limits(max_connections=int(clients)))
def ask(n):
    started = time.perf_counter()
    answer = client.post(url + "/v1/classify", files={"images": photos[n % len(photos)]})
    return answer.status_code, time.perf_counter() - started
with ThreadPoolExecutor(int(clients)) as pool:
    list(pool.map(ask, range(2 * int(clients))))
    started = time.perf_counter()
    answers = list(pool.map(ask, range(int(requests))))
    print(json.dumps({"seconds": time.perf_counter() - started, "failed": sum(s != 200 for s, _ in answers), "each": [t for _, t in answers]}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--photos", type=int, default=160)
    parser.add_argument("--requests", type=int, default=800)
    given = parser.parse_args()
    folder = next((given.data_root / "caltech-101").rglob("101_ObjectCategories"))
    photos = sorted(folder.glob("*/image_00*.jpg"))[:: max(1, 2000 // given.photos)][: given.photos]
    results = {
        "n_photos": len(photos),
        "n_requests": given.requests,
        "clients": CLIENTS,
        "classify": measure_classify(photos, given.requests),
        "turns": TURNS,
        "steps": [measure_step(n, n_classes) for n, n_classes in STEPS],
    }
    command = f"python -m benchmarks.serving --data-root $TIP_ADAPTER_DATA --photos {given.photos} --requests {given.requests}"
    write_results("serving", command, results)


def measure_classify(photos: Sequence[Path], requests: int) -> dict[str, Any]:
    """Photos per second of the encoder alone, of the service with 16 clients, and of one that encodes photos one by one.

    They are measured in turns, so that whatever else the machine does meets all of them; the best turn of each counts.
    """
    encoder = load_encoder("pocket")
    contents = [path.read_bytes() for path in photos]
    best: dict[str, dict[str, Any]] = {"encoder_alone": {"photos_per_second": 0.0}}
    with tempfile.TemporaryDirectory() as place, ExitStack() as services:
        model = Path(place) / "model"
        labels = [path.parent.name for path in photos]
        FewShotClassifier(encoder=encoder).fit(contents[:40], labels[:40]).save(model)
        programs = {
            "batched": ["-m", "tip_adapter", "serve", str(model), "--port", "0"],
            "unbatched": ["-c", _UNBATCHED, "serve", str(model), "--port", "0"],
            "plain": ["-c", _PLAIN, str(model)],
        }
        running = {name: services.enter_context(service(*program)) for name, program in programs.items()}
        memory = {name: resident_mib(process.pid) for name, (process, _) in running.items()}
        for _ in range(TURNS):
            started = time.perf_counter()
            encode_photos(contents, encoder)
            alone = {"photos_per_second": len(contents) / (time.perf_counter() - started)}
            best["encoder_alone"] = faster(best["encoder_alone"], alone)
            for name, (process, url) in running.items():
                load = [sys.executable, "-c", _LOAD, url, str(CLIENTS), str(requests // TURNS), *map(str, photos)]
                done = json.loads(subprocess.run(load, capture_output=True, check=True, text=True).stdout)
                turn = {
                    "photos_per_second": len(done["each"]) / done["seconds"],
                    "median_ms": 1000 * float(np.median(done["each"])),
                    "failed": done["failed"] + best.get(name, {"failed": 0})["failed"],
                    "mib_more": [
                        *best.get(name, {"mib_more": []})["mib_more"],
                        resident_mib(process.pid) - memory[name],
                    ],
                }
                best[name] = {
                    **faster(best.get(name, turn), turn),
                    "failed": turn["failed"],
                    "mib_more": turn["mib_more"],
                }
    return best


def faster(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The turn with more photos a second."""
    return max(one, other, key=lambda turn: float(turn["photos_per_second"]))


@contextmanager
def service(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A program that serves on a free port, and its address."""
    with subprocess.Popen([sys.executable, *arguments], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        found = next(re.search(r"is served at (\S+)", line) for line in process.stderr if "served at" in line)
        assert found
        yield process, found[1]
        process.terminate()


def resident_mib(pid: int) -> float:
    """Resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024


def measure_step(n: int, n_classes: int, repeats: int = 20) -> dict[str, Any]:
    """From an encoded photo to answers that count it: stored, learned at once, one photo predicted; and what follows in the background."""
    encoder = load_encoder("pocket")
    width, rng = encoder.identity.width, np.random.default_rng(0)
    centers = rng.normal(size=(n_classes, width))

    def vectors(labels: Any) -> Any:
        rows = centers[labels] + 1.5 * rng.normal(size=(len(labels), width))
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    with tempfile.TemporaryDirectory() as folder:
        projects = Projects(Database(sqlite_url(Path(folder))), PhotoQueue(encoder, Limits()))
        p, ids, labels = str(uuid.uuid4()), [str(uuid.uuid4()) for _ in range(n_classes)], rng.integers(0, n_classes, n)
        projects.put(p, "measured")
        rows = vectors(labels)
        add_rows(projects.database, p, ids, labels, rows)
        choose_on_some(projects, p, labels[: 10 * n_classes], rows[: 10 * n_classes])
        project = projects.get(p)
        steps = []
        (query,) = vectors(np.array([0]))
        for label in rng.integers(0, n_classes, repeats).tolist():
            photo = EncodedPhoto(vectors(np.array([label]))[0], uuid.uuid4().hex * 2, b"\xff\xd8\xff" + bytes(4000))
            started = time.perf_counter()
            project.add_example(str(uuid.uuid4()), ids[label], "a.jpg", photo)
            project.state.answering_head().answers(query[None], 5, 0.0)
            steps.append(1000 * (time.perf_counter() - started))
        queries = vectors(np.arange(200) % n_classes)
        at_once = project.state.answering_head().probabilities(queries)
        started = time.perf_counter()
        project.settle(tune=False)
        fit_seconds = time.perf_counter() - started
        fitted = project.state.answering_head().probabilities(queries)
        projects.database.close()
    return {
        "n": n,
        "n_classes": n_classes,
        "median_ms": float(np.median(steps)),
        "slowest_ms": max(steps),
        "fit_seconds": fit_seconds,
        "largest_difference": float(np.abs(at_once - fitted).max()),
    }


def choose_on_some(projects: Projects, p: str, labels: Any, vectors: Any) -> None:
    """Store settings that are chosen on some photos, so that opening the project need not choose them on all."""
    named = np.array([f"thing {label}" for label in labels.tolist()])
    names = {name: name for name in named.tolist()}
    some = SupportSet(vectors, named, np.arange(len(named)).astype(str))
    tuned = projects.learner.fit(projects.learner.training_data(names, frozenset(), some)).tuned
    with projects.database.begin() as connection:
        chosen = update(tables.projects).where(tables.projects.c.id == p)
        connection.execute(chosen.values(settings=tuned.to_record()))


def add_rows(database: Database, p: str, ids: Sequence[str], labels: Any, vectors: Any) -> None:
    """Classes and photos as a service would have stored them."""
    flags = {"enabled": True, "is_none": False, "deleted": False}
    classes = [
        {"project_id": p, "id": c, "number": n, "label": f"thing {n}", "name": f"thing {n}", **flags}
        for n, c in enumerate(ids)
    ]
    photos = [
        {
            "project_id": p,
            "id": str(uuid.uuid4()),
            "number": n,
            "origin": "upload",
            "filename": "",
            "added": 0.0,
            "digest": f"{n:064x}",
            "class_id": ids[label],
            "deleted": False,
            "vector": vectors[n].tobytes(),
            "thumbnail": bytes(4000),
        }
        for n, label in enumerate(labels.tolist())
    ]
    with database.begin() as connection:
        connection.execute(insert(tables.classes), classes)
        connection.execute(insert(tables.photos), photos)


if __name__ == "__main__":
    main()
