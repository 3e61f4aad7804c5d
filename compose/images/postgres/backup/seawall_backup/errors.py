"""What can end a backup. The message is what the operator reads."""

from __future__ import annotations


class BackupError(Exception):
    """The backup failed and nothing was published."""

    exit_code = 1


class RefusedError(BackupError):
    """A condition was found, before anything was written, under which the backup could not be trusted."""


class BusyError(BackupError):
    """Somebody else holds a lock; try again later."""

    exit_code = 75
