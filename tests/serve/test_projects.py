"""Projects: classes, photos, answers, undo and what is refused."""

from __future__ import annotations

import csv
import io
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from tip_adapter import FewShotClassifier
from tip_adapter.serve.settings import Limits

from .conftest import Api, new_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastapi.testclient import TestClient

    Photo = Callable[..., bytes]
    Learning = Callable[..., TestClient]

COLOURS = ("red", "green", "blue")


def refused(answer: Any, status: int, code: str, detail: str = "") -> None:
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code), problem
    assert detail in problem["detail"]


def colours(api: Api, photo: Photo, n: int = 3) -> dict[str, str]:
    """Three classes with some photos each: label → id."""
    ids = {label: api.add_class(label) for label in COLOURS}
    for label, c in ids.items():
        for number in range(n):
            api.add(c, photo(label, number))
    return ids


# ---- answers ---------------------------------------------------------------------------------------------------------


def test_a_class_answers_by_its_name_and_then_by_its_photos(api: Api, photo: Photo) -> None:
    refused(api.client.post(f"{api.base}/predict", files={"images": photo("red")}), 422, "no_classes", "add one")
    c = api.add_class("red")
    assert api.predict(photo("blue"))["label"] == "red"
    d = api.add_class("blue")
    api.add(c, photo("red", 1))
    api.add(d, photo("blue", 1))
    assert [api.predict(photo(label))["label"] for label in ("red", "blue")] == ["red", "blue"]
    assert [row["n_examples"] for row in api.call("GET")["classes"]] == [1, 1]


def test_answers_are_those_of_fit_on_the_same_photos(api: Api, photo: Photo) -> None:
    colours(api, photo)
    wait_until(lambda: not api.call("GET")["jobs"]["tuning"])
    photos = [photo(label, number) for label in COLOURS for number in range(3)]
    model = FewShotClassifier("toy").fit(photos, [label for label in COLOURS for _ in range(3)])
    for label in COLOURS:
        assert api.predict(photo(label))["top"] == next(iter(model.predict_stream([photo(label)])))["top"]
    settings = api.call("GET")["settings"]
    assert (settings["penalty"], settings["text_weight"]) == (model.estimator_.penalty_, model.estimator_.text_weight_)


def test_an_explanation_names_examples(api: Api, photo: Photo) -> None:
    c, d = api.add_class("red"), api.add_class("blue")
    e, f = (api.add(c, photo("red", 1))["example"]["id"], api.add(d, photo("blue", 1))["example"]["id"])
    best, _ = api.predict(photo("red"), explain=1)["explanation"]
    assert {image["id"] for image in best["images"]} == {e, f}
    total = best["text"] + best["others"] + sum(image["part"] for image in best["images"])
    assert total == pytest.approx(best["logit"], rel=1e-6)


def test_fault_59_versions_grow_and_readers_see_the_old_state_or_the_new(api: Api, photo: Photo) -> None:
    ids, seen, done = colours(api, photo, 1), [], threading.Event()

    def read() -> None:
        while not done.is_set():
            answer = api.call("GET")
            seen.append((answer["version"], answer["n_examples"]))

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(10, 25):
        api.add(ids["red"], photo("red", number))
    done.set()
    reader.join()
    assert seen == sorted(seen)
    by_version: dict[int, set[int]] = {}
    for version, n in seen:
        by_version.setdefault(version, set()).add(n)
    assert all(len(numbers) == 1 for numbers in by_version.values())


