"""Tells the other workers, here and in other containers, that a document has grown.

A notice says which document and how far; what was appended is in the database. So a lost notice loses nothing, several in a
row are one, and nobody who reads this channel learns what was written.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from contextvars import Context
from functools import partial
from uuid import UUID, uuid4

import structlog
from pydantic import ValidationError
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from seawall_service.realtime.schemas import Notice
from seawall_service.realtime.valkey import PREFIX

log = structlog.get_logger(__name__)

CHANNEL = f"{PREFIX}notices"
BATCH_SECONDS = 0.02
RETRY_SECONDS = 0.5
IDLE_SECONDS = 10.0
PONG_SECONDS = 5.0


def create_lasting_task(work: Callable[[], Coroutine[None, None, None]]) -> asyncio.Task[None]:
    """Work that outlives the request which began it, and what nobody foresaw.

    Without the request's context: hours later its id would stand in a log line, and its span grow without end.
    """

    async def keep_working() -> None:
        while True:
            try:
                return await work()
            except Exception:
                log.exception("live.task_failed")
                await asyncio.sleep(RETRY_SECONDS)

    return asyncio.create_task(keep_working(), context=Context())


class SubscriptionLost(RedisError):
    """The subscription's connection has not answered a ping."""


type OnNotice = Callable[[UUID, int], None]


class Bus:
    """`on_notice` is called for each notice of another worker, `on_gap` whenever some may have been missed."""

    def __init__(self, client: Redis | None, on_notice: OnNotice, on_gap: Callable[[], None]) -> None:
        self._client = client
        self._on_notice = on_notice
        self._on_gap = on_gap
        self._sender = uuid4().hex
        self._outbox: dict[UUID, int] = {}
        self._filled = asyncio.Event()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._warned = False
        self.connected = False

    def _start(self, name: str, work: Callable[[Redis], Coroutine[None, None, None]]) -> None:
        if self._client is not None and name not in self._tasks:
            self._tasks[name] = create_lasting_task(partial(work, self._client))

    def subscribe(self) -> None:
        """From the first socket on; a worker without sockets has no need to know."""
        self._start("subscribe", self._keep_subscribed)

    def publish(self, document_id: UUID, position: int) -> None:
        if self._client is None:
            return
        self._outbox[document_id] = max(position, self._outbox.get(document_id, 0))
        self._filled.set()
        self._start("publish", self._keep_publishing)

    def _warn(self, error: BaseException) -> None:
        if not self._warned:
            self._warned = True
            log.warning("live.degraded", reason=type(error).__name__)

    async def _keep_publishing(self, client: Redis) -> None:
        while True:
            await self._filled.wait()
            self._filled.clear()
            batch, self._outbox = self._outbox, {}
            try:
                await client.publish(CHANNEL, Notice(sender=self._sender, grown=batch).model_dump_json())
                if "subscribe" not in self._tasks:
                    # Else the subscription tells when it is back.
                    self._warned = False
            except (RedisError, OSError) as error:
                # Not kept: whoever missed it asks the database.
                self._warn(error)
            await asyncio.sleep(BATCH_SECONDS)

    async def _keep_subscribed(self, client: Redis) -> None:
        while True:
            try:
                async with client.pubsub() as subscription:
                    await subscription.subscribe(CHANNEL)
                    await self._listen(subscription)
            except (RedisError, OSError) as error:
                self.connected = False
                self._warn(error)
                # Until it is back, whoever waits has to look often, and not only after the pause that it is in.
                self._on_gap()
            await asyncio.sleep(RETRY_SECONDS)

    async def _listen(self, subscription: PubSub) -> None:
        asked = False
        while True:
            message = await subscription.get_message(timeout=PONG_SECONDS if asked else IDLE_SECONDS)
            if message is None:
                # Silent for a while: either nothing happens, or the other end is gone without a word.
                if asked:
                    raise SubscriptionLost
                await subscription.ping()
                asked = True
                continue
            asked = False
            if message["type"] == "subscribe":
                # Also after the client library has connected again by itself.
                self.connected = True
                if self._warned:
                    self._warned = False
                    log.info("live.restored")
                self._on_gap()
            elif message["type"] == "message":
                self._take(message["data"])

    def _take(self, data: bytes) -> None:
        try:
            notice = Notice.model_validate_json(data)
        except ValidationError:
            log.warning("live.notice_unreadable", size=len(data))
            return
        if notice.sender != self._sender:
            for document_id, position in notice.grown.items():
                self._on_notice(document_id, position)

    async def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        for task in self._tasks.values():
            with contextlib.suppress(asyncio.CancelledError):
                await task
