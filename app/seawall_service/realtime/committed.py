"""What the live tail asks of the database, which alone knows what was committed."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from seawall_service.db.pool import Connection
from seawall_service.documents.schemas import EntryResponse
from seawall_service.errors import NotFoundError
from seawall_service.realtime.schemas import NO_REQUEST, EntryMessage

PAGE_ENTRIES = 200
PAGE_BYTES = 100_000

# A user who has been disabled is nobody's member any more; users of another issuer are not in the table.
MEMBERS = """
SELECT asked.document_id, asked.user_id, d.entry_count, d.version
  FROM unnest(%s::uuid[], %s::uuid[]) AS asked (document_id, user_id)
  JOIN proj_memberships m USING (document_id, user_id)
  JOIN proj_documents d ON d.id = asked.document_id
 WHERE NOT EXISTS (SELECT FROM proj_users u WHERE u.id = asked.user_id AND u.disabled_at IS NOT NULL)
"""
# An entry's event has at least the version position + 1, and few events of other kinds lie between.
ENTRIES = """
SELECT page.*, e.stream_version, e.request_id
  FROM (SELECT id, position, author_id, content, created_at,
               sum(octet_length(content)) OVER (ORDER BY position ROWS UNBOUNDED PRECEDING) - octet_length(content) AS before
          FROM entries_document WHERE document_id = %(document_id)s AND position > %(after)s
         ORDER BY position LIMIT %(limit)s) page
  CROSS JOIN LATERAL (
    SELECT stream_version, request_id FROM events
     WHERE stream_id = %(document_id)s AND stream_version > page.position
       AND type = 'document.entry_appended' AND payload ->> 'entry_id' = page.id::text
     ORDER BY stream_version LIMIT 1) e
 WHERE page.before < %(bytes)s ORDER BY page.position
"""


@dataclass(frozen=True, slots=True)
class Head:
    """Where a document is: the position of its last entry, and its version."""

    position: int
    version: int


@dataclass(frozen=True, slots=True)
class Written:
    """An entry as it is sent, made into text once for all who get it."""

    position: int
    text: str


type Pair = tuple[UUID, UUID]


async def heads_of_members(connection: Connection, pairs: Sequence[Pair]) -> dict[Pair, Head]:
    """For each pair of document and user that is a membership; the others are left out."""
    cursor = await connection.execute(MEMBERS, ([document for document, _ in pairs], [user for _, user in pairs]))
    return {(row["document_id"], row["user_id"]): Head(row["entry_count"], row["version"]) for row in await cursor.fetchall()}


async def require_member(connection: Connection, document_id: UUID, user_id: UUID) -> Head:
    head = (await heads_of_members(connection, [(document_id, user_id)])).get((document_id, user_id))
    if head is None:
        raise NotFoundError
    return head


async def read_entries(connection: Connection, document_id: UUID, after: int) -> list[Written]:
    """The next page in the order of their positions; empty when there are no more."""
    cursor = await connection.execute(
        ENTRIES, {"document_id": document_id, "after": after, "limit": PAGE_ENTRIES, "bytes": PAGE_BYTES}
    )
    return [
        Written(
            row["position"],
            EntryMessage(
                document_id=document_id,
                entry=EntryResponse.model_validate({name: row[name] for name in EntryResponse.model_fields}),
                request_id=row["request_id"] or NO_REQUEST,
                version=row["stream_version"],
            ).model_dump_json(),
        )
        for row in await cursor.fetchall()
    ]
