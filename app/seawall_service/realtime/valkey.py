"""The live tail's own connections to Valkey: commands, and the one subscription of this worker."""

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from seawall_service.settings import Settings

PREFIX = "ws:"
SOCKET_TIMEOUT_SECONDS = 0.25


def build_client(settings: Settings) -> Redis | None:
    if not settings.redis_url:
        return None
    secret = settings.redis_password
    client: Redis = Redis.from_url(
        settings.redis_url,
        password=secret.get_secret_value() if secret else None,
        socket_timeout=SOCKET_TIMEOUT_SECONDS,
        socket_connect_timeout=SOCKET_TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
    return client
