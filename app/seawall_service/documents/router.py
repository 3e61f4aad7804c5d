"""/api/v1/documents: parses, owns the transaction, answers. What a document is lives in the service."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from seawall_service.deps import Context, CurrentUserId, DbSession
from seawall_service.documents import service
from seawall_service.documents.commands import AddMember, AppendEntry, CreateDocument, TransferDocument
from seawall_service.documents.cursor import Cursor
from seawall_service.documents.queries import GetDocument, ListDocuments
from seawall_service.documents.schemas import (
    MAX_INTEGER,
    AddMemberRequest,
    AppendedEntryResponse,
    AppendEntryRequest,
    CreateDocumentRequest,
    DocumentPageResponse,
    DocumentResponse,
    DocumentWithEntriesResponse,
    MemberResponse,
    TransferDocumentRequest,
)
from seawall_service.idempotency.service import Keyed, run_once

router = APIRouter(prefix="/api/v1/documents", tags=["documents"])

PageSize = Annotated[int, Query(ge=1, le=200, description="How many documents at the most")]
PageCursor = Annotated[str | None, Query(description="`next_cursor` of the page before; without it, the first page")]
EntryPageSize = Annotated[int, Query(ge=1, le=1000, description="How many entries at the most; large ones make it fewer")]
AfterPosition = Annotated[int, Query(ge=0, le=MAX_INTEGER, description="`next_entry` of the page before; 0 for the first page")]


@router.post("", status_code=201)
async def create_document(
    body: CreateDocumentRequest,
    principal_id: CurrentUserId,
    connection: DbSession,
    context: Context,
) -> DocumentResponse:
    """Make an empty document, owned by the caller."""
    command = CreateDocument(body.title)
    return await run_once(
        connection,
        Keyed(principal_id, context.idempotency_key, "CreateDocument", body.as_sent()),
        DocumentResponse,
        lambda: service.create_document(connection, command, principal_id, context),
    )


@router.post("/{document_id}/entries", status_code=201)
async def append_entry(
    document_id: UUID,
    body: AppendEntryRequest,
    principal_id: CurrentUserId,
    connection: DbSession,
    context: Context,
) -> AppendedEntryResponse:
    """Add an entry at the end of a document that the caller is a member of.

    `conflict` when `expected_version` is given and the document has another one by now.
    """
    command = AppendEntry(document_id, body.content, body.expected_version)
    entry = await run_once(
        connection,
        Keyed(principal_id, context.idempotency_key, "AppendEntry", document_id.bytes + body.as_sent()),
        AppendedEntryResponse,
        lambda: service.append_entry(connection, command, principal_id, context),
    )
    context.announce_after_commit(document_id, entry.position)
    return entry


@router.post("/{document_id}/transfer")
async def transfer_document(
    document_id: UUID,
    body: TransferDocumentRequest,
    principal_id: CurrentUserId,
    connection: DbSession,
    context: Context,
) -> DocumentResponse:
    """Give a document to another owner; the caller, who must own it, stays as an editor.

    `conflict` when `expected_version` is given and the document has another one by now.
    """
    command = TransferDocument(document_id, body.to_user_id, body.expected_version)
    return await run_once(
        connection,
        Keyed(principal_id, context.idempotency_key, "TransferDocument", document_id.bytes + body.as_sent()),
        DocumentResponse,
        lambda: service.transfer_document(connection, command, principal_id, context),
    )


@router.post("/{document_id}/members", status_code=201)
async def add_member(
    document_id: UUID,
    body: AddMemberRequest,
    principal_id: CurrentUserId,
    connection: DbSession,
    context: Context,
) -> MemberResponse:
    """Let somebody see a document, or write in it. Only its owner may.

    Adding the same member with the same role again changes nothing; `conflict` with another role, or when `expected_version` is
    given and the document has another one by now.
    """
    command = AddMember(document_id, body.user_id, body.role, body.expected_version)
    return await run_once(
        connection,
        Keyed(principal_id, context.idempotency_key, "AddMember", document_id.bytes + body.as_sent()),
        MemberResponse,
        lambda: service.add_member(connection, command, principal_id, context),
    )


@router.get("")
async def list_documents(
    principal_id: CurrentUserId, connection: DbSession, limit: PageSize = 50, cursor: PageCursor = None
) -> DocumentPageResponse:
    """The documents that the caller is a member of, the latest first."""
    query = ListDocuments(limit, Cursor.decode(cursor) if cursor else None)
    return await service.list_documents(connection, query, principal_id)


@router.get("/{document_id}")
async def get_document(
    document_id: UUID,
    principal_id: CurrentUserId,
    connection: DbSession,
    after: AfterPosition = 0,
    limit: EntryPageSize = 100,
) -> DocumentWithEntriesResponse:
    """A document and a page of its entries, in the order in which they were added."""
    return await service.get_document(connection, GetDocument(document_id, after, limit), principal_id)
