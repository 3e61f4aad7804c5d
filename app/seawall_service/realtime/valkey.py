"""The live tail's own connections to Valkey: commands, and the one subscription of this worker."""

from redis.asyncio import Redis

from seawall_service.cache.client import connection_options
from seawall_service.settings import Settings

PREFIX = "ws:"


def build_client(settings: Settings) -> Redis | None:
    if not settings.redis_url:
        return None
    client: Redis = Redis.from_url(settings.redis_url, **connection_options(settings))
    return client
