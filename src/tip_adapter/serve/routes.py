"""The routes of projects: classes, examples, predictions and the collection."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from tip_adapter.errors import ImageError
from tip_adapter.images.labels import label_of
from tip_adapter.model.prediction import least_score
from tip_adapter.serve import bodies
from tip_adapter.serve.answers import Options, image_body, photo_form, problems, unless_gone
from tip_adapter.serve.bodies import Id  # noqa: TC001 - FastAPI reads annotations at run time
from tip_adapter.serve.uploads import Photo, read_photos

if TYPE_CHECKING:
    from collections.abc import Callable

    from tip_adapter.serve.batching import PhotoQueue
    from tip_adapter.serve.project import ClassRow, PhotoRow, Project, State
    from tip_adapter.serve.projects import Projects

#: Thumbnails do not change.
_CACHED = {"cache-control": "private, max-age=31536000, immutable"}


def project_routes(projects: Projects, queue: PhotoQueue) -> APIRouter:
    """All routes under /v1/projects."""
    router = APIRouter(prefix="/v1/projects", responses=problems(401, 403, 408, 413, 421, 422, 503))
    _add_project_routes(router, projects)
    _add_class_routes(router, projects)
    _add_example_routes(router, projects, queue)
    _add_collection_routes(router, projects, queue)
    return router


def _add_project_routes(router: APIRouter, projects: Projects) -> None:
    @router.get("", response_model=bodies.ProjectList)
    async def list_projects() -> Response:
        """All projects."""
        rows = await asyncio.to_thread(projects.listed)
        return JSONResponse({"projects": [{**row, "created": _time(row["created"])} for row in rows]})

    @router.put("/{p}", response_model=bodies.ProjectAnswer, responses=_made(bodies.ProjectAnswer, 409))
    async def put_project(p: Id, body: bodies.ProjectBody) -> Response:
        """Add a project."""
        is_new = await asyncio.to_thread(projects.put, p, body.name)
        return JSONResponse(await asyncio.to_thread(_project, projects, p), 201 if is_new else 200)

    @router.get("/{p}", response_model=bodies.ProjectAnswer, responses=problems(404))
    async def get_project(p: Id) -> Response:
        """A project with its classes."""
        return JSONResponse(await asyncio.to_thread(_project, projects, p))

    @router.patch("/{p}", response_model=bodies.ProjectAnswer, responses=problems(404))
    async def rename_project(p: Id, body: bodies.ProjectBody) -> Response:
        """Rename a project."""
        await asyncio.to_thread(lambda: projects.get(p).rename(label_of(body.name, "name")))
        return JSONResponse(await asyncio.to_thread(_project, projects, p))

    @router.delete("/{p}", status_code=204, responses=problems(404))
    async def delete_project(p: Id) -> Response:
        """Delete a project with its photos; this cannot be undone."""
        await asyncio.to_thread(projects.delete, p)
        return Response(status_code=204)

    @router.post("/{p}/undo", response_model=bodies.Undone, responses=problems(404, 409))
    async def undo(p: Id) -> Response:
        """Take the last change of a class or an example back."""

        def undone() -> dict[str, Any]:
            project = projects.get(p)
            text = project.undo()
            return {"version": project.state.version, "undone": text, "can_undo": project.can_undo()}

        return JSONResponse(await asyncio.to_thread(undone))


def _add_class_routes(router: APIRouter, projects: Projects) -> None:
    def changed(p: str, c: str, change: Callable[[Project], Any]) -> tuple[dict[str, Any], Any]:
        project = projects.get(p)
        result = change(project)
        state = project.state
        return {"version": state.version, "class": _class(project.class_of(c), state)}, result

    @router.put("/{p}/classes/{c}", response_model=bodies.ClassChanged, responses=_made(bodies.ClassChanged, 404, 409))
    async def put_class(p: Id, c: Id, body: bodies.ClassBody) -> Response:
        """Add a class; it answers at once by its name."""
        answer, is_new = await asyncio.to_thread(changed, p, c, lambda q: q.put_class(c, body.label, body.name))
        return JSONResponse(answer, 201 if is_new else 200)

    @router.patch("/{p}/classes/{c}", response_model=bodies.ClassChanged, responses=problems(404, 409))
    async def change_class(p: Id, c: Id, body: bodies.ClassChanges) -> Response:
        """Rename, disable or enable a class."""
        values = body.label, body.name, body.enabled
        answer, _ = await asyncio.to_thread(changed, p, c, lambda q: q.change_class(c, *values))
        return JSONResponse(answer)

    @router.delete("/{p}/classes/{c}", status_code=204, responses=problems(404))
    async def delete_class(p: Id, c: Id) -> Response:
        """Delete a class and its photos."""
        await asyncio.to_thread(lambda: projects.get(p).delete_class(c))
        return Response(status_code=204)


def _add_example_routes(router: APIRouter, projects: Projects, queue: PhotoQueue) -> None:
    def changed(project: Project, id: str, duplicate_of: str | None = None) -> dict[str, Any]:
        state = project.state
        return {"version": state.version, "example": _example(project.example(id)), "duplicate_of": duplicate_of}

    @router.put(
        "/{p}/examples/{e}",
        response_model=bodies.ExampleChanged,
        responses=_made(bodies.ExampleChanged, 404, 409),
        openapi_extra=image_body(),
    )
    async def put_example(p: Id, e: Id, query: Annotated[bodies.ExampleQuery, Query()], request: Request) -> Response:
        """Learn a photo of a class. The same photo in the project already is named instead, in whatever class it is."""
        with queue.place(1, _length(request, queue)):
            photo = Photo(bodies.filename_of(query.filename), await request.body())
            project = await asyncio.to_thread(projects.get, p)
            project.class_of(query.class_id)
            if project.there(e, sha256(photo.content).hexdigest(), "upload", query.class_id):
                return JSONResponse(changed(project, e))
            (encoded,) = await unless_gone(request, queue.encode([photo]))
            if isinstance(encoded, ImageError):
                raise encoded
            earlier = await asyncio.to_thread(project.add_example, e, query.class_id, photo.name, encoded)
        if earlier:
            return JSONResponse(changed(project, earlier.id, earlier.id))
        return JSONResponse(changed(project, e), 201)

    @router.post(
        "/{p}/examples",
        response_model=bodies.ExamplesAdded,
        responses=problems(400, 404, 415),
        openapi_extra=photo_form(),
    )
    async def post_examples(
        p: Id, class_id: Annotated[str, Query(pattern=r"^[0-9a-f-]{36}$")], request: Request
    ) -> Response:
        """Learn the photos of a form, with ids that the service makes."""
        with queue.place(1, _length(request, queue)):
            project = await asyncio.to_thread(projects.get, p)
            project.class_of(class_id)
            photos = await read_photos(request, queue.limits)
            with queue.place(len(photos) - 1, 0):
                outcomes = await unless_gone(request, queue.encode(photos))
                examples, errors = [], []
                for photo, outcome in zip(photos, outcomes, strict=True):
                    if isinstance(outcome, ImageError):
                        errors.append({"filename": photo.name, "error": str(outcome), "code": outcome.code})
                        continue
                    name, id = bodies.filename_of(photo.name), str(uuid.uuid4())
                    earlier = await asyncio.to_thread(project.add_example, id, class_id, name, outcome)
                    examples.append(_example(earlier or project.example(id)))
        return JSONResponse({"version": project.state.version, "examples": examples, "errors": errors})

    @router.get("/{p}/examples", response_model=bodies.Examples, responses=problems(404))
    async def list_examples(p: Id, page: Annotated[bodies.ExamplesPage, Query()]) -> Response:
        """Examples, in the order in which they were added."""
        state = (await asyncio.to_thread(projects.get, p)).state
        rows = [row for row in state.examples.values() if page.class_id in (None, row.class_id)]
        part = rows[page.offset : page.offset + page.limit]
        examples = [_example(row) for row in part]
        return JSONResponse({"version": state.version, "total": len(rows), "examples": examples})

    @router.patch("/{p}/examples/{e}", response_model=bodies.ExampleChanged, responses=problems(404))
    async def move_example(p: Id, e: Id, body: bodies.Move) -> Response:
        """Give a photo another class."""

        def moved() -> dict[str, Any]:
            project = projects.get(p)
            project.move_example(e, body.class_id)
            return changed(project, e)

        return JSONResponse(await asyncio.to_thread(moved))

    @router.delete("/{p}/examples/{e}", status_code=204, responses=problems(404))
    async def delete_example(p: Id, e: Id) -> Response:
        """Forget a photo, as if it had never been added; one of the collection is open again."""
        await asyncio.to_thread(lambda: projects.get(p).delete_example(e))
        return Response(status_code=204)

    @router.get("/{p}/examples/{e}/thumbnail", response_class=Response, responses=_jpeg(404))
    async def example_thumbnail(p: Id, e: Id) -> Response:
        """A small JPEG of an example."""
        return await _thumbnail(projects, p, e)

    @router.post(
        "/{p}/predict",
        response_model=bodies.ProjectPredictions,
        responses=problems(400, 404, 415),
        openapi_extra=photo_form(),
    )
    async def predict(p: Id, options: Annotated[Options, Query()], request: Request) -> Response:
        """Classify photos by what the project has learned: records as POST /v1/classify answers."""
        with queue.place(1, _length(request, queue)):
            project = await asyncio.to_thread(projects.get, p)
            project.learned()
            photos = await read_photos(request, queue.limits)
            state, learned = project.learned()
            least = least_score(options.min_score, learned.head)
            with queue.place(len(photos) - 1, 0):
                work = queue.predict(learned.head, photos, top=options.top, min_score=least, explain=options.explain)
                records = await unless_gone(request, work)
        return JSONResponse({"version": state.version, "predictions": records})


def _add_collection_routes(router: APIRouter, projects: Projects, queue: PhotoQueue) -> None:
    pass


# ---- answers ---------------------------------------------------------------------------------------------------------


def _project(projects: Projects, id: str) -> dict[str, Any]:
    project = projects.get(id)
    state, head = project.state, project.state.learned.head if project.state.learned else None
    settings: dict[str, Any] = {"method": None, "threshold": None}
    if head is not None:
        settings = {"method": head.method, "threshold": head.left_out.threshold if head.left_out else None}
        settings |= {name: value for name, value in head.estimator.settings().items() if name != "method"}
    return {
        "id": project.id,
        "name": state.name,
        "encoder": projects.queue.encoder.identity.name,
        "created": _time(project.created),
        "version": state.version,
        "n_classes": len(state.classes),
        "n_examples": len(state.examples),
        "n_collection": len(state.collection),
        "classes": [_class(row, state) for row in state.classes.values()],
        "settings": settings,
        "jobs": {"tuning": project.is_tuning or project.is_untuned, "fine_tuning": None},
        "can_undo": project.can_undo(),
    }


def _class(row: ClassRow, state: State) -> dict[str, Any]:
    return {
        "id": row.id,
        "label": row.label,
        "name": row.name,
        "enabled": row.enabled,
        "n_examples": state.n_examples[row.id],
        "is_none": row.is_none,
    }


def _example(row: PhotoRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "class_id": row.class_id,
        "filename": row.filename,
        "added": _time(row.added),
        "origin": row.origin,
    }


async def _thumbnail(projects: Projects, p: str, id: str) -> Response:
    project = await asyncio.to_thread(projects.get, p)
    content = await asyncio.to_thread(project.stored, id, "thumbnail")
    return Response(content, media_type="image/jpeg", headers=_CACHED)


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def _length(request: Request, queue: PhotoQueue) -> int:
    """Bytes of a body before it is read; without its length as many as it may have."""
    return int(request.headers.get("content-length", queue.limits.body_bytes))


def _made(model: Any, *statuses: int) -> dict[int | str, dict[str, Any]]:
    return {201: {"model": model, "description": "Created"}, **problems(*statuses)}


def _jpeg(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {200: {"description": "OK", "content": {"image/jpeg": {}}}, **problems(*statuses)}
