"""POST /v1/classify: the answers of predict, rows with errors, and what is refused with which code."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from tip_adapter import FewShotClassifier
from tip_adapter.serve.settings import Limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastapi.testclient import TestClient

    Serving = Callable[..., TestClient]
    Upload = Callable[..., tuple[str, tuple[str, bytes]]]

NOISE = np.random.default_rng(0).integers(0, 256, (90, 110, 3), dtype=np.uint8)


def encoded(pixels: np.ndarray, kind: str = "JPEG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def form(*photos: bytes, disposition: str = 'form-data; name="images"; filename="a.jpg"') -> dict[str, Any]:
    """The arguments of a request whose form is made by hand: client libraries change unusual names."""
    parts = [b"--x\r\nContent-Disposition: " + disposition.encode() + b"\r\n\r\n" + photo + b"\r\n" for photo in photos]
    return {
        "content": b"".join([*parts, b"--x--\r\n"]),
        "headers": {"content-type": "multipart/form-data; boundary=x"},
    }


def refused(answer: Any, status: int, code: str, detail: str = "") -> None:
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code), problem
    assert problem.keys() == {"type", "title", "status", "detail", "code"}
    assert detail in problem["detail"]


# ---- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", [{}, {"top": 2}, {"min_score": 0.99}, {"min_score": "auto", "top": 1}])
@pytest.mark.parametrize("explain", [False, True])
def test_an_answer_is_that_of_predict_to_the_last_digit(
    serving: Serving, model: FewShotClassifier, upload: Upload, query: dict[str, Any], explain: bool
) -> None:
    photos = [upload(label, number) for number, label in enumerate(("red", "blue", "green", "grey"), 100)]
    answer = serving().post("/v1/classify", params={**query, "explain": explain}, files=photos)
    stream = model.explain_stream if explain else model.predict_stream
    expected = list(stream([content for _, (_, content) in photos], **query))
    for record, (_, (name, _)) in zip(expected, photos, strict=True):
        record["image"] = name
    assert answer.status_code == 200
    assert answer.json() == {"predictions": json.loads(json.dumps(expected))}


def test_fault_01_fault_02_a_photo_that_cannot_be_read_is_a_row_among_others(serving: Serving, upload: Upload) -> None:
    photos = [upload("red"), ("images", ("no\nphoto.jpg", b"a cat")), ("images", ("empty.jpg", b"")), upload("blue")]
    records = serving().post("/v1/classify", files=photos).json()["predictions"]
    assert [record["label"] for record in records] == ["red", None, None, "blue"]
    assert [record["score"] is None for record in records] == [False, True, True, False]
    assert records[0]["error"] is None
    assert "not an image in a known format" in records[1]["error"]
    assert records[2]["error"] == "cannot read empty.jpg: the file is empty"


@pytest.mark.parametrize(
    ("photo", "status", "code", "detail"),
    [
        (b"", 422, "unreadable_image", "the file is empty"),
        (encoded(NOISE)[:2000], 422, "unreadable_image", "cannot read a.jpg: "),
        (b"%PDF-1.7\n", 422, "unreadable_image", "not an image in a known format"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 422, "unreadable_image", "not an image in a known format"),
        (b"P4 50000 50000\n", 413, "image_too_large", "above the limit of 89,478,485 pixels"),
    ],
    ids=["empty", "truncated", "pdf", "svg", "bomb"],
)
def test_fault_01_fault_02_fault_05_fault_11_an_only_photo_that_cannot_be_read_is_a_problem_with_the_code_of_its_error(
    serving: Serving, photo: bytes, status: int, code: str, detail: str
) -> None:
    refused(serving().post("/v1/classify", **form(photo)), status, code, detail)


def test_a_request_without_a_readable_photo_is_a_problem(serving: Serving) -> None:
    answer = serving().post("/v1/classify", **form(b"", b"a cat"))
    refused(answer, 422, "nothing_readable", "none of 2 photos can be read; the first: cannot read a.jpg")


def test_fault_04_the_content_decides_and_not_the_type_that_is_claimed(serving: Serving, upload: Upload) -> None:
    _, (_, content) = upload("green")
    answer = serving().post("/v1/classify", files={"images": ("page.html", content, "text/html")})
    assert answer.json()["predictions"][0]["label"] == "green"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_fault_13_all_orientations_of_a_photo_get_one_answer(serving: Serving) -> None:
    upright = Image.fromarray(NOISE)
    stored = {
        1: upright,
        2: upright.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: upright.transpose(Image.Transpose.ROTATE_180),
        4: upright.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: upright.transpose(Image.Transpose.TRANSPOSE),
        6: upright.transpose(Image.Transpose.ROTATE_90),
        7: upright.transpose(Image.Transpose.TRANSVERSE),
        8: upright.transpose(Image.Transpose.ROTATE_270),
    }
    files = []
    for orientation, image in stored.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        files.append(("images", ("a.png", encoded(np.asarray(image), "PNG", exif=exif))))
    records = serving().post("/v1/classify", files=files).json()["predictions"]
    assert [record["top"] for record in records] == [records[0]["top"]] * 8


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "CON",
        "a\u202eb.jpg",
        "🐈" * 500,
        "<script>alert(1)</script>",
        "=cmd()",
        "a\x00b",
    ],
)
def test_fault_16_a_name_is_text_that_comes_back(serving: Serving, upload: Upload, name: str) -> None:
    _, (_, content) = upload("red")
    client = serving()
    good = client.post("/v1/classify", **form(content, disposition=f'form-data; name="images"; filename="{name}"'))
    bad = client.post("/v1/classify", **form(b"?", disposition=f'form-data; name="images"; filename="{name}"'))
    if good.status_code == 400:  # the form's reader accepts no control characters
        refused(good, 400, "bad_request")
        return
    (record,) = good.json()["predictions"]
    assert (record["image"], record["label"]) == (name, "red")
    assert bad.json()["detail"].isprintable()


# ---- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("top=0", "top: input should be greater than or equal to 1, found '0'"),
        ("top=many", "found 'many'"),
        ("min_score=nan", "min_score"),
        ("min_score=1.5", "1.5"),
        ("explain=perhaps", "found 'perhaps'"),
        ("exlain=1", "exlain: extra inputs are not permitted"),
    ],
)
def test_a_wrong_query_is_refused_with_what_was_found(
    serving: Serving, upload: Upload, query: str, detail: str
) -> None:
    refused(serving().post(f"/v1/classify?{query}", files=[upload("red")]), 422, "usage", detail)


def test_what_the_model_cannot_do_is_refused_before_the_body_is_read(
    serving: Serving, paint: Callable[..., Image.Image]
) -> None:
    zero_shot = FewShotClassifier("toy", method="zero-shot").fit([paint("red"), paint("blue")], ["red", "blue"])
    client = serving(model=zero_shot)
    refused(client.post("/v1/classify?explain=1"), 422, "usage", "no photos to explain an answer by")
    refused(client.post("/v1/classify?min_score=auto"), 422, "usage", "give min_score a number")


@pytest.mark.parametrize(
    ("request_", "status", "code", "detail"),
    [
        ({}, 415, "unsupported_media_type", "Content-Type is ''"),
        ({"data": {"images": "a.jpg"}}, 415, "unsupported_media_type", "x-www-form-urlencoded"),
        ({"json": []}, 415, "unsupported_media_type", "curl -F images=@photo.jpg"),
        (form(), 400, "bad_request", "the form has no file"),
        (form(b"x", disposition='form-data; name="images"'), 400, "bad_request", "send images as files"),
        (form(b"x", disposition='form-data; filename="a"'), 400, "bad_request", '"name" must be provided'),
        (form(b"x", disposition='form-data; name="photo"; filename="a"'), 400, "bad_request", "a field 'photo'"),
        ({**form(b"x"), "headers": {"content-type": "multipart/form-data"}}, 400, "bad_request", "Missing boundary"),
        ({**form(b"x"), "content": b"no form"}, 400, "bad_request", "the form cannot be read"),
        (form(*[b"x"] * 33), 413, "too_many_images", "more than 32 photos in one request"),
        (form(*[b"x"] * 10_000), 413, "too_many_images", "more than 32 photos in one request"),
        (form(b"x", disposition="form-data; " + 2**17 * "x"), 400, "bad_request", "the form cannot be read"),
    ],
)
def test_fault_22_a_body_that_is_no_form_of_photos_is_refused(
    serving: Serving, request_: dict[str, Any], status: int, code: str, detail: str
) -> None:
    refused(serving().post("/v1/classify", **request_), status, code, detail)


@pytest.mark.parametrize("chunked", [False, True], ids=["with a length", "chunked"])
def test_fault_20_a_body_above_the_limit_is_refused(serving: Serving, chunked: bool) -> None:
    request = form(bytes(3000))
    if chunked:
        body = request["content"]
        request["content"] = (body[start : start + 500] for start in range(0, len(body), 500))
    answer = serving(limits=Limits(body_bytes=2000)).post("/v1/classify", **request)
    refused(answer, 413, "body_too_large", "at most 2,000 bytes are accepted")


@pytest.mark.parametrize("limits", [Limits(waiting_photos=0), Limits(waiting_photos=1), Limits(waiting_bytes=50)])
def test_fault_24_a_full_queue_refuses_at_once(serving: Serving, limits: Limits) -> None:
    client = serving(limits=limits)
    answer = client.post("/v1/classify", **form(encoded(NOISE), encoded(NOISE)))
    refused(answer, 503, "busy", "try again in 1 s")
    assert answer.headers["retry-after"] == "1"
    if limits.waiting_photos == 0:
        refused(client.get("/readyz"), 503, "busy")
    assert "tip_adapter_waiting_photos 0\n" in client.get("/metrics").text


def test_fault_37_an_error_of_the_service_itself_says_nothing_about_it(
    serving: Serving, model: FewShotClassifier, upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("a secret in /some/path")

    client = serving()
    with monkeypatch.context() as patched:
        patched.setattr(model.encoder_, "encode_prepared", fail)
        answer = client.post("/v1/classify", files=[upload("red")])
    refused(answer, 500, "internal_error")
    assert "secret" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert client.post("/v1/classify", files=[upload("red")]).status_code == 200


# ---- the other routes ------------------------------------------------------------------------------------------------


def test_the_other_routes(serving: Serving, model: FewShotClassifier, upload: Upload) -> None:
    client = serving()
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready"}
    info = client.get("/v1/info").json()
    assert info["classes"][0] == {"label": "blue", "name": "blue", "n_images": 4}
    assert (info["method"], info["encoder"], info["explains"]) == ("tip-adapter", "toy", True)
    assert info["threshold"] == model.head_.threshold
    client.post("/v1/classify", files=[upload("red"), upload("blue")])
    client.get("/no-such-page")
    metrics = client.get("/metrics")
    assert metrics.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    lines = metrics.text.splitlines()
    assert 'tip_adapter_requests_total{method="POST",path="/v1/classify",status="200"} 1' in lines
    assert 'tip_adapter_requests_total{method="GET",path="other",status="404"} 1' in lines
    assert "tip_adapter_photos_total 2" in lines
    assert "tip_adapter_batches_total 1" in lines


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/x", 404, "not_found"),
        ("GET", "/v1/classify", 405, "method_not_allowed"),
        ("GET", "/docs", 404, "not_found"),
    ],
)
def test_what_does_not_exist_is_a_problem(serving: Serving, method: str, path: str, status: int, code: str) -> None:
    refused(serving().request(method, path), status, code, "/openapi.json lists what there is")


def test_openapi_describes_every_route_with_its_problems(serving: Serving) -> None:
    described = serving().get("/openapi.json").json()
    assert set(described["paths"]) == {"/v1/classify", "/v1/info", "/healthz", "/readyz", "/metrics"}
    classify = described["paths"]["/v1/classify"]["post"]
    assert {p["name"] for p in classify["parameters"]} == {"top", "min_score", "explain"}
    assert "multipart/form-data" in classify["requestBody"]["content"]
    problems = {status: answer["content"] for status, answer in classify["responses"].items() if status != "200"}
    assert set(problems) == {"400", "401", "403", "408", "413", "415", "421", "422", "503"}
    assert all(set(content) == {"application/problem+json"} for content in problems.values())
