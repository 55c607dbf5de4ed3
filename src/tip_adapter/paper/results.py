"""Results: one line of JSON for each, appended as soon as it is measured; a run that is started again skips what is there."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tip_adapter.errors import ResultsError
from tip_adapter.io.files import append_lines, open_regular
from tip_adapter.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

#: Goes up when a line's fields change their meaning.
FORMAT = 1

_BEGINNING = b'{"format": '

#: What tells one result from another.
AXES = ("experiment", "dataset", "target", "encoder", "method", "shots", "seed", "protocol", "variant")


def key_of(result: dict[str, Any]) -> tuple[Any, ...]:
    """What tells a result, or one that is still to be measured, from all others."""
    return tuple(result.get(axis) for axis in AXES)


def read_results(path: Path) -> list[dict[str, Any]]:
    """The results of a file, in the order in which they were measured; none where there is no file.

    Raises
    ------
    ResultsError
        A line is no result, or of another version. An unfinished last line is nobody's, and left out.
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
