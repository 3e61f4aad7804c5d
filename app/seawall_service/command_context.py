"""Where a command comes from, as far as a service may know it: never the request itself."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from seawall_service.idempotency.key import IdempotencyKey


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
    after_commit: list[Callable[[], None]] = field(default_factory=list)


async def command_context(request: Request, key: IdempotencyKey) -> CommandContext:
    state = request.state
    return CommandContext(
        request.app.state.audit_policy, key, state.client_ip, request.headers.get("user-agent"), state.after_commit
    )


Context = Annotated[CommandContext, Depends(command_context)]
