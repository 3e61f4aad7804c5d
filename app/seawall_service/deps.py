"""The dependencies that routes ask for, in one place."""

from seawall_service.cache.dependency import SharedCache
from seawall_service.command_context import Context
from seawall_service.db.transaction import DbSession
from seawall_service.security.principal import CurrentUserId

__all__ = ["Context", "CurrentUserId", "DbSession", "SharedCache"]
