"""/api/auth for users, /internal/verify for the edge."""

from fastapi import APIRouter, Request, Response

from seawall_service.auth import service
from seawall_service.auth.commands import Login, Logout, Refresh
from seawall_service.auth.schemas import LoginRequest, LogoutRequest, RefreshRequest, TokenResponse
from seawall_service.db.transaction import database_of
from seawall_service.errors import UnauthorizedError
from seawall_service.handlers import handling
from seawall_service.security.issuer import build_issuer
from seawall_service.security.jwt import AccessTokens, bearer_token
from seawall_service.security.passwords import Passwords
from seawall_service.security.principal import SYSTEM_PRINCIPAL_ID
from seawall_service.settings import Settings
from seawall_service.users.service import find_credentials


def build_auth_router(settings: Settings, tokens: AccessTokens) -> APIRouter:
    router = APIRouter(tags=["auth"])
    passwords = Passwords(settings.password_hash_concurrency)
    issuer = build_issuer(settings)
    refresh_ttl = settings.refresh_token_ttl_seconds

    def answer(session: service.Session) -> TokenResponse:
        return TokenResponse(
            access_token=tokens.issue(session.user_id, session.id),
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
            service.log_whose_sign_in(known)
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

    @router.post("/api/auth/logout", status_code=204)
    async def logout(body: LogoutRequest, request: Request) -> None:
        """Always 204, so that nobody learns which tokens there are."""
        command = Logout(body.refresh_token)
        with handling(command, SYSTEM_PRINCIPAL_ID):
            async with database_of(request).transaction() as connection:
                await service.end_session(connection, command.refresh_token)

    @router.get("/internal/verify", status_code=204, include_in_schema=False)
    async def verify(request: Request) -> Response:
        """Asks the database each time: a sign-out holds from the next request on, and costs every request one statement."""
        token = bearer_token(request.headers)
        if issuer is not None and issuer.issued(token):
            user_id = await issuer.principal_of(token)
        else:
            user_id, session_id = tokens.verify(token)
            async with database_of(request).connection() as connection:
                if not await service.is_current(connection, user_id, session_id):
                    raise UnauthorizedError("The access token is not valid any more")
        return Response(status_code=204, headers={"X-Principal-Id": str(user_id)})

    return router
