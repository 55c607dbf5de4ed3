"""A project after any changes is what a plain dictionary says, in both databases, also after restarts."""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tip_adapter.encoders import load_encoder
from tip_adapter.serve.batching import EncodedPhoto, PhotoQueue
from tip_adapter.serve.database import Database, sqlite_url
from tip_adapter.serve.problems import Problem
from tip_adapter.serve.projects import Projects
from tip_adapter.serve.settings import Limits

from .conftest import new_id

if TYPE_CHECKING:
    from collections.abc import Callable

SOAK = bool(os.environ.get("TIP_ADAPTER_SOAK"))
LABELS = ("red", "green", "blue", "grey")
ENCODER = load_encoder("toy")


class ProjectMachine(RuleBasedStateMachine):
    """Changes of a project, and the same of a dictionary."""

    def __init__(self, new_database: Callable[[], str]) -> None:
        super().__init__()
        self.url = new_database()
        self.model: dict[str, dict[str, Any]] = {"classes": {}, "photos": {}}
        self.history: list[dict[str, dict[str, Any]]] = []
        self.version = 0
        self.n = 0
        self.projects = self.opened()

    def opened(self) -> Projects:
        return Projects(Database(self.url), PhotoQueue(ENCODER, Limits()))

    @property
    def project(self) -> Any:
        return self.projects.get(self.id)

    def teardown(self) -> None:
        self.projects.close()
        self.projects.queue.close()

    def changes(self) -> dict[str, dict[str, Any]]:
        """The model to change, after keeping it for undo."""
        self.history.append(copy.deepcopy(self.model))
        return self.model

    def one(self, data: Any, kind: str) -> str:
        return str(data.draw(st.sampled_from(sorted(self.model[kind]))))

    @initialize()
    def start(self) -> None:
        self.id = new_id()
        assert self.projects.put(self.id, "states")
        assert not self.projects.put(self.id, "states")

    @rule(label=st.sampled_from(LABELS))
    def add_class(self, label: str) -> None:
        c = new_id()
        if label in {row["label"] for row in self.model["classes"].values()}:
            with pytest.raises(Problem, match="already"):
                self.project.put_class(c, label, None)
            return
        assert self.project.put_class(c, label, None)
        self.changes()["classes"][c] = {"label": label, "enabled": True}

    @precondition(lambda self: self.model["classes"])
    @rule(data=st.data(), enabled=st.booleans())
    def enable(self, data: Any, enabled: bool) -> None:
        c = self.one(data, "classes")
        self.project.change_class(c, None, None, enabled)
        if self.model["classes"][c]["enabled"] != enabled:
            self.changes()["classes"][c]["enabled"] = enabled

    @precondition(lambda self: self.model["classes"])
    @rule(data=st.data())
    def delete_class(self, data: Any) -> None:
        c = self.one(data, "classes")
        self.project.delete_class(c)
        model = self.changes()
        del model["classes"][c]
        model["photos"] = {e: of for e, of in model["photos"].items() if of != c}

    @precondition(lambda self: self.model["classes"])
    @rule(data=st.data(), repeats=st.booleans())
    def add_photo(self, data: Any, repeats: bool) -> None:
        c, e, self.n = self.one(data, "classes"), new_id(), self.n + 1
        vector = np.random.default_rng(self.n).normal(size=ENCODER.identity.width).astype(np.float32)
        photo = EncodedPhoto(vector / np.linalg.norm(vector), f"{self.n:064x}", b"\xff\xd8\xff")
        assert self.project.add_example(e, c, "a.png", photo) is None
        self.changes()["photos"][e] = c
        if repeats:
            assert self.project.add_example(e, c, "a.png", photo) is None
            assert self.project.add_example(new_id(), c, "a.png", photo).id == e

    @precondition(lambda self: self.model["photos"])
    @rule(data=st.data())
    def move_photo(self, data: Any) -> None:
        e, c = self.one(data, "photos"), self.one(data, "classes")
        self.project.move_example(e, c)
        if self.model["photos"][e] != c:
            self.changes()["photos"][e] = c

    @precondition(lambda self: self.model["photos"])
    @rule(data=st.data())
    def delete_photo(self, data: Any) -> None:
        e = self.one(data, "photos")
        self.project.delete_example(e)
        del self.changes()["photos"][e]

    @rule()
    def undo(self) -> None:
        if not self.history:
            with pytest.raises(Problem, match="no change"):
                self.project.undo()
            return
        self.project.undo()
        self.model = self.history.pop()

    @rule()
    def restart(self) -> None:
        self.teardown()
        self.projects = self.opened()

    @rule(tune=st.booleans())
    def settle(self, tune: bool) -> None:
        self.project.settle(tune=tune)

    @invariant()
    def is_what_the_model_says(self) -> None:
        if not hasattr(self, "id"):
            return
        state = self.project.state
        classes = {c: {"label": row.label, "enabled": row.enabled} for c, row in state.classes.items()}
        assert classes == self.model["classes"]
        assert {e: row.class_id for e, row in state.examples.items()} == self.model["photos"]
        assert state.version >= self.version
        self.version = state.version
        enabled = {row["label"]: c for c, row in classes.items() if row["enabled"]}
        if not enabled:
            assert state.learned is None
            return
        assert set(state.learned.head.names) == set(enabled)
        counts = {label: list(self.model["photos"].values()).count(c) for label, c in enabled.items()}
        assert {
            label: n for label, n in zip(state.learned.head.names, state.learned.step.counts.tolist(), strict=True) if n
        } == {label: n for label, n in counts.items() if n}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_fault_46_fault_59_a_project_is_what_its_changes_make_of_it(kind: str, request: pytest.FixtureRequest) -> None:
    folder = Path(tempfile.mkdtemp())
    postgres = request.getfixturevalue("postgres") if kind == "postgresql" else None
    examples = 300 if SOAK else 20 if kind == "sqlite" else 5
    chosen = settings(
        max_examples=examples,
        stateful_step_count=25,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        derandomize=not SOAK,
    )

    def machine() -> ProjectMachine:
        return ProjectMachine(postgres or (lambda: sqlite_url(folder / new_id())))

    try:
        run_state_machine_as_test(machine, settings=chosen)  # type: ignore[no-untyped-call]
    finally:
        shutil.rmtree(folder)
