"""What every command and query logs: `<name>.start`, then exactly one of `.success` and `.denied`.

A success is the handler's own: the commit usually comes after it, and can still fail.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import structlog

from seawall_service.errors import BaseAppException, ErrorId

log = structlog.get_logger("seawall_service.handlers")


def event_name(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


@contextmanager
def handling(message: object, principal_id: UUID, **scope: UUID) -> Iterator[None]:
    name = type(message).__name__
    verb = event_name(name)
    fields: dict[str, object] = {
        "principal_id": str(principal_id),
        **{key: str(value) for key, value in scope.items()},
    }
    # What makes it a command is the module that it is defined in.
    if type(message).__module__.endswith(".commands"):
        fields |= {"command_name": name, "causation_id": None}
    else:
        fields |= {"query_name": name}
    start, denied, success = (f"{verb}.{outcome}" for outcome in ("start", "denied", "success"))
    log.info(start, **fields)
    try:
        yield
    except BaseException as error:
        log.info(denied, code=error.error_id if isinstance(error, BaseAppException) else ErrorId.INTERNAL_ERROR, **fields)
        raise
    log.info(success, **fields)
