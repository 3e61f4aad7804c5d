"""Requests and responses of /api/auth."""

from typing import Annotated, Literal

from pydantic import Field

from seawall_service.schemas import BaseResponse, StrictRequest, Text
from seawall_service.security.jwt import BEARER
from seawall_service.users.schemas import MAX_PASSWORD_LENGTH


class LoginRequest(StrictRequest):
    """Who signs in."""

    username: Annotated[Text, Field(min_length=1, max_length=200, description="In capital or small letters", examples=["ada"])]
    password: Annotated[
        Text,
        Field(
            min_length=1,
            max_length=MAX_PASSWORD_LENGTH,
            repr=False,
            description="Of that user",
            examples=["correct horse battery"],
        ),
    ]


class RefreshRequest(StrictRequest):
    """The refresh token of the answer before."""

    refresh_token: Annotated[
        Text,
        Field(min_length=1, max_length=200, repr=False, description="Good for one use", examples=["Zk0h-3mAq1w"]),
    ]


class LogoutRequest(RefreshRequest):
    """Any refresh token of the session that is to end, also one that was used before."""


class TokenResponse(BaseResponse):
    """Send the access token as `Authorization: Bearer …`, and fetch the next pair before it expires."""

    access_token: str
    token_type: Literal["bearer"] = BEARER
    expires_in: int = Field(description="Seconds that the access token is valid")
    refresh_token: str = Field(description="Good for one use; a second use ends all sessions that came from it")
