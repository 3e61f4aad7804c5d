"""What each middleware costs: the same request with all of them and with each one taken out, without a network between."""

import asyncio
import contextlib
import os
import statistics
import time
from pathlib import Path

from fastapi import FastAPI, Response
from starlette.types import Message, Scope

from seawall_service.logging import configure_logging
from seawall_service.main import create_app
from seawall_service.rate_limit.interface import RateLimiter
from seawall_service.rate_limit.memory_backend import MemoryRateLimiter
from seawall_service.startup_gate import load_settings

REQUESTS = 2000
PATH = "/api/v1/nothing"


async def nothing() -> Response:
    return Response(status_code=204)


def application(without: str) -> FastAPI:
    app = create_app(load_settings("api"))
    app.add_api_route(PATH, nothing)
    app.user_middleware = [layer for layer in app.user_middleware if getattr(layer.cls, "__name__", "") != without]
    return app


def scope_of(limiter: RateLimiter) -> Scope:
    return {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": PATH,
        "raw_path": PATH.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"origin", b"https://example.org"), (b"x-forwarded-for", b"198.51.100.7")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        # Of the outermost layer, for when that is the one that is missing.
        "state": {"request_id": "measured", "peer_trusted": True, "client_ip": "198.51.100.7", "rate_limiter": limiter},
    }


async def receive() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def send(_: Message) -> None:
    return


async def microseconds(app: FastAPI) -> float:
    # In memory: what asking Valkey costs is the network's share, which the first tables have.
    limiter = MemoryRateLimiter()
    started = time.perf_counter()
    for _ in range(REQUESTS):
        await app(scope_of(limiter), receive, send)
    return (time.perf_counter() - started) / REQUESTS * 1_000_000


def table(environment: dict[str, str], rounds: int) -> str:
    """Medians of the rounds, in which all are measured by turns."""
    os.environ |= environment
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        configure_logging("info", debug=False)
        everything = application("")
        names = [getattr(layer.cls, "__name__", "") for layer in everything.user_middleware]
        apps = {"": everything} | {name: application(name) for name in names}
        taken: dict[str, list[float]] = {name: [] for name in apps}
        order = list(apps)
        for number in range(rounds + 1):
            # Each is once the first, which the processor treats like no other.
            order = order[1:] + order[:1]
            for name in order:
                spent = asyncio.run(microseconds(apps[name]))
                if number:
                    taken[name].append(spent)
    lines = ["| middleware | costs |", "|---|---|"]
    for name in names:
        cost = statistics.median(whole - less for whole, less in zip(taken[""], taken[name], strict=True))
        lines.append(f"| {name} | {cost:.0f} µs |")
    lines.append(f"| a whole request that does nothing | {statistics.median(taken['']):.0f} µs |")
    return "\n".join(lines)
