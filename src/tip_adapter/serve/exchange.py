"""Projects as one file: JSON and safetensors in a zip; and what a project has learned as a model for other programs.

A file is checked completely before anything of it is stored: names of its members, sizes before they are read, every value and
every shape. Nothing in it is run, and no name in it is used as a path.
"""

from __future__ import annotations

import io
import json
import uuid
import zipfile
from collections import Counter
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta
from safetensors import SafetensorError
from safetensors.numpy import load, save
from sqlalchemy import insert, select

from tip_adapter.errors import ExportError, LabelError, NotWritable
from tip_adapter.images.labels import label_of, numbered, refuse_case_duplicates
from tip_adapter.io.files import scratch_folder
from tip_adapter.io.json_schema import ValidationError, convert, parse_json
from tip_adapter.model.classifier import FewShotClassifier
from tip_adapter.model.format import ARRAYS, CONFIG, ChoiceRecord, Count, LeftOutRecord, Setting, Share
from tip_adapter.model.head import Head
from tip_adapter.model.onnx_export import export_pixels, export_vectors
from tip_adapter.serve import database as tables
from tip_adapter.serve.fine_tuner import DONE, Job, columns_of
from tip_adapter.serve.fine_tuning import Comparison, FineTuned
from tip_adapter.serve.learning import FINE_TUNED
from tip_adapter.serve.problems import Problem
from tip_adapter.serve.state import ClassRow, PhotoRow, State
from tip_adapter.text import first_of, printable, shown
from tip_adapter.validation import MAX_TEXT
from tip_adapter.vectors import label_array, unit_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tip_adapter.encoders import Encoder
    from tip_adapter.serve.database import Database
    from tip_adapter.serve.learning import Learner
    from tip_adapter.serve.project import Project
    from tip_adapter.serve.settings import Limits

_RECORD, _ARRAYS = "project.json", "project.safetensors"
_MOST_RECORD, _MOST_HEADER, _MOST_THUMBNAIL = 64 * 2**20, 2**20, 2**17
_JPEG, _ZIP = b"\xff\xd8\xff", b"PK\x03\x04"
#: Characters of the name of an entry that a message shows.
_MOST_NAME = 60
#: The array of a fine-tuned head.
_KEYS = "learned.keys_"

_Id = Annotated[str, Meta(pattern=r"^[0-9a-f-]{36}\Z")]
_Text = Annotated[str, Meta(min_length=1, max_length=MAX_TEXT)]
_Time = Annotated[float, Meta(ge=0, le=1e11)]


class _Part(msgspec.Struct, forbid_unknown_fields=True):
    """A record of a project file."""


class _Class(_Part):
    id: _Id
    label: _Text
    name: _Text
    enabled: bool
    is_none: bool


class _Photo(_Part):
    id: _Id
    origin: Literal["upload", "collection"]
    filename: Annotated[str, Meta(max_length=MAX_TEXT)]
    added: _Time
    digest: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    class_id: _Id | None


class _Measured(_Part):
    accuracy: Share
    low: Share
    high: Share
    n: Count


class _Comparison(_Part):
    before: _Measured
    after: _Measured
    n_better: Count
    n_worse: Count
    verdict: Literal["better", "worse", "no_difference"]


class _FineTuned(_Part):
    """A head that was accepted: what is its own, while photos, names and their embeddings are those of the project."""

    epochs: Annotated[int, Meta(ge=1, le=10_000)]
    images: list[_Id]
    parameters: dict[str, Setting]
    choice: ChoiceRecord
    left_out: LeftOutRecord | None
    training: dict[str, Setting]
    rows: list[Count]
    predicted: list[str]
    comparison: _Comparison


class _Record(_Part):
    format: Literal[1]
    id: _Id
    name: _Text
    encoder: Annotated[str, Meta(max_length=4096)]
    fingerprint: Annotated[str, Meta(max_length=200)]
    created: _Time
    classes: list[_Class]
    photos: list[_Photo]
    fine_tuned: _FineTuned | None = None


