"""Results: one line of JSON for each, appended as soon as it is measured; a run that is started again skips what is there."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tip_adapter.errors import ResultsError, printable
from tip_adapter.files import journal, open_regular

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

#: Goes up when a line's fields change their meaning.
FORMAT = 1

#: What tells one result from another; a line that lacks one has it empty.
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
    if not path.exists():
        return []
    try:
        with open_regular(path) as file:
            lines = [line for line in file if line.endswith(b"\n")]
    except OSError as error:
        raise ResultsError(f"cannot read {printable(path)}: {error.strerror or error}; choose another --out") from error
    return [_parse(line, number, path) for number, line in enumerate(lines, start=1)]


@contextmanager
def recording(path: Path) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Append results to a file; one run at a time.

    Raises
    ------
    NotWritable
        Another run writes there, or with the system's reason; what was measured before stays.
    """
    with journal(path) as append:
        yield lambda result: append(json.dumps({"format": FORMAT, **result}, allow_nan=False).encode())


def without_doubles(results: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The last of the results that tell the same."""
    return list({key_of(result): result for result in results}.values())


def _parse(line: bytes, number: int, path: Path) -> dict[str, Any]:
    try:
        result = json.loads(line)
    except (ValueError, RecursionError):
        result = None
    if not isinstance(result, dict) or "format" not in result:
        raise ResultsError(f"{printable(path)} line {number} is no result; move the file away, or choose another --out")
    if result["format"] != FORMAT:
        raise ResultsError(
            f"{printable(path)} line {number} is of format {result['format']}, this version writes {FORMAT}; "
            "choose another --out"
        )
    return result
