"""A gauge that says whether the limiter is degraded: how many workers count in memory."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Gauge


def build_degraded_gauge(registry: CollectorRegistry | None) -> Callable[[float], None]:
    """`livesum` adds up the living workers alone."""
    if registry is None:
        return lambda _: None
    gauge = Gauge(
        "rate_limit_degraded",
        "Workers that count requests in memory, because REDIS_URL does not answer",
        registry=registry,
        multiprocess_mode="livesum",
    )
    return gauge.set
