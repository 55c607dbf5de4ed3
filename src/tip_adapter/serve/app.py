"""The service as an ASGI application: its routes, and their description as OpenAPI."""

from __future__ import annotations

import asyncio
import logging
import re
import uuid
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from tip_adapter.errors import TipAdapterError, UsageError
from tip_adapter.model.prediction import least_score
from tip_adapter.serve.answers import (
    ModelInfo,
    Options,
    Predictions,
    ServiceInfo,
    Status,
    photo_form,
    problems,
    unless_gone,
)
from tip_adapter.serve.batching import PhotoQueue
from tip_adapter.serve.guard import Guard
from tip_adapter.serve.metrics import MEDIA_TYPE, Metrics
from tip_adapter.serve.problems import STATUSES, Problem, problem_response
from tip_adapter.serve.projects import Projects
from tip_adapter.serve.routes import collection, examples, exchange, fine_tuning
from tip_adapter.serve.routes import projects as project_routes
from tip_adapter.serve.settings import Limits
from tip_adapter.serve.static import add_page
from tip_adapter.serve.uploads import read_photos
from tip_adapter.text import shown
from tip_adapter.version import __version__

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tip_adapter.encoders import Encoder
    from tip_adapter.model.classifier import FewShotClassifier
    from tip_adapter.serve.database import Database
    from tip_adapter.serve.settings import Settings


_LOG = logging.getLogger(__name__)


def create_app(model: FewShotClassifier, settings: Settings, limits: Limits | None = None) -> FastAPI:
    """The service of one model.

    Parameters
    ----------
    model : FewShotClassifier, fitted; answers change when its head is replaced
    settings : Settings
    limits : Limits; None for the default ones
    """
    queue = PhotoQueue(model.encoder_, limits or Limits(), model.threads)
    app = _application(queue, settings, None)
    _add_model_routes(app, model, queue)
    return app


def create_projects_app(
    encoder: Encoder, database: Database, settings: Settings, limits: Limits | None = None, threads: int | None = None
) -> FastAPI:
    """The service whose projects learn from the photos that they are given.

    Parameters
    ----------
    encoder : Encoder
    database : Database; closed when the service stops
    settings, limits : as in `create_app`
    threads : int, photos decoded at once; None for one per available processor
    """
    queue = PhotoQueue(encoder, limits or Limits(), threads)
    projects = Projects(database, queue)
    app = _application(queue, settings, projects)
    app.state.projects = projects
    for routes in (exchange, project_routes, examples, collection, fine_tuning):
        app.include_router(routes.router)
    add_page(app)

    @app.get("/v1/info", response_model=ServiceInfo)
    async def info() -> Response:
        """The encoder, and the limits of a request."""
        return JSONResponse(_service_info(app, queue, learns=True))

    return app


