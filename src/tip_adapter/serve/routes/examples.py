"""Routes of the photos that a project learns from, and of what it predicts."""

from __future__ import annotations

import asyncio
import uuid
from hashlib import sha256
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from tip_adapter.errors import ImageError
from tip_adapter.model.prediction import least_score
from tip_adapter.serve.answers import Options, image_body, photo_form, problems, unless_gone
from tip_adapter.serve.routes import bodies
from tip_adapter.serve.routes.bodies import Id  # noqa: TC001 - FastAPI reads annotations at run time
from tip_adapter.serve.routes.shared import (
    COMMON,
    OneProject,
    Queue,
    body_length,
    example_answer,
    file_answer,
    filename_of,
    made,
    photo_body,
    thumbnail_answer,
)
from tip_adapter.serve.state import UPLOAD
from tip_adapter.serve.uploads import Photo, read_photos

if TYPE_CHECKING:
    from tip_adapter.serve.project import Project

router = APIRouter(prefix="/v1/projects", responses=COMMON)


@router.put(
    "/{p}/examples/{e}",
    response_model=bodies.ExampleChanged,
    responses=made(bodies.ExampleChanged, 409),
    openapi_extra=image_body(),
)
async def put_example(
    e: Id, query: Annotated[bodies.ExampleQuery, Query()], request: Request, project: OneProject, queue: Queue
) -> Response:
    """Learn a photo of a class. The same photo in the project already is named instead, in whatever class it is."""
    with queue.place(1, body_length(request, queue)):
        photo = Photo(filename_of(query.filename), await photo_body(request))
        project.class_of(query.class_id)
        if project.there(e, sha256(photo.content).hexdigest(), UPLOAD, query.class_id):
            return _changed(project, e)
        (encoded,) = await unless_gone(request, queue.encode([photo]))
        if isinstance(encoded, ImageError):
            raise encoded
        earlier = await asyncio.to_thread(project.add_example, e, query.class_id, photo.name, encoded)
    return _changed(project, earlier.id, duplicate_of=earlier.id) if earlier else _changed(project, e, 201)


@router.post(
    "/{p}/examples",
    response_model=bodies.ExamplesAdded,
    responses=problems(400, 409, 415),
    openapi_extra=photo_form(),
)
async def post_examples(
    query: Annotated[bodies.OfClass, Query()], request: Request, project: OneProject, queue: Queue
) -> Response:
    """Learn the photos of a form, with ids that the service makes. The same photo in the project already is named instead."""
    project.class_of(query.class_id)
    with queue.place(1, body_length(request, queue)):
        photos = await read_photos(request, queue.limits)
        with queue.place(len(photos) - 1, 0):
            outcomes = await unless_gone(request, queue.encode(photos))
            examples, errors = [], []
            for photo, outcome in zip(photos, outcomes, strict=True):
                if isinstance(outcome, ImageError):
                    errors.append({"filename": photo.name, "error": str(outcome), "code": outcome.code})
                    continue
                of_photo = str(uuid.uuid4()), query.class_id, filename_of(photo.name), outcome
                earlier = await asyncio.to_thread(project.add_example, *of_photo)
                known = {"duplicate_of": earlier.id if earlier else None}
                examples.append(example_answer(earlier or project.example(of_photo[0])) | known)
    return JSONResponse({"version": project.state.version, "examples": examples, "errors": errors})


@router.get("/{p}/examples", response_model=bodies.Examples)
async def list_examples(page: Annotated[bodies.ExamplesPage, Query()], project: OneProject) -> Response:
    """Examples, the newest first."""
    state = project.state
    rows = [row for row in reversed(state.examples.values()) if page.class_id in (None, row.class_id)]
    part = rows[page.offset : page.offset + page.limit]
    examples = [example_answer(row) for row in part]
    return JSONResponse({"version": state.version, "total": len(rows), "examples": examples})


@router.patch("/{p}/examples/{e}", response_model=bodies.ExampleChanged)
async def move_example(e: Id, body: bodies.Move, project: OneProject) -> Response:
    """Give a photo another class."""
    await asyncio.to_thread(project.move_example, e, body.class_id)
    return _changed(project, e)


@router.delete("/{p}/examples/{e}", status_code=204)
async def delete_example(e: Id, project: OneProject) -> Response:
    """Forget a photo, as if it had never been added; one of the collection is open again."""
    await asyncio.to_thread(project.delete_example, e)
    return Response(status_code=204)


@router.get("/{p}/examples/{e}/thumbnail", response_class=Response, responses=file_answer("image/jpeg"))
async def example_thumbnail(e: Id, project: OneProject) -> Response:
    """A small JPEG of an example."""
    return await thumbnail_answer(project, e)


@router.post(
    "/{p}/predict",
    response_model=bodies.ProjectPredictions,
    responses=problems(400, 415),
    openapi_extra=photo_form(),
)
async def predict(
    options: Annotated[Options, Query()], request: Request, project: OneProject, queue: Queue
) -> Response:
    """Classify photos by what the project has learned: records as POST /v1/classify answers."""
    project.state.answering_head()  # before the photos are read
    with queue.place(1, body_length(request, queue)):
        photos = await read_photos(request, queue.limits)
        state = project.state
        head = state.answering_head()
        least = least_score(options.min_score, head)
        with queue.place(len(photos) - 1, 0):
            work = queue.predict(head, photos, top=options.top, min_score=least, explain=options.explain)
            records = await unless_gone(request, work)
    return JSONResponse({"version": state.version, "predictions": records})


def _changed(project: Project, e: str, status: int = 200, *, duplicate_of: str | None = None) -> Response:
    answer = {"version": project.state.version, "example": example_answer(project.example(e))}
    return JSONResponse({**answer, "duplicate_of": duplicate_of}, status)