def test_fault_83_photos_of_24_threads_are_all_learned(api: Api, photo: Photo) -> None:
    ids = colours(api, photo, 1)
    threads = [
        threading.Thread(target=api.add, args=(ids[COLOURS[n % 3]], photo(COLOURS[n % 3], 100 + n))) for n in range(24)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert api.call("GET")["n_examples"] == 27
    wait_until(lambda: not api.call("GET")["jobs"]["tuning"])
    learned = api.client.app.state.projects.get(api.id).state.learned  # type: ignore[attr-defined]
    assert len(set(learned.head.support.ids.tolist())) == 27


def test_fault_60_a_removed_photo_leaves_answers_as_if_it_had_never_been_added(api: Api, photo: Photo) -> None:
    ids = colours(api, photo)
    before = api.predict(photo("grey"))["top"]
    e = api.add(ids["red"], photo("grey", 5))["example"]["id"]
    assert api.predict(photo("grey"))["top"] != before
    api.call("DELETE", f"/examples/{e}", 204)
    wait_until(lambda: not api.call("GET")["jobs"]["tuning"])
    other = Api(api.client)
    colours(other, photo)
    wait_until(lambda: not other.call("GET")["jobs"]["tuning"])
    assert api.predict(photo("grey"))["top"] == other.predict(photo("grey"))["top"]


# ---- classes ---------------------------------------------------------------------------------------------------------


def test_a_class_is_renamed_disabled_and_deleted(api: Api, photo: Photo) -> None:
    ids = colours(api, photo)
    c = api.call("PATCH", f"/classes/{ids['red']}", json={"label": "scarlet"})["class"]
    assert (c["label"], c["name"], c["n_examples"]) == ("scarlet", "red", 3)
    assert api.predict(photo("red"))["label"] == "scarlet"
    api.call("PATCH", f"/classes/{ids['red']}", json={"enabled": False})
    assert {entry["label"] for entry in api.predict(photo("red"))["top"]} == {"blue", "green"}
    api.call("PATCH", f"/classes/{ids['red']}", json={"enabled": True})
    assert api.predict(photo("red"))["label"] == "scarlet"
    api.call("DELETE", f"/classes/{ids['red']}", 204)
    assert (api.call("GET")["n_classes"], api.call("GET")["n_examples"]) == (2, 6)
    assert {entry["label"] for entry in api.predict(photo("red"))["top"]} == {"blue", "green"}


@pytest.mark.parametrize(
    ("label", "status", "code"),
    [
        ("red", 409, "conflict"),
        ("Red", 422, "bad_labels"),
        (" ", 422, "bad_labels"),
        ("", 422, "usage"),
        ("a\0", 422, "bad_labels"),
        ("x" * 100_000, 422, "usage"),
        (7, 422, "usage"),
    ],
)
def test_fault_16_a_label_that_cannot_be_one_is_refused(api: Api, label: Any, status: int, code: str) -> None:
    api.add_class("red")
    refused(api.client.put(f"{api.base}/classes/{new_id()}", json={"label": label}), status, code)
    assert api.call("GET")["n_classes"] == 1


@pytest.mark.parametrize("label", ["nan", "#N/A", "None", "undefined", " NULL ", "NA"])
def test_fault_79_a_class_is_not_called_what_programs_write_for_a_missing_label(api: Api, label: str) -> None:
    c = api.add_class("red")
    reason = f"label {label.strip()!r} is what programs write where a label is missing"
    refused(api.client.put(f"{api.base}/classes/{new_id()}", json={"label": label}), 422, "bad_labels", reason)
    refused(api.client.patch(f"{api.base}/classes/{c}", json={"label": label}), 422, "bad_labels", reason)
    assert [row["label"] for row in api.call("GET")["classes"]] == ["red"]


@pytest.mark.parametrize(
    "label", ["<script>alert(1)</script>", "=cmd()", "../../etc", "CON", "a\u202eb", "🐈", "猫", "a\nb"]
)
def test_fault_16_fault_34_a_label_is_text_that_comes_back(api: Api, photo: Photo, label: str) -> None:
    api.add(api.add_class(label), photo("red"), filename=label)
    api.add(api.add_class("other"), photo("blue"))
    assert api.predict(photo("red", 1))["label"] == label
    assert api.call("GET", "/examples")["examples"][-1]["filename"] == label
    api.collect(photo("red", 2), filename=label)
    api.collection()
    rows = list(csv.reader(io.StringIO(api.call("GET", "/collection.csv").decode(), newline="")))
    assert rows[1][1] == (f"'{label}" if label.startswith("=") else label)


def test_undo_takes_every_change_back(api: Api, photo: Photo) -> None:
    ids = colours(api, photo)
    e = api.call("GET", "/examples", params={"class_id": ids["red"]})["examples"][0]["id"]
    changes = [
        ("added class grey", lambda: api.add_class("grey")),
        ("added a photo to red", lambda: api.add(ids["red"], photo("red", 50))),
        ("moved a photo to blue", lambda: api.call("PATCH", f"/examples/{e}", json={"class_id": ids["blue"]})),
        ("removed a photo from red", lambda: api.call("DELETE", f"/examples/{e}", 204)),
        ("renamed class red", lambda: api.call("PATCH", f"/classes/{ids['red']}", json={"label": "scarlet"})),
        ("disabled class red", lambda: api.call("PATCH", f"/classes/{ids['red']}", json={"enabled": False})),
        ("deleted class red", lambda: api.call("DELETE", f"/classes/{ids['red']}", 204)),
    ]
    before = contents(api)
    for text, change in changes:
        change()
        assert contents(api) != before, text
        assert api.call("POST", "/undo")["undone"] == text
        assert contents(api) == before
    for _, change in changes[:2]:
        change()
    while api.call("GET")["can_undo"]:
        api.call("POST", "/undo")
    assert contents(api) == ([], [])
    refused(api.client.post(f"{api.base}/undo"), 409, "nothing_to_undo")


def contents(api: Api) -> tuple[list[Any], list[Any]]:
    return api.call("GET")["classes"], api.call("GET", "/examples")["examples"]


# ---- photos ----------------------------------------------------------------------------------------------------------


def test_fault_26_a_request_that_is_repeated_changes_nothing_and_one_that_conflicts_is_refused(
    api: Api, photo: Photo
) -> None:
    c, d, e = api.add_class("red"), api.add_class("blue"), new_id()
    first = api.add(c, photo("red"), e)
    assert api.add(c, photo("red"), e, status=200) == first
    assert api.call("PUT", f"/classes/{c}", json={"label": "red"})["version"] == first["version"]
    assert api.call("PUT", json={"name": "colours"})["version"] == first["version"]
    for method, path, request in [
        ("PUT", f"/examples/{e}?class_id={c}", {"content": photo("red", 1)}),
        ("PUT", f"/examples/{e}?class_id={d}", {"content": photo("red")}),
        ("PUT", f"/classes/{c}", {"json": {"label": "green"}}),
        ("PUT", "", {"json": {"name": "another"}}),
    ]:
        refused(api.client.request(method, f"{api.base}{path}", **request), 409, "conflict")
    api.call("DELETE", f"/examples/{e}", 204)
    assert api.add(c, photo("red"), e)["example"]["id"] == e


def test_fault_17_the_same_photo_is_named_and_not_stored_twice(api: Api, photo: Photo) -> None:
    c, d = api.add_class("red"), api.add_class("blue")
    e = api.add(c, photo("red"))["example"]["id"]
    for other in (c, d):
        again = api.add(other, photo("red"), status=200)
        assert (again["duplicate_of"], again["example"]["class_id"]) == (e, c)
    assert api.call("GET", "/examples")["total"] == 1


def test_fault_17_a_form_names_the_same_photo_as_a_single_one_does(api: Api, photo: Photo) -> None:
    c, d = api.add_class("red"), api.add_class("blue")
    e = api.add(c, photo("red"))["example"]["id"]
    files = [("images", ("a.png", photo("red"))), ("images", ("b.png", photo("blue")))]
    again, new = api.call("POST", f"/examples?class_id={d}", files=files)["examples"]
    assert (again["id"], again["class_id"], again["duplicate_of"]) == (e, c, e)
    assert (new["class_id"], new["duplicate_of"]) == (d, None)


def test_a_form_of_photos_is_learned_and_lists_what_is_not(api: Api, photo: Photo) -> None:
    c = api.add_class("red")
    files = [
        ("images", (name, content))
        for name, content in [("a.png", photo("red")), ("b.png", b"a cat"), ("c.png", photo("red", 1))]
    ]
    answer = api.call("POST", f"/examples?class_id={c}", files=files)
    assert [row["filename"] for row in answer["examples"]] == ["a.png", "c.png"]
    assert [(row["filename"], row["code"]) for row in answer["errors"]] == [("b.png", "unreadable_image")]


def test_fault_01_fault_15_a_photo_that_cannot_be_read_is_a_problem_and_a_thumbnail_is_only_a_jpeg(
    api: Api, photo: Photo
) -> None:
    c = api.add_class("red")
    for content, code in [
        (b"<html>", "unreadable_image"),
        (photo("red")[:60], "unreadable_image"),
    ]:
        refused(api.client.put(f"{api.base}/examples/{new_id()}?class_id={c}", content=content), 422, code)
    e = api.add(c, photo("red") + b"<script>alert(1)</script>")["example"]["id"]
    answer = api.client.get(f"{api.base}/examples/{e}/thumbnail")
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.content.startswith(b"\xff\xd8\xff")
    assert b"script" not in answer.content


def test_photos_are_listed_in_parts(api: Api, photo: Photo) -> None:
    ids = colours(api, photo)
    parts = [api.call("GET", "/examples", params={"offset": start, "limit": 4}) for start in (0, 4, 8)]
    assert [len(part["examples"]) for part in parts] == [4, 4, 1]
    assert {part["total"] for part in parts} == {9}
    assert api.call("GET", "/examples", params={"class_id": ids["green"]})["total"] == 3


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/examples?limit=301", 422),
        ("GET", "/examples?limit=x", 422),
        ("GET", "/examples?lmit=3", 422),
        ("GET", "/nothing", 404),
        ("GET", "/examples/{id}/thumbnail", 404),
        ("DELETE", "/examples/{id}", 404),
        ("DELETE", "/classes/{id}", 404),
        ("POST", "/collection/{id}/label", 422),
        ("PUT", "/classes/{id}", 422),
        ("GET", "/export?format=exe", 422),
        ("PUT", "/classes/..%2f..%2fetc", 404),
    ],
)
def test_fault_33_what_does_not_exist_or_makes_no_sense_is_a_problem(
    api: Api, method: str, path: str, status: int
) -> None:
    answer = api.client.request(method, f"{api.base}{path.format(id=new_id())}")
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text


