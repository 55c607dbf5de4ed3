"""The report of a project, its file, and its models for other programs."""

from __future__ import annotations

import io
import json
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import pytest
from safetensors.numpy import load, save

from tip_adapter import FewShotClassifier
from tip_adapter.errors import NotWritable
from tip_adapter.serve.state import Change

from .conftest import Api

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Photo = Callable[..., bytes]

NOISE = np.random.default_rng(0)


@pytest.fixture
def api_with_photos(api: Api, photo: Photo) -> Api:
    """Three classes of three photos, and two in the collection."""
    for label in ("red", "green", "blue"):
        c = api.add_class(label)
        for number in range(3):
            api.add(c, photo(label, number), filename=f"{label}.png")
    for number in range(2):
        api.collect(photo("grey", number))
    api.collection()
    return api


def test_a_model_predicts_from_python_what_the_service_predicts(
    api_with_photos: Api, photo: Photo, tmp_path: Path
) -> None:
    content = api_with_photos.call("GET", "/export", params={"format": "model"})
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert sorted(archive.namelist()) == ["model/README.md", "model/adapter.safetensors", "model/config.json"]
        archive.extractall(tmp_path)
    model = FewShotClassifier.load(tmp_path / "model")
    for label in ("red", "green", "grey"):
        record = next(iter(model.predict_stream([photo(label)])))
        assert api_with_photos.predict(photo(label))["top"] == record["top"]
    assert len(model.support_) == 9


def test_an_onnx_file_is_a_graph(api_with_photos: Api) -> None:
    content = api_with_photos.call("GET", "/export", params={"format": "onnx"})
    (output,) = onnxruntime.InferenceSession(content).get_outputs()
    assert output.shape[1] == 3


def test_a_project_file_is_the_same_project_elsewhere(api_with_photos: Api, photo: Photo) -> None:
    api = api_with_photos
    settle(api)
    content = api.call("GET", "/export")
    copy = Api.__new__(Api)
    made = api.client.post("/v1/projects/import", content=content)
    assert made.status_code == 201
    copy.client, copy.id = api.client, made.json()["id"]
    copy.base = f"/v1/projects/{copy.id}"
    assert copy.id != api.id  # which is taken
    assert copy.call("GET", "/examples")["examples"] == api.call("GET", "/examples")["examples"]
    assert copy.call("GET")["classes"] == api.call("GET")["classes"]
    assert copy.collection()["total"] == 2
    for entry, other in zip(copy.predict(photo("red"))["top"], api.predict(photo("red"))["top"], strict=True):
        assert entry == {"label": other["label"], "score": pytest.approx(other["score"], abs=1e-3)}
    e = copy.call("GET", "/examples")["examples"][0]["id"]
    assert copy.call("GET", f"/examples/{e}/thumbnail") == api.call("GET", f"/examples/{e}/thumbnail")
    api.call("DELETE", status=204)
    assert api.client.post("/v1/projects/import", content=content).json()["id"] == api.id


