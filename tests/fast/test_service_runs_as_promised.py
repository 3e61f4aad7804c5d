"""What the stack says about the service's containers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ["api-blue", "api-green", "auth-blue", "auth-green"]


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "compose/stack.yml").read_text(encoding="utf-8"))["services"]
    return found


@pytest.mark.requirement("RUN-01")
@pytest.mark.parametrize("name", SERVICES)
def test_gunicorn_is_named_with_its_configuration(services: dict[str, dict[str, Any]], name: str) -> None:
    command = services[name]["command"]
    assert command[:3] == ["gunicorn", "--config", "python:seawall_service.gunicorn_conf"]
    dockerfile = (ROOT / "app/Dockerfile").read_text(encoding="utf-8")
    assert 'CMD ["gunicorn", "--config", "python:seawall_service.gunicorn_conf", "seawall_service.asgi:app"]' in dockerfile


@pytest.mark.requirement("HLT-03")
@pytest.mark.parametrize("name", SERVICES)
def test_containers_are_checked_by_liveness(services: dict[str, dict[str, Any]], name: str) -> None:
    assert services[name]["healthcheck"]["test"] == ["CMD", "seawall-healthcheck"]
    check = (ROOT / "app/bin/seawall-healthcheck").read_text(encoding="utf-8")
    assert "GET /healthz " in check
    assert "readyz" not in check


@pytest.mark.requirement("RUN-04")
def test_the_deployed_image_is_made_without_what_tests_need() -> None:
    dockerfile = (ROOT / "app/Dockerfile").read_text(encoding="utf-8")
    stages = dict(re.findall(r"^FROM \S+ AS (\S+)\n(.*?)(?=^FROM|\Z)", dockerfile, re.MULTILINE | re.DOTALL))
    assert set(re.findall(r"--from=(\S+)", stages["prod"])) == {"builder"}
    assert "COPY tests" not in stages["prod"] + stages["builder"] + stages["python"]
    assert re.findall(r"--requirement (\S+)", stages["builder"]) == ["requirements.txt"]
    locked = (ROOT / "app/requirements.txt").read_text(encoding="utf-8")
    assert "uvicorn-worker==" in locked
    assert re.search(r"^(pytest|hypothesis|schemathesis|mypy)==", locked, re.MULTILINE) is None


@pytest.mark.requirement("CFG-03")
@pytest.mark.parametrize(
    "file", ["compose/stack.yml", "ansible.cfg", "ruff.toml", "pyproject.toml", ".yamllint", ".ansible-lint", ".github/workflows"]
)
def test_tools_are_configured_in_the_repository(file: str) -> None:
    assert (ROOT / file).exists()
