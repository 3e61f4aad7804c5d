"""Wanted and running containers are compared as the roles rely on it."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from module_run import module_run
from seawall_stack_state import describe, is_ready, last_release, loaded_configuration


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


@contextmanager
def answering(path: Path, answer: bytes, asked: bytes) -> Iterator[None]:
    """A server on a Unix socket that gives one answer, to the request that it is meant for."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        heard: list[bytes] = []

        def serve() -> None:
            with server.accept()[0] as client:
                heard.append(client.recv(4096))
                client.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join()
        assert heard[0].startswith(asked)


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
    path = tmp_path / "http.sock"
    assert not is_ready(str(path))
    with answering(path, answer, asked=b"GET /readyz HTTP/1.1\r\n"):
        assert is_ready(str(path)) == ready
    assert not is_ready(str(path))


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (b'HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{"hash": "ab"}', "ab"),
        (b'HTTP/1.1 404 Not Found\r\n\r\n{"hash": "ab"}', ""),
        (b"HTTP/1.1 200 OK\r\n\r\nnone", ""),
        (b'HTTP/1.1 200 OK\r\n\r\n["hash"]', ""),
        (b"", ""),
    ],
)
def test_a_configuration_is_what_nginx_itself_says(tmp_path: Path, answer: bytes, found: str) -> None:
    path = tmp_path / "status.sock"
    assert loaded_configuration(str(path)) == ""
    with answering(path, answer, asked=b"GET /config HTTP/1.1\r\n"):
        assert loaded_configuration(str(path)) == found


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """The module's answer; its docker has one container, hashes a text by its length, and knows a file of what it was asked."""
    (tmp_path / "inspected").write_text(json.dumps([container()]), encoding="utf-8")
    (tmp_path / "docker").write_text(
        f"""#!/bin/sh
echo "$*" >>{tmp_path}/asked
[ ! -e {tmp_path}/silent ] || {{ [ "$1" = compose ] || {{ echo no daemon >&2; exit 1; }}; }}
case $1 in
compose) for word; do [ -f "$word" ] && cat "$word" >>{tmp_path}/texts; done; echo api-blue h1; echo edge h2 ;;
ps) echo c0ffee ;;
inspect) cat {tmp_path}/inspected ;;
esac
""",
        encoding="utf-8",
    )
    (tmp_path / "docker").chmod(0o755)
    (tmp_path / "current").symlink_to("blue")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    def answer(*, check_mode: bool = False) -> dict[str, Any]:
        arguments: dict[str, object] = {
            "project": "shop",
            "stack": "the stack;",
            "overlays": ["one;", "two;"],
            "environment": "variables;",
            "services": ["api-blue", "edge"],
            "release_link": str(tmp_path / "current"),
            "release_journal": str(tmp_path / "absent"),
            "release_socket": str(tmp_path / "absent.sock"),
            "edge_socket": str(tmp_path / "absent.sock"),
        }
        return module_run("seawall_stack_state", check_mode=check_mode, arguments=arguments)

    return answer


def test_what_there_is_is_told_beside_what_is_missing(stack: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    answer = stack()
    assert answer["services"]["api-blue"]["current"]
    assert answer["services"]["edge"]["exists"] is False
    assert answer["active_colour"] == "blue"
    assert answer["active_since"].endswith("Z")
    assert (tmp_path / "texts").read_text(encoding="utf-8") == "the stack;one;two;variables;"
    asked = (tmp_path / "asked").read_text(encoding="utf-8")
    # What ran once and ended is no container of a service.
    assert "label=com.docker.compose.oneoff=False --filter label=com.docker.compose.project=shop" in asked


def test_an_engine_that_does_not_answer_is_told_but_by_a_check(stack: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "silent").touch()
    assert stack()["msg"] == "The Docker Engine does not answer: no daemon"
    answer = stack(check_mode=True)
    assert (answer["rc"], answer["services"]["api-blue"]["exists"]) == (0, False)
