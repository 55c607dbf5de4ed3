"""What there is to label: folders, lists, Parquet files and tar shards become rows of a plan, one for each photo.

A row says where the content of a photo is: `uri`; `offset`, null for a whole file, the position of its bytes in a tar shard, or
its row in a Parquet file; `size` in bytes; `etag` of the file.
"""

from __future__ import annotations

import glob
import os
import tarfile
from bisect import bisect
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, chain, groupby, islice, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tip_adapter.distributed.core import photo_schema
from tip_adapter.distributed.storage import (
    Status,
    as_address,
    is_url,
    local_path,
    opened,
    read_range,
    require_etag,
    status_in,
    status_of,
    store_of,
)
from tip_adapter.errors import FolderError, ImageError, warn
from tip_adapter.features.arrow import RecordBatch, load_pyarrow
from tip_adapter.features.encode import BATCH
from tip_adapter.images.find import find_images
from tip_adapter.images.labels import numbered, path_as_text
from tip_adapter.images.list_tables import LIST_ENDINGS
from tip_adapter.images.lists import read_list
from tip_adapter.images.search import ENDINGS, Search, is_skipped_name
from tip_adapter.io.files import is_folder
from tip_adapter.text import counted, first_of, printable, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import IO

#: Files that contain many photos.
SHARDS = (".tar", ".parquet")
#: Columns of a Parquet file, the first that it has with values of that kind: contents, or where they are; and ids.
_CONTENTS = ("bytes", "content", "image", "image_bytes", "jpg")
_PATHS = ("uri", "url", "path", "file_name", "filename", "image_path")
_IDS = ("id", "key", "__key__", "image_id")
_GZIP = b"\x1f\x8b"
_ROWS = 4096
#: Files or ranges that are read concurrently: a store answers many as fast as one.
_READERS = 8
_BATCHES_AHEAD = 4
#: Status of a file that does not exist: its row has an error.
_MISSING = Status(0, "")


#: Of paths on the systems that are supported, and of URLs.
_LONGEST_PATH = 4_096


def plan_schema() -> Any:
    """The pyarrow.Schema of a plan: id, uri, offset, size, etag."""
    pa = load_pyarrow()
    kinds = {"id": pa.string(), "uri": pa.string(), "offset": pa.int64(), "size": pa.int64(), "etag": pa.string()}
    return pa.schema(list(kinds.items()))


def list_photos(source: str) -> Iterator[RecordBatch]:
    """The photos of a source, in the order of their addresses and of their positions in shards.

    Parameters
    ----------
    source : path or URL of a folder of photos or of shards, a list (.csv, .tsv, .jsonl, .txt), a Parquet file, a tar shard, or a
        pattern such as ``shards/*.tar``

    Yields
    ------
    pyarrow.RecordBatch of `plan_schema`

    Raises
    ------
    FolderError
        There is none, it holds no photos, or a shard or list cannot be read to its end.
    """
    require_source(source)
    source = source if is_url(source) else local_path(source)
    files = _shards(source)
    if files is None:
        yield from _whole_files(*(_stored_photos(source) if is_url(source) else _local_photos(Path(source))))
        return
    n_photos, skipped = 0, Counter[str]()
    for address, title in zip(files, _titles(files), strict=True):
        is_parquet = address.lower().endswith(".parquet")
        listed = _parquet_photos(address, title) if is_parquet else _tar_photos(address, title, skipped)
        for batch in listed:
            n_photos += len(batch)
            yield batch
    n_skipped = counted(skipped.total(), "photo in shards is", "photos in shards are")
    note = f"{n_skipped} skipped: {_numbers(skipped)}"
    if not n_photos:
        why = f"; {note}" if skipped else ""
        raise FolderError(f"{printable(source)} holds no photos in its {len(files):,} shards ({first_of(files)}){why}")
    if skipped:
        warn(f"{printable(source)}: {note}")


