"""Chooses the cache that the settings ask for. A product with a cache of its own gives create_app another function."""

from redis.asyncio import Redis

from seawall_service.cache.interface import Cache
from seawall_service.cache.noop import NoopCache
from seawall_service.cache.redis_cache import RedisCache
from seawall_service.settings import Settings


def build_cache(settings: Settings, redis: Redis | None) -> Cache:
    if redis is None or not settings.cache_enabled:
        return NoopCache()
    return RedisCache(redis, settings.cache_prefix, settings.cache_default_ttl_seconds)
