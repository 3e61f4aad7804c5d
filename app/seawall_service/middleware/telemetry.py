"""Counts and times every request under the route's template, never under the raw path."""

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seawall_service.metrics import METRICS_PATH, RequestMetrics

UNMATCHED = "unmatched"


def route_template(scope: Scope) -> str:
    return getattr(scope.get("route"), "path", UNMATCHED)


class TelemetryMiddleware:
    def __init__(self, app: ASGIApp, metrics: RequestMetrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == METRICS_PATH:
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500  # when no answer is begun

        async def observe(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, observe)
        finally:
            self.metrics.observe(scope["method"], route_template(scope), status, time.perf_counter() - started)