def _application(queue: PhotoQueue, settings: Settings, projects: Projects | None) -> FastAPI:
    """What every service has: checks of requests, errors, and routes that say how it is."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        running = asyncio.create_task(projects.run()) if projects else None
        yield
        if running and projects:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
            projects.close()
        queue.close()

    app = FastAPI(
        title="tip-adapter",
        version=__version__,
        description="Classifies photos. Errors are problem details (RFC 9457) with a stable `code`.",
        lifespan=lifespan,
        docs_url=None,  # their pages load scripts from another site
        redoc_url=None,
        responses=problems(401, 421),
    )
    app.state.instance = uuid.uuid4().hex
    app.state.needs_token = settings.token is not None
    app.add_middleware(Guard, settings=settings, limits=queue.limits)
    app.add_middleware(Metrics, queue=queue)
    _add_error_handlers(app)
    _add_status_routes(app, queue, projects)
    return app


def _add_error_handlers(app: FastAPI) -> None:
    """Every error becomes a problem; an unexpected one is logged, too."""

    async def of_package(request: Request, error: Exception) -> Response:
        response = problem_response(error)
        if response.status_code == STATUSES["internal_error"]:
            _LOG.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return response

    async def unexpected(_: Request, error: Exception) -> Response:
        return problem_response(error)  # Starlette raises it again, and the server logs it

    async def of_routing(request: Request, error: HTTPException) -> Response:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "bad_request")
        headers = error.headers
        if error.status_code == 405:  # the router names the methods of one of the path's routes only
            headers = {"allow": ", ".join(_methods(app, request.url.path)) or (headers or {}).get("allow", "")}
        return problem_response(Problem(code, f"{error.detail}; /openapi.json lists what there is", headers))

    async def of_query(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        place, *names = first["loc"]  # such as query, top; a third is a type of the value
        name = next((part for part in names if isinstance(part, str)), place)
        reason = first["msg"].removeprefix("Value error, ")
        found = f", found {shown(first['input'])}" if first["type"] != "missing" else ""
        return problem_response(UsageError(f"{name}: {reason[0].lower()}{reason[1:]}{found}"))

    async def of_database(_: Request, error: DBAPIError) -> Response:
        _LOG.error("the database failed: %s", error.orig)
        is_full = re.search("disk is full|no space left", str(error.orig), re.IGNORECASE)
        reason = "has no space left on its disk" if is_full else "cannot be used at present"
        detail = f"the database {reason}, nothing was changed; {'free some' if is_full else 'try again in 1 s'}"
        return problem_response(Problem("database_unavailable", detail, {"retry-after": "1"}))

    async def of_client(_: Request, __: Exception) -> Response:
        return problem_response(Problem("client_gone", "the client went away"))

    app.add_exception_handler(TipAdapterError, of_package)
    app.add_exception_handler(Problem, of_package)
    app.add_exception_handler(HTTPException, of_routing)  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, of_query)  # type: ignore[arg-type]
    app.add_exception_handler(DBAPIError, of_database)  # type: ignore[arg-type]
    app.add_exception_handler(ClientDisconnect, of_client)
    app.add_exception_handler(Exception, unexpected)


def _methods(app: FastAPI, path: str) -> list[str]:
    """The methods that a path has."""
    paths = app.openapi()["paths"]
    found = [paths[path]] if path in paths else []
    found = found or [paths[p] for p in paths if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", p), path)]
    return sorted({method.upper() for methods in found for method in methods})


def _add_model_routes(app: FastAPI, model: FewShotClassifier, queue: PhotoQueue) -> None:
    limits = queue.limits

    @app.post(
        "/v1/classify",
        response_model=Predictions,
        responses=problems(400, 403, 408, 413, 415, 422, 503),
        openapi_extra=photo_form(),
    )
    async def classify(request: Request, options: Annotated[Options, Query()]) -> Response:
        """Classify photos: one record each, with an `error` where some of them cannot be read."""
        head = model.head_
        least = least_score(options.min_score, head)
        if options.explain:
            head.require_explanations()
        # Before the body is read; without its length as many bytes as it may have.
        n_bytes = int(request.headers.get("content-length", limits.body_bytes))
        with queue.place(1, n_bytes):
            photos = await read_photos(request, limits)
            with queue.place(len(photos) - 1, 0):
                work = queue.predict(head, photos, top=options.top, min_score=least, explain=options.explain)
                predictions = await unless_gone(request, work)
        return JSONResponse({"predictions": predictions})

    @app.get("/v1/info", response_model=ModelInfo)
    async def info() -> Response:
        """The model: its classes, method and encoder; and the limits of a request."""
        head = model.head_
        of_model = {
            "method": head.method,
            "classes": head.described_classes,
            "threshold": head.left_out.threshold if head.left_out else None,
            "explains": head.estimator.capabilities.explains,
        }
        return JSONResponse({**_service_info(app, queue, learns=False), **of_model})


def _service_info(app: FastAPI, queue: PhotoQueue, *, learns: bool) -> dict[str, Any]:
    encoder = queue.encoder.identity
    return {
        "tip_adapter": __version__,
        "instance": app.state.instance,
        "needs_token": app.state.needs_token,
        "teaching": learns,
        "encoder": encoder.name,
        "encoder_fingerprint": encoder.fingerprint,
        "max_photos": queue.limits.photos,
        "max_body_bytes": queue.limits.body_bytes,
    }


def _add_status_routes(app: FastAPI, queue: PhotoQueue, projects: Projects | None) -> None:
    @app.get("/healthz", response_model=Status)
    async def healthz() -> Response:
        """Whether the service runs."""
        return JSONResponse({"status": "ok"})

    @app.get("/readyz", response_model=Status, responses=problems(503))
    async def readyz() -> Response:
        """Whether it takes further photos: the encoder is loaded, the queue has room, and the database can be written."""
        if projects:
            await asyncio.to_thread(projects.database.check)
        with queue.place(1, 1):
            return JSONResponse({"status": "ready"})

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics(request: Request) -> Response:
        """Counts of requests and photos, for Prometheus."""
        return PlainTextResponse(request.state.metrics.text(), media_type=MEDIA_TYPE)
