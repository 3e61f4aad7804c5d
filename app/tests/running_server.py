"""A real gunicorn in a process of its own, spoken to over its unix socket."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

START_SECONDS = 60.0
STOP_SECONDS = 60.0
ANSWER_SECONDS = 30.0


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=ANSWER_SECONDS)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(ANSWER_SECONDS)
        self.sock.connect(str(self.path))


class Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    def json(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.body)
        return parsed


class RunningServer:
    def __init__(self, directory: Path, application: str, environment: dict[str, str], address: str | None = None) -> None:
        directory.mkdir()
        self.metrics_directory = directory / "metrics"
        self.metrics_directory.mkdir()
        # Of its own and short: a unix socket's path holds about a hundred characters.
        self.socket_directory = Path(tempfile.mkdtemp())
        self.socket = self.socket_directory / "service.sock"
        self.stdout_path = directory / "stdout"
        self.stderr_path = directory / "stderr"
        self.environment = {
            **os.environ,
            "SEAWALL_BIND": f"unix:{self.socket}",
            "WEB_CONCURRENCY": "2",
            "GUNICORN_GRACEFUL_TIMEOUT": "15",
            "REQUEST_TIMEOUT_SECONDS": "10",
            "PROMETHEUS_MULTIPROC_DIR": str(self.metrics_directory),
            "METRICS_ENABLED": "true",
            **environment,
        }
        self.application = application
        self.address = address
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        with self.stdout_path.open("wb") as stdout, self.stderr_path.open("wb") as stderr:
            self.process = subprocess.Popen(
                ["gunicorn", "--config", "python:seawall_service.gunicorn_conf", f"seawall_service.{self.application}:app"],
                env=self.environment,
                stdout=stdout,
                stderr=stderr,
            )
        return self

    def until_answering(self, path: str = "/healthz", status: int = 200, seconds: float = START_SECONDS) -> Self:
        deadline = time.monotonic() + seconds
        last: object = None
        while time.monotonic() < deadline:
            assert self.running.poll() is None, f"ended with {self.running.returncode}: {self.stdout}{self.stderr}"
            try:
                last = self.get(path).status
                if last == status:
                    return self
            except OSError as error:
                last = error
            time.sleep(0.1)
        raise AssertionError(f"{path} did not answer {status} but {last}: {self.stdout}{self.stderr}")

    def until_all_started(self) -> Self:
        """All workers: a request tells only of the one that answers it."""
        deadline = time.monotonic() + START_SECONDS
        while self.said("Application startup complete") < int(self.environment["WEB_CONCURRENCY"]):
            assert time.monotonic() < deadline, self.stdout
            time.sleep(0.1)
        return self

    def said(self, words: str) -> int:
        """How many lines of the log say so."""
        return sum(words in line["event"] for line in self.log_lines)

    @property
    def running(self) -> subprocess.Popen[bytes]:
        assert self.process is not None
        return self.process

    @property
    def stdout(self) -> str:
        return self.stdout_path.read_text(encoding="utf-8")

    @property
    def stderr(self) -> str:
        return self.stderr_path.read_text(encoding="utf-8")

    @property
    def log_lines(self) -> list[dict[str, Any]]:
        """Those that are complete: the last one may be half written."""
        return [json.loads(line) for line in self.stdout_path.read_bytes().split(b"\n")[:-1]]

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.address, timeout=ANSWER_SECONDS) if self.address else UnixConnection(self.socket)

    def request(self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None) -> Answer:
        connection = self.connection()
        try:
            content = None if body is None else json.dumps(body)
            extra = {"Content-Type": "application/json"} if content else {}
            connection.request(method, path, content, extra | (headers or {}))
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def get(self, path: str, headers: dict[str, str] | None = None) -> Answer:
        return self.request("GET", path, None, headers)

    def post(self, path: str, body: object, headers: dict[str, str] | None = None) -> Answer:
        return self.request("POST", path, body, headers)

    def worker_pids(self) -> list[int]:
        children = Path(f"/proc/{self.running.pid}/task/{self.running.pid}/children").read_text(encoding="ascii")
        return [int(pid) for pid in children.split()]

    def terminate(self) -> None:
        self.running.send_signal(signal.SIGTERM)

    def wait(self, seconds: float = STOP_SECONDS) -> int:
        return self.running.wait(seconds)

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(STOP_SECONDS)
        shutil.rmtree(self.socket_directory)
