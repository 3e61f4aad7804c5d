"""Refuses requests and upgrades beyond the limits of their client, and tells every client how much of them is left."""

from typing import cast

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seawall_service.error_handlers import error_response
from seawall_service.errors import ErrorId
from seawall_service.middleware.socket import DENIAL, deny
from seawall_service.rate_limit.client import Clients
from seawall_service.rate_limit.interface import Decision, Hit, RateLimiter
from seawall_service.rate_limit.policies import RateLimitPolicies

log = structlog.get_logger(__name__)

BEGINNINGS = frozenset({"http.response.start", f"{DENIAL}.start"})
HEADERS = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")


def headers_of(decision: Decision) -> dict[str, str]:
    return dict(zip(HEADERS, map(str, (decision.limit, decision.remaining, decision.reset_at)), strict=True))


class RateLimitMiddleware:
    def __init__(self, app: ASGIApp, policies: RateLimitPolicies, clients: Clients) -> None:
        self.app = app
        self.policies = policies
        self.clients = clients

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"} or not self.policies.applies(scope["path"]):
            await self.app(scope, receive, send)
            return
        limiter = cast("RateLimiter", scope["state"]["rate_limiter"])
        hits = self.hits_of(scope)
        decision = await limiter.hit(hits)
        if not decision.allowed:
            log.warning(
                "rate_limit.rejected",
                rules=[hit.key for hit in hits],
                limit=decision.limit,
                retry_after_seconds=decision.retry_after_seconds,
            )
            headers = headers_of(decision) | {"Retry-After": str(decision.retry_after_seconds)}
            response = error_response(429, ErrorId.RATE_LIMITED, "Too many requests", None, headers)
            await (deny(response, scope, receive, send) if scope["type"] == "websocket" else response(scope, receive, send))
            return
        encoded = [(name.lower().encode(), value.encode()) for name, value in headers_of(decision).items()]

        async def send_with_headers(message: Message) -> None:
            if message["type"] in BEGINNINGS:
                message["headers"] = [*message.get("headers", ()), *encoded]
            await send(message)

        await self.app(scope, receive, send_with_headers)

    def hits_of(self, scope: Scope) -> list[Hit]:
        if scope["type"] == "websocket":
            # Here, and not where it is accepted: one that is refused for its origin or its user counts too (WS-06).
            return self.policies.socket_hits(self.clients.user_of(scope), scope["state"]["client_ip"], "connect")
        return self.policies.request_hits(scope["method"], scope["path"], self.clients.of(scope))