def _titles(addresses: Sequence[str]) -> list[str]:
    """What the ids of the photos of each shard begin with: its name, or its path from where the paths differ if a name is repeated."""
    names = [path_as_text(Path(address).name) for address in addresses]
    if len(set(names)) == len(names):
        return names
    parts = [path_as_text(address).split("/") for address in addresses]
    n_shared = sum(1 for _ in takewhile(lambda part: len(set(part)) == 1, zip(*parts, strict=False)))
    return ["/".join(part[n_shared:]) for part in parts]


def require_source(source: str) -> None:
    """Raise FolderError if a path or file:// URL names nothing; stores, and what a pattern matches, are known when they are listed."""
    if is_url(source) or ("*" in source and source.lower().endswith(SHARDS)):
        return
    place = local_path(source)
    if not os.path.lexists(place):
        pattern = "; the only sign of a pattern is *" if set("?[{") & set(source) else ""
        raise FolderError(f"there is no file or folder {printable(place)}; check the path{pattern}")


# ---- finding ---------------------------------------------------------------------------------------------------------


def _shards(source: str) -> list[str] | None:
    """Addresses of the shards that a source is, contains or matches, sorted; None if it is something else."""
    if source.lower().endswith(SHARDS):
        if is_url(source):
            system, path = store_of(source)
            found = [system.unstrip_protocol(name) for name in system.glob(path)] if "*" in path else [source]
        else:
            found = sorted(map(as_address, glob.glob(source))) if "*" in source else [as_address(source)]  # noqa: PTH207 # the pattern may have folders of its own
        if not found:
            raise FolderError(f"{printable(source)} matches no file")
        return sorted(found)
    if source.lower().endswith((".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")):
        raise FolderError(
            f"{printable(source)} is compressed as a whole, so photos in it cannot be read alone; unpack it"
        )
    if is_url(source):
        system, path = store_of(source)
        names = _visible(system.find(path), path) if system.isdir(path) else []
        shards = sorted(system.unstrip_protocol(name) for name in names if name.lower().endswith(SHARDS))
        n_photos = sum(Path(name).suffix.lower() in ENDINGS for name in names)
    elif is_folder(Path(source)):
        names = [name for name in os.listdir(source) if name.lower().endswith(SHARDS) and not is_skipped_name(name)]
        shards = sorted(as_address(Path(source) / name) for name in names)
        n_photos = sum(1 for _ in Search(Path(source)).images(Path(source))) if shards else 0
    else:
        return None
    return shards if shards and _prefers_shards(source, shards, n_photos) else None


def _prefers_shards(source: str, shards: Sequence[str], n_photos: int) -> bool:
    """Whether the shards of a folder are read and not the photos around them: whichever are more. A warning says what is not read."""
    if not n_photos:
        return True
    photos = counted(n_photos, "photo", "photos")
    files = _numbers(Counter(Path(address).suffix.lower() for address in shards))
    names = first_of([Path(address).name for address in shards])
    if n_photos < len(shards):
        warn(
            f"{printable(source)}: its {len(shards):,} files {files} are read, and not {photos}; give the photos' folder"
        )
        return True
    verb = "is" if n_photos == 1 else "are"
    warn(f"{printable(source)}: its {photos} {verb} read, and not {files} ({names}); name such a file to read it")
    return False


def _visible(names: Iterable[str], root: str) -> list[str]:
    """Those of the paths in a store's folder that a search of a local folder does not skip."""
    return [name for name in names if not _skipped_for(name.removeprefix(root))]


def _skipped_for(path: str) -> str:
    """For what a photo of this path is skipped: the first folder that is hidden or a system's own, or its own name; empty if it is not."""
    *folders, name = path.split("/")
    for folder in folders:
        if folder not in ("", ".", "..") and is_skipped_name(folder):
            return folder
    return "hidden files" if is_skipped_name(name) else ""


def _numbers(kinds: Counter[str]) -> str:
    """How many of each kind, the most frequent first."""
    return ", ".join(f"{printable(kind)} {n:,}" for kind, n in sorted(kinds.items(), key=lambda k: (-k[1], k[0]))[:6])


