"""Wanted and running containers are compared as the roles rely on it."""

from __future__ import annotations

from typing import Any

import pytest
from seawall_stack_state import describe


def container(**state: object) -> dict[str, Any]:
    labels = {"com.docker.compose.config-hash": "h1", "com.docker.compose.service": "api-blue"}
    usual = {"Running": True, "Restarting": False, "ExitCode": 0, "Health": {"Status": "healthy"}}
    return {"Id": "c0ffee", "Config": {"Image": "seawall/service:1", "Labels": labels}, "State": usual | state}


@pytest.mark.parametrize(
    ("state", "running", "healthy"),
    [
        ({}, True, True),
        ({"Health": None}, True, True),
        ({"Health": {"Status": "starting"}}, True, False),
        ({"Health": {"Status": "unhealthy"}}, True, False),
        ({"Restarting": True}, False, False),
        ({"Running": False, "ExitCode": 3}, False, False),
    ],
)
def test_state(state: dict[str, Any], running: bool, healthy: bool) -> None:
    described = describe(container(**state), "h1")
    assert (described["running"], described["healthy"]) == (running, healthy)


def test_current_means_made_from_the_wanted_configuration() -> None:
    assert describe(container(), "h1")["current"]
    assert not describe(container(), "h2")["current"]
    assert not describe(container(), None)["current"]
