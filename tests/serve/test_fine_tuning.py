"""Fine-tuning of a project: trained in the background, compared on photos that are held out, accepted or dropped."""

from __future__ import annotations

import io
import json
import threading
import time
import zipfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load, save

from tip_adapter import FewShotClassifier, TipAdapterFClassifier
from tip_adapter.encoders import load_encoder
from tip_adapter.metrics import accuracy_interval
from tip_adapter.serve import fine_tuner
from tip_adapter.serve.fine_tuning import Comparison, folds
from tip_adapter.vectors import SupportSet, softmax, unit_rows

from .conftest import Api

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fastapi.testclient import TestClient

    Varied = Callable[..., bytes]

N_EACH = 6


@pytest.fixture
def varied(paint: Callable[..., Image.Image]) -> Callable[..., bytes]:
    """varied("red", 7) → the content of a PNG, tinted so that none nearly repeats another."""

    def content(label: str, number: int) -> bytes:
        photo, file = paint(label, number), io.BytesIO()
        tint = tuple(np.random.default_rng([number, len(label)]).integers(0, 256, 3).tolist())
        Image.blend(photo, Image.new("RGB", photo.size, tint), 0.45).save(file, "PNG")
        return file.getvalue()

    return content


@pytest.fixture
def taught(api: Api, varied: Callable[..., bytes]) -> Api:
    """A project of three classes with six photos each."""
    teach(api, varied)
    return api


def teach(api: Api, photo: Callable[..., bytes]) -> None:
    for label in ("red", "green", "blue"):
        c = api.add_class(label)
        for number in range(N_EACH):
            api.add(c, photo(label, number), filename=f"{label}{number}.png")


def ended(api: Api) -> Any:
    """The job once it does not run any more."""
    for _ in range(1200):
        job = api.call("GET", "/fine-tune")
        if job["state"] != "running":
            return job
        time.sleep(0.025)
    raise AssertionError("it is still running")


def train(api: Api, *, accepts: bool) -> None:
    """Fine-tune by two epochs, and wait for it."""
    api.call("POST", "/fine-tune", 202, json={"epochs": 2})
    assert ended(api)["state"] == "done"
    if accepts:
        api.call("POST", "/fine-tune/accept")


def project_of(api: Api) -> Any:
    return api.client.app.state.projects.get(api.id)  # type: ignore[attr-defined]


def support_of(api: Api) -> SupportSet:
    support: SupportSet = project_of(api).state.support(load_encoder("toy").identity.width)
    return support


def require(happened: bool) -> None:
    assert happened


