"""Access tokens: short-lived, signed, checked without a database."""

import time
from uuid import UUID, uuid4

import jwt

from seawall_service.errors import UnauthorizedError

ISSUER = "seawall"
REQUIRED_CLAIMS = ["sub", "iat", "exp", "iss", "jti"]
LEEWAY_SECONDS = 5


class AccessTokens:
    def __init__(self, key: str, algorithm: str, ttl_seconds: int) -> None:
        self._key = key
        self._algorithm = algorithm
        self.ttl_seconds = ttl_seconds

    def issue(self, user_id: UUID) -> str:
        now = int(time.time())
        claims = {
            "sub": str(user_id),
            "iat": now,
            "exp": now + self.ttl_seconds,
            "iss": ISSUER,
            "jti": str(uuid4()),
        }
        return jwt.encode(claims, self._key, algorithm=self._algorithm)

    def verify(self, token: str) -> UUID:
        try:
            claims = jwt.decode(
                token,
                self._key,
                algorithms=[self._algorithm],
                issuer=ISSUER,
                leeway=LEEWAY_SECONDS,
                options={"require": REQUIRED_CLAIMS},
            )
            return UUID(claims["sub"])
        except (jwt.InvalidTokenError, ValueError) as error:
            raise UnauthorizedError("The access token is not valid") from error
