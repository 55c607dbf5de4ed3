"""`--engine ray`: the bytes of the local engine, whatever dies. Each test is a program with a cluster of its own on this machine."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from tip_adapter.distributed.job import label_images

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Digests = Callable[[Path], dict[str, str]]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install ray"),
]

#: What a program begins with.
BEGIN = """
import os, sys, threading, time, random, signal
from pathlib import Path
import ray
from tip_adapter.distributed.job import label_images
from tip_adapter.errors import TipAdapterError

def processes(name):
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().decode(errors="replace")
            if command.startswith(name) and MARK.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            pass
    return found

model, photos, out = sys.argv[1:4]
MARK = f"TEST_OF={out}"
options = {"engine": "ray", "part_rows": 32}
"""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, model: Path, photos: Path) -> Path:
    """The labels by the local engine."""
    out = tmp_path_factory.mktemp("undisturbed") / "labels"
    label_images(model, photos, out, part_rows=32, workers=1)
    return out


def started(body: str, model: Path, photos: Path, out: Path) -> subprocess.Popen[str]:
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "RAY_USAGE_STATS_ENABLED": "0",
        "TEST_OF": str(out),
    }
    return subprocess.Popen(
        [sys.executable, "-c", BEGIN + textwrap.dedent(body), model, photos, out],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def finished(body: str, model: Path, photos: Path, out: Path) -> str:
    """The last line that a program prints; it must succeed."""
    program = started(body, model, photos, out)
    printed, err = program.communicate(timeout=400)
    assert program.returncode == 0, err
    return printed.rstrip().rpartition("\n")[2]


def test_fault_74_ray_writes_the_bytes_of_the_local_engine(
    model: Path, photos: Path, tmp_path: Path, undisturbed: Path, digests: Digests
) -> None:
    printed = finished(
        "print(label_images(model, photos, out, **options).n_images)", model, photos, tmp_path / "labels"
    )
    assert printed.split() == ["150"]
    assert digests(tmp_path / "labels") == digests(undisturbed)


def test_fault_63_actors_are_killed(
    model: Path, photos: Path, tmp_path: Path, undisturbed: Path, digests: Digests
) -> None:
    body = """
    ray.init(address="local", num_cpus=3, include_dashboard=False, log_to_driver=False)
    killed = []
    def kill():
        while len(killed) < 3:
            time.sleep(random.uniform(1, 3))
            for pid in processes("ray::_Actor")[:1]:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
    threading.Thread(target=kill, daemon=True).start()
    done = label_images(model, photos, out, **options)
    print(done.n_images, len(killed) > 0)
    """
    assert finished(body, model, photos, tmp_path / "labels").split() == ["150", "True"]
    assert digests(tmp_path / "labels") == digests(undisturbed)


def test_fault_63_a_node_is_lost(
    model: Path, photos: Path, tmp_path: Path, undisturbed: Path, digests: Digests
) -> None:
    body = """
    from ray.cluster_utils import Cluster
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    lost = cluster.add_node(num_cpus=2)
    ray.init(address=cluster.address, log_to_driver=False)
    threading.Timer(4, lambda: cluster.remove_node(lost, allow_graceful=False)).start()
    print(label_images(model, photos, out, workers=3, **options).n_images)
    """
    assert finished(body, model, photos, tmp_path / "labels").split() == ["150"]
    assert digests(tmp_path / "labels") == digests(undisturbed)


def test_fault_62_the_driver_of_a_cluster_is_killed(
    model: Path, photos: Path, tmp_path: Path, undisturbed: Path, digests: Digests
) -> None:
    program = started("label_images(model, photos, out, **options)", model, photos, tmp_path / "labels")
    with pytest.raises(subprocess.TimeoutExpired):
        program.wait(timeout=8)
    program.kill()
    program.communicate()
    finished("label_images(model, photos, out, **options)", model, photos, tmp_path / "labels")
    assert digests(tmp_path / "labels") == digests(undisturbed)


def test_fault_72_a_cluster_of_one_processor_is_an_error(model: Path, photos: Path, tmp_path: Path) -> None:
    body = """
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        label_images(model, photos, out, **options)
    except TipAdapterError as error:
        print(error)
    """
    printed = finished(body, model, photos, tmp_path / "labels")
    assert "Ray has 1 processor here; it needs two" in printed


def test_an_error_of_a_task_is_the_error_of_the_job(model: Path, photos: Path, tmp_path: Path) -> None:
    body = """
    import shutil
    shutil.copytree(photos, out + "-new")
    label_images(model, out + "-new", out, part_rows=32, workers=1)
    shutil.rmtree(next(iter(sorted(Path(out).glob("part-*")))))
    first = sorted(Path(out + "-new").rglob("*.png"))[0]
    first.write_bytes(first.read_bytes() + b" ")
    try:
        label_images(model, out + "-new", out, **options)
    except TipAdapterError as error:
        print(error.code)
    """
    assert finished(body, model, photos, tmp_path / "labels").split() == ["input_changed"]
