"""One transaction a request, committed before the answer begins."""

from collections.abc import AsyncGenerator
from typing import Annotated, cast

from fastapi import Depends, Request

from seawall_service.db.pool import Connection, Database


def database_of(request: Request) -> Database:
    return cast("Database", request.state.database)


async def transaction(request: Request) -> AsyncGenerator[Connection]:
    request.state.after_commit = after_commit = []
    async with database_of(request).transaction() as connection:
        yield connection
    for call in after_commit:
        call()


# scope="function": by default FastAPI commits after the response, and a failing COMMIT would still be a 200.
DbSession = Annotated[Connection, Depends(transaction, scope="function")]
