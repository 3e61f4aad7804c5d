"""The worker's connections to REDIS_URL, which the cache and readiness share; the limiter has a line of its own."""

from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from seawall_service.settings import Settings

SOCKET_TIMEOUT_SECONDS = 0.25
# Each answers in well under a millisecond; more requests at once wait for one of them.
MAX_CONNECTIONS = 16


def connection_options(settings: Settings) -> dict[str, Any]:
    """What every connection to REDIS_URL has: its password, and an end to waiting. Whoever asks decides what a failure means."""
    secret = settings.redis_password
    return {
        "password": secret.get_secret_value() if secret else None,
        "socket_timeout": SOCKET_TIMEOUT_SECONDS,
        "socket_connect_timeout": SOCKET_TIMEOUT_SECONDS,
        "retry": Retry(NoBackoff(), 0),
    }


class RedisServer:
    def __init__(self, settings: Settings) -> None:
        pool = BlockingConnectionPool.from_url(
            settings.redis_url,
            max_connections=MAX_CONNECTIONS,
            timeout=SOCKET_TIMEOUT_SECONDS,
            **connection_options(settings),
        )
        self.client: Redis = Redis.from_pool(pool)

    async def ping(self) -> str | None:
        """None when it answers, else the reason why not."""
        try:
            await self.client.ping()
        except (RedisError, OSError) as error:
            return type(error).__name__
        return None

    async def close(self) -> None:
        await self.client.aclose()


def build_redis(settings: Settings) -> RedisServer | None:
    return RedisServer(settings) if settings.redis_url else None
