"""What the edge costs: the same requests to the service alone, through a bare nginx, and through the whole edge.

All in one run and by turns, so read the ratios: whatever else the machine does hits all of them.
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import ssl
import statistics
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from judges import image

PROJECT = "seawall-edge-benchmark"
ROOT = Path("/opt") / PROJECT
HERE = Path(__file__).resolve().parent
CONNECTIONS = 16
BARE = f"{PROJECT}-bare"
EDGE = f"{PROJECT}-edge-1"
SERVICE = "service alone"
PLAIN = "bare nginx"
WITH_TLS = "bare nginx, TLS"
WHOLE = "whole edge"


@dataclass(frozen=True)
class Case:
    """A request, and how each side is told who asks."""

    name: str
    path: str
    at_the_edge: tuple[str, ...] = ()
    behind_it: tuple[str, ...] = ()


def docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True).stdout.strip()


def ask(path: str, body: dict[str, str] | None = None, headers: dict[str, str] | None = None) -> dict[str, Any]:
    """One request through the edge."""
    context = ssl.create_default_context(cafile=str(ROOT / "tls/ca.pem"))
    content = json.dumps(body).encode() if body else None
    sent = {"Content-Type": "application/json"} | (headers or {})
    with closing(http.client.HTTPSConnection("localhost", 38443, context=context, timeout=30)) as connection:
        connection.request("POST" if body else "GET", path, content, sent)
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        parsed: dict[str, Any] = json.load(answer)
        return parsed


def cases() -> list[Case]:
    words = dict(line.split(maxsplit=1) for line in (ROOT / "first-sign-in").read_text(encoding="utf-8").splitlines())
    token = ask("/api/auth/login", {"username": words["user:"], "password": words["password:"]})["access_token"]
    user = ask("/api/v1/users/me", headers={"Authorization": f"Bearer {token}"})["id"]
    return [
        Case("health", "/healthz"),
        Case("who am I", "/api/v1/users/me", (f"Authorization: Bearer {token}",), (f"X-Principal-Id: {user}",)),
    ]


def start_bare_nginx() -> None:
    """The edge's image on the edge's network with the edge's share of the processors, as its user."""
    edge = json.loads(docker("inspect", EDGE))[0]
    user = edge["Config"]["User"]
    owner = "uid={},gid={}".format(*user.split(":"))
    docker(
        *("run", "--detach", f"--name={BARE}", "--pull=never", f"--network={PROJECT}_edge", f"--user={user}", "--read-only"),
        *("--cap-drop=ALL", f"--tmpfs=/run/nginx:mode=0700,{owner}", f"--cpus={edge['HostConfig']['NanoCpus'] / 1e9}"),
        *(f"--volume={HERE}/bare.conf:/etc/nginx/nginx.conf:ro", f"--volume={ROOT}/upstream:/run/upstream:ro"),
        *(f"--volume={ROOT}/tls:/run/tls:ro", edge["Config"]["Image"], "nginx", "-g", "daemon off;"),
    )


def address(container: str) -> str:
    return str(json.loads(docker("inspect", container))[0]["NetworkSettings"]["Networks"][f"{PROJECT}_edge"]["IPAddress"])


def measure(side: str, case: Case, seconds: float) -> float:
    """Answers in a second; one that is no success ends the measurement."""
    headers = case.at_the_edge if side == WHOLE else case.behind_it
    where = {
        SERVICE: (f"http://localhost{case.path}", "--base-uri=unix:/run/upstream/current/api/http.sock"),
        PLAIN: (f"http://localhost:8080{case.path}", f"--connect-to={address(BARE)}:8080"),
        WITH_TLS: (f"https://localhost:8443{case.path}", f"--connect-to={address(BARE)}:8443"),
        WHOLE: (f"https://localhost:8443{case.path}", f"--connect-to={address(EDGE)}:8443"),
    }[side]
    said = docker(
        *("run", "--rm", "--pull=never", f"--network={PROJECT}_edge", "--user=65534:10101", "--read-only", "--cap-drop=ALL"),
        *(f"--volume={ROOT}/upstream:/run/upstream:ro", image(), "h2load", "--h1", f"--clients={CONNECTIONS}", "--threads=1"),
        *(f"--duration={seconds:g}", *(f"--header={header}" for header in headers), where[1], where[0]),
    )
    rate = re.search(r"finished in [\d.]+m?s, ([\d.]+) req/s", said)
    codes = re.search(r"status codes: (\d+) 2xx, 0 3xx, 0 4xx, 0 5xx", said)
    if not rate or not codes or int(codes[1]) == 0:
        raise SystemExit(f"{side}, {case.name}: not every answer was a success\n{said}")
    return float(rate[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4, help="of each case and side in each round")
    options = parser.parse_args()
    sides = [SERVICE, PLAIN, WITH_TLS, WHOLE]
    start_bare_nginx()
    found: dict[tuple[str, str], list[float]] = {}
    measured = cases()
    for number in range(options.rounds + 1):
        for case in measured:
            for side in sides if number % 2 else reversed(sides):
                rate = measure(side, case, options.seconds)
                # The first round only warms up.
                if number:
                    found.setdefault((case.name, side), []).append(rate)
    against = [SERVICE, PLAIN, WITH_TLS]
    lines = [["case", *(f"{side}, req/s" for side in sides), *(f"edge / {side}" for side in against)], ["---"] * 8]
    for case in measured:
        rates = {side: found[case.name, side] for side in sides}
        ratios = [statistics.median(w / o for w, o in zip(rates[WHOLE], rates[other], strict=True)) for other in against]
        lines.append([case.name, *(f"{statistics.median(rates[side]):.0f}" for side in sides), *(f"{r:.2f}" for r in ratios)])
    sys.stdout.write("\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n")


if __name__ == "__main__":
    main()
