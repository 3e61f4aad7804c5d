"""Who changed what, from where: one row for each change, written by the statement that records the change (AUD-01..03).

Guardrails for personal data: a row holds ids, lengths and roles, never what somebody wrote.
"""

import unicodedata
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from random import SystemRandom
from uuid import UUID

from psycopg.types.json import Jsonb

from seawall_service.command_context import CommandContext
from seawall_service.correlation import get_request_id
from seawall_service.errors import JsonValue
from seawall_service.logging import safe

MAX_METADATA_TEXT = 200
MAX_USER_AGENT = 256
CHANCE = SystemRandom()
INSERT = """
INSERT INTO audit_events (request_id, user_id, action, document_id, metadata, ip, user_agent)
VALUES (%s, %s, %s, %s, %s, %s, %s)
"""


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """`action` is `<aggregate>.<verb>`."""

    action: str
    user_id: UUID
    document_id: UUID | None
    metadata: dict[str, JsonValue]


def storable_ip(text: str | None) -> IPv4Address | IPv6Address | None:
    """None for what a proxy made up, and for an address that only means something on one machine."""
    try:
        address = ip_address(text or "")
    except ValueError:
        return None
    return None if isinstance(address, IPv6Address) and address.scope_id else address


def printable(text: str, limit: int) -> str:
    """The beginning of it, without what a terminal or a text column would choke on."""
    return "".join(character for character in text[:limit] if unicodedata.category(character)[0] != "C")


def storable_metadata(metadata: dict[str, JsonValue]) -> dict[str, object]:
    """Nothing under the name of a secret, and only the beginning of a text."""
    kept = {key: safe(key, value) for key, value in metadata.items() if value is not None}
    return {key: printable(value, MAX_METADATA_TEXT) if isinstance(value, str) else value for key, value in kept.items()}


def audit_row(context: CommandContext, event: AuditEvent) -> tuple[object, ...] | None:
    """The values for INSERT, or None where the audit is off or the sample leaves this change out."""
    if not context.audit.enabled or CHANCE.random() >= context.audit.sample_rate:
        return None
    metadata = event.metadata | {"idempotency_key": context.idempotency_key}
    return (
        get_request_id(),
        event.user_id,
        event.action,
        event.document_id,
        Jsonb(storable_metadata(metadata)),
        storable_ip(context.client_ip),
        printable(context.user_agent, MAX_USER_AGENT) if context.user_agent else None,
    )
