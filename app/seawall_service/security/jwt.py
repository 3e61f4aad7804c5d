"""Access tokens: short-lived and signed. Whether their session was ended since, only the database can say."""

import time
from typing import Final, NamedTuple
from uuid import UUID, uuid4

import jwt
from starlette.datastructures import Headers
from starlette.types import Scope

from seawall_service.errors import SeawallError, UnauthorizedError
from seawall_service.security.signing_key import SigningKey, load_signing_key
from seawall_service.settings import Settings

ISSUER = "seawall"
REQUIRED_CLAIMS = ["sub", "iat", "exp", "iss", "jti"]
LEEWAY_SECONDS = 5
BEARER: Final = "bearer"


class AccessToken(NamedTuple):
    """`session_id` is the family of its refresh tokens, None in a token from before there was a sign-out."""

    user_id: UUID
    session_id: UUID | None


def bearer_token(headers: Headers) -> str:
    values = headers.getlist("authorization")
    scheme, _, token = values[0].partition(" ") if len(values) == 1 else ("", "", "")
    if scheme.lower() != BEARER:
        raise UnauthorizedError("A Bearer token is required")
    return token.strip()


class AccessTokens:
    def __init__(self, key: SigningKey, ttl_seconds: int) -> None:
        self._key = key
        self.ttl_seconds = ttl_seconds

    def issue(self, user_id: UUID, session_id: UUID) -> str:
        now = int(time.time())
        claims = {
            "sub": str(user_id),
            "sid": str(session_id),
            "iat": now,
            "exp": now + self.ttl_seconds,
            "iss": ISSUER,
            "jti": str(uuid4()),
        }
        return jwt.encode(claims, self._key.private, algorithm=self._key.algorithm)

    def verify(self, token: str) -> AccessToken:
        try:
            claims = jwt.decode(
                token,
                self._key.public,
                # Ours and no other: a token does not choose how it is checked.
                algorithms=[self._key.algorithm],
                issuer=ISSUER,
                leeway=LEEWAY_SECONDS,
                options={"require": REQUIRED_CLAIMS},
            )
            session = claims.get("sid")
            return AccessToken(UUID(claims["sub"]), UUID(session) if session is not None else None)
        except (jwt.PyJWTError, ValueError, TypeError, AttributeError) as error:
            raise UnauthorizedError("The access token is not valid") from error

    def identify(self, _: Scope, headers: Headers) -> UUID | None:
        """For the limiter: the user of a token that is signed by us; a forged one names nobody."""
        try:
            return self.verify(bearer_token(headers)).user_id
        except UnauthorizedError:
            return None


def build_access_tokens(settings: Settings) -> AccessTokens:
    if settings.jwt_secret is None:
        raise SeawallError("the startup gate lets no auth gateway pass without JWT_SECRET_FILE")
    key = load_signing_key(settings.jwt_algorithm, settings.jwt_secret.get_secret_value())
    return AccessTokens(key, settings.access_token_ttl_seconds)
