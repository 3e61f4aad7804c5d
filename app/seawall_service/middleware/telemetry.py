"""Counts and times every request under the route's template, never under the raw path."""

import time
from collections.abc import Callable
from http import HTTPMethod

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seawall_service.metrics import METRICS_PATH
from seawall_service.telemetry import Telemetry

KNOWN_METHODS = frozenset(HTTPMethod)


class TelemetryMiddleware:
    def __init__(self, app: ASGIApp, telemetry: Telemetry, route_of: Callable[[str], str]) -> None:
        """`route_of` tells the template for a path that no router has seen, as of a request that a limit has refused."""
        self.app = app
        self.telemetry = telemetry
        self.route_of = route_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == METRICS_PATH:
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500  # when no answer is begun
        measured = False

        def measure() -> None:
            nonlocal measured
            if measured:
                return
            measured = True
            # Clients choose the method freely; unknown ones must not each open a time series.
            method = scope["method"] if scope["method"] in KNOWN_METHODS else "OTHER"
            path = getattr(scope.get("route"), "path", "") or self.route_of(scope["path"])
            tags = {"method": method, "path": path, "status_code": str(status)}
            self.telemetry.count("http_requests", tags)
            self.telemetry.duration("http_request_duration", time.perf_counter() - started, tags)

        async def observe(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body" and not message.get("more_body", False):
                # Before the last of it leaves: whoever has an answer finds it counted, by whichever worker he asks.
                measure()
            await send(message)

        try:
            await self.app(scope, receive, observe)
        finally:
            measure()