# ---- out -------------------------------------------------------------------------------------------------------------


def project_file(project: Project, encoder: Encoder) -> bytes:
    """A project with its vectors and thumbnails, and its fine-tuned head if that answers; photos that are not encoded are left out."""
    state = project.state
    photos = [row for row in state.all_photos.values() if not row.deleted and row.vector is not None]
    thumbnails = project.rows.thumbnails()
    pictures = [thumbnails.get(row.id, b"") for row in photos]
    fine_tuned, learned = _described(state.fine_tuned, project.fine_tuner.job)
    record = _Record(
        1,
        project.id,
        state.name,
        encoder.identity.name,
        encoder.identity.fingerprint,
        project.created,
        [_Class(row.id, row.label, row.name, row.enabled, row.is_none) for row in state.classes.values()],
        [_Photo(row.id, row.origin, row.filename, row.added, row.digest, row.class_id) for row in photos],  # type: ignore[arg-type]
        fine_tuned,
    )
    arrays: dict[str, NDArray[Any]] = {
        "vectors": np.array([row.vector for row in photos], np.float32).reshape(len(photos), encoder.identity.width),
        "thumbnails": np.frombuffer(b"".join(pictures), np.uint8),
        "thumbnail_ends": np.cumsum([len(picture) for picture in pictures], dtype=np.int64),
        **learned,
    }
    text = json.dumps(msgspec.to_builtins(record), ensure_ascii=False).encode()
    return _zipped({_RECORD: text, _ARRAYS: save(arrays)})


def _described(result: FineTuned | None, job: Job | None) -> tuple[_FineTuned | None, dict[str, NDArray[Any]]]:
    """A fine-tuned head that answers, as its part of the record, and as arrays."""
    if result is None or job is None or job.comparison is None:
        return None, {}
    head, arrays = result.head.to_record()
    own = {name: head[name] for name in ("images", "parameters", "choice", "left_out", "training")}
    measured = {"rows": result.rows.tolist(), "predicted": result.predicted.tolist()}
    described = {**own, **measured, "epochs": job.epochs, "comparison": asdict(job.comparison)}
    return convert(described, _FineTuned), {_KEYS: arrays[_KEYS]}


def model_file(project: Project, encoder: Encoder) -> bytes:
    """The folder that `FewShotClassifier.save` writes, as a zip; photos have the names of their files where these differ.

    Raises ExportError if its names are not those of a model, as in projects of earlier versions.
    """
    model = _model(project, encoder)
    with scratch_folder() as folder:
        place = folder / "model"
        try:
            model.save(place)
        except NotWritable as error:
            if isinstance(error.__cause__, ValueError):  # names that a model cannot have, not a file system
                raise ExportError(f"the project cannot be exported as a model: {error.__cause__}") from error
            raise
        return _zipped({f"model/{path.name}": path.read_bytes() for path in sorted(place.iterdir())})


def onnx_file(project: Project, encoder: Encoder) -> bytes:
    """The model as an ONNX file, from pixels where the encoder can be exported, else from vectors; raises ExportError."""
    head = _model(project, encoder).head_
    with scratch_folder() as folder:
        place = folder / "model.onnx"
        try:
            export_pixels(head, encoder, place)
        except ExportError:
            export_vectors(head, encoder.identity, place)
        return place.read_bytes()


def _model(project: Project, encoder: Encoder) -> FewShotClassifier:
    """What the project has learned, fitted to all its photos first; or its fine-tuned head."""
    if not project.state.fine_tuned and (project.is_untuned or project.moved):
        project.settle(tune=True)
    state = project.state
    head = state.answering_head()
    support = head.support
    rows = [state.all_photos[id] for id in support.ids.tolist()]
    names = [row.filename or row.id for row in rows]
    times = Counter(names)
    ids = numbered(name if times[name] == 1 else f"{row.id}/{name}" for name, row in zip(names, rows, strict=True))
    head = replace(head, support=replace(support, ids=np.array(ids, np.str_)))
    return FewShotClassifier.from_head(head, encoder)


