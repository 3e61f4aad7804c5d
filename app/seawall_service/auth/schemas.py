"""Requests and responses of /api/auth."""

from typing import Annotated, Literal

from pydantic import Field

from seawall_service.schemas import BaseResponse, StrictRequest, Text
from seawall_service.security.jwt import BEARER
from seawall_service.users.schemas import MAX_PASSWORD_LENGTH


class LoginRequest(StrictRequest):
    username: Annotated[Text, Field(min_length=1, max_length=200)]
    password: Annotated[Text, Field(min_length=1, max_length=MAX_PASSWORD_LENGTH, repr=False)]


class RefreshRequest(StrictRequest):
    refresh_token: Annotated[Text, Field(min_length=1, max_length=200, repr=False)]


class LogoutRequest(RefreshRequest):
    """Any refresh token of the session that is to end, also one that was used before."""


class TokenResponse(BaseResponse):
    access_token: str
    token_type: Literal["bearer"] = BEARER
    expires_in: int
    refresh_token: str
