"""What the benchmark measures is answered by both sides; how fast, no test says."""

import socket
import sys
from contextlib import ExitStack

import pytest

from benchmarks.load import measure
from benchmarks.overhead import Server, cases_of


@pytest.mark.parametrize("name", ["benchmarks.bare", "seawall_service.asgi"])
def test_both_sides_answer(name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "--port", str(port), f"{name}:app"]
    server = Server(name, port, command, {"WEB_CONCURRENCY": "1"})
    with ExitStack() as stack:
        server.start(stack)
        for requests, status in cases_of(server).values():
            assert measure(port, requests, status, 0.1).requests_per_second > 0
