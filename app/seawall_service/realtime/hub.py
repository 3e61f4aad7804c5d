"""The sockets of this worker by document, and how they learn of new entries (WS-05, C22).

What is sent is always read from the database, after a notice that there is something to read: from this worker, from another
one, or by looking, which happens seldom while the subscription stands and often while it does not.

A database that a backup was brought back to has fewer entries than before. Whoever has more is told so, and has to come back:
what is appended from then on stands at positions that it takes for known.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from functools import partial
from uuid import UUID

import psycopg
import structlog

from seawall_service.db.pool import Connection, Database
from seawall_service.errors import ServiceUnavailableError
from seawall_service.realtime.bus import Bus, create_lasting_task
from seawall_service.realtime.committed import Head, Written, heads_of_members, read_entries, require_member
from seawall_service.realtime.limits import SocketCounts, SocketLimits
from seawall_service.realtime.socket import EXPIRED, NO_MEMBER, SET_BACK, Socket
from seawall_service.realtime.valkey import build_client
from seawall_service.settings import Settings

log = structlog.get_logger(__name__)

LOOK_SECONDS = 30.0
LOOK_OFTEN_SECONDS = 1.0
RETRY_SECONDS = 1.0
# Of the worker's connections, so that sockets cannot keep them from requests.
READERS = 2

UNREADABLE = (psycopg.Error, ServiceUnavailableError)


@dataclass(slots=True)
class Room:
    document_id: UUID
    position: int
    sockets: set[Socket] = field(default_factory=set)
    reading: asyncio.Task[None] | None = None
    grown: bool = False


class Hub:
    def __init__(self, settings: Settings, database: Database) -> None:
        self._database = database
        self._client = build_client(settings)
        self._max_age = settings.access_token_ttl_seconds if settings.require_authenticated_principal else None
        self.queue_size = settings.ws_send_queue
        self.allowed_origins = frozenset(origin.lower() for origin in settings.ws_allowed_origins)
        self.max_message_bytes = settings.ws_max_message_bytes if settings.ws_limits_enabled else None
        self.counts = SocketCounts(
            SocketLimits(
                enabled=settings.ws_limits_enabled,
                per_user=settings.ws_max_sockets_per_user,
                per_room=settings.ws_max_sockets_per_room,
                total=settings.ws_max_sockets_global,
                workers=settings.web_concurrency,
            ),
            self._client,
        )
        self.rooms: dict[UUID, Room] = {}
        self._bus = Bus(self._client, self._on_notice, self._look_now)
        self._readers = asyncio.Semaphore(READERS)
        self._look = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        self._doubting: asyncio.TimerHandle | None = None

    def announce(self, document_id: UUID, position: int) -> None:
        """To be called after the commit; never waits and never fails."""
        self._on_notice(document_id, position)
        self._bus.publish(document_id, position)

    def add(self, socket: Socket, head: Head) -> None:
        room = self.rooms.setdefault(socket.document_id, Room(socket.document_id, head.position))
        room.sockets.add(socket)
        if head.position < room.position:
            self._look_soon()
        self._bus.subscribe()
        if self._looking is None:
            self._looking = create_lasting_task(self._keep_looking)

    def remove(self, socket: Socket) -> None:
        room = self.rooms.get(socket.document_id)
        if room is None or socket not in room.sockets:
            return
        room.sockets.discard(socket)
        self.counts.leave(socket.user_id, socket.document_id)
        if not room.sockets:
            del self.rooms[socket.document_id]

    def _on_notice(self, document_id: UUID, position: int) -> None:
        room = self.rooms.get(document_id)
        if room is None:
            return
        if position < room.position:
            # It is late, or the document was set back.
            self._look_soon()
        elif position > room.position:
            room.grown = True
            if room.reading is None or room.reading.done():
                room.reading = create_lasting_task(partial(self._read, room))

    async def head_for(self, document_id: UUID, user_id: UUID) -> Head:
        """NotFoundError for whoever is no member; the database's own errors while it is away."""
        async with self._database.connection() as connection:
            return await require_member(connection, document_id, user_id)

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncGenerator[Connection]:
        async with self._readers, self._database.connection() as connection:
            yield connection

    async def _read(self, room: Room) -> None:
        """Until the room has all there is. Entries first: who has lost the membership before one was stored, does not get it."""
        while room.grown and room.sockets:
            room.grown = False
            pairs = [(room.document_id, user_id) for user_id in {socket.user_id for socket in room.sockets}]
            try:
                async with self._connection() as connection:
                    entries = await read_entries(connection, room.document_id, room.position)
                    members = await heads_of_members(connection, pairs)
            except UNREADABLE as error:
                log.warning("live.database_away", reason=type(error).__name__)
                room.grown = True
                await asyncio.sleep(RETRY_SECONDS)
                continue
            asked = set(pairs)
            for socket in tuple(room.sockets):
                pair = (room.document_id, socket.user_id)
                if pair not in asked:
                    # Came meanwhile: it asks for itself, and so is asked who it is.
                    socket.fall_behind()
                elif pair not in members:
                    socket.end(NO_MEMBER)
                else:
                    socket.offer(entries)
            if entries:
                room.position = entries[-1].position
            room.grown |= any(head.position > room.position for head in members.values()) and bool(entries)

    async def read_page(self, socket: Socket) -> list[Written]:
        """What a socket that is behind gets next; empty when there is nothing, also because it is no member any more."""
        pair = (socket.document_id, socket.user_id)
        while True:
            known = socket.known
            try:
                async with self._connection() as connection:
                    entries = await read_entries(connection, socket.document_id, socket.position)
                    head = (await heads_of_members(connection, [pair])).get(pair)
            except UNREADABLE as error:
                log.warning("live.database_away", reason=type(error).__name__)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if head is not None and head.position >= known:
                return entries
            socket.end(NO_MEMBER if head is None else SET_BACK)
            return []

    def _look_now(self) -> None:
        self._doubting = None
        self._look.set()

    def _look_soon(self) -> None:
        """Once for all who ask meanwhile: late notices are many where many append."""
        if self._doubting is None:
            self._doubting = asyncio.get_running_loop().call_later(LOOK_OFTEN_SECONDS, self._look_now)

    async def _keep_looking(self) -> None:
        """One query for all sockets: who is still a member, and which documents have grown without a notice."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS if self._bus.connected else LOOK_OFTEN_SECONDS):
                    await self._look.wait()
            self._look.clear()
            # With what they had before the question: they may get further while it is answered.
            asked = [(room, room.position, socket, socket.known) for room in self.rooms.values() for socket in room.sockets]
            if not asked:
                continue
            try:
                async with self._connection() as connection:
                    pairs = {(socket.document_id, socket.user_id) for _, _, socket, _ in asked}
                    heads = await heads_of_members(connection, list(pairs))
            except UNREADABLE as error:
                log.warning("live.database_away", reason=type(error).__name__)
                await asyncio.sleep(RETRY_SECONDS)
                self._look.set()
                continue
            now = asyncio.get_running_loop().time()
            for room, reached, socket, known in asked:
                head = heads.get((socket.document_id, socket.user_id))
                if head is None:
                    socket.end(NO_MEMBER)
                    continue
                if head.position < reached:
                    room.position = head.position
                if head.position < known:
                    socket.end(SET_BACK)
                elif self._max_age is not None and now - socket.opened_at > self._max_age:
                    socket.end(EXPIRED)
                else:
                    self._on_notice(socket.document_id, head.position)
                    socket.fall_behind_of(head.position)

    async def close(self) -> None:
        if self._doubting is not None:
            self._doubting.cancel()
        tasks = [room.reading for room in self.rooms.values() if room.reading] + ([self._looking] if self._looking else [])
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._bus.close()
        await self.counts.close()
        if self._client is not None:
            await self._client.aclose()