def _local_photos(source: Path) -> tuple[list[str], list[str], list[Status]]:
    """Ids, addresses and statuses of the photos of a folder or list."""
    ending = source.suffix.lower()
    if ending == ".txt" and source.is_file():
        return _listed(_lines(source.read_bytes(), source), source.parent)
    images = read_list(source, ENDINGS) if ending in LIST_ENDINGS and source.is_file() else find_images(source)
    root = source if source.is_dir() else source.parent
    addresses = list(map(as_address, images))
    return numbered(path_as_text(os.path.relpath(image, root)) for image in images), addresses, _statuses(addresses)


def _stored_photos(source: str) -> tuple[list[str], list[str], list[Status]]:
    """Ids, addresses and statuses of the photos of a folder in a store, or of a list there."""
    system, path = store_of(source)
    if source.lower().endswith(".txt"):
        return _listed(_lines(system.cat_file(path), source), None)
    found = system.find(path, detail=True)
    photos = {name: found[name] for name in _visible(found, path) if Path(name).suffix.lower() in ENDINGS}
    if not photos:
        raise FolderError(f"{printable(source)} holds no photos among its {len(found):,} files")
    ids = [name.removeprefix(path).lstrip("/") or Path(name).name for name in photos]
    return ids, [system.unstrip_protocol(name) for name in photos], list(map(status_in, photos.values()))


def _lines(content: bytes, source: str | Path) -> list[str]:
    """The lines of a text that are not empty; raises FolderError without any, or if it is not UTF-8."""
    try:
        lines = [line.rstrip("\r") for line in content.decode("utf-8-sig").split("\n")]
    except UnicodeDecodeError as error:
        raise FolderError(f"{printable(source)} is not UTF-8 (byte {error.start:,}); save it as UTF-8") from error
    if not any(line.strip() for line in lines):
        raise FolderError(f"{printable(source)} lists no photos; write a path or URL a line")
    return [line for line in lines if line.strip()]


def _listed(
    places: Sequence[str], root: Path | None, ids: Sequence[str] | None = None
) -> tuple[list[str], list[str], list[Status]]:
    """Photos whose paths or URLs are listed; relative paths start from `root`."""
    addresses = [place if is_url(place) or root is None else as_address(root / local_path(place)) for place in places]
    return numbered(places if ids is None else ids), addresses, _statuses(addresses)


def _statuses(addresses: Sequence[str]) -> list[Status]:
    with ThreadPoolExecutor(_READERS) as pool:
        return list(pool.map(_status, addresses))


def _status(address: str) -> Status:
    try:
        return status_of(address)
    except (OSError, ValueError):
        return _MISSING


def _whole_files(ids: Sequence[str], addresses: Sequence[str], statuses: Sequence[Status]) -> Iterator[RecordBatch]:
    """Photos, one per file, sorted."""
    order = sorted(range(len(ids)), key=lambda row: (addresses[row], ids[row]))
    for start in range(0, len(order), _ROWS):
        rows = order[start : start + _ROWS]
        yield _batch((ids[row], addresses[row], None, statuses[row].size, statuses[row].etag) for row in rows)


def _batch(rows: Iterable[tuple[Any, ...]]) -> RecordBatch:
    columns = list(zip(*rows, strict=True)) or [()] * 5
    return load_pyarrow().RecordBatch.from_pydict(dict(zip(plan_schema().names, columns, strict=True)), plan_schema())


# ---- shards ----------------------------------------------------------------------------------------------------------


def _tar_photos(address: str, title: str, skipped: Counter[str]) -> Iterator[RecordBatch]:
    """The photos of a tar shard, those that are skipped counted by their reason; raises FolderError if it cannot be read to its end."""
    try:
        status = status_of(address)
        if not status.size:
            warn(f"{printable(address)} is empty: skipped")
            return
        with opened(address) as file:
            if file.read(len(_GZIP)) == _GZIP:
                raise FolderError(
                    f"{printable(address)} is compressed as a whole, so photos in it cannot be read alone; unpack it"
                )
            file.seek(0)
            names: dict[str, int] = {}
            photos = _tar_members(file, skipped)
            while members := list(islice(photos, _ROWS)):
                rows = []
                for name, offset, size in members:
                    names[name] = times = names.get(name, 0) + 1
                    member = name if times == 1 else f"{name}#{times}"
                    rows.append((f"{title}/{member}", address, offset, size, status.etag))
                yield _batch(rows)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise _damaged(address, error) from error


