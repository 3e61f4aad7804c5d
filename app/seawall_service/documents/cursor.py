"""Where a page of documents ended: opaque to clients, a sort key to us."""

import base64
from dataclasses import dataclass
from datetime import datetime
from typing import Self
from uuid import UUID

from seawall_service.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class Cursor:
    added_at: datetime
    document_id: UUID

    def encode(self) -> str:
        return base64.urlsafe_b64encode(f"{self.added_at.isoformat()}|{self.document_id}".encode()).decode()

    @classmethod
    def decode(cls, text: str) -> Self:
        try:
            added_at, document_id = base64.urlsafe_b64decode(text.encode("ascii")).decode("ascii").split("|")
            cursor = cls(datetime.fromisoformat(added_at), UUID(document_id))
        except ValueError as error:
            raise InvalidInputError(["query", "cursor"], "Not a cursor from next_cursor", "cursor") from error
        if cursor.added_at.tzinfo is None:
            raise InvalidInputError(["query", "cursor"], "Not a cursor from next_cursor", "cursor")
        return cursor