@pytest.mark.parametrize("limits", [Limits(classes=2, photos_of_project=2, projects=1)])
def test_limits_refuse_what_is_too_much(learning: Learning, photo: Photo, limits: Limits) -> None:
    api = Api(learning(limits=limits))
    c, _ = api.add_class("red"), api.add_class("blue")
    for number in range(2):
        api.add(c, photo("red", number))
    for path, request in [
        (f"/classes/{new_id()}", {"json": {"label": "green"}}),
        (f"/examples/{new_id()}?class_id={c}", {"content": photo("red", 2)}),
        (f"/collection/{new_id()}", {"content": photo("red", 2)}),
    ]:
        refused(api.client.put(f"{api.base}{path}", **request), 413, "limit_reached")
    refused(api.client.put(f"/v1/projects/{new_id()}", json={"name": "x"}), 413, "limit_reached")


# ---- the collection --------------------------------------------------------------------------------------------------


def test_a_collection_is_sorted_by_what_was_learned(api: Api, photo: Photo) -> None:
    ids = colours(api, photo, 2)
    names = [f"{label}/{number}" for label in COLOURS for number in range(60, 64)]
    for name in names:
        api.collect(photo(name.split("/")[0], int(name.split("/")[1])), filename=name)
    for label in COLOURS:
        listed = api.collection(class_id=ids[label])
        scores = [row["score"] for row in listed["photos"]]
        assert scores == sorted(scores, reverse=True)
        assert {row["filename"].split("/")[0] for row in listed["photos"][:4]} == {label}
    uncertain = api.collection(order="uncertain")["photos"]
    assert sorted(row["filename"] for row in uncertain) == sorted(names)
    assert uncertain[0]["label_score"] <= uncertain[-1]["label_score"]


