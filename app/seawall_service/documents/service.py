"""Documents and their entries. Executes, never commits: the caller owns the transaction."""

from dataclasses import dataclass
from uuid import UUID, uuid4

from psycopg import sql

from seawall_service.audit.service import AuditEvent, audit_row
from seawall_service.command_context import CommandContext
from seawall_service.db.pool import Connection
from seawall_service.documents.commands import AddMember, AppendEntry, CreateDocument, TransferDocument
from seawall_service.documents.cursor import Cursor
from seawall_service.documents.queries import GetDocument, ListDocuments
from seawall_service.documents.schemas import (
    AppendedEntryResponse,
    DocumentPageResponse,
    DocumentResponse,
    DocumentWithEntriesResponse,
    EntryResponse,
    MemberResponse,
)
from seawall_service.errors import (
    ConflictError,
    ForbiddenError,
    InvalidInputError,
    JsonValue,
    NotFoundError,
    OwnershipRequiredError,
)
from seawall_service.events import Event, append_event
from seawall_service.handlers import handling

MAX_PAGE_BYTES = 1_000_000
# What a DocumentResponse is made of; the table is called `d` wherever they are read.
DOCUMENT = sql.SQL("d.id, d.title, d.owner_id, d.version, d.entry_count, d.created_at, d.updated_at")


@dataclass(frozen=True, slots=True)
class Locked:
    """A document that this transaction holds, and what its caller is to it."""

    version: int
    entry_count: int
    is_owner: bool
    is_viewer: bool

    def require_owner(self) -> None:
        if not self.is_owner:
            raise OwnershipRequiredError

    def require_writer(self) -> None:
        if self.is_viewer:
            raise ForbiddenError("Viewers of a document may not append to it")

    def require_version(self, expected: int | None) -> None:
        if expected not in {None, self.version}:
            raise ConflictError("The document has changed", {"expected_version": expected, "actual_version": self.version})


async def lock_document(connection: Connection, document_id: UUID, principal_id: UUID) -> Locked:
    """Append-only tables cannot be row-locked by this role, so writers queue on the projection's row."""
    cursor = await connection.execute(
        """
        SELECT d.version, d.entry_count, d.owner_id, m.role FROM proj_documents d
          JOIN proj_memberships m ON m.document_id = d.id AND m.user_id = %s
         WHERE d.id = %s FOR UPDATE OF d
        """,
        (principal_id, document_id),
    )
    row = await cursor.fetchone()
    if row is None:
        raise NotFoundError
    # Who had to wait for the row has its newest version, and yet the membership of before: the owner is told by the row alone.
    is_owner = row["owner_id"] == principal_id
    return Locked(row["version"], row["entry_count"], is_owner, is_viewer=not is_owner and row["role"] == "viewer")


async def create_document(
    connection: Connection, command: CreateDocument, principal_id: UUID, context: CommandContext
) -> DocumentResponse:
    document_id = uuid4()
    with handling(command, principal_id, document_id=document_id):
        await append_event(
            connection,
            Event(document_id, 1, "document.created", {"title": command.title}, principal_id),
            audit_row(context, AuditEvent("document.create", principal_id, document_id, {"title_len": len(command.title)})),
        )
        cursor = await connection.execute(
            sql.SQL("""
            INSERT INTO proj_documents AS d (id, title, owner_id, version, entry_count)
            VALUES (%s, %s, %s, 1, 0) RETURNING {}
            """).format(DOCUMENT),
            (document_id, command.title, principal_id),
        )
        row = await cursor.fetchone()
        await connection.execute(
            "INSERT INTO proj_memberships (user_id, document_id, role) VALUES (%s, %s, 'owner')",
            (principal_id, document_id),
        )
        return DocumentResponse.model_validate(row)


