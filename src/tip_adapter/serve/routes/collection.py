"""Routes of the collection: photos without a class, sorted by what the project has learned."""

from __future__ import annotations

import asyncio
import csv
import io
from hashlib import sha256
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from tip_adapter.images.labels import numbered
from tip_adapter.serve.answers import image_body, problems
from tip_adapter.serve.routes import bodies
from tip_adapter.serve.routes.bodies import Id  # noqa: TC001 - FastAPI reads annotations at run time
from tip_adapter.serve.routes.shared import (
    COMMON,
    OneProject,
    Queue,
    body_length,
    file_answer,
    filename_of,
    photo_body,
    thumbnail_answer,
)
from tip_adapter.serve.sorting import Scores

router = APIRouter(prefix="/v1/projects", responses=COMMON)
#: What a spreadsheet takes for a formula at the beginning of a text.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@router.put(
    "/{p}/collection/{i}",
    response_model=bodies.Queued,
    status_code=202,
    responses=problems(409, 429),
    openapi_extra=image_body(),
)
async def put_collected(
    i: Id, query: Annotated[bodies.PhotoQuery, Query()], request: Request, project: OneProject, queue: Queue
) -> Response:
    """Add a photo, which is encoded in the background; its file is kept until then."""
    with queue.place(0, body_length(request, queue)):
        content, filename = await photo_body(request), filename_of(query.filename)
        of_photo = i, filename, sha256(content).hexdigest(), content
        earlier = await asyncio.to_thread(project.add_collected, *of_photo)
    return JSONResponse({"queued": earlier is None, "duplicate_of": earlier.id if earlier else None}, 202)


@router.get("/{p}/collection", response_model=bodies.Collection)
async def list_collection(page: Annotated[bodies.CollectionPage, Query()], project: OneProject) -> Response:
    """Photos sorted by the score of a class, or without one by that of the class predicted; the least certain first if wanted."""

    def listed() -> dict[str, Any]:
        state = project.state
        if page.class_id is not None:
            project.class_of(page.class_id)
        scores = project.scores_of(state)
        order = scores.ordered(page.class_id, page.order, page.state)
        part = order[page.offset : page.offset + page.limit].tolist()
        return {
            "version": state.version,
            "total": len(order),
            "n_pending": len(state.pending),
            "n_failed": sum(row.error is not None for row in state.collection.values()),
            "photos": [scores.answer(row, page.class_id) for row in part],
        }

    return JSONResponse(await asyncio.to_thread(listed))


@router.get("/{p}/collection.csv", response_class=Response, responses=file_answer("text/csv"))
async def collection_table(project: OneProject) -> Response:
    """Every photo with the class predicted, the one given, and the score of each class."""

    def written() -> str:
        scores = project.scores_of(project.state)
        file = io.StringIO()
        table = csv.writer(file)
        # A class may be called as another column.
        table.writerow(numbered(["id", "filename", "label", "score", "given", *map(_cell, scores.labels)]))
        for row in scores.ordered(None, "certain", "all").tolist():
            answer = scores.answer(row, None)
            given = project.state.classes.get(answer["class_id"])
            known = [answer["id"], _cell(answer["filename"]), _cell(answer["label"] or ""), answer["label_score"]]
            table.writerow([*known, _cell(given.label) if given else "", *scores.of_photo(row)])
        return file.getvalue()

    headers = {"content-disposition": 'attachment; filename="collection.csv"'}
    return Response(await asyncio.to_thread(written), media_type="text/csv; charset=utf-8", headers=headers)


@router.get("/{p}/collection/{i}/thumbnail", response_class=Response, responses=file_answer("image/jpeg"))
async def collected_thumbnail(i: Id, project: OneProject) -> Response:
    """A small JPEG of a photo."""
    return await thumbnail_answer(project, i)


@router.post("/{p}/collection/{i}/label", response_model=bodies.CollectedChanged, responses=problems(409))
async def label_collected(i: Id, body: bodies.Verdict, project: OneProject) -> Response:
    """Make a photo an example of a class; or, where it is not of a class, of "none of these". It replaces the same photo there."""
    replaced = await asyncio.to_thread(project.label_collected, i, body.class_id, body.not_class_id)
    return await _changed(project, i, duplicate_of=replaced.id if replaced else None)


@router.delete("/{p}/collection/{i}/label", response_model=bodies.CollectedChanged, responses=problems(409))
async def unlabel_collected(i: Id, project: OneProject) -> Response:
    """Take the label of a photo back."""
    await asyncio.to_thread(project.label_collected, i, None)
    return await _changed(project, i)


@router.delete("/{p}/collection/{i}", status_code=204)
async def delete_collected(i: Id, project: OneProject) -> Response:
    """Delete a photo; if it has a class, it is forgotten there, too."""
    await asyncio.to_thread(project.delete_collected, i)
    return Response(status_code=204)


async def _changed(project: OneProject, i: str, *, duplicate_of: str | None = None) -> Response:
    state = project.state
    scores = await asyncio.to_thread(Scores.of, state, [state.collection[i]])
    answer = {"version": state.version, "photo": scores.answer(0, None)}
    return JSONResponse({**answer, "duplicate_of": duplicate_of})


def _cell(text: str) -> str:
    """A text that a spreadsheet does not take for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text
