"""The description of the service is true: requests that schemathesis makes of it are answered as it says."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, settings

schemathesis = pytest.importorskip("schemathesis")

from tip_adapter.encoders import load_encoder
from tip_adapter.serve.app import create_projects_app
from tip_adapter.serve.database import Database, sqlite_url
from tip_adapter.serve.settings import Settings

from .conftest import LOCAL, Api, TestClient

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

EXAMPLES = 300 if os.environ.get("TIP_ADAPTER_SOAK") else 12


@pytest.mark.slow
def test_fault_35_answers_are_those_that_the_description_promises(
    tmp_path: Path, photo: Callable[..., bytes], recwarn: pytest.WarningsRecorder
) -> None:
    app = create_projects_app(load_encoder("toy"), Database(sqlite_url(tmp_path)), Settings.of())
    with TestClient(app, base_url=LOCAL) as client:
        api = Api(client)
        api.add(api.add_class("red"), photo("red"))
        schema = schemathesis.openapi.from_asgi("/openapi.json", app)
        failures = []
        for result in schema.get_all_operations():
            operation = result.ok()
            if operation.path.endswith("/events"):  # it does not end
                continue

            @settings(
                max_examples=EXAMPLES,
                deadline=None,
                database=None,
                phases=[Phase.explicit, Phase.generate],
                suppress_health_check=list(HealthCheck),
                derandomize=True,
            )
            @operation.as_strategy().example if False else _given(operation.as_strategy())
            def answered(case: schemathesis.Case) -> None:
                case.path_parameters = {**(case.path_parameters or {}), **_mostly(case.path_parameters, api.id)}
                response = case.call(session=client, base_url=LOCAL)
                case.validate_response(response)

            try:
                answered()
            except Exception as error:
                failures.append(f"{operation.label}: {error}")
        assert failures == []