async def append_entry(
    connection: Connection, command: AppendEntry, principal_id: UUID, context: CommandContext
) -> AppendedEntryResponse:
    with handling(command, principal_id, document_id=command.document_id):
        document = await lock_document(connection, command.document_id, principal_id)
        document.require_writer()
        document.require_version(command.expected_version)
        version, position, entry_id = document.version + 1, document.entry_count + 1, uuid4()
        payload: dict[str, JsonValue] = {"entry_id": str(entry_id), "position": position}
        noted: dict[str, JsonValue] = {"entry_id": str(entry_id), "content_len": len(command.content)}
        await append_event(
            connection,
            Event(command.document_id, version, "document.entry_appended", payload, principal_id),
            audit_row(context, AuditEvent("document.append", principal_id, command.document_id, noted)),
        )
        cursor = await connection.execute(
            """
            INSERT INTO entries_document (id, document_id, position, author_id, content)
            VALUES (%s, %s, %s, %s, %s) RETURNING id, document_id, position, author_id, content, created_at
            """,
            (entry_id, command.document_id, position, principal_id, command.content),
        )
        entry = await cursor.fetchone()
        await connection.execute(
            "UPDATE proj_documents SET version = %s, entry_count = %s, updated_at = now() WHERE id = %s",
            (version, position, command.document_id),
        )
        return AppendedEntryResponse.model_validate({**(entry or {}), "version": version})


async def transfer_document(
    connection: Connection, command: TransferDocument, principal_id: UUID, context: CommandContext
) -> DocumentResponse:
    """The owner gives the document to another user, and stays as an editor."""
    with handling(command, principal_id, document_id=command.document_id):
        document = await lock_document(connection, command.document_id, principal_id)
        document.require_owner()
        document.require_version(command.expected_version)
        if command.to_user_id == principal_id:
            raise ConflictError("The document is yours already")
        await require_user(connection, command)
        version = document.version + 1
        moved: dict[str, JsonValue] = {"from": str(principal_id), "to": str(command.to_user_id)}
        await append_event(
            connection,
            Event(command.document_id, version, "document.transferred", moved, principal_id),
            audit_row(context, AuditEvent("document.transfer", principal_id, command.document_id, moved)),
        )
        # First one less, then one more: the database lets no document have two owners.
        await connection.execute(
            "UPDATE proj_memberships SET role = 'editor' WHERE document_id = %s AND user_id = %s",
            (command.document_id, principal_id),
        )
        await connection.execute(
            """
            INSERT INTO proj_memberships (user_id, document_id, role) VALUES (%s, %s, 'owner')
            ON CONFLICT (user_id, document_id) DO UPDATE SET role = excluded.role
            """,
            (command.to_user_id, command.document_id),
        )
        cursor = await connection.execute(
            sql.SQL("""
            UPDATE proj_documents AS d SET owner_id = %s, version = %s, updated_at = now() WHERE d.id = %s RETURNING {}
            """).format(DOCUMENT),
            (command.to_user_id, version, command.document_id),
        )
        return DocumentResponse.model_validate(await cursor.fetchone())


async def require_user(connection: Connection, command: TransferDocument) -> None:
    """Users of another issuer are not in our table: of them, members exist."""
    cursor = await connection.execute(
        """
        SELECT coalesce((SELECT disabled_at IS NULL FROM proj_users WHERE id = %(user_id)s),
                        EXISTS (SELECT FROM proj_memberships WHERE document_id = %(document_id)s AND user_id = %(user_id)s))
               AS usable
        """,
        {"user_id": command.to_user_id, "document_id": command.document_id},
    )
    row = await cursor.fetchone()
    if row is None or not row["usable"]:
        raise InvalidInputError(["body", "to_user_id"], "Not a user who could own the document", "unknown_user")


