"""Outermost of our layers: the request id, whom to believe, and one access line."""

import re
import time
from http import HTTPStatus
from uuid import uuid4

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seawall_service.middleware.socket import SocketObserver, run_socket
from seawall_service.security.peer import TrustedPeers

log = structlog.get_logger("seawall_service.access")

VALID_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
PROBE_PATHS = frozenset({"/healthz", "/health", "/api/v1/health/live", "/readyz", "/api/v1/health/ready", "/metrics"})


def request_id_of(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if VALID_REQUEST_ID.fullmatch(given) else str(uuid4())


class ContextMiddleware:
    def __init__(self, app: ASGIApp, trusted_peers: TrustedPeers) -> None:
        self.app = app
        self.trusted_peers = trusted_peers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        headers = Headers(scope=scope)
        request_id = request_id_of(headers)
        peer_trusted, client_ip = self.trusted_peers.judge(scope, headers)
        state = scope.setdefault("state", {})
        state |= {"request_id": request_id, "peer_trusted": peer_trusted, "client_ip": client_ip}
        if scope["type"] == "websocket":
            with structlog.contextvars.bound_contextvars(request_id=request_id):
                await run_socket(self.app, SocketObserver(scope, receive, send, request_id), client_ip)
            return
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
