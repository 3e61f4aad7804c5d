"""Who reads the service from the outside in finds one list of middleware, and few files behind a route."""

import ast
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from starlette.testclient import TestClient

from seawall_service.db.pool import Connection, Database
from seawall_service.main import create_app
from seawall_service.startup_gate import load_settings
from tests.test_layout import PACKAGE, names_in

MOST_FILES = 6
# What has a form and no steps: requests, responses, commands, queries.
FORMS = {"schemas.py", "commands.py", "queries.py"}
TOOL = 4


@contextmanager
def files_until_the_commit(monkeypatch: pytest.MonkeyPatch, *, commits: bool = True) -> Iterator[set[str]]:
    """Every file of the package of which a function is called, in whatever thread; to the end where nothing is committed."""
    files: set[str] = set()
    on_the_way = True
    transaction = Database.transaction

    @asynccontextmanager
    async def told(database: Database) -> AsyncGenerator[Connection]:
        nonlocal on_the_way
        async with transaction(database) as connection:
            yield connection
            on_the_way = False

    def note(code: object, _: int) -> None:
        path = Path(getattr(code, "co_filename", ""))
        if on_the_way and path.is_relative_to(PACKAGE):
            files.add(str(path.relative_to(PACKAGE)))

    sys.monitoring.use_tool_id(TOOL, "way")
    try:
        sys.monitoring.register_callback(TOOL, sys.monitoring.events.PY_START, note)
        sys.monitoring.set_events(TOOL, sys.monitoring.events.PY_START)
        with monkeypatch.context() as patched:
            patched.setattr(Database, "transaction", told)
            yield files
    finally:
        sys.monitoring.set_events(TOOL, sys.monitoring.events.NO_EVENTS)
        sys.monitoring.free_tool_id(TOOL)
    assert on_the_way != commits


def test_the_way_from_the_middleware_to_the_commit_is_short(
    api: TestClient, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a read: route, who asks, pool, transaction, handler, service. What one meets that finds no route is the middleware."""
    document = api.post("/api/v1/documents", json={"title": "t"}, headers=headers).json()["id"]
    with files_until_the_commit(monkeypatch, commits=False) as middleware:
        assert api.get("/api/v1/nowhere", headers=headers).status_code == 404
    with files_until_the_commit(monkeypatch) as visited:
        assert api.get(f"/api/v1/documents/{document}", headers=headers).status_code == 200
    way = visited - middleware
    assert {"documents/router.py", "documents/service.py", "db/transaction.py"} <= way
    assert len(way) <= MOST_FILES, sorted(way)


def test_the_way_of_a_request_is_short(
    api: TestClient, headers: dict[str, str], user_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the longest one until its commit: an append with a key, audited.

    What every request goes through is read once: the list in main.py, the dependencies in deps.py, and what a handler logs. So
    what one does that reads a single row is taken out; it is no failure, which would lead through other files.
    """
    document = api.post("/api/v1/documents", json={"title": "t"}, headers=headers).json()["id"]
    with files_until_the_commit(monkeypatch) as shared:
        assert api.get("/api/v1/users/me", headers={"X-Principal-Id": user_id}).status_code == 200
    shared = {file for file in shared if not file.startswith("users/")}
    assert "handlers.py" in shared
    keyed = headers | {"Idempotency-Key": str(uuid4())}
    with files_until_the_commit(monkeypatch) as visited:
        assert api.post(f"/api/v1/documents/{document}/entries", json={"content": "c"}, headers=keyed).status_code == 201
    own = {file for file in visited - shared if Path(file).name not in FORMS}
    assert {"documents/router.py", "documents/service.py", "events.py", "idempotency/service.py"} <= own
    assert len(own) <= MOST_FILES, sorted(own)


def list_of_middleware() -> ast.List:
    tree = ast.parse((PACKAGE / "main.py").read_text(encoding="utf-8"))
    function = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "middleware_of")
    returned = function.body[-1]
    assert isinstance(returned, ast.Return)
    assert isinstance(returned.value, ast.List)
    return returned.value


