"""Results: one JSON line each, appended when measured, so that a restarted run resumes; their provenance; means over seeds."""

from __future__ import annotations

import datetime
import json
import os
import platform
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import t

from tip_adapter.errors import ResultsError
from tip_adapter.io.files import append_lines, open_regular
from tip_adapter.text import printable
from tip_adapter.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

#: Goes up when a line's fields change their meaning.
FORMAT = 1

_BEGINNING = b'{"format": '

#: What identifies a result.
AXES = ("experiment", "dataset", "target", "encoder", "method", "shots", "seed", "protocol", "variant")


def key_of(result: dict[str, Any]) -> tuple[Any, ...]:
    """What identifies a result or a task."""
    return tuple(result.get(axis) for axis in AXES)


def read_results(path: Path) -> list[dict[str, Any]]:
    """The results of a file, in the order in which they were measured; none where there is no file.

    Raises
    ------
    ResultsError
        A line is no result, or of another version. An unfinished last line is ignored.
    """
    return [_parse(line, number, path) for number, line in enumerate(_lines(path), start=1) if line.endswith(b"\n")]


@contextmanager
def recording(path: Path) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Append results to a file; one run at a time. An unfinished last line of a run that was stopped goes.

    Raises
    ------
    ResultsError
        The last line is unfinished, and not one of ours.
    NotWritable
        Another run writes there, or with the system's reason; what was measured before stays.
    """
    _refuse_others(path)
    with append_lines(path) as append:
        yield lambda result: append(json.dumps({"format": FORMAT, **result}, allow_nan=False).encode())


def _lines(path: Path) -> list[bytes]:
    """The lines of a file, each with its end; none where there is no file."""
    if not path.exists():
        return []
    try:
        with open_regular(path) as file:
            return list(file)
    except OSError as error:
        raise ResultsError(f"cannot read {printable(path)}: {error.strerror or error}; choose another --out") from error


def _refuse_others(path: Path) -> None:
    """An unfinished line is cut off before the next is written: only where it is the beginning of a result."""
    lines = _lines(path)
    end = lines[-1].rstrip(b"\0") if lines else b""  # zeros, where the power failed
    if not end.endswith(b"\n") and not end.startswith(_BEGINNING[: len(end)]):
        raise _no_result(len(lines), path)


def _parse(line: bytes, number: int, path: Path) -> dict[str, Any]:
    try:
        result = json.loads(line, parse_constant=_no_number)
    except (ValueError, RecursionError):
        result = None
    if not isinstance(result, dict) or "format" not in result:
        raise _no_result(number, path)
    if result["format"] != FORMAT:
        raise ResultsError(
            f"{printable(path)} line {number} is of format {printable(str(result['format'])[:40])}, this version writes "
            f"{FORMAT}; choose another --out"
        )
    if not _has_axes(result):
        raise _no_result(number, path)
    return result


def _has_axes(result: dict[str, Any]) -> bool:
    """Whether all that is read of it is there, and of its kind."""
    kinds = {axis: int if axis in ("shots", "seed") else str for axis in AXES}
    accuracy, identity = result.get("accuracy"), result.get("encoder_identity")
    if not isinstance(identity, dict) or type(identity.get("fingerprint")) is not str:
        return False
    return all(type(result.get(axis)) is kind for axis, kind in kinds.items()) and (
        accuracy is None or (type(accuracy) in (int, float) and 0 <= accuracy <= 1)
    )


def _no_result(number: int, path: Path) -> ResultsError:
    return ResultsError(f"{printable(path)} line {number} is no result; move the file away, or choose another --out")


def _no_number(name: str) -> None:
    raise ValueError(name)


# ---- provenance --------------------------------------------------------------------------------------------------------

_PACKAGES = ("numpy", "scipy", "scikit-learn", "onnxruntime", "torch", "open-clip-torch")


@cache
def origin() -> dict[str, Any]:
    """The fields of a result's line that say so; the same for a whole run."""
    return {
        "versions": {"tip_adapter": __version__, "python": platform.python_version(), **_versions()},
        "commit": _commit(Path(__file__).parents[3]),
        "machine": f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}",
        "date": datetime.date.today().isoformat(),
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _commit(checkout: Path) -> str | None:
    """The commit that is checked out, where the package runs from a checkout."""
    with suppress(OSError, ValueError):
        folder = _git_folder(checkout / ".git")
        head = _read(folder / "HEAD")
        return _commit_of(head.removeprefix("ref: "), folder) if head.startswith("ref: ") else head
    return None


