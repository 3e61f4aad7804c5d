"""Wanted and running containers are compared as the roles rely on it."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from seawall_stack_state import describe, is_ready, last_release


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


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"at": "x", "colour": "blue", "image": "s:1"}\n{"at": "y", "colour": "green", "image": "s:2"}\n', ("green", "s:2")),
        ("", ("", "")),
        ('{"at": "x", "colour": "blue", "image": "s:1"}\n{"at": "y", "col', ("", "")),
        ('["blue"]\n', ("", "")),
    ],
)
def test_the_last_line_of_the_journal_counts(tmp_path: Path, text: str, found: tuple[str, str]) -> None:
    nobody = {"colour": "", "image": ""}
    assert last_release(str(tmp_path / "absent")) == nobody
    (tmp_path / "releases.jsonl").write_text(text, encoding="utf-8")
    assert last_release(str(tmp_path / "releases.jsonl")) == dict(zip(("colour", "image"), found, strict=True))


@pytest.mark.parametrize(
    ("answer", "ready"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", True),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n 200 ", False),
        (b"", False),
        (b"200", False),
    ],
)
def test_ready_is_what_answers_so(tmp_path: Path, answer: bytes, ready: bool) -> None:
    path = str(tmp_path / "http.sock")
    assert not is_ready(path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()

        def serve() -> None:
            with server.accept()[0] as client:
                assert client.recv(4096).startswith(b"GET /readyz HTTP/1.1\r\n")
                client.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        assert is_ready(path) == ready
        thread.join()
    assert not is_ready(path)
