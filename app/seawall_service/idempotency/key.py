"""The Idempotency-Key header."""

from typing import Annotated

from fastapi import Depends, Header, Request

from seawall_service.errors import InvalidInputError

NAME = "Idempotency-Key"

SentKey = Annotated[
    str | None,
    Header(
        alias=NAME,
        min_length=1,
        max_length=200,
        pattern=r"^[\x21-\x7e]+$",
        description="Chosen by the client for one command: sent again with the same key, it does not run again",
    ),
]


async def only_key(request: Request, key: SentKey = None) -> str | None:
    # Of several the framework takes one, and the client may have meant another.
    if len(request.headers.getlist(NAME)) > 1:
        raise InvalidInputError(["header", NAME], "must be sent once", "repeated_header")
    return key


IdempotencyKey = Annotated[str | None, Depends(only_key)]
