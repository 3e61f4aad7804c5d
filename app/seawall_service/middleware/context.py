"""Outermost of our layers: the request id, whom to believe, and one access line."""

import re
import time
from http import HTTPStatus

import structlog
from opentelemetry.trace import Tracer
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seawall_service.correlation import RequestTrace
from seawall_service.middleware.socket import SocketObserver, run_socket
from seawall_service.security.peer import TrustedPeers
from seawall_service.tracing import PROBE_PATHS, current_tracer

log = structlog.get_logger("seawall_service.access")

VALID_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


def request_id_of(headers: Headers, correlation_id: str) -> str:
    """The client's own id if it can be written into a log line as it is, else the correlation id (LOG-01, C6)."""
    given = headers.get("x-request-id", "")
    return given if VALID_REQUEST_ID.fullmatch(given) else correlation_id


class ContextMiddleware:
    def __init__(self, app: ASGIApp, trusted_peers: TrustedPeers, tracer: Tracer | None = None) -> None:
        self.app = app
        self.trusted_peers = trusted_peers
        self.tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        headers = Headers(scope=scope)
        peer_trusted, client_ip = self.trusted_peers.judge(scope, headers)
        current_tracer.set(self.tracer)
        with RequestTrace(headers, trusted=peer_trusted) as correlation_id:
            request_id = request_id_of(headers, correlation_id)
            state = scope.setdefault("state", {})
            state |= {"request_id": request_id, "peer_trusted": peer_trusted, "client_ip": client_ip}
            if scope["type"] == "websocket":
                with structlog.contextvars.bound_contextvars(request_id=request_id):
                    await run_socket(self.app, SocketObserver(scope, receive, send, request_id), client_ip)
            else:
                await self.answer(scope, receive, send, started=started, client_ip=client_ip)

    async def answer(self, scope: Scope, receive: Receive, send: Send, *, started: float, client_ip: str | None) -> None:
        request_id = scope["state"]["request_id"]
        status = 0

        async def send_with_request_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self.app(scope, receive, send_with_request_id)
            finally:
                self.write_access_line(scope, status, started, client_ip)

    @staticmethod
    def write_access_line(scope: Scope, status: int, started: float, client_ip: str | None) -> None:
        quiet = scope["path"] in PROBE_PATHS and status < HTTPStatus.BAD_REQUEST
        write = log.debug if quiet else log.info
        principal = scope["state"].get("principal_id")
        write(
            "request",
            method=scope["method"],
            path=scope["path"],
            status=status,
            duration_ms=round((time.perf_counter() - started) * 1000, 2),
            client_ip=client_ip,
            principal_id=str(principal) if principal else None,
        )