def _zipped(files: dict[str, bytes]) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as writer:  # vectors and JPEGs do not become smaller
        for name, content in files.items():
            writer.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content)
    return archive.getvalue()


# ---- in --------------------------------------------------------------------------------------------------------------


def import_project(content: bytes, learner: Learner, database: Database, limits: Limits) -> str:
    """Store a project file as a project: its id, a new one where the file's is taken.

    Raises Problem if it is damaged, of another encoder or too large; nothing is stored then.
    """
    encoder = learner.encoder
    try:
        record, arrays = _read(content, limits)
        _check(record, arrays, encoder, limits)
        fine_tuning = _fine_tuning(record, arrays, learner)
    except (
        ValueError,
        KeyError,
        RecursionError,
        zipfile.BadZipFile,
        SafetensorError,
        OSError,
        NotImplementedError,
    ) as error:
        if isinstance(error, LabelError):
            raise
        where = str(error) if isinstance(error, (ValidationError, _Damaged)) else type(error).__name__
        raise Problem(
            "bad_project_file", f"the file is no project, or it is damaged ({printable(where)}); export it again"
        ) from None
    made_with = {"encoder": encoder.identity.name, "fingerprint": encoder.identity.fingerprint}
    with database.begin() as connection:
        ids = set(connection.scalars(select(tables.projects.c.id)))
        if len(ids) >= limits.projects:
            raise Problem("limit_reached", f"there are {limits.projects:,} projects; delete some")
        id = record.id if record.id not in ids else str(uuid.uuid4())
        project = {"id": id, "name": label_of(record.name, "name"), "created": record.created, **made_with}
        connection.execute(insert(tables.projects).values(**project, version=1, settings={}))
        for table, rows in ((tables.classes, _class_columns(record)), (tables.photos, _photo_columns(record, arrays))):
            if rows:
                connection.execute(insert(table), [{**row, "project_id": id, "deleted": False} for row in rows])
        if fine_tuning:
            connection.execute(insert(tables.fine_tunings).values(project_id=id, **fine_tuning, accepted=True))
    return id


def _class_columns(record: _Record) -> list[dict[str, Any]]:
    return [{**msgspec.structs.asdict(row), "number": n} for n, row in enumerate(record.classes, 1)]


def _photo_columns(record: _Record, arrays: dict[str, NDArray[Any]]) -> list[dict[str, Any]]:
    vectors, ends = unit_rows(arrays["vectors"]), [0, *arrays["thumbnail_ends"].tolist()]
    thumbnails = arrays["thumbnails"].tobytes()
    return [
        {
            **msgspec.structs.asdict(row),
            "number": n,
            "vector": vectors[n - 1].astype("<f4").tobytes(),
            "thumbnail": thumbnails[ends[n - 1] : ends[n]],
        }
        for n, row in enumerate(record.photos, 1)
    ]


