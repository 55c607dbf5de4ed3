"""Errors as answers: problem details (RFC 9457) with a stable `code`, the package's own where it has one."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse

from tip_adapter.errors import (
    ExportError,
    ImageError,
    ImageTooLarge,
    LabelError,
    NothingReadable,
    TipAdapterError,
    UsageError,
    VectorError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Code of an error that only HTTP knows → its status.
STATUSES = {
    "bad_request": 400,
    "unauthorized": 401,
    "cross_site": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "receive_timeout": 408,
    "conflict": 409,
    "fine_tuning_runs": 409,
    "not_encoded": 409,
    "nothing_to_undo": 409,
    "photos_changed": 409,
    "wrong_encoder": 409,
    "body_too_large": 413,
    "limit_reached": 413,
    "too_many_images": 413,
    "unsupported_media_type": 415,
    "host_not_allowed": 421,
    "bad_project_file": 422,
    "no_classes": 422,
    "too_few_photos": 422,
    "too_many_pending": 429,
    "client_gone": 499,
    "internal_error": 500,
    "busy": 503,
    "database_unavailable": 503,
}
#: The package's errors that a request may cause → their status; a subclass comes before its parent.
STATUS_OF_ERROR = {
    ImageTooLarge: 413,
    ImageError: 422,
    NothingReadable: 422,
    UsageError: 422,
    LabelError: 422,
    VectorError: 422,
    ExportError: 422,
}

#: Of every response: nothing in it is run, framed, cached or guessed.
SECURITY_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Problem(Exception):
    """A request that is refused.

    Parameters
    ----------
    code : one of `STATUSES`
    detail : what was found, and what to do
    headers : further headers of the response
    """

    def __init__(self, code: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.code, self.detail, self.headers = code, detail, headers or {}


def problem_response(error: Exception) -> JSONResponse:
    """A problem, or an error of the package, as a response; anything else is ``internal_error`` and says no more."""
    headers: Mapping[str, str] = {}
    if isinstance(error, Problem):
        code, detail, headers = error.code, error.detail, error.headers
        status = STATUSES[code]
    elif kinds := [kind for kind in STATUS_OF_ERROR if isinstance(error, kind)]:
        assert isinstance(error, TipAdapterError)
        code, detail, status = error.code, str(error), STATUS_OF_ERROR[kinds[0]]
    else:
        code, detail, status = "internal_error", "the request failed; the service's log says why", 500
    title = HTTPStatus(status).phrase if status != STATUSES["client_gone"] else "Client Closed Request"
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, "code": code}
    return JSONResponse(body, status, {**SECURITY_HEADERS, **headers}, media_type="application/problem+json")
