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
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from msgspec import Meta, Struct, field
from scipy.stats import t

from tip_adapter.errors import ResultsError
from tip_adapter.io.files import append_lines, open_regular
from tip_adapter.io.json_schema import convert
from tip_adapter.paper.draws import NESTED
from tip_adapter.paper.experiments import AXES
from tip_adapter.text import printable, shown
from tip_adapter.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

#: Goes up when a line's fields change their meaning.
FORMAT = 1

_BEGINNING = b'{"format": '

#: Where and on which photos something was measured.
_DRAW = ("dataset", "target", "encoder", "variant", "shots", "seed")


def key_of(result: dict[str, Any], axes: Sequence[str] = AXES) -> tuple[Any, ...]:
    """The values of a result on some axes; on all of them they identify a result or a task."""
    return tuple(result.get(axis) for axis in axes)


def grouped(results: Iterable[dict[str, Any]], axes: Sequence[str]) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    """Values on the axes → the results that agree in them, in the order of the results."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for result in results:
        groups.setdefault(key_of(result, axes), []).append(result)
    return groups


def read_results(path: Path) -> list[dict[str, Any]]:
    """The results of a file, in the order in which they were measured; none where there is no file.

    Raises
    ------
    ResultsError
        A line is no result, or of another version, or two lines have other accuracies of the same task. An unfinished last
        line is ignored.
    """
    results = [_parse(line, number, path) for number, line in enumerate(_lines(path), start=1) if line.endswith(b"\n")]
    first: dict[tuple[Any, ...], int] = {}
    for number, result in enumerate(results, start=1):
        other = first.setdefault(key_of(result), number)
        one, two = results[other - 1]["accuracy"], result["accuracy"]
        if one != two:
            raise ResultsError(
                f"{printable(path)} lines {other} and {number} are results of the same task with other accuracies, {one} and "
                f"{two}; remove one"
            )
    return results


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
    lines = _lines(path)
    end = lines[-1].rstrip(b"\0") if lines else b""  # zeros, where the power failed
    if not end.endswith(b"\n") and not end.startswith(_BEGINNING[: len(end)]):
        raise _no_result(len(lines), path, lines[-1])
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


def _parse(line: bytes, number: int, path: Path) -> dict[str, Any]:
    """A line as a result: all that is read of it is there, and of its kind."""
    try:
        result = json.loads(line, parse_constant=int)  # NaN is no int: a ValueError
    except (ValueError, RecursionError):
        result = None
    if not isinstance(result, dict) or "format" not in result:
        raise _no_result(number, path, line)
    result.setdefault("draws", NESTED)  # earlier versions drew in no other way
    if result["format"] != FORMAT:
        raise ResultsError(
            f"{printable(path)} line {number} is of format {printable(str(result['format'])[:40])}, this version writes "
            f"{FORMAT}; choose another --out"
        )
    kinds = {axis: int if axis in ("shots", "seed") else str for axis in AXES}
    accuracy, identity = result.get("accuracy"), result.get("encoder_identity")
    if not (
        all(type(result.get(axis)) is kind for axis, kind in kinds.items())
        and _is_drawable(result)
        and (isinstance(identity, dict) and type(identity.get("fingerprint")) is str)
        and (accuracy is None or (type(accuracy) in (int, float) and 0 <= accuracy <= 1))
    ):
        raise _no_result(number, path, line)
    return result


#: Nothing that is measured is larger; means and intervals of larger numbers could overflow.
_LARGEST = 1e30
_Number = Annotated[float, Meta(ge=-_LARGEST, le=_LARGEST)]


class _Settings(Struct):
    cache_size: int = 1


class _Drawn(Struct):
    """What is read of a result, where it is there, besides its axes and its accuracy."""

    notes: list[str] = []
    support_ids: list[str] = []
    support_contents: list[str] = []
    test_content: str = ""
    settings: _Settings = field(default_factory=_Settings)
    points: list[tuple[_Number, _Number, int]] = []
    outcome: str | None = None
    gain: _Number | None = None
    silhouette: _Number | None = None
    alpha: _Number | None = None
    beta: _Number | None = None
    epochs: _Number | None = None
    learnable_parameters: _Number | None = None
    training_seconds: _Number | None = None
    inference_ms: _Number | None = None
    peak_memory_mib: _Number | None = None
    gpu_mib: _Number | None = None


def _is_drawable(result: dict[str, Any]) -> bool:
    try:
        convert(result, _Drawn)
    except ValueError:
        return False
    return True


def _no_result(number: int, path: Path, line: bytes) -> ResultsError:
    found = shown(line.decode(errors="replace").strip()[:40]) if line.strip() else "an empty line"
    return ResultsError(
        f"{printable(path)} line {number} is no result; move the file away, or choose another --out; found {found}"
    )


# ---- provenance --------------------------------------------------------------------------------------------------------

_PACKAGES = ("numpy", "scipy", "scikit-learn", "onnxruntime", "torch", "open-clip-torch")


@cache
def origin() -> dict[str, Any]:
    """The fields of a result's line that say so; the same for a whole run."""
    versions = {"tip_adapter": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return {
        "versions": versions,
        "commit": _commit(Path(__file__).parents[3]),
        "machine": f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}",
        "date": datetime.date.today().isoformat(),
    }


def _commit(checkout: Path) -> str | None:
    """The commit that is checked out, where the package runs from a checkout."""
    with suppress(OSError, ValueError):
        folder = checkout / ".git"
        if folder.is_file():  # a worktree: the folder's path is in the file
            folder = checkout / _read(folder).removeprefix("gitdir: ")
        branch = _read(folder / "HEAD")
        if not branch.startswith("ref: "):
            return branch
        branch, shared = branch.removeprefix("ref: "), folder / "commondir"
        common = folder / _read(shared) if shared.is_file() else folder
        if (common / branch).is_file():
            return _read(common / branch)
        packed = (line.partition(" ") for line in _read(common / "packed-refs").splitlines())
        return next((commit for commit, _, name in packed if name == branch), None)
    return None


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
    """The mean of a field over the results that agree in `axes`; results where it is no number do not count."""
    found = [result for result in results if isinstance(result.get(value), (int, float))]
    groups = grouped(found, axes)
    return {key: Mean.of([float(result[value]) for result in own]) for key, own in groups.items()}


def paired(
    results: Iterable[dict[str, Any]], one: str, other: str, axes: Sequence[str] = ()
) -> dict[tuple[Any, ...], Mean]:
    """The mean of `one`'s accuracy minus `other`'s over the draws that both were measured on, for those that agree in `axes`.

    Zero-shot sees no photos: it is compared with every draw. Seeds are what a mean goes over; so that draws of one seed,
    which hold each other's photos, do not pass for several, `axes` should name the shots.
    """
    accuracies: dict[str, dict[tuple[Any, ...], float]] = {one: {}, other: {}}
    for result in results:
        if result["method"] in accuracies and result.get("accuracy") is not None:
            seen = result if result["shots"] else {**result, "seed": None}
            accuracies[result["method"]][key_of(seen, _DRAW)] = result["accuracy"]
    groups: dict[tuple[Any, ...], list[float]] = {}
    for draw in dict.fromkeys([*accuracies[other], *accuracies[one]]):
        where = dict(zip(_DRAW, draw, strict=True))
        without = key_of({**where, "shots": 0, "seed": None}, _DRAW)
        a, b = (own.get(draw, own.get(without)) for own in (accuracies[one], accuracies[other]))
        if a is not None and b is not None:
            groups.setdefault(key_of(where, axes), []).append(a - b)
    return {key: Mean.of(differences) for key, differences in groups.items()}
