"""/api/auth for users, /internal/verify for the edge."""

from fastapi import APIRouter, Request, Response

from seawall_service.auth import service
from seawall_service.auth.commands import Login, Refresh
from seawall_service.auth.schemas import BEARER, LoginRequest, RefreshRequest, TokenResponse
from seawall_service.db.transaction import database_of
from seawall_service.errors import SeawallError, UnauthorizedError
from seawall_service.handlers import handling
from seawall_service.security.jwt import AccessTokens
from seawall_service.security.passwords import Passwords
from seawall_service.security.principal import SYSTEM_PRINCIPAL_ID
from seawall_service.settings import Settings
from seawall_service.users.service import find_credentials


def bearer_token(request: Request) -> str:
    values = request.headers.getlist("authorization")
    scheme, _, token = values[0].partition(" ") if len(values) == 1 else ("", "", "")
    if scheme.lower() != BEARER:
        raise UnauthorizedError("A Bearer token is required")
    return token.strip()


def build_auth_router(settings: Settings) -> APIRouter:
    if settings.jwt_secret is None:
        raise SeawallError("the startup gate lets no auth gateway pass without JWT_SECRET_FILE")
    router = APIRouter(tags=["auth"])
    tokens = AccessTokens(settings.jwt_secret.get_secret_value(), settings.jwt_algorithm, settings.access_token_ttl_seconds)
    passwords = Passwords(settings.password_hash_concurrency)
    refresh_ttl = settings.refresh_token_ttl_seconds

    def answer(session: service.Session) -> TokenResponse:
        return TokenResponse(
            access_token=tokens.issue(session.user_id),
            expires_in=tokens.ttl_seconds,
            refresh_token=session.refresh_token,
        )

    @router.post("/api/auth/login")
    async def login(body: LoginRequest, request: Request) -> TokenResponse:
        """Sign in with name and password; whether the name is unknown or the password wrong is not told."""
        command = Login(body.username.lower(), body.password)
        database = database_of(request)
        with handling(command, SYSTEM_PRINCIPAL_ID):
            # No connection is held while the password is hashed.
            async with database.connection() as connection:
                known = await find_credentials(connection, command.username)
            correct = await passwords.matches(known.password_hash if known else None, command.password)
            if known is None or not correct:
                raise UnauthorizedError("Wrong user name or password")
            async with database.transaction() as connection:
                session = await service.start_session(connection, known.user_id, refresh_ttl)
        return answer(session)

    @router.post("/api/auth/refresh")
    async def refresh(body: RefreshRequest, request: Request) -> TokenResponse:
        """Exchange a refresh token for the next pair of tokens."""
        command = Refresh(body.refresh_token)
        with handling(command, SYSTEM_PRINCIPAL_ID):
            async with database_of(request).transaction() as connection:
                session = await service.rotate(connection, command.refresh_token, refresh_ttl)
            # After the commit: raising inside would undo the revocation of a reused token's family.
            if session is None:
                raise UnauthorizedError("The refresh token is not valid")
        return answer(session)

    @router.get("/internal/verify", status_code=204, include_in_schema=False)
    async def verify(request: Request) -> Response:
        user_id = tokens.verify(bearer_token(request))
        return Response(status_code=204, headers={"X-Principal-Id": str(user_id)})

    return router