@pytest.fixture
def at_epoch(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """with at_epoch(3) as reached: a training waits after its third epoch until the block ends; reached() waits for that."""

    @contextmanager
    def waiting(n: int) -> Iterator[Callable[[], None]]:
        reached, goes_on, train = threading.Event(), threading.Event(), fine_tuner.fine_tune
        done: list[int] = []

        def trained(*args: Any) -> Any:
            def after_epoch(epochs_done: int, classifier: Any) -> None:
                args[-1](epochs_done, classifier)
                done.append(epochs_done)
                if sum(map(bool, done)) == n:
                    reached.set()
                    assert goes_on.wait(30)

            return train(*args[:-1], after_epoch)

        monkeypatch.setattr(fine_tuner, "fine_tune", trained)
        try:
            yield lambda: require(reached.wait(30))
        finally:
            goes_on.set()
            monkeypatch.setattr(fine_tuner, "fine_tune", train)

    return waiting


# ---- the job ---------------------------------------------------------------------------------------------------------


def test_the_accepted_head_is_tip_adapter_f_trained_on_all_photos(taught: Api, varied: Varied) -> None:
    started = taught.call("POST", "/fine-tune", 202, json={"epochs": 3})
    assert (started["state"], started["epochs"]) == ("running", 3 * (len(folds(support_of(taught))) + 1))
    job = ended(taught)
    assert (job["state"], job["epoch"], job["note"]) == ("done", job["epochs"], "")
    before = taught.call("GET")
    assert before["settings"]["method"] == "text-offset"
    accepted = taught.call("POST", "/fine-tune/accept")
    assert accepted == {"version": before["version"] + 1, "fine_tuning": {**job, "state": "accepted"}}
    after = taught.call("GET")
    assert (after["settings"]["method"], after["jobs"]["fine_tuning"]["state"]) == ("tip-adapter-f", "accepted")
    head, support = project_of(taught).state.head, support_of(taught)
    direct = TipAdapterFClassifier(
        alpha=head.choice.alpha,
        beta=head.choice.beta,
        class_embeddings=head.class_embeddings,
        logit_scale=head.logit_scale,
        epochs=3,
    ).fit(support.vectors, support.labels)
    assert np.array_equal(direct.keys_, head.estimator.keys_)
    query = load_encoder("toy").encode_images([np.asarray(Image.open(io.BytesIO(varied("red", 50))))])
    wanted = softmax(direct.logits(query) / head.temperature)[0]
    scores = {one["label"]: one["score"] for one in taught.predict(varied("red", 50))["top"]}
    assert [scores[label] for label in direct.classes_.tolist()] == pytest.approx(wanted.tolist(), rel=1e-6)


@pytest.mark.filterwarnings("ignore:.* one photo, which leave-one-out cannot score")
def test_before_and_after_are_measured_on_photos_that_neither_has_seen(taught: Api) -> None:
    support = support_of(taught)
    parts = folds(support)
    assert 2 <= len(parts) <= 5
    rows = np.concatenate(parts)
    assert len(set(rows.tolist())) == len(rows)
    taught.call("POST", "/fine-tune", 202, json={"epochs": 2})
    job = ended(taught)
    taught.call("POST", "/fine-tune/accept")
    learner = project_of(taught).fine_tuner._learner
    names = {label: label for label in ("red", "green", "blue")}
    right = {"before": 0, "after": 0}
    for part in parts:
        known, held_out = support.take(np.delete(np.arange(len(support)), part)), support.take(part)
        data = learner.training_data(names, frozenset(), known)
        heads = {
            "before": learner.fit(data).head,
            "after": learner.fine_tune(data, 2, lambda *_: None),
        }
        for name, head in heads.items():
            right[name] += int((head.predict(held_out.vectors) == held_out.labels).sum())
    for name, n_right in right.items():
        low, high = accuracy_interval(n_right, len(rows))
        assert job[name] == {"accuracy": n_right / len(rows), "low": low, "high": high, "n": len(rows)}
    report = taught.call("GET", "/report")
    assert report["accuracy"] == {
        "value": job["after"]["accuracy"],
        **{k: job["after"][k] for k in ("low", "high", "n")},
    }
    assert np.trace(report["confusion"]["counts"]) == right["after"]


@pytest.mark.parametrize(
    ("n_better", "n_worse", "verdict"),
    [(0, 0, "no_difference"), (5, 0, "no_difference"), (6, 0, "better"), (0, 6, "worse"), (12, 4, "no_difference"),
     (15, 4, "better"), (4, 15, "worse"), (7, 7, "no_difference")],
)  # fmt: skip
def test_the_verdict_is_that_of_a_sign_test(n_better: int, n_worse: int, verdict: str) -> None:
    truth = np.array(["a"] * (n_better + n_worse + 10))
    before, after = truth.copy(), truth.copy()
    before[:n_better] = "b"
    after[n_better : n_better + n_worse] = "b"
    comparison = Comparison.of(truth, before, after)
    assert (comparison.n_better, comparison.n_worse, comparison.verdict) == (n_better, n_worse, verdict)
    assert comparison.before["accuracy"] == pytest.approx(1 - n_better / len(truth))


def test_near_repeats_are_in_one_fold(taught: Api) -> None:
    support = support_of(taught)
    rng = np.random.default_rng(0)
    copies = support.vectors + rng.normal(scale=1e-4, size=support.vectors.shape).astype(np.float32)
    twice = SupportSet(
        unit_rows(np.concatenate([support.vectors, copies])),
        np.tile(support.labels, 2),
        [str(n) for n in range(2 * len(support))],
    )
    for part in folds(twice):
        assert {row + len(support) for row in part if row < len(support)} == {
            row for row in part if row >= len(support)
        }


# ---- cancel, drop, change --------------------------------------------------------------------------------------------


def test_a_training_is_cancelled_after_its_present_epoch(taught: Api, at_epoch: Any) -> None:
    with at_epoch(3) as reached:
        taught.call("POST", "/fine-tune", 202, json={"epochs": 50})
        reached()
        assert taught.call("GET", "/fine-tune")["epoch"] == 3
        assert taught.call("POST", "/fine-tune", 409)["code"] == "fine_tuning_runs"
        other = Api(taught.client, "other")
        other.add_class("a")
        assert other.call("POST", "/fine-tune", 409)["code"] == "fine_tuning_runs"
        assert taught.call("POST", "/fine-tune/accept", 409)["code"] == "conflict"
        project_of(taught).settle(tune=True)  # else the settings may be chosen later, as a new version
        version = taught.call("GET")["version"]
        taught.call("DELETE", "/fine-tune", 204)
        job = taught.call("GET", "/fine-tune")
        assert (job["state"], job["epoch"]) == ("cancelled", 3)
        assert "cancelled" in job["note"]
    taught.call("POST", "/fine-tune", 202, json={"epochs": 1})  # waits for the thread
    assert ended(taught)["state"] == "done"
    assert taught.call("GET")["version"] == version
    taught.call("DELETE", "/fine-tune", 204)
    assert taught.call("GET")["jobs"]["fine_tuning"] is None
    assert taught.call("GET", "/fine-tune", 404)["code"] == "not_found"
    assert taught.call("DELETE", "/fine-tune", 404)["code"] == "not_found"


def test_a_project_that_is_deleted_is_trained_no_further(taught: Api, at_epoch: Any) -> None:
    with at_epoch(2) as reached:
        taught.call("POST", "/fine-tune", 202)
        reached()
        tuner = project_of(taught).fine_tuner
        taught.call("DELETE", "", 204)
    other = Api(taught.client, "other")
    assert other.call("POST", "/fine-tune", 422)["code"] == "no_classes"
    assert tuner.job.epoch == 2


@pytest.mark.parametrize("accepts", [True, False])
def test_after_a_change_the_default_method_answers(taught: Api, varied: Varied, accepts: bool) -> None:
    train(taught, accepts=accepts)
    (red, *_) = taught.call("GET")["classes"]
    taught.collect(varied("red", 40))
    taught.collection()
    taught.call("PATCH", "", json={"name": "another name"})
    assert taught.call("GET", "/fine-tune")["state"] == (
        "accepted" if accepts else "done"
    )  # nothing that it learned from
    taught.add(red["id"], varied("red", 41))
    job = taught.call("GET", "/fine-tune")
    assert job["state"] == "outdated"
    assert "fine-tune again" in job["note"]
    assert taught.call("GET")["settings"]["method"] == "text-offset"
    assert taught.call("POST", "/fine-tune/accept", 409)["code"] == "photos_changed"
    taught.call("POST", "/undo")
    assert taught.call("GET", "/fine-tune")["state"] == "done"
    taught.call("POST", "/fine-tune/accept")
    assert taught.call("GET")["settings"]["method"] == "tip-adapter-f"


@pytest.mark.parametrize("change", ["disable", "rename", "move", "add class", "delete class", "delete photo"])
def test_every_change_of_answers_ends_an_accepted_head(taught: Api, change: str) -> None:
    train(taught, accepts=True)
    red, green, _ = taught.call("GET")["classes"]
    e = taught.call("GET", "/examples", params={"class_id": red["id"]})["examples"][0]["id"]
    version = taught.call("GET")["version"]
    if change == "disable":
        taught.call("PATCH", f"/classes/{red['id']}", json={"enabled": False})
    elif change == "rename":
        taught.call("PATCH", f"/classes/{red['id']}", json={"name": "crimson"})
    elif change == "move":
        taught.call("PATCH", f"/examples/{e}", json={"class_id": green["id"]})
    elif change == "add class":
        taught.add_class("grey")
    elif change == "delete class":
        taught.call("DELETE", f"/classes/{red['id']}", 204)
    else:
        taught.call("DELETE", f"/examples/{e}", 204)
    after = taught.call("GET")
    assert (after["settings"]["method"], after["jobs"]["fine_tuning"]["state"]) == ("text-offset", "outdated")
    assert after["version"] > version


def test_photos_that_change_during_the_training_outdate_its_result(taught: Api, varied: Varied, at_epoch: Any) -> None:
    with at_epoch(2) as reached:
        taught.call("POST", "/fine-tune", 202, json={"epochs": 2})
        reached()
        taught.add(taught.call("GET")["classes"][0]["id"], varied("red", 60))
    assert ended(taught)["state"] == "outdated"
    assert taught.call("POST", "/fine-tune/accept", 409)["code"] == "photos_changed"
    train(taught, accepts=True)


def test_an_accepted_head_is_dropped(taught: Api, varied: Varied) -> None:
    project_of(taught).settle(tune=True)  # else the settings may be chosen after the first prediction
    before = taught.predict(varied("blue", 70))
    train(taught, accepts=True)
    assert taught.call("POST", "/fine-tune", 409)["code"] == "conflict"
    assert taught.predict(varied("blue", 70)) != before
    version = taught.call("GET")["version"]
    taught.call("DELETE", "/fine-tune", 204)
    assert taught.call("GET")["version"] == version + 1
    project_of(taught).settle(tune=False)
    after = taught.predict(varied("blue", 70))
    assert [one["label"] for one in after["top"]] == [one["label"] for one in before["top"]]
    assert [one["score"] for one in after["top"]] == pytest.approx([one["score"] for one in before["top"]], abs=1e-5)


def test_too_few_photos_are_refused_and_a_failure_says_why(
    api: Api, varied: Varied, monkeypatch: pytest.MonkeyPatch
) -> None:
    red, blue = api.add_class("red"), api.add_class("blue")
    for number in range(4):
        api.add(red, varied("red", number))
    api.add(blue, varied("blue", 0))
    refused = api.call("POST", "/fine-tune", 422)
    assert refused["code"] == "too_few_photos"
    assert "fewer than two classes have two photos" in refused["detail"]
    for epochs in (0, 101, 1.5, "3", None):
        assert api.call("POST", "/fine-tune", 422, json={"epochs": epochs})["code"] == "usage"
    api.add(blue, varied("blue", 1))
    monkeypatch.setattr(fine_tuner, "fine_tune", lambda *_: 1 / 0)
    api.call("POST", "/fine-tune", 202)
    job = ended(api)
    assert (job["state"], job["note"], job["after"]) == ("failed", "division by zero", None)
    monkeypatch.undo()
    train(api, accepts=True)


# ---- files, restarts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["accepted", "done", "outdated"])
def test_a_result_is_there_after_a_restart(
    learning: Callable[..., TestClient], varied: Varied, database_url: str, state: str
) -> None:
    api = Api(learning(url=database_url))
    teach(api, varied)
    train(api, accepts=state != "done")
    if state == "outdated":
        api.add(api.call("GET")["classes"][0]["id"], varied("red", 41))
    project_of(api).settle(tune=True)
    answer, job = api.predict(varied("green", 80)), api.call("GET", "/fine-tune")
    report = {**api.call("GET", "/report"), "version": None}  # settings that are chosen later make a new version
    assert job["state"] == state
    api.client = learning(url=database_url)
    assert api.call("GET", "/fine-tune") == job
    if state == "accepted":
        assert api.predict(varied("green", 80)) == answer
    assert {**api.call("GET", "/report"), "version": None} == report
    if state == "done":
        api.call("POST", "/fine-tune/accept")
    assert api.call("GET")["settings"]["method"] == ("text-offset" if state == "outdated" else "tip-adapter-f")


def test_photos_that_changed_places_outdate_a_result_also_after_a_restart(
    learning: Callable[..., TestClient], varied: Varied
) -> None:
    api = Api(learning())
    teach(api, varied)
    train(api, accepts=True)
    red, green, _ = (one["id"] for one in api.call("GET")["classes"])
    (first, *_), (second, *_) = (api.call("GET", "/examples", params={"class_id": c})["examples"] for c in (red, green))
    api.call("PATCH", f"/examples/{first['id']}", json={"class_id": green})
    api.call("PATCH", f"/examples/{second['id']}", json={"class_id": red})
    api.client = learning()
    assert api.call("GET", "/fine-tune")["state"] == "outdated"
    assert api.call("POST", "/fine-tune/accept", 409)["code"] == "photos_changed"


def test_a_training_that_a_restart_ends_says_so(
    learning: Callable[..., TestClient], varied: Varied, at_epoch: Any
) -> None:
    api = Api(learning())
    teach(api, varied)
    with at_epoch(2) as reached:
        api.call("POST", "/fine-tune", 202, json={"epochs": 50})
        reached()
        api.client.app.state.projects.stopping.set()  # type: ignore[attr-defined]
    api.client = learning()
    job = api.call("GET", "/fine-tune")
    assert (job["state"], job["code"]) == ("failed", "interrupted")
    assert "service was stopped" in job["note"]
    train(api, accepts=True)


def test_the_model_folder_and_onnx_are_those_of_the_accepted_head(taught: Api, varied: Varied, tmp_path: Path) -> None:
    train(taught, accepts=True)
    zipfile.ZipFile(io.BytesIO(taught.call("GET", "/export", params={"format": "model"}))).extractall(tmp_path)
    model = FewShotClassifier.load(tmp_path / "model")
    assert model.method == "tip-adapter-f"
    record = next(iter(model.predict_stream([varied("green", 80)])))
    assert taught.predict(varied("green", 80))["top"] == record["top"]
    onnx = pytest.importorskip("onnxruntime").InferenceSession(
        taught.call("GET", "/export", params={"format": "onnx"}), providers=["CPUExecutionProvider"]
    )
    vector = model.encoder_.encode_images([np.asarray(Image.open(io.BytesIO(varied("green", 80))))])
    assert np.abs(onnx.run(None, {onnx.get_inputs()[0].name: vector})[-1].max() - record["score"]) < 1e-5


def test_a_project_file_has_the_accepted_head(
    learning: Callable[..., TestClient], taught: Api, varied: Varied, tmp_path: Path
) -> None:
    without = taught.call("GET", "/export")
    train(taught, accepts=True)
    content = taught.call("GET", "/export")
    answer, job = taught.predict(varied("green", 80)), taught.call("GET", "/fine-tune")
    copies = [imported(taught, content), imported(taught, without)]
    assert copies[1].call("GET", "/fine-tune", 404)["code"] == "not_found"
    report = {**copies[0].call("GET", "/report"), "version": None}  # settings that are chosen later make a new version
    for _ in range(2):
        assert {**copies[0].call("GET", "/fine-tune"), "started_version": job["started_version"]} == job
        assert copies[0].predict(varied("green", 80)) == answer
        assert {**copies[0].call("GET", "/report"), "version": None} == report
        copies[0].client = learning()  # and after a restart
    copies[0].add(copies[0].call("GET")["classes"][0]["id"], varied("red", 41))
    assert copies[0].call("GET", "/fine-tune")["state"] == "outdated"


def imported(api: Api, content: bytes) -> Api:
    """The project of a file, which has a new id."""
    made = api.client.post("/v1/projects/import", content=content)
    assert made.status_code == 201, made.text
    copy = Api.__new__(Api)
    copy.client, copy.id = api.client, made.json()["id"]
    copy.base = f"/v1/projects/{copy.id}"
    return copy


def test_fault_39_fault_42_a_forged_fine_tuned_head_is_refused(taught: Api) -> None:
    train(taught, accepts=True)
    with zipfile.ZipFile(io.BytesIO(taught.call("GET", "/export"))) as archive:
        text, stored = archive.read("project.json"), archive.read("project.safetensors")
    arrays = load(stored)
    keys = arrays["learned.keys_"]

    def refused(reason: str, change: Callable[[dict[str, Any]], Any] = lambda _: None, **other: Any) -> None:
        record = json.loads(text)
        change(record["fine_tuned"])
        kept = {name: array for name, array in {**arrays, **other}.items() if array is not None}
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as writer:
            writer.writestr("project.json", json.dumps(record))
            writer.writestr("project.safetensors", save(kept))
        answer = taught.client.post("/v1/projects/import", content=content.getvalue())
        assert (answer.status_code, answer.json()["code"]) == (422, "bad_project_file"), reason
        assert reason in answer.json()["detail"]

    for wrong in (None, keys[:-1].copy(), keys[:, :-1].copy(), keys.astype(np.float64)):
        refused("its arrays are", **{"learned.keys_": wrong})
    refused("its arrays are", **{"learned.more": keys})
    for value in (np.nan, np.inf, 1e9):
        refused("contains NaN, or values beyond", **{"learned.keys_": np.full_like(keys, value)})
    refused("of other photos", lambda r: r["images"].reverse())
    refused("its arrays are", lambda r: r["images"].pop())
    refused("parameters", lambda r: r["parameters"].update(run="rm"))
    refused("parameters", lambda r: r["parameters"].clear())
    refused("method", lambda r: r.update(method="coop"))
    refused("training", lambda r: r["training"].update(run=[]))
    refused("choice.alpha", lambda r: r["choice"].update(alpha=-1))
    refused("choice", lambda r: r.update(choice=None))
    refused("alpha must be a number", lambda r: r["choice"].update(alpha=None, beta=None))
    refused("photos that it has not", lambda r: r["rows"].__setitem__(0, 10**6))
    refused("photos that it has not", lambda r: r["rows"].__setitem__(0, r["rows"][1]))
    refused("several numbers of photos", lambda r: r["predicted"].pop())
    refused("several numbers of photos", lambda r: r["comparison"].update(n_better=10**6))
    refused("a class that does not exist", lambda r: r["predicted"].__setitem__(0, "cat"))
    refused("a class that does not exist", lambda r: r["left_out"]["per_class"][0].update(label="cat"))
    refused("is not that of its predictions", lambda r: r.update(predicted=["red"] * len(r["predicted"])))
    refused("verdict", lambda r: r["comparison"].update(verdict="<b>"))
    assert len(taught.client.get("/v1/projects").json()["projects"]) == 1


def test_the_collection_is_sorted_by_the_accepted_head(taught: Api, varied: Varied) -> None:
    i = taught.collect(varied("blue", 33))
    taught.collection()
    train(taught, accepts=True)
    (photo,) = taught.collection()["photos"]
    assert photo["id"] == i
    assert photo["label_score"] == taught.predict(varied("blue", 33))["score"]


def test_events_tell_the_progress(taught: Api) -> None:
    train(taught, accepts=False)
    with taught.client.stream("GET", f"{taught.base}/events") as answer:
        line = next(line for line in answer.iter_lines() if line.startswith("data:"))
        taught.client.app.state.projects.stopping.set()  # type: ignore[attr-defined]
    assert json.loads(line.removeprefix("data:"))["jobs"]["fine_tuning"]["state"] == "done"
