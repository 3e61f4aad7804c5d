"""Requests and responses of /api/v1/documents."""

import re
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, Field

from seawall_service.documents.commands import GrantableRole
from seawall_service.schemas import BaseResponse, JsonUUID, StrictRequest, Text

MAX_INTEGER = 2_147_483_647
# Control characters, line and paragraph separators, and what reorders the text around it.
UNFIT_FOR_A_TITLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
# White space, and the characters that take no space at all.
BLANK = re.compile(r"[\s\u00ad\u034f\u061c\u180e\u200b-\u200f\u2060-\u2064\ufeff]+")


def fit_for_a_title(value: str) -> str:
    if UNFIT_FOR_A_TITLE.search(value):
        raise ValueError("must not contain control or bidirectional override characters")
    if BLANK.fullmatch(value):
        raise ValueError("must not be blank")
    return value


# A title stands in a line of a list, where it must be seen and must not change how its neighbours look.
Title = Annotated[Text, AfterValidator(fit_for_a_title)]


# Refused when the document has another version by now; none means: whatever its version.
ExpectedVersion = Annotated[int, Field(ge=1, le=MAX_INTEGER)] | None


class CreateDocumentRequest(StrictRequest):
    title: Annotated[Title, Field(min_length=1, max_length=200)]


class AppendEntryRequest(StrictRequest):
    content: Annotated[Text, Field(min_length=1, max_length=100_000)]
    expected_version: ExpectedVersion = None


class TransferDocumentRequest(StrictRequest):
    to_user_id: JsonUUID
    expected_version: ExpectedVersion = None


class AddMemberRequest(StrictRequest):
    user_id: JsonUUID
    role: GrantableRole
    expected_version: ExpectedVersion = None


class DocumentResponse(BaseResponse):
    id: UUID
    title: str
    owner_id: UUID
    version: int
    entry_count: int
    created_at: datetime
    updated_at: datetime


class EntryResponse(BaseResponse):
    id: UUID
    position: int
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
    items: list[DocumentResponse]
    next_cursor: str | None
