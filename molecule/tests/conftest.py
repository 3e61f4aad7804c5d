"""What the tests of all scenarios use: the deployed host, and runs of the operator's own playbooks against it."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path

import pytest
from deployed import Host
from testinfra.host import Host as Shell

REPOSITORY = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])


@pytest.fixture(scope="module")
def deployed(host: Shell) -> Host:
    """The scenario's host with Seawall on it."""
    return Host(host)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows the end of the host's journal and of the containers' logs."""
    report = yield
    if report.failed and call.when == "call" and "deployed" in getattr(item, "fixturenames", []):
        deployed: Host = item.funcargs["deployed"]  # type: ignore[attr-defined]
        # A host that cannot be reached has nothing to show.
        with suppress(RuntimeError):
            report.sections.append(("journal", deployed.root("journalctl --no-pager --lines 30")))
            report.sections.append(("containers", deployed.root("docker ps --all")))
    return report
