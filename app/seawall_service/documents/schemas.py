"""Requests and responses of /api/v1/documents."""

import re
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, Field

from seawall_service.documents.commands import GrantableRole
from seawall_service.schemas import BaseResponse, JsonUUID, StrictRequest, Text

MAX_INTEGER = 2_147_483_647
EXAMPLE_USER = "6f1c2d3e-4b5a-4c7d-8e9f-0a1b2c3d4e5f"
# Control characters, line and paragraph separators, and what reorders the text around it.
UNFIT = r"\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069"
UNFIT_FOR_A_TITLE = re.compile(f"[{UNFIT}]")
# White space, and the characters that take no space at all.
SPACES = r"\s\u00ad\u034f\u061c\u180e\u200b-\u200f\u2060-\u2064\ufeff"
BLANK = re.compile(f"[{SPACES}]+")


def fit_for_a_title(value: str) -> str:
    if UNFIT_FOR_A_TITLE.search(value):
        raise ValueError("must not contain control or bidirectional override characters")
    if BLANK.fullmatch(value):
        raise ValueError("must not be blank")
    return value


# A title stands in a line of a list, where it must be seen and must not change how its neighbours look.
Title = Annotated[
    Text,
    AfterValidator(fit_for_a_title),
    Field(json_schema_extra={"pattern": f"^[^{UNFIT}]*[^{UNFIT}{SPACES}][^{UNFIT}]*$"}),
]


ExpectedVersion = Annotated[
    int | None,
    Field(ge=1, le=MAX_INTEGER, description="Refuse unless the document has this version; null: whatever it is", examples=[1]),
]


class CreateDocumentRequest(StrictRequest):
    """A document that is to be made."""

    title: Annotated[Title, Field(min_length=1, max_length=200, description="Stands in lists", examples=["Log book"])]


class AppendEntryRequest(StrictRequest):
    """An entry that is to be added."""

    content: Annotated[Text, Field(min_length=1, max_length=100_000, description="Any text", examples=["Wind from the north"])]
    expected_version: ExpectedVersion = None


class TransferDocumentRequest(StrictRequest):
    """A document that is to have another owner; the one before stays as an editor."""

    to_user_id: Annotated[JsonUUID, Field(description="The new owner", examples=[EXAMPLE_USER])]
    expected_version: ExpectedVersion = None


class AddMemberRequest(StrictRequest):
    """Somebody who is to see a document, or to write in it."""

    user_id: Annotated[JsonUUID, Field(description="Whom to add", examples=[EXAMPLE_USER])]
    role: Annotated[GrantableRole, Field(description="What they may do", examples=["editor"])]
    expected_version: ExpectedVersion = None


class DocumentResponse(BaseResponse):
    """A document without its entries."""

    id: UUID
    title: str
    owner_id: UUID
    version: int = Field(description="Grows by one with every change")
    entry_count: int
    created_at: datetime
    updated_at: datetime


class EntryResponse(BaseResponse):
    """One entry of a document; it never changes."""

    id: UUID
    position: int = Field(description="Counted from 1, without gaps")
    author_id: UUID
    content: str
    created_at: datetime


class AppendedEntryResponse(EntryResponse):
    """The entry, and the version that the document has with it."""

    document_id: UUID
    version: int


class DocumentWithEntriesResponse(DocumentResponse):
    """Entries come in pages; `next_entry` is the `after` of the next page, null on the last one."""

    entries: list[EntryResponse]
    next_entry: int | None


class MemberResponse(BaseResponse):
    """The membership, and the version that the document has with it."""

    document_id: UUID
    user_id: UUID
    role: Literal["owner", "editor", "viewer"]
    added_at: datetime
    version: int


class DocumentPageResponse(BaseResponse):
    """`next_cursor` is the `cursor` of the next page, null on the last one."""

    items: list[DocumentResponse]
    next_cursor: str | None