def test_yes_and_not_this_learn_and_are_taken_back(api: Api, photo: Photo) -> None:
    ids = colours(api, photo, 2)
    grey, red = api.collect(photo("grey", 60)), api.collect(photo("red", 60))
    api.collection()
    before = api.predict(photo("grey", 61))["top"][0]
    no = api.call("POST", f"/collection/{grey}/label", json={"not_class_id": ids["red"]})["photo"]
    none = next(row for row in api.call("GET")["classes"] if row["is_none"])
    assert (none["label"], none["n_examples"], no["class_id"]) == ("none of these", 1, none["id"])
    after = {entry["label"]: entry["score"] for entry in api.predict(photo("grey", 61))["top"]}
    assert after[before["label"]] < before["score"]
    yes = api.call("POST", f"/collection/{red}/label", json={"class_id": ids["red"]})["photo"]
    assert yes["class_id"] == ids["red"]
    assert api.collection()["total"] == 0
    assert api.collection(state="labelled")["total"] == 2
    assert api.call("GET", "/examples")["examples"][0]["origin"] == "collection"
    api.call("DELETE", f"/collection/{red}/label")
    api.call("DELETE", f"/examples/{grey}", 204)  # it stays in the collection
    assert api.collection(state="open")["total"] == 2
    api.call("DELETE", f"/collection/{grey}", 204)
    assert api.collection(state="all")["total"] == 1


