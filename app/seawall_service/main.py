"""Puts an application together from its settings; importing this module does nothing."""

from collections.abc import Sequence
from typing import Any

import structlog
from fastapi import APIRouter, FastAPI

from seawall_service import health
from seawall_service.auth.router import build_auth_router
from seawall_service.db.revision import expected_revision
from seawall_service.documents.router import router as documents_router
from seawall_service.error_handlers import ErrorResponse, register_exception_handlers
from seawall_service.extensions import DEFAULT_EXTENSIONS, Extensions
from seawall_service.lifespan import build_lifespan
from seawall_service.metrics import RequestMetrics, build_metrics_router
from seawall_service.middleware.body_limit import BodySizeLimitMiddleware
from seawall_service.middleware.boundary import BoundaryMiddleware
from seawall_service.middleware.context import ContextMiddleware
from seawall_service.middleware.cors import EnvelopeCORSMiddleware
from seawall_service.middleware.rate_limit import HEADERS as RATE_LIMIT_HEADERS
from seawall_service.middleware.rate_limit import RateLimitMiddleware
from seawall_service.middleware.telemetry import TelemetryMiddleware
from seawall_service.middleware.timeout import RequestTimeoutMiddleware
from seawall_service.rate_limit.client import Clients, Identify, principal_of_edge
from seawall_service.rate_limit.gauge import build_degraded_gauge
from seawall_service.rate_limit.policies import RateLimitPolicies
from seawall_service.security.jwt import build_access_tokens
from seawall_service.security.peer import TrustedPeers
from seawall_service.settings import Settings
from seawall_service.users.router import router as users_router

log = structlog.get_logger(__name__)

ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    "default": {"model": ErrorResponse},
    422: {"model": ErrorResponse},
}


def create_app(settings: Settings, extensions: Extensions = DEFAULT_EXTENSIONS) -> FastAPI:
    """The API behind the edge: it trusts X-Principal-Id and knows no passwords or signing keys."""
    routers = [documents_router, users_router]
    return assemble(settings, "Seawall reference service", routers, extensions, principal_of_edge)


def create_auth_app(settings: Settings, extensions: Extensions = DEFAULT_EXTENSIONS) -> FastAPI:
    """The auth gateway: signs users in, and tells the edge who a request comes from."""
    tokens = build_access_tokens(settings)
    return assemble(settings, "Seawall auth gateway", [build_auth_router(settings, tokens)], extensions, tokens.identify)


def assemble(settings: Settings, title: str, routers: Sequence[APIRouter], extensions: Extensions, identify: Identify) -> FastAPI:
    metrics = RequestMetrics() if settings.metrics_enabled else None
    registry = metrics.registry if metrics and settings.rate_limit_enabled else None
    app = FastAPI(
        title=title,
        lifespan=build_lifespan(settings, extensions, build_degraded_gauge(registry)),
        docs_url=None,
        redoc_url=None,
        # A redirect would name the address that this process sees, which is http and not the edge's.
        redirect_slashes=False,
        openapi_url=None if settings.is_production else "/openapi.json",
        responses=ERROR_RESPONSES,
    )
    app.state.expected_revision = expected_revision()
    app.state.require_authenticated_principal = settings.require_authenticated_principal
    register_exception_handlers(app)
    for router in (health.router, *routers):
        app.include_router(router)
    if metrics:
        app.include_router(build_metrics_router(metrics))
    # In the state as well, where sockets find them.
    policies = app.state.rate_limit_policies = RateLimitPolicies(
        settings, (getattr(route, "path", "") for router in routers for route in router.routes)
    )
    add_middleware(app, settings, metrics, policies, identify)
    log_configuration(settings, title)
    return app


def add_middleware(
    app: FastAPI, settings: Settings, metrics: RequestMetrics | None, policies: RateLimitPolicies, identify: Identify
) -> None:
    """Innermost first, since each one that is added wraps those before it."""
    app.add_middleware(RequestTimeoutMiddleware, seconds=settings.request_timeout)
    if settings.rate_limit_enabled:
        clients = Clients(settings.rate_limit_key_strategy, identify)
        app.add_middleware(RateLimitMiddleware, policies=policies, clients=clients)
    app.add_middleware(BodySizeLimitMiddleware, limit=settings.max_request_body_size_bytes)
    app.add_middleware(BoundaryMiddleware)
    if settings.cors_origins:
        app.add_middleware(
            EnvelopeCORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST", "PATCH"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "X-Request-ID"],
            expose_headers=["X-Request-ID", "Retry-After", *RATE_LIMIT_HEADERS],
        )
    if metrics:
        app.add_middleware(TelemetryMiddleware, metrics=metrics)
    peers = TrustedPeers(settings.forwarded_allow_ips, unix_socket=settings.binds_unix_socket)
    app.add_middleware(ContextMiddleware, trusted_peers=peers)


def log_configuration(settings: Settings, title: str) -> None:
    if settings.is_production and not settings.metrics_enabled:
        log.warning("startup.feature_disabled", feature="metrics")
    if settings.request_timeout > settings.drain_seconds:
        log.warning(
            "startup.drain_shorter_than_requests",
            request_timeout_seconds=settings.request_timeout,
            drain_seconds=settings.drain_seconds,
            cure="Set REQUEST_TIMEOUT_SECONDS at most GUNICORN_GRACEFUL_TIMEOUT minus 5",
        )
    log.info(
        "startup.config",
        application=title,
        environment=settings.environment,
        release=settings.release,
        colour=settings.colour,
        workers=settings.web_concurrency,
        metrics=settings.metrics_enabled,
        cache=bool(settings.redis_url),
        body_limit_bytes=settings.max_request_body_size_bytes,
        request_timeout_seconds=settings.request_timeout,
    )
