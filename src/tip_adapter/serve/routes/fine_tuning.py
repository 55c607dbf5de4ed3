"""Routes of the fine-tuning of a project."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from tip_adapter.serve.answers import problems
from tip_adapter.serve.problems import Problem
from tip_adapter.serve.routes import bodies
from tip_adapter.serve.routes.shared import COMMON, AllProjects, OneProject

_USUAL = bodies.Training.model_validate({})
router = APIRouter(prefix="/v1/projects/{p}/fine-tune", responses=COMMON)


@router.post("", status_code=202, response_model=bodies.FineTuning, responses=problems(409))
async def start(project: OneProject, projects: AllProjects, body: bodies.Training = _USUAL) -> Response:
    """Begin to train a head of Tip-Adapter-F in the background, and to compare it with what answers now."""
    await asyncio.to_thread(projects.fine_tune, project, body.epochs)
    return await progress(project, 202)


@router.get("", response_model=bodies.FineTuning)
async def show(project: OneProject) -> Response:
    """How far it is; when it is done, the accuracies before and after."""
    return await progress(project)


@router.post("/accept", response_model=bodies.FineTuningChanged, responses=problems(409))
async def accept(project: OneProject) -> Response:
    """Answer by the fine-tuned head, until photos or classes change."""
    await asyncio.to_thread(project.fine_tuner.accept)
    state = project.state
    return JSONResponse({"version": state.version, "fine_tuning": project.fine_tuner.answer(state)})


@router.delete("", status_code=204)
async def drop(project: OneProject) -> Response:
    """Cancel the training; or forget its result, also if it was accepted: then the default method answers."""
    await asyncio.to_thread(project.fine_tuner.drop)
    return Response(status_code=204)


async def progress(project: OneProject, status: int = 200) -> Response:
    """The job; Problem if there is none."""
    answer = await asyncio.to_thread(project.fine_tuner.answer, project.state)
    if answer is None:
        raise Problem("not_found", "the project has not been fine-tuned; begin with POST")
    return JSONResponse(answer, status)
