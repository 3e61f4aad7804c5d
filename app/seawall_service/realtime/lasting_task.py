"""Work that outlives the request which began it."""

import asyncio
from collections.abc import Coroutine
from contextvars import Context


def create_lasting_task(work: Coroutine[None, None, None]) -> asyncio.Task[None]:
    """Without the request's context: hours later its id would stand in a log line, and its span grow without end."""
    return asyncio.create_task(work, context=Context())