def _tar_members(file: IO[bytes], skipped: Counter[str]) -> Iterator[tuple[str, int, int]]:
    """Name, offset and size of each photo in a tar file; raises tarfile.TarError unless it ends with its mark of the end."""
    with tarfile.open(fileobj=file, mode="r:") as archive:
        while (member := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined] # of a shard of millions
            if Path(member.name).suffix.lower() not in ENDINGS or not (
                member.isfile() or member.islnk() or member.issym()
            ):
                continue
            if reason := "links" if not member.isfile() else _skipped_for(member.name):
                skipped[reason] += 1
            else:
                yield path_as_text(member.name), member.offset_data, member.size
        # tarfile takes a damaged header for the end, and does not see an archive that was joined after it.
        file.seek(end := archive.offset)
        if any(file.read(tarfile.BLOCKSIZE)):
            raise tarfile.ReadError(f"no valid header at byte {end:,}")
        while rest := file.read(2**20):
            if any(rest):
                raise tarfile.ReadError(
                    f"another archive after byte {end:,}; give archives that were joined one by one"
                )


def _parquet_photos(address: str, title: str) -> Iterator[RecordBatch]:
    """The photos of a Parquet file, which has their contents or their paths."""
    pa = load_pyarrow()
    try:
        status = status_of(address)
        with opened(address) as source:
            file = pa.parquet.ParquetFile(source)
            content, place, key = _columns(file.schema_arrow)
            if content is None and place is None:
                columns = [f"{field.name} ({field.type})" for field in file.schema_arrow]
                raise FolderError(
                    f"{printable(address)} has columns {first_of(columns)}, and none of contents ({', '.join(_CONTENTS)}) or "
                    f"of paths ({', '.join(_PATHS)})"
                )
            if content is None:
                table = file.read(columns=[name for name in (place, key) if name]).to_pydict()
                if long := next((path for path in table[place] if path and len(path) > _LONGEST_PATH), ""):
                    raise FolderError(
                        f"{printable(address)}: column {place} holds a text of {len(long):,} characters, which is no path "
                        f"({shown(long[:20])}…); write contents as bytes, not as text"
                    )
                # The id of a row is its path, unless it has another.
                ids = [p if i is None else str(i) for p, i in zip(table[place], table[key or place], strict=True)]
                ids = [f"{title}/{row}" if name is None else name for row, name in enumerate(ids)]
                # Without a path it is the folder, which cannot be read as a photo.
                yield from _whole_files(*_listed([path or "" for path in table[place]], Path(address).parent, ids))
                return
            first = 0
            for batch in file.iter_batches(_ROWS, columns=[key] if key else []):
                given = batch.column(0).to_pylist() if key else [None] * len(batch)
                rows = [(f"{title}/{n}" if i is None else str(i), n) for n, i in enumerate(given, first)]
                yield _batch((name, address, row, None, status.etag) for name, row in rows)
                first += len(batch)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(address, error) from error


def _columns(schema: Any) -> tuple[str | None, str | None, str | None]:
    """The columns of contents, of paths and of ids: those of a known name, by the types of their values."""
    pa = load_pyarrow()
    kinds = pa.types

    def is_text(kind: Any) -> bool:
        kind = kind.value_type if kinds.is_dictionary(kind) else kind
        return bool(kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_string_view(kind))

    def is_content(kind: Any) -> bool:
        if kinds.is_struct(kind):
            return kind.get_field_index("bytes") >= 0
        binary = kinds.is_binary(kind) or kinds.is_large_binary(kind) or kinds.is_binary_view(kind)
        return bool(binary or kinds.is_fixed_size_binary(kind))

    types = dict(zip(schema.names, schema.types, strict=True))
    return (
        next((name for name in _CONTENTS if name in types and is_content(types[name])), None),
        next((name for name in (*_PATHS, *_CONTENTS) if name in types and is_text(types[name])), None),
        next((name for name in _IDS if name in types), None),
    )


