"""`--engine ray`: the bytes of the local engine, whatever dies. Programs of their own label on one cluster on this machine."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import textwrap
import time
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from tip_adapter.distributed import cluster
from tip_adapter.distributed.core import Labeller
from tip_adapter.distributed.job import label_images
from tip_adapter.distributed.manifests import Job
from tip_adapter.errors import ModelFolderError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Digests = Callable[[Path], dict[str, str]]
    #: program(body, source, out): start it.
    Program = Callable[[str, Path, Path], subprocess.Popen[str]]

# One group: two clusters at once would need more than two processors.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("ray"),
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install ray"),
]

#: Further kills of a driver at random moments.
KILLS = 30 if "TIP_ADAPTER_SOAK" in os.environ else 0
#: Ray runs what it starts at a low priority, so that nothing else would let the tests end.
ENVIRONMENT = {"PYTHONPATH": os.pathsep.join(sys.path), "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
#: A cluster of two nodes; each line that it reads is run, so that a test can add a node and remove it.
CLUSTER = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
cluster.add_node(num_cpus=1)
print(cluster.address, flush=True)
for line in sys.stdin:
    exec(line)
    print("done", flush=True)
cluster.shutdown()
"""
#: What a program begins with; `change` runs in every process that Ray starts for it.
BEGIN = """
import os, random, signal, sys, threading, time
from pathlib import Path
import ray
from tip_adapter.distributed.job import label_images
from tip_adapter.errors import TipAdapterError

model, photos, out, address = sys.argv[1:]
options = {"engine": "ray", "part_rows": 32, "workers": 2}

def connect(change=None):
    changed = {"worker_process_setup_hook": change} if change else {}
    environment = {"OPENBLAS_NUM_THREADS": "1", "TEST_OF": out}
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    ray.init(address=address, runtime_env={"env_vars": environment, **changed}, **quiet)

def actors():
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command, environment = ((folder / name).read_bytes() for name in ("cmdline", "environ"))
            if command.startswith(b"ray::_Actor") and f"TEST_OF={out}".encode() in environment:
                found.append(int(folder.name))
        except OSError:
            pass
    return found
"""
#: A `change`: actors take half a second more for each batch.
SLOW = """
def change():
    import time
    from tip_adapter.encoders.toy import ToyEncoder
    encode = ToyEncoder.encode_prepared
    ToyEncoder.encode_prepared = lambda self, prepared: (time.sleep(0.5), encode(self, prepared))[1]
"""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, model: Path, photos: Path) -> Path:
    """The labels by the local engine."""
    out = tmp_path_factory.mktemp("undisturbed") / "labels"
    label_images(model, photos, out, part_rows=32, workers=1)
    return out


