"""A TCP proxy between the service and what it depends on, which can fail in every way that a network can."""

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from typing import Any, Self

CALL_SECONDS = 30.0
ACT_SECONDS = 0.5
CHUNK_BYTES = 65_536


class Proxy:
    """Listens on 127.0.0.1:port and passes everything on; the loop runs in a thread of its own."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._pause = 0.0
        self._last_words = b""
        self._writers: set[asyncio.StreamWriter] = set()
        self._passing: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._refuse())
        self._call(self._end_passing())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CALL_SECONDS)
        self._loop.close()

    def refuse(self) -> None:
        """As if the other end had ended: connections break, new ones are refused."""
        self._call(self._refuse())

    def cut(self) -> None:
        """Connections break, new ones are let through."""
        self._call(self._cut())

    def freeze(self) -> None:
        """Connections stay, new ones are accepted, and nothing comes through any more."""
        self._loop.call_soon_threadsafe(self._flowing.clear)

    def throttle(self, seconds: float) -> None:
        """Everything comes through, and each piece of it that much later."""
        self._pause = seconds

    def cut_after(self, words: bytes) -> None:
        """The next time that the client says these words they get through, and then connections break."""
        self._last_words = words

    def heal(self) -> None:
        self._pause = 0.0
        self._loop.call_soon_threadsafe(self._flowing.set)
        self._call(self._listen())

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_SECONDS)

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _refuse(self) -> None:
        if self._server is not None:
            # A connection that is being accepted when its server closes is lost by Python, which complains of it much later.
            for listening in self._server.sockets:
                self._loop.remove_reader(listening.fileno())
            for _ in range(3):
                await asyncio.sleep(0)
            self._server.close()
            self._server = None
        await self._cut()

    async def _cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _end_passing(self) -> None:
        for task in self._passing:
            task.cancel()
        await asyncio.gather(*self._passing, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = self._loop.create_task(self._pass_on(reader, writer))
        self._passing.add(task)
        task.add_done_callback(self._passing.discard)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            with contextlib.suppress(OSError):
                far_reader, far_writer = await asyncio.open_connection(*self._target)
                self._writers.add(far_writer)
                try:
                    await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
                finally:
                    self._writers.discard(far_writer)
                    far_writer.close()
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                await self._flowing.wait()
                if self._pause:
                    await asyncio.sleep(self._pause)
                last = bool(self._last_words) and self._last_words in data
                if last:
                    self._last_words = b""
                    self._flowing.clear()
                writer.write(data)
                await writer.drain()
                if last:
                    # Bytes that are not read yet are lost with the connection, so the other end gets time to act on them.
                    await asyncio.sleep(ACT_SECONDS)
                    await self._cut()
                    self._flowing.set()
        # One half that ends ends the other: neither PostgreSQL nor Valkey is spoken to half-closed.
        writer.close()