def test_every_middleware_stands_in_the_list_with_a_comment() -> None:
    lines = (PACKAGE / "main.py").read_text(encoding="utf-8").splitlines()
    elements = list_of_middleware().elts
    assert [ast.unparse(element) for element in elements if not lines[element.lineno - 2].strip().startswith("# ")] == []


def test_middleware_is_added_nowhere_else_and_is_pure_asgi() -> None:
    for path in PACKAGE.rglob("*.py"):
        assert names_in(path).isdisjoint({"add_middleware", "BaseHTTPMiddleware"}), path
        if path.parent.name == "middleware":
            classes = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.ClassDef)]
            bases = {ast.unparse(base) for node in classes for base in node.bases}
            assert bases <= {"CORSMiddleware"}, path


def test_the_order_is_the_listed_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORS_ORIGINS", "https://example.org")
    monkeypatch.setenv("METRICS_ENABLED", "true")
    monkeypatch.setenv("WEB_CONCURRENCY", "1")
    monkeypatch.setenv("RATE_LIMIT_ENABLED", "true")
    calls = [node for element in list_of_middleware().elts for node in ast.walk(element) if isinstance(node, ast.Call)]
    listed = [
        ast.unparse(call.args[0]) if ast.unparse(call.func) == "Middleware" else "EnvelopeCORSMiddleware"
        for call in calls
        if ast.unparse(call.func) in {"Middleware", "cors"}
    ]
    layer: object = create_app(load_settings("api")).build_middleware_stack()
    found: list[str] = []
    while layer is not None:
        found.append(type(layer).__name__)
        layer = getattr(layer, "app", None)
    assert [name for name in found if name in listed] == listed
    assert len(listed) == len(list_of_middleware().elts)


@pytest.mark.requirement("ERR-09")
def test_errors_have_one_root() -> None:
    outside = [
        f"{path.name}: {node.name}"
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and {ast.unparse(base) for base in node.bases} & {"Exception", "BaseException"}
    ]
    assert outside == ["errors.py: SeawallError"]


@pytest.mark.requirement("ERR-07")
def test_handlers_return_and_routes_raise() -> None:
    for path in PACKAGE.glob("*/router.py"):
        assert "JSONResponse" not in names_in(path), path


@pytest.mark.requirement("CODE-01")
def test_forms_are_defined_in_schemas_only() -> None:
    """Those of the envelope and of settings have their own places."""
    elsewhere = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            bases = {ast.unparse(base) for base in node.bases} if isinstance(node, ast.ClassDef) else set()
            if bases & {"BaseModel", "BaseResponse", "StrictRequest"} and path.name not in {"schemas.py", "error_handlers.py"}:
                elsewhere.append(str(path))
    assert elsewhere == []


@pytest.mark.requirement("DB-04")
def test_routes_get_session_and_user_by_their_aliases() -> None:
    for path in PACKAGE.glob("*/router.py"):
        assert "Depends" not in names_in(path), path
    for module in ("documents", "users"):
        source = (PACKAGE / module / "router.py").read_text(encoding="utf-8")
        for node in ast.parse(source).body:
            if isinstance(node, ast.AsyncFunctionDef):
                annotations = {ast.unparse(argument.annotation) for argument in node.args.args if argument.annotation}
                assert {"CurrentUserId", "DbSession"} <= annotations, node.name


@pytest.mark.requirement("DB-02")
def test_the_api_has_one_boundary_of_transactions() -> None:
    """What is to be done after a commit is done there. Signing in is another matter: it holds no connection while it hashes."""
    elsewhere = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if "transaction" in names_in(path) and path.parent.name not in {"db", "auth"}
    }
    # It is a program of its own.
    assert elsewhere == {"users/first_user.py"}


@pytest.mark.requirement("TST-02")
@pytest.mark.parametrize(
    "topic",
    [
        *("error_contract", "readiness", "request_id", "ratelimit", "ws_limits", "audit", "config_contract", "logger"),
        "exceptions",
    ],
)
def test_suites_have_the_names_of_the_sources(topic: str) -> None:
    assert (Path(__file__).parent / f"test_{topic}.py").exists()