def _fine_tuning(record: _Record, arrays: dict[str, NDArray[Any]], learner: Learner) -> dict[str, Any] | None:
    """The columns of a file's fine-tuned head, restored on its photos as they will be opened; None without one."""
    described = record.fine_tuned
    if described is None:
        return None
    classes = [ClassRow(**msgspec.structs.asdict(row), number=n) for n, row in enumerate(record.classes)]
    photos = [
        PhotoRow(**msgspec.structs.asdict(row), number=n, vector=vector)
        for n, (row, vector) in enumerate(zip(record.photos, unit_rows(arrays["vectors"]), strict=True))
    ]
    by_id = {row.id: row for row in classes}, {row.id: row for row in photos}
    state = State(1, record.name, *by_id, learner.encoder.record.reads_names)
    if not state.answering:
        raise _Damaged("it has a fine-tuned result and no class that answers")
    support = state.support(learner.encoder.identity.width)
    data = learner.training_data(state.answering, state.nameless, support)
    usual, usual_arrays = learner.fit(data).head.to_record()
    known = {name: array for name, array in usual_arrays.items() if not name.startswith("learned.")}
    config = usual | msgspec.to_builtins(described) | {"method": FINE_TUNED, "finetune_with": None}
    if config["images"] != usual["images"]:
        raise _Damaged("its fine-tuned result is of other photos")
    try:
        head = Head.from_record(config, {**known, _KEYS: arrays[_KEYS]})
    except (ValueError, TypeError) as error:
        raise _Damaged(f"its fine-tuned result: {error}") from error
    rows, predicted = np.array(described.rows, np.intp), np.array(described.predicted, np.str_)
    _check_measured(described, head)
    comparison = Comparison(**config["comparison"])
    job = Job(
        1, described.epochs, described.epochs, DONE, comparison=comparison, result=FineTuned(head, rows, predicted)
    )
    return columns_of(job)


def _check_measured(described: _FineTuned, head: Head) -> None:
    """Raise ValueError if what is said about the photos that were held out contradicts them."""
    labels, rows, comparison = set(head.classes.tolist()), described.rows, described.comparison
    if not rows or len(set(rows)) < len(rows) or max(rows) >= len(head.support):
        raise _Damaged("its fine-tuned result was measured on photos that it has not")
    counts = (len(described.predicted), comparison.before.n, comparison.after.n)
    if set(counts) != {len(rows)} or comparison.n_better + comparison.n_worse > len(rows):
        raise _Damaged("its fine-tuned result was measured on several numbers of photos")
    left_out = described.left_out
    named: set[str] = set()
    if left_out is not None:
        named = {row.label for row in left_out.per_class}
        named |= {label for row in left_out.confusions for label in (row.label, row.called)}
    if not {*described.predicted, *named} <= labels:
        raise _Damaged("its fine-tuned result predicts a class that does not exist")
    right = np.array(described.predicted) == head.support.labels[rows]
    if abs(right.mean() - comparison.after.accuracy) > 1e-6:
        raise _Damaged("the accuracy of its fine-tuned result is not that of its predictions")


class _Damaged(ValueError):
    """What contradicts the format."""


def _read(content: bytes, limits: Limits) -> tuple[_Record, dict[str, NDArray[Any]]]:
    with _opened(content) as archive:
        members = {member.filename: member for member in archive.infolist()}
        if members.keys() != {_RECORD, _ARRAYS}:
            raise Problem("bad_project_file", _other_contents([*members]))
        if len(archive.infolist()) != len(members):
            raise _Damaged("an entry occurs twice")
        for name, most in ((_RECORD, _MOST_RECORD), (_ARRAYS, limits.import_bytes)):
            if members[name].file_size > most or members[name].compress_type != zipfile.ZIP_STORED:
                raise _Damaged(f"{name} is compressed, or larger than {most:,} bytes")
        record = convert(parse_json(archive.read(_RECORD)), _Record)
        stored = archive.read(_ARRAYS)
    n_header = int.from_bytes(stored[:8], "little")
    if not 0 < n_header <= _MOST_HEADER:
        raise _Damaged(f"the header of {_ARRAYS} has {n_header} bytes")
    parse_json(stored[8 : 8 + n_header])  # safetensors itself accepts repeated names
    return record, load(stored)


def _opened(content: bytes) -> zipfile.ZipFile:
    """A file as a zip; Problem, which says what it is instead."""
    if not content:
        raise Problem("bad_project_file", "the file is empty; download it again")
    try:
        return zipfile.ZipFile(io.BytesIO(content))
    except zipfile.BadZipFile:
        if not content.startswith(_ZIP):
            reason = "the file is no zip; choose the one that the export of a project gave"
        else:
            reason = (
                f"the file is incomplete: after {len(content):,} bytes the list of its entries, with which a zip ends, is missing; "
                "download it again"
            )
        raise Problem("bad_project_file", reason) from None


