"""Where a command comes from, as far as a service may know it: never the request itself."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Header, Request

from seawall_service.db.transaction import AfterCommit, after_commit_of
from seawall_service.errors import InvalidInputError

KEY_NAME = "Idempotency-Key"

SentKey = Annotated[
    str | None,
    Header(
        alias=KEY_NAME,
        min_length=1,
        max_length=200,
        pattern=r"^[\x21-\x7e]+$",
        description="Chosen by the client for one command: sent again with the same key, it does not run again",
    ),
]


async def only_key(request: Request, key: SentKey = None) -> str | None:
    # Of several the framework takes one, and the client may have meant another.
    if len(request.headers.getlist(KEY_NAME)) > 1:
        raise InvalidInputError(["header", KEY_NAME], "must be sent once", "repeated_header")
    return key


IdempotencyKey = Annotated[str | None, Depends(only_key)]


@dataclass(frozen=True, slots=True)
class AuditPolicy:
    """`sample_rate` is the share of the changes that are written, 0 to 1."""

    enabled: bool = False
    sample_rate: float = 1.0


@dataclass(frozen=True, slots=True)
class CommandContext:
    """`after_commit` is called in its order once the command's effect is stored, and never when it is not."""

    audit: AuditPolicy = AuditPolicy()
    idempotency_key: str | None = None
    client_ip: str | None = None
    user_agent: str | None = None
    after_commit: list[AfterCommit] = field(default_factory=list)
    announce: Callable[[UUID, int], None] | None = None
    forget: Callable[[str], Awaitable[None]] | None = None

    def announce_after_commit(self, document_id: UUID, position: int) -> None:
        """Tells the sockets on this document that it has so many entries."""
        if self.announce is not None:
            self.after_commit.append(partial(self.announce, document_id, position))

    def forget_after_commit(self, cache_key: str) -> None:
        """Not before the commit: a reader would store the old value again."""
        if self.forget is not None:
            self.after_commit.append(partial(self.forget, cache_key))


async def command_context(request: Request, key: IdempotencyKey) -> CommandContext:
    state = request.state
    return CommandContext(
        request.app.state.audit_policy,
        key,
        state.client_ip,
        request.headers.get("user-agent"),
        after_commit_of(request),
        state.live.announce,
        state.cache.delete,
    )


Context = Annotated[CommandContext, Depends(command_context)]
