"""Time, memory, and where a result comes from."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import tip_adapter
from tip_adapter.paper import timing
from tip_adapter.paper.results import _commit, origin
from tip_adapter.paper.timing import PeakMemory, cuda_peak_mib, milliseconds, resident_mib

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_the_most_memory_that_was_held_within_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    held = [100.0, 180.0]
    monkeypatch.setattr(timing, "resident_mib", lambda: held.pop(0) if held else 90.0)
    with PeakMemory() as memory:
        memory._look()
        memory._look()
    assert memory.mib == 180


def test_where_the_system_does_not_show_memory_it_is_the_most_ever_held(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    now = resident_mib()
    monkeypatch.setattr(timing, "_STATM", tmp_path / "statm")
    assert resident_mib() > 0.5 * now


def test_without_a_card_there_is_no_memory_of_one() -> None:
    assert cuda_peak_mib() is None


def test_a_time_is_a_median_after_warming_up() -> None:
    calls: list[int] = []
    assert milliseconds(lambda: calls.append(1)) >= 0
    assert len(calls) == 6


def test_a_result_says_which_versions_it_was_made_with() -> None:
    found = origin()
    assert found["versions"]["tip_adapter"] == tip_adapter.__version__
    assert {"python", "numpy", "scipy", "scikit-learn", "onnxruntime"} <= set(found["versions"])


def git(folder: Path, *words: str) -> str:
    asked = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b", *words]
    return subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()


def test_a_checkout_says_its_commit_however_git_keeps_it(tmp_path: Path) -> None:
    assert _commit(tmp_path) is None
    checkout, beside = tmp_path / "checkout", tmp_path / "beside"
    checkout.mkdir()
    git(checkout, "init", "-q")
    git(checkout, "commit", "-q", "--allow-empty", "-m", "first")
    commit = git(checkout, "rev-parse", "HEAD")
    assert _commit(checkout) == commit
    git(checkout, "worktree", "add", "-q", str(beside))
    assert _commit(beside) == commit
    git(checkout, "pack-refs", "--all")
    assert _commit(checkout) == _commit(beside) == commit
    git(checkout, "checkout", "-q", "--detach")
    assert _commit(checkout) == commit
