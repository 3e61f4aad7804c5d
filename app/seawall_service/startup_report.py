"""What the start says about the configuration: one line of what is set, and one warning for each protection that is off (SEC-03).

Written by gunicorn's master, so once for all workers.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import structlog

from seawall_service.settings import Settings
from seawall_service.startup_gate import Component
from seawall_service.tracing import has_destination

log = structlog.get_logger(__name__)

# Read by the master before it forks, so that all workers of a container agree on it.
STARTED_AT = datetime.now(UTC)

# Optional: each may be off for a reason, which is why they warn and do not refuse.
FEATURES: dict[str, Callable[[Settings], bool]] = {
    "limiter": lambda settings: settings.rate_limit_enabled,
    "cache": lambda settings: settings.cache_enabled,
    "metrics": lambda settings: settings.metrics_enabled or settings.otel_metrics,
    # What is never sampled is off.
    "tracing": lambda settings: has_destination(settings, "traces") and settings.otel_sample_rate > 0,
    "ws_limits": lambda settings: settings.ws_limits_enabled,
    "audit": lambda settings: settings.audit_enabled and settings.audit_sample_rate > 0,
}
VARIABLES = {
    "limiter": "RATE_LIMIT_ENABLED",
    "cache": "CACHE_ENABLED",
    "metrics": "METRICS_ENABLED",
    "tracing": "OTEL_EXPORTER, OTEL_EXPORTER_OTLP_ENDPOINT and OTEL_SAMPLE_RATE",
    "ws_limits": "WS_LIMITS_ENABLED",
    "audit": "AUDIT_ENABLED and AUDIT_SAMPLE_RATE",
}
# The gateway caches nothing, has no sockets and changes no documents.
OF_THE_GATEWAY = frozenset({"limiter", "metrics", "tracing"})


def features_of(settings: Settings, component: Component) -> dict[str, bool]:
    """Each optional feature that this component has, and whether it is on."""
    return {feature: is_on(settings) for feature, is_on in FEATURES.items() if component == "api" or feature in OF_THE_GATEWAY}


def signals_without_destination(settings: Settings) -> Iterator[str]:
    """What is to be exported and has nowhere to go, so that nothing is set up for it (OTEL-04)."""
    if settings.otel_exporter == "otlp" and not has_destination(settings, "traces"):
        yield "traces"
    if settings.otel_logs and not has_destination(settings, "logs"):
        yield "logs"
    if settings.otel_metrics and not has_destination(settings, "metrics"):
        yield "metrics"


def report_configuration(settings: Settings, component: Component) -> None:
    features = features_of(settings, component)
    if settings.is_production:
        for feature in (name for name, on in features.items() if not on):
            log.warning("startup.feature_disabled", feature=feature, cure=f"Set {VARIABLES[feature]}, if that was not meant")
    if component == "api" and settings.ws_limits_enabled and not settings.redis_url:
        log.warning(
            "startup.ws_limits_divided",
            workers=settings.web_concurrency,
            cure="Set REDIS_URL: without it each worker counts its sockets alone, up to its share of the limits",
        )
    for signal in signals_without_destination(settings):
        log.warning(
            "startup.telemetry_skipped",
            signal=signal,
            cure="Set OTEL_EXPORTER=otlp and OTEL_EXPORTER_OTLP_ENDPOINT, such as http://collector:4318",
        )
    if settings.request_timeout > settings.drain_seconds:
        log.warning(
            "startup.drain_shorter_than_requests",
            request_timeout_seconds=settings.request_timeout,
            drain_seconds=settings.drain_seconds,
            cure="Set REQUEST_TIMEOUT_SECONDS at most GUNICORN_GRACEFUL_TIMEOUT minus 5",
        )
    log.info(
        "startup.config",
        component=component,
        environment=settings.environment.value,
        release=settings.release,
        colour=settings.colour,
        workers=settings.web_concurrency,
        features=[feature for feature, on in features.items() if on],
        exporter=settings.otel_exporter,
        body_limit_bytes=settings.max_request_body_size_bytes,
        request_timeout_seconds=settings.request_timeout,
    )