def _other_contents(names: list[str]) -> str:
    """What a zip of other entries is, and what to do."""
    found = first_of([name[:_MOST_NAME] for name in sorted(names)]) or "no entries"
    files = {name.rpartition("/")[2] for name in names}
    if {CONFIG, ARRAYS} <= files:
        return f"the file is a model folder, with {found}; open it with tip-adapter predict, or export the project as a project file"
    if {_RECORD, _ARRAYS} <= files:
        return f"the file is a project that was zipped again, with {found}; choose the file as it was exported"
    return f"the file has {found}, expected {_RECORD} and {_ARRAYS}; export it again"


def _check(record: _Record, arrays: dict[str, NDArray[Any]], encoder: Encoder, limits: Limits) -> None:
    """Raise an error if the parts of a project file do not fit one another, the encoder or the limits."""
    if record.fingerprint != encoder.identity.fingerprint:
        if record.encoder == encoder.identity.name:
            reason = f"the file was made with other weights of the encoder {shown(record.encoder)}; start the service with those"
        else:
            reason = (
                f"the file was made with the encoder {shown(record.encoder)}, and this service has {shown(encoder.identity.name)}; "
                "start it with --encoder and that name"
            )
        raise Problem("wrong_encoder", reason)
    if len(record.classes) > limits.classes or len(record.photos) > limits.photos_of_project:
        raise Problem(
            "limit_reached", f"the file has {len(record.classes):,} classes and {len(record.photos):,} photos"
        )
    labels = [row.label for row in record.classes]
    for text in [*labels, *(row.name for row in record.classes)]:
        if label_of(text, "the file") != text:
            raise _Damaged(f"class {text!r} has white space around it, or is not in Unicode NFC")
    refuse_case_duplicates(labels)
    label_array(labels, "labels of the file's classes")
    for row in record.photos:
        if row.filename:
            label_of(row.filename, "the file")
    class_ids, photo_ids = [row.id for row in record.classes], [row.id for row in record.photos]
    if len(set(labels)) < len(labels) or len(set(class_ids)) < len(class_ids) or len(set(photo_ids)) < len(photo_ids):
        raise _Damaged("a class or photo occurs twice")
    if sum(row.is_none for row in record.classes) > 1 or not {r.class_id for r in record.photos} <= {None, *class_ids}:
        raise _Damaged("a photo is of a class that does not exist, or two classes are none of these")
    _check_arrays(
        arrays, len(record.photos), encoder.identity.width, len(record.fine_tuned.images) if record.fine_tuned else None
    )


def _check_arrays(arrays: dict[str, NDArray[Any]], n: int, width: int, n_keys: int | None) -> None:
    """The same of the arrays of n photos, and of `n_keys` fine-tuned keys, if there are any."""
    shapes = {name: (array.dtype.str, array.shape) for name, array in arrays.items()}
    wanted = {
        "vectors": ("<f4", (n, width)),
        "thumbnails": ("|u1", (arrays["thumbnails"].size,)),
        "thumbnail_ends": ("<i8", (n,)),
    } | ({} if n_keys is None else {_KEYS: ("<f4", (n_keys, width))})
    if shapes != wanted:
        raise _Damaged(f"its arrays are {shapes}")
    vectors, sizes = arrays["vectors"], np.diff(arrays["thumbnail_ends"], prepend=0)
    if not np.isfinite(vectors).all() or not vectors.any(axis=1).all():
        raise _Damaged("a vector is zero, NaN or infinite")
    ends_fit = sizes.sum() == len(arrays["thumbnails"]) and (sizes >= 0).all() and (sizes <= _MOST_THUMBNAIL).all()
    starts = arrays["thumbnail_ends"] - sizes
    if not ends_fit or not all(
        arrays["thumbnails"][start : start + 3].tobytes() == _JPEG for start in starts[sizes > 0].tolist()
    ):
        raise _Damaged("a thumbnail is no JPEG, or too large")
