"""What a product may replace by classes of its own (CODE-02): they implement the protocol, and these functions build them."""

from collections.abc import Callable
from dataclasses import dataclass

from redis.asyncio import Redis

from seawall_service.cache.build import build_cache
from seawall_service.cache.interface import Cache
from seawall_service.metrics import PrometheusTelemetry
from seawall_service.rate_limit.build import build_rate_limiter
from seawall_service.rate_limit.interface import RateLimiter
from seawall_service.settings import Settings
from seawall_service.telemetry import Telemetry, build_telemetry


@dataclass(frozen=True, slots=True)
class Extensions:
    """Each is called once in every worker.

    The limiter and the cache get the client of REDIS_URL, which is None where that is not set; our limiter has a line of its own.
    Telemetry gets the program's name, and what GET /metrics shows, which is None where that is off.
    """

    build_telemetry: Callable[[Settings, str, PrometheusTelemetry | None], Telemetry] = build_telemetry
    build_rate_limiter: Callable[[Settings, Redis | None, Callable[[int], None]], RateLimiter | None] = build_rate_limiter
    build_cache: Callable[[Settings, Redis | None], Cache] = build_cache


DEFAULT_EXTENSIONS = Extensions()
