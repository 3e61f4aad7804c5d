"""Rules of the code that a reader relies on."""

import ast
import subprocess
import sys
from pathlib import Path

import pydantic
import pytest
from starlette.testclient import TestClient

from seawall_service.activity import schemas as activity_schemas
from seawall_service.auth import schemas as auth_schemas
from seawall_service.documents import schemas as documents_schemas
from seawall_service.schemas import BaseResponse, StrictRequest
from seawall_service.users import schemas as users_schemas

PACKAGE = Path(__file__).parent.parent / "seawall_service"
SCHEMAS = (activity_schemas, auth_schemas, documents_schemas, users_schemas)
SERVICES = sorted(PACKAGE.glob("*/service.py"))


def names_in(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return {node.id if isinstance(node, ast.Name) else node.attr for node in nodes if isinstance(node, ast.Name | ast.Attribute)}


@pytest.mark.requirement("DB-02")
@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.parent.name)
def test_services_never_commit_and_never_see_a_request(path: Path) -> None:
    assert names_in(path).isdisjoint({"commit", "rollback", "transaction", "Request"})


def test_there_are_services() -> None:
    assert {path.parent.name for path in SERVICES} >= {"auth", "documents", "idempotency", "users"}


@pytest.mark.requirement("ERR-07")
def test_error_handlers_never_raise() -> None:
    tree = ast.parse((PACKAGE / "error_handlers.py").read_text(encoding="utf-8"))
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Raise)]


@pytest.mark.requirement("CODE-01")
def test_routers_define_no_schemas() -> None:
    for path in PACKAGE.glob("*/router.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert not [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)], path


@pytest.mark.requirement("CODE-01")
def test_every_response_model_is_a_base_response(api: TestClient, auth: TestClient) -> None:
    names = [value for module in SCHEMAS for value in vars(module).values()]
    models = [value for value in names if isinstance(value, type) and issubclass(value, pydantic.BaseModel)]
    assert models
    assert [model for model in models if not issubclass(model, BaseResponse | StrictRequest)] == []
    for client in (api, auth):
        schemas = client.get("/openapi.json").json()["components"]["schemas"]
        answers = {name for name in schemas if name.endswith("Response")}
        requests = {name for name in schemas if name.endswith("Request")}
        assert set(schemas) - answers - requests <= {"ErrorBody", "JsonValue"}


@pytest.mark.parametrize("module", ["asgi", "auth_asgi"])
def test_the_service_never_imports_sqlalchemy(module: str) -> None:
    script = f"import sys, seawall_service.{module}; sys.exit('sqlalchemy' in sys.modules or 'alembic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, check=False, timeout=60).returncode == 0