async def add_member(connection: Connection, command: AddMember, principal_id: UUID, context: CommandContext) -> MemberResponse:
    """Adding somebody again changes nothing; adding them with another role is a conflict."""
    with handling(command, principal_id, document_id=command.document_id):
        document = await lock_document(connection, command.document_id, principal_id)
        document.require_owner()
        document.require_version(command.expected_version)
        member = {"document_id": command.document_id, "user_id": command.user_id}
        cursor = await connection.execute(
            "SELECT role, added_at FROM proj_memberships WHERE document_id = %(document_id)s AND user_id = %(user_id)s", member
        )
        known = await cursor.fetchone()
        if known is not None and known["role"] != command.role:
            raise ConflictError("This user is a member with another role", {"role": known["role"]})
        if known is not None:
            return MemberResponse.model_validate({**member, **known, "version": document.version})
        version = document.version + 1
        added: dict[str, JsonValue] = {"member_id": str(command.user_id), "role": command.role}
        await append_event(
            connection,
            Event(command.document_id, version, "document.member_added", added, principal_id),
            audit_row(context, AuditEvent("document.add_member", principal_id, command.document_id, added)),
        )
        cursor = await connection.execute(
            """
            INSERT INTO proj_memberships (document_id, user_id, role) VALUES (%(document_id)s, %(user_id)s, %(role)s)
            RETURNING role, added_at
            """,
            member | {"role": command.role},
        )
        row = await cursor.fetchone()
        await connection.execute(
            "UPDATE proj_documents SET version = %s, updated_at = now() WHERE id = %s", (version, command.document_id)
        )
        return MemberResponse.model_validate({**member, **(row or {}), "version": version})


async def get_document(connection: Connection, query: GetDocument, principal_id: UUID) -> DocumentWithEntriesResponse:
    with handling(query, principal_id, document_id=query.document_id):
        cursor = await connection.execute(
            sql.SQL("""
            SELECT {} FROM proj_documents d
              JOIN proj_memberships m ON m.document_id = d.id AND m.user_id = %s
             WHERE d.id = %s
            """).format(DOCUMENT),
            (principal_id, query.document_id),
        )
        document = await cursor.fetchone()
        if document is None:
            raise NotFoundError
        cursor = await connection.execute(
            """
            SELECT id, position, author_id, content, created_at FROM (
              SELECT id, position, author_id, content, created_at,
                     row_number() OVER sent AS number, sum(octet_length(content)) OVER sent AS bytes
                FROM entries_document
               WHERE document_id = %s AND position > %s AND position <= %s
              WINDOW sent AS (ORDER BY position ROWS UNBOUNDED PRECEDING)
               ORDER BY position LIMIT %s) page
             WHERE number = 1 OR bytes <= %s ORDER BY position
            """,
            # Not beyond the count just read, so that both parts of the answer are of one moment.
            (query.document_id, query.after, document["entry_count"], query.limit, MAX_PAGE_BYTES),
        )
        entries = [EntryResponse.model_validate(row) for row in await cursor.fetchall()]
        last = entries[-1].position if entries else document["entry_count"]
        return DocumentWithEntriesResponse.model_validate(
            {**document, "entries": entries, "next_entry": last if last < document["entry_count"] else None}
        )


async def list_documents(connection: Connection, query: ListDocuments, principal_id: UUID) -> DocumentPageResponse:
    with handling(query, principal_id):
        cursor = await connection.execute(
            sql.SQL("""
            SELECT {}, m.added_at
              FROM proj_memberships m JOIN proj_documents d ON d.id = m.document_id
             WHERE m.user_id = %(user_id)s
               AND (%(added_at)s::timestamptz IS NULL
                    OR (m.added_at, m.document_id) < (%(added_at)s::timestamptz, %(document_id)s::uuid))
             ORDER BY m.added_at DESC, m.document_id DESC LIMIT %(limit)s
            """).format(DOCUMENT),
            {
                "user_id": principal_id,
                "added_at": query.cursor.added_at if query.cursor else None,
                "document_id": query.cursor.document_id if query.cursor else None,
                "limit": query.limit + 1,
            },
        )
        rows = await cursor.fetchall()
        page = rows[: query.limit]
        more = len(rows) > query.limit
        return DocumentPageResponse(
            items=[
                DocumentResponse.model_validate({key: value for key, value in row.items() if key != "added_at"}) for row in page
            ],
            next_cursor=Cursor(page[-1]["added_at"], page[-1]["id"]).encode() if more else None,
        )
