"""Stored vectors as input: a features folder, or the output of `label --vectors`; a part of the plan for each of their files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tip_adapter.distributed.inputs import plan_schema
from tip_adapter.distributed.manifests import LABELS, parts_at
from tip_adapter.distributed.plan import PLAN, Plan
from tip_adapter.distributed.storage import as_address, local_path
from tip_adapter.errors import DamagedFeatures, FeaturesError, InputChanged, WrongEncoder
from tip_adapter.features.arrow import RecordBatch, load_pyarrow, to_batch
from tip_adapter.features.store import is_feature_folder, load_shard, read_manifest
from tip_adapter.io.files import file_digest
from tip_adapter.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROWS = 1024


def list_vectors(source: Path, fingerprint: str) -> Iterator[RecordBatch]:
    """The files of a folder of vectors, one row each: `etag` is the file's SHA-256, `size` its number of vectors.

    Parameters
    ----------
    source : a features folder, or the output folder of `label_folder` with vectors
    fingerprint : str, of the encoder that made them

    Yields
    ------
    pyarrow.RecordBatch of `inputs.plan_schema`

    Raises
    ------
    FeaturesError
        It holds no vectors, or not those of all parts. WrongEncoder if another encoder made them.
    """
    if is_feature_folder(source):
        manifest = read_manifest(source)
        made_with = {manifest.encoder.fingerprint}
        files = [(shard.file, shard.rows, shard.sha256) for shard in manifest.shards]
    else:
        parts = parts_at(source)
        done = [(folder.name, manifest) for folder, manifest in parts.items() if manifest and manifest.vectors]
        if not done:
            raise FeaturesError(
                f"{printable(source)} holds no vectors ({len(parts):,} parts of labels found); `tip-adapter label --vectors` and "
                "`tip-adapter extract` make them"
            )
        n_planned = len(Plan.read(source / PLAN).header.digests) if (source / PLAN).exists() else len(parts)
        if len(done) < n_planned:
            raise FeaturesError(
                f"{printable(source)} holds vectors of {len(done):,} of its {n_planned:,} parts: the others are not finished, or damaged; "
                "run the `tip-adapter label` that made it again, which finishes it"
            )
        made_with = {manifest.encoder for _, manifest in done}
        files = [(f"{name}/{LABELS}", manifest.rows, manifest.sha256) for name, manifest in done]
    if made_with != {fingerprint}:
        found = ", ".join(f"{printable(name[:12])}…" for name in sorted(made_with))
        raise WrongEncoder(
            f"{printable(source)} holds vectors of an encoder with the fingerprint {found}, the model's is {fingerprint[:12]}…; "
            "give vectors of the model's encoder, or the photos"
        )
    columns = [list(column) for column in zip(*files, strict=True)]
    uris = [as_address(source / name) for name in columns[0]]
    rows = {"id": columns[0], "uri": uris, "offset": [None] * len(uris), "size": columns[1], "etag": columns[2]}
    yield load_pyarrow().RecordBatch.from_pydict(rows, schema=plan_schema())


def read_vectors(rows: Any) -> Iterator[RecordBatch]:
    """The vectors of planned files.

    Parameters
    ----------
    rows : pyarrow.Table of rows that `list_vectors` gave

    Yields
    ------
    pyarrow.RecordBatch with columns id, uri, vector and error, as `core.label_vectors` takes them

    Raises
    ------
    InputChanged
        A file is missing or not the one that was planned. DamagedFeatures if it cannot be read.
    """
    pa = load_pyarrow()
    for row in rows.to_pylist():
        path = Path(local_path(row["uri"]))
        try:
            if file_digest(path) != row["etag"]:
                raise InputChanged(
                    f"{printable(path)} has changed since it was planned; start with another output folder"
                )
            if path.name == LABELS:
                file = pa.parquet.ParquetFile(path)
                yield from file.iter_batches(_ROWS, columns=["id", "uri", "vector", "error"])
            else:
                shard = to_batch(load_shard(path)[0])
                columns = [shard.column(name) for name in ("id", "path", "vector", "error")]
                yield pa.RecordBatch.from_arrays(columns, names=["id", "uri", "vector", "error"])
        except FileNotFoundError as error:
            raise InputChanged(f"{printable(path)} is missing since it was planned; restore it") from error
        except (pa.ArrowException, OSError, ValueError) as error:
            if isinstance(error, InputChanged):
                raise
            raise DamagedFeatures(f"{printable(path)} is damaged: {printable(str(error))}; restore it") from error
