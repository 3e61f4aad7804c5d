"""Responses of /api/v1/users, and what a user name may be."""

from datetime import datetime
from uuid import UUID

from seawall_service.schemas import BaseResponse

USERNAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,62}$"
MIN_PASSWORD_LENGTH = 12
MAX_PASSWORD_LENGTH = 1024


class UserResponse(BaseResponse):
    """A user, as that user sees it."""

    id: UUID
    username: str
    created_at: datetime
