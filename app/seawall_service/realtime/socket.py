"""One open socket: what waits for it, how it catches up, and how it ends."""

import asyncio
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from uuid import UUID, uuid4

from starlette.websockets import WebSocket, WebSocketDisconnect

from seawall_service.errors import ErrorId
from seawall_service.realtime.committed import Written
from seawall_service.realtime.schemas import ErrorMessage

SEND_SECONDS = 10.0
# With the number of messages, what a socket that reads slowly may hold of the worker's memory: this and one message more.
QUEUE_BYTES = 256_000
CLOSE_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Ending:
    """Why the server closes: the last message, and the close code after it."""

    close_code: int
    code: ErrorId
    message: str


TOO_MANY = Ending(1008, ErrorId.WS_LIMIT, "Too many open connections")
TOO_LARGE = Ending(1008, ErrorId.PAYLOAD_TOO_LARGE, "The message is too large")
TOO_FAST = Ending(1008, ErrorId.RATE_LIMITED, "Too many messages")
TOO_SLOW = Ending(1013, ErrorId.WS_LIMIT, "Messages are not read fast enough: connect again later, with the last position")
NOT_UNDERSTOOD = Ending(1008, ErrorId.BAD_REQUEST, 'The only message that is understood is {"type": "ping"}')
NO_MEMBER = Ending(1008, ErrorId.FORBIDDEN, "Not a member of the document any more")
EXPIRED = Ending(3000, ErrorId.UNAUTHORIZED, "The connection is as old as an access token may be: connect again")
SET_BACK = Ending(1012, ErrorId.CONFLICT, "The document was set back to an earlier state: read it anew, and connect again")
FAILED = Ending(1011, ErrorId.INTERNAL_ERROR, "Internal server error")

type ReadPage = Callable[["Socket"], Awaitable[list[Written]]]


class Socket:
    """Starts behind, reads what it has missed from the database, and is then offered each entry as it comes.

    `position` is that of the last entry which was sent or waits to be; an entry is taken only as its successor.
    """

    def __init__(self, websocket: WebSocket, user_id: UUID, document_id: UUID, position: int, queue_size: int) -> None:
        self.connection_id = uuid4()
        self.user_id = user_id
        self.document_id = document_id
        self.position = position
        self.opened_at = asyncio.get_running_loop().time()
        self.ended: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self._websocket = websocket
        self._queue: deque[str] = deque()
        self._queue_size = queue_size
        self._queue_bytes = 0
        self._behind = True
        self._seen = position
        self._wake = asyncio.Event()

    @property
    def known(self) -> int:
        """The last position that it has, or has been told of."""
        return max(self.position, self._seen)

    def end(self, ending: Ending) -> None:
        """The first reason stands."""
        if not self.ended.done():
            self.ended.set_result(ending)

    def offer(self, entries: Sequence[Written]) -> None:
        """What came at once. Too slow is a socket that has not made room since the time before, not one that got many."""
        if not entries:
            return
        self._seen = max(self._seen, entries[-1].position)
        new = [entry for entry in entries if entry.position > self.position]
        if self._behind or not new:
            return
        if self._is_full:
            self.end(TOO_SLOW)
            return
        for entry in new:
            if self._is_full or entry.position > self.position + 1:
                self.fall_behind()
                return
            self.position = entry.position
            self.say(entry.text)

    @property
    def _is_full(self) -> bool:
        return len(self._queue) >= self._queue_size or self._queue_bytes >= QUEUE_BYTES

    def fall_behind(self) -> None:
        """What it has missed comes from the database, after what waits already."""
        self._behind = True
        self._wake.set()

    def fall_behind_of(self, position: int) -> None:
        if position > self.position:
            self._seen = max(self._seen, position)
            self.fall_behind()

    def say(self, text: str) -> None:
        if self._is_full:
            self.end(TOO_SLOW)
            return
        self._queue.append(text)
        self._queue_bytes += sys.getsizeof(text)
        self._wake.set()

    async def send(self, text: str) -> None:
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self._websocket.send_text(text)
        except RuntimeError as error:
            # What the server says of a client that left before it saw the upgrade answered.
            raise WebSocketDisconnect(1006) from error

    async def send_all(self, read_page: ReadPage) -> None:
        """Until cancelled. A socket that takes nothing for SEND_SECONDS is too slow."""
        try:
            while True:
                while self._queue:
                    text = self._queue.popleft()
                    self._queue_bytes -= sys.getsizeof(text)
                    await self.send(text)
                if self._behind:
                    await self._catch_up(read_page)
                    continue
                self._wake.clear()
                await self._wake.wait()
        except TimeoutError:
            self.end(TOO_SLOW)

    async def _catch_up(self, read_page: ReadPage) -> None:
        page = await read_page(self)
        for entry in page:
            await self.send(entry.text)
            self.position = entry.position
        # No await between the look and the change, so nothing can be offered in between.
        if not page and self._seen <= self.position:
            self._behind = False

    async def close(self, ending: Ending) -> None:
        """Says why, where the other end still listens; the server cuts the connection afterwards in any case."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._websocket.send_text(ErrorMessage(code=ending.code, message=ending.message).model_dump_json())
                await self._websocket.close(ending.close_code)
        except (TimeoutError, WebSocketDisconnect, RuntimeError):
            return
