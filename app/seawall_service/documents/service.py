"""Documents and their entries. Executes, never commits: the caller owns the transaction."""

from uuid import UUID, uuid4

from psycopg import sql

from seawall_service.db.pool import Connection
from seawall_service.documents.commands import AppendEntry, CreateDocument
from seawall_service.documents.cursor import Cursor
from seawall_service.documents.queries import GetDocument, ListDocuments
from seawall_service.documents.schemas import (
    AppendedEntryResponse,
    DocumentPageResponse,
    DocumentResponse,
    DocumentWithEntriesResponse,
    EntryResponse,
)
from seawall_service.errors import ConflictError, NotFoundError
from seawall_service.events import Event, append_event
from seawall_service.handlers import handling

MAX_PAGE_BYTES = 1_000_000
# What a DocumentResponse is made of; the table is called `d` wherever they are read.
DOCUMENT = sql.SQL("d.id, d.title, d.owner_id, d.version, d.entry_count, d.created_at, d.updated_at")


async def create_document(connection: Connection, command: CreateDocument, principal_id: UUID) -> DocumentResponse:
    document_id = uuid4()
    with handling(command, principal_id, document_id=document_id):
        await append_event(connection, Event(document_id, 1, "document.created", {"title": command.title}, principal_id))
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


async def append_entry(connection: Connection, command: AppendEntry, principal_id: UUID) -> AppendedEntryResponse:
    with handling(command, principal_id, document_id=command.document_id):
        # Append-only tables cannot be row-locked by this role, so writers queue on the projection's row.
        cursor = await connection.execute(
            """
            SELECT d.version, d.entry_count FROM proj_documents d
              JOIN proj_memberships m ON m.document_id = d.id AND m.user_id = %s
             WHERE d.id = %s FOR UPDATE OF d
            """,
            (principal_id, command.document_id),
        )
        row = await cursor.fetchone()
        if row is None:
            raise NotFoundError
        if command.expected_version not in {None, row["version"]}:
            raise ConflictError(
                "The document has changed",
                {"expected_version": command.expected_version, "actual_version": row["version"]},
            )
        version, position, entry_id = row["version"] + 1, row["entry_count"] + 1, uuid4()
        await append_event(
            connection,
            Event(
                command.document_id,
                version,
                "document.entry_appended",
                {"entry_id": str(entry_id), "position": position},
                principal_id,
            ),
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