def _damaged(address: str, error: Exception) -> FolderError:
    reason = getattr(error, "strerror", None) or printable(str(error).partition("\n")[0])
    return FolderError(f"{printable(address)} is damaged: {reason}; restore it, or remove it from the input")


# ---- reading ---------------------------------------------------------------------------------------------------------


def read_photos(rows: RecordBatch) -> Iterator[RecordBatch]:
    """The contents of planned photos, read ahead by other threads.

    Parameters
    ----------
    rows : pyarrow.RecordBatch or Table of `plan_schema`

    Yields
    ------
    pyarrow.RecordBatch of `core.photo_schema`, of 32 photos; one that cannot be read has an `error`

    Raises
    ------
    InputChanged, InputUnavailable
        As `storage.read_range`.
    """
    pa = load_pyarrow()
    planned = rows if isinstance(rows, pa.Table) else pa.Table.from_batches([rows])
    with ThreadPoolExecutor(1, "read") as ahead, ThreadPoolExecutor(_READERS, "range") as readers:
        batches = _read_batches(planned, readers)
        pending = deque(ahead.submit(next, batches, None) for _ in range(_BATCHES_AHEAD))
        while (batch := pending.popleft().result()) is not None:
            pending.append(ahead.submit(next, batches, None))
            yield batch


def _read_batches(planned: Any, readers: ThreadPoolExecutor) -> Iterator[RecordBatch]:
    rows = (row for batch in planned.to_batches(max_chunksize=_ROWS) for row in batch.to_pylist())
    contents = _contents(rows, readers)
    while batch := list(islice(contents, BATCH)):
        columns = {
            "id": [row["id"] for row, _ in batch],
            "uri": [row["uri"] for row, _ in batch],
            "content": [None if isinstance(content, ImageError) else content for _, content in batch],
            "error": [str(content) if isinstance(content, ImageError) else None for _, content in batch],
        }
        yield load_pyarrow().RecordBatch.from_pydict(columns, schema=photo_schema())


def _contents(
    rows: Iterator[dict[str, Any]], readers: ThreadPoolExecutor
) -> Iterator[tuple[dict[str, Any], bytes | ImageError]]:
    """Each row and its content, in order."""
    for column_of, group in groupby(rows, key=_column_of):
        if column_of is None:
            while run := list(islice(group, BATCH)):
                yield from zip(run, readers.map(_read_row, run), strict=True)
        else:
            yield from _column(column_of, group)


def _column_of(row: dict[str, Any]) -> str | None:
    """The Parquet file that has the content of a row in a column; None for bytes of a file."""
    return row["uri"] if row["size"] is None and row["offset"] is not None else None


def _read_row(row: dict[str, Any]) -> bytes | ImageError:
    whole = row["offset"] is None
    try:
        return read_range(
            row["uri"], row["etag"], printable(row["id"]), row["offset"] or 0, None if whole else row["size"]
        )
    except ImageError as error:
        return error


def _column(address: str, rows: Iterator[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], bytes | ImageError]]:
    """Consecutive rows of a Parquet file, and their contents."""
    pa = load_pyarrow()
    row = next(rows)
    try:
        require_etag(address, status_of(address).etag, row["etag"])
        with opened(address) as source:
            # With a buffer, since else a row group of photos is in memory as a whole.
            file = pa.parquet.ParquetFile(source, buffer_size=2**20, page_checksum_verification=True)
            name = _columns(file.schema_arrow)[0]
            starts = list(
                accumulate((file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)), initial=0)
            )
            first = bisect(starts, row["offset"]) - 1
            batches = file.iter_batches(BATCH, row_groups=list(range(first, file.num_row_groups)), columns=[name])
            values = (value for batch in batches for value in batch.column(0).to_pylist())
            for planned, value in zip(chain([row], rows), islice(values, row["offset"] - starts[first], None)):  # noqa: B905
                content = value.get("bytes") if isinstance(value, dict) else value
                missing = f"cannot read {printable(planned['id'])}: it has no content"
                yield planned, ImageError(missing) if content is None else content
    except (pa.ArrowException, OSError) as error:
        raise _damaged(address, error) from error
