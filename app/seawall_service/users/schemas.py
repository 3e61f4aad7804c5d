"""Requests and responses of /api/v1/users, and what a user name may be."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field

from seawall_service.documents.schemas import Title
from seawall_service.schemas import BaseResponse, StrictRequest

USERNAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,62}$"
MIN_PASSWORD_LENGTH = 12
MAX_PASSWORD_LENGTH = 1024


class UserResponse(BaseResponse):
    """A user, as that user sees it."""

    id: UUID
    username: str
    created_at: datetime


class UpdateUserRequest(StrictRequest):
    """What users may change about themselves."""

    display_name: Annotated[
        Title, Field(min_length=1, max_length=100, description="How others see the user", examples=["Ada Lovelace"])
    ]


class UserPublicResponse(BaseResponse):
    """The same for everybody who may see it; this, and nothing else, is what the cache holds."""

    id: UUID
    username: str
    display_name: str | None