def test_fault_23_fault_38_fault_41_a_file_that_is_no_project_is_refused(api_with_photos: Api) -> None:
    client = api_with_photos.client
    content = api_with_photos.call("GET", "/export")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        text, stored = archive.read("project.json"), archive.read("project.safetensors")
    record, arrays = json.loads(text), load(stored)

    def of(change: Callable[[dict[str, Any]], Any]) -> bytes:
        changed = json.loads(text)
        change(changed)
        return zipped({"project.json": json.dumps(changed).encode(), "project.safetensors": stored})

    def with_arrays(**changed: Any) -> bytes:
        return zipped({"project.json": text, "project.safetensors": save({**arrays, **changed})})

    files = {
        "empty": b"",
        "no zip": b"PK\x03\x04 and then nothing",
        "cut": content[: len(content) // 2],
        "a pickle": b"\x80\x04\x95",
        "another member": zipped({"project.json": text, "project.safetensors": stored, "../../x": b""}),
        "one member": zipped({"project.json": text}),
        "compressed": zipped({"project.json": text, "project.safetensors": bytes(2**22)}, zipfile.ZIP_DEFLATED),
        "a link": zipped({"project.json": text, "/project.safetensors": stored}),
        "no JSON": zipped({"project.json": b"{", "project.safetensors": stored}),
        "deep JSON": zipped({"project.json": b"[" * 100_000, "project.safetensors": stored}),
        "repeated key": zipped({"project.json": text[:-1] + b', "format": 1}', "project.safetensors": stored}),
        "another format": of(lambda r: r.update(format=2)),
        "an id that is a path": of(lambda r: r["photos"][0].update(id="../../../../../../../../../etc/passwd")),
        "a class twice": of(lambda r: r["classes"].append(r["classes"][0])),
        "a photo of no class": of(lambda r: r["photos"][0].update(class_id=record["id"])),
        "another key": of(lambda r: r.update(run="rm")),
        "a label with a NUL": of(lambda r: r["classes"][0].update(label="a\0")),
        "too few photos": of(lambda r: r["photos"].pop()),
        "a header of 2**60": zipped({"project.json": text, "project.safetensors": (2**60).to_bytes(8, "little")}),
        "NaN": with_arrays(vectors=np.full_like(arrays["vectors"], np.nan)),
        "zero": with_arrays(vectors=np.zeros_like(arrays["vectors"])),
        "another type": with_arrays(vectors=arrays["vectors"].astype(np.float64)),
        "another width": with_arrays(vectors=arrays["vectors"][:, :-1].copy()),
        "no thumbnails": zipped({"project.json": text, "project.safetensors": save({"vectors": arrays["vectors"]})}),
        "a page as thumbnail": with_arrays(thumbnails=np.zeros_like(arrays["thumbnails"])),
        "a number as thumbnails": with_arrays(thumbnails=np.array(3, np.uint8)),
        "labels that differ by white space": of(
            lambda r: [c.update(label=f"a{' ' * n}b") for n, c in enumerate(r["classes"], 1)]
        ),
        "ends backwards": with_arrays(thumbnail_ends=arrays["thumbnail_ends"][::-1].copy()),
    }
    for name, file in files.items():
        answer = client.post("/v1/projects/import", content=file)
        assert (answer.status_code, answer.json()["code"]) in ((422, "bad_project_file"), (422, "bad_labels")), name
    other = client.post("/v1/projects/import", content=of(lambda r: r.update(fingerprint="0")))
    assert (other.status_code, other.json()["code"]) == (409, "wrong_encoder")
    assert "other weights of the encoder" in other.json()["detail"]
    assert len(client.get("/v1/projects").json()["projects"]) == 1


def test_fault_23_a_file_that_is_no_project_is_refused_with_what_it_is(api_with_photos: Api) -> None:
    api, client = api_with_photos, api_with_photos.client
    content = api.call("GET", "/export")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    model = api.call("GET", "/export", params={"format": "model"})
    many = zipped({f"photo {n}.jpg": b"" for n in range(9)})
    for file, reason in [
        (b"", "the file is empty; download it again"),
        (
            content[: len(content) // 2],
            f"the file is incomplete: after {len(content) // 2:,} bytes the list of its entries",
        ),
        (b"{}", "the file is no zip; choose the one that the export of a project gave"),
        (
            model,
            "the file is a model folder, with model/README.md, model/adapter.safetensors, model/config.json; open it",
        ),
        (
            zipped({f"project/{name}": part for name, part in members.items()}),
            "the file is a project that was zipped again, with project/project.json, project/",
        ),
        (zipped({"project.json": members["project.json"]}), "the file has project.json, expected project.json and"),
        (many, "photo 0.jpg"),
    ]:
        answer = client.post("/v1/projects/import", content=file)
        assert (answer.status_code, answer.json()["code"]) == (422, "bad_project_file")
        assert reason in answer.json()["detail"]
        assert len(answer.json()["detail"]) < 400


def test_fault_78_a_model_that_cannot_be_saved_for_its_labels_is_refused_with_the_reason(
    api: Api, photo: Photo
) -> None:
    project = api.client.app.state.projects.get(api.id)  # type: ignore[attr-defined]
    api.add(api.add_class("red"), photo("red"))
    c = api.add_class("other")
    project._change(Change("", classes={c: {"label": "Red"}}))  # as earlier versions allowed
    answer = api.client.get(f"{api.base}/export", params={"format": "model"})
    assert (answer.status_code, answer.json()["code"]) == (422, "cannot_export")
    assert "classes 'Red' and 'red' differ only by case; rename or merge them" in answer.json()["detail"]


def test_fault_37_an_error_of_the_package_that_no_request_causes_is_logged(
    api_with_photos: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise NotWritable("cannot write /some/path: no space left on device") from OSError("no space left on device")

    monkeypatch.setattr(FewShotClassifier, "save", fail)
    answer = api_with_photos.client.get(f"{api_with_photos.base}/export", params={"format": "model"})
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "/some/path" not in answer.text
    (record,) = caplog.records
    assert record.getMessage() == f"GET {api_with_photos.base}/export failed"
    assert "no space left on device" in str(record.exc_info[1])


def zipped(files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", compression) as writer:
        for name, content in files.items():
            writer.writestr(name, content)
    return archive.getvalue()


def test_the_report_counts_left_out_photos_and_names_what_to_review(api: Api) -> None:
    red, blue = api.add_class("red"), api.add_class("blue")
    empty = api.call("GET", "/report")
    assert (empty["accuracy"], empty["n_examples"], empty["needs_photos"]) == (None, 0, [red, blue])
    for number in range(8):
        for c, shade in ((red, (200, 60, 60)), (blue, (60, 60, 200))):
            api.add(c, noisy(shade, number))
    wrong = api.add(red, noisy((60, 60, 200), 50))["example"]["id"]
    settle(api)
    report = api.call("GET", "/report")
    assert (report["n_examples"], report["accuracy"]["n"]) == (17, 17)
    assert report["accuracy"]["low"] < report["accuracy"]["value"] < report["accuracy"]["high"]
    assert {(row["class_id"], row["n"]) for row in report["per_class"]} == {(red, 9), (blue, 8)}
    assert np.sum(report["confusion"]["counts"]) == 17
    assert (report["suspicious"][0]["example_id"], report["suspicious"][0]["suggested_class_id"]) == (wrong, blue)
    assert api.call("GET", "/report") == report


def settle(api: Api) -> None:
    """Fit all photos with settings chosen on them."""
    api.client.app.state.projects.get(api.id).settle(tune=True)  # type: ignore[attr-defined]


def noisy(shade: tuple[int, int, int], seed: int) -> bytes:
    """A photo of many colours around one."""
    from PIL import Image

    pixels = np.random.default_rng(seed).normal(shade, 90, (4, 4, 3)).clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((96, 96), Image.Resampling.NEAREST).save(file, "PNG")
    return file.getvalue()


def test_a_model_has_each_photo_once_whatever_the_files_are_called(api: Api, photo: Photo, tmp_path: Path) -> None:
    c = api.add_class("red")
    api.add_class("blue")
    e = api.add(c, photo("red", 0), filename="a.jpg")
    api.add(c, photo("red", 1), filename="a.jpg")
    api.add(c, photo("red", 2), filename=f"{e}/a.jpg")
    zipfile.ZipFile(io.BytesIO(api.call("GET", "/export", params={"format": "model"}))).extractall(tmp_path)
    assert len(set(FewShotClassifier.load(tmp_path / "model").support_.ids.tolist())) == 3


def test_a_model_with_photos_of_none_of_the_classes_is_exported(
    api_with_photos: Api, photo: Photo, tmp_path: Path
) -> None:
    api = api_with_photos
    grey = api.collection()["photos"][0]["id"]
    c = api.call("GET")["classes"][0]["id"]
    api.call("POST", f"/collection/{grey}/label", json={"not_class_id": c})
    content = api.call("GET", "/export", params={"format": "model"})
    zipfile.ZipFile(io.BytesIO(content)).extractall(tmp_path)
    model = FewShotClassifier.load(tmp_path / "model")
    assert "none of these" in model.names_
    record = next(iter(model.predict_stream([photo("grey", 9)])))
    assert api.predict(photo("grey", 9))["top"] == record["top"]
