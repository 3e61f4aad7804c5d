"""A service that writes down what the edge sends it, put in charge as a release is: by one rename."""

from __future__ import annotations

import json
import os
import re
import shutil
import socketserver
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import yaml
from installation import REPOSITORY, ROOT

UPSTREAM = ROOT / "upstream"
COLOUR = "recorded"
EDGE = 10101
PRINCIPAL = "00000000-0000-4000-8000-00000000000a"
# What only the edge says, and what nginx takes for an order.
VARIABLES = yaml.safe_load((REPOSITORY / "roles/edge/vars/main.yml").read_text(encoding="utf-8"))
HIDDEN = [*re.findall(r"'([A-Za-z-]+)'", VARIABLES["edge_hidden_headers"]), *VARIABLES["edge_header_values"]]
SAID = dict.fromkeys(HIDDEN, "of-the-service") | {"X-Accel-Redirect": "/index.html", "X-Accel-Expires": "the-service"}

# Asked about such a path the gateway answers with that status.
VERDICT = r"/api/v1/verdict/(\d{3})"


@dataclass
class Recorded:
    """`sent` are the requests that reached the API, `asked` those of the edge to the gateway."""

    sent: list[dict[str, list[str]]] = field(default_factory=list)
    asked: list[dict[str, list[str]]] = field(default_factory=list)


class UnixServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


def handler(seen: list[dict[str, list[str]]], status: int, headers: dict[str, str]) -> type[BaseHTTPRequestHandler]:
    class Recorder(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            received: dict[str, list[str]] = {":path": [self.path], ":method": [self.command]}
            for name, value in self.headers.items():
                received.setdefault(name.lower(), []).append(value)
            seen.append(received)
            self.rfile.read(int(self.headers.get("content-length", 0)))
            verdict = re.fullmatch(VERDICT, self.headers.get("X-Original-URI", ""))
            answered = int(verdict[1]) if verdict else status
            # The edge hangs up on the body of a refusal.
            body = b"" if verdict or status == 204 else json.dumps({"recorded": len(seen)}).encode()
            self.send_response(answered)
            # Else the edge would keep connections to it when another service is in charge.
            for name, value in {**headers, "Connection": "close"}.items():
                self.send_header(name, value)
            if body:
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

        def address_string(self) -> str:
            return "edge"

    methods = {f"do_{method}": Recorder.answer for method in ("GET", "POST", "PUT", "PATCH", "DELETE")}
    return type("Handler", (Recorder,), methods)


def in_charge(colour: str) -> None:
    link = UPSTREAM / f".{colour}.new"
    link.symlink_to(colour)
    link.rename(UPSTREAM / "current")


@contextmanager
def recorded_service() -> Iterator[Recorded]:
    recorded = Recorded()
    before = (UPSTREAM / "current").readlink().name
    answers = {
        "api": handler(recorded.sent, 200, SAID),
        "auth": handler(recorded.asked, 204, {"X-Principal-Id": PRINCIPAL}),
    }
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, UPSTREAM / COLOUR)
        for name, answering in answers.items():
            path: Path = UPSTREAM / COLOUR / name / "http.sock"
            path.parent.mkdir(parents=True)
            server = stack.enter_context(UnixServer(str(path), answering))
            for opened in (path, path.parent, path.parent.parent):
                os.chown(opened, EDGE, EDGE)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            stack.callback(server.shutdown)
        in_charge(COLOUR)
        stack.callback(in_charge, before)
        yield recorded