@pytest.mark.parametrize("own", ["None of these", "none_of_these", "none of these"])
def test_fault_78_not_this_adds_no_class_whose_label_looks_like_one_of_the_user(
    api: Api, photo: Photo, own: str
) -> None:
    c, _ = api.add_class("red"), api.add_class(own)
    api.add_class("None-of-these 2")
    i = api.collect(photo("grey"))
    api.collection()
    api.call("POST", f"/collection/{i}/label", json={"not_class_id": c})
    none = next(row for row in api.call("GET")["classes"] if row["is_none"])
    assert (none["label"], none["n_examples"]) == ("none of these 3", 1)
    assert api.call("GET", "/export", params={"format": "model"}).startswith(b"PK")
    made = api.client.post("/v1/projects/import", content=api.call("GET", "/export"))
    assert made.status_code == 201, made.text


def test_a_class_of_none_that_is_added_again_next_to_another_is_an_ordinary_one(api: Api, photo: Photo) -> None:
    c = api.add_class("red")
    for number in range(2):
        i = api.collect(photo("grey", number))
        api.collection()
        api.call("POST", f"/collection/{i}/label", json={"not_class_id": c})
        none = next(row for row in api.call("GET")["classes"] if row["is_none"])
        if number == 0:
            first = none["id"]
            api.call("DELETE", f"/classes/{first}", 204)
    api.call("PATCH", f"/classes/{none['id']}", json={"label": "others"})
    api.call("PUT", f"/classes/{first}", 201, json={"label": "none of these"})
    assert [row["label"] for row in api.call("GET")["classes"] if row["is_none"]] == ["others"]
    made = api.client.post("/v1/projects/import", content=api.call("GET", "/export"))
    assert made.status_code == 201, made.text


def test_fault_78_not_this_adds_no_class_above_the_limit(learning: Learning, photo: Photo) -> None:
    api = Api(learning(limits=Limits(classes=1)))
    c, i = api.add_class("red"), api.collect(photo("grey"))
    api.collection()
    answer = api.client.post(f"{api.base}/collection/{i}/label", json={"not_class_id": c})
    refused(answer, 413, "limit_reached", "at most 1 classes")


@pytest.mark.parametrize("label", ["red", "blue"])
def test_fault_17_a_photo_that_is_uploaded_and_labelled_in_the_collection_counts_once(
    api: Api, photo: Photo, label: str
) -> None:
    ids = colours(api, photo, 2)
    e = api.call("GET", "/examples", params={"class_id": ids["red"]})["examples"][0]["id"]
    i = api.collect(photo("red", 1))
    api.collection()
    before = contents(api)
    answer = api.call("POST", f"/collection/{i}/label", json={"class_id": ids[label]})
    assert (answer["photo"]["class_id"], answer["duplicate_of"]) == (ids[label], e)
    examples = api.call("GET", "/examples")["examples"]
    assert (len(examples), examples[0]["id"], examples[0]["class_id"]) == (6, i, ids[label])
    assert e not in [row["id"] for row in examples]
    assert api.client.get("/v1/projects").json()["projects"][0]["n_examples"] == api.call("GET")["n_examples"] == 6
    again = api.call("POST", f"/collection/{i}/label", json={"class_id": ids["green"]})
    assert again["duplicate_of"] is None
    assert api.add(ids["red"], photo("red", 1), e, status=200)["duplicate_of"] == i
    for _ in range(2):
        api.call("POST", "/undo")
    assert contents(api) == before
    assert api.collection(state="open")["total"] == 1


def test_fault_17_undo_keeps_one_of_a_photo_that_was_deleted_and_added_again(api: Api, photo: Photo) -> None:
    c, i = api.add_class("red"), api.collect(photo("red"))
    api.collection()
    api.call("POST", f"/collection/{i}/label", json={"class_id": c})
    api.call("DELETE", f"/collection/{i}", 204)
    again = api.collect(photo("red"))
    assert [row["id"] for row in api.collection(state="all")["photos"]] == [again]
    assert api.call("POST", "/undo")["undone"] == "removed a photo from the collection"
    assert [(row["id"], row["class_id"]) for row in api.collection(state="all")["photos"]] == [(i, c)]
    assert api.call("PUT", f"/collection/{again}", 202, content=photo("red"))["duplicate_of"] == i
    assert api.call("GET")["n_examples"] == 1


