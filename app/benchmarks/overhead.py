"""What the hardening costs: `python -m benchmarks.overhead`, where the database and the cache are those of compose/test.yml.

The hardened service under gunicorn, and a bare FastAPI under `uvicorn --workers 2`, which is what `fastapi run --workers 2`
starts, have the same handlers, database and log lines of handlers. They are measured by turns, in one run: read the ratios.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass
from uuid import uuid4

from benchmarks import layers
from benchmarks.load import Figures, measure

WORKERS = 2
CONNECTIONS = 16
ENTRIES_READ = 20
START_SECONDS = 60
PRODUCTION = {
    "APP_ENV": "production",
    "REQUIRE_AUTHENTICATED_PRINCIPAL": "true",
    "CORS_ORIGINS": "https://example.org",
    "METRICS_ENABLED": "true",
    "WEB_CONCURRENCY": str(WORKERS),
}
# What a deploy switches on besides, with limits as high as production takes them: each connection is a user of its own.
DEPLOYED = PRODUCTION | {
    "RATE_LIMIT_ENABLED": "true",
    "RATE_LIMIT_KEY_STRATEGY": "user_or_ip",
    "RATE_LIMIT_REQUESTS": "60000",
    "RATE_LIMIT_PER_MINUTE_DEFAULT": "60000",
    "RATE_LIMIT_BURST_DEFAULT": "1000",
    "AUDIT_ENABLED": "true",
    "CACHE_ENABLED": "true",
}


@dataclass
class Server:
    name: str
    port: int
    command: list[str]
    environment: dict[str, str]

    def start(self, stack: ExitStack) -> None:
        environment = os.environ | self.environment
        process = stack.enter_context(
            subprocess.Popen(self.command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        )
        stack.callback(process.terminate)
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self.ask("/api/v1/documents", str(uuid4()))
            except OSError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise
                time.sleep(0.2)
            else:
                return

    def ask(self, path: str, user: str, body: dict[str, str] | None = None) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "X-Principal-Id": user}
        content = json.dumps(body).encode() if body else None
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", content, headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            parsed: dict[str, str] = json.load(answer)
            return parsed


def request_of(method: str, path: str, user: str, body: bytes = b"") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nX-Principal-Id: {user}\r\n"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"{head}\r\n".encode() + body


def cases_of(server: Server) -> dict[str, tuple[list[bytes], bytes]]:
    """Each connection has a user and a document of its own, since writers of one document wait for each other."""
    entry = {"content": "Wind from the north, force four"}
    owned: dict[str, str] = {}
    for user in (str(uuid4()) for _ in range(CONNECTIONS)):
        owned[user] = server.ask("/api/v1/documents", user, {"title": "Measured"})["id"]
        for _ in range(ENTRIES_READ):
            server.ask(f"/api/v1/documents/{owned[user]}/entries", user, entry)
    sent = json.dumps(entry).encode()
    appends = [request_of("POST", f"/api/v1/documents/{name}/entries", user, sent) for user, name in owned.items()]
    reads = [request_of("GET", f"/api/v1/documents/{name}?limit={ENTRIES_READ}", user) for user, name in owned.items()]
    return {
        "append": (appends, b"201"),
        "read": (reads, b"200"),
        "health": ([request_of("GET", "/healthz", user) for user in owned], b"200"),
    }


def compare(servers: list[Server], rounds: int, seconds: float) -> dict[str, dict[str, list[Figures]]]:
    figures: dict[str, dict[str, list[Figures]]] = {}
    with ExitStack() as stack:
        for server in servers:
            server.start(stack)
        cases = {server.name: cases_of(server) for server in servers}
        for number in range(rounds + 1):
            for case in ("append", "read", "health"):
                # By turns, and in turn the first: what else the machine does hits both alike.
                for server in servers if number % 2 else reversed(servers):
                    requests, status = cases[server.name][case]
                    seen = measure(server.port, requests, status, seconds)
                    # The first round only warms up.
                    if number:
                        figures.setdefault(case, {}).setdefault(server.name, []).append(seen)
    return figures


def table(figures: dict[str, dict[str, list[Figures]]]) -> str:
    lines = ["| case | bare req/s | hardened req/s | ratio | bare p99 | hardened p99 |", "|---|---|---|---|---|---|"]
    for case, by_server in figures.items():
        bare, hardened = by_server["bare"], by_server["hardened"]
        ratio = statistics.median(
            mine.requests_per_second / theirs.requests_per_second for mine, theirs in zip(hardened, bare, strict=True)
        )
        speeds = [statistics.median(seen.requests_per_second for seen in both) for both in (bare, hardened)]
        slowest = [statistics.median(seen.p99_milliseconds for seen in both) for both in (bare, hardened)]
        lines.append(f"| {case} | {speeds[0]:.0f} | {speeds[1]:.0f} | {ratio:.2f} | {slowest[0]:.1f} ms | {slowest[1]:.1f} ms |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each case in each round")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the hardened service")
    options = parser.parse_args()
    given = dict(item.split("=", 1) for item in options.set)
    for name, settings in {"as deployed": DEPLOYED, "without limits by rate, cache and audit": PRODUCTION}.items():
        with tempfile.TemporaryDirectory(dir="/dev/shm") as counters:
            environment = settings | {"PROMETHEUS_MULTIPROC_DIR": counters, "SEAWALL_BIND": "127.0.0.1:18101"} | given
            hardened = ["gunicorn", "--config", "python:seawall_service.gunicorn_conf", "seawall_service.asgi:app"]
            bare = ["uvicorn", "--workers", str(WORKERS), "--port", "18102", "benchmarks.bare:app"]
            servers = [Server("hardened", 18101, hardened, environment), Server("bare", 18102, bare, {})]
            sys.stdout.write(f"{name}:\n\n{table(compare(servers, options.rounds, options.seconds))}\n\n")
            sys.stdout.flush()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as counters:
        sys.stdout.write(layers.table(DEPLOYED | {"PROMETHEUS_MULTIPROC_DIR": counters} | given, options.rounds) + "\n")


if __name__ == "__main__":
    main()
