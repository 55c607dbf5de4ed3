"""What requests and answers contain, for their description as OpenAPI, and what routes share."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import ClientDisconnect

from tip_adapter.serve.uploads import FIELD

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from fastapi import Request

_Result = TypeVar("_Result")


class Options(BaseModel):
    """The query of a request; an unknown name is refused, since it may be a known one misspelled."""

    model_config = ConfigDict(extra="forbid")

    top: int = Field(5, ge=1, description="Number of classes to list, most probable first.")
    min_score: Annotated[float, Field(ge=0, le=1)] | Literal["auto"] = Field(
        0.0, description="No label below this probability; auto: the model's own threshold."
    )
    explain: bool = Field(False, description="Say which training photos and class name an answer rests on.")


class ClassScore(BaseModel):
    """A class and its probability."""

    label: str
    score: float


class PhotoPrediction(BaseModel):
    """What is predicted of a photo: the record of `tip-adapter predict --json`."""

    image: str
    error: str | None
    label: str | None
    score: float | None
    top: list[ClassScore]
    explanation: list[dict[str, Any]] = []


class Predictions(BaseModel):
    """One record per photo, in the order of the form."""

    predictions: list[PhotoPrediction]


class ClassInfo(BaseModel):
    """A class of the model."""

    label: str
    name: str
    n_images: int


class ServiceInfo(BaseModel):
    """The service: its encoder, what one request may contain, and a name that differs at every start."""

    tip_adapter: str
    instance: str
    needs_token: bool
    learns: bool = Field(alias="teaching", description="Whether it has projects")
    encoder: str
    encoder_fingerprint: str
    max_photos: int
    max_body_bytes: int


class ModelInfo(ServiceInfo):
    """A service that answers by one model."""

    method: str
    classes: list[ClassInfo]
    threshold: float | None
    explains: bool


class Status(BaseModel):
    """The state of the service."""

    status: Literal["ok", "ready"]


class ProblemDetails(BaseModel):
    """An error (RFC 9457); `code` is stable."""

    type: str
    title: str
    status: int
    detail: str
    code: str


def photo_form() -> dict[str, Any]:
    """A form of photos as the body of a route."""
    photos = {"type": "array", "minItems": 1, "items": {"type": "string", "format": "binary"}}
    schema = {"type": "object", "required": [FIELD], "properties": {FIELD: photos}}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


def image_body() -> dict[str, Any]:
    """A photo as the body of a route."""
    schema = {"schema": {"type": "string", "format": "binary"}}
    return {"requestBody": {"required": True, "content": {"application/octet-stream": schema, "image/*": schema}}}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors of a route by their statuses."""
    content = {"application/problem+json": {"schema": ProblemDetails.model_json_schema()}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


async def unless_gone(request: Request, work: Coroutine[Any, Any, _Result]) -> _Result:
    """The result of `work`, which is cancelled if the client goes away; the body must have been read."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        gone.cancel()