def test_fault_26_a_photo_of_the_collection_that_is_added_again_is_open(api: Api, photo: Photo) -> None:
    c, i = api.add_class("red"), api.collect(photo("red"))
    api.add_class("blue")
    api.collection()
    api.call("POST", f"/collection/{i}/label", json={"class_id": c})
    api.call("DELETE", f"/collection/{i}", 204)
    api.call("DELETE", f"/classes/{c}", 204)
    api.collect(photo("red"), i)
    assert [(row["id"], row["class_id"]) for row in api.collection(state="open")["photos"]] == [(i, None)]
    assert (api.call("GET")["n_examples"], api.call("GET", "/examples")["total"]) == (0, 0)
    made = api.client.post("/v1/projects/import", content=api.call("GET", "/export"))
    assert made.status_code == 201, made.text


def test_fault_79_a_class_that_is_called_as_another_column_has_a_column_of_its_own(api: Api, photo: Photo) -> None:
    for label in ("score", "id", "score#2", "given", "=a", "'=a"):
        api.add_class(label)
    i = api.collect(photo("red"))
    api.collection()
    header, row = csv.reader(io.StringIO(api.call("GET", "/collection.csv").decode(), newline=""))
    assert header[:5] == ["id", "filename", "label", "score", "given"]
    assert len({*header}) == len(header) == len(row) == 11
    assert {"id#2", "score#2", "score#3", "given#2"} <= {*header}
    assert row[0] == i


def test_a_photo_of_the_collection_changes_nothing_that_was_learned(api: Api, photo: Photo) -> None:
    colours(api, photo, 2)
    wait_until(lambda: not api.call("GET")["jobs"]["tuning"])
    learned = api.client.app.state.projects.get(api.id).state.learned  # type: ignore[attr-defined]
    i = api.collect(photo("grey"))
    api.collection()
    api.call("DELETE", f"/collection/{i}", 204)
    assert api.client.app.state.projects.get(api.id).state.learned is learned  # type: ignore[attr-defined]
    assert not api.call("GET")["jobs"]["tuning"]


def test_a_photo_of_the_collection_that_cannot_be_read_is_counted(api: Api, photo: Photo) -> None:
    api.add_class("red")
    bad, good = api.collect(b"a cat", filename="cat.jpg"), api.collect(photo("red"))
    listed = api.collection(state="all")
    assert (listed["n_failed"], [row["id"] for row in listed["photos"]]) == (1, [good, bad])
    assert "cannot read cat.jpg" in listed["photos"][1]["error"]
    refused(api.client.post(f"{api.base}/collection/{bad}/label", json={"class_id": new_id()}), 409, "not_encoded")


