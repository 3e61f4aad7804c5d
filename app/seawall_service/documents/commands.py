"""What can be asked to change."""

from dataclasses import dataclass
from typing import Literal
from uuid import UUID

# What a document's owner may make of others: editors append, viewers read.
GrantableRole = Literal["editor", "viewer"]


@dataclass(frozen=True, slots=True)
class CreateDocument:
    title: str


@dataclass(frozen=True, slots=True)
class AppendEntry:
    document_id: UUID
    content: str
    expected_version: int | None


@dataclass(frozen=True, slots=True)
class TransferDocument:
    document_id: UUID
    to_user_id: UUID
    expected_version: int | None


@dataclass(frozen=True, slots=True)
class AddMember:
    document_id: UUID
    user_id: UUID
    role: GrantableRole
    expected_version: int | None
