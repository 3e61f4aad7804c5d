"""What every command and query logs: `<name>.start`, then exactly one of `.success` and `.denied`; and its span.

A success is the handler's own: the commit usually comes after it, and can still fail.
"""

import re
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from uuid import UUID

import structlog

from seawall_service.errors import BaseAppException, ErrorId
from seawall_service.tracing import with_tracing

log = structlog.get_logger("seawall_service.handlers")


def event_name(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


@dataclass(frozen=True, slots=True)
class Description:
    """What is written about a command or query: `span` is `<context>.<command|query>.<name>` (OTEL-02)."""

    span: str
    start: str
    denied: str
    success: str
    fields: dict[str, str | None]


@cache
def describe(message: type[Hashable]) -> Description:
    # What makes it a command is the module that it is defined in, such as `seawall_service.documents.commands`.
    *_, context, module = message.__module__.split(".")
    kind = "command" if module == "commands" else "query"
    verb = event_name(message.__name__)
    fields: dict[str, str | None] = {f"{kind}_name": message.__name__}
    if kind == "command":
        # The event that caused it: none yet, since every command comes from a request.
        fields["causation_id"] = None
    return Description(f"{context}.{kind}.{verb}", f"{verb}.start", f"{verb}.denied", f"{verb}.success", fields)


@contextmanager
def handling(message: Hashable, principal_id: UUID, **scope: UUID) -> Iterator[None]:
    known = describe(type(message))
    fields = known.fields | {"principal_id": str(principal_id)} | {key: str(value) for key, value in scope.items()}
    with with_tracing(known.span):
        log.info(known.start, **fields)
        try:
            yield
        except BaseException as error:
            code = error.error_id if isinstance(error, BaseAppException) else ErrorId.INTERNAL_ERROR
            log.info(known.denied, code=code, **fields)
            raise
        log.info(known.success, **fields)
