"""The limiter's own connection to REDIS_URL, on which a worker's questions follow each other and are answered in their order.

Every request asks. A client with a pool of connections, each with one question at a time, costs a worker five times as much
(docs/benchmarks.md). What goes over the line is hiredis's business here, too.
"""

import asyncio
import ssl
from collections import deque
from typing import cast, override

import hiredis
from redis.asyncio.connection import SSLConnection, parse_url
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as LostError

from seawall_service.settings import Settings

ANSWER_SECONDS = 0.25
# By the first word of a refusal: what is logged is the class.
REFUSALS: dict[str, type[RedisError]] = {
    "LOADING": BusyLoadingError,
    "NOAUTH": AuthenticationError,
    "NOPERM": NoPermissionError,
    "NOSCRIPT": NoScriptError,
    "OOM": OutOfMemoryError,
    "READONLY": ReadOnlyError,
    "WRONGPASS": AuthenticationError,
}
# Of an answer, the rest is still on its way.
UNFINISHED = object()


class Answers(asyncio.Protocol):
    """One connection: gives each answer to whoever asked for it, and an end of it to all who wait."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader(notEnoughData=UNFINISHED)
        self._waiting: deque[asyncio.Future[object]] = deque()
        self._transport: asyncio.WriteTransport | None = None

    @property
    def lost(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)

    @override
    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while (answer := self._reader.gets()) is not UNFINISHED:
                waiting = self._waiting.popleft()
                # Who was cancelled meanwhile wants it no more.
                if not waiting.done():
                    waiting.set_result(answer)
        # Whatever it is: not the protocol, what hiredis cannot make, or an answer that nobody has asked for. No later one can be
        # trusted then, and the loop would close the connection, too, but with an error of its own in the log.
        except Exception:  # noqa: BLE001
            self.close()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_exception(LostError(f"the connection has ended: {exc}"))
        self._waiting.clear()

    async def ask(self, *words: str | int) -> object:
        if self._transport is None or self.lost:
            raise LostError("the connection has ended")
        # First of all, since it can fail, and who waits for an answer must have asked.
        # The check is off because hiredis's stub knows commands of one word only.
        packed = hiredis.pack_command(words)  # type: ignore[arg-type]
        waiting: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        self._transport.write(packed)
        answer = await waiting
        if isinstance(answer, hiredis.ReplyError):
            raise REFUSALS.get(str(answer).partition(" ")[0], ResponseError)(str(answer))
        return answer

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class Line:
    """Connects when it is asked and not connected. `ask` raises RedisError or OSError where there is no answer in time."""

    def __init__(self, settings: Settings, answer_seconds: float = ANSWER_SECONDS) -> None:
        options = parse_url(settings.redis_url)
        secret = settings.redis_password
        self._address = (options.get("host", "localhost"), options.get("port", 6379))
        self._tls = ssl.create_default_context() if options.get("connection_class") is SSLConnection else None
        self._database: int = options.get("db", 0)
        self._user: str = options.get("username") or "default"
        # As for the cache, the URL's own wins, which production refuses.
        self._password: str | None = options.get("password") or (secret.get_secret_value() if secret else None)
        self._answer_seconds = answer_seconds
        self._answers = Answers()
        self._connecting = asyncio.Lock()
        self._closed = False

    async def ask(self, *words: str | int) -> object:
        answers = self._answers
        try:
            async with asyncio.timeout(self._answer_seconds):
                if answers.lost:
                    answers = await self._connected()
                return await answers.ask(*words)
        except TimeoutError:
            # Whoever asked later waits behind this one, and what comes at last would be nobody's.
            answers.close()
            raise

    async def _connected(self) -> Answers:
        async with self._connecting:
            if self._closed:
                raise LostError("the line is closed")
            if self._answers.lost:
                try:
                    _, answers = await asyncio.get_running_loop().create_connection(Answers, *self._address, ssl=self._tls)
                except UnicodeError as error:
                    raise LostError(f"REDIS_URL has no host's name: {error}") from error
                try:
                    await self._sign_in(answers)
                except BaseException:
                    answers.close()
                    raise
                self._answers = answers
            return self._answers

    async def _sign_in(self, answers: Answers) -> None:
        if self._password is not None:
            await answers.ask("AUTH", self._user, self._password)
        if self._database:
            await answers.ask("SELECT", self._database)
        if self._closed:
            raise LostError("the line was closed")

    def close(self) -> None:
        self._closed = True
        self._answers.close()
