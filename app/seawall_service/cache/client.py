"""The cache's client. So far only readiness asks it whether it answers."""

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from seawall_service.settings import Settings

SOCKET_TIMEOUT_SECONDS = 0.25


class Cache:
    def __init__(self, settings: Settings) -> None:
        secret = settings.redis_password
        self._client: Redis = Redis.from_url(
            settings.redis_url,
            password=secret.get_secret_value() if secret else None,
            socket_timeout=SOCKET_TIMEOUT_SECONDS,
            socket_connect_timeout=SOCKET_TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )

    async def ping(self) -> str | None:
        """None when it answers, else the reason why not."""
        try:
            await self._client.ping()
        except (RedisError, OSError) as error:
            return type(error).__name__
        return None

    async def close(self) -> None:
        await self._client.aclose()


def build_cache(settings: Settings) -> Cache | None:
    return Cache(settings) if settings.redis_url else None
