"""The service's own tests as one types them: `docker compose run --rm api-test`, with what pytest takes, or its name first."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STATE = os.environ["SEAWALL_TEST_APP"]
COMPOSE = ["docker", "compose", "--project-name", "seawall-app-test", "--file", "compose/test.yml"]
COMPOSE += ["--env-file", f"{STATE}/test.env"]
PATH = "tests/test_layout.py"
ASKS_THE_DATABASE = "tests/test_migrate.py::test_a_schema_of_a_newer_release_is_refused"


def api_test(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*COMPOSE, "run", "--rm", "api-test", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.requirement("TST-01")
def test_the_first_run_starts_everything_and_waits_for_it() -> None:
    subprocess.run([*COMPOSE, "down", "--volumes", "--timeout", "5"], cwd=ROOT, capture_output=True, check=True)
    done = api_test("pytest", "-q", ASKS_THE_DATABASE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


@pytest.mark.requirement("TST-01")
def test_arguments_are_pytests() -> None:
    everything = api_test("--collect-only", "-q")
    part = api_test("--collect-only", "-q", PATH)
    assert (everything.returncode, part.returncode) == (0, 0)
    assert {line.partition("::")[0] for line in part.stdout.splitlines() if "::" in line} == {PATH}
    assert everything.stdout.count("::") > 10 * part.stdout.count("::") > 0


@pytest.mark.requirement("TST-01")
def test_what_fails_is_told_by_the_exit_code() -> None:
    assert api_test("no-such-file.py").returncode != 0
