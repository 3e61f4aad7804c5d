"""A client that reads and writes gently, keeps count of every answer, and sends a write again until it is acknowledged."""

from __future__ import annotations

import http.client
import itertools
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

# Two requests at a time with this pause between them stay below the edge's 20 a second.
PAUSE = 0.12
NO_ANSWER = 0


@dataclass(frozen=True)
class Attempt:
    """One request: its method, the answer's status (0: there was none), and what went on when it was sent."""

    method: str
    status: int
    during: str


@dataclass
class SteadyClient:
    """Appends entries to one document and reads it, until it is told to stop.

    connect opens a connection; during tells what goes on at this moment.
    """

    connect: Callable[[], http.client.HTTPConnection]
    headers: dict[str, str]
    document: str
    during: Callable[[], str]
    attempts: list[Attempt] = field(default_factory=list)
    acknowledged: list[str] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def failures(self) -> list[Attempt]:
        return [attempt for attempt in self.attempts if attempt.status not in {200, 201, 429}]

    def append(self) -> None:
        path = f"/api/v1/documents/{self.document}/entries"
        send = self.sender()
        for number in itertools.count():
            content = f"entry {number}"
            while send("POST", path, {"content": content}, {"Idempotency-Key": f"{self.document}-{number}"}) != 201:
                if self.stopped.wait(PAUSE):
                    return
            self.acknowledged.append(content)
            if self.stopped.wait(PAUSE):
                return

    def read(self) -> None:
        send = self.sender()
        while not self.stopped.wait(PAUSE):
            send("GET", f"/api/v1/documents/{self.document}?limit=1", None, {})

    def sender(self) -> Callable[[str, str, object, dict[str, str]], int]:
        """Sends over one connection, kept alive as browsers keep it."""
        connection = self.connect()

        def once(method: str, path: str, body: object, headers: dict[str, str]) -> int:
            data = None if body is None else json.dumps(body)
            try:
                connection.request(method, path, data, self.headers | headers | {"Content-Type": "application/json"})
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException):
                connection.close()
                return NO_ANSWER
            return answer.status

        def send(method: str, path: str, body: object, headers: dict[str, str]) -> int:
            during, kept = self.during(), connection.sock is not None
            status = once(method, path, body, headers)
            if status == NO_ANSWER and kept:
                # The edge may close a kept connection at any time, and every client sends such a request again: reads by
                # nature and writes by their key can be.
                status = once(method, path, body, headers)
            self.attempts.append(Attempt(method, status, during))
            return status

        return send

    @contextmanager
    def running(self) -> Iterator[SteadyClient]:
        threads = [threading.Thread(target=work, daemon=True) for work in (self.append, self.read)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self.stopped.set()
            for thread in threads:
                thread.join(timeout=60)


def over_tls(address: str, port: int, name: str, authority: str) -> Callable[[], http.client.HTTPConnection]:
    """Connections to one address that trust one authority alone, opened by their first request and again after a close."""
    context = ssl.create_default_context(cadata=authority)

    class Connection(http.client.HTTPSConnection):
        def connect(self) -> None:
            self.sock = context.wrap_socket(socket.create_connection((address, port), timeout=30), server_hostname=name)

    return lambda: Connection(name, port, timeout=30, context=context)
