"""A client that keeps some connections busy, and the figures of what it saw."""

import asyncio
import statistics
import time
from dataclasses import dataclass
from functools import partial
from typing import cast

import uvloop


@dataclass(frozen=True, slots=True)
class Figures:
    requests_per_second: float
    p99_milliseconds: float


class Client(asyncio.Protocol):
    """Sends one request again and again, each as soon as the answer to the one before is whole."""

    def __init__(self, request: bytes, status: bytes, durations: list[float]) -> None:
        self.request = request
        self.expected = b"HTTP/1.1 " + status
        self.durations = durations
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ending = False
        self.data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.send()

    def send(self) -> None:
        self.data = b""
        self.sent = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.data += data
        head, found, body = self.data.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        if len(body) < length:
            return
        if not head.startswith(self.expected):
            self.ended.set_exception(RuntimeError(f"expected {self.expected!r}, got {self.data!r}"))
            self.transport.close()
            return
        self.durations.append(time.perf_counter() - self.sent)
        if self.ending:
            self.transport.close()
        else:
            self.send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None) if self.ending else self.ended.set_exception(exc or ConnectionError("hung up"))


async def keep_busy(port: int, requests: list[bytes], status: bytes, seconds: float) -> Figures:
    loop = asyncio.get_running_loop()
    durations: list[float] = []
    started = time.perf_counter()
    clients = [
        (await loop.create_connection(partial(Client, request, status, durations), "127.0.0.1", port))[1] for request in requests
    ]
    done, _ = await asyncio.wait({client.ended for client in clients}, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    for client in clients:
        client.ending = True
    await asyncio.gather(*(client.ended for client in clients))
    assert not done
    taken = time.perf_counter() - started
    return Figures(len(durations) / taken, statistics.quantiles(durations, n=100)[98] * 1000)


def measure(port: int, requests: list[bytes], status: bytes, seconds: float) -> Figures:
    """One connection for each of the requests, for that long."""
    return uvloop.run(keep_busy(port, requests, status, seconds))
