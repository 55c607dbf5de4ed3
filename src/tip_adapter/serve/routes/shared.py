"""What the routes of projects share: finding the project, and how its parts are answered."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Request, Response

from tip_adapter.images.labels import label_of
from tip_adapter.serve.answers import problems
from tip_adapter.serve.batching import PhotoQueue
from tip_adapter.serve.problems import Problem
from tip_adapter.serve.project import Project
from tip_adapter.serve.projects import Projects
from tip_adapter.serve.routes.bodies import Id  # noqa: TC001 - FastAPI reads annotations at run time

if TYPE_CHECKING:
    from pydantic import BaseModel

    from tip_adapter.serve.state import ClassRow, PhotoRow, State

#: Errors of every route of projects.
COMMON = problems(400, 401, 403, 404, 408, 413, 421, 422, 503)
#: Thumbnails do not change.
_CACHED = {"cache-control": "private, max-age=31536000, immutable"}


def _all_projects(request: Request) -> Projects:
    projects: Projects = request.app.state.projects
    return projects


def _queue(request: Request) -> PhotoQueue:
    return _all_projects(request).queue


async def _project(p: Id, request: Request) -> Project:
    return await asyncio.to_thread(_all_projects(request).get, p)


AllProjects = Annotated[Projects, Depends(_all_projects)]
OneProject = Annotated[Project, Depends(_project)]
Queue = Annotated[PhotoQueue, Depends(_queue)]


def project_answer(project: Project) -> dict[str, Any]:
    """A project, as GET /v1/projects/{p} answers."""
    state = project.state
    settings: dict[str, Any] = {"method": None, "threshold": None}
    if (head := state.head) is not None:
        settings = {"method": head.method, "threshold": head.left_out.threshold if head.left_out else None}
        settings |= head.estimator.settings()
    return {
        "id": project.id,
        "name": state.name,
        "encoder": project.encoder_name,
        "created": time_text(project.created),
        "version": state.version,
        "n_classes": len(state.classes),
        "n_examples": len(state.examples),
        "n_collection": len(state.collection),
        "classes": [class_answer(row, state) for row in state.classes.values()],
        "settings": settings,
        "jobs": {"tuning": project.is_untuned, "fine_tuning": project.fine_tuner.answer(state)},
        "can_undo": project.rows.can_undo(),
    }


def class_answer(row: ClassRow, state: State) -> dict[str, Any]:
    """A class."""
    return {
        "id": row.id,
        "label": row.label,
        "name": row.name,
        "enabled": row.enabled,
        "n_examples": state.n_examples[row.id],
        "is_none": row.is_none,
    }


def example_answer(row: PhotoRow) -> dict[str, Any]:
    """A photo that was learned."""
    return {
        "id": row.id,
        "class_id": row.class_id,
        "filename": row.filename,
        "added": time_text(row.added),
        "origin": row.origin,
    }


async def thumbnail_answer(project: Project, photo: str) -> Response:
    """The thumbnail of a photo."""
    content = await asyncio.to_thread(project.rows.stored, photo, "thumbnail")
    return Response(content, media_type="image/jpeg", headers=_CACHED)


def time_text(seconds: float) -> str:
    """A time in ISO 8601, UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def filename_of(text: str) -> str:
    """A file name as a text that a database takes; LabelError if it is too long or contains NUL."""
    return label_of(text, "filename") if text.strip() else ""


def body_length(request: Request, queue: PhotoQueue) -> int:
    """Bytes of a body before it is read; without its length as many as it may have."""
    return int(request.headers.get("content-length", queue.limits.body_bytes))


def made(model: type[BaseModel], *statuses: int) -> dict[int | str, dict[str, Any]]:
    """The answers of a route that adds something: `model` with 201, and problems."""
    return {201: {"model": model, "description": "Created"}, **problems(*statuses)}


def file_answer(*media_types: str) -> dict[int | str, dict[str, Any]]:
    """The answers of a route that gives a file of one of these types."""
    schema = {"schema": {"type": "string", "format": "binary"}}
    return {200: {"description": "OK", "content": dict.fromkeys(media_types, schema)}}


async def photo_body(request: Request) -> bytes:
    """The photo that is the body of a request; Problem if there is none."""
    content = await request.body()
    if not content:
        raise Problem(
            "bad_request", "the body is empty; send the photo as the body, as curl --data-binary @photo.jpg does"
        )
    return content
