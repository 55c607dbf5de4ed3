"""Routes of the report of a project, and of its files."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse

from tip_adapter.serve.answers import problems
from tip_adapter.serve.exchange import import_project, model_file, onnx_file, project_file
from tip_adapter.serve.guard import IMPORT_PATH
from tip_adapter.serve.routes import bodies
from tip_adapter.serve.routes.shared import COMMON, AllProjects, OneProject, file_answer, project_answer

router = APIRouter(responses=COMMON)


@router.get("/v1/projects/{p}/report", response_model=bodies.Report)
async def report(project: OneProject) -> Response:
    """How good the project is: accuracy on left-out photos, and what a person should review."""
    return JSONResponse(await asyncio.to_thread(project.report))


@router.get(
    "/v1/projects/{p}/export",
    response_class=Response,
    responses=file_answer("application/zip", "application/octet-stream"),
)
async def export(query: Annotated[bodies.ExportQuery, Query()], project: OneProject, projects: AllProjects) -> Response:
    """The project as one file to import again; or what it has learned as a model folder (zip), or as an ONNX file."""
    encoder = projects.queue.encoder
    if query.format == "project":
        content, name = await asyncio.to_thread(project_file, project, encoder), "project.zip"
    elif query.format == "model":
        content, name = await asyncio.to_thread(model_file, project, encoder), "model.zip"
    else:
        content, name = await asyncio.to_thread(onnx_file, project, encoder), "model.onnx"
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    media_type = "application/zip" if name.endswith(".zip") else "application/octet-stream"
    return Response(content, media_type=media_type, headers=headers)


@router.api_route(IMPORT_PATH, methods=["GET", "PUT", "PATCH", "DELETE"], include_in_schema=False)
async def no_project() -> Response:
    """Refuse to take the last part of the path for the id of a project."""
    raise HTTPException(405)


@router.post(
    IMPORT_PATH,
    status_code=201,
    response_model=bodies.ProjectAnswer,
    responses=problems(409),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def import_file(request: Request, projects: AllProjects) -> Response:
    """Add the project of a file that `export` gave."""
    async with projects.importing():
        content = await request.body()
        of_file = content, projects.learner, projects.database, projects.limits
        p = await asyncio.to_thread(import_project, *of_file)
    return JSONResponse(await asyncio.to_thread(lambda: project_answer(projects.get(p))), 201)
