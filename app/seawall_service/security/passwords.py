"""Password hashes, computed in threads of bounded number: each takes 19 MiB and tens of milliseconds."""

import secrets

import anyio.to_thread
from anyio import CapacityLimiter
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from seawall_service.errors import ServiceUnavailableError

# OWASP's minimum for Argon2id; the library's own default of 64 MiB would not fit the container's memory.
MEMORY_KIB = 19_456
TIME_COST = 2
PARALLELISM = 1
WAITING_PER_THREAD = 16


class Passwords:
    def __init__(self, concurrency: int) -> None:
        self._hasher = PasswordHasher(time_cost=TIME_COST, memory_cost=MEMORY_KIB, parallelism=PARALLELISM)
        self._concurrency = concurrency
        self._limiter = CapacityLimiter(concurrency)
        # Unknown users are checked against this, so they take as long as known ones.
        self._nobody = self._hasher.hash(secrets.token_urlsafe(16))

    def hash(self, password: str) -> str:
        return self._hasher.hash(password)

    async def matches(self, stored: str | None, password: str) -> bool:
        if self._limiter.statistics().tasks_waiting >= WAITING_PER_THREAD * self._concurrency:
            raise ServiceUnavailableError("Too many sign-ins at once")
        correct = await anyio.to_thread.run_sync(self._verify, stored or self._nobody, password, limiter=self._limiter)
        return correct and stored is not None

    def _verify(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (VerificationError, InvalidHashError):
            return False