@pytest.fixture(scope="module")
def nodes() -> Iterator[tuple[str, Callable[[str], None]]]:
    """The address of a cluster, and what runs a line in its program."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, "-c", CLUSTER], text=True, env=os.environ | ENVIRONMENT, **pipes) as program:  # type: ignore[call-overload]
        address = program.stdout.readline().strip()

        def run(line: str) -> None:
            program.stdin.write(line + "\n")
            program.stdin.flush()
            assert program.stdout.readline() == "done\n"

        assert address
        yield address, run
        program.stdin.close()


@pytest.fixture
def program(nodes: tuple[str, Callable[[str], None]], model: Path) -> Iterator[Program]:
    started: list[subprocess.Popen[str]] = []

    def start(body: str, source: Path, out: Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", BEGIN + textwrap.dedent(body), *map(str, (model, source, out)), nodes[0]]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        started.append(subprocess.Popen(command, text=True, env=os.environ | ENVIRONMENT, **pipes))  # type: ignore[call-overload]
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def answer(program: subprocess.Popen[str]) -> str:
    """What a program that succeeds answers: Ray prints, too."""
    shown, err = program.communicate(timeout=400)
    assert program.returncode == 0, err
    return next(line.removeprefix("answer: ") for line in shown.splitlines() if line.startswith("answer: "))


def wait_for(pattern: str, out: Path, program: subprocess.Popen[str]) -> None:
    """Wait until something in `out` has such a name."""
    deadline = time.monotonic() + 300
    while not list(out.glob(pattern)):
        assert program.poll() is None, program.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_fault_74_ray_writes_the_bytes_of_the_local_engine(
    program: Program, photos: Path, tmp_path: Path, undisturbed: Path, digests: Digests
) -> None:
    body = """
    from tip_adapter.__main__ import main
    given = ["--engine", "ray", "--address", address, "--workers", "2", "--part-rows", "32", "--json"]
    sys.argv = ["tip-adapter", "label", model, photos, "--out", out, *given]
    sys.exit(main())
    """
    shown, err = program(body, photos, tmp_path / "labels").communicate(timeout=400)
    assert json.loads(shown)["n_images"] == 150, err
    assert digests(tmp_path / "labels") == digests(undisturbed)


def test_fault_63_actors_are_killed_at_any_time_before_the_manifest_and_half_way_through_it(
    program: Program, photos: Path, tmp_path: Path, undisturbed: Path, digests: Digests
) -> None:
    body = """
    def change():
        import os, signal
        from pathlib import Path
        from tip_adapter.distributed import parts
        write = parts.write_file
        def killed(path, content):
            for name, n_bytes in (("before", None), ("half", len(content) // 2)):
                try:
                    Path(os.environ["TEST_OF"] + "-" + name).open("x").close()
                except FileExistsError:
                    continue
                if n_bytes is not None:
                    path.write_bytes(content[:n_bytes])
                os.kill(os.getpid(), signal.SIGKILL)
            write(path, content)
        parts.write_file = killed
    connect(change)
    def kill():
        while not (running := actors()):
            time.sleep(random.uniform(0, 3))
        os.kill(running[0], signal.SIGKILL)
    threading.Thread(target=kill, daemon=True).start()
    print("answer:", label_images(model, photos, out, **options).n_images)
    """
    assert answer(program(body, photos, tmp_path / "labels")) == "150"
    assert (tmp_path / "labels-half").exists()
    assert digests(tmp_path / "labels") == digests(undisturbed)


def test_fault_63_a_node_is_lost(
    program: Program,
    nodes: tuple[str, Callable[[str], None]],
    photos: Path,
    tmp_path: Path,
    undisturbed: Path,
    digests: Digests,
) -> None:
    _, run = nodes
    run("lost = cluster.add_node(num_cpus=1)")
    body = f"{SLOW}\nconnect(change)\noptions['workers'] = 3\nprint('answer:', label_images(model, photos, out, **options).n_images)"
    labelling = program(body, photos, tmp_path / "labels")
    wait_for("part-*", tmp_path / "labels", labelling)
    run("cluster.remove_node(lost, allow_graceful=False)")
    assert answer(labelling) == "150"
    assert digests(tmp_path / "labels") == digests(undisturbed)


def test_fault_63_the_node_of_the_driver_is_lost(program: Program, photos: Path, tmp_path: Path) -> None:
    body = """
    def change():
        import time
        from tip_adapter.encoders.toy import ToyEncoder
        ToyEncoder.encode_prepared = lambda *_: time.sleep(500)
    address = "local"
    connect(change)
    def kill():
        while not list(Path(out).glob(".tip-adapter-*")):
            time.sleep(0.2)
        for folder in Path("/proc").glob("[0-9]*"):
            name, _, status = (folder / "stat").read_text().rpartition(")")
            if "raylet" in name and int(status.split()[1]) == os.getpid():
                os.kill(int(folder.name), signal.SIGKILL)
    threading.Thread(target=kill, daemon=True).start()
    try:
        label_images(model, photos, out, **options)
    except TipAdapterError as error:
        print("answer:", error)
    """
    assert answer(program(body, photos, tmp_path / "labels")).startswith("Ray has ended on this machine")


def test_fault_62_a_second_driver_is_refused_until_the_first_is_killed(
    program: Program, photos: Path, tmp_path: Path, undisturbed: Path, digests: Digests
) -> None:
    out = tmp_path / "labels"
    again = """
    try:
        print("answer:", label_images(model, photos, out, address=address, **options).n_images)
    except TipAdapterError as error:
        print("answer:", error.code)
    """
    first = program(f"{SLOW}\nconnect(change)\nlabel_images(model, photos, out, **options)", photos, out)
    wait_for("plan.parquet", out, first)
    assert answer(program(again, photos, out)) == "not_writable"
    wait_for("part-*", out, first)
    first.kill()
    first.communicate()
    for _ in range(KILLS):
        killed = program(again, photos, out)
        time.sleep(random.uniform(0, 15))
        killed.kill()
        killed.communicate()
    assert answer(program(again, photos, out)) == "150"
    assert digests(out) == digests(undisturbed)


def test_fault_68_a_photo_that_ends_an_actor_is_found_and_excluded(
    program: Program, photos: Path, tmp_path: Path, table: Callable[[Path], list[dict[str, str]]]
) -> None:
    (tmp_path / "new").mkdir()
    shutil.copy(photos / "green" / "100.png", tmp_path / "new")
    Image.new("RGB", (40, 48)).save(tmp_path / "new" / "101.png")
    body = """
    def change():
        import ctypes
        from tip_adapter.encoders.toy import ToyEncoder
        encode = ToyEncoder.encode_prepared
        def fatal(self, prepared):
            if (prepared.reshape(len(prepared), -1).max(axis=1) == 0).any():
                ctypes.string_at(0)
            return encode(self, prepared)
        ToyEncoder.encode_prepared = fatal
    connect(change)
    print("answer:", label_images(model, photos, out, max_error_rate=1, **options).n_errors)
    """
    assert answer(program(body, tmp_path / "new", tmp_path / "labels")) == "1"
    assert [row["error"] for row in table(tmp_path / "labels")] == [
        None,
        "cannot use 101.png: it ends the program that reads it",
    ]


def test_fault_70_a_full_disk_of_an_actor_and_fault_65_a_changed_photo_in_a_task(
    program: Program, photos: Path, tmp_path: Path
) -> None:
    shutil.copytree(photos / "green", tmp_path / "new")
    body = """
    def change():
        import os
        from tip_adapter.distributed import parts
        write = parts._write_labels
        def full(*given):
            if os.path.exists(os.environ["TEST_OF"] + "-is-full"):
                raise OSError(28, "No space left on device")
            return write(*given)
        parts._write_labels = full
    def refused():
        try:
            label_images(model, photos, out, **options)
        except TipAdapterError as error:
            return error
    connect(change)
    full = Path(out + "-is-full")
    full.touch()
    first, left = refused(), os.listdir(out)
    full.unlink()
    photo = sorted(Path(photos).rglob("*.png"))[-1]
    photo.write_bytes(photo.read_bytes() + b" ")
    print("answer:", first, *left, refused().code)
    """
    assert re.fullmatch(
        r"cannot write \S+labels.parquet: No space left on device; free space or choose another place plan.parquet input_changed",
        answer(program(body, tmp_path / "new", tmp_path / "labels")),
    )


def test_fault_71_a_task_refuses_another_model_than_the_job_began_with(
    model: Path, other_model: Path, tmp_path: Path
) -> None:
    labeller = Labeller.load(model)
    job = Job("label", str(tmp_path), str(other_model), labeller.model, labeller.encoder.identity.fingerprint)
    with pytest.raises(ModelFolderError, match="was replaced by another model after the job had begun"):
        cluster._encoder(job)


class SmallCluster:
    """A connection to a Ray of one processor, or of sixteen and a GPU."""

    def __init__(self, **resources: float) -> None:
        self.resources = resources

    def is_initialized(self) -> bool:
        return True

    def cluster_resources(self) -> dict[str, float]:
        return self.resources


@pytest.mark.parametrize(
    ("resources", "workers", "device", "message"),
    [
        ({"CPU": 1.0}, None, None, "Ray has 1 processor here; it needs two"),
        ({}, None, None, "Ray has 0 processors here; it needs two"),
        ({"CPU": 2.0}, None, "cuda", "Ray has 0 GPUs here, and 1 worker of the device cuda need one each"),
        (
            {"CPU": 16.0, "GPU": 1.0},
            2,
            "cuda:0",
            "Ray has 1 GPU here, and 2 workers of the device cuda:0 need one each",
        ),
    ],
)
def test_fault_72_a_cluster_that_is_too_small_is_an_error(
    resources: dict[str, float], workers: int | None, device: str | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "load_ray", lambda: SmallCluster(**resources))
    with pytest.raises(UsageError, match=message), cluster.connected(None, workers, device):
        pass


@pytest.mark.parametrize(("workers", "device", "actors"), [(None, None, 8), (None, "cuda", 1), (3, "cpu", 3)])
def test_an_actor_for_each_gpu_or_every_two_processors(
    workers: int | None, device: str | None, actors: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "load_ray", lambda: SmallCluster(CPU=16.0, GPU=1.0))
    with cluster.connected(None, workers, device) as n_actors:
        assert n_actors == actors


@pytest.mark.parametrize("address", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "127.0.0.1:99999", "no such host:6379"])
def test_an_address_where_no_cluster_listens_is_a_usage_error(
    address: str, model: Path, photos: Path, tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        given = address.format(free.getsockname()[1])
        with pytest.raises(UsageError, match=f"no Ray answers at {re.escape(given)}: "):
            label_images(model, photos, tmp_path / "labels", engine="ray", address=given)
