"""/openapi.json says all that a client's developer needs, and what it says is what the service does.

Schemathesis makes requests from the document, good ones and bad ones, and compares every answer with it. Always the same ones.
"""

import socket
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import positive_data_acceptance
from starlette.testclient import TestClient

from seawall_service.main import create_app, create_auth_app
from seawall_service.startup_gate import load_settings
from tests.conftest import ALL_FEATURES
from tests.running_server import RunningServer

# The pool's waits are random too, in another thread, which Hypothesis takes for the strategy's own doing.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the .random. module")

MODES = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE]


def beyond_schemas(case: schemathesis.Case[Any]) -> bool:
    """What a schema cannot say: only our own cursors are good, and a whole number has no decimal point."""
    fields = case.body.values() if isinstance(case.body, dict) else []
    return "cursor" in case.query or any(isinstance(value, float) for value in fields)


def drive(contract: BaseSchema, mode: GenerationMode, examples: int, base_url: str | None = None) -> None:
    """Every operation of the document, each with as many requests as there are examples."""
    for found in contract.get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()
        takes_something = {"parameters", "requestBody"} & set(operation.definition.raw)
        if mode is GenerationMode.NEGATIVE and not takes_something:
            continue

        @settings(max_examples=examples, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=mode))
        def answers_as_documented(case: schemathesis.Case[Any]) -> None:
            untold: list[Any] = [positive_data_acceptance] if beyond_schemas(case) else []
            case.call_and_validate(excluded_checks=untold, base_url=base_url)

        answers_as_documented()


def without_edge(app: FastAPI) -> FastAPI:
    """The edge checks access tokens; an application alone takes a request without one."""
    document = app.openapi()
    for operations in document["paths"].values():
        for operation in operations.values():
            operation.pop("security", None)
    return app


@pytest.fixture(scope="module")
def api_contract() -> BaseSchema:
    return schemathesis.openapi.from_asgi("/openapi.json", without_edge(create_app(load_settings("api"))))


@pytest.fixture(scope="module")
def auth_contract() -> BaseSchema:
    return schemathesis.openapi.from_asgi("/openapi.json", without_edge(create_auth_app(load_settings("auth"))))


@pytest.mark.requirement("SEC-10", "ERR-01", "ERR-08")
@pytest.mark.parametrize("mode", MODES)
def test_the_api_answers_as_documented(api_contract: BaseSchema, mode: GenerationMode) -> None:
    drive(api_contract, mode, examples=12)


@pytest.mark.requirement("SEC-10", "ERR-01", "ERR-08")
@pytest.mark.parametrize("mode", MODES)
def test_the_gateway_answers_as_documented(auth_contract: BaseSchema, mode: GenerationMode) -> None:
    drive(auth_contract, mode, examples=10)


@pytest.fixture(params=["api", "auth"])
def document(request: pytest.FixtureRequest) -> dict[str, Any]:
    client: TestClient = request.getfixturevalue(request.param)
    described: dict[str, Any] = client.get("/openapi.json").json()
    return described


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {f"{method} {path}": operation for path, methods in document["paths"].items() for method, operation in methods.items()}


@pytest.mark.requirement("ERR-08")
def test_every_operation_is_described(document: dict[str, Any]) -> None:
    found = operations(document)
    assert found
    assert [name for name, operation in found.items() if not (operation.get("summary") and operation.get("description"))] == []
    ids = [operation["operationId"] for operation in found.values()]
    assert len(set(ids)) == len(ids)
    assert all(name.isidentifier() for name in ids)
    for operation in found.values():
        for parameter in operation.get("parameters", []):
            assert parameter["in"] == "path" or parameter.get("description"), parameter


@pytest.mark.requirement("ERR-08")
def test_every_schema_is_described_and_requests_have_examples(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert [name for name, schema in schemas.items() if name != "JsonValue" and not schema.get("description")] == []
    fields = {
        f"{name}.{field}": schema
        for name, whole in schemas.items()
        if name.endswith("Request")
        for field, schema in whole["properties"].items()
    }
    assert [name for name, field in fields.items() if not (field.get("description") and field.get("examples"))] == []


def test_what_needs_a_token_says_so(document: dict[str, Any]) -> None:
    for name, operation in operations(document).items():
        assert ("security" in operation) is not name.split()[1].startswith("/api/auth/"), name


@pytest.mark.parametrize(
    ("environment", "enabled", "status"),
    [("production", "", 404), ("production", "true", 200), ("dev", "", 200), ("staging", "false", 200)],
)
def test_in_production_it_is_shown_on_request_only(
    monkeypatch: pytest.MonkeyPatch, environment: str, enabled: str, status: int
) -> None:
    production = {
        "REQUIRE_AUTHENTICATED_PRINCIPAL": "true",
        "CORS_ORIGINS": "https://example.org",
        "APP_ENV": environment,
        "OPENAPI_ENABLED": enabled,
    }
    for name, value in production.items():
        monkeypatch.setenv(name, value)
    # Without its lifespan: the document needs no database.
    assert TestClient(create_app(load_settings("api"))).get("/openapi.json").status_code == status


@pytest.mark.requirement("SEC-12")
def test_features_change_no_contract(api_contract: BaseSchema, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ALL_FEATURES.items():
        monkeypatch.setenv(name, value)
    app = without_edge(create_app(load_settings("api")))
    assert app.openapi() == api_contract.raw_schema


@pytest.mark.requirement("SEC-10", "SEC-12", "ERR-01")
def test_the_real_server_answers_as_documented(tmp_path: Path) -> None:
    """With all features on, where the applications above have none."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    server = RunningServer(tmp_path / "server", "asgi", {"SEAWALL_BIND": address} | ALL_FEATURES, address=address)
    try:
        server.start().until_answering("/readyz")
        document = server.get("/openapi.json").json()
        for operation in operations(document).values():
            operation.pop("security", None)
        contract = schemathesis.openapi.from_dict(document)
        for mode in MODES:
            drive(contract, mode, examples=5, base_url=f"http://{address}")
    finally:
        server.kill()
