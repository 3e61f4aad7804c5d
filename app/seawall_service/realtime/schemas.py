"""What the live tail sends, to clients and to other workers."""

from typing import Literal
from uuid import UUID

from pydantic import BaseModel

from seawall_service.documents.schemas import EntryResponse
from seawall_service.errors import ErrorId
from seawall_service.schemas import BaseResponse

NO_REQUEST = "n/a"


class ReadyMessage(BaseResponse):
    """The first one. Entries after `position` follow; `version` is the document's at this moment."""

    type: Literal["ready"] = "ready"
    connection_id: UUID
    request_id: str
    version: int
    position: int


class EntryMessage(BaseResponse):
    """`request_id` is that of the call that appended the entry, `version` what the document became by it."""

    type: Literal["entry"] = "entry"
    document_id: UUID
    entry: EntryResponse
    request_id: str
    version: int


class PongMessage(BaseResponse):
    type: Literal["pong"] = "pong"


class ErrorMessage(BaseResponse):
    """The last one before the server closes."""

    type: Literal["error"] = "error"
    code: ErrorId
    message: str


class Notice(BaseModel):
    """The worker that says so, and how many entries the documents have."""

    sender: str
    grown: dict[UUID, int]
