"""The service as an ASGI application: its routes, and their description as OpenAPI."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from tip_adapter.errors import TipAdapterError, UsageError
from tip_adapter.model.prediction import least_score
from tip_adapter.serve.batching import PhotoQueue
from tip_adapter.serve.guard import Guard
from tip_adapter.serve.metrics import MEDIA_TYPE, Metrics
from tip_adapter.serve.problems import Problem, problem_response
from tip_adapter.serve.settings import Limits
from tip_adapter.serve.uploads import FIELD, read_photos
from tip_adapter.text import shown
from tip_adapter.version import __version__

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    from tip_adapter.model.classifier import FewShotClassifier
    from tip_adapter.serve.settings import Settings

_Result = TypeVar("_Result")


# ---- what is asked and answered, for its description -----------------------------------------------------------------


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


class Info(BaseModel):
    """The model that answers, and what one request may contain."""

    tip_adapter: str
    method: str
    encoder: str
    encoder_fingerprint: str
    classes: list[ClassInfo]
    threshold: float | None
    explains: bool
    max_photos: int
    max_body_bytes: int


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


_FORM = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": [FIELD],
                "properties": {
                    FIELD: {"type": "array", "minItems": 1, "items": {"type": "string", "format": "binary"}}
                },
            }
        }
    },
}


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    content = {"application/problem+json": {"schema": ProblemDetails.model_json_schema()}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


# ---- the application -------------------------------------------------------------------------------------------------


def create_app(model: FewShotClassifier, settings: Settings, limits: Limits | None = None) -> FastAPI:
    """The service of one model.

    Parameters
    ----------
    model : FewShotClassifier, fitted; answers change when its head is replaced
    settings : Settings
    limits : Limits; None for the default ones
    """
    limits = limits or Limits()
    queue = PhotoQueue(model, limits)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        queue.close()

    app = FastAPI(
        title="tip-adapter",
        version=__version__,
        description="Classifies photos with one model. Errors are problem details (RFC 9457) with a stable `code`.",
        lifespan=lifespan,
        docs_url=None,  # their pages load scripts from another site
        redoc_url=None,
        responses=_problems(401, 421),
    )
    app.add_middleware(Guard, settings=settings, limits=limits)
    app.add_middleware(Metrics, queue=queue)
    _add_error_handlers(app)
    _add_routes(app, queue)
    return app


def _add_error_handlers(app: FastAPI) -> None:
    """Every error becomes a problem; an unexpected one is logged, too."""

    async def of_package(_: Request, error: Exception) -> Response:
        return problem_response(error)

    async def of_routing(_: Request, error: HTTPException) -> Response:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "bad_request")
        return problem_response(Problem(code, f"{error.detail}; /openapi.json lists what there is", error.headers))

    async def of_query(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        name, reason = first["loc"][1], first["msg"]  # the first is "query"; a third is a type of the value
        return problem_response(UsageError(f"{name}: {reason[0].lower()}{reason[1:]}, found {shown(first['input'])}"))

    async def of_client(_: Request, __: Exception) -> Response:
        return problem_response(Problem("client_gone", "the client went away"))

    app.add_exception_handler(TipAdapterError, of_package)
    app.add_exception_handler(Problem, of_package)
    app.add_exception_handler(HTTPException, of_routing)  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, of_query)  # type: ignore[arg-type]
    app.add_exception_handler(ClientDisconnect, of_client)
    app.add_exception_handler(Exception, of_package)


def _add_routes(app: FastAPI, queue: PhotoQueue) -> None:
    limits = queue.limits

    @app.post(
        "/v1/classify",
        response_model=Predictions,
        responses=_problems(400, 403, 408, 413, 415, 422, 503),
        openapi_extra={"requestBody": _FORM},
    )
    async def classify(request: Request, options: Annotated[Options, Query()]) -> Response:
        """Classify photos: one record each, with an `error` where some of them cannot be read."""
        head = queue.model.head_
        least = least_score(options.min_score, head)
        if options.explain:
            head.require_explanations()
        # Before the body is read; without its length as many bytes as it may have.
        n_bytes = int(request.headers.get("content-length", limits.body_bytes))
        with queue.place(1, n_bytes):
            photos = await read_photos(request, limits)
            with queue.place(len(photos) - 1, 0):
                work = queue.predict(photos, top=options.top, min_score=least, explain=options.explain)
                predictions = await _unless_gone(request, work)
        return JSONResponse({"predictions": predictions})

    @app.get("/v1/info", response_model=Info)
    async def info() -> Response:
        """The model: its classes, method and encoder; and the limits of a request."""
        head, encoder = queue.model.head_, queue.model.encoder_.identity
        return JSONResponse(
            {
                "tip_adapter": __version__,
                "method": head.method,
                "encoder": encoder.name,
                "encoder_fingerprint": encoder.fingerprint,
                "classes": head.described_classes,
                "threshold": head.left_out.threshold if head.left_out else None,
                "explains": head.estimator.capabilities.explains,
                "max_photos": limits.photos,
                "max_body_bytes": limits.body_bytes,
            }
        )

    @app.get("/healthz", response_model=Status)
    async def healthz() -> Response:
        """Whether the service runs."""
        return JSONResponse({"status": "ok"})

    @app.get("/readyz", response_model=Status, responses=_problems(503))
    async def readyz() -> Response:
        """Whether it takes further photos: the queue has room; the model was loaded before the first answer."""
        with queue.place(1, 1):
            return JSONResponse({"status": "ready"})

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics(request: Request) -> Response:
        """Counts of requests and photos, for Prometheus."""
        return PlainTextResponse(request.state.metrics.text(), media_type=MEDIA_TYPE)


async def _unless_gone(request: Request, work: Coroutine[Any, Any, _Result]) -> _Result:
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
