"""A client of the live tail, over the unix socket of a running server."""

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, unix_connect
from websockets.typing import Origin, Subprotocol

from tests.running_server import RunningServer

WAIT_SECONDS = 60.0

type Message = dict[str, Any]


class Live:
    def __init__(self, connecting: AbstractContextManager[ClientConnection]) -> None:
        self._open = ExitStack()
        self.connection = self._open.enter_context(connecting)

    def close(self) -> None:
        self._open.close()

    def receive(self, seconds: float = WAIT_SECONDS) -> Message:
        parsed: Message = json.loads(self.connection.recv(seconds))
        return parsed

    def entries(self, count: int) -> list[Message]:
        messages = [self.receive() for _ in range(count)]
        assert {message["type"] for message in messages} <= {"entry"}, messages
        return messages

    def until_closed(self) -> tuple[list[Message], int | None]:
        """What still came, and the close code."""
        messages = []
        while True:
            try:
                messages.append(self.receive())
            except ConnectionClosed as closed:
                return messages, closed.rcvd.code if closed.rcvd else None


def connect(
    server: RunningServer,
    path: str,
    headers: dict[str, str],
    *,
    origin: str | None = None,
    subprotocols: tuple[str, ...] = (),
    reads: bool = True,
) -> Live:
    connecting = unix_connect(
        str(server.socket),
        f"ws://localhost{path}",
        additional_headers=headers,
        origin=Origin(origin) if origin else None,
        subprotocols=[Subprotocol(name) for name in subprotocols] or None,
        open_timeout=WAIT_SECONDS,
        close_timeout=5,
        # Who does not read is sent what fills buffers, and keeps one message at the most.
        max_queue=16 if reads else 1,
        compression="deflate" if reads else None,
        proxy=None,
    )
    return Live(connecting)


@contextmanager
def watching(server: RunningServer, document: str, headers: dict[str, str], after: int | None = None) -> Iterator[Live]:
    """An open socket on a document, after its first message."""
    query = "" if after is None else f"?after={after}"
    live = connect(server, f"{document}/live{query}", headers)
    try:
        assert live.receive()["type"] == "ready"
        yield live
    finally:
        live.close()
