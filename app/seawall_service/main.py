"""Puts an application together from its settings; importing this module does nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import APIRouter, FastAPI
from opentelemetry.trace import Tracer
from starlette.middleware import Middleware

from seawall_service import health
from seawall_service.activity.router import router as activity_router
from seawall_service.activity.service import Container
from seawall_service.auth.router import build_auth_router
from seawall_service.command_context import AuditPolicy
from seawall_service.db.revision import expected_revision
from seawall_service.documents.router import router as documents_router
from seawall_service.error_handlers import register_exception_handlers
from seawall_service.extensions import DEFAULT_EXTENSIONS, Extensions
from seawall_service.lifespan import build_lifespan
from seawall_service.metrics import PrometheusTelemetry, build_metrics_router
from seawall_service.middleware.body_limit import BodySizeLimitMiddleware
from seawall_service.middleware.boundary import BoundaryMiddleware
from seawall_service.middleware.context import ContextMiddleware
from seawall_service.middleware.cors import EnvelopeCORSMiddleware
from seawall_service.middleware.rate_limit import HEADERS as RATE_LIMIT_HEADERS
from seawall_service.middleware.rate_limit import RateLimitMiddleware
from seawall_service.middleware.telemetry import TelemetryMiddleware
from seawall_service.middleware.timeout import RequestTimeoutMiddleware
from seawall_service.openapi import DESCRIPTION, ERROR_RESPONSES, DocumentedAPI, operation_id
from seawall_service.rate_limit.client import Clients, Identify, principal_of_edge
from seawall_service.rate_limit.policies import RateLimitPolicies
from seawall_service.realtime.router import router as live_router
from seawall_service.security.jwt import build_access_tokens
from seawall_service.security.peer import TrustedPeers
from seawall_service.settings import Settings
from seawall_service.startup_report import STARTED_AT
from seawall_service.telemetry import NoopTelemetry, Telemetry
from seawall_service.tracing import Exports, TracedAPI
from seawall_service.users.router import router as users_router

# What is asked most comes first: a request is compared with one router after the other.
API_ROUTERS = (documents_router, users_router, activity_router, live_router)


@dataclass(frozen=True, slots=True)
class Program:
    """What the API and the auth gateway differ in; `identify` tells whose request it is, for the limiter."""

    title: str
    service_name: str
    routers: Sequence[APIRouter]
    identify: Identify

    def policies(self, settings: Settings) -> RateLimitPolicies:
        paths = (getattr(route, "path", "") for router in self.routers for route in router.routes)
        return RateLimitPolicies(settings, paths)


def create_app(settings: Settings, extensions: Extensions = DEFAULT_EXTENSIONS) -> FastAPI:
    """The API behind the edge: it trusts X-Principal-Id and knows no passwords or signing keys."""
    return assemble(settings, Program("Seawall reference service", "seawall-api", API_ROUTERS, principal_of_edge), extensions)


def create_auth_app(settings: Settings, extensions: Extensions = DEFAULT_EXTENSIONS) -> FastAPI:
    """The auth gateway: signs users in, and tells the edge who a request comes from."""
    tokens = build_access_tokens(settings)
    routers = [build_auth_router(settings, tokens)]
    return assemble(settings, Program("Seawall auth gateway", "seawall-auth", routers, tokens.identify), extensions)


class Application(DocumentedAPI, TracedAPI):
    """FastAPI with our errors in its document, and traces that only trusted peers may continue."""


def assemble(settings: Settings, program: Program, extensions: Extensions) -> FastAPI:
    prometheus = PrometheusTelemetry() if settings.metrics_enabled else None
    telemetry = extensions.build_telemetry(settings, program.service_name, prometheus)
    exports = Exports(settings, program.service_name)
    peers = TrustedPeers(settings.forwarded_allow_ips, unix_socket=settings.binds_unix_socket)
    app = Application(
        title=program.title,
        description=DESCRIPTION,
        telemetry=exports.native,
        lifespan=build_lifespan(settings, extensions, exports, telemetry),
        middleware=middleware_of(settings, program, telemetry, exports.tracer, peers),
        docs_url=None,
        redoc_url=None,
        # A redirect would name the address that this process sees, which is http and not the edge's.
        redirect_slashes=False,
        openapi_url="/openapi.json" if settings.openapi_enabled or not settings.is_production else None,
        generate_unique_id_function=operation_id,
        responses=ERROR_RESPONSES,
    )
    if exports.tracer is not None:
        app.trusted_peers = peers
    app.state.expected_revision = expected_revision()
    app.state.audit_policy = AuditPolicy(settings.audit_enabled, settings.audit_sample_rate)
    app.state.require_authenticated_principal = settings.require_authenticated_principal
    app.state.telemetry = telemetry
    app.state.exports = exports
    app.state.container = Container(settings.release or None, settings.colour or None, STARTED_AT, prometheus)
    register_exception_handlers(app)
    for router in (*program.routers, health.router):
        app.include_router(router)
    if prometheus is not None:
        app.include_router(build_metrics_router(prometheus))
    # Sockets find them here; requests pass the middleware.
    app.state.rate_limit_policies = program.policies(settings)
    return app


def middleware_of(
    settings: Settings, program: Program, telemetry: Telemetry, tracer: Tracer | None, peers: TrustedPeers
) -> list[Middleware]:
    """All of them, outermost first: the order in which a request meets them."""
    policies = program.policies(settings)
    counts_nothing = isinstance(telemetry, NoopTelemetry)
    clients = Clients(settings.rate_limit_key_strategy, program.identify)
    return [
        # The request id, before anything may log; one access line, after everything.
        Middleware(ContextMiddleware, trusted_peers=peers, tracer=tracer),
        # Counts every answer, refusals of those further in included.
        *([] if counts_nothing else [Middleware(TelemetryMiddleware, telemetry=telemetry, route_of=policies.route_of)]),
        # Around all that may refuse, so that a page of another origin can read why.
        *([cors(settings)] if settings.cors_origins else []),
        # Inside CORS, where Starlette's own is not: its 500 is an answer like others.
        Middleware(BoundaryMiddleware),
        # Outside the deadline: a body that is too large is refused by its size alone.
        Middleware(BodySizeLimitMiddleware, limit=settings.max_request_body_size_bytes),
        # Before any work is done for the request.
        *([Middleware(RateLimitMiddleware, policies=policies, clients=clients)] if settings.rate_limit_enabled else []),
        # Innermost: the time of the handler, of its dependencies, and of the body's arrival.
        Middleware(RequestTimeoutMiddleware, seconds=settings.request_timeout),
    ]


def cors(settings: Settings) -> Middleware:
    return Middleware(
        EnvelopeCORSMiddleware,
        allow_origins=list(settings.cors_origins),
        allow_methods=["GET", "POST", "PATCH"],
        allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "X-Request-ID"],
        expose_headers=["X-Request-ID", "Retry-After", *RATE_LIMIT_HEADERS],
    )
