"""Read photos by their addresses: files on this machine, objects of any store that fsspec knows, and ranges of either.

An address is an absolute path or a URL such as ``s3://photos/1.jpg``. Each has an etag, which changes when the content does.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import quote_from_bytes, unquote_to_bytes

from tip_adapter.errors import ImageError, InputChanged, InputUnavailable, UsageError
from tip_adapter.images.decode import refuse_large_file
from tip_adapter.io.files import open_regular
from tip_adapter.plugins import require_extra
from tip_adapter.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

T = TypeVar("T")

#: Seconds before each further attempt to read from a store that is busy or does not answer.
PAUSES = (0.5, 1, 2, 4, 8)
_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_FILE = "file://"
#: What stores call the version of an object, the best first.
_ETAGS = (
    "ETag",
    "etag",
    "md5Hash",
    "md5",
    "checksum",
    "generation",
    "LastModified",
    "last_modified",
    "mtime",
    "created",
)


class Status(NamedTuple):
    """Size in bytes, and etag."""

    size: int
    etag: str


def is_url(address: str) -> bool:
    """Whether it is a URL of a store; file:// is a path of this machine."""
    return bool(_URL.match(address)) and not address.startswith(_FILE)


def as_address(path: str | os.PathLike[str]) -> str:
    """The address of a local file: its absolute path, as a file:// URL if its name is not UTF-8."""
    place = os.path.abspath(path)  # noqa: PTH100 # a link stays a link
    try:
        place.encode()
    except UnicodeEncodeError:
        return _FILE + quote_from_bytes(os.fsencode(place))
    return place


def local_path(address: str) -> str:
    """The path of a local address."""
    return os.fsdecode(unquote_to_bytes(address[len(_FILE) :])) if address.startswith(_FILE) else address


def status_of(address: str) -> Status:
    """Size and etag of a file or object.

    Raises
    ------
    OSError
        There is none, or it cannot be read.
    InputUnavailable
        As `fetch`.
    """
    if not is_url(address):
        return _local_status(Path(local_path(address)).stat())
    system, path = store_of(address)
    return status_in(fetch(address, lambda: system.info(path)))


def status_in(info: Mapping[str, Any]) -> Status:
    """Size and etag in what fsspec returns for an object."""
    size = int(info.get("size") or 0)
    version = next((info[name] for name in _ETAGS if info.get(name)), size)
    if isinstance(version, (datetime, float)):  # of one object, a listing and a query may give either
        version = f"{version.timestamp() if isinstance(version, datetime) else version:.6f}"
    return Status(size, str(version))


def read_range(address: str, etag: str, name: str, start: int = 0, size: int | None = None) -> bytes:
    """Content of a photo: of a whole file, or a range of it.

    Parameters
    ----------
    address, etag : str, of the file
    name : str, what errors call the photo
    start, size : int, the range in bytes; a `size` of None is the whole file

    Raises
    ------
    ImageError
        It does not exist, cannot be read, is shorter than the range or above the limit of size.
    InputChanged
        The file has another etag.
    InputUnavailable
        As `fetch`.
    """
    try:
        if is_url(address):
            system, path = store_of(address)
            require_etag(address, status_of(address).etag, etag)
            refuse_large_file(size or 0, name)
            end = None if size is None else start + size
            content: bytes = fetch(address, lambda: system.cat_file(path, start=start or None, end=end))
        else:
            with open_regular(local_path(address)) as file:
                status = _local_status(os.fstat(file.fileno()))
                require_etag(address, status.etag, etag)
                refuse_large_file(status.size if size is None else size, name)
                file.seek(start)
                content = file.read(size if size is not None else status.size)
    except (OSError, ValueError) as error:
        if isinstance(error, ImageError):
            raise
        reason = error.strerror if isinstance(error, OSError) and error.strerror else printable(str(error))
        raise ImageError(f"cannot read {name}: {reason}") from error
    if size is not None and len(content) < size:
        raise ImageError(f"cannot read {name}: its file ends after {len(content):,} of its {size:,} bytes")
    return content


@contextmanager
def opened(address: str) -> Iterator[IO[bytes]]:
    """A file or object to read at any position; raises OSError."""
    if is_url(address):
        system, path = store_of(address)
        with system.open(path, "rb") as file:
            yield file
    else:
        with open_regular(local_path(address)) as local:
            yield local


def store_of(address: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path in it; UsageError if the package that it needs is missing."""
    core = require_extra("fsspec.core", "fsspec, which reads from object stores,", "features")
    try:
        system, path = core.url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise UsageError(f"{printable(address)} cannot be opened: {printable(str(error))}") from error
    return system, path


def fetch(address: str, read: Callable[[], T]) -> T:
    """What `read` gives, tried again while the store is busy or does not answer.

    Raises
    ------
    FileNotFoundError
        There is no such object.
    InputUnavailable
        Access is denied, such as with credentials that have expired, or no attempt succeeded.
    """
    for pause in (*PAUSES, None):
        try:
            return read()
        except (FileNotFoundError, IsADirectoryError):
            raise
        except PermissionError as error:
            reason = f"access to {printable(address)} is denied ({printable(str(error))}); renew the credentials"
            raise InputUnavailable(f"{reason} and start again: finished parts are kept") from error
        except Exception as error:  # each store has its own errors
            if pause is None:
                reason = f"{printable(address)} cannot be read ({printable(str(error) or type(error).__name__)})"
                raise InputUnavailable(f"{reason}; start again later: finished parts are kept") from error
            time.sleep(pause)
    raise AssertionError


def require_etag(address: str, found: str, planned: str) -> None:
    """Raise InputChanged unless a file has the etag that was planned."""
    if found != planned:
        raise InputChanged(
            f"{printable(address)} has changed since it was planned (etag {printable(found)}, planned {printable(planned)}); "
            "remove plan.parquet from the output and start again: parts whose photos are unchanged are kept"
        )


def _local_status(status: os.stat_result) -> Status:
    return Status(status.st_size, f"{status.st_mtime_ns:x}-{status.st_size:x}")
