"""The page that uses the service: its files, from the package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fastapi.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

if TYPE_CHECKING:
    import os

    from fastapi import FastAPI

_FOLDER = Path(__file__).with_name("page")
#: Scripts, styles and data from this service only; `blob:` shows photos before they are sent.
_HEADERS = {
    "cache-control": "no-cache",
    "content-security-policy": (
        "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
        "connect-src 'self'; worker-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
}


class _Files(StaticFiles):
    """The files of the page, with its headers."""

    def file_response(self, full_path: str | os.PathLike[str], *args: object, **options: object) -> Response:
        response = super().file_response(full_path, *args, **options)  # type: ignore[arg-type]
        response.headers.update(_HEADERS)
        return response


def add_page(app: FastAPI) -> None:
    """Serve index.html at / and the other files under /static; nothing where the package has no page."""
    if not _FOLDER.is_dir():
        return

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(_FOLDER / "index.html", headers=_HEADERS)

    app.mount("/static", _Files(directory=_FOLDER))
