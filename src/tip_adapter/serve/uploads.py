"""Read the photos of a multipart form: their content into memory, their names as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import python_multipart  # noqa: F401 - Starlette would miss it only at the first upload
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from tip_adapter.images.inputs import image_name
from tip_adapter.serve.problems import Problem
from tip_adapter.text import counted, shown

if TYPE_CHECKING:
    from starlette.requests import Request

    from tip_adapter.serve.settings import Limits

#: Name of the form's field, which may be repeated.
FIELD = "images"
_TOO_MANY = "Too many files"


class Photo(NamedTuple):
    """An upload: the name that its sender gave it, which is never used as a path, and its content."""

    name: str
    content: bytes


async def read_photos(request: Request, limits: Limits) -> list[Photo]:
    """The photos of a request, at least one.

    Raises
    ------
    Problem
        The body is no form, is damaged, has other fields than `FIELD` or no photo, or too many; or as `Guard` limits it.
    """
    media_type = request.headers.get("content-type", "")
    if media_type.partition(";")[0].strip().lower() != "multipart/form-data":
        raise Problem(
            "unsupported_media_type",
            f"Content-Type is {shown(media_type)}; send multipart/form-data with a file {FIELD}, as curl -F {FIELD}=@photo.jpg does",
        )
    parser = MultiPartParser(request.headers, request.stream(), max_files=limits.photos, max_fields=0)
    parser.spool_max_size = limits.body_bytes + 1  # in memory, where it is needed anyway, and not on disk
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if error.message.startswith(_TOO_MANY):
            raise too_many_images(limits) from None
        raise Problem(
            "bad_request", f"the form cannot be read: {error.message.rstrip('.')}; send {FIELD} as files"
        ) from None
    try:
        photos = [await _photo(field, upload, position) for position, (field, upload) in enumerate(form.multi_items())]
    finally:
        await form.close()
    if not photos:
        raise Problem("bad_request", f"the form has no file; send at least one, called {FIELD}")
    return photos


async def _photo(field: str, upload: UploadFile | str, position: int) -> Photo:
    if field != FIELD or not isinstance(upload, UploadFile):
        raise Problem("bad_request", f"the form has a field {shown(field)}; send files called {FIELD} only")
    content = await upload.read()
    return Photo(upload.filename or image_name(content, position), content)


def too_many_images(limits: Limits) -> Problem:
    """The problem of a form with more photos than one request may have."""
    most = counted(limits.photos, "photo", "photos")
    return Problem("too_many_images", f"more than {most} in one request; send several requests")