def _git_folder(place: Path) -> Path:
    """The folder itself; a worktree has a file with its path instead."""
    return place.parent / _read(place).removeprefix("gitdir: ") if place.is_file() else place


def _commit_of(branch: str, folder: Path) -> str | None:
    """From the branch's own file, or from the list of those that have none."""
    shared = folder / "commondir"
    common = folder / _read(shared) if shared.is_file() else folder
    if (common / branch).is_file():
        return _read(common / branch)
    packed = [line.split(" ") for line in _read(common / "packed-refs").splitlines()]
    return next((commit for commit, *names in packed if names == [branch]), None)


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip()


# ---- means over seeds --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mean:
    """The mean over seeds.

    Parameters
    ----------
    mean : float
    half_width : float, of Student's 95 % interval of the mean; None from a single seed
    n : int, seeds
    """

    mean: float
    half_width: float | None
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Mean:
        """From one value a seed, at least one."""
        n = len(values)
        spread = float(np.std(values, ddof=1)) if n > 1 else None
        half = None if spread is None else float(t.ppf(0.975, n - 1)) * spread / n**0.5
        return cls(float(np.mean(values)), half, n)


def means(results: Iterable[dict[str, Any]], axes: Sequence[str], value: str) -> dict[tuple[Any, ...], Mean]:
    """The mean of a field over the results that agree in `axes`; results without the field do not count."""
    groups: dict[tuple[Any, ...], list[float]] = {}
    for result in results:
        if result.get(value) is not None:
            groups.setdefault(tuple(result.get(axis) for axis in axes), []).append(float(result[value]))
    return {key: Mean.of(values) for key, values in groups.items()}


def paired(
    results: Iterable[dict[str, Any]], one: str, other: str, axes: Sequence[str] = ()
) -> dict[tuple[Any, ...], Mean]:
    """The mean of `one`'s accuracy minus `other`'s over the draws that both were measured on, for those that agree in `axes`.

    Zero-shot sees no photos: it is compared with every draw. Seeds are what a mean goes over; so that draws of one seed,
    which hold each other's photos, do not pass for several, `axes` should name the shots.
    """
    found = list(results)
    ours, theirs = _accuracies(found, one), _accuracies(found, other)
    groups: dict[tuple[Any, ...], list[float]] = {}
    for draw in dict.fromkeys([*theirs, *ours]):
        a, b = _on(ours, draw), _on(theirs, draw)
        if a is not None and b is not None:
            groups.setdefault(tuple(dict(draw)[axis] for axis in axes), []).append(a - b)
    return {key: Mean.of(differences) for key, differences in groups.items()}


#: Where and on which photos something was measured, as pairs of axis and value.
_Draw = tuple[tuple[str, Any], ...]


def _accuracies(results: Iterable[dict[str, Any]], method: str) -> dict[_Draw, float]:
    own = [result for result in results if result["method"] == method and result.get("accuracy") is not None]
    return {_draw(result): result["accuracy"] for result in own}


def _on(accuracies: dict[_Draw, float], draw: _Draw) -> float | None:
    """On a draw, or by what sees no photos."""
    return accuracies.get(draw, accuracies.get(_draw({**dict(draw), "shots": 0})))


def _draw(result: dict[str, Any]) -> _Draw:
    where = tuple((axis, result.get(axis)) for axis in ("dataset", "target", "encoder", "variant"))
    return (*where, ("shots", result["shots"]), ("seed", result["seed"] if result["shots"] else None))
