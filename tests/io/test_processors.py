"""The number of processors: affinity and the quotas of control groups."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_info, threadpool_limits

from tip_adapter.io import processors
from tip_adapter.io.processors import available_processors, one_blas_thread, within_quota

if TYPE_CHECKING:
    from pathlib import Path

V2 = "0::/\n"


def group(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("_dot_", ".")).write_text(content)


def v2(folder: Path, limit: str) -> None:
    group(folder, cpu_dot_max=f"{limit}\n")


def v1(folder: Path, quota: int, period: int = 100_000) -> None:
    group(folder, cpu_dot_cfs_quota_us=f"{quota}\n", cpu_dot_cfs_period_us=f"{period}\n")


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("50000 100000", 1),
        ("1000 100000", 1),
        ("1600000 100000", 8),
        ("50000 25000", 2),
        ("100000", 8),
        ("", 8),
        ("many 100000", 8),
        ("100000 0", 8),
    ],
)
def test_a_quota_of_version_2_is_rounded_up(tmp_path: Path, limit: str, expected: int) -> None:
    v2(tmp_path, limit)
    assert within_quota(8, V2, tmp_path) == expected


def test_a_group_above_limits_its_groups(tmp_path: Path) -> None:
    v2(tmp_path / "user.slice" / "job", "max 100000")
    v2(tmp_path / "user.slice", "300000 100000")
    assert within_quota(8, "0::/user.slice/job\n", tmp_path) == 3
    assert within_quota(8, "0::/other.slice\n", tmp_path) == 8
    v2(tmp_path / "user.slice" / "job", "100000 100000")
    assert within_quota(8, "0::/user.slice/job\n", tmp_path) == 1


@pytest.mark.parametrize("controllers", ["cpu", "cpu,cpuacct"])
@pytest.mark.parametrize("path", ["/", "/docker/0123"])
def test_a_quota_of_version_1(tmp_path: Path, controllers: str, path: str) -> None:
    groups = f"5:memory:/a\n4:{controllers}:{path}\n1:name=systemd:/\n0::/\n"
    v1(tmp_path / controllers, -1)
    assert within_quota(8, groups, tmp_path) == 8
    v1(tmp_path / controllers / path.strip("/"), 250_000)
    assert within_quota(8, groups, tmp_path) == 3


def test_a_container_that_does_not_see_the_path_of_its_group_has_it_mounted(tmp_path: Path) -> None:
    v1(tmp_path / "cpu,cpuacct", 200_000)
    assert within_quota(8, "4:cpu,cpuacct:/docker/0123\n", tmp_path) == 2


def test_a_path_above_the_mounted_group_is_not_left(tmp_path: Path) -> None:
    v2(tmp_path, "100000 100000")
    v2(tmp_path / "mounted", "200000 100000")
    assert within_quota(8, "0::/../..\n", tmp_path / "mounted") == 2


def test_other_controllers_limit_nothing(tmp_path: Path) -> None:
    v1(tmp_path / "cpuset", 100_000)
    assert within_quota(8, "4:cpuset:/\n3:cpuacct:/\n", tmp_path) == 8


@given(groups=st.text(), allowed=st.integers(1, 512))
def test_any_text_of_groups_leaves_those_of_the_affinity(
    groups: str, allowed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert within_quota(allowed, groups, tmp_path_factory.getbasetemp() / "nothing") == allowed


def test_the_affinity_counts_not_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processors, "within_quota", lambda allowed, *_: allowed)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.delattr(os, "process_cpu_count", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 7}, raising=False)
    assert available_processors() == 3
    monkeypatch.setattr(os, "process_cpu_count", lambda: 5, raising=False)
    assert available_processors() == 5
    monkeypatch.delattr(os, "process_cpu_count")
    monkeypatch.delattr(os, "sched_getaffinity")
    assert available_processors() == 64


def test_there_is_at_least_one() -> None:
    assert 1 <= available_processors() <= (os.cpu_count() or 1)


def blas_threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_limits_of_blas_that_overlap_leave_its_number_of_threads_as_it_was() -> None:
    with threadpool_limits(2, "blas"):  # also where there is one processor
        one, other = ExitStack(), ExitStack()
        one.enter_context(one_blas_thread)
        other.enter_context(one_blas_thread)
        one.close()
        assert blas_threads() == {1}
        other.close()
        assert blas_threads() == {2}
