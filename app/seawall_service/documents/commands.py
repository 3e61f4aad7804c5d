"""What can be asked to change."""

from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class CreateDocument:
    title: str


@dataclass(frozen=True, slots=True)
class AppendEntry:
    document_id: UUID
    content: str
    expected_version: int | None