def test_fault_24_a_collection_that_comes_faster_than_it_is_encoded_is_slowed_down(
    learning: Learning, photo: Photo, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = Api(learning(limits=Limits(pending_photos=2)))
    monkeypatch.setattr(api.client.app.state.projects.queue, "n_photos", 1)  # type: ignore[attr-defined]
    for number in range(2):
        api.collect(photo("red", number))
    answer = api.client.put(f"{api.base}/collection/{new_id()}", content=photo("red", 2))
    refused(answer, 429, "too_many_pending")
    assert answer.headers["retry-after"] == "1"


# ---- what is kept ----------------------------------------------------------------------------------------------------


def test_a_restart_keeps_everything_and_answers_the_same(learning: Learning, photo: Photo) -> None:
    api = Api(learning())
    colours(api, photo)
    i = api.collect(photo("grey"))
    api.collection()
    wait_until(lambda: not api.call("GET")["jobs"]["tuning"])
    before = contents(api), api.call("GET")["settings"], api.collection()["total"]
    top = api.predict(photo("grey", 7))["top"]
    instance = api.client.get("/v1/info").json()["instance"]
    api.client = learning()
    assert (contents(api), api.call("GET")["settings"], api.collection()["total"]) == before
    for entry, earlier in zip(api.predict(photo("grey", 7))["top"], top, strict=True):
        assert entry == {"label": earlier["label"], "score": pytest.approx(earlier["score"], abs=1e-5)}
    assert api.client.get("/v1/info").json()["instance"] != instance
    assert api.call("GET", f"/collection/{i}/thumbnail").startswith(b"\xff\xd8")
    assert api.call("POST", "/undo")["undone"] == "added a photo to blue"


def test_photos_that_were_not_encoded_are_so_after_a_restart(
    learning: Learning, photo: Photo, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = Api(learning())
    api.add_class("red")
    monkeypatch.setattr(api.client.app.state.projects.queue, "n_photos", 1)  # type: ignore[attr-defined]
    ids = {api.collect(photo("red", number)) for number in range(3)}
    assert api.call("GET", "/collection")["n_pending"] == 3
    api.client = learning()
    assert {row["id"] for row in api.collection()["photos"] if row["label"] == "red"} == ids


def test_fault_49_a_database_that_fails_changes_nothing_and_is_a_problem(
    api: Api, photo: Photo, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = colours(api, photo, 1)
    before = contents(api)

    def fail() -> None:
        raise OperationalError("INSERT", {}, Exception("disk I/O error in /secret/path"))

    with monkeypatch.context() as patched:
        patched.setattr(api.client.app.state.projects.database, "begin", fail)  # type: ignore[attr-defined]
        answer = api.client.put(f"{api.base}/examples/{new_id()}?class_id={ids['red']}", content=photo("red", 9))
        refused(answer, 503, "database_unavailable", "nothing was changed")
        assert "secret" not in answer.text
        assert answer.headers["retry-after"] == "1"
        refused(api.client.get("/readyz"), 503, "database_unavailable")
    assert contents(api) == before
    api.add(ids["red"], photo("red", 9))


def test_projects_are_listed_renamed_and_deleted(api: Api, photo: Photo) -> None:
    colours(api, photo, 1)
    other = Api(api.client, "other")
    listed = api.client.get("/v1/projects").json()["projects"]
    assert [(row["name"], row["n_classes"], row["n_examples"]) for row in listed] == [
        ("colours", 3, 3),
        ("other", 0, 0),
    ]
    assert other.call("PATCH", json={"name": "new"})["name"] == "new"
    other.call("DELETE", status=204)
    refused(api.client.get(other.base), 404, "not_found")
    assert len(api.client.get("/v1/projects").json()["projects"]) == 1


def wait_until(condition: Callable[[], Any], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_events_follow_changes(api: Api) -> None:
    state = api.client.app.state.projects  # type: ignore[attr-defined]
    threading.Timer(0.6, api.add_class, ["red"]).start()
    threading.Timer(1.5, state.stopping.set).start()
    with api.client.stream("GET", f"{api.base}/events") as stream:
        lines = [line for line in stream.iter_lines() if line.startswith("data: ")]
    assert len(lines) >= 2
    assert '"version": 1' in lines[0]
    assert np.all([line.endswith("}") for line in lines])


def test_requests_are_counted_by_the_paths_of_routes(api: Api) -> None:
    api.add_class("red")
    lines = api.client.get("/metrics").text.splitlines()
    assert 'tip_adapter_requests_total{method="PUT",path="/v1/projects/{p}/classes/{c}",status="201"} 1' in lines


def test_a_service_of_a_model_has_no_projects(serving: Learning, learning: Learning) -> None:
    client = serving()
    assert client.get("/v1/info").json()["teaching"] is False
    assert client.get("/v1/projects").status_code == 404
    assert learning().get("/v1/info").json()["teaching"] is True
    assert learning().post("/v1/classify").status_code == 404


def test_the_methods_of_a_path_are_all_named(api: Api) -> None:
    answer = api.client.request("POST", api.base)
    assert (answer.status_code, answer.headers["allow"]) == (405, "DELETE, GET, PATCH, PUT")
    assert api.client.get("/v1/projects/import").headers["allow"] == "POST"


# ---- at the same time, and at wrong times ----------------------------------------------------------------------------


def test_photos_deleted_while_the_collection_is_encoded_are_gone_and_the_others_sorted(api: Api, photo: Photo) -> None:
    c = api.add_class("red")
    ids = [api.collect(photo("red", number)) for number in range(24)]
    gone = ids[::3]
    for i in reversed(gone):
        api.call("DELETE", f"/collection/{i}", 204)
    listed = api.collection(class_id=c, limit=100)
    assert {row["id"] for row in listed["photos"]} == set(ids) - set(gone)
    assert (listed["total"], listed["n_failed"]) == (16, 0)
    api.call("POST", "/undo")
    assert api.collection(class_id=c, limit=100)["total"] == 17


def test_an_imported_project_has_nothing_to_undo_until_it_is_changed(api: Api, photo: Photo) -> None:
    colours(api, photo)
    made = api.client.post("/v1/projects/import", content=api.call("GET", "/export")).json()
    base = f"/v1/projects/{made['id']}"
    assert made["can_undo"] is False
    refused(api.client.post(f"{base}/undo"), 409, "nothing_to_undo", "no change that can be undone")
    assert api.client.delete(f"{base}/classes/{made['classes'][0]['id']}").status_code == 204
    assert api.client.post(f"{base}/undo").json()["undone"] == "deleted class red"
    assert api.client.get(base).json()["n_examples"] == 9


def test_a_photo_that_arrives_as_its_project_is_deleted_is_answered_that_there_is_none(
    api: Api, photo: Photo, monkeypatch: pytest.MonkeyPatch
) -> None:
    c, queue = api.add_class("red"), api.client.app.state.projects.queue  # type: ignore[attr-defined]
    encode = queue.encode

    async def deleted_meanwhile(photos: Any) -> Any:
        api.client.app.state.projects.delete(api.id)  # type: ignore[attr-defined]
        return await encode(photos)

    monkeypatch.setattr(queue, "encode", deleted_meanwhile)
    query = {"class_id": c}
    refused(
        api.client.put(f"{api.base}/examples/{new_id()}", params=query, content=photo("red")),
        404,
        "not_found",
        "deleted",
    )


@pytest.mark.parametrize("label", ["👩🏽‍🚀🐈", "קטים ‏נמר", "ก" * 500, "a" * 500])
def test_fault_16_a_long_label_or_of_another_script_is_saved_and_opened(
    api: Api, photo: Photo, learning: Learning, label: str
) -> None:
    api.add(api.add_class(label), photo("red"), filename=f"{label}.png")
    api.add(api.add_class("other"), photo("blue"))
    answer = api.predict(photo("red", 1))
    assert answer["label"] == label
    content = api.call("GET", "/export")
    api.client = learning()
    assert api.predict(photo("red", 1))["label"] == label
    made = api.client.post("/v1/projects/import", content=content).json()
    assert [one["label"] for one in made["classes"]] == [label, "other"]


def test_fault_01_fault_06_an_empty_photo_and_one_of_300_megapixels_are_refused(api: Api, photo: Photo) -> None:
    c = api.add_class("red")
    file = io.BytesIO()
    Image.new("1", (20_000, 15_000)).save(file, "PNG")
    for path in (f"/examples/{new_id()}?class_id={c}", f"/collection/{new_id()}"):
        refused(api.client.put(f"{api.base}{path}", content=b""), 400, "bad_request", "the body is empty")
    path = f"/examples/{new_id()}"
    too_large = api.client.put(f"{api.base}{path}", params={"class_id": c}, content=file.getvalue())
    refused(too_large, 413, "image_too_large", "pixels")
    refused(api.client.post(f"{api.base}/predict", files={"images": ("", b"")}), 400, "bad_request", "images")
    api.collect(file.getvalue())
    (row,) = api.collection()["photos"]
    assert "pixels" in row["error"]
    assert api.predict(photo("red"))["label"] == "red"


def test_a_database_that_becomes_read_only_refuses_photos_and_goes_on_when_it_is_not(api: Api, photo: Photo) -> None:
    c, engine = api.add_class("red"), api.client.app.state.projects.database._engine  # type: ignore[attr-defined]

    def read_only(connection: Any, *_: Any) -> None:
        connection.exec_driver_sql("PRAGMA query_only = ON")

    event.listen(engine, "begin", read_only)
    e = new_id()
    answer = api.client.put(f"{api.base}/examples/{e}", params={"class_id": c}, content=photo("red"))
    refused(answer, 503, "database_unavailable", "nothing was changed")
    assert answer.headers["retry-after"] == "1"
    assert api.client.get("/readyz").status_code == 503
    assert api.call("GET")["n_examples"] == 0
    assert api.predict(photo("red"))["label"] == "red"
    event.remove(engine, "begin", read_only)
    engine.dispose()  # the connections that only read
    api.add(c, photo("red"), e)
    assert api.call("GET")["n_examples"] == 1


def test_fault_51_a_clock_that_goes_backwards_changes_no_order(
    api: Api, photo: Photo, monkeypatch: pytest.MonkeyPatch, learning: Learning
) -> None:
    c, now = api.add_class("red"), iter(range(2_000_000_000, 0, -86_400))
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: float(next(now)))
        ids = [api.add(c, photo("red", number))["example"]["id"] for number in range(5)]
        version = api.call("GET")["version"]
        api.call("DELETE", f"/examples/{ids[-1]}", 204)
        assert api.call("POST", "/undo")["undone"] == "removed a photo from red"
    assert api.call("GET")["version"] > version
    for _ in range(2):
        assert [row["id"] for row in api.call("GET", "/examples")["examples"]] == ids[::-1]
        api.client = learning()
