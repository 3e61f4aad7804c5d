"""Puts an application together from its settings; importing this module does nothing."""

from collections.abc import Iterable
from typing import Any

import structlog
from fastapi import APIRouter, FastAPI

from seawall_service import health
from seawall_service.auth.router import build_auth_router
from seawall_service.command_context import AuditPolicy
from seawall_service.db.revision import expected_revision
from seawall_service.documents.router import router as documents_router
from seawall_service.error_handlers import ErrorResponse, register_exception_handlers
from seawall_service.lifespan import build_lifespan
from seawall_service.metrics import RequestMetrics, build_metrics_router
from seawall_service.middleware.body_limit import BodySizeLimitMiddleware
from seawall_service.middleware.boundary import BoundaryMiddleware
from seawall_service.middleware.context import ContextMiddleware
from seawall_service.middleware.cors import EnvelopeCORSMiddleware
from seawall_service.middleware.telemetry import TelemetryMiddleware
from seawall_service.middleware.timeout import RequestTimeoutMiddleware
from seawall_service.realtime.router import router as live_router
from seawall_service.security.peer import TrustedPeers
from seawall_service.settings import Settings
from seawall_service.users.router import router as users_router

log = structlog.get_logger(__name__)

ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    "default": {"model": ErrorResponse},
    422: {"model": ErrorResponse},
}


def create_app(settings: Settings) -> FastAPI:
    """The API behind the edge: it trusts X-Principal-Id and knows no passwords or signing keys."""
    return assemble(settings, "Seawall reference service", [documents_router, live_router, users_router])


def create_auth_app(settings: Settings) -> FastAPI:
    """The auth gateway: signs users in, and tells the edge who a request comes from."""
    return assemble(settings, "Seawall auth gateway", [build_auth_router(settings)])


def assemble(settings: Settings, title: str, routers: Iterable[APIRouter]) -> FastAPI:
    app = FastAPI(
        title=title,
        lifespan=build_lifespan(settings),
        docs_url=None,
        redoc_url=None,
        # A redirect would name the address that this process sees, which is http and not the edge's.
        redirect_slashes=False,
        openapi_url=None if settings.is_production else "/openapi.json",
        responses=ERROR_RESPONSES,
    )
    app.state.expected_revision = expected_revision()
    app.state.audit_policy = AuditPolicy(settings.audit_enabled, settings.audit_sample_rate)
    app.state.require_authenticated_principal = settings.require_authenticated_principal
    register_exception_handlers(app)
    for router in (health.router, *routers):
        app.include_router(router)
    metrics = RequestMetrics() if settings.metrics_enabled else None
    if metrics:
        app.include_router(build_metrics_router(metrics))
    add_middleware(app, settings, metrics)
    log_configuration(settings, title)
    return app


def add_middleware(app: FastAPI, settings: Settings, metrics: RequestMetrics | None) -> None:
    """Innermost first, since each one that is added wraps those before it."""
    app.add_middleware(RequestTimeoutMiddleware, seconds=settings.request_timeout)
    app.add_middleware(BodySizeLimitMiddleware, limit=settings.max_request_body_size_bytes)
    app.add_middleware(BoundaryMiddleware)
    if settings.cors_origins:
        app.add_middleware(
            EnvelopeCORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "X-Request-ID"],
            expose_headers=["X-Request-ID"],
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
