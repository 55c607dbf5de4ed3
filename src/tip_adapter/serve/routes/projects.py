"""Routes of projects and their classes."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse, StreamingResponse

from tip_adapter.images.labels import label_of
from tip_adapter.serve.answers import problems
from tip_adapter.serve.routes import bodies
from tip_adapter.serve.routes.bodies import Id  # noqa: TC001 - FastAPI reads annotations at run time
from tip_adapter.serve.routes.shared import (
    COMMON,
    AllProjects,
    OneProject,
    class_answer,
    made,
    project_answer,
    time_text,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tip_adapter.serve.project import Project

#: Seconds between looks for something new, and without anything new after which a comment keeps the connection.
_BETWEEN_LOOKS, _SILENCE = 0.2, 15.0

router = APIRouter(prefix="/v1/projects", responses=COMMON)


@router.get("", response_model=bodies.ProjectList)
async def list_projects(projects: AllProjects) -> Response:
    """All projects."""
    rows = await asyncio.to_thread(projects.listed)
    return JSONResponse({"projects": [{**row, "created": time_text(row["created"])} for row in rows]})


@router.put("/{p}", response_model=bodies.ProjectAnswer, responses=made(bodies.ProjectAnswer, 409))
async def put_project(p: Id, body: bodies.ProjectBody, projects: AllProjects) -> Response:
    """Add a project."""
    is_new = await asyncio.to_thread(projects.put, p, body.name)
    answer = await asyncio.to_thread(lambda: project_answer(projects.get(p)))
    return JSONResponse(answer, 201 if is_new else 200)


@router.get("/{p}", response_model=bodies.ProjectAnswer)
async def get_project(project: OneProject) -> Response:
    """A project with its classes."""
    return JSONResponse(await asyncio.to_thread(project_answer, project))


@router.patch("/{p}", response_model=bodies.ProjectAnswer)
async def rename_project(body: bodies.ProjectBody, project: OneProject) -> Response:
    """Rename a project."""
    await asyncio.to_thread(project.rename, label_of(body.name, "name"))
    return JSONResponse(await asyncio.to_thread(project_answer, project))


@router.delete("/{p}", status_code=204)
async def delete_project(p: Id, projects: AllProjects) -> Response:
    """Delete a project with its photos; this cannot be undone."""
    await asyncio.to_thread(projects.delete, p)
    return Response(status_code=204)


@router.post("/{p}/undo", response_model=bodies.Undone, responses=problems(409))
async def undo(project: OneProject) -> Response:
    """Take the last change of a class or an example back."""
    text = await asyncio.to_thread(project.undo)
    can_undo = await asyncio.to_thread(project.rows.can_undo)
    return JSONResponse({"version": project.state.version, "undone": text, "can_undo": can_undo})


@router.get("/{p}/events", response_class=StreamingResponse, responses={200: {"content": {"text/event-stream": {}}}})
async def events(project: OneProject, projects: AllProjects) -> Response:
    """A stream of server-sent events: the version after every change, and what is done in the background."""

    async def stream() -> AsyncIterator[str]:
        latest, silent = None, 0.0
        while not projects.stopping.is_set():
            state = project.state
            news = {
                "version": state.version,
                "collection": {"n_pending": len(state.pending), "n_collection": len(state.collection)},
                "jobs": {"tuning": project.is_untuned, "fine_tuning": project.fine_tuner.answer(state)},
            }
            if news != latest:
                latest, silent = news, 0.0
                yield f"data: {json.dumps(news)}\n\n"
            elif silent >= _SILENCE:
                silent = 0.0
                yield ": nothing new\n\n"
            await asyncio.sleep(_BETWEEN_LOOKS)
            silent += _BETWEEN_LOOKS

    return StreamingResponse(stream(), media_type="text/event-stream")


# ---- classes ---------------------------------------------------------------------------------------------------------


@router.put("/{p}/classes/{c}", response_model=bodies.ClassChanged, responses=made(bodies.ClassChanged, 409))
async def put_class(c: Id, body: bodies.ClassBody, project: OneProject) -> Response:
    """Add a class; it answers at once by its name."""
    is_new = await asyncio.to_thread(project.put_class, c, body.label, body.name)
    return _class_changed(project, c, 201 if is_new else 200)


@router.patch("/{p}/classes/{c}", response_model=bodies.ClassChanged, responses=problems(409))
async def change_class(c: Id, body: bodies.ClassChanges, project: OneProject) -> Response:
    """Rename, disable or enable a class."""
    await asyncio.to_thread(project.change_class, c, body.label, body.name, body.enabled)
    return _class_changed(project, c)


@router.delete("/{p}/classes/{c}", status_code=204)
async def delete_class(c: Id, project: OneProject) -> Response:
    """Delete a class and its photos; those of the collection are open again."""
    await asyncio.to_thread(project.delete_class, c)
    return Response(status_code=204)


def _class_changed(project: Project, c: str, status: int = 200) -> Response:
    state = project.state
    return JSONResponse({"version": state.version, "class": class_answer(project.class_of(c), state)}, status)
