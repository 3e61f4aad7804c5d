"""What can be asked to be read."""

from dataclasses import dataclass
from uuid import UUID

from seawall_service.documents.cursor import Cursor


@dataclass(frozen=True, slots=True)
class GetDocument:
    document_id: UUID
    after: int
    limit: int


@dataclass(frozen=True, slots=True)
class ListDocuments:
    limit: int
    cursor: Cursor | None


@dataclass(frozen=True, slots=True)
class WatchDocument:
    document_id: UUID
    after: int | None
