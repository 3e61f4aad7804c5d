"""The limiter's line to its server: answers in their order, and never one of somebody else's."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from uuid import uuid4

import pytest
import redis
import uvloop

from seawall_service.rate_limit.interface import Decision, FixedWindow, Hit
from seawall_service.rate_limit.line import Line
from seawall_service.rate_limit.redis_backend import RedisRateLimiter
from seawall_service.startup_gate import load_settings

# Of a server that answers at all, also where the machine is busy.
ANSWER_SECONDS = 3.0

type Words = list[bytes]
# What a server says to the commands of its connection of that number, which begins with 0; None hangs up.
type Says = Callable[[int, Words], bytes | None]


# In the loop that the workers have.
run = partial(asyncio.run, loop_factory=uvloop.new_event_loop)


async def outcomes(*questions: Awaitable[object]) -> list[object]:
    return await asyncio.gather(*questions, return_exceptions=True)


@asynccontextmanager
async def line_to_the_server() -> AsyncIterator[Line]:
    line = Line(load_settings("api"), answer_seconds=30)
    try:
        yield line
    finally:
        line.close()


async def command_of(reader: asyncio.StreamReader) -> Words:
    """The next command; empty when there is none any more."""
    words = []
    try:
        for _ in range(int((await reader.readuntil(b"\r\n"))[1:])):
            length = int((await reader.readuntil(b"\r\n"))[1:])
            words.append((await reader.readexactly(length + 2))[:-2])
    except (asyncio.IncompleteReadError, ConnectionError):
        return []
    return words


class Server:
    """Answers as it is told, and remembers what was asked on each connection and which have ended."""

    def __init__(self, says: Says) -> None:
        self.says = says
        self.asked: list[list[Words]] = []
        self.ended: asyncio.Queue[int] = asyncio.Queue()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = len(self.asked)
        self.asked.append([])
        while words := await command_of(reader):
            self.asked[number].append(words)
            said = self.says(number, words)
            if said is None:
                break
            writer.write(said)
        self.ended.put_nowait(number)
        writer.close()


@asynccontextmanager
async def line_to(
    says: Says, monkeypatch: pytest.MonkeyPatch, seconds: float = ANSWER_SECONDS, database: int = 0
) -> AsyncIterator[tuple[Line, Server]]:
    server = Server(says)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    monkeypatch.setenv("REDIS_URL", f"redis://seawall@127.0.0.1:{port}/{database}")
    line = Line(load_settings("api"), answer_seconds=seconds)
    try:
        yield line, server
    finally:
        line.close()
        listening.close()


@pytest.mark.requirement("RL-08")
def test_each_of_many_at_once_gets_its_own_answer() -> None:
    texts = [f"{number}" * (1 + number * 50) for number in range(200)]

    async def ask() -> list[object]:
        async with line_to_the_server() as line:
            return await outcomes(*(line.ask("ECHO", text) for text in texts))

    assert run(ask()) == [text.encode() for text in texts]


def test_what_nobody_waits_for_any_more_is_not_given_to_the_next() -> None:
    async def ask() -> list[object]:
        async with line_to_the_server() as line:
            await line.ask("PING")
            given_up = asyncio.ensure_future(line.ask("BLPOP", f"test:{uuid4()}", 1))
            later = asyncio.ensure_future(line.ask("ECHO", "mine"))
            await asyncio.sleep(0)
            given_up.cancel()
            return await outcomes(given_up, later, line.ask("ECHO", "mine, too"))

    given_up, later, latest = run(ask())
    assert isinstance(given_up, asyncio.CancelledError)
    assert (later, latest) == (b"mine", b"mine, too")


def test_what_cannot_be_asked_takes_nobodys_answer() -> None:
    async def ask() -> list[object]:
        async with line_to_the_server() as line:
            await line.ask("PING")
            return await outcomes(line.ask("ECHO", "\ud800"), line.ask("ECHO", "mine"), line.ask("ECHO", "mine, too"))

    impossible, *answers = run(ask())
    assert isinstance(impossible, UnicodeEncodeError)
    assert answers == [b"mine", b"mine, too"]


def test_a_refusal_is_the_askers_alone() -> None:
    async def ask() -> list[object]:
        async with line_to_the_server() as line:
            unknown = line.ask("EVALSHA", "0" * 40, 0)
            return await outcomes(line.ask("PING"), line.ask("NO-SUCH-COMMAND"), unknown, line.ask("FLUSHALL"), line.ask("PING"))

    first, refused, unknown, forbidden, last = run(ask())
    assert (first, last) == (b"PONG", b"PONG")
    assert type(refused) is redis.ResponseError
    assert type(unknown) is redis.exceptions.NoScriptError
    assert type(forbidden) is redis.exceptions.NoPermissionError


def test_it_signs_in_and_chooses_its_database(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask() -> list[Words]:
        async with line_to(lambda *_: b"+OK\r\n", monkeypatch, database=3) as (line, server):
            await line.ask("PING")
            return server.asked[0]

    signed_in, *others = run(ask())
    assert signed_in[:2] == [b"AUTH", b"seawall"]
    assert others == [[b"SELECT", b"3"], [b"PING"]]


def test_who_is_not_let_in_hangs_up_and_asks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask() -> tuple[list[object], list[list[bytes]]]:
        async with line_to(lambda *_: b"-WRONGPASS who are you\r\n", monkeypatch) as (line, server):
            answers = await outcomes(line.ask("PING"), line.ask("PING"))
            async with asyncio.timeout(10):
                for _ in answers:
                    await server.ended.get()
            return answers, [[words[0] for words in asked] for asked in server.asked]

    answers, asked = run(ask())
    assert [type(answer) for answer in answers] == [redis.exceptions.AuthenticationError] * 2
    assert asked == [[b"AUTH"]] * 2


def test_who_is_silent_is_hung_up_on_and_asked_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent_at_first(connection: int, words: Words) -> bytes:
        return b"+OK\r\n" if connection or words[0] == b"AUTH" else b""

    async def ask() -> tuple[list[object], object, int]:
        async with line_to(silent_at_first, monkeypatch) as (line, server):
            return await outcomes(line.ask("PING"), line.ask("PING")), await line.ask("PING"), len(server.asked)

    late, answer, connections = run(ask())
    assert all(isinstance(one, TimeoutError | redis.ConnectionError) for one in late), late
    assert (answer, connections) == (b"OK", 2)


@pytest.mark.parametrize(
    ("said", "given"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n", None),
        (b"+one\r\n+one too many\r\n", b"one"),
        (b"%1\r\n*0\r\n:1\r\n", None),
        (None, None),
    ],
)
def test_who_does_not_keep_to_the_protocol_is_hung_up_on(
    monkeypatch: pytest.MonkeyPatch, said: bytes | None, given: bytes | None
) -> None:
    def wrong_at_first(connection: int, words: Words) -> bytes | None:
        return b"+OK\r\n" if connection or words[0] == b"AUTH" else said

    async def ask() -> tuple[list[object], object, int]:
        async with line_to(wrong_at_first, monkeypatch) as (line, server):
            first = await outcomes(line.ask("PING"))
            # The end of a connection is told a moment later.
            await asyncio.sleep(0.2)
            return first, await line.ask("PING"), len(server.asked)

    (first,), second, connections = run(ask())
    assert first == given or type(first) is redis.ConnectionError, first
    assert (second, connections) == (b"OK", 2)


def test_a_closed_line_stays_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask() -> tuple[list[object], int]:
        async with line_to(lambda *_: b"+OK\r\n", monkeypatch) as (line, server):
            await line.ask("PING")
            line.close()
            return await outcomes(line.ask("PING")), len(server.asked)

    (refused,), connections = run(ask())
    assert (type(refused), connections) == (redis.ConnectionError, 1)


@pytest.mark.parametrize(
    "answer", [b"*4\r\n:1\r\n:9\r\n:1800000000000000\r\n:0\r\n", b"*0\r\n", b"$-1\r\n", b"*1\r\n-ERR no\r\n"]
)
def test_a_server_without_the_script_is_given_it(monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    says = {b"AUTH": b"+OK\r\n", b"EVALSHA": b"-NOSCRIPT No matching script.\r\n", b"EVAL": answer}

    async def hit() -> tuple[list[object], list[bytes]]:
        async with line_to(lambda _, words: says[words[0]], monkeypatch) as (line, server):
            found = await outcomes(RedisRateLimiter(line, "test:").hit([Hit("k", FixedWindow(10, 60))]))
            return found, [words[0] for words in server.asked[0]]

    (decision,), asked = run(hit())
    assert asked == [b"AUTH", b"EVALSHA", b"EVAL"]
    if answer.startswith(b"*4"):
        assert isinstance(decision, Decision)
        assert (decision.allowed, decision.remaining) == (True, 9)
    else:
        # As if it were away.
        assert type(decision) is redis.exceptions.InvalidResponse
