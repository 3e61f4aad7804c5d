"""Chooses the limiter that the settings ask for. A product with a limiter of its own gives create_app another function."""

from collections.abc import Callable

from redis.asyncio import Redis

from seawall_service.rate_limit.degrading import DegradingRateLimiter
from seawall_service.rate_limit.interface import RateLimiter
from seawall_service.rate_limit.line import Line
from seawall_service.rate_limit.memory_backend import MemoryRateLimiter
from seawall_service.rate_limit.redis_backend import RedisRateLimiter
from seawall_service.settings import Settings


def build_rate_limiter(settings: Settings, redis: Redis | None, report_degraded: Callable[[int], None]) -> RateLimiter | None:
    """None when limits are off. Without REDIS_URL, which production refuses, each worker counts for itself alone."""
    if not settings.rate_limit_enabled:
        return None
    if redis is None:
        return MemoryRateLimiter()
    return DegradingRateLimiter(
        RedisRateLimiter(Line(settings), settings.rate_limit_prefix),
        MemoryRateLimiter(),
        workers=settings.web_concurrency,
        pause_seconds=settings.rate_limit_degraded_seconds,
        report=report_degraded,
    )
